//! One process of the server: a turn of the driver's loop, in the driver's order.

use std::collections::BTreeSet;
use std::time::Duration;

use jobq_server::machine::{Config, Transmit};
use jobq_server::store::{Read, Space, StoreEvent};
use jobq_server::time::Now;
use jobq_transport::{CloseReason, Closed, PeerId, RouterEvent};

use super::super::agenda::{At, Event, MILLI, SECOND};
use super::super::ctx::{Ctx, trace};
use super::super::store::{Crash, Disk};
use super::super::{mutants, words};
use super::{Ending, Life, Reading};

/// Batches out at a time, as the driver has it.
const MAX_BATCHES: usize = 2;

/// How often the router is emptied before timers fire, as the driver has it.
const ROUNDS_BEFORE_TIMERS: usize = 64;

/// What the driver calls a pause.
const PAUSE: At = SECOND;

/// While there is no room: how often the driver looks for what can be heard all the same.
const HEAR_EVERY: At = 100 * MILLI;

impl Life {
    /// It gets a processor again.
    pub(in crate::sim) fn wake_up(&mut self) {
        self.asleep_until = 0;
    }

    /// What it was configured with.
    pub(in crate::sim) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn ring(&mut self, ctx: &mut Ctx, at: At) {
        ctx.wake(&mut self.alarm, at, Event::Server(self.number));
    }

    /// Whether there is room for more. In tight worlds there is none as soon as the store has all that it takes, as if the
    /// batch that fills were full: what that holds is more than a simulated world has.
    fn accepts(&self) -> bool {
        self.machine.accepts() && !(self.is_tight && self.batches_out >= MAX_BATCHES)
    }

    pub(super) fn ring_when_due(&mut self, ctx: &mut Ctx, now: Now) {
        self.busy_until = ctx.now + ctx.draw(ctx.plan.round);
        let accepts = self.accepts();
        let arrived = accepts && !(self.inbox.is_empty() && self.router.is_empty());
        self.hear_at = (!accepts).then(|| self.hear_at.unwrap_or(ctx.now + HEAR_EVERY));
        if arrived || self.store.has_news() || !self.answered.is_empty() || self.sync_failed {
            return self.ring(ctx, self.busy_until);
        }
        if let Some(at) = self.hear_at {
            self.ring(ctx, at.max(self.busy_until));
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
    pub(super) fn round(&mut self, ctx: &mut Ctx, disk: &mut Disk, now: Now) -> Result<(), Ending> {
        if std::mem::take(&mut self.suspended) > PAUSE {
            ctx.tally.count("suspends noticed");
            ctx.model.server_pauses(ctx.now);
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
        if self.hear_at.is_some_and(|at| at <= ctx.now) {
            self.hear(ctx, now)?;
        }
        while self.batches_out > 0 && self.store.has_news() {
            self.take_store_event(now);
            ctx.may_be_killed()?;
        }
        while !self.answered.is_empty() {
            self.take_answer(now);
        }
        if self.accepts() && self.inbox.is_empty() {
            self.inbox.append(&mut self.router);
        }
        self.hand_in(ctx, now)?;
        self.carry_out(ctx, disk, now)?;
        self.stop_if_due(ctx, disk, now)?;
        if self.batches_out == 0 && self.store.has_news() {
            self.take_store_event(now);
            self.carry_out(ctx, disk, now)?;
        }
        ctx.model
            .round_ends(ctx.now, self.no_records_read(), self.is_idle());
        ctx.judge();
        Ok(())
    }

    /// Whether nothing has arrived that is not dealt with, and nothing is asked of the store.
    pub(in crate::sim) fn is_quiet(&self) -> bool {
        let footprint = self.machine.footprint();
        let arrived = !self.router.is_empty() || !self.inbox.is_empty() || self.store.has_news();
        let asked = !self.reads.is_empty() || !self.answered.is_empty() || footprint.reads > 0;
        !arrived && !asked && footprint.effects == 0 && self.batches_out == 0
    }

    fn no_records_read(&self) -> bool {
        self.answered.is_empty()
            && !self
                .reads
                .values()
                .any(|reading| matches!(reading.read, Read::Records(_)))
    }

    /// Whether all that the store has told is handled, and it is asked for no job's state.
    fn is_idle(&self) -> bool {
        let asks = |reading: &Reading| matches!(reading.read, Read::States { .. });
        !self.store.has_news() && self.answered.is_empty() && !self.reads.values().any(asks)
    }

    fn take_store_event(&mut self, now: Now) {
        match self.store.recv() {
            Some(StoreEvent::Stored(stored)) => {
                self.batches_out -= 1;
                self.machine.handle_stored(now, stored);
            }
            Some(StoreEvent::Pruned(pruned)) => self.machine.handle_pruned(now, pruned),
            Some(StoreEvent::Backup(report)) => self.machine.handle_backup(now, report),
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
        if !self.accepts() {
            return Ok(());
        }
        let Some(due) = self.machine.poll_timeout().filter(|due| *due <= now.mono) else {
            ctx.model.timers_fired(ctx.now);
            return Ok(());
        };
        let late = now.mono.since(due);
        if late > Duration::from_micros(PAUSE) {
            ctx.tally.count("timers that were very late");
            ctx.model.server_pauses(ctx.now);
            self.machine.handle_pause(now);
        }
        for _ in 0..ROUNDS_BEFORE_TIMERS {
            self.hand_in(ctx, now)?;
            if !self.accepts() {
                return Ok(());
            }
            if self.router.is_empty() {
                break;
            }
            self.inbox.append(&mut self.router);
        }
        ctx.may_be_killed()?;
        ctx.model.timers_fired(ctx.now);
        self.machine.handle_timeout(now);
        Ok(())
    }

    fn hand_in(&mut self, ctx: &mut Ctx, now: Now) -> Result<(), Ending> {
        while self.accepts() {
            let Some(event) = self.inbox.pop_front() else {
                break;
            };
            self.handle(ctx, now, event)?;
        }
        Ok(())
    }

    fn handle(&mut self, ctx: &mut Ctx, now: Now, event: RouterEvent) -> Result<(), Ending> {
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
        ctx.may_be_killed()
    }

    /// There is no room: what can be heard all the same is handed in, and the rest waits, in order for each peer.
    fn hear(&mut self, ctx: &mut Ctx, now: Now) -> Result<(), Ending> {
        self.hear_at = None;
        self.take_some();
        let mut behind = BTreeSet::new();
        for event in std::mem::take(&mut self.inbox) {
            let peer = event.peer();
            if self.is_heard(&event, behind.contains(&peer)) {
                ctx.tally.count("things heard while the store was stuck");
                self.handle(ctx, now, event)?;
            } else {
                behind.insert(peer);
                self.inbox.push_back(event);
            }
        }
        Ok(())
    }

    /// Takes from the router what can be heard, as the router gives it: an end stays behind what stays.
    fn take_some(&mut self) {
        let waiting: BTreeSet<PeerId> = self.inbox.iter().map(RouterEvent::peer).collect();
        let mut left = BTreeSet::new();
        for event in std::mem::take(&mut self.router) {
            let peer = event.peer();
            let is_message = matches!(event, RouterEvent::Message { .. });
            let behind = left.contains(&peer) || (is_message && waiting.contains(&peer));
            if self.is_heard(&event, behind) {
                self.inbox.push_back(event);
            } else {
                left.insert(peer);
                self.router.push_back(event);
            }
        }
    }

    fn is_heard(&mut self, event: &RouterEvent, behind: bool) -> bool {
        match event {
            RouterEvent::Opened { .. } => true,
            RouterEvent::Message { peer, message } => self.machine.hears(*peer, message, behind),
            RouterEvent::Closed { .. } => !behind,
        }
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

    pub(super) fn say_last_words(&mut self, ctx: &mut Ctx) {
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
