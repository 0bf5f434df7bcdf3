use proptest::prelude::*;
use rcgen::PublicKeyData as _;
use rustls_pki_types::alg_id;
use webpki::ALL_VERIFICATION_ALGS;

use super::{testing::*, *};

#[test]
fn a_good_request_says_all_that_the_rest_needs() {
    let wanted = check(&csr(|_| {})).unwrap();
    assert_eq!(wanted.csr_name(), "certagent-1");
    assert_eq!(wanted.csr_uid(), "b4b2b1a0-0000-4000-8000-000000000001");
    assert_eq!(wanted.node(), NODE);
    assert_eq!(wanted.driver_pod_uid(), "driver-pod");
    assert_eq!(wanted.pod_name(), "cart-0");
    assert_eq!(wanted.pod_uid(), UID);
    assert_eq!(wanted.namespace(), "shop");
    assert_eq!(wanted.service_account(), "cart");
    assert_eq!(wanted.spiffe_id().to_string(), ID);
    assert_eq!(wanted.public_key(), key().subject_public_key_info());
    assert_eq!(wanted.algorithm(), KeyAlgorithm::EcdsaP256);
}

#[test]
fn a0_a_request_for_another_signer_is_no_business_of_ours() {
    for signer in [
        "kubernetes.io/kubelet-serving",
        "",
        "SPIFFE.gke.io/spiffe-leaf-signer",
    ] {
        let mut csr = csr(|_| {});
        csr.signer_name = signer.into();
        assert_eq!(
            check_request(&csr, &settings(), ALL_VERIFICATION_ALGS),
            None
        );
    }
}

#[test]
fn a1_only_the_node_driver_asks() {
    for user in [
        "kubernetes-admin",
        "",
        "system:node:node-1.example.internal",
        "system:serviceaccounts:certagent",
        "system:serviceaccount:certagent:default",
        "system:serviceaccount:certagent:certagent-node2",
        "System:serviceaccount:certagent:certagent-node",
    ] {
        let mut csr = csr(|_| {});
        csr.username = user.into();
        denied(
            &csr,
            Reason::UnknownRequester,
            &format!("\"{user}\" made the request"),
        );
        denied(&csr, Reason::UnknownRequester, REQUESTER);
    }
}

#[test]
fn a2_the_token_names_one_node_and_one_pod() {
    let rows: [(Option<&[&str]>, &str); 4] = [
        (None, "no value"),
        (Some(&[]), "no value"),
        (Some(&[""]), "an empty value"),
        (Some(&[NODE, "node-2"]), "2 values"),
    ];
    for key in [NODE_NAME, POD_UID] {
        for (values, found) in rows {
            let mut csr = csr(|_| {});
            csr.extra.remove(key);
            if let Some(values) = values {
                let values = values.iter().map(|value| (*value).to_owned()).collect();
                csr.extra.insert(key.to_owned(), values);
            }
            denied(&csr, Reason::NoNodeClaim, &format!("{found} for {key}"));
        }
    }
}

#[test]
fn a3_the_usages_are_those_of_a_tls_certificate() {
    let of = |usages: &[&str]| {
        let mut csr = csr(|_| {});
        csr.usages = usages.iter().map(|usage| (*usage).to_owned()).collect();
        csr
    };
    let good = [
        "client auth",
        "key encipherment",
        "server auth",
        "digital signature",
    ];
    check(&of(&good)).unwrap();
    for bad in [
        &[][..],
        &["digital signature", "server auth"],
        &["digital signature", "client auth", "key encipherment"],
        &["server auth", "client auth"],
        &[
            "digital signature",
            "server auth",
            "client auth",
            "cert sign",
        ],
        &[
            "digital signature",
            "server auth",
            "client auth",
            "client auth",
        ],
        &["digital signature", "server auth", "client auth", ""],
        &["Digital Signature", "server auth", "client auth"],
        &["signing", "server auth", "client auth"],
        &[
            "digital signature",
            "server auth",
            "client auth",
            "key encipherment",
            "key encipherment",
        ],
    ] {
        denied(
            &of(bad),
            Reason::UsagesNotAllowed,
            "it has to be \"digital signature\"",
        );
    }
    denied(
        &of(&["any"; 1000]),
        Reason::UsagesNotAllowed,
        "\"any\", 995 more]",
    );
}

#[test]
fn a7_the_annotation_names_a_pod_that_can_be_looked_for() {
    let mut csr = csr(|_| {});
    csr.pod_name = None;
    denied(
        &csr,
        Reason::PodNotFound,
        "no annotation certagent.dev/pod-name",
    );
    let long = "a".repeat(254);
    for name in [
        "",
        "../../secrets/x",
        "Cart-0",
        "cart-0/log",
        "cart-0?x",
        "cart-0\n",
        "-a",
        &long,
    ] {
        csr.pod_name = Some(name.into());
        denied(&csr, Reason::PodNotFound, "No pod was looked for");
    }
}

fn printable(denial: &Denial) -> bool {
    denial.message().len() <= MAX_MESSAGE_BYTES
        && denial
            .message()
            .bytes()
            .all(|byte| byte == b' ' || byte.is_ascii_graphic())
}

proptest! {
    #[test]
    fn whatever_the_request_holds_the_answer_is_a_short_line(bytes in any::<Vec<u8>>()) {
        for request in [bytes.clone(), pem(&bytes).into_bytes()] {
            let denial = check(&csr_of(request)).unwrap_err();
            prop_assert_eq!(denial.reason(), Reason::BadRequest);
            prop_assert!(printable(&denial), "{}", denial);
        }
    }

    // Behind a signature that is always found good, every byte of a request reaches the rules.
    #[test]
    fn no_change_of_a_good_request_panics_or_gives_another_identity(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let ecdsa = Gullible {
            key: alg_id::ECDSA_P256,
            signature: alg_id::ECDSA_SHA256,
        };
        let usage = extension(KEY_USAGE, &[3, 2, 7, 0x80]);
        let mut parts = Parts::default();
        parts.beside(usage);
        let mut der = parts.der();
        for (index, byte) in changes {
            let index = index.index(der.len());
            der[index] = byte;
        }
        if let Some(cut) = cut {
            der.truncate(cut.index(der.len()));
        }
        match check_request(&csr_of(pem(&der)), &settings(), &[&ecdsa]).unwrap() {
            Ok(wanted) => {
                let (namespace, account) = (wanted.namespace(), wanted.service_account());
                let id = format!("spiffe://example.org/ns/{namespace}/sa/{account}");
                prop_assert_eq!(wanted.spiffe_id().to_string(), id);
            }
            Err(denial) => prop_assert!(printable(&denial), "{}", denial),
        }
    }

    #[test]
    fn whatever_the_requester_says_of_itself_the_answer_is_a_short_line(
        username in any::<String>(), usages in any::<Vec<String>>(), node in any::<Vec<String>>(),
        pod_name in any::<Option<String>>(), name in any::<String>(), subject in any::<String>(),
    ) {
        let mut facts = [(); 5].map(|()| csr(|_| {}));
        facts[0].username = username;
        facts[1].usages = usages;
        facts[2].extra.insert(NODE_NAME.to_owned(), node);
        facts[3].pod_name = pod_name;
        facts[4] = csr(|parts| {
            parts.name(&name);
            parts.subject = sequence(&[&set(&[&attribute(COMMON_NAME, &subject)])]);
        });
        for csr in facts {
            if let Err(denial) = check(&csr) {
                prop_assert!(printable(&denial), "{}", denial);
            }
        }
    }
}
