//! What is read of a Kubernetes cluster.
mod client;
mod driver_object;
mod objects;

pub use client::{ClientError, client};
pub use driver_object::{DriverObject, follow as follow_driver_object};
pub(crate) use objects::{Looked, look};
