//! What a peer says to stay connected: Hello, resuming, beats and when to come back. Without I/O: time and chance
//! are arguments.

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

/// How many connections in a row may end with what looks like bytes that were changed on the way, once a server has
/// answered. More are no accident: one side sends again and again what the other cannot read.
const MAX_GARBLED: u32 = 8;

/// One session's side of the conversation.
///
/// The caller makes the connection when [`Conversation::poll_connect`] says so and reports what became of it:
/// [`Conversation::handle_connected`] gives the Hello to send, [`Conversation::handle_message`] reads what comes,
/// and every end goes through [`Conversation::handle_lost`]. [`Conversation::handle_timeout`] is due at
/// [`Conversation::poll_timeout`], after everything that has arrived was handled.
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
    next_beat: BootTime,
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
                        if let Some(sent) = open.answer(beat.seq) {
                            self.answered = Some(sent);
                        }
                        Ok(Heard::Nothing)
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
            Phase::Open(open) => open.dead_at(self.ttl()).min(if open.beats.len() < MAX_BEATS {
                open.next_beat
            } else {
                BootTime::NEVER
            }),
            Phase::Over => BootTime::NEVER,
        }
    }

    /// What is due by now; none if nothing is.
    pub fn handle_timeout(&mut self, now: BootTime) -> Option<Due> {
        let (ttl, beat) = (self.ttl(), self.beat());
        match &mut self.phase {
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
            Phase::Open(open) if now >= open.next_beat && open.beats.len() < MAX_BEATS => {
                let seq = open.next_seq;
                open.next_seq += 1;
                open.next_beat = now + beat;
                open.beats.push_back((seq, now));
                Some(Due::Send(ServerMessage::Beat(Beat { seq })))
            }
            _ => None,
        }
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
            next_beat: now + self.beat(),
            next_seq: 1,
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

    fn beat(&self) -> Duration {
        self.welcome
            .as_ref()
            .map_or(Duration::MAX, |w| Duration::from_micros(w.beat).max(MIN_BEAT))
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use jobq_proto::message::{ErrorMessage, Work};
    use jobq_proto::{ErrorCode, Limits, Window, WireError};
    use uuid::Uuid;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn conversation() -> Conversation {
        let hello = Hello {
            work: Some(Work {
                names: Vec::new(),
                jobs: 1,
                bytes: 1,
                prefetch: 0,
            }),
            ..Hello::new("test")
        };
        Conversation::new("memory".to_owned(), hello, Reconnect::default(), 5 * SECOND)
    }

    fn welcome() -> Welcome {
        Welcome {
            version: PROTOCOL_VERSION,
            server: "test".to_owned(),
            store: Uuid::from_u128(7),
            epoch: 1,
            session: 11,
            secret: Bytes::from_static(&[3; 32]),
            resumed: false,
            ttl: 30_000_000,
            grace: 5_000_000,
            beat: 10_000_000,
            uuid_window: 1,
            limits: Limits::default(),
            window: Window::default(),
        }
    }

    fn at(seconds: u64) -> BootTime {
        BootTime::default() + Duration::from_secs(seconds)
    }

    fn open(conversation: &mut Conversation, now: BootTime) -> Hello {
        assert!(conversation.poll_connect(now));
        let ServerMessage::Hello(hello) = conversation.handle_connected(now) else {
            panic!("the first message is Hello");
        };
        conversation
            .handle_message(now, ClientMessage::Hello(Box::new(welcome())))
            .expect("a good Hello");
        *hello
    }

    fn closed(code: ErrorCode) -> SessionError {
        SessionError::Refused {
            address: "memory".to_owned(),
            error: WireError::new(code, "closed"),
        }
    }

    fn beat(conversation: &mut Conversation, now: BootTime) -> u64 {
        match conversation.handle_timeout(now) {
            Some(Due::Send(ServerMessage::Beat(beat))) => beat.seq,
            other => panic!("a Beat is due, and it was {other:?}"),
        }
    }

    #[test]
    fn a_second_connection_shows_the_session_of_the_first() {
        let mut conversation = conversation();
        assert_eq!(open(&mut conversation, at(100)).resume, None);
        conversation.handle_lost(at(101), 0, &closed(ErrorCode::OutboxFull));
        let resume = open(&mut conversation, at(110)).resume.expect("a session");
        assert_eq!((resume.store, resume.session), (Uuid::from_u128(7), 11));
        assert_eq!(resume.secret, Bytes::from_static(&[3; 32]));
    }

    #[test]
    fn a_client_has_nothing_to_resume() {
        let mut conversation = conversation();
        conversation.hello.work = None;
        open(&mut conversation, at(100));
        conversation.handle_lost(at(101), 0, &closed(ErrorCode::OutboxFull));
        assert_eq!(open(&mut conversation, at(110)).resume, None);
    }

    #[test]
    fn a_session_that_another_took_is_not_resumed() {
        let mut conversation = conversation();
        open(&mut conversation, at(100));
        conversation.handle_lost(at(101), 0, &closed(ErrorCode::SessionTaken));
        assert_eq!(open(&mut conversation, at(110)).resume, None);
    }

    #[test]
    fn beats_follow_the_interval_and_their_answers_tell_when_the_last_was_sent() {
        let mut conversation = conversation();
        open(&mut conversation, at(100));
        assert_eq!(conversation.last_answered_sent(), Some(at(100)), "Hello counts");
        assert_eq!(conversation.poll_timeout(), at(110));
        assert!(conversation.handle_timeout(at(109)).is_none());
        let first = beat(&mut conversation, at(110));
        let second = beat(&mut conversation, at(120));
        assert_ne!(first, second);
        assert_eq!(conversation.last_answered_sent(), Some(at(100)));
        let answer = ClientMessage::Beat(Beat { seq: second });
        assert_eq!(
            conversation.handle_message(at(121), answer).expect("an answer"),
            Heard::Nothing
        );
        assert_eq!(conversation.last_answered_sent(), Some(at(120)));
    }

    #[test]
    fn a_beat_that_stays_unanswered_for_the_time_to_live_ends_the_connection() {
        let mut conversation = conversation();
        open(&mut conversation, at(100));
        for seconds in [110, 120, 130] {
            beat(&mut conversation, at(seconds));
        }
        assert_eq!(conversation.poll_timeout(), at(140));
        let Some(Due::Dead(error)) = conversation.handle_timeout(at(140)) else {
            panic!("the connection is dead");
        };
        assert!(!error.is_permanent(), "{error}");
        assert!(conversation.handle_lost(at(140), 0, &error).is_some());
    }

    #[test]
    fn a_server_that_says_other_things_is_not_dead() {
        let mut conversation = conversation();
        open(&mut conversation, at(100));
        beat(&mut conversation, at(110));
        let message = ClientMessage::Closing(Default::default());
        conversation
            .handle_message(at(139), message)
            .expect("a message for the owner");
        for seconds in [140, 150, 160] {
            beat(&mut conversation, at(seconds));
        }
        assert!(matches!(conversation.handle_timeout(at(169)), Some(Due::Dead(_))));
    }

    #[test]
    fn waits_grow_from_the_least_to_two_seconds_and_never_beyond() {
        let mut conversation = conversation();
        let mut now = at(100);
        let mut waits = Vec::new();
        for _ in 0..100 {
            assert!(conversation.poll_connect(now));
            let wait = conversation
                .handle_lost(now, u32::MAX, &closed(ErrorCode::TooManyPeers))
                .expect("it comes back");
            waits.push(wait);
            now = now + wait;
        }
        assert_eq!(waits[0], Duration::from_millis(50));
        assert!(waits.is_sorted());
        assert_eq!(waits[99], 2 * SECOND);
        let spread = Reconnect::default().wait(99, 0);
        assert_eq!(spread, SECOND, "chance takes up to half");
    }

    #[test]
    fn only_a_connection_that_lasted_starts_the_waits_anew() {
        let mut conversation = conversation();
        for _ in 0..10 {
            conversation.poll_connect(at(100));
            conversation.handle_lost(at(100), u32::MAX, &closed(ErrorCode::TooManyPeers));
        }
        open(&mut conversation, at(200));
        let short = conversation.handle_lost(at(201), u32::MAX, &closed(ErrorCode::OutboxFull));
        assert_eq!(short, Some(2 * SECOND));
        open(&mut conversation, at(300));
        let long = conversation.handle_lost(at(400), u32::MAX, &closed(ErrorCode::OutboxFull));
        assert_eq!(long, Some(Duration::from_millis(50)));
    }

    #[test]
    fn a_bad_token_is_the_end() {
        let mut conversation = conversation();
        assert!(conversation.poll_connect(at(100)));
        conversation.handle_connected(at(100));
        let last = ErrorMessage {
            error: WireError::new(ErrorCode::BadToken, "the token is not accepted"),
        };
        let error = conversation
            .handle_message(at(100), ClientMessage::Error(last))
            .expect_err("refused");
        assert!(error.is_permanent());
        assert_eq!(conversation.handle_lost(at(100), 0, &error), None);
        assert!(!conversation.poll_connect(at(100_000)));
        assert_eq!(conversation.poll_timeout(), BootTime::NEVER);
    }

    #[test]
    fn bytes_that_were_garbled_on_the_way_are_sent_again_but_not_for_ever() {
        let unreadable = SessionError::Protocol {
            address: "tcp://somewhere".to_owned(),
            what: "the frame is no message".to_owned(),
        };
        let mut fresh = conversation();
        assert!(fresh.poll_connect(at(100)));
        fresh.handle_connected(at(100));
        let wait = fresh.handle_lost(at(100), 0, &unreadable);
        assert_eq!(wait, None, "whoever that is never spoke the protocol");

        for garbled in [unreadable, closed(ErrorCode::Malformed)] {
            let mut conversation = conversation();
            for hour in 1..100 {
                open(&mut conversation, at(3_600 * hour));
                let wait = conversation.handle_lost(at(3_600 * hour + 60), 0, &garbled);
                assert!(wait.is_some(), "{garbled}: connections lasted in between");
            }
            let mut now = at(1_000_000);
            let mut times = 0;
            loop {
                open(&mut conversation, now);
                let Some(wait) = conversation.handle_lost(now, 0, &garbled) else {
                    break;
                };
                now = now + wait;
                times += 1;
            }
            assert_eq!(times, MAX_GARBLED - 1, "the last of those before was one too");
            assert!(!conversation.poll_connect(at(2_000_000)));
        }
    }

    #[test]
    fn a_hello_that_stays_unanswered_is_given_up() {
        let mut conversation = conversation();
        assert!(conversation.poll_connect(at(100)));
        conversation.handle_connected(at(101));
        assert_eq!(conversation.poll_timeout(), at(106));
        assert!(matches!(
            conversation.handle_timeout(at(106)),
            Some(Due::Dead(SessionError::HelloTimeout { .. }))
        ));
    }

    #[test]
    fn another_version_or_a_limit_of_zero_is_no_server_to_talk_to() {
        for bad in [
            Welcome {
                version: PROTOCOL_VERSION + 1,
                ..welcome()
            },
            Welcome { beat: 0, ..welcome() },
        ] {
            let mut conversation = conversation();
            conversation.poll_connect(at(100));
            conversation.handle_connected(at(100));
            let error = conversation
                .handle_message(at(100), ClientMessage::Hello(Box::new(bad)))
                .expect_err("refused");
            assert!(error.is_permanent(), "{error}");
        }
    }
}
