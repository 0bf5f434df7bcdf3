use certagent_core::config::TrustAnchor;
use serde_json::json;

use super::*;
use crate::{
    cas::lab::{domain, enterprise, now},
    trust::{
        Trust,
        lab::{config, root, root_until, some_roots},
    },
};

const VALIDITY: SignedDuration = SignedDuration::from_hours(1);

fn bundles(all: &[(&str, &[Certificate])]) -> TrustBundles {
    let bundle = |(name, roots): &(&str, &[Certificate])| {
        TrustBundle::new(domain(name), roots.iter().cloned())
    };
    all.iter().map(bundle).collect()
}

fn trust(stores: &[(&str, &[TrustAnchor])]) -> Trust {
    Trust::new(&config(stores).trust)
}

fn pem(root: &Certificate) -> TrustAnchor {
    TrustAnchor::Pem(root.clone())
}

#[test]
fn the_form_is_that_of_the_kind_and_reads_back_as_it_was() {
    let roots = some_roots();
    let all = bundles(&[("b.example", &roots[..2]), ("a.example", &roots[2..3])]);
    let form = form(&all).unwrap();
    assert_eq!(form[0]["trustDomain"], "a.example");
    let pems = json!([{"pemCertificates": [roots[2].to_pem()]}]);
    assert_eq!(form[0]["trustAnchors"], pems);
    assert_eq!(read(&json!({"renderedTrustStores": form})), all);
}

#[test]
fn the_order_in_which_roots_came_to_be_known_changes_nothing() {
    let mut roots = some_roots().to_vec();
    let first = form(&bundles(&[("a.example", &roots)]));
    roots.reverse();
    assert_eq!(form(&bundles(&[("a.example", &roots)])), first);
}

#[test]
fn what_cannot_be_read_is_passed_over() {
    let good = some_roots()[0].to_pem();
    let status = json!({"renderedTrustStores": [
        7,
        {"trustDomain": "Not a domain", "trustAnchors": [{"pemCertificates": [good]}]},
        {"trustDomain": "empty.example", "trustAnchors": []},
        {"trustDomain": "a.example", "trustAnchors": [
            {"pemCertificates": ["nonsense"]}, {"pemCertificates": [good, good]},
        ]},
    ]});
    assert_eq!(read(&status), bundles(&[("a.example", &some_roots()[..1])]));
    assert!(read(&json!({})).is_empty());
    assert!(read(&json!({"renderedTrustStores": "x"})).is_empty());
}

#[test]
fn more_than_an_object_holds_is_not_written() {
    let one = some_roots()[0].clone();
    let domains: Vec<String> = (0..2000).map(|n| format!("d{n}.example")).collect();
    let all = domains
        .iter()
        .map(|name| TrustBundle::new(domain(name), [one.clone()]));
    assert_eq!(form(&all.collect()), None);
}

#[test]
fn roots_in_the_object_stay_while_a_source_has_not_answered() {
    let roots = some_roots();
    let stands = bundles(&[("a.example", &roots[..1])]);
    let away = trust(&[("a.example", &[TrustAnchor::Pool(enterprise())])]);
    let mut renderer = Renderer::new(&stands);
    let later = now() + SignedDuration::from_hours(1000);
    assert_eq!(renderer.render(&away, VALIDITY, now()), stands);
    assert_eq!(renderer.render(&away, VALIDITY, later), stands);
}

#[test]
fn a_root_that_nobody_names_stays_for_one_validity_after_every_anchor_is_known() {
    let roots = some_roots();
    let stands = bundles(&[("a.example", &roots[..1])]);
    let known = trust(&[("a.example", &[pem(&roots[1])])]);
    let mut renderer = Renderer::new(&stands);
    let both = bundles(&[("a.example", &roots[..2])]);
    assert_eq!(renderer.render(&known, VALIDITY, now()), both);
    // The clock is set back: the time counts from there.
    let back = now() - SignedDuration::from_hours(5);
    assert_eq!(renderer.render(&known, VALIDITY, back), both);
    let almost = back + VALIDITY - SignedDuration::from_secs(1);
    assert_eq!(renderer.render(&known, VALIDITY, almost), both);
    let only = bundles(&[("a.example", &roots[1..2])]);
    assert_eq!(renderer.render(&known, VALIDITY, back + VALIDITY), only);
}

#[test]
fn what_was_known_once_goes_when_trust_lets_it_go() {
    let roots = some_roots();
    let mut renderer = Renderer::new(&bundles(&[("a.example", &roots[..2])]));
    let both = trust(&[("a.example", &[pem(&roots[0]), pem(&roots[1])])]);
    renderer.render(&both, VALIDITY, now());
    let one = trust(&[("a.example", &[pem(&roots[1])])]);
    let left = bundles(&[("a.example", &roots[1..2])]);
    assert_eq!(renderer.render(&one, VALIDITY, now()), left);
}

#[test]
fn a_trust_domain_without_anchors_goes_at_once_and_one_without_roots_is_left_out() {
    let roots = some_roots();
    let stands = bundles(&[("a.example", &roots[..1]), ("gone.example", &roots[1..2])]);
    let mut renderer = Renderer::new(&stands);
    let away = [TrustAnchor::Pool(enterprise())];
    let trust = trust(&[("a.example", &[pem(&roots[0])]), ("new.example", &away)]);
    let left = renderer.render(&trust, VALIDITY, now());
    assert_eq!(left, bundles(&[("a.example", &roots[..1])]));
}

#[test]
fn a_root_that_has_ended_goes_though_its_source_is_away() {
    let end = now() + SignedDuration::from_hours(1);
    let (old, young) = (root_until("old", end), root("young"));
    let both = bundles(&[("a.example", &[old, young.clone()])]);
    let away = trust(&[("a.example", &[TrustAnchor::Pool(enterprise())])]);
    let mut renderer = Renderer::new(&both);
    assert_eq!(renderer.render(&away, VALIDITY, now()), both);
    let left = bundles(&[("a.example", &[young])]);
    assert_eq!(renderer.render(&away, VALIDITY, end), left);
}
