//! `kill -9` at every write point of the main path, and what the next start makes of it.
use certagent::crash::POINTS;
use certagent_credentials::read;

use crate::{
    program::run,
    secrets::Keys,
    site::{Site, read_valid},
};

const SIGKILL: i32 = 9;

/// From this point on the new certificate is the one in the volume.
const SWAPPED: &str = "swapped";

#[test]
fn a_first_certificate_survives_a_kill_at_every_write_point_and_is_bought_once() {
    for point in POINTS {
        let site = Site::new();
        killed_at(&site, point);
        match read(&site.volume()) {
            Ok(_) => assert!(is_published(point), "{point}: published too early"),
            // Readers go through `..data`, so they need no links: once that is there, all is.
            Err(error) => assert!(!is_published(point), "{point}: {error}"),
        }

        site.provide();
        let sold = site.sold();
        assert_eq!(
            sold.len(),
            1,
            "{point}: sold == used, and none was abandoned"
        );
        assert_eq!(site.serial(), sold[0], "{point}");
        assert_nothing_is_left(&site, point);
        assert_quiet(&site, point);
    }
}

#[test]
fn a_renewal_survives_a_kill_at_every_write_point_and_a_valid_credential_is_always_there() {
    for point in POINTS {
        let site = Site::new();
        site.provide_due();
        let old = site.serial();

        killed_at(&site, point);
        // Between the two starts: whole and valid, the old one or the new one.
        let between = site.serial();
        assert_eq!(between != old, is_published(point), "{point}");

        site.provide();
        let sold = site.sold();
        assert_eq!(
            sold.len(),
            2,
            "{point}: one first, one renewal, none abandoned"
        );
        assert_eq!(sold[0], old, "{point}");
        assert_eq!(site.serial(), sold[1], "{point}");
        if is_published(point) {
            assert_eq!(between, sold[1], "{point}: what was published stays");
        }
        assert_nothing_is_left(&site, point);
        assert_quiet(&site, point);
    }
}

#[test]
fn a_start_that_is_killed_while_it_repairs_is_repaired_by_the_next() {
    let site = Site::new();
    site.provide_due();
    for point in POINTS {
        // Each start takes up what the one before it left, and dies a little later.
        let ended = run(site.once().env("CERTAGENT_TEST_KILL_AT", point));
        assert!(
            ended.signal == Some(SIGKILL) || ended.code == Some(0),
            "{point}: {ended:#?}"
        );
        site.read();
    }
    site.provide();
    assert_eq!(site.sold().len(), 2, "one first, one renewal");
    assert_eq!(site.serial(), site.sold()[1]);
}

/// A point that is never reached fails the test: then the process ends by itself.
#[track_caller]
fn killed_at(site: &Site, point: &str) {
    let ended = run(site.once().env("CERTAGENT_TEST_KILL_AT", point));
    assert_eq!(
        ended.signal,
        Some(SIGKILL),
        "{point} was not reached: {ended:#?}"
    );
    Keys::below(site.path()).assert_absent(&(ended.stdout + &ended.stderr));
}

fn is_published(point: &str) -> bool {
    let index = |name| POINTS.iter().position(|one| *one == name);
    index(point) >= index(SWAPPED)
}

/// Nothing of a crash is left: no pending key, no half-written generation, one published one.
fn assert_nothing_is_left(site: &Site, point: &str) {
    let pending = std::fs::read_dir(site.state_dir().join("volumes"))
        .expect("a directory")
        .map(|volume| volume.expect("an entry").path().join("pending"));
    for pending in pending.filter(|pending| pending.exists()) {
        let left = std::fs::read_dir(&pending).expect("a directory").count();
        assert_eq!(left, 0, "{point}: a pending request is left");
    }
    for entry in std::fs::read_dir(site.volume()).expect("a directory") {
        let name = entry
            .expect("an entry")
            .file_name()
            .into_string()
            .expect("text");
        let is_torn = ["..data_new", "..data_tmp", "..link_new"].contains(&name.as_str());
        assert!(!is_torn, "{point}: {name} is left");
    }
    for name in certagent_svid::layout::FILES {
        assert!(
            site.volume().join(name).is_file(),
            "{point}: {name} is missing"
        );
    }
}

/// Another start finds nothing to do.
fn assert_quiet(site: &Site, point: &str) {
    let (serial, sold) = (site.serial(), site.sold());
    let generation = read_valid(&site.volume()).generation().map(str::to_owned);
    site.provide();
    assert_eq!(site.serial(), serial, "{point}");
    assert_eq!(
        read_valid(&site.volume()).generation(),
        generation.as_deref(),
        "{point}"
    );
    assert_eq!(
        site.sold(),
        sold,
        "{point}: a certificate that is good is not bought again"
    );
}
