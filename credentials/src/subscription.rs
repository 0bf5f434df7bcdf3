//! Waiting for the next generation, on any executor.
use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures_core::Stream;

use crate::Snapshot;

/// Tells of every generation that comes into use, on any executor: it needs no runtime.
///
/// Who is slow sees the newest only, and never one twice. It ends when the last clone of the
/// [`Credentials`](crate::Credentials) is gone, configurations for rustls included; a subscription
/// does not keep them.
#[derive(Debug)]
pub struct Subscription {
    hub: Arc<Hub>,
    seat: u64,
    seen: u64,
}

impl Subscription {
    /// Waits for a generation that this subscription has not seen, and gives it; `None` when there
    /// will be none any more. A future that is dropped loses nothing.
    pub async fn changed(&mut self) -> Option<Arc<Snapshot>> {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Arc<Snapshot>>> {
        let mut state = self.hub.lock();
        if state.closed {
            return Poll::Ready(None);
        }
        if state.version > self.seen {
            self.seen = state.version;
            return Poll::Ready(state.latest.clone());
        }
        let waker = context.waker();
        match state.wakers.iter_mut().find(|(seat, _)| *seat == self.seat) {
            Some((_, there)) => there.clone_from(waker),
            None => state.wakers.push((self.seat, waker.clone())),
        }
        Poll::Pending
    }
}

impl Stream for Subscription {
    type Item = Arc<Snapshot>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Arc<Snapshot>>> {
        self.poll(context)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let seat = self.seat;
        self.hub.lock().wakers.retain(|(other, _)| *other != seat);
    }
}

/// Where generations are announced.
#[derive(Default)]
pub(crate) struct Hub(Mutex<State>);

#[derive(Default)]
struct State {
    version: u64,
    latest: Option<Arc<Snapshot>>,
    closed: bool,
    seats: u64,
    wakers: Vec<(u64, Waker)>,
}

impl Hub {
    pub(crate) fn subscribe(self: &Arc<Self>) -> Subscription {
        let mut state = self.lock();
        state.seats += 1;
        Subscription {
            hub: Arc::clone(self),
            seat: state.seats,
            seen: state.version,
        }
    }

    pub(crate) fn publish(&self, snapshot: Arc<Snapshot>) {
        self.change(|state| {
            state.version += 1;
            state.latest = Some(snapshot);
        });
    }

    /// Nobody will publish any more.
    pub(crate) fn close(&self) {
        self.change(|state| {
            state.closed = true;
            state.latest = None;
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        // Without the lock: a waker may run the task at once.
        for (_, waker) in wakers {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub")
            .field("version", &self.lock().version)
            .finish_non_exhaustive()
    }
}
