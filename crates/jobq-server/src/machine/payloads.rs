//! What the machine keeps of jobs' records: those that are about to be handed out, within a budget of bytes.

use std::sync::Arc;

use jobq_proto::JobId;

use super::paged_map::JobMap;
use crate::store::JobRecord;

/// Most records in one question to the store.
const READ_JOBS: usize = 1_000;

/// Most bytes of params in one question to the store, give or take one job's.
const READ_BYTES: usize = 4 * 1024 * 1024;

/// One part in so many of the budget is for records that are read: others leave it free. Where jobs arrive behind a long
/// line, they would else take all the room that those leave who are handed out, and the next ones could not be read ahead.
const FOR_READING: usize = 4;

/// What a record takes beside its params, roughly.
const RECORD_OVERHEAD: usize = 256;

/// Records by job.
pub(super) struct Payloads {
    slots: JobMap<Slot>,
    /// What is here, and what is on its way.
    bytes: usize,
    budget: usize,
    wanted: Vec<Wanted>,
}

/// A record that is to be asked for. Those that are waited for come first. The others are in the order of their ids, since
/// the store reads neighbours together, and jobs of many names that are next in their lines often are neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Wanted {
    ahead: bool,
    id: JobId,
    /// Of its params.
    bytes: usize,
}

enum Slot {
    /// It is being read ahead, and will weigh this much. Nobody waits for it.
    Ahead(usize),
    /// It is being read, and will weigh this much. Its job has been handed out, and may have come back.
    Awaited(usize),
    /// It is here.
    Here(Arc<JobRecord>),
}

impl Slot {
    fn weight(&self) -> usize {
        match self {
            Slot::Ahead(weight) | Slot::Awaited(weight) => *weight,
            Slot::Here(record) => weight(record.params.len()),
        }
    }
}

impl Payloads {
    pub(super) fn new(budget: usize) -> Self {
        Self {
            slots: JobMap::default(),
            bytes: 0,
            budget,
            wanted: Vec::new(),
        }
    }

    /// Keeps the record of a job that begins to wait, if there is room: jobs that come first leave first, so what
    /// is here already is worth more.
    pub(super) fn offer(&mut self, record: &Arc<JobRecord>) {
        if self.bytes + weight(record.params.len()) <= self.budget - self.budget / FOR_READING {
            self.keep(record.clone());
        }
    }

    /// The record of a job that is handed out; if it is not here, it is asked for.
    pub(super) fn take(&mut self, id: JobId, bytes: usize) -> Option<Arc<JobRecord>> {
        match self.slots.remove(id) {
            Some(Slot::Here(record)) => {
                self.bytes -= weight(record.params.len());
                return Some(record);
            }
            Some(Slot::Ahead(weight) | Slot::Awaited(weight)) => {
                self.slots.insert(id, Slot::Awaited(weight));
            }
            None => {
                self.put(id, Slot::Awaited(weight(bytes)));
                self.wanted.push(Wanted {
                    ahead: false,
                    id,
                    bytes,
                });
            }
        }
        None
    }

    /// Whether the record is here or on its way.
    pub(super) fn knows(&self, id: JobId) -> bool {
        self.slots.contains(id)
    }

    /// How many records are here or on their way, and the bytes that are counted for them.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.slots.len(), self.bytes)
    }

    /// Asks for a record ahead of its turn, if there is room for it.
    pub(super) fn read_ahead(&mut self, id: JobId, bytes: usize) {
        let weight = weight(bytes);
        if self.bytes + weight <= self.budget && self.slots.insert_new(id, Slot::Ahead(weight)) {
            self.bytes += weight;
            self.wanted.push(Wanted {
                ahead: true,
                id,
                bytes,
            });
        }
    }

    /// The records that are to be asked for, as questions to the store.
    pub(super) fn take_wanted(&mut self) -> Vec<Vec<JobId>> {
        self.wanted.sort_unstable();
        let mut questions: Vec<Vec<JobId>> = Vec::new();
        let mut bytes = 0;
        for wanted in self.wanted.drain(..) {
            let last = questions.last_mut();
            match last.filter(|ids| ids.len() < READ_JOBS && bytes < READ_BYTES) {
                Some(ids) => ids.push(wanted.id),
                None => {
                    bytes = 0;
                    questions.push(vec![wanted.id]);
                }
            }
            bytes += wanted.bytes;
        }
        questions
    }

    /// Keeps the record of a job if it was read ahead and the job has not been handed out meanwhile; else it comes back.
    pub(super) fn arrived_ahead(&mut self, record: Arc<JobRecord>) -> Result<(), Arc<JobRecord>> {
        match self.slots.get_mut(record.id) {
            Some(slot @ Slot::Ahead(_)) => {
                let here = Slot::Here(record);
                self.bytes = self.bytes + here.weight() - slot.weight();
                *slot = here;
                self.evict();
                Ok(())
            }
            _ => Err(record),
        }
    }

    /// A record has been read, and nobody takes it yet.
    pub(super) fn arrived(&mut self, record: Arc<JobRecord>) {
        self.keep(record);
        self.evict();
    }

    fn evict(&mut self) {
        while self.bytes > self.budget {
            // The latest job is the last to be handed out.
            let Some(slot) = self.slots.pop_last() else {
                break;
            };
            self.bytes -= slot.weight();
        }
    }

    /// A job is not waiting any more, or its record has been used.
    pub(super) fn forget(&mut self, id: JobId) {
        if let Some(slot) = self.slots.remove(id) {
            self.bytes -= slot.weight();
        }
    }

    fn keep(&mut self, record: Arc<JobRecord>) {
        self.put(record.id, Slot::Here(record));
    }

    fn put(&mut self, id: JobId, slot: Slot) {
        self.bytes += slot.weight();
        if let Some(before) = self.slots.insert(id, slot) {
            self.bytes -= before.weight();
        }
    }
}

/// What the record of a job with so many bytes of params takes.
fn weight(params: usize) -> usize {
    RECORD_OVERHEAD + params
}
