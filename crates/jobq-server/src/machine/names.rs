//! The job names that the server knows, and how many jobs of each there are.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use jobq_proto::message::NameStats;
use jobq_proto::{ErrorCode, JobName, Status, WireError};

use super::Map;
use super::name_index::NameIndex;
use super::paged_map::Number;
use super::pending::{Leaving, LeavingFor};
use super::queue_limits::Amount;
use crate::access::NamePatterns;
use crate::store::NameTotals;

/// Most names that a server knows. Each that jobs have had costs a few hundred bytes for ever, so a client that makes
/// names up is refused rather than followed.
const MAX_NAMES: usize = 100_000;

/// A name's number in this life of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NameKey(u32);

impl NameKey {
    /// Its place in a list of what is known of names: there are no more keys than there are names at a time.
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

impl Number for NameKey {
    fn from_number(number: u64) -> Self {
        Self(u32::try_from(number).expect("it is the number of a key"))
    }

    fn number(self) -> u64 {
        self.0.into()
    }
}

/// All names, and the counts that are kept for each.
pub(super) struct Names {
    by_text: NameIndex,
    entries: Vec<Entry>,
    /// Entries of forgotten names, for new ones.
    forgotten: Vec<NameKey>,
    live: Amount,
    caps: BTreeMap<JobName, NonZeroU32>,
}

struct Entry {
    name: Arc<JobName>,
    /// Whether the store has it, since it has had jobs of it.
    stored: bool,
    /// Sessions that work on it.
    workers: u32,
    /// Most of its jobs that may be processing at a time.
    cap: Option<u64>,
    counts: Counts,
    live: Amount,
}

/// How many jobs of a name there are, those that wait in line apart: these are counted by the line.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) scheduled: u64,
    pub(super) queued: u64,
    pub(super) processing: u64,
    pub(super) completed: u64,
    pub(super) failed: u64,
    pub(super) cancelled: u64,
}

impl Names {
    /// Those that the store has; `hash_key` is to be unknown to all peers.
    pub(super) fn new(totals: &[NameTotals], caps: &BTreeMap<JobName, NonZeroU32>, hash_key: u64) -> Self {
        let mut names = Self {
            by_text: NameIndex::new(hash_key),
            entries: Vec::new(),
            forgotten: Vec::new(),
            live: Amount::default(),
            caps: caps.clone(),
        };
        for total in totals {
            let key = names.insert(total.name.clone());
            names.mark_stored(key);
            let counts = names.counts(key);
            counts.completed = total.completed;
            counts.failed = total.failed;
            counts.cancelled = total.cancelled;
        }
        names
    }

    /// The key of a name, which is new to the server perhaps.
    pub(super) fn intern(&mut self, name: &JobName) -> Result<NameKey, WireError> {
        if let Some(key) = self.find(name.as_str()) {
            return Ok(key);
        }
        if self.by_text.len() >= MAX_NAMES {
            return Err(WireError::new(
                ErrorCode::QueueFull,
                format!("the server knows {MAX_NAMES} job names and takes no new one"),
            ));
        }
        Ok(self.insert(Arc::new(name.clone())))
    }

    /// The key of a name that was taken before the start: more of them are known than can be new.
    pub(super) fn intern_known(&mut self, name: &Arc<JobName>) -> NameKey {
        self.find(name.as_str())
            .unwrap_or_else(|| self.insert(name.clone()))
    }

    /// A job of a name is in the store, so the name is there for ever.
    pub(super) fn mark_stored(&mut self, key: NameKey) {
        self.entries[key.index()].stored = true;
    }

    /// One more session works on a name.
    pub(super) fn add_worker(&mut self, key: NameKey) {
        self.entries[key.index()].workers += 1;
    }

    /// A session works on a name no longer.
    pub(super) fn remove_worker(&mut self, key: NameKey) {
        self.entries[key.index()].workers -= 1;
    }

    /// Forgets a name that no job has had and no session works on; whether it was one. Its key is given to another
    /// name.
    pub(super) fn forget_unused(&mut self, key: NameKey) -> bool {
        let entry = &self.entries[key.index()];
        let is_used = entry.stored || entry.workers > 0 || entry.live.jobs > 0;
        if is_used || !self.by_text.remove(entry.name.as_str()) {
            return false;
        }
        self.forgotten.push(key);
        true
    }

    pub(super) fn find(&self, name: &str) -> Option<NameKey> {
        self.by_text.find(name)
    }

    pub(super) fn name(&self, key: NameKey) -> &Arc<JobName> {
        &self.entries[key.index()].name
    }

    pub(super) fn counts(&mut self, key: NameKey) -> &mut Counts {
        &mut self.entries[key.index()].counts
    }

    /// Whether a name has a cap on how many of its jobs are leased.
    pub(super) fn is_capped(&self, key: NameKey) -> bool {
        self.entries[key.index()].cap.is_some()
    }

    /// Whether as many jobs of a name are leased as may be. After a restart there may be more: those that go on do.
    pub(super) fn is_at_cap(&self, key: NameKey) -> bool {
        let entry = &self.entries[key.index()];
        entry.cap.is_some_and(|cap| entry.counts.processing >= cap)
    }

    /// Counts a job that is to be there, or was there at the start.
    pub(super) fn count_arrived(&mut self, key: NameKey, bytes: u32) {
        self.live.add(bytes);
        self.entries[key.index()].live.add(bytes);
    }

    /// Counts a job that is not there any more, or was not taken in after all.
    pub(super) fn count_left(&mut self, key: NameKey, bytes: u32) {
        self.live.subtract(bytes);
        self.entries[key.index()].live.subtract(bytes);
    }

    /// How many jobs there are that have not ended, those on their way to the store included.
    pub(super) fn live(&self) -> Amount {
        self.live
    }

    /// The same of one name.
    pub(super) fn live_of(&self, key: NameKey) -> Amount {
        self.entries[key.index()].live
    }

    /// Counts a job that ended.
    pub(super) fn count_ended(&mut self, key: NameKey, status: Status) {
        let counts = self.counts(key);
        match status {
            Status::Completed => counts.completed += 1,
            Status::Failed => counts.failed += 1,
            Status::Cancelled => counts.cancelled += 1,
            _ => debug_assert!(false, "{status} is not terminal"),
        }
    }

    /// Records of jobs that ended have gone.
    pub(super) fn count_gone(&mut self, gone: &NameTotals) {
        let Some(key) = self.find(gone.name.as_str()) else {
            return;
        };
        let counts = self.counts(key);
        counts.completed = counts.completed.saturating_sub(gone.completed);
        counts.failed = counts.failed.saturating_sub(gone.failed);
        counts.cancelled = counts.cancelled.saturating_sub(gone.cancelled);
    }

    /// Up to `limit` of these names with their counts, by name; whether there are more; and all of them together. Jobs
    /// that leave their workers count as what they are about to be, so that `processing` is what workers have.
    pub(super) fn stats(
        &self,
        limit: usize,
        leaving: impl Iterator<Item = Leaving>,
        only: &NamePatterns,
    ) -> (Vec<NameStats>, bool, NameStats) {
        let mut arriving: Map<NameKey, Counts> = Map::new();
        for job in leaving {
            let counts = arriving.entry(job.name).or_default();
            match job.next {
                LeavingFor::Line => counts.queued += 1,
                LeavingFor::Time => counts.scheduled += 1,
                LeavingFor::End => {}
            }
        }
        let of_name = |key: NameKey| {
            let Entry {
                name, cap, counts, ..
            } = &self.entries[key.index()];
            let arriving = arriving.get(&key).copied().unwrap_or_default();
            NameStats {
                name: name.as_str().to_owned(),
                scheduled: counts.scheduled + arriving.scheduled,
                queued: counts.queued + arriving.queued,
                processing: counts.processing,
                cap: *cap,
                completed: counts.completed,
                failed: counts.failed,
                cancelled: counts.cancelled,
            }
        };
        let mut total = NameStats::default();
        let shown: Vec<NameKey> = self
            .by_text
            .iter()
            .filter(|(name, _)| only.match_name(name))
            .map(|(_, key)| key)
            .collect();
        let counts = shown.iter().flat_map(|key| {
            let counts = &self.entries[key.index()].counts;
            std::iter::once(counts).chain(arriving.get(key))
        });
        for counts in counts {
            total.scheduled += counts.scheduled;
            total.queued += counts.queued;
            total.processing += counts.processing;
            total.completed += counts.completed;
            total.failed += counts.failed;
            total.cancelled += counts.cancelled;
        }
        let listed = shown.iter().take(limit).map(|key| of_name(*key));
        (listed.collect(), shown.len() > limit, total)
    }

    fn insert(&mut self, name: Arc<JobName>) -> NameKey {
        let entry = Entry {
            cap: self.caps.get(&*name).map(|cap| cap.get().into()),
            name: name.clone(),
            stored: false,
            workers: 0,
            counts: Counts::default(),
            live: Amount::default(),
        };
        let key = match self.forgotten.pop() {
            Some(key) => {
                self.entries[key.index()] = entry;
                key
            }
            None => {
                self.entries.push(entry);
                let last = self.entries.len() - 1;
                NameKey(u32::try_from(last).expect("the names fit into memory, and so into 32 bits"))
            }
        };
        self.by_text.insert(name.as_str(), key);
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(number: usize) -> Arc<JobName> {
        Arc::new(number.to_string().parse().expect("a number is a name"))
    }

    #[test]
    fn names_that_only_workers_have_had_take_no_room_when_they_are_gone() {
        let mut names = Names::new(&[], &BTreeMap::new(), 7);
        for number in 0..=MAX_NAMES {
            let key = names.intern(&named(number)).expect("there is room");
            names.add_worker(key);
            assert!(!names.forget_unused(key), "it is worked on");
            names.remove_worker(key);
            assert!(names.forget_unused(key));
            assert!(!names.forget_unused(key), "it is forgotten once");
        }
        assert_eq!((names.entries.len(), names.by_text.len()), (1, 0));
    }

    #[test]
    fn a_name_that_has_had_a_job_is_never_forgotten_and_counts_towards_the_limit() {
        let mut names = Names::new(&[], &BTreeMap::new(), 7);
        for number in 0..MAX_NAMES {
            let key = names.intern(&named(number)).expect("there is room");
            names.mark_stored(key);
            assert!(!names.forget_unused(key));
        }
        let error = names.intern(&named(MAX_NAMES)).expect_err("there is no room");
        assert_eq!(error.code, ErrorCode::QueueFull);
    }
}
