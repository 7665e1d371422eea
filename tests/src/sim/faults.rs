//! What goes wrong, and how it is mended.

use jobq_server::store::Space;

use super::agenda::{At, ConnId, Event, MILLI, PeerIx, SECOND};
use super::ctx::trace;
use super::net::Cut;
use super::plan::{Fault, Span};
use super::server::Ending;
use super::store::Crash;
use super::world::{Peer, World};

/// How far somebody sets the calendar, in both directions: up to some hours.
const CALENDAR: Span = Span(SECOND, 5 * 3_600 * SECOND);

impl World {
    /// Something goes wrong.
    pub(super) fn fault(&mut self) {
        let ctx = &mut self.ctx;
        if ctx.calm || ctx.plan.faults.is_empty() {
            return;
        }
        let fault = *ctx.chance.pick(&ctx.plan.faults.clone());
        let wait = ctx.draw(ctx.plan.fault_every);
        ctx.after(wait, Event::Fault);
        trace!(ctx, "FAULT: {}", fault.name());
        ctx.tally.count(fault.name());
        match fault {
            Fault::Kill => self.server.end(ctx, Ending::Crash(Crash::Process)),
            Fault::PowerCut => self.server.end(ctx, Ending::Crash(Crash::Power)),
            Fault::Stop => self.server.stop(ctx),
            Fault::Suspend => {
                let time = ctx.draw(Span(500 * MILLI, 60 * SECOND));
                self.server.sleep(ctx, time, true);
            }
            Fault::HoldUp => {
                let time = ctx.draw(Span(50 * MILLI, 15 * SECOND));
                self.server.sleep(ctx, time, false);
            }
            Fault::Calendar => self.set_calendar(),
            Fault::SyncFails => self.server.disk.sync_fails = true,
            Fault::DiskShort | Fault::DiskFull => {
                let room = if fault == Fault::DiskFull {
                    Space::Full
                } else {
                    Space::Short
                };
                let time = ctx.draw(Span(200 * MILLI, 20 * SECOND));
                ctx.after(time, Event::Room);
                self.server.set_room(ctx, room);
            }
            Fault::SlowDisk => {
                self.server.disk.slow_until = ctx.now + ctx.draw(Span(SECOND, 15 * SECOND));
            }
            Fault::Cut => self.cut(),
            Fault::Stall => self.stall(),
            Fault::Partition => self.partition(),
            Fault::Double => self.double(),
            Fault::WorkerDies
            | Fault::WorkerVanishes
            | Fault::WorkerSuspends
            | Fault::WorkerDrains
            | Fault::ClientDies => self.trouble(fault),
        }
    }

    fn set_calendar(&mut self) {
        let ctx = &mut self.ctx;
        let by = i64::try_from(ctx.draw(CALENDAR)).unwrap_or(0);
        let by = if ctx.chance.percent(50) { by } else { -by };
        // Somebody sets it right again, as often as not.
        self.server.calendar = if ctx.chance.percent(40) {
            0
        } else {
            self.server.calendar + by
        };
        trace!(
            ctx,
            "the calendar is wrong by {} s",
            self.server.calendar / 1_000_000
        );
        ctx.model.wall = self.server.wall(ctx.now);
    }

    fn some_conn(&mut self) -> Option<ConnId> {
        let ids: Vec<ConnId> = self.ctx.net.conns.keys().copied().collect();
        (!ids.is_empty()).then(|| *self.ctx.chance.pick(&ids))
    }

    fn cut(&mut self) {
        let Some(id) = self.some_conn() else { return };
        let kinds = [Cut::Both, Cut::Both, Cut::PeerOnly, Cut::ServerOnly, Cut::Nobody];
        let kind = *self.ctx.chance.pick(&kinds);
        trace!(self.ctx, "{id} is cut: {kind:?}");
        self.ctx.tally.count(match kind {
            Cut::Both => "cuts that both sides saw",
            Cut::PeerOnly => "cuts that only the peer saw",
            Cut::ServerOnly => "cuts that only the server saw",
            Cut::Nobody => "cuts that nobody saw",
        });
        self.ctx.cut(id, kind);
    }

    fn stall(&mut self) {
        let Some(id) = self.some_conn() else { return };
        let until = self.ctx.now + self.ctx.draw(Span(20 * MILLI, 45 * SECOND));
        let (up, down) = *self
            .ctx
            .chance
            .pick(&[(true, false), (false, true), (true, true)]);
        trace!(self.ctx, "{id} stalls until {until} (up {up}, down {down})");
        self.ctx.stall(id, up, down, until);
    }

    fn partition(&mut self) {
        let peers = self.peers.len() as u64;
        let peer = self.ctx.chance.between(0, peers - 1) as PeerIx;
        let until = self.ctx.now + self.ctx.draw(Span(SECOND, 50 * SECOND));
        trace!(self.ctx, "peer {peer} is partitioned until {until}");
        self.ctx.net.partitions.insert(peer, until);
        let conns: Vec<ConnId> = self
            .ctx
            .net
            .conns
            .iter()
            .filter(|(_, conn)| conn.peer == Some(peer))
            .map(|(id, _)| *id)
            .collect();
        for id in conns {
            self.ctx.stall(id, true, true, until);
        }
    }

    /// What a peer has said is said again, by nobody, on a connection of its own.
    fn double(&mut self) {
        let Some(id) = self.some_conn() else { return };
        let Some(conn) = self.ctx.conn(id) else { return };
        let said = conn.said.clone();
        let count = self.ctx.chance.between(0, said.len() as u64) as usize;
        let double = self.ctx.connect(None);
        trace!(self.ctx, "{id} is doubled as {double}: {count} of its messages");
        self.ctx.model.connection_is_doubled();
        self.doubles
            .insert(double, said.into_iter().take(count).collect());
    }

    fn trouble(&mut self, fault: Fault) {
        let fits = |peer: &Peer| match peer {
            Peer::Client(_) => fault == Fault::ClientDies,
            Peer::Worker(worker) => fault != Fault::ClientDies && !worker.gone,
            Peer::Rogue(_) => false,
        };
        let some: Vec<PeerIx> = (0..self.peers.len())
            .filter(|ix| fits(&self.peers[*ix]))
            .collect();
        if some.is_empty() {
            return;
        }
        let ctx = &mut self.ctx;
        let peer = *ctx.chance.pick(&some);
        trace!(ctx, "it is peer {peer}");
        match (&mut self.peers[peer], fault) {
            (Peer::Client(client), _) => client.die(ctx),
            (Peer::Worker(worker), Fault::WorkerDies) => worker.die(ctx),
            (Peer::Worker(worker), Fault::WorkerVanishes) => worker.vanish(ctx),
            (Peer::Worker(worker), Fault::WorkerSuspends) => {
                let time = ctx.draw(Span(SECOND, 70 * SECOND));
                worker.sleep(ctx, time);
            }
            (Peer::Worker(worker), _) => {
                let within: At = ctx.draw(Span(0, 8 * SECOND));
                worker.drain(ctx, within);
            }
            (Peer::Rogue(_), _) => {}
        }
    }

    /// All that was broken is mended.
    pub(super) fn mend(&mut self) {
        let ctx = &mut self.ctx;
        ctx.calm = true;
        trace!(ctx, "nothing goes wrong any more");
        self.server.disk.sync_fails = false;
        self.server.disk.slow_until = 0;
        self.server.set_room(ctx, Space::Enough);
        ctx.net.partitions.clear();
        if let Some(life) = &mut self.server.life {
            life.wake_up();
        }
        self.server.nudge(ctx);
        for peer in &mut self.peers {
            if let Peer::Worker(worker) = peer {
                worker.calm(ctx);
            }
        }
    }
}
