use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;
use crate::testing::{Ca, key, now, pem, validity};

/// A root, two subordinates below each other, and a leaf.
struct Family {
    root: Ca,
    upper: Ca,
    lower: Ca,
    leaf: Certificate,
}

fn family() -> Family {
    let root = Ca::root("Root");
    let upper = root.subordinate("Upper");
    let lower = upper.subordinate("Lower");
    let leaf = lower.leaf();
    Family {
        root,
        upper,
        lower,
        leaf,
    }
}

impl Family {
    fn parse(certificates: &[&Certificate]) -> Result<Chain, ChainError> {
        Chain::parse_pem(pem(certificates).as_bytes())
    }

    fn assert_is(&self, chain: &Chain) {
        assert_eq!(chain.leaf(), &self.leaf);
        assert_eq!(
            chain.intermediates(),
            [
                self.lower.certificate.clone(),
                self.upper.certificate.clone()
            ]
        );
        assert_eq!(
            chain.to_pem(),
            pem(&[&self.leaf, &self.lower.certificate, &self.upper.certificate])
        );
    }
}

#[test]
fn a_chain_in_order_stays_as_it_is() {
    let all = family();
    let chain =
        Family::parse(&[&all.leaf, &all.lower.certificate, &all.upper.certificate]).unwrap();
    all.assert_is(&chain);
    assert!(!chain.was_repaired());
}

#[test]
fn a_leaf_alone_is_a_chain() {
    let leaf = Ca::root("Root").leaf();
    let chain = Family::parse(&[&leaf]).unwrap();
    assert_eq!(chain.leaf(), &leaf);
    assert!(chain.intermediates().is_empty());
    assert_eq!(chain.earliest_not_after(), leaf.not_after());
}

#[test]
fn a_reversed_or_shuffled_chain_is_put_right_and_says_so() {
    let all = family();
    let (leaf, lower, upper) = (&all.leaf, &all.lower.certificate, &all.upper.certificate);
    for order in [
        [upper, lower, leaf],
        [leaf, upper, lower],
        [lower, leaf, upper],
    ] {
        let chain = Family::parse(&order).unwrap();
        all.assert_is(&chain);
        assert!(chain.was_repaired());
    }
}

#[test]
fn a_root_is_dropped_and_that_is_no_repair() {
    let all = family();
    let (leaf, lower, upper) = (&all.leaf, &all.lower.certificate, &all.upper.certificate);
    let root = &all.root.certificate;
    let chain = Family::parse(&[leaf, lower, upper, root]).unwrap();
    all.assert_is(&chain);
    assert!(!chain.was_repaired());
    let chain = Family::parse(&[root, upper, lower, leaf]).unwrap();
    all.assert_is(&chain);
    assert!(chain.was_repaired());
}

#[test]
fn duplicates_are_dropped_the_leaf_s_too() {
    let all = family();
    let (leaf, lower, upper) = (&all.leaf, &all.lower.certificate, &all.upper.certificate);
    let chain = Family::parse(&[leaf, leaf, lower, lower, upper, leaf]).unwrap();
    all.assert_is(&chain);
    assert!(!chain.was_repaired());
}

#[test]
fn crlf_and_text_between_the_blocks_do_not_matter() {
    let all = family();
    let text = format!(
        "0 s: i:CN = Lower\n{}\n1 s:CN = Lower\n{}{}",
        all.leaf.to_pem(),
        all.lower.certificate.to_pem(),
        all.upper.certificate.to_pem(),
    );
    let chain = Chain::parse_pem(text.replace('\n', "\r\n").as_bytes()).unwrap();
    all.assert_is(&chain);
    assert!(!chain.to_pem().contains('\r'));
}

#[test]
fn an_empty_text_is_no_chain() {
    assert_eq!(Chain::parse_pem(b""), Err(ChainError::Empty));
    assert_eq!(Chain::parse_pem(b"hello"), Err(ChainError::Empty));
    let key = key().serialize_pem();
    assert_eq!(Chain::parse_pem(key.as_bytes()), Err(ChainError::Empty));
}

#[test]
fn a_broken_certificate_is_named() {
    let text = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    assert!(matches!(
        Chain::parse_pem(text.as_bytes()),
        Err(ChainError::Certificate(CertificateError::Der {
            position: 1,
            ..
        }))
    ));
}

#[test]
fn a_chain_of_more_than_ten_is_refused() {
    let mut cas = vec![Ca::root("CA 0")];
    for depth in 1..=MAX_CHAIN {
        let next = cas.last().unwrap().subordinate(&format!("CA {depth}"));
        cas.push(next);
    }
    let leaf = cas.last().unwrap().leaf();
    let subordinates = cas.iter().rev().map(|ca| ca.certificate.clone());
    let all: Vec<Certificate> = std::iter::once(leaf).chain(subordinates).collect();
    assert_eq!(
        Chain::order(all[..=MAX_CHAIN].to_vec()),
        Err(ChainError::TooLong {
            length: MAX_CHAIN + 1
        })
    );
    assert_eq!(
        Chain::order(all[..MAX_CHAIN].to_vec())
            .unwrap()
            .intermediates()
            .len(),
        MAX_CHAIN - 1
    );
}

#[test]
fn two_leaves_are_refused() {
    let all = family();
    let other = all.lower.leaf();
    assert_eq!(
        Family::parse(&[&all.leaf, &other, &all.lower.certificate]),
        Err(ChainError::Leaves { count: 2 })
    );
}

#[test]
fn a_certificate_off_the_path_is_refused_by_its_name() {
    let all = family();
    let stray = Ca::root("Elsewhere").subordinate("Stray");
    for order in [
        [&all.leaf, &all.lower.certificate, &stray.certificate],
        [&stray.certificate, &all.leaf, &all.lower.certificate],
    ] {
        assert_eq!(
            Family::parse(&order),
            Err(ChainError::Stray {
                subject: "CN=Stray".to_owned()
            })
        );
    }
}

#[test]
fn a_hole_in_the_chain_makes_what_is_above_it_stray() {
    let all = family();
    assert_eq!(
        Family::parse(&[&all.leaf, &all.upper.certificate]),
        Err(ChainError::Stray {
            subject: "CN=Upper".to_owned()
        })
    );
}

#[test]
fn of_two_cas_with_one_name_the_one_with_the_right_key_is_taken() {
    let root = Ca::root("Root");
    let (one, two) = (root.subordinate("Issuing"), root.subordinate("Issuing"));
    for (own, other) in [(&one, &two), (&two, &one)] {
        let leaf = own.leaf();
        let chain = Family::parse(&[&leaf, &own.certificate]).unwrap();
        assert_eq!(
            chain.intermediates(),
            std::slice::from_ref(&own.certificate)
        );
        // The look-alike is on nobody's path, wherever it stands.
        for order in [
            [&leaf, &own.certificate, &other.certificate],
            [&leaf, &other.certificate, &own.certificate],
        ] {
            assert!(matches!(
                Family::parse(&order),
                Err(ChainError::Stray { .. })
            ));
        }
    }
}

#[test]
fn a_list_of_nothing_but_cas_has_its_first_for_a_leaf() {
    let all = family();
    let chain = Family::parse(&[&all.lower.certificate, &all.upper.certificate]).unwrap();
    assert_eq!(chain.leaf(), &all.lower.certificate);
    assert!(!chain.was_repaired());
}

#[test]
fn two_cas_that_name_each_other_make_no_endless_chain() {
    let hen = Ca::root("Egg").subordinate_with("Hen", without_key_ids);
    let egg = Ca::root("Hen").subordinate_with("Egg", without_key_ids);
    let leaf = hen.leaf_with(without_key_ids);
    let chain = Family::parse(&[&leaf, &hen.certificate, &egg.certificate]).unwrap();
    assert_eq!(chain.intermediates().len(), 2);
}

fn without_key_ids(params: &mut rcgen::CertificateParams) {
    params.use_authority_key_identifier_extension = false;
}

#[test]
fn the_first_certificate_to_end_ends_the_chain() {
    let root = Ca::root("Root");
    let hour = jiff::SignedDuration::from_hours(1);
    let short = root.subordinate_with("Short", |params| {
        validity(params, now() - hour, now() + hour);
    });
    let leaf = short.leaf();
    let chain = Family::parse(&[&leaf, &short.certificate]).unwrap();
    assert_eq!(chain.earliest_not_after(), now() + hour);
    assert!(leaf.not_after() > now() + hour);
}

proptest! {
    #[test]
    fn any_order_gives_the_same_chain(picks in vec(any::<Index>(), 0..7)) {
        static FAMILY: std::sync::LazyLock<Family> = std::sync::LazyLock::new(family);
        let all = [
            &FAMILY.leaf,
            &FAMILY.lower.certificate,
            &FAMILY.upper.certificate,
            &FAMILY.root.certificate,
        ];
        // All four at least once, in an order that the picks turn over, and some of them twice.
        let mut order: Vec<Certificate> = all.map(Clone::clone).to_vec();
        for pick in picks {
            let index = pick.index(order.len());
            let certificate = order[index].clone();
            order.insert(0, certificate);
        }
        let chain = Chain::order(order).unwrap_or_else(|error| panic!("{error}"));
        FAMILY.assert_is(&chain);
    }

    #[test]
    fn no_text_panics_the_parser(text in any::<Vec<u8>>()) {
        drop(Chain::parse_pem(&text));
    }
}
