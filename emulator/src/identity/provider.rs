//! Workload identity providers: from a subject to the names that IAM and SPIFFE have for it.

use spiffe::{SpiffeId, TrustDomain};

use super::caller::Principal;
use super::config::{IdentityConfigError, ProviderConfig};
use super::jwk::VerifyingKey;

const IAM: &str = "//iam.googleapis.com/";
const DEFAULT_SPIFFE_ID: &str = "spiffe://{trustDomain}/ns/{namespace}/sa/{serviceAccount}";
/// Google's bound for `google.subject`, in bytes.
const MAX_SUBJECT: usize = 127;

/// An issuer of subject tokens, checked.
#[derive(Debug)]
pub(super) struct Provider {
    pub(super) issuer: String,
    pub(super) audiences: Vec<String>,
    pub(super) keys: Vec<VerifyingKey>,
    target: Target,
    trust_domain: String,
    spiffe_id: String,
}

/// What an `audience` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// `projects/NUMBER/locations/global/workloadIdentityPools/POOL`
    pool: String,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// Any issuer.
    Generic,
    /// A GKE cluster, by its URL.
    Gke {
        identity_namespace: String,
        cluster: String,
    },
}

/// A subject that has no principal.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SubjectTooLong;

impl Provider {
    /// Refuses what cannot be meant; `at` is the field's name.
    pub(super) fn new(config: &ProviderConfig, at: &str) -> Result<Self, IdentityConfigError> {
        let error = |field: &str, problem: String| {
            Err(super::setup::error(format!("{at}.{field}"), problem))
        };
        let Some((target, default_domain)) = Target::parse(&config.audience, config.project_number)
        else {
            return error(
                "audience",
                audience_problem(&config.audience, config.project_number),
            );
        };
        if config.issuer.is_empty() {
            return error(
                "issuer",
                "it is empty; write the `iss` of the tokens".to_owned(),
            );
        }
        let keys = match config.jwks.verifying_keys() {
            Ok(keys) => keys,
            Err((field, problem)) => return error(&format!("jwks.{field}"), problem),
        };
        let trust_domain = config.trust_domain.clone().unwrap_or(default_domain);
        if TrustDomain::new(&trust_domain).is_err() {
            return error(
                "trustDomain",
                format!("{trust_domain:?} is not a trust domain"),
            );
        }
        let spiffe_id = config
            .spiffe_id
            .as_deref()
            .unwrap_or(DEFAULT_SPIFFE_ID)
            .to_owned();
        if expand(&spiffe_id, |_name| Some("x")).is_none() {
            let problem =
                "the placeholders are {trustDomain}, {subject}, {namespace} and {serviceAccount}";
            return error("spiffeId", problem.to_owned());
        }
        let audiences = if config.allowed_audiences.is_empty() {
            target.default_audiences(&config.audience)
        } else {
            config.allowed_audiences.clone()
        };
        Ok(Self {
            issuer: config.issuer.clone(),
            audiences,
            keys,
            target,
            trust_domain,
            spiffe_id,
        })
    }

    /// Who `subject` is.
    pub(super) fn principal(&self, subject: &str) -> Result<Principal, SubjectTooLong> {
        let kubernetes = kubernetes_subject(subject);
        let pool = format!("principal://iam.googleapis.com/{}", self.target.pool);
        let set = format!("principalSet://iam.googleapis.com/{}", self.target.pool);
        let mut names = Vec::new();
        match (&self.target.kind, kubernetes) {
            (Kind::Generic, _) if subject.len() > MAX_SUBJECT => return Err(SubjectTooLong),
            (
                Kind::Gke {
                    identity_namespace,
                    cluster,
                },
                Some((namespace, account)),
            ) => {
                names.push(format!("{pool}/subject/ns/{namespace}/sa/{account}"));
                names.push(format!(
                    "serviceAccount:{identity_namespace}[{namespace}/{account}]"
                ));
                names.push(format!("{set}/namespace/{namespace}"));
                names.push(format!("{set}/kubernetes.cluster/{cluster}"));
            }
            _ => {}
        }
        names.push(format!("{pool}/subject/{subject}"));
        names.push(format!("{set}/*"));
        let value = |name: &str| match (name, kubernetes) {
            ("trustDomain", _) => Some(self.trust_domain.as_str()),
            ("subject", _) => Some(subject),
            ("namespace", Some((namespace, _))) => Some(namespace),
            ("serviceAccount", Some((_, account))) => Some(account),
            _ => None,
        };
        let spiffe_id = expand(&self.spiffe_id, value)
            .and_then(|id| SpiffeId::new(id).ok())
            .map(|id| id.to_string());
        Ok(Principal::federated(names, spiffe_id))
    }

    /// The subject that the IAM member `principal://…` names, if it is one of this provider's.
    pub(super) fn subject_of(&self, member: &str) -> Option<String> {
        let pool = format!(
            "principal://iam.googleapis.com/{}/subject/",
            self.target.pool
        );
        let subject = member.strip_prefix(&pool)?;
        let in_gke = match &self.target.kind {
            Kind::Generic => None,
            Kind::Gke { .. } => subject
                .strip_prefix("ns/")
                .and_then(|rest| rest.split_once("/sa/"))
                .map(|(namespace, account)| format!("system:serviceaccount:{namespace}:{account}")),
        };
        Some(in_gke.unwrap_or_else(|| subject.to_owned()))
    }
}

impl Target {
    /// What `audience` names, and the trust domain that Google gives to it. GKE's form needs the
    /// project's number from elsewhere.
    fn parse(audience: &str, project_number: Option<u64>) -> Option<(Self, String)> {
        if let Some((identity_namespace, cluster)) = gke_parts(audience) {
            let pool = format!(
                "projects/{}/locations/global/workloadIdentityPools/{identity_namespace}",
                project_number?
            );
            let (identity_namespace, cluster) = (identity_namespace.to_owned(), cluster.to_owned());
            let domain = identity_namespace.clone();
            return Some((
                Self {
                    pool,
                    kind: Kind::Gke {
                        identity_namespace,
                        cluster,
                    },
                },
                domain,
            ));
        }
        let (number, pool) = generic_parts(audience)?;
        let domain = format!("{pool}.global.{number}.workload.id.goog");
        let pool = format!("projects/{number}/locations/global/workloadIdentityPools/{pool}");
        let fits = project_number.is_none_or(|given| given.to_string() == number);
        fits.then_some((
            Self {
                pool,
                kind: Kind::Generic,
            },
            domain,
        ))
    }

    fn default_audiences(&self, audience: &str) -> Vec<String> {
        let mut audiences = vec![audience.to_owned()];
        audiences.push(match &self.kind {
            Kind::Generic => format!("https:{audience}"),
            Kind::Gke {
                identity_namespace, ..
            } => identity_namespace.clone(),
        });
        audiences
    }
}

/// Whether `audience` has one of the two forms that an exchange may name.
pub(super) fn is_audience(audience: &str) -> bool {
    gke_parts(audience).is_some() || generic_parts(audience).is_some()
}

/// `PROJECT.svc.id.goog` and the cluster's URL.
fn gke_parts(audience: &str) -> Option<(&str, &str)> {
    let (namespace, cluster) = audience
        .strip_prefix("identitynamespace:")?
        .split_once(':')?;
    let path = cluster.strip_prefix("https://container.googleapis.com/v1/")?;
    let parts: Vec<&str> = path.split('/').collect();
    let is_cluster = matches!(
        parts.as_slice(),
        ["projects", p, "locations" | "zones", l, "clusters", c] if [p, l, c].into_iter().all(|part| is_id(part))
    );
    let is_namespace = is_id(namespace) && namespace.ends_with(".svc.id.goog");
    (is_cluster && is_namespace).then_some((namespace, cluster))
}

/// The project's number and the pool's id.
fn generic_parts(audience: &str) -> Option<(&str, &str)> {
    let parts: Vec<&str> = audience.strip_prefix(IAM)?.split('/').collect();
    match parts.as_slice() {
        [
            "projects",
            number,
            "locations",
            "global",
            "workloadIdentityPools",
            pool,
            "providers",
            provider,
        ] if number.parse::<u64>().is_ok() && is_id(pool) && is_id(provider) => {
            Some((number, pool))
        }
        _ => None,
    }
}

fn is_id(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 128
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

fn audience_problem(audience: &str, project_number: Option<u64>) -> String {
    if gke_parts(audience).is_some() {
        return "GKE's form lacks the project's number; add projectNumber beside it".to_owned();
    }
    if let (Some((number, _)), Some(given)) = (generic_parts(audience), project_number) {
        return format!("it names the project {number}, but projectNumber is {given}");
    }
    "write //iam.googleapis.com/projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER \
     or identitynamespace:PROJECT.svc.id.goog:https://container.googleapis.com/v1/projects/PROJECT/locations/LOCATION/clusters/CLUSTER"
        .to_owned()
}

/// Namespace and name of a Kubernetes service account. A slash in one of them would be another
/// path in the SPIFFE ID, so only the characters of Kubernetes' own names are taken.
fn kubernetes_subject(subject: &str) -> Option<(&str, &str)> {
    let (namespace, account) = subject
        .strip_prefix("system:serviceaccount:")?
        .split_once(':')?;
    let is_name = |name: &str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
    };
    (is_name(namespace) && is_name(account)).then_some((namespace, account))
}

/// `template` with the values of its placeholders; none when one has no value or a brace is open.
/// One pass: a brace in a value is never a placeholder.
fn expand<'a>(template: &str, value: impl Fn(&str) -> Option<&'a str>) -> Option<String> {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, tail)) = rest.split_once('{') {
        let (name, tail) = tail.split_once('}')?;
        out.push_str(before);
        out.push_str(value(name).filter(|_| PLACEHOLDERS.contains(&name))?);
        rest = tail;
    }
    out.push_str(rest);
    Some(out)
}

const PLACEHOLDERS: [&str; 4] = ["trustDomain", "subject", "namespace", "serviceAccount"];
