//! Trust as it stands in `TrustConfig.status`: roots instead of the places where they are fetched.
//!
//! Source of the form: `renderedTrustStores` of the kind `TrustConfig` in
//! `security.cloud.google.com/v1`.
use std::collections::BTreeMap;

use certagent_svid::{Certificate, TrustBundle, TrustBundles, TrustDomain};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize as _;
use serde_json::Value;

use crate::{
    kube::schema::{RenderedTrustAnchor, RenderedTrustStore},
    trust::Trust,
};

/// The field of the status.
pub(super) const FIELD: &str = "renderedTrustStores";

/// More is not written, in bytes of JSON: an API server keeps objects of 1.5 MiB.
const LARGEST: usize = 1024 * 1024;

/// More roots are not read of one object.
const MOST_ROOTS: usize = 4096;

/// Makes what is rendered follow what is known.
///
/// Roots that stand in the object already and that [`Trust`] does not know may be ones that it was
/// never told of, since a source is away; or ones that were removed while nobody looked. So they
/// stay until every anchor of their trust domain has answered, and for one validity after that.
/// What is known once goes when [`Trust`] lets it go.
#[derive(Debug)]
pub(super) struct Renderer {
    inherited: BTreeMap<TrustDomain, Inherited>,
}

/// Roots of one trust domain that nobody but the object names.
#[derive(Debug, Default)]
struct Inherited {
    roots: Vec<Certificate>,
    /// Since when every anchor is known.
    since: Option<Timestamp>,
}

impl Renderer {
    /// Begins with what stands in the object.
    pub(super) fn new(rendered: &TrustBundles) -> Self {
        let inherit = |bundle: &TrustBundle| {
            let roots = bundle.roots().to_vec();
            let inherited = Inherited { roots, since: None };
            (bundle.trust_domain().clone(), inherited)
        };
        Self {
            inherited: rendered.iter().map(inherit).collect(),
        }
    }

    /// What has to stand there at `now`. A trust domain without a known root is left out, and so
    /// is one that has no anchors any more.
    pub(super) fn render(
        &mut self,
        trust: &Trust,
        validity: SignedDuration,
        now: Timestamp,
    ) -> TrustBundles {
        self.inherited.retain(|domain, _| trust.is_anchored(domain));
        for (domain, inherited) in &mut self.inherited {
            inherited.follow(domain, trust, validity, now);
        }
        let mut all = trust.bundles().clone();
        for (domain, inherited) in &self.inherited {
            let known = all.get(domain).map(TrustBundle::roots).unwrap_or_default();
            let roots = known.iter().chain(&inherited.roots).cloned();
            let bundle = TrustBundle::new(domain.clone(), roots);
            if !bundle.roots().is_empty() {
                all.insert(bundle);
            }
        }
        all
    }
}

impl Inherited {
    fn follow(
        &mut self,
        domain: &TrustDomain,
        trust: &Trust,
        validity: SignedDuration,
        now: Timestamp,
    ) {
        let known = trust.bundle(domain).map(TrustBundle::roots);
        let known = known.unwrap_or_default();
        self.roots.retain(|root| {
            !known.contains(root) && !trust.distrusts(root) && now < root.not_after()
        });
        if trust.is_complete(domain) {
            // A moment ahead was noted before the clock was set back.
            let since = self.since.unwrap_or(now).min(now);
            self.since = Some(since);
            if now.duration_since(since) >= validity {
                self.roots.clear();
            }
        }
    }
}

/// The roots that stand in a status. What cannot be read is passed over.
pub(super) fn read(status: &Value) -> TrustBundles {
    let stores = status.get(FIELD).and_then(Value::as_array);
    let stores = stores.into_iter().flatten();
    let mut left = MOST_ROOTS;
    let mut all = BTreeMap::<TrustDomain, Vec<Certificate>>::new();
    for store in stores.filter_map(|store| RenderedTrustStore::deserialize(store).ok()) {
        let Ok(domain) = TrustDomain::new(&store.trust_domain) else {
            continue;
        };
        let roots = all.entry(domain).or_default();
        let anchors = store.trust_anchors.iter();
        for pem in anchors.flat_map(|anchor| &anchor.pem_certificates) {
            let found = Certificate::parse_pem_list(pem.as_bytes()).unwrap_or_default();
            let found = found.into_iter().filter(Certificate::is_ca).take(left);
            let before = roots.len();
            roots.extend(found);
            left -= roots.len() - before;
        }
    }
    let bundle = |(domain, roots)| TrustBundle::new(domain, roots);
    let bundles = all.into_iter().map(bundle);
    bundles
        .filter(|bundle| !bundle.roots().is_empty())
        .collect()
}

/// The roots in the form of the status: by trust domain and fingerprint, so that the same roots
/// are always the same text. None if they are too many for an object.
pub(super) fn form(bundles: &TrustBundles) -> Option<Value> {
    let store = |bundle: &TrustBundle| RenderedTrustStore {
        trust_domain: bundle.trust_domain().to_string(),
        trust_anchors: vec![RenderedTrustAnchor {
            pem_certificates: bundle.roots().iter().map(Certificate::to_pem).collect(),
        }],
    };
    let stores: Vec<_> = bundles.iter().map(store).collect();
    let form = serde_json::to_value(stores).ok()?;
    (form.to_string().len() <= LARGEST).then_some(form)
}

#[cfg(test)]
#[cfg(feature = "emulator")]
#[path = "render_tests.rs"]
mod tests;
