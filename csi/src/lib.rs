//! A CSI node driver that knows volumes, not certificates.
//!
//! It owns the sockets, the mounts and the paths below kubelet's directory: one tmpfs per volume,
//! whose part `data/` is bound into the pod. What is in it is somebody else's business: whoever
//! implements [`VolumeContent`].
//!
//! ```text
//! ROOT/plugins/DRIVER/csi.sock              the CSI services
//! ROOT/plugins/DRIVER/volumes/ID/           a volume's tmpfs: out of every pod's sight
//! ROOT/plugins/DRIVER/volumes/ID/data/      bound to the target
//! ROOT/plugins_registry/DRIVER@reg.sock     by which kubelet finds the driver
//! ROOT/pods/UID/volumes/kubernetes.io~csi/NAME/mount    the target
//! ```
pub mod api;
pub mod content;
mod identity;
pub mod look;
mod mounts;
mod node;
pub mod paths;
mod registration;
mod request;
mod server;
mod status;
mod volumes;

pub use content::{
    ContentDir, FillError, FillErrorKind, Pod, PodVolume, ServiceAccountToken, VolumeContent,
    VolumeId,
};
pub use mounts::MountError;
pub use paths::{DriverName, DriverNameError};
pub use registration::Registration;
pub use server::{Driver, DriverSettings, FoundVolume, OpenError, ServeError, Target};
