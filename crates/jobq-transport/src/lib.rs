//! Frames, connections and routing: how messages of [`jobq_proto`] get from one process to another.
//!
//! The server's side is a [`Router`]: many peers, messages in and out, closings with last words. The client's and
//! worker's side is a [`Dealer`]: one peer. [`StreamRouter`] and [`StreamDealer`] implement them over any byte
//! stream; [`tcp`], [`tls`], [`unix`] and [`memory`] are where byte streams come from, and an [`Endpoint`] hides which.
//! [`codec`] is the only place that knows how a message becomes bytes.
//!
//! This crate must never know what a job is: it carries messages, counts their bytes, and looks into none. Start
//! at [`router`] for what the server may rely on, and at [`stream_router`] for how it is done.

#![forbid(unsafe_code)]

pub mod codec;
pub mod dealer;
pub mod endpoint;
pub mod error;
mod framed;
mod linger;
pub mod listener;
mod log_budget;
pub mod memory;
pub mod router;
pub mod stream_router;
pub mod tcp;
pub mod tls;
#[cfg(unix)]
pub mod unix;

pub use codec::{FrameError, StreamError};
pub use dealer::{Dealer, StreamDealer};
pub use endpoint::{Endpoint, EndpointDealer, ListenAddress, TcpAddress};
pub use error::{AddressError, SendError, TransportError};
pub use listener::{ByteStream, Connector, Listener};
pub use log_budget::LogBudget;
pub use memory::{MemoryConnector, MemoryListener};
pub use router::{CloseReason, Closed, PeerId, PeerInfo, Router, RouterEvent};
pub use stream_router::{BindOptions, RouterConfig, StreamRouter};
pub use tcp::{TcpBind, TcpConnector};
pub use tls::{
    CertificateInfo, ClientTls, ServerTls, TlsBind, TlsConnector, TlsError, TlsFailure, TlsFiles, TlsStream,
};
#[cfg(unix)]
pub use unix::{UnixBind, UnixConnector};

/// The README's example is run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
