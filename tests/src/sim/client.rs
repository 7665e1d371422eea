//! A client: the request tables of production, and a user who asks for all sorts of things.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use jobq_client::BootTime;
use jobq_client::sans_io::{Asks, Lane, Submit, Submits, Terms, Unanswered, WatchEvent, Watches};
use jobq_proto::message::{CancelJobs, Include, Query, RetryJobs, StatsQuery, Submission};
use jobq_proto::{Backoff, ClientMessage, ServerMessage, Status};
use uuid::Uuid;

use super::agenda::{Alarm, Event, MILLI, PeerIx, SECOND};
use super::ctx::{Ctx, trace};
use super::plan::{NAMES, Span};
use super::session::{Said, Session, micros};

/// Most things that a user has asked for and not been told.
const MOST_ASKED: usize = 24;

/// What a job's uuid has above its number.
const UUIDS: u128 = 0x0190_0000_0000_7000_8000 << 48;

/// One client, through all its lives.
pub(super) struct Client {
    me: PeerIx,
    pub(super) session: Session,
    submits: Submits<u64>,
    asks: Asks<Asked>,
    watches: Watches,
    /// What waits for room in the tables.
    waiting: VecDeque<(Submit, u64)>,
    /// What was submitted, by the number of the call.
    calls: BTreeMap<u64, Vec<Submission>>,
    last: u64,
    watched: BTreeMap<u64, usize>,
    asked: usize,
    pub(super) alarm: Alarm,
}

/// What somebody asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Query,
    Stats,
    Cancel,
    Retry,
}

impl Client {
    pub(super) fn new(ctx: &mut Ctx, me: PeerIx) -> Self {
        Self {
            me,
            session: Session::new(ctx, me, format!("client-{me}"), None),
            submits: Submits::new(),
            asks: Asks::new(),
            watches: Watches::new(),
            waiting: VecDeque::new(),
            calls: BTreeMap::new(),
            last: 0,
            watched: BTreeMap::new(),
            asked: 0,
            alarm: Alarm::default(),
        }
    }

    /// Whether it has been told all that it asked for, watches apart.
    pub(super) fn is_idle(&self) -> bool {
        self.calls.is_empty() && self.asked == 0
    }

    /// The process is killed: what it had asked for is forgotten, and another process begins.
    pub(super) fn die(&mut self, ctx: &mut Ctx) {
        self.session.abandon(ctx);
        *self = Self::new(ctx, self.me);
        let at = ctx.now + SECOND;
        ctx.wake(&mut self.alarm, at, Event::Peer(self.me));
    }

    /// Looks at what there is, as the client's own task does.
    pub(super) fn step(&mut self, ctx: &mut Ctx) {
        let mut said = Vec::new();
        self.session.step(ctx, &mut said);
        let now = self.session.now(ctx);
        for said in said {
            match said {
                Said::Connected(welcome) => {
                    let terms = Terms::from(&*welcome);
                    self.submits.handle_connected(now, terms);
                    self.asks.handle_connected();
                    self.watches.handle_connected(terms);
                }
                Said::Message(message) => self.handle_message(ctx, now, message),
                Said::Disconnected => {
                    self.submits.handle_disconnected();
                    self.asks.handle_disconnected();
                    self.watches.handle_disconnected();
                }
            }
        }
        self.submits.handle_timeout(now);
        self.asks.handle_timeout(now);
        self.watches.handle_timeout(now);
        while self.submits.has_room()
            && let Some((submit, call)) = self.waiting.pop_front()
        {
            self.submits.push(submit, call);
        }
        self.transmit(ctx, now);
        let is_idle = self.submits.is_idle() && self.asks.is_idle() && self.watches.is_idle();
        self.session.set_busy(ctx, !is_idle);
        self.answer(ctx);
        self.set_alarm(ctx);
    }

    fn set_alarm(&mut self, ctx: &mut Ctx) {
        let due = self
            .submits
            .poll_timeout()
            .min(self.asks.poll_timeout())
            .min(self.watches.poll_timeout());
        let due = (due != BootTime::NEVER).then(|| self.session.at(due).max(ctx.now + MILLI));
        let next = [due, self.session.next(ctx)].into_iter().flatten().min();
        if let Some(at) = next {
            ctx.wake(&mut self.alarm, at, Event::Peer(self.me));
        }
    }

    fn handle_message(&mut self, ctx: &mut Ctx, now: BootTime, message: ClientMessage) {
        let chance = u32::try_from(ctx.chance.between(0, u32::MAX.into())).unwrap_or(0);
        match message {
            ClientMessage::Acknowledged(answer) => self.submits.handle_acknowledged(now, || chance, answer),
            ClientMessage::Ended(ended) => self.watches.handle_ended(ended),
            ClientMessage::Progressed(progressed) => {
                ctx.tally.count("progress told to clients");
                self.watches.handle_progressed(progressed);
            }
            ClientMessage::Refused(refused) => {
                ctx.tally.count("requests refused");
                let (request, error) = (refused.request, refused.error);
                match Lane::of(request) {
                    Lane::Submits => self.submits.handle_refused(now, chance, request, &error),
                    Lane::Asks => self.asks.handle_refused(now, chance, request, error),
                    Lane::Watches => self.watches.handle_refused(now, request, error),
                }
            }
            ClientMessage::Jobs(ref answer) => self.asks.handle_answer(answer.request, message),
            ClientMessage::Cancelled(ref answer) => self.asks.handle_answer(answer.request, message),
            ClientMessage::Retried(ref answer) => self.asks.handle_answer(answer.request, message),
            ClientMessage::Stats(ref answer) => self.asks.handle_answer(answer.request, message),
            _ => {}
        }
    }

    fn transmit(&mut self, ctx: &mut Ctx, now: BootTime) {
        if !self.session.conversation().is_open() {
            return;
        }
        while let Some(message) = self
            .submits
            .poll_transmit(now)
            .or_else(|| self.asks.poll_transmit())
            .or_else(|| self.watches.poll_transmit())
        {
            self.session.send(ctx, message);
        }
    }

    /// The user hears what came of what was asked for.
    fn answer(&mut self, ctx: &mut Ctx) {
        while let Some((call, answer)) = self.submits.poll_answer() {
            self.calls.remove(&call);
            let mut again = Vec::new();
            for (job, receipt) in answer.jobs.iter().zip(&answer.receipts) {
                match (&receipt.id, &receipt.error) {
                    (Some(id), _) => {
                        ctx.tally.count(if receipt.existing {
                            "jobs known already"
                        } else {
                            "jobs acknowledged"
                        });
                        ctx.model.client_told_acknowledged(*id, job.uuid);
                    }
                    (None, Some(error)) => {
                        ctx.tally.count("jobs refused");
                        trace!(ctx, "{} is refused: {}", job.uuid.as_u128(), error.code);
                    }
                    (None, None) => {
                        ctx.tally.count("jobs in doubt");
                        again.push(job.clone());
                    }
                }
            }
            ctx.judge();
            // Whoever does not know asks again, in most cases.
            if !again.is_empty() && !ctx.calm && ctx.chance.percent(80) {
                ctx.tally.count("submits repeated by users");
                self.submit(ctx, again);
            }
        }
        while let Some((asked, answer)) = self.asks.poll_answer() {
            self.asked -= 1;
            match answer {
                Ok(message) => {
                    ctx.tally.count(match asked {
                        Asked::Query => "queries answered",
                        Asked::Stats => "stats answered",
                        Asked::Cancel => "cancels answered",
                        Asked::Retry => "retries answered",
                    });
                    ctx.model.client_told(ctx.now, &message);
                }
                Err(Unanswered::TimedOut) => ctx.tally.count("questions without an answer"),
                Err(_) => ctx.tally.count("questions refused"),
            }
        }
        while let Some((group, event)) = self.watches.poll_event() {
            if let WatchEvent::Ended(job) = event {
                ctx.tally.count("ends told to clients");
                ctx.model.client_told_end(&job);
                let left = self.watched.get_mut(&group).map(|left| {
                    *left -= 1;
                    *left
                });
                if left == Some(0) {
                    self.watched.remove(&group);
                }
            }
        }
        ctx.judge();
    }

    /// The user does something.
    pub(super) fn act(&mut self, ctx: &mut Ctx) {
        if ctx.calm {
            return;
        }
        let wait = ctx.draw(ctx.plan.act);
        ctx.after(wait, Event::Act(self.me));
        if self.calls.len() + self.asked >= MOST_ASKED {
            return;
        }
        let others = if ctx.plan.fancy { 100 } else { 70 };
        match ctx.chance.between(1, others) {
            1..=55 => {
                let count = if ctx.chance.percent(80) {
                    1
                } else {
                    ctx.chance.between(2, 6)
                };
                let jobs = (0..count).map(|_| new_job(ctx)).collect();
                self.submit(ctx, jobs);
            }
            56..=60 => self.submit_known(ctx),
            61..=66 => self.ask_about(ctx),
            67..=70 => self.watch(ctx),
            71..=82 => self.cancel(ctx),
            83..=88 => self.retry(ctx),
            89..=92 => self.ask_for_stats(ctx),
            93..=95 => self.forget_watch(),
            _ => self.ask_about(ctx),
        }
        self.alarm(ctx);
    }

    fn alarm(&mut self, ctx: &mut Ctx) {
        ctx.nudge(&mut self.alarm, self.me);
    }

    fn submit(&mut self, ctx: &mut Ctx, jobs: Vec<Submission>) {
        for job in &jobs {
            ctx.model.asked(job);
        }
        self.last += 1;
        let patience = *ctx
            .chance
            .pick(&[Span(50 * MILLI, SECOND), Span(5 * SECOND, 40 * SECOND)]);
        let wait = ctx.draw(patience);
        let submit = Submit {
            jobs: jobs.clone(),
            stream: self.last,
            repeat: ctx.chance.percent(50),
            deadline: self.session.now(ctx) + micros(wait),
            patience: micros(0),
        };
        self.calls.insert(self.last, jobs);
        self.waiting.push_back((submit, self.last));
        self.alarm(ctx);
    }

    /// Submits jobs as one that waits for them does, however it takes them.
    pub(super) fn submit_for_sure(&mut self, ctx: &mut Ctx, jobs: Vec<Submission>) {
        for job in &jobs {
            ctx.model.asked(job);
        }
        self.last += 1;
        let submit = Submit {
            jobs: jobs.clone(),
            stream: self.last,
            repeat: true,
            deadline: self.session.now(ctx) + micros(600 * SECOND),
            patience: micros(0),
        };
        self.calls.insert(self.last, jobs);
        self.waiting.push_back((submit, self.last));
        self.alarm(ctx);
    }

    /// Somebody submits again what was submitted before, perhaps changed.
    fn submit_known(&mut self, ctx: &mut Ctx) {
        let Some(mut job) = ctx.model.any_submission(&mut ctx.chance) else {
            return;
        };
        if ctx.chance.percent(25) {
            ctx.tally.count("uuids used for other jobs");
            job.params = Some(Bytes::from_static(&[0x61, b'?']));
            // Not known to the model as what was asked for: it must never come to be.
            self.last += 1;
            let submit = Submit {
                jobs: vec![job.clone()],
                stream: self.last,
                repeat: false,
                deadline: self.session.now(ctx) + micros(5 * SECOND),
                patience: micros(0),
            };
            ctx.model.asked_otherwise(&job);
            self.calls.insert(self.last, vec![job]);
            self.waiting.push_back((submit, self.last));
            return;
        }
        ctx.tally.count("jobs submitted again");
        self.submit(ctx, vec![job]);
    }

    fn ask(&mut self, ctx: &mut Ctx, asked: Asked, question: impl FnOnce(u64) -> ServerMessage) {
        self.asked += 1;
        let wait = ctx.draw(Span(100 * MILLI, 30 * SECOND));
        let deadline = self.session.now(ctx) + micros(wait);
        self.asks.push(question, deadline, asked);
    }

    /// The user wants to know how many jobs there are.
    pub(super) fn ask_for_stats(&mut self, ctx: &mut Ctx) {
        self.ask(ctx, Asked::Stats, |request| {
            ServerMessage::Stats(StatsQuery { request })
        });
        self.alarm(ctx);
    }

    fn ask_about(&mut self, ctx: &mut Ctx) {
        let ids = ctx.model.any_ids(&mut ctx.chance, 5);
        let include = *ctx.chance.pick(&[
            None,
            Some(Include::Params),
            Some(Include::Result),
            Some(Include::Runs),
        ]);
        let filter = ctx.chance.percent(40) || ids.is_empty();
        let status = *ctx.chance.pick(&Status::ALL.map(Some));
        let some_status = ctx.chance.percent(50);
        let limit = ctx.chance.between(1, 20);
        self.ask(ctx, Asked::Query, |request| {
            ServerMessage::Query(Box::new(Query {
                request,
                ids: if filter { Vec::new() } else { ids },
                status: status.filter(|_| filter && some_status),
                limit: filter.then_some(limit),
                include,
                ..Query::default()
            }))
        });
    }

    fn watch(&mut self, ctx: &mut Ctx) {
        let mut ids = ctx.model.any_ids(&mut ctx.chance, 8);
        ids.sort_unstable();
        ids.dedup();
        if !ids.is_empty() {
            self.last += 1;
            self.watched.insert(self.last, ids.len());
            let progress = ctx.chance.percent(50);
            self.watches.push(self.last, ids, progress);
        }
    }

    fn forget_watch(&mut self) {
        if let Some((group, _)) = self.watched.pop_first() {
            self.watches.forget(group);
        }
    }

    fn cancel(&mut self, ctx: &mut Ctx) {
        let ids = ctx.model.any_ids(&mut ctx.chance, 2);
        if !ids.is_empty() {
            self.ask(ctx, Asked::Cancel, |request| {
                ServerMessage::Cancel(CancelJobs { request, ids })
            });
        }
    }

    fn retry(&mut self, ctx: &mut Ctx) {
        let ids = ctx.model.any_ids(&mut ctx.chance, 2);
        if !ids.is_empty() {
            self.ask(ctx, Asked::Retry, |request| {
                ServerMessage::Retry(RetryJobs { request, ids })
            });
        }
    }

    /// Takes something from the network.
    pub(super) fn arrives(&mut self, ctx: &mut Ctx, conn: u64) {
        while let Some(parcel) = ctx.take_down(conn) {
            self.session.inbox.push_back((conn, parcel));
        }
        self.alarm(ctx);
    }
}

/// A job that nobody has asked for before.
pub(super) fn new_job(ctx: &mut Ctx) -> Submission {
    let number = ctx.model.next_number();
    let fancy = ctx.plan.fancy;
    let chance = &mut ctx.chance;
    let mut some = |percent| fancy && chance.percent(percent);
    let (priority, timed, after, attempts, limited, backoff, user) = (
        some(35),
        some(12),
        some(12),
        some(25),
        some(20),
        some(30),
        some(30),
    );
    let name = NAMES[usize::try_from(chance.between(0, ctx.plan.names as u64 - 1)).unwrap_or(0)];
    let length = if chance.percent(85) {
        chance.between(1, 40)
    } else {
        chance.between(100, 1_500)
    };
    let mut params = vec![0x59, (length >> 8) as u8, (length & 0xff) as u8];
    params.extend((0..length).map(|at| (number ^ at) as u8));
    let wall = ctx.model.wall;
    Submission {
        uuid: Uuid::from_u128(UUIDS | u128::from(number)),
        name: name.to_owned(),
        params: chance.percent(90).then(|| Bytes::from(params)),
        username: user.then(|| format!("user-{}", chance.between(1, 3))),
        priority: priority.then(|| (*chance.pick(&["High", "Low", "high"])).to_owned()),
        run_at: (timed && !after)
            .then(|| wall + i64::try_from(chance.between(0, 40 * SECOND)).unwrap_or(0) - 5_000_000),
        delay: after.then(|| chance.between(0, 30 * SECOND)),
        max_attempts: attempts.then(|| chance.between(1, 5) as u32),
        timeout: limited.then(|| chance.between(50 * MILLI, 8 * SECOND)),
        backoff: backoff.then(|| Backoff {
            base: chance.between(0, 2 * SECOND),
            exponent: chance.between(0, 3) as u32,
            max: 20 * SECOND,
        }),
    }
}
