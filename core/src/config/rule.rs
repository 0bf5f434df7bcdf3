//! The rules of a configuration by name.

/// A rule that a configuration can break. Its name is the reason of a condition in a cluster, so
/// it stays the same however the words of the message change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// The text can be read: YAML within bounds, every key once.
    Unreadable,
    /// It is an object of a kind, a version and a name that are known.
    InvalidObject,
    /// There is one object of the kind.
    DuplicateObject,
    /// Both objects are there.
    MissingObject,
    /// The object has a `spec`.
    MissingSpec,
    /// Every field is known.
    UnknownField,
    /// Every value has the type of its field.
    WrongType,
    /// One issuing configuration is named, and not Mesh CA.
    InvalidCertificateAuthority,
    /// `endpointURI` names a pool.
    InvalidEndpointURI,
    /// Each of `fallbackURIs` names a pool.
    InvalidFallbackURI,
    /// No pool is named twice.
    DuplicatePool,
    /// One of the five kinds of key is named.
    InvalidKeyAlgorithm,
    /// The validity is in its range.
    InvalidValidity,
    /// The percentage is in its range.
    InvalidRotationWindow,
    /// Percentage and validity together leave time to renew.
    RotationWindowTooShort,
    /// The renewal begins early enough to survive an outage.
    RotationWindowShort,
    /// The trust domain stands where it may, and is the one that the flag says.
    TrustDomainConflict,
    /// Every trust domain is written as one.
    InvalidTrustDomain,
    /// The workloads' own trust domain is known and has a trust store.
    MissingTrustDomain,
    /// There is a trust store.
    MissingTrustStore,
    /// No trust domain has two trust stores.
    DuplicateTrustDomain,
    /// Every trust store has an anchor.
    MissingTrustAnchor,
    /// Each anchor has exactly one of its forms.
    InvalidTrustAnchor,
    /// `certificateAuthorityServiceURI` names a pool.
    InvalidAnchorURI,
    /// `pemCertificate` is the certificate of one CA.
    InvalidAnchorCertificate,
    /// `spiffeTrustBundleEndpoint` is a URL that a bundle may come from.
    InvalidAnchorEndpoint,
    /// `certagent.dev/rotate-after` is a time, and perhaps a span.
    InvalidRotateAfter,
    /// Every annotation that begins with `certagent.dev/` is one that is read.
    UnknownAnnotation,
    /// What a `Workload` says; there are none in a cluster.
    InvalidWorkload,
    /// There are not more problems than can be listed.
    TooManyProblems,
}

impl Rule {
    /// The reason of a condition.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "Unreadable",
            Self::InvalidObject => "InvalidObject",
            Self::DuplicateObject => "DuplicateObject",
            Self::MissingObject => "MissingObject",
            Self::MissingSpec => "MissingSpec",
            Self::UnknownField => "UnknownField",
            Self::WrongType => "WrongType",
            Self::InvalidCertificateAuthority => "InvalidCertificateAuthority",
            Self::InvalidEndpointURI => "InvalidEndpointURI",
            Self::InvalidFallbackURI => "InvalidFallbackURI",
            Self::DuplicatePool => "DuplicatePool",
            Self::InvalidKeyAlgorithm => "InvalidKeyAlgorithm",
            Self::InvalidValidity => "InvalidValidity",
            Self::InvalidRotationWindow => "InvalidRotationWindow",
            Self::RotationWindowTooShort => "RotationWindowTooShort",
            Self::RotationWindowShort => "RotationWindowShort",
            Self::TrustDomainConflict => "TrustDomainConflict",
            Self::InvalidTrustDomain => "InvalidTrustDomain",
            Self::MissingTrustDomain => "MissingTrustDomain",
            Self::MissingTrustStore => "MissingTrustStore",
            Self::DuplicateTrustDomain => "DuplicateTrustDomain",
            Self::MissingTrustAnchor => "MissingTrustAnchor",
            Self::InvalidTrustAnchor => "InvalidTrustAnchor",
            Self::InvalidAnchorURI => "InvalidAnchorURI",
            Self::InvalidAnchorCertificate => "InvalidAnchorCertificate",
            Self::InvalidAnchorEndpoint => "InvalidAnchorEndpoint",
            Self::InvalidRotateAfter => "InvalidRotateAfter",
            Self::UnknownAnnotation => "UnknownAnnotation",
            Self::InvalidWorkload => "InvalidWorkload",
            Self::TooManyProblems => "TooManyProblems",
        }
    }
}
