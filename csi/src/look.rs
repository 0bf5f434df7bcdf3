//! A look at a driver's places by somebody who is not the driver: nothing is changed and no lock is
//! taken, so that it can be done while the driver works.
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{net::UnixStream, time::timeout};
use tonic::{Code, Status};

use crate::{
    api::{
        GetPluginInfoRequest, GetPluginInfoResponse, ProbeRequest, identity_client::IdentityClient,
    },
    content::VolumeId,
    mounts::Mounts,
    paths::Places,
    registration,
    server::{OpenError, Target, check_kubelets, check_plain, check_shared, io_error, targets},
};

/// A driver that works answers at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// A volume, by its directory and the kernel's list of mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenVolume {
    /// Its id.
    pub id: VolumeId,
    /// Where its tmpfs is, or was.
    pub root: PathBuf,
    /// The tmpfs is mounted. After a reboot it is not.
    pub is_mounted: bool,
    /// Where it is bound.
    pub targets: Vec<Target>,
}

/// Who answers at a driver's socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The name that it gives itself.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// Why nobody is known to answer at a driver's socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoAnswer {
    /// There is no socket, nobody listens at it, or this user may not connect.
    #[error("cannot connect to {path}: {source}")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Whoever listens says nothing.
    #[error("whoever listens at {path} gave no answer in {seconds} s")]
    Silent {
        /// The socket.
        path: PathBuf,
        /// How long it was waited for.
        seconds: u64,
    },
    /// Whoever listens is no CSI driver, or says that it is not ready.
    #[error("whoever listens at {path} answered {code:?}: {message}")]
    Refused {
        /// The socket.
        path: PathBuf,
        /// The code.
        code: Code,
        /// The text.
        message: String,
    },
}

/// Somebody who announces a driver to kubelet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The socket in kubelet's directory of announcements.
    pub socket: PathBuf,
    /// The driver's name.
    pub name: String,
    /// Where the driver itself is said to answer.
    pub endpoint: PathBuf,
}

/// The directories are kubelet's, and such that the kernel's list of mounts has them under these
/// paths.
///
/// # Errors
/// With what a driver would refuse to begin for.
pub fn plain(places: &Places) -> Result<(), OpenError> {
    check_kubelets(places)?;
    [places.pods(), places.plugin()]
        .into_iter()
        .try_for_each(check_plain)
}

/// Mounts below the directories are seen by the host, and outlive whoever made them.
///
/// # Errors
/// With what a driver would refuse to begin for.
pub fn shared(places: &Places) -> Result<(), OpenError> {
    check_shared(&Mounts::read()?, places)
}

/// Every volume that has a directory, in the order of their ids.
///
/// # Errors
/// When the directory or the list of mounts cannot be read.
pub fn volumes(places: &Places) -> Result<Vec<SeenVolume>, OpenError> {
    let directory = places.volumes();
    let mounts = Mounts::read()?;
    let mut seen = Vec::new();
    for entry in fs::read_dir(&directory).map_err(io_error(&directory))? {
        let root = entry.map_err(io_error(&directory))?.path();
        let id = root.file_name().and_then(|name| name.to_str());
        // Anything else the driver leaves alone, too.
        if let Some(id) = id.and_then(VolumeId::new) {
            seen.push(SeenVolume {
                id,
                is_mounted: mounts.at(&root).is_some(),
                targets: targets(&mounts, &root, places),
                root,
            });
        }
    }
    seen.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(seen)
}

/// Asks whoever listens at the driver's socket who it is, and whether it is ready.
///
/// # Errors
/// When nobody is known to answer.
pub async fn ask(socket: &Path) -> Result<Answer, NoAnswer> {
    // Its own error says more than that of the channel.
    let connected = UnixStream::connect(socket).await;
    connected.map_err(|source| NoAnswer::Connect {
        path: socket.to_owned(),
        source,
    })?;
    let asked = timeout(PATIENCE, call(socket)).await;
    let answer = asked.map_err(|_elapsed| NoAnswer::Silent {
        path: socket.to_owned(),
        seconds: PATIENCE.as_secs(),
    })?;
    let GetPluginInfoResponse {
        name,
        vendor_version: version,
    } = answer.map_err(|status| NoAnswer::Refused {
        path: socket.to_owned(),
        code: status.code(),
        message: status.message().to_owned(),
    })?;
    Ok(Answer { name, version })
}

async fn call(socket: &Path) -> Result<GetPluginInfoResponse, Status> {
    let channel = registration::connect(socket).await;
    let channel = channel.ok_or_else(|| Status::unavailable("it does not speak HTTP/2"))?;
    let mut identity = IdentityClient::new(channel);
    identity.probe(ProbeRequest {}).await?;
    let answer = identity.get_plugin_info(GetPluginInfoRequest {}).await?;
    Ok(answer.into_inner())
}

/// Everybody who announces a driver to kubelet; sockets at which nobody answers are left out.
///
/// # Errors
/// When the directory cannot be read.
pub async fn announced(places: &Places) -> Result<Vec<Announcement>, OpenError> {
    let registry = places.registry();
    let entries = fs::read_dir(&registry).map_err(io_error(&registry))?;
    let mut announced = Vec::new();
    for entry in entries.flatten() {
        let socket = entry.path();
        if let Some(info) = registration::ask(&socket).await {
            announced.push(Announcement {
                socket,
                name: info.name,
                endpoint: PathBuf::from(info.endpoint),
            });
        }
    }
    announced.sort_by(|one, other| one.socket.cmp(&other.socket));
    Ok(announced)
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    fn places() -> (tempfile::TempDir, Places) {
        let root = tempfile::tempdir().unwrap();
        let name = "driver.example.com".parse().unwrap();
        let places = Places::new(root.path().to_owned(), name);
        for path in [places.pods(), places.registry(), places.volumes()] {
            fs::create_dir_all(path).unwrap();
        }
        (root, places)
    }

    #[test]
    fn volumes_without_their_memory_are_seen_and_strangers_are_not() {
        let (_root, places) = places();
        for name in ["csi-b", "csi-a", ".hidden"] {
            fs::create_dir(places.volumes().join(name)).unwrap();
        }
        let seen = volumes(&places).unwrap();
        let ids: Vec<_> = seen.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(ids, ["csi-a", "csi-b"]);
        assert!(seen.iter().all(|one| !one.is_mounted));
        assert!(seen.iter().all(|one| one.targets.is_empty()));
        assert_eq!(seen[0].root, places.volumes().join("csi-a"));
    }

    #[test]
    fn a_directory_that_is_missing_is_named() {
        let (_root, places) = places();
        fs::remove_dir(places.volumes()).unwrap();
        fs::remove_dir(places.plugin()).unwrap();
        for error in [
            plain(&places).unwrap_err(),
            volumes(&places).map(drop).unwrap_err(),
        ] {
            assert!(matches!(error, OpenError::Io { .. }), "{error}");
            assert!(error.to_string().contains("No such file"), "{error}");
        }
        fs::remove_dir(places.registry()).unwrap();
        let error = plain(&places).unwrap_err();
        assert!(matches!(error, OpenError::NotKubelets { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_socket_where_nobody_answers_is_told_apart_from_none() {
        let (_root, places) = places();
        let socket = places.socket();
        let error = ask(&socket).await.unwrap_err();
        assert!(matches!(&error, NoAnswer::Connect { source, .. }
            if source.kind() == io::ErrorKind::NotFound));
        drop(UnixListener::bind(&socket).unwrap());
        let error = ask(&socket).await.unwrap_err();
        assert!(matches!(&error, NoAnswer::Connect { source, .. }
            if source.kind() == io::ErrorKind::ConnectionRefused));
        assert!(error.to_string().contains("csi.sock"), "{error}");
        assert_eq!(announced(&places).await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_listener_that_speaks_no_grpc_is_no_driver() {
        let (_root, places) = places();
        let listener = UnixListener::bind(places.socket()).unwrap();
        let other = tokio::spawn(async move {
            // It hangs up on everybody.
            while let Ok((stream, _)) = listener.accept().await {
                drop(stream);
            }
        });
        let error = ask(&places.socket()).await.unwrap_err();
        assert!(matches!(error, NoAnswer::Refused { .. }), "{error}");
        other.abort();
    }
}
