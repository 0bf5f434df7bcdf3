use jiff::SignedDuration;

use super::*;

const LOCATION: &str = "projects/p/locations/l";
const ON: Quotas = Quotas::Service { retry_info: false };

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(1_800_000_000_000 + millis).unwrap()
}

fn charge(create: Option<&[(&str, Tier)]>) -> Charge {
    Charge {
        location: LOCATION.to_owned(),
        create: create.map(|cas| {
            cas.iter()
                .map(|(ca, tier)| CaQuota {
                    ca: (*ca).to_owned(),
                    tier: *tier,
                })
                .collect()
        }),
    }
}

/// How many of 1,000 requests pass at one moment.
fn passing(book: &mut QuotaBook, charge: &Charge, now: Timestamp) -> usize {
    (0..1_000)
        .filter(|_| book.charge(charge, now).is_ok())
        .count()
}

#[test]
fn a_ca_has_the_quota_of_its_tier_in_every_second() {
    for (tier, rate) in [(Tier::Enterprise, 7), (Tier::Devops, 25)] {
        let mut book = QuotaBook::new(ON);
        let charge = charge(Some(&[("a", tier)]));
        assert_eq!(passing(&mut book, &charge, at(0)), rate);
        assert_eq!(passing(&mut book, &charge, at(0)), 0);
        assert_eq!(passing(&mut book, &charge, at(1_000)), rate);
        assert_eq!(
            passing(&mut book, &charge, at(60_000)),
            rate,
            "a pause saves up one second's worth"
        );
        assert_eq!(passing(&mut book, &charge, at(60_200)), rate / 5);
    }
}

#[test]
fn requests_that_keep_to_the_rate_are_never_refused() {
    let mut book = QuotaBook::new(ON);
    let charge = charge(Some(&[("a", Tier::Devops)]));
    for n in 0..1_000 {
        assert_eq!(book.charge(&charge, at(n * 40)), Ok(()), "{n}");
    }
    assert_eq!(book.refused(), 0);
}

#[test]
fn a_pool_has_the_sum_of_its_cas_and_a_named_ca_its_own() {
    let mut book = QuotaBook::new(ON);
    let pool = charge(Some(&[("a", Tier::Devops), ("b", Tier::Devops)]));
    let named = charge(Some(&[("a", Tier::Devops)]));
    assert_eq!(passing(&mut book, &pool, at(0)), 50);
    assert_eq!(passing(&mut book, &named, at(0)), 0);
    assert_eq!(passing(&mut book, &named, at(1_000)), 25);
    assert_eq!(passing(&mut book, &pool, at(1_000)), 25, "b is left");
}

#[test]
fn a_location_has_a_quota_however_many_cas_it_has() {
    let mut book = QuotaBook::new(ON);
    let many: Vec<(String, Tier)> = (0..6).map(|n| (n.to_string(), Tier::Devops)).collect();
    let many: Vec<(&str, Tier)> = many.iter().map(|(ca, tier)| (ca.as_str(), *tier)).collect();
    let mut elsewhere = charge(Some(&[("x", Tier::Devops)]));
    elsewhere.location = "projects/p/locations/m".to_owned();
    assert_eq!(passing(&mut book, &charge(Some(&many)), at(0)), 100);
    assert_eq!(passing(&mut book, &elsewhere, at(0)), 25);
    // What the location refused was not charged to the CAs: 50 are left of their 150.
    let mut cas = elsewhere.clone();
    cas.create = charge(Some(&many)).create;
    assert_eq!(passing(&mut book, &cas, at(0)), 50);
}

#[test]
fn all_requests_of_a_location_share_one_quota() {
    let mut book = QuotaBook::new(ON);
    let create = charge(Some(&[("a", Tier::Devops)]));
    assert_eq!(passing(&mut book, &create, at(0)), 25);
    assert_eq!(passing(&mut book, &charge(None), at(0)), 375);
    let refusal = book.charge(&charge(None), at(0)).unwrap_err();
    assert!(
        refusal.error.message.contains("'API requests per minute"),
        "{refusal:?}"
    );
}

#[test]
fn a_refusal_has_googles_words_and_the_wait_if_told_to() {
    let charge = charge(Some(&[("a", Tier::Enterprise)]));
    let mut book = QuotaBook::new(ON);
    passing(&mut book, &charge, at(0));
    let refusal = book.charge(&charge, at(0)).unwrap_err();
    assert_eq!(refusal.retry_after, None);
    let error = refusal.error;
    assert_eq!(error.code.http(), 429);
    let number = project_number("p");
    assert_eq!(
        error.message,
        format!(
            "Quota exceeded for quota metric 'CreateCertificate requests' and limit \
             'CreateCertificate requests per minute per region' of service \
             'privateca.googleapis.com' for consumer 'project_number:{number}'."
        )
    );
    assert_eq!(error.details.len(), 1);
    assert_eq!(error.details[0]["reason"], "RATE_LIMIT_EXCEEDED");
    assert_eq!(error.details[0]["metadata"]["quota_location"], "l");

    book.set(Quotas::Service { retry_info: true });
    assert_eq!(passing(&mut book, &charge, at(0)), 7, "full again");
    let refusal = book.charge(&charge, at(100)).unwrap_err();
    let wait = refusal.retry_after.unwrap();
    assert_eq!(refusal.error.details.len(), 2);
    let then = at(100) + SignedDuration::try_from(wait).unwrap();
    let just_before = then - SignedDuration::from_nanos(1);
    assert!(book.charge(&charge, just_before).is_err());
    assert_eq!(book.charge(&charge, then), Ok(()), "the wait is the truth");
    book.set(Quotas::Off);
    assert_eq!(passing(&mut book, &charge, at(0)), 1_000);
}

#[test]
fn a_clock_that_steps_back_neither_fills_nor_stops_a_quota() {
    let mut book = QuotaBook::new(ON);
    let charge = charge(Some(&[("a", Tier::Devops)]));
    assert_eq!(passing(&mut book, &charge, at(3_600_000)), 25);
    assert_eq!(passing(&mut book, &charge, at(0)), 0);
    assert_eq!(passing(&mut book, &charge, at(1_000)), 25);
}

#[test]
fn made_up_locations_do_not_fill_the_memory() {
    let mut book = QuotaBook::new(ON);
    for n in 0..20_000 {
        let charge = Charge {
            location: format!("projects/p{n}/locations/l"),
            create: None,
        };
        assert_eq!(book.charge(&charge, at(n)), Ok(()));
    }
    assert!(book.buckets.len() <= MANY + 1);
}
