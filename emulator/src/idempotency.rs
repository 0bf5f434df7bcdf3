//! What `requestId` promises: the same id within an hour buys one certificate.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::errors::ApiError;
use crate::wire::CertificateJson;

/// How long the answer to a request is kept: the service promises "at least 60 minutes since the
/// first request", and exactly that is the hardest form of the promise.
const WINDOW: SignedDuration = SignedDuration::from_mins(60);

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

/// The answers that a repeated request gets again.
#[derive(Debug, Default)]
pub(crate) struct ReplayTable {
    answers: HashMap<RequestKey, (Timestamp, Arc<CertificateJson>)>,
    by_age: VecDeque<(Timestamp, RequestKey)>,
}

impl ReplayTable {
    pub(crate) fn get(&self, key: &RequestKey, now: Timestamp) -> Option<Arc<CertificateJson>> {
        let (first, answer) = self.answers.get(key)?;
        is_kept(*first, now).then(|| Arc::clone(answer))
    }

    pub(crate) fn insert(&mut self, key: RequestKey, now: Timestamp, answer: Arc<CertificateJson>) {
        self.by_age.push_back((now, key.clone()));
        self.answers.insert(key, (now, answer));
    }

    /// Forgets the answers that are older than the window and returns them.
    pub(crate) fn prune(&mut self, now: Timestamp) -> Vec<Arc<CertificateJson>> {
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
