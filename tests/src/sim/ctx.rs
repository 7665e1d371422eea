//! What everybody in a simulated world uses: time, chance, the network, and whoever takes notes.

use super::agenda::{Agenda, Alarm, At, ConnId, Event, PeerIx};
use super::model::Model;
use super::mutants::Mutant;
use super::net::Net;
use super::plan::{Plan, Span};
use super::trace::{Tally, Trace};
use crate::Chance;

/// The world without those who live in it.
pub(super) struct Ctx {
    pub(super) now: At,
    pub(super) agenda: Agenda,
    pub(super) chance: Chance,
    pub(super) plan: Plan,
    pub(super) net: Net,
    pub(super) model: Model,
    pub(super) trace: Trace,
    pub(super) tally: Tally,
    pub(super) mutant: Option<Mutant>,
    /// Nothing goes wrong any more.
    pub(super) calm: bool,
    /// The life of the server that takes connections.
    pub(super) listening: Option<u64>,
    /// What was wrong first.
    pub(super) wrong: Option<String>,
}

/// Writes a line of the trace.
macro_rules! trace {
    ($ctx:expr, $($what:tt)*) => {
        $ctx.trace.line($ctx.now, format_args!($($what)*))
    };
}
pub(super) use trace;

impl Ctx {
    /// Something is wrong: the run is over.
    pub(super) fn fail(&mut self, what: String) {
        trace!(self, "WRONG: {what}");
        self.wrong.get_or_insert(what);
    }

    /// Takes over what the model found wrong, if anything.
    pub(super) fn judge(&mut self) {
        if let Some(what) = self.model.wrong.take() {
            self.fail(what);
        }
    }

    pub(super) fn draw(&mut self, span: Span) -> At {
        span.draw(&mut self.chance)
    }

    pub(super) fn after(&mut self, wait: At, event: Event) {
        self.agenda.put(self.now + wait, event);
    }

    /// Puts an alarm down, unless an earlier one is.
    pub(super) fn wake(&mut self, alarm: &mut Alarm, at: At, event: Event) {
        let at = at.max(self.now);
        if alarm.set(at) {
            self.agenda.put(at, event);
        }
    }

    /// Has a peer look at what there is, at once.
    pub(super) fn nudge(&mut self, alarm: &mut Alarm, peer: PeerIx) {
        self.wake(alarm, self.now, Event::Peer(peer));
    }

    pub(super) fn conn(&mut self, conn: ConnId) -> Option<&mut super::net::Conn> {
        self.net.conns.get_mut(&conn)
    }
}
