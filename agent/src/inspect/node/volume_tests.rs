//! What is said of volumes.
use std::fs;

use certagent_csi::{look::SeenVolume, paths::Places};
use proptest::prelude::*;
use rustix::{
    fs::inotify,
    io::{Errno, read},
};
use serde_json::Value;

use super::{
    super::{
        Verdict,
        fixture::{Leaf, at, contents_with},
    },
    fixture::{DRIVER, Known, record, volume},
    judge,
    report::CheckId,
    tests::{bent, expire, goldens, states},
    volume::{State, VolumeFacts},
};
use crate::volume::{VolumeId, VolumeState};

#[test]
fn an_expired_certificate_is_a_problem_and_names_the_pod() {
    let report = bent(
        Verdict::Problem,
        CheckId::Credentials,
        "shop/web-2",
        |known| {
            let healthy = std::mem::replace(known, Known::healthy());
            *known = healthy.with(&["web-1", "web-2", "web-3"]);
            expire(known, 1);
        },
    );
    assert_eq!(
        states(&report),
        [State::Expired, State::Valid, State::Valid]
    );
    assert!(
        report.next_steps[0]
            .command
            .contains("involvedObject.name=web-2")
    );
    goldens("node-expired", &report);
}

#[test]
fn a_certificate_that_is_of_no_use_to_its_pod_is_a_problem() {
    let id = CheckId::Credentials;
    bent(Verdict::Problem, id, "empty", |known| {
        known.volumes()[0].certificates = Ok(None);
    });
    bent(
        Verdict::Problem,
        id,
        "without a usable certificate",
        |known| {
            known.volumes()[0].certificates = Ok(Some(b"no PEM".to_vec()));
        },
    );
    bent(
        Verdict::Problem,
        id,
        "is for spiffe://example.org/ns/shop/sa/cart",
        |known| {
            let mut other = record("web-1");
            other.spiffe_id = "spiffe://example.org/ns/shop/sa/web".to_owned();
            known.volumes()[0].record = Ok(Some(other));
        },
    );
    bent(Verdict::Problem, id, "clock is behind", |known| {
        let leaf = Leaf {
            begin: (2026, 11, 22),
            ..Leaf::default()
        };
        let contents = contents_with(&leaf, "Test Root", (2036, 1, 1));
        known.volumes()[0].certificates = Ok(Some(contents.certificates.into_bytes()));
    });
}

#[test]
fn a_volume_that_its_pod_has_lost_is_a_problem_and_one_whose_pod_is_gone_is_not() {
    bent(
        Verdict::Problem,
        CheckId::Bindings,
        "somebody unmounted it",
        |known| {
            known.volumes()[0].targets.clear();
        },
    );
    bent(
        Verdict::Warning,
        CheckId::Leftovers,
        "its pod is gone",
        |known| {
            known.volumes()[0].targets.clear();
            known.volumes()[0].has_pod = Some(false);
        },
    );
    bent(Verdict::Warning, CheckId::Leftovers, "reboot", |known| {
        let volume = &mut known.volumes()[0];
        volume.is_mounted = false;
        volume.targets.clear();
        volume.record = Ok(None);
        volume.certificates = Ok(None);
    });
}

#[test]
fn a_pod_that_waits_is_a_warning_with_what_is_under_way() {
    let waiting = |known: &mut Known| {
        let volume = &mut known.volumes()[0];
        volume.targets.clear();
        volume.record = Ok(None);
        volume.certificates = Ok(None);
        volume.has_pod = None;
    };
    bent(Verdict::Warning, CheckId::Waiting, "no request", waiting);
    let report = bent(
        Verdict::Warning,
        CheckId::Waiting,
        "is under way",
        |known| {
            waiting(known);
            let id = "spiffe://example.org/ns/shop/sa/new".parse().unwrap();
            known.volumes()[0].pending = Ok(Some(id));
        },
    );
    let id = report.evidence.volumes[0].spiffe_id.as_deref();
    assert_eq!(id, Some("spiffe://example.org/ns/shop/sa/new"));
}

#[test]
fn a_renewal_that_is_late_is_a_warning() {
    // A tenth of twenty days.
    for (now, state) in [
        ("2026-12-02T23:00:00Z", State::Valid),
        ("2026-12-03T01:00:00Z", State::Overdue),
    ] {
        let known = Known::healthy();
        let report = judge(&known.wanted, &known.facts, at(now));
        assert_eq!(states(&report), [state], "{now}");
        if state == State::Overdue {
            assert_eq!(report.verdict(), Verdict::Warning);
            let (cause, told) = report.cause().unwrap();
            assert_eq!(cause, CheckId::Renewals);
            assert!(told.contains("overdue"), "{told}");
        }
    }
}

#[test]
fn a_record_that_cannot_be_read_is_a_warning_and_the_certificate_still_says_whose_it_is() {
    let report = bent(Verdict::Warning, CheckId::Records, "checksum", |known| {
        known.volumes()[0].record = Err("the record is corrupt: its checksum is wrong".to_owned());
    });
    let volume = &report.evidence.volumes[0];
    assert_eq!(volume.state, State::Valid);
    assert!(volume.spiffe_id.is_some() && volume.renews_at.is_none());
    assert_eq!(volume.pod.as_ref().unwrap().uid, "uid-web-1");
    bent(Verdict::Warning, CheckId::Records, "no record", |known| {
        known.volumes()[0].record = Ok(None);
    });
    bent(Verdict::Warning, CheckId::Records, "pending", |known| {
        known.volumes()[0].pending = Err("the pending request is discarded".to_owned());
    });
}

#[test]
fn of_many_volumes_the_worst_are_shown_and_all_are_in_the_json() {
    let pods: Vec<String> = (0..110).map(|index| format!("web-{index:03}")).collect();
    let pods: Vec<&str> = pods.iter().map(String::as_str).collect();
    let mut known = Known::healthy().with(&pods);
    expire(&mut known, 77);
    known.volumes()[33].targets.clear();
    let report = known.judge();
    assert_eq!(
        states(&report)[..3],
        [State::Expired, State::Unbound, State::Valid]
    );
    let text = report.to_text();
    assert!(
        text.contains("110: 1 expired, 1 unbound, 108 valid"),
        "{text}"
    );
    assert_eq!(text.matches("\n  volume   ").count(), 10, "{text}");
    assert!(text.contains("and 100 more"), "{text}");
    let json: Value = serde_json::from_str(&report.to_json()).unwrap();
    assert_eq!(json["evidence"]["volumes"].as_array().unwrap().len(), 110);
}

#[test]
fn a_real_directory_is_read_without_its_keys() {
    let root = tempfile::tempdir().unwrap();
    let places = Places::new(root.path().to_owned(), DRIVER.parse().unwrap());
    let known = Known::healthy();
    let make = |name: &str| {
        let volume = places.volumes().join(name);
        let generation = volume.join("data/..2026_11_20_12_00_00.1");
        fs::create_dir_all(&generation).unwrap();
        fs::write(
            generation.join("certificates.pem"),
            &known.contents.certificates,
        )
        .unwrap();
        fs::write(generation.join("private_key.pem"), "secret").unwrap();
        let link = volume.join("data/..data");
        std::os::unix::fs::symlink("..2026_11_20_12_00_00.1", link).unwrap();
        volume
    };
    let seen = |name: &str| SeenVolume {
        id: certagent_csi::VolumeId::new(name).unwrap(),
        root: places.volumes().join(name),
        is_mounted: true,
        targets: volume("web-1", &known.contents).targets,
    };
    let good = make("csi-a");
    VolumeState::at(good, true)
        .save_record(&record("web-1"))
        .unwrap();
    let corrupt = make("csi-b");
    fs::write(corrupt.join("record.json"), "{").unwrap();
    let hostile = make("csi-c");
    let stolen = hostile.join("data/..2026_11_20_12_00_00.1/certificates.pem");
    fs::remove_file(&stolen).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &stolen).unwrap();

    let opened = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    let key = places
        .volumes()
        .join("csi-a/data/..2026_11_20_12_00_00.1/private_key.pem");
    inotify::add_watch(&opened, &key, inotify::WatchFlags::OPEN).unwrap();

    let facts = |name: &str| VolumeFacts::of(seen(name), &places);
    let mut facts_of_all = Known::healthy();
    *facts_of_all.volumes() = vec![facts("csi-a"), facts("csi-b"), facts("csi-c")];
    let [a, b, c] = facts_of_all.volumes().as_slice() else {
        panic!()
    };
    assert_eq!(
        read(&opened, &mut [0; 256]),
        Err(Errno::AGAIN),
        "the key was opened"
    );
    drop(fs::File::open(&key).unwrap());
    assert!(
        read(&opened, &mut [0; 256]).is_ok(),
        "that would have been seen"
    );
    assert_eq!(a.record, Ok(Some(record("web-1"))));
    assert_eq!(a.has_pod, Some(false));
    let data = places.volumes().join("csi-a/data").canonicalize().unwrap();
    assert_eq!(a.held_as, VolumeId::of(&data));
    assert!(b.record.as_ref().unwrap_err().contains("corrupt"));
    assert!(c.certificates.is_err());
    let report = facts_of_all.judge();
    assert_eq!(
        states(&report),
        [State::NoCredential, State::Valid, State::Valid]
    );
    let text = report.to_text() + &report.to_json();
    assert!(!text.contains("root:"), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_pod_writes_the_report_has_an_end_and_no_control_characters(
        certificates in prop::collection::vec(any::<u8>(), 0..200),
        name in "\\PC{0,40}|[\u{0}-\u{1f}]{1,5}",
        now in -300_000_000_000_i64..200_000_000_000,
    ) {
        let mut known = Known::healthy();
        let mut record = record("web-1");
        record.pod.as_mut().unwrap().name = name;
        known.volumes()[0].record = Ok(Some(record));
        known.volumes()[0].certificates = Ok(Some(certificates));
        let now = jiff::Timestamp::from_second(now).unwrap_or_default();
        let text = judge(&known.wanted, &known.facts, now).to_text();
        prop_assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    }
}
