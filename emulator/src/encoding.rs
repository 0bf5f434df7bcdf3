//! The little of PEM, DER and hex that the libraries leave to us.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// PEM with `\n` line ends on every platform and a final one, as the service writes it.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = tail;
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

/// The label and content of the one PEM block that `text` holds.
pub(crate) fn single_pem(text: &[u8]) -> Option<(String, Vec<u8>)> {
    let (rest, block) = x509_parser::pem::parse_x509_pem(text).ok()?;
    rest.iter()
        .all(u8::is_ascii_whitespace)
        .then_some((block.label, block.contents))
}

/// One DER value: tag, length, then the concatenated parts.
pub(crate) fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = vec![tag];
    if let Ok(short @ 0..=127) = u8::try_from(length) {
        out.push(short);
    } else {
        let bytes = length.to_be_bytes();
        let bytes: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
        // At most eight bytes of length, so the count fits.
        out.push(0x80 | u8::try_from(bytes.len()).unwrap_or(8));
        out.extend(bytes);
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// Lowercase hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| DIGITS[usize::from(digit)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_goes_there_and_back() {
        for length in [0, 1, 47, 48, 49, 500] {
            let bytes = vec![7; length];
            let text = pem("THING", &bytes);
            assert!(text.lines().all(|line| line.len() <= 64));
            if length > 0 {
                assert_eq!(
                    single_pem(text.as_bytes()),
                    Some(("THING".to_owned(), bytes))
                );
            }
        }
        let two = pem("A", b"x").repeat(2);
        assert_eq!(single_pem(two.as_bytes()), None);
        assert_eq!(single_pem(b"no PEM at all"), None);
    }

    #[test]
    fn der_lengths_are_minimal() {
        assert_eq!(der(0x30, &[]), [0x30, 0]);
        assert_eq!(der(4, &[&[1; 127]])[..2], [4, 127]);
        assert_eq!(der(4, &[&[1; 128]])[..3], [4, 0x81, 128]);
        assert_eq!(der(4, &[&[1; 200], &[1; 100]])[..4], [4, 0x82, 1, 44]);
    }

    #[test]
    fn hex_is_lowercase() {
        assert_eq!(hex(&[0, 0xab, 0x1f]), "00ab1f");
    }
}
