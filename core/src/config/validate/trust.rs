//! The rules of `TrustConfig`.

use std::collections::BTreeMap;

use certagent_svid::{Certificate, TrustDomain};

use crate::bundle_endpoint::BundleEndpointError;
use crate::config::policy::{TrustAnchor, TrustPolicy};
use crate::config::problem::{Checked, FieldProblem};
use crate::config::rule::Rule;
use crate::config::trust::{TrustAnchorSpec, TrustConfigSpec, TrustStoreSpec};

const ANCHOR_FORMS: &str =
    "certificateAuthorityServiceURI, pemCertificate, spiffeTrustBundleEndpoint";
const ENDPOINT_FORM: &str = "a URL such as https://partner.example/bundle.json";

/// The meaning of a `TrustConfig`.
pub fn trust(spec: &TrustConfigSpec) -> Checked<TrustPolicy> {
    let mut problems = Vec::new();
    let mut stores = BTreeMap::new();
    let mut first_fields: BTreeMap<TrustDomain, String> = BTreeMap::new();
    if spec.trust_stores.is_empty() {
        let message = "at least one trust store is needed: that of the workloads' own trust domain";
        problems.push(FieldProblem::error(
            Rule::MissingTrustStore,
            "spec.trustStores",
            message,
        ));
    }
    for (index, store) in spec.trust_stores.iter().enumerate() {
        let field = format!("spec.trustStores[{index}]");
        let domain = trust_domain(&format!("{field}.trustDomain"), store, &mut problems);
        let anchors = anchors(&format!("{field}.trustAnchors"), store, &mut problems);
        let Some(domain) = domain else { continue };
        if let Some(first) = first_fields.get(&domain) {
            let message = format!(
                "the trust domain {domain} is already in {first}; a trust domain that is listed \
                 twice makes the whole object invalid: move all its anchors to one entry"
            );
            problems.push(FieldProblem::error(
                Rule::DuplicateTrustDomain,
                format!("{field}.trustDomain"),
                message,
            ));
        } else {
            first_fields.insert(domain.clone(), format!("{field}.trustDomain"));
            stores.insert(domain, anchors);
        }
    }
    Checked::new(Some(TrustPolicy { stores }), problems)
}

fn trust_domain(
    field: &str,
    store: &TrustStoreSpec,
    problems: &mut Vec<FieldProblem>,
) -> Option<TrustDomain> {
    let Some(text) = &store.trust_domain else {
        let message = "the field is required: the name of the trust domain";
        let problem = FieldProblem::error(Rule::InvalidTrustDomain, field, message);
        problems.push(problem.allowed("a name such as demo-project.svc.id.goog"));
        return None;
    };
    super::trust_domain(field, text, problems)
}

fn anchors(
    field: &str,
    store: &TrustStoreSpec,
    problems: &mut Vec<FieldProblem>,
) -> Vec<TrustAnchor> {
    if store.trust_anchors.is_empty() {
        let message = "at least one anchor is needed; without one nothing is trusted";
        problems.push(
            FieldProblem::error(Rule::MissingTrustAnchor, field, message).allowed(ANCHOR_FORMS),
        );
    }
    let items = store.trust_anchors.iter().enumerate();
    items
        .filter_map(|(index, spec)| anchor(&format!("{field}[{index}]"), spec, problems))
        .collect()
}

fn anchor(
    field: &str,
    spec: &TrustAnchorSpec,
    problems: &mut Vec<FieldProblem>,
) -> Option<TrustAnchor> {
    let TrustAnchorSpec {
        certificate_authority_service_uri: pool,
        pem_certificate: pem,
        spiffe_trust_bundle_endpoint: endpoint,
    } = spec;
    match (pool, pem, endpoint) {
        (Some(pool), None, None) => {
            let field = format!("{field}.certificateAuthorityServiceURI");
            super::certificates::pool(Rule::InvalidAnchorURI, &field, pool, problems)
                .map(TrustAnchor::Pool)
        }
        (None, Some(pem), None) => certificate(pem)
            .map_err(|message| {
                let field = format!("{field}.pemCertificate");
                problems.push(
                    FieldProblem::error(Rule::InvalidAnchorCertificate, field, message)
                        .allowed("exactly one CA certificate in PEM"),
                );
            })
            .ok()
            .map(TrustAnchor::Pem),
        (None, None, Some(endpoint)) => endpoint
            .parse()
            .map_err(|error: BundleEndpointError| {
                let field = format!("{field}.spiffeTrustBundleEndpoint");
                let problem =
                    FieldProblem::error(Rule::InvalidAnchorEndpoint, field, error.to_string());
                problems.push(problem.allowed(ENDPOINT_FORM));
            })
            .ok()
            .map(TrustAnchor::Endpoint),
        (None, None, None) => {
            let message = "the anchor is empty; it needs exactly one of its forms";
            problems.push(
                FieldProblem::error(Rule::InvalidTrustAnchor, field, message).allowed(ANCHOR_FORMS),
            );
            None
        }
        _ => {
            let message = "the anchor has more than one of its forms; make each an item of its own";
            problems.push(
                FieldProblem::error(Rule::InvalidTrustAnchor, field, message).allowed(ANCHOR_FORMS),
            );
            None
        }
    }
}

/// The one CA certificate in `pem`. The message never shows any of the text.
fn certificate(pem: &str) -> Result<Certificate, String> {
    if pem.contains("PRIVATE KEY") {
        return Err(
            "the text contains a private key, which has no place here; put the CA's \
                    certificate, and replace the key: it has been in a configuration file"
                .to_owned(),
        );
    }
    let mut certificates = Certificate::parse_pem_list(pem.as_bytes())
        .map_err(|error| format!("the certificate cannot be read: {error}"))?;
    match (certificates.pop(), certificates.len()) {
        (Some(one), 0) if one.is_ca() => Ok(one),
        (Some(_), 0) => Err(
            "this is not a CA's certificate (it may not sign others), so it \
                             cannot be an anchor; put the certificate of the root CA"
                .to_owned(),
        ),
        (Some(_), more) => Err(format!(
            "there are {} certificates here; make each an item of its own",
            more + 1
        )),
        (None, _) => Err("there is no certificate here; it starts with \
                          -----BEGIN CERTIFICATE----- and keeps its line breaks (`|` in YAML)"
            .to_owned()),
    }
}
