//! Chains of CA certificates that come from outside or from the disk: whether they hold together.

use jiff::Timestamp;
use x509_parser::prelude::X509Certificate;
use x509_parser::x509::X509Name;

use crate::describe::describe;
use crate::encoding::single_pem;
use crate::wire::CertificateDescription;

/// The longest chain that is looked at, in certificates.
const LONGEST: usize = 10;

/// A chain of CA certificates of which each signed the one before it, the last one itself.
pub(crate) struct CaChain {
    /// The first certificate.
    pub(crate) own_der: Vec<u8>,
    /// The first certificate's public key: an SPKI.
    pub(crate) own_key: Vec<u8>,
    /// One for each certificate.
    pub(crate) descriptions: Vec<CertificateDescription>,
    /// How many CAs may stand between the first one and a leaf; none for any number.
    pub(crate) path_length: Option<u32>,
    /// First and last second at which all certificates are valid.
    pub(crate) validity: (Timestamp, Timestamp),
    /// PEM: the CA itself first, its root last.
    pub(crate) pems: Vec<String>,
}

impl CaChain {
    /// Checks everything but dates and revocation; says what is wrong.
    pub(crate) fn check(pems: Vec<String>) -> Result<Self, &'static str> {
        if pems.len() > LONGEST {
            return Err("the chain has more than 10 certificates");
        }
        let ders: Vec<Vec<u8>> = pems
            .iter()
            .map(|text| {
                single_pem(text.as_bytes())
                    .filter(|(label, _)| label == "CERTIFICATE")
                    .map(|(_, content)| content)
            })
            .collect::<Option<_>>()
            .ok_or("a certificate of the chain is not one certificate in PEM")?;
        let certificates = ders
            .iter()
            .map(|der| match x509_parser::parse_x509_certificate(der) {
                Ok(([], parsed)) => Ok(parsed),
                _ => Err("a certificate of the chain cannot be parsed"),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let own = certificates.first().ok_or("the chain is empty")?;
        check_subject(own.subject())?;

        let issuers = certificates.iter().skip(1).chain(certificates.last());
        let mut path_length = None;
        for (depth, (certificate, issuer)) in certificates.iter().zip(issuers).enumerate() {
            if certificate.issuer().as_raw() != issuer.subject().as_raw() {
                return Err(
                    "a certificate of the chain was issued by another CA than the next one, or \
                     the last one is no self-signed root",
                );
            }
            certificate
                .verify_signature(Some(issuer.public_key()))
                .map_err(|_error| "a signature of the chain does not verify")?;
            let allowed = path_length_of(certificate)?;
            // Every CA of the chain between this one and the first uses up one.
            let left = allowed
                .map(|allowed| {
                    let above = u32::try_from(depth).unwrap_or(u32::MAX);
                    let exceeded = "a path length constraint of the chain is exceeded";
                    allowed.checked_sub(above).ok_or(exceeded)
                })
                .transpose()?;
            path_length = [path_length, left].into_iter().flatten().min();
        }
        let descriptions = certificates
            .iter()
            .map(describe)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_error| "a certificate of the chain has impossible dates")?;
        let dates = descriptions
            .iter()
            .map(|description| &description.subject_description);
        let first = dates.clone().map(|dates| dates.not_before_time).max();
        let last = dates.map(|dates| dates.not_after_time).min();
        let validity = first.zip(last).ok_or("the chain is empty")?;
        Ok(Self {
            own_der: own.as_raw().to_vec(),
            own_key: own.public_key().raw.to_vec(),
            descriptions,
            path_length,
            validity,
            pems,
        })
    }
}

/// The path length constraint of a certificate that may sign others.
fn path_length_of(certificate: &X509Certificate<'_>) -> Result<Option<u32>, &'static str> {
    let constraints = certificate.basic_constraints().ok().flatten();
    let constraints = constraints
        .filter(|constraints| constraints.value.ca)
        .ok_or("a certificate of the chain is no CA's")?;
    let usage = certificate
        .key_usage()
        .map_err(|_error| "a key usage of the chain cannot be read")?;
    if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
        return Err("a key of the chain may not sign certificates");
    }
    Ok(constraints.value.path_len_constraint)
}

/// Whether the subject can stand in other certificates as their issuer, byte for byte: the X.509
/// library keeps one value of each attribute, and panics on an empty RDN.
fn check_subject(subject: &X509Name<'_>) -> Result<(), &'static str> {
    let mut seen = Vec::new();
    for rdn in subject.iter_rdn() {
        let mut attributes = rdn.iter();
        let (Some(attribute), None) = (attributes.next(), attributes.next()) else {
            return Err("the CA's subject has an RDN that is not one attribute");
        };
        if seen.contains(&attribute.attr_type()) {
            return Err("the CA's subject has an attribute twice");
        }
        seen.push(attribute.attr_type());
    }
    if seen.is_empty() {
        return Err("the CA's subject is empty");
    }
    Ok(())
}
