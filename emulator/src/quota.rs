//! The service's quotas, reckoned by the emulator's clock.
//!
//! The numbers are those of <https://docs.cloud.google.com/certificate-authority-service/quotas>.
//! How the service reckons them is not documented; the emulator does it so:
//! - every quota fills evenly and holds at most one second's worth, so that one second's worth can
//!   come at once after a pause, and never more;
//! - a CA has a quota of its own; a request that names no CA is charged to the CA of the pool that
//!   has most left, so that the pool's quota is the sum over its enabled CAs;
//! - every request over HTTP that gets as far as the service counts, whatever comes of it: a replay
//!   of a `requestId`, `validateOnly` and one that is refused as invalid as well. One that a fault
//!   ends on the way does not;
//! - a request over one quota is refused and counts against none.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use crate::errors::{ApiError, Code};
use crate::pool::Tier;

/// `CreateCertificate` requests per second, project and location.
const CREATES: u64 = 100;
/// Requests of all methods per second, project and location.
const REQUESTS: u64 = 400;

/// What one request takes out of a bucket that gains its rate in each nanosecond.
const ONE: u64 = 1_000_000_000;

/// From this many buckets on, full ones are forgotten: a bucket that is not there is full.
const MANY: usize = 4096;

/// Whether the emulator has the service's quotas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quotas {
    /// No quota: requests are served as fast as they come.
    #[default]
    Off,
    /// The service's quotas: `CreateCertificate` 7/s per CA of an ENTERPRISE pool, 25/s per CA of a
    /// DEVOPS pool and 100/s per project and location; all requests 400/s per project and location.
    Service {
        /// Whether a refusal says how long to wait, by `google.rpc.RetryInfo` and `Retry-After`.
        retry_info: bool,
    },
}

/// One request to be charged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Charge {
    /// `projects/P/locations/L`
    pub(crate) location: String,
    /// The CAs that may sign, if the request is a `CreateCertificate`.
    pub(crate) create: Option<Vec<CaQuota>>,
}

/// A CA with the tier that decides its quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CaQuota {
    /// The CA's full name.
    pub(crate) ca: String,
    pub(crate) tier: Tier,
}

/// A request over a quota.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) error: ApiError,
    pub(crate) retry_after: Option<Duration>,
}

/// What is left of every quota.
#[derive(Debug, Default)]
pub(crate) struct QuotaBook {
    setting: Quotas,
    buckets: HashMap<Key, Bucket>,
    refused: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Ca(String),
    Creates(String),
    Requests(String),
}

impl Key {
    /// The metric in Google's words.
    fn metric(&self) -> &'static str {
        match self {
            Self::Ca(_) | Self::Creates(_) => "CreateCertificate requests",
            Self::Requests(_) => "API requests",
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Requests per second.
    rate: u64,
    /// What is left, in parts of which a request takes [`ONE`].
    level: u64,
    at: Timestamp,
}

impl Bucket {
    /// The bucket as it stands at `now`. A clock that stepped back fills nothing.
    fn filled(self, now: Timestamp) -> Self {
        let passed = now.duration_since(self.at).as_nanos();
        let passed = u64::try_from(passed.clamp(0, i128::from(ONE))).unwrap_or(ONE);
        Self {
            level: (self.level + passed * self.rate).min(self.rate * ONE),
            at: now,
            ..self
        }
    }

    /// How long until one request fits.
    fn wait(self) -> Duration {
        Duration::from_nanos(ONE.saturating_sub(self.level).div_ceil(self.rate))
    }
}

/// Requests per second that a CA of this tier signs.
const fn ca_rate(tier: Tier) -> u64 {
    match tier {
        Tier::Enterprise => 7,
        Tier::Devops => 25,
    }
}

impl QuotaBook {
    pub(crate) fn new(setting: Quotas) -> Self {
        Self {
            setting,
            ..Self::default()
        }
    }

    pub(crate) const fn setting(&self) -> Quotas {
        self.setting
    }

    /// Requests refused so far.
    pub(crate) const fn refused(&self) -> u64 {
        self.refused
    }

    /// Changes the setting; every quota is full again.
    pub(crate) fn set(&mut self, setting: Quotas) {
        self.setting = setting;
        self.buckets.clear();
    }

    /// Charges a request at `now`, or refuses it.
    pub(crate) fn charge(&mut self, charge: &Charge, now: Timestamp) -> Result<(), Refusal> {
        let Quotas::Service { retry_info } = self.setting else {
            return Ok(());
        };
        self.forget_full(now);
        let mut wanted = vec![self.fill(Key::Requests(charge.location.clone()), REQUESTS, now)];
        if let Some(cas) = &charge.create {
            wanted.push(self.fill(Key::Creates(charge.location.clone()), CREATES, now));
            // A pool without a CA that may sign fails later and for another reason.
            let filled = cas
                .iter()
                .map(|ca| self.fill(Key::Ca(ca.ca.clone()), ca_rate(ca.tier), now));
            wanted.extend(filled.max_by_key(|(_, bucket)| bucket.level));
        }
        let worst = wanted
            .iter()
            .filter(|(_, bucket)| bucket.level < ONE)
            .max_by_key(|(_, bucket)| bucket.wait());
        if let Some((key, bucket)) = worst {
            self.refused += 1;
            let retry_after = retry_info.then(|| bucket.wait());
            return Err(refusal(key, bucket.rate, &charge.location, retry_after));
        }
        for (key, mut bucket) in wanted {
            bucket.level -= ONE;
            self.buckets.insert(key, bucket);
        }
        Ok(())
    }

    /// The bucket as it stands at `now`, in the book and as a copy.
    fn fill(&mut self, key: Key, rate: u64, now: Timestamp) -> (Key, Bucket) {
        let full = Bucket {
            rate,
            level: rate * ONE,
            at: now,
        };
        let bucket = self.buckets.entry(key.clone()).or_insert(full);
        *bucket = bucket.filled(now);
        (key, *bucket)
    }

    fn forget_full(&mut self, now: Timestamp) {
        if self.buckets.len() >= MANY {
            self.buckets.retain(|_, bucket| {
                let bucket = bucket.filled(now);
                bucket.level < bucket.rate * ONE
            });
        }
    }
}

/// The refusal in the words and the form of Google's rate limits.
fn refusal(key: &Key, rate: u64, location: &str, retry_after: Option<Duration>) -> Refusal {
    let metric = key.metric();
    let mut parts = location.split('/').skip(1).step_by(2);
    let (project, region) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let consumer = project_number(project);
    let mut error = ApiError::new(
        Code::ResourceExhausted,
        format!(
            "Quota exceeded for quota metric '{metric}' and limit '{metric} per minute per region' \
             of service 'privateca.googleapis.com' for consumer 'project_number:{consumer}'."
        ),
    );
    error.details.push(json!({
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "RATE_LIMIT_EXCEEDED",
        "domain": "googleapis.com",
        "metadata": {
            "service": "privateca.googleapis.com",
            "consumer": format!("projects/{consumer}"),
            "quota_metric": metric,
            "quota_limit": format!("{metric} per minute per region"),
            "quota_limit_value": (rate * 60).to_string(),
            "quota_location": region,
        },
    }));
    if let Some(delay) = retry_after {
        error = error.with_retry_info(delay);
    }
    Refusal { error, retry_after }
}

/// A number for a project, which the emulator knows by its id alone: the same for the same id.
fn project_number(project: &str) -> u64 {
    // FNV-1a, cut to the twelve digits that such numbers have.
    let hash = project.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    project
        .parse()
        .unwrap_or(100_000_000_000 + hash % 900_000_000_000)
}

#[cfg(test)]
#[path = "quota_tests.rs"]
mod tests;
