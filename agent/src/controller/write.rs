//! Puts a status into the API server, and an event beside it when readiness changes.
use certagent_core::conditions::{READY, Statement, WARNING, follow, told};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};

use super::news::{self, News, Told};
use crate::{
    config::{JudgedObject, objects_of},
    kube::{Kind, OBJECT_NAME, Trouble, answer},
};

/// Who writes, for the API server.
pub(super) const MANAGER: &str = "certagent-controller";

/// So often a write is tried that others come before.
const ATTEMPTS: u32 = 4;

/// The answer of an API server to a write that somebody else came before.
const CONFLICT: u16 = 409;

/// What has to stand in a status.
pub(super) struct Desired {
    /// The statements; without any the conditions stay as they are.
    pub(super) said: Option<Vec<Statement>>,
    /// Other fields.
    pub(super) fields: Vec<(&'static str, Value)>,
}

/// What became of it.
#[derive(Debug, PartialEq)]
pub(super) enum Written {
    /// The status is as it has to be.
    Right,
    /// The object is another than the one that was judged, or is changed all the time.
    Moved,
}

/// Writes the status of both objects.
pub(super) struct Writer {
    client: Client,
    news: News,
}

impl Writer {
    /// `instance` is the process, among several that may write.
    pub(super) fn new(client: Client, instance: &str) -> Self {
        Self {
            news: News::new(client.clone(), instance),
            client,
        }
    }

    /// Looks at the object and, if it is the one that was `judged`, makes its status what `desire`
    /// says of the status that is there. Nothing is written if that is the same. `seen` is shown
    /// every status that stands there.
    pub(super) async fn write(
        &self,
        kind: Kind,
        judged: &JudgedObject,
        now: Timestamp,
        mut desire: impl FnMut(&Value) -> Desired,
        mut seen: impl FnMut(&Value),
    ) -> Result<Written, Trouble> {
        let api = objects_of(self.client.clone(), kind);
        for _ in 0..ATTEMPTS {
            let Some(object) = answer(api.get_opt(OBJECT_NAME)).await? else {
                return Ok(Written::Moved);
            };
            let status = object.data.get("status").unwrap_or(&Value::Null);
            seen(status);
            let metadata = &object.metadata;
            let is_same = metadata.uid.as_ref() == Some(&judged.uid)
                && metadata.generation == Some(judged.generation);
            if !is_same {
                return Ok(Written::Moved);
            }
            let before = conditions(status);
            let Desired { said, fields } = desire(status);
            let after = said.and_then(|said| {
                let is_warned = said.iter().any(|one| one.r#type == WARNING);
                let retracted: &[&str] = if is_warned { &[] } else { &[WARNING] };
                follow(&before, &said, retracted, now)
            });
            let Some(patch) = patch(status, after.as_deref(), fields) else {
                return Ok(Written::Right);
            };
            let Some(written) = self.patch(&api, &object, patch).await? else {
                continue;
            };
            seen(written.data.get("status").unwrap_or(&Value::Null));
            if let Some(after) = &after {
                self.tell(kind, judged, &before, after, now).await;
            }
            return Ok(Written::Right);
        }
        Ok(Written::Moved)
    }

    /// None if somebody else was faster.
    async fn patch(
        &self,
        api: &Api<DynamicObject>,
        object: &DynamicObject,
        status: Value,
    ) -> Result<Option<DynamicObject>, Trouble> {
        // With these an API server refuses where the object is no longer the one that was seen.
        let patch = json!({
            "metadata": {
                "uid": object.metadata.uid,
                "resourceVersion": object.metadata.resource_version,
            },
            "status": status,
        });
        let parameters = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        answer(async {
            match api
                .patch_status(OBJECT_NAME, &parameters, &Patch::Merge(&patch))
                .await
            {
                Ok(written) => Ok(Some(written)),
                Err(kube::Error::Api(status)) if status.code == CONFLICT => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// An event, if readiness or its reason changed. The status in the cluster remembers what was
    /// told, so that nothing is told again, by another process neither. A lost one is only logged:
    /// the condition says the same.
    async fn tell(
        &self,
        kind: Kind,
        judged: &JudgedObject,
        before: &[Value],
        after: &[Value],
        now: Timestamp,
    ) {
        if told(before, READY) == told(after, READY) {
            return;
        }
        let Some((status, reason)) = told(after, READY) else {
            return;
        };
        let note = after.iter().find(|one| one["type"] == READY);
        let note = note.and_then(|one| one["message"].as_str());
        let about = ObjectReference {
            uid: Some(judged.uid.clone()),
            ..news::object(kind)
        };
        let told = Told {
            is_warning: status != "True",
            reason,
            action: "Judge",
            note: note.unwrap_or_default(),
        };
        self.news.tell(about, told, now).await;
    }
}

/// The conditions in a status.
fn conditions(status: &Value) -> Vec<Value> {
    let list = status.get("conditions").and_then(Value::as_array);
    list.cloned().unwrap_or_default()
}

/// The part of a status that changes; none if nothing does.
fn patch(
    status: &Value,
    conditions: Option<&[Value]>,
    fields: Vec<(&'static str, Value)>,
) -> Option<Value> {
    let conditions = conditions.map(|list| ("conditions", Value::from(list)));
    let changed: serde_json::Map<String, Value> = conditions
        .into_iter()
        .chain(fields)
        .filter(|(name, value)| status.get(name) != Some(value))
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    (!changed.is_empty()).then(|| changed.into())
}
