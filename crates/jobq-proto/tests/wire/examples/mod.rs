//! One value or more of every message: the smallest that makes sense, and one with all that it may hold.

mod from_server;
mod to_server;

use bytes::Bytes;
use jobq_proto::{ClientMessage, Fence, ServerMessage};
use serde::Serialize;
use uuid::Uuid;

/// A message in either direction.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Message {
    ToServer(ServerMessage),
    FromServer(ClientMessage),
}

/// A named message. Names are `ServerMessage.<name>.<what>` and `ClientMessage.<name>.<what>`.
pub(crate) struct Example {
    pub(crate) name: String,
    pub(crate) message: Message,
}

/// All examples, in the order of the messages.
pub(crate) fn all() -> Vec<Example> {
    let to_server = to_server::examples().into_iter().map(|(name, message)| Example {
        name: format!("ServerMessage.{name}"),
        message: Message::ToServer(message),
    });
    let from_server = from_server::examples()
        .into_iter()
        .map(|(name, message)| Example {
            name: format!("ClientMessage.{name}"),
            message: Message::FromServer(message),
        });
    to_server.chain(from_server).collect()
}

impl Example {
    /// The message's name on the wire.
    pub(crate) fn message_name(&self) -> &str {
        self.name
            .split('.')
            .nth(1)
            .expect("an example's name has three parts")
    }

    /// What the program writes for it.
    pub(crate) fn encode(&self) -> Vec<u8> {
        match &self.message {
            Message::ToServer(message) => encode(message),
            Message::FromServer(message) => encode(message),
        }
    }

    /// What the program reads from `bytes`, in this example's direction.
    pub(crate) fn decode(&self, bytes: &[u8]) -> Result<Message, String> {
        match self.message {
            Message::ToServer(_) => decode(bytes).map(Message::ToServer),
            Message::FromServer(_) => decode(bytes).map(Message::FromServer),
        }
    }
}

/// The bytes that ciborium writes.
pub(crate) fn encode(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).expect("a Vec takes whatever is written to it");
    bytes
}

/// What ciborium reads.
pub(crate) fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    ciborium::from_reader(bytes).map_err(|error| error.to_string())
}

/// A uuid of version 7, as clients make them.
fn uuid(last: u8) -> Uuid {
    Uuid::from_u128(0x0192_f7a1_3c5b_7d4e_8f60_1234_5678_9a00 + u128::from(last))
}

/// The identity of the store in all examples.
fn store() -> Uuid {
    Uuid::from_u128(0x6ba3_d0c2_94e1_4f7a_b1c8_5e2d_7f90_4a36)
}

/// The secret of the session in all examples: 32 bytes, which a server takes from its random source.
fn secret() -> Bytes {
    (0..32).map(|n| n * 8).collect()
}

/// The fence of the nth order since the server's third start.
fn fence(seq: u64) -> Fence {
    Fence { epoch: 3, seq }
}

/// `{"w": 640}` as CBOR.
fn params() -> Bytes {
    Bytes::from_static(&[0xa1, 0x61, b'w', 0x19, 0x02, 0x80])
}

/// `"ok"` as CBOR.
fn result() -> Bytes {
    Bytes::from_static(&[0x62, b'o', b'k'])
}
