//! The checks of roots and trust bundles.
use certagent_credentials::FileProblem;
use certagent_svid::{
    Certificate, Chain, TrustBundle, TrustBundles, TrustDomain,
    bundle_map::{self, BundleMapError, KeyProblem},
    layout,
    verify::{self, VerifyError},
};

use super::{
    super::{
        report::{Finding, Skip},
        roots::{self, Root},
        text::{clean, count},
    },
    checks::{Contents, Inspection, certificate_problem, no_content},
    credential::cut_path,
    report::CheckId,
};
use crate::trust::Fingerprint;

/// `trust_bundles.json`, which may be missing, parses.
pub(super) fn bundle_map(
    inspection: &mut Inspection<'_>,
    contents: &Contents<'_>,
) -> Option<TrustBundles> {
    let name = layout::TRUST_BUNDLES;
    let finding = match contents.get(name).map(bundle_map::parse) {
        Ok(Ok(bundles)) => return Some(bundles),
        Ok(Err(error)) => {
            Finding::Failed(clean(&format!("{name}: {}", bundle_map_problem(&error))))
        }
        Err(FileProblem::Missing) => Finding::Skipped(
            Skip::Minor,
            "this file is optional, and not there".to_owned(),
        ),
        Err(problem) => no_content(name, problem),
    };
    inspection.record(CheckId::TrustBundles, finding);
    None
}

/// What is wrong with a bundle map, without quoting the file: it may be another one.
fn bundle_map_problem(error: &BundleMapError) -> String {
    match error {
        BundleMapError::Json { line, column, .. } => {
            format!("not the JSON of a SPIFFE bundle map (line {line}, column {column})")
        }
        BundleMapError::TrustDomain { .. } => {
            "a key of \"trust_domains\" is no trust domain's name".to_owned()
        }
        BundleMapError::Key {
            trust_domain,
            position,
            problem: KeyProblem::Certificate(error),
        } => {
            let problem = certificate_problem(error);
            format!("key {position} of {trust_domain} is not a certificate: {problem}")
        }
        error => error.to_string(),
    }
}

/// There are roots, from `ca_certificates.pem` or, where that is missing, from the bundle map.
pub(super) fn roots(
    inspection: &mut Inspection<'_>,
    contents: &Contents<'_>,
    bundles: Option<&TrustBundles>,
    trust_domain: Option<&TrustDomain>,
) -> Option<Vec<Certificate>> {
    let name = layout::CA_CERTIFICATES;
    let pem = match contents.get(name) {
        Ok(pem) => pem,
        Err(problem) => {
            // GCE's newer agent writes the roots into the map only.
            let mapped = trust_domain.and_then(|domain| bundles?.get(domain));
            if let (FileProblem::Missing, Some(mapped)) = (problem, mapped) {
                let detail = format!("there is no {name}; the roots are in trust_bundles.json");
                note(inspection, mapped.roots());
                let map = layout::TRUST_BUNDLES;
                if let Some(problem) = distrusted(inspection, map, mapped.roots()) {
                    inspection.failed(CheckId::Roots, &problem);
                    return None;
                }
                inspection.passed(CheckId::Roots, &detail);
                return Some(mapped.roots().to_vec());
            }
            inspection.record(CheckId::Roots, no_content(name, problem));
            return None;
        }
    };
    let problem = match Certificate::parse_pem_list(pem) {
        Ok(list) if list.is_empty() && pem.is_empty() => {
            format!("{name} is empty: no peer can be verified")
        }
        Ok(list) if list.is_empty() => {
            format!("{name} holds no certificate; {ENVOY}")
        }
        Ok(list) => match list.iter().find(|root| !root.is_ca()) {
            None => {
                note(inspection, &list);
                if let Some(problem) = distrusted(inspection, name, &list) {
                    inspection.failed(CheckId::Roots, &problem);
                    return None;
                }
                inspection.passed(
                    CheckId::Roots,
                    &format!("{name} holds {}", count(list.len(), "root")),
                );
                return Some(list);
            }
            Some(stranger) => {
                let subject = stranger.subject_text();
                format!("{name} holds \"{subject}\", which is no CA certificate")
            }
        },
        Err(error) => format!("{name}: {}; {ENVOY}", certificate_problem(&error)),
    };
    inspection.failed(CheckId::Roots, &problem);
    None
}

/// Which of the roots `--distrust` names, and what that means for whoever reads them.
fn distrusted(
    inspection: &mut Inspection<'_>,
    name: &str,
    roots: &[Certificate],
) -> Option<String> {
    let first = roots.iter().find(|root| inspection.distrust.has(root))?;
    let (subject, sha256) = (first.subject_text(), Fingerprint::of(first));
    inspection.evidence.distrusted_root = Some(sha256.to_string());
    let why = if roots.iter().all(|root| inspection.distrust.has(root)) {
        "and no other root: the agent leaves the files as they are until there is one, and \
         whoever reads them trusts that root"
    } else {
        "and which an agent with that switch takes out at once"
    };
    Some(format!(
        "{name} holds \"{subject}\" (SHA-256 {sha256}), which --distrust names, {why}"
    ))
}

/// Seen with Envoy 1.40: an empty file does less harm than a broken one.
const ENVOY: &str = "an Envoy that has read such a file refuses every later one until it is \
                     restarted";

fn note(inspection: &mut Inspection<'_>, roots: &[Certificate]) {
    inspection.evidence.roots = roots.iter().map(Root::of).collect();
}

/// No root has ended, or soon will.
pub(super) fn roots_validity(inspection: &mut Inspection<'_>, roots: &[Certificate]) {
    inspection.record(
        CheckId::RootsValidity,
        roots::validity(roots, inspection.now),
    );
}

/// The chain leads to one of the directory's own roots, now.
pub(super) fn path(
    inspection: &mut Inspection<'_>,
    chain: &Chain,
    trust_domain: &TrustDomain,
    roots: &[Certificate],
) {
    let bundle = TrustBundle::new(trust_domain.clone(), roots.iter().cloned());
    let verified = verify::path(
        chain,
        &bundle,
        webpki::ALL_VERIFICATION_ALGS,
        inspection.now,
    );
    inspection.evidence.chain_verifies = Some(verified.is_ok());
    match verified {
        Ok(path) => {
            let root = clean(&path.root().subject_text());
            inspection.passed(CheckId::ChainVerifies, &format!("it leads to \"{root}\""));
            inspection.evidence.verified_root = Some(root);
            cut_path(inspection, chain.leaf(), path.effective_not_after());
        }
        Err(VerifyError::UnknownIssuer { issuer, .. }) => {
            let known = bundle.describe();
            let problem = format!(
                "the chain ends at \"{issuer}\", which is no root of this directory: it has {known}"
            );
            inspection.failed(CheckId::ChainVerifies, &problem);
        }
        Err(error) => inspection.failed(CheckId::ChainVerifies, &error.to_string()),
    }
}

/// The bundle map has the workload's own domain, with the same roots.
pub(super) fn own_domain(
    inspection: &mut Inspection<'_>,
    bundles: &TrustBundles,
    trust_domain: &TrustDomain,
    roots: Option<&[Certificate]>,
) {
    let name = layout::TRUST_BUNDLES;
    let Some(mapped) = bundles.get(trust_domain) else {
        let problem = format!(
            "{name} has no bundle for {trust_domain}, the workload's own trust domain: whoever \
             reads it trusts no peer of that domain"
        );
        inspection.failed(CheckId::TrustBundles, &problem);
        return;
    };
    let own = roots.map(|roots| TrustBundle::new(trust_domain.clone(), roots.iter().cloned()));
    if own.is_some_and(|own| own.roots() != mapped.roots()) {
        let problem = format!(
            "{name} and ca_certificates.pem name different roots for {trust_domain}: they were \
             not written together"
        );
        inspection.warned(CheckId::TrustBundles, &problem);
    } else {
        let domains = count(bundles.len(), "trust domain");
        let detail = format!("{name} holds {domains}, {trust_domain} among them");
        inspection.passed(CheckId::TrustBundles, &detail);
    }
}
