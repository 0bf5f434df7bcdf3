//! The only place that reads the time.
use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use jiff::Timestamp;

/// The time, and waiting for it. Everything that depends on time gets one of these.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock.
    fn now(&self) -> Timestamp;

    /// Resolves when the wall clock has reached `deadline`, also when it got there by a step or
    /// while the machine was suspended, at most a minute late then; and early when the clock was
    /// stepped back, so that whoever waits can think again.
    fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'static, ()>;
}

/// A clock that is shared.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// The wall clock is asked at least this often, so that steps and suspends heal themselves.
const LONGEST_NAP: Duration = Duration::from_secs(60);

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the Clock")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let mut seen = Self.now();
            loop {
                let now = Self.now();
                let left = Duration::try_from(deadline.duration_since(now)).unwrap_or_default();
                if left.is_zero() || now < seen {
                    return;
                }
                seen = now;
                tokio::time::sleep(left.min(LONGEST_NAP)).await;
            }
        })
    }
}

#[cfg(any(test, feature = "testing"))]
pub use manual::ManualClock;

#[cfg(any(test, feature = "testing"))]
mod manual {
    use tokio::sync::watch;

    use super::{BoxFuture, Clock, Timestamp};

    /// A clock that only moves when a test moves it.
    #[derive(Clone, Debug)]
    pub struct ManualClock {
        now: watch::Sender<Timestamp>,
    }

    impl ManualClock {
        /// A clock that stands at `now`.
        pub fn new(now: Timestamp) -> Self {
            Self {
                now: watch::Sender::new(now),
            }
        }

        /// Moves the clock by `step`, forward or back, and wakes whoever waits for a moment that
        /// has come.
        pub fn step(&self, step: jiff::SignedDuration) {
            self.now
                .send_modify(|now| *now = now.saturating_add(step).unwrap_or(*now));
        }

        /// Sets the clock.
        pub fn set(&self, now: Timestamp) {
            self.now.send_replace(now);
        }
    }

    impl Clock for ManualClock {
        fn now(&self) -> Timestamp {
            *self.now.borrow()
        }

        fn sleep_until(&self, deadline: Timestamp) -> BoxFuture<'static, ()> {
            let mut now = self.now.subscribe();
            let start = *now.borrow_and_update();
            Box::pin(async move {
                // The sender lives in the clock; if that is gone, nobody will ever step it.
                if now
                    .wait_for(|now| *now >= deadline || *now < start)
                    .await
                    .is_err()
                {
                    std::future::pending::<()>().await;
                }
            })
        }
    }
}
