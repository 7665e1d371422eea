//! A worker: the machine of production, and handlers that do all sorts of things.

use std::collections::BTreeMap;

use bytes::Bytes;
use jobq_client::BootTime;
use jobq_proto::message::{JobProgress, NameCredit, Work};
use jobq_proto::{ClientMessage, Fence};
use jobq_worker::JobError;
use jobq_worker::sans_io::{Command, Config, End, Machine, NameLimit, Start};

use super::agenda::{Alarm, At, Event, MILLI, PeerIx, SECOND};
use super::ctx::{Ctx, trace};
use super::plan::{HANDLER_WHEN_CALM, NAMES, Span};
use super::session::{Said, Session, micros};

/// Bytes of params that a worker wants to hold, as a rule.
const CREDIT_BYTES: u64 = 8 * 1024 * 1024;

/// One worker, through all its lives.
pub(super) struct Worker {
    me: PeerIx,
    life: u64,
    pub(super) session: Session,
    machine: Machine,
    running: BTreeMap<Fence, Handler>,
    progress: BTreeMap<Fence, JobProgress>,
    pub(super) alarm: Alarm,
    asleep_until: At,
    draining: bool,
    /// The process is gone, and another may come.
    pub(super) gone: bool,
    /// It works on all names, and does what it is told.
    is_good: bool,
    /// In this phase its handlers wait to be let go.
    pub(super) holds: bool,
}

/// A handler that runs.
struct Handler {
    id: u64,
    since: BootTime,
    ends: At,
    how: How,
    /// When it tells how far it has come, if it does.
    tells: Option<At>,
    /// It does not listen when it is told to stop.
    stubborn: bool,
    /// Nor can it be dropped.
    blocking: bool,
    stopped: bool,
}

/// How a handler will end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Completes,
    Fails,
    FailsForGood,
    FailsFor(At),
    KillsWorker,
}

impl Worker {
    pub(super) fn new(ctx: &mut Ctx, me: PeerIx, life: u64, is_good: bool) -> Self {
        let config = config(ctx, is_good);
        let (jobs, of_names) = config.credit();
        let work = Work {
            names: config
                .names
                .iter()
                .zip(of_names)
                .map(|(name, jobs)| NameCredit {
                    name: name.name.clone(),
                    jobs,
                })
                .collect(),
            jobs,
            bytes: if is_good || ctx.chance.percent(80) {
                CREDIT_BYTES
            } else {
                ctx.chance.between(100, 3_000)
            },
            prefetch: config.prefetch,
        };
        trace!(ctx, "worker {me} begins: {config:?}");
        Self {
            me,
            life,
            session: Session::new(ctx, me, format!("worker-{me}-{life}"), Some(work)),
            machine: Machine::new(config),
            running: BTreeMap::new(),
            progress: BTreeMap::new(),
            alarm: Alarm::default(),
            asleep_until: 0,
            draining: false,
            gone: false,
            is_good,
            holds: false,
        }
    }

    /// Looks at what there is, as the session's thread does.
    pub(super) fn step(&mut self, ctx: &mut Ctx) {
        if self.gone {
            return;
        }
        if self.asleep_until > ctx.now {
            let at = self.asleep_until;
            return ctx.wake(&mut self.alarm, at, Event::Peer(self.me));
        }
        let mut said = Vec::new();
        self.session.step(ctx, &mut said);
        let now = self.session.now(ctx);
        for said in said {
            match said {
                Said::Connected(welcome) => {
                    if welcome.resumed {
                        ctx.tally.count("sessions resumed");
                    }
                    let sent = self.session.conversation().last_answered_sent().unwrap_or(now);
                    self.machine.handle_connected(now, &welcome, sent);
                }
                Said::Message(message) => {
                    self.look_at(ctx, &message);
                    self.machine.handle_message(now, message);
                }
                Said::Disconnected => self.machine.handle_disconnected(),
            }
        }
        if let Some(sent) = self.session.conversation().last_answered_sent() {
            self.machine.handle_contact(now, sent);
        }
        self.take_heard(ctx, now);
        if self.gone {
            return;
        }
        self.machine.handle_timeout(now);
        while let Some(message) = self.machine.poll_transmit(now) {
            if !self.session.send(ctx, message) {
                break;
            }
        }
        self.session.set_busy(ctx, self.machine.is_busy());
        while let Some(command) = self.machine.poll_command() {
            self.command(ctx, now, command);
        }
        while self.machine.poll_event().is_some() {}
        if self.machine.is_shut_down() {
            ctx.tally.count("workers that said goodbye");
            self.session.close(ctx);
            return self.be_gone(ctx);
        }
        self.set_alarm(ctx);
    }

    fn set_alarm(&mut self, ctx: &mut Ctx) {
        let progress = self.machine.progress_due().filter(|_| !self.progress.is_empty());
        let due = [self.machine.poll_timeout(), progress]
            .into_iter()
            .flatten()
            .min()
            .map(|due| self.session.at(due).max(ctx.now + MILLI));
        let next = [due, self.session.next(ctx)].into_iter().flatten().min();
        if let Some(at) = next {
            ctx.wake(&mut self.alarm, at, Event::Peer(self.me));
        }
    }

    /// What the worker's user would see.
    fn look_at(&mut self, ctx: &mut Ctx, message: &ClientMessage) {
        if matches!(message, ClientMessage::Order(_)) && self.has_rested(ctx) {
            ctx.tally.count("orders after a long rest");
        }
        if let ClientMessage::Settled(settled) = message {
            for run in &settled.runs {
                ctx.model.worker_told(run);
            }
            ctx.judge();
        }
    }

    /// Whether nothing was answered for so long that the server may have given everything away.
    fn has_rested(&self, ctx: &Ctx) -> bool {
        let conversation = self.session.conversation();
        let (answered, welcome) = (conversation.last_answered_sent(), conversation.welcome());
        answered
            .zip(welcome)
            .is_some_and(|(sent, welcome)| self.session.now(ctx).since(sent) >= micros(welcome.ttl))
    }

    fn command(&mut self, ctx: &mut Ctx, now: BootTime, command: Command) {
        match command {
            Command::Start(start) => self.start(ctx, now, start),
            Command::Cancel(fence) => {
                if let Some(handler) = self.running.get_mut(&fence) {
                    ctx.tally.count("handlers told to stop");
                    handler.stopped = true;
                    if !handler.stubborn {
                        handler.ends = ctx.now + ctx.chance.between(0, 500 * MILLI);
                        ctx.agenda
                            .put(handler.ends, Event::Handler(self.me, self.life, fence));
                    }
                }
            }
            Command::Drop { fence, .. } => {
                if let Some(handler) = self.running.get_mut(&fence).filter(|h| !h.blocking) {
                    ctx.tally.count("handlers dropped");
                    handler.ends = ctx.now;
                    ctx.agenda.put(ctx.now, Event::Handler(self.me, self.life, fence));
                }
            }
        }
    }

    fn start(&mut self, ctx: &mut Ctx, now: BootTime, Start { id, order }: Start) {
        ctx.tally.count("handlers started");
        ctx.model.handler_starts(ctx.now, self.me, &order);
        ctx.judge();
        let quiet = ctx.calm || self.is_good;
        let mut takes = if quiet {
            ctx.draw(Span(0, HANDLER_WHEN_CALM))
        } else {
            ctx.draw(ctx.plan.handling)
        };
        let how = if quiet { How::Completes } else { how(ctx) };
        let stubborn = !quiet && ctx.chance.percent(4);
        if !quiet && ctx.chance.percent(3) {
            takes += ctx.chance.between(10, 90) * SECOND;
        }
        if self.holds {
            takes = 3_600 * SECOND;
        }
        let handler = Handler {
            id: id.job.0,
            since: now,
            ends: ctx.now + takes,
            how,
            tells: (!quiet && ctx.chance.percent(30)).then_some(ctx.now + takes / 2),
            stubborn,
            blocking: stubborn && ctx.chance.percent(30),
            stopped: false,
        };
        let event = Event::Handler(self.me, self.life, id.fence);
        if let Some(at) = handler.tells {
            ctx.agenda.put(at, event);
        }
        ctx.after(takes, event);
        self.running.insert(id.fence, handler);
    }

    /// A handler goes on.
    pub(super) fn handler(&mut self, ctx: &mut Ctx, life: u64, fence: Fence) {
        if self.gone || life != self.life {
            return;
        }
        if self.asleep_until > ctx.now {
            return ctx
                .agenda
                .put(self.asleep_until, Event::Handler(self.me, life, fence));
        }
        ctx.nudge(&mut self.alarm, self.me);
    }

    /// Tells the machine what handlers did.
    fn take_heard(&mut self, ctx: &mut Ctx, now: BootTime) {
        for (fence, handler) in &mut self.running {
            if handler.tells.take_if(|at| *at <= ctx.now).is_some() {
                let progress = JobProgress {
                    part: Some(500_000),
                    text: format!("half of {}", handler.id),
                };
                self.progress.insert(*fence, progress);
            }
        }
        if self.machine.progress_due().is_some_and(|due| due <= now) {
            for (fence, progress) in std::mem::take(&mut self.progress) {
                ctx.tally.count("progress reported");
                self.machine.handle_progress(now, fence, progress);
            }
        }
        let ended: Vec<Fence> = self
            .running
            .iter()
            .filter(|(_, handler)| handler.ends <= ctx.now)
            .map(|(fence, _)| *fence)
            .collect();
        for fence in ended {
            let Some(handler) = self.running.remove(&fence) else {
                continue;
            };
            ctx.model.handler_ends(self.me, handler.id, fence);
            let end = match (handler.how, handler.stopped) {
                (How::KillsWorker, _) => {
                    ctx.tally.count("handlers that killed their worker");
                    return self.die(ctx);
                }
                (_, true) if handler.stubborn && !handler.blocking => End::Dropped,
                (_, true) if ctx.chance.percent(60) => End::Failed(JobError::retry("told to stop")),
                (How::Completes, _) => {
                    let result = ctx.chance.percent(70).then(|| {
                        Bytes::from(vec![0x43, handler.id as u8, fence.seq as u8, fence.epoch as u8])
                    });
                    End::Completed(result)
                }
                (How::Fails, _) => End::Failed(JobError::retry("it did not work")),
                (How::FailsForGood, _) => End::Failed(JobError::never("it will never work")),
                (How::FailsFor(wait), _) => End::Failed(JobError::after(micros(wait), "not yet")),
            };
            self.machine
                .handle_ended(now, fence, now.since(handler.since), end);
        }
    }

    /// Its process is killed.
    pub(super) fn die(&mut self, ctx: &mut Ctx) {
        self.session.abandon(ctx);
        self.be_gone(ctx);
    }

    /// Its computer is gone, without a word to anybody.
    pub(super) fn vanish(&mut self, ctx: &mut Ctx) {
        self.session.vanish(ctx);
        self.be_gone(ctx);
    }

    fn be_gone(&mut self, ctx: &mut Ctx) {
        if self.gone {
            return;
        }
        trace!(ctx, "worker {} is gone", self.me);
        self.gone = true;
        for (fence, handler) in std::mem::take(&mut self.running) {
            ctx.model.handler_ends(self.me, handler.id, fence);
        }
        let wait = ctx.draw(Span(200 * MILLI, 20 * SECOND));
        ctx.after(wait, Event::Revive(self.me));
    }

    /// Another process begins where there is none.
    pub(super) fn revive(&mut self, ctx: &mut Ctx) {
        if self.gone {
            *self = Self::new(ctx, self.me, self.life + 1, self.is_good);
            ctx.nudge(&mut self.alarm, self.me);
        }
    }

    /// Its computer is suspended: its handlers stand still, and its clock goes on.
    pub(super) fn sleep(&mut self, ctx: &mut Ctx, time: At) {
        if self.gone {
            return;
        }
        self.asleep_until = self.asleep_until.max(ctx.now + time);
        for (fence, handler) in &mut self.running {
            handler.ends += time;
            let event = Event::Handler(self.me, self.life, *fence);
            ctx.agenda.put(handler.ends, event);
        }
        let at = self.asleep_until;
        ctx.wake(&mut self.alarm, at, Event::Peer(self.me));
    }

    /// It is told to stop.
    pub(super) fn drain(&mut self, ctx: &mut Ctx, within: At) {
        if !self.gone && !self.draining {
            self.draining = true;
            let now = self.session.now(ctx);
            self.machine.shut_down(now, micros(within));
            ctx.nudge(&mut self.alarm, self.me);
        }
    }

    /// Nothing goes wrong any more: it wakes, and its handlers come to their ends.
    pub(super) fn calm(&mut self, ctx: &mut Ctx) {
        self.asleep_until = 0;
        for (fence, handler) in &mut self.running {
            handler.ends = handler.ends.min(ctx.now + SECOND);
            if handler.how == How::KillsWorker {
                handler.how = How::Completes;
            }
            ctx.agenda
                .put(handler.ends, Event::Handler(self.me, self.life, *fence));
        }
        ctx.nudge(&mut self.alarm, self.me);
    }

    /// Lets handlers go that were held.
    pub(super) fn let_go(&mut self, ctx: &mut Ctx) {
        self.holds = false;
        self.calm(ctx);
    }

    /// How many handlers run.
    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    /// Takes something from the network.
    pub(super) fn arrives(&mut self, ctx: &mut Ctx, conn: u64) {
        while let Some(parcel) = ctx.take_down(conn) {
            self.session.inbox.push_back((conn, parcel));
        }
        ctx.nudge(&mut self.alarm, self.me);
    }
}

fn how(ctx: &mut Ctx) -> How {
    if ctx.chance.percent(ctx.plan.poison_percent) {
        return How::KillsWorker;
    }
    match ctx.chance.between(1, 20) {
        1 | 2 => How::Fails,
        3 => How::FailsForGood,
        4 => How::FailsFor(ctx.draw(Span(0, 8 * SECOND))),
        _ => How::Completes,
    }
}

fn config(ctx: &mut Ctx, is_good: bool) -> Config {
    let names = &NAMES[..ctx.plan.names];
    let chance = &mut ctx.chance;
    let concurrency = if is_good { 8 } else { chance.between(1, 5) as u32 };
    let all = is_good || chance.percent(60);
    let mut mine: Vec<NameLimit> = Vec::new();
    for name in names {
        if all || chance.percent(60) {
            let most = u64::from(concurrency);
            mine.push(NameLimit {
                name: (*name).to_owned(),
                concurrency: if all {
                    concurrency
                } else {
                    chance.between(1, most) as u32
                },
            });
        }
    }
    if mine.is_empty() {
        mine.push(NameLimit {
            name: (*chance.pick(names)).to_owned(),
            concurrency,
        });
    }
    Config {
        names: mine,
        concurrency,
        prefetch: if !is_good && chance.percent(30) {
            chance.between(1, 3) as u32
        } else {
            0
        },
        default_timeout: None,
        cancel_grace: micros(chance.between(1, 5) * SECOND),
        progress_interval: micros(500 * MILLI),
    }
}
