//! Why credentials cannot be used.
use std::{fmt, io, path::PathBuf};

use certagent_svid::{SpiffeId, TrustDomain, leaf::LeafError};
use jiff::Timestamp;

use crate::ReadError;

/// Why credentials cannot be used.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The directory holds no credential that can be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The certificate, or a CA between it and its root, has ended.
    #[error(
        "the certificate of {spiffe_id} in {directory} ended at {not_after}; whatever writes this directory has stopped renewing: look at its log, or at this machine's clock"
    )]
    Expired {
        /// The directory.
        directory: PathBuf,
        /// Whose certificate.
        spiffe_id: Box<SpiffeId>,
        /// Its end.
        not_after: Timestamp,
    },
    /// Every root of the own trust domain has ended.
    #[error(
        "every root of {trust_domain} in {directory} has ended, the last at {not_after}, so nobody of that trust domain can be verified; look at what writes this directory and at its trust store, or at this machine's clock"
    )]
    RootsExpired {
        /// The directory.
        directory: PathBuf,
        /// The own trust domain.
        trust_domain: TrustDomain,
        /// The end of the last root.
        not_after: Timestamp,
    },
    /// The certificate has not begun.
    #[error(
        "the certificate of {spiffe_id} in {directory} is valid from {not_before} on: this machine's clock is behind that of whatever writes this directory"
    )]
    NotYetValid {
        /// The directory.
        directory: PathBuf,
        /// Whose certificate.
        spiffe_id: Box<SpiffeId>,
        /// Its start.
        not_before: Timestamp,
    },
    /// The certificate is none that peers accept.
    #[error(
        "the certificate of {spiffe_id} in {directory} is no X.509-SVID, so no peer would accept it: {reason}; look at what writes this directory, and at the CA pool's baseline values"
    )]
    NotAnSvid {
        /// The directory.
        directory: PathBuf,
        /// Whose certificate.
        spiffe_id: Box<SpiffeId>,
        /// The rule that it breaks.
        reason: LeafError,
    },
    /// The thread that reloads cannot be started, or met something that must not happen.
    #[error("the thread that reloads credentials cannot do its work: {source}")]
    Thread {
        /// What the system said.
        source: io::Error,
    },
    /// rustls has no crypto provider.
    #[cfg(feature = "rustls")]
    #[error(
        "rustls has no crypto provider: call CryptoProvider::install_default() at the start of the program, or give one to Credentials::builder(..).crypto_provider(..), or enable this crate's feature aws-lc-rs"
    )]
    NoProvider,
    /// The crypto provider refuses what is in the directory.
    #[cfg(feature = "rustls")]
    #[error(
        "the crypto provider cannot use the credential in {directory}: {source}; choose a key algorithm that it has, or another provider"
    )]
    Provider {
        /// The directory.
        directory: PathBuf,
        /// What it said.
        source: ::rustls::Error,
    },
    /// No configuration can be made with this provider.
    #[cfg(feature = "rustls")]
    #[error("rustls makes no configuration with this crypto provider: {0}")]
    Config(::rustls::Error),
}

/// The message: a program whose `main` gives an error back prints it in this way.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
