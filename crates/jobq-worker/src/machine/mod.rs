//! The worker without I/O: which runs it holds, which of them run, and what it owes the server.
//!
//! [`Machine`] is told what happened (`handle_*`) and then asked what is to be done (`poll_*`), until each `poll_*`
//! says `None`. Time is an argument. It has no socket, no task and no handler: whoever drives it sends what
//! [`Machine::poll_transmit`] returns and carries out [`Machine::poll_command`], in this order, so that the server
//! has been told of a start before the handler is called.

mod contract;
mod fence_map;
mod lease;
mod outbox;
mod progress;
mod run;
mod shutdown;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use jobq_client::BootTime;
use jobq_proto::message::{Cancel, Order, OrderedJob, RunRef, SettleOutcome, Settled, SettledRun, Welcome};
use jobq_proto::{ClientMessage, Fence, JobId, Limits, ServerMessage};
use uuid::Uuid;

pub use contract::{Command, Config, Event, NameLimit, Start};
pub use contract::{Outcome, Summary};
pub(crate) use fence_map::FenceMap;
use lease::Lease;
use outbox::Outbox;
pub use run::{End, RunId};
use run::{Report, Run, State, Stop};
use shutdown::Shutdown;
use slots::Slots;

/// Most runs that a worker holds, unsettled ones included. What it is sent beyond is released at once.
pub use jobq_proto::limits::MAX_HELD;

/// See the module.
#[derive(Debug)]
pub struct Machine {
    config: Config,
    slots: Slots,
    /// Whether the credit may be another than the server knows. Saying what it is takes a look at each name.
    credit_changed: bool,
    runs: FenceMap<Run>,
    /// Handlers that go on although their run is over, and the names they have.
    strays: FenceMap<usize>,
    /// When runs time out and when graces end.
    timers: BTreeSet<(BootTime, Fence)>,
    lease: Lease,
    shutdown: Shutdown,
    /// When the server was last told how far runs have come, on this connection.
    reported: Option<BootTime>,
    connected: bool,
    /// The session of this connection is the one before.
    resumed: bool,
    /// The server of this connection is going, so nothing new is started.
    closing: bool,
    limits: Limits,
    /// The store that the fences are of.
    store: Option<Uuid>,
    outbox: Outbox,
    commands: VecDeque<Command>,
    events: VecDeque<Event>,
    summary: Summary,
}

impl Machine {
    /// A worker that holds nothing and has not connected.
    pub fn new(config: Config) -> Self {
        Self {
            slots: Slots::new(&config),
            credit_changed: false,
            config,
            runs: FenceMap::default(),
            strays: FenceMap::default(),
            timers: BTreeSet::new(),
            lease: Lease::default(),
            shutdown: Shutdown::default(),
            reported: None,
            connected: false,
            resumed: false,
            closing: false,
            limits: Limits::default(),
            store: None,
            outbox: Outbox::default(),
            commands: VecDeque::new(),
            events: VecDeque::new(),
            summary: Summary::default(),
        }
    }

    /// What the server takes, as it said last; before its first welcome, what servers take unless told otherwise.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The server said welcome, for the first time or again, to a Hello that was sent at `sent` and stated
    /// [`Config::credit`].
    pub fn handle_connected(&mut self, now: BootTime, welcome: &Welcome, sent: BootTime) {
        self.limits = welcome.limits;
        self.connected = true;
        self.reported = None;
        self.closing = false;
        self.resumed = welcome.resumed;
        self.lease.handle_connected(welcome.ttl, sent);
        if !welcome.resumed {
            self.forget_session(now, self.store.is_none_or(|store| store == welcome.store));
        }
        self.store = Some(welcome.store);
        self.outbox.reset(self.config.credit());
        self.credit_changed = true;
        let mut unsettled = Vec::new();
        for run in self.runs.values_mut() {
            if let State::Ended(report) = &mut run.state {
                run.under_way = 0;
                report.fit(&self.limits);
                unsettled.push((run.id.fence, report.kind()));
            }
        }
        unsettled.sort_unstable_by_key(|(fence, _)| *fence);
        unsettled
            .into_iter()
            .for_each(|(fence, kind)| self.outbox.report(fence, kind));
    }

    /// The connection is gone. Handlers go on; no new one is called until the server is back.
    pub fn handle_disconnected(&mut self) {
        self.connected = false;
    }

    /// The server has answered a Beat, or a Hello, that was sent at `sent`: until its time-to-live after that, it
    /// gives none of our runs away. What waits for that starts.
    pub fn handle_contact(&mut self, now: BootTime, sent: BootTime) {
        if self.lease.handle_contact(sent) {
            self.fill(now);
        }
    }

    /// The server said something.
    pub fn handle_message(&mut self, now: BootTime, message: ClientMessage) {
        match message {
            ClientMessage::Order(order) => self.handle_order(now, order),
            ClientMessage::Settled(settled) => self.handle_settled(now, settled),
            ClientMessage::Cancel(cancel) => self.handle_cancel(now, cancel),
            ClientMessage::Closing(_) => {
                self.closing = true;
                self.release_waiting();
            }
            // Answers to what a worker does not ask.
            _ => {}
        }
        self.advance_shutdown(now);
    }

    /// A handler has ended, after `ran`. Every handler that was started ends once, however it ends.
    pub fn handle_ended(&mut self, now: BootTime, fence: Fence, ran: Duration, end: End) {
        if let Some(name) = self.strays.remove(&fence) {
            self.slots.free_stray(name);
            self.credit_changed = true;
        } else if let Some(Run {
            id,
            state: State::Running { stop, due, .. },
            ..
        }) = self.runs.get(&fence)
        {
            self.slots.free(id.name);
            if let Some(due) = due {
                self.timers.remove(&(*due, fence));
            }
            let report = Report::of(end, ran, *stop);
            self.end(fence, report);
        }
        self.fill(now);
        self.advance_shutdown(now);
    }

    /// It is as late as [`Machine::poll_timeout`] said, or later.
    pub fn handle_timeout(&mut self, now: BootTime) {
        if self.lease.is_over(now) {
            self.give_back_all(now);
        }
        while let Some((due, fence)) = self.timers.first().copied()
            && due <= now
        {
            self.timers.pop_first();
            self.handle_due(now, fence);
        }
        self.advance_shutdown(now);
    }

    /// The next message to send; nothing while there is no connection.
    pub fn poll_transmit(&mut self, now: BootTime) -> Option<ServerMessage> {
        if !self.connected {
            return None;
        }
        if self.outbox.poll_holding() {
            // A new session holds nothing; what is still to be reported of the old one follows by itself.
            let runs = self.runs.values().filter(|_| self.resumed);
            let (message, rest) = outbox::holding(runs, &self.limits);
            // The server queues again what is not named.
            rest.into_iter().for_each(|fence| self.give_up(now, fence));
            self.fill(now);
            return Some(message);
        }
        if std::mem::take(&mut self.credit_changed) {
            let credit = self.credit();
            let changed = self.outbox.poll_credit(credit, |name| self.slots.name(name));
            if changed.is_some() {
                return changed;
            }
        }
        self.outbox.poll(&self.limits, &mut self.runs)
    }

    /// The next thing to do with a handler. To be asked after everything that was to be sent has been.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`Machine::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<BootTime> {
        let lease = self.lease.deadline().filter(|_| self.running() > 0);
        let timer = self.timers.first().map(|(due, _)| *due);
        [lease, timer, self.shutdown.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether it holds runs, those included whose report is not settled. While it does, the server is to be asked often
    /// whether they are its own.
    pub fn is_busy(&self) -> bool {
        !self.runs.is_empty()
    }

    /// Whether it holds no run and no handler runs.
    #[cfg(test)]
    pub fn is_idle(&self) -> bool {
        self.runs.is_empty() && self.slots.busy() == 0
    }

    /// How many handlers run whose outcome is still wanted.
    pub fn running(&self) -> usize {
        self.slots.busy().saturating_sub(self.strays.len())
    }

    /// How many handlers go on although their run is over.
    pub fn strays(&self) -> usize {
        self.strays.len()
    }

    /// What it has done so far.
    pub fn summary(&self) -> Summary {
        self.summary
    }

    /// A job's name by its place in [`Config::names`].
    pub fn name(&self, index: usize) -> &str {
        self.slots.name(index)
    }

    fn handle_order(&mut self, now: BootTime, order: Order) {
        for job in order.jobs {
            self.take(now, job);
        }
    }

    fn take(&mut self, now: BootTime, order: OrderedJob) {
        let fence = order.fence;
        if self.runs.contains_key(&fence) || self.strays.contains_key(&fence) {
            return;
        }
        if self.runs.len() >= MAX_HELD {
            self.outbox.refuse(RunRef { id: order.id, fence });
            return;
        }
        let Some(name) = self.slots.index_of(&order.name) else {
            // Released, it would come straight back; a failed attempt has a backoff.
            tracing::warn!(
                id = order.id,
                name = order.name,
                "the server sent a job that was not asked for"
            );
            self.outbox.refuse_unknown(&order);
            return;
        };
        let id = RunId {
            job: JobId(order.id),
            fence,
            attempt: order.attempt,
            name,
        };
        if self.may_start(now) && self.slots.take(name) {
            self.start(now, id, order);
            return;
        }
        let state = State::Waiting(Box::new(order));
        self.runs.insert(fence, Run::new(id, state));
        if self.closing || self.shutdown.is_begun() {
            self.end(fence, Report::Released);
        } else {
            self.slots.wait(name, fence);
        }
    }

    /// Starts what waits and has a place.
    fn fill(&mut self, now: BootTime) {
        if !self.may_start(now) {
            return;
        }
        while let Some(fence) = self.slots.next() {
            let Some(Run {
                id,
                state: State::Waiting(order),
                ..
            }) = self.runs.remove(&fence)
            else {
                unreachable!("a run in the line is held and waits until it leaves the line");
            };
            self.start(now, id, *order);
        }
    }

    /// Nothing is started without a connection, since the server could not be told, nor before Holding, in which it may
    /// find no room, nor when it may soon be somebody else's.
    fn may_start(&self, now: BootTime) -> bool {
        let is_open = self.connected && !self.outbox.is_holding() && !self.closing;
        is_open && !self.shutdown.is_begun() && self.lease.covers_start(now)
    }

    /// Has the handler called; there is a place for it.
    fn start(&mut self, now: BootTime, id: RunId, order: OrderedJob) {
        let of_job = order.timeout.map(Duration::from_micros);
        let timeout = of_job.or(self.config.default_timeout);
        let due = timeout.map(|limit| now + limit);
        if let Some(due) = due {
            self.timers.insert((due, id.fence));
        }
        let running = State::Running {
            stop: None,
            due,
            timeout,
            since: now,
        };
        self.runs.insert(id.fence, Run::new(id, running));
        self.outbox.start(id.fence);
        self.events.push_back(Event::Started(id));
        self.commands.push_back(Command::Start(Start { id, order }));
    }

    fn handle_settled(&mut self, now: BootTime, settled: Settled) {
        for SettledRun { fence, outcome, .. } in settled.runs {
            let Some(run) = self.runs.get(&fence) else {
                continue;
            };
            let known = matches!(outcome, SettleOutcome::Applied | SettleOutcome::AlreadyApplied);
            match &run.state {
                State::Ended(report) => {
                    match (known, report) {
                        (true, Report::Completed { .. }) => self.summary.completed += 1,
                        (true, Report::Failed { .. }) => self.summary.failed += 1,
                        (true, Report::Released) => self.summary.released += 1,
                        // That it is lost was said already.
                        (_, Report::Lost) => self.summary.stale += 1,
                        (false, _) => {
                            self.summary.stale += 1;
                            self.events.push_back(Event::TooLate(run.id));
                        }
                    }
                    self.outbox.settled(run);
                    self.runs.remove(&fence);
                }
                // The answer to a Holding that named it.
                State::Waiting(_) | State::Running { .. } => self.give_up(now, fence),
            }
        }
    }

    fn handle_cancel(&mut self, now: BootTime, cancel: Cancel) {
        for RunRef { fence, .. } in cancel.runs {
            let Some(run) = self.runs.get(&fence) else {
                continue;
            };
            match &run.state {
                State::Waiting(_) => {
                    self.slots.leave(run.id.name, fence);
                    self.end(fence, Report::Released);
                }
                State::Running { .. } => self.stop(fence, Stop::Cancelled, now + self.config.cancel_grace),
                State::Ended(_) => {}
            }
        }
    }

    /// Asks a running handler to stop; `due` is when it is dropped. The first reason to stop it counts.
    fn stop(&mut self, fence: Fence, reason: Stop, grace_ends: BootTime) {
        if let Some(Run {
            state:
                State::Running {
                    stop: stop @ None,
                    due,
                    ..
                },
            ..
        }) = self.runs.get_mut(&fence)
        {
            *stop = Some(reason);
            if let Some(due) = due.replace(grace_ends) {
                self.timers.remove(&(due, fence));
            }
            self.timers.insert((grace_ends, fence));
            self.commands.push_back(Command::Cancel(fence));
        }
    }

    /// A timer of this run has gone off.
    fn handle_due(&mut self, now: BootTime, fence: Fence) {
        if self.strays.contains_key(&fence) {
            self.commands.push_back(Command::Drop { fence, overdue: true });
            return;
        }
        let Some(Run {
            id,
            state:
                State::Running {
                    stop,
                    due,
                    timeout,
                    since,
                },
            ..
        }) = self.runs.get_mut(&fence)
        else {
            return;
        };
        *due = None;
        let Some(reason) = *stop else {
            let limit = timeout.unwrap_or_default();
            self.stop(fence, Stop::TimedOut(limit), now + self.config.cancel_grace);
            return;
        };
        // The grace is over. What becomes of the job does not wait for a handler that does not listen.
        let (name, ran) = (id.name, now.since(*since));
        self.commands.push_back(Command::Drop { fence, overdue: true });
        self.stray(fence, name);
        self.end(fence, Report::of(End::Dropped, ran, Some(reason)));
    }

    /// The run is over, as `report` says; it is kept until the server has said that it knows.
    fn end(&mut self, fence: Fence, mut report: Report) {
        let Some(run) = self.runs.get_mut(&fence) else {
            return;
        };
        report.fit(&self.limits);
        self.outbox.report(fence, report.kind());
        let outcome = match &report {
            Report::Completed { .. } => Outcome::Completed,
            Report::Failed { error, .. } => Outcome::Failed(error.clone()),
            Report::Released => Outcome::Released,
            Report::Lost => Outcome::Lost,
        };
        self.events.push_back(Event::Ended(run.id, outcome));
        run.state = State::Ended(report);
    }

    /// The run is somebody else's now, or nobody's: its handler is stopped, and what comes of it is not reported.
    fn give_up(&mut self, now: BootTime, fence: Fence) {
        let Some(run) = self.runs.remove(&fence) else {
            return;
        };
        self.outbox.settled(&run);
        let id = run.id;
        match run.state {
            State::Waiting(_) => self.slots.leave(id.name, fence),
            State::Running { stop, due, .. } => {
                if let Some(due) = due {
                    self.timers.remove(&(due, fence));
                }
                if stop.is_none() {
                    self.commands.push_back(Command::Cancel(fence));
                }
                self.timers.insert((now + self.config.cancel_grace, fence));
                self.stray(fence, id.name);
            }
            State::Ended(_) => {}
        }
        self.summary.stale += 1;
        self.events.push_back(Event::Ended(id, Outcome::GivenUp));
    }

    /// Another session has begun, so the runs of the old one are over. How runs ended is told again, since it may
    /// have reached the disk; but not to another store, where the same fence may be that of another job.
    fn forget_session(&mut self, now: BootTime, same_store: bool) {
        let over = |run: &&Run| !same_store || !matches!(run.state, State::Ended(_));
        let mut over: Vec<Fence> = self.runs.values().filter(over).map(|run| run.id.fence).collect();
        over.sort_unstable();
        over.into_iter().for_each(|fence| self.give_up(now, fence));
    }

    fn release_waiting(&mut self) {
        for fence in self.slots.leave_all() {
            self.end(fence, Report::Released);
        }
    }

    fn stop_running(&mut self, reason: Stop, grace_ends: BootTime) {
        for fence in self.running_fences() {
            self.stop(fence, reason, grace_ends);
        }
    }

    /// The runs whose handlers run, in order.
    fn running_fences(&self) -> Vec<Fence> {
        let running = self
            .runs
            .values()
            .filter(|run| matches!(run.state, State::Running { .. }));
        let mut running: Vec<Fence> = running.map(|run| run.id.fence).collect();
        running.sort_unstable();
        running
    }

    /// A handler goes on although its run is over: its place is not on offer until it returns.
    fn stray(&mut self, fence: Fence, name: usize) {
        self.slots.stray(name);
        self.strays.insert(fence, name);
        self.credit_changed = true;
    }

    fn credit(&self) -> (u32, Vec<u32>) {
        let (total, names) = self.slots.credit(self.config.prefetch);
        (if self.shutdown.is_begun() { 0 } else { total }, names)
    }
}
