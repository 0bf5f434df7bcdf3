//! What a configuration means: the checked form of the objects.

use std::collections::BTreeMap;
use std::time::Duration;

use certagent_svid::{Certificate, TrustDomain};

use crate::algorithm::KeyAlgorithm;
use crate::bundle_endpoint::BundleEndpoint;
use crate::pool::CaPoolName;
use crate::spread_rotation::SpreadRotation;

/// A whole configuration without errors.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// From the `WorkloadCertificateConfig`.
    pub certificates: CertificatePolicy,
    /// From the annotations of the `WorkloadCertificateConfig`; none without such.
    pub spread_rotation: Option<SpreadRotation>,
    /// From the `TrustConfig`.
    pub trust: TrustPolicy,
    /// From the `Workload` documents, in the order in which they were read.
    pub workloads: Vec<Workload>,
}

/// How certificates are issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificatePolicy {
    /// The issuing pools in the order in which they are asked. Never empty, none twice.
    pub pools: Vec<CaPoolName>,
    /// The kind of keys.
    pub algorithm: KeyAlgorithm,
    /// How long a certificate is asked to live: whole seconds, 1 s to 10 years.
    pub validity: Duration,
    /// The share of the validity that remains when renewal may start: 1 to 99 percent.
    pub rotation_window_percentage: u8,
}

/// Whose certificates are trusted, each trust domain for itself.
#[derive(Debug, Clone, PartialEq)]
pub struct TrustPolicy {
    /// The anchors of each trust domain; no list is empty.
    pub stores: BTreeMap<TrustDomain, Vec<TrustAnchor>>,
}

/// One source of roots.
#[expect(
    clippy::large_enum_variant,
    reason = "a handful of them lives as long as the process"
)]
#[derive(Debug, Clone, PartialEq)]
pub enum TrustAnchor {
    /// The roots of this pool.
    Pool(CaPoolName),
    /// The roots that this endpoint serves.
    Endpoint(BundleEndpoint),
    /// This CA certificate.
    Pem(Certificate),
}

/// Who gets a certificate, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// `metadata.name`: unique, a DNS subdomain, so usable in file names.
    pub name: String,
    /// The name of the [`Source`](super::Source) it was read from; a relative path starts there.
    pub source: String,
    /// The trust domain of its SPIFFE ID, resolved.
    pub trust_domain: TrustDomain,
    /// A DNS label.
    pub namespace: String,
    /// A DNS subdomain.
    pub service_account: String,
    /// The file with its own token, as typed: absolute, or relative to the directory of the
    /// source. Always there where the identity at Google is the workload's.
    pub token_file: Option<String>,
    /// Where its credential is written.
    pub volume: VolumeSpec,
}

/// A directory for one credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSpec {
    /// As typed: absolute, or relative to the directory of the workload's source.
    pub path: String,
    /// Who owns directory and files; none means: whoever runs the agent.
    pub owner: Option<OwnerRef>,
    /// Their group; none means: the owner's, as the system chooses.
    pub group: Option<OwnerRef>,
    /// Mode bits of directories, within `0o777`.
    pub directory_mode: u32,
    /// Mode bits of files that contain the private key, within `0o777`.
    pub key_mode: u32,
    /// Mode bits of the other files, within `0o777`.
    pub file_mode: u32,
    /// Whether the key may be written to a filesystem that is not in memory.
    pub allow_disk: bool,
}

impl VolumeSpec {
    /// Mode of directories if none is configured.
    pub const DIRECTORY_MODE: u32 = 0o755;
    /// Mode of files that contain the private key if none is configured.
    pub const KEY_MODE: u32 = 0o640;
    /// Mode of the other files if none is configured.
    pub const FILE_MODE: u32 = 0o644;
}

/// A user or a group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum OwnerRef {
    /// By number.
    Id(u32),
    /// By name, to be looked up on the machine.
    Name(String),
}
