//! A source that is no file, as a cluster is.
use tempfile::TempDir;

use super::*;
use crate::config::fixture::Objects;

const NAME: &str = "default of the cluster";

#[test]
fn a_source_without_anything_good_may_begin_later() {
    let source = Cluster::new();
    let error = source.start("kind: [").err().unwrap();
    assert_eq!(error.problems[0].file, NAME);
    let (_activation, active) = source.start(&Objects::default().yaml()).unwrap();
    assert_eq!(active.borrow().version, 1);
    assert_eq!(active.borrow().problem, None);
}

#[test]
fn what_is_wrong_is_told_and_the_config_before_it_stays() {
    let source = Cluster::new();
    let (mut activation, mut active) = source.start(&Objects::default().yaml()).unwrap();
    active.mark_unchanged();

    activation.take(found(&Objects::default().yaml()));
    assert!(!active.has_changed().unwrap(), "it was seen already");

    activation.take(found("kind: ["));
    let bad = Arc::clone(&active.borrow_and_update());
    assert!(bad.problem.as_deref().unwrap().contains(NAME), "{bad:?}");
    assert_eq!(
        (bad.version, bad.config.certificates.validity.as_secs()),
        (1, 3600)
    );
    assert!(source.metrics().contains("certagent_config_valid 0\n"));

    activation.take(found(&changed().yaml()));
    let good = Arc::clone(&active.borrow_and_update());
    assert_eq!((good.version, &good.problem), (2, &None));
    assert_eq!(good.config.certificates.validity.as_secs(), 7200);
    assert!(source.metrics().contains("certagent_config_valid 1\n"));
}

#[test]
fn the_next_start_takes_what_was_good_last_under_the_name_it_had() {
    let source = Cluster::new();
    let (mut activation, _active) = source.start(&Objects::default().yaml()).unwrap();
    activation.take(found(&changed().yaml()));
    let (_activation, active) = source.start("kind: [").unwrap();
    let active = active.borrow();
    assert_eq!(active.config.certificates.validity.as_secs(), 7200);
    assert!(active.problem.is_some());
    let kept = source.state.load_last_good().unwrap().unwrap();
    assert!(kept.contains(&format!("\"name\":\"{NAME}\"")), "{kept}");
}

fn changed() -> Objects {
    Objects {
        validity: 7200,
        workloads: &[],
        ..Objects::default()
    }
}

fn found(text: &str) -> Found {
    let source = Source {
        name: NAME.to_owned(),
        text: text.to_owned(),
    };
    Found::check(vec![source], &Settings::default())
}

struct Cluster {
    state: Arc<StateDir>,
    metrics: Arc<Metrics>,
    _directory: TempDir,
}

impl Cluster {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        Self {
            state: Arc::new(StateDir::open(directory.path(), true).unwrap()),
            metrics: Arc::new(Metrics::default()),
            _directory: directory,
        }
    }

    fn start(
        &self,
        text: &str,
    ) -> Result<(Activation, watch::Receiver<Arc<ActiveConfig>>), BadConfig> {
        let metrics = Arc::clone(&self.metrics);
        Activation::start(
            &Settings::default(),
            Keeper::new(&self.state, None),
            metrics,
            found(text),
        )
    }

    fn metrics(&self) -> String {
        self.metrics
            .render(&[], jiff::Timestamp::UNIX_EPOCH)
            .unwrap()
    }
}
