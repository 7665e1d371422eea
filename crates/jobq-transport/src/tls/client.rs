//! The side that connects.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;

use super::failure::in_words;
use super::files::{self, TlsError};
use super::stream::TlsStream;
use super::{ALPN, provider};
use crate::endpoint::TcpAddress;
use crate::listener::Connector;
use crate::tcp::TcpConnector;

/// Whom a client or worker trusts, and how it shows who it is. The files are in PEM, and read anew for each
/// connection: a certificate that has been renewed is used from the next one on.
///
/// ```
/// use jobq_transport::{ClientTls, Endpoint};
///
/// let endpoint: Endpoint = "tls://queue.example".parse()?;
/// let tls = ClientTls::new().ca("ca.pem").identity("worker-1.pem", "worker-1.key");
/// let endpoint = endpoint.with_tls(tls)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientTls {
    ca: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
}

impl ClientTls {
    /// Trusts the CAs that the system trusts, and shows no certificate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts the CAs in this file instead, and no others.
    #[must_use]
    pub fn ca(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca = Some(file.into());
        self
    }

    /// Shows this certificate to a server that asks for one: its file, with those between it and its CA behind it,
    /// and the file of its private key.
    #[must_use]
    pub fn identity(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity = Some((cert.into(), key.into()));
        self
    }

    /// Reads the files, and says in the log if a key is open to everybody.
    pub(crate) fn check(&self) -> Result<(), TlsError> {
        if let Some((_, key)) = &self.identity {
            files::warn_of_readers(key);
        }
        self.config().map(drop)
    }

    fn config(&self) -> Result<ClientConfig, TlsError> {
        let roots = match &self.ca {
            Some(path) => files::authorities("the CA", path)?,
            None => files::system_authorities()?,
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring has ciphers for TLS 1.3 and 1.2")
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let chain = files::certificates("the client certificate", cert)?;
                let private = files::key("the client certificate's key", key)?;
                builder
                    .with_client_auth_cert(chain, private)
                    .map_err(|error| files::unusable(cert, key, &error))?
            }
        };
        config.alpn_protocols = vec![ALPN.as_bytes().to_vec()];
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

/// Connects to a TCP address and speaks TLS there. The server's certificate has to be for the address's host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConnector {
    /// Where to.
    pub address: TcpAddress,
    /// Whom to trust, and what to show.
    pub settings: ClientTls,
}

impl TlsConnector {
    /// Whether a connection could be tried: reads the settings' files.
    pub(crate) async fn check(&self) -> Result<(), TlsError> {
        self.server_name()?;
        let settings = self.settings.clone();
        apart(move || settings.check()).await
    }

    fn server_name(&self) -> Result<ServerName<'static>, TlsError> {
        let host = &self.address.host;
        ServerName::try_from(host.clone()).map_err(|_| TlsError::BadHost { host: host.clone() })
    }
}

impl Connector for TlsConnector {
    type Io = TlsStream<tokio_rustls::client::TlsStream<TcpStream>>;

    async fn connect(&self) -> io::Result<Self::Io> {
        let name = self.server_name().map_err(io::Error::other)?;
        let settings = self.settings.clone();
        let config = apart(move || settings.config()).await.map_err(io::Error::other)?;
        let tcp = TcpConnector {
            address: self.address.clone(),
        };
        let stream = tcp.connect().await?;
        let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await;
        Ok(TlsStream::new(stream.map_err(in_words)?))
    }
}

/// Does what reads files on a thread that may wait for them.
async fn apart<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, TlsError> + Send + 'static,
) -> Result<T, TlsError> {
    tokio::task::spawn_blocking(read)
        .await
        .expect("reading a few files does not panic, and nobody ends it")
}
