//! What is counted: few families, none with a label that grows with the number of workloads.
use std::fmt;

use certagent_core::pool::CaPoolName;
use jiff::{SignedDuration, Timestamp};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
    },
    registry::Registry,
};
use std::sync::{Arc, OnceLock, atomic::AtomicU64};
use tokio::sync::watch;

use crate::{
    status::{VolumeState, VolumeStatus},
    trust::Trust,
};

/// Seconds; an issuance takes milliseconds with P-256 and a second and a half with RSA-4096, and
/// one attempt is given up after 20 s.
const ISSUE_SECONDS: [f64; 9] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Seconds; the wait for a pool's quota lasts as long as the queue.
const WAIT_SECONDS: [f64; 9] = [0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 300.0];

/// The agent's metrics. What happens is counted by its methods; what *is* comes from the volumes'
/// statuses when somebody asks.
pub struct Metrics {
    registry: Registry,
    volumes: Family<StateLabel, Gauge>,
    issued: Counter,
    failures: Family<ReasonLabel, Counter>,
    abandoned: Counter,
    decisions: Family<DecisionLabel, Counter>,
    hook_runs: Family<ResultLabel, Counter>,
    hooks_failing: Gauge,
    issue_seconds: Histogram,
    quota_wait_seconds: Histogram,
    pool_rate: Family<PoolLabel, Gauge<f64, AtomicU64>>,
    pool_throttled: Family<PoolLabel, Counter>,
    pool_away: Family<PoolLabel, Gauge>,
    to_rotate: Gauge,
    nearest_expiry: Gauge<f64, AtomicU64>,
    config_valid: Gauge,
    trust: OnceLock<watch::Receiver<Arc<Trust>>>,
    trust_age: Family<SourceLabel, Gauge<f64, AtomicU64>>,
    trust_failures: Family<SourceLabel, Gauge>,
}

/// There are as many sources as the `TrustConfig` has anchors.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabel {
    source: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// Whether a hook has succeeded.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// What became of a request, and the rule that it broke or what was wrong with its certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabel {
    decision: &'static str,
    reason: &'static str,
}

/// A pool of the configuration: there are a handful of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolLabel {
    pool: String,
}

impl PoolLabel {
    fn of(pool: &CaPoolName) -> Self {
        Self {
            pool: pool.to_string(),
        }
    }
}

/// Counts volumes.
pub(crate) const VOLUMES: &str = "volumes";

/// Counts what a spread rotation has still to renew.
pub(crate) const TO_ROTATE: &str = "volumes_to_rotate";

/// Every reason that [`crate::provision::ProvisionError::reason`] gives.
pub(crate) const REASONS: [&str; 15] = [
    "busy",
    "declined",
    "denied",
    "exists",
    "invalid",
    "key",
    "lost",
    "no_roots",
    "no_token",
    "plan",
    "refused",
    "refused_certificate",
    "unknown",
    "unreachable",
    "volume",
];

impl Default for Metrics {
    /// All at zero, with the version of this build.
    fn default() -> Self {
        Self::new(env!("CARGO_PKG_VERSION"))
    }
}

impl Metrics {
    fn new(version: &str) -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("certagent"),
            volumes: Family::default(),
            issued: Counter::default(),
            failures: Family::default(),
            abandoned: Counter::default(),
            decisions: Family::default(),
            hook_runs: Family::default(),
            hooks_failing: Gauge::default(),
            issue_seconds: Histogram::new(ISSUE_SECONDS),
            quota_wait_seconds: Histogram::new(WAIT_SECONDS),
            pool_rate: Family::default(),
            pool_throttled: Family::default(),
            pool_away: Family::default(),
            to_rotate: Gauge::default(),
            nearest_expiry: Gauge::default(),
            config_valid: Gauge::default(),
            trust: OnceLock::new(),
            trust_age: Family::default(),
            trust_failures: Family::default(),
        };
        metrics.register(version);
        metrics
    }

    fn register(&mut self, version: &str) {
        let registry = &mut self.registry;
        registry.register(VOLUMES, "Volumes by state", self.volumes.clone());
        registry.register(
            "certificates_issued",
            "Certificates that were issued, checked and written",
            self.issued.clone(),
        );
        // A series that is there from the start lets an alert see its first increase.
        for reason in REASONS {
            drop(self.failures.get_or_create(&ReasonLabel { reason }));
        }
        registry.register(
            "issue_failures",
            "Attempts that gave no certificate, by reason",
            self.failures.clone(),
        );
        registry.register(
            "certificates_abandoned",
            "Certificates that a CA may have issued and that nobody will use",
            self.abandoned.clone(),
        );
        registry.register(
            "requests_decided",
            "CertificateSigningRequests, by what the controller decided and why",
            self.decisions.clone(),
        );
        for result in ["failed", "succeeded"] {
            drop(self.hook_runs.get_or_create(&ResultLabel { result }));
        }
        registry.register(
            "hook_runs",
            "Hooks of onRotate that were run, by how they ended",
            self.hook_runs.clone(),
        );
        registry.register(
            "hooks_failing",
            "Workloads of which a hook has failed and has not succeeded since",
            self.hooks_failing.clone(),
        );
        registry.register(
            "issue_seconds",
            "Seconds from the decision to renew until the certificate was written",
            self.issue_seconds.clone(),
        );
        registry.register(
            "quota_wait_seconds",
            "Seconds that requests waited so that a pool's quota is kept",
            self.quota_wait_seconds.clone(),
        );
        registry.register(
            "pool_rate",
            "Requests per second that a pool is sent at most, as of the last one",
            self.pool_rate.clone(),
        );
        registry.register(
            "pool_throttled",
            "Requests that a pool refused because a quota was used up",
            self.pool_throttled.clone(),
        );
        registry.register(
            "pool_away",
            "1 while a pool has not answered for so long that others are asked first, else 0",
            self.pool_away.clone(),
        );
        registry.register(
            TO_ROTATE,
            "Volumes whose certificate was issued before the time in certagent.dev/rotate-after",
            self.to_rotate.clone(),
        );
        registry.register(
            "nearest_expiry_seconds",
            "Seconds until the first certificate ends, below 0 if one has ended, NaN without any",
            self.nearest_expiry.clone(),
        );
        registry.register(
            "config_valid",
            "1 if the newest configuration is active, 0 if an earlier one is because it has errors",
            self.config_valid.clone(),
        );
        registry.register(
            "trust_source_age_seconds",
            "Seconds since a source of roots gave them to this process, NaN before the first time",
            self.trust_age.clone(),
        );
        registry.register(
            "trust_source_failures",
            "Attempts in a row at which a source of roots gave none; 0 when all is well",
            self.trust_failures.clone(),
        );
        let build = Family::<Vec<(String, String)>, ConstOne>::default();
        drop(build.get_or_create(&vec![("version".to_owned(), version.to_owned())]));
        registry.register("build_info", "Always 1; the version is in the label", build);
    }

    /// A certificate was issued and written, in this time.
    pub fn issued(&self, took: SignedDuration) {
        self.issued.inc();
        // The wall clock may have been set back meanwhile.
        self.issue_seconds.observe(took.as_secs_f64().max(0.0));
    }

    /// An attempt gave no certificate.
    pub fn failed(&self, reason: &'static str) {
        debug_assert!(REASONS.contains(&reason), "an unlisted reason: {reason}");
        self.failures.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// A certificate that may have been issued will not be used.
    pub fn abandoned(&self) {
        self.abandoned.inc();
    }

    /// The controller decided about a `CertificateSigningRequest`: `approved`, `denied`, `failed` or
    /// `signed`, the middle two for a reason.
    pub fn decided(&self, decision: &'static str, reason: &'static str) {
        let label = DecisionLabel { decision, reason };
        self.decisions.get_or_create(&label).inc();
    }

    /// A hook was run.
    pub fn hook_ran(&self, has_succeeded: bool) {
        let result = if has_succeeded { "succeeded" } else { "failed" };
        self.hook_runs.get_or_create(&ResultLabel { result }).inc();
    }

    /// So many workloads have a hook that fails now.
    pub fn hooks_failing(&self, workloads: usize) {
        let workloads = i64::try_from(workloads).unwrap_or(i64::MAX);
        self.hooks_failing.set(workloads);
    }

    /// A request waited so long for the quota of a pool that is sent `rate` requests a second.
    pub fn admitted(&self, pool: &CaPoolName, waited: SignedDuration, rate: f64) {
        self.quota_wait_seconds
            .observe(waited.as_secs_f64().max(0.0));
        self.pool_rate.get_or_create(&PoolLabel::of(pool)).set(rate);
    }

    /// A pool said that a quota is used up, and is sent `rate` requests a second from now on.
    pub fn throttled(&self, pool: &CaPoolName, rate: f64) {
        let label = PoolLabel::of(pool);
        self.pool_throttled.get_or_create(&label).inc();
        self.pool_rate.get_or_create(&label).set(rate);
    }

    /// A pool is known from now on, and whether it is away.
    pub fn pool_away(&self, pool: &CaPoolName, is_away: bool) {
        let label = PoolLabel::of(pool);
        // A series that is there from the start lets an alert see its first increase.
        drop(self.pool_throttled.get_or_create(&label));
        self.pool_away.get_or_create(&label).set(is_away.into());
    }

    /// Whether the newest configuration is the active one.
    pub fn config_valid(&self, is_valid: bool) {
        self.config_valid.set(is_valid.into());
    }

    /// Where the sources of roots are seen.
    pub fn watch_trust(&self, trust: watch::Receiver<Arc<Trust>>) {
        // There is one in a process; a second one would say the same.
        drop(self.trust.set(trust));
    }

    /// Everything as `OpenMetrics` text, at `now`.
    pub fn render(&self, statuses: &[VolumeStatus], now: Timestamp) -> Result<String, fmt::Error> {
        for state in VolumeState::ALL {
            let count = statuses
                .iter()
                .filter(|status| status.state(now) == state)
                .count();
            let gauge = self.volumes.get_or_create(&StateLabel {
                state: state.as_str(),
            });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let to_rotate = statuses.iter().filter(|status| {
            let certificate = status.certificate.as_ref();
            certificate.is_some_and(|there| there.is_to_rotate)
        });
        let to_rotate = i64::try_from(to_rotate.count());
        self.to_rotate.set(to_rotate.unwrap_or(i64::MAX));
        let ends = statuses
            .iter()
            .filter_map(|status| Some(status.certificate.as_ref()?.not_after));
        let left = ends
            .min()
            .map_or(f64::NAN, |end| end.duration_since(now).as_secs_f64());
        self.nearest_expiry.set(left);
        self.look_at_sources(now);
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    fn look_at_sources(&self, now: Timestamp) {
        // Sources that are configured no longer are gone.
        self.trust_age.clear();
        self.trust_failures.clear();
        let Some(trust) = self.trust.get().map(|trust| Arc::clone(&trust.borrow())) else {
            return;
        };
        for (name, source) in trust.sources() {
            let label = SourceLabel {
                source: name.to_string(),
            };
            let age = source.last_success.map_or(f64::NAN, |last| {
                now.duration_since(last).as_secs_f64().max(0.0)
            });
            self.trust_age.get_or_create(&label).set(age);
            let failures = self.trust_failures.get_or_create(&label);
            failures.set(source.failures.into());
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// A gauge that is always 1.
#[derive(Debug)]
struct ConstOne(ConstGauge);

impl Default for ConstOne {
    fn default() -> Self {
        Self(ConstGauge::new(1))
    }
}

impl prometheus_client::encoding::EncodeMetric for ConstOne {
    fn encode(
        &self,
        encoder: prometheus_client::encoding::MetricEncoder<'_>,
    ) -> Result<(), fmt::Error> {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> prometheus_client::metrics::MetricType {
        self.0.metric_type()
    }
}

impl prometheus_client::metrics::TypedMetric for ConstOne {
    const TYPE: prometheus_client::metrics::MetricType =
        prometheus_client::metrics::MetricType::Gauge;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::fixture::{at, status};

    #[test]
    fn the_metrics_are_these_and_no_others() {
        let metrics = Metrics::new("1.2.3");
        metrics.config_valid(true);
        metrics.issued(SignedDuration::from_millis(120));
        metrics.issued(SignedDuration::from_secs(-5));
        metrics.failed("denied");
        metrics.failed("denied");
        metrics.abandoned();
        metrics.decided("denied", "PodOnOtherNode");
        metrics.hook_ran(true);
        metrics.hook_ran(true);
        metrics.hook_ran(false);
        metrics.hooks_failing(1);
        let pool =
            "//privateca.googleapis.com/projects/demo-project/locations/us-central1/caPools/n";
        let pool = pool.parse().unwrap();
        metrics.pool_away(&pool, false);
        metrics.admitted(&pool, SignedDuration::from_millis(2500), 25.0);
        metrics.throttled(&pool, 12.5);
        let mut statuses = [
            status("/a", Some(60), 0),
            status("/b", Some(90), 3),
            status("/c", None, 1),
        ];
        statuses[1].certificate.as_mut().unwrap().is_to_rotate = true;
        let text = metrics.render(&statuses, at(20)).unwrap();
        // The order of label values within a family is not defined.
        let sorted = |text: &str| {
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(
            sorted(&text),
            sorted(include_str!("../../../testdata/golden/metrics.txt"))
        );
    }

    #[test]
    fn the_nearest_expiry_is_of_the_first_certificate_to_end_and_of_none_without_any() {
        let metrics = Metrics::new("1.2.3");
        let expiry = |statuses: &[VolumeStatus]| {
            let text = metrics.render(statuses, at(0)).unwrap();
            let name = "certagent_nearest_expiry_seconds ";
            text.lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap()
                .to_owned()
        };
        assert_eq!(expiry(&[]), "NaN");
        assert_eq!(
            expiry(&[status("/a", Some(60), 0), status("/b", Some(-7), 0)]),
            "-7.0"
        );
        assert_eq!(expiry(&[status("/a", None, 0)]), "NaN");
    }
}
