//! The policy of certagent, pure: no files, clock, network or randomness.
//!
//! The story of one certificate, in types:
//!
//! 1. [`config::load`] turns YAML into a [`config::Config`], or into every problem with its place.
//! 2. [`plan::IssuePlan`]: which identity, which key, how long. Every rule that forbids a
//!    certificate before it is asked for lives where the plan is built.
//! 3. [`request::PreparedRequest`]: what stays the same over every retry.
//! 4. [`outcome`]: what an attempt's failure means, and what is allowed next.
//! 5. [`issued::RawChain`] becomes an [`issued::IssuedChain`] by one check, or is refused.
//! 6. [`rotation::next`] and [`backoff`]: when to ask again.
//! 7. [`conditions`]: what a cluster's objects say about all that.
//!
//! Where a controller signs for nodes, [`approval`] says which of their requests it may.
//!
//! Everything that depends on time takes `now`.
pub mod algorithm;
pub mod approval;
pub mod backoff;
pub mod bundle_endpoint;
pub mod conditions;
pub mod config;
pub mod dns;
pub mod issued;
pub mod names;
pub mod outcome;
pub mod plan;
pub mod pool;
pub mod request;
pub mod rotation;
pub mod spread_rotation;
pub mod trust;

#[cfg(test)]
mod test_pki;
