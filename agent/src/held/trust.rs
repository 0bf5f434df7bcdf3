//! The trust beside a credential: which bundles a volume gets, and when they are written anew.
use std::collections::BTreeMap;

use certagent_credentials::Snapshot;
use certagent_svid::{
    Certificate, TrustBundle, TrustBundles, bundle_map,
    certificate::hex,
    verify::{self, VerifyError},
};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::{Held, HeldError};
use crate::{trust::Trust, volume::Sequence};

impl Held {
    /// The files may not be as they should: the trust in the volume is not the trust that is
    /// active, or this process has not seen yet whether modes and owner are as configured.
    pub fn is_unsettled(&self, trust: &Trust) -> bool {
        if trust.bundle(&self.trust_domain).is_none() {
            return false;
        }
        !self.settled || self.published_trust != Some(hash(&self.whole(trust)))
    }

    /// The certificate leads to no root but a distrusted one: those who follow the same switch
    /// refuse it already.
    pub fn is_distrusted(&self) -> bool {
        !self.dropped.is_empty()
    }

    /// The bundles to publish: those in force, and beside them what is published already where it
    /// is not known what an earlier process knew.
    pub(super) fn whole(&self, trust: &Trust) -> TrustBundles {
        let mut bundles = trust.bundles().clone();
        if !bundles
            .iter()
            .any(|bundle| trust.keeps_published(bundle.trust_domain()))
        {
            return bundles;
        }
        let published = self.dir.read_current().ok().flatten();
        for old in published
            .iter()
            .filter_map(Snapshot::bundles)
            .flat_map(TrustBundles::iter)
        {
            let domain = old.trust_domain();
            if trust.keeps_published(domain) {
                let known = bundles
                    .get(domain)
                    .map(TrustBundle::roots)
                    .unwrap_or_default();
                let old = old.roots().iter().filter(|root| !trust.distrusts(root));
                let both = known.iter().chain(old).cloned().collect::<Vec<_>>();
                bundles.insert(TrustBundle::new(domain.clone(), both));
            }
        }
        bundles
    }

    /// Looks at a generation as its readers will see it.
    ///
    /// One whose chain leads to a root that was dropped in an emergency is good, too: the bundle
    /// must lose that root now, whether or not there is another certificate yet. Gives the dropped
    /// roots that the chain would need; usually none.
    pub(super) fn verify(
        &self,
        snapshot: &Snapshot,
        trust: &Trust,
        now: Timestamp,
    ) -> Result<Vec<Certificate>, VerifyError> {
        let algorithms = webpki::ALL_VERIFICATION_ALGS;
        let moment = now.max(snapshot.chain().leaf().not_before());
        let Err(error) = snapshot.verify(algorithms, moment) else {
            return Ok(Vec::new());
        };
        let published = self.dir.read_current().ok().flatten();
        let published = published.iter().flat_map(Snapshot::roots);
        let dropped: Vec<_> = published
            .chain(&self.dropped)
            .filter(|root| trust.distrusts(root))
            .cloned()
            .collect();
        let roots = snapshot.roots().iter().chain(&dropped).cloned();
        let roots = TrustBundle::new(self.trust_domain.clone(), roots);
        match verify::path(snapshot.chain(), &roots, algorithms, moment) {
            Ok(_) => Ok(dropped),
            Err(_no_better) => Err(error),
        }
    }

    /// Writes the active trust beside the certificate and key that are there, with modes and owner
    /// as configured. Gives whether anything had to be changed.
    pub fn settle(&mut self, trust: &Trust, now: Timestamp) -> Result<bool, HeldError> {
        let snapshot = self.dir.read_current()?.ok_or(HeldError::Empty)?;
        let chain_pem = snapshot.chain().to_pem();
        let written = self.write(chain_pem, snapshot.key(), trust, None, now)?;
        if written.changed {
            self.save_sequences()?;
        }
        Ok(written.changed)
    }

    /// The bundle map, and the sequences in it: a domain's rises when, and only when, its roots
    /// change.
    pub(super) fn render(
        &self,
        bundles: &TrustBundles,
    ) -> Result<(String, BTreeMap<String, Sequence>), HeldError> {
        let sequences: BTreeMap<String, Sequence> = bundles
            .iter()
            .map(|bundle| {
                let name = bundle.trust_domain().to_string();
                let roots = roots_hash(bundle);
                let sequence = match self.sequences.get(&name) {
                    Some(known) if known.roots == roots => known.sequence,
                    Some(known) => known.sequence.saturating_add(1),
                    None => 1,
                };
                (name, Sequence { sequence, roots })
            })
            .collect();
        let json = bundle_map::render(bundles, |domain| {
            sequences
                .get(domain.as_str())
                .map_or(1, |known| known.sequence)
        })?;
        Ok((json, sequences))
    }

    fn save_sequences(&mut self) -> Result<(), HeldError> {
        if let Some(mut record) = self.read_record() {
            record.sequences.clone_from(&self.sequences);
            self.state.save_record(&record)?;
        }
        Ok(())
    }
}

pub(super) fn roots_hash(bundle: &TrustBundle) -> String {
    let mut digest = Sha256::new();
    for root in bundle.roots() {
        digest.update(root.fingerprint());
    }
    hex(&digest.finalize())
}

/// What the trust of a volume is compared by: every domain with its roots.
pub(super) fn hash(bundles: &TrustBundles) -> [u8; 32] {
    let mut digest = Sha256::new();
    for bundle in bundles.iter() {
        digest.update(bundle.trust_domain().as_str());
        digest.update([0]);
        digest.update(roots_hash(bundle));
    }
    digest.finalize().into()
}
