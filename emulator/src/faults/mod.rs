//! Faults on demand: what a test or a rehearsal wants to go wrong, and how often.
//!
//! [`Emulator::set_faults`](crate::Emulator::set_faults) takes a list of rules, and so does
//! `POST /emulator/v1/faults`. Each request uses up at most one rule about the transport and, if it
//! gets as far as signing, at most one rule about the certificate: the first of the list that fits,
//! is not used up and whose draw hits. [`Fault::catalogue`] names and describes every fault.

mod catalogue;
mod certificate;
pub(crate) mod fields;
mod method;
mod rule;
mod scope;
mod transport;

use std::time::Duration;

pub use catalogue::{Allowed, CatalogueEntry, Parameter, Preset};
pub use certificate::CertificateFault;
pub use method::Method;
pub use rule::FaultRule;
pub use scope::{PoolSelector, PoolSelectorError};

pub(crate) use catalogue::Arguments;
pub(crate) use rule::{Extent, FaultBook};
pub(crate) use transport::meet;

use crate::errors::ApiError;

/// What goes wrong.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The request is refused with an error in Google's form; nothing is done.
    Error {
        /// The answer's body; its code decides the HTTP status.
        error: ApiError,
        /// The header `Retry-After`, rounded up to whole seconds.
        retry_after: Option<Duration>,
    },
    /// A web page instead of JSON, as a proxy sends it; nothing is done.
    Html {
        /// The HTTP status.
        status: u16,
    },
    /// A body of JSON's type with `bytes` bytes that are none; nothing is done.
    HugeBody {
        /// Length of the body in bytes.
        bytes: usize,
    },
    /// No answer, ever; nothing is done. Ends when the client goes or the server stops.
    Hang,
    /// The work begins only after this time, which is real time whatever clock the emulator has.
    Latency(Duration),
    /// The connection is reset before anything is done.
    CloseBefore,
    /// The work is done, then the connection is reset without an answer, and with it every other
    /// request that it carries.
    CloseAfter,
    /// The work is done, then this request alone ends without an answer: over HTTP/2 its stream is
    /// reset and the connection stays; over HTTP/1 the connection ends.
    LostReply,
    /// The work is done, and the answer comes in small pieces.
    SlowBody {
        /// Real time before each piece.
        chunk_delay: Duration,
    },
    /// The work is done and answered, and the connection takes no further requests: GOAWAY over
    /// HTTP/2, `connection: close` over HTTP/1.
    GoAway,
    /// The certificate or its chain is wrong.
    Certificate(CertificateFault),
}

impl Fault {
    /// A refusal without `Retry-After`.
    pub fn error(error: ApiError) -> Self {
        Self::Error {
            error,
            retry_after: None,
        }
    }

    /// Every fault by name, with what it does and which parameters it takes.
    pub fn catalogue() -> &'static [CatalogueEntry] {
        catalogue::CATALOGUE
    }

    /// The fault's name in the [catalogue](Self::catalogue), for example `lost-reply`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Error { .. } => "error",
            Self::Html { .. } => "html",
            Self::HugeBody { .. } => "huge-body",
            Self::Hang => "hang",
            Self::Latency(_) => "latency",
            Self::CloseBefore => "reset-before",
            Self::CloseAfter => "reset-after",
            Self::LostReply => "lost-reply",
            Self::SlowBody { .. } => "slow-body",
            Self::GoAway => "go-away",
            Self::Certificate(fault) => fault.name(),
        }
    }

    pub(crate) const fn is_about_certificates(&self) -> bool {
        matches!(self, Self::Certificate(_))
    }
}
