//! `certagent inspect`: what is wrong with a directory, a pool, a configuration or a node, and what
//! to do about it.
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use certagent_core::{
    config::{Config, Settings},
    request::SubjectMode,
};
use certagent_csi::paths::Places;
use certagent_svid::{SpiffeId, TrustDomain};

use super::{UsageError, block_on, endpoint, identity};
use crate::{
    cas::CasClient,
    cli::{
        CaArgs, DriverArgs, ExchangeArgs, Exit, InspectArgs, InspectConfigArgs, InspectNodeArgs,
        InspectPodArgs, InspectPoolArgs, InspectSubject, Output, WaitArgs, print,
    },
    clock::SharedClock,
    config::{BadConfig, ConfigFiles},
    google::{Caller, IdentityMode, SubjectToken},
    inspect::{self, ClusterWanted, NodeWanted, PodWanted, RenewalHint, Wanted},
    kube::{self, Tokens},
    trust::{Distrust, EndpointClient, Sources},
    volume::{StateDir, VolumeId},
};

/// Inspects, prints, and gives the verdict as exit code.
pub(super) fn inspect(args: Box<InspectArgs>, clock: SharedClock) -> Result<Exit> {
    let InspectArgs {
        subject,
        dir,
        output,
        state_dir,
        distrust,
    } = *args;
    match (subject, dir) {
        (Some(InspectSubject::Pool(args)), _) => block_on(pool(args, clock)),
        (Some(InspectSubject::Config(args)), _) => block_on(config(args, clock)),
        (Some(InspectSubject::Node(args)), _) => block_on(node(args, clock)),
        (Some(InspectSubject::Pod(args)), _) => block_on(pod(args, clock)),
        (None, Some(dir)) => {
            let (renewal, known) = known(&dir, state_dir.as_deref());
            let distrust = known.iter().copied().chain(distrust).collect();
            let report = inspect::directory(&dir, clock.now(), renewal.as_ref(), &distrust);
            let code = report.exit_code();
            finish(output, code, || report.to_text(), || report.to_json())
        }
        (None, None) => Err(UsageError("name a directory".to_owned()).into()),
    }
}

/// `certagent inspect pool`.
async fn pool(args: InspectPoolArgs, clock: SharedClock) -> Result<Exit> {
    let token_file = args.token_file.as_deref();
    let reach = Reach::new(&args.ca, &args.exchange, token_file, true, &clock)?;
    let wanted = wanted(&args)?;
    let report = inspect::pool(
        &reach.sources.pools,
        &args.pool,
        &wanted,
        &reach.caller,
        &clock,
    )
    .await;
    let code = report.exit_code();
    finish(args.output, code, || report.to_text(), || report.to_json())
}

/// `certagent inspect config --cluster`.
async fn cluster_config(args: InspectConfigArgs, clock: SharedClock) -> Result<Exit> {
    let identity = args.ca.identity;
    let wanted = ClusterWanted {
        signer: args.signer_name,
        settings: Settings {
            lift_minimums: args.lift_minimums,
            trust_domain: args.trust_domain,
            subject_mode: Some(identity.map_or(SubjectMode::Default, IdentityMode::subject_mode)),
            workload: None,
        },
        by_controller: identity.is_none(),
    };
    let client = kube::persons_client(args.kubeconfig.as_deref()).await;
    let client = client.map_err(|error| error.to_string());
    let report = inspect::cluster_config(&wanted, client, &clock).await;
    let code = report.exit_code();
    finish(args.output, code, || report.to_text(), || report.to_json())
}

/// `certagent inspect config`.
async fn config(args: InspectConfigArgs, clock: SharedClock) -> Result<Exit> {
    if args.cluster {
        return cluster_config(args, clock).await;
    }
    let settings = Settings {
        lift_minimums: args.lift_minimums,
        trust_domain: args.trust_domain,
        subject_mode: args.ca.identity.map(IdentityMode::subject_mode),
        workload: None,
    };
    let found = ConfigFiles::new(args.paths.clone(), settings.clone()).load();
    let first = found
        .config
        .as_ref()
        .and_then(|config| config.workloads.first());
    let token_file = first.and_then(|workload| workload.token_file.as_deref());
    let token_file = token_file.map(Path::new);
    let is_asked = found.config.is_some();
    let reach = Reach::new(&args.ca, &args.exchange, token_file, is_asked, &clock)?;
    let report = inspect::config(
        &reach.sources,
        &args.paths,
        &found,
        &settings,
        &reach.caller,
        &clock,
    )
    .await;
    let code = report.exit_code();
    finish(args.output, code, || report.to_text(), || report.to_json())
}

/// `certagent inspect node`.
async fn node(args: InspectNodeArgs, clock: SharedClock) -> Result<Exit> {
    let DriverArgs {
        driver_name,
        kubelet_root,
        config,
        kubeconfig,
        adopt_foreign_objects,
    } = args.driver;
    let tokens = args.token_audience.map_or(Tokens::NotNeeded, Tokens::For);
    let settings = Settings {
        lift_minimums: args.lift_minimums,
        trust_domain: args.trust_domain,
        // As `node_flags` takes it: tokens go with names that the CA reflects.
        subject_mode: Some(match tokens {
            Tokens::NotNeeded => SubjectMode::Default,
            Tokens::For(_) => SubjectMode::ReflectedSpiffe,
        }),
        workload: None,
    };
    let wanted = NodeWanted {
        driver: driver_name.to_string(),
        places: Places::new(kubelet_root, driver_name),
        tokens,
        node: args.node_name,
        admin: args.admin,
        adopt_foreign: adopt_foreign_objects,
        files: (!config.is_empty()).then(|| ConfigFiles::new(config, settings.clone())),
        settings,
    };
    let client = kube::client(kubeconfig.as_deref()).await;
    let client = client.map_err(|error| error.to_string());
    let report = inspect::node(&wanted, client, &clock).await;
    let code = report.exit_code();
    finish(args.output, code, || report.to_text(), || report.to_json())
}

/// `certagent inspect pod`.
async fn pod(args: InspectPodArgs, clock: SharedClock) -> Result<Exit> {
    let wanted = PodWanted {
        namespace: args.pod.namespace,
        name: args.pod.name,
        driver: args.driver_name.to_string(),
        signer: args.signer_name,
        trust_domain: args.trust_domain,
    };
    let client = kube::persons_client(args.kubeconfig.as_deref()).await;
    let client = client.map_err(|error| error.to_string());
    let report = inspect::pod(&wanted, client, &clock).await;
    let code = report.exit_code();
    finish(args.output, code, || report.to_text(), || report.to_json())
}

/// Who is asked, and as whom.
struct Reach {
    sources: Sources,
    caller: Caller,
}

impl Reach {
    /// As `run` would be told. With `--identity reflected` everything is asked as the workload of
    /// `token_file`.
    fn new(
        ca: &CaArgs,
        exchange: &ExchangeArgs,
        token_file: Option<&Path>,
        is_asked: bool,
        clock: &SharedClock,
    ) -> Result<Self> {
        let endpoint = endpoint(ca)?;
        let choice = identity::choice(ca, &endpoint, exchange)?;
        let roots = identity::roots(ca, &endpoint, &choice)?;
        let file: Option<Arc<Path>> = token_file.map(Arc::from);
        let caller = match (choice.mode(), &file) {
            (IdentityMode::Reflected, Some(file)) => {
                Caller::Workload(SubjectToken::File(Arc::clone(file)))
            }
            // Without a configuration nothing is asked, and its own problems are told.
            (IdentityMode::Reflected, None) if !is_asked => Caller::Agent,
            (IdentityMode::Reflected, None) => {
                return Err(UsageError(
                    "--identity reflected asks as a workload: name the file with its token by \
                     --token-file, or by tokenFile in its document"
                        .to_owned(),
                )
                .into());
            }
            (IdentityMode::None | IdentityMode::Direct, _) => Caller::Agent,
        };
        let tokens: Vec<_> = file.into_iter().map(SubjectToken::File).collect();
        let identity = choice.identity(&roots, clock, Arc::new(move || tokens.clone()))?;
        let client = CasClient::with_roots(&endpoint, &roots, identity);
        Ok(Self {
            sources: Sources {
                pools: client.context("cannot call CA Service")?,
                endpoints: EndpointClient::new(&roots)?,
            },
            caller,
        })
    }
}

/// Prints the report in one of its forms.
fn finish(
    output: Output,
    code: u8,
    text: impl FnOnce() -> String,
    json: impl FnOnce() -> String,
) -> Result<Exit> {
    print::stdout(&match output {
        Output::Text => text(),
        Output::Json => json(),
    })?;
    Ok(match code {
        0 => Exit::Ok,
        1 => Exit::Problem,
        _ => Exit::NotChecked,
    })
}

/// What the pool is asked for.
fn wanted(args: &InspectPoolArgs) -> Result<Wanted> {
    let subject_mode = args.ca.identity.map(IdentityMode::subject_mode);
    let settings = Settings {
        subject_mode,
        ..Settings::default()
    };
    let given = args.spiffe_id.as_ref();
    if args.config.is_empty() {
        let spiffe_id = given.cloned().or_else(|| stand_in(args.pool.project()));
        let mode = subject_mode.unwrap_or_default();
        return spiffe_id
            .map(|id| Wanted::unconfigured(id, mode))
            .ok_or_else(|| {
                let project = args.pool.project();
                UsageError(format!(
                    "the project {project} makes no trust domain; name the identity to ask for by \
                 --spiffe-id"
                ))
                .into()
            });
    }
    let found = ConfigFiles::new(args.config.clone(), settings.clone()).load();
    let config: Config = found.config.ok_or(BadConfig {
        problems: found.problems,
    })?;
    Wanted::configured(&config, &args.config, &settings, given).context("no identity to ask for")
}

/// An identity in the trust domain that GKE gives the clusters of a project.
fn stand_in(project: &str) -> Option<SpiffeId> {
    let trust_domain = TrustDomain::new(format!("{project}.svc.id.goog")).ok()?;
    Wanted::stand_in(&trust_domain)
}

/// `certagent wait`: until the directory holds a valid credential.
pub(super) async fn wait(args: WaitArgs, clock: SharedClock) -> Result<Exit> {
    super::wait::wait(&args.dir, args.timeout, clock).await?;
    Ok(Exit::Ok)
}

/// What the agent's record of the volume says, and which roots the agent distrusts, where they can
/// be found: in the state directory that was named, in the usual one, or in the quickstart's
/// beside the volume.
fn known(volume: &Path, state_dir: Option<&Path>) -> (Option<RenewalHint>, Distrust) {
    let Ok(canonical) = volume.canonicalize() else {
        return (None, Distrust::default());
    };
    let id = VolumeId::of(&canonical);
    let usual = StateDir::default_location(None, |name| std::env::var_os(name)).ok();
    let quickstart = canonical.parent().map(|parent| parent.join("state"));
    let candidates: Vec<PathBuf> = match state_dir {
        Some(named) => vec![named.to_owned()],
        None => usual.into_iter().chain(quickstart).collect(),
    };
    let found = candidates.iter().find_map(|state| {
        let record = StateDir::peek_record(state, &id).ok().flatten()?;
        let hooks = StateDir::peek_hooks(state, &id).map_err(|error| error.to_string());
        Some((record, hooks, StateDir::peek_distrust(state)))
    });
    let Some((record, hooks, distrust)) = found else {
        return (None, Distrust::default());
    };
    let hint = RenewalHint::of(&record, &id).map(|hint| hint.with_hooks(hooks));
    (hint, distrust)
}
