//! What an inspection of a credential directory looks at, and what it learns.
use jiff::Timestamp;
use serde::Serialize;

use super::{
    super::{
        report::{self, CheckName, Subject},
        roots::Root,
    },
    text,
};

/// A credential directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Directory;

/// The outcome of inspecting a credential directory.
pub(crate) type Report = report::Report<Directory>;

/// A check of a credential directory.
pub(super) type Check = report::Check<CheckId>;

impl Subject for Directory {
    type Id = CheckId;
    type Evidence = Evidence;

    const NAME: &'static str = "directory";

    fn summary(report: &Report) -> String {
        text::summary(report)
    }

    fn evidence(report: &Report) -> Vec<(&'static str, String)> {
        text::evidence(report)
    }
}

/// The checks, in the order in which they depend on each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CheckId {
    /// The directory exists and can be read.
    Directory,
    /// The files of one moment can be read together.
    Generation,
    /// The names that programs open lead to that generation.
    Links,
    /// `certificates.pem` is there and holds one chain.
    Certificates,
    /// The chain has the leaf first, then its issuers.
    ChainOrder,
    /// The leaf obeys the X.509-SVID standard.
    Svid,
    /// `private_key.pem` is there, in a form and of a family that workloads can use.
    PrivateKey,
    /// Key and leaf belong together.
    KeyMatch,
    /// The chain is valid now, and was renewed in time.
    Validity,
    /// There are roots, all of them CA certificates.
    Roots,
    /// The roots stay valid for a while.
    RootsValidity,
    /// The chain leads to one of the directory's own roots.
    ChainVerifies,
    /// `trust_bundles.json` fits the rest.
    TrustBundles,
    /// `credential-bundle.pem` fits the rest.
    CredentialBundle,
    /// Not everybody can read the key.
    KeyMode,
    /// The key is in memory, not on a disk.
    KeyStorage,
    /// No write was left half done.
    Leftovers,
    /// The certificate has the names that the `Workload` asks for.
    Names,
    /// The hooks of `onRotate` have succeeded.
    Hooks,
}

impl CheckName for CheckId {
    const ALL: &'static [Self] = &[
        Self::Directory,
        Self::Generation,
        Self::Links,
        Self::Certificates,
        Self::ChainOrder,
        Self::Svid,
        Self::PrivateKey,
        Self::KeyMatch,
        Self::Validity,
        Self::Roots,
        Self::RootsValidity,
        Self::ChainVerifies,
        Self::TrustBundles,
        Self::CredentialBundle,
        Self::KeyMode,
        Self::KeyStorage,
        Self::Leftovers,
        Self::Names,
        Self::Hooks,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Generation => "generation",
            Self::Links => "links",
            Self::Certificates => "certificates",
            Self::ChainOrder => "chain-order",
            Self::Svid => "svid",
            Self::PrivateKey => "private-key",
            Self::KeyMatch => "key-match",
            Self::Validity => "validity",
            Self::Roots => "roots",
            Self::RootsValidity => "roots-validity",
            Self::ChainVerifies => "chain-verifies",
            Self::TrustBundles => "trust-bundles",
            Self::CredentialBundle => "credential-bundle",
            Self::KeyMode => "key-mode",
            Self::KeyStorage => "key-storage",
            Self::Leftovers => "leftovers",
            Self::Names => "names",
            Self::Hooks => "hooks",
        }
    }

    fn needs(self) -> &'static [Self] {
        match self {
            Self::Directory => &[],
            Self::Generation => &[Self::Directory],
            Self::ChainOrder | Self::Svid | Self::Validity | Self::Names => {
                &[Self::Directory, Self::Generation, Self::Certificates]
            }
            Self::KeyMatch | Self::CredentialBundle => &[
                Self::Directory,
                Self::Generation,
                Self::Certificates,
                Self::PrivateKey,
            ],
            Self::RootsValidity => &[Self::Directory, Self::Generation, Self::Roots],
            Self::ChainVerifies => &[
                Self::Directory,
                Self::Generation,
                Self::Certificates,
                Self::Svid,
                Self::Validity,
                Self::Roots,
            ],
            Self::TrustBundles => &[
                Self::Directory,
                Self::Generation,
                Self::Certificates,
                Self::Svid,
            ],
            Self::KeyMode | Self::KeyStorage => {
                &[Self::Directory, Self::Generation, Self::PrivateKey]
            }
            Self::Links
            | Self::Certificates
            | Self::PrivateKey
            | Self::Roots
            | Self::Leftovers
            | Self::Hooks => &[Self::Directory, Self::Generation],
        }
    }

    fn is_told_if_found_only(self) -> bool {
        matches!(self, Self::Names | Self::Hooks)
    }
}

/// What is known of the credential, whatever the verdict.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Evidence {
    pub(super) identity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) common_name: Option<String>,
    /// Beside the SPIFFE ID; of very many the first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) dns_names: Vec<String>,
    pub(super) serial: Option<String>,
    pub(super) algorithm: Option<String>,
    pub(super) issuer: Option<String>,
    pub(super) not_before: Option<Timestamp>,
    pub(super) not_after: Option<Timestamp>,
    /// The first end of any certificate on the path, where it is before the leaf's own.
    pub(super) path_not_after: Option<Timestamp>,
    pub(super) remaining_seconds: Option<i64>,
    pub(super) renews_at: Option<Timestamp>,
    pub(super) generation: Option<Generation>,
    /// The bundle is where key and chain are, and nowhere else: for the next steps.
    #[serde(skip)]
    pub(super) bundle_only: bool,
    pub(super) key_matches: Option<bool>,
    pub(super) chain_verifies: Option<bool>,
    pub(super) verified_root: Option<String>,
    pub(super) roots: Vec<Root>,
    /// A published root that is not to be trusted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) distrusted_root: Option<String>,
}

/// The generation that was read.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Generation {
    pub(super) name: String,
    /// From its name, where that is a moment.
    pub(super) age_seconds: Option<i64>,
}
