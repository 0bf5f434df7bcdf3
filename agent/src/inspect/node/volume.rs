//! One volume: what is known of it, and in which state that makes it.
use std::path::{Path, PathBuf};

use certagent_csi::{Target, look::SeenVolume, paths::Places};
use certagent_svid::{Certificate, Chain, SpiffeId, leaf};
use jiff::Timestamp;
use serde::Serialize;

use super::super::{
    directory::{RenewalHint, chain_problem, life},
    text::{clean, span},
};
use crate::volume::{Record, VolumeDir, VolumeId, VolumeState, read_record};

/// What was found of a volume. Nothing of its key is among it.
#[derive(Clone, Debug)]
pub(super) struct VolumeFacts {
    pub(super) id: String,
    pub(super) is_mounted: bool,
    pub(super) targets: Vec<Target>,
    pub(super) record: Result<Option<Record>, String>,
    /// The published certificates as PEM.
    pub(super) certificates: Result<Option<Vec<u8>>, String>,
    /// Whose certificate the request under way asks for.
    pub(super) pending: Result<Option<SpiffeId>, String>,
    /// The directory of the record's pod is there; none if it could not be told.
    pub(super) has_pod: Option<bool>,
    /// The id that decides the place in the rotation window.
    pub(super) held_as: VolumeId,
}

impl VolumeFacts {
    /// Looks at a volume. What cannot be read is told, and stops nothing.
    pub(super) fn of(seen: SeenVolume, places: &Places) -> Self {
        let SeenVolume {
            id,
            root,
            is_mounted,
            targets,
        } = seen;
        let record = read_record(&root).map_err(|error| error.to_string());
        let uid = record.as_ref().ok().and_then(|record| {
            let pod = record.as_ref()?.pod.as_ref()?;
            Some(pod.uid.clone()).filter(|uid| is_name(uid))
        });
        let data = root.join("data");
        let certificates = match certificates(&data) {
            Err(_) if !is_mounted => Ok(None),
            read => read,
        };
        let pending = VolumeState::at(root, false).pending().peek();
        Self {
            id: id.to_string(),
            is_mounted,
            targets,
            record,
            certificates,
            pending: match pending {
                Ok(request) => Ok(request.map(|request| request.plan.spiffe_id)),
                Err(error) => Err(error.to_string()),
            },
            has_pod: uid.and_then(|uid| places.pod(&uid).try_exists().ok()),
            held_as: VolumeId::of(&data.canonicalize().unwrap_or(data)),
        }
    }
}

fn certificates(data: &Path) -> Result<Option<Vec<u8>>, String> {
    VolumeDir::peek_certificates(data).map_err(|error| error.to_string())
}

/// A uid is part of a path below.
fn is_name(uid: &str) -> bool {
    !uid.is_empty() && !uid.contains('/') && uid != "." && uid != ".."
}

/// The states, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum State {
    /// The pod has a certificate that has ended.
    Expired,
    /// The pod has a certificate that has not begun.
    NotYetValid,
    /// The pod has the volume, and no usable certificate of its identity in it.
    NoCredential,
    /// The volume is filled and its pod is there, and it is not mounted in it.
    Unbound,
    /// The pod's certificate should have been renewed.
    Overdue,
    /// The volume is not filled yet.
    Waiting,
    /// The directory of a volume whose memory is gone, with a reboot.
    Unmounted,
    /// Its pod is gone.
    LeftOver,
    /// The pod has a valid certificate.
    Valid,
}

impl State {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::NotYetValid => "not-yet-valid",
            Self::NoCredential => "no-credential",
            Self::Unbound => "unbound",
            Self::Overdue => "overdue",
            Self::Waiting => "waiting",
            Self::Unmounted => "unmounted",
            Self::LeftOver => "left-over",
            Self::Valid => "valid",
        }
    }
}

/// A volume as it is told.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Volume {
    pub(super) id: String,
    pub(super) state: State,
    /// Why it is in that state, where the state alone does not say it.
    pub(super) reason: Option<String>,
    pub(super) spiffe_id: Option<String>,
    pub(super) pod: Option<Pod>,
    pub(super) is_mounted: bool,
    /// Where it is mounted in its pod.
    pub(super) targets: Vec<PathBuf>,
    pub(super) serial: Option<String>,
    pub(super) not_after: Option<Timestamp>,
    pub(super) remaining_seconds: Option<i64>,
    pub(super) renews_at: Option<Timestamp>,
    /// A request for a certificate is under way.
    pub(super) has_request: bool,
    /// What is wrong with what the driver keeps of it.
    pub(super) record_problem: Option<String>,
}

/// Whose volume it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pod {
    /// None where only the mount tells of the pod.
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    pub(super) uid: String,
}

/// The published certificate, as far as it can be used.
struct Published {
    chain: Chain,
    renews_at: Option<Timestamp>,
    is_late: bool,
}

/// What the facts make of a volume.
pub(super) fn judge(facts: &VolumeFacts, now: Timestamp) -> Volume {
    let record = facts.record.as_ref().ok().and_then(Option::as_ref);
    let published = published(facts, record, now);
    let (state, reason) = state(facts, record, &published, now);
    let published = published.ok().flatten();
    let leaf = published.as_ref().map(|there| there.chain.leaf());
    let not_after = published
        .as_ref()
        .map(|there| there.chain.earliest_not_after());
    let of_leaf = leaf.and_then(|leaf| leaf::spiffe_id(leaf).ok());
    let requested = facts.pending.as_ref().ok().and_then(Clone::clone);
    let id = requested.or(of_leaf).map(|id| id.to_string());
    Volume {
        id: facts.id.clone(),
        state,
        reason: reason.map(|reason| clean(&reason)),
        spiffe_id: record
            .map(|record| record.spiffe_id.clone())
            .or(id)
            .map(|id| clean(&id)),
        pod: pod(facts, record),
        is_mounted: facts.is_mounted,
        targets: facts
            .targets
            .iter()
            .map(|target| target.path.clone())
            .collect(),
        serial: leaf.map(Certificate::serial_hex),
        not_after,
        remaining_seconds: not_after.map(|end| end.duration_since(now).as_secs()),
        renews_at: published.and_then(|there| there.renews_at),
        has_request: matches!(facts.pending, Ok(Some(_)) | Err(_)),
        record_problem: record_problem(facts).map(|problem| clean(&problem)),
    }
}

/// The kernel says which pod has it; the record knows more names, and may be of an earlier time.
fn pod(facts: &VolumeFacts, record: Option<&Record>) -> Option<Pod> {
    let recorded = record.and_then(|record| record.pod.as_ref());
    let mounted = facts.targets.first().map(|target| target.pod_uid.as_str());
    match (recorded, mounted) {
        (Some(pod), None) => Some((pod, pod.uid.as_str())),
        (Some(pod), Some(uid)) if pod.uid == uid || uid.is_empty() => Some((pod, pod.uid.as_str())),
        _ => None,
    }
    .map(|(pod, uid)| Pod {
        namespace: Some(clean(&pod.namespace)),
        name: Some(clean(&pod.name)),
        uid: clean(uid),
    })
    .or_else(|| {
        let uid = mounted.filter(|uid| !uid.is_empty())?;
        Some(Pod {
            namespace: None,
            name: None,
            uid: clean(uid),
        })
    })
}

fn published(
    facts: &VolumeFacts,
    record: Option<&Record>,
    now: Timestamp,
) -> Result<Option<Published>, String> {
    let pem = facts.certificates.as_ref().map_err(Clone::clone)?;
    let Some(pem) = pem else {
        return Ok(None);
    };
    let chain = Chain::parse_pem(pem).map_err(|error| chain_problem(&error))?;
    let (leaf, end) = (chain.leaf(), chain.earliest_not_after());
    let hint = record.and_then(|record| RenewalHint::of(record, &facts.held_as));
    let hint = hint.filter(|hint| hint.serial == leaf.serial_hex());
    let (_, late) = life(leaf, end, hint.as_ref());
    Ok(Some(Published {
        renews_at: hint.as_ref().and_then(|hint| hint.due(leaf, end)),
        is_late: end.duration_since(now) < late,
        chain,
    }))
}

fn state(
    facts: &VolumeFacts,
    record: Option<&Record>,
    published: &Result<Option<Published>, String>,
    now: Timestamp,
) -> (State, Option<String>) {
    if !facts.is_mounted {
        return (State::Unmounted, None);
    }
    let is_bound = !facts.targets.is_empty();
    if !is_bound && facts.has_pod == Some(false) {
        return (State::LeftOver, None);
    }
    let there = match published {
        Ok(Some(there)) => there,
        Ok(None) | Err(_) if !is_bound => return (State::Waiting, None),
        Ok(None) => return (State::NoCredential, Some("it is empty".to_owned())),
        Err(problem) => return (State::NoCredential, Some(problem.clone())),
    };
    if !is_bound {
        // Only what has a record was ever filled by a driver that came to its end.
        return match record {
            Some(_) => (State::Unbound, None),
            None => (State::Waiting, None),
        };
    }
    let leaf = there.chain.leaf();
    match (leaf::spiffe_id(leaf), record) {
        (Err(error), _) => return (State::NoCredential, Some(error.to_string())),
        (Ok(id), Some(record)) if id.to_string() != record.spiffe_id => {
            let reason = format!("its certificate is for {id}");
            return (State::NoCredential, Some(reason));
        }
        (Ok(_), _) => {}
    }
    if now > there.chain.earliest_not_after() {
        return (State::Expired, None);
    }
    if now < leaf.not_before() {
        let ahead = span(leaf.not_before().duration_since(now));
        let reason = format!("it begins in {ahead}: this node's clock is behind the CA's");
        return (State::NotYetValid, Some(reason));
    }
    if there.is_late {
        return (State::Overdue, None);
    }
    (State::Valid, None)
}

/// What keeps the driver from knowing its volume again after a restart.
fn record_problem(facts: &VolumeFacts) -> Option<String> {
    if !facts.is_mounted {
        return None;
    }
    match (&facts.record, &facts.pending) {
        (Err(problem), _) | (_, Err(problem)) => Some(problem.clone()),
        (Ok(None), _) if !facts.targets.is_empty() => Some(
            "there is no record; it is rebuilt from the certificate at the driver's next start, \
             or when it is renewed"
                .to_owned(),
        ),
        (Ok(_), Ok(_)) => None,
    }
}
