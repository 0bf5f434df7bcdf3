use super::{Claimed, Reason, claimed, testing::*};

#[test]
fn whose_a_request_is_can_be_read_without_a_judgement() {
    let good = csr(|_| {});
    let expected = Claimed {
        pod_uid: UID.to_owned(),
        uri: ID.to_owned(),
    };
    assert_eq!(claimed(&good.request), Some(expected));
    let other = csr(|parts| parts.subject = sequence(&[]));
    assert_eq!(claimed(&other.request), None);
    assert_eq!(claimed(b"-----BEGIN"), None);
}

#[test]
fn a5_the_subject_is_the_pods_uid_and_nothing_else() {
    let uid = attribute(COMMON_NAME, UID);
    let name = |attributes: &[&[u8]]| sequence(&[&set(attributes)]);
    let rows = [
        (sequence(&[]), "another subject than CN="),
        (name(&[]), "another subject"),
        (
            sequence(&[&set(&[&uid]), &set(&[&uid])]),
            "2 relative names in its subject",
        ),
        (name(&[&uid, &uid]), "2 attributes in its subject"),
        (
            name(&[&attribute("2.5.4.10", UID)]),
            "without a common name",
        ),
        (
            name(&[&attribute(COMMON_NAME, "cart")]),
            "common name \"cart\"",
        ),
        (
            name(&[&attribute(COMMON_NAME, &UID.to_uppercase())]),
            "not the UID of a pod",
        ),
        (
            name(&[&attribute(COMMON_NAME, &UID.replace('-', ""))]),
            "not the UID of a pod",
        ),
        (
            name(&[&attribute(COMMON_NAME, &format!("{{{UID}}}"))]),
            "not the UID of a pod",
        ),
        (
            name(&[&attribute(COMMON_NAME, "\u{1b}[31m\n")]),
            r#""\u{1b}[31m\n""#,
        ),
        (
            name(&[&sequence(&[&oid(COMMON_NAME), &tlv(0x0c, &[&[0xff]])])]),
            "another subject",
        ),
        (
            name(&[&sequence(&[
                &oid(COMMON_NAME),
                &tlv(0x04, &[UID.as_bytes()]),
            ])]),
            "another",
        ),
    ];
    for (subject, snippet) in rows {
        denied(
            &csr(|parts| parts.subject = subject),
            Reason::NamesNotAllowed,
            snippet,
        );
    }
}

#[test]
fn a5_there_is_one_name_and_it_is_a_uri() {
    let ip = tlv(0x87, &[&[10, 0, 0, 1]]);
    for (extensions, snippet) in [
        (vec![], "no subject alternative name"),
        (vec![san(&[])], "asks for 0 subject alternative names"),
        (vec![san(&[dns("cart.shop")])], "no URI"),
        (
            vec![san(&[uri(ID), dns("cart.shop")])],
            "asks for 2 subject alternative names, 1 of them",
        ),
        (vec![san(&[dns("cart.shop"), uri(ID)])], "1 of them URIs"),
        (vec![san(&[uri(ID), ip])], "asks for 2"),
        (
            vec![san(&[uri(ID), uri(ID)])],
            "asks for 2 subject alternative names, 2 of them",
        ),
        (
            vec![san(&[uri(ID)]), san(&[uri(ID)])],
            "the extension \"2.5.29.17\" twice",
        ),
        (vec![extension(SUBJECT_ALT_NAME, &[])], "do not parse"),
        (vec![extension(SUBJECT_ALT_NAME, &uri(ID))], "do not parse"),
        (vec![san(&[tlv(0x86, &[&[0xff]])])], "no URI"),
    ] {
        let csr = csr(|parts| parts.extensions(&extensions));
        denied(&csr, Reason::NamesNotAllowed, snippet);
    }
}

#[test]
fn a5_only_four_extensions_may_be_asked_for_and_none_that_says_more_than_a_leaf() {
    let server = oid("1.3.6.1.5.5.7.3.1");
    let code = oid("1.3.6.1.5.5.7.3.3");
    for (beside, snippet) in [
        (
            extension("2.5.29.30", &[0x30, 0]),
            "asks for the extension \"2.5.29.30\"",
        ),
        (
            extension("2.5.29.14", &[4, 1, 0]),
            "asks for the extension \"2.5.29.14\"",
        ),
        (
            extension(KEY_USAGE, &[3, 2, 2, 0x84]),
            "digitalSignature and keyEncipherment",
        ),
        (
            extension(KEY_USAGE, &[3, 2, 1, 0x82]),
            "asks for a key usage beyond",
        ),
        (
            extension(KEY_USAGE, &[3, 2, 6, 0x40]),
            "asks for a key usage beyond",
        ),
        (
            extension(KEY_USAGE, &[3, 3, 7, 0x80, 0x80]),
            "asks for a key usage beyond",
        ),
        (extension(KEY_USAGE, &[]), "asks for a key usage beyond"),
        (
            extension(EXTENDED_KEY_USAGE, &sequence(&[&server, &code])),
            "beyond serverAuth and clientAuth",
        ),
        (
            extension(EXTENDED_KEY_USAGE, &sequence(&[])),
            "beyond serverAuth and clientAuth",
        ),
        (
            extension(EXTENDED_KEY_USAGE, &[5, 0]),
            "beyond serverAuth and clientAuth",
        ),
        (
            extension(BASIC_CONSTRAINTS, &[0x30, 3, 1, 1, 0xff]),
            "other than CA:false",
        ),
        (
            extension(BASIC_CONSTRAINTS, &[0x30, 3, 2, 1, 0]),
            "other than CA:false",
        ),
        (extension(BASIC_CONSTRAINTS, &[]), "other than CA:false"),
        (
            sequence(&[&oid(KEY_USAGE)]),
            "requested extensions that do not parse",
        ),
    ] {
        let csr = csr(|parts| parts.beside(beside));
        denied(&csr, Reason::NamesNotAllowed, snippet);
    }
    let usage = extension(KEY_USAGE, &[3, 2, 7, 0x80]);
    let twice = csr(|parts| parts.extensions(&[san(&[uri(ID)]), usage.clone(), usage.clone()]));
    denied(
        &twice,
        Reason::NamesNotAllowed,
        "the extension \"2.5.29.15\" twice",
    );
}

#[test]
fn a5_the_only_attribute_is_one_extension_request() {
    let good = request(&[san(&[uri(ID)])]);
    let other = request(&[san(&[uri("spiffe://example.org/ns/bank/sa/vault")])]);
    let list = sequence(&[&san(&[uri(ID)])]);
    let password = sequence(&[
        &oid("1.2.840.113549.1.9.7"),
        &set(&[&tlv(0x0c, &[b"secret"])]),
    ]);
    for (attributes, snippet) in [
        (vec![], "no subject alternative name"),
        (
            vec![good.clone(), other],
            "2 attributes that request extensions",
        ),
        (
            vec![good.clone(), password.clone()],
            "the attribute \"1.2.840.113549.1.9.7\"",
        ),
        (
            vec![password, good.clone()],
            "only an extension request is allowed",
        ),
        (
            vec![sequence(&[&oid(EXTENSION_REQUEST), &set(&[&list, &list])])],
            "2 lists of requested extensions",
        ),
        (
            vec![sequence(&[&oid(EXTENSION_REQUEST), &set(&[])])],
            "do not parse",
        ),
        (
            vec![sequence(&[&oid(EXTENSION_REQUEST)])],
            "an attribute that does not parse",
        ),
        (vec![set(&[])], "an attribute that does not parse"),
    ] {
        let csr = csr(|parts| parts.attributes = attributes);
        denied(&csr, Reason::NamesNotAllowed, snippet);
    }
}
