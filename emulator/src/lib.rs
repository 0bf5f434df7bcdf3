//! A CA Service pool on loopback: real X.509, the service's REST API and its rules, for tests and
//! for trying things. Never a production CA: it signs for everybody who reaches it.
//!
//! One create request, in the order in which it meets the files: [`serve`] (`connection.rs`) →
//! `rest.rs` (route, query, faults of the transport) → [`Emulator::create_certificate`]
//! (`emulator.rs`) → `order.rs` (the body) → `request.rs` (key, names, usages) → `policy.rs` (what the pool
//! allows) → `idempotency.rs` (asked before?) → `issue.rs` (signing) → `state.rs` (kept on disk).
//!
//! Where the service's documentation leaves something open, this is what the emulator does:
//! - a key type, issuance mode or lifetime that the pool forbids is `INVALID_ARGUMENT`;
//! - get, list and revoke on a DEVOPS pool are `FAILED_PRECONDITION`;
//! - a `requestId` is remembered for exactly 60 minutes within its location, and its repetition gets
//!   the first answer, whatever the second body says;
//! - every leaf carries basic constraints with CA:FALSE, whether they were asked for or not.
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

mod connection;
mod emulator;
mod encoding;
mod errors;
mod faults;
mod idempotency;
mod issue;
mod ledger;
mod order;
mod policy;
mod pool;
mod request;
mod rest;
mod scalars;
mod state;
mod wire;

pub use connection::{check_loopback, serve};
pub use emulator::{Clock, Emulator, system_clock};
pub use errors::{ApiError, Code, EmulatorError};
pub use faults::{CertificateFault, Fault, FaultRule, Method};
pub use ledger::{CreateRequest, Sold, Stats};
pub use order::CreateQuery;
pub use policy::{
    AllowedKeyType, EcKeyType, EcSignatureAlgorithm, IdentityConstraints, IssuanceModes,
    IssuancePolicy, KnownExtension, PassthroughExtensions, RsaKeyType,
};
pub use pool::{
    CaKey, CaSpec, EmulatorConfig, ISSUING_POOL_ID, PoolName, PoolNameError, PoolSpec,
    ROOT_POOL_ID, Tier,
};
pub use scalars::{Base64Bytes, ProtoDuration};
pub use wire::{
    BaseKeyUsage, CaOptions, CaPoolJson, CertChain, CertificateDescription, CertificateJson,
    ExtendedKeyUsage, FetchCaCertsJson, KeyFormat, KeyId, KeyUsage, PublicKeyJson, Subject,
    SubjectAltNames, SubjectDescription, X509Parameters,
};
