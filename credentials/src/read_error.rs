//! Why a directory holds no credential.
use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use certagent_svid::{
    CertificateError, ChainError, KeyError, bundle_map::BundleMapError, layout, leaf::LeafError,
};

use crate::{Access, read::TRIES};

/// Why one file has no content.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum FileProblem {
    /// There is no file of this name.
    #[error("there is no such file: nothing was written yet, or it is another directory")]
    Missing,
    /// Something else than a regular file is there.
    #[error("it is not a regular file")]
    NotAFile,
    /// A link is there, and this place must not have one.
    #[error("it is a link, which a generation must not contain")]
    Link,
    /// A link is there that leads to itself, directly or by others.
    #[error("it is a link that leads back to itself; whatever writes it must write it again")]
    LinkLoop,
    /// The file is larger than any credential.
    #[error("it is larger than {limit} bytes, so it is no credential")]
    TooLarge {
        /// How many bytes would have been read.
        limit: usize,
    },
    /// The file must not be read by this user.
    #[error("permission denied; run as a user or group that may read the workload's key")]
    Denied,
    /// The file must not be read by this user, and the system says who may.
    #[error("permission denied: {0}")]
    NotReadable(Access),
    /// The system refuses for another reason.
    #[error("{0}")]
    Io(Arc<io::Error>),
}

/// The message, as [`crate::Error`] has it.
impl fmt::Debug for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<io::Error> for FileProblem {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            io::ErrorKind::PermissionDenied => Self::Denied,
            _ => Self::Io(Arc::new(error)),
        }
    }
}

/// Why a directory holds no credential that can be read.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The directory does not exist.
    #[error("{directory} does not exist; check the path and that the volume is mounted")]
    NoDirectory {
        /// Its path.
        directory: PathBuf,
    },
    /// The path is not a directory.
    #[error("{directory} is not a directory; give the directory that holds the credential files")]
    NotADirectory {
        /// The path.
        directory: PathBuf,
    },
    /// The directory must not be opened by this user.
    #[error(
        "{directory} cannot be opened: permission denied; run as a user or group that may read it"
    )]
    Denied {
        /// Its path.
        directory: PathBuf,
    },
    /// The directory must not be opened by this user, and the system says who may.
    #[error("{directory} cannot be opened: permission denied: {access}")]
    NotReadable {
        /// Its path.
        directory: PathBuf,
        /// Who may.
        access: Access,
    },
    /// A directory above it must not be entered by this user.
    #[error("{directory} cannot be opened: permission denied to enter {above}: {access}")]
    NotEntered {
        /// The directory's path.
        directory: PathBuf,
        /// The directory above.
        above: PathBuf,
        /// Who may.
        access: Access,
    },
    /// Neither key nor chain are there, in no file.
    #[error(
        "{directory} holds no credential: there is neither {} nor {} and {}; nothing was written yet, or it is another directory",
        layout::CREDENTIAL_BUNDLE,
        layout::CERTIFICATES,
        layout::PRIVATE_KEY
    )]
    Empty {
        /// The directory's path.
        directory: PathBuf,
    },
    /// `..data` points to nothing.
    #[error(
        "{directory}/..data points to {generation}, which does not exist; whatever writes this directory must write it again"
    )]
    Dangling {
        /// The directory's path.
        directory: PathBuf,
        /// What `..data` points to.
        generation: String,
    },
    /// The files never stood still.
    #[error(
        "the files in {directory} changed during each of {TRIES} reads; read again in a moment, or let its writer swap ..data"
    )]
    Unstable {
        /// The directory's path.
        directory: PathBuf,
    },
    /// The system refuses for another reason.
    #[error("{directory} cannot be read: {source}")]
    Io {
        /// The directory's path.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("{path} cannot be read: {problem}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: FileProblem,
    },
    /// The chain does not parse.
    #[error("{path} is no certificate chain: {source}; it has to be issued again")]
    Chain {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ChainError,
    },
    /// The leaf has no SPIFFE ID.
    #[error("{path} is no X.509-SVID: {source}; it has to be issued again")]
    Leaf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: LeafError,
    },
    /// The key is a key, in a form that is not read.
    #[error("{path} cannot be used: {source}")]
    KeyForm {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, without anything of the key.
        source: KeyError,
    },
    /// The key does not parse.
    #[error("{path} is no private key: {source}; it has to be issued again")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, without anything of the key.
        source: KeyError,
    },
    /// Key and certificate are not of one pair.
    #[error(
        "the key in {key} does not belong to the certificate in {certificates}: the two are of different generations; read them through ..data, or issue again"
    )]
    KeyMismatch {
        /// The key's file.
        key: PathBuf,
        /// The chain's file.
        certificates: PathBuf,
    },
    /// The roots do not parse.
    #[error("{path} is no list of root certificates: {source}; the roots have to be written again")]
    Roots {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: CertificateError,
    },
    /// There is no root.
    #[error("{path} has no root for {trust_domain}; check the trust store of that domain")]
    NoRoots {
        /// The file.
        path: PathBuf,
        /// The leaf's trust domain.
        trust_domain: String,
    },
    /// A root is no CA.
    #[error(
        "{path} holds \"{subject}\", which is no CA certificate; take it out of the trust store"
    )]
    RootNotCa {
        /// The file.
        path: PathBuf,
        /// The certificate's subject; where that is empty, its SPIFFE ID or its SHA-256 fingerprint.
        subject: String,
    },
    /// The bundle map does not parse.
    #[error("{path} is no bundle map: {source}; it has to be written again")]
    Bundles {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: BundleMapError,
    },
    /// The bundle map has other roots for the leaf's trust domain than the roots' own file.
    #[error("{path} and {roots} name different roots for {trust_domain}; write them together")]
    BundlesDiffer {
        /// The bundle map.
        path: PathBuf,
        /// The roots' own file.
        roots: PathBuf,
        /// The leaf's trust domain.
        trust_domain: String,
    },
    /// The bundle of key and chain has no key.
    #[error(
        "{path} has no private key, but certificates only; key and chain have to be written into it, in one piece"
    )]
    CredentialBundleWithoutKey {
        /// The bundle's file.
        path: PathBuf,
    },
    /// The key in the bundle of key and chain is a key, in a form that is not read.
    #[error(
        "the key in {path} has the form \"{label}\", and only PKCS#8 without a password is read: convert it with \"(umask 077; openssl pkey -in {path} > {path}.new && sed -n '/BEGIN CERT/,/END CERT/p' {path} >> {path}.new && mv {path}.new {path})\""
    )]
    CredentialBundleKeyForm {
        /// The bundle's file.
        path: PathBuf,
        /// The label of the PEM block.
        label: &'static str,
    },
    /// Key and certificate in the bundle of both are not of one pair.
    #[error(
        "the key in {path} does not belong to the certificate beside it; both have to be written again, in one piece"
    )]
    CredentialBundleMismatch {
        /// The bundle's file.
        path: PathBuf,
    },
    /// The bundle of key and chain holds another pair than the two files of the same generation.
    #[error("{path} holds another {what} than {other}; write them together, by a swap of ..data")]
    CredentialBundleDiffers {
        /// The bundle's file.
        path: PathBuf,
        /// `key` or `chain`.
        what: &'static str,
        /// The file with which it disagrees.
        other: PathBuf,
    },
}

/// The message, as [`crate::Error`] has it.
impl fmt::Debug for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl ReadError {
    /// A directory could not be opened.
    pub(crate) fn open(directory: &Path, source: io::Error) -> Self {
        let directory = directory.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::NoDirectory { directory },
            io::ErrorKind::NotADirectory => Self::NotADirectory { directory },
            io::ErrorKind::PermissionDenied => match Access::of(&directory) {
                Some(access) => Self::NotReadable { directory, access },
                // It cannot even be looked at: the one above that can be bars the way.
                None => match above(&directory) {
                    Some((above, access)) => Self::NotEntered {
                        directory,
                        above,
                        access,
                    },
                    None => Self::Denied { directory },
                },
            },
            _ => Self::Io { directory, source },
        }
    }
}

fn above(directory: &Path) -> Option<(PathBuf, Access)> {
    let mut above = directory.ancestors().skip(1);
    above.find_map(|above| Some((above.to_owned(), Access::of(above)?)))
}
