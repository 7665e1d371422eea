//! A peer's connection to the server: the conversation of production over the simulated network.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jobq_client::sans_io::{Conversation, Due, Heard};
use jobq_client::{BootTime, Reconnect, SessionConfig, SessionError};
use jobq_proto::message::{Goodbye, Hello, Welcome, Work};
use jobq_proto::{ClientMessage, PROTOCOL_VERSION, ServerMessage};
use jobq_transport::TransportError;

use super::agenda::{At, ConnId, PeerIx};
use super::ctx::Ctx;
use super::net::Parcel;

/// Of so many parts a drift is given.
const MILLION: i64 = 1_000_000;

/// One side of a session.
pub(super) struct Session {
    me: PeerIx,
    conversation: Conversation,
    link: Link,
    /// What this peer's clock said when the simulation began, and by how many of a million parts it is too fast.
    clock: At,
    drift: i64,
    /// What has arrived and was not looked at.
    pub(super) inbox: VecDeque<(ConnId, Parcel<ClientMessage>)>,
    /// It never comes back.
    pub(super) over: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    None,
    Knocking(ConnId),
    Open(ConnId),
}

/// What a session reports to its owner.
pub(super) enum Said {
    Connected(Box<Welcome>),
    Message(ClientMessage),
    Disconnected,
}

impl Session {
    pub(super) fn new(ctx: &mut Ctx, me: PeerIx, label: String, work: Option<Work>) -> Self {
        let hello = Hello {
            version: PROTOCOL_VERSION,
            label,
            token: None,
            work,
            resume: None,
        };
        let reconnect = Reconnect::default();
        Self {
            me,
            conversation: Conversation::new(String::new(), hello, reconnect, SessionConfig::HELLO_TIMEOUT),
            link: Link::None,
            clock: ctx.chance.between(1, 1 << 40),
            drift: drift(ctx),
            inbox: VecDeque::new(),
            over: false,
        }
    }

    /// The time by this peer's clock.
    pub(super) fn now(&self, ctx: &Ctx) -> BootTime {
        let local = scaled(ctx.now, MILLION + self.drift, MILLION);
        BootTime::from_micros(local + self.clock)
    }

    /// A time of this peer's clock as the simulation has it.
    pub(super) fn at(&self, time: BootTime) -> At {
        let since = time.since(BootTime::from_micros(self.clock));
        let local = At::try_from(since.as_micros()).unwrap_or(At::MAX / 2);
        scaled(local, MILLION, MILLION + self.drift)
    }

    pub(super) fn conversation(&self) -> &Conversation {
        &self.conversation
    }

    /// The connection that it has or makes.
    pub(super) fn conn(&self) -> Option<ConnId> {
        match self.link {
            Link::None => None,
            Link::Knocking(conn) | Link::Open(conn) => Some(conn),
        }
    }

    /// Reads what has arrived, and lets time pass.
    pub(super) fn step(&mut self, ctx: &mut Ctx, said: &mut Vec<Said>) {
        let now = self.now(ctx);
        while let Some((conn, parcel)) = self.inbox.pop_front() {
            if self.conn() == Some(conn) {
                self.receive(ctx, conn, parcel, said);
            }
        }
        match self.conversation.handle_timeout(now) {
            None => {}
            Some(Due::Send(message)) => {
                self.send(ctx, message);
            }
            Some(Due::Dead(error)) => {
                ctx.tally.count("connections given up by their peers");
                if ctx.plan.only_disks_fail() && self.conversation.is_open() {
                    ctx.fail(format!(
                        "peer {} gives up a server that is there: {error}",
                        self.me
                    ));
                }
                self.lost(ctx, &error, said);
            }
        }
        if self.link == Link::None && !self.over && self.conversation.poll_connect(now) {
            self.link = Link::Knocking(ctx.connect(Some(self.me)));
        }
    }

    fn receive(&mut self, ctx: &mut Ctx, conn: ConnId, parcel: Parcel<ClientMessage>, said: &mut Vec<Said>) {
        let now = self.now(ctx);
        match parcel {
            Parcel::Open => {
                let hello = self.conversation.handle_connected(now);
                self.link = Link::Open(conn);
                ctx.send_up(conn, hello);
            }
            Parcel::Message(message, _) => match self.conversation.handle_message(now, *message) {
                Ok(Heard::Message(message)) => said.push(Said::Message(message)),
                Ok(Heard::Answered | Heard::Nothing) => {}
                Ok(Heard::Welcome { .. }) => {
                    let welcome = self.conversation.welcome().cloned();
                    said.extend(welcome.map(|welcome| Said::Connected(Box::new(welcome))));
                }
                Err(error) => self.lost(ctx, &error, said),
            },
            Parcel::End => {
                let error = SessionError::Lost {
                    address: String::new(),
                    source: Arc::new(TransportError::Closed),
                };
                self.lost(ctx, &error, said);
            }
        }
    }

    fn lost(&mut self, ctx: &mut Ctx, error: &SessionError, said: &mut Vec<Said>) {
        if let Some(conn) = self.conn() {
            ctx.close_by_peer(conn);
        }
        self.link = Link::None;
        let chance = u32::try_from(ctx.chance.between(0, u32::MAX.into())).unwrap_or(0);
        let now = self.now(ctx);
        if self.conversation.handle_lost(now, chance, error).is_none() {
            self.over = true;
            ctx.fail(format!("a session of peer {} is over for good: {error}", self.me));
        }
        said.push(Said::Disconnected);
    }

    /// Sends, if there is a connection.
    pub(super) fn send(&mut self, ctx: &mut Ctx, message: ServerMessage) -> bool {
        match self.link {
            Link::Open(conn) if self.conversation.is_open() => {
                ctx.send_up(conn, message);
                true
            }
            _ => false,
        }
    }

    /// Says whether anything is under way; a Beat that is due by that leaves at once.
    pub(super) fn set_busy(&mut self, ctx: &mut Ctx, busy: bool) {
        if self.conversation.set_busy(busy)
            && let Some(beat) = self.conversation.poll_beat(self.now(ctx))
        {
            ctx.tally.count("beats of peers that became busy");
            self.send(ctx, beat);
        }
    }

    /// Says goodbye and ends.
    pub(super) fn close(&mut self, ctx: &mut Ctx) {
        self.send(ctx, ServerMessage::Goodbye(Goodbye {}));
        self.abandon(ctx);
    }

    /// The process is gone; its computer closes its connections.
    pub(super) fn abandon(&mut self, ctx: &mut Ctx) {
        if let Some(conn) = self.conn() {
            ctx.close_by_peer(conn);
        }
        self.link = Link::None;
        self.over = true;
        self.inbox.clear();
    }

    /// The computer is gone.
    pub(super) fn vanish(&mut self, ctx: &mut Ctx) {
        if let Some(conn) = self.conn() {
            ctx.vanish(conn);
        }
        self.link = Link::None;
        self.over = true;
        self.inbox.clear();
    }

    /// When it is to be stepped next, by the simulation's time.
    pub(super) fn next(&self, ctx: &Ctx) -> Option<At> {
        if self.over {
            return None;
        }
        let due = self.conversation.poll_timeout();
        (due != BootTime::NEVER).then(|| self.at(due).max(ctx.now + 1))
    }
}

/// By how much a peer's clock is too fast, or too slow where it is negative: in most worlds not at all, in others as far
/// as bad oscillators go.
fn drift(ctx: &mut Ctx) -> i64 {
    let (fast, by) = (ctx.chance.percent(50), ctx.chance.between(0, ctx.plan.drift_ppm));
    let by = i64::try_from(by).unwrap_or(0);
    if fast { by } else { -by }
}

/// A span as a clock has it that is faster or slower, rounded up.
fn scaled(span: At, times: i64, of: i64) -> At {
    let scaled = (i128::from(span) * i128::from(times) + i128::from(of) - 1) / i128::from(of);
    At::try_from(scaled).unwrap_or(At::MAX / 2)
}

/// A span of simulated time.
pub(super) fn micros(time: At) -> Duration {
    Duration::from_micros(time)
}
