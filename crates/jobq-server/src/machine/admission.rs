//! In which order new workers of many names are let in, and how fast.
//!
//! Each name of a new session is written to the store, lines up for jobs, and leaves it all again at the session's
//! end. That is little for a worker of a few names, and some milliseconds for one of a thousand. Whoever comes and
//! goes as such a worker, over and over, would keep the server busy with nothing else. So those of many names come in
//! one after the other, no faster than the time between two of them leaves for everybody else. Who goes on with a
//! session does not wait.

use std::collections::VecDeque;
use std::time::Duration;

use jobq_proto::message::Hello;
use jobq_transport::PeerId;

use super::Machine;
use super::access::Waiting;
use super::timers::Timer;
use crate::time::Mono;

/// A worker of so many names is let in at once.
const FEW: usize = 64;

/// How much time each name of the others is given: ten times as long as the server works for it.
const NAME: Duration = Duration::from_micros(40);

/// How much time can be used up beforehand, so that a few workers of many names that start together do not wait: that
/// of ten thousand names.
const AHEAD: Duration = Duration::from_millis(400);

/// Lets new workers of many names in.
#[derive(Default)]
pub(super) struct Admission {
    /// Up to when the time is given away.
    given_until: Mono,
    /// Those that wait for theirs, and maybe some that are gone.
    queue: VecDeque<PeerId>,
}

impl Admission {
    /// When the next one can be let in.
    fn next_at(&self) -> Mono {
        self.given_until.minus(AHEAD)
    }

    fn let_in(&mut self, now: Mono, names: usize) {
        let time = NAME.saturating_mul(u32::try_from(names).unwrap_or(u32::MAX));
        self.given_until = self.given_until.max(now).plus(time);
    }
}

impl Machine {
    /// Answers a Hello, at once or when it is its turn.
    pub(super) fn answer_hello(&mut self, peer: PeerId) {
        let names = self.new_names(peer);
        if names <= FEW {
            return self.answer_hello_now(peer);
        }
        self.admission.queue.push_back(peer);
        if self.admission.queue.len() == 1 {
            self.let_in_next();
        }
    }

    /// Lets in the one whose turn it is; how many names it has.
    pub(super) fn let_in_next(&mut self) -> usize {
        while let Some(&peer) = self.admission.queue.front() {
            let names = self.new_names(peer);
            let at = self.admission.next_at();
            if names > 0 && at > self.now.mono {
                self.timers.set(at, Timer::Admission);
                break;
            }
            self.admission.queue.pop_front();
            self.admission.let_in(self.now.mono, names);
            self.answer_hello_now(peer);
            if names > 0 {
                if !self.admission.queue.is_empty() {
                    self.timers.set(self.admission.next_at(), Timer::Admission);
                }
                return names;
            }
        }
        0
    }

    /// How many names the Hello has that a peer waits for an answer to, if it is a new worker's.
    fn new_names(&mut self, peer: PeerId) -> usize {
        match self.peers.find(peer).and_then(|known| known.waiting.as_ref()) {
            Some(Waiting::Hello(hello)) => match &**hello {
                Hello {
                    work: Some(work),
                    resume: None,
                    ..
                } => work.names.len(),
                _ => 0,
            },
            _ => 0,
        }
    }
}
