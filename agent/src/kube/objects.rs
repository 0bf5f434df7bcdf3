//! One object of the cluster, followed by its name.
use futures::{Stream, StreamExt as _};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event},
    },
};

/// What the cluster says of an object now.
#[derive(Clone, Debug)]
pub(crate) enum Looked {
    /// It is there.
    Found(Box<DynamicObject>),
    /// It is not.
    Missing,
    /// Nothing is known: the API server does not answer, or does not know such objects, or does
    /// not let us look.
    Unknown(String),
}

/// Follows the cluster's object of this kind and name. It never ends; what fails is tried again,
/// with a wait.
pub(crate) fn look(
    client: Client,
    kind: &ApiResource,
    name: &str,
) -> impl Stream<Item = Looked> + Send + use<> {
    let api: Api<DynamicObject> = Api::all_with(client, kind);
    let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let what = format!("{}/{name}", kind.kind);
    let events = watcher::watcher(api, only).default_backoff();
    let mut found = false;
    events.filter_map(move |event| {
        let looked = match event {
            Ok(Event::Init) => {
                found = false;
                None
            }
            Ok(Event::InitApply(object) | Event::Apply(object)) => {
                found = true;
                Some(Looked::Found(Box::new(object)))
            }
            Ok(Event::InitDone) => (!found).then_some(Looked::Missing),
            Ok(Event::Delete(_)) => Some(Looked::Missing),
            Err(error) => Some(Looked::Unknown(reason(&what, &error))),
        };
        std::future::ready(looked)
    })
}

/// What went wrong, and what to do.
fn reason(what: &str, error: &watcher::Error) -> String {
    let status = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status),
        _ => None,
    };
    match status.map(|status| status.code) {
        Some(404) => format!(
            "the cluster does not know objects like {what}; apply the CRDs of deploy/crds.yaml"
        ),
        Some(401 | 403) => format!(
            "the API server does not let this service account watch {what}; apply the ClusterRole \
             of deploy/node.yaml"
        ),
        Some(code) => format!("the API server answered {code} when asked for {what}"),
        None => {
            let mut chain = error.to_string();
            let mut source = std::error::Error::source(error);
            while let Some(error) = source {
                let text = error.to_string();
                if !chain.contains(&text) {
                    chain = format!("{chain}: {text}");
                }
                source = error.source();
            }
            format!("the API server cannot be asked for {what}: {chain}")
        }
    }
}
