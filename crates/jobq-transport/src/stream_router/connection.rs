//! One connection, from its setup to its last words.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use jobq_proto::limits::NO_BEAT;
use jobq_proto::message::Beat;
use jobq_proto::{ErrorCode, ServerMessage, WireError};
use tokio::io::{AsyncRead, ReadHalf};
use tokio::sync::SemaphorePermit;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, timeout, timeout_at};

use super::accept::{Place, Seat, Stranger};
use super::gate::{Gate, Patience};
use super::inbox::InboxRoom;
use super::link::{Link, Queued};
use super::received::Received;
use super::turns::Turns;
use super::writer::write_all;
use super::{Shared, error_message};
use crate::codec::{FrameCodec, FrameError, StreamError};
use crate::framed::{BatchLimit, MessageReader, StreamEnd};
use crate::linger::linger;
use crate::listener::ByteStream;
use crate::router::{Closed, PeerId, PeerInfo};
use crate::tls;

/// What a connection reads before it hands over, in messages and about in bytes: so much that the time to hand over
/// does not count, and no more, since others wait.
const READ_BATCH: BatchLimit = BatchLimit {
    messages: 128,
    bytes: 64 * 1024,
};

/// The first message alone.
const FIRST_MESSAGE: BatchLimit = BatchLimit {
    messages: 1,
    bytes: 0,
};

/// A first frame up to this long is read at once, in bytes: as many of them as there may be strangers need little. A
/// Hello is longer only where it lists many names.
const SMALL_FIRST_FRAME: usize = 4 * 1024;

/// What is read and dropped after the last words, in bytes: more than a first frame that was refused by its length.
const LINGER_BYTES: usize = 256 * 1024;

/// Who has more than so many bytes of answers to read, and asks for more, is kept waiting …
const MAX_UNREAD: usize = 64 * 1024;

/// … until it has read them, or for so long; and so is who has asked much that is not heard. Far below any time-to-live,
/// since Beats may be behind the questions.
const HEARD_EVERY: Duration = Duration::from_secs(1);

/// How long what the peer sent is still read after writing to it failed.
const READ_ON: Duration = Duration::from_secs(1);

type Reader<Io> = MessageReader<Gate<ReadHalf<Io>>, ServerMessage>;
type Writer = JoinSet<Result<(), StreamError>>;

/// Serves a connection to its end.
pub(super) async fn serve<Io, S>(shared: Arc<Shared>, setup: S, seat: Seat)
where
    Io: ByteStream,
    S: Future<Output = io::Result<(Io, PeerInfo)>>,
{
    let hello_by = Instant::now() + shared.config.hello_timeout;
    let Seat { place, stranger } = seat;
    let ready = tokio::select! {
        ready = set_up(setup, hello_by) => ready,
        () = stranger.replaced() => None,
    };
    let Some((io, info)) = ready else {
        return;
    };
    let connection = Connection::open(&shared, info, place);
    let (read, write) = tokio::io::split(io);
    let mut writer = Writer::new();
    writer.spawn(write_all(write, connection.link.clone(), shared.steps.clone()));

    let codec = FrameCodec::new(shared.config.max_first_frame);
    let gate = Gate::new(
        read,
        codec.begun(),
        shared.frames.clone(),
        shared.config.frames_bytes,
    );
    let mut reader = Reader::new(gate, codec);
    let end = {
        let mut reading = pin!(connection.read(&mut reader, hello_by, stranger));
        tokio::select! {
            biased;
            () = connection.link.stopped() => End::Stopped,
            Some(written) = writer.join_next() => {
                // What the peer sent before it went is still there to be read.
                let read = timeout(READ_ON, &mut reading).await;
                read.unwrap_or_else(|_| End::Lost(writer_error(written)))
            }
            end = &mut reading => end,
        }
    };
    match end {
        End::Stopped if connection.link.is_over() => return,
        End::Stopped => {}
        End::Refused(error) => {
            if let Some(unlogged) = shared.seats.log.take() {
                tracing::info!(peer = %connection.link.peer, %error, unlogged, "a peer is refused");
            }
            shared
                .inbox
                .end(connection.link.peer, Closed::Protocol(error.clone()));
            connection
                .link
                .finish(Some(error_message(error)), Queued::Written);
        }
        End::Lost(why) => {
            tracing::debug!(peer = %connection.link.peer, %why, "a peer is gone");
            shared.inbox.end(connection.link.peer, why);
            return;
        }
    }
    say_last_words(
        &mut writer,
        reader.into_inner().into_inner(),
        shared.config.close_timeout,
    )
    .await;
}

/// Tells a connection why it is not served.
pub(super) async fn refuse<Io, S>(shared: Arc<Shared>, setup: S, error: WireError, place: Place)
where
    Io: ByteStream,
    S: Future<Output = io::Result<(Io, PeerInfo)>>,
{
    let set_up_by = Instant::now() + shared.config.hello_timeout;
    let Some((io, _)) = set_up(setup, set_up_by).await else {
        return;
    };
    let link = Link::new(
        PeerId(0),
        shared.config.outbox_bytes,
        shared.unsent.clone(),
        place,
    );
    let connection = Connection {
        shared: &shared,
        link: Arc::new(link),
    };
    let (read, write) = tokio::io::split(io);
    connection
        .link
        .finish(Some(error_message(error)), Queued::Written);
    let mut writer = Writer::new();
    writer.spawn(write_all(write, connection.link.clone(), shared.steps.clone()));
    say_last_words(&mut writer, read, shared.config.close_timeout).await;
}

async fn set_up<Io, S>(setup: S, by: Instant) -> Option<(Io, PeerInfo)>
where
    S: Future<Output = io::Result<(Io, PeerInfo)>>,
{
    match timeout_at(by, setup).await {
        Ok(Ok(ready)) => return Some(ready),
        Ok(Err(error)) => tracing::debug!(%error, "a connection could not be set up"),
        Err(_) => tracing::debug!("a connection was not set up in time"),
    }
    None
}

/// Writes what is queued, the last words included, and lets the peer read them.
async fn say_last_words(writer: &mut Writer, read: impl AsyncRead + Unpin, time: Duration) {
    if !matches!(timeout(time, writer.join_next()).await, Ok(Some(Ok(Ok(()))))) {
        return;
    }
    linger(read, LINGER_BYTES).await;
}

/// Why reading ended.
enum End {
    /// The router finishes the connection.
    Stopped,
    /// The peer broke the protocol, and is to be told so.
    Refused(WireError),
    /// There is nobody to be told anything.
    Lost(Closed),
}

/// An open connection. However its task ends, the router hears of it.
struct Connection<'a> {
    shared: &'a Shared,
    link: Arc<Link>,
}

impl<'a> Connection<'a> {
    fn open(shared: &'a Shared, info: PeerInfo, place: Place) -> Self {
        let peer = PeerId(shared.next_peer.fetch_add(1, Ordering::Relaxed));
        tracing::debug!(%peer, from = %info, "a peer has connected");
        let link = Link::new(peer, shared.config.outbox_bytes, shared.unsent.clone(), place);
        let link = Arc::new(link);
        shared.inbox.open(info, link.clone());
        Self { shared, link }
    }

    async fn read<Io: ByteStream>(
        &self,
        reader: &mut Reader<Io>,
        hello_by: Instant,
        mut stranger: Stranger,
    ) -> End {
        let mut batch = Vec::new();
        let first = tokio::select! {
            biased;
            first = timeout_at(hello_by, self.read_first(reader, &mut batch)) => first,
            () = stranger.replaced() => return replaced(),
        };
        let room = match first {
            Ok(Ok(room)) => room,
            Ok(Err(end)) => return end.into(),
            Err(_) => return End::Refused(self.hello_timeout()),
        };
        if !stranger.has_spoken() {
            return replaced();
        }
        // One message never fills the inbox; the next one waits for the admission.
        self.shared.inbox.put(self.link.peer, &mut batch);
        let max_frame = self.link.admitted().await;
        drop((stranger, room));
        reader.open_up(max_frame);
        let mut patience = Patience::new(self.shared.config.frame_timeout);
        let mut turns = Turns::new(self.shared.turns.clone(), &self.shared.steps);
        loop {
            match read_in_time(reader, &mut patience, &mut turns, &mut batch).await {
                Ok(Ok(())) => {}
                Ok(Err(end)) => return end.into(),
                Err(Late) => return End::Refused(self.frame_timeout()),
            }
            let asks = batch.iter().any(Received::asks);
            let room = self.shared.inbox.put(self.link.peer, &mut batch);
            turns.over(reader.get_ref().read()).await;
            if room == InboxRoom::None {
                self.wait_for_room().await;
                patience.rest();
            }
            if asks && self.link.queued() > MAX_UNREAD {
                // Whoever reads nothing for longer is heard all the same, now and then: it may say more than questions.
                let _ = timeout(HEARD_EVERY, self.link.has_less_than(MAX_UNREAD)).await;
            }
        }
    }

    /// Waits until enough of what was read is heard.
    async fn wait_for_room(&self) {
        let has_room = timeout(HEARD_EVERY, self.link.has_room()).await.is_ok();
        if !has_room && self.shared.inbox.read_ahead(self.link.peer) == InboxRoom::None {
            self.link.has_room().await;
        }
    }

    /// Reads the first message. A long one waits until there is room for it among those of other strangers; the room is
    /// its own until it is dropped.
    async fn read_first<Io: ByteStream>(
        &self,
        reader: &mut Reader<Io>,
        batch: &mut Vec<Received>,
    ) -> Result<Option<SemaphorePermit<'_>>, StreamEnd> {
        let length = reader.first_length().await?;
        let config = &self.shared.config;
        if length > config.max_first_frame {
            let error = if u32::try_from(length).is_ok_and(tls::begins) {
                FrameError::Tls
            } else {
                let (length, limit) = (length as u64, config.max_first_frame as u64);
                FrameError::TooLarge { length, limit }
            };
            return Err(StreamEnd::Failed(error.into()));
        }
        let room = if length > SMALL_FIRST_FRAME {
            let bytes = u32::try_from(length.min(config.first_frames_bytes)).unwrap_or(u32::MAX);
            self.shared.first_frames.acquire_many(bytes).await.ok()
        } else {
            None
        };
        read_batch(reader, FIRST_MESSAGE, batch).await?;
        Ok(room)
    }

    fn hello_timeout(&self) -> WireError {
        let time = self.shared.config.hello_timeout;
        WireError::new(ErrorCode::HelloTimeout, format!("no Hello came within {time:?}"))
    }

    fn frame_timeout(&self) -> WireError {
        let time = self.shared.config.frame_timeout;
        let message = format!("a frame had begun, and for {time:?} too little of it came");
        WireError::new(ErrorCode::FrameTimeout, message)
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        let why = io::Error::other("the connection's task ended");
        // Without effect where a reason has been given.
        self.shared.inbox.end(self.link.peer, why.into());
        self.link.over();
    }
}

/// The end of a connection whose place another has taken. It is not told: there are too many of its kind.
fn replaced() -> End {
    End::Lost(io::Error::other("it said no Hello, and a newer connection took its place").into())
}

async fn read_batch<Io: ByteStream>(
    reader: &mut Reader<Io>,
    limit: BatchLimit,
    batch: &mut Vec<Received>,
) -> Result<(), StreamEnd> {
    poll_fn(|cx| {
        reader.get_mut().open();
        let polled = poll_batch(reader, cx, limit, batch);
        if polled.is_pending() && reader.get_ref().is_closed() {
            cx.waker().wake_by_ref();
        }
        polled
    })
    .await
}

/// Too little has come of a frame that has begun.
struct Late;

/// What a peer says by sending more of a long message. Its own Beats wait behind that, so it would be taken for dead; and
/// would take the server for dead, which answers this one.
fn sign_of_life() -> ServerMessage {
    ServerMessage::Beat(Beat { seq: NO_BEAT })
}

async fn read_in_time<Io: ByteStream>(
    reader: &mut Reader<Io>,
    patience: &mut Patience,
    turns: &mut Turns,
    batch: &mut Vec<Received>,
) -> Result<Result<(), StreamEnd>, Late> {
    poll_fn(|cx| {
        if turns.poll_mine(cx).is_pending() {
            patience.pause();
            return Poll::Pending;
        }
        reader.get_mut().open();
        let polled = poll_batch(reader, cx, READ_BATCH, batch);
        let (waits, others_first) = (reader.get_ref().waits(), reader.get_ref().is_closed());
        if polled.is_pending() && !others_first {
            turns.pass();
        }
        if polled.is_ready() || !reader.is_within_frame() || waits {
            patience.rest();
        } else {
            let come = reader.begun_bytes();
            if patience.is_sign_of_life(come) {
                batch.push(Received::new(sign_of_life(), 0));
                return Poll::Ready(Ok(Ok(())));
            }
            if patience.poll_over(cx, come).is_ready() {
                return Poll::Ready(Err(Late));
            }
        }
        if polled.is_pending() && others_first {
            return Poll::Ready(Ok(Ok(())));
        }
        polled.map(Ok)
    })
    .await
}

fn poll_batch<Io: ByteStream>(
    reader: &mut Reader<Io>,
    cx: &mut Context<'_>,
    limit: BatchLimit,
    batch: &mut Vec<Received>,
) -> Poll<Result<(), StreamEnd>> {
    reader.poll_batch(cx, limit, |message, length| {
        batch.push(Received::new(message, length));
    })
}

impl From<StreamEnd> for End {
    fn from(end: StreamEnd) -> Self {
        match end {
            StreamEnd::Eof => Self::Lost(Closed::PeerGone),
            StreamEnd::Failed(StreamError::Io(error)) => Self::Lost(error.into()),
            StreamEnd::Failed(StreamError::Frame(error)) => Self::Refused(error.into()),
        }
    }
}

fn writer_error(written: Result<Result<(), StreamError>, JoinError>) -> Closed {
    match written {
        Ok(Ok(())) => Closed::PeerGone,
        Ok(Err(StreamError::Io(error))) => error.into(),
        Ok(Err(StreamError::Frame(error))) => io::Error::other(error).into(),
        Err(error) => io::Error::other(error).into(),
    }
}
