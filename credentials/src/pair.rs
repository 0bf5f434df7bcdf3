//! Key and chain: both out of `credential-bundle.pem`, or each out of its own file.
use certagent_svid::{Chain, KeyError, PrivateKey, SpiffeId, layout, leaf};

use crate::{
    Files, Layout, ReadError,
    snapshot::{file_error, optional},
};

/// A key, and a chain whose leaf it fits.
pub(crate) struct Pair {
    pub(crate) chain: Chain,
    pub(crate) spiffe_id: SpiffeId,
    pub(crate) key: PrivateKey,
}

impl Pair {
    /// The pair of a directory. The bundle is looked at first: it is one file, so what is in it was
    /// written together, whatever its writer does with the others.
    pub(crate) fn of(files: &Files) -> Result<Self, ReadError> {
        let Some(bundle) = optional(files, layout::CREDENTIAL_BUNDLE)? else {
            if has_neither(files)? {
                let directory = files.directory().to_owned();
                return Err(ReadError::Empty { directory });
            }
            return Self::of_two(files);
        };
        // The usual case, byte for byte what the two files hold.
        if let (Ok(key), Ok(chain)) = (
            files.get(layout::PRIVATE_KEY),
            files.get(layout::CERTIFICATES),
        ) && bundle.strip_prefix(key) == Some(chain)
        {
            return Self::of_two(files);
        }
        let bundled = Self::read(files, layout::CREDENTIAL_BUNDLE, layout::CREDENTIAL_BUNDLE)?;
        match files.layout() {
            Layout::Swapped { .. } => bundled.agreeing(files),
            Layout::Plain => bundled.or_newer(files),
        }
    }

    fn of_two(files: &Files) -> Result<Self, ReadError> {
        Self::read(files, layout::CERTIFICATES, layout::PRIVATE_KEY)
    }

    fn read(files: &Files, certificates: &str, private_key: &str) -> Result<Self, ReadError> {
        Self::parts(files, certificates, private_key)?.fitting(files, certificates, private_key)
    }

    fn fitting(
        self,
        files: &Files,
        certificates: &str,
        private_key: &str,
    ) -> Result<Self, ReadError> {
        if self.key.fits(self.chain.leaf()) {
            return Ok(self);
        }
        let (key, certificates) = (files.path(private_key), files.path(certificates));
        Err(if key == certificates {
            ReadError::CredentialBundleMismatch { path: key }
        } else {
            ReadError::KeyMismatch { key, certificates }
        })
    }

    /// Both of them, whether they fit each other or not.
    fn parts(files: &Files, certificates: &str, private_key: &str) -> Result<Self, ReadError> {
        let chain = chain(files, certificates)?;
        let spiffe_id = leaf::spiffe_id(chain.leaf()).map_err(|source| ReadError::Leaf {
            path: files.path(certificates),
            source,
        })?;
        let key = key(files, private_key)?;
        Ok(Self {
            chain,
            spiffe_id,
            key,
        })
    }

    /// All files of one generation were written together: another pair in one of them is a fault.
    fn agreeing(self, files: &Files) -> Result<Self, ReadError> {
        let differs = |what, other| ReadError::CredentialBundleDiffers {
            path: files.path(layout::CREDENTIAL_BUNDLE),
            what,
            other: files.path(other),
        };
        let name = layout::PRIVATE_KEY;
        if optional(files, name)?.is_some()
            && key(files, name)?.public_key() != self.key.public_key()
        {
            return Err(differs("key", name));
        }
        let name = layout::CERTIFICATES;
        if optional(files, name)?.is_some() && chain(files, name)? != self.chain {
            return Err(differs("chain", name));
        }
        Ok(self)
    }

    /// Plain files are rewritten one by one, and a bundle beside them may be the first that is
    /// rewritten, the last, or left over from a writer that wrote it once. So the newer pair is taken.
    /// While the two files are in the middle of a rewrite, the bundle is taken only where it may be as
    /// new as they were before: an old one would bring back a certificate that was replaced long ago.
    fn or_newer(self, files: &Files) -> Result<Self, ReadError> {
        let (key, certificates) = (layout::PRIVATE_KEY, layout::CERTIFICATES);
        if has_neither(files)? {
            return Ok(self);
        }
        let two = Self::parts(files, certificates, key)?;
        if two.issued() <= self.issued() {
            return Ok(self);
        }
        // Newer, but where they do not fit each other it is not all there yet.
        two.fitting(files, certificates, key)
    }

    /// Greater is newer.
    fn issued(&self) -> (jiff::Timestamp, jiff::Timestamp) {
        let leaf = self.chain.leaf();
        (leaf.not_before(), leaf.not_after())
    }
}

/// Neither key nor chain has a file of its own.
fn has_neither(files: &Files) -> Result<bool, ReadError> {
    let has = |name| optional(files, name).map(|content| content.is_some());
    Ok(!has(layout::PRIVATE_KEY)? && !has(layout::CERTIFICATES)?)
}

fn content<'a>(files: &'a Files, name: &str) -> Result<&'a [u8], ReadError> {
    files
        .get(name)
        .map_err(|problem| file_error(files, name, problem))
}

fn chain(files: &Files, name: &str) -> Result<Chain, ReadError> {
    Chain::parse_pem(content(files, name)?).map_err(|source| ReadError::Chain {
        path: files.path(name),
        source,
    })
}

fn key(files: &Files, name: &str) -> Result<PrivateKey, ReadError> {
    let path = || files.path(name);
    let is_bundle = name == layout::CREDENTIAL_BUNDLE;
    PrivateKey::from_pem(content(files, name)?).map_err(|source| match source {
        KeyError::Missing if is_bundle => ReadError::CredentialBundleWithoutKey { path: path() },
        KeyError::NotPkcs8 { label } if is_bundle => ReadError::CredentialBundleKeyForm {
            path: path(),
            label,
        },
        KeyError::NotPkcs8 { .. } => ReadError::KeyForm {
            path: path(),
            source,
        },
        source => ReadError::Key {
            path: path(),
            source,
        },
    })
}

#[cfg(test)]
#[path = "pair_tests.rs"]
mod tests;
