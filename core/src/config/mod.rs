//! Reading the objects that say what certagent does.
//!
//! The way of a configuration, one module per step:
//!
//! 1. `yaml`: text to documents in which every value knows its line and column (`tree`).
//! 2. `objects`: a document is a `WorkloadCertificateConfig`, a `TrustConfig` or a `Workload`.
//! 3. `certificates`, `trust`, `workload`: the plain structs of what was typed, and how the
//!    documents are decoded to them (`decode`: wrong types, unknown fields). `annotations`: what is
//!    asked for beside them.
//! 4. [`validate`]: the rules, as pure functions of these structs.
//! 5. `whole`, `domains`: what can be said only with all objects at hand.
//!
//! Every step goes on after a problem, so that [`load`] reports all of them at once. The result,
//! [`Config`], holds only what was checked.

mod annotations;
mod certificates;
mod decode;
mod domains;
mod guide;
mod objects;
mod policy;
mod problem;
mod report;
mod rule;
mod tree;
mod trust;
pub mod validate;
mod whole;
mod workload;
mod yaml;

#[cfg(test)]
mod tests;

use certagent_svid::TrustDomain;

use crate::request::SubjectMode;

pub use annotations::is_own_annotation;
pub use certificates::{
    CertificateAuthorityConfig, CertificateAuthorityServiceConfig, EcdsaSpec, KeyAlgorithmSpec,
    MeshCaConfig, RsaSpec, WorkloadCertificateConfigSpec,
};
pub use guide::{GuideParams, render_trust_config, render_workload_certificate_config};
pub use policy::{
    CertificatePolicy, Config, Hook, HookSignal, OwnerRef, TrustAnchor, TrustPolicy, VolumeSpec,
    Workload,
};
pub use problem::{Checked, FieldProblem, Problem, Severity};
pub use rule::Rule;
pub use trust::{TrustAnchorSpec, TrustConfigSpec, TrustStoreSpec};
pub use workload::{HookSpec, SignalSpec, WorkloadSpec, WorkloadVolumeSpec};
pub use yaml::{MAX_BYTES, MAX_DEPTH, MAX_DOCUMENTS, MAX_NODES};

/// One text to read, of any number of documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// What messages call it, usually a path. Relative volume paths start at its directory.
    pub name: String,
    /// The whole text.
    pub text: String,
}

/// What the process was told beside the objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Accept validities down to 1 s and any renewal window. For tests only.
    pub lift_minimums: bool,
    /// The trust domain of all workloads, before any that the objects name.
    pub trust_domain: Option<TrustDomain>,
    /// Who will put the names into certificates: each workload needs a `tokenFile` if its own
    /// identity does, and none otherwise. Not known: nothing is said about them.
    pub subject_mode: Option<SubjectMode>,
    /// The one workload that is given by flags, instead of documents of kind `Workload`.
    ///
    /// It becomes the [`Workload`] with the name [`FLAG_WORKLOAD`] and an empty source, and its
    /// problems have no file.
    pub workload: Option<WorkloadSpec>,
}

/// The name of the workload in [`Settings::workload`].
pub const FLAG_WORKLOAD: &str = "command-line";

/// What came out of reading.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// Everything found, by source (in their order), line and column; what belongs to no source
    /// comes last. At most 100 for each source, then one line that counts the others.
    pub problems: Vec<Problem>,
    /// The configuration, if no problem is an error.
    pub config: Option<Config>,
}

/// Reads all objects of a configuration and checks them, alone and together.
///
/// Never fails as a whole and never panics: whatever the texts are, the answer is a configuration
/// or the list of what is wrong. Time and memory are bounded by [`MAX_BYTES`], [`MAX_DOCUMENTS`],
/// [`MAX_DEPTH`] and [`MAX_NODES`] for each source.
pub fn load(sources: &[Source], settings: &Settings) -> Loaded {
    let mut reading = objects::Reading::new(sources, settings);
    for (index, source) in sources.iter().enumerate() {
        reading.source(index, source);
    }
    whole::assemble(reading, sources, settings)
}
