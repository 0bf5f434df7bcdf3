//! Credentials that an application holds for ever.
use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use crate::{
    Error, Event, Health, Snapshot, Subscription,
    reload::{Around, Clock, OnEvent, Shared},
    watch::{self, Signal},
};

/// Where GKE mounts a workload's credentials, and where many others do as well.
pub const WELL_KNOWN_DIRECTORY: &str = "/var/run/secrets/workload-spiffe-credentials";

/// The environment variable that names another directory than [`WELL_KNOWN_DIRECTORY`] to
/// [`Credentials::from_env`].
pub const DIRECTORY_VARIABLE: &str = "CERTAGENT_CREDENTIALS";

/// How often a directory is looked at though nothing is heard from it.
const POLL: Duration = Duration::from_secs(10);
/// How often the first read is tried, while there is time.
const FIRST_READ_RETRY: Duration = Duration::from_millis(100);

/// A workload's credentials, reloaded as long as this or a clone of it lives.
///
/// A clone is cheap and shares everything. So do the configurations for rustls that are made from
/// it: they reload as long as they live. One thread of its own does the work (and one of `notify`,
/// which listens to the system); no async runtime is needed. The last clone stops it.
#[derive(Clone)]
pub struct Credentials {
    shared: Arc<Shared>,
    _alive: Arc<Alive>,
}

/// Stops the thread when it goes.
struct Alive(Arc<Signal>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Credentials {
    /// Opens a directory of credentials, which must be good at this moment. Blocks while it reads.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), certagent_credentials::Error> {
    /// use certagent_credentials::Credentials;
    ///
    /// let credentials = Credentials::open("/var/run/secrets/workload-spiffe-credentials")?;
    /// println!("this is {}", credentials.current().spiffe_id());
    /// # Ok(())
    /// # }
    /// ```
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, Error> {
        Self::builder(directory).open()
    }

    /// Opens the directory that `CERTAGENT_CREDENTIALS` names, or else
    /// [`WELL_KNOWN_DIRECTORY`]. No variable of GKE's names a directory: its own clients know the
    /// path, too.
    pub fn from_env() -> Result<Self, Error> {
        Self::open(directory_of(std::env::var_os(DIRECTORY_VARIABLE)))
    }

    /// Opens a directory with other settings than [`Credentials::open`].
    pub fn builder(directory: impl Into<PathBuf>) -> Builder {
        let directory = directory.into();
        Builder {
            around: Around {
                // The program may go elsewhere later.
                directory: std::path::absolute(&directory).unwrap_or(directory),
                clock: Arc::new(now),
                on_event: None,
                #[cfg(feature = "rustls")]
                tls: crate::rustls::Settings::default(),
            },
            poll: POLL,
            first_read_wait: Duration::ZERO,
        }
    }

    /// What is in use now. Keep it for one task, and ask again for the next.
    pub fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.shared.current().snapshot)
    }

    /// Tells of every generation that comes into use after this call.
    pub fn subscribe(&self) -> Subscription {
        self.shared.subscribe()
    }

    /// How good what is in use is, now. For a readiness probe: [`Health::is_usable`].
    pub fn health(&self) -> Health {
        self.shared.health()
    }

    /// Looks at the directory now, instead of waiting for the thread to do so, and gives whether
    /// there was another generation. Blocks while it reads.
    pub fn reload(&self) -> Result<bool, Arc<Error>> {
        self.shared.reload()
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        self.shared.directory()
    }

    #[cfg(feature = "rustls")]
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }
}

/// Whose credentials they are, and from where.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("spiffe_id", self.current().spiffe_id())
            .field("directory", &self.directory())
            .finish_non_exhaustive()
    }
}

/// Settings of [`Credentials`].
#[must_use = "nothing is read before `open`"]
pub struct Builder {
    around: Around,
    poll: Duration,
    first_read_wait: Duration,
}

impl Builder {
    /// How often the directory is looked at though nothing is heard from it; 10 seconds if nothing
    /// is said. Changes are heard of at once where the system tells of them.
    pub fn poll(mut self, every: Duration) -> Self {
        self.poll = every.max(Duration::from_millis(10));
        self
    }

    /// How long [`Builder::open`] waits for the first good read, for instance while a sidecar gets
    /// the first certificate. If nothing is said, it does not wait.
    pub fn first_read_wait(mut self, at_most: Duration) -> Self {
        self.first_read_wait = at_most;
        self
    }

    /// Hears of what becomes of the directory, and with the feature `tonic` of each handshake of its
    /// server or channel that fails; whoever makes handshakes himself has their errors in his hands.
    ///
    /// It must not block, and may be called on several threads at once: that which reloads, that of
    /// whoever calls [`Credentials::reload`], and that of the handshake, which may be an async
    /// runtime's. (To hand events on, use a channel that never waits.) One that panics is asked again at
    /// the next event. One that owns a clone of the credentials keeps them alive for ever. One that
    /// calls [`Credentials::reload`] is not told of that call's failure, which it has in its hands.
    pub fn on_event(mut self, on_event: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.around.on_event = Some(Box::new(on_event) as OnEvent);
        self
    }

    /// Another clock than the system's, for tests. What has expired is told by it, in handshakes
    /// too. The thread's pauses are real time.
    pub fn clock(mut self, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        self.around.clock = Arc::new(clock) as Clock;
        self
    }

    /// The crypto provider of everything that is made for rustls; otherwise the process' default
    /// ([`CryptoProvider::get_default`](::rustls::crypto::CryptoProvider::get_default)) at the time
    /// of the first configuration.
    #[cfg(feature = "rustls")]
    pub fn crypto_provider(mut self, provider: Arc<::rustls::crypto::CryptoProvider>) -> Self {
        self.around.tls.choose(provider);
        self
    }

    /// Sessions may be resumed, which makes the second handshake with a peer cheaper. **A peer that
    /// resumes is not looked at again:** with a root that was removed meanwhile, or an authorisation
    /// that was withdrawn, it gets in as long as its ticket lasts. So this is off if it is not said.
    #[cfg(feature = "rustls")]
    pub fn allow_resumption(mut self) -> Self {
        self.around.tls.resumption = true;
        self
    }

    /// Reads the directory, and starts the thread.
    pub fn open(self) -> Result<Credentials, Error> {
        let began = Instant::now();
        let first = loop {
            let found = self.around.look(None);
            match found.and_then(|found| self.around.prepare(found)) {
                Ok(first) => break first,
                Err(error) if began.elapsed() >= self.first_read_wait => return Err(error),
                Err(_not_yet) => thread::sleep(FIRST_READ_RETRY),
            }
        };
        let shared = Arc::new(Shared::new(self.around, first));
        let signal = Arc::new(Signal::default());
        watch::spawn(Arc::clone(&shared), Arc::clone(&signal), self.poll)
            .map_err(|source: io::Error| Error::Thread { source })?;
        Ok(Credentials {
            shared,
            _alive: Arc::new(Alive(signal)),
        })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("directory", &self.around.directory)
            .field("poll", &self.poll)
            .field("first_read_wait", &self.first_read_wait)
            .finish_non_exhaustive()
    }
}

/// A variable that is set to nothing is not set.
fn directory_of(variable: Option<std::ffi::OsString>) -> PathBuf {
    match variable {
        Some(directory) if !directory.is_empty() => directory.into(),
        _ => WELL_KNOWN_DIRECTORY.into(),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the system's clock is asked; a test gives another"
)]
fn now() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
#[path = "credentials_inputs_tests.rs"]
mod inputs_tests;
#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
