//! The side that is connected to.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use jobq_proto::message::ErrorMessage;
use jobq_proto::{ClientMessage, ErrorCode, WireError};
use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::failure::{TlsFailure, in_words};
use super::files::{self, TlsError};
use super::stream::TlsStream;
use super::{ALPN, HANDSHAKE, expiry, identity, provider};
use crate::codec::encode;
use crate::endpoint::TcpAddress;
use crate::error::TransportError;
use crate::linger::linger;
use crate::listener::Listener;
use crate::router::PeerInfo;
use crate::tcp::TcpBind;

/// What is read and dropped after a handshake that failed, in bytes: the other side's first messages.
const LINGER_BYTES: usize = 64 * 1024;

/// The files, in PEM, from which a server has its side of TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    cert: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
}

impl TlsFiles {
    /// The server's certificate, with those between it and its CA behind it, and the certificate's private key. Peers
    /// are asked for no certificate.
    pub fn new(cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            cert: cert.into(),
            key: key.into(),
            client_ca: None,
        }
    }

    /// With the CAs of client certificates: a peer has to show a certificate that one of them has signed, and the
    /// certificate's name is its identity.
    #[must_use]
    pub fn client_ca(mut self, file: impl Into<PathBuf>) -> Self {
        self.client_ca = Some(file.into());
        self
    }
}

/// A server's side of TLS: what all its `tls://` addresses show, and what they ask for. A handle; its clones share the
/// certificates, so that [`ServerTls::reload`] on one of them exchanges those of all.
#[derive(Debug, Clone)]
pub struct ServerTls {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    files: TlsFiles,
    current: RwLock<Current>,
}

/// What was read from the files.
#[derive(Debug, Clone)]
struct Current {
    config: Arc<ServerConfig>,
    expires: Option<SystemTime>,
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// A file cannot be read or does not hold what it should, or the key is not the certificate's.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let current = RwLock::new(read(&files)?);
        Ok(Self {
            shared: Arc::new(Shared { files, current }),
        })
    }

    /// Reads the files again, for the connections to come. Those that there are go on as they are.
    ///
    /// # Errors
    /// As [`ServerTls::load`]. What was there before stays in use then.
    pub fn reload(&self) -> Result<(), TlsError> {
        let read = read(&self.shared.files)?;
        *self
            .shared
            .current
            .write()
            .unwrap_or_else(PoisonError::into_inner) = read;
        Ok(())
    }

    /// When what is shown now expires: the certificate, or one of those that are shown with it. None where that cannot
    /// be read.
    pub fn expires(&self) -> Option<SystemTime> {
        self.current().expires
    }

    /// The file that the certificate is read from.
    pub fn certificate(&self) -> &Path {
        &self.shared.files.cert
    }

    /// Whether peers have to show a certificate.
    pub fn asks_for_certificates(&self) -> bool {
        self.shared.files.client_ca.is_some()
    }

    fn current(&self) -> Current {
        self.shared
            .current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn read(files: &TlsFiles) -> Result<Current, TlsError> {
    let TlsFiles { cert, key, client_ca } = files;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has ciphers for TLS 1.3 and 1.2");
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let what = "the CA of client certificates";
            let roots = Arc::new(files::authorities(what, path)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| files::malformed(what, path, error))?)
        }
    };
    let chain = files::certificates("the certificate", cert)?;
    let expires = chain.iter().filter_map(expiry::of).min();
    files::warn_of_readers(key);
    let mut config = builder
        .with_single_cert(chain, files::key("the key", key)?)
        .map_err(|error| files::unusable(cert, key, &error))?;
    config.alpn_protocols = vec![ALPN.as_bytes().to_vec()];
    // A resumed session would not show its certificate again, which may have been taken out of use meanwhile.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Current {
        config: Arc::new(config),
        expires,
    })
}

/// A TCP port that is listened on for TLS.
#[derive(Debug)]
pub struct TlsBind {
    tcp: TcpBind,
    tls: ServerTls,
}

impl TlsBind {
    /// Listens on an address, and says on which: port 0 takes a free one.
    ///
    /// # Errors
    /// [`TransportError::Bind`] when the port is in use, or the host is none of this machine's.
    pub async fn bind(address: &TcpAddress, tls: ServerTls) -> Result<(Self, SocketAddr), TransportError> {
        let (tcp, local) = TcpBind::bind(address).await.map_err(|error| match error {
            TransportError::Bind { source, .. } => TransportError::Bind {
                address: format!("tls://{}", address.authority()),
                source,
            },
            error => error,
        })?;
        Ok((Self { tcp, tls }, local))
    }
}

impl Listener for TlsBind {
    type Io = TlsStream<tokio_rustls::server::TlsStream<TcpStream>>;
    type Setup = Pin<Box<dyn Future<Output = io::Result<(Self::Io, PeerInfo)>> + Send>>;

    async fn accept(&mut self) -> io::Result<Self::Setup> {
        let setup = self.tcp.accept().await?;
        let config = self.tls.current().config;
        Ok(Box::pin(async move {
            let (stream, info) = setup.await?;
            let info = PeerInfo {
                transport: "tls",
                ..info
            };
            let shaken = shake_hands(stream, config).await;
            let stream = shaken.inspect_err(|error| {
                // Whoever just looks whether the port is open hangs up as well.
                if TlsFailure::of(error).is_some() {
                    tracing::info!(from = %info, %error, "a peer is refused: no TLS connection came about");
                }
            })?;
            let identity = stream
                .get_ref()
                .1
                .peer_certificates()
                .and_then(<[_]>::first)
                .and_then(identity::of);
            Ok((TlsStream::new(stream), PeerInfo { identity, ..info }))
        }))
    }
}

/// The handshake. A peer with which it fails is told why, as far as it can be.
async fn shake_hands(
    mut stream: TcpStream,
    config: Arc<ServerConfig>,
) -> io::Result<tokio_rustls::server::TlsStream<TcpStream>> {
    let mut first = [HANDSHAKE];
    stream.peek(&mut first).await?;
    if first != [HANDSHAKE] {
        // It would not understand what TLS has to say about that. That it is not told is its own fault.
        let _ = stream.write_all(&plain_refusal()).await;
        say_goodbye(stream).await;
        return Err(io::Error::new(io::ErrorKind::InvalidData, TlsFailure::Plain));
    }
    match TlsAcceptor::from(config).accept(stream).into_fallible().await {
        Ok(stream) => Ok(stream),
        Err((error, stream)) => {
            // The reason is on its way; see `linger` for how it would get lost.
            say_goodbye(stream).await;
            Err(in_words(error))
        }
    }
}

async fn say_goodbye(mut stream: TcpStream) {
    if stream.shutdown().await.is_ok() {
        linger(stream, LINGER_BYTES).await;
    }
}

/// The frame for a peer that speaks jobq's protocol, but not within TLS.
fn plain_refusal() -> Vec<u8> {
    let message = "this address speaks TLS: connect to it by tls://HOST:PORT";
    let error = WireError::new(ErrorCode::Malformed, message.to_owned());
    let frame = encode(&ClientMessage::Error(ErrorMessage { error })).expect("a message can be encoded");
    let length = u32::try_from(frame.len()).expect("it is a sentence");
    [&length.to_be_bytes()[..], &frame].concat()
}
