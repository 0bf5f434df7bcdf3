//! HTTP to the services that the agent calls: how it is spoken, whom it trusts, how long things
//! may take and how much is read.
use std::{
    error::Error,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use reqwest::{ClientBuilder, Response};

use super::{
    ca_bundle::Roots,
    endpoint::Endpoint,
    error::{LONGEST_TEXT, printable},
};

/// How long a connection with calls on it may be silent before it is asked for a sign of life.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

const USER_AGENT: &str = concat!("certagent/", env!("CARGO_PKG_VERSION"));

/// Why no client can be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The TLS library refused its own defaults.
    #[error("the TLS library cannot be set up: {0}")]
    Tls(#[source] rustls::Error),
    /// The HTTP library refused the settings.
    #[error("the HTTP client cannot be set up: {0}")]
    Http(#[source] reqwest::Error),
    /// Nobody could prove to be the service.
    #[error(
        "{endpoint} has to prove who it is, and there are no CA certificates to check it by; pass --ca-bundle FILE, or set SSL_CERT_FILE"
    )]
    NoRoots {
        /// The service.
        endpoint: String,
    },
}

/// How long one attempt may take, in real time.
pub(crate) const ATTEMPT: Duration = Duration::from_secs(20);

/// How long parts of a call may take, in real time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    pub(crate) connect: Duration,
    pub(crate) attempt: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            attempt: ATTEMPT,
        }
    }
}

/// A client of the service at `endpoint`.
///
/// By https it speaks HTTP/2 (HTTP/1.1 to those who know no better), trusts `roots` alone, and
/// goes through the proxy that `HTTPS_PROXY` and `NO_PROXY` name. On this machine it goes through
/// no proxy, and by plain http it speaks HTTP/2 without asking.
pub(crate) fn client(
    endpoint: &Endpoint,
    roots: &Roots,
    timeouts: Timeouts,
) -> Result<reqwest::Client, ClientError> {
    let mut builder = if endpoint.is_https() {
        if roots.is_empty() {
            return Err(ClientError::NoRoots {
                endpoint: endpoint.to_string(),
            });
        }
        builder(roots, timeouts)?
    } else {
        builder(&Roots::none(), timeouts)?.http2_prior_knowledge()
    };
    if endpoint.is_loopback() {
        // `localhost` means this machine, whatever a resolver says; the port is the URL's.
        let local = [
            SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
        ];
        builder = builder.no_proxy().resolve_to_addrs("localhost", &local);
    }
    builder
        // A connection that died silently must not swallow the next attempt too.
        .http2_keep_alive_interval(KEEP_ALIVE)
        .http2_keep_alive_timeout(KEEP_ALIVE / 2)
        .build()
        .map_err(ClientError::Http)
}

/// A client of whatever https servers there are on the web; `roots` may be none, and then nobody
/// is believed.
pub(crate) fn web_client(
    roots: &Roots,
    timeouts: Timeouts,
) -> Result<reqwest::Client, ClientError> {
    let builder = builder(roots, timeouts)?.https_only(true);
    builder.build().map_err(ClientError::Http)
}

/// A client that speaks HTTP/1.1 without TLS and without a proxy: for the metadata server.
pub(crate) fn plain_client(timeouts: Timeouts) -> Result<reqwest::Client, ClientError> {
    builder(&Roots::none(), timeouts)?
        .http1_only()
        .no_proxy()
        .build()
        .map_err(ClientError::Http)
}

/// What every client has in common: no machine-wide CA certificates are looked for, and no
/// redirect takes a token elsewhere.
fn builder(roots: &Roots, timeouts: Timeouts) -> Result<ClientBuilder, ClientError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(ClientError::Tls)?
        .with_root_certificates(roots.store())
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(timeouts.connect)
        .timeout(timeouts.attempt))
}

/// Why a body was not read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// There is more of it than is read.
    TooLarge,
    /// It broke off.
    Http(reqwest::Error),
}

/// Reads a body whole, but never more than `limit` bytes.
pub(crate) async fn read(mut response: Response, limit: usize) -> Result<Vec<u8>, ReadError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(ReadError::Http)? {
        if body.len() + chunk.len() > limit {
            return Err(ReadError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The last of a chain of errors: the one that says why. Its wrappers only repeat the URL.
pub(crate) fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    printable(&cause.to_string(), LONGEST_TEXT)
}

/// Whether a connection came about and TLS on it did not.
pub(crate) fn is_tls_fault(error: &reqwest::Error) -> bool {
    if !error.is_connect() {
        return false;
    }
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(cause) = next {
        if cause.is::<rustls::Error>() {
            return true;
        }
        // The source of an `io::Error` is that of the error inside, which would be skipped.
        next = match cause
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => cause.source(),
        };
    }
    false
}

#[cfg(test)]
#[cfg(feature = "emulator")]
#[path = "transport_tests.rs"]
mod tests;
