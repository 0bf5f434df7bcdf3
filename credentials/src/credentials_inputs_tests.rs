//! What is opened and what is not, and what the refusals say.
use super::tests::builder;
use crate::fixture::{Authority, Credential, ID, credential};

/// Each bad input, and what the message must have.
#[test]
fn what_cannot_be_opened_says_which_file_and_why() {
    let good = credential();
    let expired = Authority::new("example.org").issue_bent(ID, |leaf| {
        leaf.not_after = rcgen::date_time_ymd(2026, 11, 20);
    });
    let sec1 = "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n";
    let unknown = good.bundles.replace("x509-svid", "x500-svid");
    let bend = |bend: &dyn Fn(&mut Credential)| {
        let mut bent = good.clone();
        bend(&mut bent);
        bent
    };
    let cases: [(Credential, &[&str]); 9] = [
        (bend(&|c| c.key.clear()), &["private_key.pem", "no line"]),
        (
            bend(&|c| c.roots.clear()),
            &["ca_certificates.pem", "no root"],
        ),
        (
            bend(&|c| c.key = credential().key),
            &["private_key.pem", "certificates.pem", "does not belong"],
        ),
        (
            bend(&|c| c.key = sec1.to_owned()),
            &["EC PRIVATE KEY", "openssl pkey -in"],
        ),
        (
            bend(&|c| c.key = sec1.replace("EC ", "RSA ")),
            &["RSA PRIVATE KEY", "openssl pkey -in"],
        ),
        (
            bend(&|c| c.roots.clone_from(&c.certificates)),
            &["ca_certificates.pem", "no CA certificate"],
        ),
        (
            bend(&|c| c.bundles.clone_from(&unknown)),
            &["trust_bundles.json", "name different roots"],
        ),
        (
            bend(&|c| c.certificates.clear()),
            &["certificates.pem", "no certificate"],
        ),
        (expired, &["cart", "ended at 2026-11-20"]),
    ];
    for (bad, said) in cases {
        let dir = tempfile::tempdir().unwrap();
        bad.write(dir.path());
        // The three files of GKE: a bundle would go before two of them.
        std::fs::remove_file(dir.path().join("credential-bundle.pem")).unwrap();
        let error = builder(dir.path()).open().unwrap_err().to_string();
        assert!(error.contains(&dir.path().display().to_string()), "{error}");
        for part in said {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(!error.contains("AAAA"), "{error}");
    }
}

#[test]
fn a_bundle_map_with_an_unknown_type_of_key_is_read_for_the_certificate_speaks() {
    let mut there = credential();
    let bent = there.bundles.replace("\"EC\"", "\"OKP\"");
    assert_ne!(bent, there.bundles);
    there.bundles = bent;
    let dir = tempfile::tempdir().unwrap();
    there.write(dir.path());
    let credentials = builder(dir.path()).open().unwrap();
    assert_eq!(credentials.current().bundles().unwrap().len(), 1);
}

#[test]
fn carriage_returns_and_a_chain_in_another_order_do_no_harm() {
    let mut windows = credential();
    let root = windows.roots.clone();
    windows.certificates = format!("{root}{}", windows.certificates);
    for text in [
        &mut windows.certificates,
        &mut windows.key,
        &mut windows.roots,
    ] {
        *text = text.replace("\r\n", "\n").replace('\n', "\r\n");
    }
    let dir = tempfile::tempdir().unwrap();
    windows.write(dir.path());
    let credentials = builder(dir.path()).open().unwrap();
    let current = credentials.current();
    assert!(
        !current.chain().leaf().is_ca(),
        "the leaf, not the root before it"
    );
    assert_eq!(current.chain().intermediates().len(), 0);
}

#[cfg(unix)]
#[test]
fn a_file_that_this_user_may_not_read_names_the_user_and_the_mode() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    credential().write(dir.path());
    let key = dir.path().join("private_key.pem");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o000)).unwrap();
    let opened = builder(dir.path()).open();
    let uid = rustix::process::geteuid();
    if uid.is_root() {
        assert!(opened.is_ok());
    } else {
        let error = opened.unwrap_err().to_string();
        let uid = format!("uid {}", uid.as_raw());
        assert!(error.contains(&uid) && error.contains("0000"), "{error}");
    }
}

#[test]
fn an_empty_directory_is_told_every_file_that_would_do() {
    let dir = tempfile::tempdir().unwrap();
    let error = builder(dir.path()).open().unwrap_err().to_string();
    for part in [
        "certificates.pem",
        "private_key.pem",
        "credential-bundle.pem",
    ] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_map_without_the_own_domain_is_named_and_so_is_the_domain() {
    let mut there = credential();
    there.bundles = there.bundles.replace("example.org", "example.com");
    let dir = tempfile::tempdir().unwrap();
    there.write(dir.path());
    std::fs::remove_file(dir.path().join("ca_certificates.pem")).unwrap();
    let error = builder(dir.path()).open().unwrap_err().to_string();
    let says = |part| error.contains(part);
    assert!(
        says("trust_bundles.json") && says("for example.org") && !says("ca_certificates"),
        "{error}"
    );
}

#[test]
fn a_root_that_is_none_and_has_no_subject_is_named_by_what_it_has() {
    let home = Authority::new("example.org");
    let nameless = |names: bool| {
        home.issue_bent(ID, |leaf| {
            leaf.distinguished_name = rcgen::DistinguishedName::new();
            if !names {
                leaf.subject_alt_names.clear();
            }
        })
    };
    for (root, named) in [(nameless(true), ID), (nameless(false), "SHA-256 ")] {
        let mut there = credential();
        there.roots = root.certificates;
        let dir = tempfile::tempdir().unwrap();
        there.write(dir.path());
        let error = builder(dir.path()).open().unwrap_err().to_string();
        assert!(
            error.contains(named) && error.contains("no CA certificate"),
            "{error}"
        );
    }
}

#[cfg(unix)]
#[test]
fn a_link_to_itself_is_no_link_that_a_generation_must_not_have() {
    let dir = tempfile::tempdir().unwrap();
    credential().write(dir.path());
    let key = dir.path().join("private_key.pem");
    std::fs::remove_file(&key).unwrap();
    std::os::unix::fs::symlink("private_key.pem", &key).unwrap();
    std::fs::remove_file(dir.path().join("credential-bundle.pem")).unwrap();
    let error = builder(dir.path()).open().unwrap_err().to_string();
    assert!(error.contains("leads back to itself"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_directory_above_that_may_not_be_entered_is_named_with_the_user() {
    use std::os::unix::fs::PermissionsExt as _;
    let above = tempfile::tempdir().unwrap();
    let dir = above.path().join("volume");
    std::fs::create_dir(&dir).unwrap();
    credential().write(&dir);
    let mode = |mode| {
        std::fs::set_permissions(above.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(0o000);
    let opened = builder(&dir).open();
    mode(0o700);
    let uid = rustix::process::geteuid();
    if uid.is_root() {
        assert!(opened.is_ok());
    } else {
        let error = opened.unwrap_err().to_string();
        let above = format!("enter {}: ", above.path().display());
        let uid = format!("uid {}", uid.as_raw());
        assert!(error.contains(&above) && error.contains(&uid), "{error}");
    }
}
