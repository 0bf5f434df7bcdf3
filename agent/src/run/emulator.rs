//! `certagent emulator`: CA pools on loopback, as a server of its own.
use std::{path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result};
use certagent_core::{
    algorithm::KeyAlgorithm,
    config::{GuideParams, render_trust_config, render_workload_certificate_config},
    pool::CaPoolName,
};
use certagent_emulator::{
    CaKey, Emulator, EmulatorConfig, ISSUING_POOL_ID, PoolName, ROOT_POOL_ID, Tier, check_loopback,
    system_clock,
};
use certagent_svid::TrustDomain;
use tokio::net::TcpListener;

use super::UsageError;
use crate::{
    cli::{EmulatorArgs, Exit, print},
    shutdown,
};

/// The project and location of pools whose names nobody chose.
pub(super) const PROJECT: &str = "demo-project";
pub(super) const LOCATION: &str = "us-central1";

/// Serves the pools until a signal comes.
pub(super) async fn run(args: EmulatorArgs) -> Result<Exit> {
    check_loopback(args.listen).map_err(|error| UsageError(format!("--listen: {error}")))?;
    let config = EmulatorConfig::guide(&args.project, &args.location)
        .map_err(|error| UsageError(format!("--project, --location: {error}")))?
        .with_ca_key(ca_key(args.ca_key_algorithm));
    let params = guide_params(&args.project, &args.location)
        .map_err(|error| UsageError(format!("--project, --location: {error:#}")))?;

    let cancel = shutdown::on_signals().context("cannot wait for signals")?;
    // Before the keys are made: a port that is taken is found at once.
    let listener = TcpListener::bind(args.listen).await.with_context(|| {
        format!(
            "cannot listen on {}; choose another port, or port 0 for a free one",
            args.listen
        )
    })?;
    let address = listener.local_addr()?;
    let emulator = build(config, args.state).await?;
    print::stdout(&introduction(
        &emulator,
        &params,
        &format!("http://{address}"),
    ))?;
    certagent_emulator::serve(emulator, listener, cancel.cancelled_owned()).await?;
    Ok(Exit::Ok)
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

/// All of it is YAML, so that it can be piped into the file that `run` reads.
fn introduction(emulator: &Emulator, params: &GuideParams, endpoint: &str) -> String {
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
    let pools = pools.concat();
    let (certificates, trust) = (
        render_workload_certificate_config(params),
        render_trust_config(params),
    );
    format!(
        "\
# certagent emulator at {endpoint}: it signs for everybody who reaches it, never use it in production.
# Its CA pools:
{pools}#
# Below are the two objects that fit them. Save all of this as objects.yaml, and then:
#   certagent run --config objects.yaml --ca-endpoint {endpoint} \\
#       --volume VOLUME-DIRECTORY --namespace default --service-account demo
# (with --allow-disk if the directories are not on a tmpfs). Ctrl-C ends the emulator.
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
        let text = introduction(&emulator, &params, "http://127.0.0.1:1");
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
