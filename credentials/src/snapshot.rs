//! A credential: the files of one generation, parsed, and known to belong together.
use std::collections::BTreeMap;

use certagent_svid::{
    Certificate, Chain, PrivateKey, SpiffeId, TrustBundle, TrustBundles, TrustDomain, bundle_map,
    layout, leaf,
    verify::{self, Algorithms, VerifiedPath, VerifyError},
};
use jiff::Timestamp;

use crate::{FileProblem, Files, Layout, ReadError, pair::Pair};

/// The `spiffe_sequence` of each trust domain that has one.
type Sequences = BTreeMap<TrustDomain, u64>;

/// One coherent credential: key, chain, roots and bundles of the same generation.
///
/// The key fits the leaf and every part parses. Whether the chain leads to the roots *now* is
/// [`Snapshot::verify`].
#[derive(Debug)]
pub struct Snapshot {
    layout: Layout,
    chain: Chain,
    key: PrivateKey,
    roots: TrustBundle,
    bundles: Option<TrustBundles>,
    sequences: Sequences,
    spiffe_id: SpiffeId,
}

impl Snapshot {
    /// Parses files and checks that they belong together.
    ///
    /// Demanded: a chain whose leaf has a SPIFFE ID, a PKCS#8 key that fits it, and at least one
    /// root, from `ca_certificates.pem` or else from the bundle map. Key and chain are those of
    /// `credential-bundle.pem`, if it is there, or else those of the two files.
    ///
    /// What is there must agree, but for the two files beside a bundle in [`Layout::Plain`], which are
    /// not written at the same moment: there the pair with the newer certificate is taken, and what
    /// is half written is an error.
    pub fn parse(files: &Files) -> Result<Self, ReadError> {
        let Pair {
            chain,
            spiffe_id,
            key,
        } = Pair::of(files)?;
        let (bundles, sequences) = bundles(files)?.unzip();
        let roots = roots(files, &spiffe_id, bundles.as_ref())?;
        Ok(Self {
            layout: files.layout().clone(),
            chain,
            key,
            roots,
            bundles,
            sequences: sequences.unwrap_or_default(),
            spiffe_id,
        })
    }

    /// How the directory's files are replaced, and which generation this is.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The name of the generation, where the directory has generations.
    pub fn generation(&self) -> Option<&str> {
        match &self.layout {
            Layout::Swapped { generation } => Some(generation),
            Layout::Plain => None,
        }
    }

    /// Whose credential it is.
    pub fn spiffe_id(&self) -> &SpiffeId {
        &self.spiffe_id
    }

    /// Leaf and intermediates.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The private key, which fits the leaf.
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// The roots of the leaf's own trust domain; at least one.
    pub fn roots(&self) -> &[Certificate] {
        self.roots.roots()
    }

    /// The same roots, as the bundle of the leaf's trust domain.
    pub fn bundle(&self) -> &TrustBundle {
        &self.roots
    }

    /// The roots of every trusted domain, if the directory has a bundle map.
    pub fn bundles(&self) -> Option<&TrustBundles> {
        self.bundles.as_ref()
    }

    /// The `spiffe_sequence` of a trust domain in the bundle map, where it has one.
    pub fn sequence(&self, trust_domain: &TrustDomain) -> Option<u64> {
        self.sequences.get(trust_domain).copied()
    }

    /// The bundle of one trust domain: the leaf's own, or one of the bundle map.
    pub fn bundle_of(&self, trust_domain: &TrustDomain) -> Option<&TrustBundle> {
        if trust_domain == self.roots.trust_domain() {
            return Some(&self.roots);
        }
        self.bundles
            .as_ref()
            .and_then(|bundles| bundles.get(trust_domain))
    }

    /// The bundles of all trusted domains, the leaf's own first.
    pub(crate) fn all_bundles(&self) -> impl Iterator<Item = &TrustBundle> {
        let own = self.roots.trust_domain();
        let others = self.bundles.iter().flat_map(TrustBundles::iter);
        std::iter::once(&self.roots).chain(others.filter(move |it| it.trust_domain() != own))
    }

    /// When the first certificate of the chain ends. The root may end earlier still: see
    /// [`Snapshot::verify`].
    pub fn not_after(&self) -> Timestamp {
        self.chain.earliest_not_after()
    }

    /// When it is of no use any more: its chain has ended, or the last of its own roots has, so that
    /// neither side of a connection within the trust domain can be verified.
    pub(crate) fn usable_until(&self) -> Timestamp {
        self.roots_end().min(self.not_after())
    }

    /// When the last root of the own trust domain ends.
    pub(crate) fn roots_end(&self) -> Timestamp {
        let ends = self.roots().iter().map(Certificate::not_after);
        ends.max().unwrap_or(Timestamp::MIN)
    }

    /// Nothing of it differs.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.layout == other.layout
            && self.chain == other.chain
            && self.key.public_key() == other.key.public_key()
            && self.roots == other.roots
            && self.bundles == other.bundles
            && self.sequences == other.sequences
    }

    /// Verifies that the chain leads to one of the snapshot's own roots at `now`.
    pub fn verify(
        &self,
        algorithms: Algorithms<'_>,
        now: Timestamp,
    ) -> Result<VerifiedPath, VerifyError> {
        verify::path(&self.chain, &self.roots, algorithms, now)
    }
}

pub(crate) fn optional<'a>(files: &'a Files, name: &str) -> Result<Option<&'a [u8]>, ReadError> {
    files
        .optional(name)
        .map_err(|problem| file_error(files, name, problem))
}

/// What is said of a file that has no content.
pub(crate) fn file_error(files: &Files, name: &str, problem: &FileProblem) -> ReadError {
    ReadError::File {
        path: files.path(name),
        problem: problem.clone(),
    }
}

fn bundles(files: &Files) -> Result<Option<(TrustBundles, Sequences)>, ReadError> {
    optional(files, layout::TRUST_BUNDLES)?
        .map(bundle_map::parse_with_sequences)
        .transpose()
        .map_err(|source| ReadError::Bundles {
            path: files.path(layout::TRUST_BUNDLES),
            source,
        })
}

/// The roots of the leaf's trust domain: GCE's newer agent writes them into the map only.
fn roots(
    files: &Files,
    spiffe_id: &SpiffeId,
    bundles: Option<&TrustBundles>,
) -> Result<TrustBundle, ReadError> {
    let trust_domain = spiffe_id.trust_domain();
    let mapped = bundles.and_then(|bundles| bundles.get(trust_domain));
    let pem = optional(files, layout::CA_CERTIFICATES)?;
    let path = files.path(match pem {
        None if bundles.is_some() => layout::TRUST_BUNDLES,
        _ => layout::CA_CERTIFICATES,
    });
    let own = match (pem, mapped) {
        (Some(pem), _) => Certificate::parse_pem_list(pem).map_err(|source| ReadError::Roots {
            path: path.clone(),
            source,
        })?,
        (None, Some(mapped)) => mapped.roots().to_vec(),
        (None, None) if bundles.is_some() => Vec::new(),
        (None, None) => {
            return Err(file_error(
                files,
                layout::CA_CERTIFICATES,
                &FileProblem::Missing,
            ));
        }
    };
    if own.is_empty() {
        let trust_domain = trust_domain.to_string();
        return Err(ReadError::NoRoots { path, trust_domain });
    }
    if let Some(stranger) = own.iter().find(|root| !root.is_ca()) {
        let subject = name(stranger);
        return Err(ReadError::RootNotCa { path, subject });
    }
    let own = TrustBundle::new(trust_domain.clone(), own);
    match mapped {
        Some(mapped) if mapped.roots() != own.roots() => Err(ReadError::BundlesDiffer {
            path: files.path(layout::TRUST_BUNDLES),
            roots: path,
            trust_domain: trust_domain.to_string(),
        }),
        _ => Ok(own),
    }
}

/// A certificate's subject, or else what it has instead.
fn name(certificate: &Certificate) -> String {
    let subject = certificate.subject_text();
    if !subject.is_empty() {
        return subject;
    }
    leaf::spiffe_id(certificate).map_or_else(
        |_none| {
            let hex = certificate.fingerprint().map(|byte| format!("{byte:02x}"));
            format!("SHA-256 {}", hex.concat())
        },
        |id| id.to_string(),
    )
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
