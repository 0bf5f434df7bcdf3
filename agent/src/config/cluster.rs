//! The configuration follows the two objects of a cluster.
use std::{collections::BTreeMap, sync::Arc};

use certagent_core::config::{Problem, Rule, Settings, Severity, Source, TrustPolicy};
use futures::{Stream, StreamExt as _, pin_mut, stream};
use jiff::SignedDuration;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    ActiveConfig, BadConfig, Found, JudgedObject,
    activation::{Activation, Keeper},
    judged,
    object::{self, source},
};
use crate::{
    admin::Metrics,
    clock::SharedClock,
    kube::{GROUP, Kind, OBJECT_NAME, Trouble, VERSION, answer},
    trust::rendered,
    volume::StateDir,
};

/// What brings the two kinds into a cluster.
const MANIFEST: &str = "crds.yaml";

/// So long after the start the last good configuration of an earlier process is used, if the API
/// server has not said anything.
const PATIENCE: SignedDuration = SignedDuration::from_secs(5);

/// What there is to say before the API server has said anything.
const NO_ANSWER: &str = "the API server has not answered yet, so the configuration is not known";

/// What is known of the configuration of a cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterState {
    /// What certificates are issued by now; none before there is the first good pair of objects.
    pub active: Option<Arc<ActiveConfig>>,
    /// What is wrong with the objects or with reading them, and what to do, for a pod's event.
    /// With a configuration that is active it stays in force nevertheless.
    pub problem: Option<String>,
    /// The API server was asked a moment ago, and may answer any moment.
    pub is_settling: bool,
    /// What is active as it is kept at both objects; none as long as nothing is, or if it is too large.
    pub last_good: Option<Arc<Value>>,
    /// The trust that the controller has rendered last; none before it has for the first time.
    pub rendered: Option<Arc<TrustPolicy>>,
    /// Each object that is there, as it was judged last; none before both were asked for. Whoever
    /// reads files has none.
    pub objects: BTreeMap<Kind, JudgedObject>,
}

/// Follows `WorkloadCertificateConfig/default` and `TrustConfig/default`.
#[derive(Debug)]
pub struct ClusterConfig;

impl ClusterConfig {
    /// Follows the objects until `cancel`.
    ///
    /// Gives a state at once. As long as no object could be read, in this process or an earlier
    /// one, nothing is active.
    pub fn start(
        client: &Client,
        settings: Settings,
        state: &Arc<StateDir>,
        metrics: Arc<Metrics>,
        clock: SharedClock,
        cancel: CancellationToken,
    ) -> watch::Receiver<ClusterState> {
        let (follower, receiver) = Follower::new(settings, state, metrics);
        let events = stream::select(
            events(client.clone(), Kind::Certificates),
            events(client.clone(), Kind::Trust),
        );
        let follow = Box::pin(follower.run(events, clock));
        tokio::spawn(async move { cancel.run_until_cancelled(follow).await });
        receiver
    }

    /// What the two objects say now, for whoever only looks; or why they are not known, and what to
    /// do about that.
    pub(crate) async fn look(client: &Client, settings: &Settings) -> Result<Found, String> {
        let mut objects = Objects::default();
        for kind in Kind::ALL {
            // As a watch asks: so a kind that the API server does not know is told apart from an
            // object that is not there, and the same rights are enough.
            let this = ListParams::default().fields(&format!("metadata.name={OBJECT_NAME}"));
            let listed = answer(objects_of(client.clone(), kind).list(&this)).await;
            let listed = listed.map_err(|trouble| trouble.explain(&kind.object(), MANIFEST))?;
            objects.observe(kind, listed.items.first());
        }
        objects.found(settings).ok_or_else(|| NO_ANSWER.to_owned())
    }
}

/// What the API server says of an object: as it is now, or that there is none.
type Event = Result<Option<DynamicObject>, watcher::Error>;

/// The objects of one of the two kinds.
pub(crate) fn objects_of(client: Client, kind: Kind) -> Api<DynamicObject> {
    let gvk = GroupVersionKind::gvk(GROUP, VERSION, kind.name());
    let resource = ApiResource::from_gvk_with_plural(&gvk, kind.plural());
    Api::all_with(client, &resource)
}

fn events(client: Client, kind: Kind) -> impl Stream<Item = (Kind, Event)> {
    watcher::watch_object(objects_of(client, kind), OBJECT_NAME)
        .default_backoff()
        .map(move |event| (kind, event))
}

/// One object, as far as it is known.
#[derive(Debug, Default, PartialEq)]
enum Seen {
    #[default]
    Unknown,
    Absent,
    Deleted,
    There(Source),
}

/// Both objects.
#[derive(Debug, Default)]
struct Objects {
    certificates: Seen,
    trust: Seen,
}

struct Follower {
    settings: Settings,
    state: Arc<StateDir>,
    metrics: Arc<Metrics>,
    objects: Objects,
    /// Why an object cannot be read now; in the order of the kinds.
    troubles: [Option<Trouble>; 2],
    /// What is wrong with the objects.
    wrong: Option<String>,
    judged: BTreeMap<Kind, JudgedObject>,
    activation: Option<(Activation, watch::Receiver<Arc<ActiveConfig>>)>,
    has_tried_earlier: bool,
    /// The last good objects as the controller has kept them at one of the two.
    kept: Option<Vec<Source>>,
    /// What is in force by now, in that form.
    last_good: Option<Arc<Value>>,
    rendered: Option<Arc<TrustPolicy>>,
    sender: watch::Sender<ClusterState>,
}

impl Objects {
    fn observe(&mut self, kind: Kind, object: Option<&DynamicObject>) {
        let seen = match kind {
            Kind::Certificates => &mut self.certificates,
            Kind::Trust => &mut self.trust,
        };
        *seen = match (object, &*seen) {
            (Some(object), _) => Seen::There(source(kind, object)),
            (None, Seen::There(_) | Seen::Deleted) => Seen::Deleted,
            (None, _) => Seen::Absent,
        };
    }

    /// What both say, once both are known.
    fn found(&self, settings: &Settings) -> Option<Found> {
        let (mut sources, mut missing) = (Vec::new(), Vec::new());
        for (kind, seen) in [
            (Kind::Certificates, &self.certificates),
            (Kind::Trust, &self.trust),
        ] {
            match seen {
                Seen::Unknown => return None,
                Seen::There(source) => sources.push(source.clone()),
                Seen::Absent => missing.push(problem(format!(
                    "there is no {} named {OBJECT_NAME}; apply one",
                    kind.name()
                ))),
                Seen::Deleted => missing.push(problem(format!(
                    "the {} named {OBJECT_NAME} was deleted; apply one",
                    kind.name()
                ))),
            }
        }
        let mut found = Found::check(sources, settings);
        if !missing.is_empty() {
            found.config = None;
            // It knows of no object that is missing but those above.
            found.problems.retain(|problem| problem.line > 0);
            found.problems.splice(0..0, missing);
        }
        for problem in &mut found.problems {
            without_place(problem);
        }
        Some(found)
    }
}

impl Follower {
    fn new(
        settings: Settings,
        state: &Arc<StateDir>,
        metrics: Arc<Metrics>,
    ) -> (Self, watch::Receiver<ClusterState>) {
        let (sender, receiver) = watch::channel(ClusterState {
            problem: Some(NO_ANSWER.to_owned()),
            is_settling: true,
            ..ClusterState::default()
        });
        let follower = Self {
            settings,
            state: Arc::clone(state),
            metrics,
            objects: Objects::default(),
            troubles: [None, None],
            wrong: None,
            judged: BTreeMap::new(),
            activation: None,
            has_tried_earlier: false,
            kept: None,
            last_good: None,
            rendered: None,
            sender,
        };
        (follower, receiver)
    }

    async fn run(mut self, events: impl Stream<Item = (Kind, Event)>, clock: SharedClock) {
        pin_mut!(events);
        let now = clock.now();
        let mut patience = clock.sleep_until(now.saturating_add(PATIENCE).unwrap_or(now));
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some((kind, event)) => self.take(kind, event),
                    None => return,
                },
                () = &mut patience, if !self.has_tried_earlier => self.resume(),
            }
        }
    }

    fn take(&mut self, kind: Kind, event: Event) {
        let trouble = match &event {
            Ok(_) => None,
            Err(error) => match Trouble::of(error) {
                None => return,
                some => some,
            },
        };
        let [certificates, trust] = &mut self.troubles;
        *match kind {
            Kind::Certificates => certificates,
            Kind::Trust => trust,
        } = trouble;
        match event {
            Ok(object) => {
                self.objects.observe(kind, object.as_ref());
                if let Some(object) = &object {
                    self.take_status(kind, object);
                }
                if let Some(found) = self.objects.found(&self.settings) {
                    self.activate(found);
                }
            }
            Err(_) => self.resume(),
        }
        self.publish();
    }

    /// What was kept or rendered stays when an object is written anew, or wrongly.
    fn take_status(&mut self, kind: Kind, object: &DynamicObject) {
        let status = object.data.get("status");
        if self.activation.is_none() {
            let kept = status.and_then(object::from_status);
            self.kept = kept.or(self.kept.take());
        }
        if kind == Kind::Certificates {
            return;
        }
        match rendered::parse(status) {
            Ok(None) => {}
            Ok(Some(policy)) => {
                if self.rendered.as_deref() != Some(&policy) {
                    self.rendered = Some(Arc::new(policy));
                }
            }
            Err(error) => warn!(%error, "the trust that was rendered before stays in force"),
        }
    }

    fn activate(&mut self, found: Found) {
        self.has_tried_earlier = true;
        self.wrong = errors(&found.problems);
        let (sources, problems) = (found.sources.clone(), found.problems.clone());
        self.try_active(found);
        let activation = self.activation.as_ref();
        let in_force = activation.map_or(&[][..], |(activation, _)| activation.in_force());
        self.judged = judged::judge(&sources, &problems, in_force);
    }

    fn try_active(&mut self, found: Found) {
        if let Some((activation, _)) = &mut self.activation {
            activation.take(found);
            return;
        }
        let (keeper, metrics) = (self.keeper(), Arc::clone(&self.metrics));
        match Activation::start(&self.settings, keeper, metrics, found) {
            Ok(activation) => self.activation = Some(activation),
            Err(BadConfig { .. }) => self.metrics.config_valid(false),
        }
    }

    /// Uses what an earlier process kept, until something better is known.
    fn resume(&mut self) {
        if self.has_tried_earlier || self.activation.is_some() {
            return;
        }
        self.has_tried_earlier = true;
        let why = self.problem().unwrap_or_default();
        let (keeper, metrics) = (self.keeper(), Arc::clone(&self.metrics));
        self.activation = Activation::resume(&self.settings, keeper, metrics, &why);
        self.publish();
    }

    fn keeper(&self) -> Keeper {
        Keeper::new(&self.state, self.kept.clone())
    }

    /// Everything that there is to say now.
    fn problem(&self) -> Option<String> {
        let mut said: Vec<String> = match &self.troubles {
            [Some(certificates), Some(trust)] if certificates == trust => {
                vec![certificates.explain("the configuration", MANIFEST)]
            }
            troubles => Kind::ALL
                .into_iter()
                .zip(troubles)
                .filter_map(|(kind, trouble)| {
                    Some(trouble.as_ref()?.explain(&kind.object(), MANIFEST))
                })
                .collect(),
        };
        said.extend(self.wrong.clone());
        if said.is_empty() && self.is_waiting() {
            said.push(NO_ANSWER.to_owned());
        }
        (!said.is_empty()).then(|| said.join("\n"))
    }

    fn is_waiting(&self) -> bool {
        let Objects {
            certificates,
            trust,
        } = &self.objects;
        *certificates == Seen::Unknown || *trust == Seen::Unknown
    }

    fn publish(&mut self) {
        let active = self.activation.as_ref();
        let last_good = active.and_then(|(one, _)| object::to_status(one.in_force()));
        if self.last_good.as_deref() != last_good.as_ref() {
            self.last_good = last_good.map(Arc::new);
        }
        let now = ClusterState {
            active: active.map(|(_, active)| Arc::clone(&active.borrow())),
            problem: self.problem(),
            is_settling: !self.has_tried_earlier,
            last_good: self.last_good.clone(),
            rendered: self.rendered.clone(),
            objects: self.judged.clone(),
        };
        // What is wrong with the objects themselves is told by who makes them active.
        let is_told = now.active.is_some() && self.troubles.iter().all(Option::is_none);
        let before = self.sender.borrow().problem.clone();
        if let Some(problem) = now
            .problem
            .as_ref()
            .filter(|problem| !is_told && before.as_ref() != Some(*problem))
        {
            warn!("{problem}");
        }
        self.sender.send_if_modified(|before| {
            let is_new = *before != now;
            before.clone_from(&now);
            is_new
        });
    }
}

/// A line of a rendered object means nothing to whoever wrote the object.
fn without_place(problem: &mut Problem) {
    problem.line = 0;
    problem.column = 0;
    if !problem.file.is_empty() {
        // The name of the source says which object it is.
        problem.object = None;
    }
}

fn problem(message: String) -> Problem {
    Problem {
        severity: Severity::Error,
        rule: Rule::MissingObject,
        file: String::new(),
        line: 0,
        column: 0,
        object: None,
        field: None,
        message,
        allowed: None,
    }
}

/// The errors, one a line.
fn errors(problems: &[Problem]) -> Option<String> {
    let errors: Vec<_> = problems
        .iter()
        .filter(|problem| problem.is_error())
        .map(|problem| {
            let shown = problem.to_string();
            // In a pod's event everything is an error.
            let shown = shown.strip_prefix("error: ").unwrap_or(&shown);
            shown.replacen(": error: ", ": ", 1)
        })
        .collect();
    (!errors.is_empty()).then(|| errors.join("\n"))
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;
