//! How a message becomes bytes: a big-endian `u32` length and one CBOR item.
//!
//! Nothing else in the program names the codec, so it can be exchanged here.

mod head;
mod read;
mod write;

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use jobq_proto::{ClientMessage, ErrorCode, ServerMessage, WireError};
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use tokio_util::codec::{Decoder, Encoder, LengthDelimitedCodec};

use read::read_item;
use write::write_item;

/// Bytes of a frame's length.
pub const LENGTH_BYTES: usize = 4;

/// Longest part of a peer's own words, or of the codec's about them, that an error repeats, in bytes.
const MAX_QUOTE: usize = 200;

/// A buffer that has grown beyond this is given back once it is empty, so that one large message does not cost
/// memory for the rest of a connection's life.
pub(crate) const KEEP_CAPACITY: usize = 256 * 1024;

/// Something that travels in a frame.
pub trait Message: Serialize + DeserializeOwned + Send + 'static {
    /// The names of all messages of this kind, as they stand on the wire.
    const NAMES: &'static [&'static str];
}

impl Message for ServerMessage {
    const NAMES: &'static [&'static str] = ServerMessage::NAMES;
}

impl Message for ClientMessage {
    const NAMES: &'static [&'static str] = ClientMessage::NAMES;
}

/// What is wrong with a frame. Permanent: the same frame is never any better.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Its length is over the limit. Nothing of it was read or reserved.
    #[error("a frame of {length} bytes is over the limit of {limit}")]
    TooLarge {
        /// The frame's length, in bytes.
        length: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// It is no frame at all: the other side begins to speak TLS, and this side does not.
    #[error("this is the beginning of TLS, which this address does not speak; connect to it by tcp://")]
    Tls,
    /// It is a map of one entry, as a message is, but there is no message of that name.
    #[error("there is no message named {name:?}")]
    UnknownMessage {
        /// The name, cut to a bounded length.
        name: String,
    },
    /// It is no message: no CBOR, bytes after its end, nested too deep, or fields of a wrong type.
    #[error("the frame is no message: {why}")]
    Malformed {
        /// What is wrong.
        why: String,
    },
}

impl FrameError {
    /// The error's code on the wire.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::TooLarge { .. } => ErrorCode::FrameTooLarge,
            Self::UnknownMessage { .. } => ErrorCode::UnknownMessage,
            Self::Tls | Self::Malformed { .. } => ErrorCode::Malformed,
        }
    }

    fn malformed(why: impl fmt::Display) -> Self {
        Self::Malformed {
            why: quote(&why.to_string()),
        }
    }
}

impl From<FrameError> for WireError {
    fn from(error: FrameError) -> Self {
        WireError::new(error.code(), error.to_string())
    }
}

/// Why a stream of frames ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// A frame is bad.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The stream broke, or ended within a frame.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Encodes a message, without its length.
///
/// # Errors
/// [`FrameError::Malformed`] if the message cannot be written as CBOR, which none of the protocol's is.
pub fn encode<M: Serialize>(message: &M) -> Result<Bytes, FrameError> {
    let mut buffer = BytesMut::new();
    encode_into(message, &mut buffer)?;
    Ok(buffer.freeze())
}

/// Decodes a message from the whole of `frame`, which is without its length.
///
/// # Errors
/// [`FrameError::UnknownMessage`] or [`FrameError::Malformed`].
pub fn decode<M: Message>(frame: &[u8]) -> Result<M, FrameError> {
    read_item(frame).map_err(|error| match unknown_name::<M>(frame) {
        Some(name) => FrameError::UnknownMessage { name: quote(&name) },
        None => FrameError::malformed(error),
    })
}

/// The CBOR codec for reading, in the shape that tokio-serde wants. Messages are written by [`FrameCodec`] itself, behind
/// their length: what tokio-serde writes is a buffer of its own, which is then copied.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cbor;

impl<M: Message> tokio_serde::Deserializer<M> for Cbor {
    type Error = FrameError;

    fn deserialize(self: Pin<&mut Self>, frame: &BytesMut) -> Result<M, FrameError> {
        decode(frame)
    }
}

/// Cuts a stream into frames and back. It is tokio-util's length-delimited codec, with errors that say the length
/// and the limit.
#[derive(Debug)]
pub struct FrameCodec {
    lengths: LengthDelimitedCodec,
    /// Bytes of the frame that was read last.
    last_length: usize,
    begun: BegunFrame,
}

/// How long the frame is that a codec has begun to read, in bytes; 0 between two frames, and before its length is
/// known. Clones are of the same codec.
#[derive(Debug, Clone, Default)]
pub(crate) struct BegunFrame(Arc<AtomicUsize>);

impl BegunFrame {
    pub(crate) fn length(&self) -> usize {
        // It is read by the task that writes it.
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, length: usize) {
        self.0.store(length, Ordering::Relaxed);
    }
}

impl FrameCodec {
    /// A codec that takes frames of up to `max_frame` bytes, their length not counted.
    pub fn new(max_frame: usize) -> Self {
        let lengths = LengthDelimitedCodec::builder()
            .length_field_length(LENGTH_BYTES)
            .max_frame_length(max_frame)
            .new_codec();
        Self {
            lengths,
            last_length: 0,
            begun: BegunFrame::default(),
        }
    }

    /// Changes the limit for the frames whose length has not been read yet.
    pub fn set_max_frame(&mut self, max_frame: usize) {
        self.lengths.set_max_frame_length(max_frame);
    }

    /// The frame that is being read, for whoever decides whether to read it.
    pub(crate) fn begun(&self) -> BegunFrame {
        self.begun.clone()
    }

    /// How long the frame was that was read last, in bytes.
    pub(crate) fn last_length(&self) -> usize {
        self.last_length
    }

    /// A frame that was written in place has been given its content; now it is given its length.
    fn finish(&self, frame: &mut [u8]) -> Result<(), StreamError> {
        let Some((head, content)) = frame.split_first_chunk_mut::<LENGTH_BYTES>() else {
            unreachable!("a frame begins with its length");
        };
        let limit = self.lengths.max_frame_length();
        match u32::try_from(content.len()) {
            Ok(length) if content.len() <= limit => *head = length.to_be_bytes(),
            _ => {
                return Err(FrameError::TooLarge {
                    length: content.len() as u64,
                    limit: limit as u64,
                }
                .into());
            }
        }
        Ok(())
    }

    /// The error for a length that the codec refused. It refuses before it takes the length from the buffer.
    fn refusal(&self, length: u64, error: io::Error) -> StreamError {
        let limit = self.lengths.max_frame_length() as u64;
        if length > limit {
            FrameError::TooLarge { length, limit }.into()
        } else {
            error.into()
        }
    }
}

impl Decoder for FrameCodec {
    type Item = BytesMut;
    type Error = StreamError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<BytesMut>, StreamError> {
        let announced = src
            .first_chunk::<LENGTH_BYTES>()
            .map_or(0, |head| u32::from_be_bytes(*head));
        let frame = self
            .lengths
            .decode(src)
            .map_err(|error| self.refusal(u64::from(announced), error))?;
        match &frame {
            Some(frame) => {
                self.last_length = frame.len();
                self.begun.set(0);
            }
            // The length has just been taken from the buffer, unless that was done before.
            None if self.begun.length() == 0 => self.begun.set(announced as usize),
            None => {}
        }
        Ok(frame)
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<BytesMut>, StreamError> {
        match self.decode(src)? {
            Some(frame) => Ok(Some(frame)),
            None if src.is_empty() && self.begun.length() == 0 => Ok(None),
            None => {
                src.clear();
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the stream ended within a frame").into())
            }
        }
    }
}

impl<M: Message> Encoder<&M> for FrameCodec {
    type Error = StreamError;

    /// Encodes right behind what is in the buffer, so that no message is copied.
    fn encode(&mut self, message: &M, dst: &mut BytesMut) -> Result<(), StreamError> {
        let begin = dst.len();
        dst.put_bytes(0, LENGTH_BYTES);
        let written = encode_into(message, dst)
            .map_err(StreamError::from)
            .and_then(|()| self.finish(&mut dst[begin..]));
        if written.is_err() {
            dst.truncate(begin);
        }
        written
    }
}

fn encode_into<M: Serialize>(message: &M, buffer: &mut BytesMut) -> Result<(), FrameError> {
    write_item(message, buffer).map_err(FrameError::malformed)
}

/// The name in a frame that is well-formed and has the shape of a message, if no message has that name.
fn unknown_name<M: Message>(frame: &[u8]) -> Option<String> {
    let Envelope(name) = read_item(frame).ok()?;
    (!M::NAMES.contains(&name.as_str())).then_some(name)
}

/// A map of one entry, with its key.
struct Envelope(String);

impl<'de> Deserialize<'de> for Envelope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EnvelopeVisitor(PhantomData))
    }
}

struct EnvelopeVisitor(PhantomData<Envelope>);

impl<'de> Visitor<'de> for EnvelopeVisitor {
    type Value = Envelope;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of one entry")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope, A::Error> {
        let entry: Option<(String, IgnoredAny)> = map.next_entry()?;
        match (entry, map.next_key::<IgnoredAny>()?) {
            (Some((name, _)), None) => Ok(Envelope(name)),
            _ => Err(serde::de::Error::custom("not a map of one entry")),
        }
    }
}

/// The text, cut at [`MAX_QUOTE`].
fn quote(text: &str) -> String {
    if text.len() <= MAX_QUOTE {
        return text.to_owned();
    }
    let mut shown = text[..text.floor_char_boundary(MAX_QUOTE)].to_owned();
    shown.push('…');
    shown
}
