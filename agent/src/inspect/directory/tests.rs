use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use certagent_core::names::SubjectNames;
use certagent_credentials::FileProblem;
use certagent_svid::layout;
use jiff::SignedDuration;
use rcgen::KeyUsagePurpose;

use super::{
    super::{Verdict, golden},
    RenewalHint, Report, checks,
    fixture::{GENERATION, Leaf, NOON, Volume, at, bundles, contents, contents_with},
    judge,
    report::CheckId,
    surroundings::{self, Filesystem, Surroundings},
};
use crate::{
    trust::Distrust,
    volume::{HookFailure, HookRecord},
};

/// Compares both forms with the files in `golden/`.
fn golden(name: &str, volume: &Volume, report: &Report) {
    for (extension, actual) in [("txt", report.to_text()), ("json", report.to_json())] {
        golden::compare(name, extension, &volume.normalise(&actual));
    }
}

pub(super) fn expect(report: &Report, verdict: Verdict, cause: CheckId) {
    let found = report.cause().map(|(id, _)| id);
    assert_eq!(
        (report.verdict(), found),
        (verdict, Some(cause)),
        "{}",
        report.to_text()
    );
}

fn hint(serial: &str) -> RenewalHint {
    RenewalHint {
        volume: "cart".to_owned(),
        serial: serial.to_owned(),
        issued_at: at("2026-11-15T00:00:00Z"),
        validity: SignedDuration::from_hours(20 * 24),
        window_percentage: 50,
        hooks: HookRecord::default(),
        asked_names: None,
        hooks_error: None,
    }
}

#[test]
fn names_are_shown_and_those_that_the_certificate_lacks_are_a_warning() {
    let named = Leaf {
        common_name: Some("app"),
        dns_names: &["db.example.org", "localhost"],
        ..Leaf::default()
    };
    let volume = Volume::swapped(&contents_with(&named, "Test Root", (2036, 1, 1)));
    let mut hint = hint("c0ffee");
    let report = volume.inspect(NOON, Some(&hint));
    assert_eq!(report.exit_code(), 0, "{}", report.to_text());
    let (text, json) = (report.to_text(), report.to_json());
    for told in [
        "common name",
        "app",
        "DNS names",
        "db.example.org, localhost",
    ] {
        assert!(text.contains(told), "no \"{told}\" in: {text}");
    }
    assert!(json.contains("\"commonName\": \"app\""), "{json}");

    hint.asked_names = Some(SubjectNames {
        common_name: None,
        dns_names: vec!["db.example.com".to_owned()],
    });
    let report = volume.inspect(NOON, Some(&hint));
    expect(&report, Verdict::Warning, CheckId::Names);
    let text = report.to_text();
    let told = "the Workload asks for no commonName and dnsNames db.example.com";
    assert!(text.contains(told), "{text}");

    // What was noted of another certificate says nothing of this one.
    hint.serial = "beef".to_owned();
    assert_eq!(volume.inspect(NOON, Some(&hint)).exit_code(), 0);
}

#[test]
fn a_whole_volume_is_healthy_and_its_renewal_known() {
    let volume = Volume::swapped(&contents());
    let report = volume.inspect(NOON, Some(&hint("c0ffee")));
    assert_eq!(report.exit_code(), 0);
    golden("healthy", &volume, &report);
}

#[test]
fn three_plain_files_are_healthy_and_nothing_optional_is_missed() {
    let volume = Volume::plain(&contents());
    golden("plain", &volume, &volume.inspect(NOON, None));
}

#[test]
fn three_files_behind_a_swapped_link_are_healthy() {
    let volume = Volume::swapped_with(&contents(), &layout::FILES[..3]);
    let report = volume.inspect(NOON, None);
    assert_eq!(report.verdict(), Verdict::Healthy, "{}", report.to_text());
    assert!(report.evidence.generation.is_some());
}

#[test]
fn a_directory_that_is_itself_a_link_is_healthy() {
    let volume = Volume::plain(&contents());
    let parent = Volume::empty();
    let link = parent.path().join("workload-spiffe-credentials");
    std::os::unix::fs::symlink(volume.path(), &link).unwrap();
    volume.write("config_status", "OK");
    let report = super::inspect(&link, at(NOON), Some(&hint("c0ffee")), &Distrust::default());
    assert_eq!(report.verdict(), Verdict::Healthy, "{}", report.to_text());
}

#[test]
fn a_record_of_another_certificate_says_nothing_of_this_one() {
    let volume = Volume::plain(&contents());
    let report = volume.inspect(NOON, Some(&hint("0badc0de")));
    assert!(
        report.to_text().contains("renews       unknown"),
        "{}",
        report.to_text()
    );
}

#[test]
fn an_expired_certificate_is_a_problem_with_the_time_since_when() {
    let volume = Volume::swapped(&contents());
    let report = volume.inspect("2026-12-05T02:03:04Z", None);
    expect(&report, Verdict::Problem, CheckId::Validity);
    assert_eq!(report.exit_code(), 1);
    golden("expired", &volume, &report);
}

#[test]
fn a_certificate_of_the_future_blames_the_clock() {
    let volume = Volume::plain(&contents());
    let report = volume.inspect("2026-11-14T23:50:00Z", None);
    expect(&report, Verdict::Problem, CheckId::Validity);
    assert!(
        report.to_text().contains("10 min ahead"),
        "{}",
        report.to_text()
    );
}

#[test]
fn a_tenth_of_the_life_left_is_a_warning_and_a_moment_before_it_is_not() {
    let volume = Volume::plain(&contents());
    assert_eq!(
        volume.inspect("2026-12-02T23:59:00Z", None).verdict(),
        Verdict::Healthy
    );
    let report = volume.inspect("2026-12-03T00:00:01Z", None);
    expect(&report, Verdict::Warning, CheckId::Validity);
    assert_eq!(report.exit_code(), 0);
    golden("overdue", &volume, &report);
    // With a window of 5% the renewal is late in its second half only.
    let late = RenewalHint {
        window_percentage: 5,
        ..hint("c0ffee")
    };
    let early = volume.inspect("2026-12-04T11:00:00Z", Some(&late));
    assert_eq!(early.verdict(), Verdict::Healthy, "{}", early.to_text());
    let late = volume.inspect("2026-12-04T13:00:00Z", Some(&late));
    expect(&late, Verdict::Warning, CheckId::Validity);
}

#[test]
fn a_hook_that_fails_for_this_generation_is_a_warning_and_nothing_is_said_without_hooks() {
    let volume = Volume::swapped(&contents());
    let inspect =
        |hooks: HookRecord| volume.inspect(NOON, Some(&hint("c0ffee").with_hooks(Ok(hooks))));
    let failing = |generation: &str, attempts| HookRecord {
        done: Some("..2026_11_19_12_00_00.000000001".to_owned()),
        failing: Some(HookFailure {
            generation: generation.to_owned(),
            since: at("2026-11-20T12:00:01Z"),
            attempts,
            error: "exec /bin/sh: /bin/sh ended with exit status: 1".to_owned(),
            others: Vec::new(),
        }),
    };
    let report = inspect(failing(GENERATION, 4));
    expect(&report, Verdict::Warning, CheckId::Hooks);
    let text = report.to_text();
    for said in [
        "programs were not told of the certificate",
        "has failed 4 times since 2026-11-20T12:00:01Z",
        "exec /bin/sh: /bin/sh ended with exit status: 1",
        "journalctl",
    ] {
        assert!(text.contains(said), "no {said:?} in {text}");
    }
    let mut two = failing(GENERATION, 1);
    two.failing.as_mut().unwrap().others = vec!["exec /bin/no: it is not there".to_owned()];
    let text = inspect(two).to_text();
    assert!(
        text.contains("2 hooks of onRotate have failed once"),
        "{text}"
    );
    assert!(text.contains("status: 1; exec /bin/no: it is"), "{text}");
    let done = HookRecord {
        done: Some(GENERATION.to_owned()),
        failing: None,
    };
    for good in [
        HookRecord::default(),
        done,
        failing("..2026_11_19_12_00_00.000000001", 1),
    ] {
        assert_eq!(inspect(good).verdict(), Verdict::Healthy);
    }
    let told = |hooks| inspect(hooks).to_json().contains("\"hooks\"");
    assert!(!told(HookRecord::default()) && told(failing(GENERATION, 1)));
}

#[test]
fn what_cannot_be_known_of_the_hooks_is_said() {
    let volume = Volume::swapped(&contents());
    let torn = hint("c0ffee").with_hooks(Err("hooks.json: EOF".to_owned()));
    let report = volume.inspect(NOON, Some(&torn));
    expect(&report, Verdict::Warning, CheckId::Hooks);
    assert!(report.to_text().contains("hooks.json: EOF"));

    let report = volume.inspect(NOON, None);
    assert_eq!(report.verdict(), Verdict::Healthy);
    let text = report.to_text();
    assert!(text.contains("name its --state-dir"), "{text}");
}

#[test]
fn a_key_of_another_certificate_is_a_problem() {
    let volume = Volume::swapped(&contents());
    let other = contents();
    volume.write(layout::PRIVATE_KEY, &other.key);
    let report = volume.inspect(NOON, None);
    expect(&report, Verdict::Problem, CheckId::KeyMatch);
    golden("key-mismatch", &volume, &report);
}

#[test]
fn roots_of_another_ca_are_a_problem_that_names_both() {
    let volume = Volume::swapped(&contents());
    let other = contents_with(&Leaf::default(), "Another Root", (2036, 1, 1));
    volume.write(layout::CA_CERTIFICATES, &other.roots);
    let report = volume.inspect(NOON, None);
    expect(&report, Verdict::Problem, CheckId::ChainVerifies);
    golden("unknown-root", &volume, &report);
}

#[test]
fn a_directory_that_does_not_exist_is_a_problem() {
    let volume = Volume::empty();
    let report = super::inspect(
        &volume.path().join("it's missing"),
        at(NOON),
        None,
        &Distrust::default(),
    );
    expect(&report, Verdict::Problem, CheckId::Directory);
    golden("no-directory", &volume, &report);
}

#[test]
fn a_file_in_place_of_the_directory_is_a_problem() {
    let volume = Volume::plain(&contents());
    let report = super::inspect(
        &volume.file(layout::CERTIFICATES),
        at(NOON),
        None,
        &Distrust::default(),
    );
    expect(&report, Verdict::Problem, CheckId::Directory);
}

#[test]
fn an_empty_directory_is_a_problem_with_one_cause() {
    let volume = Volume::empty();
    let report = volume.inspect(NOON, None);
    expect(&report, Verdict::Problem, CheckId::Certificates);
    golden("empty-directory", &volume, &report);
}

#[test]
fn a_key_that_this_user_may_not_read_is_unknown_and_never_counts_as_passed() {
    let volume = Volume::swapped(&contents());
    let files = certagent_credentials::read_files(volume.path()).unwrap();
    let mut around = surroundings::look(volume.path(), Some(&files));
    around.filesystem = Filesystem::Memory;
    let denied = FileProblem::Denied;
    let read = || {
        let mut contents = checks::Contents::of(&files);
        contents.files.insert(layout::PRIVATE_KEY, Err(&denied));
        contents
            .files
            .insert(layout::CREDENTIAL_BUNDLE, Err(&denied));
        Ok(contents)
    };
    let report = judge(
        volume.path(),
        read(),
        &around,
        at(NOON),
        None,
        &Distrust::default(),
    );
    expect(&report, Verdict::Unknown, CheckId::PrivateKey);
    assert_eq!(report.exit_code(), 2);
    golden("key-denied", &volume, &report);
    // What did fail is still a problem.
    let report = judge(
        volume.path(),
        read(),
        &around,
        at("2027-01-01T00:00:00Z"),
        None,
        &Distrust::default(),
    );
    expect(&report, Verdict::Problem, CheckId::Validity);
}

#[test]
fn a_directory_that_this_user_may_not_open_is_unknown() {
    let directory = PathBuf::from("/volume");
    let error = certagent_credentials::ReadError::Denied {
        directory: directory.clone(),
    };
    let report = judge(
        &directory,
        Err(&error),
        &Surroundings::default(),
        at(NOON),
        None,
        &Distrust::default(),
    );
    expect(&report, Verdict::Unknown, CheckId::Directory);
    golden("directory-denied", &Volume::empty(), &report);
}

#[test]
fn a_link_to_a_generation_that_is_gone_is_a_problem() {
    let volume = Volume::swapped(&contents());
    let data = volume.path().join(layout::DATA);
    fs::remove_file(&data).unwrap();
    std::os::unix::fs::symlink("..2020_01_01_00_00_00.1", data).unwrap();
    expect(
        &volume.inspect(NOON, None),
        Verdict::Problem,
        CheckId::Generation,
    );
}

#[test]
fn a_file_that_hides_the_current_generation_is_a_problem() {
    let volume = Volume::swapped(&contents());
    let path = volume.path().join(layout::CA_CERTIFICATES);
    fs::remove_file(&path).unwrap();
    expect(
        &volume.inspect(NOON, None),
        Verdict::Problem,
        CheckId::Links,
    );
    fs::write(&path, "stale").unwrap();
    expect(
        &volume.inspect(NOON, None),
        Verdict::Problem,
        CheckId::Links,
    );
}

#[test]
fn broken_files_are_a_problem_each_by_its_own_check() {
    for (name, content, cause) in [
        (layout::CERTIFICATES, "", CheckId::Certificates),
        (layout::CERTIFICATES, "garbage", CheckId::Certificates),
        (layout::PRIVATE_KEY, "", CheckId::PrivateKey),
        (layout::PRIVATE_KEY, "garbage", CheckId::PrivateKey),
        (layout::CA_CERTIFICATES, "", CheckId::Roots),
        (layout::CA_CERTIFICATES, "garbage", CheckId::Roots),
        (layout::TRUST_BUNDLES, "", CheckId::TrustBundles),
        (
            layout::TRUST_BUNDLES,
            "{\"trust_domains\":{}}",
            CheckId::TrustBundles,
        ),
        (
            layout::CREDENTIAL_BUNDLE,
            "garbage",
            CheckId::CredentialBundle,
        ),
    ] {
        let volume = Volume::swapped(&contents());
        volume.write(name, content);
        let report = volume.inspect(NOON, None);
        expect(&report, Verdict::Problem, cause);
        assert!(report.to_text().contains(name), "{}", report.to_text());
    }
}

#[test]
fn each_of_the_three_files_must_be_there() {
    for (name, cause) in [
        (layout::CERTIFICATES, CheckId::Certificates),
        (layout::PRIVATE_KEY, CheckId::PrivateKey),
        (layout::CA_CERTIFICATES, CheckId::Roots),
    ] {
        let volume = Volume::plain(&contents());
        fs::remove_file(volume.file(name)).unwrap();
        expect(&volume.inspect(NOON, None), Verdict::Problem, cause);
    }
}

#[test]
fn roots_in_the_bundle_map_alone_are_enough() {
    let volume = Volume::plain(&contents());
    let roots = fs::read_to_string(volume.file(layout::CA_CERTIFICATES)).unwrap();
    volume.write(layout::TRUST_BUNDLES, bundles("example.org", &roots));
    fs::remove_file(volume.file(layout::CA_CERTIFICATES)).unwrap();
    let report = volume.inspect(NOON, None);
    assert_eq!(report.verdict(), Verdict::Healthy, "{}", report.to_text());
}

#[test]
fn the_order_of_the_chain_matters() {
    let good = contents();
    let [leaf, issuing, middle] = &good.parts;
    let volume = Volume::plain(&good);
    volume.write(layout::CERTIFICATES, format!("{issuing}{middle}{leaf}"));
    expect(
        &volume.inspect(NOON, None),
        Verdict::Problem,
        CheckId::ChainOrder,
    );
    volume.write(layout::CERTIFICATES, format!("{leaf}{middle}{issuing}"));
    expect(
        &volume.inspect(NOON, None),
        Verdict::Warning,
        CheckId::ChainOrder,
    );
    volume.write(layout::CERTIFICATES, leaf);
    expect(
        &volume.inspect(NOON, None),
        Verdict::Problem,
        CheckId::ChainVerifies,
    );
    let [_, issuing, middle] = contents().parts;
    volume.write(layout::CERTIFICATES, format!("{leaf}{issuing}{middle}"));
    expect(
        &volume.inspect(NOON, None),
        Verdict::Problem,
        CheckId::ChainVerifies,
    );
}

#[test]
fn a_leaf_that_breaks_the_standard_is_a_problem() {
    let usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyCertSign,
    ];
    let leaf = Leaf {
        usages,
        ..Leaf::default()
    };
    let volume = Volume::plain(&contents_with(&leaf, "Test Root", (2036, 1, 1)));
    expect(&volume.inspect(NOON, None), Verdict::Problem, CheckId::Svid);
    let leaf = Leaf {
        uri: "https://example.org/not-spiffe",
        ..Leaf::default()
    };
    let volume = Volume::plain(&contents_with(&leaf, "Test Root", (2036, 1, 1)));
    let report = volume.inspect(NOON, None);
    expect(&report, Verdict::Problem, CheckId::Svid);
    assert!(
        report.to_text().contains("waits for svid"),
        "{}",
        report.to_text()
    );
}

#[test]
fn roots_must_be_cas_and_should_live_for_a_while() {
    let good = contents();
    let volume = Volume::plain(&good);
    volume.write(layout::CA_CERTIFICATES, &good.certificates);
    expect(
        &volume.inspect(NOON, None),
        Verdict::Problem,
        CheckId::Roots,
    );
    let volume = Volume::plain(&contents_with(&Leaf::default(), "Old Root", (2026, 12, 6)));
    expect(
        &volume.inspect(NOON, None),
        Verdict::Warning,
        CheckId::RootsValidity,
    );
    let volume = Volume::plain(&good);
    let old = contents_with(&Leaf::default(), "Old Root", (2026, 11, 1)).roots;
    volume.write(layout::CA_CERTIFICATES, format!("{}{old}", good.roots));
    expect(
        &volume.inspect(NOON, None),
        Verdict::Warning,
        CheckId::RootsValidity,
    );
    volume.write(layout::CA_CERTIFICATES, old);
    expect(
        &volume.inspect(NOON, None),
        Verdict::Problem,
        CheckId::ChainVerifies,
    );
}

#[test]
fn files_that_disagree_are_a_warning() {
    let other = contents();
    let volume = Volume::swapped(&contents());
    volume.write(layout::TRUST_BUNDLES, &other.bundles);
    expect(
        &volume.inspect(NOON, None),
        Verdict::Warning,
        CheckId::TrustBundles,
    );
    let volume = Volume::swapped(&contents());
    volume.write(layout::CREDENTIAL_BUNDLE, &other.bundle);
    expect(
        &volume.inspect(NOON, None),
        Verdict::Warning,
        CheckId::CredentialBundle,
    );
    volume.write(
        layout::CREDENTIAL_BUNDLE,
        format!("{}{}", contents().key, other.certificates),
    );
    expect(
        &volume.inspect(NOON, None),
        Verdict::Problem,
        CheckId::CredentialBundle,
    );
}

#[test]
fn a_key_that_everybody_can_read_is_a_warning_unless_the_volume_is_its_own_mount() {
    let volume = Volume::plain(&contents());
    let everybody = fs::Permissions::from_mode(0o644);
    fs::set_permissions(volume.file(layout::PRIVATE_KEY), everybody).unwrap();
    let report = volume.inspect(NOON, None);
    expect(&report, Verdict::Warning, CheckId::KeyMode);
    golden("key-mode", &volume, &report);
    let files = certagent_credentials::read_files(volume.path()).unwrap();
    let mut around = surroundings::look(volume.path(), Some(&files));
    (around.filesystem, around.is_mount) = (Filesystem::Memory, true);
    let contents = || Ok(checks::Contents::of(&files));
    let report = judge(
        volume.path(),
        contents(),
        &around,
        at(NOON),
        None,
        &Distrust::default(),
    );
    assert_eq!(report.verdict(), Verdict::Healthy, "{}", report.to_text());
    (around.filesystem, around.is_mount) = (Filesystem::Disk, true);
    let report = judge(
        volume.path(),
        contents(),
        &around,
        at(NOON),
        None,
        &Distrust::default(),
    );
    expect(&report, Verdict::Warning, CheckId::KeyMode);
}

#[test]
fn a_key_on_a_disk_is_a_warning_unless_the_agent_put_it_there() {
    let volume = Volume::plain(&contents());
    let files = certagent_credentials::read_files(volume.path()).unwrap();
    let mut around = surroundings::look(volume.path(), Some(&files));
    around.filesystem = Filesystem::Disk;
    let contents = || Ok(checks::Contents::of(&files));
    let report = judge(
        volume.path(),
        contents(),
        &around,
        at(NOON),
        None,
        &Distrust::default(),
    );
    expect(&report, Verdict::Warning, CheckId::KeyStorage);
    let hint = hint("c0ffee");
    let report = judge(
        volume.path(),
        contents(),
        &around,
        at(NOON),
        Some(&hint),
        &Distrust::default(),
    );
    assert_eq!(report.verdict(), Verdict::Healthy, "{}", report.to_text());
    around.filesystem = Filesystem::Unknown;
    let report = judge(
        volume.path(),
        contents(),
        &around,
        at(NOON),
        None,
        &Distrust::default(),
    );
    assert_eq!(report.verdict(), Verdict::Healthy, "{}", report.to_text());
}

#[test]
fn the_rest_of_an_interrupted_write_is_a_warning_once_it_is_old() {
    let volume = Volume::plain(&contents());
    let files = certagent_credentials::read_files(volume.path()).unwrap();
    let mut around = surroundings::look(volume.path(), Some(&files));
    around.filesystem = Filesystem::Memory;
    for (since, verdict) in [
        ("2026-11-20T14:29:30Z", Verdict::Healthy),
        ("2026-11-20T14:00:00Z", Verdict::Warning),
    ] {
        around.data_tmp_since = Some(at(since));
        let contents = checks::Contents::of(&files);
        let report = judge(
            volume.path(),
            Ok(contents),
            &around,
            at(NOON),
            None,
            &Distrust::default(),
        );
        assert_eq!(report.verdict(), verdict, "{}", report.to_text());
    }
    std::os::unix::fs::symlink("nowhere", volume.path().join(layout::DATA_TMP)).unwrap();
    assert!(
        surroundings::look(volume.path(), Some(&files))
            .data_tmp_since
            .is_some()
    );
}

#[test]
fn a_key_in_an_older_form_is_a_warning_and_still_compared() {
    let (key, certificates) = older_form();
    let mut old = contents();
    old.certificates = certificates;
    let volume = Volume::plain(&old);
    volume.write(layout::PRIVATE_KEY, &key);
    let report = volume.inspect(NOON, None);
    let key_form = report
        .checks
        .iter()
        .find(|check| check.id == CheckId::PrivateKey)
        .unwrap();
    assert!(
        key_form.finding.detail().contains("EC PRIVATE KEY"),
        "{}",
        report.to_text()
    );
    assert_eq!(
        report.evidence.key_matches,
        Some(true),
        "{}",
        report.to_text()
    );
    volume.write(layout::CERTIFICATES, contents().certificates);
    expect(
        &volume.inspect(NOON, None),
        Verdict::Problem,
        CheckId::KeyMatch,
    );
}

/// A SEC1 key, and a self-signed certificate for it.
fn older_form() -> (String, String) {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let pair = rcgen::KeyPair::generate().unwrap();
    let pkcs8 = pair.serialize_der();
    // The octet string at the end of a P-256 key's PKCS#8 holds the SEC1 form.
    let octets = pkcs8
        .windows(3)
        .position(|bytes| bytes == [0x04, 0x6d, 0x30])
        .unwrap();
    let sec1 = STANDARD.encode(&pkcs8[octets + 2..]);
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names = vec![rcgen::SanType::URI(super::fixture::ID.try_into().unwrap())];
    let certificate = params.self_signed(&pair).unwrap().pem();
    (
        format!("-----BEGIN EC PRIVATE KEY-----\n{sec1}\n-----END EC PRIVATE KEY-----\n"),
        certificate,
    )
}
