//! The neighbouring services that Google's clients ask on the way: a little of Resource Manager and
//! of Service Usage.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::emulator::Emulator;
use crate::errors::ApiError;
use crate::iam_store::{Policy, check_get_body, replaced_by_body};
use crate::ledger::lock;

/// The IAM policies of projects. Every project exists.
#[derive(Debug, Default)]
pub(crate) struct Projects {
    policies: BTreeMap<String, Policy>,
}

impl Projects {
    pub(crate) fn new(policies: BTreeMap<String, Policy>) -> Self {
        Self { policies }
    }
}

impl Emulator {
    /// The policy of `projects/P`; the empty one when nobody has set it.
    pub(crate) fn project_policy(&self, project: &str) -> Policy {
        let projects = lock(&self.projects);
        projects.policies.get(project).cloned().unwrap_or_default()
    }

    pub(crate) fn get_project_policy(
        &self,
        project: &str,
        body: &[u8],
    ) -> Result<Policy, ApiError> {
        check_get_body(body)?;
        Ok(self.project_policy(project))
    }

    pub(crate) fn set_project_policy(
        &self,
        project: &str,
        body: &[u8],
    ) -> Result<Policy, ApiError> {
        let mut projects = lock(&self.projects);
        let old = projects.policies.get(project).cloned().unwrap_or_default();
        let new = replaced_by_body(&old, body)?;
        let mut policies = projects.policies.clone();
        policies.insert(project.to_owned(), new.clone());
        if let Some(state) = &self.state {
            state
                .save_projects(&policies)
                .map_err(|error| ApiError::internal("The policy was not stored", error))?;
        }
        projects.policies = policies;
        Ok(new)
    }
}

/// The account under which a service, `projects/P/services/NAME`, itself works in the project.
pub(crate) fn service_identity(service: &str) -> Value {
    let id = service.split('/').nth(1).unwrap_or_default();
    // A project of a domain, `example.com:name`, cannot stand in an address as it is.
    let id = id.replace(':', ".");
    json!({
        "name": "operations/finished.DONE_OPERATION",
        "done": true,
        "response": {
            "@type": "type.googleapis.com/google.api.serviceusage.v1beta1.ServiceIdentity",
            "email": format!("service-{id}@gcp-sa-privateca.iam.gserviceaccount.com"),
            "uniqueId": "1",
        },
    })
}
