//! The network: connections that delay, lose their ends, and never reorder what is within one of them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;

use jobq_proto::limits::MAX_FIRST_FRAME;
use jobq_proto::{ClientMessage, ServerMessage};
use jobq_transport::codec::{self, Message};

use super::agenda::{At, ConnId, Event, MILLI, PeerIx, SECOND};
use super::ctx::{Ctx, trace};
use super::plan::Span;
use super::words::{from_server, to_server};

/// How long a connection has for its Hello, as the router gives it.
pub(super) const HELLO_TIMEOUT: At = 5 * SECOND;

/// All connections that either side still has.
#[derive(Debug, Default)]
pub(super) struct Net {
    pub(super) conns: BTreeMap<ConnId, Conn>,
    last: ConnId,
    /// Peers that nothing gets through to or from, until these times.
    pub(super) partitions: BTreeMap<PeerIx, At>,
}

/// A connection, with both its ends.
#[derive(Debug)]
pub(super) struct Conn {
    /// Whose it is; none for one that the network made up.
    pub(super) peer: Option<PeerIx>,
    /// The life of the server that it was made with; none while it is being made.
    pub(super) life: Option<u64>,
    pub(super) peer_open: bool,
    pub(super) server_open: bool,
    pub(super) admitted: bool,
    /// The first frame has been read; the next waits until the peer is admitted.
    first_read: bool,
    up: Pipe<ServerMessage>,
    down: Pipe<ClientMessage>,
    /// What the peer has said, for the network to say it again.
    pub(super) said: Vec<ServerMessage>,
}

/// One direction.
#[derive(Debug)]
struct Pipe<M> {
    parcels: VecDeque<(At, Parcel<M>)>,
    last: At,
    /// Nothing arrives before this.
    stalled: At,
    /// Nothing arrives ever again.
    lost: bool,
    /// Bytes on their way.
    bytes: usize,
}

/// What travels.
#[derive(Debug)]
pub(super) enum Parcel<M> {
    /// The server's computer has taken the connection.
    Open,
    Message(Box<M>, usize),
    /// The other side has closed, or the connection broke.
    End,
}

/// Who hears that a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    Both,
    PeerOnly,
    ServerOnly,
    Nobody,
}

impl<M> Pipe<M> {
    fn new() -> Self {
        Self {
            parcels: VecDeque::new(),
            last: 0,
            stalled: 0,
            lost: false,
            bytes: 0,
        }
    }

    /// Puts something on its way; says when it arrives.
    fn put(&mut self, at: At, parcel: Parcel<M>) -> At {
        let at = at.max(self.last).max(self.stalled);
        self.last = at;
        if let Parcel::Message(_, bytes) = &parcel {
            self.bytes += bytes;
        }
        self.parcels.push_back((at, parcel));
        at
    }

    fn take(&mut self, now: At) -> Option<Parcel<M>> {
        if self.parcels.front()?.0 > now {
            return None;
        }
        let (_, parcel) = self.parcels.pop_front()?;
        if let Parcel::Message(_, bytes) = &parcel {
            self.bytes -= bytes;
        }
        Some(parcel)
    }

    fn is_quiet(&self, now: At) -> bool {
        self.parcels.is_empty() && (self.lost || self.stalled <= now)
    }

    /// Keeps the first so many parcels.
    fn truncate(&mut self, keep: usize) {
        self.parcels.truncate(keep);
        self.bytes = self
            .parcels
            .iter()
            .map(|(_, parcel)| match parcel {
                Parcel::Message(_, bytes) => *bytes,
                Parcel::Open | Parcel::End => 0,
            })
            .sum();
    }
}

impl Ctx {
    /// A peer begins to connect.
    pub(super) fn connect(&mut self, peer: Option<PeerIx>) -> ConnId {
        self.net.last += 1;
        let id = self.net.last;
        let conn = Conn {
            peer,
            life: None,
            peer_open: true,
            server_open: false,
            admitted: false,
            first_read: false,
            up: Pipe::new(),
            down: Pipe::new(),
            said: Vec::new(),
        };
        self.net.conns.insert(id, conn);
        let wait = self.latency();
        self.after(wait, Event::Knock(id));
        id
    }

    /// The attempt to connect has reached the server's computer: whether somebody takes it.
    pub(super) fn knocks(&mut self, id: ConnId) -> bool {
        let listening = self.listening;
        let partitioned = self.partitioned(id);
        let Some(conn) = self.conn(id) else { return false };
        if !conn.peer_open {
            self.net.conns.remove(&id);
            return false;
        }
        if partitioned {
            self.net.conns.remove(&id);
            return false; // No answer ever comes; the peer gives up by itself.
        }
        conn.life = listening;
        conn.server_open = listening.is_some();
        if listening.is_none() {
            if conn.down.lost {
                self.net.conns.remove(&id); // Nor does one come if the connection was cut meanwhile.
            }
            self.end_down(id);
            return false;
        }
        let at = self.now + self.latency();
        if let Some(conn) = self.conn(id) {
            let at = conn.down.put(at, Parcel::Open);
            self.agenda.put(at, Event::Down(id));
        }
        self.after(HELLO_TIMEOUT, Event::HelloOver(id));
        true
    }

    fn partitioned(&self, id: ConnId) -> bool {
        let peer = self.net.conns.get(&id).and_then(|conn| conn.peer);
        let until = peer.and_then(|peer| self.net.partitions.get(&peer));
        until.is_some_and(|until| *until > self.now)
    }

    /// A peer sends.
    pub(super) fn send_up(&mut self, id: ConnId, message: ServerMessage) {
        trace!(self, "{id} > {}", to_server(&message));
        let (listening, doubles) = (
            self.listening,
            self.plan.faults.contains(&super::plan::Fault::Double),
        );
        let Some(conn) = self.conn(id).filter(|conn| conn.peer_open) else {
            return;
        };
        if doubles && conn.said.len() < 64 {
            conn.said.push(message.clone());
        }
        if conn.up.lost || !conn.server_open {
            // The server's computer knows nothing of such a connection, and says so if it is there.
            if listening.is_some() && !conn.down.lost && self.chance.percent(70) {
                self.end_down(id);
            }
            return;
        }
        let limit = if conn.admitted {
            usize::try_from(self.plan.config.limits.frame).unwrap_or(usize::MAX)
        } else {
            MAX_FIRST_FRAME
        };
        let (message, bytes) = self.pack(message, limit);
        let at = self.now + self.latency();
        if let Some(conn) = self.conn(id) {
            let at = conn.up.put(at, Parcel::Message(Box::new(message), bytes));
            self.agenda.put(at, Event::Up(id));
        }
    }

    /// The server sends.
    pub(super) fn send_down(&mut self, id: ConnId, message: ClientMessage) {
        trace!(self, "{id} < {}", from_server(&message));
        let Some(conn) = self.conn(id).filter(|conn| conn.server_open) else {
            return;
        };
        if conn.down.lost || !conn.peer_open {
            if !conn.up.lost && self.chance.percent(50) {
                self.end_up(id);
            }
            return;
        }
        let limit = usize::try_from(self.plan.config.limits.frame).unwrap_or(usize::MAX);
        let (message, bytes) = self.pack(message, limit);
        let at = self.now + self.latency();
        if let Some(conn) = self.conn(id) {
            let at = conn.down.put(at, Parcel::Message(Box::new(message), bytes));
            self.agenda.put(at, Event::Down(id));
        }
    }

    /// Writes a message and reads it again, in worlds that do.
    fn pack<M: Message + PartialEq + Debug>(&mut self, message: M, limit: usize) -> (M, usize) {
        if !self.plan.codec {
            return (message, 64);
        }
        let frame = match codec::encode(&message) {
            Ok(frame) => frame,
            Err(error) => {
                self.fail(format!("{message:?} cannot be written: {error}"));
                return (message, 0);
            }
        };
        if frame.len() > limit {
            let bytes = frame.len();
            self.fail(format!(
                "a frame of {bytes} bytes is over the limit of {limit}: {message:?}"
            ));
        }
        match codec::decode::<M>(&frame) {
            Ok(read) if read == message => {}
            Ok(read) => self.fail(format!("{message:?} was written, and {read:?} was read")),
            Err(error) => self.fail(format!("{message:?} cannot be read: {error}")),
        }
        (message, frame.len())
    }

    /// The next thing that has arrived at the server's end.
    pub(super) fn take_up(&mut self, id: ConnId) -> Option<Parcel<ServerMessage>> {
        let now = self.now;
        let conn = self.conn(id).filter(|conn| conn.server_open)?;
        if conn.first_read
            && !conn.admitted
            && matches!(conn.up.parcels.front(), Some((_, Parcel::Message(..))))
        {
            return None;
        }
        let parcel = conn.up.take(now)?;
        conn.first_read = true;
        if matches!(parcel, Parcel::End) {
            conn.server_open = false;
            self.tidy(id);
        }
        Some(parcel)
    }

    /// The next thing that has arrived at the peer's end.
    pub(super) fn take_down(&mut self, id: ConnId) -> Option<Parcel<ClientMessage>> {
        let now = self.now;
        let conn = self.conn(id).filter(|conn| conn.peer_open)?;
        let parcel = conn.down.take(now)?;
        if matches!(parcel, Parcel::End) {
            conn.peer_open = false;
            self.tidy(id);
        }
        Some(parcel)
    }

    /// The peer's Hello was good: what waited behind it is read.
    pub(super) fn admit(&mut self, id: ConnId) {
        if let Some(conn) = self.conn(id) {
            conn.admitted = true;
            self.after(0, Event::Up(id));
        }
    }

    /// A connection on which something is under way, or would be held up. What a client gave up long ago may arrive as long
    /// as a connection stalls.
    pub(super) fn busy_conn(&self) -> Option<(ConnId, &Conn)> {
        let quiet = |conn: &Conn| {
            let up = !conn.server_open || conn.up.is_quiet(self.now);
            let down = !conn.peer_open || conn.down.is_quiet(self.now);
            // One that was cut before the server took it never will be.
            let made = conn.life.is_some() || !conn.peer_open || conn.down.lost;
            made && up && down
        };
        let mut conns = self.net.conns.iter();
        conns.find(|(_, conn)| !quiet(conn)).map(|(id, conn)| (*id, conn))
    }

    /// Whether a peer has a connection over which nothing comes any more, and has not noticed.
    pub(super) fn any_peer_is_cut_off(&self) -> bool {
        let is_dead = |conn: &Conn| conn.down.lost || (!conn.server_open && conn.down.parcels.is_empty());
        let mut conns = self.net.conns.values();
        conns.any(|conn| conn.peer.is_some() && conn.peer_open && is_dead(conn))
    }

    /// Bytes that are queued for a peer.
    pub(super) fn queued(&self, id: ConnId) -> usize {
        self.net.conns.get(&id).map_or(0, |conn| conn.down.bytes)
    }

    /// A peer closes its end.
    pub(super) fn close_by_peer(&mut self, id: ConnId) {
        if let Some(conn) = self.conn(id) {
            conn.peer_open = false;
            self.end_up(id);
            self.tidy(id);
        }
    }

    /// The server closes its end, after everything that it has sent.
    pub(super) fn close_by_server(&mut self, id: ConnId) {
        if let Some(conn) = self.conn(id) {
            conn.server_open = false;
            self.end_down(id);
            self.tidy(id);
        }
    }

    /// A peer's computer is gone: nothing more comes from it, and nothing arrives there.
    pub(super) fn vanish(&mut self, id: ConnId) {
        if let Some(conn) = self.conn(id) {
            conn.peer_open = false;
            conn.up.lost = true;
            conn.down.lost = true;
        }
    }

    /// The server's process is gone, and with it its ends of all connections. What it has sent arrives in part.
    pub(super) fn server_gone(&mut self, power: bool) {
        let ids: Vec<ConnId> = self.net.conns.keys().copied().collect();
        for id in ids {
            let (told, keeps) = (!power || self.chance.percent(40), self.chance.percent(50));
            let conn = self.net.conns.get_mut(&id).filter(|conn| conn.server_open);
            let Some(conn) = conn else { continue };
            conn.server_open = false;
            if !keeps {
                let keep = self.chance.between(0, conn.down.parcels.len() as u64);
                conn.down.truncate(usize::try_from(keep).unwrap_or(0));
            }
            if told {
                self.end_down(id);
            }
            self.tidy(id);
        }
    }

    /// Cuts a connection. What is on its way is lost in part.
    pub(super) fn cut(&mut self, id: ConnId, cut: Cut) {
        let Some(conn) = self.net.conns.get_mut(&id) else {
            return;
        };
        let some = |chance: &mut crate::Chance, count: usize| {
            usize::try_from(chance.between(0, count as u64)).unwrap_or(0)
        };
        conn.up.truncate(some(&mut self.chance, conn.up.parcels.len()));
        conn.down
            .truncate(some(&mut self.chance, conn.down.parcels.len()));
        let (peer, server) = match cut {
            Cut::Both => (true, true),
            Cut::PeerOnly => (true, false),
            Cut::ServerOnly => (false, true),
            Cut::Nobody => (false, false),
        };
        if peer {
            self.end_down(id);
        }
        if server {
            self.end_up(id);
        }
        if let Some(conn) = self.conn(id) {
            conn.up.lost = true;
            conn.down.lost = true;
        }
    }

    /// Nothing arrives over a connection until a time; what is sent meanwhile arrives then.
    pub(super) fn stall(&mut self, id: ConnId, up: bool, down: bool, until: At) {
        let Some(conn) = self.net.conns.get_mut(&id) else {
            return;
        };
        if up {
            conn.up.stall(until);
            self.agenda.put(until, Event::Up(id));
        }
        if down {
            conn.down.stall(until);
            self.agenda.put(until, Event::Down(id));
        }
    }

    fn end_down(&mut self, id: ConnId) {
        let at = self.now + self.latency();
        if let Some(conn) = self.conn(id).filter(|conn| conn.peer_open && !conn.down.lost) {
            let at = conn.down.put(at, Parcel::End);
            self.agenda.put(at, Event::Down(id));
        }
    }

    fn end_up(&mut self, id: ConnId) {
        let at = self.now + self.latency();
        if let Some(conn) = self.conn(id).filter(|conn| conn.server_open && !conn.up.lost) {
            let at = conn.up.put(at, Parcel::End);
            self.agenda.put(at, Event::Up(id));
        }
    }

    /// Forgets a connection that neither side has any more.
    fn tidy(&mut self, id: ConnId) {
        let gone = self
            .conn(id)
            .is_some_and(|conn| !conn.peer_open && !conn.server_open);
        if gone {
            self.net.conns.remove(&id);
        }
    }

    /// How long a message takes.
    pub(super) fn latency(&mut self) -> At {
        let usual = self.draw(self.plan.latency);
        if !self.calm && self.chance.percent(self.plan.late_percent) {
            return usual * self.draw(Span(2, 100)).min(2 * SECOND / usual.max(MILLI));
        }
        usual
    }
}

impl<M> Pipe<M> {
    fn stall(&mut self, until: At) {
        self.stalled = until;
        for (at, _) in &mut self.parcels {
            *at = (*at).max(until);
        }
        self.last = self.last.max(until);
    }
}
