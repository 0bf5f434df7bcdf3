//! What a program says: the end of it, and never a private key.
//!
//! Whoever debugs a hook prints files. So nothing of what a program says is shown where a label of a
//! private key is in it, or a piece of the volume's own key, in base64 or hex, however it is broken
//! into lines.
use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use certagent_svid::layout;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use zeroize::Zeroizing;

/// The end of what a program says is kept, so many bytes of each of its outputs.
pub(super) const MOST_OUTPUT: usize = 4096;

/// A private key as PEM, and as `openssl pkey -text` prints it.
const LABELS: [&[u8]; 3] = [b"PRIVATE KEY", b"Private-Key:", b"priv:"];

/// Of a text without its separators, a piece this long tells whether it is the key's.
const PIECE: usize = 16;

/// So many bytes are a piece in hex.
const HEX_BYTES: usize = PIECE / 2;

/// So many are one in base64.
const BASE64_BYTES: usize = PIECE / 4 * 3;

type Piece = [u8; PIECE];

/// The pieces by which a private key is known, in order. Overwritten when it is dropped.
#[derive(Default)]
pub(super) struct Secret(Zeroizing<Vec<Piece>>);

impl Secret {
    /// Of the key that is in the volume now. Where the agent cannot read it there is nothing to
    /// know it by: the program is of the same user, and could not either.
    pub(super) async fn of(volume: &Path) -> Self {
        let read = async |name| tokio::fs::read(volume.join(name)).await.unwrap_or_default();
        let key = Zeroizing::new(read(layout::PRIVATE_KEY).await);
        Self::new(&key, &read(layout::CERTIFICATES).await)
    }

    /// What the certificates have in common with the key, its public part, is no secret.
    fn new(key: &[u8], certificates: &[u8]) -> Self {
        let mut body = Zeroizing::new(Vec::with_capacity(key.len()));
        for line in key.split(|byte| *byte == b'\n') {
            if !line.starts_with(b"-----") {
                body.extend(line.iter().filter(|byte| !byte.is_ascii_whitespace()));
            }
        }
        let Ok(der) = STANDARD.decode(&*body).map(Zeroizing::new) else {
            return Self::default();
        };
        let public: Vec<_> = CertificateDer::pem_slice_iter(certificates)
            .filter_map(Result::ok)
            .collect();
        let is_public = |part: &[u8]| {
            let holds =
                |whole: &CertificateDer<'_>| whole.windows(part.len()).any(|window| window == part);
            public.iter().any(holds)
        };
        let mut pieces = Zeroizing::new(Vec::with_capacity(2 * der.len()));
        for part in der.windows(HEX_BYTES).filter(|part| !is_public(part)) {
            let mut piece = Piece::default();
            for (to, byte) in piece.chunks_exact_mut(2).zip(part) {
                to.copy_from_slice(&[digit(byte >> 4), digit(byte & 0xf)]);
            }
            pieces.push(piece);
        }
        // A text in base64 may begin before the key: each third of these is there.
        for part in der.windows(BASE64_BYTES).filter(|part| !is_public(part)) {
            let mut piece = Piece::default();
            if STANDARD.encode_slice(part, &mut piece).is_ok() {
                pieces.push(piece);
            }
        }
        pieces.sort_unstable();
        Self(pieces)
    }

    fn is_in(&self, text: &[u8]) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let is_separator = |byte: &u8| byte.is_ascii_whitespace() || *byte == b':';
        let solid = text.iter().filter(|byte| !is_separator(byte));
        // The alphabet of URLs is the same but for two characters.
        let base64 = solid.map(|byte| match byte {
            b'-' => b'+',
            b'_' => b'/',
            other => *other,
        });
        let base64: Zeroizing<Vec<u8>> = Zeroizing::new(base64.collect());
        let hex = Zeroizing::new(base64.to_ascii_lowercase());
        let knows = |text: &[u8]| {
            text.windows(PIECE).any(|part| {
                self.0
                    .binary_search_by(|piece| piece.as_slice().cmp(part))
                    .is_ok()
            })
        };
        knows(&base64) || knows(&hex)
    }
}

/// A digit of hex, of a number below 16.
fn digit(number: u8) -> u8 {
    if number < 10 {
        b'0' + number
    } else {
        b'a' + (number - 10)
    }
}

/// The end of what a program says on one of its outputs.
#[derive(Default)]
pub(super) struct Said {
    bytes: Zeroizing<Vec<u8>>,
    has_label: bool,
}

impl Said {
    /// Reads to the end, so that the program never waits for a reader.
    pub(super) async fn keep(&mut self, from: Option<impl AsyncRead + Unpin>) {
        let Some(mut from) = from else { return };
        let mut buffer = Zeroizing::new([0; 1024]);
        while let Ok(length @ 1..) = from.read(&mut *buffer).await {
            self.add(buffer.get(..length).unwrap_or_default());
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        // A label may have begun before.
        let longest = LABELS
            .map(<[u8]>::len)
            .into_iter()
            .max()
            .unwrap_or_default();
        let from = self.bytes.len().saturating_sub(longest);
        self.bytes.extend_from_slice(bytes);
        let fresh = self.bytes.get(from..).unwrap_or_default();
        let is_there = |label: &[u8]| fresh.windows(label.len()).any(|part| part == label);
        self.has_label |= LABELS.into_iter().any(is_there);
        let excess = self.bytes.len().saturating_sub(MOST_OUTPUT);
        self.bytes.drain(..excess);
    }

    fn has_key(&self, secrets: &[Secret]) -> bool {
        self.has_label || secrets.iter().any(|secret| secret.is_in(&self.bytes))
    }
}

/// What may be shown of both outputs, where these are the keys that the program could read. None if
/// it said nothing.
pub(super) fn shown(outputs: [&Said; 2], secrets: &[Secret]) -> Option<String> {
    if outputs.iter().any(|said| said.has_key(secrets)) {
        return Some("(a private key, not shown)".to_owned());
    }
    let texts = outputs.map(|said| String::from_utf8_lossy(&said.bytes).trim().to_owned());
    let text = texts.join("\n").trim().to_owned();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
#[path = "said_tests.rs"]
mod tests;
