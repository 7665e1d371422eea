//! A connection on which a test says whatever it likes.

use bytes::{Buf, BytesMut};
use jobq_proto::message::{Hello, Welcome, Work};
use jobq_proto::{ClientMessage, ServerMessage, WireError};
use jobq_transport::codec::{LENGTH_BYTES, decode, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::soon;

/// A connection to a server, without the manners of a client: it says what it is told, never comes back, and knows
/// nothing of beats. A server with a long `--ttl` waits for it.
#[derive(Debug)]
pub struct RawPeer {
    stream: TcpStream,
    read: BytesMut,
}

impl RawPeer {
    /// Connects to an address of the kind `tcp://`.
    ///
    /// # Panics
    /// Nobody listens there.
    pub async fn connect(address: &str) -> Self {
        let address = address.strip_prefix("tcp://").expect("it is an address of TCP");
        let stream = soon("a connection", TcpStream::connect(address)).await;
        let stream = stream.expect("the server listens");
        // Two messages in a row would else wait for the system's delayed acknowledgement of the first.
        stream.set_nodelay(true).expect("it is a connection of TCP");
        Self {
            stream,
            read: BytesMut::new(),
        }
    }

    /// Connects and says Hello, as a worker if there is work.
    ///
    /// # Panics
    /// The server does not accept it.
    pub async fn introduced(address: &str, work: Option<Work>) -> (Self, Welcome) {
        let mut peer = Self::connect(address).await;
        let hello = Hello {
            work,
            ..Hello::new("raw")
        };
        peer.send(&ServerMessage::Hello(Box::new(hello))).await;
        match peer.recv().await {
            Some(ClientMessage::Hello(welcome)) => (peer, *welcome),
            other => panic!("a good Hello was answered by {other:?}"),
        }
    }

    /// Sends a message.
    pub async fn send(&mut self, message: &ServerMessage) {
        let body = encode(message).expect("it can be encoded");
        self.write(&frame(&body)).await;
    }

    /// Sends bytes. The server may hang up at any time, which shows when its answer is read.
    pub async fn write(&mut self, bytes: &[u8]) {
        let _ = soon("room for what a peer writes", self.stream.write_all(bytes)).await;
    }

    /// Says that nothing more comes from this side.
    pub async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// The next message; none at the end of the stream, however it ends.
    ///
    /// # Panics
    /// What comes is no message.
    pub async fn recv(&mut self) -> Option<ClientMessage> {
        loop {
            if let Some(message) = self.take() {
                return Some(message);
            }
            let read = soon("a message or the end", self.stream.read_buf(&mut self.read)).await;
            if matches!(read, Ok(0) | Err(_)) {
                return None;
            }
        }
    }

    /// Reads to the end; the error that the server closed the connection with, if there was one.
    pub async fn last_words(mut self) -> Option<WireError> {
        let mut last = None;
        while let Some(message) = self.recv().await {
            last = Some(message);
        }
        match last {
            Some(ClientMessage::Error(message)) => Some(message.error),
            _ => None,
        }
    }

    fn take(&mut self) -> Option<ClientMessage> {
        let head = self.read.first_chunk::<LENGTH_BYTES>()?;
        let length = usize::try_from(u32::from_be_bytes(*head)).expect("a u32 is an index");
        if self.read.len() < LENGTH_BYTES + length {
            return None;
        }
        self.read.advance(LENGTH_BYTES);
        let body = self.read.split_to(length);
        Some(decode(&body).unwrap_or_else(|error| panic!("the server sent no message: {error}")))
    }
}

/// A body with its length before it.
pub fn frame(body: &[u8]) -> Vec<u8> {
    let mut frame = announced(u32::try_from(body.len()).expect("frames of tests are short"));
    frame.extend_from_slice(body);
    frame
}

/// The head of a frame whose body does not come.
pub fn announced(length: u32) -> Vec<u8> {
    length.to_be_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_a_length_and_a_body() {
        assert_eq!(frame(b"ab"), [0, 0, 0, 2, b'a', b'b']);
    }
}
