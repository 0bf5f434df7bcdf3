//! Events: what people look at first. Never one for a renewal.
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::sync::Mutex;
use tracing::debug;

use crate::kube::{GROUP, Kind, VERSION, answer};

/// The longest note that the API server takes is 1 KiB.
const MAX_NOTE: usize = 1000;

/// Writes events.
pub(super) struct News {
    recorder: Recorder,
    /// Why nothing is signed at the moment, once that was told.
    outage: Mutex<Option<&'static str>>,
}

impl News {
    pub(super) fn new(client: Client, reporter: &str) -> Self {
        let reporter = Reporter {
            controller: "certagent-controller".to_owned(),
            instance: Some(reporter.to_owned()),
        };
        Self {
            recorder: Recorder::new(client, reporter),
            outage: Mutex::default(),
        }
    }

    /// Tells something about an object. An event that cannot be written is no trouble of its own.
    pub(super) async fn tell(
        &self,
        about: &ObjectReference,
        type_: EventType,
        reason: &str,
        action: &str,
        note: &str,
    ) {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note.chars().take(MAX_NOTE).collect()),
            action: action.to_owned(),
            secondary: None,
        };
        if let Err(trouble) = answer(self.recorder.publish(&event, about)).await {
            debug!(
                "an event was not written: {}",
                trouble.explain("it", "controller.yaml")
            );
        }
    }

    /// Nothing is signed: told when that begins, and for another reason.
    pub(super) async fn waiting(&self, reason: &'static str, message: &str) {
        if self.outage.lock().await.replace(reason) == Some(reason) {
            return;
        }
        let note = format!("certificates wait: {message}");
        let kind = EventType::Warning;
        self.tell(&config(), kind, reason, "Sign", &note).await;
    }

    /// Something was signed: told if nothing was before.
    pub(super) async fn signed(&self) {
        if let Some(reason) = self.outage.lock().await.take() {
            let note = format!("certificates are signed again, after {reason}");
            let (kind, reason) = (EventType::Normal, "SigningAgain");
            self.tell(&config(), kind, reason, "Sign", &note).await;
        }
    }
}

/// Whose events they are that concern all pods.
fn config() -> ObjectReference {
    ObjectReference {
        api_version: Some(format!("{GROUP}/{VERSION}")),
        kind: Some(Kind::Certificates.name().to_owned()),
        name: Some("default".to_owned()),
        ..ObjectReference::default()
    }
}
