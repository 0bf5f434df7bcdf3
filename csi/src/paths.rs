//! Names and places, by kubelet's own formulas.
use std::path::{Component, Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::content::VolumeId;

/// A driver's name by CSI's rules: a domain name of at most 63 characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DriverName(String);

/// It is no driver's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no driver name; write a domain name of at most 63 of a-z, 0-9, - and ., with a letter or digit at both ends"
)]
pub struct DriverNameError(String);

impl std::str::FromStr for DriverName {
    type Err = DriverNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
        let is_part = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
        let is_name = text.len() <= 63
            && text.bytes().all(is_part)
            && is_edge(text.bytes().next())
            && is_edge(text.bytes().last())
            && !text.contains("..");
        if is_name {
            Ok(Self(text.to_owned()))
        } else {
            Err(DriverNameError(text.chars().take(80).collect()))
        }
    }
}

impl DriverName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for DriverName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where everything of one driver is.
#[derive(Clone, Debug)]
pub struct Places {
    root: PathBuf,
    name: DriverName,
}

impl Places {
    /// The places of a driver below kubelet's directory.
    pub fn new(root: PathBuf, name: DriverName) -> Self {
        Self { root, name }
    }

    /// Kubelet's own directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The driver's own directory.
    pub fn plugin(&self) -> PathBuf {
        self.root.join("plugins").join(self.name.as_str())
    }

    /// The socket of the CSI services.
    pub fn socket(&self) -> PathBuf {
        self.plugin().join("csi.sock")
    }

    /// The directory of the volumes' tmpfs mounts.
    pub fn volumes(&self) -> PathBuf {
        self.plugin().join("volumes")
    }

    /// The mount of one volume.
    pub fn volume(&self, id: &VolumeId) -> PathBuf {
        self.volumes().join(id.as_str())
    }

    /// The directory in which drivers announce themselves.
    pub fn registry(&self) -> PathBuf {
        self.root.join("plugins_registry")
    }

    /// The socket by which this driver announces itself. Kubelet makes the `:authority` of its
    /// calls from the path; with an `@` in the name what stands before it counts as user
    /// information, without it HTTP/2 servers refuse the call.
    pub fn registration_socket(&self) -> PathBuf {
        self.registry().join(format!("{}@reg.sock", self.name))
    }

    /// The directory of all pods.
    pub fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }

    /// The directory of one pod.
    pub fn pod(&self, uid: &str) -> PathBuf {
        self.pods().join(uid)
    }

    /// The pod's uid and the volume's name in a target path of kubelet's form:
    /// `ROOT/pods/UID/volumes/kubernetes.io~csi/NAME/mount`.
    pub fn parse_target<'a>(&self, target: &'a Path) -> Option<(&'a str, &'a str)> {
        let below = target.strip_prefix(self.pods()).ok()?;
        let mut names = below.components().map(|part| match part {
            Component::Normal(name) => name.to_str(),
            _ => None,
        });
        let mut next = || names.next().flatten();
        let (uid, volumes, plugin, name, mount) = (next()?, next()?, next()?, next()?, next()?);
        let is_ours = volumes == "volumes" && plugin == "kubernetes.io~csi" && mount == "mount";
        // Components skip what texts may have: `.`, and slashes more than needed.
        let text = format!(
            "{}/{uid}/volumes/{plugin}/{name}/mount",
            self.pods().display()
        );
        let is_plain = target.as_os_str() == text.as_str();
        (is_ours && is_plain && names.next().is_none()).then_some((uid, name))
    }
}

/// The id that kubelet gives to a pod's inline volume (`makeVolumeHandle` in
/// `pkg/volume/csi/csi_plugin.go`): `csi-` and the SHA-256 of pod uid and volume name.
pub fn inline_volume_id(pod_uid: &str, volume_name: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(format!("{pod_uid}{volume_name}")).into();
    digest
        .iter()
        .fold("csi-".to_owned(), |id, byte| id + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn places() -> Places {
        let name = "driver.example.com".parse().unwrap();
        Places::new(PathBuf::from("/var/lib/kubelet"), name)
    }

    #[test]
    fn a_target_of_kubelet_s_form_names_pod_and_volume() {
        let target = Path::new("/var/lib/kubelet/pods/u-1/volumes/kubernetes.io~csi/certs/mount");
        assert_eq!(places().parse_target(target), Some(("u-1", "certs")));
    }

    #[test]
    fn every_other_target_is_refused() {
        for target in [
            "/var/lib/kubelet/pods/u/volumes/kubernetes.io~csi/certs",
            "/var/lib/kubelet/pods/u/volumes/kubernetes.io~csi/certs/mount/more",
            "/var/lib/kubelet/pods/u/volumes/kubernetes.io~csi/../mount",
            "/var/lib/kubelet/pods/../volumes/kubernetes.io~csi/certs/mount",
            "/var/lib/kubelet/pods/./u/volumes/kubernetes.io~csi/certs/mount",
            "/var/lib/kubelet/pods//u/volumes/kubernetes.io~csi/certs/mount",
            "/var/lib/kubelet/pods/u/volumes/kubernetes.io~csi/certs/mount/",
            "/var/lib/kubelet/pods/u/volumes/kubernetes.io~other/certs/mount",
            "/var/lib/kubelet/plugins/u/volumes/kubernetes.io~csi/certs/mount",
            "pods/u/volumes/kubernetes.io~csi/certs/mount",
            "/etc",
            "",
        ] {
            assert_eq!(places().parse_target(Path::new(target)), None, "{target}");
        }
    }

    #[test]
    fn an_id_is_made_as_kubelet_makes_it() {
        // printf u-1certs | sha256sum
        assert_eq!(
            inline_volume_id("u-1", "certs"),
            "csi-693286e286ef7c5e4303b919b0412efff39855ddd4d4a8f497dbf905f119104c"
        );
    }

    #[test]
    fn a_driver_name_is_a_domain_name() {
        for good in ["a", "workloadcertificates.security.cloud.google.com"] {
            assert_eq!(good.parse::<DriverName>().unwrap().as_str(), good);
        }
        let long = "a".repeat(64);
        for bad in ["", "-a", "a.", "a..b", "A", "a/b", "a b", "a@b", &long] {
            assert!(bad.parse::<DriverName>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_for_a_target_stays_below_the_pods(
            parts in proptest::collection::vec("[a-z~.]{0,8}|\\.\\.|volumes|kubernetes\\.io~csi|mount", 0..8),
        ) {
            let target = PathBuf::from(format!("/var/lib/kubelet/pods/{}", parts.join("/")));
            if let Some((uid, name)) = places().parse_target(&target) {
                prop_assert!(!uid.contains('/') && uid != ".." && name != "..");
                prop_assert!(target.starts_with("/var/lib/kubelet/pods"));
            }
        }
    }
}
