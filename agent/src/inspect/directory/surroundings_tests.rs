//! Where and how the key is kept: its mode, its disk, its form, and what a write left behind.
use std::{fs, os::unix::fs::PermissionsExt as _};

use certagent_svid::layout;

use super::{
    super::Verdict,
    checks,
    fixture::{NOON, Volume, at, contents},
    judge,
    report::CheckId,
    surroundings::{self, Filesystem},
    tests::{expect, golden, hint},
};
use crate::trust::Distrust;

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
