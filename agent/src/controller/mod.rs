//! `certagent controller`: who gets a certificate, and what nodes trust.
//!
//! `requests` follows the cluster's `CertificateSigningRequest`s: the table in
//! [`certagent_core::approval`] decides, `sign` buys and `progress` remembers, `csrs` writes what came of it. `status` tells at
//! the two objects of the configuration what is wrong with them, and renders trust into the cluster:
//! `judge` says what there is to say, `reason` why in one word, `render` which roots, `write` puts it
//! there. `lease` says which of several replicas does all that.
mod csrs;
mod facts;
mod judge;
pub mod lease;
mod news;
mod progress;
mod reason;
mod render;
pub mod requests;
mod sign;
pub mod status;
mod write;

#[cfg(test)]
#[cfg(feature = "emulator")]
mod api_server;

use std::sync::Arc;

use tokio::sync::watch;

pub use lease::Candidate;
pub use requests::{Deciding, Requests};

use crate::{issuer::CasIssuer, trust::Trust};

/// Who signs, and the roots behind the anchors: there is one as soon as there is a configuration.
#[derive(Clone)]
pub struct Authority {
    /// CA Service.
    pub issuer: Arc<CasIssuer>,
    /// The roots in force.
    pub trust: watch::Receiver<Arc<Trust>>,
}
