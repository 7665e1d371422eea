//! The server: the machine of production, and its driver's rules without a runtime.
//!
//! One [`Life`] is one process. It does in [`Life::round`] what one turn of the loop in `jobq-server/src/driver.rs` does,
//! in the same order, and may be killed between any two of its steps.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jobq_proto::JobId;
use jobq_server::machine::{Config, Machine, ReadToken, Transmit};
use jobq_server::store::{Read, ReadAnswer, Space, Store, StoreEvent};
use jobq_server::time::{Mono, Now, Wall};
use jobq_transport::{CloseReason, Closed, PeerId, PeerInfo, RouterEvent};

use super::agenda::{Alarm, At, ConnId, Event, MILLI, SECOND};
use super::ctx::{Ctx, trace};
use super::mutants;
use super::net::Parcel;
use super::plan::{self, Span};
use super::store::{Crash, Disk, SimStore};
use super::words;

/// Batches out at a time, as the driver has it.
const MAX_BATCHES: usize = 2;

/// How often the router is emptied before timers fire, as the driver has it.
const ROUNDS_BEFORE_TIMERS: usize = 64;

/// What the driver calls a pause.
const PAUSE: At = SECOND;

/// Jobs loaded at a time.
const LOAD_JOBS: usize = 100;

/// The calendar at the beginning, and the clock that never goes back.
const WALL_AT_START: i64 = 1_800_000_000_000_000;
const MONO_AT_START: u64 = 1_000_000_000;

/// The server, through all its lives.
pub(super) struct Server {
    pub(super) disk: Disk,
    pub(super) life: Option<Box<Life>>,
    lives: u64,
    config: Config,
    /// By how much the calendar is wrong, in microseconds.
    pub(super) calendar: i64,
    /// It is to stay as it is.
    pub(super) keeps_config: bool,
}

/// A process of the server.
pub(super) struct Life {
    number: u64,
    pub(super) machine: Machine,
    store: SimStore,
    config: Config,
    /// What has arrived and was not taken from the router.
    router: VecDeque<RouterEvent>,
    /// What was taken and not handed to the machine.
    inbox: VecDeque<RouterEvent>,
    reads: BTreeMap<u64, Reading>,
    last_read: u64,
    answered: VecDeque<(ReadToken, ReadAnswer)>,
    batches_out: usize,
    space: Space,
    sync_failed: bool,
    /// It is to stop, and waits for settlements until then.
    stop: Option<At>,
    busy_until: At,
    /// It gets no processor until then.
    asleep_until: At,
    /// It was suspended for so long since it looked last.
    suspended: At,
    alarm: Alarm,
}

/// A question on its way.
struct Reading {
    token: ReadToken,
    read: Read,
    /// What the store said, if it looked at once.
    answer: Option<ReadAnswer>,
}

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Killed, or without power, or without a disk that can be trusted.
    Crash(Crash),
    /// Stopped in order.
    Stopped,
    /// It was to stop, and the disk had no room for what was to be kept.
    NoRoom,
}

impl Server {
    pub(super) fn new(config: Config) -> Self {
        Self {
            disk: Disk::new(Wall(WALL_AT_START)),
            life: None,
            lives: 0,
            config,
            calendar: 0,
            keeps_config: false,
        }
    }

    /// Both its clocks. A mutant's calendar is ahead.
    pub(super) fn now(&self, ctx: &Ctx) -> Now {
        let ahead = mutants::calendar_ahead(ctx.mutant);
        Now {
            mono: Mono(MONO_AT_START + ctx.now),
            wall: Wall(self.wall(ctx.now) + ahead),
        }
    }

    /// The calendar as it is.
    pub(super) fn wall(&self, now: At) -> i64 {
        WALL_AT_START + self.calendar + i64::try_from(now).unwrap_or(i64::MAX)
    }

    /// A process begins: it opens the store, takes in what it holds, and only then listens.
    pub(super) fn start(&mut self, ctx: &mut Ctx) {
        if self.life.is_some() {
            return;
        }
        self.lives += 1;
        if self.lives > 1 && !self.keeps_config && ctx.chance.percent(50) {
            plan::set_limits(&mut ctx.chance, &mut self.config, ctx.plan.names);
        }
        let number = self.lives;
        let mut store = self.disk.open(number, ctx.mutant);
        let recovered = store.inner().recovered().clone();
        let mut seed = [0; 32];
        for part in seed.chunks_mut(8) {
            part.copy_from_slice(&ctx.chance.draw().to_le_bytes());
        }
        let mut now = self.now(ctx);
        let mut machine = Machine::new(self.config.clone(), &recovered, seed, now);
        let mut live = Vec::new();
        let mut after = JobId(0);
        loop {
            let page = store.inner().live(after, LOAD_JOBS);
            let page = page.expect("the memory disk can be read");
            let Some(last) = page.last() else { break };
            after = last.id;
            live.extend(page.iter().cloned());
            machine.load(page);
        }
        trace!(
            ctx,
            "server starts: life {number}, epoch {}, {} live jobs, {} sessions",
            recovered.epoch,
            live.len(),
            recovered.sessions.len()
        );
        ctx.tally.count("server starts");
        let loading = ctx.chance.between(0, 300) * MILLI;
        let loaded = Duration::from_micros(loading);
        now.mono = now.mono.plus(loaded);
        now.wall = now.wall.plus(loaded);
        machine.begin(now);
        if self.disk.room != Space::Enough {
            store.room(self.disk.room);
        }
        let mut life = Life {
            number,
            machine,
            store,
            config: self.config.clone(),
            router: VecDeque::new(),
            inbox: VecDeque::new(),
            reads: BTreeMap::new(),
            last_read: 0,
            answered: VecDeque::new(),
            batches_out: 0,
            space: Space::Enough,
            sync_failed: false,
            stop: None,
            busy_until: ctx.now + loading,
            asleep_until: 0,
            suspended: 0,
            alarm: Alarm::default(),
        };
        ctx.listening = Some(number);
        ctx.model.server_started(ctx.now, &recovered, &live, &self.config);
        life.ring(ctx, ctx.now + loading);
        self.life = Some(Box::new(life));
    }

    /// The server's alarm has gone off.
    pub(super) fn ring(&mut self, ctx: &mut Ctx, number: u64) {
        let now = self.now(ctx);
        let Some(life) = self.life.as_mut().filter(|life| life.number == number) else {
            return;
        };
        if !life.alarm.rings(ctx.now) {
            return;
        }
        let awake_at = life.busy_until.max(life.asleep_until);
        if awake_at > ctx.now {
            return life.ring(ctx, awake_at);
        }
        match life.round(ctx, &mut self.disk, now) {
            Ok(()) => life.ring_when_due(ctx, now),
            Err(ending) => self.end(ctx, ending),
        }
    }

    /// Something has arrived at the server's end of a connection.
    pub(super) fn arrives(&mut self, ctx: &mut Ctx, id: ConnId) {
        let Some(life) = &mut self.life else { return };
        if ctx.conn(id).is_none_or(|conn| conn.life != Some(life.number)) {
            return;
        }
        let peer = PeerId(id);
        while let Some(parcel) = ctx.take_up(id) {
            life.router.push_back(match parcel {
                Parcel::Message(message, _) => RouterEvent::Message {
                    peer,
                    message: *message,
                },
                Parcel::Open | Parcel::End => RouterEvent::Closed {
                    peer,
                    why: Closed::PeerGone,
                },
            });
        }
        life.ring(ctx, ctx.now);
    }

    /// Somebody connects.
    pub(super) fn knocks(&mut self, ctx: &mut Ctx, id: ConnId) -> bool {
        if !ctx.knocks(id) {
            return false;
        }
        let Some(life) = &mut self.life else { return false };
        life.router.push_back(RouterEvent::Opened {
            peer: PeerId(id),
            info: PeerInfo {
                transport: "memory",
                address: format!("conn {id}"),
                identity: None,
            },
        });
        life.ring(ctx, ctx.now);
        true
    }

    /// A connection's time for its Hello is over.
    pub(super) fn hello_over(&mut self, ctx: &mut Ctx, id: ConnId) {
        let Some(life) = &mut self.life else { return };
        let number = life.number;
        let late = ctx
            .conn(id)
            .is_some_and(|conn| conn.server_open && !conn.admitted && conn.life == Some(number));
        if late {
            ctx.tally.count("connections without Hello");
            ctx.close_by_server(id);
            life.router.push_back(RouterEvent::Closed {
                peer: PeerId(id),
                why: Closed::PeerGone,
            });
            life.ring(ctx, ctx.now);
        }
    }

    /// A group of batches is on disk.
    pub(super) fn synced(&mut self, ctx: &mut Ctx, number: u64) {
        let Some(life) = self.life.as_mut().filter(|life| life.number == number) else {
            return;
        };
        if life.store.synced(ctx, &mut self.disk).is_err() {
            life.sync_failed = true;
        }
        if self.disk.room == Space::Full && life.space != Space::Full && !life.store.is_idle() {
            life.store.room(Space::Full);
        }
        life.ring(ctx, ctx.now);
    }

    /// The store has answered a question.
    pub(super) fn read(&mut self, ctx: &mut Ctx, number: u64, reading: u64) {
        let Some(life) = self.life.as_mut().filter(|life| life.number == number) else {
            return;
        };
        if let Some(Reading { token, read, answer }) = life.reads.remove(&reading) {
            let answer = answer.unwrap_or_else(|| self.disk.answer(&read));
            trace!(ctx, "is answered {}", words::read(&read));
            life.answered.push_back((token, answer));
            life.ring(ctx, ctx.now);
        }
    }

    /// There is more room on the disk, or less.
    pub(super) fn set_room(&mut self, ctx: &mut Ctx, room: Space) {
        trace!(ctx, "room on the disk: {room:?}");
        let was = self.disk.room;
        self.disk.set_room(room, ctx.mutant);
        // A disk without any room is noticed when something is to be written to it.
        let told = if room == Space::Full { Space::Short } else { room };
        if let Some(life) = self.life.as_mut().filter(|_| was != room) {
            life.store.room(told);
            life.ring(ctx, ctx.now);
        }
    }

    /// The server is told to stop.
    pub(super) fn stop(&mut self, ctx: &mut Ctx) {
        if let Some(life) = self.life.as_mut().filter(|life| life.stop.is_none()) {
            let within = u64::try_from(life.config.close_within.as_micros()).unwrap_or(SECOND);
            life.stop = Some(ctx.now + within);
            ctx.model.server_stops();
            life.ring(ctx, ctx.now);
        }
    }

    /// It gets no processor for a while, or its computer is suspended.
    pub(super) fn sleep(&mut self, ctx: &mut Ctx, time: At, suspended: bool) {
        if let Some(life) = &mut self.life {
            life.asleep_until = life.asleep_until.max(ctx.now + time);
            if suspended {
                life.suspended += time;
            }
            life.ring(ctx, life.asleep_until);
        }
    }

    /// It looks at what there is.
    pub(super) fn nudge(&mut self, ctx: &mut Ctx) {
        if let Some(life) = &mut self.life {
            life.ring(ctx, ctx.now);
        }
    }

    /// The process ends.
    pub(super) fn end(&mut self, ctx: &mut Ctx, ending: Ending) {
        let Some(mut life) = self.life.take() else { return };
        trace!(ctx, "server ends: {ending:?}");
        ctx.listening = None;
        let power = ending == Ending::Crash(Crash::Power);
        ctx.model.server_ended(ctx.now);
        if ending == Ending::Stopped {
            ctx.tally.count("servers stopped in order");
            life.machine.close_peers();
            life.say_last_words(ctx);
        }
        ctx.server_gone(power);
        let how = match ending {
            Ending::Crash(how) => how,
            Ending::Stopped | Ending::NoRoom => Crash::Process,
        };
        life.store.crash(ctx, &mut self.disk, how);
        ctx.model.batches_lost();
        let away = match ctx.chance.between(0, 9) {
            _ if ctx.calm => Span(MILLI, SECOND),
            0 => Span(20 * SECOND, 70 * SECOND),
            1..=3 => Span(2 * SECOND, 12 * SECOND),
            _ => Span(20 * MILLI, 2 * SECOND),
        };
        let wait = ctx.draw(away);
        ctx.after(wait, Event::Start);
    }
}

impl Life {
    /// It gets a processor again.
    pub(super) fn wake_up(&mut self) {
        self.asleep_until = 0;
    }

    /// What it was configured with.
    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    fn ring(&mut self, ctx: &mut Ctx, at: At) {
        ctx.wake(&mut self.alarm, at, Event::Server(self.number));
    }

    fn ring_when_due(&mut self, ctx: &mut Ctx, now: Now) {
        self.busy_until = ctx.now + ctx.draw(ctx.plan.round);
        let accepts = self.machine.accepts();
        let arrived = accepts && !(self.inbox.is_empty() && self.router.is_empty());
        if arrived || self.store.has_news() || !self.answered.is_empty() || self.sync_failed {
            return self.ring(ctx, self.busy_until);
        }
        if let Some(due) = self.machine.poll_timeout().filter(|_| accepts) {
            let wait = u64::try_from(due.since(now.mono).as_micros()).unwrap_or(At::MAX / 2);
            // Timers of the runtime go by the millisecond.
            let late = ctx.chance.between(1, 2 * MILLI);
            let at = ctx.now.saturating_add(wait).saturating_add(late);
            self.ring(ctx, at.max(self.busy_until));
        }
        if let Some(until) = self.stop.filter(|until| *until > ctx.now) {
            self.ring(ctx, until);
        }
    }

    /// One turn of the driver's loop, from what has happened to what follows.
    fn round(&mut self, ctx: &mut Ctx, disk: &mut Disk, now: Now) -> Result<(), Ending> {
        if std::mem::take(&mut self.suspended) > PAUSE {
            ctx.tally.count("suspends noticed");
            self.machine.handle_pause(now);
        }
        if self.sync_failed {
            return Err(Ending::Crash(Crash::Sync));
        }
        ctx.model.round_begins(
            ctx.now,
            now.wall.0 - mutants::calendar_ahead(ctx.mutant),
            !self.no_records_read(),
        );
        // Whichever is ready: the runtime chooses by chance, too.
        match ctx.chance.between(0, 2) {
            0 => self.take_store_event(now),
            1 => self.take_answer(now),
            _ => {}
        }
        self.timeouts(ctx, now)?;
        while self.batches_out > 0 && self.store.has_news() {
            self.take_store_event(now);
            ctx.may_be_killed()?;
        }
        while !self.answered.is_empty() {
            self.take_answer(now);
        }
        if self.machine.accepts() && self.inbox.is_empty() {
            self.inbox.append(&mut self.router);
        }
        self.hand_in(ctx, now)?;
        self.carry_out(ctx, disk, now)?;
        self.stop_if_due(ctx, disk, now)?;
        if self.batches_out == 0 && self.store.has_news() {
            self.take_store_event(now);
            self.carry_out(ctx, disk, now)?;
        }
        ctx.model.round_ends(ctx.now, self.no_records_read());
        ctx.judge();
        Ok(())
    }

    fn no_records_read(&self) -> bool {
        self.answered.is_empty()
            && !self
                .reads
                .values()
                .any(|reading| matches!(reading.read, Read::Records(_)))
    }

    fn take_store_event(&mut self, now: Now) {
        match self.store.recv() {
            Some(StoreEvent::Stored(stored)) => {
                self.batches_out -= 1;
                self.machine.handle_stored(now, stored);
            }
            Some(StoreEvent::Pruned(pruned)) => self.machine.handle_pruned(now, pruned),
            Some(StoreEvent::Space(space)) => {
                self.space = space;
                self.machine.handle_space(now, space);
            }
            None => {}
        }
    }

    fn take_answer(&mut self, now: Now) {
        if let Some((token, answer)) = self.answered.pop_front() {
            self.machine.handle_read(now, token, answer);
        }
    }

    /// Something may be due; but first everything that has arrived before is handled.
    fn timeouts(&mut self, ctx: &mut Ctx, now: Now) -> Result<(), Ending> {
        let due = self.machine.poll_timeout().filter(|due| *due <= now.mono);
        let Some(due) = due.filter(|_| self.machine.accepts()) else {
            return Ok(());
        };
        let late = now.mono.since(due);
        if late > Duration::from_micros(PAUSE) {
            ctx.tally.count("timers that were very late");
            self.machine.handle_pause(now);
        }
        for _ in 0..ROUNDS_BEFORE_TIMERS {
            self.hand_in(ctx, now)?;
            if !self.machine.accepts() {
                return Ok(());
            }
            if self.router.is_empty() {
                break;
            }
            self.inbox.append(&mut self.router);
        }
        ctx.may_be_killed()?;
        self.machine.handle_timeout(now);
        Ok(())
    }

    fn hand_in(&mut self, ctx: &mut Ctx, now: Now) -> Result<(), Ending> {
        while self.machine.accepts() {
            let Some(event) = self.inbox.pop_front() else {
                break;
            };
            match event {
                RouterEvent::Opened { peer, info } => self.machine.handle_opened(now, peer, info),
                RouterEvent::Message { peer, message } => {
                    ctx.model.server_hears(ctx.now, peer.0, &message);
                    for (peer, message) in mutants::hear(ctx, peer.0, message) {
                        self.machine.handle_message(now, PeerId(peer), message);
                    }
                }
                RouterEvent::Closed { peer, .. } => {
                    trace!(ctx, "{peer} has ended");
                    ctx.model.server_sees_end(ctx.now, peer.0);
                    self.machine.handle_closed(now, peer);
                }
            }
            ctx.may_be_killed()?;
        }
        Ok(())
    }

    /// Does what the machine wants: batches first, since the others wait for them.
    fn carry_out(&mut self, ctx: &mut Ctx, disk: &mut Disk, now: Now) -> Result<(), Ending> {
        while self.batches_out < MAX_BATCHES
            && let Some(batch) = self.machine.poll_batch()
        {
            self.batches_out += 1;
            self.store.commit(ctx, disk, batch);
            ctx.may_be_killed()?;
        }
        if let Some(prune) = self.machine.poll_prune() {
            self.store.prune(ctx, disk, prune);
        }
        while let Some(asked) = self.machine.poll_read() {
            self.last_read += 1;
            ctx.model.reading |= matches!(asked.read, Read::Records(_));
            trace!(ctx, "asks {}", words::read(&asked.read));
            let answer = ctx.chance.percent(50).then(|| disk.answer(&asked.read));
            let reading = Reading {
                token: asked.token,
                read: asked.read,
                answer,
            };
            self.reads.insert(self.last_read, reading);
            let wait = ctx.draw(ctx.plan.read);
            ctx.after(wait, Event::Read(self.number, self.last_read));
        }
        while let Some(transmit) = self.machine.poll_transmit() {
            self.transmit(ctx, disk, now, transmit);
            ctx.may_be_killed()?;
        }
        Ok(())
    }

    fn transmit(&mut self, ctx: &mut Ctx, disk: &Disk, now: Now, transmit: Transmit) {
        match transmit {
            Transmit::Offer(peer, message) if ctx.queued(peer.0) > ctx.plan.max_queued => {
                ctx.tally.count("offers to peers that read slowly");
                self.machine.handle_no_room(now, peer, message);
            }
            Transmit::Send(peer, message) | Transmit::Offer(peer, message) => {
                for (peer, message) in mutants::say(ctx, peer.0, message) {
                    ctx.model.server_says(ctx.now, peer, &message, disk.reader());
                    ctx.judge();
                    ctx.send_down(peer, message);
                }
            }
            Transmit::Admit(peer, _) => ctx.admit(peer.0),
            Transmit::Close(peer, last, why) => {
                if let Some(last) = last {
                    ctx.model.server_says(ctx.now, peer.0, &last, disk.reader());
                    ctx.send_down(peer.0, last);
                }
                self.close(ctx, peer, why);
            }
        }
    }

    fn close(&mut self, ctx: &mut Ctx, peer: PeerId, why: CloseReason) {
        trace!(ctx, "{peer} is closed: {why}");
        ctx.model.server_closes(ctx.now, peer.0);
        let number = self.number;
        if ctx
            .conn(peer.0)
            .is_none_or(|conn| !conn.server_open || conn.life != Some(number))
        {
            return;
        }
        ctx.close_by_server(peer.0);
        self.router.push_back(RouterEvent::Closed {
            peer,
            why: Closed::ByUs(why),
        });
    }

    fn stop_if_due(&mut self, ctx: &mut Ctx, disk: &mut Disk, now: Now) -> Result<(), Ending> {
        let Some(until) = self.stop else { return Ok(()) };
        self.machine.handle_shutdown(now);
        self.carry_out(ctx, disk, now)?;
        let give_up = ctx.now >= until;
        if self.machine.is_drained() || (give_up && self.machine.is_idle()) {
            return Err(Ending::Stopped);
        }
        if give_up && self.space == Space::Full {
            return Err(Ending::NoRoom);
        }
        Ok(())
    }

    fn say_last_words(&mut self, ctx: &mut Ctx) {
        while let Some(transmit) = self.machine.poll_transmit() {
            match transmit {
                Transmit::Send(peer, message) => ctx.send_down(peer.0, message),
                Transmit::Close(peer, last, _) => {
                    if let Some(last) = last {
                        ctx.send_down(peer.0, last);
                    }
                    ctx.close_by_server(peer.0);
                }
                Transmit::Offer(..) | Transmit::Admit(..) => {}
            }
        }
    }
}

impl Ctx {
    /// Whether the server is killed at this very step.
    fn may_be_killed(&mut self) -> Result<(), Ending> {
        if self.plan.kill_ppm == 0 || self.calm || self.chance.between(1, 1_000_000) > self.plan.kill_ppm {
            return Ok(());
        }
        self.tally.count("server killed between two steps");
        let how = if self.chance.percent(50) {
            Crash::Process
        } else {
            Crash::Power
        };
        Err(Ending::Crash(how))
    }
}
