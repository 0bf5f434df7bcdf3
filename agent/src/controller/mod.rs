//! `certagent controller`: who gets a certificate, and what nodes trust.
//!
//! `requests` follows the cluster's `CertificateSigningRequest`s: the table in
//! [`certagent_core::approval`] decides, `sign` buys, `csrs` writes what came of it. `lease` says
//! which of several replicas does all that.
mod csrs;
mod facts;
pub mod lease;
mod news;
pub mod requests;
mod sign;

use std::sync::Arc;

use tokio::sync::watch;

pub use lease::Candidate;
pub use requests::Requests;

use crate::{issuer::CasIssuer, trust::Trust};

/// Who signs, and the roots behind the anchors: there is one as soon as there is a configuration.
pub struct Authority {
    /// CA Service.
    pub issuer: Arc<CasIssuer>,
    /// The roots in force.
    pub trust: watch::Receiver<Arc<Trust>>,
}
