//! A5: the request asks for one URI name and carries the pod's UID, and asks for nothing else.
//!
//! Neither subject nor extensions reach the CA, which is told of the public key alone. A request
//! that says more than this means something else than we would sign.
use pkcs8::der::{Decode as _, Tag, TagNumber, asn1::ObjectIdentifier};
use uuid::Uuid;

use super::{
    denial::{Denial, NOT_OURS, Reason, quote},
    der::{self, Element},
    pkcs10::Request,
};

/// What the names of a request say.
pub(super) struct Names {
    /// The subject's common name.
    pub(super) pod_uid: String,
    /// The URI.
    pub(super) uri: String,
}

/// Reads the names.
pub(super) fn read(request: &Request<'_>) -> Result<Names, Denial> {
    let pod_uid = common_name(&request.subject)?;
    uuid(&pod_uid)?; // A5
    let extensions = extensions(&request.attributes)?;
    no_duplicates(&extensions)?; // A5
    no_others(&extensions)?; // A5
    key_usage(find(&extensions, KEY_USAGE))?; // A5
    extended_key_usage(find(&extensions, EXTENDED_KEY_USAGE))?; // A5
    basic_constraints(find(&extensions, BASIC_CONSTRAINTS))?; // A5
    let uri = uri(find(&extensions, SUBJECT_ALT_NAME))?;
    Ok(Names { pod_uid, uri })
}

fn common_name(subject: &[Element<'_>]) -> Result<String, Denial> {
    let other = || not_allowed("has another subject than CN=<UID of the pod>");
    at_most_one("relative names in its subject", subject)?; // A5
    let attributes = subject.first().and_then(|name| name.inside(Tag::Set));
    let attributes = attributes.ok_or_else(other)?;
    at_most_one("attributes in its subject", &attributes)?; // A5
    let [kind, value] = attributes
        .first()
        .and_then(Element::sequence)
        .ok_or_else(other)?;
    is_common_name(&kind)?; // A5
    if !matches!(value.tag, Tag::Utf8String | Tag::PrintableString) {
        return Err(other());
    }
    let text = std::str::from_utf8(value.value).map_err(|_not_text| other())?;
    Ok(text.to_owned())
}

fn at_most_one(what: &str, found: &[Element<'_>]) -> Result<(), Denial> {
    if found.len() <= 1 {
        return Ok(());
    }
    Err(not_allowed(format!(
        "has {} {what}; one is allowed",
        found.len()
    )))
}

fn is_common_name(kind: &Element<'_>) -> Result<(), Denial> {
    match identifier(kind) {
        Some(COMMON_NAME) => Ok(()),
        _ => Err(not_allowed("has a subject without a common name")),
    }
}

/// As Kubernetes writes it: lower case, with hyphens.
fn uuid(text: &str) -> Result<(), Denial> {
    match Uuid::try_parse(text) {
        Ok(uuid) if uuid.hyphenated().to_string() == text => Ok(()),
        _ => Err(not_allowed(format!(
            "has the common name {}, which is not the UID of a pod",
            quote(text)
        ))),
    }
}

/// One requested extension.
struct Extension<'a> {
    id: ObjectIdentifier,
    value: &'a [u8],
}

fn extensions<'a>(attributes: &[Element<'a>]) -> Result<Vec<Extension<'a>>, Denial> {
    let broken = || not_allowed("holds requested extensions that do not parse");
    let attributes = attributes
        .iter()
        .map(|one| {
            let [kind, values] = one.sequence()?;
            Some((identifier(&kind)?, values))
        })
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| not_allowed("holds an attribute that does not parse"))?;
    let requests: Vec<Element<'_>> = attributes
        .iter()
        .filter(|(kind, _)| *kind == EXTENSION_REQUEST)
        .map(|(_, values)| *values)
        .collect();
    no_other_attributes(&attributes)?; // A5
    at_most_one("attributes that request extensions", &requests)?; // A5
    let Some(request) = requests.first() else {
        return Ok(Vec::new());
    };
    let values = request.inside(Tag::Set).ok_or_else(broken)?;
    at_most_one("lists of requested extensions", &values)?; // A5
    let list = values.first().and_then(|list| list.inside(Tag::Sequence));
    list.ok_or_else(broken)?
        .iter()
        .map(|one| extension(one).ok_or_else(broken))
        .collect()
}

fn extension<'a>(extension: &Element<'a>) -> Option<Extension<'a>> {
    let parts = extension.inside(Tag::Sequence)?;
    let (id, value) = match parts.as_slice() {
        [id, value] => (id, value),
        [id, critical, value] if critical.tag == Tag::Boolean => (id, value),
        _ => return None,
    };
    (value.tag == Tag::OctetString).then_some(Extension {
        id: identifier(id)?,
        value: value.value,
    })
}

fn no_other_attributes(attributes: &[(ObjectIdentifier, Element<'_>)]) -> Result<(), Denial> {
    match attributes
        .iter()
        .find(|(kind, _)| *kind != EXTENSION_REQUEST)
    {
        None => Ok(()),
        Some((other, _)) => Err(not_allowed(format!(
            "has the attribute {}; only an extension request is allowed",
            quote(&other.to_string())
        ))),
    }
}

fn no_duplicates(extensions: &[Extension<'_>]) -> Result<(), Denial> {
    for (index, extension) in extensions.iter().enumerate() {
        if extensions
            .iter()
            .take(index)
            .any(|earlier| earlier.id == extension.id)
        {
            return Err(not_allowed(format!(
                "asks for the extension {} twice",
                quote(&extension.id.to_string())
            )));
        }
    }
    Ok(())
}

fn no_others(extensions: &[Extension<'_>]) -> Result<(), Denial> {
    const ALLOWED: [ObjectIdentifier; 4] = [
        SUBJECT_ALT_NAME,
        KEY_USAGE,
        EXTENDED_KEY_USAGE,
        BASIC_CONSTRAINTS,
    ];
    match extensions.iter().find(|one| !ALLOWED.contains(&one.id)) {
        None => Ok(()),
        Some(other) => Err(not_allowed(format!(
            "asks for the extension {}; allowed are subject alternative name, key usage, extended \
             key usage and basic constraints",
            quote(&other.id.to_string())
        ))),
    }
}

/// Digital signature and key encipherment, as in `spec.usages`.
fn key_usage(extension: Option<&[u8]>) -> Result<(), Denial> {
    const ALLOWED: u8 = 0b1010_0000;
    let Some(value) = extension else {
        return Ok(());
    };
    match der::only(value).map(|usage| (usage.tag, usage.value)) {
        // The first byte says how many bits of the last one are not used.
        Some((Tag::BitString, [0..=7, bits])) if bits & !ALLOWED == 0 => Ok(()),
        _ => Err(not_allowed(
            "asks for a key usage beyond digitalSignature and keyEncipherment",
        )),
    }
}

fn extended_key_usage(extension: Option<&[u8]>) -> Result<(), Denial> {
    let Some(value) = extension else {
        return Ok(());
    };
    let allowed = |purpose: &Element<'_>| {
        identifier(purpose).is_some_and(|id| id == SERVER_AUTH || id == CLIENT_AUTH)
    };
    match der::only(value).and_then(|purposes| purposes.inside(Tag::Sequence)) {
        Some(purposes) if !purposes.is_empty() && purposes.iter().all(allowed) => Ok(()),
        _ => Err(not_allowed(
            "asks for an extended key usage beyond serverAuth and clientAuth",
        )),
    }
}

fn basic_constraints(extension: Option<&[u8]>) -> Result<(), Denial> {
    let Some(value) = extension else {
        return Ok(());
    };
    // CA:false is the default. DER leaves a default out, and some tools write it all the same.
    if matches!(value, [0x30, 0] | [0x30, 3, 1, 1, 0]) {
        return Ok(());
    }
    Err(not_allowed(
        "asks for basic constraints other than CA:false",
    ))
}

/// The one name: a URI.
fn uri(extension: Option<&[u8]>) -> Result<String, Denial> {
    let extension = extension.ok_or_else(|| {
        not_allowed("asks for no subject alternative name, where the SPIFFE ID belongs")
    })?;
    let names = der::only(extension)
        .and_then(|names| names.inside(Tag::Sequence))
        .ok_or_else(|| not_allowed("has subject alternative names that do not parse"))?;
    one_name(&names)?; // A5
    names
        .iter()
        .find(|name| name.tag == URI)
        .and_then(|name| std::str::from_utf8(name.value).ok())
        .map(str::to_owned)
        .ok_or_else(|| not_allowed("has no URI as its subject alternative name"))
}

fn one_name(names: &[Element<'_>]) -> Result<(), Denial> {
    if names.len() == 1 {
        return Ok(());
    }
    let uris = names.iter().filter(|name| name.tag == URI).count();
    Err(not_allowed(format!(
        "asks for {} subject alternative names, {uris} of them URIs; one URI is allowed",
        names.len()
    )))
}

fn find<'a>(extensions: &[Extension<'a>], id: ObjectIdentifier) -> Option<&'a [u8]> {
    let found = extensions.iter().find(|extension| extension.id == id)?;
    Some(found.value)
}

fn identifier(element: &Element<'_>) -> Option<ObjectIdentifier> {
    ObjectIdentifier::from_der(element.whole).ok()
}

fn not_allowed(what: impl AsRef<str>) -> Denial {
    Denial::new(
        Reason::NamesNotAllowed,
        format!("the certificate request {}. {NOT_OURS}", what.as_ref()),
    )
}

const URI: Tag = Tag::ContextSpecific {
    constructed: false,
    number: TagNumber(6),
};
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const EXTENSION_REQUEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.14");
const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");
