//! A router over byte streams, of any number of listeners of any kind.
//!
//! In the order in which data flows: `accept` takes connections and bounds how many there are; `connection`
//! reads one of them, from its setup to its last words; `gate` keeps long frames waiting for room, and `turns` those
//! that say much waiting for each other; `inbox` is where what was read waits, each message as `received` weighs it,
//! and from which peers are heard in the order of `fair_queue`; `link` is what router and connection share, with the
//! queue of what is to be sent; `writer` writes it. `steps` has whatever takes long done piece by piece.
//!
//! The router has no task of its own. Dropping it ends all connections at once.

mod accept;
mod connection;
mod fair_queue;
mod gate;
mod inbox;
mod link;
mod received;
mod steps;
mod turns;
mod weight;
mod writer;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use jobq_proto::limits::MAX_FIRST_FRAME;
use jobq_proto::message::ErrorMessage;
use jobq_proto::{ClientMessage, ErrorCode, ServerMessage, WireError};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::endpoint::ListenAddress;
use crate::error::{SendError, TransportError};
use crate::listener::Listener;
use crate::router::{CloseReason, Closed, PeerId, Router, RouterEvent};
use crate::tcp::TcpBind;
use crate::tls::{ServerTls, TlsBind, TlsError};
#[cfg(unix)]
use crate::unix::UnixBind;

use accept::Seats;
use fair_queue::Length;
use inbox::{Inbox, InboxLimits};
use link::{Link, Queued, Unsent};
use steps::Steps;

/// How much a router takes, and how long it waits. One that differs from [`RouterConfig::default`] is made of that,
/// field by field.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouterConfig {
    /// Time for a connection's setup and first message.
    pub hello_timeout: Duration,
    /// How far a later frame may fall behind the least rate of 16 KiB/s, from its first byte that is read to its last: so
    /// one of which nothing more comes ends its connection after this time, and one of which 1 MiB has come, 64 s later.
    pub frame_timeout: Duration,
    /// Most connections, admitted or not. One counts until its `Closed` has been received.
    pub max_peers: usize,
    /// Most connections that are not admitted yet. Beyond, a new one takes the place of the one that has said nothing
    /// for the longest time.
    pub max_unadmitted: usize,
    /// Longest first frame, in bytes.
    pub max_first_frame: usize,
    /// Most bytes of first frames that are being read or wait for the admission of their peers, those of up to 4 KiB
    /// apart. Whoever sends a longer one waits for room.
    pub first_frames_bytes: usize,
    /// Messages of one peer that wait to be received before its connection is not read any more.
    pub inbox_messages: usize,
    /// The same in bytes of memory, about. One message is always read, however large; and what one read brings may
    /// exceed both by as much again.
    pub inbox_bytes: usize,
    /// Most bytes, about, of the messages of all peers that wait to be received. While there are as many, connections
    /// are not read of which 64 KiB wait already.
    pub inboxes_bytes: usize,
    /// Most bytes of frames longer than 64 KiB that are being read. Whoever sends one more waits for room.
    pub frames_bytes: usize,
    /// Most bytes, about, that are queued for one peer. A little more than what a peer can ask for.
    pub outbox_bytes: usize,
    /// Most bytes, about, that are queued for all peers. Beyond, the connection with the most is cut.
    pub outboxes_bytes: usize,
    /// Time to write what is queued for a peer whose connection is being closed, its last words included.
    pub close_timeout: Duration,
    /// Time that [`Router::drain`] waits.
    pub drain_timeout: Duration,
}

impl Default for RouterConfig {
    fn default() -> Self {
        Self {
            hello_timeout: Duration::from_secs(5),
            frame_timeout: Duration::from_secs(30),
            max_peers: 10_000,
            max_unadmitted: 1_000,
            max_first_frame: MAX_FIRST_FRAME,
            first_frames_bytes: 16 * 1024 * 1024,
            inbox_messages: 1_024,
            inbox_bytes: 4 * 1024 * 1024,
            inboxes_bytes: 256 * 1024 * 1024,
            frames_bytes: 256 * 1024 * 1024,
            outbox_bytes: 24 * 1024 * 1024,
            outboxes_bytes: 512 * 1024 * 1024,
            close_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(5),
        }
    }
}

/// What listening on addresses needs beside them. One that differs from [`BindOptions::default`] is made of that, field
/// by field.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BindOptions {
    /// The certificates to show on `tls://` addresses.
    pub tls: Option<ServerTls>,
    /// Who may connect to a Unix socket: the permissions of its file, of which writing is what counts.
    pub socket_mode: u32,
}

impl Default for BindOptions {
    /// No certificate, and Unix sockets for this user only.
    fn default() -> Self {
        Self {
            tls: None,
            socket_mode: 0o600,
        }
    }
}

/// What the router's tasks share.
struct Shared {
    config: RouterConfig,
    inbox: Inbox,
    unsent: Arc<Unsent>,
    seats: Seats,
    /// Bytes of long first frames that there is room for.
    first_frames: Semaphore,
    /// Bytes of long frames that there is room for.
    frames: Arc<Semaphore>,
    /// The turn of one connection that says much.
    turns: Arc<Semaphore>,
    steps: Steps,
    next_peer: AtomicU64,
}

/// A [`Router`] over byte streams.
pub struct StreamRouter {
    shared: Arc<Shared>,
    /// One task a listener. Each owns its connections' tasks, so that all of them end with the router.
    acceptors: JoinSet<()>,
    /// Tells the acceptors to take no more.
    stop_accepting: watch::Sender<bool>,
    /// The peers that can be sent to: from their `Opened` to their `Closed`, or to the call that ends them.
    peers: HashMap<PeerId, Peer>,
    /// Those that were sent something since the last flush.
    dirty: Vec<PeerId>,
    /// Something was left when events were taken last. The connections' tasks have their turn before more is taken:
    /// what has come meanwhile, from peers that say little, is not to wait until all is taken of those that say much.
    others_first: bool,
    /// It is the turn of what takes long.
    long_next: bool,
}

struct Peer {
    link: Arc<Link>,
    dirty: bool,
}

impl StreamRouter {
    /// A router that listens nowhere yet.
    pub fn new(config: RouterConfig) -> Self {
        let shared = Shared {
            inbox: Inbox::new(InboxLimits {
                messages: config.inbox_messages,
                bytes: config.inbox_bytes,
                all_bytes: config.inboxes_bytes,
            }),
            unsent: Arc::default(),
            seats: Seats::new(config.max_peers, config.max_unadmitted),
            first_frames: Semaphore::new(config.first_frames_bytes.min(Semaphore::MAX_PERMITS)),
            frames: Arc::new(Semaphore::new(config.frames_bytes.min(Semaphore::MAX_PERMITS))),
            turns: Arc::new(Semaphore::new(1)),
            steps: Steps::default(),
            next_peer: AtomicU64::new(1),
            config,
        };
        Self {
            shared: Arc::new(shared),
            acceptors: JoinSet::new(),
            stop_accepting: watch::Sender::new(false),
            peers: HashMap::new(),
            dirty: Vec::new(),
            others_first: false,
            long_next: false,
        }
    }

    /// Takes the connections of a listener. To be called within a tokio runtime.
    pub fn listen<L: Listener>(&mut self, listener: L) {
        let stop = self.stop_accepting.subscribe();
        self.acceptors
            .spawn(accept::accept_all(self.shared.clone(), listener, stop));
    }

    /// Listens on an address with the default options, and says on which: port 0 takes a free one.
    ///
    /// # Errors
    /// [`TransportError::Bind`], which names the address.
    pub async fn bind(&mut self, address: &ListenAddress) -> Result<ListenAddress, TransportError> {
        self.bind_with(address, &BindOptions::default()).await
    }

    /// Listens on an address, and says on which: port 0 takes a free one.
    ///
    /// # Errors
    /// [`TransportError::Bind`], which names the address; also for a `tls://` address without certificates.
    pub async fn bind_with(
        &mut self,
        address: &ListenAddress,
        options: &BindOptions,
    ) -> Result<ListenAddress, TransportError> {
        match address {
            ListenAddress::Tcp(address) => {
                let (listener, local) = TcpBind::bind(address).await?;
                self.listen(listener);
                Ok(ListenAddress::Tcp(local.into()))
            }
            ListenAddress::Tls(tcp) => {
                let Some(tls) = options.tls.clone() else {
                    return Err(TransportError::Bind {
                        address: address.to_string(),
                        source: io::Error::other(TlsError::NoCertificate),
                    });
                };
                let (listener, local) = TlsBind::bind(tcp, tls).await?;
                self.listen(listener);
                Ok(ListenAddress::Tls(local.into()))
            }
            #[cfg(unix)]
            ListenAddress::Unix(path) => {
                let (listener, local) = UnixBind::bind_with(path, options.socket_mode).await?;
                self.listen(listener);
                Ok(ListenAddress::Unix(local))
            }
        }
    }

    /// Connections that there are now: those that are being set up or closed included, and those whose `Closed` has
    /// not been received.
    pub fn connections(&self) -> usize {
        self.shared.seats.taken()
    }

    fn take(&mut self, out: &mut Vec<RouterEvent>, limit: usize, length: Length) -> usize {
        let peers = &mut self.peers;
        let inbox = &self.shared.inbox;
        let taken = inbox.take(limit, length, |event, link| out.push(noted(peers, event, link)));
        self.long_next = length == Length::Brief;
        self.others_first = inbox.has(Length::Brief) || inbox.has(Length::Long);
        taken
    }

    /// Cuts the connections that have the most queued, until all of it is within the limit. Nothing of theirs is
    /// written: it would take memory until they had read it.
    fn make_room(&mut self) {
        let limit = self.shared.config.outboxes_bytes;
        while self.shared.unsent.bytes() > limit
            && let Some((&peer, queued)) = self
                .peers
                .iter()
                .map(|(peer, known)| (peer, known.link.queued()))
                .max_by_key(|&(peer, queued)| (queued, *peer))
        {
            tracing::warn!(%peer, queued, limit, "all peers read too slowly, and this one has the most to read");
            if let Some(Peer { link, .. }) = self.peers.remove(&peer) {
                self.shared.inbox.cut_off(peer, Closed::OutboxFull);
                link.cut();
            }
        }
    }

    /// Ends a peer that reads too slowly. What is queued for it is dropped: it would not be read either.
    fn overflow(&mut self, peer: PeerId, queued: usize) {
        let limit = self.shared.config.outbox_bytes;
        let error = WireError::new(
            ErrorCode::OutboxFull,
            format!("{queued} bytes were sent and not read; {limit} may be"),
        );
        tracing::warn!(%peer, queued, limit, "the peer reads too slowly");
        if let Some(Peer { link, .. }) = self.peers.remove(&peer) {
            self.shared.inbox.cut_off(peer, Closed::OutboxFull);
            link.finish(Some(error_message(error)), Queued::Dropped);
        }
    }
}

/// An event that is handed out, once it is noted who can be sent to.
fn noted(peers: &mut HashMap<PeerId, Peer>, event: RouterEvent, link: &Arc<Link>) -> RouterEvent {
    match &event {
        RouterEvent::Opened { peer, .. } => {
            let link = link.clone();
            peers.insert(*peer, Peer { link, dirty: false });
        }
        RouterEvent::Closed { peer, .. } => {
            peers.remove(peer);
        }
        RouterEvent::Message { .. } => {}
    }
    event
}

impl Router for StreamRouter {
    async fn recv(&mut self, out: &mut Vec<RouterEvent>, limit: usize) -> Result<(), TransportError> {
        let shared = self.shared.clone();
        let limit = limit.max(1);
        if self.others_first {
            tokio::task::yield_now().await;
        }
        loop {
            let has_long = shared.inbox.has(Length::Long);
            let mut step = None;
            if has_long && self.long_next {
                step = shared.steps.try_begin();
            }
            if step.is_none() {
                if self.take(out, limit, Length::Brief) > 0 {
                    return Ok(());
                }
                step = tokio::select! {
                    biased;
                    step = shared.steps.begin(), if has_long => Some(step),
                    () = shared.inbox.happened() => None,
                };
            }
            if let Some(step) = step {
                step.over_soon();
                if self.take(out, limit, Length::Long) > 0 {
                    return Ok(());
                }
            }
        }
    }

    async fn recv_brief(&mut self, out: &mut Vec<RouterEvent>, limit: usize) -> Result<(), TransportError> {
        let shared = self.shared.clone();
        if self.others_first {
            tokio::task::yield_now().await;
        }
        while self.take(out, limit.max(1), Length::Brief) == 0 {
            shared.inbox.happened().await;
        }
        Ok(())
    }

    fn try_recv(&mut self, out: &mut Vec<RouterEvent>, limit: usize) -> usize {
        let brief = self.take(out, limit, Length::Brief);
        brief + self.take(out, limit - brief, Length::Long)
    }

    fn try_recv_some(
        &mut self,
        out: &mut Vec<RouterEvent>,
        limit: usize,
        wanted: &mut dyn FnMut(PeerId, &ServerMessage, bool) -> bool,
    ) -> usize {
        let peers = &mut self.peers;
        self.shared
            .inbox
            .take_some(limit, wanted, |event, link| out.push(noted(peers, event, link)))
    }

    fn admit(&mut self, peer: PeerId, max_frame: usize) {
        if let Some(peer) = self.peers.get(&peer) {
            peer.link.admit(max_frame);
        }
    }

    fn send(&mut self, to: PeerId, message: ClientMessage) -> Result<(), SendError> {
        let Some(peer) = self.peers.get_mut(&to) else {
            return Err(SendError::Gone(to));
        };
        match peer.link.queue(message) {
            Ok(()) => {
                if !peer.dirty {
                    peer.dirty = true;
                    self.dirty.push(to);
                }
                if self.shared.unsent.bytes() > self.shared.config.outboxes_bytes {
                    self.make_room();
                }
                Ok(())
            }
            Err(error) => {
                if let SendError::Full { queued, .. } = error {
                    self.overflow(to, queued);
                }
                Err(error)
            }
        }
    }

    fn queued(&self, to: PeerId) -> usize {
        self.peers.get(&to).map_or(0, |peer| peer.link.queued())
    }

    fn flush(&mut self) {
        // Whoever was told last is written to first. What was told before is what it follows from: an acknowledgement
        // comes before the order of the job, and with the order a handler starts while the acknowledgement is written.
        for id in self.dirty.drain(..).rev() {
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.dirty = false;
                peer.link.wake_writer();
            }
        }
    }

    fn close(&mut self, peer: PeerId, last: Option<ClientMessage>, why: CloseReason) {
        if let Some(Peer { link, .. }) = self.peers.remove(&peer) {
            self.shared.inbox.cut_off(peer, Closed::ByUs(why));
            link.finish(last, Queued::Written);
        }
    }

    async fn drain(&mut self) {
        self.flush();
        self.stop_accepting.send_replace(true);
        if timeout(self.shared.config.drain_timeout, self.shared.unsent.none())
            .await
            .is_err()
        {
            tracing::warn!("not everything could be sent within the time for it");
        }
    }
}

fn error_message(error: WireError) -> ClientMessage {
    ClientMessage::Error(ErrorMessage { error })
}
