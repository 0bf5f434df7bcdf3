//! A reqwest client that presents its certificate and knows the server by its id.
//!
//! ```sh
//! cargo run --example reqwest_client -- DIR https://127.0.0.1:8443/ spiffe://TD/ns/NS/sa/SERVER
//! ```
#![expect(clippy::print_stdout, reason = "a program for people")]
use std::time::Duration;

use certagent_credentials::{Credentials, authorize};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// A client for one server. Make it once: it reloads by itself.
pub(crate) fn client(credentials: &Credentials, server: &str) -> Result<reqwest::Client, Error> {
    let config = credentials.client_config(authorize::id(server)?)?;
    Ok(reqwest::Client::builder()
        .tls_backend_preconfigured(config)
        // A connection keeps the certificate that it was made with. One that is not used goes
        // early; the server ends one that is always used, see the axum server.
        .pool_idle_timeout(Duration::from_secs(60))
        .connect_timeout(Duration::from_secs(10))
        .build()?)
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_other| "there is a crypto provider already")?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, url, server] = &arguments[..] else {
        return Err("usage: reqwest_client DIR URL SERVER_ID".into());
    };
    let client = client(&Credentials::open(directory)?, server)?;
    let response = client.get(url).send().await?.error_for_status()?;
    println!("{}", response.text().await?);
    Ok(())
}
