//! `certagent emulator`: CA pools on loopback, as a server of its own.
use std::{
    fmt::Display,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, anyhow};
use certagent_core::{
    algorithm::KeyAlgorithm,
    config::{GuideParams, render_trust_config, render_workload_certificate_config},
    pool::CaPoolName,
};
use certagent_emulator::{
    CaKey, Emulator, EmulatorConfig, ISSUING_POOL_ID, IdentityConfig, PoolName, Quotas,
    ROOT_POOL_ID, ServeOptions, Tier, check_loopback, system_clock,
};
use certagent_svid::TrustDomain;
use tokio::net::TcpListener;

use super::UsageError;
use crate::{
    cli::{EmulatorArgs, Exit, QuotaMode, print},
    shutdown, small_file,
};

/// The project and location of pools whose names nobody chose.
pub(super) const PROJECT: &str = "demo-project";
pub(super) const LOCATION: &str = "us-central1";

/// The largest file of identities that is read, in bytes.
const LARGEST_FILE: usize = 1 << 20;

/// Where to see what is written there.
const EXAMPLE: &str = "of which docs/emulator.md has an example";

/// What is wrong with identities that let everybody in.
const NOBODY: &str = "it names no caller, and so every caller would be an administrator; add users, \
                      serviceAccounts or providers (docs/emulator.md has an example), or leave \
                      --identities out to let everybody in";

/// Serves the pools until a signal comes.
pub(super) async fn run(args: EmulatorArgs) -> Result<Exit> {
    if !args.allow_remote_callers {
        check_loopback(args.listen).map_err(|error| {
            UsageError(format!("--listen: {error}, or say --allow-remote-callers"))
        })?;
    }
    let (config, params) = pools(&args)?;
    let callers = identities(args.identities.as_deref())?;
    let config = EmulatorConfig {
        quotas: quotas(args.quotas),
        identities: callers.clone(),
        ..config
    };

    let cancel = shutdown::on_signals().context("cannot wait for signals")?;
    // Before the keys are made: a port that is taken is found at once.
    let listener = TcpListener::bind(args.listen).await.with_context(|| {
        format!(
            "cannot listen on {}; choose another port, or port 0 for a free one",
            args.listen
        )
    })?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let emulator = build(config, args.state).await?;
    let banner = banner(&emulator, &endpoint, &callers);
    print::stdout(&match &params {
        Some(params) => banner + &objects(params, &endpoint, &callers),
        None => banner,
    })?;
    let options = ServeOptions {
        allow_remote: args.allow_remote_callers,
    };
    certagent_emulator::serve_with(emulator, listener, options, cancel.cancelled_owned()).await?;
    Ok(Exit::Ok)
}

/// The pools to begin with, and what fits them.
fn pools(args: &EmulatorArgs) -> Result<(EmulatorConfig, Option<GuideParams>), UsageError> {
    if args.empty {
        return Ok((EmulatorConfig::default(), None));
    }
    let wrong = |error: &dyn Display| UsageError(format!("--project, --location: {error:#}"));
    let config =
        EmulatorConfig::guide(&args.project, &args.location).map_err(|error| wrong(&error))?;
    let params = guide_params(&args.project, &args.location).map_err(|error| wrong(&error))?;
    Ok((
        config.with_ca_key(ca_key(args.ca_key_algorithm)),
        Some(params),
    ))
}

fn quotas(mode: QuotaMode) -> Quotas {
    match mode {
        QuotaMode::Service => Quotas::Service { retry_info: true },
        QuotaMode::ServiceWithoutRetryInfo => Quotas::Service { retry_info: false },
        QuotaMode::Off => Quotas::Off,
    }
}

/// Who may call. What is wrong with the file is told by its field; of its content nothing is said,
/// because it may hold tokens.
fn identities(path: Option<&Path>) -> Result<IdentityConfig> {
    let Some(path) = path else {
        return Ok(IdentityConfig::default());
    };
    let named = || format!("--identities: {}", path.display());
    let unread = |error: String| anyhow!("{error}; name a file in YAML or JSON, {EXAMPLE}");
    let bytes = small_file::read(path, LARGEST_FILE)
        .map_err(|error| unread(error.to_string()))
        .with_context(named)?;
    let text = str::from_utf8(&bytes)
        .map_err(|error| unread(format!("it is no text: {error}")))
        .with_context(named)?;
    let config: IdentityConfig = serde_saphyr::from_str(text)
        .map_err(|error| anyhow!(misread(&error)))
        .with_context(named)?;
    config.validate().with_context(named)?;
    // Who says --identities does not mean everybody.
    if config.is_open() {
        return Err(anyhow!(NOBODY)).with_context(named);
    }
    Ok(config)
}

/// Where and why a file cannot be understood, without any value of it.
fn misread(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error;
    let error = error.without_snippet();
    let place = error.location().map_or_else(String::new, |at| {
        format!("line {}, column {}: ", at.line(), at.column())
    });
    let what = match error {
        Error::SerdeUnknownField {
            field, expected, ..
        } => {
            format!("unknown field {field:?}; known are {}", expected.join(", "))
        }
        Error::SerdeMissingField { field, .. } => format!("the field {field:?} is missing"),
        _ => "this cannot be read as what belongs here; docs/emulator.md has an example".to_owned(),
    };
    place + &what
}

/// The pools, off the runtime: RSA keys take seconds.
pub(super) async fn build(config: EmulatorConfig, state: Option<PathBuf>) -> Result<Arc<Emulator>> {
    let work = move || Emulator::new(config, system_clock(), state.as_deref());
    let emulator = tokio::task::spawn_blocking(work)
        .await
        .context("the embedded CA was stopped")?;
    emulator.context("the embedded CA cannot start")
}

/// Objects for the pools of [`EmulatorConfig::guide`], with the guide's own values.
pub(super) fn guide_params(project: &str, location: &str) -> Result<GuideParams> {
    let pool =
        |id| -> Result<CaPoolName> { Ok(PoolName::new(project, location, id)?.uri().parse()?) };
    // A project of an organisation, `example.com:name`, has the workload pool
    // `name.example.com.svc.id.goog`.
    let domain = match project.split_once(':') {
        Some((organisation, name)) => format!("{name}.{organisation}.svc.id.goog"),
        None => format!("{project}.svc.id.goog"),
    };
    Ok(GuideParams {
        issuing_pool: pool(ISSUING_POOL_ID)?,
        fallback_pools: Vec::new(),
        root_pools: vec![pool(ROOT_POOL_ID)?],
        trust_domain: TrustDomain::new(&domain)
            .with_context(|| format!("the project makes no trust domain: {domain}"))?,
        algorithm: KeyAlgorithm::EcdsaP256,
        validity_seconds: 86_400,
        rotation_window_percentage: 50,
    })
}

fn ca_key(algorithm: KeyAlgorithm) -> CaKey {
    match algorithm {
        KeyAlgorithm::EcdsaP256 => CaKey::EcP256,
        KeyAlgorithm::EcdsaP384 => CaKey::EcP384,
        KeyAlgorithm::Rsa2048 => CaKey::Rsa2048,
        KeyAlgorithm::Rsa3072 => CaKey::Rsa3072,
        KeyAlgorithm::Rsa4096 => CaKey::Rsa4096,
    }
}

/// What is served, as a comment of YAML: with the objects after it, all of it can be piped into the
/// file that `run` reads.
fn banner(emulator: &Emulator, endpoint: &str, callers: &IdentityConfig) -> String {
    let pools: Vec<_> = emulator
        .pools()
        .map(|(name, tier)| {
            let tier = match tier {
                Tier::Enterprise => "ENTERPRISE",
                Tier::Devops => "DEVOPS",
            };
            format!("#   {}  ({tier})\n", name.uri())
        })
        .collect();
    let pools = if pools.is_empty() {
        "# It has no CA pools yet: make them over its API, with gcloud for example.\n".to_owned()
    } else {
        format!("# Its CA pools:\n{}", pools.concat())
    };
    let whom = if callers.is_open() {
        "everybody who reaches it"
    } else {
        "nobody but the callers of --identities"
    };
    let metadata = callers.metadata_server.as_ref().map(|server| {
        let account = &server.service_account;
        format!("# Its metadata server gives everybody who reaches it the tokens of {account}.\n")
    });
    let metadata = metadata.unwrap_or_default();
    format!(
        "\
# certagent emulator at {endpoint}: it signs for {whom}, never use it in production.
{metadata}{pools}#
"
    )
}

fn objects(params: &GuideParams, endpoint: &str, callers: &IdentityConfig) -> String {
    let identity = if callers.is_open() {
        ""
    } else {
        "# (with --identity, which says as which caller: docs/emulator.md has examples)\n"
    };
    let (certificates, trust) = (
        render_workload_certificate_config(params),
        render_trust_config(params),
    );
    format!(
        "\
# Below are the two objects that fit them. Save all of this as objects.yaml, and then:
#   certagent run --config objects.yaml --ca-endpoint {endpoint} \\
#       --volume VOLUME-DIRECTORY --namespace default --service-account demo
{identity}# (with --allow-disk if the directories are not on a tmpfs). Ctrl-C ends the emulator.
{certificates}---
{trust}"
    )
}

#[cfg(test)]
mod tests {
    use certagent_core::config::{self, Settings, Source};

    use super::*;

    #[tokio::test]
    async fn what_the_emulator_prints_is_a_valid_configuration_for_its_pools() {
        let config = EmulatorConfig::guide("example.com:project-1", "us-central1").unwrap();
        let emulator = build(config, None).await.unwrap();
        let params = guide_params("example.com:project-1", "us-central1").unwrap();
        let endpoint = "http://127.0.0.1:1";
        let callers = IdentityConfig::default();
        let text = banner(&emulator, endpoint, &callers) + &objects(&params, endpoint, &callers);
        let source = Source {
            name: "objects.yaml".to_owned(),
            text,
        };
        let loaded = config::load(&[source], &Settings::default());
        assert_eq!(loaded.problems, []);
        let config = loaded.config.unwrap();
        let pool = &config.certificates.pools[0];
        assert!(
            emulator
                .pools()
                .any(|(name, _)| name.uri() == pool.to_string())
        );
        assert!(
            config
                .trust
                .stores
                .keys()
                .any(|name| name.as_str() == "project-1.example.com.svc.id.goog")
        );
    }
}
