use std::{fs, sync::Arc, time::Duration};

use certagent_svid::layout;
use futures::future::BoxFuture;
use jiff::Timestamp;

use super::{WaitError, wait, wait_polling};
use crate::{
    clock::{Clock, SharedClock},
    inspect::{
        Verdict,
        fixture::{NOON, Volume, at, contents},
    },
};

/// Longer than any test may take.
const FOREVER: Duration = Duration::from_secs(3600);

struct Stopped(&'static str);

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        at(self.0)
    }

    fn sleep_until(&self, _: Timestamp) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

fn stopped(now: &'static str) -> SharedClock {
    Arc::new(Stopped(now))
}

#[tokio::test]
async fn a_valid_credential_ends_the_wait_at_once() {
    let volume = Volume::plain(&contents());
    wait(volume.path(), Duration::ZERO, stopped(NOON))
        .await
        .unwrap();
}

#[tokio::test]
async fn the_end_of_the_time_says_the_last_cause_and_the_next_step() {
    let volume = Volume::empty();
    let dir = volume.path().join("not yet");
    let error = wait(&dir, Duration::ZERO, stopped(NOON)).await.unwrap_err();
    let message = error.to_string();
    assert!(message.contains("does not exist"), "{message}");
    assert!(message.contains("certagent inspect '"), "{message}");
    let WaitError::Timeout { verdict, .. } = error;
    assert_eq!(verdict, Verdict::Problem);
}

#[tokio::test]
async fn an_expired_credential_is_no_credential() {
    let volume = Volume::plain(&contents());
    let now = stopped("2027-01-01T00:00:00Z");
    let error = wait(volume.path(), Duration::ZERO, now).await.unwrap_err();
    assert!(error.to_string().contains("expired"), "{error}");
}

/// Polls are an hour apart here: only the watch can end the wait.
#[tokio::test]
async fn a_credential_that_appears_is_heard_of_though_its_directory_was_not_there() {
    let volume = Volume::empty();
    let ready = Volume::plain(&contents());
    let (parent, dir) = (volume.path().join("a"), volume.path().join("a/b"));
    let waiting = {
        let dir = dir.clone();
        tokio::spawn(async move { wait_polling(&dir, FOREVER, stopped(NOON), FOREVER).await })
    };
    // One thread: the task looks, and listens, before it gives way.
    tokio::task::yield_now().await;
    fs::create_dir(&parent).unwrap();
    fs::create_dir(&dir).unwrap();
    for name in &layout::FILES[..3] {
        fs::copy(ready.file(name), dir.join(name)).unwrap();
        tokio::task::yield_now().await;
    }
    tokio::time::timeout(Duration::from_secs(60), waiting)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn the_poll_finds_what_no_watch_told_of() {
    let volume = Volume::empty();
    let ready = Volume::plain(&contents());
    let (link, poll) = (volume.path().join("link"), Duration::from_millis(1));
    std::os::unix::fs::symlink(ready.path().join("later"), &link).unwrap();
    let waiting =
        tokio::spawn(async move { wait_polling(&link, FOREVER, stopped(NOON), poll).await });
    tokio::task::yield_now().await;
    // Behind the link, where nothing listens.
    fs::create_dir(ready.path().join("later")).unwrap();
    for name in &layout::FILES[..3] {
        fs::copy(ready.file(name), ready.path().join("later").join(name)).unwrap();
    }
    tokio::time::timeout(Duration::from_secs(60), waiting)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}
