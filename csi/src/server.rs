//! The driver as a whole: what it looks at before it begins, and its two sockets.
use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::watch,
};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tracing::{error, info, warn};

use crate::{
    api::{
        PluginInfo, identity_server::IdentityServer, node_server::NodeServer,
        registration_server::RegistrationServer,
    },
    content::{ContentDir, VolumeContent, VolumeId},
    identity::IdentityService,
    mounts::{self, MountError, Mounts, Size, is_shared},
    node::NodeService,
    paths::{DriverName, Places},
    registration::{self, Registration, RegistrationService},
    volumes::{VolumeSettings, Volumes},
};

/// The largest request that is read, in bytes. The tokens of a pod are the most of one.
const LARGEST_REQUEST: usize = 1 << 20;

/// How long callers have to hang up when the driver ends.
const HANG_UP: Duration = Duration::from_secs(2);

/// What a driver was told.
#[derive(Clone, Debug)]
pub struct DriverSettings {
    /// Its name.
    pub name: DriverName,
    /// Kubelet's directory, `/var/lib/kubelet` nearly everywhere.
    pub kubelet_root: PathBuf,
    /// The node's name.
    pub node_id: String,
    /// The driver's version.
    pub version: String,
    /// The size of each volume's tmpfs, in bytes.
    pub volume_size: u64,
    /// The files and directories that it may have.
    pub volume_inodes: u64,
    /// How long a publish call waits for content; kubelet waits for 120 s.
    pub publish_wait: Duration,
    /// Believe whatever a caller says of itself. For conformance tests only: with it, nothing is
    /// published once a kubelet has registered the driver.
    pub any_caller: bool,
}

/// Where a volume is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The path in the pod's directory.
    pub path: PathBuf,
    /// The pod.
    pub pod_uid: String,
}

/// A volume of an earlier process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundVolume {
    /// Its tmpfs.
    pub dir: ContentDir,
    /// Where it is bound; nowhere if it never was.
    pub targets: Vec<Target>,
}

/// Why a driver does not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Pods would run with an empty volume.
    #[error(
        "{path} is not a shared mount, so that {consequence}; mount it into the driver's container from the host with mountPropagation: Bidirectional, or outside of a container run `mount --make-rshared /` on the host"
    )]
    NotShared {
        /// The directory.
        path: PathBuf,
        /// What would come of it.
        consequence: &'static str,
    },
    /// The kernel lists mounts under another path, so that the driver would not know its own.
    #[error(
        "{path} is {real} in the kernel's list of mounts, in which the driver would not find its own; give a --kubelet-root without links, .., spaces and backslashes"
    )]
    NotPlain {
        /// The directory.
        path: PathBuf,
        /// What the kernel calls it.
        real: PathBuf,
    },
    /// It is not kubelet's directory.
    #[error(
        "{path} {fault}, and {purpose}; let --kubelet-root be the directory of this node's kubelet, and in a container mount it there from the host at the same path"
    )]
    NotKubelets {
        /// The directory that should be there.
        path: PathBuf,
        /// What is there instead.
        fault: &'static str,
        /// What it is for.
        purpose: &'static str,
    },
    /// A file is where the driver's own directory should be, or one above it.
    #[error(
        "the driver's directory {path} cannot be made, because it or one above it is a file; move that file away"
    )]
    InTheWay {
        /// The directory.
        path: PathBuf,
    },
    /// Another process is this driver.
    #[error("{path} is held by another running driver; end that one first")]
    Held {
        /// The driver's directory.
        path: PathBuf,
    },
    /// Somebody else answers for this driver's name.
    #[error(
        "another driver named {name} answers at {socket}; remove it first, or give this one a name of its own with --driver-name and in its CSIDriver object"
    )]
    Taken {
        /// The name.
        name: String,
        /// The socket.
        socket: PathBuf,
    },
    /// A directory or file.
    #[error("cannot use {path}: {source}; check --kubelet-root, and that this is root")]
    Io {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The mounts.
    #[error(transparent)]
    Mount(#[from] MountError),
}

/// Why a driver ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A socket cannot be made.
    #[error("cannot listen on {path}: {source}")]
    Listen {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A server failed.
    #[error("the server at {path} failed: {source}")]
    Server {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: tonic::transport::Error,
    },
}

/// A driver that holds its directory and may serve.
#[derive(Debug)]
pub struct Driver {
    settings: DriverSettings,
    places: Places,
    registration: watch::Sender<Registration>,
    _lock: File,
}

impl Driver {
    /// Looks whether volumes could work here, takes the driver's directory, and finds the volumes
    /// of an earlier process. Directories whose tmpfs went with a reboot are removed.
    ///
    /// # Errors
    /// With the reason, and what to do about it.
    pub async fn open(settings: DriverSettings) -> Result<(Self, Vec<FoundVolume>), OpenError> {
        let places = Places::new(settings.kubelet_root.clone(), settings.name.clone());
        // Nothing is made in a directory that is not kubelet's.
        check_kubelets(&places)?;
        for path in [places.plugin(), places.volumes()] {
            make(path)?;
        }
        for path in [places.pods(), places.plugin()] {
            check_plain(path)?;
        }
        let mounts = Mounts::read()?;
        if !settings.any_caller {
            check_shared(&mounts, &places)?;
        }
        let lock = lock(&places.plugin())?;
        check_free(&places, &settings.name).await?;
        let found = found(&mounts, &places)?;
        if settings.any_caller {
            warn!(
                "ANY CALLER IS BELIEVED: this setting is for conformance tests, never for a node"
            );
        }
        let driver = Self {
            settings,
            places,
            registration: watch::Sender::default(),
            _lock: lock,
        };
        Ok((driver, found))
    }

    /// What kubelet makes of the driver.
    pub fn registration(&self) -> watch::Receiver<Registration> {
        self.registration.subscribe()
    }

    /// Answers kubelet until `cancel`. The mounts stay: pods go on with what they have.
    ///
    /// # Errors
    /// When a socket cannot be made or a server fails.
    pub async fn serve<C: VolumeContent>(
        self,
        content: Arc<C>,
        cancel: CancellationToken,
    ) -> Result<(), ServeError> {
        let Self {
            settings,
            places,
            registration,
            _lock,
        } = self;
        let (socket, announced) = (places.socket(), places.registration_socket());
        let volumes = Arc::new(Volumes::new(
            VolumeSettings {
                places,
                size: Size {
                    bytes: settings.volume_size,
                    inodes: settings.volume_inodes,
                },
                wait: settings.publish_wait,
                any_caller: settings.any_caller,
            },
            content,
            registration.subscribe(),
            cancel.clone(),
        ));
        let look = tokio::spawn(Arc::clone(&volumes).look_after(cancel.clone()));
        let identity = IdentityService {
            name: settings.name.to_string(),
            version: settings.version,
        };
        let node = NodeService {
            volumes,
            node_id: settings.node_id,
        };
        let node = NodeServer::new(node).max_decoding_message_size(LARGEST_REQUEST);
        let csi = Server::builder()
            .add_service(IdentityServer::new(identity))
            .add_service(node);
        // Whoever reads the announcement calls at once.
        let csi =
            csi.serve_with_incoming_shutdown(listen(&socket)?, cancel.clone().cancelled_owned());
        let info = PluginInfo {
            r#type: "CSIPlugin".to_owned(),
            name: settings.name.to_string(),
            endpoint: socket.display().to_string(),
            supported_versions: vec!["1.0.0".to_owned()],
        };
        let service = RegistrationService {
            info,
            state: registration,
        };
        let announcement = Server::builder().add_service(RegistrationServer::new(service));
        let announcement = announcement
            .serve_with_incoming_shutdown(listen(&announced)?, cancel.clone().cancelled_owned());
        info!(socket = %socket.display(), driver = %settings.name, "the driver serves");
        // Kubelet looks elsewhere at once, not when its last call has ended.
        let unannounce = async {
            cancel.cancelled().await;
            let _gone_anyway = fs::remove_file(&announced);
        };
        let (csi, announcement, ()) = tokio::join!(
            until_end(csi, &cancel),
            until_end(announcement, &cancel),
            unannounce
        );
        let _gone_anyway = fs::remove_file(&socket);
        if let Err(error) = look.await {
            error!(%error, "the look after the volumes ended badly");
        }
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ServeError::Server { path, source }
        };
        announcement.map_err(failed(&announced))?;
        csi.map_err(failed(&socket))
    }
}

/// Serves until `cancel`, which comes also with a failure, and then for as long as its callers
/// need to hang up; one of them that has stopped does not hold up the end.
async fn until_end<E>(
    served: impl Future<Output = Result<(), E>>,
    cancel: &CancellationToken,
) -> Result<(), E> {
    let patience = async {
        cancel.cancelled().await;
        tokio::time::sleep(HANG_UP).await;
    };
    tokio::select! {
        ended = served => {
            cancel.cancel();
            ended
        }
        () = patience => Ok(()),
    }
}

/// It is a directory such as kubelet makes.
pub(crate) fn check_kubelets(places: &Places) -> Result<(), OpenError> {
    let wanted = [
        (places.pods(), "kubelet keeps the pods' volumes there"),
        (places.registry(), "kubelet finds its drivers there"),
    ];
    for (path, purpose) in wanted {
        let fault = match fs::metadata(&path) {
            Ok(there) if there.is_dir() => continue,
            Ok(_) => "is no directory",
            Err(error) if error.kind() == io::ErrorKind::NotFound => "is missing",
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => "has a file on its way",
            Err(error) => return Err(io_error(&path)(error)),
        };
        return Err(OpenError::NotKubelets {
            path,
            fault,
            purpose,
        });
    }
    Ok(())
}

/// Makes a directory of the driver, and those above it.
fn make(path: PathBuf) -> Result<(), OpenError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
    made.map_err(|source| match source.kind() {
        // A directory that is there is no error.
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => OpenError::InTheWay { path },
        _ => io_error(&path)(source),
    })
}

/// Mounts must be seen by the host, and outlive this process.
pub(crate) fn check_shared(mounts: &Mounts, places: &Places) -> Result<(), OpenError> {
    let wanted = [
        (places.pods(), "pods would run with an empty volume"),
        (
            places.plugin(),
            "a restarted driver could not reach its own volumes",
        ),
    ];
    for (path, consequence) in wanted {
        if !mounts.holding(&path).is_some_and(is_shared) {
            return Err(OpenError::NotShared { path, consequence });
        }
    }
    Ok(())
}

/// What stands in the kernel's list of mounts is the path that kubelet and this driver use.
pub(crate) fn check_plain(path: PathBuf) -> Result<(), OpenError> {
    let real = path.canonicalize().map_err(io_error(&path))?;
    let is_escaped = |byte: &u8| b" \t\n\\".contains(byte);
    if real == path && !path.as_os_str().as_encoded_bytes().iter().any(is_escaped) {
        return Ok(());
    }
    Err(OpenError::NotPlain { path, real })
}

fn lock(directory: &Path) -> Result<File, OpenError> {
    let file = File::open(directory).map_err(io_error(directory))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::AGAIN) => Err(OpenError::Held {
            path: directory.to_owned(),
        }),
        Err(error) => Err(io_error(directory)(error.into())),
    }
}

/// Nobody else answers for the name: not at our socket, and not with an announcement of their own.
async fn check_free(places: &Places, name: &DriverName) -> Result<(), OpenError> {
    let taken = |socket: PathBuf| OpenError::Taken {
        name: name.to_string(),
        socket,
    };
    if UnixStream::connect(places.socket()).await.is_ok() {
        return Err(taken(places.socket()));
    }
    let registry = places.registry();
    let entries = fs::read_dir(&registry).map_err(io_error(&registry))?;
    for entry in entries.flatten() {
        let socket = entry.path();
        if socket != places.registration_socket()
            && let Some(info) = registration::ask(&socket).await
            && info.name == name.as_str()
        {
            return Err(taken(socket));
        }
    }
    Ok(())
}

/// The volumes that are still mounted. What a reboot left of others is removed.
fn found(mounts: &Mounts, places: &Places) -> Result<Vec<FoundVolume>, OpenError> {
    let directory = places.volumes();
    let mut found = Vec::new();
    for entry in fs::read_dir(&directory).map_err(io_error(&directory))? {
        let root = entry.map_err(io_error(&directory))?.path();
        let id = root.file_name().and_then(|name| name.to_str());
        let Some(id) = id.and_then(VolumeId::new) else {
            warn!(path = %root.display(), "this is no volume; it is left alone");
            continue;
        };
        if mounts.at(&root).is_none() {
            if let Err(error) = mounts::remove_directory(&root) {
                warn!(%error, "what a reboot left of a volume stays");
            }
            continue;
        }
        found.push(FoundVolume {
            targets: targets(mounts, &root, places),
            dir: ContentDir { id, root },
        });
    }
    Ok(found)
}

/// Where the volume at `root` is bound in pods.
pub(crate) fn targets(mounts: &Mounts, root: &Path, places: &Places) -> Vec<Target> {
    let bound = mounts.bound(root, Some(&places.pods())).into_iter();
    let target = |mount: &procfs::process::MountInfo| Target {
        pod_uid: places
            .parse_target(&mount.mount_point)
            .map_or_else(String::new, |(uid, _)| uid.to_owned()),
        path: mount.mount_point.clone(),
    };
    bound.map(target).collect()
}

/// Listens on a socket of the file system; what an earlier process left there goes.
fn listen(path: &Path) -> Result<UnixListenerStream, ServeError> {
    let failed = |source| ServeError::Listen {
        path: path.to_owned(),
        source,
    };
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(&failed)?;
    // Kubelet is root, too.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(UnixListenerStream::new(listener))
}

pub(crate) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> OpenError + use<> {
    let path = path.to_owned();
    move |source| OpenError::Io { path, source }
}
