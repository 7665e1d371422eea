//! What can go wrong between two peers.

use std::io;

use crate::codec::{FrameError, StreamError};
use crate::router::PeerId;
use crate::tls::TlsFailure;

/// Why a connection, or the attempt at one, failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The other side closed the connection. Everything that it sent before has been received.
    #[error("the other side closed the connection")]
    Closed,
    /// The server in this process is gone, and will not come back.
    #[error("the server in this process is gone")]
    Gone,
    /// No connection could be made.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Where to.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// The address could not be listened on.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// Where.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(io::Error),
    /// The two sides could not agree on TLS, which a client may hear after its handshake: a server looks at the
    /// client's certificate last.
    #[error(transparent)]
    Tls(TlsFailure),
    /// The other side sent something that is no message, or a message could not be encoded.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

impl TransportError {
    /// Why the two sides could not agree on TLS, if that is what it is about.
    pub fn tls(&self) -> Option<&TlsFailure> {
        match self {
            Self::Tls(failure) => Some(failure),
            Self::Connect { source, .. } => TlsFailure::of(source),
            _ => None,
        }
    }
}

impl From<io::Error> for TransportError {
    fn from(error: io::Error) -> Self {
        match TlsFailure::of(&error) {
            Some(failure) => Self::Tls(failure.clone()),
            None => Self::Io(error),
        }
    }
}

impl From<StreamError> for TransportError {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Io(error) => error.into(),
            StreamError::Frame(error) => Self::Frame(error),
        }
    }
}

/// Why a message was not queued. It is lost; what was queued before it is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// There is no such peer any more.
    #[error("peer {0} is gone")]
    Gone(PeerId),
    /// The peer reads too slowly. A router closes its connection and reports it.
    #[error("the outbox is full: {queued} bytes are unsent, {limit} are allowed")]
    Full {
        /// Bytes that were queued and not yet written.
        queued: usize,
        /// Most bytes that may be.
        limit: usize,
    },
    /// The connection is closed.
    #[error("the connection is closed")]
    Closed,
    /// The message cannot be encoded.
    #[error("the message cannot be sent: {0}")]
    Frame(#[from] FrameError),
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{address:?} is no address: {problem}; expected tcp://HOST:PORT, tls://HOST:PORT or unix:///PATH")]
pub struct AddressError {
    /// What was given.
    pub address: String,
    /// What is wrong with it.
    pub problem: String,
}
