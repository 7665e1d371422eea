//! The machine in simulated time, against a server that is played by hand.

use std::time::Duration;

use bytes::Bytes;
use jobq_client::BootTime;
use jobq_proto::message::{
    Cancel, Closing, HeldRun, Order, OrderedJob, RunRef, RunState, SettleOutcome, Settled, SettledRun,
    Welcome,
};
use jobq_proto::{ClientMessage, Fence, JobId, Limits, ServerMessage, Window, WireSize};
use uuid::Uuid;

use super::*;
use crate::error::JobError;

const SECOND: Duration = Duration::from_secs(1);
const TTL: Duration = Duration::from_secs(30);
const GRACE: Duration = Duration::from_secs(5);
const SHUTDOWN: Duration = Duration::from_secs(60);

mod idle;
mod progress;
mod reports;
mod shutdown;
mod starts;
mod stops;

/// A machine, its clock, and what came out of it.
struct Sim {
    machine: Machine,
    now: BootTime,
    limits: Limits,
}

/// What a message or a command says, short enough to compare.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Out {
    Holding(Vec<(u64, RunState)>),
    Credit(Option<u32>, Vec<(String, u32)>),
    Started(Vec<u64>),
    Completed(Vec<u64>),
    Failed(Vec<(u64, String, bool)>),
    Released(Vec<u64>),
    Progress(Vec<(u64, Option<u32>)>),
    Call(u64),
    Cancel(u64),
    Drop(u64),
    DropAtOnce(u64),
}

impl Sim {
    /// Two names, `a` and `b`; `b` runs one at a time.
    fn new(concurrency: u32) -> Self {
        let limit = |name: &str, concurrency| NameLimit {
            name: name.to_owned(),
            concurrency,
        };
        let config = Config {
            default_timeout: None,
            names: vec![limit("a", concurrency), limit("b", 1)],
            concurrency,
            prefetch: 10,
            cancel_grace: GRACE,
            progress_interval: Duration::from_millis(100),
        };
        Self {
            machine: Machine::new(config),
            now: BootTime::from_micros(1_000_000_000),
            limits: Limits::default(),
        }
    }

    fn connected(concurrency: u32) -> Self {
        let mut sim = Self::new(concurrency);
        sim.connect(false);
        assert_eq!(sim.out(), [Out::Holding(vec![])]);
        sim
    }

    fn welcome(&self, resumed: bool) -> Welcome {
        Welcome {
            version: 1,
            server: "played".to_owned(),
            store: Uuid::from_u128(1),
            epoch: 1,
            session: 1,
            secret: Bytes::from_static(&[0; 32]),
            resumed,
            ttl: u64::try_from(TTL.as_micros()).expect("small"),
            grace: 5_000_000,
            beat: 10_000_000,
            idle_beat: None,
            uuid_window: 1,
            limits: self.limits,
            window: Window::default(),
        }
    }

    fn connect(&mut self, resumed: bool) {
        let welcome = self.welcome(resumed);
        self.machine.handle_connected(self.now, &welcome, self.now);
    }

    fn reconnect(&mut self, resumed: bool) -> Vec<Out> {
        self.machine.handle_disconnected();
        self.connect(resumed);
        self.out()
    }

    fn say(&mut self, message: ClientMessage) {
        self.machine.handle_message(self.now, message);
    }

    fn order(&mut self, jobs: impl IntoIterator<Item = OrderedJob>) {
        let jobs = jobs.into_iter().collect();
        self.say(ClientMessage::Order(Order { jobs }));
    }

    fn settle(&mut self, runs: impl IntoIterator<Item = u64>, outcome: SettleOutcome) {
        let run = |id| SettledRun {
            id,
            fence: fence(id),
            outcome,
        };
        let runs = runs.into_iter().map(run).collect();
        self.say(ClientMessage::Settled(Settled { runs }));
    }

    fn cancel(&mut self, id: u64) {
        let runs = vec![RunRef { id, fence: fence(id) }];
        self.say(ClientMessage::Cancel(Cancel { runs }));
    }

    fn end(&mut self, id: u64, end: End) {
        self.machine.handle_ended(self.now, fence(id), SECOND, end);
    }

    fn complete(&mut self, ids: impl IntoIterator<Item = u64>) {
        ids.into_iter().for_each(|id| self.end(id, End::Completed(None)));
    }

    /// Lets time pass, timer by timer.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.machine.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.machine.handle_timeout(self.now);
        }
        self.now = until;
    }

    /// Time passes while the server answers every Beat.
    fn pass_in_contact(&mut self, time: Duration) {
        for _ in 0..time.as_secs() {
            self.machine.handle_contact(self.now, self.now);
            self.pass(SECOND);
        }
    }

    fn messages(&mut self) -> Vec<ServerMessage> {
        let now = self.now;
        std::iter::from_fn(|| self.machine.poll_transmit(now)).collect()
    }

    /// Everything to send, then everything to do.
    fn out(&mut self) -> Vec<Out> {
        let mut out: Vec<Out> = self.messages().into_iter().map(said).collect();
        while let Some(command) = self.machine.poll_command() {
            out.push(match command {
                Command::Start(start) => Out::Call(start.id.job.0),
                Command::Cancel(fence) => Out::Cancel(fence.seq),
                Command::Drop { fence, overdue: true } => Out::Drop(fence.seq),
                Command::Drop { fence, .. } => Out::DropAtOnce(fence.seq),
            });
        }
        out
    }
}

fn ended(sim: &mut Sim) -> Vec<(u64, Outcome)> {
    let events = std::iter::from_fn(|| sim.machine.poll_event());
    let ended = events.filter_map(|event| match event {
        Event::Ended(id, outcome) => Some((id.job.0, outcome)),
        _ => None,
    });
    ended.collect()
}

fn said(message: ServerMessage) -> Out {
    let ids = |runs: Vec<RunRef>| runs.into_iter().map(|run| run.id).collect();
    match message {
        ServerMessage::Holding(holding) => Out::Holding(
            holding
                .runs
                .iter()
                .map(|HeldRun { id, state, .. }| (*id, *state))
                .collect(),
        ),
        ServerMessage::Credit(credit) => Out::Credit(
            credit.jobs,
            credit
                .names
                .into_iter()
                .map(|name| (name.name, name.jobs))
                .collect(),
        ),
        ServerMessage::Started(started) => Out::Started(ids(started.runs)),
        ServerMessage::Completed(completed) => {
            Out::Completed(completed.runs.into_iter().map(|run| run.id).collect())
        }
        ServerMessage::Failed(failed) => Out::Failed(
            failed
                .runs
                .into_iter()
                .map(|run| (run.id, run.reason, run.never))
                .collect(),
        ),
        ServerMessage::Released(released) => Out::Released(ids(released.runs)),
        ServerMessage::Progress(progress) => {
            Out::Progress(progress.runs.into_iter().map(|run| (run.id, run.part)).collect())
        }
        other => panic!("a worker does not say {other:?}"),
    }
}

fn fence(id: u64) -> Fence {
    Fence { epoch: 1, seq: id }
}

/// A job whose fence has the number of its id.
fn job(id: u64, name: &str) -> OrderedJob {
    OrderedJob {
        id,
        fence: fence(id),
        attempt: 1,
        max_attempts: 20,
        uuid: Uuid::from_u128(id.into()),
        name: name.to_owned(),
        username: None,
        timeout: None,
        params: Bytes::from_static(&[0xf6]),
    }
}

fn timed(id: u64, timeout: Duration) -> OrderedJob {
    OrderedJob {
        timeout: Some(u64::try_from(timeout.as_micros()).expect("small")),
        ..job(id, "a")
    }
}

fn failed(id: u64, reason: &str) -> Out {
    Out::Failed(vec![(id, reason.to_owned(), false)])
}

fn calls(ids: impl IntoIterator<Item = u64>) -> Vec<Out> {
    ids.into_iter().map(Out::Call).collect()
}

fn completed_ids(out: Out) -> Vec<u64> {
    match out {
        Out::Completed(ids) => ids,
        _ => Vec::new(),
    }
}
