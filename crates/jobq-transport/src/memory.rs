//! Byte streams within one process, for an embedded server and for tests.

use std::future::{Ready, pending, ready};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::DuplexStream;
use tokio::sync::mpsc;

use crate::listener::{Connector, Listener};
use crate::router::PeerInfo;

/// Bytes that each direction of a connection holds before its writer waits.
pub const BUFFER: usize = 256 * 1024;

/// Connections that wait to be accepted before those who connect wait.
const BACKLOG: usize = 64;

/// A listener and its connector.
pub fn channel() -> (MemoryConnector, MemoryListener) {
    let (streams, accepted) = mpsc::channel(BACKLOG);
    let connector = MemoryConnector {
        streams,
        connections: Arc::new(AtomicU64::new(0)),
    };
    (connector, MemoryListener { accepted })
}

/// Connects to the listener that it was made with. Its clones do the same.
#[derive(Debug, Clone)]
pub struct MemoryConnector {
    streams: mpsc::Sender<(DuplexStream, u64)>,
    connections: Arc<AtomicU64>,
}

impl MemoryConnector {
    /// Whether the listener is gone, for good.
    pub fn is_gone(&self) -> bool {
        self.streams.is_closed()
    }
}

impl Connector for MemoryConnector {
    type Io = DuplexStream;

    /// # Errors
    /// [`io::ErrorKind::NotConnected`] when the listener is gone, for good.
    async fn connect(&self) -> io::Result<DuplexStream> {
        let (ours, theirs) = tokio::io::duplex(BUFFER);
        let number = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        match self.streams.send((theirs, number)).await {
            Ok(()) => Ok(ours),
            Err(_) => Err(io::Error::new(
                io::ErrorKind::NotConnected,
                "the server in this process is gone",
            )),
        }
    }
}

/// Takes the connections of its connectors.
#[derive(Debug)]
pub struct MemoryListener {
    accepted: mpsc::Receiver<(DuplexStream, u64)>,
}

impl Listener for MemoryListener {
    type Io = DuplexStream;
    type Setup = Ready<io::Result<(DuplexStream, PeerInfo)>>;

    async fn accept(&mut self) -> io::Result<Self::Setup> {
        let Some((stream, number)) = self.accepted.recv().await else {
            // No connector is left, so nobody can ever come.
            return pending().await;
        };
        let info = PeerInfo {
            transport: "memory",
            address: number.to_string(),
            identity: None,
        };
        Ok(ready(Ok((stream, info))))
    }
}
