use std::{
    fs::{self, File},
    os::unix::fs::{PermissionsExt as _, symlink},
};

use certagent_svid::layout;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::{
    super::Verdict,
    fixture::{Leaf, NOON, Volume, at, contents, contents_with},
    report::CheckId,
};

#[test]
fn a_huge_file_is_refused_without_being_read() {
    for name in layout::FILES {
        let volume = Volume::swapped(&contents());
        File::options()
            .write(true)
            .open(volume.file(name))
            .unwrap()
            .set_len(1024 * 1024 * 1024)
            .unwrap();
        let report = volume.inspect(NOON, None);
        assert_eq!(report.verdict(), Verdict::Problem, "{}", report.to_text());
        assert!(
            report.to_text().contains("larger than"),
            "{}",
            report.to_text()
        );
    }
}

#[test]
fn what_is_no_file_does_not_hang_the_inspection() {
    for name in layout::FILES {
        let volume = Volume::swapped(&contents());
        let path = volume.file(name);
        fs::remove_file(&path).unwrap();
        mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
        let report = volume.inspect(NOON, None);
        assert_eq!(report.verdict(), Verdict::Problem, "{}", report.to_text());
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(volume.inspect(NOON, None).verdict(), Verdict::Problem);
        fs::remove_dir(&path).unwrap();
        symlink("/dev/zero", &path).unwrap();
        assert_eq!(volume.inspect(NOON, None).verdict(), Verdict::Problem);
        fs::remove_file(&path).unwrap();
        symlink(name, &path).unwrap();
        assert_ne!(volume.inspect(NOON, None).exit_code(), 0);
    }
}

#[test]
fn odd_things_in_place_of_the_generation_end_with_a_report() {
    for target in ["..data", "/", "/dev/null", "../..", "private_key.pem"] {
        let volume = Volume::plain(&contents());
        symlink(target, volume.path().join(layout::DATA)).unwrap();
        assert_ne!(volume.inspect(NOON, None).exit_code(), 0, "{target}");
    }
    let volume = Volume::plain(&contents());
    let data = volume.path().join(layout::DATA);
    mknodat(CWD, &data, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
    assert_ne!(volume.inspect(NOON, None).exit_code(), 0);
}

#[test]
fn binary_garbage_never_panics() {
    let good = contents();
    for name in layout::FILES {
        let volume = Volume::swapped(&good);
        let original = fs::read(volume.file(name)).unwrap();
        for step in 0..40 {
            let mut bytes = original.clone();
            let place = step * 7919 % bytes.len();
            match step % 3 {
                0 => bytes.truncate(place),
                1 => bytes[place] = u8::try_from(step).unwrap(),
                _ => bytes
                    .splice(place..place, [0xff, 0, 0x1b, b'\n'])
                    .for_each(drop),
            }
            volume.write(name, bytes);
            let report = volume.inspect(NOON, None);
            assert!(report.to_text().starts_with(report.verdict().as_str()));
        }
    }
}

#[test]
fn control_characters_reach_neither_form_of_the_report() {
    let contents = contents_with(
        &Leaf::default(),
        "Root\x1b[2J\u{202e}\r\nHEALTHY",
        (2036, 1, 1),
    );
    let volume = Volume::plain(&contents);
    volume.write(
        layout::CERTIFICATES,
        &super::fixture::contents().certificates,
    );
    let report = volume.inspect(NOON, None);
    assert_eq!(report.verdict(), Verdict::Problem);
    let text = report.to_text();
    assert!(text.contains("Root"), "{text}");
    for c in ['\x1b', '\r', '\u{202e}'] {
        assert!(!text.contains(c), "{text}");
        assert!(!report.to_json().contains(c));
    }
    let odd = volume.path().join("a\x1b[31m\nb");
    let report = super::inspect(&odd, at(NOON), None, &crate::trust::Distrust::default());
    assert!(!report.to_text().contains('\x1b'), "{}", report.to_text());
    serde_json::from_str::<serde_json::Value>(&report.to_json()).unwrap();
}

/// Every run of 20 base64 characters of a key would do to tell that it leaked.
fn assert_no_key(volume: &Volume, key: &str) {
    let report = volume.inspect(NOON, None);
    for text in [report.to_text(), report.to_json(), format!("{report:?}")] {
        let bytes = |piece: &str| format!("{:?}", piece.as_bytes()).replace(['[', ']'], "");
        for line in key.lines().filter(|line| !line.starts_with('-')) {
            for start in 0..line.len().saturating_sub(20) {
                let piece = &line[start..start + 20];
                assert!(
                    !text.contains(piece) && !text.contains(&bytes(piece)),
                    "{text}"
                );
            }
        }
    }
}

#[test]
fn no_report_ever_holds_a_key_wherever_it_lies() {
    let good = contents();
    let key = &good.key;
    let one_line = key.replace('\n', "");
    let name = key.replace('\n', "\\n");
    for content in [
        key.clone(),
        format!("{key}{}", good.certificates),
        one_line.clone(),
        format!("{one_line}\n-----END CERTIFICATE-----"),
        key.replace("PRIVATE KEY", "CERTIFICATE"),
        key.replace("PRIVATE KEY", "EC PRIVATE KEY"),
        key.replace("PRIVATE KEY", "RSA PRIVATE KEY"),
        key.replace("-----END", "----END"),
        key.replace('\n', "\r\n"),
        format!("-----BEGIN {}-----\n", key.lines().nth(1).unwrap()),
        format!("\"{name}\""),
        format!("{{\"trust_domains\":{{\"{name}\":{{\"keys\":[]}}}}}}"),
        format!("{{\"trust_domains\":\"{name}\"}}"),
        format!("{{\"{name}\":1}}"),
    ] {
        for file in layout::FILES {
            let volume = Volume::swapped(&good);
            volume.write(file, &content);
            assert_no_key(&volume, key);
        }
    }
    assert_no_key(&Volume::swapped(&good), key);
}

#[test]
fn a_key_that_an_unprivileged_user_may_not_read_is_unknown() {
    let volume = Volume::plain(&contents());
    let path = volume.file(layout::PRIVATE_KEY);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    let readable = File::open(&path).is_ok();
    let report = volume.inspect(NOON, None);
    // Root reads whatever it likes.
    let expected = if readable {
        None
    } else {
        Some(CheckId::PrivateKey)
    };
    assert_eq!(
        report.cause().map(|(id, _)| id),
        expected,
        "{}",
        report.to_text()
    );
    assert_eq!(report.exit_code(), if readable { 0 } else { 2 });
}
