//! Time in which nobody could be heard: the computer was suspended, or the server was stopped or starved.
//!
//! The clock of the leases counts such time, since workers elsewhere went on and gave their runs up by the same clock.
//! But whoever did not, because it was suspended too or its words are still on their way, has to be heard first.

use jobq_proto::JobId;

use super::Machine;
use super::timers::Timer;
use crate::store::SessionId;
use crate::time::{Mono, Now};

impl Machine {
    /// The server has not listened for a while, and its time has gone on. Every session has the time for a beat and for
    /// a new connection from now on, if it does not have more, and its runs have the time to be reported that were
    /// over theirs. A session has that once, until it is heard of: a server that is slow again and again would never
    /// notice that a worker is gone.
    pub fn handle_pause(&mut self, now: Now) {
        self.tick(now);
        let config = &self.config;
        let heard_by = now.mono.plus((config.beat + config.grace).min(config.ttl));
        let back_by = now.mono.plus(config.grace);
        for id in self.sessions.ids() {
            let Some(session) = self.sessions.find(id) else {
                continue;
            };
            if !session.silence.respite(heard_by) {
                continue;
            }
            session.grace = session.grace.map(|grace| grace.max(back_by));
            self.respite_runs(id);
        }
    }

    fn respite_runs(&mut self, session: SessionId) {
        let reported_by = self.now.mono.plus(self.config.timeout_slack);
        let held: Vec<JobId> = self
            .sessions
            .find(session)
            .map(|session| session.held.jobs().collect())
            .unwrap_or_default();
        for id in held {
            let Some(lease) = self.leases.find(id) else {
                continue;
            };
            let earlier = |at: &Mono| *at < reported_by;
            if let Some(at) = lease.times_out.filter(earlier) {
                lease.times_out = Some(reported_by);
                let timer = Timer::TimedOut(id, lease.fence);
                self.timers.unset(at, timer);
                self.timers.set(reported_by, timer);
            }
        }
    }
}
