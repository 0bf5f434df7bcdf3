//! Configurations that reload for ever.
use std::sync::Arc;

use jiff::Timestamp;
use rustls::{
    ClientConfig, ServerConfig, client::Resumption, crypto::CryptoProvider, pki_types::UnixTime,
    server::NoServerSessionStorage, time_provider::TimeProvider,
};

use super::{Material, Resolver, Verifier};
use crate::{
    Authorize, Credentials, Error,
    reload::{Clock, Current},
};

impl Credentials {
    /// A configuration for servers. Clients must present a certificate, and `authorize` says which
    /// of them are let in.
    ///
    /// Sessions are not resumed, see [`Builder::allow_resumption`](crate::Builder::allow_resumption).
    /// ALPN is the caller's: set `alpn_protocols`.
    ///
    /// ```no_run
    /// # async fn one(credentials: certagent_credentials::Credentials) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// use certagent_credentials::{authorize, peer_id};
    /// use hyper_util::{rt::{TokioExecutor, TokioIo}, server::conn::auto, service::TowerToHyperService};
    ///
    /// let mut config = credentials.server_config(authorize::namespace("shop")?)?;
    /// config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    /// let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    /// let listener = tokio::net::TcpListener::bind("[::]:8443").await?;
    ///
    /// let (stream, _) = listener.accept().await?;
    /// let stream = acceptor.accept(stream).await?;
    /// let peer = peer_id(stream.get_ref().1).ok_or("no peer")?;
    /// let routes = axum::Router::new().layer(axum::Extension(peer));
    /// auto::Builder::new(TokioExecutor::new())
    ///     .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes))
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn server_config(&self, authorize: impl Authorize) -> Result<ServerConfig, Error> {
        let provider = Arc::clone(self.provider()?);
        let mut config = ServerConfig::builder_with_details(provider, self.time())
            .with_safe_default_protocol_versions()
            .map_err(Error::Config)?
            .with_client_cert_verifier(self.verifier(authorize)?)
            .with_cert_resolver(self.resolver()?);
        if !self.shared().around.tls.resumption {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(config)
    }

    /// A configuration for clients. `authorize` says which servers are the right ones.
    ///
    /// The server name that rustls wants for each connection is sent, and checked against nothing:
    /// any will do. Sessions are not resumed, see
    /// [`Builder::allow_resumption`](crate::Builder::allow_resumption).
    ///
    /// ```no_run
    /// # async fn one(credentials: certagent_credentials::Credentials) -> Result<(), Box<dyn std::error::Error>> {
    /// use certagent_credentials::authorize;
    ///
    /// let config = credentials.client_config(authorize::id("spiffe://td.example/ns/a/sa/b")?)?;
    /// let client = reqwest::Client::builder()
    ///     .tls_backend_preconfigured(config)
    ///     .build()?;
    /// let said = client.get("https://b.a.svc:8443/").send().await?.text().await?;
    /// # drop(said);
    /// # Ok(())
    /// # }
    /// ```
    pub fn client_config(&self, authorize: impl Authorize) -> Result<ClientConfig, Error> {
        let provider = Arc::clone(self.provider()?);
        let mut config = ClientConfig::builder_with_details(provider, self.time())
            .with_safe_default_protocol_versions()
            .map_err(Error::Config)?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier(authorize)?)
            .with_client_cert_resolver(self.resolver()?);
        if !self.shared().around.tls.resumption {
            config.resumption = Resumption::disabled();
        }
        Ok(config)
    }

    /// What presents the newest certificate, for a configuration that is made by hand. Whoever
    /// makes one switches resumption off there, too.
    pub fn resolver(&self) -> Result<Arc<Resolver>, Error> {
        self.provider()?;
        self.material(&self.shared().current())?;
        Ok(Arc::new(Resolver::new(self.clone())))
    }

    /// What verifies peers, for a configuration that is made by hand. Whoever makes one switches
    /// resumption off there, too.
    pub fn verifier(&self, authorize: impl Authorize) -> Result<Arc<Verifier>, Error> {
        let provider = Arc::clone(self.provider()?);
        self.material(&self.shared().current())?;
        let rule = Arc::new(authorize);
        Ok(Arc::new(Verifier::new(self.clone(), provider, rule)))
    }

    pub(super) fn material<'a>(&self, current: &'a Current) -> Result<&'a Material, Error> {
        current.material(self.provider()?, self.directory())
    }

    fn provider(&self) -> Result<&Arc<CryptoProvider>, Error> {
        self.shared().around.tls.provider()
    }

    fn time(&self) -> Arc<dyn TimeProvider> {
        Arc::new(Time(Arc::clone(&self.shared().around.clock)))
    }
}

/// The credentials' clock, as rustls asks it.
struct Time(Clock);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from((self.0)().as_second()).ok()?;
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(
            seconds,
        )))
    }
}

impl std::fmt::Debug for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let now: Timestamp = (self.0)();
        f.debug_tuple("Time").field(&now).finish()
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
