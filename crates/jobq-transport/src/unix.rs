//! Byte streams over Unix domain sockets.

use std::future::{Ready, ready};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

use crate::error::TransportError;
use crate::listener::{Connector, Listener};
use crate::router::PeerInfo;

/// A Unix socket that is listened on. Its file is removed when it is dropped.
#[derive(Debug)]
pub struct UnixBind {
    listener: UnixListener,
    file: SocketFile,
}

impl UnixBind {
    /// Listens on a path, and says on which. A socket file that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// [`TransportError::Bind`] when somebody listens there, when the file is no socket, or its folder is not
    /// writable.
    pub async fn bind(path: &Path) -> Result<(Self, PathBuf), TransportError> {
        let bind_error = |source| TransportError::Bind {
            address: format!("unix://{}", path.display()),
            source,
        };
        remove_stale(path).await.map_err(bind_error)?;
        let listener = UnixListener::bind(path).map_err(bind_error)?;
        let file = SocketFile::of(path).map_err(bind_error)?;
        Ok((Self { listener, file }, path.to_owned()))
    }
}

impl Listener for UnixBind {
    type Io = UnixStream;
    type Setup = Ready<io::Result<(UnixStream, PeerInfo)>>;

    async fn accept(&mut self) -> io::Result<Self::Setup> {
        let (stream, _) = self.listener.accept().await?;
        // The other side has no name of its own; its process is what tells peers apart.
        let address = match stream.peer_cred().ok().and_then(|peer| peer.pid()) {
            Some(pid) => format!("{} process {pid}", self.file.path.display()),
            None => self.file.path.display().to_string(),
        };
        let info = PeerInfo {
            transport: "unix",
            address,
            identity: None,
        };
        Ok(ready(Ok((stream, info))))
    }
}

/// Connects to a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixConnector {
    /// The socket's file.
    pub path: PathBuf,
}

impl Connector for UnixConnector {
    type Io = UnixStream;

    async fn connect(&self) -> io::Result<UnixStream> {
        UnixStream::connect(&self.path).await
    }
}

/// Makes way for a new socket.
async fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "there is a file that is no socket",
            ));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    match UnixStream::connect(path).await {
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "somebody listens there already",
        )),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The file of a socket that this process made.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        let found = std::fs::symlink_metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            device: found.dev(),
            inode: found.ino(),
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another process may have put its own socket in this place.
        let ours = std::fs::symlink_metadata(&self.path)
            .is_ok_and(|found| found.dev() == self.device && found.ino() == self.inode);
        if ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "the socket's file could not be removed");
        }
    }
}
