//! Why an object that breaks no rule is not ready, in one word.
//!
//! The words are part of what users script against: they stay the same however messages change.
use certagent_core::outcome::Class;

use crate::{
    cas::{CallError, Reason},
    issuer::{IssueError, cas::Doubt},
    trust::{SourceError, endpoint::EndpointReason},
};

/// The other object is missing, has errors, or its trust is not known.
pub(super) const TRUST_CONFIG_NOT_READY: &str = "TrustConfigNotReady";
/// The other object is missing or has errors.
pub(super) const CERTIFICATES_NOT_READY: &str = "WorkloadCertificateConfigNotReady";
/// A pool takes no requests in which the controller says what the certificate contains.
pub(super) const FORBIDS_CONFIG: &str = "PoolForbidsConfigIssuance";
/// Every root of a trust domain is distrusted.
pub(super) const DISTRUSTED: &str = "EveryRootDistrusted";
/// There are more roots than fit into an object.
pub(super) const TOO_MANY_ROOTS: &str = "TooManyRoots";

/// Why an issuing pool would not issue.
pub(super) fn of_pool(error: &IssueError) -> &'static str {
    match error {
        IssueError::Call(error) => of_call(
            error,
            &Words {
                unreachable: "PoolUnreachable",
                missing: "PoolNotFound",
                busy: BUSY,
                refuses: REFUSES,
            },
        ),
        IssueError::Closed { .. } => BUSY,
        IssueError::Away { .. } => "PoolUnreachable",
        IssueError::NotAnchored(_) => "IssuerNotTrusted",
        IssueError::NoAuthority { .. } => "PoolHasNoAuthority",
        IssueError::Backdates { .. } => "PoolBackdatesTooMuch",
        IssueError::KeyTypeForbidden { .. } => "PoolForbidsKeyAlgorithm",
        IssueError::LifetimeOverMaximum { .. } => "PoolForbidsValidity",
        IssueError::NoIssuanceMode { .. } => FORBIDS_CONFIG,
        // A cluster asks for no names beside the SPIFFE ID.
        IssueError::NamesDropped { .. }
        | IssueError::OtherWorkload { .. }
        | IssueError::Csr(_)
        | IssueError::NotFetched { .. }
        | IssueError::Lost { .. }
        | IssueError::NoCertificate { .. } => REFUSES,
    }
}

/// What should be looked at though a pool would issue.
pub(super) fn of_doubt(doubt: &Doubt) -> &'static str {
    match doubt {
        Doubt::NotSeen(_) => DENIED,
        Doubt::Busy(_) => BUSY,
        Doubt::KeyFamily { .. } => "KeyFamilyMismatch",
    }
}

/// Why an anchor gave no roots.
pub(super) fn of_anchor(error: &SourceError) -> &'static str {
    const UNREACHABLE: &str = "AnchorUnreachable";
    match error {
        SourceError::Call(error) => of_call(
            error,
            &Words {
                unreachable: UNREACHABLE,
                missing: "AnchorNotFound",
                busy: UNREACHABLE,
                refuses: "AnchorRefuses",
            },
        ),
        SourceError::NoRoots { .. } => "AnchorHasNoRoots",
        SourceError::NotACa { .. } => "AnchorNotACA",
        SourceError::WentBack { .. } => "AnchorWentBack",
        SourceError::Endpoint(error) => match error.reason {
            EndpointReason::TooLarge
            | EndpointReason::BadRedirect { .. }
            | EndpointReason::TooManyRedirects
            | EndpointReason::NotABundle { .. } => "AnchorUnusable",
            EndpointReason::NoCaCertificates
            | EndpointReason::NotConnected { .. }
            | EndpointReason::NotProven { .. }
            | EndpointReason::Timeout { .. }
            | EndpointReason::Broken { .. }
            | EndpointReason::Status { .. } => UNREACHABLE,
        },
    }
}

const BUSY: &str = "PoolBusy";
const REFUSES: &str = "PoolRefuses";
const DENIED: &str = "PermissionDenied";

/// What depends on who was called.
struct Words {
    unreachable: &'static str,
    missing: &'static str,
    busy: &'static str,
    refuses: &'static str,
}

fn of_call(error: &CallError, words: &Words) -> &'static str {
    match (&*error.reason, error.class) {
        (Reason::NoToken(_), _) => "NoCredentials",
        (Reason::Unauthenticated { .. }, _) => "Unauthenticated",
        (_, Class::Denied) => DENIED,
        (Reason::Answer { http: 404, .. }, _) => words.missing,
        (Reason::Answer { http: 429, .. }, _) | (_, Class::Busy) => words.busy,
        (_, Class::Unknown | Class::Unreachable) => words.unreachable,
        _ => words.refuses,
    }
}
