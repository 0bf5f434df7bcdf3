//! The checks of key and certificate.
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _,
    RsaKeyPair,
};
use certagent_svid::{
    Certificate, Chain, KeyError, PrivateKey, TrustDomain, layout,
    leaf::{spiffe_id, svid},
};
use jiff::Timestamp;
use rustls_pki_types::{PrivatePkcs1KeyDer, PrivateSec1KeyDer, pem::PemObject as _};

use super::{
    super::{
        report::{Finding, Skip},
        text::{clean, count, span},
    },
    RenewalHint,
    checks::{Contents, Inspection, chain_problem, no_content},
    life,
    report::CheckId,
    who,
};

/// A Workload asks for no more DNS names; more are not shown.
const MOST_DNS_NAMES: usize = 32;

/// A key that TLS stacks can read, or some of them.
pub(super) enum Key {
    Pkcs8(PrivateKey),
    /// SEC1 or PKCS#1: only its public half is kept.
    Older {
        public_key: Vec<u8>,
    },
}

impl Key {
    fn fits(&self, certificate: &Certificate) -> bool {
        match self {
            Self::Pkcs8(key) => key.fits(certificate),
            // The bare key is the end of a SubjectPublicKeyInfo.
            Self::Older { public_key } => certificate.public_key().ends_with(public_key),
        }
    }
}

/// `certificates.pem`, or the bundle in its place, holds one chain, in order.
pub(super) fn chain(inspection: &mut Inspection<'_>, contents: &Contents<'_>) -> Option<Chain> {
    let [name, _] = contents.pair();
    let pem = match contents.get(name) {
        Ok(pem) => pem,
        Err(problem) => {
            inspection.record(CheckId::Certificates, no_content(name, problem));
            return None;
        }
    };
    let list = Certificate::parse_pem_list(pem);
    let chain = match list.clone().map_err(Into::into).and_then(Chain::order) {
        Ok(chain) => chain,
        Err(_) if pem.is_empty() => {
            inspection.failed(CheckId::Certificates, &format!("{name} is empty"));
            return None;
        }
        Err(error) => {
            let problem = chain_problem(&error);
            inspection.failed(CheckId::Certificates, &format!("{name}: {problem}"));
            return None;
        }
    };
    let length = count(1 + chain.intermediates().len(), "certificate");
    inspection.passed(
        CheckId::Certificates,
        &format!("{name} holds a chain of {length}"),
    );
    let leaf_is_first = list.is_ok_and(|list| list.first() == Some(chain.leaf()));
    if !leaf_is_first {
        let problem = format!(
            "{name} does not begin with the workload's own certificate: TLS stacks take the \
             first one as theirs"
        );
        inspection.failed(CheckId::ChainOrder, &problem);
    } else if chain.was_repaired() {
        let problem =
            format!("the intermediates in {name} are out of order: some TLS stacks refuse that");
        inspection.warned(CheckId::ChainOrder, &problem);
    } else {
        inspection.passed(CheckId::ChainOrder, "leaf first, then its issuers");
    }
    describe(inspection, &chain);
    Some(chain)
}

fn describe(inspection: &mut Inspection<'_>, chain: &Chain) {
    let leaf = chain.leaf();
    let remaining = chain.earliest_not_after().duration_since(inspection.now);
    let evidence = &mut inspection.evidence;
    evidence.identity = match (spiffe_id(leaf), leaf.names().uris.first()) {
        (Ok(id), _) => Some(clean(&id.to_string())),
        (Err(_), uri) => uri.map(|uri| clean(uri)),
    };
    let names = leaf.names();
    evidence.common_name = leaf.common_name().map(clean);
    let shown = names.dns.iter().take(MOST_DNS_NAMES);
    evidence.dns_names = shown.map(|name| clean(name)).collect();
    evidence.serial = Some(clean(&leaf.serial_hex()));
    evidence.algorithm = Some(leaf.public_key_kind().to_string());
    evidence.issuer = Some(clean(&leaf.issuer_text()));
    evidence.not_before = Some(leaf.not_before());
    evidence.not_after = Some(leaf.not_after());
    evidence.remaining_seconds = Some(remaining.as_secs());
    cut_path(inspection, leaf, chain.earliest_not_after());
}

/// Notes that the path ends at `end`, if that is before the leaf does.
pub(super) fn cut_path(inspection: &mut Inspection<'_>, leaf: &Certificate, end: Timestamp) {
    if end < leaf.not_after() {
        inspection.evidence.path_not_after = Some(end);
        let remaining = end.duration_since(inspection.now).as_secs();
        inspection.evidence.remaining_seconds = Some(remaining);
    }
}

/// The leaf is an X.509-SVID. Gives its trust domain even where another rule is broken.
pub(super) fn leaf(inspection: &mut Inspection<'_>, chain: &Chain) -> Option<TrustDomain> {
    match svid(chain.leaf()) {
        Ok(_) => inspection.passed(CheckId::Svid, "the leaf is an X.509-SVID"),
        Err(error) => inspection.failed(CheckId::Svid, &error.to_string()),
    }
    spiffe_id(chain.leaf())
        .ok()
        .map(|id| id.trust_domain().clone())
}

/// `private_key.pem`, or the bundle in its place, is there, in a form and of a family that workloads can use.
pub(super) fn key(inspection: &mut Inspection<'_>, contents: &Contents<'_>) -> Option<Key> {
    let [_, name] = contents.pair();
    let pem = match contents.get(name) {
        Ok(pem) => pem,
        Err(problem) => {
            inspection.record(CheckId::PrivateKey, no_content(name, problem));
            return None;
        }
    };
    let error = match PrivateKey::from_pem(pem) {
        Ok(key) => {
            inspection.passed(CheckId::PrivateKey, &format!("{} in PKCS#8", key.kind()));
            return Some(Key::Pkcs8(key));
        }
        Err(error) => error,
    };
    if let KeyError::NotPkcs8 { label } = error
        && let Some(public_key) = older_public_key(pem)
    {
        let problem = format!(
            "{name} is in the form \"{label}\": gRPC for Java, for one, reads only PKCS#8 \
             (\"PRIVATE KEY\")"
        );
        inspection.warned(CheckId::PrivateKey, &problem);
        return Some(Key::Older { public_key });
    }
    let problem = if pem.is_empty() {
        "the file is empty".to_owned()
    } else {
        error.to_string()
    };
    inspection.failed(CheckId::PrivateKey, &format!("{name}: {problem}"));
    None
}

/// The public half of a key in one of the older forms.
fn older_public_key(pem: &[u8]) -> Option<Vec<u8>> {
    if let Ok(der) = PrivateSec1KeyDer::from_pem_slice(pem) {
        return [
            &ECDSA_P256_SHA256_ASN1_SIGNING,
            &ECDSA_P384_SHA384_ASN1_SIGNING,
        ]
        .into_iter()
        .find_map(|curve| EcdsaKeyPair::from_private_key_der(curve, der.secret_sec1_der()).ok())
        .map(|pair| pair.public_key().as_ref().to_vec());
    }
    let der = PrivatePkcs1KeyDer::from_pem_slice(pem).ok()?;
    let pair = RsaKeyPair::from_der(der.secret_pkcs1_der()).ok()?;
    Some(pair.public_key().as_ref().to_vec())
}

/// Key and leaf belong together.
pub(super) fn pair(
    inspection: &mut Inspection<'_>,
    contents: &Contents<'_>,
    chain: &Chain,
    key: &Key,
) {
    let fits = key.fits(chain.leaf());
    inspection.evidence.key_matches = Some(fits);
    if fits {
        inspection.passed(CheckId::KeyMatch, "the key belongs to the certificate");
        return;
    }
    let [certificates, private_key] = contents.pair();
    let problem = if certificates == private_key {
        format!("the key in {private_key} does not belong to the certificate beside it")
    } else {
        format!(
            "the key in {private_key} does not belong to the certificate in {certificates}: the two \
             are of different generations, or of different workloads"
        )
    };
    inspection.failed(CheckId::KeyMatch, &problem);
}

/// Every certificate of the chain is valid now, and enough life is left. True unless it failed.
pub(super) fn validity(inspection: &mut Inspection<'_>, chain: &Chain) -> bool {
    let now = inspection.now;
    for certificate in std::iter::once(chain.leaf()).chain(chain.intermediates()) {
        let who = who(certificate);
        if now > certificate.not_after() {
            let ended = certificate.not_after();
            let ago = span(now.duration_since(ended));
            let problem = format!(
                "the certificate of \"{who}\" expired at {ended}, {ago} ago: nothing renewed it"
            );
            inspection.failed(CheckId::Validity, &problem);
            return false;
        }
        if now < certificate.not_before() {
            let begins = certificate.not_before();
            let ahead = span(begins.duration_since(now));
            let problem = format!(
                "the certificate of \"{who}\" is valid from {begins}, which is {ahead} ahead: this \
                 machine's clock is behind the CA's"
            );
            inspection.failed(CheckId::Validity, &problem);
            return false;
        }
    }
    let end = chain.earliest_not_after();
    let (life, late) = life(chain.leaf(), end, hint(inspection, chain.leaf()));
    let left = end.duration_since(now);
    if left < late {
        let problem = format!(
            "renewal is overdue: {} of {} are left, and nothing renewed the certificate yet",
            span(left),
            span(life)
        );
        inspection.warned(CheckId::Validity, &problem);
    } else {
        inspection.passed(
            CheckId::Validity,
            &format!("valid for another {}", span(left)),
        );
    }
    true
}

/// When the certificate will be renewed, if the record is known.
pub(super) fn renewal(inspection: &mut Inspection<'_>, chain: &Chain) {
    let leaf = chain.leaf();
    let Some(hint) = hint(inspection, leaf) else {
        return;
    };
    let not_after = inspection
        .evidence
        .path_not_after
        .unwrap_or(leaf.not_after());
    inspection.evidence.renews_at = hint.due(leaf, not_after);
}

/// What the record knows of the names that are asked for; nothing is said where it knows of none.
pub(super) fn names(inspection: &mut Inspection<'_>, chain: &Chain) {
    let hint = hint(inspection, chain.leaf());
    let Some(asked) = hint.and_then(|hint| hint.asked_names.as_ref()) else {
        return;
    };
    let common_name = match &asked.common_name {
        Some(name) => format!("commonName {name}"),
        None => "no commonName".to_owned(),
    };
    let dns_names = match asked.dns_names.as_slice() {
        [] => "no dnsNames".to_owned(),
        names => format!("dnsNames {}", names.join(", ")),
    };
    let detail = clean(&format!(
        "the Workload asks for {common_name} and {dns_names}, and no certificate with these names \
         was issued yet: the one that is there has those before"
    ));
    inspection.warned(CheckId::Names, &detail);
}

/// The record, if it is of this certificate.
fn hint<'a>(inspection: &Inspection<'a>, leaf: &Certificate) -> Option<&'a RenewalHint> {
    inspection
        .renewal
        .filter(|hint| hint.serial == leaf.serial_hex())
}

/// `credential-bundle.pem`, which may be missing, holds the same key and chain.
pub(super) fn bundle(
    inspection: &mut Inspection<'_>,
    contents: &Contents<'_>,
    chain: Option<&Chain>,
    key: Option<&Key>,
) {
    let name = layout::CREDENTIAL_BUNDLE;
    if inspection.evidence.bundle_only {
        if let (Some(_), Some(_)) = (chain, key) {
            let detail = "key and chain are in this file, and have none of their own";
            inspection.passed(CheckId::CredentialBundle, detail);
        }
        return;
    }
    let pem = match contents.get(name) {
        Ok(pem) => pem,
        Err(certagent_credentials::FileProblem::Missing) => {
            let why = "this file is optional, and not there".to_owned();
            inspection.record(
                CheckId::CredentialBundle,
                Finding::Skipped(Skip::Minor, why),
            );
            return;
        }
        Err(problem) => {
            inspection.record(CheckId::CredentialBundle, no_content(name, problem));
            return;
        }
    };
    let (bundled_key, bundled_chain) = match (PrivateKey::from_pem(pem), Chain::parse_pem(pem)) {
        (Ok(key), Ok(chain)) => (key, chain),
        (Err(error), _) => {
            inspection.failed(CheckId::CredentialBundle, &format!("{name}: {error}"));
            return;
        }
        (_, Err(error)) => {
            let problem = chain_problem(&error);
            inspection.failed(CheckId::CredentialBundle, &format!("{name}: {problem}"));
            return;
        }
    };
    if !bundled_key.fits(bundled_chain.leaf()) {
        let problem = format!("the key in {name} does not belong to the certificate beside it");
        inspection.failed(CheckId::CredentialBundle, &problem);
        return;
    }
    let (Some(chain), Some(Key::Pkcs8(key))) = (chain, key) else {
        return;
    };
    let same_chain = bundled_chain.leaf() == chain.leaf()
        && bundled_chain.intermediates() == chain.intermediates();
    if same_chain && bundled_key.public_key() == key.public_key() {
        inspection.passed(CheckId::CredentialBundle, "the same key and chain");
    } else {
        let problem = format!(
            "{name} holds another credential than certificates.pem and private_key.pem: they were \
             not written together"
        );
        inspection.warned(CheckId::CredentialBundle, &problem);
    }
}
