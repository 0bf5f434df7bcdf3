//! What `requestId` promises: the same id within an hour buys one certificate, or starts one
//! operation.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::errors::ApiError;
use crate::ledger::lock;
use crate::wire::CertificateJson;

/// How long the answer to a request is kept: the service promises "at least 60 minutes since the
/// first request", and exactly that is the hardest form of the promise.
const WINDOW: SignedDuration = SignedDuration::from_mins(60);

/// How a repeated `requestId` is answered. The service promises only that it buys nothing again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplayForm {
    /// With the first answer.
    #[default]
    SameCertificate,
    /// With `ALREADY_EXISTS`.
    AlreadyExists,
    /// With the first answer, but for the certificate and its chain.
    WithoutCertificate,
}

impl ReplayForm {
    /// All of them.
    pub const ALL: [Self; 3] = [
        Self::SameCertificate,
        Self::AlreadyExists,
        Self::WithoutCertificate,
    ];

    /// The form's name, for example `already-exists`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SameCertificate => "same-certificate",
            Self::AlreadyExists => "already-exists",
            Self::WithoutCertificate => "without-certificate",
        }
    }

    /// The answer to a repetition of the request that was first answered with `first`.
    pub(crate) fn answer(
        self,
        first: Arc<CertificateJson>,
    ) -> Result<Arc<CertificateJson>, ApiError> {
        match self {
            Self::SameCertificate => Ok(first),
            Self::AlreadyExists => Err(ApiError::already_exists(&first.name)),
            Self::WithoutCertificate => Ok(Arc::new(CertificateJson {
                pem_certificate: None,
                pem_certificate_chain: Vec::new(),
                ..CertificateJson::clone(&first)
            })),
        }
    }
}

/// A request id within its location.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RequestKey {
    pub(crate) location: String,
    pub(crate) id: Uuid,
}

impl RequestKey {
    /// Refuses what is no UUID, and the zero UUID.
    pub(crate) fn new(location: String, id: &str) -> Result<Self, ApiError> {
        match Uuid::try_parse(id) {
            // The crate takes braces and `urn:` as well; the service does not.
            Ok(uuid) if !uuid.is_nil() && id.len() == 36 => Ok(Self { location, id: uuid }),
            _ => Err(ApiError::invalid(format!(
                "request_id {id:?} is not a UUID, or it is the zero UUID."
            ))),
        }
    }
}

/// Keys of which each is held by one thread at a time: who wants a key that another one holds waits
/// for it, and finds what the other one made.
pub(crate) struct KeyLocks<K> {
    held: Mutex<HashSet<K>>,
    freed: Condvar,
}

impl<K: Clone + Eq + Hash> KeyLocks<K> {
    /// Waits until nobody holds `key` and holds it until the guard goes.
    pub(crate) fn hold(&self, key: K) -> Held<'_, K> {
        let mut held = lock(&self.held);
        while held.contains(&key) {
            held = self
                .freed
                .wait(held)
                .unwrap_or_else(PoisonError::into_inner);
        }
        held.insert(key.clone());
        Held { locks: self, key }
    }
}

impl<K> Default for KeyLocks<K> {
    fn default() -> Self {
        Self {
            held: Mutex::default(),
            freed: Condvar::new(),
        }
    }
}

impl<K> fmt::Debug for KeyLocks<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyLocks")
    }
}

/// A key that is held.
pub(crate) struct Held<'a, K: Eq + Hash> {
    locks: &'a KeyLocks<K>,
    key: K,
}

impl<K: Eq + Hash> Drop for Held<'_, K> {
    fn drop(&mut self) {
        lock(&self.locks.held).remove(&self.key);
        self.locks.freed.notify_all();
    }
}

/// The answers that a repeated request gets again.
#[derive(Debug)]
pub(crate) struct ReplayTable<A> {
    answers: HashMap<RequestKey, (Timestamp, A)>,
    by_age: VecDeque<(Timestamp, RequestKey)>,
}

impl<A> Default for ReplayTable<A> {
    fn default() -> Self {
        Self {
            answers: HashMap::new(),
            by_age: VecDeque::new(),
        }
    }
}

impl<A: Clone> ReplayTable<A> {
    pub(crate) fn get(&self, key: &RequestKey, now: Timestamp) -> Option<A> {
        let (first, answer) = self.answers.get(key)?;
        is_kept(*first, now).then(|| answer.clone())
    }

    /// Forgets the answers that `is_gone` tells of.
    pub(crate) fn forget(&mut self, is_gone: impl Fn(&A) -> bool) {
        self.answers.retain(|_, (_, answer)| !is_gone(answer));
    }

    pub(crate) fn insert(&mut self, key: RequestKey, now: Timestamp, answer: A) {
        self.by_age.push_back((now, key.clone()));
        self.answers.insert(key, (now, answer));
    }

    /// Forgets the answers that are older than the window and returns them.
    pub(crate) fn prune(&mut self, now: Timestamp) -> Vec<A> {
        let mut gone = Vec::new();
        while let Some((first, key)) = self.by_age.front() {
            if is_kept(*first, now) {
                break;
            }
            // After a clock step the id may have been used anew; then a younger entry stands here.
            if self.answers.get(key).is_some_and(|(at, _)| at == first) {
                gone.extend(self.answers.remove(key).map(|(_, answer)| answer));
            }
            self.by_age.pop_front();
        }
        gone
    }
}

/// Whether an answer of `first` is still kept at `now`.
pub(crate) fn is_kept(first: Timestamp, now: Timestamp) -> bool {
    now.duration_since(first) <= WINDOW
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_request_id_is_a_uuid_and_not_zero() {
        let key = |id| RequestKey::new("projects/p/locations/l".to_owned(), id);
        assert_eq!(
            key("0190163d-8694-739b-aea5-966c26f8ad91").unwrap(),
            key("0190163D-8694-739B-AEA5-966C26F8AD91").unwrap()
        );
        for bad in [
            "",
            "x",
            "00000000-0000-0000-0000-000000000000",
            "0190163d8694739baea5966c26f8ad91",
            "{0190163d-8694-739b-aea5-966c26f8ad91}",
            "urn:uuid:0190163d-8694-739b-aea5-966c26f8ad91",
        ] {
            assert!(key(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_is_held_by_one_thread_at_a_time() {
        let locks = KeyLocks::default();
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let _held = locks.hold("key");
                        let together = inside.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(together, Ordering::SeqCst);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(most.into_inner(), 1);
        let _one = locks.hold("one");
        drop(locks.hold("other"));
    }

    #[test]
    fn an_answer_is_kept_for_sixty_minutes() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(is_kept(at(0), at(0)));
        assert!(is_kept(at(0), at(3600)));
        assert!(!is_kept(at(0), at(3601)));
        assert!(
            is_kept(at(3600), at(0)),
            "a clock that stepped back keeps answers"
        );
    }
}
