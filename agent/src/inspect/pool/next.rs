//! What to do next about a pool: lines to paste into a shell, the most useful first.
use certagent_core::pool::CaPoolName;

use super::{
    super::{
        report::{Finding, NextStep, Skip},
        text::shell_word,
    },
    facts::{Facts, Refused, Wanted},
    policy::missing_for_names,
    report::{Authority, Check, CheckId, Evidence},
};
use crate::{
    cas::Reason,
    google::{Origin, Shown},
};

/// The next steps for a cause.
pub(super) fn steps(
    pool: &CaPoolName,
    facts: &Facts,
    wanted: &Wanted,
    cause: &Check,
    evidence: &Evidence,
) -> Vec<NextStep> {
    let is_unseen = matches!(cause.finding, Finding::Skipped(Skip::Unable, _));
    match cause.id {
        CheckId::Endpoint => vec![
            NextStep::new(
                "what answers there, and how?",
                &format!(
                    "curl -sS -i {} | head -n 20",
                    shell_word(&format!(
                        "{}/v1/{}",
                        evidence.endpoint,
                        pool.resource_name()
                    ))
                ),
            ),
            again(pool, facts, evidence),
        ],
        CheckId::Clock => vec![NextStep::new(
            "is this machine's clock kept right?",
            "date -u; timedatectl timesync-status || chronyc tracking",
        )],
        CheckId::Identity => identity(pool, facts, evidence),
        _ if is_unseen => vec![again(pool, facts, evidence)],
        CheckId::Pool => match &facts.pool {
            Err(error) if error.missing_permission().is_some() => granting(pool, facts),
            _ => vec![NextStep::new(
                "which pools are there?",
                &format!(
                    "gcloud privateca pools list --location={} --project={}",
                    pool.location(),
                    pool.project()
                ),
            )],
        },
        CheckId::Authorities => evidence
            .authorities
            .iter()
            .find_map(|ca| enabling(pool, ca))
            .into_iter()
            .chain(listing(pool))
            .collect(),
        CheckId::AuthoritiesValidity => listing(pool),
        CheckId::Roots | CheckId::RootsValidity => vec![ca_certs(pool)],
        CheckId::KeyFamily => {
            let mut steps = listing(pool);
            steps.push(NextStep::new(
                "change keyAlgorithm, then look again",
                &format!(
                    "certagent inspect config {} --ca-endpoint {}{}",
                    paths(wanted),
                    evidence.endpoint,
                    flags(facts)
                ),
            ));
            steps
        }
        CheckId::Anchored => vec![
            ca_certs(pool),
            NextStep::new(
                "which CAs are roots? the pool of the right one belongs into the TrustConfig",
                &format!(
                    "gcloud privateca roots list --location={} --project={}",
                    pool.location(),
                    pool.project()
                ),
            ),
        ],
        CheckId::MayCreate => match &facts.creation {
            Some(Err(Refused::Call(error))) if error.missing_permission().is_some() => {
                granting(pool, facts)
            }
            _ => vec![describing(pool)],
        },
        CheckId::Names => {
            let policy = facts.pool.as_ref().ok().map(|known| &known.issuance_policy);
            let settings = policy.map(|policy| missing_for_names(policy, &facts.plan.names));
            let settings = settings.unwrap_or_default().join(" and ");
            vec![
                describing(pool),
                changing(
                    pool,
                    &format!(
                        "set {settings} of its identityConstraints to true in FILE, if the pool is \
                         yours to change"
                    ),
                ),
            ]
        }
        CheckId::KeyType
        | CheckId::Lifetime
        | CheckId::Backdating
        | CheckId::Issuance
        | CheckId::Usages => vec![
            describing(pool),
            changing(pool, "change it, if the pool is yours to change"),
        ],
    }
}

fn changing(pool: &CaPoolName, what: &str) -> NextStep {
    NextStep::new(
        what,
        &format!(
            "gcloud privateca pools update {} --issuance-policy=FILE",
            place(pool)
        ),
    )
}

/// A pool as gcloud is told. None of its parts needs quoting.
fn place(pool: &CaPoolName) -> String {
    format!(
        "{} --location={} --project={}",
        pool.id(),
        pool.location(),
        pool.project()
    )
}

/// The pool of a CA as gcloud is told.
fn within(pool: &CaPoolName) -> String {
    format!(
        "--pool={} --location={} --project={}",
        pool.id(),
        pool.location(),
        pool.project()
    )
}

fn again(pool: &CaPoolName, facts: &Facts, evidence: &Evidence) -> NextStep {
    let file = facts.asked_as.token_file.as_ref().map(|file| {
        let file = shell_word(&file.to_string_lossy());
        format!(" --token-file {file}")
    });
    NextStep::new(
        "again, when it may be back",
        &format!(
            "certagent inspect pool {pool} --ca-endpoint {}{}{}",
            evidence.endpoint,
            flags(facts),
            file.unwrap_or_default()
        ),
    )
}

/// The flags that say as whom was asked, where that is not the usual.
fn flags(facts: &Facts) -> String {
    let flags = facts.asked_as.flags.iter();
    flags.fold(String::new(), |line, (flag, text)| {
        format!("{line} {flag} {}", shell_word(text))
    })
}

fn paths(wanted: &Wanted) -> String {
    let paths = wanted.paths.iter();
    let paths: Vec<_> = paths
        .map(|path| shell_word(&path.to_string_lossy()))
        .collect();
    paths.join(" ")
}

/// What is wrong with who asks: a workload by its own token, else the agent.
fn identity(pool: &CaPoolName, facts: &Facts, evidence: &Evidence) -> Vec<NextStep> {
    let origin = match facts.pool.as_ref().map_err(|error| &*error.reason) {
        Err(Reason::NoToken(error)) => &error.origin,
        _ => &Origin::Credential,
    };
    if let Err(Reason::Unauthenticated {
        shown: Shown::Nobody,
        ..
    }) = facts.pool.as_ref().map_err(|error| &*error.reason)
    {
        let line = format!(
            "certagent inspect pool {pool} --ca-endpoint {} --identity direct",
            evidence.endpoint
        );
        return vec![NextStep::new("again, with an identity", &line)];
    }
    if let Origin::Service(url) = origin {
        let what = "what answers there, and how?";
        let asking = format!("curl -sS -i {} | head -n 20", shell_word(url));
        return vec![NextStep::new(what, &asking), again(pool, facts, evidence)];
    }
    let Some(file) = &facts.asked_as.token_file else {
        return vec![
            NextStep::new(
                "is a credential file named?",
                "ls -l \"$GOOGLE_APPLICATION_CREDENTIALS\"",
            ),
            NextStep::new(
                "which service account does this machine have, on Google Cloud?",
                "curl -sS -H 'Metadata-Flavor: Google' \
                 http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/email",
            ),
        ];
    };
    let file = shell_word(&file.to_string_lossy());
    let claims = NextStep::new(
        "whose is it, for whom, and until when? (it prints no signature)",
        &format!("jq -R {CLAIMS} {file}"),
    );
    let first = match origin {
        Origin::Refused(_) => provider(facts),
        _ => Some(NextStep::new(
            "when was the token written last, and is this machine's clock right?",
            &format!("ls -lL --full-time {file}; date -u"),
        )),
    };
    let steps = first.into_iter().chain([claims]);
    steps.chain([again(pool, facts, evidence)]).collect()
}

/// What the provider takes that the token was shown to: not asked of GKE's, which nobody sets up.
fn provider(facts: &Facts) -> Option<NextStep> {
    let mut flags = facts.asked_as.flags.iter();
    let (_, audience) = flags.find(|(flag, _)| *flag == "--sts-audience")?;
    let name = audience.strip_prefix("//iam.googleapis.com/")?;
    Some(NextStep::new(
        "which issuer, audiences and keys does the provider take?",
        &format!(
            "gcloud iam workload-identity-pools providers describe {}",
            shell_word(name)
        ),
    ))
}

/// For jq: what a token says of itself. Its alphabet is that of URLs.
const CLAIMS: &str = r#"'split(".")[1] | gsub("-"; "+") | gsub("_"; "/") | @base64d | fromjson | {iss, sub, aud, exp: (.exp | todate)}'"#;

fn describing(pool: &CaPoolName) -> NextStep {
    NextStep::new(
        "what does the pool's policy say?",
        &format!("gcloud privateca pools describe {}", place(pool)),
    )
}

fn ca_certs(pool: &CaPoolName) -> NextStep {
    NextStep::new(
        "which roots does the pool have?",
        &format!(
            "gcloud privateca pools get-ca-certs {} --output-file=/dev/stdout",
            place(pool)
        ),
    )
}

fn listing(pool: &CaPoolName) -> Vec<NextStep> {
    let within = within(pool);
    vec![NextStep::new(
        "which CAs does the pool have, and with which keys?",
        &format!(
            "gcloud privateca subordinates list {within}; gcloud privateca roots list {within}"
        ),
    )]
}

/// Lets a CA issue, if that takes one step.
fn enabling(pool: &CaPoolName, ca: &Authority) -> Option<NextStep> {
    let kind = if ca.is_root { "roots" } else { "subordinates" };
    let (id, within) = (shell_word(&ca.id), within(pool));
    match ca.state {
        "STAGED" | "DISABLED" => Some(NextStep::new(
            "let the CA issue",
            &format!("gcloud privateca {kind} enable {id} {within}"),
        )),
        "AWAITING_USER_ACTIVATION" => Some(NextStep::new(
            "the CA waits for a certificate: get its CSR signed, then activate it",
            &format!("gcloud privateca {kind} get-csr {id} {within}"),
        )),
        _ => None,
    }
}

/// Every permission that is known to be missing, the one that matters most first.
fn granting(pool: &CaPoolName, facts: &Facts) -> Vec<NextStep> {
    let created = match &facts.creation {
        Some(Err(Refused::Call(error))) => error.missing_permission(),
        _ => None,
    };
    let looked = facts
        .pool
        .as_ref()
        .err()
        .and_then(|error| error.missing_permission());
    let mut steps: Vec<NextStep> = [created, looked]
        .into_iter()
        .flatten()
        .map(|(permission, role)| {
            NextStep::new(
                &format!("grant {permission} to the identity in use"),
                &format!(
                    "gcloud privateca pools add-iam-policy-binding {} --role={} --member=MEMBER",
                    place(pool),
                    if role.starts_with("roles/") {
                        role
                    } else {
                        "ROLE"
                    }
                ),
            )
        })
        .collect();
    steps.push(NextStep::new(
        "who may do what?",
        &format!("gcloud privateca pools get-iam-policy {}", place(pool)),
    ));
    steps
}
