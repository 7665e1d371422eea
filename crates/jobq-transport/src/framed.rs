//! Messages over one direction of a byte stream.

use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use futures::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio_util::codec::{FramedRead, FramedWrite};

use crate::codec::{Cbor, FrameCodec, KEEP_CAPACITY, LENGTH_BYTES, Message, StreamError, decode};

/// What a connection reserves for reading while little comes on it, in bytes. Many may be open and silent.
const QUIET_CAPACITY: usize = 512;

/// What it reserves while much comes, in bytes. A longer frame reserves its own length.
const BUSY_CAPACITY: usize = 16 * 1024;

/// Much has come when a batch had so many bytes; a Beat and what is said now and then has less.
const MUCH: usize = 1024;

/// Why no more messages come.
#[derive(Debug)]
pub(crate) enum StreamEnd {
    /// The other side closed the stream, between two frames.
    Eof,
    /// The stream broke, or a frame is bad.
    Failed(StreamError),
}

/// How much to take at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchLimit {
    /// Messages, at least 1.
    pub(crate) messages: usize,
    /// No further message once this many bytes have been taken.
    pub(crate) bytes: usize,
}

/// Messages from a stream, taken in batches.
pub(crate) struct MessageReader<R, M> {
    framed: tokio_serde::Framed<FramedRead<R, FrameCodec>, M, M, Cbor>,
    /// The end, if it was found behind messages that were handed out first.
    end: Option<StreamEnd>,
    /// Whether much has come last, and room is reserved for more.
    is_busy: bool,
}

impl<R: AsyncRead + Unpin, M: Message + Unpin> MessageReader<R, M> {
    pub(crate) fn new(io: R, codec: FrameCodec) -> Self {
        let frames = FramedRead::with_capacity(io, codec, QUIET_CAPACITY);
        Self {
            framed: tokio_serde::Framed::new(frames, Cbor),
            end: None,
            is_busy: false,
        }
    }

    /// Waits for the length of the first frame, before there is any room for the frame itself. To be called before
    /// anything else is read, and once. Nothing is lost if it is not polled to its end.
    pub(crate) async fn first_length(&mut self) -> Result<usize, StreamEnd> {
        let mut head = [0; LENGTH_BYTES];
        loop {
            let frames = self.framed.get_mut();
            let buffer = frames.read_buffer();
            let known = buffer.len();
            head[..known].copy_from_slice(buffer);
            if known == LENGTH_BYTES {
                break;
            }
            match frames.get_mut().read(&mut head[known..]).await {
                Ok(0) if known == 0 => return Err(StreamEnd::Eof),
                Ok(0) => {
                    let error =
                        io::Error::new(io::ErrorKind::UnexpectedEof, "the stream ended within a frame");
                    return Err(StreamEnd::Failed(error.into()));
                }
                Ok(read) => frames
                    .read_buffer_mut()
                    .extend_from_slice(&head[known..known + read]),
                Err(error) => return Err(StreamEnd::Failed(error.into())),
            }
        }
        let length = u32::from_be_bytes(head) as usize;
        if length == 0 {
            // Nothing follows that would be waited for.
            let error = decode::<M>(&[]).err();
            return Err(StreamEnd::Failed(error.expect("nothing is no message").into()));
        }
        Ok(length)
    }

    /// Takes longer frames from now on.
    pub(crate) fn open_up(&mut self, max_frame: usize) {
        self.framed.get_mut().decoder_mut().set_max_frame(max_frame);
    }

    /// Waits for a message, then hands it and those that came with it to `take`, each with its length in bytes.
    /// Nothing is lost if it is not polled to its end.
    pub(crate) fn poll_batch(
        &mut self,
        cx: &mut Context<'_>,
        limit: BatchLimit,
        mut take: impl FnMut(M, usize),
    ) -> Poll<Result<(), StreamEnd>> {
        if let Some(end) = self.end.take() {
            return Poll::Ready(Err(end));
        }
        let (mut messages, mut bytes) = (0, 0);
        while messages < limit.messages.max(1) && (messages == 0 || bytes < limit.bytes) {
            let end = match Pin::new(&mut self.framed).poll_next(cx) {
                Poll::Ready(Some(Ok(message))) => {
                    let length = self.framed.get_ref().decoder().last_length();
                    take(message, length);
                    messages += 1;
                    bytes += length;
                    continue;
                }
                Poll::Ready(Some(Err(error))) => StreamEnd::Failed(error),
                Poll::Ready(None) => StreamEnd::Eof,
                Poll::Pending if messages == 0 => return Poll::Pending,
                Poll::Pending => break,
            };
            if messages == 0 {
                return Poll::Ready(Err(end));
            }
            self.end = Some(end);
            break;
        }
        self.reserve(bytes >= MUCH);
        Poll::Ready(Ok(()))
    }

    /// Reserves room for what comes next, by how much has come last: a read that fills what is left of the room has to be
    /// followed by another one. A buffer's own word is what is left, so whether it was made for much is noted here.
    fn reserve(&mut self, is_busy: bool) {
        let buffer = self.framed.get_mut().read_buffer_mut();
        if is_busy {
            give_back(buffer, KEEP_CAPACITY, BUSY_CAPACITY);
            buffer.reserve(BUSY_CAPACITY);
            self.is_busy = true;
        } else if buffer.is_empty() {
            if self.is_busy {
                *buffer = BytesMut::with_capacity(QUIET_CAPACITY);
                self.is_busy = false;
            }
            buffer.reserve(QUIET_CAPACITY);
        }
    }

    /// Whether a frame has begun and not ended.
    pub(crate) fn is_within_frame(&self) -> bool {
        let frames = self.framed.get_ref();
        frames.decoder().begun().length() > 0 || !frames.read_buffer().is_empty()
    }

    /// Bytes that have come of the frame that has begun.
    pub(crate) fn begun_bytes(&self) -> usize {
        self.framed.get_ref().read_buffer().len()
    }

    /// The stream itself.
    pub(crate) fn get_ref(&self) -> &R {
        self.framed.get_ref().get_ref()
    }

    /// The stream itself, of which nothing is to be read here.
    pub(crate) fn get_mut(&mut self) -> &mut R {
        self.framed.get_mut().get_mut()
    }

    /// The stream itself, past what was read ahead.
    pub(crate) fn into_inner(self) -> R {
        self.framed.into_inner().into_inner()
    }
}

/// Messages to a stream.
pub(crate) struct MessageWriter<W, M> {
    frames: FramedWrite<W, FrameCodec>,
    /// Whether something was encoded that the stream has not passed on. The buffer here does not tell: a stream may
    /// have taken all of it into one of its own, as TLS does.
    unflushed: bool,
    messages: PhantomData<fn(M)>,
}

impl<W: AsyncWrite + Unpin, M: Message + Unpin> MessageWriter<W, M> {
    pub(crate) fn new(io: W) -> Self {
        // Our own frames are cut by whoever makes the messages; only what a length can say is the limit here.
        Self {
            frames: FramedWrite::with_capacity(io, FrameCodec::new(u32::MAX as usize), 0),
            unflushed: false,
            messages: PhantomData,
        }
    }

    /// Encodes a message into the buffer. It writes nothing, and the buffer has no limit of its own: whoever calls
    /// it bounds what is buffered.
    pub(crate) fn feed(&mut self, message: &M) -> Result<(), StreamError> {
        self.unflushed = true;
        Pin::new(&mut self.frames).start_send(message)
    }

    /// Bytes in the buffer.
    pub(crate) fn buffered(&self) -> usize {
        self.frames.write_buffer().len()
    }

    /// Whether there is anything for [`poll_flush`](Self::poll_flush) to do.
    pub(crate) fn is_flushed(&self) -> bool {
        !self.unflushed
    }

    /// Writes the buffer out, and has the stream pass on what it keeps back.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Sink::<&M>::poll_flush(Pin::new(&mut self.frames), cx).map_err(into_io);
        if flushed.is_ready() {
            self.unflushed = false;
            give_back(self.frames.write_buffer_mut(), KEEP_CAPACITY, 0);
        }
        flushed
    }

    /// Writes the buffer out and ends this direction of the stream.
    pub(crate) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Sink::<&M>::poll_close(Pin::new(&mut self.frames), cx).map_err(into_io)
    }
}

/// Only encoding makes frame errors; writing does not encode.
fn into_io(error: StreamError) -> io::Error {
    match error {
        StreamError::Io(error) => error,
        StreamError::Frame(error) => io::Error::other(error),
    }
}

/// Takes a smaller buffer for one that is empty and has grown to more than `keep` bytes.
fn give_back(buffer: &mut BytesMut, keep: usize, capacity: usize) {
    if buffer.is_empty() && buffer.capacity() > keep {
        *buffer = BytesMut::with_capacity(capacity);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use jobq_proto::ServerMessage;
    use jobq_proto::message::Beat;
    use tokio::io::{AsyncWriteExt, DuplexStream};

    use super::*;
    use crate::codec::encode;

    const ALL: BatchLimit = BatchLimit {
        messages: usize::MAX,
        bytes: usize::MAX,
    };

    async fn send(io: &mut DuplexStream, beats: usize) {
        let message = encode(&ServerMessage::Beat(Beat { seq: 1 })).expect("it can be encoded");
        let length = u32::try_from(message.len()).expect("it is short");
        let frame = [&length.to_be_bytes(), &message[..]].concat();
        io.write_all(&frame.repeat(beats)).await.expect("it is read");
    }

    #[tokio::test]
    async fn a_connection_on_which_little_comes_keeps_little_room_to_read() {
        let (mut far, near) = tokio::io::duplex(64 * 1024);
        let mut reader = MessageReader::<_, ServerMessage>::new(near, FrameCodec::new(1024));
        for (beats, is_busy) in [(1, false), (1_000, true), (1, false)] {
            send(&mut far, beats).await;
            let mut taken = 0;
            while taken < beats {
                poll_fn(|cx| reader.poll_batch(cx, ALL, |_, _| taken += 1))
                    .await
                    .unwrap_or_else(|_| panic!("they come whole"));
            }
            let buffer = reader.framed.get_mut().read_buffer_mut();
            // All of its room, and not what is left of that.
            let has_room = buffer.try_reclaim(BUSY_CAPACITY);
            assert_eq!(has_room, is_busy, "{} after {beats}", buffer.capacity());
        }
    }

    #[tokio::test]
    async fn a_message_that_comes_alone_is_read_at_once_however_many_came_before() {
        let (mut far, near) = tokio::io::duplex(64 * 1024);
        let mut reader = MessageReader::<_, ServerMessage>::new(near, FrameCodec::new(1024));
        for number in 0..100 {
            send(&mut far, 1).await;
            poll_fn(|cx| reader.poll_batch(cx, ALL, |_, _| ()))
                .await
                .unwrap_or_else(|_| panic!("it comes whole"));
            let room = reader.framed.get_mut().read_buffer_mut().capacity();
            assert!(room >= QUIET_CAPACITY, "{room} after {number}");
        }
    }
}
