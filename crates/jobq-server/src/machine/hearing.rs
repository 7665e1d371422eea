//! What is heard while there is no room for changes.
//!
//! A store can be stuck for as long as a disk is full. Workers that hear nothing for most of the time-to-live stop what
//! they run, so sessions have to live on meanwhile, and whatever needs nothing from the store can be answered.

use jobq_proto::ServerMessage;
use jobq_proto::message::{Hello, Work};
use jobq_transport::PeerId;

use super::Machine;
use super::access::{Grant, Waiting};
use super::sessions::HoldingState;
use crate::store::SessionId;
use crate::time::Now;

impl Machine {
    /// [`Machine::accepts`] has been false for a while: the store is stuck. Answers the Hellos that had to wait and need
    /// nothing from it. Their peers would else keep others from being let in for as long as that lasts.
    pub fn handle_hearing(&mut self, now: Now) {
        self.tick(now);
        self.pending.notice_stuck();
        self.answer_hellos(|machine, peer| {
            let known = machine.peers.find(peer);
            let Some(waiting) = known.and_then(|known| known.waiting.take()) else {
                return true;
            };
            let is_heard = match &waiting {
                Waiting::Refusal => true,
                Waiting::Hello(hello) => machine.needs_no_record(peer, hello),
            };
            if let Some(known) = machine.peers.find(peer) {
                known.waiting = Some(waiting);
            }
            is_heard
        });
    }

    /// Whether a message may be handed in although [`Machine::accepts`] is false, since it adds nothing to what waits
    /// for the store. `behind`: whether an earlier message of the same peer was not handed in. What changes or asks for
    /// records never overtakes another.
    pub fn hears(&mut self, peer: PeerId, message: &ServerMessage, behind: bool) -> bool {
        use ServerMessage as M;
        let session = self.peers.find(peer).and_then(|known| known.session);
        match (session, message) {
            // The first message of a connection: there is nothing that it could overtake.
            (None, M::Hello(hello)) => !behind && self.needs_no_record(peer, hello),
            // All it does is to renew the session, as the messages before it will once more.
            (Some(_), M::Beat(_)) => true,
            // It speaks of runs under way, and the reports before it speak of others. Holding comes before both.
            (Some(id), M::Started(_) | M::Progress(_)) => !behind || self.has_said_holding(id),
            // Refused at once, while there is no room for jobs.
            (Some(_), M::Request(_) | M::Retry(_)) => !behind && self.check_takes_jobs().is_err(),
            _ => false,
        }
    }

    /// Whether the store has to be told nothing about who says this Hello: it is a client, or a worker that goes on
    /// with its session as it was. One that is refused needs no record either.
    fn needs_no_record(&mut self, peer: PeerId, hello: &Hello) -> bool {
        let Some(work) = &hello.work else { return true };
        let Some(grant) = self.grant_for(peer, hello).filter(Grant::allows_work) else {
            return true;
        };
        let resume = hello.resume.as_ref();
        let session = resume.and_then(|resume| self.resumable(resume, &grant, true));
        session.is_some_and(|id| self.works_on_the_same(id, work))
    }

    fn works_on_the_same(&mut self, id: SessionId, work: &Work) -> bool {
        let known = self.sessions.find(id).and_then(|session| session.work.as_ref());
        known.is_some_and(|known| {
            let names = &self.names;
            let is_known = |name: &str| names.find(name).is_some_and(|key| known.credits.contains(key));
            work.names.len() == known.credits.len() && work.names.iter().all(|name| is_known(&name.name))
        })
    }

    fn has_said_holding(&mut self, id: SessionId) -> bool {
        let work = self.sessions.find(id).and_then(|session| session.work.as_ref());
        work.is_some_and(|work| work.holding != HoldingState::Awaited)
    }
}
