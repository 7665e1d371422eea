//! Byte streams over Unix domain sockets.

use std::fs::Permissions;
use std::future::{Ready, ready};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixSocket, UnixStream};

use crate::error::TransportError;
use crate::listener::{Connector, Listener};
use crate::router::PeerInfo;

/// The permissions of a socket that only its user may connect to.
const FOR_THIS_USER: u32 = 0o600;

/// Connections that wait to be accepted: as many as Linux lets wait.
const BACKLOG: u32 = 4_096;

/// A Unix socket that is listened on. Its file is removed when it is dropped.
#[derive(Debug)]
pub struct UnixBind {
    listener: UnixListener,
    file: SocketFile,
}

impl UnixBind {
    /// Listens on a path, for this user only.
    ///
    /// # Errors
    /// As [`UnixBind::bind_with`].
    pub async fn bind(path: &Path) -> Result<(Self, PathBuf), TransportError> {
        Self::bind_with(path, FOR_THIS_USER).await
    }

    /// Listens on a path, and says on which. A socket file that nobody listens on any more is replaced. `mode` is who
    /// may connect: the file's permissions, of which writing is what counts. At no moment can anybody else.
    ///
    /// # Errors
    /// [`TransportError::Bind`] when somebody listens there, when the file is no socket, or its folder is not
    /// writable.
    pub async fn bind_with(path: &Path, mode: u32) -> Result<(Self, PathBuf), TransportError> {
        let bind_error = |source| TransportError::Bind {
            address: format!("unix://{}", path.display()),
            source,
        };
        remove_stale(path).await.map_err(bind_error)?;
        let (socket, file) = bind_closed(path, mode).map_err(bind_error)?;
        let listener = socket.listen(BACKLOG).map_err(bind_error)?;
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

/// A socket that is bound to a path and refuses all connections until it listens, its file with these permissions.
///
/// The system makes the file with the permissions that the process's mask leaves. Changing the mask would change that
/// of all threads, and what they make meanwhile.
fn bind_closed(path: &Path, mode: u32) -> io::Result<(UnixSocket, SocketFile)> {
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    let file = SocketFile::of(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok((socket, file))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_connects_before_the_file_has_its_permissions() {
        let folder = tempfile::tempdir().expect("a directory can be made");
        let path = folder.path().join("jobq.sock");
        let (socket, _file) = bind_closed(&path, 0o640).expect("it is free");
        let mode = std::fs::metadata(&path)
            .expect("it is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o640);
        let early = UnixStream::connect(&path).await.expect_err("nobody listens");
        assert_eq!(early.kind(), io::ErrorKind::ConnectionRefused);
        let _listener = socket.listen(BACKLOG).expect("it is bound");
        UnixStream::connect(&path).await.expect("it listens");
    }
}
