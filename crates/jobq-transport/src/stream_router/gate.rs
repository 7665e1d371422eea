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

/// A frame that has begun may be slow, but not slower than this, in bytes a second: what an honest peer's link has at
/// least, and more than somebody pays gladly for each place among the long frames that are being read.
const LEAST_RATE: u64 = 16 * 1024;

/// While a frame is under way, whether its peer is alive is looked at so often: its Beats wait behind the frame. A part of
/// the shortest time-to-live that a session has.
const SIGN_EVERY: Duration = Duration::from_millis(250);

/// The time that a frame has. However long it is, its peer has to go on sending: at any time, as much has come of it as at
/// the least rate, but for a delay that is allowed once.
pub(super) struct Patience {
    delay: Duration,
    begun: Option<Instant>,
    /// When the last sign of life was noted, and how many bytes had come by then.
    sign: Option<(Instant, usize)>,
    /// Set for one of the frames that have begun, and for no later than the end of the present one's time.
    sleep: Pin<Box<Sleep>>,
}

impl Patience {
    pub(super) fn new(delay: Duration) -> Self {
        Self {
            delay,
            begun: None,
            sign: None,
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
        }
    }

    /// No frame has begun, or it waits for room.
    pub(super) fn rest(&mut self) {
        self.begun = None;
        self.sign = None;
    }

    /// The frame is not read on for a moment, since it is the turn of others.
    pub(super) fn pause(&mut self) {
        self.begun = None;
    }

    /// Whether more has come of the frame since the last sign of life, and that was a while ago. It is noted as another.
    pub(super) fn is_sign_of_life(&mut self, come: usize) -> bool {
        let sign = self.sign.get_or_insert_with(|| (Instant::now(), come));
        let is_another = come > sign.1 && sign.0.elapsed() >= SIGN_EVERY;
        if is_another {
            *sign = (Instant::now(), come);
        }
        is_another
    }

    /// Ready when the time is over of the frame that has begun, and of which so many bytes have come.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>, come: usize) -> Poll<()> {
        let begun = *self.begun.get_or_insert_with(Instant::now);
        let by = begun + self.delay + Duration::from_millis(come as u64 * 1_000 / LEAST_RATE);
        if self.sleep.deadline() > by {
            self.sleep.as_mut().reset(by);
        }
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::{advance, timeout};

    use super::*;

    const DELAY: Duration = Duration::from_secs(30);

    /// How long a peer is waited for that has sent so many bytes of a frame, and sends no more.
    async fn waited(patience: &mut Patience, come: usize) -> Duration {
        let begun = Instant::now();
        let over = poll_fn(|cx| patience.poll_over(cx, come));
        timeout(Duration::from_secs(3_600), over)
            .await
            .expect("its time ends");
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_has_the_time_that_what_came_of_it_takes_at_the_least_rate_and_a_delay() {
        for (come, expected) in [(0, 30), (16 * 1024, 31), (8 * 1024 * 1024, 542)] {
            let waited = waited(&mut Patience::new(DELAY), come).await;
            assert_eq!(waited.as_secs(), expected, "{come}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_keeps_up_the_least_rate_is_never_over() {
        let mut patience = Patience::new(DELAY);
        for second in 0..3_600 {
            let over = poll_fn(|cx| Poll::Ready(patience.poll_over(cx, second * 16 * 1024)));
            assert!(over.await.is_pending(), "after {second} s");
            advance(Duration::from_secs(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_goes_on_is_a_sign_of_life_now_and_then_and_one_that_does_not_is_none() {
        let mut patience = Patience::new(DELAY);
        let mut signs = 0;
        for tenth in 1..=100 {
            signs += u32::from(patience.is_sign_of_life(tenth * 1_000));
            advance(Duration::from_millis(100)).await;
        }
        assert!((30..=40).contains(&signs), "{signs} in 10 s");
        for _ in 0..100 {
            assert!(!patience.is_sign_of_life(100_000));
            advance(Duration::from_millis(100)).await;
        }
        patience.rest();
        assert!(
            !patience.is_sign_of_life(1),
            "its first bytes tell nothing that it did not tell"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_a_long_frame_is_not_that_of_the_next() {
        let mut patience = Patience::new(DELAY);
        for come in (0..1024 * 1024).step_by(64 * 1024) {
            let over = poll_fn(|cx| Poll::Ready(patience.poll_over(cx, come)));
            assert!(over.await.is_pending());
            advance(Duration::from_secs(3)).await;
        }
        patience.rest();
        assert_eq!(waited(&mut patience, 0).await.as_secs(), 30);
    }
}
