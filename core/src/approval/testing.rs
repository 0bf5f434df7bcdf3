//! Requests for this module's tests: a good one, and its parts to be twisted one by one.
use std::sync::OnceLock;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use certagent_svid::TrustDomain;
use pkcs8::der::{Encode as _, asn1::ObjectIdentifier};
use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};
use rustls_pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm};
use webpki::ALL_VERIFICATION_ALGS;

use super::{
    CsrFacts, Denial, NODE_NAME, POD_UID, PodFacts, Reason, Settings, Wanted, check_request,
};

pub(super) const ID: &str = "spiffe://example.org/ns/shop/sa/cart";
pub(super) const UID: &str = "3f1c7a52-8d0e-4b6f-9a21-5c4d3e2f1a0b";
pub(super) const NODE: &str = "node-1.example.internal";
pub(super) const REQUESTER: &str = "system:serviceaccount:certagent:certagent-node";

pub(super) const SUBJECT_ALT_NAME: &str = "2.5.29.17";
pub(super) const KEY_USAGE: &str = "2.5.29.15";
pub(super) const EXTENDED_KEY_USAGE: &str = "2.5.29.37";
pub(super) const BASIC_CONSTRAINTS: &str = "2.5.29.19";
pub(super) const EXTENSION_REQUEST: &str = "1.2.840.113549.1.9.14";
pub(super) const COMMON_NAME: &str = "2.5.4.3";

pub(super) fn settings() -> Settings {
    Settings {
        signer_name: "spiffe.gke.io/spiffe-leaf-signer".into(),
        requester: REQUESTER.into(),
        driver_name: "workloadcertificates.security.cloud.google.com".into(),
        trust_domain: TrustDomain::new("example.org").unwrap(),
    }
}

/// A request that every rule accepts, but for the twist of its PKCS#10 request.
pub(super) fn csr(twist: impl FnOnce(&mut Parts)) -> CsrFacts {
    let mut parts = Parts::default();
    twist(&mut parts);
    csr_of(parts.pem())
}

/// A request that every rule accepts, if they accept this PKCS#10 request.
pub(super) fn csr_of(pem: impl Into<Vec<u8>>) -> CsrFacts {
    CsrFacts {
        name: "certagent-1".into(),
        uid: "b4b2b1a0-0000-4000-8000-000000000001".into(),
        pod_name: Some("cart-0".into()),
        signer_name: settings().signer_name,
        username: REQUESTER.into(),
        extra: [(NODE_NAME, NODE), (POD_UID, "driver-pod")]
            .map(|(key, value)| (key.to_owned(), vec![value.to_owned()]))
            .into(),
        usages: ["digital signature", "server auth", "client auth"]
            .map(str::to_owned)
            .into(),
        request: pem.into(),
    }
}

/// The pod of that request, as every rule accepts it.
pub(super) fn pod() -> PodFacts {
    PodFacts {
        namespace: "shop".into(),
        name: "cart-0".into(),
        uid: UID.into(),
        node_name: NODE.into(),
        service_account: "cart".into(),
        phase: "Pending".into(),
        is_mirror: false,
        csi_drivers: vec!["other.example.com".into(), settings().driver_name],
    }
}

/// The first half of the table.
pub(super) fn check(csr: &CsrFacts) -> Result<Wanted, Denial> {
    check_request(csr, &settings(), ALL_VERIFICATION_ALGS).expect("the signer is ours")
}

/// The parts of a PKCS#10 request, each as DER.
pub(super) struct Parts {
    pub(super) version: Vec<u8>,
    pub(super) subject: Vec<u8>,
    pub(super) public_key: Vec<u8>,
    pub(super) attributes: Vec<Vec<u8>>,
    /// Changed after it was made.
    pub(super) signature: fn(&mut Vec<u8>),
}

impl Default for Parts {
    fn default() -> Self {
        Self {
            version: tlv(0x02, &[&[0]]),
            subject: sequence(&[&set(&[&attribute(COMMON_NAME, UID)])]),
            public_key: key().subject_public_key_info(),
            attributes: vec![request(&[san(&[uri(ID)])])],
            signature: |_| {},
        }
    }
}

impl Parts {
    /// The request asks for these extensions.
    pub(super) fn extensions(&mut self, extensions: &[Vec<u8>]) {
        self.attributes = vec![request(extensions)];
    }

    /// The request asks for this extension beside the name.
    pub(super) fn beside(&mut self, extension: Vec<u8>) {
        self.extensions(&[san(&[uri(ID)]), extension]);
    }

    /// The request asks for this one name.
    pub(super) fn name(&mut self, text: &str) {
        self.extensions(&[san(&[uri(text)])]);
    }

    pub(super) fn der(&self) -> Vec<u8> {
        let attributes: Vec<&[u8]> = self.attributes.iter().map(Vec::as_slice).collect();
        let info = sequence(&[
            &self.version,
            &self.subject,
            &self.public_key,
            &tlv(0xa0, &attributes),
        ]);
        let mut signature = key().sign(&info).unwrap();
        (self.signature)(&mut signature);
        let algorithm = sequence(&[&oid("1.2.840.10045.4.3.2")]);
        sequence(&[&info, &algorithm, &tlv(0x03, &[&[0], &signature])])
    }

    pub(super) fn pem(&self) -> String {
        pem(&self.der())
    }
}

/// The key of all requests: a request is bound to its key by its signature alone.
pub(super) fn key() -> &'static KeyPair {
    static KEY: OnceLock<KeyPair> = OnceLock::new();
    KEY.get_or_init(|| KeyPair::generate().unwrap())
}

pub(super) fn pem(der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let lines: Vec<&str> = base64
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
        lines.join("\n")
    )
}

/// One DER element, its length in the shortest form.
pub(super) fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let value = parts.concat();
    let mut element = vec![tag];
    match value.len() {
        short @ 0..=0x7f => element.push(u8::try_from(short).unwrap()),
        long => {
            let bytes = long.to_be_bytes();
            let start = bytes.iter().position(|byte| *byte != 0).unwrap();
            element.push(0x80 | u8::try_from(bytes.len() - start).unwrap());
            element.extend(&bytes[start..]);
        }
    }
    element.extend(value);
    element
}

pub(super) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, parts)
}

pub(super) fn set(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x31, parts)
}

pub(super) fn oid(text: &str) -> Vec<u8> {
    ObjectIdentifier::new_unwrap(text).to_der().unwrap()
}

/// One attribute of a distinguished name.
pub(super) fn attribute(kind: &str, value: &str) -> Vec<u8> {
    sequence(&[&oid(kind), &tlv(0x0c, &[value.as_bytes()])])
}

/// The attribute that requests these extensions.
pub(super) fn request(extensions: &[Vec<u8>]) -> Vec<u8> {
    let extensions: Vec<&[u8]> = extensions.iter().map(Vec::as_slice).collect();
    sequence(&[&oid(EXTENSION_REQUEST), &set(&[&sequence(&extensions)])])
}

pub(super) fn extension(id: &str, value: &[u8]) -> Vec<u8> {
    sequence(&[&oid(id), &tlv(0x04, &[value])])
}

pub(super) fn san(names: &[Vec<u8>]) -> Vec<u8> {
    let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
    extension(SUBJECT_ALT_NAME, &sequence(&names))
}

pub(super) fn uri(text: &str) -> Vec<u8> {
    tlv(0x86, &[text.as_bytes()])
}

pub(super) fn dns(text: &str) -> Vec<u8> {
    tlv(0x82, &[text.as_bytes()])
}

/// The request is denied for this reason, with these words.
pub(super) fn denied(csr: &CsrFacts, reason: Reason, snippet: &str) {
    let denial = check(csr).unwrap_err();
    assert_eq!(denial.reason(), reason, "{}", denial.message());
    assert!(
        denial.message().contains(snippet),
        "no \"{snippet}\" in: {}",
        denial.message()
    );
}

/// An algorithm that finds every signature good.
#[derive(Debug)]
pub(super) struct Gullible {
    pub(super) key: AlgorithmIdentifier,
    pub(super) signature: AlgorithmIdentifier,
}

impl SignatureVerificationAlgorithm for Gullible {
    fn verify_signature(&self, _: &[u8], _: &[u8], _: &[u8]) -> Result<(), InvalidSignature> {
        Ok(())
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.key
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.signature
    }
}
