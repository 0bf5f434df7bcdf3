//! Events: what people look at first. Never one for a renewal.
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tracing::debug;

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

/// The longest note of an event, in bytes. An API server takes 1024.
const LONGEST_NOTE: usize = 1000;

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
        self.tell(&object(Kind::Certificates), kind, reason, "Sign", &note)
            .await;
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
            self.tell(&object(Kind::Certificates), kind, reason, "Sign", &note)
                .await;
        }
    }
}

/// One of the two objects, to tell something about.
pub(super) fn object(kind: Kind) -> ObjectReference {
    ObjectReference {
        api_version: Some(format!("{GROUP}/{VERSION}")),
        kind: Some(kind.name().to_owned()),
        name: Some("default".to_owned()),
        ..ObjectReference::default()
    }
}

/// A note of an event, as long as one may be.
fn shortened(text: &str) -> String {
    let end = (0..=LONGEST_NOTE.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or_default())
        .unwrap_or_default()
        .to_owned()
}
