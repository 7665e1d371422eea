//! What a server may say to a client: anything, in any order, to the conversation and to what it carries, while time
//! passes and connections break.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use jobq_client::sans_io::{
    Asks, Conversation, Due, Heard, Lane, Submit, Submits, Terms, Unanswered, WatchEvent, Watches,
};
use jobq_client::{BootTime, Reconnect, SessionError};
use jobq_proto::message::*;
use jobq_proto::{ClientMessage, ErrorCode, Limits, ServerMessage, Window, WireError};
use uuid::Uuid;

use super::invent::{Known, invent};
use super::script::{Play, Script, play};

/// Most messages that follow from one step. Far more than jobs and questions in a play.
const MAX_OUTPUT: usize = 10_000;

/// Most jobs of a play, so that a server of tiny limits is answered soon.
const MAX_JOBS: usize = 500;

/// How long the client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A byte for each step, and what the step asks for.
pub fn run(input: &[u8]) {
    play::<Playing>(input);
}

struct Playing {
    now: BootTime,
    conversation: Conversation,
    submits: Submits<u64>,
    asks: Asks<u64>,
    watches: Watches,
    known: Known,
    terms: Option<Terms>,
    /// Requests on this connection that are not answered, and how many jobs each has.
    flying: BTreeMap<u64, usize>,
    /// Jobs of each submit that is not answered.
    submitted: BTreeMap<u64, usize>,
    asked: BTreeMap<u64, ()>,
    /// Jobs of each watch whose end was not told.
    watched: BTreeMap<u64, usize>,
    next: u64,
    jobs: usize,
}

impl Play for Playing {
    fn begin(_: &mut Script<'_>) -> Self {
        Self::new()
    }

    fn step(&mut self, script: &mut Script<'_>) {
        match script.byte() % 20 {
            0 => self.connect(script),
            1 => self.welcome(script),
            2 | 3 => self.submit(script),
            4 => self.ask(script),
            5 => self.watch(script),
            6..=8 => self.answer(script),
            9..=13 => self.hear_anything(script),
            14 => self.pass(Duration::from_millis(script.u16().into())),
            15 => self.pass(Duration::from_secs(script.byte().into())),
            16 => self.lose(script),
            17 => self.submits.give_up(script.byte().into()),
            18 => {
                let group = u64::from(script.byte());
                self.watches.forget(group);
                self.watched.remove(&group);
            }
            _ => {
                self.pass(Duration::from_secs(3));
                self.connect(script);
                self.welcome(script);
            }
        }
    }

    fn follow(&mut self) {
        self.submits.handle_timeout(self.now);
        self.asks.handle_timeout(self.now);
        self.watches.handle_timeout(self.now);
        let is_idle = self.submits.is_idle() && self.asks.is_idle() && self.watches.is_idle();
        self.conversation.set_busy(!is_idle);
        let due = self.submits.poll_timeout().min(self.asks.poll_timeout());
        assert!(
            due.min(self.watches.poll_timeout()) > self.now,
            "what was due is still due"
        );
        self.transmit();
        self.take_answers();
    }

    /// Whoever waits is told that nothing more comes.
    fn end(&mut self) {
        self.take_answers();
        self.submits.handle_over();
        self.asks.handle_over();
        self.take_answers();
        assert!(
            self.submitted.is_empty(),
            "{:?} were never answered",
            self.submitted
        );
        assert!(self.asked.is_empty(), "{:?} were never answered", self.asked);
    }
}

impl Playing {
    fn new() -> Self {
        let hello = Hello::new("");
        Self {
            now: BootTime::from_micros(1_000_000_000),
            conversation: Conversation::new("memory".to_owned(), hello, Reconnect::default(), PATIENCE),
            submits: Submits::new(),
            asks: Asks::new(),
            watches: Watches::new(),
            known: Known::default(),
            terms: None,
            flying: BTreeMap::new(),
            submitted: BTreeMap::new(),
            asked: BTreeMap::new(),
            watched: BTreeMap::new(),
            next: 0,
            jobs: 0,
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn connect(&mut self, script: &mut Script<'_>) {
        if self.conversation.poll_connect(self.now) {
            if script.byte() % 8 == 7 {
                self.lose(script);
            } else {
                self.conversation.handle_connected(self.now);
            }
        }
    }

    fn welcome(&mut self, script: &mut Script<'_>) {
        let small = |script: &mut Script<'_>, usual: u64| match script.byte() {
            choice @ 0..64 => u64::from(choice) + 1,
            255 => u64::MAX,
            _ => usual,
        };
        let (limits, window) = (Limits::default(), Window::default());
        let (ttl, beat) = (small(script, 30_000_000), small(script, 10_000_000));
        let welcome = Welcome {
            version: jobq_proto::PROTOCOL_VERSION,
            server: String::new(),
            store: Uuid::from_u128(7),
            epoch: 1,
            session: 1,
            secret: Bytes::from_static(&[0; 32]),
            resumed: false,
            ttl,
            grace: 1,
            beat,
            idle_beat: Some(beat.saturating_mul(6)),
            uuid_window: small(script, 1 << 40),
            limits: Limits {
                frame: small(script, limits.frame).saturating_mul(16),
                items: small(script, limits.items),
                watches: small(script, limits.watches),
                ..limits
            },
            window: Window {
                jobs: small(script, window.jobs),
                bytes: small(script, window.bytes),
            },
        };
        self.hear(script, ClientMessage::Hello(Box::new(welcome)));
    }

    fn submit(&mut self, script: &mut Script<'_>) {
        let count = usize::from(script.byte() % 32) + 1;
        if self.jobs + count > MAX_JOBS {
            return;
        }
        self.jobs += count;
        let choice = script.byte();
        let job = |_| Submission {
            params: (choice > 100).then(|| Bytes::from(vec![0; usize::from(choice) * 4])),
            ..Submission::new(Uuid::from_u128(u128::from(choice)), "a")
        };
        let submit = Submit {
            jobs: (0..count).map(job).collect(),
            stream: u64::from(script.byte() % 4),
            repeat: choice.is_multiple_of(2),
            deadline: self.now + PATIENCE,
            patience: PATIENCE,
        };
        let token = self.number();
        self.submitted.insert(token, count);
        self.submits.push(submit, token);
    }

    fn ask(&mut self, script: &mut Script<'_>) {
        let ids = vec![u64::from(script.byte())];
        let token = self.number();
        let question = |request| ServerMessage::Cancel(CancelJobs { request, ids });
        self.asked.insert(token, ());
        self.asks.push(question, self.now + PATIENCE, token);
    }

    fn watch(&mut self, script: &mut Script<'_>) {
        let count = u64::from(script.byte() % 32) + 1;
        let group = self.number();
        self.watched
            .insert(group, usize::try_from(count).expect("it is small"));
        self.watches
            .push(group, (1..=count).collect(), script.byte() % 2 == 1);
    }

    /// The answer to something that was asked, about as it should be.
    fn answer(&mut self, script: &mut Script<'_>) {
        let Some(request) = self.known.any_request(script) else {
            return;
        };
        let choice = script.byte();
        if choice < 64 {
            let codes = ErrorCode::ALL;
            let mut error = WireError::new(codes[script.below(codes.len())], "refused");
            error.retry_after = (choice % 2 == 1).then_some(u64::from(script.u16()) * 100);
            return self.hear(script, ClientMessage::Refused(Refused { request, error }));
        }
        let message = match Lane::of(request) {
            Lane::Submits => {
                let jobs = self.flying.get(&request).copied().unwrap_or(1);
                let receipt = match choice % 4 {
                    0 => Receipt::refused(WireError::new(
                        ErrorCode::ALL[script.below(ErrorCode::ALL.len())],
                        "no",
                    )),
                    _ => Receipt::stored(u64::from(choice), false),
                };
                let jobs = vec![receipt; if choice == 255 { jobs + 1 } else { jobs }];
                ClientMessage::Acknowledged(Acknowledged { request, jobs })
            }
            Lane::Asks => ClientMessage::Cancelled(Cancelled {
                request,
                jobs: Vec::new(),
            }),
            Lane::Watches => {
                let ended = |id: u64| EndedJob {
                    id,
                    status: None,
                    reason: None,
                    result: None,
                    omitted: false,
                };
                let jobs = (0..u64::from(choice % 40)).map(ended).collect();
                ClientMessage::Ended(Ended { request, jobs })
            }
        };
        self.hear(script, message);
    }

    fn hear_anything(&mut self, script: &mut Script<'_>) {
        if let Some(message) = invent(script, &self.known) {
            self.hear(script, message);
        }
    }

    /// As the client's driver does it.
    fn hear(&mut self, script: &mut Script<'_>, message: ClientMessage) {
        match self.conversation.handle_message(self.now, message) {
            Ok(Heard::Welcome { .. }) => {
                let welcome = self.conversation.welcome().expect("it has just been said");
                let terms = Terms::from(welcome);
                self.terms = Some(terms);
                self.submits.handle_connected(self.now, terms);
                self.asks.handle_connected();
                self.watches.handle_connected(terms);
            }
            Ok(Heard::Answered | Heard::Nothing) => {}
            Ok(Heard::Message(message)) => self.carry(script, message),
            Err(error) => self.lost(script, &error),
        }
    }

    fn carry(&mut self, script: &mut Script<'_>, message: ClientMessage) {
        let chance = u32::from(script.byte()) << 24;
        match message {
            ClientMessage::Acknowledged(answer) => {
                self.flying.remove(&answer.request);
                self.submits.handle_acknowledged(self.now, || chance, answer);
            }
            ClientMessage::Ended(ended) => self.watches.handle_ended(ended),
            ClientMessage::Progressed(progressed) => self.watches.handle_progressed(progressed),
            ClientMessage::Refused(Refused { request, error }) => match Lane::of(request) {
                Lane::Submits => {
                    self.flying.remove(&request);
                    self.submits.handle_refused(self.now, chance, request, &error);
                }
                Lane::Asks => self.asks.handle_refused(self.now, chance, request, error),
                Lane::Watches => self.watches.handle_refused(self.now, request, error),
            },
            ClientMessage::Jobs(Jobs { request, .. })
            | ClientMessage::Cancelled(Cancelled { request, .. })
            | ClientMessage::Retried(Retried { request, .. }) => self.asks.handle_answer(request, message),
            ClientMessage::Stats(ref stats) => self.asks.handle_answer(stats.request, message),
            _ => {}
        }
    }

    fn lose(&mut self, script: &mut Script<'_>) {
        let error = SessionError::HelloTimeout {
            address: "memory".to_owned(),
            within: PATIENCE,
        };
        self.lost(script, &error);
    }

    fn lost(&mut self, script: &mut Script<'_>, error: &SessionError) {
        let chance = u32::from(script.byte()) << 24;
        let was_open = self.terms.take().is_some();
        let goes_on = self.conversation.handle_lost(self.now, chance, error).is_some();
        if was_open {
            self.flying.clear();
            self.submits.handle_disconnected();
            self.asks.handle_disconnected();
            self.watches.handle_disconnected();
        }
        if !goes_on {
            // The client is over; another one begins.
            self.end();
            *self = Self::new();
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        for round in 0.. {
            assert!(round < MAX_OUTPUT, "the conversation always has something to do");
            match self.conversation.handle_timeout(self.now) {
                Some(Due::Send(_)) => {}
                Some(Due::Dead(error)) => self.lost(&mut Script::new(&[]), &error),
                None => break,
            }
        }
    }

    fn transmit(&mut self) {
        let next = |play: &mut Self| {
            play.submits
                .poll_transmit(play.now)
                .or_else(|| play.asks.poll_transmit())
                .or_else(|| play.watches.poll_transmit())
        };
        let mut sent = 0;
        while let Some(message) = next(self) {
            sent += 1;
            assert!(sent < MAX_OUTPUT, "there is no end of it");
            let terms = self.terms.expect("nothing is sent without a connection");
            match message {
                ServerMessage::Request(request) => {
                    let count = request.jobs.len();
                    assert!(
                        count > 0 && count as u64 <= terms.limits.items,
                        "{count} jobs at once"
                    );
                    self.flying.insert(request.request, count);
                    let flying: usize = self.flying.values().sum();
                    assert!(flying as u64 <= terms.window.jobs, "{flying} jobs are unanswered");
                    self.known.request(request.request);
                }
                ServerMessage::Watch(watch) => {
                    let count = watch.ids.len();
                    assert!(count as u64 <= terms.limits.items.min(terms.limits.watches));
                    self.known.request(watch.request);
                }
                ServerMessage::Cancel(cancel) => self.known.request(cancel.request),
                ServerMessage::Unwatch(_) => {}
                other => panic!("nobody asked for {other:?}"),
            }
        }
    }

    fn take_answers(&mut self) {
        while let Some((token, answer)) = self.submits.poll_answer() {
            let count = self.submitted.remove(&token).expect("it is answered once");
            assert_eq!((answer.jobs.len(), answer.receipts.len()), (count, count));
            assert!(answer.reached <= count);
        }
        while let Some((token, answer)) = self.asks.poll_answer() {
            self.asked.remove(&token).expect("it is answered once");
            if let Err(Unanswered::Refused(error)) = answer {
                drop(error.to_string());
            }
        }
        while let Some((group, event)) = self.watches.poll_event() {
            match event {
                WatchEvent::Ended(_) => {
                    let left = self.watched.get_mut(&group).expect("somebody waits for it");
                    *left -= 1;
                }
                WatchEvent::Refused(_) => {
                    self.watched.remove(&group);
                }
                WatchEvent::Progressed(_) => assert!(self.watched.contains_key(&group)),
            }
        }
    }
}
