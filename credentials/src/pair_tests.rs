use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use super::*;
use crate::{
    Credentials, FileProblem, Snapshot,
    fixture::{Authority, Credential, ID, NOW, credential},
    read, read_files,
};

/// A directory without a file of their own for key and chain.
fn bundle_only(bundle: &[u8]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    credential().write(dir.path());
    remove_two(dir.path());
    std::fs::write(dir.path().join(layout::CREDENTIAL_BUNDLE), bundle).unwrap();
    dir
}

fn remove_two(directory: &Path) {
    for name in [layout::PRIVATE_KEY, layout::CERTIFICATES] {
        std::fs::remove_file(directory.join(name)).unwrap();
    }
}

fn serial(snapshot: &Snapshot) -> String {
    snapshot.chain().leaf().serial_hex()
}

/// What is said of a directory with this bundle: it must name the file.
fn refused(bundle: &str) -> ReadError {
    let dir = bundle_only(bundle.as_bytes());
    // Without the second tries of `read`.
    let error = Snapshot::parse(&read_files(dir.path()).unwrap()).unwrap_err();
    let path = dir.path().join(layout::CREDENTIAL_BUNDLE);
    assert!(
        error.to_string().contains(&path.display().to_string()),
        "{error}"
    );
    error
}

#[test]
fn the_bundle_alone_is_a_pair() {
    let credential = credential();
    for bundle in [
        credential.bundle.clone(),
        format!("{}{}", credential.certificates, credential.key),
        credential.bundle.replace('\n', "\r\n"),
        format!("# a comment\n\n{}\n", credential.bundle),
    ] {
        let dir = bundle_only(bundle.as_bytes());
        let snapshot = read(dir.path()).unwrap();
        assert_eq!(serial(&snapshot), credential.serial());
        assert!(snapshot.key().fits(snapshot.chain().leaf()));
        assert_eq!(snapshot.spiffe_id().to_string(), ID);
    }
}

#[test]
fn a_bundle_that_is_no_pair_is_refused_by_its_name() {
    let (good, other) = (credential(), credential());
    let mismatch = refused(&format!("{}{}", other.key, good.certificates));
    assert!(matches!(
        mismatch,
        ReadError::CredentialBundleMismatch { .. }
    ));
    let Credential {
        certificates,
        key,
        bundle,
        ..
    } = &good;
    assert!(matches!(refused(""), ReadError::Chain { .. }));
    assert!(matches!(refused(key), ReadError::Chain { .. }));
    let keyless = refused(certificates);
    let said = keyless.to_string();
    assert!(said.contains("has no private key"), "{said}");
    let sec1 = bundle.replace(" PRIVATE KEY", " EC PRIVATE KEY");
    let said = refused(&sec1).to_string();
    // The command mends this file, and leaves it as it is where it fails.
    assert!(said.contains("EC PRIVATE KEY"), "{said}");
    assert!(said.contains("/credential-bundle.pem.new && mv "), "{said}");
    assert!(!said.contains("private_key.pem"), "{said}");
    // Wherever it is cut off, but for the line's end after the last block.
    let whole = bundle.trim_end().len();
    for length in (0..whole).step_by(7).chain([whole - 1]) {
        refused(&bundle[..length]);
    }
    assert!(matches!(
        refused(&format!("{key}{}", good.roots)),
        ReadError::Leaf { .. }
    ));
}

#[test]
fn a_bundle_that_cannot_be_read_is_not_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    credential().write(dir.path());
    let path = dir.path().join(layout::CREDENTIAL_BUNDLE);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let error = read(dir.path()).unwrap_err();
    assert!(
        matches!(&error, ReadError::File { path: named, problem: FileProblem::NotAFile } if *named == path),
        "{error}"
    );
}

#[cfg(unix)]
#[test]
fn a_bundle_that_only_others_may_read_says_who_may() {
    use std::os::unix::fs::PermissionsExt as _;
    let credential = credential();
    let dir = bundle_only(credential.bundle.as_bytes());
    let path = dir.path().join(layout::CREDENTIAL_BUNDLE);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    let found = read(dir.path());
    if rustix::process::geteuid().is_root() {
        assert_eq!(serial(&found.unwrap()), credential.serial());
    } else {
        let said = found.unwrap_err().to_string();
        assert!(
            said.contains(layout::CREDENTIAL_BUNDLE) && said.contains("0000"),
            "{said}"
        );
    }
}

#[test]
fn among_plain_files_the_bundle_wins_where_the_others_are_no_newer() {
    let (old, new) = (credential(), credential());
    let mixed = [
        // The chain is new, and nothing else yet; or the bundle is, and nothing else.
        (&new.certificates, &old.key),
        (&old.certificates, &old.key),
    ];
    for (certificates, key) in mixed {
        for bundled in [&old, &new] {
            let dir = tempfile::tempdir().unwrap();
            Credential {
                certificates: certificates.clone(),
                key: key.clone(),
                ..bundled.clone()
            }
            .write(dir.path());
            assert_eq!(serial(&read(dir.path()).unwrap()), bundled.serial());
        }
    }
    // One that is half written is no bundle, though the two files are good.
    let dir = tempfile::tempdir().unwrap();
    old.write(dir.path());
    let half = &old.bundle[..old.bundle.len() / 2];
    std::fs::write(dir.path().join(layout::CREDENTIAL_BUNDLE), half).unwrap();
    assert!(read(dir.path()).is_err());
}

#[test]
fn a_bundle_that_nobody_writes_any_more_gives_way_to_a_newer_pair() {
    let home = Authority::new("example.org");
    let begins = |day| {
        home.issue_bent(ID, |leaf| {
            leaf.not_before = rcgen::date_time_ymd(2026, 11, day);
        })
    };
    let (old, new) = (begins(1), begins(2));
    for (bundle, two, wins) in [(&old, &new, &new), (&new, &old, &new)] {
        let dir = tempfile::tempdir().unwrap();
        Credential {
            bundle: bundle.bundle.clone(),
            ..two.clone()
        }
        .write(dir.path());
        assert_eq!(serial(&read(dir.path()).unwrap()), wins.serial());
    }
}

/// Four pairs, each newer than the one before.
fn line() -> Vec<Credential> {
    let home = Authority::new("example.org");
    let issued = |day| {
        home.issue_bent(ID, |leaf| {
            leaf.not_before = rcgen::date_time_ymd(2026, 11, day);
        })
    };
    (1..=4).map(issued).collect()
}

/// What is in a directory with these two files and this bundle, without second tries.
fn once(certificates: &str, key: &str, bundled: &Credential) -> Result<String, ReadError> {
    let dir = tempfile::tempdir().unwrap();
    Credential {
        certificates: certificates.to_owned(),
        key: key.to_owned(),
        ..bundled.clone()
    }
    .write(dir.path());
    Snapshot::parse(&read_files(dir.path())?).map(|found| serial(&found))
}

#[test]
fn a_bundle_that_was_left_over_does_not_come_back_while_the_two_files_are_rewritten() {
    let line = line();
    let [stale, old, new] = [&line[0], &line[1], &line[2]];
    for (certificates, key) in [
        (&old.certificates, &new.key),
        (&new.certificates, &old.key),
        (&new.certificates, &stale.key),
    ] {
        let error = once(certificates, key, stale).unwrap_err();
        assert!(matches!(error, ReadError::KeyMismatch { .. }), "{error}");
    }
    // The bundle is as old as the two were, or newer: nothing goes back.
    for bundled in [old, new] {
        let found = once(&old.certificates, &new.key, bundled).unwrap();
        assert_eq!(found, bundled.serial());
    }
    // Half written, or not yet, is not passed over.
    for (certificates, key) in [("", &new.key), (&new.certificates, &String::new())] {
        assert!(once(certificates, key, stale).is_err());
    }
    for name in [layout::PRIVATE_KEY, layout::CERTIFICATES] {
        let dir = tempfile::tempdir().unwrap();
        new.write(dir.path());
        std::fs::remove_file(dir.path().join(name)).unwrap();
        let error = Snapshot::parse(&read_files(dir.path()).unwrap()).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
    // Both begin at the same moment: the one that ends later is newer.
    let longer = Authority::new("example.org").issue_bent(ID, |leaf| {
        leaf.not_after = rcgen::date_time_ymd(2026, 12, 2);
    });
    let short = credential();
    for (two, bundled) in [(&short, &longer), (&longer, &short)] {
        let found = once(&two.certificates, &two.key, bundled).unwrap();
        assert_eq!(found, longer.serial());
    }
}

/// The writer's order; a stale bundle is the one that is in none.
#[test]
fn whoever_reads_while_all_three_are_rewritten_never_goes_back_and_never_mixes() {
    let (key, chain, bundle) = (
        layout::PRIVATE_KEY,
        layout::CERTIFICATES,
        layout::CREDENTIAL_BUNDLE,
    );
    let line = line();
    for order in [
        &[key, chain][..],
        &[chain, key],
        &[key, chain, bundle],
        &[chain, key, bundle],
        &[bundle, key, chain],
    ] {
        let dir = tempfile::tempdir().unwrap();
        line[0].write(dir.path());
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut last = 0;
                while !done.load(Ordering::Relaxed) {
                    let files = read_files(dir.path());
                    let Ok(found) = files.and_then(|files| Snapshot::parse(&files)) else {
                        continue;
                    };
                    assert!(found.key().fits(found.chain().leaf()));
                    let found = serial(&found);
                    let now = line.iter().position(|it| it.serial() == found).unwrap();
                    assert!(now >= last, "{order:?}: from {last} back to {now}");
                    last = now;
                }
            });
            for next in &line[1..] {
                for name in order {
                    let content = match *name {
                        layout::PRIVATE_KEY => &next.key,
                        layout::CERTIFICATES => &next.certificates,
                        _ => &next.bundle,
                    };
                    std::fs::write(dir.path().join(name), content).unwrap();
                    // Each state in between is looked at several times.
                    for _ in 0..20 {
                        let files = read_files(dir.path());
                        drop(files.and_then(|files| Snapshot::parse(&files)));
                    }
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        assert_eq!(serial(&read(dir.path()).unwrap()), line[3].serial());
    }
}

#[cfg(unix)]
#[test]
fn in_one_generation_what_is_there_must_agree() {
    let (good, other) = (credential(), credential());
    let swapped = |bundle: String, remove: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        let bent = Credential {
            bundle,
            ..good.clone()
        };
        bent.swap(dir.path(), 1);
        for name in remove {
            std::fs::remove_file(dir.path().join(layout::DATA).join(name)).unwrap();
        }
        read(dir.path())
    };
    let two = [layout::PRIVATE_KEY, layout::CERTIFICATES];
    for remove in [&[][..], &two[..1], &two[1..], &two[..]] {
        let found = swapped(good.bundle.clone(), remove).unwrap();
        assert_eq!(serial(&found), good.serial());
        // The same in other bytes.
        let found = swapped(good.bundle.replace('\n', "\r\n"), remove).unwrap();
        assert_eq!(serial(&found), good.serial());
    }
    for (what, remove) in [("key", &two[1..]), ("chain", &two[..1]), ("key", &[][..])] {
        let error = swapped(other.bundle.clone(), remove).unwrap_err();
        assert!(
            matches!(&error, ReadError::CredentialBundleDiffers { what: said, .. } if *said == what),
            "{error}"
        );
    }
    assert!(swapped(format!("{}{}", other.key, good.certificates), &[]).is_err());
}

#[test]
fn a_bundle_that_is_rewritten_in_place_is_read_whole_or_not_at_all() {
    let pairs = [credential(), credential()];
    let dir = bundle_only(pairs[0].bundle.as_bytes());
    let path = dir.path().join(layout::CREDENTIAL_BUNDLE);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // It may lose the race, and then says so; it must never be wrong.
                let files = read_files(dir.path());
                let Ok(found) = files.and_then(|files| Snapshot::parse(&files)) else {
                    continue;
                };
                assert!(pairs.iter().any(|pair| pair.serial() == serial(&found)));
            }
        });
        for round in 1..=300 {
            std::fs::write(&path, &pairs[round % 2].bundle).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(serial(&read(dir.path()).unwrap()), pairs[0].serial());
}

#[test]
fn credentials_follow_a_bundle() {
    let home = Authority::new("example.org");
    let dir = tempfile::tempdir().unwrap();
    let first = home.issue(ID);
    first.write(dir.path());
    remove_two(dir.path());
    let credentials = Credentials::builder(dir.path())
        .clock(|| NOW.parse().unwrap())
        .open()
        .unwrap();
    assert_eq!(serial(&credentials.current()), first.serial());
    let next = home.issue(ID);
    let part = dir.path().join("part");
    std::fs::write(&part, &next.bundle).unwrap();
    std::fs::rename(part, dir.path().join(layout::CREDENTIAL_BUNDLE)).unwrap();
    credentials.reload().unwrap();
    assert_eq!(serial(&credentials.current()), next.serial());
}
