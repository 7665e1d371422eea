//! Workers from before a start, and the jobs that wait for them.
//!
//! A worker may be running a job of its names of which nothing is on disk. So the jobs of these names that waited at the
//! start may be held back until each such worker has said what it has, or is known on disk to be over. For how long that
//! may take at most is counted here, so that a job that is held back for longer has been passed over.

use std::collections::BTreeSet;

use jobq_proto::message::Holding;
use jobq_server::store::{Recovered, SessionRecord};

use super::Model;
use crate::sim::agenda::{At, MILLI};

/// How late a session may be noticed to be over: the server counts from when it listened, and not from its start, and its
/// timers go by the millisecond.
const LATE: At = 500 * MILLI;

/// Batches that the server has out at a time.
const MAX_BATCHES: usize = 2;

/// A session from before the start that may have runs of which nothing is known.
#[derive(Debug)]
pub(super) struct Absent {
    names: BTreeSet<String>,
    /// When it is over, unless it is heard of.
    until: At,
    /// It was given more time for a pause of the server, and has not been heard of since.
    respited: bool,
    /// It has said what it has. The server knows what to do about that once this batch is on disk at the latest, and it has
    /// asked then for what it does not know.
    said: Option<u64>,
    /// That it is over is in a batch …
    closed: bool,
    /// … and on disk.
    over: bool,
}

impl Model {
    /// These sessions may come back.
    pub(super) fn await_sessions(&mut self, recovered: &Recovered) {
        let absent = |record: &SessionRecord| Absent {
            names: record.names.iter().map(|name| name.as_str().to_owned()).collect(),
            until: self.begun + micros(record.ttl),
            respited: false,
            said: None,
            closed: false,
            over: false,
        };
        let absent = recovered
            .sessions
            .iter()
            .map(|record| (record.id.0, absent(record)));
        self.absent = absent.collect();
        self.timers_at = 0;
    }

    /// The server has not listened for a while. Whoever is not there has the time to come back from now on, once.
    pub(in crate::sim) fn server_pauses(&mut self, now: At) {
        let until = now + micros((self.config.beat + self.config.grace).min(self.config.ttl));
        for absent in self.absent.values_mut().filter(|absent| !absent.respited) {
            absent.respited = true;
            absent.until = absent.until.max(until);
        }
    }

    /// The server has looked at its clock, after all that had arrived.
    pub(in crate::sim) fn timers_fired(&mut self, now: At) {
        self.timers_at = now;
    }

    /// A session lives.
    pub(super) fn absent_is_heard(&mut self, session: u64) {
        let until = self.now + micros(self.config.ttl);
        if let Some(absent) = self.absent.get_mut(&session) {
            absent.until = until;
            absent.respited = false;
        }
    }

    /// A session says what it has. Those runs may go on, and their jobs wait no longer then.
    pub(super) fn absent_says_holding(&mut self, session: u64, holding: &Holding) {
        let batch = self.last_batch + 1;
        if let Some(absent) = self.absent.get_mut(&session) {
            absent.said = Some(batch);
            for run in &holding.runs {
                self.in_line.remove(&run.id);
            }
        }
    }

    /// A session has another connection, or none: what it has said on the one before may not be looked at.
    pub(super) fn absent_changes_conn(&mut self, session: u64) {
        if let Some(absent) = self.absent.get_mut(&session) {
            absent.said = None;
        }
    }

    /// That a session is over is in a batch, or on disk.
    pub(super) fn absent_is_over(&mut self, session: u64, stored: bool) {
        if let Some(absent) = self.absent.get_mut(&session) {
            absent.closed = true;
            absent.over = stored;
        }
    }

    /// A round ends. Who is known to have come back, or to be over, is awaited no longer. `idle`: the machine has handled
    /// all that the store has told, and asks it for no job's state.
    pub(super) fn await_no_longer(&mut self, idle: bool) {
        if !idle || self.absent.is_empty() {
            return;
        }
        let out = &self.out;
        let is_stored = |batch: u64| out.first_key_value().is_none_or(|(first, _)| batch < *first);
        self.absent.retain(|_, absent| {
            let is_back = absent
                .said
                .is_some_and(|batch| is_stored(batch) || out.is_empty());
            !is_back && !absent.over
        });
    }

    /// The names of which jobs may be held back.
    pub(super) fn names_held_back(&self) -> BTreeSet<String> {
        // What has been decided is in a batch, unless there are as many of these as there may be.
        let all_in_batches = self.out.len() < MAX_BATCHES;
        let is_awaited = |absent: &&Absent| {
            let overdue = all_in_batches && self.timers_at >= absent.until + LATE;
            absent.closed || !overdue
        };
        let awaited = self.absent.values().filter(is_awaited);
        awaited.flat_map(|absent| absent.names.iter().cloned()).collect()
    }
}

fn micros(time: std::time::Duration) -> At {
    At::try_from(time.as_micros()).unwrap_or(At::MAX / 2)
}
