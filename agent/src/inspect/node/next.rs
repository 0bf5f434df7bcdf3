//! What to do next about a node's driver: lines to paste into a shell, the most useful first.
use super::{
    super::{
        report::{Finding, NextStep, Skip},
        text::shell_word,
    },
    facts::Wanted,
    report::{Check, CheckId, Evidence},
    volume::{State, Volume},
};
use crate::kube::{Kind, Tokens};

/// The pods of `deploy/node.yaml`.
const PODS: &str =
    "--namespace certagent-system get pods --selector app.kubernetes.io/name=certagent-node";

/// The next steps for a cause.
pub(super) fn steps(wanted: &Wanted, cause: &Check, evidence: &Evidence) -> Vec<NextStep> {
    let is_unseen = matches!(cause.finding, Finding::Skipped(Skip::Unable, _));
    let root = wanted.places.root().to_string_lossy();
    let driver = shell_word(&wanted.driver);
    match cause.id {
        CheckId::Places | CheckId::Socket | CheckId::Announcement | CheckId::Volumes
            if is_unseen =>
        {
            vec![NextStep::new(
                "again, as root",
                &format!("sudo certagent inspect node{}", flags(wanted)),
            )]
        }
        CheckId::Registered if is_unseen => vec![NextStep::new(
            "does kubelet list the driver?",
            &format!("kubectl get csinode {} --output yaml", node(wanted)),
        )],
        CheckId::ApiServer => vec![
            NextStep::new("does the API server answer?", "kubectl get --raw /readyz"),
            NextStep::new(
                "again, by a kubeconfig that works here",
                &format!("certagent inspect node{} --kubeconfig FILE", flags(wanted)),
            ),
        ],
        CheckId::Definitions | CheckId::DriverObject | CheckId::Objects if is_unseen => {
            vec![NextStep::new(
                "what the driver may read is in this manifest",
                "kubectl apply -f deploy/node.yaml",
            )]
        }
        CheckId::Places | CheckId::Volumes => vec![
            NextStep::new(
                "what is there?",
                &format!(
                    "ls -ld {root} {root}/pods {root}/plugins/{driver}",
                    root = shell_word(&root)
                ),
            ),
            pods(wanted),
        ],
        CheckId::SharedMounts => vec![
            NextStep::new(
                "how are they mounted here?",
                &format!(
                    "findmnt --output TARGET,FSTYPE,PROPAGATION --target {}",
                    shell_word(&wanted.places.pods().to_string_lossy())
                ),
            ),
            NextStep::new(
                "the manifest mounts both into the driver's container with Bidirectional",
                "kubectl apply -f deploy/node.yaml",
            ),
        ],
        CheckId::Socket => vec![pods(wanted), logs(wanted, None)],
        CheckId::Announcement => vec![
            NextStep::new(
                "who is announced?",
                &format!(
                    "ls -la {}",
                    shell_word(&wanted.places.registry().to_string_lossy())
                ),
            ),
            logs(wanted, None),
        ],
        CheckId::Registered => vec![
            NextStep::new(
                "what does kubelet say?",
                &format!("journalctl --unit kubelet --since -1h | grep {driver}"),
            ),
            NextStep::new(
                "which drivers does it list?",
                &format!("kubectl get csinode {} --output yaml", node(wanted)),
            ),
        ],
        CheckId::Definitions => definitions(&driver),
        CheckId::DriverObject => vec![
            NextStep::new(
                "the object as it has to be; the API server forbids some changes, then delete it first",
                &format!("kubectl apply -f deploy/{}", manifest(&wanted.tokens)),
            ),
            NextStep::new(
                "as it is",
                &format!("kubectl get csidriver {driver} --output yaml"),
            ),
        ],
        CheckId::Objects => objects(wanted),
        CheckId::Credentials
        | CheckId::Bindings
        | CheckId::Waiting
        | CheckId::Renewals
        | CheckId::Records
        | CheckId::Leftovers => of_volume(wanted, cause.id, evidence),
    }
}

fn definitions(driver: &str) -> Vec<NextStep> {
    let names: Vec<_> = Kind::ALL.into_iter().map(Kind::definition).collect();
    vec![
        NextStep::new(
            "whose are they?",
            &format!("kubectl get crd {} --show-labels", names.join(" ")),
        ),
        NextStep::new(
            "and whose is the driver's object?",
            &format!("kubectl get csidriver {driver} --show-labels"),
        ),
    ]
}

fn objects(wanted: &Wanted) -> Vec<NextStep> {
    if let Some(files) = &wanted.files {
        let paths: Vec<_> = files
            .paths()
            .iter()
            .map(|path| shell_word(&path.to_string_lossy()))
            .collect();
        return vec![NextStep::new(
            "everything that is wrong, again after each edit",
            &format!("certagent validate {}", paths.join(" ")),
        )];
    }
    let show = |kind: Kind| {
        let command = format!("kubectl get {} default --output yaml", kind.definition());
        NextStep::new(&format!("the {} as it is", kind.name()), &command)
    };
    Kind::ALL.into_iter().map(show).collect()
}

/// About the first of the volumes that are the cause.
fn of_volume(wanted: &Wanted, id: CheckId, evidence: &Evidence) -> Vec<NextStep> {
    let is_it = |volume: &&Volume| match id {
        CheckId::Credentials => volume.state <= State::NoCredential,
        CheckId::Bindings => volume.state == State::Unbound,
        CheckId::Waiting => volume.state == State::Waiting,
        CheckId::Renewals => volume.state == State::Overdue,
        CheckId::Records => volume.record_problem.is_some(),
        _ => matches!(volume.state, State::Unmounted | State::LeftOver),
    };
    let Some(volume) = evidence.volumes.iter().find(is_it) else {
        return vec![pods(wanted)];
    };
    let mut steps = Vec::new();
    let named = volume.pod.as_ref();
    let named = named.and_then(|pod| pod.namespace.as_deref().zip(pod.name.as_deref()));
    if let Some((namespace, name)) = named {
        let (namespace, name) = (shell_word(namespace), shell_word(name));
        if id == CheckId::Bindings {
            steps.push(NextStep::new(
                "a pod that is made anew gets its volume; what owns it makes it",
                &format!("kubectl --namespace {namespace} delete pod {name}"),
            ));
        }
        steps.push(NextStep::new(
            "what do the pod's events say?",
            &format!(
                "kubectl --namespace {namespace} get events --field-selector involvedObject.name={name}"
            ),
        ));
    }
    if let Some(target) = volume
        .targets
        .first()
        .filter(|_| id == CheckId::Credentials)
    {
        steps.push(NextStep::new(
            "what is wrong with what the pod has?",
            &format!(
                "certagent inspect {}",
                shell_word(&target.to_string_lossy())
            ),
        ));
    }
    let about = volume.spiffe_id.as_deref().unwrap_or(&volume.id);
    steps.push(logs(wanted, Some(about)));
    if let (CheckId::Credentials | CheckId::Waiting | CheckId::Renewals, Some(pool)) =
        (id, evidence.pools.first())
    {
        steps.push(NextStep::new(
            "would the pool issue? with the flags by which the driver reaches it",
            &format!("certagent inspect pool {}", shell_word(pool)),
        ));
    }
    steps
}

fn manifest(tokens: &Tokens) -> &'static str {
    match tokens {
        Tokens::NotNeeded => "csidriver.yaml",
        Tokens::For(_) => "csidriver-reflected.yaml",
    }
}

fn node(wanted: &Wanted) -> String {
    shell_word(wanted.node.as_deref().unwrap_or("NODE"))
}

fn pods(wanted: &Wanted) -> NextStep {
    NextStep::new(
        "does the driver's pod run on this node?",
        &format!(
            "kubectl {PODS} --field-selector spec.nodeName={} --output wide",
            node(wanted)
        ),
    )
}

fn logs(wanted: &Wanted, about: Option<&str>) -> NextStep {
    let about = about.map_or_else(String::new, |about| {
        format!(" | grep --fixed-strings -- {}", shell_word(about))
    });
    NextStep::new(
        "what does the driver's log say?",
        &format!(
            "kubectl --namespace certagent-system logs --tail=-1 $(kubectl {PODS} \
             --field-selector spec.nodeName={} --output name){about}",
            node(wanted)
        ),
    )
}

/// The flags that say which driver is meant.
fn flags(wanted: &Wanted) -> String {
    format!(
        " --driver-name {} --kubelet-root {}",
        shell_word(&wanted.driver),
        shell_word(&wanted.places.root().to_string_lossy())
    )
}
