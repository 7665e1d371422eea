//! Byte streams over TLS 1.3 and 1.2, on top of TCP.
//!
//! `server` is the side that is connected to, with certificates that can be exchanged while it listens; `client` the
//! side that connects. `files` reads what both of them need, `stream` is the byte stream, `failure` says in words why
//! two sides could not agree, `identity` takes a name from a certificate that was verified, and `expiry` says until when
//! one is valid.
//!
//! Sessions of TLS are not resumed: connections last, so a handshake is rare, and each one looks at both certificates
//! anew. Nothing is sent before the handshake is through.

mod certificate;
mod client;
mod der;
mod expiry;
mod failure;
mod files;
mod identity;
mod server;
mod stream;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use certificate::CertificateInfo;
pub use client::{ClientTls, TlsConnector};
pub use failure::TlsFailure;
pub use files::TlsError;
pub use server::{ServerTls, TlsBind, TlsFiles};
pub use stream::TlsStream;

/// What both sides name as the protocol within TLS (ALPN). A peer that names none is taken as well; one that names
/// others only is refused, so that nobody is led to a jobq server who means to speak HTTP, say.
pub const ALPN: &str = "jobq";

/// The first byte of a TLS connection: a record of the handshake.
const HANDSHAKE: u8 = 0x16;

/// Whether the first four bytes of a connection are those of TLS: a handshake's record, its version 3.x, whatever
/// x, and half of its length. As the length of a frame it would be 369 MB.
pub(crate) fn begins(head: u32) -> bool {
    let [record, major, ..] = head.to_be_bytes();
    record == HANDSHAKE && major == 3
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
