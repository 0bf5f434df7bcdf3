//! The trust beside a credential: which bundles a volume gets, and when they are written anew.
use std::collections::BTreeMap;

use certagent_credentials::Snapshot;
use certagent_svid::{TrustBundle, TrustBundles, bundle_map, certificate::hex};
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

    /// The bundles to publish. A bundle never shrinks because a pool did not answer yet since this
    /// process began: until every anchor of a domain has, the roots in the volume stay beside the
    /// new ones.
    pub(super) fn whole(&self, trust: &Trust) -> TrustBundles {
        let mut bundles = trust.bundles().clone();
        if bundles
            .iter()
            .all(|bundle| trust.is_complete(bundle.trust_domain()))
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
            if trust.is_anchored(domain) && !trust.is_complete(domain) {
                let known = bundles
                    .get(domain)
                    .map(TrustBundle::roots)
                    .unwrap_or_default();
                let both = known.iter().chain(old.roots()).cloned().collect::<Vec<_>>();
                bundles.insert(TrustBundle::new(domain.clone(), both));
            }
        }
        bundles
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
