//! What a client or a worker needs from a transport: one peer, the server.

use std::future::{Future, poll_fn};
use std::io;
use std::task::{Context, Poll, Waker};

use jobq_proto::{ClientMessage, ServerMessage};
use tokio::io::{ReadHalf, WriteHalf};

use crate::codec::{FrameCodec, StreamError};
use crate::error::{SendError, TransportError};
use crate::framed::{BatchLimit, MessageReader, MessageWriter, StreamEnd};
use crate::linger::linger;
use crate::listener::ByteStream;

/// What may be queued for the server, in bytes. A client keeps to the server's window, which is smaller.
pub const MAX_QUEUED: usize = 64 * 1024 * 1024;

/// The server, as its clients and workers see it.
pub trait Dealer: Send {
    /// Waits for a message, then appends up to `limit` (at least 1) to `out`. Writes what is queued at the same
    /// time. Cancel-safe: a message is either in `out` or still to come.
    ///
    /// # Errors
    /// [`TransportError::Closed`] at the end of the stream; then nothing more comes, whatever is asked.
    fn recv(
        &mut self,
        out: &mut Vec<ClientMessage>,
        limit: usize,
    ) -> impl Future<Output = Result<(), TransportError>> + Send;

    /// Queues a message and never waits. It is written by [`flush`](Dealer::flush) and [`recv`](Dealer::recv).
    ///
    /// # Errors
    /// [`SendError::Full`] when the server does not read, [`SendError::Closed`] when the connection is over.
    fn send(&mut self, message: &ServerMessage) -> Result<(), SendError>;

    /// Writes as much as the stream takes at once. Never waits; an error comes out of the next
    /// [`recv`](Dealer::recv).
    fn flush(&mut self);

    /// The server's Hello was good: takes frames of up to `max_frame` bytes from now on.
    fn admit(&mut self, max_frame: usize);

    /// Bytes that are queued and not yet written.
    fn queued_bytes(&self) -> usize;

    /// Writes what is queued, ends the connection, and waits up to a second for the server to have read the end.
    ///
    /// # Errors
    /// When not everything could be written. It waits as long as the server does not read; the caller bounds it.
    fn close(self) -> impl Future<Output = Result<(), TransportError>> + Send;
}

/// A dealer over a byte stream. It has no tasks of its own: it works while it is called.
pub struct StreamDealer<Io> {
    reader: MessageReader<ReadHalf<Io>, ClientMessage>,
    writer: MessageWriter<WriteHalf<Io>, ServerMessage>,
    /// Why writing failed. Reported once everything that the server said before has been read.
    write_error: Option<io::Error>,
    /// Nothing more comes.
    ended: bool,
}

impl<Io: ByteStream> StreamDealer<Io> {
    /// A dealer that takes frames of up to `max_frame` bytes.
    pub fn new(io: Io, max_frame: usize) -> Self {
        let (read, write) = tokio::io::split(io);
        let mut reader = MessageReader::new(read, FrameCodec::new(max_frame));
        reader.open_up(max_frame);
        Self {
            reader,
            writer: MessageWriter::new(write),
            write_error: None,
            ended: false,
        }
    }

    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<ClientMessage>,
        limit: usize,
    ) -> Poll<Result<(), TransportError>> {
        if self.ended {
            return Poll::Ready(Err(TransportError::Closed));
        }
        self.write_some(cx);
        let limit = BatchLimit {
            messages: limit,
            bytes: usize::MAX,
        };
        let end = match self.reader.poll_batch(cx, limit, |message, _| out.push(message)) {
            Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
            Poll::Ready(Err(end)) => end,
            // A server that refuses a peer says why and then resets the connection. Its words are here already.
            Poll::Pending => match self.write_error.take() {
                Some(error) => StreamEnd::Failed(error.into()),
                None => return Poll::Pending,
            },
        };
        self.ended = true;
        Poll::Ready(Err(match end {
            StreamEnd::Eof => TransportError::Closed,
            StreamEnd::Failed(error) => error.into(),
        }))
    }

    fn write_some(&mut self, cx: &mut Context<'_>) {
        if self.write_error.is_some() || self.writer.is_flushed() {
            return;
        }
        if let Poll::Ready(Err(error)) = self.writer.poll_flush(cx) {
            self.write_error = Some(error);
        }
    }
}

impl<Io: ByteStream> Dealer for StreamDealer<Io> {
    async fn recv(&mut self, out: &mut Vec<ClientMessage>, limit: usize) -> Result<(), TransportError> {
        poll_fn(|cx| self.poll_recv(cx, out, limit)).await
    }

    fn send(&mut self, message: &ServerMessage) -> Result<(), SendError> {
        if self.ended || self.write_error.is_some() {
            return Err(SendError::Closed);
        }
        let queued = self.writer.buffered();
        if queued >= MAX_QUEUED {
            return Err(SendError::Full {
                queued,
                limit: MAX_QUEUED,
            });
        }
        self.writer.feed(message).map_err(|error| match error {
            StreamError::Frame(error) => SendError::Frame(error),
            StreamError::Io(_) => SendError::Closed,
        })
    }

    fn flush(&mut self) {
        // Whatever the stream does not take at once is written by `recv`, which then asks to be woken.
        self.write_some(&mut Context::from_waker(Waker::noop()));
    }

    fn admit(&mut self, max_frame: usize) {
        self.reader.open_up(max_frame);
    }

    fn queued_bytes(&self) -> usize {
        self.writer.buffered()
    }

    async fn close(mut self) -> Result<(), TransportError> {
        if let Some(error) = self.write_error.take() {
            return Err(error.into());
        }
        poll_fn(|cx| self.writer.poll_close(cx)).await?;
        // The server closes as soon as it has read the end. How much it sends until then is its own affair.
        linger(self.reader.into_inner(), usize::MAX).await;
        Ok(())
    }
}
