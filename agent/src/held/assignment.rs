//! Whose credential goes where, and how: what a volume is opened with.
use std::path::{Path, PathBuf};

use certagent_core::{
    config::{OwnerRef, VolumeSpec, Workload},
    names::SubjectNames,
    plan::{self, PlanError},
    request::SubjectMode,
};
use certagent_svid::SpiffeId;

use crate::{
    google::{Caller, SubjectToken},
    volume::{
        Access, PodRecord, StateDir, VolumeId, VolumeState,
        owner::{self, OwnerError},
    },
};

/// Whose credential goes where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The volume's directory, absolute.
    pub path: PathBuf,
    /// The identity of the workload that reads it.
    pub spiffe_id: SpiffeId,
    /// The names of its certificates beside the identity; none for a pod's.
    pub names: SubjectNames,
    /// Owner, group and modes, as configured.
    pub volume: VolumeSpec,
    /// Whose identity asks the CA for its certificates.
    pub caller: Caller,
    /// What the agent keeps of the volume is with the volume, not in the state directory.
    pub beside: Option<Beside>,
}

/// The place for what the agent keeps of a pod's volume: in the volume's own memory, where the pod
/// cannot look, so that it comes and goes with the volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beside {
    /// The directory; it exists.
    pub state: PathBuf,
    /// The pod, for the record.
    pub pod: PodRecord,
}

impl Assignment {
    /// What the agent keeps of the volume.
    pub(crate) fn kept(&self, state: &StateDir, id: &VolumeId, on_disk: bool) -> VolumeState {
        match &self.beside {
            Some(beside) => VolumeState::at(beside.state.clone(), on_disk),
            None => state.volume(id),
        }
    }

    /// What a workload of the configuration is assigned where names are given so.
    pub fn of(workload: &Workload, subject_mode: SubjectMode) -> Result<Self, PlanError> {
        let Workload {
            trust_domain,
            namespace,
            service_account,
            token_file,
            names,
            volume,
            ..
        } = workload;
        let caller = match (subject_mode, token_file) {
            (SubjectMode::Default, _) => Caller::Agent,
            (SubjectMode::ReflectedSpiffe, _) if !names.is_empty() => {
                return Err(PlanError::NamesNotReflected);
            }
            (SubjectMode::ReflectedSpiffe, Some(file)) => {
                Caller::Workload(SubjectToken::File(Path::new(file).into()))
            }
            (SubjectMode::ReflectedSpiffe, None) => return Err(PlanError::NoTokenFile),
        };
        let path = PathBuf::from(&volume.path);
        Ok(Self {
            // Two paths to one directory are one volume.
            path: path.canonicalize().unwrap_or(path),
            spiffe_id: plan::workload_id(trust_domain, namespace, service_account)?,
            names: names.clone(),
            volume: volume.clone(),
            caller,
            beside: None,
        })
    }

    /// Owner, group and modes; names are looked up on this machine, now.
    pub fn access(&self) -> Result<Access, OwnerError> {
        let id = |named: &Option<OwnerRef>, lookup: fn(&str) -> Result<u32, OwnerError>| match named
        {
            None => Ok(None),
            Some(OwnerRef::Id(id)) => lookup(&id.to_string()).map(Some),
            Some(OwnerRef::Name(name)) => lookup(name).map(Some),
        };
        Ok(Access {
            owner: id(&self.volume.owner, owner::user)?,
            group: id(&self.volume.group, owner::group)?,
            directory_mode: self.volume.directory_mode,
            key_mode: self.volume.key_mode,
            file_mode: self.volume.file_mode,
            allow_disk: self.volume.allow_disk,
        })
    }
}
