//! A1 to A3: who asks, from where, and what for. All of it was written by the API server or
//! checked by it; nothing here comes from the PKCS#10 request.
use super::{
    CsrFacts, Settings,
    denial::{Denial, NOT_OURS, Reason, quote},
};

/// The key in `spec.extra` under which the API server writes the node of a pod-bound token.
pub const NODE_NAME: &str = "authentication.kubernetes.io/node-name";

/// The key in `spec.extra` under which the API server writes the pod of a pod-bound token.
pub const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// What every request of a node driver is for (`spec.usages`).
pub const USAGES: [&str; 3] = ["digital signature", "server auth", "client auth"];
/// What one for an RSA key is for besides.
pub const OPTIONAL_USAGE: &str = "key encipherment";

/// A1: the node driver's service account, by its whole name. A group would let in every account of
/// the namespace, and `system:node:X` every program that can read a kubelet's credential.
pub(super) fn requester(csr: &CsrFacts, settings: &Settings) -> Result<(), Denial> {
    if csr.username == settings.requester {
        return Ok(());
    }
    Err(Denial::new(
        Reason::UnknownRequester,
        format!(
            "{} made the request, and for this signer only {} may: a pod gets its certificate \
             through a volume of the driver {}. If that is the node driver's account, give it to \
             the controller's --requester; else find out why it asks",
            quote(&csr.username),
            quote(&settings.requester),
            quote(&settings.driver_name),
        ),
    ))
}

/// The one value of a claim in the requester's token.
pub(super) fn claim<'a>(csr: &'a CsrFacts, key: &'static str) -> Result<&'a str, Denial> {
    let values = csr.extra.get(key).map_or(&[][..], Vec::as_slice);
    one_value(key, values)?; // A2
    values
        .first()
        .map(String::as_str)
        .ok_or_else(|| no_claim(key, values))
}

fn one_value(key: &str, values: &[String]) -> Result<(), Denial> {
    match values {
        [value] if !value.is_empty() => Ok(()),
        _ => Err(no_claim(key, values)),
    }
}

fn no_claim(key: &str, values: &[String]) -> Denial {
    let found = match values {
        [] => "no value".to_owned(),
        [_] => "an empty value".to_owned(),
        several => format!("{} values", several.len()),
    };
    Denial::new(
        Reason::NoNodeClaim,
        format!(
            "spec.extra has {found} for {key}, where one belongs: the node driver has to ask with a \
             token that is bound to its pod. Use Kubernetes 1.30 or newer, and the projected token \
             of the manifests"
        ),
    )
}

/// A3: what a TLS certificate of a workload is for, and nothing else.
pub(super) fn usages(csr: &CsrFacts) -> Result<(), Denial> {
    const SHOWN: usize = 5;
    let times = |usage: &str| csr.usages.iter().filter(|found| *found == usage).count();
    let required = USAGES.iter().all(|usage| times(usage) == 1);
    if required && csr.usages.len() == USAGES.len() + times(OPTIONAL_USAGE).min(1) {
        return Ok(());
    }
    let mut found: Vec<String> = csr
        .usages
        .iter()
        .take(SHOWN)
        .map(|one| quote(one))
        .collect();
    if csr.usages.len() > SHOWN {
        found.push(format!("{} more", csr.usages.len() - SHOWN));
    }
    Err(Denial::new(
        Reason::UsagesNotAllowed,
        format!(
            "spec.usages is [{}]; it has to be \"digital signature\", \"server auth\" and \"client \
             auth\", with or without \"key encipherment\", each once. {NOT_OURS}",
            found.join(", ")
        ),
    ))
}
