//! Byte streams over TCP.

use std::future::{Ready, ready};
use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};

use crate::endpoint::TcpAddress;
use crate::error::TransportError;
use crate::listener::{Connector, Listener};
use crate::router::PeerInfo;

/// A TCP port that is listened on.
#[derive(Debug)]
pub struct TcpBind {
    listener: TcpListener,
}

impl TcpBind {
    /// Listens on an address, and says on which: port 0 takes a free one.
    ///
    /// # Errors
    /// [`TransportError::Bind`] when the port is in use, or the host is none of this machine's.
    pub async fn bind(address: &TcpAddress) -> Result<(Self, SocketAddr), TransportError> {
        let bind_error = |source| TransportError::Bind {
            address: address.to_string(),
            source,
        };
        let listener = TcpListener::bind((address.host.as_str(), address.port))
            .await
            .map_err(bind_error)?;
        let local = listener.local_addr().map_err(bind_error)?;
        Ok((Self { listener }, local))
    }
}

impl Listener for TcpBind {
    type Io = TcpStream;
    type Setup = Ready<io::Result<(TcpStream, PeerInfo)>>;

    async fn accept(&mut self) -> io::Result<Self::Setup> {
        let (stream, address) = self.listener.accept().await?;
        let info = PeerInfo {
            transport: "tcp",
            address: address.to_string(),
            identity: None,
        };
        // Frames are written whole; waiting for more to come would only delay them.
        Ok(ready(stream.set_nodelay(true).map(|()| (stream, info))))
    }
}

/// Connects to a TCP address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpConnector {
    /// Where to.
    pub address: TcpAddress,
}

impl Connector for TcpConnector {
    type Io = TcpStream;

    async fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect((self.address.host.as_str(), self.address.port)).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}
