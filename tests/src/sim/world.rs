//! One simulated world, from its first moment to its last.

use std::collections::BTreeMap;

use jobq_proto::{JobId, ServerMessage};
use jobq_server::store::{Space, Store};

use super::agenda::{Agenda, At, ConnId, Event, PeerIx, SECOND};
use super::client::{Client, new_job};
use super::ctx::{Ctx, trace};
use super::model::Model;
use super::mutants::Mutant;
use super::net::{Net, Parcel};
use super::plan::{NAMES, Plan};
use super::rogue::Rogue;
use super::server::Server;
use super::trace::{Keep, Tally, Trace};
use super::worker::Worker;
use crate::Chance;

/// Everything has to be worked off so soon after nothing goes wrong any more: the longest wait that a job may ask for,
/// the time-to-live of a session, and the longest handler, several times over. That is for what jobs wait for beside each
/// other; all that there are may have to be run one after the other, too.
const DRAINS_WITHIN: At = 600 * SECOND;

/// A world in which more happens never comes to rest.
const MOST_EVENTS: u64 = 5_000_000;

/// How long handlers are held while it is looked whether the caps are reached.
const CAPS_WITHIN: At = 15 * SECOND;

/// So long before that is over, it is asked how many jobs there are: by then nothing changes any more.
const STATS_BEFORE: At = 5 * SECOND;

/// A peer may be silent for so long before somebody notices: the longest interval of Beats and the longest time-to-live.
const LONGEST_SILENCE: At = 100 * SECOND;

/// Handlers that the last worker runs at a time.
const LAST_CONCURRENCY: usize = 8;

/// The world and all who live in it.
pub(super) struct World {
    pub(super) ctx: Ctx,
    pub(super) server: Server,
    pub(super) peers: Vec<Peer>,
    /// Connections that the network makes up, and what is to be said on them.
    pub(super) doubles: BTreeMap<ConnId, Vec<ServerMessage>>,
    phase: Phase,
    calendar_max: i64,
    /// The worker that does what it is told.
    last: PeerIx,
    events: u64,
}

/// Somebody who talks to the server.
pub(super) enum Peer {
    Client(Box<Client>),
    Worker(Box<Worker>),
    Rogue(Rogue),
}

/// How far a world is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Users are busy, and things go wrong.
    Busy,
    /// What there is, is worked off, by then at the latest.
    Draining(At),
    /// The other workers are told to stop.
    Clearing(At),
    /// It is looked whether as many jobs are out as the caps allow.
    Filling(At),
    /// Those are worked off.
    Emptying(At),
    /// All have gone.
    Leaving(At),
    /// The server has been told to stop.
    Stopping(At),
    /// It is over.
    Over,
}

impl World {
    pub(super) fn new(seed: u64, keep: Keep, mutant: Option<Mutant>) -> Self {
        let mut chance = Chance::new(seed);
        let plan = Plan::draw(&mut chance);
        let server = Server::new(plan.config.clone());
        let model = Model::new(plan.config.clone());
        let ctx = Ctx {
            now: 0,
            agenda: Agenda::default(),
            chance,
            plan,
            net: Net::default(),
            model,
            trace: Trace::new(keep),
            tally: Tally::default(),
            mutant,
            calm: false,
            listening: None,
            wrong: None,
        };
        let mut world = Self {
            ctx,
            server,
            peers: Vec::new(),
            doubles: BTreeMap::new(),
            phase: Phase::Busy,
            calendar_max: 0,
            last: 0,
            events: 0,
        };
        world.begin(seed);
        world
    }

    fn begin(&mut self, seed: u64) {
        let ctx = &mut self.ctx;
        trace!(ctx, "seed {seed}: {:?}", ctx.plan);
        ctx.model.wall = self.server.wall(0);
        ctx.agenda.put(0, Event::Start);
        ctx.agenda.put(ctx.plan.lasts, Event::Calm);
        if !ctx.plan.faults.is_empty() {
            let wait = ctx.draw(ctx.plan.fault_every);
            ctx.after(wait, Event::Fault);
        }
        for _ in 0..ctx.plan.clients {
            let me = self.peers.len();
            let mut client = Client::new(ctx, me);
            ctx.nudge(&mut client.alarm, me);
            self.peers.push(Peer::Client(Box::new(client)));
            ctx.after(ctx.plan.act.0, Event::Act(me));
        }
        for _ in 0..ctx.plan.workers {
            let me = self.peers.len();
            let mut worker = Worker::new(ctx, me, 1, false);
            ctx.nudge(&mut worker.alarm, me);
            self.peers.push(Peer::Worker(Box::new(worker)));
        }
        if ctx.plan.rogue {
            let me = self.peers.len();
            self.peers.push(Peer::Rogue(Rogue::new(me)));
            ctx.after(SECOND, Event::Act(me));
        }
    }

    /// Lets everything happen, until it is over or something is wrong.
    pub(super) fn run(&mut self) {
        while self.phase != Phase::Over && self.ctx.wrong.is_none() {
            let Some((at, event)) = self.ctx.agenda.pop() else {
                return self
                    .ctx
                    .fail("nothing happens any more, and it is not over".to_owned());
            };
            self.ctx.now = at;
            self.events += 1;
            if self.events > MOST_EVENTS {
                return self.ctx.fail("the world never comes to rest".to_owned());
            }
            self.handle(event);
            self.ctx.judge();
        }
        let (jobs, runs) = self.ctx.model.size();
        self.ctx.tally.add("jobs", jobs as u64);
        self.ctx.tally.add("runs", runs as u64);
        self.ctx.tally.add("events", self.events);
        self.ctx.tally.add("simulated seconds", self.ctx.now / SECOND);
    }

    fn handle(&mut self, event: Event) {
        let ctx = &mut self.ctx;
        match event {
            Event::Knock(conn) => {
                self.server.knocks(ctx, conn);
            }
            Event::Up(conn) => self.server.arrives(ctx, conn),
            Event::Down(conn) => self.arrives(conn),
            Event::HelloOver(conn) => self.server.hello_over(ctx, conn),
            Event::Server(life) => self.server.ring(ctx, life),
            Event::Synced(life) => self.server.synced(ctx, life),
            Event::Read(life, reading) => self.server.read(ctx, life, reading),
            Event::Start => {
                if !matches!(self.phase, Phase::Stopping(_) | Phase::Over) {
                    self.server.start(ctx);
                }
            }
            Event::Room => self.server.set_room(ctx, Space::Enough),
            Event::Peer(peer) => self.step(peer),
            Event::Act(peer) => match &mut self.peers[peer] {
                Peer::Client(client) => client.act(ctx),
                Peer::Rogue(rogue) => rogue.act(ctx),
                Peer::Worker(_) => {}
            },
            Event::Handler(peer, life, fence) => {
                if let Peer::Worker(worker) = &mut self.peers[peer] {
                    worker.handler(ctx, life, fence);
                }
            }
            Event::Revive(peer) => {
                let busy = matches!(self.phase, Phase::Busy | Phase::Draining(_));
                if let (Peer::Worker(worker), true) = (&mut self.peers[peer], busy) {
                    worker.revive(ctx);
                }
            }
            Event::Fault => {
                self.fault();
                self.calendar_max = self.calendar_max.max(self.server.calendar);
            }
            Event::Calm => self.calm(),
            Event::Look => self.look(),
        }
    }

    fn arrives(&mut self, conn: ConnId) {
        let ctx = &mut self.ctx;
        match ctx.conn(conn).and_then(|conn| conn.peer) {
            Some(peer) => match &mut self.peers[peer] {
                Peer::Client(client) => client.arrives(ctx, conn),
                Peer::Worker(worker) => worker.arrives(ctx, conn),
                Peer::Rogue(rogue) => rogue.arrives(ctx, conn),
            },
            None => {
                while let Some(parcel) = ctx.take_down(conn) {
                    if matches!(parcel, Parcel::Open) {
                        for message in self.doubles.remove(&conn).unwrap_or_default() {
                            ctx.send_up(conn, message);
                        }
                        if ctx.chance.percent(50) {
                            ctx.close_by_peer(conn);
                        }
                    }
                }
            }
        }
    }

    fn step(&mut self, peer: PeerIx) {
        let ctx = &mut self.ctx;
        match &mut self.peers[peer] {
            Peer::Client(client) => {
                if client.alarm.rings(ctx.now) {
                    client.step(ctx);
                }
            }
            Peer::Worker(worker) => {
                if worker.alarm.rings(ctx.now) {
                    worker.step(ctx);
                }
            }
            Peer::Rogue(rogue) => rogue.step(ctx),
        }
    }

    /// Nothing goes wrong any more.
    fn calm(&mut self) {
        self.mend();
        self.server.keeps_config = true;
        // What was put off by a calendar that was ahead is due, too.
        self.server.calendar = self.calendar_max.max(self.server.calendar) + 60_000_000;
        let ctx = &mut self.ctx;
        ctx.model.wall = self.server.wall(ctx.now);
        self.last = self.peers.len();
        let mut worker = Worker::new(ctx, self.last, 1, true);
        ctx.nudge(&mut worker.alarm, self.last);
        self.peers.push(Peer::Worker(Box::new(worker)));
        let jobs = self.ctx.model.unfinished_jobs() as u64;
        let within = DRAINS_WITHIN + jobs * self.ctx.plan.longest_run();
        self.enter(Phase::Draining(self.ctx.now + within));
    }

    fn enter(&mut self, phase: Phase) {
        trace!(self.ctx, "{phase:?}");
        self.phase = phase;
        self.ctx.after(SECOND, Event::Look);
    }

    /// Whether the world may go on to its next phase.
    fn look(&mut self) {
        let now = self.ctx.now;
        match self.phase {
            Phase::Busy | Phase::Over => {}
            Phase::Draining(until) => {
                if self.is_drained() {
                    self.clear();
                } else {
                    self.wait_for(until, "everything is worked off");
                }
            }
            Phase::Clearing(until) => {
                if self.others_have_gone() {
                    self.fill();
                } else {
                    self.wait_for(until, "all workers but one have gone");
                }
            }
            Phase::Filling(until) => {
                if now >= until {
                    self.judge_caps();
                    if let Peer::Worker(worker) = &mut self.peers[self.last] {
                        worker.let_go(&mut self.ctx);
                    }
                    self.enter(Phase::Emptying(now + DRAINS_WITHIN));
                } else {
                    if until - now == STATS_BEFORE {
                        self.ask_for_stats();
                    }
                    self.ctx.after(SECOND, Event::Look);
                }
            }
            Phase::Emptying(until) => {
                if self.is_drained() {
                    self.leave();
                } else {
                    self.wait_for(until, "what filled the caps is worked off");
                }
            }
            Phase::Leaving(until) => {
                if now >= until {
                    self.judge_footprint();
                    self.server.stop(&mut self.ctx);
                    self.enter(Phase::Stopping(now + 60 * SECOND));
                } else {
                    self.ctx.after(SECOND, Event::Look);
                }
            }
            Phase::Stopping(until) => {
                if self.server.life.is_none() {
                    self.judge_end();
                } else {
                    self.wait_for(until, "the server has stopped");
                }
            }
        }
    }

    fn wait_for(&mut self, until: At, what: &str) {
        if self.ctx.now < until {
            return self.ctx.after(SECOND, Event::Look);
        }
        let unfinished = self.ctx.model.unfinished();
        let footprint = self.server.life.as_ref().map(|life| life.machine.footprint());
        self.ctx.fail(format!(
            "nothing has gone wrong for {} s, and it is not so that {what}; job {unfinished:?} has not ended; {footprint:?}; {:?}",
            self.ctx.now.saturating_sub(self.ctx.plan.lasts) / SECOND,
            self.ctx.busy_conn(),
        ));
    }

    fn is_drained(&self) -> bool {
        let idle = |peer: &Peer| match peer {
            Peer::Client(client) => client.is_idle(),
            _ => true,
        };
        self.server.life.as_ref().is_some_and(|life| life.is_quiet())
            && self.ctx.busy_conn().is_none()
            && !self.ctx.any_peer_is_cut_off()
            && self.ctx.model.is_at_rest()
            && self.ctx.model.unfinished().is_none()
            && self.peers.iter().all(idle)
    }

    fn clear(&mut self) {
        let ctx = &mut self.ctx;
        for (ix, peer) in self.peers.iter_mut().enumerate() {
            match peer {
                Peer::Worker(worker) if ix == self.last => worker.holds = true,
                Peer::Worker(worker) => worker.drain(ctx, 0),
                _ => {}
            }
        }
        self.enter(Phase::Clearing(self.ctx.now + 3 * LONGEST_SILENCE));
    }

    fn others_have_gone(&self) -> bool {
        let gone = |(ix, peer): (PeerIx, &Peer)| match peer {
            Peer::Worker(worker) => worker.gone || ix == self.last,
            // Else another's session would be counted in its place.
            Peer::Client(client) => client.session.conversation().is_open(),
            Peer::Rogue(_) => true,
        };
        let sessions = self.server.life.as_ref().map(|life| life.machine.footprint());
        // Those that went without a word have to be given up, too.
        let clients = self
            .peers
            .iter()
            .filter(|peer| matches!(peer, Peer::Client(_)))
            .count();
        let few = sessions.is_some_and(|footprint| footprint.sessions <= clients + 1);
        few && self.peers.iter().enumerate().all(gone)
    }

    /// More jobs are submitted than the caps let out.
    fn fill(&mut self) {
        let Some(life) = &self.server.life else {
            return self
                .ctx
                .fail("the server is gone, and nothing goes wrong".to_owned());
        };
        let caps = life.config().caps.clone();
        let ctx = &mut self.ctx;
        let mut jobs = Vec::new();
        for name in &NAMES[..ctx.plan.names] {
            let cap = caps.get(*name).map_or(1, |cap| cap.get());
            for _ in 0..=cap {
                let mut job = new_job(ctx);
                job.name = (*name).to_owned();
                job.run_at = None;
                job.delay = None;
                job.timeout = None;
                jobs.push(job);
            }
        }
        if let Some(Peer::Client(client)) = self.peers.first_mut() {
            for job in jobs {
                client.submit_for_sure(ctx, vec![job]);
            }
        }
        let until = self.ctx.now + CAPS_WITHIN;
        self.enter(Phase::Filling(until));
    }

    fn ask_for_stats(&mut self) {
        self.ctx.model.judge_stats_from_now_on();
        if let Some(Peer::Client(client)) = self.peers.first_mut() {
            client.ask_for_stats(&mut self.ctx);
        }
    }

    /// As many jobs are out as the caps allow.
    fn judge_caps(&mut self) {
        let Some(life) = &self.server.life else {
            return self
                .ctx
                .fail("the server is gone, and nothing goes wrong".to_owned());
        };
        let config = life.config().clone();
        let mut most = 0;
        for name in &NAMES[..self.ctx.plan.names] {
            let ready = self.ctx.model.could_be_out(name);
            let cap = config
                .caps
                .get(*name)
                .map_or(usize::MAX, |cap| cap.get() as usize);
            most += ready.min(cap);
        }
        let expected = most
            .min(config.max_active.unwrap_or(usize::MAX))
            .min(LAST_CONCURRENCY);
        let out = self.ctx.model.out_of(None);
        let running = match &self.peers[self.last] {
            Peer::Worker(worker) => worker.running(),
            _ => 0,
        };
        if out != expected || running != expected {
            self.ctx.fail(format!(
                "the caps let {expected} jobs out, {out} are, and {running} handlers run: a place was lost, or one too many \
                 given"
            ));
        }
        self.ctx.tally.count("caps filled again");
        self.ctx.tally.add("stats judged", self.ctx.model.stats_judged);
        self.ctx.model.stop_judging_stats();
    }

    fn leave(&mut self) {
        let ctx = &mut self.ctx;
        for peer in &mut self.peers {
            match peer {
                Peer::Client(client) => client.session.close(ctx),
                Peer::Worker(worker) => worker.drain(ctx, 0),
                Peer::Rogue(_) => {}
            }
        }
        self.enter(Phase::Leaving(self.ctx.now + LONGEST_SILENCE));
    }

    /// Nothing is left of those who have gone.
    fn judge_footprint(&mut self) {
        let Some(life) = &self.server.life else {
            return self
                .ctx
                .fail("the server is gone, and nothing goes wrong".to_owned());
        };
        let footprint = life.machine.footprint();
        if footprint != jobq_server::machine::Footprint::default() {
            self.ctx.fail(format!(
                "everybody has gone, and the server still holds {footprint:?}"
            ));
        }
    }

    fn judge_end(&mut self) {
        let ctx = &mut self.ctx;
        let mut store = self.server.disk.open(u64::MAX, ctx.mutant);
        let live = store.inner().live(JobId(0), usize::MAX);
        let live = live.expect("the memory disk can be read");
        let names = store.inner().recovered().names.clone();
        ctx.model
            .judge_end(ctx.now, self.server.disk.reader(), &live, &names);
        self.phase = Phase::Over;
    }
}
