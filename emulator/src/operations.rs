//! Long-running operations. Here they do not run long: the work is done when the first answer goes
//! out, but as with the service only the next look at the operation says so. What fails fails at
//! once, in the answer to the request itself.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::emulator::Emulator;
use crate::errors::ApiError;
use crate::idempotency::{ReplayTable, RequestKey};
use crate::issue::random_id;
use crate::json::from_body;
use crate::ledger::lock;
use crate::listing::Page;
use crate::resources::ActionBody;

/// How many operations are remembered.
const REMEMBERED: usize = 10_000;

/// What is known of an operation.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    name: String,
    target: String,
    verb: &'static str,
    created: Timestamp,
    ended: Timestamp,
    response: Value,
}

/// What an operation is to do.
pub(crate) struct Started<'a> {
    /// `projects/P/locations/L`
    pub(crate) location: &'a str,
    /// The name of what is made or changed.
    pub(crate) target: String,
    pub(crate) verb: &'static str,
    pub(crate) request_id: Option<&'a str>,
}

/// The operations that are remembered.
#[derive(Debug, Default)]
pub(crate) struct Operations {
    /// By name, which begins with the location and goes on with the time.
    by_name: BTreeMap<String, Operation>,
    by_age: std::collections::VecDeque<String>,
    replays: ReplayTable<Operation>,
}

impl Operation {
    /// As the request that started it is answered.
    pub(crate) fn started(&self) -> Value {
        json!({ "name": self.name, "metadata": self.metadata(None), "done": false })
    }

    /// As everybody who asks later is answered.
    fn done(&self) -> Value {
        json!({
            "name": self.name,
            "metadata": self.metadata(Some(self.ended)),
            "done": true,
            "response": self.response,
        })
    }

    fn metadata(&self, ended: Option<Timestamp>) -> Value {
        let mut metadata = json!({
            "@type": "type.googleapis.com/google.cloud.security.privateca.v1.OperationMetadata",
            "createTime": self.created,
            "target": self.target,
            "verb": self.verb,
            "requestedCancellation": false,
            "apiVersion": "v1",
        });
        if let Some(ended) = ended {
            metadata["endTime"] = json!(ended);
        }
        metadata
    }
}

impl Operations {
    fn remember(&mut self, operation: Operation) {
        if self.by_age.len() >= REMEMBERED
            && let Some(oldest) = self.by_age.pop_front()
        {
            self.by_name.remove(&oldest);
        }
        self.by_age.push_back(operation.name.clone());
        self.by_name.insert(operation.name.clone(), operation);
    }
}

impl Emulator {
    /// Does `work`, unless a request with the same id has done it, and remembers it. `work` returns
    /// the message of the result and its name in the API; no name for nothing.
    pub(crate) fn operate<T: Serialize>(
        &self,
        started: Started<'_>,
        work: impl FnOnce() -> Result<(&'static str, T), ApiError>,
    ) -> Result<Operation, ApiError> {
        let request = started
            .request_id
            .map(|id| RequestKey::new(started.location.to_owned(), id))
            .transpose()?;
        let _request = request.clone().map(|key| self.requests.hold(key));
        let created = self.now();
        if let Some(key) = &request {
            let mut operations = lock(&self.operations);
            operations.replays.prune(created);
            if let Some(first) = operations.replays.get(key, created) {
                return Ok(first);
            }
        }
        let (kind, result) = work()?;
        let mut response = serde_json::to_value(result)
            .map_err(|error| ApiError::internal("The answer", error))?;
        let kind = match kind {
            "" => "google.protobuf.Empty".to_owned(),
            kind => format!("google.cloud.security.privateca.v1.{kind}"),
        };
        response["@type"] = json!(format!("type.googleapis.com/{kind}"));
        let id = random_id()?;
        let millis = created.as_millisecond();
        let operation = Operation {
            name: format!("{}/operations/operation-{millis}-{id}", started.location),
            target: started.target,
            verb: started.verb,
            created,
            ended: self.now(),
            response,
        };
        let mut operations = lock(&self.operations);
        if let Some(key) = request {
            operations.replays.insert(key, created, operation.clone());
        }
        operations.remember(operation.clone());
        Ok(operation)
    }

    pub(crate) fn get_operation(&self, name: &str) -> Result<Value, ApiError> {
        lock(&self.operations)
            .by_name
            .get(name)
            .map(Operation::done)
            .ok_or_else(|| ApiError::not_found(name))
    }

    pub(crate) fn list_operations(&self, location: &str, page: &Page) -> Result<Value, ApiError> {
        let prefix = format!("{location}/operations/");
        let operations = lock(&self.operations);
        let found = operations
            .by_name
            .range(prefix.clone()..)
            .take_while(|(name, _)| name.starts_with(&prefix));
        page.answer(
            "operations",
            found.map(|(name, operation)| (name.clone(), operation.done())),
        )
    }

    /// Forgets an operation; what it did stays.
    pub(crate) fn delete_operation(&self, name: &str) -> Result<Value, ApiError> {
        let mut operations = lock(&self.operations);
        operations
            .by_name
            .remove(name)
            .ok_or_else(|| ApiError::not_found(name))?;
        operations.by_age.retain(|known| known != name);
        Ok(json!({}))
    }

    /// Cancels nothing: whatever is asked about is done already.
    pub(crate) fn cancel_operation(&self, name: &str, body: &[u8]) -> Result<Value, ApiError> {
        from_body::<ActionBody>(body)?;
        self.get_operation(name).map(|_| json!({}))
    }
}
