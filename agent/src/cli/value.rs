//! Values on the command line.
use std::{path::PathBuf, time::Duration};

use certagent_core::{
    algorithm::KeyAlgorithm,
    dns,
    pool::{CaPoolName, CaPoolNameError},
};
use certagent_svid::{SpiffeId, TrustDomain};
use clap::builder::{PossibleValuesParser, TypedValueParser};

/// A text that is not a value of its flag.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ValueError {
    /// Not a span of time.
    #[error("{reason}; write a number with a unit, such as 60s, 5m or 24h")]
    Duration {
        /// What the parser said.
        reason: String,
    },
    /// Not whole seconds where whole seconds are needed.
    #[error("a validity is whole seconds, such as 60s or 24h")]
    Fraction,
    /// Not a trust domain.
    #[error("{reason}; write a name such as example.org, without spiffe://")]
    TrustDomain {
        /// What the parser said.
        reason: String,
    },
    /// Not a SPIFFE ID.
    #[error("{reason}; write an id such as spiffe://example.org/ns/default/sa/web")]
    SpiffeId {
        /// What the parser said.
        reason: String,
    },
    /// Not a log filter.
    #[error(
        "{reason}; write error, warn, info, debug or trace, or a filter such as info,certagent=debug"
    )]
    LogFilter {
        /// What the parser said.
        reason: String,
    },
    /// Not the name of a signer.
    #[error(
        "a signer is named by a domain and a path, such as {}",
        super::node::SIGNER
    )]
    Signer,
    /// Not a pod of a cluster.
    #[error("a pod is NAMESPACE/NAME, such as shop/cart-7d9f")]
    Pod,
    /// A signer of Kubernetes' own.
    #[error(
        "the signers of kubernetes.io are Kubernetes' own; name one of yours, such as {}",
        super::node::SIGNER
    )]
    SignerOfKubernetes,
    /// Not a service account as a user.
    #[error("a node driver is a service account: system:serviceaccount:NAMESPACE:NAME")]
    Requester,
    /// Not the name of a namespace.
    #[error(
        "not the name of a namespace: 1 to 63 of a-z, 0-9 and -, with a letter or digit at both ends"
    )]
    Namespace,
    /// Not the name of an object.
    #[error(
        "not a name that Kubernetes allows: 1 to 253 of a-z, 0-9, - and ., with a letter or digit at both ends"
    )]
    Object,
    /// An empty path.
    #[error("an empty path; name a file or directory")]
    EmptyPath,
    /// A path that depends on the working directory.
    #[error(
        "a relative path, and kubelet and the kernel know the directory by its whole one; write a path that begins with /"
    )]
    RelativePath,
}

/// A pod of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodName {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// Namespace and name, as the API server takes them: they become parts of a path.
pub(super) fn pod(text: &str) -> Result<PodName, ValueError> {
    match text.split_once('/') {
        Some((namespace, name)) if dns::is_label(namespace) && dns::is_subdomain(name) => {
            Ok(PodName {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            })
        }
        _ => Err(ValueError::Pod),
    }
}

/// As the API server takes it: a domain of at least two labels, and a path.
pub(super) fn signer(text: &str) -> Result<String, ValueError> {
    let is_label = |label: &str| {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !label.is_empty() && label.chars().all(is_plain)
    };
    let is_signer = text.len() <= 571
        && text.split_once('/').is_some_and(|(domain, path)| {
            domain.contains('.') && domain.split('.').all(is_label) && path.split('.').all(is_label)
        });
    match text.split_once('/') {
        Some(("kubernetes.io", _)) => Err(ValueError::SignerOfKubernetes),
        _ if is_signer => Ok(text.to_owned()),
        _ => Err(ValueError::Signer),
    }
}

/// The name of a namespace.
pub(super) fn namespace(text: &str) -> Result<String, ValueError> {
    let is_one = dns::is_label(text);
    is_one.then(|| text.to_owned()).ok_or(ValueError::Namespace)
}

/// The name of an object, as of most kinds.
pub(super) fn object(text: &str) -> Result<String, ValueError> {
    let is_one = dns::is_subdomain(text);
    is_one.then(|| text.to_owned()).ok_or(ValueError::Object)
}

/// A service account as the API server calls it as a user.
pub(super) fn requester(text: &str) -> Result<String, ValueError> {
    let parts: Vec<_> = text.split(':').collect();
    match parts.as_slice() {
        ["system", "serviceaccount", namespace, name]
            if dns::is_label(namespace) && dns::is_subdomain(name) =>
        {
            Ok(text.to_owned())
        }
        _ => Err(ValueError::Requester),
    }
}

pub(super) fn duration(text: &str) -> Result<Duration, ValueError> {
    humantime::parse_duration(text).map_err(|reason| ValueError::Duration {
        reason: reason.to_string(),
    })
}

pub(super) fn validity(text: &str) -> Result<Duration, ValueError> {
    duration(text).and_then(|validity| match validity.subsec_nanos() {
        0 => Ok(validity),
        _ => Err(ValueError::Fraction),
    })
}

pub(super) fn trust_domain(text: &str) -> Result<TrustDomain, ValueError> {
    let domain = TrustDomain::new(text).map_err(|reason| ValueError::TrustDomain {
        reason: reason.to_string(),
    })?;
    // A whole SPIFFE ID would be read, too, and cut down to its trust domain.
    if domain.as_str() == text {
        Ok(domain)
    } else {
        Err(ValueError::TrustDomain {
            reason: "more than a trust domain".to_owned(),
        })
    }
}

pub(super) fn spiffe_id(text: &str) -> Result<SpiffeId, ValueError> {
    SpiffeId::new(text).map_err(|reason| ValueError::SpiffeId {
        reason: reason.to_string(),
    })
}

/// A pool as the objects name it, or as gcloud does, without the service in front.
pub(super) fn ca_pool(text: &str) -> Result<CaPoolName, CaPoolNameError> {
    if text.starts_with("projects/") {
        format!("//privateca.googleapis.com/{text}").parse()
    } else {
        text.parse()
    }
}

pub(super) fn log_filter(text: &str) -> Result<String, ValueError> {
    tracing_subscriber::EnvFilter::builder()
        .parse(text)
        .map(|_| text.to_owned())
        .map_err(|reason| ValueError::LogFilter {
            reason: reason.to_string(),
        })
}

/// An empty path would mean the working directory by accident: `--config "$UNSET"`.
pub(super) fn path(text: &str) -> Result<PathBuf, ValueError> {
    if text.is_empty() {
        Err(ValueError::EmptyPath)
    } else {
        Ok(PathBuf::from(text))
    }
}

/// A path by which others know the directory, too.
pub(super) fn absolute_path(text: &str) -> Result<PathBuf, ValueError> {
    let path = path(text)?;
    path.is_absolute()
        .then_some(path)
        .ok_or(ValueError::RelativePath)
}

/// With the possible values, clap lists them in the help and names the nearest.
pub(super) fn key_algorithm() -> impl TypedValueParser<Value = KeyAlgorithm> {
    PossibleValuesParser::new(KeyAlgorithm::ALL.map(KeyAlgorithm::as_str))
        .try_map(|text| text.parse::<KeyAlgorithm>())
}
