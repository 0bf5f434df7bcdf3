//! DER, one level at a time: all that a PKCS#10 request needs.
use pkcs8::der::{AnyRef, Decode as _, Reader as _, SliceReader, Tag, Tagged as _};

/// One element: tag, value, and the bytes of both.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'a> {
    pub(super) tag: Tag,
    pub(super) value: &'a [u8],
    pub(super) whole: &'a [u8],
}

impl<'a> Element<'a> {
    /// The elements inside, if this one has the tag.
    pub(super) fn inside(&self, tag: Tag) -> Option<Vec<Self>> {
        (self.tag == tag).then(|| elements(self.value)).flatten()
    }

    /// The elements inside a SEQUENCE of exactly so many.
    pub(super) fn sequence<const N: usize>(&self) -> Option<[Self; N]> {
        self.inside(Tag::Sequence)?.try_into().ok()
    }

    /// The bytes of a BIT STRING of whole bytes.
    pub(super) fn bit_string(&self) -> Option<&'a [u8]> {
        match self.value {
            [0, bytes @ ..] if self.tag == Tag::BitString => Some(bytes),
            _ => None,
        }
    }
}

/// The elements that make up the bytes, if nothing is left over.
pub(super) fn elements(mut bytes: &[u8]) -> Option<Vec<Element<'_>>> {
    let mut list = Vec::new();
    while !bytes.is_empty() {
        let (element, rest) = first(bytes)?;
        list.push(element);
        bytes = rest;
    }
    Some(list)
}

/// The one element that makes up the bytes.
pub(super) fn only(bytes: &[u8]) -> Option<Element<'_>> {
    let (element, rest) = first(bytes)?;
    rest.is_empty().then_some(element)
}

/// The first element of the bytes, and what follows it. Strict DER: a length has one spelling.
pub(super) fn first(bytes: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let whole = SliceReader::new(bytes).ok()?.tlv_bytes().ok()?;
    let element = AnyRef::from_der(whole).ok()?;
    let element = Element {
        tag: element.tag(),
        value: element.value(),
        whole,
    };
    Some((element, bytes.get(whole.len()..)?))
}
