//! Every fault with its name, its meaning and its parameters: the one table that the admin path
//! reads and writes rules by, and that documents can be made from.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Map, Value};

use super::{CertificateFault, Fault};
use crate::errors::{ApiError, Code};

/// One fault of the catalogue.
#[derive(Clone, Copy, Debug)]
pub struct CatalogueEntry {
    /// Its name, in kebab case. Names stay as they are.
    pub name: &'static str,
    /// What it does, in one sentence.
    pub summary: &'static str,
    /// What can be chosen about it.
    pub parameters: &'static [Parameter],
    make: fn(&Arguments) -> Fault,
}

/// A parameter of a fault, which is a field of its rule over HTTP.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// The field's name.
    pub name: &'static str,
    /// What it means, with its unit.
    pub summary: &'static str,
    /// Which values it takes.
    pub allowed: Allowed,
    /// The value when the field is not given; none leaves the thing out.
    pub preset: Option<Preset>,
}

/// The values that a parameter takes.
#[derive(Clone, Copy, Debug)]
pub enum Allowed {
    /// A whole number of this range, both ends included.
    Number {
        /// The smallest.
        least: u64,
        /// The greatest.
        most: u64,
    },
    /// Printable ASCII of 1 to this many characters.
    Text {
        /// The greatest number of characters.
        most: usize,
    },
    /// One of these words.
    OneOf(&'static [&'static str]),
}

/// The value of a parameter that is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// A number.
    Number(u64),
    /// A text or a word.
    Text(&'static str),
}

/// The arguments of one fault, checked against its parameters, presets filled in.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Arguments(pub(crate) Map<String, Value>);

impl CatalogueEntry {
    /// The fault with `arguments`, which were checked against [`parameters`](Self::parameters).
    pub(crate) fn make(&self, arguments: &Arguments) -> Fault {
        (self.make)(arguments)
    }

    /// Whether the fault is one of the certificate or its chain, and not of the transport.
    pub fn is_about_certificates(&self) -> bool {
        self.make(&Arguments::default()).is_about_certificates()
    }
}

impl Arguments {
    fn number(&self, name: &str) -> Option<u64> {
        self.0.get(name).and_then(Value::as_u64)
    }

    fn text(&self, name: &str) -> String {
        let text = self.0.get(name).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    }

    fn seconds(&self, name: &str) -> Option<Duration> {
        self.number(name).map(Duration::from_secs)
    }

    fn millis(&self, name: &str) -> Duration {
        Duration::from_millis(self.number(name).unwrap_or_default())
    }

    fn signed_seconds(&self, name: &str) -> SignedDuration {
        // The longest that a parameter takes is far below the greatest duration.
        let seconds = self.seconds(name).unwrap_or_default();
        SignedDuration::try_from(seconds).unwrap_or(SignedDuration::MAX)
    }
}

const CODES: [&str; Code::ALL.len()] = {
    let mut names = [""; Code::ALL.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = Code::ALL[at].name();
        at += 1;
    }
    names
};

pub(super) const YEAR_IN_SECONDS: u64 = 365 * 24 * 3600;
const HOUR_IN_MILLIS: u64 = 3_600_000;
const OTHER_ID: Preset = Preset::Text("spiffe://other.example/ns/other/sa/other");

pub(super) const fn number(
    name: &'static str,
    summary: &'static str,
    (least, most): (u64, u64),
    preset: Option<u64>,
) -> Parameter {
    Parameter {
        name,
        summary,
        allowed: Allowed::Number { least, most },
        preset: match preset {
            Some(preset) => Some(Preset::Number(preset)),
            None => None,
        },
    }
}

const fn text(name: &'static str, summary: &'static str, most: usize, preset: Preset) -> Parameter {
    Parameter {
        name,
        summary,
        allowed: Allowed::Text { most },
        preset: Some(preset),
    }
}

/// A fault of the certificate that takes no parameters.
macro_rules! certificate {
    ($name:literal, $fault:ident, $summary:literal) => {
        CatalogueEntry {
            name: $name,
            summary: $summary,
            parameters: &[],
            make: |_| Fault::Certificate(CertificateFault::$fault),
        }
    };
}

pub(super) const CATALOGUE: &[CatalogueEntry] = &[
    CatalogueEntry {
        name: "error",
        summary: "The request is refused with an error in Google's form; nothing is done.",
        parameters: &[
            Parameter {
                name: "code",
                summary: "The canonical code, which decides the HTTP status: UNAVAILABLE is 503, INTERNAL 500.",
                allowed: Allowed::OneOf(&CODES),
                preset: Some(Preset::Text("UNAVAILABLE")),
            },
            text(
                "message",
                "The error's message.",
                256,
                Preset::Text("A fault rule of the emulator asked for this error."),
            ),
            number(
                "retryAfterSeconds",
                "The header Retry-After.",
                (0, YEAR_IN_SECONDS),
                None,
            ),
            number(
                "retryInfoSeconds",
                "The delay of a google.rpc.RetryInfo among the details.",
                (0, YEAR_IN_SECONDS),
                None,
            ),
        ],
        make: error,
    },
    CatalogueEntry {
        name: "html",
        summary: "A web page instead of JSON, as a proxy sends it; nothing is done.",
        parameters: &[number("status", "The HTTP status.", (200, 599), Some(502))],
        make: |arguments| Fault::Html {
            status: arguments
                .number("status")
                .and_then(|status| status.try_into().ok())
                .unwrap_or(502),
        },
    },
    CatalogueEntry {
        name: "huge-body",
        summary: "A body of JSON's type that is spaces and no JSON; nothing is done.",
        parameters: &[number(
            "bytes",
            "Length of the body in bytes.",
            (0, 100 << 20),
            Some(10 << 20),
        )],
        make: |arguments| Fault::HugeBody {
            bytes: arguments
                .number("bytes")
                .and_then(|bytes| bytes.try_into().ok())
                .unwrap_or(10 << 20),
        },
    },
    CatalogueEntry {
        name: "hang",
        summary: "No answer, ever; nothing is done.",
        parameters: &[],
        make: |_| Fault::Hang,
    },
    CatalogueEntry {
        name: "latency",
        summary: "The work begins late.",
        parameters: &[number(
            "delayMillis",
            "The delay in milliseconds of real time.",
            (0, HOUR_IN_MILLIS),
            Some(1_000),
        )],
        make: |arguments| Fault::Latency(arguments.millis("delayMillis")),
    },
    CatalogueEntry {
        name: "reset-before",
        summary: "The connection is reset before anything is done.",
        parameters: &[],
        make: |_| Fault::CloseBefore,
    },
    CatalogueEntry {
        name: "reset-after",
        summary: "The work is done, then the connection is reset, and with it every other request on it.",
        parameters: &[],
        make: |_| Fault::CloseAfter,
    },
    CatalogueEntry {
        name: "lost-reply",
        summary: "The work is done, then this request alone ends without an answer: over HTTP/2 the connection stays.",
        parameters: &[],
        make: |_| Fault::LostReply,
    },
    CatalogueEntry {
        name: "slow-body",
        summary: "The work is done, and the answer comes in pieces of 512 bytes.",
        parameters: &[number(
            "chunkDelayMillis",
            "The delay before each piece, in milliseconds of real time.",
            (0, HOUR_IN_MILLIS),
            Some(1_000),
        )],
        make: |arguments| Fault::SlowBody {
            chunk_delay: arguments.millis("chunkDelayMillis"),
        },
    },
    CatalogueEntry {
        name: "go-away",
        summary: "The work is done and answered, and the connection takes no further requests: GOAWAY over HTTP/2, connection: close over HTTP/1.",
        parameters: &[],
        make: |_| Fault::GoAway,
    },
    certificate!(
        "other-key",
        OtherKey,
        "The certificate is for a key that nobody asked for."
    ),
    certificate!(
        "drop-san",
        DropSan,
        "The certificate has no subject alternative name, as when the pool's policy drops it."
    ),
    CatalogueEntry {
        name: "other-spiffe-id",
        summary: "The certificate's only URI is another one.",
        parameters: &[text("uri", "The URI.", 2048, OTHER_ID)],
        make: |arguments| {
            Fault::Certificate(CertificateFault::OtherSpiffeId(arguments.text("uri")))
        },
    },
    CatalogueEntry {
        name: "second-uri",
        summary: "The certificate has one URI more.",
        parameters: &[text("uri", "The URI.", 2048, OTHER_ID)],
        make: |arguments| Fault::Certificate(CertificateFault::SecondUri(arguments.text("uri"))),
    },
    certificate!("is-ca", IsCa, "The certificate is a CA's: CA:TRUE."),
    certificate!(
        "key-cert-sign",
        KeyCertSign,
        "The certificate's key may sign certificates."
    ),
    certificate!(
        "no-digital-signature",
        NoDigitalSignature,
        "The certificate's key usage has keyEncipherment alone."
    ),
    CatalogueEntry {
        name: "subject",
        summary: "The certificate has a subject that nobody asked for.",
        parameters: &[text(
            "commonName",
            "The subject's common name.",
            64,
            Preset::Text("other"),
        )],
        make: |arguments| {
            Fault::Certificate(CertificateFault::Subject(arguments.text("commonName")))
        },
    },
    certificate!(
        "no-client-auth",
        NoClientAuth,
        "The certificate's extended key usage is serverAuth alone."
    ),
    certificate!("expired", Expired, "The certificate expired an hour ago."),
    CatalogueEntry {
        name: "not-yet-valid",
        summary: "The certificate becomes valid only later.",
        parameters: &[number(
            "aheadSeconds",
            "How much later, in seconds.",
            (1, YEAR_IN_SECONDS),
            Some(3_600),
        )],
        make: |arguments| {
            let ahead = arguments.signed_seconds("aheadSeconds");
            Fault::Certificate(CertificateFault::NotYetValid(ahead))
        },
    },
    CatalogueEntry {
        name: "truncated-lifetime",
        summary: "The certificate lives shorter than was asked for.",
        parameters: &[number(
            "lifetimeSeconds",
            "Its greatest lifetime, in seconds.",
            (1, YEAR_IN_SECONDS),
            Some(60),
        )],
        make: |arguments| {
            let lifetime = arguments.signed_seconds("lifetimeSeconds");
            Fault::Certificate(CertificateFault::Truncated(lifetime))
        },
    },
    certificate!(
        "unknown-root",
        UnknownRoot,
        "The certificate comes, with its chain, from a root that the pool does not have."
    ),
    certificate!(
        "chain-reversed",
        ChainReversed,
        "The chain beside the certificate stands root first."
    ),
    certificate!(
        "crlf",
        Crlf,
        "The certificate and its chain have CR LF line ends."
    ),
    certificate!(
        "empty-chain",
        EmptyChain,
        "There is no chain beside the certificate."
    ),
    certificate!(
        "no-certificate",
        NoCertificate,
        "The answer has the chain but not the certificate. An ENTERPRISE pool keeps it whole."
    ),
];

fn error(arguments: &Arguments) -> Fault {
    let name = arguments.text("code");
    let code = Code::ALL.into_iter().find(|code| code.name() == name);
    let mut error = ApiError::new(code.unwrap_or(Code::Unavailable), arguments.text("message"));
    if let Some(delay) = arguments.seconds("retryInfoSeconds") {
        error = error.with_retry_info(delay);
    }
    Fault::Error {
        error,
        retry_after: arguments.seconds("retryAfterSeconds"),
    }
}

impl Fault {
    /// The arguments that make this fault again.
    pub(crate) fn arguments(&self) -> Arguments {
        let mut fields = Map::new();
        let mut set = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
        let millis = |delay: &Duration| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        match self {
            Self::Error { error, retry_after } => {
                set("code", error.code.name().into());
                set("message", error.message.as_str().into());
                if let Some(after) = retry_after {
                    set(
                        "retryAfterSeconds",
                        crate::errors::whole_seconds(*after).into(),
                    );
                }
                if let Some(delay) = error.retry_info() {
                    set("retryInfoSeconds", delay.into());
                }
            }
            Self::Html { status } => set("status", (*status).into()),
            Self::HugeBody { bytes } => set("bytes", (*bytes).into()),
            Self::Latency(delay) => set("delayMillis", millis(delay).into()),
            Self::SlowBody { chunk_delay } => set("chunkDelayMillis", millis(chunk_delay).into()),
            Self::Certificate(fault) => match fault {
                CertificateFault::OtherSpiffeId(uri) | CertificateFault::SecondUri(uri) => {
                    set("uri", uri.as_str().into());
                }
                CertificateFault::Subject(name) => set("commonName", name.as_str().into()),
                CertificateFault::NotYetValid(ahead) => {
                    set("aheadSeconds", ahead.as_secs().into());
                }
                CertificateFault::Truncated(lifetime) => {
                    set("lifetimeSeconds", lifetime.as_secs().into());
                }
                _ => {}
            },
            Self::Hang | Self::CloseBefore | Self::CloseAfter | Self::LostReply | Self::GoAway => {}
        }
        Arguments(fields)
    }
}

#[cfg(test)]
#[path = "catalogue_tests.rs"]
mod tests;
