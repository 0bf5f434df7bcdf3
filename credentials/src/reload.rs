//! What is in use, and how it is replaced.
use std::{
    cell::Cell,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use certagent_svid::leaf;
use jiff::Timestamp;

use crate::{
    Error, Event, Health, Snapshot,
    event::Reload,
    read,
    subscription::{Hub, Subscription},
};

pub(crate) type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;
pub(crate) type OnEvent = Box<dyn Fn(&Event) + Send + Sync>;

/// What all clones of the credentials, and the thread, share.
pub(crate) struct Shared {
    pub(crate) around: Around,
    /// One reload at a time, so that an older one never replaces a newer one.
    turn: Mutex<()>,
    state: RwLock<State>,
    expiry_told: AtomicBool,
    hub: Arc<Hub>,
}

thread_local! {
    /// This thread is telling an event.
    static TELLS: Cell<bool> = const { Cell::new(false) };
}

/// What the application gave.
pub(crate) struct Around {
    pub(crate) directory: PathBuf,
    pub(crate) clock: Clock,
    pub(crate) on_event: Option<OnEvent>,
    #[cfg(feature = "rustls")]
    pub(crate) tls: crate::rustls::Settings,
}

struct State {
    current: Arc<Current>,
    failure: Option<Failure>,
}

#[derive(Clone)]
struct Failure {
    since: Timestamp,
    error: Arc<Error>,
}

/// The generation in use.
pub(crate) struct Current {
    pub(crate) snapshot: Arc<Snapshot>,
    /// What handshakes take from it; made once there is a provider.
    #[cfg(feature = "rustls")]
    pub(crate) material: std::sync::OnceLock<crate::rustls::Material>,
}

impl Around {
    /// Reads the directory. `in_use` is what is in use, if anything is.
    pub(crate) fn look(&self, in_use: Option<&Snapshot>) -> Result<Snapshot, Error> {
        let snapshot = read(&self.directory)?;
        let now = (self.clock)();
        let spiffe_id = || Box::new(snapshot.spiffe_id().clone());
        let leaf_of = snapshot.chain().leaf();
        if let Err(reason) = leaf::svid(leaf_of) {
            return Err(Error::NotAnSvid {
                directory: self.directory.clone(),
                spiffe_id: spiffe_id(),
                reason,
            });
        }
        // With nothing good in use, others' clocks may be right.
        let has_good = in_use.is_some_and(|in_use| now <= in_use.usable_until());
        if has_good && now < leaf_of.not_before() {
            return Err(Error::NotYetValid {
                directory: self.directory.clone(),
                spiffe_id: spiffe_id(),
                not_before: leaf_of.not_before(),
            });
        }
        // With nothing better in use, even an expired one is taken over: its roots may be newer.
        let better = in_use.is_none_or(|in_use| now <= in_use.usable_until());
        if now > snapshot.not_after() && better {
            return Err(Error::Expired {
                directory: self.directory.clone(),
                spiffe_id: spiffe_id(),
                not_after: snapshot.not_after(),
            });
        }
        if now > snapshot.roots_end() && better {
            return Err(Error::RootsExpired {
                directory: self.directory.clone(),
                trust_domain: snapshot.spiffe_id().trust_domain().clone(),
                not_after: snapshot.roots_end(),
            });
        }
        Ok(snapshot)
    }

    /// Makes of a snapshot what can be used.
    #[cfg_attr(
        not(feature = "rustls"),
        expect(
            clippy::unnecessary_wraps,
            clippy::unused_self,
            reason = "with rustls, its provider may refuse"
        )
    )]
    pub(crate) fn prepare(&self, snapshot: Snapshot) -> Result<Current, Error> {
        let current = Current {
            snapshot: Arc::new(snapshot),
            #[cfg(feature = "rustls")]
            material: std::sync::OnceLock::new(),
        };
        #[cfg(feature = "rustls")]
        if let Some(provider) = self.tls.chosen() {
            current.material(provider, &self.directory)?;
        }
        Ok(current)
    }

    /// Tells the application. One that panics must not end the reloads.
    pub(crate) fn tell(&self, event: &Event) {
        if let Some(on_event) = &self.on_event {
            let _told = catch_unwind(AssertUnwindSafe(|| on_event(event)));
        }
    }
}

impl Shared {
    pub(crate) fn new(around: Around, first: Current) -> Self {
        Self {
            around,
            turn: Mutex::new(()),
            state: RwLock::new(State {
                current: Arc::new(first),
                failure: None,
            }),
            expiry_told: AtomicBool::new(false),
            hub: Arc::default(),
        }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.around.directory
    }

    pub(crate) fn current(&self) -> Arc<Current> {
        Arc::clone(&self.state().current)
    }

    pub(crate) fn subscribe(&self) -> Subscription {
        self.hub.subscribe()
    }

    /// Nothing is reloaded any more.
    pub(crate) fn close(&self) {
        self.hub.close();
    }

    pub(crate) fn health(&self) -> Health {
        let now = (self.around.clock)();
        let state = self.state();
        let end = state.current.snapshot.usable_until();
        match &state.failure {
            _ if now > end => Health::Expired { since: end },
            Some(failure) => Health::Stale {
                since: failure.since,
                error: Arc::clone(&failure.error),
            },
            None => Health::Fresh,
        }
    }

    /// Looks at the directory, and takes over what is there if it is another generation. Gives
    /// whether it is.
    pub(crate) fn reload(&self) -> Result<bool, Arc<Error>> {
        let turn = self.turn();
        let previous = self.current();
        let mut events = Vec::new();
        let result = match self.next(&previous.snapshot) {
            Ok(next) => {
                let changed = next.is_some();
                events.extend(self.good(next, &previous));
                Ok(changed)
            }
            Err(error) => {
                let failure = self.bad(error);
                events.push(Event::Failed {
                    since: failure.since,
                    error: Arc::clone(&failure.error),
                });
                Err(failure.error)
            }
        };
        events.extend(self.expiry());
        drop(turn);
        self.tell(events);
        result
    }

    /// Tells what has happened. An application may ask for a reload while it is told of something; of
    /// the failure of that it is not told, for it might answer by another reload.
    pub(crate) fn tell(&self, events: impl IntoIterator<Item = Event>) {
        let is_nested = TELLS.replace(true);
        for event in events {
            if !(is_nested && matches!(event, Event::Failed { .. })) {
                self.around.tell(&event);
            }
        }
        TELLS.set(is_nested);
    }

    /// The same as [`Shared::reload`], whatever it comes to: a panic in what the application gave, its
    /// clock or its provider, is a failure.
    pub(crate) fn reload_whatever_happens(&self) -> Result<bool, Arc<Error>> {
        catch_unwind(AssertUnwindSafe(|| self.reload())).unwrap_or_else(|_panic| {
            let source = io::Error::other("it panicked");
            let failure = self.bad(Error::Thread { source });
            Err(failure.error)
        })
    }

    /// What is in the directory, if it is not what is in use.
    fn next(&self, in_use: &Snapshot) -> Result<Option<Arc<Current>>, Error> {
        let found = self.around.look(Some(in_use))?;
        if found.same_as(in_use) {
            return Ok(None);
        }
        self.around.prepare(found).map(Arc::new).map(Some)
    }

    fn good(&self, changed: Option<Arc<Current>>, previous: &Current) -> Vec<Event> {
        let mut events = Vec::new();
        let mut state = self.state_mut();
        if state.failure.take().is_some() {
            events.push(Event::Recovered);
        }
        if let Some(current) = changed {
            let snapshot = Arc::clone(&current.snapshot);
            state.current = current;
            drop(state);
            self.hub.publish(Arc::clone(&snapshot));
            events.push(Event::Reloaded(Reload {
                previous: Arc::clone(&previous.snapshot),
                current: snapshot,
            }));
        }
        events
    }

    fn bad(&self, error: Error) -> Failure {
        let now = (self.around.clock)();
        let mut state = self.state_mut();
        let since = state.failure.as_ref().map_or(now, |failure| failure.since);
        let error = Arc::new(error);
        let failure = Failure { since, error };
        state.failure = Some(failure.clone());
        failure
    }

    /// Tells once that what is in use has ended.
    fn expiry(&self) -> Option<Event> {
        let end = self.current().snapshot.usable_until();
        let ended = (self.around.clock)() > end;
        let told = self.expiry_told.swap(ended, Ordering::Relaxed);
        (ended && !told).then_some(Event::Expired { since: end })
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}
