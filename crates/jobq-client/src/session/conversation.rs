//! What a peer says to stay connected: Hello, resuming, beats and when to come back. Without I/O: time and chance
//! are arguments.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use jobq_proto::message::{Beat, Hello, Resume, Welcome};
use jobq_proto::{ClientMessage, PROTOCOL_VERSION, ServerMessage};

use super::{Reconnect, SessionError};
use crate::clock::BootTime;

/// Most Beats that are under way at a time. By the usual terms there are three within a time-to-live.
const MAX_BEATS: usize = 16;

/// No Beat follows another sooner than this, whatever the server asks for.
const MIN_BEAT: Duration = Duration::from_millis(5);

/// Where Beats are seldom they are sent when the calendar shows a whole multiple of this. What a Beat costs is to wake the
/// server, which so is woken for those of many peers at a time.
const MEETING: Duration = Duration::from_secs(1);

/// The number of a connection's first Beat.
const FIRST_SEQ: u64 = 1;

/// How many connections in a row may end with what looks like bytes that were changed on the way, once a server has
/// answered. More are no accident: one side sends again and again what the other cannot read.
const MAX_GARBLED: u32 = 8;

/// One session's side of the conversation.
///
/// The caller makes the connection when [`Conversation::poll_connect`] says so and reports what became of it:
/// [`Conversation::handle_connected`] gives the Hello to send, [`Conversation::handle_message`] reads what comes,
/// and every end goes through [`Conversation::handle_lost`]. [`Conversation::handle_timeout`] is due at
/// [`Conversation::poll_timeout`], after everything that has arrived was handled. Beats are seldom while
/// [`Conversation::set_busy`] says that nothing is under way.
#[derive(Debug)]
pub struct Conversation {
    address: String,
    hello: Hello,
    reconnect: Reconnect,
    hello_timeout: Duration,
    phase: Phase,
    resume: Option<Resume>,
    welcome: Option<Welcome>,
    /// When the last thing was sent that the server answered and that renewed the session: Hello or Beat.
    answered: Option<BootTime>,
    /// Whether the owner has something under way.
    busy: bool,
    /// How far the calendar is ahead of the clock.
    calendar_ahead: Duration,
    /// Connections in a row that did not last.
    failures: u32,
    /// Those among them that ended with what may have been garbled on the way.
    garbled: u32,
}

#[derive(Debug)]
enum Phase {
    Waiting { until: BootTime },
    Connecting { deadline: BootTime },
    Greeting { sent: BootTime, deadline: BootTime },
    Open(Open),
    Over,
}

#[derive(Debug)]
struct Open {
    since: BootTime,
    /// When the last Beat was sent or, before the first, the connection was opened.
    last_beat: BootTime,
    next_seq: u64,
    /// Unanswered Beats and when they were sent, the oldest first.
    beats: VecDeque<(u64, BootTime)>,
    heard: BootTime,
}

/// What a message was.
#[derive(Debug, PartialEq)]
pub enum Heard {
    /// The server's Hello.
    Welcome {
        /// Whether the earlier session goes on.
        resumed: bool,
    },
    /// The answer to a Beat: [`Conversation::last_answered_sent`] is later than before.
    Answered,
    /// It concerned the session alone.
    Nothing,
    /// It is for the owner of the session.
    Message(ClientMessage),
}

/// What is to be done as time passes.
#[derive(Debug)]
pub enum Due {
    /// Send this.
    Send(ServerMessage),
    /// Give the connection up.
    Dead(SessionError),
}

impl Conversation {
    /// A conversation that has yet to begin; the first connection may be made at once.
    pub fn new(address: String, hello: Hello, reconnect: Reconnect, hello_timeout: Duration) -> Self {
        Self {
            address,
            hello,
            reconnect,
            hello_timeout,
            phase: Phase::Waiting {
                until: BootTime::default(),
            },
            resume: None,
            welcome: None,
            answered: None,
            busy: true,
            calendar_ahead: Duration::ZERO,
            failures: 0,
            garbled: 0,
        }
    }

    /// Whether messages can be sent.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open(_))
    }

    /// The server's terms, as it last stated them.
    pub fn welcome(&self) -> Option<&Welcome> {
        self.welcome.as_ref()
    }

    /// When the last message was sent that the server answered and that renewed the session.
    pub fn last_answered_sent(&self) -> Option<BootTime> {
        self.answered
    }

    /// The same, by a calendar that is so far ahead of the clock. Peers whose calendars agree send Beats together that
    /// are seldom.
    #[must_use]
    pub fn with_calendar_ahead(self, calendar_ahead: Duration) -> Self {
        Self {
            calendar_ahead,
            ..self
        }
    }

    /// Whether the owner has something under way: until it says otherwise it has. Whether that has begun just now, so that
    /// [`Conversation::poll_beat`] may have a Beat that was not due before.
    pub fn set_busy(&mut self, busy: bool) -> bool {
        !std::mem::replace(&mut self.busy, busy) && busy
    }

    /// Whether to connect now. The caller does, and reports what became of it.
    pub fn poll_connect(&mut self, now: BootTime) -> bool {
        match self.phase {
            Phase::Waiting { until } if now >= until => {
                self.phase = Phase::Connecting {
                    deadline: now + self.hello_timeout,
                };
                true
            }
            _ => false,
        }
    }

    /// There is a connection; the answer is the first message for it.
    pub fn handle_connected(&mut self, now: BootTime) -> ServerMessage {
        self.phase = Phase::Greeting {
            sent: now,
            deadline: now + self.hello_timeout,
        };
        let resume = self.resume.clone();
        ServerMessage::Hello(Box::new(Hello {
            resume,
            ..self.hello.clone()
        }))
    }

    /// Reads one message. An error ends the connection and is to be passed to [`Conversation::handle_lost`].
    pub fn handle_message(&mut self, now: BootTime, message: ClientMessage) -> Result<Heard, SessionError> {
        if let ClientMessage::Error(last) = message {
            return Err(SessionError::Refused {
                address: self.address.clone(),
                error: last.error,
            });
        }
        match &mut self.phase {
            Phase::Open(open) => {
                open.heard = now;
                match message {
                    ClientMessage::Beat(beat) => {
                        let Some(sent) = open.answer(beat.seq) else {
                            return Ok(Heard::Nothing);
                        };
                        self.answered = Some(sent);
                        Ok(Heard::Answered)
                    }
                    ClientMessage::Hello(_) => Err(self.protocol("a second Hello on one connection")),
                    message => Ok(Heard::Message(message)),
                }
            }
            Phase::Greeting { sent, .. } => {
                let sent = *sent;
                match message {
                    ClientMessage::Hello(welcome) => self.open(now, sent, *welcome),
                    _ => Err(self.protocol("its first message is not Hello")),
                }
            }
            Phase::Waiting { .. } | Phase::Connecting { .. } | Phase::Over => Ok(Heard::Nothing),
        }
    }

    /// The connection, or the attempt at one, is over. `chance` spreads the peers of a server that went away, so
    /// that they do not come back in one moment. The answer is how long to wait, or none for ever.
    pub fn handle_lost(&mut self, now: BootTime, chance: u32, error: &SessionError) -> Option<Duration> {
        // A connection that is closed as soon as it is made counts as a failure, else both sides would spin.
        if matches!(&self.phase, Phase::Open(open) if now.since(open.since) >= self.reconnect.max) {
            self.failures = 0;
            self.garbled = 0;
        }
        // Who has answered before does speak the protocol.
        if self.welcome.is_some() && error.may_be_garbled() && self.garbled < MAX_GARBLED {
            self.garbled += 1;
        } else if error.is_permanent() {
            self.phase = Phase::Over;
            return None;
        }
        if error.is_taken() {
            self.resume = None;
        }
        let wait = self.reconnect.wait(self.failures, chance);
        self.failures = self.failures.saturating_add(1);
        self.phase = Phase::Waiting { until: now + wait };
        Some(wait)
    }

    /// When [`Conversation::handle_timeout`] or [`Conversation::poll_connect`] is due next.
    pub fn poll_timeout(&self) -> BootTime {
        match &self.phase {
            Phase::Waiting { until } => *until,
            Phase::Connecting { deadline } | Phase::Greeting { deadline, .. } => *deadline,
            Phase::Open(open) => open.dead_at(self.ttl()).min(self.next_beat(open)),
            Phase::Over => BootTime::NEVER,
        }
    }

    /// What is due by now; none if nothing is.
    pub fn handle_timeout(&mut self, now: BootTime) -> Option<Due> {
        let ttl = self.ttl();
        match &self.phase {
            Phase::Connecting { deadline } | Phase::Greeting { deadline, .. } if now >= *deadline => {
                Some(Due::Dead(SessionError::HelloTimeout {
                    address: self.address.clone(),
                    within: self.hello_timeout,
                }))
            }
            Phase::Open(open) if now >= open.dead_at(ttl) => Some(Due::Dead(SessionError::Silent {
                address: self.address.clone(),
                silence: now.since(open.heard),
            })),
            _ => self.poll_beat(now).map(Due::Send),
        }
    }

    /// A Beat, if one is due. It is sent at once: its answer tells when it was made.
    pub fn poll_beat(&mut self, now: BootTime) -> Option<ServerMessage> {
        let is_due = matches!(&self.phase, Phase::Open(open) if now >= self.next_beat(open));
        let Phase::Open(open) = &mut self.phase else {
            return None;
        };
        if !is_due {
            return None;
        }
        let seq = open.next_seq;
        open.next_seq += 1;
        open.last_beat = now;
        open.beats.push_back((seq, now));
        Some(ServerMessage::Beat(Beat { seq }))
    }

    fn open(&mut self, now: BootTime, sent: BootTime, welcome: Welcome) -> Result<Heard, SessionError> {
        if welcome.version != PROTOCOL_VERSION {
            let what = format!("it answered with version {}", welcome.version);
            return Err(self.protocol(&what));
        }
        let limits = &welcome.limits;
        let least = [
            welcome.ttl,
            welcome.beat,
            limits.frame,
            limits.items,
            limits.watches,
            welcome.window.jobs,
            welcome.window.bytes,
        ];
        if least.contains(&0) {
            return Err(self.protocol("one of the times and limits in its Hello is 0"));
        }
        // A client's session ends with its connection; only a worker has something to come back to.
        self.resume = self.hello.work.is_some().then(|| Resume {
            store: welcome.store,
            session: welcome.session,
            secret: welcome.secret.clone(),
        });
        let resumed = welcome.resumed;
        self.welcome = Some(welcome);
        self.answered = Some(sent);
        self.phase = Phase::Open(Open {
            since: now,
            last_beat: now,
            next_seq: FIRST_SEQ,
            beats: VecDeque::new(),
            heard: now,
        });
        Ok(Heard::Welcome { resumed })
    }

    fn ttl(&self) -> Duration {
        self.welcome
            .as_ref()
            .map_or(Duration::MAX, |w| Duration::from_micros(w.ttl))
    }

    /// When the next Beat is due.
    fn next_beat(&self, open: &Open) -> BootTime {
        if open.beats.len() >= MAX_BEATS {
            return BootTime::NEVER;
        }
        let interval = self.beat();
        let due = open.last_beat + interval;
        if self.busy {
            return due;
        }
        let together = due.whole(MEETING, self.calendar_ahead);
        together.max(open.last_beat + interval / 2)
    }

    /// Between two Beats.
    fn beat(&self) -> Duration {
        let Some(welcome) = &self.welcome else {
            return Duration::MAX;
        };
        let seldom = welcome.idle_beat.filter(|_| !self.busy).unwrap_or(0);
        let is_first = matches!(&self.phase, Phase::Open(open) if open.next_seq == FIRST_SEQ);
        let seldom = if is_first {
            part(seldom, welcome.session)
        } else {
            seldom
        };
        Duration::from_micros(welcome.beat.max(seldom)).max(MIN_BEAT)
    }

    fn protocol(&self, what: &str) -> SessionError {
        SessionError::Protocol {
            address: self.address.clone(),
            what: what.to_owned(),
        }
    }
}

impl Open {
    /// When the connection counts as dead: a Beat has had no answer for the time-to-live, and nothing else came in
    /// that time either.
    fn dead_at(&self, ttl: Duration) -> BootTime {
        match self.beats.front() {
            Some(&(_, sent)) => sent.max(self.heard) + ttl,
            None => BootTime::NEVER,
        }
    }

    /// An answered Beat answers those before it. When it was sent, if it is one of ours.
    fn answer(&mut self, seq: u64) -> Option<BootTime> {
        let at = self.beats.iter().position(|&(sent, _)| sent == seq)?;
        self.beats.drain(..=at).next_back().map(|(_, sent)| sent)
    }
}

/// A part of a span that another session has another one of: sessions that come back together, as after a restart of the
/// server, do not send their Beats together for ever. Multiples of the golden ratio lie far from each other.
fn part(span: u64, session: u64) -> u64 {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let part = u128::from(session.wrapping_mul(GOLDEN));
    u64::try_from((u128::from(span) * part) >> 64).unwrap_or(span)
}
