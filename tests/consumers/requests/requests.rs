//! What the consumers in Rust share: how they are called, and a client that asks for ever and prints a
//! line for each request, as `count.py` wants them.
#![expect(clippy::print_stdout, reason = "the lines are for count.py")]
use std::{fmt, future::Future, time::Duration};

use certagent_credentials::Certificate;
use tokio::time::timeout;

/// Whatever goes wrong.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// How a consumer is called: `server|client ADDRESS VOLUME PEER_SPIFFE_ID`.
#[derive(Debug)]
pub struct Arguments {
    /// It is the server, and not the client.
    pub is_server: bool,
    /// Where the server listens.
    pub address: String,
    /// The directory of credentials.
    pub volume: String,
    /// Who is let in, or asked.
    pub peer: String,
}

impl Arguments {
    /// Those of the command line. A crypto provider is installed, too: the library brings none.
    pub fn take() -> Result<Self, Error> {
        rustls::crypto::aws_lc_rs::default_provider()
            .install_default()
            .map_err(|_other| "there is a crypto provider already")?;
        let given: Vec<String> = std::env::args().skip(1).collect();
        let is_server = given.first().is_some_and(|role| role == "server");
        match <[String; 4]>::try_from(given) {
            Ok([role, address, volume, peer]) if is_server || role == "client" => Ok(Self {
                is_server,
                address,
                volume,
                peer,
            }),
            _ => Err("usage: server|client ADDRESS VOLUME PEER_SPIFFE_ID".into()),
        }
    }
}

/// Which certificates a request was seen with at both ends.
#[derive(Debug)]
pub struct Seen {
    /// What stands before the names of the sides.
    pub prefix: &'static str,
    /// The serial of the server's, as the client saw it.
    pub server: String,
    /// The serial of the client's, as the server saw it.
    pub client: String,
}

impl Seen {
    /// `client` is what the server said.
    pub fn new(prefix: &'static str, server: &Certificate, client: &str) -> Self {
        Self {
            prefix,
            server: server.serial_hex(),
            client: client.to_owned(),
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            prefix,
            server,
            client,
        } = self;
        write!(f, "ok {prefix}server={server} {prefix}client={client}")
    }
}

/// Makes a request, and prints its line.
pub async fn print(request: impl Future<Output = Result<Seen, Error>>) {
    match timeout(Duration::from_secs(5), request).await {
        Ok(Ok(seen)) => println!("{seen}"),
        Ok(Err(error)) => println!("failed {}", whole(&*error)),
        Err(elapsed) => println!("failed {elapsed}"),
    }
}

/// Until the next request.
pub async fn pause() {
    tokio::time::sleep(Duration::from_millis(200)).await;
}

/// An error with its sources, in one line.
fn whole(error: &(dyn std::error::Error + 'static)) -> String {
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        said = format!("{said}: {source}");
        next = source.source();
    }
    said.replace('\n', " ")
}
