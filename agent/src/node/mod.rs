//! The node driver: the volumes of pods, as kubelet asks for them.
//!
//! `certagent_csi` owns sockets, mounts and paths; [`NodeContent`] fills what it mounts. A publish
//! becomes an [`Assignment`] in the set of volumes; from there on the main path is the same as that
//! of a plain agent.
mod pod;
mod resume;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use certagent_core::request::SubjectMode;
use certagent_csi::{
    ContentDir, FillError, FillErrorKind, FoundVolume, PodVolume, VolumeContent,
    VolumeId as CsiVolumeId,
};
use certagent_svid::TrustDomain;
use jiff::SignedDuration;
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::{
    clock::SharedClock,
    config::ClusterState,
    google::{PodToken, SubjectToken, SubjectTokens},
    held::Assignment,
    kube::DriverObject,
    status::VolumeStatus,
    trust::Trust,
    volume::VolumeId,
    volumes::Volumes,
};

/// What GKE's users know from the events of their pods.
const NO_CONFIG: &str = "caPEM is nil (check active WorkloadCertificateConfig)";

/// Why nodes have nothing to check certificates by.
const NO_ROOTS: &str = "the status of TrustConfig/default has no rendered roots; its conditions say \
    why (kubectl get trustconfig default -o yaml), and if it has none, look whether `certagent \
    controller` runs";

/// What a call is told whose volume went while it waited.
const GIVEN_UP: &str = "the volume was given up meanwhile";

/// A publish waits so long for the first word of the API server about the driver's object.
const PATIENCE: SignedDuration = SignedDuration::from_secs(5);

/// What a node driver was told.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// The cluster's trust domain.
    pub trust_domain: TrustDomain,
    /// Whose identity asks for certificates.
    pub subject_mode: SubjectMode,
    /// Which of a pod's tokens is exchanged; if there is only one, that.
    pub token_audience: Option<String>,
    /// Certificates and trust come by way of the cluster's controller.
    pub by_controller: bool,
}

/// What supplies volumes, once there is a configuration.
#[derive(Clone)]
pub struct Supply {
    /// The set of volumes.
    pub volumes: Arc<Volumes>,
    /// The roots in force.
    pub trust: watch::Receiver<Arc<Trust>>,
}

/// Fills the volumes of pods with credentials.
pub struct NodeContent {
    settings: NodeSettings,
    clock: SharedClock,
    config: watch::Receiver<ClusterState>,
    driver_object: watch::Receiver<DriverObject>,
    /// There is none before the first configuration.
    supply: watch::Receiver<Option<Supply>>,
    known: Arc<Mutex<Known>>,
}

/// What is known of the volumes that kubelet asked for.
#[derive(Default)]
struct Known {
    entries: BTreeMap<CsiVolumeId, Entry>,
    /// Volumes of an earlier process, of which nothing but the place is known.
    places: BTreeMap<CsiVolumeId, ContentDir>,
    /// Those of them that are bound and have no record.
    unrecorded: Vec<FoundVolume>,
}

/// Whose volume it is, and the place of its pod's token.
type Assigned = (Assignment, Option<PodToken>);

struct Entry {
    assignment: Assignment,
    token: Option<PodToken>,
    /// By kubelet's word or a record; else by the credential in the volume.
    is_told: bool,
}

impl NodeContent {
    /// Fills volumes by `supply`, as soon as there is a configuration to fill them by.
    pub fn new(
        settings: NodeSettings,
        clock: SharedClock,
        config: watch::Receiver<ClusterState>,
        driver_object: watch::Receiver<DriverObject>,
        supply: watch::Receiver<Option<Supply>>,
    ) -> Self {
        Self {
            settings,
            clock,
            config,
            driver_object,
            supply,
            known: Arc::default(),
        }
    }

    /// The tokens of all pods, as far as they are known now.
    pub fn tokens(&self) -> SubjectTokens {
        let known = Arc::clone(&self.known);
        Arc::new(move || {
            let known = lock(&known);
            let tokens = known
                .entries
                .values()
                .filter_map(|entry| entry.token.clone());
            tokens.map(SubjectToken::Pod).collect()
        })
    }

    /// Takes up the volumes that an earlier process left: those that are bound stay supplied.
    pub fn resume(&self, found: Vec<FoundVolume>) {
        for volume in found {
            let id = volume.dir.id.clone();
            lock(&self.known)
                .places
                .insert(id.clone(), volume.dir.clone());
            if volume.targets.is_empty() {
                // Kubelet asks again for what it has not got, and says whose it is.
                continue;
            }
            match resume::recorded(&self.settings, &volume.dir) {
                Some(assigned) => self.know(&id, assigned),
                None => lock(&self.known).unrecorded.push(volume),
            }
        }
        self.supply_all();
    }

    /// Has every volume that is known supplied: called when there is a supply at last.
    pub fn supply_all(&self) {
        let Some(supply) = self.supply.borrow().clone() else {
            return;
        };
        let unrecorded = std::mem::take(&mut lock(&self.known).unrecorded);
        for volume in unrecorded {
            let trust = Arc::clone(&supply.trust.borrow());
            let id = volume.dir.id.clone();
            match resume::recovered(&self.settings, &volume, &trust, self.clock.now()) {
                // Kubelet may have said so meanwhile, and knows better.
                Ok((assignment, token)) => {
                    lock(&self.known).entries.entry(id).or_insert(Entry {
                        assignment,
                        token,
                        is_told: false,
                    });
                }
                Err(problem) => error!(volume = %id, problem,
                    "this volume is not renewed until kubelet says whose it is; its files stay"),
            }
        }
        for (id, entry) in &lock(&self.known).entries {
            publish(&supply.volumes, id, entry.assignment.clone());
        }
    }

    /// Whose a bound volume is: what a pod's namespace and service account were, they still are.
    /// Where that is not known yet, kubelet's word has to be one that can be believed.
    fn confirmed(&self, id: &CsiVolumeId, assigned: Assigned) -> Result<Assigned, FillError> {
        let before = {
            let known = lock(&self.known);
            let entry = known.entries.get(id).filter(|entry| entry.is_told);
            entry.map(|entry| entry.assignment.spiffe_id.clone())
        };
        match before {
            None => self.check_driver_object().map(|()| assigned),
            Some(before) if before == assigned.0.spiffe_id => Ok(assigned),
            Some(before) => Err(denied(format!(
                "the volume is of {before}, and a call names {} for it; whose a volume is never \
                 changes, so delete the pod if that is wrong",
                assigned.0.spiffe_id
            ))),
        }
    }

    /// Remembers whose the volume is. The token's place stays the same as long as the pod does.
    fn know(&self, id: &CsiVolumeId, (assignment, token): Assigned) {
        let mut known = lock(&self.known);
        known.unrecorded.retain(|volume| volume.dir.id != *id);
        let entry = Entry {
            assignment,
            token,
            is_told: true,
        };
        known.entries.insert(id.clone(), entry);
    }

    /// Whose volume it is by what kubelet says now, with the token that it brought.
    fn assign(&self, dir: &ContentDir, volume: &PodVolume) -> Result<Assigned, FillError> {
        let before = lock(&self.known)
            .entries
            .get(&dir.id)
            .and_then(|entry| entry.token.clone());
        let token = match self.settings.subject_mode {
            SubjectMode::Default => None,
            SubjectMode::ReflectedSpiffe => Some(pod::token(
                &self.settings,
                volume,
                before,
                self.clock.now(),
            )?),
        };
        let assignment = pod::assignment(&self.settings, dir, volume, token.clone())?;
        Ok((assignment, token))
    }

    /// The same for whoever can wait until the API server has told of it for the first time.
    async fn settled_driver_object(&self) -> Result<(), FillError> {
        let mut object = self.driver_object.clone();
        let is_known = |object: &DriverObject| !matches!(object, DriverObject::Unknown { .. });
        let patience = self.clock.now().saturating_add(PATIENCE);
        tokio::select! {
            _gone_or_known = object.wait_for(is_known) => {}
            () = self.clock.sleep_until(patience.unwrap_or_default()) => {}
        }
        self.check_driver_object()
    }

    /// The driver's object in the cluster is such that what kubelet says can be believed.
    fn check_driver_object(&self) -> Result<(), FillError> {
        match &*self.driver_object.borrow() {
            DriverObject::Right => Ok(()),
            DriverObject::Unknown { message } => Err(unavailable(message.clone())),
            DriverObject::Missing { message } | DriverObject::Wrong { message } => {
                Err(denied(message.clone()))
            }
        }
    }

    /// The set of volumes. Whoever asks while it is about to come, at the start of the driver, waits
    /// for it.
    async fn supplied(&self) -> Result<Arc<Volumes>, FillError> {
        let (mut supply, mut config) = (self.supply.clone(), self.config.clone());
        loop {
            if let Some(supply) = &*supply.borrow_and_update() {
                return Ok(Arc::clone(&supply.volumes));
            }
            {
                let config = config.borrow_and_update();
                if config.active.is_none() && !config.is_settling {
                    return Err(self.no_config());
                }
                if config.active.is_some() && self.lacks_roots(&config) {
                    return Err(denied(format!("{NO_CONFIG}: {NO_ROOTS}")));
                }
            }
            let changed = tokio::select! {
                changed = supply.changed() => changed,
                changed = config.changed() => changed,
            };
            changed.map_err(|_ending| unavailable("the driver is ending".to_owned()))?;
        }
    }

    /// The controller has not rendered the roots yet that nodes go by.
    fn lacks_roots(&self, config: &ClusterState) -> bool {
        self.settings.by_controller && config.rendered.is_none() && !config.is_settling
    }

    /// Why there is nothing to fill volumes by.
    fn no_config(&self) -> FillError {
        let problem = self.config.borrow().problem.clone();
        let problem = problem.unwrap_or_else(|| "it was not read yet".to_owned());
        denied(format!("{NO_CONFIG}: {problem}"))
    }
}

impl VolumeContent for NodeContent {
    async fn fill(&self, dir: ContentDir, pod: PodVolume) -> Result<(), FillError> {
        self.settled_driver_object().await?;
        let (assignment, token) = self.assign(&dir, &pod)?;
        let wanted = VolumeId::of(&assignment.path);
        self.know(&dir.id, (assignment.clone(), token));
        let supplied = self.supplied().await;
        let volumes = supplied.inspect_err(|_nothing| {
            lock(&self.known).entries.remove(&dir.id);
        })?;
        {
            // Given back while it waited: nobody would take it away any more.
            let known = lock(&self.known);
            if !known.entries.contains_key(&dir.id) {
                return Err(unavailable(GIVEN_UP.to_owned()));
            }
            publish(&volumes, &dir.id, assignment);
        }
        volumes.hasten(&wanted);
        loop {
            // Made before the look, so that no change falls between the two.
            let changed = volumes.changed();
            let now = self.clock.now();
            match volumes.status(&wanted) {
                Some(status) if status.is_valid(now) => return Ok(()),
                Some(status) if status.is_hopeless => return Err(refused(&status)),
                Some(_) => changed.await,
                None => return Err(unavailable(GIVEN_UP.to_owned())),
            }
        }
    }

    fn refresh(&self, id: &CsiVolumeId, pod: PodVolume) {
        let place = lock(&self.known).places.get(id).cloned();
        let entry_root = lock(&self.known)
            .entries
            .get(id)
            .and_then(|entry| entry.assignment.beside.as_ref())
            .map(|beside| beside.state.clone());
        let dir = place.or_else(|| {
            entry_root.map(|root| ContentDir {
                id: id.clone(),
                root,
            })
        });
        let Some(dir) = dir else {
            warn!(volume = %id, "kubelet asks for a volume that nobody knows");
            return;
        };
        let assigned = self.assign(&dir, &pod);
        match assigned.and_then(|assigned| self.confirmed(id, assigned)) {
            Ok((assignment, token)) => {
                let wanted = VolumeId::of(&assignment.path);
                let brings_token = token.is_some();
                self.know(id, (assignment.clone(), token));
                if let Some(Supply { volumes, .. }) = &*self.supply.borrow() {
                    publish(volumes, id, assignment);
                    // Nothing else that a call brings is what a renewal may have failed for.
                    if brings_token {
                        volumes.hasten_for_token(&wanted);
                    }
                }
            }
            Err(problem) => {
                warn!(volume = %id, %problem, "the volume stays as it was");
            }
        }
    }

    fn trouble(&self, id: &CsiVolumeId) -> Option<String> {
        let path = {
            let known = lock(&self.known);
            known.entries.get(id)?.assignment.path.clone()
        };
        let Some(supply) = self.supply.borrow().clone() else {
            return self.config.borrow().problem.clone();
        };
        supply.volumes.status(&VolumeId::of(&path))?.last_error
    }

    async fn forget(&self, id: &CsiVolumeId) {
        let (place, entry) = {
            let mut known = lock(&self.known);
            known.unrecorded.retain(|volume| volume.dir.id != *id);
            (known.places.remove(id), known.entries.remove(id))
        };
        let supply = self.supply.borrow().clone();
        if let (None, Some(place)) = (&entry, place) {
            // Of an earlier process: it may have bought something for it.
            match &supply {
                Some(supply) => supply.volumes.close_unopened(&place.data(), place.root),
                None => {
                    warn!(volume = %id, "what an earlier process had under way for it goes with it");
                }
            }
        }
        if let Some((entry, Supply { volumes, .. })) = entry.zip(supply) {
            let volume = VolumeId::of(&entry.assignment.path);
            volumes.release(&volume).await;
            info!(volume = %id, spiffe_id = %entry.assignment.spiffe_id, "the volume was given back");
        }
    }
}

/// What is wrong with the volume now is tried again by the set itself.
fn publish(volumes: &Volumes, id: &CsiVolumeId, assignment: Assignment) {
    if let Err(problem) = volumes.publish(assignment) {
        warn!(volume = %id, %problem);
    }
}

/// Why the volume of this status cannot be filled before somebody changes something.
fn refused(status: &VolumeStatus) -> FillError {
    let reason = status.last_error.clone();
    denied(reason.unwrap_or_else(|| "no certificate was issued".to_owned()))
}

fn denied(message: String) -> FillError {
    FillError {
        kind: FillErrorKind::Denied,
        message,
    }
}

fn unavailable(message: String) -> FillError {
    FillError {
        kind: FillErrorKind::Unavailable,
        message,
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    // Each change of it is one insertion or removal.
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
