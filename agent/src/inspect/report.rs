//! What an inspection found, and what it adds up to.
use jiff::Timestamp;
use serde::Serialize;

use super::text;

/// The version of the JSON form. It rises when a field changes its meaning or goes away.
const SCHEMA_VERSION: u32 = 1;

/// What the checks add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    /// Every check that matters passed.
    Healthy,
    /// The credential works; something will, or may, go wrong later.
    Warning,
    /// The credential does not work.
    Problem,
    /// No check failed, but one that matters could not run.
    Unknown,
}

impl Verdict {
    /// The word on the first line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "HEALTHY",
            Self::Warning => "WARNING",
            Self::Problem => "PROBLEM",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// The exit code: 0 healthy or warning, 1 problem, 2 could not check.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Healthy | Self::Warning => 0,
            Self::Problem => 1,
            Self::Unknown => 2,
        }
    }
}

/// The checks, in the order in which they depend on each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CheckId {
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
}

impl CheckId {
    /// All of them, in order.
    pub const ALL: [Self; 17] = [
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
    ];

    /// The name in both forms of the report.
    pub fn as_str(self) -> &'static str {
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
        }
    }

    /// The checks without which this one cannot run.
    pub(super) fn needs(self) -> &'static [Self] {
        match self {
            Self::Directory => &[],
            Self::Generation => &[Self::Directory],
            Self::ChainOrder | Self::Svid | Self::Validity => {
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
            Self::Links | Self::Certificates | Self::PrivateKey | Self::Roots | Self::Leftovers => {
                &[Self::Directory, Self::Generation]
            }
        }
    }
}

/// What one check found. The text says it in one sentence, and never holds anything of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    Passed(String),
    Failed(String),
    Warned(String),
    Skipped(Skip, String),
}

/// Why a check did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skip {
    /// There is nothing to check, and need not be; or it would only have warned.
    Minor,
    /// Another check comes first, and did not pass.
    Depends,
    /// Something that matters could not be seen.
    Unable,
}

impl Finding {
    fn outcome(&self) -> &'static str {
        match self {
            Self::Passed(_) => "passed",
            Self::Failed(_) => "failed",
            Self::Warned(_) => "warned",
            Self::Skipped(..) => "skipped",
        }
    }

    pub(super) fn detail(&self) -> &str {
        match self {
            Self::Passed(detail)
            | Self::Failed(detail)
            | Self::Warned(detail)
            | Self::Skipped(_, detail) => detail,
        }
    }

    /// What depends on this check cannot run.
    pub(super) fn blocks(&self) -> bool {
        matches!(
            self,
            Self::Failed(_) | Self::Skipped(Skip::Depends | Skip::Unable, _)
        )
    }
}

/// A check that ran, or the reason why it did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) id: CheckId,
    pub(super) finding: Finding,
}

/// The verdict, and the one check that is its cause.
pub(super) fn verdict(checks: &[Check]) -> (Verdict, Option<&Check>) {
    let first = |wanted: fn(&Finding) -> bool| checks.iter().find(|check| wanted(&check.finding));
    if let Some(failed) = first(|finding| matches!(finding, Finding::Failed(_))) {
        (Verdict::Problem, Some(failed))
    } else if let Some(unable) = first(|f| matches!(f, Finding::Skipped(Skip::Unable, _))) {
        (Verdict::Unknown, Some(unable))
    } else if let Some(warned) = first(|finding| matches!(finding, Finding::Warned(_))) {
        (Verdict::Warning, Some(warned))
    } else {
        (Verdict::Healthy, None)
    }
}

/// Something to do next: a shell line, and what it is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct NextStep {
    pub(super) why: String,
    pub(super) command: String,
}

/// What is known of the credential, whatever the verdict.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Evidence {
    pub(super) identity: Option<String>,
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
    pub(super) key_matches: Option<bool>,
    pub(super) chain_verifies: Option<bool>,
    pub(super) verified_root: Option<String>,
    pub(super) roots: Vec<Root>,
}

/// The generation that was read.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Generation {
    pub(super) name: String,
    /// From its name, where that is a moment.
    pub(super) age_seconds: Option<i64>,
}

/// A root of the directory.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Root {
    pub(super) subject: String,
    pub(super) sha256: String,
    pub(super) not_after: Timestamp,
}

/// The outcome of one inspection.
#[derive(Clone, Debug)]
pub struct Report {
    pub(super) directory: String,
    pub(super) checked_at: Timestamp,
    pub(super) verdict: Verdict,
    pub(super) cause: Option<Check>,
    pub(super) next_steps: Vec<NextStep>,
    pub(super) checks: Vec<Check>,
    pub(super) evidence: Evidence,
}

impl Report {
    /// What the checks add up to.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// The process' exit code: see [`Verdict::exit_code`].
    pub fn exit_code(&self) -> u8 {
        self.verdict.exit_code()
    }

    /// The first line's phrase: what is the matter, in a few words.
    pub fn summary(&self) -> String {
        text::summary(self)
    }

    /// The one cause of a verdict that is not healthy: which check, and what it found.
    pub fn cause(&self) -> Option<(CheckId, &str)> {
        self.cause
            .as_ref()
            .map(|check| (check.id, check.finding.detail()))
    }

    /// The report for people.
    pub fn to_text(&self) -> String {
        text::render(self)
    }

    /// The report for programs: one JSON object with a `schemaVersion`.
    pub fn to_json(&self) -> String {
        let checks = self.checks.iter().map(|check| JsonCheck {
            id: check.id,
            outcome: check.finding.outcome(),
            detail: check.finding.detail(),
        });
        let cause = self
            .cause()
            .map(|(check, message)| JsonCause { check, message });
        let report = JsonReport {
            schema_version: SCHEMA_VERSION,
            directory: &self.directory,
            checked_at: self.checked_at,
            verdict: self.verdict,
            exit_code: self.exit_code(),
            summary: self.summary(),
            cause,
            next_steps: &self.next_steps,
            checks: checks.collect(),
            evidence: &self.evidence,
        };
        // Strings, numbers and lists of them: nothing that the encoder refuses.
        let mut json = serde_json::to_string_pretty(&report).unwrap_or_default();
        json.push('\n');
        json
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonReport<'a> {
    schema_version: u32,
    directory: &'a str,
    checked_at: Timestamp,
    verdict: Verdict,
    exit_code: u8,
    summary: String,
    cause: Option<JsonCause<'a>>,
    next_steps: &'a [NextStep],
    checks: Vec<JsonCheck<'a>>,
    evidence: &'a Evidence,
}

#[derive(Serialize)]
struct JsonCause<'a> {
    check: CheckId,
    message: &'a str,
}

#[derive(Serialize)]
struct JsonCheck<'a> {
    id: CheckId,
    outcome: &'a str,
    detail: &'a str,
}
