//! Why a session has no connection.

use std::sync::Arc;
use std::time::Duration;

use jobq_proto::{ErrorCode, PROTOCOL_VERSION, WireError};
use jobq_transport::{SendError, TlsFailure, TransportError};

/// Why a session has no connection at the moment, or never will again.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The server was in this process, has been stopped or dropped, and will not come back.
    #[error("the server in this process is gone")]
    Gone,
    /// No connection came about. The transport's words name the address.
    #[error("{source}")]
    Connect {
        /// Where the server was looked for.
        address: String,
        /// What the transport says.
        source: Arc<TransportError>,
    },
    /// The connection, or the answer to Hello, took too long.
    #[error("{address} did not answer within {} ms; is it a jobq server?", within.as_millis())]
    HelloTimeout {
        /// Where the server was looked for.
        address: String,
        /// How long it had.
        within: Duration,
    },
    /// The server closed the connection and said why.
    #[error("the server at {address} closed the connection: {error}")]
    Refused {
        /// The server.
        address: String,
        /// What it said.
        error: WireError,
    },
    /// The connection broke.
    #[error("lost the connection to {address}: {source}")]
    Lost {
        /// The server.
        address: String,
        /// What the transport says.
        source: Arc<TransportError>,
    },
    /// A message could not be sent: the connection cannot take more, or the message is too large for any.
    #[error("nothing more can be sent to {address}: {source}")]
    Send {
        /// The server.
        address: String,
        /// What the transport says.
        source: SendError,
    },
    /// The server went silent: it answers no Beat.
    #[error("the server at {address} has answered nothing for {} s", silence.as_secs_f32())]
    Silent {
        /// The server.
        address: String,
        /// How long it had been silent.
        silence: Duration,
    },
    /// What answers does not speak the protocol.
    #[error("{address} does not speak jobq's protocol, version {PROTOCOL_VERSION}: {what}")]
    Protocol {
        /// What answers.
        address: String,
        /// What it did.
        what: String,
    },
}

impl SessionError {
    /// Whether trying again cannot help: a wrong version, a bad token, a message that the server cannot read, a peer that
    /// is no jobq server, or a server in this process that is gone. The session is over then. Where a server has answered
    /// it before, it tries a few times more if what cannot be read may have been changed on its way.
    pub fn is_permanent(&self) -> bool {
        match self {
            SessionError::Refused { error, .. } => !error.code.may_repeat(),
            SessionError::Gone | SessionError::Protocol { .. } => true,
            SessionError::Connect { source, .. } | SessionError::Lost { source, .. } => is_permanent(source),
            // The same message would be repeated after every reconnect.
            SessionError::Send { source, .. } => matches!(source, SendError::Frame(_)),
            SessionError::HelloTimeout { .. } | SessionError::Silent { .. } => false,
        }
    }

    /// Whether bytes that were changed on their way would end a connection so. They can do so in other ways, too.
    pub(crate) fn may_be_garbled(&self) -> bool {
        use ErrorCode as E;
        match self {
            SessionError::Protocol { .. } => true,
            SessionError::Refused { error, .. } => {
                matches!(error.code, E::Malformed | E::UnknownMessage | E::FrameTooLarge)
            }
            _ => false,
        }
    }

    /// Why client and server could not agree on TLS, if that is what it is about. Trying again helps when one of them
    /// has been given another certificate.
    pub fn tls(&self) -> Option<&TlsFailure> {
        match self {
            SessionError::Connect { source, .. } | SessionError::Lost { source, .. } => source.tls(),
            _ => None,
        }
    }

    /// Whether somebody else goes on with the session, so that this peer must not resume it.
    pub(crate) fn is_taken(&self) -> bool {
        matches!(self, SessionError::Refused { error, .. } if error.code == ErrorCode::SessionTaken)
    }
}

fn is_permanent(error: &TransportError) -> bool {
    matches!(error, TransportError::Gone | TransportError::Frame(_))
}
