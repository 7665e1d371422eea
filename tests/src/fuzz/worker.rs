//! What a server may say to a worker: anything, in any order, to the worker's machine, while handlers end as they
//! like, time passes and connections break.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use jobq_client::BootTime;
use jobq_proto::message::*;
use jobq_proto::{ClientMessage, Fence, Limits, ServerMessage, Window};
use jobq_worker::JobError;
use jobq_worker::sans_io::{Command, Config, End, Machine, NameLimit};
use uuid::Uuid;

use super::invent::{Known, NAMES, invent};
use super::script::{Play, Script, play};

/// Most messages and commands that follow from one step.
const MAX_OUTPUT: usize = 20_000;

const CONCURRENCY: usize = 3;

const GRACE: Duration = Duration::from_secs(5);

/// The time-to-live that the server states, in microseconds.
const TTL: u64 = 30_000_000;

/// No run starts later than this after the worker has sent what was answered last: four fifths of the time-to-live.
const START_WITHIN: Duration = Duration::from_micros(TTL / 5 * 4);

/// A byte for each step, and what the step asks for.
pub fn run(input: &[u8]) {
    play::<Playing>(input);
}

struct Playing {
    now: BootTime,
    machine: Machine,
    known: Known,
    connected: bool,
    /// Fences of the runs whose handlers are running, wanted or not, and their names.
    running: BTreeMap<Fence, String>,
    /// When something was sent that the server has answered.
    answered: BootTime,
    /// Runs that the server was told to have started, on any connection.
    announced: BTreeSet<Fence>,
    fences: u64,
}

impl Play for Playing {
    fn begin(_: &mut Script<'_>) -> Self {
        let names = NAMES[..3].iter();
        let config = Config {
            names: names
                .zip([1, 2, 3])
                .map(|(name, concurrency)| NameLimit {
                    name: (*name).to_owned(),
                    concurrency,
                })
                .collect(),
            concurrency: u32::try_from(CONCURRENCY).expect("it is small"),
            prefetch: 2,
            default_timeout: Some(Duration::from_secs(60)),
            cancel_grace: GRACE,
            progress_interval: Duration::from_millis(100),
        };
        Self {
            now: BootTime::from_micros(1_000_000_000),
            machine: Machine::new(config),
            known: Known::default(),
            connected: false,
            answered: BootTime::default(),
            running: BTreeMap::new(),
            announced: BTreeSet::new(),
            fences: 0,
        }
    }

    fn step(&mut self, script: &mut Script<'_>) {
        match script.byte() % 20 {
            0 | 1 => self.connect(script),
            2..=4 => self.order(script),
            5..=7 => self.end_one(script),
            8..=13 => self.hear_anything(script),
            14 => self.pass(Duration::from_millis(script.u16().into())),
            15 => self.pass(Duration::from_secs(script.byte().into())),
            16 => {
                self.connected = false;
                self.machine.handle_disconnected();
            }
            17 => self.contact(),
            18 => self.report_progress(script),
            _ => {
                if script.byte() == 255 {
                    self.machine
                        .shut_down(self.now, Duration::from_secs(script.byte().into()));
                }
            }
        }
    }

    /// Messages first, then commands, as the worker's shell does it, until nothing more follows.
    fn follow(&mut self) {
        for round in 0.. {
            assert!(round < MAX_OUTPUT, "there is no end of it");
            self.say();
            let dropped = self.command_all();
            if dropped.is_empty() {
                break;
            }
            for fence in dropped {
                self.machine.handle_ended(self.now, fence, GRACE, End::Dropped);
            }
        }
        assert!(self.machine.running() <= CONCURRENCY);
        let handlers = self.machine.running() + self.machine.strays();
        assert_eq!(handlers, self.running.len(), "the machine counts its handlers");
    }

    /// Told to stop, it comes to an end.
    fn end(&mut self) {
        self.machine.shut_down(self.now, Duration::from_secs(1));
        self.follow();
        for _ in 0..10 {
            self.pass(Duration::from_secs(60));
            self.follow();
        }
        assert!(self.running.is_empty(), "{:?} go on", self.running);
        self.connected = false;
        self.machine.handle_disconnected();
        self.pass(Duration::from_secs(3600));
        assert!(self.machine.is_shut_down());
    }
}

impl Playing {
    /// A Hello that the conversation takes: nothing in it is 0 that may not be.
    fn connect(&mut self, script: &mut Script<'_>) {
        let choice = script.byte();
        let mut welcome = Welcome {
            version: jobq_proto::PROTOCOL_VERSION,
            server: String::new(),
            store: Uuid::from_u128(u128::from(choice % 8 / 7)),
            epoch: 1,
            session: 1,
            secret: Bytes::from_static(&[0; 32]),
            resumed: choice % 2 == 1,
            ttl: TTL,
            grace: 1,
            beat: 10_000_000,
            idle_beat: None,
            uuid_window: 1,
            limits: Limits::default(),
            window: Window::default(),
        };
        if choice > 192
            && let Some(limits) = invent::<Limits>(script, &self.known)
        {
            welcome.limits = limits;
            welcome.limits.items = limits.items.max(1);
            welcome.limits.frame = limits.frame.max(1);
        }
        self.connected = true;
        self.answered = self.now;
        self.machine.handle_connected(self.now, &welcome, self.now);
    }

    fn contact(&mut self) {
        self.answered = self.now;
        self.machine.handle_contact(self.now, self.now);
    }

    fn order(&mut self, script: &mut Script<'_>) {
        let choice = script.byte();
        let jobs = (0..1 + choice % 4).map(|index| {
            self.fences += 1;
            let fence = Fence {
                epoch: 1,
                seq: self.fences,
            };
            self.known.run(self.fences, fence);
            OrderedJob {
                id: self.fences,
                fence,
                attempt: 1,
                max_attempts: 2,
                uuid: Uuid::nil(),
                name: NAMES[usize::from(choice.wrapping_add(index) % 4)].to_owned(),
                username: None,
                timeout: (choice > 128).then_some(u64::from(choice) * 100_000),
                params: Bytes::from_static(&[0xf6]),
            }
        });
        let jobs = jobs.collect();
        self.hear(ClientMessage::Order(Order { jobs }));
    }

    fn hear_anything(&mut self, script: &mut Script<'_>) {
        if let Some(message) = invent(script, &self.known) {
            self.hear(message);
        }
    }

    fn hear(&mut self, message: ClientMessage) {
        if self.connected {
            self.machine.handle_message(self.now, message);
        }
    }

    fn any_running(&self, script: &mut Script<'_>) -> Option<Fence> {
        let index = script.below(self.running.len().clamp(1, 256));
        self.running.keys().nth(index).copied()
    }

    fn end_one(&mut self, script: &mut Script<'_>) {
        let Some(fence) = self.any_running(script) else {
            return;
        };
        let choice = script.byte();
        let end = match choice % 4 {
            0 => End::Completed(None),
            1 => End::Completed(Some(Bytes::from(vec![0; usize::from(script.u16()) * 32]))),
            2 => End::Failed(JobError::retry("x".repeat(script.u16().into()))),
            _ => End::Dropped,
        };
        self.running.remove(&fence);
        self.machine
            .handle_ended(self.now, fence, Duration::from_secs(1), end);
    }

    fn report_progress(&mut self, script: &mut Script<'_>) {
        if let Some(fence) = self.any_running(script)
            && let Some(progress) = invent(script, &self.known)
        {
            self.machine.handle_progress(self.now, fence, progress);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.machine.handle_timeout(self.now);
        let due = self.machine.poll_timeout();
        assert!(due.is_none_or(|due| due > self.now), "what was due is still due");
    }

    fn say(&mut self) {
        let mut said = 0;
        while let Some(message) = self.machine.poll_transmit(self.now) {
            said += 1;
            assert!(said < MAX_OUTPUT, "there is no end of it");
            if let ServerMessage::Started(started) = &message {
                self.announced.extend(started.runs.iter().map(|run| run.fence));
            }
        }
    }

    /// Does what is to be done with handlers; says which of them were dropped.
    fn command_all(&mut self) -> Vec<Fence> {
        let mut dropped = Vec::new();
        while let Some(command) = self.machine.poll_command() {
            match command {
                Command::Start(start) => self.start(start.order),
                Command::Cancel(_) => {}
                Command::Drop { fence, .. } => {
                    if self.running.remove(&fence).is_some() {
                        dropped.push(fence);
                    }
                }
            }
        }
        while self.machine.poll_event().is_some() {}
        dropped
    }

    fn start(&mut self, order: OrderedJob) {
        let fence = order.fence;
        assert!(
            self.announced.contains(&fence),
            "{fence} starts and nobody was told"
        );
        assert!(
            NAMES[..3].contains(&&*order.name),
            "a handler for {:?}",
            order.name
        );
        assert!(
            self.now.since(self.answered) < START_WITHIN,
            "{fence} starts and may be somebody else's"
        );
        let before = self.running.insert(fence, order.name);
        assert!(before.is_none(), "{fence} starts twice at a time");
    }
}
