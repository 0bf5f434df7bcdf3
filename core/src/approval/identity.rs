//! A6: the URI is the SPIFFE ID of a workload of this cluster, in its one spelling.
use certagent_svid::{SpiffeId, TrustDomain};

use super::denial::{Denial, Reason, quote};
use crate::{dns, plan};

/// Whose certificate is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) spiffe_id: SpiffeId,
    pub(super) namespace: String,
    pub(super) service_account: String,
}

/// Reads `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT`.
pub(super) fn read(uri: &str, trust_domain: &TrustDomain) -> Result<Identity, Denial> {
    let wrong = |what: String| wrong(uri, trust_domain, &what);
    // The parser's own words are fixed texts: nothing of the URI is in them.
    let spiffe_id = SpiffeId::new(uri).map_err(|reason| wrong(format!("it is none: {reason}")))?;
    canonical(&spiffe_id, uri).map_err(wrong)?; // A6
    of_the_cluster(&spiffe_id, trust_domain).map_err(wrong)?; // A6
    let (namespace, service_account) = plan::workload_names(&spiffe_id)
        .ok_or_else(|| wrong("its path has another form".to_owned()))?;
    namespace_name(namespace).map_err(wrong)?; // A6
    service_account_name(service_account).map_err(wrong)?; // A6
    Ok(Identity {
        namespace: namespace.to_owned(),
        service_account: service_account.to_owned(),
        spiffe_id,
    })
}

/// Peers compare identities as texts: another spelling would be another identity to them.
fn canonical(id: &SpiffeId, uri: &str) -> Result<(), String> {
    if id.to_string() == uri {
        return Ok(());
    }
    Err("scheme and trust domain are not in lower case".to_owned())
}

fn of_the_cluster(id: &SpiffeId, trust_domain: &TrustDomain) -> Result<(), String> {
    if id.is_member_of(trust_domain) {
        return Ok(());
    }
    Err("it is of another trust domain".to_owned())
}

fn namespace_name(namespace: &str) -> Result<(), String> {
    if dns::is_label(namespace) {
        return Ok(());
    }
    Err("its namespace has no name that Kubernetes allows".to_owned())
}

fn service_account_name(service_account: &str) -> Result<(), String> {
    if dns::is_subdomain(service_account) {
        return Ok(());
    }
    Err("its service account has no name that Kubernetes allows".to_owned())
}

fn wrong(uri: &str, trust_domain: &TrustDomain, what: &str) -> Denial {
    Denial::new(
        Reason::WrongIdentity,
        format!(
            "{} is not the SPIFFE ID of a workload of this cluster: {what}. Allowed is \
             spiffe://{trust_domain}/ns/NAMESPACE/sa/SERVICE_ACCOUNT; give the node driver and the \
             controller the same trust domain",
            quote(uri)
        ),
    )
}
