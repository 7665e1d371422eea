//! How long a session may be silent.
//!
//! A worker that has runs loses them when it has been silent for the time-to-live, and stops them by itself before that.
//! Who has nothing to lose speaks seldom, and may be silent for longer. Whether a worker has something changes with each
//! run, and with it the time at which it is lost. So a session's timer is moved only where it would go off too late, and
//! one that goes off too early is set again.

use std::time::Duration;

use super::Machine;
use super::config::Config;
use super::sessions::{HoldingState, Session, WorkState};
use super::timers::Timer;
use crate::store::SessionId;
use crate::time::Mono;

/// Since when a session is silent, and what it was given beyond.
pub(super) struct Silence {
    /// When it was last heard of or, if that was later, given a run when it had none: a worker that was idle until then
    /// has had no reason to speak.
    since: Mono,
    /// It lives until then in any case.
    until: Mono,
    /// Whether it was given time for a pause of the server, and has not been heard of since.
    respited: bool,
    /// When its timer goes off. There is one.
    timer: Mono,
}

impl Silence {
    /// A session that is heard of now.
    pub(super) fn since(now: Mono) -> Self {
        Self {
            since: now,
            until: Mono::default(),
            respited: false,
            timer: Mono::MAX,
        }
    }

    /// A session that is not there, and may come back until a time.
    pub(super) fn until(until: Mono) -> Self {
        Self {
            until,
            ..Self::since(Mono::default())
        }
    }

    /// It is heard of.
    pub(super) fn end(&mut self, now: Mono) {
        self.since = now;
        self.until = Mono::default();
        self.respited = false;
    }

    /// A session that is not there has so much more time.
    pub(super) fn extend(&mut self, by: Duration) {
        self.until = self.until.plus(by);
    }

    /// Gives it time until then, since the server has not listened. Whether that is the first time since it was heard of.
    pub(super) fn respite(&mut self, until: Mono) -> bool {
        if std::mem::replace(&mut self.respited, true) {
            return false;
        }
        self.until = self.until.max(until);
        true
    }
}

impl Session {
    /// When it has been silent, or away, for too long.
    pub(super) fn due(&self, config: &Config) -> Mono {
        match (self.grace, self.peer) {
            (Some(grace), _) => grace,
            (None, None) => self.silence.until,
            (None, Some(_)) if self.may_lose_runs() => self.silent_until(config.ttl),
            (None, Some(_)) => self.silent_until(idle_silence(config)),
        }
    }

    /// Whether it has runs that its worker knows of, or may have: it has not said yet.
    fn may_lose_runs(&self) -> bool {
        let is_unknown = |work: &WorkState| work.holding != HoldingState::Known;
        self.held.ordered() > 0 || self.work.as_ref().is_some_and(is_unknown)
    }

    fn silent_until(&self, silence: Duration) -> Mono {
        self.silence.since.plus(silence).max(self.silence.until)
    }
}

/// How long a session may be silent that has nothing to lose: it says something that often, and has as much time beyond
/// as the others.
fn idle_silence(config: &Config) -> Duration {
    config.ttl.saturating_add(config.idle_beat)
}

impl Machine {
    /// Any message is a sign of life.
    pub(super) fn renew(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.find(id) {
            session.silence.end(self.now.mono);
        }
    }

    /// A session has a run now, and had none. From now on it has the time-to-live to be heard of. One that has been silent
    /// for too long even without runs is lost as it would have been.
    pub(super) fn begins_to_hold(&mut self, id: SessionId) {
        let now = self.now.mono;
        if let Some(session) = self.sessions.find(id)
            && session.silent_until(idle_silence(&self.config)) > now
        {
            session.silence.since = now;
        }
        self.hasten_session_check(id);
    }

    /// What a session lives by has changed: its timer goes off earlier than it would have, if it has to.
    pub(super) fn hasten_session_check(&mut self, id: SessionId) {
        let Some(session) = self.sessions.find(id) else {
            return;
        };
        let due = session.due(&self.config);
        if due < session.silence.timer {
            let before = std::mem::replace(&mut session.silence.timer, due);
            self.timers.unset(before, Timer::Session(id));
            self.timers.set(due, Timer::Session(id));
        }
    }

    /// A session is over.
    pub(super) fn end_session_check(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.find(id) {
            self.timers.unset(session.silence.timer, Timer::Session(id));
        }
    }

    /// A session's timer: it may have been silent, or away, for too long. How many names it had, if it was lost.
    pub(super) fn check_session(&mut self, id: SessionId) -> usize {
        let Some(session) = self.sessions.find(id) else {
            return 0;
        };
        let due = session.due(&self.config);
        if due <= self.now.mono {
            return self.lose_session(id);
        }
        session.silence.timer = due;
        self.timers.set(due, Timer::Session(id));
        0
    }
}
