//! May this certificate be signed? The table of rules for the `CertificateSigningRequest`s of the
//! node driver, without a cluster: facts in, approval or denial out.
//!
//! | rule | what has to hold | else |
//! |---|---|---|
//! | A0 | the signer is ours | nothing: somebody else's request |
//! | A1 | the node driver's service account asks | [`Reason::UnknownRequester`] |
//! | A2 | its token is bound to a node and a pod | [`Reason::NoNodeClaim`] |
//! | A3 | the usages are those of a TLS certificate | [`Reason::UsagesNotAllowed`] |
//! | A4 | one sound PKCS#10 request, signed by a key of the five kinds | [`Reason::BadRequest`] |
//! | A5 | one URI name, the pod's UID as common name, nothing else | [`Reason::NamesNotAllowed`] |
//! | A6 | the URI is a workload's SPIFFE ID of this cluster | [`Reason::WrongIdentity`] |
//! | A7 | the pod is there, with that UID | [`Reason::PodNotFound`] |
//! | A8 | it runs on the node of A2 | [`Reason::PodOnOtherNode`] |
//! | A9 | it runs as the service account of A6 | [`Reason::WrongServiceAccount`] |
//! | A10 | it has an inline volume of the driver | [`Reason::PodDidNotAsk`] |
//! | A11 | it has not ended, and is no mirror pod | [`Reason::PodFinished`] |
//! | A12 | its UID was not approved too often, see [`RateLimit`] | wait |
//!
//! [`check_request`] is A0 to A6 and needs the request alone; what it gives knows which pod to look
//! for. [`Wanted::check_pod`] is A7 to A11, and the only maker of an [`Approved`].
//! [`RateLimit::take`] is A12, and the only maker of the [`Allowance`] that an approval uses up.
//!
//! A line that ends in `// A` and a number is a rule, or a part of one: `tests/mutation/approval.sh`
//! takes each away and demands that a test fails.
use std::collections::BTreeMap;

use certagent_svid::{SpiffeId, TrustDomain, verify::Algorithms};

use crate::algorithm::KeyAlgorithm;

mod claims;
mod denial;
mod der;
mod identity;
mod key;
mod names;
mod pkcs10;
mod pod;
mod rate;

#[cfg(test)]
mod identity_tests;
#[cfg(test)]
mod names_tests;
#[cfg(test)]
mod pkcs10_tests;
#[cfg(test)]
mod pod_tests;
#[cfg(test)]
mod request_tests;
#[cfg(test)]
mod testing;

pub use claims::{NODE_NAME, OPTIONAL_USAGE, POD_UID, USAGES};
pub use denial::{Denial, MAX_MESSAGE_BYTES, Reason};
pub use pkcs10::MAX_REQUEST_BYTES;
pub use pod::{NEEDED_BY, POD_NAME};
pub use rate::{Allowance, RateLimit, Wait};

/// The reason of the condition `Approved`, as the guide shows it.
pub const AUTO_APPROVED: &str = "AutoApproved";

/// The message of the condition `Approved`, as the guide shows it.
pub const APPROVED_MESSAGE: &str =
    "Approved CSR because it is a valid SPIFFE SVID for the correct identity.";

/// What the rules compare with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The signer that is ours, `spec.signerName`.
    pub signer_name: String,
    /// The node driver's user name, for example
    /// `system:serviceaccount:certagent:certagent-node`.
    pub requester: String,
    /// The node driver's name in inline volumes.
    pub driver_name: String,
    /// The cluster's trust domain.
    pub trust_domain: TrustDomain,
}

/// What counts of a `CertificateSigningRequest` (certificates.k8s.io/v1). The API server writes
/// `username` and `extra`; the other fields are the requester's own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CsrFacts {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// The annotation [`POD_NAME`].
    pub pod_name: Option<String>,
    /// `spec.signerName`.
    pub signer_name: String,
    /// `spec.username`.
    pub username: String,
    /// `spec.extra`.
    pub extra: BTreeMap<String, Vec<String>>,
    /// `spec.usages`.
    pub usages: Vec<String>,
    /// `spec.request`, without the base64 of JSON: a PEM text.
    pub request: Vec<u8>,
}

/// What counts of a pod, read from the API server and not from a cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFacts {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `spec.nodeName`; empty while the pod is not scheduled.
    pub node_name: String,
    /// `spec.serviceAccountName`.
    pub service_account: String,
    /// `status.phase`.
    pub phase: String,
    /// It has the annotation `kubernetes.io/config.mirror`.
    pub is_mirror: bool,
    /// `spec.volumes[].csi.driver`.
    pub csi_drivers: Vec<String>,
}

/// A request that may be approved if the pod is as it says: A0 to A6 hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    csr_name: String,
    csr_uid: String,
    node: String,
    driver_pod_uid: String,
    pod_name: String,
    pod_uid: String,
    identity: identity::Identity,
    public_key: Vec<u8>,
    algorithm: KeyAlgorithm,
}

/// A request that may be signed, as far as A0 to A11 go. [`Wanted::check_pod`] is the only way to
/// get one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approved {
    wanted: Wanted,
}

/// A0 to A6: what can be said of a request without looking at its pod. `None`: it is for another
/// signer, so nothing may be written to it.
///
/// `algorithms` are those by which the request's own signature may be verified; of them only
/// ECDSA and RSA (PKCS #1 v1.5) with SHA-256, SHA-384 and SHA-512 are used.
///
/// # Errors
///
/// The first rule that is broken.
pub fn check_request(
    csr: &CsrFacts,
    settings: &Settings,
    algorithms: Algorithms<'_>,
) -> Option<Result<Wanted, Denial>> {
    ours(csr, settings)?; // A0
    Some(want(csr, settings, algorithms))
}

/// Whose certificate a request says that it asks for. Nothing of it is checked but its form: for
/// people who look, not for whoever approves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The UID of the pod.
    pub pod_uid: String,
    /// The identity as it is written, a URI.
    pub uri: String,
}

/// Reads whose certificate a request, `spec.request`, asks for; none if it has not the form of A4
/// and A5.
pub fn claimed(request: &[u8]) -> Option<Claimed> {
    let der = pkcs10::decode_pem(request).ok()?;
    let names = names::read(&pkcs10::parse(&der).ok()?).ok()?;
    Some(Claimed {
        pod_uid: names.pod_uid,
        uri: names.uri,
    })
}

fn ours(csr: &CsrFacts, settings: &Settings) -> Option<()> {
    (csr.signer_name == settings.signer_name).then_some(())
}

fn want(csr: &CsrFacts, settings: &Settings, algorithms: Algorithms<'_>) -> Result<Wanted, Denial> {
    claims::requester(csr, settings)?; // A1
    let node = claims::claim(csr, NODE_NAME)?;
    let driver_pod_uid = claims::claim(csr, POD_UID)?;
    claims::usages(csr)?; // A3
    let der = pkcs10::decode_pem(&csr.request)?;
    let request = pkcs10::parse(&der)?;
    let algorithm = key::algorithm(&request.public_key)?;
    pkcs10::signature_algorithm(&request)?; // A4
    pkcs10::signature(&request, algorithms)?; // A4
    let names = names::read(&request)?;
    let identity = identity::read(&names.uri, &settings.trust_domain)?;
    let pod_name = pod::name(csr.pod_name.as_deref())?;
    Ok(Wanted {
        csr_name: csr.name.clone(),
        csr_uid: csr.uid.clone(),
        node: node.to_owned(),
        driver_pod_uid: driver_pod_uid.to_owned(),
        pod_name: pod_name.to_owned(),
        pod_uid: names.pod_uid,
        identity,
        public_key: request.public_key.whole.to_vec(),
        algorithm,
    })
}

impl Wanted {
    /// A7 to A11. `pod` is what the API server has under [`Wanted::namespace`] and
    /// [`Wanted::pod_name`], if anything: a failure to ask is no answer, and must not come here.
    ///
    /// # Errors
    ///
    /// The first rule that is broken.
    pub fn check_pod(
        &self,
        pod: Option<&PodFacts>,
        settings: &Settings,
    ) -> Result<Approved, Denial> {
        let pod = pod.ok_or_else(|| pod::missing(self))?;
        pod::check(self, pod, settings)?;
        Ok(Approved {
            wanted: self.clone(),
        })
    }

    /// `metadata.name` of the request.
    pub fn csr_name(&self) -> &str {
        &self.csr_name
    }

    /// `metadata.uid` of the request.
    pub fn csr_uid(&self) -> &str {
        &self.csr_uid
    }

    /// The node whose driver asks.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The UID of the driver's own pod.
    pub fn driver_pod_uid(&self) -> &str {
        &self.driver_pod_uid
    }

    /// The name of the pod that the certificate is for.
    pub fn pod_name(&self) -> &str {
        &self.pod_name
    }

    /// The UID of the pod that the certificate is for.
    pub fn pod_uid(&self) -> &str {
        &self.pod_uid
    }

    /// The namespace of the pod and of the identity.
    pub fn namespace(&self) -> &str {
        &self.identity.namespace
    }

    /// The service account of the identity.
    pub fn service_account(&self) -> &str {
        &self.identity.service_account
    }

    /// The identity.
    pub fn spiffe_id(&self) -> &SpiffeId {
        &self.identity.spiffe_id
    }

    /// The public key to be certified: DER of the `SubjectPublicKeyInfo`.
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// The kind of the public key.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// `NAMESPACE/NAME`, both of them checked.
    fn pod(&self) -> String {
        format!("{}/{}", self.identity.namespace, self.pod_name)
    }
}

impl Approved {
    /// What was approved.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }
}
