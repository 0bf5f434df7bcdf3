//! One volume that the agent holds: its directory, its record, and what is known of the
//! certificate in it.
mod assignment;
mod found;
mod recover;
mod trust;

use std::{cell::RefCell, collections::BTreeMap, path::Path};

use certagent_core::{
    config::{CertificatePolicy, Config},
    issued::IssuedChain,
    names::SubjectNames,
    plan::{self, IssuePlan, PlanError},
    request::PreparedRequest,
    rotation::{self, CertState},
    spread_rotation::SpreadRotation,
};
use certagent_credentials::Snapshot;
use certagent_svid::{
    Certificate, PrivateKey, PublicKeyKind, SpiffeId, TrustBundle, TrustDomain, bundle_map,
    verify::VerifyError,
};
use jiff::{SignedDuration, Timestamp};
use tracing::warn;

pub use assignment::{Assignment, Beside};
pub use recover::recover;

use crate::{
    google::Caller,
    issuer::Behalf,
    schedule::Priority,
    status::CertificateStatus,
    trust::Trust,
    volume::{
        Content, PendingError, PodRecord, Record, Sequence, StateDir, StateError, VolumeDir,
        VolumeError, VolumeId, VolumeState, Written, owner::OwnerError,
    },
};

/// A volume that is open and locked.
#[derive(Debug)]
pub struct Held {
    id: VolumeId,
    spiffe_id: SpiffeId,
    trust_domain: TrustDomain,
    names: SubjectNames,
    caller: Caller,
    dir: VolumeDir,
    state: VolumeState,
    pod: Option<PodRecord>,
    certificate: Option<Installed>,
    /// The generation that is published, if this process has seen or written one.
    generation: Option<String>,
    sequences: BTreeMap<String, Sequence>,
    published_trust: Option<[u8; 32]>,
    settled: bool,
    /// Distrusted roots without which the certificate leads nowhere.
    dropped: Vec<Certificate>,
    resume: bool,
    sending: bool,
}

/// The certificate that is in the volume.
#[derive(Debug)]
struct Installed {
    state: CertState,
    serial: String,
    key: PublicKeyKind,
    public_key: Vec<u8>,
    /// Its names are others than those that are asked for now.
    is_misnamed: bool,
}

/// Why a volume cannot be held or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeldError {
    /// The volume's directory.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// Owner or group.
    #[error(transparent)]
    Owner(#[from] OwnerError),
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
        let dir = VolumeDir::open(&assignment.path, &assignment.access()?)?;
        let id = dir.id().clone();
        let state = assignment.kept(state, &id, dir.is_on_disk());
        let beside = assignment.beside.as_ref();
        let mut held = Self {
            id,
            spiffe_id,
            trust_domain,
            names: assignment.names.clone(),
            caller: assignment.caller.clone(),
            dir,
            state,
            pod: beside.map(|beside| beside.pod.clone()),
            certificate: None,
            generation: None,
            sequences: BTreeMap::new(),
            published_trust: None,
            settled: false,
            dropped: Vec::new(),
            resume: false,
            sending: false,
        };
        held.take_up(policy, now)?;
        Ok(held)
    }

    /// The volume's id.
    pub fn id(&self) -> &VolumeId {
        &self.id
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
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

    /// What is asked for under the active configuration.
    pub fn plan(&self, config: &Config) -> Result<IssuePlan, PlanError> {
        let plan = IssuePlan::new(&config.certificates, &config.trust, self.spiffe_id.clone())?;
        let plan = plan.with_subject_mode(self.caller.subject_mode());
        Ok(plan.with_names(self.names.clone()))
    }

    /// Whether a request asks for the identity and the names of this volume, in the way in which
    /// they are asked for now.
    pub fn is_for_us(&self, request: &PreparedRequest) -> bool {
        let plan = &request.plan;
        plan.spiffe_id == self.spiffe_id
            && plan.subject_mode == self.caller.subject_mode()
            && plan.names == self.names
    }

    /// The certificate that is there has other names than those that are asked for now: it is good
    /// until there is another.
    pub fn is_misnamed(&self) -> bool {
        self.certificate
            .as_ref()
            .is_some_and(|there| there.is_misnamed)
    }

    /// The name of the generation that is published with the certificate; none without one.
    pub fn generation(&self) -> Option<&str> {
        self.certificate.as_ref().and(self.generation.as_deref())
    }

    /// On whose behalf its certificates are asked for, and how urgent that is now.
    pub fn behalf(&self, now: Timestamp) -> Behalf {
        Behalf {
            caller: self.caller.clone(),
            priority: self.priority(now),
            needed_by: self.cert_state().map(|state| state.not_after),
            pod: self.pod.clone(),
            is_renamed: self.is_misnamed(),
        }
    }

    /// Who goes first among those that are due.
    pub fn priority(&self, now: Timestamp) -> Priority {
        let Some(state) = self.cert_state() else {
            return Priority::New;
        };
        Priority::of_renewal(state.not_after, rotation::usable(state), now)
    }

    /// What rotation asks of the certificate; none without one.
    pub fn cert_state(&self) -> Option<&CertState> {
        self.certificate.as_ref().map(|installed| &installed.state)
    }

    /// What people see of the certificate, where everybody may have been `asked` to renew ahead of
    /// time.
    pub fn certificate_status(&self, asked: Option<SpreadRotation>) -> Option<CertificateStatus> {
        let hastened = |there: &Installed| asked.and_then(|asked| asked.due(&there.state));
        self.certificate.as_ref().map(|there| CertificateStatus {
            serial: there.serial.clone(),
            key: there.key,
            not_before: there.state.not_before,
            issued_at: there.state.issued_at,
            not_after: there.state.not_after,
            window_start: rotation::window_start(&there.state),
            renew_at: hastened(there)
                .unwrap_or(Timestamp::MAX)
                .min(rotation::due(&there.state)),
            is_to_rotate: hastened(there).is_some(),
        })
    }

    /// Nobody has replaced the directory, or taken away what was published in it.
    pub fn is_in_place(&self) -> bool {
        self.dir.is_at_its_path() && (self.certificate.is_none() || self.dir.is_published())
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

    /// The request under way is being sent, and nothing has come back yet.
    pub fn is_sending(&self) -> bool {
        self.sending
    }

    /// Says that the request under way leaves now, or that something came back.
    pub(crate) fn note_sending(&mut self, sending: bool) {
        self.sending = sending;
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
            authorities_until: Some(issued.authorities_not_after()),
            issued_at: now,
            validity: SignedDuration::try_from(request.plan.validity)
                .unwrap_or(SignedDuration::MAX),
            rotation_window_percentage: request.plan.rotation_window_percentage,
            spread: rotation::spread(self.id.as_str(), &leaf.serial_hex()),
        };
        let before = self
            .certificate
            .replace(Installed::new(leaf, state, &self.names))
            .is_some();
        self.write_record(&request.plan, Some(request.pool.to_string()))?;
        self.clear_pending()?;
        Ok(before)
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
        let dropped = RefCell::new(None);
        let written = self.dir.write(&content, now, &|snapshot: &Snapshot| {
            // What reads back as the chain and the roots that were verified a moment ago would
            // only verify once more; the signatures are a fifth of a whole issuance.
            if checked == Some(snapshot.chain())
                && !checked_to.is_empty()
                && checked_to
                    .iter()
                    .all(|root| snapshot.roots().contains(root))
            {
                dropped.replace(Some(Vec::new()));
                return Ok(());
            }
            dropped.replace(Some(self.verify(snapshot, trust, now)?));
            Ok::<_, VerifyError>(())
        })?;
        // Where nothing had to be written nothing was looked at.
        if let Some(dropped) = dropped.take() {
            self.dropped = dropped;
        }
        self.published_trust = Some(trust::hash(&bundles));
        self.settled = true;
        self.sequences = sequences;
        self.generation = Some(written.generation.clone());
        Ok(written)
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
            pod: self.pod.clone(),
            asked_names: None,
        })?;
        Ok(())
    }
}

impl Installed {
    fn new(leaf: &Certificate, state: CertState, names: &SubjectNames) -> Self {
        Self {
            state,
            serial: leaf.serial_hex(),
            key: leaf.public_key_kind(),
            public_key: leaf.public_key().to_vec(),
            is_misnamed: !names.are_those_of(leaf),
        }
    }
}
