//! The checks, run in order of dependence, and the evidence that they leave behind.
use std::{collections::BTreeMap, path::Path};

use certagent_credentials::{FileProblem, Files, Layout, ReadError};
use certagent_svid::{CertificateError, ChainError, layout};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

use super::{
    super::{
        report::{Finding, Findings, Skip},
        text::{clean, span},
    },
    RenewalHint, credential,
    report::{Check, CheckId, Evidence, Generation},
    surroundings::{Filesystem, Surroundings},
    trust,
};
use crate::trust::Distrust;

/// A link of a write that was never finished is worth a word when it is this old, in seconds:
/// younger ones belong to a write that goes on.
const LEFTOVER_SECONDS: i64 = 60;

/// The files of one moment, borrowed.
pub(super) struct Contents<'a> {
    pub(super) layout: &'a Layout,
    pub(super) files: BTreeMap<&'static str, Result<&'a [u8], &'a FileProblem>>,
}

impl<'a> Contents<'a> {
    pub(super) fn of(files: &'a Files) -> Self {
        let contents = layout::FILES
            .into_iter()
            .map(|name| (name, files.get(name)));
        Self {
            layout: files.layout(),
            files: contents.collect(),
        }
    }

    /// The files of the chain and of the key: the bundle of both where neither has one of its own,
    /// as Kubernetes writes it, for those who read nothing else.
    pub(super) fn pair(&self) -> [&'static str; 2] {
        let two = [layout::CERTIFICATES, layout::PRIVATE_KEY];
        let is_missing = |name| matches!(self.get(name), Err(FileProblem::Missing));
        let bundle = layout::CREDENTIAL_BUNDLE;
        if two.into_iter().all(is_missing) && !is_missing(bundle) {
            [bundle; 2]
        } else {
            two
        }
    }

    pub(super) fn get(&self, name: &str) -> Result<&'a [u8], &'a FileProblem> {
        self.files
            .get(name)
            .copied()
            .unwrap_or(Err(&FileProblem::Missing))
    }
}

/// Runs every check. Those that could not run are in the list too, skipped, with the reason.
pub(super) fn run(
    dir: &Path,
    contents: Result<Contents<'_>, &ReadError>,
    surroundings: &Surroundings,
    now: Timestamp,
    renewal: Option<&RenewalHint>,
    distrust: &Distrust,
) -> (Vec<Check>, Evidence) {
    let mut inspection = Inspection {
        now,
        renewal,
        distrust,
        found: Findings::new(),
        evidence: Evidence::default(),
    };
    match contents {
        Ok(contents) => inspection.files(dir, &contents, surroundings),
        Err(error) => inspection.unreadable(error),
    }
    (inspection.found.finish(), inspection.evidence)
}

/// An inspection under way.
pub(super) struct Inspection<'a> {
    pub(super) now: Timestamp,
    pub(super) renewal: Option<&'a RenewalHint>,
    pub(super) distrust: &'a Distrust,
    pub(super) evidence: Evidence,
    found: Findings<CheckId>,
}

impl Inspection<'_> {
    fn files(&mut self, dir: &Path, contents: &Contents<'_>, surroundings: &Surroundings) {
        self.passed(CheckId::Directory, "the directory can be read");
        self.generation(contents.layout);
        self.links(dir, contents.layout, surroundings);
        self.evidence.bundle_only = contents.pair() == [layout::CREDENTIAL_BUNDLE; 2];
        let chain = credential::chain(self, contents);
        let key = credential::key(self, contents);
        let trust_domain = chain
            .as_ref()
            .and_then(|chain| credential::leaf(self, chain));
        if let (Some(chain), Some(key)) = (&chain, &key) {
            credential::pair(self, contents, chain, key);
        }
        let valid = chain
            .as_ref()
            .is_some_and(|chain| credential::validity(self, chain));
        let bundles = trust::bundle_map(self, contents);
        let roots = trust::roots(self, contents, bundles.as_ref(), trust_domain.as_ref());
        if let Some(roots) = &roots {
            trust::roots_validity(self, roots);
        }
        if let Some(trust_domain) = &trust_domain {
            if let (Some(chain), Some(roots), true) = (&chain, &roots, valid) {
                trust::path(self, chain, trust_domain, roots);
            }
            if let Some(bundles) = &bundles {
                trust::own_domain(self, bundles, trust_domain, roots.as_deref());
            }
        }
        if let Some(chain) = &chain {
            credential::renewal(self, chain);
            credential::names(self, chain);
        }
        credential::bundle(self, contents, chain.as_ref(), key.as_ref());
        self.key_mode(surroundings);
        self.key_storage(surroundings);
        self.leftovers(surroundings);
        self.hooks();
    }

    fn unreadable(&mut self, error: &ReadError) {
        let message = clean(&error.to_string());
        match error {
            ReadError::NoDirectory { .. } | ReadError::NotADirectory { .. } => {
                self.record(CheckId::Directory, Finding::Failed(message));
            }
            ReadError::Dangling { .. } => {
                self.passed(CheckId::Directory, "the directory can be read");
                self.record(CheckId::Generation, Finding::Failed(message));
            }
            ReadError::Unstable { .. } => {
                self.passed(CheckId::Directory, "the directory can be read");
                self.record(CheckId::Generation, Finding::Skipped(Skip::Unable, message));
            }
            _ => self.record(CheckId::Directory, Finding::Skipped(Skip::Unable, message)),
        }
    }

    fn generation(&mut self, layout: &Layout) {
        let Layout::Swapped { generation, .. } = layout else {
            let why = "there is no ..data: the files are replaced one by one, or with the \
                       directory";
            self.record(
                CheckId::Generation,
                Finding::Skipped(Skip::Minor, why.to_owned()),
            );
            return;
        };
        let age = written_at(generation).map(|then| self.now.duration_since(then).as_secs());
        let name = clean(generation);
        self.passed(
            CheckId::Generation,
            &format!("every file was read from {name}"),
        );
        self.evidence.generation = Some(Generation {
            name,
            age_seconds: age,
        });
    }

    fn links(&mut self, dir: &Path, layout: &Layout, surroundings: &Surroundings) {
        let finding = match (layout, surroundings.astray.first()) {
            (Layout::Swapped { .. }, None) => {
                Finding::Passed("every name leads to ..data".to_owned())
            }
            (Layout::Swapped { .. }, Some(name)) => Finding::Failed(clean(&format!(
                "{} is not a link to ..data/{name}, so programs read another file than the \
                 current one, or none",
                dir.join(name).display()
            ))),
            _ => Finding::Skipped(Skip::Minor, "there is no ..data to lead to".to_owned()),
        };
        self.record(CheckId::Links, finding);
    }

    fn key_mode(&mut self, surroundings: &Surroundings) {
        let Some(modes) = &surroundings.key_modes else {
            return;
        };
        let finding = match modes.world_readable.first() {
            Some(_) if surroundings.is_volume_mount() => Finding::Passed(
                "everybody can read the key, within a volume of its own in memory".to_owned(),
            ),
            Some((name, mode)) => Finding::Warned(format!(
                "{name} has mode {mode:04o}: every user of this machine can read the key"
            )),
            None => Finding::Passed("not everybody can read the key".to_owned()),
        };
        self.record(CheckId::KeyMode, finding);
    }

    fn key_storage(&mut self, surroundings: &Surroundings) {
        if surroundings.key_modes.is_none() {
            return;
        }
        let allowed = self.renewal.is_some();
        let finding = match surroundings.filesystem {
            Filesystem::Memory => Finding::Passed("the key is in memory only".to_owned()),
            Filesystem::Disk if allowed => {
                Finding::Passed("the key is on a disk, which allowDisk permits".to_owned())
            }
            Filesystem::Disk => Finding::Warned(
                "the key is on a disk (neither tmpfs nor ramfs): it may outlive its deletion"
                    .to_owned(),
            ),
            Filesystem::Unknown => Finding::Skipped(
                Skip::Minor,
                "the system does not tell what kind of file system this is".to_owned(),
            ),
        };
        self.record(CheckId::KeyStorage, finding);
    }

    fn leftovers(&mut self, surroundings: &Surroundings) {
        let old = surroundings
            .data_tmp_since
            .map(|since| self.now.duration_since(since))
            .filter(|age| age.as_secs() >= LEFTOVER_SECONDS);
        let finding = match old {
            Some(age) => Finding::Warned(format!(
                "..data_tmp is there, {} old: a write was interrupted before its swap",
                span(age)
            )),
            None => Finding::Passed("no write was left half done".to_owned()),
        };
        self.record(CheckId::Leftovers, finding);
    }

    /// What `onRotate` names has heard of the generation; nothing is said where it names nothing.
    fn hooks(&mut self) {
        let Some(renewal) = self.renewal else {
            let why = "only the agent's record says how the hooks of onRotate stand, and there is \
                       none here: name its --state-dir";
            self.record(
                CheckId::Hooks,
                Finding::Skipped(Skip::Minor, why.to_owned()),
            );
            return;
        };
        if let Some(error) = &renewal.hooks_error {
            self.warned(
                CheckId::Hooks,
                &format!("nobody knows whether the hooks of onRotate have succeeded: {error}"),
            );
            return;
        }
        let hooks = &renewal.hooks;
        let current = self.evidence.generation.as_ref();
        let is_current = |name: &str| current.is_some_and(|current| current.name == name);
        let finding = match (&hooks.failing, hooks.done.as_deref()) {
            (Some(failing), _) if is_current(&failing.generation) => {
                let errors = std::iter::once(&failing.error).chain(&failing.others);
                let errors: Vec<_> = errors.map(String::as_str).collect();
                let subject = match errors.len() {
                    1 => "a hook of onRotate has".to_owned(),
                    more => format!("{more} hooks of onRotate have"),
                };
                Finding::Warned(clean(&format!(
                    "{subject} failed {} since {}, so a program may still use the certificate \
                     before: {}",
                    times(failing.attempts),
                    failing.since.strftime("%Y-%m-%dT%H:%M:%SZ"),
                    errors.join("; ")
                )))
            }
            (_, Some(done)) if is_current(done) => {
                Finding::Passed("every hook of onRotate has succeeded".to_owned())
            }
            (None, None) => return,
            _ => Finding::Skipped(
                Skip::Minor,
                "the hooks of onRotate were not run yet for this generation".to_owned(),
            ),
        };
        self.record(CheckId::Hooks, finding);
    }

    pub(super) fn record(&mut self, id: CheckId, finding: Finding) {
        self.found.record(id, finding);
    }

    pub(super) fn passed(&mut self, id: CheckId, detail: &str) {
        self.found.passed(id, detail);
    }

    pub(super) fn failed(&mut self, id: CheckId, detail: &str) {
        self.found.failed(id, detail);
    }

    pub(super) fn warned(&mut self, id: CheckId, detail: &str) {
        self.found.warned(id, detail);
    }
}

fn times(count: u32) -> String {
    match count {
        1 => "once".to_owned(),
        more => format!("{more} times"),
    }
}

/// What to say of a file that has no content.
pub(super) fn no_content(name: &str, problem: &FileProblem) -> Finding {
    let message = clean(&format!("{name}: {problem}"));
    match problem {
        FileProblem::Denied | FileProblem::NotReadable(_) | FileProblem::Io(_) => {
            Finding::Skipped(Skip::Unable, message)
        }
        _ => Finding::Failed(message),
    }
}

/// What is wrong with a list of certificates. The PEM reader's own words are left out: they may
/// quote the file, and whoever mixed up two files would see the key.
pub(super) fn certificate_problem(error: &CertificateError) -> String {
    match error {
        CertificateError::Pem { .. } => "the PEM text is broken".to_owned(),
        error => error.to_string(),
    }
}

/// As [`certificate_problem`], for a chain.
pub(in crate::inspect) fn chain_problem(error: &ChainError) -> String {
    match error {
        ChainError::Certificate(error) => certificate_problem(error),
        error => error.to_string(),
    }
}

/// The moment in a generation's name.
fn written_at(generation: &str) -> Option<Timestamp> {
    if !layout::is_generation(generation) {
        return None;
    }
    // The digits behind the dot are nanoseconds, or a random number where kubelet wrote it.
    let (stamp, _) = generation.strip_prefix("..")?.split_once('.')?;
    let civil = DateTime::strptime("%Y_%m_%d_%H_%M_%S", stamp).ok()?;
    TimeZone::UTC.to_timestamp(civil).ok()
}
