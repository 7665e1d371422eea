//! The server: the machine of production, and its driver's rules without a runtime.
//!
//! One [`Life`] is one process. It does in [`Life::round`] what one turn of the loop in `jobq-server/src/driver.rs` does,
//! in the same order, and may be killed between any two of its steps.

mod life;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jobq_proto::JobId;
use jobq_server::machine::{Config, Machine, ReadToken};
use jobq_server::store::{Read, ReadAnswer, Space, Store};
use jobq_server::time::{Mono, Now, Wall};
use jobq_transport::{Closed, PeerId, PeerInfo, RouterEvent};

use super::agenda::{Alarm, At, ConnId, Event, MILLI, SECOND};
use super::ctx::{Ctx, trace};
use super::mutants;
use super::net::Parcel;
use super::plan::{self, Span};
use super::store::{Crash, Disk, SimStore};
use super::words;

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
    /// The machine is taken to have no room as soon as the store has all batches that it takes.
    is_tight: bool,
    /// While there is no room: when it is looked next for what can be heard all the same.
    hear_at: Option<At>,
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
            is_tight: ctx.plan.tight,
            hear_at: None,
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
        ctx.model.looks_at_calendar(ctx.now, self.wall(ctx.now));
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
