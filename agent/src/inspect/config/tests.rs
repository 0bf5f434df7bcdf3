use std::{fmt::Write as _, fs, path::PathBuf};

use certagent_core::config::Settings;
use certagent_emulator::{FaultRule, Method};
use certagent_svid::{Certificate, certificate::hex};
use tempfile::TempDir;

use super::{
    super::{
        Verdict, golden,
        lab::{Site, with_other_root},
    },
    ConfigReport, inspect,
};
use crate::{
    cas::lab::{domain, issuing, may_not_look, pool},
    config::ConfigFiles,
    google::Caller,
};

const POOLS: &str =
    "//privateca.googleapis.com/projects/demo-project/locations/us-central1/caPools";

/// The objects for these issuing pools, and anchors by trust domain.
fn objects(pools: &[&str], anchors: &[(&str, &str)]) -> String {
    let mut text = format!(
        "\
apiVersion: security.cloud.google.com/v1
kind: WorkloadCertificateConfig
metadata:
  name: default
spec:
  certificateAuthorityConfig:
    certificateAuthorityServiceConfig:
      endpointURI: {POOLS}/{}
      fallbackURIs: [{}]
  keyAlgorithm:
    ecdsa:
      curve: P256
---
apiVersion: security.cloud.google.com/v1
kind: TrustConfig
metadata:
  name: default
spec:
  trustStores:
",
        pools[0],
        pools[1..]
            .iter()
            .map(|pool| format!("{POOLS}/{pool}"))
            .collect::<Vec<_>>()
            .join(", "),
    );
    for (domain, pool) in anchors {
        writeln!(
            text,
            "  - trustDomain: {domain}\n    trustAnchors:\n    \
             - certificateAuthorityServiceURI: {POOLS}/{pool}"
        )
        .unwrap();
    }
    text
}

struct Bench {
    site: Site,
    dir: TempDir,
    settings: Settings,
}

impl Bench {
    async fn start(objects: &str) -> Self {
        let bench = Self {
            site: Site::with(with_other_root()).await,
            dir: tempfile::tempdir().unwrap(),
            settings: Settings::default(),
        };
        bench.write(objects);
        bench
    }

    fn write(&self, objects: &str) {
        fs::write(self.file(), objects).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("objects.yaml")
    }

    async fn inspect(&self) -> ConfigReport {
        let paths = [self.file()];
        let found = ConfigFiles::new(paths.to_vec(), self.settings.clone()).load();
        let sources = crate::trust::Sources {
            pools: self.site.client.clone(),
            endpoints: crate::trust::EndpointClient::new(&crate::cas::Roots::none()).unwrap(),
        };
        let clock = self.site.clock();
        let report = inspect(
            &sources,
            &paths,
            &found,
            &self.settings,
            &Caller::Agent,
            &clock,
        )
        .await;
        self.site.assert_unsold();
        report
    }

    /// The verdict, which section is its cause, and a part of what it says.
    async fn expect(&self, verdict: Verdict, section: &str, detail: &str) -> ConfigReport {
        let report = self.inspect().await;
        let text = report.to_text();
        assert_eq!(report.verdict(), verdict, "{text}");
        let cause = text.split("\nCause (").nth(1).unwrap_or_default();
        let cause = cause.split("\n\n").next().unwrap();
        assert!(cause.starts_with(section), "{text}");
        assert!(cause.contains(detail), "no \"{detail}\" in: {cause}");
        report
    }

    /// Both forms, without what differs from run to run.
    async fn forms(&self, report: &ConfigReport) -> [(&'static str, String); 2] {
        let mut known = vec![(self.dir.path().display().to_string(), "DIR")];
        known.push((self.site.client.endpoint().to_string(), "ENDPOINT"));
        for id in ["root-pool", "other-pool"] {
            let name = pool(id).resource_name();
            let chains = self.site.emulator.fetch_ca_certs(&name).unwrap().ca_certs;
            let root = chains[0].certificates.last().unwrap();
            let root = Certificate::parse_pem_list(root.as_bytes())
                .unwrap()
                .remove(0);
            known.push((hex(&root.fingerprint()), "FINGERPRINT"));
        }
        let (client, pool) = (&self.site.client, issuing());
        let list = client.list_authorities(&pool, &Caller::Agent).await;
        for ca in list.unwrap_or_default() {
            known.push((ca.id().to_owned(), "CA-ID"));
        }
        [("txt", report.to_text()), ("json", report.to_json())].map(|(form, text)| {
            let text = known
                .iter()
                .fold(text, |text, (from, to)| text.replace(from.as_str(), to));
            let kept = text.lines().filter(|line| !line.contains("latency"));
            (
                form,
                kept.fold(String::new(), |all, line| all + line + "\n"),
            )
        })
    }
}

async fn golden(name: &str, bench: &Bench, report: &ConfigReport) {
    for (form, text) in bench.forms(report).await {
        golden::compare(name, form, &text);
    }
}

/// What the guide sets up, for one domain.
const GUIDE: (&str, &str) = ("demo.svc.id.goog", "root-pool");

fn guide() -> String {
    objects(&["issuing-pool"], &[GUIDE])
}

#[tokio::test]
async fn the_guides_set_up_is_healthy() {
    let bench = Bench::start(&guide()).await;
    let report = bench.inspect().await;
    assert_eq!(report.exit_code(), 0, "{}", report.to_text());
    golden("config-healthy", &bench, &report).await;
}

#[tokio::test]
async fn files_that_cannot_be_used_are_a_problem_with_line_and_field_and_nobody_is_asked() {
    let bench = Bench::start(&guide().replace("P256", "P257")).await;
    let field = "spec.keyAlgorithm.ecdsa.curve";
    let report = bench.expect(Verdict::Problem, "configuration", field).await;
    golden("config-broken", &bench, &report).await;
    assert_eq!(bench.site.emulator.stats().requests(Method::GetCaPool), 0);
    fs::remove_file(bench.file()).unwrap();
    let detail = "no such file or directory";
    bench
        .expect(Verdict::Problem, "configuration", detail)
        .await;
}

#[tokio::test]
async fn what_validate_warns_of_is_a_warning() {
    let lazy = guide().replace(
        "  keyAlgorithm:",
        "  rotationWindowPercentage: 5\n  keyAlgorithm:",
    );
    let bench = Bench::start(&lazy).await;
    let detail = "rotationWindowPercentage";
    bench
        .expect(Verdict::Warning, "configuration", detail)
        .await;
}

#[tokio::test]
async fn a_pool_under_no_anchor_of_the_trust_domain_is_a_problem() {
    let other = ("demo.svc.id.goog", "other-pool");
    let bench = Bench::start(&objects(&["issuing-pool"], &[other])).await;
    let detail = "which is no root of the trust domain demo.svc.id.goog";
    let report = bench.expect(Verdict::Problem, "pool", detail).await;
    golden("config-not-anchored", &bench, &report).await;
}

#[tokio::test]
async fn of_several_trust_domains_one_must_lead_to_the_pool_or_the_one_that_is_named() {
    let domains = [("a.example", "other-pool"), ("b.example", "root-pool")];
    let mut bench = Bench::start(&objects(&["issuing-pool"], &domains)).await;
    assert_eq!(bench.inspect().await.verdict(), Verdict::Healthy);
    bench.settings.trust_domain = Some(domain("a.example"));
    let detail = "no root of the trust domain a.example";
    bench.expect(Verdict::Problem, "pool", detail).await;
}

#[tokio::test]
async fn every_fallback_is_looked_at_too() {
    let bench = Bench::start(&objects(&["issuing-pool", "nope"], &[GUIDE])).await;
    let report = bench.expect(Verdict::Problem, "pool", "caPools/nope").await;
    let verdicts: Vec<Verdict> = report
        .pools
        .iter()
        .map(super::pool::Report::verdict)
        .collect();
    assert_eq!(verdicts, [Verdict::Healthy, Verdict::Problem]);
    golden("config-fallback", &bench, &report).await;
}

#[tokio::test]
async fn an_anchor_that_gives_no_roots_is_a_problem_and_the_rest_is_still_told() {
    let missing = ("demo.svc.id.goog", "nope");
    let bench = Bench::start(&objects(&["issuing-pool"], &[missing])).await;
    let report = bench
        .expect(Verdict::Problem, "anchor", "caPools/nope")
        .await;
    assert_eq!(report.pools[0].verdict(), Verdict::Unknown);

    let bench = Bench::start(&guide()).await;
    let denied = FaultRule::always(may_not_look()).on(Method::FetchCaCerts);
    bench.site.emulator.set_faults(vec![denied]);
    let role = "roles/privateca.poolReader";
    bench.expect(Verdict::Problem, "anchor", role).await;
}

#[tokio::test]
async fn an_endpoint_that_is_away_is_unknown_and_the_files_are_still_judged() {
    let bench = Bench::start(&guide()).await;
    let bench = Bench {
        site: bench.site.gone(),
        ..bench
    };
    let report = bench
        .expect(Verdict::Unknown, "pool", "nothing was sent")
        .await;
    assert_eq!(report.exit_code(), 2);
    assert_eq!(report.configuration.verdict(), Verdict::Healthy);
    assert_eq!(report.anchors[0].verdict(), Verdict::Unknown);
}

#[tokio::test]
async fn a_pool_that_is_asked_is_asked_for_the_first_workload() {
    let workload = "\
---
apiVersion: certagent.dev/v1alpha1
kind: Workload
metadata:
  name: web
spec:
  namespace: shop
  serviceAccount: cart
  volume:
    path: volumes/web
---
apiVersion: certagent.dev/v1alpha1
kind: Workload
metadata:
  name: db
spec:
  namespace: shop
  serviceAccount: db
  commonName: postgresql
  volume:
    path: volumes/db
";
    let bench = Bench::start(&(guide() + workload)).await;
    let report = bench.inspect().await;
    let text = report.to_text();
    assert_eq!(report.verdict(), Verdict::Healthy, "{text}");
    for told in [
        "spiffe://demo.svc.id.goog/ns/shop/sa/cart",
        // Whoever it is that asks for more.
        "commonName for spiffe://demo.svc.id.goog/ns/shop/sa/db",
    ] {
        assert!(text.contains(told), "no \"{told}\" in: {text}");
    }
}
