//! Events: what people look at first. Never one for a renewal.
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};
use tracing::debug;

use super::write::MANAGER;
use crate::kube::{GROUP, Kind, OBJECT_NAME, VERSION, answer};

/// Where events of objects without a namespace go.
const ELSEWHERE: &str = "default";

/// Writes events. (The library's recorder keeps each for minutes, and reads the clock itself.)
pub(super) struct News {
    client: Client,
    instance: String,
    outage: Mutex<Outage>,
}

/// What is to be told.
pub(super) struct Told<'a> {
    /// It is bad.
    pub(super) is_warning: bool,
    pub(super) reason: &'a str,
    pub(super) action: &'a str,
    pub(super) note: &'a str,
}

/// Nothing is signed at the moment.
#[derive(Default)]
struct Outage {
    since: Option<Timestamp>,
    /// When a request waited last.
    last: Option<Timestamp>,
    /// Why, each reason once it was told.
    told: Vec<&'static str>,
}

/// The longest note of an event, in bytes. An API server takes 1024.
const LONGEST_NOTE: usize = 1000;

/// Nothing is an outage that is over so soon, or that only some requests meet.
const LEAST: SignedDuration = SignedDuration::from_secs(10);

/// With nobody waiting for so long, one that is over was not told to be.
const OVER: SignedDuration = SignedDuration::from_mins(10);

impl News {
    /// `instance` is this process among several that may write.
    pub(super) fn new(client: Client, instance: &str) -> Self {
        Self {
            client,
            instance: instance.to_owned(),
            outage: Mutex::default(),
        }
    }

    /// Tells something about an object. An event that cannot be written is no trouble of its own.
    pub(super) async fn tell(&self, about: ObjectReference, told: Told<'_>, now: Timestamp) {
        let namespace = about.namespace.clone();
        let namespace = namespace.unwrap_or_else(|| ELSEWHERE.to_owned());
        let name = about.name.as_deref().unwrap_or_default();
        let event = Event {
            metadata: ObjectMeta {
                generate_name: Some(format!("{name}-")),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            action: Some(told.action.to_owned()),
            event_time: Some(MicroTime(now)),
            note: Some(shortened(told.note)),
            reason: Some(told.reason.to_owned()),
            reporting_controller: Some(MANAGER.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            type_: Some(if told.is_warning { "Warning" } else { "Normal" }.to_owned()),
            regarding: Some(about),
            ..Event::default()
        };
        let events: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        if let Err(trouble) = answer(events.create(&PostParams::default(), &event)).await {
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
            let last = outage.last.replace(now);
            if last.is_none_or(|last| now.duration_since(last) >= OVER) {
                outage.since = None;
                outage.told.clear();
            }
            let since = *outage.since.get_or_insert(now);
            let is_long = now.duration_since(since) >= LEAST;
            if !is_long || outage.told.contains(&reason) {
                return;
            }
            outage.told.push(reason);
        }
        let note = format!("certificates wait: {message}");
        let told = Told {
            is_warning: true,
            reason,
            action: "Sign",
            note: &note,
        };
        self.tell(object(Kind::Certificates), told, now).await;
    }

    /// Something was signed: told if it was told that nothing is.
    pub(super) async fn signed(&self, now: Timestamp) {
        let outage = {
            let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *outage)
        };
        if let Some(reason) = outage.told.last() {
            let told = Told {
                is_warning: false,
                reason: "SigningAgain",
                action: "Sign",
                note: &format!("certificates are signed again, after {reason}"),
            };
            self.tell(object(Kind::Certificates), told, now).await;
        }
    }
}

/// One of the two objects, to tell something about.
pub(super) fn object(kind: Kind) -> ObjectReference {
    ObjectReference {
        api_version: Some(format!("{GROUP}/{VERSION}")),
        kind: Some(kind.name().to_owned()),
        name: Some(OBJECT_NAME.to_owned()),
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
