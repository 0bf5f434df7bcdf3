//! What a configuration means: the checked form of the objects.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use certagent_svid::{Certificate, TrustDomain};

use crate::algorithm::KeyAlgorithm;
use crate::bundle_endpoint::BundleEndpoint;
use crate::names::SubjectNames;
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
    /// The names of its certificates beside the SPIFFE ID. None where the identity at Google is the
    /// workload's.
    pub names: SubjectNames,
    /// What is done after each new generation in its volume, in this order.
    pub on_rotate: Vec<Hook>,
    /// Where its credential is written.
    pub volume: VolumeSpec,
}

/// One thing to do after a new generation is in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hook {
    /// Run a program, without a shell.
    Exec {
        /// The program, an absolute path.
        program: String,
        /// Its arguments.
        arguments: Vec<String>,
        /// How long it may run: whole seconds, 1 s to [`Hook::MAX_SECONDS`].
        limit: Duration,
    },
    /// Send a signal to a program that runs.
    Signal {
        /// The file whose first line is the process id, an absolute path.
        pid_file: String,
        /// The signal.
        signal: HookSignal,
    },
}

/// For messages. Arguments may be anything; the program tells enough.
impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exec { program, .. } => write!(f, "exec {program}"),
            Self::Signal { pid_file, signal } => {
                write!(f, "signal {} by {pid_file}", signal.as_str())
            }
        }
    }
}

impl Hook {
    /// How long a program may run if nothing is configured, in seconds.
    pub const DEFAULT_SECONDS: u64 = 30;
    /// How long a program may run at most, in seconds.
    pub const MAX_SECONDS: u64 = 300;
}

/// The signals that programs reload at, reopen files at, or end at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the signals of POSIX by their names")]
pub enum HookSignal {
    Hup,
    Int,
    Quit,
    Term,
    Usr1,
    Usr2,
}

impl HookSignal {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Hup,
        Self::Int,
        Self::Quit,
        Self::Term,
        Self::Usr1,
        Self::Usr2,
    ];

    /// The name in the configuration, without `SIG`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hup => "HUP",
            Self::Int => "INT",
            Self::Quit => "QUIT",
            Self::Term => "TERM",
            Self::Usr1 => "USR1",
            Self::Usr2 => "USR2",
        }
    }
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
