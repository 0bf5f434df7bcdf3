//! `kill -9` at every write point of the main path, and what the next start makes of it, whatever
//! CA Service answers to ids that it knows already.
use certagent::crash::POINTS;
use certagent_credentials::read;
use certagent_emulator::{ReplayForm, Tier};

use crate::{
    program::{Ended, run},
    secrets::Keys,
    site::{Site, read_valid},
};

const SIGKILL: i32 = 9;

/// From this point on the CA has sold the certificate.
const SOLD: &str = "answer-received";
/// From this point on the new certificate is the one in the volume.
const SWAPPED: &str = "swapped";

/// What the agent logs for each certificate that it gives up.
const ABANDONED: &str = "a certificate that the CA may have issued is abandoned";

#[test]
fn a_first_certificate_of_a_devops_pool_survives_a_kill_at_every_write_point() {
    first_certificates(Tier::Devops);
}

#[test]
fn a_first_certificate_of_an_enterprise_pool_survives_a_kill_at_every_write_point() {
    first_certificates(Tier::Enterprise);
}

#[test]
fn a_renewal_by_a_devops_pool_survives_a_kill_at_every_write_point() {
    renewals(Tier::Devops);
}

#[test]
fn a_renewal_by_an_enterprise_pool_survives_a_kill_at_every_write_point() {
    renewals(Tier::Enterprise);
}

#[test]
fn a_start_that_is_killed_while_it_repairs_is_repaired_by_the_next() {
    for (tier, form) in all_services() {
        let mut case = Case::new(tier, form, "every point");
        case.site.provide_due();
        for point in POINTS {
            // Each start takes up what the one before it left, and dies a little later.
            let ended = run(case.site.once().env("CERTAGENT_TEST_KILL_AT", point));
            assert!(
                ended.signal == Some(SIGKILL) || ended.code == Some(0),
                "{point}: {ended:#?}"
            );
            case.count(&ended);
            case.site.read();
        }
        case.repair();
        case.assert_balanced(2);
        assert_eq!(case.abandoned > 0, is_lost(tier, form), "{}", case.name);
    }
}

fn first_certificates(tier: Tier) {
    for (form, point) in forms_and_points() {
        let mut case = Case::new(tier, form, point);
        case.kill_at(point);
        match read(case.site.volume()) {
            Ok(_) => assert!(is_published(point), "{}: published too early", case.name),
            // Readers go through `..data`, so they need no links: once that is there, all is.
            Err(error) => assert!(!is_published(point), "{}: {error}", case.name),
        }
        case.repair();
        case.assert_balanced(1);
        assert_eq!(case.abandoned, lost_at(tier, form, point), "{}", case.name);
        assert_nothing_is_left(&case.site, &case.name);
        if form == HARDEST {
            assert_quiet(&case.site, &case.name);
        }
    }
}

fn renewals(tier: Tier) {
    for (form, point) in forms_and_points() {
        let mut case = Case::new(tier, form, point);
        case.site.provide_due();
        let old = case.site.serial();

        case.kill_at(point);
        // Between the two starts: whole and valid, the old one or the new one.
        let between = case.site.serial();
        assert_eq!(between != old, is_published(point), "{}", case.name);

        case.repair();
        case.assert_balanced(2);
        assert_eq!(case.abandoned, lost_at(tier, form, point), "{}", case.name);
        assert_eq!(case.site.sold()[0], old, "{}", case.name);
        if is_published(point) {
            let now = case.site.serial();
            assert_eq!(between, now, "{}: what was published stays", case.name);
        }
        assert_nothing_is_left(&case.site, &case.name);
        if form == HARDEST {
            assert_quiet(&case.site, &case.name);
        }
    }
}

/// A site with another pool to fall back to, and the book of what its agents gave up.
struct Case {
    site: Site,
    name: String,
    abandoned: usize,
}

impl Case {
    fn new(tier: Tier, form: ReplayForm, point: &str) -> Self {
        let site = Site::with_fallback(tier);
        site.emulator.set_replay_form(form);
        Self {
            site,
            name: format!("{point}, {tier:?}, {}", form.name()),
            abandoned: 0,
        }
    }

    /// A point that is never reached fails the test: then the process ends by itself.
    #[track_caller]
    fn kill_at(&mut self, point: &str) {
        let ended = run(self.site.once().env("CERTAGENT_TEST_KILL_AT", point));
        assert_eq!(
            ended.signal,
            Some(SIGKILL),
            "{} was not reached: {ended:#?}",
            self.name
        );
        self.count(&ended);
        Keys::below(self.site.path()).assert_absent(&(ended.stdout + &ended.stderr));
    }

    /// Starts until there is nothing more to do: once, and once more where the first start learns
    /// that the certificate which was bought cannot be had.
    #[track_caller]
    fn repair(&mut self) {
        let ended = run(&mut self.site.once());
        let lost = self.count(&ended);
        if lost == 0 {
            ended.expect(0);
            return;
        }
        ended.says(&["cannot hand it out again", "it is given up"]);
        let ended = run(&mut self.site.once()).expect(0);
        assert_eq!(self.count(&ended), 0, "{}: {ended:#?}", self.name);
    }

    /// Takes down what an agent gave up.
    fn count(&mut self, ended: &Ended) -> usize {
        let abandoned = ended.stderr.matches(ABANDONED).count();
        self.abandoned += abandoned;
        abandoned
    }

    /// Certificates sold == used + abandoned, the last one is in the volume, and nobody but the
    /// first pool was ever asked.
    #[track_caller]
    fn assert_balanced(&self, used: usize) {
        let sold = self.site.sold();
        assert_eq!(sold.len(), used + self.abandoned, "{}", self.name);
        assert_eq!(sold.last(), Some(&self.site.serial()), "{}", self.name);
        for request in self.site.emulator.create_requests() {
            let pool = request.parent;
            assert!(pool.ends_with("/issuing-pool"), "{}: {pool}", self.name);
        }
    }
}

/// After a certificate is published nothing is sent any more; if it were, this form would show it.
const HARDEST: ReplayForm = ReplayForm::WithoutCertificate;

fn forms_and_points() -> impl Iterator<Item = (ReplayForm, &'static str)> {
    let forms = ReplayForm::ALL.into_iter();
    let all = forms.flat_map(|form| POINTS.iter().map(move |point| (form, *point)));
    all.filter(|(form, point)| *form == HARDEST || !is_published(point))
}

fn all_services() -> impl Iterator<Item = (Tier, ReplayForm)> {
    let tiers = [Tier::Devops, Tier::Enterprise].into_iter();
    tiers.flat_map(|tier| ReplayForm::ALL.map(|form| (tier, form)))
}

/// Only the same certificate again, or a pool that keeps what it issued, gives back what the dead
/// process had bought.
fn is_lost(tier: Tier, form: ReplayForm) -> bool {
    tier == Tier::Devops && form != ReplayForm::SameCertificate
}

/// How many certificates a kill at `point` may cost: the one that was bought and is not yet in the
/// volume, where it cannot be had again.
fn lost_at(tier: Tier, form: ReplayForm, point: &str) -> usize {
    let is_bought = position(point) >= position(SOLD) && !is_published(point);
    usize::from(is_bought && is_lost(tier, form))
}

fn is_published(point: &str) -> bool {
    position(point) >= position(SWAPPED)
}

fn position(point: &str) -> usize {
    let position = POINTS.iter().position(|one| *one == point);
    position.expect("a write point")
}

/// Nothing of a crash is left: no pending key, no half-written generation, one published one.
fn assert_nothing_is_left(site: &Site, case: &str) {
    let pending = std::fs::read_dir(site.state_dir().join("volumes"))
        .expect("a directory")
        .map(|volume| volume.expect("an entry").path().join("pending"));
    for pending in pending.filter(|pending| pending.exists()) {
        let left = std::fs::read_dir(&pending).expect("a directory").count();
        assert_eq!(left, 0, "{case}: a pending request is left");
    }
    for entry in std::fs::read_dir(site.volume()).expect("a directory") {
        let name = entry
            .expect("an entry")
            .file_name()
            .into_string()
            .expect("text");
        let is_torn = ["..data_new", "..data_tmp", "..link_new"].contains(&name.as_str());
        assert!(!is_torn, "{case}: {name} is left");
    }
    for name in certagent_svid::layout::FILES {
        assert!(
            site.volume().join(name).is_file(),
            "{case}: {name} is missing"
        );
    }
}

/// Another start finds nothing to do.
fn assert_quiet(site: &Site, case: &str) {
    let (serial, sold) = (site.serial(), site.sold());
    let generation = read_valid(&site.volume()).generation().map(str::to_owned);
    site.provide();
    assert_eq!(site.serial(), serial, "{case}");
    assert_eq!(
        read_valid(&site.volume()).generation(),
        generation.as_deref(),
        "{case}"
    );
    assert_eq!(
        site.sold(),
        sold,
        "{case}: a certificate that is good is not bought again"
    );
}
