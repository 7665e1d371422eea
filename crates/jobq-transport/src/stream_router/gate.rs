//! Room for long frames while they are read, and time for all of them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf, Take};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::PollSemaphore;

use crate::codec::BegunFrame;

/// A frame up to this long is read at once, in bytes: as much as every connection may take.
pub(super) const SMALL_FRAME: usize = 64 * 1024;

/// The stream of a connection, which is not read on while a long frame waits for room among those of others.
pub(super) struct Gate<R> {
    io: Take<R>,
    begun: BegunFrame,
    frames: PollSemaphore,
    /// Most bytes that one frame takes of the room.
    most: usize,
    room: Option<OwnedSemaphorePermit>,
    waits: bool,
}

/// How much is read of a connection before others have their turn, in bytes: what takes some hundredths of a
/// millisecond.
const AT_A_TIME: u64 = 64 * 1024;

impl<R: AsyncRead> Gate<R> {
    /// `most` is how many bytes `frames` had at first: a frame that is longer than that takes all of them.
    pub(super) fn new(io: R, begun: BegunFrame, frames: Arc<Semaphore>, most: usize) -> Self {
        Self {
            io: io.take(AT_A_TIME),
            begun,
            frames: PollSemaphore::new(frames),
            most,
            room: None,
            waits: false,
        }
    }

    /// Lets as much be read as is read at a time.
    pub(super) fn open(&mut self) {
        self.io.set_limit(AT_A_TIME);
    }

    /// Whether that has been read, so that it is closed until it is opened again. Nobody is woken then.
    pub(super) fn is_closed(&self) -> bool {
        self.io.limit() == 0
    }

    /// How much of that has been read, in bytes.
    pub(super) fn read(&self) -> usize {
        usize::try_from(AT_A_TIME - self.io.limit()).unwrap_or(usize::MAX)
    }

    /// Whether it waits for room.
    pub(super) fn waits(&self) -> bool {
        self.waits
    }

    pub(super) fn into_inner(self) -> R {
        self.io.into_inner()
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let length = self.begun.length();
        if length <= SMALL_FRAME {
            self.room = None;
            return Poll::Ready(());
        }
        let bytes = u32::try_from(length.min(self.most)).unwrap_or(u32::MAX);
        let has = self
            .room
            .as_ref()
            .is_some_and(|room| room.num_permits() >= bytes as usize);
        if !has {
            self.room = None;
            self.waits = true;
            self.room = ready!(self.frames.poll_acquire_many(cx, bytes));
            self.waits = false;
        }
        Poll::Ready(())
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Gate<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_room(cx));
        if self.is_closed() {
            return Poll::Pending;
        }
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

/// The time that a frame has from its beginning to its end.
pub(super) struct Patience {
    time: Duration,
    begun: Option<Instant>,
    /// Set for one of the frames that have begun, and for none that began later than the present one.
    sleep: Pin<Box<Sleep>>,
}

impl Patience {
    pub(super) fn new(time: Duration) -> Self {
        Self {
            time,
            begun: None,
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
        }
    }

    /// No frame has begun, or it does not end for a reason of ours.
    pub(super) fn rest(&mut self) {
        self.begun = None;
    }

    /// Ready when the time is over of the frame that has begun.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let begun = *self.begun.get_or_insert_with(Instant::now);
        let by = begun + self.time;
        // Most frames end soon, so the timer is not set anew for each.
        while self.sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= by {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(by);
        }
        Poll::Pending
    }
}
