//! The CA certificates that servers on the network are checked by. They have nothing to do with
//! the trust bundles of workloads.
use std::{
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use tracing::{debug, warn};

use super::error::{LONGEST_TEXT, printable};
use crate::small_file::{self, SmallFileError};

/// The largest `--ca-bundle` that is read, in bytes. Those of distributions have about 220 KB.
pub const MAX_BUNDLE_BYTES: usize = 4 * 1024 * 1024;

/// Each of these turns whoever sets it into the one who is trusted.
const VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// The CA certificates that https servers are checked by. Clones share them.
#[derive(Clone)]
pub struct Roots(Arc<RootCertStore>);

/// Why there are no CA certificates.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootsError {
    /// The file of `--ca-bundle` was not read.
    #[error("the CA bundle {}: {source}; give --ca-bundle a PEM file with CA certificates", path.display())]
    Unread {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SmallFileError,
    },
    /// It has a private key, which belongs nowhere near whatever is public.
    #[error("the CA bundle {} has a private key in it; give --ca-bundle a file with CA certificates alone, and think of that key as exposed if others can read the file", path.display())]
    PrivateKey {
        /// The file.
        path: PathBuf,
    },
    /// It is broken.
    #[error("the CA bundle {} is broken: a block of it is cut off or not base64; get it again from where it came, and give that to --ca-bundle", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
    },
    /// Nothing in it can be used.
    #[error("the CA bundle {} has {found}; give --ca-bundle a PEM file with CA certificates (-----BEGIN CERTIFICATE-----)", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What there is instead.
        found: &'static str,
    },
    /// The machine has none.
    #[error(
        "there are no CA certificates to check https servers by ({reason}); pass --ca-bundle FILE, or set SSL_CERT_FILE"
    )]
    NoneHere {
        /// Where they were looked for.
        reason: String,
    },
}

impl Roots {
    /// Nobody is trusted: for services on this machine that are reached by plain http.
    pub fn none() -> Self {
        Self(Arc::new(RootCertStore::empty()))
    }

    /// Those of `bundle`; without one, those that `SSL_CERT_FILE` or `SSL_CERT_DIR` name; without
    /// these, the system's.
    pub fn load(bundle: Option<&Path>) -> Result<Self, RootsError> {
        match bundle {
            Some(path) => Self::of_bundle(path),
            None => Self::of_system(|name| std::env::var_os(name)),
        }
    }

    /// Those of a PEM file. A certificate in it that TLS cannot use is passed over with a warning,
    /// as long as others remain.
    pub fn of_bundle(path: &Path) -> Result<Self, RootsError> {
        let owned = || path.to_owned();
        let bytes =
            small_file::read(path, MAX_BUNDLE_BYTES).map_err(|source| RootsError::Unread {
                path: owned(),
                source,
            })?;
        if has_private_key(&bytes) {
            return Err(RootsError::PrivateKey { path: owned() });
        }
        let certificates = CertificateDer::pem_slice_iter(&bytes)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_not_pem| RootsError::Broken { path: owned() })?;
        let has_any = !certificates.is_empty();
        let (store, ignored) = store(certificates);
        if store.is_empty() {
            let found = if has_any {
                "no certificate that TLS can use"
            } else {
                "no certificate"
            };
            return Err(RootsError::Empty {
                path: owned(),
                found,
            });
        }
        if ignored > 0 {
            warn!(bundle = %path.display(), ignored, "certificates that TLS cannot use are passed over");
        }
        Ok(Self(Arc::new(store)))
    }

    fn of_system(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, RootsError> {
        let found = rustls_native_certs::load_native_certs();
        let (store, ignored) = store(found.certs);
        debug!(
            certificates = store.len(),
            ignored, "CA certificates of the system"
        );
        if !store.is_empty() {
            return Ok(Self(Arc::new(store)));
        }
        let named = VARIABLES
            .iter()
            .find_map(|name| Some(format!("{name} is {}", variable(name)?.display())));
        let reason = match (named, found.errors.first()) {
            (Some(named), Some(error)) => format!("{named}: {error}"),
            (Some(named), None) => format!("{named}, where there is no certificate"),
            (None, Some(error)) => error.to_string(),
            (None, None) => "this system has none in the usual places".to_owned(),
        };
        Err(RootsError::NoneHere {
            reason: printable(&reason, LONGEST_TEXT),
        })
    }

    /// Whether nobody is trusted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// For the TLS library.
    pub(crate) fn store(&self) -> Arc<RootCertStore> {
        Arc::clone(&self.0)
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Roots({})", self.0.len())
    }
}

/// What TLS can use, and how many it cannot.
fn store(certificates: Vec<CertificateDer<'static>>) -> (RootCertStore, usize) {
    let mut store = RootCertStore::empty();
    let (_, ignored) = store.add_parsable_certificates(certificates);
    (store, ignored)
}

/// Of any kind, encrypted ones included.
fn has_private_key(pem: &[u8]) -> bool {
    const END: &[u8] = b"PRIVATE KEY-----";
    pem.windows(END.len()).any(|window| window == END)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn root() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.self_signed(&key).unwrap().pem()
    }

    fn of(text: impl AsRef<[u8]>) -> Result<usize, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let roots = Roots::of_bundle(file.path());
        let said = roots.map(|roots| roots.0.len());
        said.map_err(|error| {
            let said = error.to_string();
            assert!(said.contains(&file.path().display().to_string()), "{said}");
            said
        })
    }

    #[test]
    fn a_bundle_of_any_number_of_certificates_is_read() {
        assert_eq!(of(root()), Ok(1));
        assert_eq!(of(format!("# two\n{}\nand\n{}", root(), root())), Ok(2));
        // One of them is not what it says.
        let odd = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(of(format!("{odd}{}", root())), Ok(1));
    }

    #[test]
    fn every_other_bundle_is_refused_in_one_sentence_with_the_next_step() {
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let odd = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (text, expected) in [
            (String::new(), "has no certificate;"),
            ("not PEM".to_owned(), "has no certificate;"),
            (odd.to_owned(), "has no certificate that TLS can use"),
            (format!("{}{key}", root()), "has a private key in it"),
            (
                key.replace("PRIVATE", "ENCRYPTED PRIVATE"),
                "has a private key in it",
            ),
            (
                root().replace("-----END", "-----AND"),
                "cut off or not base64",
            ),
            (root().replace("MII", "M*I"), "cut off or not base64"),
        ] {
            let said = of(text).unwrap_err();
            assert!(said.contains(expected), "{expected}: {said}");
            assert!(!said.contains("MII"), "{said}");
        }
        let said = of(vec![b'#'; MAX_BUNDLE_BYTES + 1]).unwrap_err();
        assert!(said.contains("larger than"), "{said}");
        let none = Roots::load(Some(Path::new("/nonexistent/ca.pem"))).unwrap_err();
        assert_eq!(
            none.to_string(),
            "the CA bundle /nonexistent/ca.pem: no such file or directory; give --ca-bundle a PEM \
             file with CA certificates"
        );
        let said = Roots::load(Some(Path::new("/"))).unwrap_err().to_string();
        assert!(said.contains("not a file"), "{said}");
    }

    proptest! {
        #[test]
        fn no_bundle_makes_the_reader_panic(
            cut in 0..900_usize, byte in any::<u8>(), noise in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut text = root().into_bytes();
            if let Some(at) = text.get_mut(cut) { *at = byte; }
            text.extend(noise);
            drop(of(text));
        }
    }
}
