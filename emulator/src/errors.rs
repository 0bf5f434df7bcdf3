//! What can go wrong: with a call ([`ApiError`], in Google's shape) and with the emulator itself
//! ([`EmulatorError`]).

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::identity::IdentityConfigError;
use crate::pool::{PoolName, PoolNameError};

/// A canonical error code of Google's APIs, the `status` of an error body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The request itself is wrong; repeating it cannot help.
    InvalidArgument,
    /// The resource is not in the state that the call needs.
    FailedPrecondition,
    /// Nobody is signed in.
    Unauthenticated,
    /// The caller lacks a permission.
    PermissionDenied,
    /// The resource does not exist.
    NotFound,
    /// A resource of that name exists already.
    AlreadyExists,
    /// The operation was aborted, typically by a concurrent one.
    Aborted,
    /// A quota is used up.
    ResourceExhausted,
    /// The call was cancelled.
    Cancelled,
    /// An error without a better name.
    Unknown,
    /// A fault of the service.
    Internal,
    /// Not supported by the service.
    Unimplemented,
    /// The service is away for the moment.
    Unavailable,
    /// The deadline passed before the work was done.
    DeadlineExceeded,
}

impl Code {
    /// The HTTP status that the service uses for this code.
    pub const fn http(self) -> u16 {
        match self {
            Self::InvalidArgument | Self::FailedPrecondition => 400,
            Self::Unauthenticated => 401,
            Self::PermissionDenied => 403,
            Self::NotFound => 404,
            Self::AlreadyExists | Self::Aborted => 409,
            Self::ResourceExhausted => 429,
            Self::Cancelled => 499,
            Self::Unknown | Self::Internal => 500,
            Self::Unimplemented => 501,
            Self::Unavailable => 503,
            Self::DeadlineExceeded => 504,
        }
    }

    /// The name as it stands in an error body, for example `NOT_FOUND`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::Aborted => "ABORTED",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::Cancelled => "CANCELLED",
            Self::Unknown => "UNKNOWN",
            Self::Internal => "INTERNAL",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::Unavailable => "UNAVAILABLE",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The answer to a call that failed, as CA Service words it on the wire.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    /// The canonical code; it decides the HTTP status.
    pub code: Code,
    /// What was wrong, for people.
    pub message: String,
    /// `google.rpc` detail messages in their JSON form, each with `@type`.
    pub details: Vec<Value>,
}

impl ApiError {
    /// An error without details.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: Vec::new(),
        }
    }

    /// The service's refusal of a caller that lacks `permission` on `resource`
    /// (`projects/P/locations/L/caPools/N`).
    pub fn permission_denied(permission: &str, resource: &str) -> Self {
        let service = if permission.starts_with("resourcemanager.") {
            "cloudresourcemanager.googleapis.com"
        } else {
            "privateca.googleapis.com"
        };
        let full = format!("//{service}/{resource}");
        let message =
            format!("Permission '{permission}' denied on resource '{full}' (or it may not exist).");
        let mut error = Self::new(Code::PermissionDenied, message);
        error.details.push(json!({
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "IAM_PERMISSION_DENIED",
            "domain": service,
            "metadata": { "permission": permission, "resource": resource },
        }));
        error
    }

    /// Adds `google.rpc.RetryInfo`: how long the caller should wait.
    #[must_use]
    pub fn with_retry_info(mut self, delay: Duration) -> Self {
        self.details.push(json!({
            "@type": "type.googleapis.com/google.rpc.RetryInfo",
            "retryDelay": format!("{}s", delay.as_secs_f64()),
        }));
        self
    }

    /// The JSON body of the answer.
    pub fn body(&self) -> Value {
        let mut error = json!({
            "code": self.code.http(),
            "message": self.message,
            "status": self.code.name(),
        });
        if !self.details.is_empty() {
            error["details"] = Value::Array(self.details.clone());
        }
        json!({ "error": error })
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    pub(crate) fn not_found(resource: &str) -> Self {
        Self::new(
            Code::NotFound,
            format!("Resource '{resource}' was not found."),
        )
    }

    pub(crate) fn internal(what: &str, source: impl fmt::Display) -> Self {
        Self::new(Code::Internal, format!("{what}: {source}"))
    }
}

/// Why an emulator cannot be built or served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmulatorError {
    /// The configured identities make no sense.
    #[error(transparent)]
    Identities(#[from] IdentityConfigError),
    /// A pool's name is not one.
    #[error(transparent)]
    PoolName(#[from] PoolNameError),
    /// Two pools have the same name.
    #[error("the pool {0} is configured twice; give each pool a name of its own")]
    DuplicatePool(PoolName),
    /// A pool names a parent that does not come before it.
    #[error(
        "the CA of {pool} is to be signed by {parent}, which no earlier pool of the configuration is; list parents first"
    )]
    UnknownParent {
        /// The pool with the subordinate CA.
        pool: PoolName,
        /// The parent that was not found.
        parent: PoolName,
    },
    /// A parent has no CA that could sign.
    #[error(
        "the CA of {pool} is to be signed by {parent}, which has no enabled CA; enable one, or choose another state directory"
    )]
    ParentWithoutCa {
        /// The pool with the subordinate CA.
        pool: PoolName,
        /// The parent.
        parent: PoolName,
    },
    /// A parent is itself a subordinate with pathlen 0.
    #[error(
        "the CA of {pool} is to be signed by {parent}, whose CA is a subordinate with path length 0; name a pool with a self-signed root"
    )]
    ParentNotRoot {
        /// The pool with the subordinate CA.
        pool: PoolName,
        /// The parent that may not sign CAs.
        parent: PoolName,
    },
    /// A CA would live for no time at all, or past the last date that a certificate can name.
    #[error(
        "the CA of {0} has a lifetime that no certificate can express; choose one between a second and a few thousand years"
    )]
    CaLifetime(PoolName),
    /// A pool backdates by less than nothing or by more than the service allows.
    #[error("the pool {0} has a backdateDuration outside 0s to 172800s (48 hours)")]
    Backdate(PoolName),
    /// A key or certificate of a CA could not be made or used.
    #[error("the CA of {pool} could not be set up: {reason}")]
    Ca {
        /// The pool whose CA it is.
        pool: PoolName,
        /// What went wrong. Never any of the key.
        reason: String,
    },
    /// A file or directory of the state could not be read or written.
    #[error("cannot {action} {}; check that the state directory exists, is writable and has space", path.display())]
    StateIo {
        /// What was tried: a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// A file of the state cannot be understood.
    #[error("the state file {} is corrupt: {reason}; restore it, or delete the whole state directory to start with new CAs (certificates of the old ones will no longer verify)", path.display())]
    StateCorrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it. Never any of its content.
        reason: &'static str,
    },
    /// Another process uses the state directory.
    #[error("the state directory {} is in use by another emulator; stop it, or choose another directory", path.display())]
    StateInUse {
        /// The directory.
        path: PathBuf,
    },
    /// The address to listen on is reachable from other machines.
    #[error(
        "refusing to listen on {0}: the emulator signs for everybody who reaches it, so it listens on loopback only; use 127.0.0.1 or [::1]"
    )]
    NotLoopback(SocketAddr),
    /// The listener failed.
    #[error("the emulator's listener failed")]
    Listener(#[source] std::io::Error),
}
