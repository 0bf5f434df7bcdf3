//! The rules of `WorkloadCertificateConfig`.

use std::time::Duration;

use crate::algorithm::KeyAlgorithm;
use crate::config::Settings;
use crate::config::certificates::{
    CertificateAuthorityConfig, CertificateAuthorityServiceConfig, KeyAlgorithmSpec,
    WorkloadCertificateConfigSpec,
};
use crate::config::policy::CertificatePolicy;
use crate::config::problem::{Checked, FieldProblem, quote};
use crate::config::rule::Rule;
use crate::pool::CaPoolName;

const DEFAULT_VALIDITY_SECONDS: i64 = 86_400;
const DEFAULT_PERCENTAGE: i64 = 50;
const SHORTEST_VALIDITY_SECONDS: i64 = 60;
const LONGEST_VALIDITY_SECONDS: i64 = 10 * 365 * 86_400;
const SHORTEST_WINDOW_SECONDS: i64 = 10;
const COMFORTABLE_WINDOW_SECONDS: i64 = 30;
const COMFORTABLE_PERCENTAGE: i64 = 10;

/// The version of the API group `security.cloud.google.com` in which an object is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiVersion {
    /// `v1`.
    V1,
    /// `v1alpha1`, with its `spec.trustDomain`.
    V1alpha1,
}

/// The meaning of a `WorkloadCertificateConfig`.
pub fn certificates(
    spec: &WorkloadCertificateConfigSpec,
    version: ApiVersion,
    settings: &Settings,
) -> Checked<CertificatePolicy> {
    let mut problems = Vec::new();
    check_trust_domain(spec, version, settings, &mut problems);
    let pools = issuing_pools(spec.certificate_authority_config.as_ref(), &mut problems);
    let algorithm = key_algorithm(spec.key_algorithm.as_ref(), &mut problems);
    let times = times(spec, settings, &mut problems);
    let value = pools
        .zip(algorithm)
        .zip(times)
        .map(|((pools, algorithm), times)| {
            let (validity, rotation_window_percentage) = times;
            CertificatePolicy {
                pools,
                algorithm,
                validity,
                rotation_window_percentage,
            }
        });
    Checked::new(value, problems)
}

fn check_trust_domain(
    spec: &WorkloadCertificateConfigSpec,
    version: ApiVersion,
    settings: &Settings,
    problems: &mut Vec<FieldProblem>,
) {
    const FIELD: &str = "spec.trustDomain";
    let Some(text) = &spec.trust_domain else {
        return;
    };
    if version == ApiVersion::V1 {
        let message = "this field exists in v1alpha1 only; remove it, and name the trust domain \
                       in the TrustConfig (or with --trust-domain)";
        problems.push(FieldProblem::error(
            Rule::TrustDomainConflict,
            FIELD,
            message,
        ));
        return;
    }
    let domain = super::trust_domain(FIELD, text, problems);
    if let (Some(here), Some(flag)) = (domain, &settings.trust_domain)
        && here != *flag
    {
        let message = format!(
            "the trust domain is {here} here but {flag} in --trust-domain; make them the same, or \
             remove one"
        );
        problems.push(FieldProblem::error(
            Rule::TrustDomainConflict,
            FIELD,
            message,
        ));
    }
}

fn issuing_pools(
    authority: Option<&CertificateAuthorityConfig>,
    problems: &mut Vec<FieldProblem>,
) -> Option<Vec<CaPoolName>> {
    const FIELD: &str = "spec.certificateAuthorityConfig";
    let Some(authority) = authority else {
        let message = "the field is required: it names the CA pool that issues";
        problems.push(
            FieldProblem::error(Rule::InvalidCertificateAuthority, FIELD, message)
                .allowed("certificateAuthorityServiceConfig"),
        );
        return None;
    };
    if authority.mesh_ca_config.is_some() {
        let message = "Mesh CA was discontinued; use certificateAuthorityServiceConfig with the \
                       name of a CA Service pool in endpointURI";
        problems.push(FieldProblem::error(
            Rule::InvalidCertificateAuthority,
            format!("{FIELD}.meshCAConfig"),
            message,
        ));
    }
    let service = authority.certificate_authority_service_config.as_ref();
    if service.is_none() && authority.mesh_ca_config.is_none() {
        let message = "it is empty; it needs exactly one issuing configuration";
        let problem = FieldProblem::error(Rule::InvalidCertificateAuthority, FIELD, message);
        problems.push(problem.allowed("certificateAuthorityServiceConfig"));
    }
    service.and_then(|service| service_pools(service, problems))
}

fn service_pools(
    service: &CertificateAuthorityServiceConfig,
    problems: &mut Vec<FieldProblem>,
) -> Option<Vec<CaPoolName>> {
    const SERVICE: &str = "spec.certificateAuthorityConfig.certificateAuthorityServiceConfig";
    let endpoint = format!("{SERVICE}.endpointURI");
    if service.endpoint_uri.is_none() {
        let message = "the field is required: the CA pool that issues";
        let form = "//privateca.googleapis.com/projects/PROJECT/locations/LOCATION/caPools/POOL";
        problems
            .push(FieldProblem::error(Rule::InvalidEndpointURI, &endpoint, message).allowed(form));
    }
    let first = service
        .endpoint_uri
        .iter()
        .map(|uri| (Rule::InvalidEndpointURI, endpoint.clone(), uri));
    let fallbacks = service.fallback_uris.iter().enumerate();
    let fields = fallbacks.map(|(index, uri)| {
        let field = format!("{SERVICE}.fallbackURIs[{index}]");
        (Rule::InvalidFallbackURI, field, uri)
    });
    let mut pools: Vec<(String, CaPoolName)> = Vec::new();
    for (rule, field, uri) in first.chain(fields) {
        let Some(pool) = pool(rule, &field, uri, problems) else {
            continue;
        };
        match pools.iter().find(|(_, earlier)| *earlier == pool) {
            Some((earlier, _)) => {
                let message = format!("this pool is already in {earlier}; remove it here");
                problems.push(FieldProblem::error(Rule::DuplicatePool, field, message));
            }
            None => pools.push((field, pool)),
        }
    }
    service.endpoint_uri.as_ref()?;
    Some(pools.into_iter().map(|(_, pool)| pool).collect())
}

/// A pool's name in `field`.
pub(super) fn pool(
    rule: Rule,
    field: &str,
    text: &str,
    problems: &mut Vec<FieldProblem>,
) -> Option<CaPoolName> {
    match text.parse() {
        Ok(pool) => Some(pool),
        Err(error) => {
            problems.push(FieldProblem::error(
                rule,
                field,
                format!("not the name of a CA pool: {error}"),
            ));
            None
        }
    }
}

fn key_algorithm(
    spec: Option<&KeyAlgorithmSpec>,
    problems: &mut Vec<FieldProblem>,
) -> Option<KeyAlgorithm> {
    const FIELD: &str = "spec.keyAlgorithm";
    const SIZE: &str = "spec.keyAlgorithm.rsa.modulusSize";
    const CURVE: &str = "spec.keyAlgorithm.ecdsa.curve";
    let error =
        |field, message: &str| FieldProblem::error(Rule::InvalidKeyAlgorithm, field, message);
    let problem = match spec.map(|spec| (&spec.rsa, &spec.ecdsa)) {
        None => error(FIELD, "the field is required").allowed("rsa, ecdsa"),
        Some((None, None)) => {
            error(FIELD, "it is empty; choose exactly one kind of key").allowed("rsa, ecdsa")
        }
        Some((Some(_), Some(_))) => {
            error(FIELD, "rsa and ecdsa are both given; keep exactly one").allowed("rsa, ecdsa")
        }
        Some((Some(rsa), None)) => match rsa.modulus_size {
            None => error(SIZE, "the field is required").allowed("2048, 3072, 4096"),
            Some(bits) => match KeyAlgorithm::from_rsa_modulus_bits(bits) {
                Some(algorithm) => return Some(algorithm),
                None => error(SIZE, &format!("RSA keys of {bits} bits are not made"))
                    .allowed("2048, 3072, 4096"),
            },
        },
        Some((None, Some(ecdsa))) => match &ecdsa.curve {
            None => error(CURVE, "the field is required").allowed("P256, P384"),
            Some(curve) => match KeyAlgorithm::from_ecdsa_curve(curve) {
                Some(algorithm) => return Some(algorithm),
                None => error(CURVE, &format!("there is no curve {} here", quote(curve)))
                    .allowed("P256, P384"),
            },
        },
    };
    problems.push(problem);
    None
}

/// Validity and percentage, which are also checked against each other.
fn times(
    spec: &WorkloadCertificateConfigSpec,
    settings: &Settings,
    problems: &mut Vec<FieldProblem>,
) -> Option<(Duration, u8)> {
    const VALIDITY: &str = "spec.validityDurationSeconds";
    const PERCENTAGE: &str = "spec.rotationWindowPercentage";
    let seconds = spec
        .validity_duration_seconds
        .unwrap_or(DEFAULT_VALIDITY_SECONDS);
    let shortest = if settings.lift_minimums {
        1
    } else {
        SHORTEST_VALIDITY_SECONDS
    };
    let validity = if (shortest..=LONGEST_VALIDITY_SECONDS).contains(&seconds) {
        u64::try_from(seconds).ok()
    } else {
        let message = if seconds < shortest {
            format!("{seconds} s is too short: a certificate must outlive its own renewal")
        } else {
            format!("{seconds} s is too long for a workload's certificate")
        };
        let allowed = format!("{shortest} to {LONGEST_VALIDITY_SECONDS} (10 years)");
        problems
            .push(FieldProblem::error(Rule::InvalidValidity, VALIDITY, message).allowed(allowed));
        None
    };
    let percent = spec
        .rotation_window_percentage
        .unwrap_or(DEFAULT_PERCENTAGE);
    let percentage = u8::try_from(percent)
        .ok()
        .filter(|percent| (1..=99).contains(percent));
    if percentage.is_none() {
        let message = match percent {
            0 => "with 0 a certificate would be renewed only after it has expired".to_owned(),
            100 => "with 100 a certificate would be renewed all the time".to_owned(),
            other => format!("{other} is no share of the validity"),
        };
        problems.push(
            FieldProblem::error(Rule::InvalidRotationWindow, PERCENTAGE, message)
                .allowed("1 to 99"),
        );
    }
    let (validity, percentage) = validity.zip(percentage)?;
    if settings.lift_minimums {
        return Some((Duration::from_secs(validity), percentage));
    }
    let window_field = if spec.rotation_window_percentage.is_some() {
        PERCENTAGE
    } else {
        VALIDITY
    };
    let hundredths = seconds.saturating_mul(percent);
    let window = format!(
        "{percent}% of {seconds} s leaves {}.{:02} s to renew in",
        hundredths / 100,
        hundredths % 100
    );
    if hundredths < SHORTEST_WINDOW_SECONDS * 100 {
        let message = format!("{window}, which is too short; raise the percentage or the validity");
        let allowed = format!("a window of at least {SHORTEST_WINDOW_SECONDS} s");
        problems.push(
            FieldProblem::error(Rule::RotationWindowTooShort, window_field, message)
                .allowed(allowed),
        );
    } else if hundredths < COMFORTABLE_WINDOW_SECONDS * 100 {
        let message = format!(
            "{window}; under {COMFORTABLE_WINDOW_SECONDS} s a short outage of the CA is enough to \
             lose the certificate"
        );
        problems.push(FieldProblem::warning(
            Rule::RotationWindowShort,
            window_field,
            message,
        ));
    } else if percent < COMFORTABLE_PERCENTAGE {
        let message = format!(
            "with {percent}% renewal starts late: the rest of the validity is all the time there \
             is when the CA is away; {COMFORTABLE_PERCENTAGE} or more is usual"
        );
        problems.push(FieldProblem::warning(
            Rule::RotationWindowShort,
            PERCENTAGE,
            message,
        ));
    }
    Some((Duration::from_secs(validity), percentage))
}
