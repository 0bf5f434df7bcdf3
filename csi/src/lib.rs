//! A CSI node driver that knows volumes, not certificates.
//!
//! It owns the sockets, the mounts and the paths below kubelet's directory: one tmpfs per volume,
//! whose part `data/` is bound into the pod. What is in it is somebody else's business: whoever
//! implements [`VolumeContent`].
pub mod content;

pub use content::{
    ContentDir, FillError, FillErrorKind, Pod, PodVolume, ServiceAccountToken, VolumeContent,
    VolumeId,
};
