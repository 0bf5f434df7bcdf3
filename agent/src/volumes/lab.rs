//! For tests: volumes at work, with the emulator as the CA, in the way of a node driver.
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use certagent_core::{
    config::{Config, TrustAnchor, VolumeSpec},
    names::SubjectNames,
    plan,
};
use certagent_emulator::{Fault, FaultRule, Method};
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinHandle};

use super::*;
use crate::{
    admin::Metrics,
    cas::lab::{Lab, domain, now},
    clock::{Clock as _, ManualClock, SharedClock},
    config::ActiveConfig,
    google::Caller,
    held::Beside,
    issuer::CasIssuer,
    keys::Keys,
    limit::Limiter,
    trust::{self, Trust},
    volume::PodRecord,
};

/// Long enough for any machine; no test waits so long unless it fails.
const GUARD: Duration = Duration::from_secs(30);

/// An agent's volumes, each with its state beside it.
pub(super) struct Site {
    pub(super) lab: Lab,
    pub(super) clock: ManualClock,
    pub(super) metrics: Arc<Metrics>,
    pub(super) volumes: Arc<Volumes>,
    pub(super) config: watch::Sender<Arc<ActiveConfig>>,
    pub(super) dir: TempDir,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Site {
    pub(super) async fn start() -> Self {
        let lab = Lab::start().await;
        let client = lab.client.clone();
        Self::with(lab, client)
    }

    /// The CA is asked by this client.
    pub(super) fn with(lab: Lab, client: crate::cas::CasClient) -> Self {
        let clock = ManualClock::new(now());
        let shared: SharedClock = Arc::new(clock.clone());
        let dir = tempfile::tempdir().unwrap();
        let metrics = Arc::new(Metrics::default());
        let anchors = [TrustAnchor::Pem(lab.root("root-pool"))];
        let config = trust::lab::config(&[("demo.svc.id.goog", &anchors)]);
        let (_, trust) = watch::channel(Arc::new(Trust::new(&config.trust)));
        let (config, active) = watch::channel(Arc::new(ActiveConfig {
            config: Arc::new(config),
            problem: None,
            version: 1,
        }));
        let limiter = Limiter::new(Arc::clone(&shared), 100, Arc::clone(&metrics));
        let clock_of_issuer = Arc::clone(&shared);
        let issuer = CasIssuer::new(client, clock_of_issuer, Arc::new(limiter), trust.clone());
        let context = Context {
            clock: shared,
            issuer: Arc::new(issuer),
            keys: Keys::default(),
            config: active,
            trust,
            metrics: Arc::clone(&metrics),
        };
        let state = StateDir::open(&dir.path().join("state"), true).unwrap();
        let volumes = Arc::new(Volumes::new(context, Arc::new(state)));
        let cancel = CancellationToken::new();
        let task = tokio::spawn(Arc::clone(&volumes).run(cancel.clone()));
        Self {
            lab,
            clock,
            metrics,
            volumes,
            config,
            dir,
            cancel,
            task,
        }
    }

    /// The roots in force.
    pub(super) fn trust(&self) -> Arc<Trust> {
        Arc::clone(&self.volumes.context.trust.borrow())
    }

    pub(super) fn root(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A volume for the pod of this name.
    pub(super) fn assignment(&self, name: &str) -> Assignment {
        let root = self.root(name);
        std::fs::create_dir_all(root.join("data")).unwrap();
        Assignment {
            path: root.join("data"),
            spiffe_id: plan::workload_id(&domain("demo.svc.id.goog"), "default", "web").unwrap(),
            names: SubjectNames::default(),
            volume: VolumeSpec {
                path: root.join("data").display().to_string(),
                owner: None,
                group: None,
                directory_mode: VolumeSpec::DIRECTORY_MODE,
                key_mode: VolumeSpec::KEY_MODE,
                file_mode: VolumeSpec::FILE_MODE,
                allow_disk: true,
            },
            caller: Caller::Agent,
            beside: Some(Beside {
                state: root,
                pod: pod(name),
            }),
        }
    }

    pub(super) fn publish(&self, name: &str) -> VolumeId {
        self.volumes.publish(self.assignment(name)).unwrap()
    }

    /// Waits until the volume is as wanted.
    pub(super) async fn until(
        &self,
        id: &VolumeId,
        wanted: impl Fn(&VolumeStatus) -> bool,
    ) -> VolumeStatus {
        guarded(async {
            loop {
                let changed = self.volumes.changed();
                if let Some(status) = self.status(id).filter(&wanted) {
                    return status;
                }
                changed.await;
            }
        })
        .await
    }

    pub(super) fn status(&self, id: &VolumeId) -> Option<VolumeStatus> {
        let statuses = self.volumes.statuses();
        statuses.into_iter().find(|status| status.id == *id)
    }

    pub(super) fn creates(&self) -> u64 {
        let stats = self.lab.emulator.stats();
        stats.requests(Method::CreateCertificate)
    }

    /// Waits until so many certificates were asked for.
    pub(super) async fn asked(&self, times: u64) {
        eventually(|| self.creates() >= times).await;
    }

    pub(super) fn abandoned(&self) -> String {
        let text = self.metrics.render(&[], self.clock.now()).unwrap();
        let name = "certagent_certificates_abandoned_total ";
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        value.unwrap().to_owned()
    }

    /// Makes another configuration active.
    pub(super) fn edit(&self, edit: impl FnOnce(&mut Config)) {
        self.config.send_modify(|active| {
            let mut config = (*active.config).clone();
            edit(&mut config);
            *active = Arc::new(ActiveConfig {
                config: Arc::new(config),
                problem: None,
                version: active.version + 1,
            });
        });
    }

    pub(super) async fn stop(self) {
        self.cancel.cancel();
        self.task.await.unwrap();
    }
}

pub(super) fn pod(name: &str) -> PodRecord {
    PodRecord {
        uid: "0d6f8a0e".to_owned(),
        name: name.to_owned(),
        namespace: "default".to_owned(),
        service_account: "web".to_owned(),
        fs_group: Some(2000),
    }
}

/// Every request for a certificate meets this.
pub(super) fn always(fault: Fault) -> Vec<FaultRule> {
    vec![FaultRule::always(fault).on(Method::CreateCertificate)]
}

/// Open descriptors of this process that lead to `root` or below it.
pub(super) fn open_below(root: &Path) -> Vec<PathBuf> {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
    descriptors
        .filter_map(|one| std::fs::read_link(one.unwrap().path()).ok())
        .filter(|path| path.starts_with(root))
        .collect()
}

/// Waits for something that must happen and that nobody tells of.
pub(super) async fn eventually(wanted: impl Fn() -> bool) {
    guarded(async {
        while !wanted() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

pub(super) async fn guarded<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(GUARD, future)
        .await
        .expect("it never came to that")
}
