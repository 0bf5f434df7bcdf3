use std::{
    sync::{Mutex, mpsc},
    task::{Context, Poll, Wake, Waker},
};

use futures_core::Stream as _;

use super::*;
use crate::fixture::{Authority, ID, NOW, credential};

/// How long a test waits for something that must happen. Not a measure of anything.
const GUARD: Duration = Duration::from_secs(60);
/// So long that nothing is ever polled.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// Runs a future without any runtime.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    let began = Instant::now();
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park_timeout(GUARD),
        }
        assert!(began.elapsed() < GUARD, "nothing happened");
    }
}

/// A clock that is set by hand.
#[derive(Clone)]
struct Hands(Arc<Mutex<Timestamp>>);

impl Hands {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(NOW.parse().unwrap())))
    }

    fn set(&self, now: &str) {
        *self.0.lock().unwrap() = now.parse().unwrap();
    }

    fn clock(&self) -> impl Fn() -> Timestamp + Send + Sync + 'static {
        let now = Arc::clone(&self.0);
        move || *now.lock().unwrap()
    }
}

pub(super) fn builder(directory: &Path) -> Builder {
    Credentials::builder(directory)
        .clock(Hands::new().clock())
        .poll(NEVER)
}

/// Credentials, and the events that they tell. The thread's first look is over: it finds what was
/// read already and tells nothing, so a test that writes first and asks for a reload is alone.
fn told(builder: Builder) -> (Credentials, mpsc::Receiver<Event>) {
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let credentials = builder
        .on_event(move |event| drop(tell.lock().unwrap().send(event.clone())))
        .open()
        .unwrap();
    (credentials, told)
}

fn next(events: &mpsc::Receiver<Event>) -> Event {
    events.recv_timeout(GUARD).unwrap()
}

fn serial(credentials: &Credentials) -> String {
    credentials.current().chain().leaf().serial_hex()
}

#[test]
fn what_is_opened_is_current_and_fresh() {
    let dir = tempfile::tempdir().unwrap();
    let there = credential();
    there.write(dir.path());
    let credentials = builder(dir.path()).open().unwrap();
    assert_eq!(serial(&credentials), there.serial());
    assert!(matches!(credentials.health(), Health::Fresh));
    assert!(credentials.health().is_usable());
    assert!(!credentials.reload().unwrap(), "nothing changed");
    let text = format!("{credentials:?}");
    assert!(text.contains("cart") && !text.contains("PRIVATE"), "{text}");
}

#[test]
fn what_no_peer_would_accept_never_replaces_what_is_good() {
    let dir = tempfile::tempdir().unwrap();
    let home = Authority::new("example.org");
    let good = home.issue(ID);
    good.write(dir.path());
    let credentials = builder(dir.path()).open().unwrap();
    let sign = rcgen::KeyUsagePurpose::KeyCertSign;
    for (bad, expected) in [
        (
            home.issue_bent(ID, |leaf| leaf.key_usages.push(sign)),
            "keyCertSign",
        ),
        (
            home.issue_bent(ID, |leaf| {
                leaf.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            }),
            "CA",
        ),
        (
            home.issue_bent(ID, |leaf| {
                leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
            }),
            "clientAuth",
        ),
        (
            home.issue_bent(ID, |leaf| {
                leaf.not_before = rcgen::date_time_ymd(2026, 11, 30);
            }),
            "valid from",
        ),
    ] {
        bad.write(dir.path());
        let error = credentials.reload().unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
        assert_eq!(serial(&credentials), good.serial());
        assert!(matches!(credentials.health(), Health::Stale { .. }));
        // Of the last nobody can tell whose clock is wrong, so whoever has nothing takes it.
        let opened = builder(dir.path()).open();
        assert_eq!(opened.is_ok(), expected == "valid from", "{expected}");
    }
}

#[test]
fn whoever_reloads_when_told_of_a_failure_is_not_told_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    credential().write(dir.path());
    let slot: Arc<Mutex<Option<Credentials>>> = Arc::default();
    let (tell, told) = mpsc::channel();
    let (held, tell) = (Arc::clone(&slot), Mutex::new(tell));
    let credentials = builder(dir.path())
        .on_event(move |event| {
            let again = held.lock().unwrap().clone();
            let result = again.map(|it| it.reload().is_ok());
            drop(tell.lock().unwrap().send((event.clone(), result)));
        })
        .open()
        .unwrap();
    *slot.lock().unwrap() = Some(credentials.clone());
    std::fs::write(dir.path().join("credential-bundle.pem"), "").unwrap();
    assert!(credentials.reload().is_err());
    let (event, result) = told.recv_timeout(GUARD).unwrap();
    assert!(matches!(event, Event::Failed { .. }), "{event:?}");
    assert_eq!(result, Some(false));
    let new = credential();
    new.write(dir.path());
    assert!(credentials.reload().is_ok());
    while serial(&credentials) != new.serial() {
        drop(told.recv_timeout(GUARD).unwrap());
    }
    *slot.lock().unwrap() = None;
}

#[cfg(unix)]
#[test]
fn a_swap_is_noticed_by_itself_and_told_to_subscribers_and_by_events() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (credential(), credential());
    old.swap(dir.path(), 1);
    let (credentials, events) = told(builder(dir.path()));
    let (mut one, mut two) = (credentials.subscribe(), credentials.subscribe());
    new.swap(dir.path(), 2);
    let changed = block_on(one.changed()).unwrap();
    assert_eq!(changed.chain().leaf().serial_hex(), new.serial());
    assert_eq!(serial(&credentials), new.serial());
    // The other is read as a stream.
    let next_of_two =
        std::future::poll_fn(|context| std::pin::Pin::new(&mut two).poll_next(context));
    assert!(Arc::ptr_eq(&block_on(next_of_two).unwrap(), &changed));
    let Event::Reloaded(reload) = next(&events) else {
        panic!("another event");
    };
    assert!(reload.certificate_changed() && reload.roots_removed());
    assert_eq!(reload.previous().chain().leaf().serial_hex(), old.serial());
    assert!(Arc::ptr_eq(reload.current(), &changed));
}

#[test]
fn plain_files_that_are_rewritten_are_noticed_by_themselves() {
    let dir = tempfile::tempdir().unwrap();
    credential().write(dir.path());
    let credentials = builder(dir.path()).open().unwrap();
    let mut changes = credentials.subscribe();
    let new = credential();
    new.write(dir.path());
    // In between it may have seen a moment at which key and certificate were new and roots old.
    while serial(&credentials) != new.serial() {
        block_on(changes.changed()).unwrap();
    }
}

#[test]
fn a_directory_that_cannot_be_used_leaves_the_last_good_one_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let good = credential();
    good.write(dir.path());
    let hands = Hands::new();
    let (credentials, events) = told(builder(dir.path()).clock(hands.clock()));
    std::fs::write(dir.path().join("credential-bundle.pem"), "").unwrap();
    let Event::Failed { since, error } = next(&events) else {
        panic!("another event");
    };
    assert!(
        error.to_string().contains("credential-bundle.pem"),
        "{error}"
    );
    assert_eq!(since, NOW.parse().unwrap());
    assert_eq!(serial(&credentials), good.serial());

    hands.set("2026-11-22T00:00:00Z");
    assert!(credentials.reload().is_err());
    let Health::Stale { since, .. } = credentials.health() else {
        panic!("another health");
    };
    assert_eq!(since, NOW.parse().unwrap(), "since the first failure");
    assert!(credentials.health().is_usable());

    let better = credential();
    better.write(dir.path());
    let recovered = |event: &Event| matches!(event, Event::Recovered);
    while !recovered(&next(&events)) {}
    while serial(&credentials) != better.serial() {
        next(&events);
    }
    assert!(matches!(credentials.health(), Health::Fresh));
}

#[test]
fn an_end_of_the_certificate_is_told_once_and_seen_in_the_health() {
    let dir = tempfile::tempdir().unwrap();
    credential().write(dir.path());
    let hands = Hands::new();
    let (credentials, events) = told(builder(dir.path()).clock(hands.clock()));
    hands.set("2026-12-02T00:00:00Z");
    for _ in 0..2 {
        // What is there is what is in use: nothing is wrong with the directory.
        assert!(!credentials.reload().unwrap());
    }
    let end: Timestamp = "2026-12-01T00:00:00Z".parse().unwrap();
    assert!(matches!(next(&events), Event::Expired { since } if since == end));
    assert!(events.try_recv().is_err(), "once");
    assert!(matches!(credentials.health(), Health::Expired { since } if since == end));
    assert!(!credentials.health().is_usable());
}

#[test]
fn own_roots_that_have_all_ended_are_told_as_the_end_of_the_certificate_is() {
    let dir = tempfile::tempdir().unwrap();
    let home = Authority::new("example.org");
    // It outlives its root, which ends with the year 2035.
    home.issue_bent(ID, |leaf| {
        leaf.not_after = rcgen::date_time_ymd(2037, 1, 1);
    })
    .write(dir.path());
    let hands = Hands::new();
    let (credentials, events) = told(builder(dir.path()).clock(hands.clock()));
    assert!(matches!(credentials.health(), Health::Fresh));
    hands.set("2036-02-01T00:00:00Z");
    assert!(!credentials.reload().unwrap());
    let end: Timestamp = "2036-01-01T00:00:00Z".parse().unwrap();
    assert!(matches!(next(&events), Event::Expired { since } if since == end));
    assert!(matches!(credentials.health(), Health::Expired { since } if since == end));
    assert!(!credentials.health().is_usable());
    let opened = builder(dir.path()).clock(hands.clock()).open();
    let error = opened.unwrap_err();
    assert!(matches!(error, Error::RootsExpired { not_after, .. } if not_after == end));
    let said = error.to_string();
    assert!(said.contains("every root of example.org"), "{said}");
}

#[test]
fn an_expired_generation_does_not_replace_a_good_one_but_another_expired_one() {
    let dir = tempfile::tempdir().unwrap();
    let good = credential();
    good.write(dir.path());
    let hands = Hands::new();
    let credentials = builder(dir.path()).clock(hands.clock()).open().unwrap();
    let old = Authority::new("example.org").issue_bent(ID, |leaf| {
        leaf.not_after = rcgen::date_time_ymd(2026, 11, 20);
    });
    old.write(dir.path());
    let error = credentials.reload().unwrap_err();
    assert!(matches!(*error, Error::Expired { .. }), "{error}");
    assert_eq!(serial(&credentials), good.serial());
    hands.set("2026-12-02T00:00:00Z");
    credentials.reload().unwrap();
    assert_eq!(serial(&credentials), old.serial(), "its roots are newer");
}

#[cfg(unix)]
#[test]
fn a_directory_that_goes_away_and_comes_back_is_read_again() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("volume");
    for round in 0..3 {
        std::fs::create_dir(&dir).unwrap();
        credential().swap(&dir, round);
        if round == 0 {
            continue_after(&parent.path().join("volume"), &dir);
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

/// Opens `dir`, then has it removed and made anew twice, in two ways.
#[cfg(unix)]
fn continue_after(at: &Path, dir: &Path) {
    let (credentials, events) = told(builder(at));
    let failed = |event: &Event| matches!(event, Event::Failed { .. });
    let mut generations = credentials.subscribe();
    for aside in [false, true] {
        if aside {
            std::fs::rename(dir, dir.with_extension("old")).unwrap();
        } else {
            std::fs::remove_dir_all(dir).unwrap();
        }
        while !failed(&next(&events)) {}
        assert!(credentials.health().is_usable());
        let new = credential();
        let made = dir.with_extension("new");
        std::fs::create_dir(&made).unwrap();
        new.swap(&made, 7);
        std::fs::rename(&made, dir).unwrap();
        let changed = block_on(generations.changed()).unwrap();
        assert_eq!(changed.chain().leaf().serial_hex(), new.serial());
        // And the new directory is watched, not the old one.
        let newer = credential();
        newer.swap(dir, 8);
        let changed = block_on(generations.changed()).unwrap();
        assert_eq!(changed.chain().leaf().serial_hex(), newer.serial());
    }
}

#[cfg(unix)]
#[test]
fn a_directory_behind_a_link_that_is_turned_is_found_by_polling() {
    let parent = tempfile::tempdir().unwrap();
    let (one, two) = (parent.path().join("one"), parent.path().join("two"));
    let (old, new) = (credential(), credential());
    for (path, credential) in [(&one, &old), (&two, &new)] {
        std::fs::create_dir(path).unwrap();
        credential.write(path);
    }
    let link = parent.path().join("credentials");
    std::os::unix::fs::symlink(&one, &link).unwrap();
    let poll = Duration::from_millis(10);
    let credentials = builder(&link).poll(poll).open().unwrap();
    let mut changes = credentials.subscribe();
    let turned = parent.path().join("turned");
    std::os::unix::fs::symlink(&two, &turned).unwrap();
    std::fs::rename(turned, &link).unwrap();
    block_on(changes.changed()).unwrap();
    assert_eq!(serial(&credentials), new.serial());
}

#[test]
fn the_last_clone_ends_the_thread_and_every_subscription() {
    let dir = tempfile::tempdir().unwrap();
    credential().write(dir.path());
    let alive = Arc::new(());
    let held = Arc::clone(&alive);
    let credentials = builder(dir.path())
        .on_event(move |_| assert!(Arc::strong_count(&held) > 1))
        .open()
        .unwrap();
    let mut changes = credentials.subscribe();
    let clone = credentials.clone();
    drop(credentials);
    let new = credential();
    new.write(dir.path());
    while serial(&clone) != new.serial() {
        block_on(changes.changed()).expect("a clone is alive");
    }
    drop(clone);
    while block_on(changes.changed()).is_some() {}
    // Whatever the thread held is let go of.
    let began = Instant::now();
    while Arc::strong_count(&alive) > 1 {
        assert!(began.elapsed() < GUARD, "the thread goes on");
        thread::yield_now();
    }
}

#[cfg(unix)]
#[test]
fn a_listener_that_panics_does_not_end_the_reloads() {
    let dir = tempfile::tempdir().unwrap();
    credential().swap(dir.path(), 1);
    let credentials = builder(dir.path())
        .on_event(|_| panic!("as a listener must not"))
        .open()
        .unwrap();
    let mut changes = credentials.subscribe();
    for number in 2..4 {
        credential().swap(dir.path(), number);
        block_on(changes.changed()).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn a_listener_may_ask_for_a_reload() {
    let dir = tempfile::tempdir().unwrap();
    credential().swap(dir.path(), 1);
    let slot: Arc<Mutex<Option<Credentials>>> = Arc::default();
    let (tell, told) = mpsc::channel();
    let (inside, tell) = (Arc::clone(&slot), Mutex::new(tell));
    let credentials = builder(dir.path())
        .on_event(move |_| {
            let credentials = inside.lock().unwrap().clone();
            let again = credentials.unwrap().reload().is_ok();
            tell.lock().unwrap().send(again).unwrap();
        })
        .open()
        .unwrap();
    *slot.lock().unwrap() = Some(credentials);
    credential().swap(dir.path(), 2);
    assert!(told.recv_timeout(GUARD).unwrap());
    drop(slot.lock().unwrap().take());
}

#[test]
fn the_first_read_must_succeed_and_may_be_waited_for() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("volume");
    let error = builder(&dir).open().unwrap_err();
    assert!(error.to_string().contains("does not exist"), "{error}");
    let waiting = builder(&dir).first_read_wait(GUARD);
    let opened = thread::spawn(move || waiting.open());
    let made = parent.path().join("made");
    std::fs::create_dir(&made).unwrap();
    credential().write(&made);
    std::fs::rename(made, dir).unwrap();
    opened.join().unwrap().unwrap();
}

#[test]
fn the_variable_names_the_directory_and_else_it_is_where_gke_mounts_it() {
    for unset in [None, Some("".into())] {
        assert_eq!(directory_of(unset), Path::new(WELL_KNOWN_DIRECTORY));
    }
    assert_eq!(directory_of(Some("/run/x".into())), Path::new("/run/x"));
}
