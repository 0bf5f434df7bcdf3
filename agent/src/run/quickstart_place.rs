//! The directory of a quickstart, and the objects in it.
use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use certagent_core::config::{
    self, GuideParams, Settings, Source, WorkloadSpec, WorkloadVolumeSpec, render_trust_config,
    render_workload_certificate_config,
};

use super::{
    UsageError,
    emulator::{self, LOCATION, PROJECT},
};
use crate::{cli::QuickstartArgs, config::ConfigFiles};

const CERTIFICATES: &str = "WorkloadCertificateConfig.yaml";
const TRUST: &str = "TrustConfig.yaml";

/// What the objects say if no flag says otherwise: everything happens within a minute.
const VALIDITY_SECONDS: u64 = 60;

/// The directory of a quickstart.
pub(super) struct Place {
    dir: PathBuf,
}

impl Place {
    /// Makes what is missing. A directory with other things in it is refused.
    pub(super) fn prepare(dir: &Path) -> Result<Self> {
        let place = Self {
            dir: std::path::absolute(dir)?,
        };
        let failed = |path: &Path| {
            format!(
                "cannot use {}; choose another directory with --dir",
                path.display()
            )
        };
        match fs::read_dir(dir) {
            Ok(mut entries) => {
                if entries.next().is_some() && !place.ca().is_dir() {
                    return Err(UsageError(format!(
                        "{} is not empty, and no quickstart made it; choose another directory with --dir",
                        dir.display()
                    ))
                    .into());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| failed(dir)),
        }
        for (path, mode) in [
            (place.dir.clone(), 0o755),
            (place.ca(), 0o700),
            (place.config(), 0o755),
            (place.volume(), 0o755),
            (place.state(), 0o700),
        ] {
            let made = fs::DirBuilder::new()
                .recursive(true)
                .mode(mode)
                .create(&path);
            made.with_context(|| failed(&path))?;
        }
        Ok(place)
    }

    /// The `WorkloadCertificateConfig`.
    pub(super) fn certificates(&self) -> PathBuf {
        self.config().join(CERTIFICATES)
    }

    pub(super) fn ca(&self) -> PathBuf {
        self.dir.join("ca")
    }

    pub(super) fn config(&self) -> PathBuf {
        self.dir.join("config")
    }

    pub(super) fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    pub(super) fn volume(&self) -> PathBuf {
        self.dir.join("volume")
    }
}

/// The one workload.
pub(super) fn settings(place: &Place, lift_minimums: bool) -> Settings {
    Settings {
        lift_minimums,
        trust_domain: None,
        subject_mode: None,
        workload: Some(WorkloadSpec {
            trust_domain: None,
            namespace: Some("default".to_owned()),
            service_account: Some("demo".to_owned()),
            token_file: None,
            volume: Some(WorkloadVolumeSpec {
                path: Some(place.volume().display().to_string()),
                allow_disk: Some(true),
                ..WorkloadVolumeSpec::default()
            }),
            ..WorkloadSpec::default()
        }),
    }
}

/// Writes the objects that are missing. Those that are there are the user's: they stay as they
/// are, unless a flag says otherwise. Gives a remark about that.
pub(super) fn write_objects(place: &Place, args: &QuickstartArgs) -> Result<Option<String>> {
    let (certificates, trust) = (place.certificates(), place.config().join(TRUST));
    let existing = existing(place, args)?;
    let before = existing.clone().unwrap_or(first_params()?);
    let wanted = with_flags(before.clone(), args);
    check(&wanted, args)?;
    write_if_missing(&trust, &render_trust_config(&wanted))?;
    write_if_missing(&certificates, &render_workload_certificate_config(&wanted))?;
    if existing.is_none() && !has_flags(args) || before == wanted {
        return Ok(None);
    }
    let text = render_workload_certificate_config(&wanted);
    if fs::read_to_string(&certificates).is_ok_and(|there| there == text) {
        return Ok(None);
    }
    let kept = certificates.with_extension("yaml.before");
    let replaced = fs::rename(&certificates, &kept).and_then(|()| fs::write(&certificates, text));
    replaced.with_context(|| format!("cannot write {}", certificates.display()))?;
    Ok(Some(format!(
        "The flags changed {}; the file as it was is {}.",
        certificates.display(),
        kept.display()
    )))
}

fn first_params() -> Result<GuideParams> {
    let params = emulator::guide_params(PROJECT, LOCATION)?;
    Ok(GuideParams {
        validity_seconds: VALIDITY_SECONDS,
        ..params
    })
}

/// What the objects of an earlier start say; none if there are none, or if they have errors.
fn existing(place: &Place, args: &QuickstartArgs) -> Result<Option<GuideParams>> {
    let files = ConfigFiles::new(vec![place.config()], settings(place, args.lift_minimums));
    let Some(config) = files.load().config else {
        return Ok(None);
    };
    let policy = config.certificates;
    let Some((issuing_pool, fallback_pools)) = policy.pools.split_first() else {
        return Ok(None);
    };
    Ok(Some(GuideParams {
        issuing_pool: issuing_pool.clone(),
        fallback_pools: fallback_pools.to_vec(),
        algorithm: policy.algorithm,
        validity_seconds: policy.validity.as_secs(),
        rotation_window_percentage: policy.rotation_window_percentage,
        ..first_params()?
    }))
}

fn has_flags(args: &QuickstartArgs) -> bool {
    args.key_algorithm.is_some() || args.validity.is_some() || args.rotation_window.is_some()
}

fn with_flags(params: GuideParams, args: &QuickstartArgs) -> GuideParams {
    GuideParams {
        algorithm: args.key_algorithm.unwrap_or(params.algorithm),
        validity_seconds: args
            .validity
            .map_or(params.validity_seconds, |validity| validity.as_secs()),
        rotation_window_percentage: args
            .rotation_window
            .unwrap_or(params.rotation_window_percentage),
        ..params
    }
}

/// Flags that break a rule are found before they are in a file.
fn check(params: &GuideParams, args: &QuickstartArgs) -> Result<()> {
    let source = |name: &str, text| Source {
        name: name.to_owned(),
        text,
    };
    let sources = [
        source(CERTIFICATES, render_workload_certificate_config(params)),
        source(TRUST, render_trust_config(params)),
    ];
    let settings = Settings {
        lift_minimums: args.lift_minimums,
        ..Settings::default()
    };
    let loaded = config::load(&sources, &settings);
    let Some(problem) = loaded.problems.iter().find(|problem| problem.is_error()) else {
        return Ok(());
    };
    let field = problem.field.as_deref().unwrap_or_default();
    let flag = match field.rsplit('.').next() {
        Some("validityDurationSeconds") => "--validity: ",
        Some("rotationWindowPercentage") => "--rotation-window: ",
        _ => "",
    };
    let allowed = problem
        .allowed
        .as_ref()
        .map_or_else(String::new, |allowed| format!(" (allowed: {allowed})"));
    Err(UsageError(format!("{flag}{field}: {}{allowed}", problem.message)).into())
}

fn write_if_missing(path: &Path, text: &str) -> Result<()> {
    match fs::File::create_new(path)
        .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()))
    {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        written => written.with_context(|| format!("cannot write {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use certagent_core::algorithm::KeyAlgorithm;
    use tempfile::TempDir;

    use super::*;

    fn args(dir: &Path) -> QuickstartArgs {
        QuickstartArgs {
            dir: dir.to_owned(),
            key_algorithm: None,
            validity: None,
            rotation_window: None,
            run_for: None,
            admin: None,
            lift_minimums: false,
        }
    }

    fn read(place: &Place) -> String {
        fs::read_to_string(place.certificates()).unwrap()
    }

    #[test]
    fn the_first_start_writes_the_guides_objects_with_a_minute_of_validity() {
        let dir = TempDir::new().unwrap();
        let args = args(&dir.path().join("new/quickstart"));
        let place = Place::prepare(&args.dir).unwrap();
        assert_eq!(write_objects(&place, &args).unwrap(), None);
        assert!(read(&place).contains("validityDurationSeconds: 60\n"));
        let found = ConfigFiles::new(vec![place.config()], settings(&place, false)).load();
        assert_eq!(found.problems, []);
        let config = found.config.unwrap();
        assert_eq!(
            config.workloads[0].volume.path,
            place.volume().display().to_string()
        );
    }

    #[test]
    fn a_second_start_keeps_the_users_edits_and_flags_change_only_what_they_name() {
        let dir = TempDir::new().unwrap();
        let mut args = args(&dir.path().join("quickstart"));
        let place = Place::prepare(&args.dir).unwrap();
        write_objects(&place, &args).unwrap();
        let edited =
            read(&place).replace("validityDurationSeconds: 60", "validityDurationSeconds: 90");
        fs::write(place.certificates(), format!("# mine\n{edited}")).unwrap();

        let place = Place::prepare(&args.dir).unwrap();
        assert_eq!(write_objects(&place, &args).unwrap(), None);
        assert!(read(&place).starts_with("# mine\n"));

        args.key_algorithm = Some(KeyAlgorithm::Rsa2048);
        let remark = write_objects(&place, &args).unwrap().unwrap();
        assert!(
            remark.contains("WorkloadCertificateConfig.yaml.before"),
            "{remark}"
        );
        assert!(read(&place).contains("modulusSize: 2048\n"));
        assert!(read(&place).contains("validityDurationSeconds: 90\n"));
        // The file as it was is not read as configuration.
        let found = ConfigFiles::new(vec![place.config()], settings(&place, false)).load();
        assert_eq!(found.problems, []);
        assert_eq!(write_objects(&place, &args).unwrap(), None);
    }

    #[test]
    fn flags_that_break_a_rule_are_refused_by_name_before_anything_is_written() {
        let dir = TempDir::new().unwrap();
        let mut args = args(&dir.path().join("quickstart"));
        let place = Place::prepare(&args.dir).unwrap();
        args.validity = Some(Duration::from_secs(20));
        let error = write_objects(&place, &args).unwrap_err();
        assert!(error.is::<UsageError>());
        assert!(error.to_string().starts_with("--validity: "), "{error}");
        args.validity = None;
        args.rotation_window = Some(100);
        let error = write_objects(&place, &args).unwrap_err();
        assert!(
            error.to_string().starts_with("--rotation-window: "),
            "{error}"
        );
        assert!(!place.certificates().exists());
    }

    #[test]
    fn a_directory_with_other_things_in_it_is_left_alone() {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("thesis.tex"), "").unwrap();
        let error = Place::prepare(dir.path()).err().unwrap();
        assert!(error.is::<UsageError>());
        assert!(error.to_string().contains("--dir"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
