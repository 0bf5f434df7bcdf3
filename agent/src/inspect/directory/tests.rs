use std::{fs, path::PathBuf};

use certagent_credentials::FileProblem;
use certagent_svid::layout;
use jiff::SignedDuration;
use rcgen::KeyUsagePurpose;

use super::{
    super::{Verdict, golden},
    RenewalHint, Report, checks,
    fixture::{Leaf, NOON, Volume, at, bundles, contents, contents_with},
    judge,
    report::CheckId,
    surroundings::{self, Filesystem, Surroundings},
};
use crate::{trust::Distrust, volume::HookRecord};

/// Compares both forms with the files in `golden/`.
pub(super) fn golden(name: &str, volume: &Volume, report: &Report) {
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

pub(super) fn hint(serial: &str) -> RenewalHint {
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
fn the_bundle_alone_is_a_pair_and_each_problem_names_it() {
    let (good, other) = (contents(), contents());
    let names = [layout::CA_CERTIFICATES, layout::CREDENTIAL_BUNDLE];
    let inspect = |bundle: &str| {
        let volume = Volume::swapped_with(&good, &names);
        volume.write(layout::CREDENTIAL_BUNDLE, bundle);
        volume.inspect(NOON, None)
    };
    for bundle in [good.bundle.clone(), good.bundle.replace('\n', "\r\n")] {
        let report = inspect(&bundle);
        assert_eq!(report.verdict(), Verdict::Healthy, "{}", report.to_text());
    }
    for (bundle, cause) in [
        (
            format!("{}{}", other.key, good.certificates),
            CheckId::KeyMatch,
        ),
        (good.certificates.clone(), CheckId::PrivateKey),
        (good.key.clone(), CheckId::Certificates),
        (String::new(), CheckId::Certificates),
    ] {
        let report = inspect(&bundle);
        expect(&report, Verdict::Problem, cause);
        let text = report.to_text();
        let absent = ["private_key.pem", "/certificates.pem"];
        assert!(text.contains(layout::CREDENTIAL_BUNDLE), "{text}");
        assert!(!absent.iter().any(|name| text.contains(name)), "{text}");
    }
    // With one of the two files there, those who read both miss the other.
    for (missing, cause) in [
        (layout::CERTIFICATES, CheckId::Certificates),
        (layout::PRIVATE_KEY, CheckId::PrivateKey),
    ] {
        let volume = Volume::swapped(&good);
        fs::remove_file(volume.file(missing)).unwrap();
        expect(&volume.inspect(NOON, None), Verdict::Problem, cause);
    }
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
