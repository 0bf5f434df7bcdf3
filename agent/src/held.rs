//! One volume that the agent holds: its directory, its record, and what is known of the
//! certificate in it.
use std::{collections::BTreeMap, path::PathBuf};

use certagent_core::{
    config::CertificatePolicy,
    issued::IssuedChain,
    plan::{self, IssuePlan},
    request::PreparedRequest,
    rotation::{self, CertState},
};
use certagent_credentials::Snapshot;
use certagent_svid::{
    Certificate, PrivateKey, PublicKeyKind, SpiffeId, TrustBundle, TrustBundles, TrustDomain,
    bundle_map, certificate::hex, verify::VerifyError,
};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};
use tracing::{info, warn};

use crate::{
    status::CertificateStatus,
    trust::Trust,
    volume::{
        Access, Content, PendingError, Record, Sequence, StateDir, StateError, VolumeDir,
        VolumeError, VolumeId, VolumeState, Written,
    },
};

/// Whose credential goes where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The volume's directory, absolute.
    pub path: PathBuf,
    /// The identity of the workload that reads it.
    pub spiffe_id: SpiffeId,
    /// Owner, group and modes.
    pub access: Access,
}

/// A volume that is open and locked.
#[derive(Debug)]
pub struct Held {
    id: VolumeId,
    spiffe_id: SpiffeId,
    trust_domain: TrustDomain,
    dir: VolumeDir,
    state: VolumeState,
    certificate: Option<Installed>,
    sequences: BTreeMap<String, Sequence>,
    published_trust: Option<[u8; 32]>,
    resume: bool,
}

/// The certificate that is in the volume.
#[derive(Debug)]
struct Installed {
    state: CertState,
    serial: String,
    key: PublicKeyKind,
    public_key: Vec<u8>,
}

/// Why a volume cannot be held or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeldError {
    /// The volume's directory.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// The agent's own state of the volume.
    #[error(transparent)]
    State(#[from] StateError),
    /// The request under way.
    #[error(transparent)]
    Pending(#[from] PendingError),
    /// The identity has no valid trust domain; [`SpiffeId`] rules that out.
    #[error("{spiffe_id} has no trust domain")]
    TrustDomain {
        /// The identity.
        spiffe_id: SpiffeId,
    },
    /// The trust bundles cannot be written as a bundle map.
    #[error(transparent)]
    BundleMap(#[from] bundle_map::BundleMapError),
    /// The bundle of the workload's own trust domain is not known.
    #[error("the roots of {trust_domain} are not known yet")]
    NoBundle {
        /// The workload's trust domain.
        trust_domain: TrustDomain,
    },
    /// There is no credential whose trust could be rewritten.
    #[error("the volume holds no credential any more")]
    Empty,
}

impl Held {
    /// Opens and locks a volume, and takes up what is there: a certificate that is still good is
    /// kept without a request.
    pub fn open(
        assignment: &Assignment,
        state: &StateDir,
        policy: &CertificatePolicy,
        now: Timestamp,
    ) -> Result<Self, HeldError> {
        let spiffe_id = assignment.spiffe_id.clone();
        let trust_domain =
            plan::trust_domain(&spiffe_id).ok_or_else(|| HeldError::TrustDomain {
                spiffe_id: spiffe_id.clone(),
            })?;
        let dir = VolumeDir::open(&assignment.path, &assignment.access)?;
        let id = dir.id().clone();
        let state = state.volume(&id);
        let mut held = Self {
            id,
            spiffe_id,
            trust_domain,
            dir,
            state,
            certificate: None,
            sequences: BTreeMap::new(),
            published_trust: None,
            resume: false,
        };
        held.take_up(policy, now)?;
        Ok(held)
    }

    fn take_up(&mut self, policy: &CertificatePolicy, now: Timestamp) -> Result<(), HeldError> {
        let record = self.read_record()?;
        if let Some(record) = &record {
            self.sequences.clone_from(&record.sequences);
        }
        if let Some(snapshot) = self.read_credential() {
            self.published_trust = snapshot.bundles().map(trust_hash);
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
                let roots = roots_hash(bundle);
                self.sequences.insert(
                    bundle.trust_domain().to_string(),
                    Sequence { sequence, roots },
                );
            }
        }
    }

    fn read_record(&self) -> Result<Option<Record>, HeldError> {
        match self.state.load_record() {
            Ok(record) => Ok(record),
            Err(error) => {
                warn!(volume = %self.dir.path().display(), %error,
                    "the volume's record is set aside and rebuilt from the certificate");
                self.state.set_record_aside()?;
                Ok(None)
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
        let effective = match snapshot.verify(webpki::ALL_VERIFICATION_ALGS, now) {
            Ok(path) => path.effective_not_after(),
            // Its dates are rotation's business; all else makes it worthless.
            Err(VerifyError::Expired { .. } | VerifyError::NotYetValid { .. }) => {
                chain.earliest_not_after()
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
                "a valid credential without a record was found and is kept");
        }
        let lifetime =
            leaf.not_after().duration_since(leaf.not_before()) + SignedDuration::from_secs(1);
        let state = CertState {
            not_before: leaf.not_before(),
            not_after: effective,
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
        self.certificate = Some(Installed::new(leaf, state));
    }

    /// The volume's id.
    pub fn id(&self) -> &VolumeId {
        &self.id
    }

    /// Where it is.
    pub fn path(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Whose credential it is for.
    pub fn spiffe_id(&self) -> &SpiffeId {
        &self.spiffe_id
    }

    /// The workload's own trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// What rotation asks of the certificate; none without one.
    pub fn cert_state(&self) -> Option<&CertState> {
        self.certificate.as_ref().map(|installed| &installed.state)
    }

    /// What people see of the certificate.
    pub fn certificate_status(&self) -> Option<CertificateStatus> {
        self.certificate.as_ref().map(|there| CertificateStatus {
            serial: there.serial.clone(),
            key: there.key,
            not_before: there.state.not_before,
            issued_at: there.state.issued_at,
            not_after: there.state.not_after,
            window_start: rotation::window_start(&there.state),
            renew_at: rotation::due(&there.state),
        })
    }

    /// The certificate in the volume is for this key.
    pub fn is_installed(&self, key: &PrivateKey) -> bool {
        self.certificate
            .as_ref()
            .is_some_and(|there| there.public_key == key.public_key())
    }

    /// A request of an earlier process waits to be sent again.
    pub fn must_resume(&self) -> bool {
        self.resume
    }

    /// The request that is under way, with its key.
    pub fn pending(&self) -> Result<Option<(PrivateKey, PreparedRequest)>, HeldError> {
        Ok(self.state.pending().load()?)
    }

    /// Keeps a request and its key before the first byte leaves.
    pub fn keep_pending(
        &mut self,
        key: &PrivateKey,
        request: &PreparedRequest,
    ) -> Result<(), HeldError> {
        self.state.pending().save(key, request)?;
        Ok(())
    }

    /// Keeps what has become known of a request.
    pub fn update_pending(&mut self, request: &PreparedRequest) -> Result<(), HeldError> {
        self.state.pending().update(request)?;
        Ok(())
    }

    /// Drops the request and its key.
    pub fn clear_pending(&mut self) -> Result<(), HeldError> {
        self.resume = false;
        self.state.pending().clear()?;
        Ok(())
    }

    /// Writes a new certificate with its key and the trust beside it, then the record, then drops
    /// the request. Gives whether a certificate was there before. `trust` is the one that the
    /// chain was checked against.
    pub fn publish(
        &mut self,
        key: &PrivateKey,
        issued: &IssuedChain,
        request: &PreparedRequest,
        trust: &Trust,
        now: Timestamp,
    ) -> Result<bool, HeldError> {
        let chain_pem = issued.chain().to_pem();
        self.write(chain_pem, key, trust, Some(issued), now)?;
        let leaf = issued.chain().leaf();
        let state = CertState {
            not_before: leaf.not_before(),
            not_after: issued.effective_not_after(),
            issued_at: now,
            validity: SignedDuration::try_from(request.plan.validity)
                .unwrap_or(SignedDuration::MAX),
            rotation_window_percentage: request.plan.rotation_window_percentage,
            spread: rotation::spread(self.id.as_str(), &leaf.serial_hex()),
        };
        let before = self
            .certificate
            .replace(Installed::new(leaf, state))
            .is_some();
        self.write_record(&request.plan, Some(request.pool.to_string()))?;
        self.clear_pending()?;
        Ok(before)
    }

    /// The trust in the volume is not the trust that is active.
    pub fn trust_differs(&self, trust: &Trust) -> bool {
        trust.bundle(&self.trust_domain).is_some()
            && self.published_trust != Some(trust_hash(&self.whole(trust)))
    }

    /// The bundles to publish. A bundle never shrinks because a pool did not answer yet since this
    /// process began: until every anchor of a domain has, the roots in the volume stay beside the
    /// new ones.
    fn whole(&self, trust: &Trust) -> TrustBundles {
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

    /// Writes the active trust beside the certificate and key that are there.
    pub fn republish_trust(&mut self, trust: &Trust, now: Timestamp) -> Result<(), HeldError> {
        let snapshot = self.dir.read_current()?.ok_or(HeldError::Empty)?;
        let chain_pem = snapshot.chain().to_pem();
        self.write(chain_pem, snapshot.key(), trust, None, now)?;
        self.save_sequences()
    }

    /// Removes what is past its time, and says when to come again.
    pub fn prune(&self, now: Timestamp) -> Option<Timestamp> {
        if let Err(error) = self.dir.prune(now) {
            warn!(volume = %self.dir.path().display(), %error, "an old generation could not be removed");
        }
        self.dir.next_prune(now)
    }

    fn write(
        &mut self,
        chain_pem: String,
        key: &PrivateKey,
        trust: &Trust,
        checked: Option<&IssuedChain>,
        now: Timestamp,
    ) -> Result<Written, HeldError> {
        let bundles = self.whole(trust);
        let own = bundles
            .get(&self.trust_domain)
            .ok_or_else(|| HeldError::NoBundle {
                trust_domain: self.trust_domain.clone(),
            })?;
        let (trust_bundles, sequences) = self.render(&bundles)?;
        let content = Content {
            certificates: chain_pem,
            private_key: key.to_pem(),
            ca_certificates: own.to_pem(),
            trust_bundles,
        };
        let checked = checked.map(IssuedChain::chain);
        let checked_to = trust
            .bundle(&self.trust_domain)
            .map_or(&[][..], TrustBundle::roots);
        let written = self.dir.write(&content, now, &|snapshot: &Snapshot| {
            // What reads back as the chain and the roots that were verified a moment ago would
            // only verify once more; the signatures are a fifth of a whole issuance.
            if checked == Some(snapshot.chain())
                && !checked_to.is_empty()
                && checked_to.iter().all(|root| snapshot.roots().contains(root))
            {
                return Ok(());
            }
            let not_before = snapshot.chain().leaf().not_before();
            snapshot
                .verify(webpki::ALL_VERIFICATION_ALGS, now.max(not_before))
                .map(|_| ())
        })?;
        self.published_trust = Some(trust_hash(&bundles));
        self.sequences = sequences;
        Ok(written)
    }

    /// The bundle map, and the sequences in it: a domain's rises when, and only when, its roots
    /// change.
    fn render(
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

    fn write_record(&mut self, plan: &IssuePlan, pool: Option<String>) -> Result<(), HeldError> {
        let Some(installed) = &self.certificate else {
            return Ok(());
        };
        self.state.save_record(&Record {
            version: Record::VERSION,
            volume: self.dir.path().display().to_string(),
            spiffe_id: self.spiffe_id.to_string(),
            issued_at: installed.state.issued_at,
            validity_seconds: plan.validity.as_secs(),
            rotation_window_percentage: plan.rotation_window_percentage,
            serial: installed.serial.clone(),
            pool,
            sequences: self.sequences.clone(),
        })?;
        Ok(())
    }

    fn save_sequences(&mut self) -> Result<(), HeldError> {
        if let Some(mut record) = self.read_record()? {
            record.sequences.clone_from(&self.sequences);
            self.state.save_record(&record)?;
        }
        Ok(())
    }
}

impl Installed {
    fn new(leaf: &Certificate, state: CertState) -> Self {
        Self {
            state,
            serial: leaf.serial_hex(),
            key: leaf.public_key_kind(),
            public_key: leaf.public_key().to_vec(),
        }
    }
}

fn roots_hash(bundle: &TrustBundle) -> String {
    let mut digest = Sha256::new();
    for root in bundle.roots() {
        digest.update(root.fingerprint());
    }
    hex(&digest.finalize())
}

/// What the trust of a volume is compared by: every domain with its roots.
fn trust_hash(bundles: &TrustBundles) -> [u8; 32] {
    let mut digest = Sha256::new();
    for bundle in bundles.iter() {
        digest.update(bundle.trust_domain().as_str());
        digest.update([0]);
        digest.update(roots_hash(bundle));
    }
    digest.finalize().into()
}
