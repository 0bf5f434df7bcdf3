use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::authorities::ca_params;

const NAME: &str = "projects/p/locations/l/caPools/n/certificateAuthorities/a";

fn params(name: &str, path_length: Option<i32>) -> CertificateParams {
    let mut options = json!({ "isCa": true });
    if let Some(length) = path_length {
        options["maxIssuerPathLength"] = json!(length);
    }
    let config = json!({
        "subjectConfig": { "subject": { "commonName": name, "organization": "Example" } },
        "x509Config": { "caOptions": options },
    });
    ca_params(&config).unwrap()
}

fn key() -> CaKeyPair {
    CaKeyPair::generate(CaKey::EcP256).unwrap()
}

fn secs(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn new(key: CaKeyPair, chain: Vec<String>) -> Result<Authority, &'static str> {
    Authority::new(NAME.to_owned(), "0a", key, chain)
}

fn root(lifetime: i64, path_length: Option<i32>) -> Authority {
    let key = key();
    let chain = self_sign(params("root", path_length), &key, secs(lifetime), at(0)).unwrap();
    new(key, chain).unwrap()
}

fn below(above: &Authority, path_length: Option<i32>) -> Result<Authority, &'static str> {
    let key = key();
    let terms = ca_terms(secs(5000), at(10));
    let chain = above
        .sign_ca(params("sub", path_length), &key, terms)
        .unwrap();
    new(key, chain)
}

#[test]
fn a_life_is_backdated_and_cut_to_the_cas() {
    // The CA lives from second 0 to second 1000, exclusively.
    let authority = root(1000, None);
    for (asked, backdate, now, start, length) in [
        (60, 0, 0, 0, 60),
        (60, 0, 940, 940, 60),
        (60, 0, 941, 941, 59),
        (60, 0, 999, 999, 1),
        (60, 50, 500, 450, 60),
        (60, 50, 999, 949, 51),
        (5000, 0, 0, 0, 1000),
        (5000, 100, 0, -100, 1100),
    ] {
        let terms = Terms {
            backdate: secs(backdate),
            ..ca_terms(secs(asked), at(now))
        };
        let life = authority.life(terms).unwrap();
        assert_eq!(life, (at(start), secs(length)), "{asked} {backdate} {now}");
    }
    let error = authority.life(ca_terms(SECOND, at(1000))).unwrap_err();
    assert_eq!(error.code, Code::FailedPrecondition);
}

#[test]
fn a_subordinate_never_outlives_its_root() {
    let root = root(1000, None);
    let sub = below(&root, Some(0)).unwrap();
    assert_eq!(sub.validity(), (at(10), at(999)));
    assert_eq!(sub.chain().len(), 2);
    assert_eq!(sub.chain()[1], root.chain()[0]);
    assert_eq!(sub.descriptions().len(), 2);
    assert_eq!(sub.path_length(), Some(0));
}

#[test]
fn path_lengths_count_down_the_chain() {
    for (top, middle, left) in [
        (None, None, None),
        (None, Some(3), Some(3)),
        (Some(2), None, Some(1)),
        (Some(2), Some(0), Some(0)),
        (Some(1), Some(7), Some(0)),
    ] {
        let middle = below(&root(1000, top), middle).unwrap();
        assert_eq!(middle.path_length(), left, "{top:?}");
    }
    let error = below(&root(1000, Some(0)), None).unwrap_err();
    assert!(error.contains("path length"), "{error}");
}

#[test]
fn a_ca_certificate_must_fit_into_the_path_length() {
    let options = |is_ca: bool, length: Option<i32>| X509Parameters {
        ca_options: Some(crate::wire::CaOptions {
            is_ca: Some(is_ca),
            max_issuer_path_length: length,
        }),
        ..X509Parameters::default()
    };
    for (own, asked, fits) in [
        (None, options(true, Some(5)), true),
        (None, options(true, None), true),
        (Some(2), options(true, Some(1)), true),
        (Some(2), options(true, Some(2)), false),
        (Some(2), options(true, None), true),
        (Some(0), options(true, Some(0)), false),
        (Some(0), options(true, None), false),
        (Some(0), options(false, None), true),
        (Some(0), X509Parameters::default(), true),
    ] {
        let outcome = root(1000, own).check_path(&asked);
        assert_eq!(outcome.is_ok(), fits, "{own:?} {asked:?}");
    }
}

#[test]
fn a_stored_ca_comes_back_and_a_mixed_up_one_does_not() {
    let (one, other) = (root(1000, None), root(1000, None));
    let (one_key, other_key) = (one.issuer.key().clone(), other.issuer.key().clone());
    let back = new(one_key.clone(), one.chain().to_vec()).unwrap();
    assert_eq!(back.validity(), one.validity());
    assert!(!format!("{one:?}").contains("PRIVATE"));

    let sub = below(&one, None).unwrap();
    let sub_key = sub.issuer.key().clone();
    let [own, above] = sub.chain() else {
        unreachable!()
    };
    let text = |pems: &[&String]| pems.iter().map(|pem| (*pem).clone()).collect();
    let leaf = {
        let terms = ca_terms(secs(60), at(10));
        let params = CertificateParams::default();
        one.sign_ca(params, &sub_key, terms).unwrap().remove(0)
    };
    for (key, chain, problem) in [
        (&other_key, text(&[&one.chain()[0]]), "another key"),
        (&one_key, Vec::new(), "empty"),
        (&one_key, vec!["x".to_owned()], "not one certificate"),
        (&sub_key, text(&[own]), "issued by another CA"),
        (&sub_key, text(&[own, own, above]), "issued by another CA"),
        (&sub_key, text(&[own, &other.chain()[0]]), "signature"),
        (&sub_key, text(&[&leaf, above]), "no CA's"),
        (&one_key, text(&[above; 11]), "more than 10"),
    ] {
        let error = new(key.clone(), chain).unwrap_err();
        assert!(error.contains(problem), "{problem}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_certificate_from_outside_makes_it_panic(
        index in 0..2_usize,
        place in 0..600_usize,
        byte in any::<u8>(),
        cut in prop::option::of(0..600_usize),
    ) {
        static SUB: std::sync::OnceLock<(CaKeyPair, Vec<Vec<u8>>)> = std::sync::OnceLock::new();
        let (key, ders) = SUB.get_or_init(|| {
            let sub = below(&root(1000, None), None).unwrap();
            let der = |text: &String| crate::encoding::single_pem(text.as_bytes()).unwrap().1;
            (sub.issuer.key().clone(), sub.chain().iter().map(der).collect())
        });
        let mut ders = ders.clone();
        let changed = &mut ders[index];
        let place = place % changed.len();
        let is_same = changed[place] == byte && cut.is_none_or(|cut| cut >= changed.len());
        changed[place] = byte;
        changed.truncate(cut.unwrap_or(usize::MAX));
        let chain = ders.iter().map(|der| pem("CERTIFICATE", der)).collect();
        let outcome = new(key.clone(), chain);
        prop_assert!(!is_same || outcome.is_ok());
    }
}
