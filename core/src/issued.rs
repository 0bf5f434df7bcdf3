//! What a CA sent back: unchecked bytes, and the checked chain that alone may be written.
use std::time::Duration;

use certagent_svid::{
    Chain, ChainError, SpiffeId, TrustBundle,
    leaf::{self, LeafError},
    verify::{self, Algorithms, VerifiedPath, VerifyError},
};
use jiff::{SignedDuration, Timestamp};

use crate::{
    plan::{self, IssuePlan},
    request::SubjectMode,
};

/// How far this machine's clock may be behind the CA's.
pub const MAX_CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// The bytes that a CA sent: nothing about them is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawChain {
    /// `pemCertificate`.
    pub certificate: String,
    /// `pemCertificateChain`.
    pub chain: Vec<String>,
}

/// A chain that is ours: for our key, our identity, and verified to the bundle that will be
/// published beside it. [`IssuedChain::check`] is the only way to get one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedChain {
    chain: Chain,
    effective_not_after: Timestamp,
    authorities_not_after: Timestamp,
    remarks: Vec<Remark>,
}

/// Something that is no reason to refuse, but that an operator wants to know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Remark {
    /// The certificates had to be brought into order.
    #[error("the CA sent the chain out of order; it was put right")]
    Reordered,
    /// The CA cut the lifetime.
    #[error(
        "the CA cut the lifetime to {got} s of the {asked} s asked for, until {until}; of the CAs above the certificate \"{ca}\" ends first, at {ca_until}"
    )]
    Truncated {
        /// Seconds asked for.
        asked: u64,
        /// Seconds given.
        got: i64,
        /// The effective end.
        until: Timestamp,
        /// The subject of the CA of the path that ends first.
        ca: String,
        /// When that CA ends.
        ca_until: Timestamp,
    },
    /// The certificate begins in the near future.
    #[error("this machine's clock is {seconds} s behind the CA's")]
    ClockBehind {
        /// By how much.
        seconds: i64,
    },
}

/// Why a chain is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// The answer holds no certificate.
    #[error("the CA's answer holds no certificate")]
    Nothing,
    /// The certificates do not parse or are no chain.
    #[error("the CA's certificates are no chain: {0}")]
    Chain(#[source] ChainError),
    /// It is for another key.
    #[error("the certificate is for another public key than the one that was sent")]
    OtherKey,
    /// It breaks a rule of the X.509-SVID standard.
    #[error("the certificate is not an X.509-SVID: {0}")]
    Leaf(#[source] LeafError),
    /// It is for another identity.
    #[error("the certificate is for {got}, not for {asked}")]
    OtherIdentity {
        /// What the plan asked for.
        asked: SpiffeId,
        /// What came back.
        got: SpiffeId,
    },
    /// It is for another identity, which CA Service took from whoever asked.
    #[error(
        "the certificate is for {got}, not for {asked}: CA Service took the identity from the workload's own token; {}",
        reflected_advice(asked, got)
    )]
    ReflectedIdentity {
        /// What the plan asked for.
        asked: SpiffeId,
        /// What the token stands for.
        got: SpiffeId,
    },
    /// It has a subject that was not asked for.
    #[error(
        "the certificate has the subject \"{subject}\", which was not asked for: look at the pool's baseline values and identity constraints"
    )]
    Subject {
        /// The subject.
        subject: String,
    },
    /// Its subject is not the common name that was asked for.
    #[error("{}", common_name_text(asked, subject))]
    CommonName {
        /// The common name asked for.
        asked: String,
        /// The subject that came back; empty if there is none.
        subject: String,
    },
    /// It lacks DNS names that were asked for.
    #[error(
        "the certificate lacks {} that dnsNames asks for ({}): the pool drops subject alternative names unless identityConstraints.allowSubjectAltNamesPassthrough is true in its issuancePolicy; set it: without it the SPIFFE ID is dropped, too",
        if missing.len() == 1 { "the DNS name" } else { "DNS names" },
        missing.join(", ")
    )]
    DnsNames {
        /// Those that are missing.
        missing: Vec<String>,
    },
    /// It has names that were not asked for.
    #[error("the certificate has {count} names beside its SPIFFE ID, which were not asked for")]
    ExtraNames {
        /// How many.
        count: usize,
    },
    /// It begins too far in the future.
    #[error(
        "this machine's clock is {seconds} s behind the CA's: the certificate is valid from {not_before}; set the clock right"
    )]
    NotYetValid {
        /// By how much.
        seconds: i64,
        /// The start of the validity.
        not_before: Timestamp,
    },
    /// It has ended.
    #[error(
        "the CA sent a certificate that expired {seconds} s ago, at {not_after}; compare this machine's clock with the CA's"
    )]
    Expired {
        /// How long ago.
        seconds: i64,
        /// The end of the validity.
        not_after: Timestamp,
    },
    /// It does not lead to a root of the bundle.
    #[error(
        "the certificate does not verify to the trust bundle that would be published with it: {0}"
    )]
    Verify(#[source] VerifyError),
}

impl CheckError {
    /// It lacks names that were asked for: as a rule because of the pool's policy, which may be
    /// another than it was when somebody last looked.
    pub fn is_of_dropped_names(&self) -> bool {
        matches!(self, Self::CommonName { .. } | Self::DnsNames { .. })
    }

    /// What to do about it, where the message itself does not say.
    pub fn next_step(&self) -> Option<&'static str> {
        match self {
            Self::Nothing | Self::Chain(_) | Self::OtherKey => Some(
                "CA Service sends no such thing: check that the endpoint is CA Service, and that \
                 nothing in between answers instead",
            ),
            Self::Leaf(_) | Self::ExtraNames { .. } | Self::OtherIdentity { .. } => Some(
                "look at the pool's baseline values, identity constraints and extensions: \
                 `certagent inspect pool` shows them",
            ),
            Self::Verify(VerifyError::UnknownIssuer { .. } | VerifyError::NoRoots { .. }) => Some(
                "`certagent inspect config` compares the roots of the pool with the trust anchors",
            ),
            Self::Verify(_) => {
                Some("`certagent inspect pool` looks at the CAs of the pool and at their roots")
            }
            Self::ReflectedIdentity { .. }
            | Self::Subject { .. }
            | Self::CommonName { .. }
            | Self::DnsNames { .. }
            | Self::NotYetValid { .. }
            | Self::Expired { .. } => None,
        }
    }
}

impl IssuedChain {
    /// Checks what a CA sent for a request with this public key (DER of the
    /// `SubjectPublicKeyInfo`) and this plan, against the bundle of the workload's own trust
    /// domain.
    pub fn check(
        raw: &RawChain,
        public_key: &[u8],
        plan: &IssuePlan,
        bundle: &TrustBundle,
        algorithms: Algorithms<'_>,
        now: Timestamp,
    ) -> Result<Self, CheckError> {
        if raw.certificate.trim().is_empty() {
            return Err(CheckError::Nothing);
        }
        let chain = Chain::parse_pem(raw.pem().as_bytes()).map_err(CheckError::Chain)?;
        check_leaf(&chain, public_key, plan)?;
        let leaf = chain.leaf();
        let behind = leaf.not_before().duration_since(now);
        if behind > MAX_CLOCK_SKEW {
            let (seconds, not_before) = (behind.as_secs(), leaf.not_before());
            return Err(CheckError::NotYetValid {
                seconds,
                not_before,
            });
        }
        if now > leaf.not_after() {
            let seconds = now.duration_since(leaf.not_after()).as_secs();
            return Err(CheckError::Expired {
                seconds,
                not_after: leaf.not_after(),
            });
        }
        // Within the allowed skew, the moment at which the CA signed counts.
        let path = verify::path(&chain, bundle, algorithms, now.max(leaf.not_before()))
            .map_err(CheckError::Verify)?;
        let effective_not_after = path.effective_not_after();
        let remarks = remarks(&chain, &path, plan.validity, now);
        Ok(Self {
            chain,
            effective_not_after,
            authorities_not_after: path.authorities_not_after(),
            remarks,
        })
    }

    /// The chain.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// When the first certificate of the verified path ends.
    pub fn effective_not_after(&self) -> Timestamp {
        self.effective_not_after
    }

    /// When the first of the CAs above the certificate ends, the root included.
    pub fn authorities_not_after(&self) -> Timestamp {
        self.authorities_not_after
    }

    /// What an operator should know.
    pub fn remarks(&self) -> &[Remark] {
        &self.remarks
    }
}

impl RawChain {
    fn pem(&self) -> String {
        let mut pem = String::new();
        for part in std::iter::once(&self.certificate).chain(&self.chain) {
            pem.push_str(part);
            pem.push('\n');
        }
        pem
    }
}

fn check_leaf(chain: &Chain, public_key: &[u8], plan: &IssuePlan) -> Result<(), CheckError> {
    let leaf = chain.leaf();
    if leaf.public_key() != public_key {
        return Err(CheckError::OtherKey);
    }
    let dns = plan.names.dns_difference(leaf);
    let got = match leaf::svid(leaf) {
        // Its identity was dropped with them, by the same setting, which only this error names.
        Err(LeafError::NoUri) if !dns.missing.is_empty() => {
            let missing = dns.missing;
            return Err(CheckError::DnsNames { missing });
        }
        svid => svid.map_err(CheckError::Leaf)?,
    };
    if got != plan.spiffe_id {
        let asked = plan.spiffe_id.clone();
        return Err(match plan.subject_mode {
            SubjectMode::Default => CheckError::OtherIdentity { asked, got },
            SubjectMode::ReflectedSpiffe => CheckError::ReflectedIdentity { asked, got },
        });
    }
    if !plan.names.has_subject(leaf) {
        let subject = leaf.subject_text();
        return Err(match plan.names.common_name.clone() {
            None => CheckError::Subject { subject },
            Some(asked) => CheckError::CommonName { asked, subject },
        });
    }
    if !dns.missing.is_empty() {
        let missing = dns.missing;
        return Err(CheckError::DnsNames { missing });
    }
    match dns.extra + leaf.names().others {
        0 => Ok(()),
        count => Err(CheckError::ExtraNames { count }),
    }
}

/// What became of a common name, and whose setting that is.
fn common_name_text(asked: &str, subject: &str) -> String {
    if subject.is_empty() {
        format!(
            "the certificate has no subject, and commonName asks for \"{asked}\": the pool drops subjects unless identityConstraints.allowSubjectPassthrough is true in its issuancePolicy; set it, or take commonName out of the Workload"
        )
    } else {
        format!(
            "the certificate has the subject \"{subject}\", and commonName asks for \"{asked}\" alone: look at the pool's identityConstraints"
        )
    }
}

/// Where the token and the configuration differ, and what to correct.
fn reflected_advice(asked: &SpiffeId, got: &SpiffeId) -> String {
    if asked.trust_domain_name() != got.trust_domain_name() {
        return format!(
            "the token is of the trust domain {}, and the workload of {}: correct the workload's trustDomain, or the audience at which tokens are exchanged",
            got.trust_domain_name(),
            asked.trust_domain_name()
        );
    }
    match (plan::workload_names(asked), plan::workload_names(got)) {
        (Some(asked), Some(got)) => format!(
            "the token is of namespace \"{}\" and service account \"{}\", and the workload of \"{}\" and \"{}\": let tokenFile name that service account's token, or correct namespace and serviceAccount",
            got.0, got.1, asked.0, asked.1
        ),
        _ => "let tokenFile name the token of that service account, or look at how the workload identity pool maps its tokens to identities".to_owned(),
    }
}

fn remarks(chain: &Chain, path: &VerifiedPath, asked: Duration, now: Timestamp) -> Vec<Remark> {
    let until = path.effective_not_after();
    let mut remarks = Vec::new();
    if chain.was_repaired() {
        remarks.push(Remark::Reordered);
    }
    let leaf = chain.leaf();
    // notAfter is inclusive: a certificate of 60 s ends 59 s after it began.
    let got = until.duration_since(leaf.not_before()).as_secs() + 1;
    if u64::try_from(got).unwrap_or(0) + 1 < asked.as_secs() {
        let first_to_end = chain.intermediates().iter().fold(path.root(), |first, ca| {
            if ca.not_after() < first.not_after() {
                ca
            } else {
                first
            }
        });
        remarks.push(Remark::Truncated {
            asked: asked.as_secs(),
            got,
            until,
            ca: first_to_end.subject_text(),
            ca_until: first_to_end.not_after(),
        });
    }
    let behind = leaf.not_before().duration_since(now).as_secs();
    if behind > 0 {
        remarks.push(Remark::ClockBehind { seconds: behind });
    }
    remarks
}

#[cfg(test)]
#[path = "issued_tests.rs"]
mod tests;
