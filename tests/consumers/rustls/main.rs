//! The library with tokio-rustls: a server that says whose certificate it saw, and a client that asks
//! for ever, by a new connection each time. Both are those of the library's own example.
//!
//! ```sh
//! consumer-rustls server|client ADDRESS VOLUME PEER_SPIFFE_ID
//! ```
#[path = "../../../credentials/examples/tokio_rustls.rs"]
#[expect(dead_code, reason = "main is for the command line")]
mod example;

use certagent_consumers::{Arguments, Error, Seen, pause, print};
use certagent_credentials::{Credentials, authorize};
use tokio::net::TcpListener;
use tokio_rustls::TlsConnector;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let arguments = Arguments::take()?;
    let credentials = Credentials::open(&arguments.volume)?;
    if arguments.is_server {
        let listener = TcpListener::bind(&arguments.address).await?;
        let rule = authorize::id(&arguments.peer)?;
        return example::serve(credentials, listener, rule).await;
    }
    let connector = example::connector(&credentials, &arguments.peer)?;
    loop {
        print(request(&connector, &arguments.address)).await;
        pause().await;
    }
}

async fn request(connector: &TlsConnector, address: &str) -> Result<Seen, Error> {
    let (said, server) = example::ask(connector, address).await?;
    // "hello, ID with SERIAL"
    let (_, client) = said
        .rsplit_once(" with ")
        .ok_or("the server said nothing")?;
    Ok(Seen::new("", &server, client))
}
