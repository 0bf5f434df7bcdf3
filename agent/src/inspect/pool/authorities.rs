//! The checks of a pool's CAs and roots.
use certagent_core::{algorithm::KeyAlgorithm, trust};
use certagent_svid::{Certificate, PublicKeyKind};

use super::{
    super::{
        report::Skip,
        roots::{self, Root, ends_soon},
        text::{clean, count, span},
    },
    checks::{Inspection, signed},
    report::{Authority, CheckId},
    trouble::Trouble,
};
use crate::cas::authority::{CaAnswer, CaKind, CaState};

/// More CAs are not named in a sentence.
const MOST_NAMES: usize = 5;

/// A CA that issues, as far as it is known.
struct Issuing {
    name: String,
    /// What it signs with, for people.
    algorithm: String,
    family: Option<Family>,
    /// Its certificate, then the chain to its root.
    chain: Vec<Certificate>,
}

/// Keys that the same TLS stacks understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Rsa,
    Ecdsa,
}

/// The checks of the CAs, and the CAs.
pub(super) fn states(inspection: &mut Inspection<'_>) -> Vec<Authority> {
    let facts = inspection.facts;
    let id = CheckId::Authorities;
    let (issuing, evidence) = match &facts.authorities {
        None => return Vec::new(),
        Some(Ok(list)) => {
            issuers(inspection, list);
            let enabled = list.iter().filter(|ca| ca.state == CaState::Enabled);
            let evidence = list.iter().map(describe).collect();
            (enabled.map(Issuing::of).collect(), evidence)
        }
        Some(Err(error)) => {
            match (facts.chains(), Trouble::of(error)) {
                (Some([]), _) => inspection.found.failed(id, "the pool has no CA"),
                // The pool is there: this service has no such list.
                (_, Trouble::Missing) => {
                    inspection
                        .found
                        .skipped(id, Skip::Minor, &error.to_string());
                }
                _ => inspection.call_failed(id, error),
            }
            // Without their states every CA may be one that issues.
            let chains = facts.chains().unwrap_or_default().iter();
            let issuing: Vec<Issuing> = chains
                .filter_map(|chain| Issuing::of_chain(chain))
                .collect();
            (issuing, Vec::new())
        }
    };
    if inspection.found.blocks(id) {
        return evidence;
    }
    validity(inspection, &issuing);
    family(inspection, &issuing);
    evidence
}

fn issuers(inspection: &mut Inspection<'_>, list: &[CaAnswer]) {
    let enabled = list.iter().filter(|ca| ca.state == CaState::Enabled);
    let id = CheckId::Authorities;
    match (enabled.count(), list.len()) {
        (_, 0) => inspection.found.failed(id, "the pool has no CA"),
        (0, all) => {
            let names = list.iter().take(MOST_NAMES);
            let names = names.map(|ca| format!("{} is {}", clean(ca.id()), ca.state.as_str()));
            let mut names: Vec<String> = names.collect();
            if all > MOST_NAMES {
                names.push(format!("and {} more", all - MOST_NAMES));
            }
            let detail = format!(
                "no CA of the pool issues, which takes the state ENABLED: {}",
                names.join(", ")
            );
            inspection.found.failed(id, &detail);
        }
        (enabled, all) => {
            let of = count(all, "CA");
            let detail = format!("{enabled} of {of} issue (state ENABLED)");
            inspection.found.passed(id, &detail);
        }
    }
}

fn validity(inspection: &mut Inspection<'_>, issuing: &[Issuing]) {
    let (id, now) = (CheckId::AuthoritiesValidity, inspection.now);
    // A certificate ends with the first certificate of its path.
    let ends = issuing.iter().filter_map(|ca| {
        let first = ca.chain.iter().min_by_key(|one| one.not_after())?;
        Some((ca, first))
    });
    let Some((ca, first)) = ends.max_by_key(|(_, first)| first.not_after()) else {
        let why = "the certificates of the CAs could not be read";
        return inspection.found.skipped(id, Skip::Minor, why);
    };
    let (name, end) = (&ca.name, first.not_after());
    let left = end.duration_since(now);
    let whose = if ca.chain.first() == Some(first) {
        format!("the CA {name}")
    } else {
        format!("the CA \"{}\" above {name}", first.subject_text())
    };
    let asked = signed(inspection.facts.plan.validity);
    if left.is_negative() {
        let detail = format!(
            "no CA that issues is valid any more: {whose} expired at {end}, {} ago",
            span(left)
        );
        inspection.found.failed(id, &detail);
    } else if left < asked {
        let detail = format!(
            "{whose} ends at {end}, in {}: certificates end with it, before the {} that are asked \
             for are over",
            span(left),
            span(asked)
        );
        inspection.found.warned(id, &detail);
    } else if ends_soon(first, now) {
        let detail = format!(
            "{whose} ends at {end}, in {}, and no CA that issues ends later: add one to the pool",
            span(left)
        );
        inspection.found.warned(id, &detail);
    } else {
        let detail = format!("a CA issues for another {}", span(left));
        inspection.found.passed(id, &detail);
    }
}

/// The guide's troubleshooting: the issuing CA uses the same key family as the certificates.
fn family(inspection: &mut Inspection<'_>, issuing: &[Issuing]) {
    let id = CheckId::KeyFamily;
    if !inspection.is_configured {
        let why = "no configuration says which kind of keys workloads get";
        return inspection.found.skipped(id, Skip::Minor, why);
    }
    let algorithm = inspection.facts.plan.algorithm;
    let wanted = Family::of(algorithm);
    let odd = issuing.iter().find_map(|ca| {
        if ca.family.is_some_and(|family| family != wanted) {
            return Some(format!("the issuing CA {} has {}", ca.name, ca.algorithm));
        }
        let above = ca.chain.iter().skip(1).find(|one| {
            Family::of_key(one.public_key_kind()).is_some_and(|family| family != wanted)
        })?;
        let (subject, kind) = (above.subject_text(), above.public_key_kind());
        Some(format!("the CA \"{subject}\" above {} has {kind}", ca.name))
    });
    match odd {
        Some(odd) => {
            let detail = format!(
                "{odd}, and keyAlgorithm asks for {algorithm}: workloads' keys should be of the \
                 same family as those of their CAs, or some TLS stacks refuse them"
            );
            inspection.found.warned(id, &detail);
        }
        None if issuing.iter().all(|ca| ca.family.is_none()) => {
            let why = "the keys of the CAs are of no known family";
            inspection.found.skipped(id, Skip::Minor, why);
        }
        None => inspection
            .found
            .passed(id, "workloads and CAs have keys of one family"),
    }
}

/// The checks of the roots, and the roots.
pub(super) fn roots(inspection: &mut Inspection<'_>) -> Vec<Root> {
    let id = CheckId::Roots;
    let chains = match &inspection.facts.chains {
        None => return Vec::new(),
        Some(Err(error)) => {
            inspection.call_failed(id, error);
            return Vec::new();
        }
        Some(Ok(chains)) => chains,
    };
    let mut roots: Vec<Certificate> = Vec::new();
    for root in trust::roots(chains) {
        if !roots.contains(root) {
            roots.push(root.clone());
        }
    }
    if let Some(stranger) = roots.iter().find(|root| !root.is_ca()) {
        let subject = stranger.subject_text();
        let detail =
            format!("the pool gives \"{subject}\" as a root, which is not a CA certificate");
        inspection.found.failed(id, &detail);
    } else if roots.is_empty() {
        inspection
            .found
            .failed(id, "the pool has no CA, and so no root");
    } else {
        let number = count(roots.len(), "root");
        inspection
            .found
            .passed(id, &format!("the pool has {number}"));
        let lasting = roots::validity(&roots, inspection.now);
        inspection.found.record(CheckId::RootsValidity, lasting);
    }
    roots.iter().map(Root::of).collect()
}

fn describe(ca: &CaAnswer) -> Authority {
    let chain = ca.chain().unwrap_or_default();
    let own = chain.first();
    Authority {
        id: clean(ca.id()),
        state: ca.state.as_str(),
        is_root: ca.kind == CaKind::SelfSigned,
        key_algorithm: algorithm(ca, own),
        subject: own.map(|own| clean(&own.subject_text())),
        not_after: own.map(Certificate::not_after),
        create_time: ca.create_time,
    }
}

fn algorithm(ca: &CaAnswer, own: Option<&Certificate>) -> String {
    match (ca.key_spec.algorithm.as_str(), own) {
        ("", Some(own)) => own.public_key_kind().to_string(),
        ("", None) => "a key that is not known yet".to_owned(),
        (named, _) => clean(named),
    }
}

impl Issuing {
    fn of(ca: &CaAnswer) -> Self {
        let chain = ca.chain().unwrap_or_default();
        let own = chain.first();
        let family = match own {
            Some(own) => Family::of_key(own.public_key_kind()),
            None => Family::of_spec(&ca.key_spec.algorithm),
        };
        Self {
            name: clean(ca.id()),
            algorithm: algorithm(ca, own),
            family,
            chain,
        }
    }

    fn of_chain(chain: &[Certificate]) -> Option<Self> {
        let own = chain.first()?;
        Some(Self {
            name: format!("\"{}\"", clean(&own.subject_text())),
            algorithm: own.public_key_kind().to_string(),
            family: Family::of_key(own.public_key_kind()),
            chain: chain.to_vec(),
        })
    }
}

impl Family {
    fn of(algorithm: KeyAlgorithm) -> Self {
        if algorithm.rsa_modulus_bits().is_some() {
            Self::Rsa
        } else {
            Self::Ecdsa
        }
    }

    fn of_key(kind: PublicKeyKind) -> Option<Self> {
        match kind {
            PublicKeyKind::Rsa(_) => Some(Self::Rsa),
            PublicKeyKind::EcP256 | PublicKeyKind::EcP384 => Some(Self::Ecdsa),
            _ => None,
        }
    }

    /// By `keySpec.algorithm`, for example `RSA_PSS_4096_SHA256` and `EC_P256_SHA256`.
    fn of_spec(algorithm: &str) -> Option<Self> {
        if algorithm.starts_with("RSA_") {
            Some(Self::Rsa)
        } else if algorithm.starts_with("EC_") {
            Some(Self::Ecdsa)
        } else {
            None
        }
    }
}

#[cfg(test)]
#[path = "authorities_tests.rs"]
mod tests;
