//! What to do next: lines to paste into a shell, the most useful first.
use std::path::Path;

use certagent_svid::layout;

use super::{
    super::{
        report::{Finding, NextStep, Skip},
        text::shell_word,
    },
    report::{Check, CheckId, Evidence},
};

/// The next steps for a cause.
pub(super) fn steps(dir: &Path, cause: &Check, evidence: &Evidence) -> Vec<NextStep> {
    let directory = shell_word(&dir.to_string_lossy());
    if matches!(cause.finding, Finding::Skipped(Skip::Unable, _)) {
        return unseen(&directory, cause.id);
    }
    let file = |name: &str| shell_word(&dir.join(name).to_string_lossy());
    let [certificates, private_key] = if evidence.bundle_only {
        [layout::CREDENTIAL_BUNDLE; 2]
    } else {
        [layout::CERTIFICATES, layout::PRIVATE_KEY]
    }
    .map(file);
    let ca_certificates = file(layout::CA_CERTIFICATES);
    let agent = NextStep::new(
        "is the agent running? its log says why it did not write",
        AGENT,
    );
    let list = NextStep::new("what is there?", &format!("ls -la {directory}"));
    let chain = NextStep::new("what is in the chain?", &listed(&certificates));
    let roots = NextStep::new("which roots are there?", &listed(&ca_certificates));
    match cause.id {
        CheckId::Directory => vec![
            NextStep::new("what is there?", &format!("ls -ld {directory}")),
            NextStep::new(
                "is a volume mounted there?",
                &format!("findmnt --target {directory}"),
            ),
            agent,
        ],
        CheckId::Certificates | CheckId::PrivateKey
            if matches!(cause.finding, Finding::Failed(_)) =>
        {
            vec![list, agent]
        }
        CheckId::Generation | CheckId::Links | CheckId::CredentialBundle | CheckId::Leftovers => {
            vec![list, agent]
        }
        CheckId::Certificates | CheckId::ChainOrder => vec![chain, agent],
        CheckId::Svid => vec![NextStep::new(
            "what does the certificate say? the issuing pool's policy may have changed it",
            &format!("openssl x509 -in {certificates} -noout -text"),
        )],
        CheckId::PrivateKey => vec![NextStep::new(
            "whatever writes this file should write PKCS#8; this shows how, on standard output",
            &format!("openssl pkcs8 -topk8 -nocrypt -in {private_key} | head -n 1"),
        )],
        CheckId::KeyMatch => vec![
            NextStep::new(
                "the public key of the certificate",
                &format!("openssl x509 -in {certificates} -noout -pubkey | openssl sha256"),
            ),
            NextStep::new(
                "the public key of the private key",
                &format!("openssl pkey -in {private_key} -pubout | openssl sha256"),
            ),
            NextStep::new(
                "again: a directory without ..data is torn for a moment at each renewal",
                &format!("certagent inspect {directory}"),
            ),
        ],
        CheckId::Validity => vec![agent, NextStep::new("is this machine's clock right?", "date -u")],
        CheckId::Roots if evidence.distrusted_root.is_some() => vec![another_root(), agent],
        CheckId::Roots | CheckId::RootsValidity => vec![
            roots,
            NextStep::new("which roots does the configuration name?", VALIDATE),
        ],
        CheckId::ChainVerifies => vec![chain, roots, issuing_root()],
        CheckId::TrustBundles => vec![
            NextStep::new(
                "which trust domains does it have?",
                &format!(
                    "jq '.trust_domains | map_values(.keys | length)' {}",
                    file(layout::TRUST_BUNDLES)
                ),
            ),
            agent,
        ],
        CheckId::Names => other_names(agent),
        CheckId::Hooks => vec![hook_log()],
        CheckId::KeyMode => vec![NextStep::new(
            "set keyMode in the Workload (0640 by default); until the next renewal",
            // The sentence begins with the file's name.
            &format!(
                "chmod o-r {}",
                file(cause.finding.detail().split(' ').next().unwrap_or("*"))
            ),
        )],
        CheckId::KeyStorage => vec![NextStep::new(
            "which file system is it? put the volume on a tmpfs; if a disk is meant, name the agent's --state-dir here",
            &format!("findmnt --target {directory}"),
        )],
    }
    .into_iter()
    .chain(events(cause.id, evidence))
    .collect()
}

fn issuing_root() -> NextStep {
    NextStep::new(
        "does the TrustConfig name the issuing pool's root?",
        VALIDATE,
    )
}

fn other_names(agent: NextStep) -> Vec<NextStep> {
    let passed = NextStep::new(
        "does the pool pass on the names that are asked for?",
        "certagent inspect config PATH_OF_THE_CONFIGURATION",
    );
    vec![passed, agent]
}

fn hook_log() -> NextStep {
    NextStep::new(
        "what did the hook say? it is tried again by itself; an edit of onRotate counts at once",
        "journalctl --unit certagent --grep hook --since today",
    )
}

fn another_root() -> NextStep {
    NextStep::new(
        "does the TrustConfig name another root, and does a pool below it issue?",
        "certagent inspect config PATH_OF_THE_CONFIGURATION",
    )
}

/// The agent as a service or as a bare process.
const AGENT: &str = "systemctl status certagent || pgrep -a certagent";

const VALIDATE: &str = "certagent validate PATH_OF_THE_CONFIGURATION";

fn listed(file: &str) -> String {
    format!("openssl crl2pkcs7 -nocrl -certfile {file} | openssl pkcs7 -print_certs -noout")
}

fn unseen(directory: &str, id: CheckId) -> Vec<NextStep> {
    if id == CheckId::Generation {
        return vec![NextStep::new(
            "again: the files changed while they were read",
            &format!("certagent inspect {directory}"),
        )];
    }
    vec![
        NextStep::new(
            "again, as a user who may read the key",
            &format!("sudo certagent inspect {directory}"),
        ),
        NextStep::new("who may?", &format!("ls -la {directory}/")),
    ]
}

/// In a cluster the pod's events tell why nothing was issued.
fn events(id: CheckId, evidence: &Evidence) -> Option<NextStep> {
    let identity = evidence
        .identity
        .as_deref()
        .filter(|_| id == CheckId::Validity)?;
    let mut parts = identity.split('/').skip_while(|part| *part != "ns").skip(1);
    let namespace = parts.next().filter(|name| !name.is_empty())?;
    let command = format!("kubectl --namespace {} get events", shell_word(namespace));
    Some(NextStep::new(
        "in a cluster: what do the pods' events say?",
        &command,
    ))
}
