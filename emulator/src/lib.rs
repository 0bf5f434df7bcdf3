//! A CA Service pool on loopback: real X.509, the service's REST API and its rules, for tests and
//! for trying things. Never a production CA: it signs for everybody who reaches it.
//!
//! A request, in the order in which it meets the files: [`serve`] (`connection.rs`) → `rest.rs` and
//! `route.rs` (verb and path → call; query parameters by `params.rs`) → `faults/` (what is to go
//! wrong) → `identity/` (who calls) → `quota.rs` → `iam/` (whether they may) → the file of what it is
//! about:
//! - `pools.rs`: locations and pools. `authorities.rs`: CAs; `chain.rs` looks at chains from outside.
//! - `certificates.rs`: `order.rs` (the body) → `request.rs` (key, names, usages) → `policy.rs` (what
//!   the pool allows) → `issue.rs` (signing) → `describe.rs` (what was signed).
//! - `iam_store.rs`: IAM policies. `operations.rs`: long-running operations. `neighbours.rs`: what
//!   clients ask of other services.
//!
//! They all read JSON by `json.rs`, change by `mask.rs`, list by `listing.rs`, repeat by
//! `idempotency.rs`, and stand on `world.rs` (what pools and CAs there are), `ledger.rs` (what was
//! issued) and `state.rs` (what is on the disk). `seed.rs` makes the pools of an [`EmulatorConfig`].
//!
//! Where the service's documentation leaves something open, this is what the emulator does:
//! - a key type, issuance mode or lifetime that the pool forbids is `INVALID_ARGUMENT`;
//! - get, list, change and revoke of certificates on a DEVOPS pool are `FAILED_PRECONDITION`;
//! - a `requestId` is remembered for exactly 60 minutes within its location, and its repetition gets
//!   the first answer, whatever the second body says;
//! - quotas, where they are switched on, are reckoned as `quota.rs` says: every request counts,
//!   replays, `validateOnly` and refused ones as well;
//! - without any configured identity every caller is an administrator; with one, a call needs a
//!   token, see [`IdentityConfig`];
//! - with `subjectMode: REFLECTED_SPIFFE` the subject is empty and the caller's SPIFFE ID the only
//!   name, whatever the request and the pool's `identityConstraints` say; a caller without one is
//!   refused with `INVALID_ARGUMENT`, and so is who asks for a CA certificate;
//! - an IAM binding with a condition is refused on a pool, and grants nothing on a project;
//! - every leaf carries basic constraints with CA:FALSE, whether they were asked for or not;
//! - operations are done when they are first looked at, and what fails fails in the answer to the
//!   request itself, never in an operation;
//! - what the state of a CA does not allow, like enabling an enabled one, is `FAILED_PRECONDITION`;
//!   every CA but an enabled one can be deleted, and comes back as a disabled one, or as one that
//!   waits for its activation;
//! - the enabled CAs of a pool sign in turn;
//! - every project exists, and pools can be made in every location;
//! - certificates name the issuer's address if the pool publishes CA certificates. Nothing answers
//!   there; there are no revocation lists at all.
//!
//! Faults, quotas and the form of replays can be changed while it runs, by [`Emulator::set_faults`]
//! and its neighbours or over HTTP under `/emulator/v1/` (`admin/`).
//!
//! ```
//! use certagent_emulator::{Emulator, EmulatorConfig, system_clock};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = EmulatorConfig::guide("my-project", "us-central1")?;
//! let emulator = Emulator::new(config, system_clock(), None)?;
//! let pool = "projects/my-project/locations/us-central1/caPools/issuing-pool";
//! let chain = &emulator.fetch_ca_certs(pool)?.ca_certs[0].certificates;
//! assert_eq!(chain.len(), 2, "the subordinate, then the root");
//! # Ok(())
//! # }
//! ```

mod admin;
mod authorities;
mod certificates;
mod chain;
mod connection;
mod controls;
mod describe;
mod emulator;
mod encoding;
mod errors;
mod faults;
mod files;
mod history;
mod iam;
mod iam_store;
mod idempotency;
mod identity;
mod issue;
mod json;
mod keys;
mod ledger;
mod listing;
mod mask;
mod neighbours;
mod operations;
mod order;
mod params;
mod policy;
mod pool;
mod pools;
mod quota;
mod request;
mod resources;
mod rest;
mod revocation;
mod route;
mod scalars;
mod seed;
mod state;
mod wire;
mod world;

pub use connection::{ServeOptions, check_loopback, serve, serve_with};
pub use emulator::{Clock, Emulator, system_clock};
pub use errors::{ApiError, Code, EmulatorError};
pub use faults::{
    Allowed, CatalogueEntry, CertificateFault, Fault, FaultRule, Method, Parameter, PoolSelector,
    PoolSelectorError, Preset,
};
pub use iam_store::Binding;
pub use idempotency::ReplayForm;
pub use identity::{
    IdentityConfig, IdentityConfigError, Jwk, Jwks, MetadataServerConfig, ProviderConfig,
    ServiceAccountConfig, UserConfig,
};
pub use keys::CaKey;
pub use ledger::{CreateRequest, Sold, Stats};
pub use order::CreateQuery;
pub use policy::{
    AllowedKeyType, EcKeyType, EcSignatureAlgorithm, IdentityConstraints, IssuanceModes,
    IssuancePolicy, KnownExtension, PassthroughExtensions, RsaKeyType,
};
pub use pool::{
    CaSpec, EmulatorConfig, ISSUING_POOL_ID, PoolName, PoolNameError, PoolSpec, ROOT_POOL_ID, Tier,
};
pub use quota::Quotas;
pub use resources::{CaPoolJson, EncodingFormat, PublishingOptions};
pub use revocation::{RevocationDetails, RevocationReason};
pub use scalars::{Base64Bytes, ProtoDuration};
pub use wire::{
    BaseKeyUsage, CaOptions, CertChain, CertificateDescription, CertificateJson, ExtendedKeyUsage,
    FetchCaCertsJson, Fingerprint, KeyFormat, KeyId, KeyUsage, PublicKeyJson, Subject,
    SubjectAltNames, SubjectDescription, X509Parameters,
};
