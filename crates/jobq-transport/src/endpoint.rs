//! Addresses, as people write them, and connecting to them.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use jobq_proto::DEFAULT_PORT;

use crate::dealer::StreamDealer;
use crate::error::{AddressError, TransportError};
use crate::listener::{ByteStream, Connector};
use crate::memory::MemoryConnector;
use crate::tcp::TcpConnector;
use crate::tls::{ClientTls, TlsConnector, TlsError};
#[cfg(unix)]
use crate::unix::UnixConnector;

/// A dealer to whatever kind of endpoint.
pub type EndpointDealer = StreamDealer<Box<dyn ByteStream>>;

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TcpAddress {
    /// A name, or an IPv4 or IPv6 address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl TcpAddress {
    /// `HOST:PORT`, with brackets around an IPv6 address.
    pub fn authority(&self) -> String {
        let Self { host, port } = self;
        if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        }
    }
}

impl From<SocketAddr> for TcpAddress {
    fn from(address: SocketAddr) -> Self {
        Self {
            host: address.ip().to_string(),
            port: address.port(),
        }
    }
}

impl fmt::Display for TcpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tcp://{}", self.authority())
    }
}

/// Where a server listens: `tcp://HOST:PORT`, `tls://HOST:PORT`, one of them without `:PORT` for the default port,
/// `unix:///PATH`, or `unix:PATH` for one from the working directory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ListenAddress {
    /// A TCP port; 0 for any that is free.
    Tcp(TcpAddress),
    /// A TCP port on which TLS is spoken; 0 for any that is free.
    Tls(TcpAddress),
    /// A Unix socket.
    #[cfg(unix)]
    Unix(PathBuf),
}

impl FromStr for ListenAddress {
    type Err = AddressError;

    fn from_str(address: &str) -> Result<Self, AddressError> {
        parse(address).map_err(|problem| AddressError {
            address: address.to_owned(),
            problem,
        })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Tls(address) => write!(f, "tls://{}", address.authority()),
            #[cfg(unix)]
            Self::Unix(path) => write_unix(f, path),
        }
    }
}

/// Where a server is: an address as [`ListenAddress`] has them, or the connector of a server in this process.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Endpoint {
    /// A TCP port.
    Tcp(TcpAddress),
    /// A TCP port on which TLS is spoken, and whom to trust there.
    Tls(TlsConnector),
    /// A Unix socket.
    #[cfg(unix)]
    Unix(PathBuf),
    /// A server in this process.
    Memory(MemoryConnector),
}

impl Endpoint {
    /// With these settings for TLS, instead of those that trust the system's CAs and show no certificate. Where a
    /// connection cannot leave this machine, they mean nothing and are dropped.
    ///
    /// # Errors
    /// [`TlsError::PlainAddress`] for a TCP port without TLS, since whoever has settings for TLS believes that it is
    /// spoken.
    pub fn with_tls(self, settings: ClientTls) -> Result<Self, TlsError> {
        match self {
            Self::Tls(TlsConnector { address, .. }) => Ok(Self::Tls(TlsConnector { address, settings })),
            Self::Tcp(address) => Err(TlsError::PlainAddress {
                address: address.to_string(),
            }),
            other => Ok(other),
        }
    }

    /// Whether a connection could be tried: reads the files that the settings for TLS name. So what is wrong with them
    /// is known at the start, and not at the first of many attempts.
    ///
    /// # Errors
    /// A file cannot be read or does not hold what it should, or no certificate can be for the host.
    pub async fn check(&self) -> Result<(), TlsError> {
        match self {
            Self::Tls(connector) => connector.check().await,
            _ => Ok(()),
        }
    }

    /// Connects, and takes frames of up to `max_frame` bytes.
    ///
    /// # Errors
    /// [`TransportError::Gone`] when the server in this process is gone, which is final; otherwise
    /// [`TransportError::Connect`], which names the address.
    pub async fn connect(&self, max_frame: usize) -> Result<EndpointDealer, TransportError> {
        let stream = self.open().await.map_err(|source| match self {
            Self::Memory(_) => TransportError::Gone,
            _ => TransportError::Connect {
                address: self.to_string(),
                source,
            },
        })?;
        Ok(StreamDealer::new(stream, max_frame))
    }

    async fn open(&self) -> io::Result<Box<dyn ByteStream>> {
        Ok(match self {
            Self::Tcp(address) => {
                let connector = TcpConnector {
                    address: address.clone(),
                };
                Box::new(connector.connect().await?)
            }
            Self::Tls(connector) => Box::new(connector.connect().await?),
            #[cfg(unix)]
            Self::Unix(path) => Box::new(UnixConnector { path: path.clone() }.connect().await?),
            Self::Memory(connector) => Box::new(connector.connect().await?),
        })
    }
}

impl From<ListenAddress> for Endpoint {
    fn from(address: ListenAddress) -> Self {
        match address {
            ListenAddress::Tcp(address) => Self::Tcp(address),
            ListenAddress::Tls(address) => Self::Tls(TlsConnector {
                address,
                settings: ClientTls::new(),
            }),
            #[cfg(unix)]
            ListenAddress::Unix(path) => Self::Unix(path),
        }
    }
}

impl From<MemoryConnector> for Endpoint {
    fn from(connector: MemoryConnector) -> Self {
        Self::Memory(connector)
    }
}

impl FromStr for Endpoint {
    type Err = AddressError;

    fn from_str(address: &str) -> Result<Self, AddressError> {
        ListenAddress::from_str(address).map(Self::from)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Tls(connector) => write!(f, "tls://{}", connector.address.authority()),
            #[cfg(unix)]
            Self::Unix(path) => write_unix(f, path),
            Self::Memory(_) => f.write_str("memory"),
        }
    }
}

fn parse(address: &str) -> Result<ListenAddress, String> {
    if let Some(rest) = address.strip_prefix("tcp://") {
        return parse_tcp(rest).map(ListenAddress::Tcp);
    }
    if let Some(rest) = address.strip_prefix("tls://") {
        return parse_tcp(rest).map(ListenAddress::Tls);
    }
    if let Some(rest) = address.strip_prefix("unix:") {
        return match rest.strip_prefix("//") {
            // What stands between two slashes and the next one is a host in any other address.
            Some(path) if !path.is_empty() && !path.starts_with('/') => Err(format!(
                "{path:?} does not begin with '/'; a path from the working directory is unix:{path}"
            )),
            Some(path) => parse_unix(path),
            None => parse_unix(rest),
        };
    }
    Err(match address.split_once("://") {
        Some((scheme, _)) => format!("there is no transport {scheme:?}"),
        None => "it does not say which transport".to_owned(),
    })
}

fn parse_tcp(rest: &str) -> Result<TcpAddress, String> {
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.strip_prefix('[') {
        Some(bracketed) => {
            let (host, after) = bracketed.split_once(']').ok_or("'[' without ']'")?;
            host.parse::<std::net::Ipv6Addr>()
                .map_err(|_| format!("{host:?} is no IPv6 address"))?;
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return Err(format!("{after:?} after ']'")),
            }
        }
        None => match rest.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err("an IPv6 address goes in brackets, as in [::1]:7420".to_owned());
            }
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    if host.is_empty() {
        return Err("the host is missing".to_owned());
    }
    if host
        .chars()
        .any(|c| c.is_whitespace() || c.is_control() || "/?#@".contains(c))
    {
        return Err(format!("{host:?} is no host"));
    }
    let port = match port {
        Some(port) => port
            .parse()
            .map_err(|_| format!("{port:?} is no port from 0 to 65535"))?,
        None => DEFAULT_PORT,
    };
    Ok(TcpAddress {
        host: host.to_owned(),
        port,
    })
}

#[cfg(unix)]
fn write_unix(f: &mut fmt::Formatter<'_>, path: &Path) -> fmt::Result {
    let slashes = if path.is_absolute() { "//" } else { "" };
    write!(f, "unix:{slashes}{}", path.display())
}

#[cfg(unix)]
fn parse_unix(path: &str) -> Result<ListenAddress, String> {
    if path.is_empty() {
        return Err("the path is missing".to_owned());
    }
    if path.contains('\0') {
        return Err("a path has no zero bytes".to_owned());
    }
    Ok(ListenAddress::Unix(PathBuf::from(path)))
}

#[cfg(not(unix))]
fn parse_unix(_: &str) -> Result<ListenAddress, String> {
    Err("this system has no Unix sockets".to_owned())
}
