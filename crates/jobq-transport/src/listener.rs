//! Where byte streams come from.

use std::future::Future;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::router::PeerInfo;

/// Bytes both ways.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> ByteStream for T {}

/// The side that is connected to: a source of byte streams.
pub trait Listener: Send + 'static {
    /// The byte stream.
    type Io: ByteStream;

    /// Handshake and credentials; awaited by the connection's own task, so that none holds up the next.
    type Setup: Future<Output = io::Result<(Self::Io, PeerInfo)>> + Send + 'static;

    /// Waits for the next peer. Cancel-safe.
    ///
    /// # Errors
    /// Such as too many open files; the router waits a little and asks again.
    fn accept(&mut self) -> impl Future<Output = io::Result<Self::Setup>> + Send;
}

/// The side that connects.
pub trait Connector: Send + Sync {
    /// The byte stream.
    type Io: ByteStream;

    /// Makes one connection.
    ///
    /// # Errors
    /// When there is nobody to connect to, or the way is blocked.
    fn connect(&self) -> impl Future<Output = io::Result<Self::Io>> + Send;
}
