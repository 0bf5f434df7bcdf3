//! Events: what people look at first. Never one for a renewal.
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tracing::debug;

use super::write::shortened;
use crate::kube::{GROUP, Kind, VERSION, answer};

/// Writes events.
pub(super) struct News {
    recorder: Recorder,
    outage: Mutex<Outage>,
}

/// Nothing is signed at the moment.
#[derive(Default)]
struct Outage {
    since: Option<Timestamp>,
    /// Why, once that was told.
    told: Option<&'static str>,
}

/// Nothing is an outage that is over so soon, or that only some requests meet.
const LEAST: SignedDuration = SignedDuration::from_secs(10);

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
            note: Some(shortened(note)),
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

    /// A request waits: told if nothing was signed for a while, and for another reason again.
    pub(super) async fn waiting(&self, reason: &'static str, message: &str, now: Timestamp) {
        {
            let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
            let since = *outage.since.get_or_insert(now);
            let is_long = now.duration_since(since) >= LEAST;
            if !is_long || outage.told.replace(reason) == Some(reason) {
                return;
            }
        }
        let note = format!("certificates wait: {message}");
        let kind = EventType::Warning;
        self.tell(&config(), kind, reason, "Sign", &note).await;
    }

    /// Something was signed: told if it was told that nothing is.
    pub(super) async fn signed(&self) {
        let outage = {
            let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *outage)
        };
        if let Some(reason) = outage.told {
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
