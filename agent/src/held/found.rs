//! What is found in a volume that is opened: a credential, its record, a request under way.
use certagent_core::{
    config::CertificatePolicy,
    names::SubjectNames,
    rotation::{self, CertState},
};
use certagent_credentials::Snapshot;
use certagent_svid::{TrustBundles, verify::VerifyError};
use jiff::{SignedDuration, Timestamp};
use tracing::{info, warn};

use super::{Held, HeldError, Installed, trust};
use crate::volume::{Record, Sequence};

impl Held {
    pub(super) fn take_up(
        &mut self,
        policy: &CertificatePolicy,
        now: Timestamp,
    ) -> Result<(), HeldError> {
        let record = self.read_record();
        if let Some(record) = &record {
            self.sequences.clone_from(&record.sequences);
        }
        if let Some(snapshot) = self.read_credential() {
            self.published_trust = snapshot.bundles().map(trust::hash);
            self.take_up_sequences(&snapshot);
            self.install_found(&snapshot, record.as_ref(), policy, now);
        }
        let pending = match self.pending() {
            Ok(pending) => pending,
            // Looked at, and given up, when the volume is provisioned.
            Err(error) => {
                warn!(volume = %self.dir.path().display(), %error);
                self.resume = true;
                return Ok(());
            }
        };
        let Some((key, request)) = pending else {
            return Ok(());
        };
        if self.is_installed(&key) {
            // The process ended between the swap and the end of its book-keeping.
            info!(volume = %self.dir.path().display(), "finishing what an earlier process began");
            self.write_record(&request.plan, Some(request.pool.to_string()))?;
            self.state.pending().clear()?;
        } else {
            self.resume = true;
        }
        Ok(())
    }

    /// What readers have seen counts, and is all that is known when the record is lost.
    fn take_up_sequences(&mut self, snapshot: &Snapshot) {
        for bundle in snapshot.bundles().into_iter().flat_map(TrustBundles::iter) {
            if let Some(sequence) = snapshot.sequence(bundle.trust_domain()) {
                let roots = trust::roots_hash(bundle);
                self.sequences.insert(
                    bundle.trust_domain().to_string(),
                    Sequence { sequence, roots },
                );
            }
        }
    }

    pub(super) fn read_record(&self) -> Option<Record> {
        match self.state.load_record() {
            Ok(record) => record,
            Err(error) => {
                warn!(volume = %self.dir.path().display(), %error,
                    "the volume's record is set aside and rebuilt from the certificate");
                if let Err(error) = self.state.set_record_aside() {
                    warn!(volume = %self.dir.path().display(), %error,
                        "it cannot be set aside either; move it away");
                }
                None
            }
        }
    }

    fn read_credential(&self) -> Option<Snapshot> {
        match self.dir.read_current() {
            Ok(snapshot) => snapshot,
            Err(error) => {
                warn!(volume = %self.dir.path().display(), %error,
                    "the volume's credential cannot be read and will be replaced");
                None
            }
        }
    }

    fn install_found(
        &mut self,
        snapshot: &Snapshot,
        record: Option<&Record>,
        policy: &CertificatePolicy,
        now: Timestamp,
    ) {
        if *snapshot.spiffe_id() != self.spiffe_id {
            warn!(volume = %self.dir.path().display(), found = %snapshot.spiffe_id(),
                wanted = %self.spiffe_id,
                "the volume holds the credential of another identity; it will be replaced");
            return;
        }
        let chain = snapshot.chain();
        let leaf = chain.leaf();
        let (effective, authorities) = match snapshot.verify(webpki::ALL_VERIFICATION_ALGS, now) {
            Ok(path) => (
                path.effective_not_after(),
                Some(path.authorities_not_after()),
            ),
            // Its dates are rotation's business; all else makes it worthless.
            Err(VerifyError::Expired { .. } | VerifyError::NotYetValid { .. }) => {
                (chain.earliest_not_after(), chain.authorities_not_after())
            }
            Err(error) => {
                warn!(volume = %self.dir.path().display(), %error,
                    "the volume's credential does not verify to its own roots and will be replaced");
                return;
            }
        };
        let serial = leaf.serial_hex();
        let record = record.filter(|record| record.serial == serial);
        if record.is_none() {
            info!(volume = %self.dir.path().display(), serial,
                "a credential without a record was found and is kept");
        }
        let lifetime =
            leaf.not_after().duration_since(leaf.not_before()) + SignedDuration::from_secs(1);
        let state = CertState {
            not_before: leaf.not_before(),
            not_after: effective,
            authorities_until: authorities,
            issued_at: record.map_or(leaf.not_before(), |record| record.issued_at),
            validity: record.map_or(lifetime, |record| {
                SignedDuration::from_secs(
                    i64::try_from(record.validity_seconds).unwrap_or(i64::MAX),
                )
            }),
            rotation_window_percentage: record.map_or(policy.rotation_window_percentage, |r| {
                r.rotation_window_percentage
            }),
            spread: rotation::spread(self.id.as_str(), &serial),
        };
        let installed = Installed::new(leaf, state, &self.names);
        if installed.is_misnamed {
            info!(volume = %self.dir.path().display(), serial,
                "the certificate has other names than commonName and dnsNames ask for; it stays until there is another");
        }
        let asked = installed.is_misnamed.then(|| self.names.clone());
        if let Some(record) = record.filter(|record| record.asked_names != asked) {
            self.note_asked(record, asked);
        }
        self.generation = self.dir.generation();
        self.certificate = Some(installed);
    }

    /// For whoever inspects the volume: nothing here depends on it.
    fn note_asked(&self, record: &Record, asked_names: Option<SubjectNames>) {
        let record = Record {
            asked_names,
            ..record.clone()
        };
        if let Err(error) = self.state.save_record(&record) {
            warn!(volume = %self.dir.path().display(), %error,
                "the names that are asked for could not be noted");
        }
    }
}
