//! How much the machine holds, for whoever looks whether it gives back what it took.

use super::Machine;

/// How much the machine holds of what comes and goes. All of it is to be gone when its cause is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Footprint {
    /// Connections.
    pub peers: usize,
    /// Sessions, those included that may come back.
    pub sessions: usize,
    /// Runs that workers have, or are about to have.
    pub leases: usize,
    /// Jobs that wait in line.
    pub waiting: usize,
    /// Jobs whose time has not come.
    pub scheduled: usize,
    /// Jobs that are held back for sessions from before the start.
    pub held_back: usize,
    /// Records of jobs that are here or on their way.
    pub records: usize,
    /// Bytes that the machine counts for these.
    pub record_bytes: usize,
    /// Jobs that are watched, once for each watch.
    pub watched: usize,
    /// Questions to the store that have no answer.
    pub reads: usize,
    /// What waits for batches.
    pub effects: usize,
}

impl Machine {
    /// How much it holds at the moment. It counts by looking at everything, which a server has no use for.
    #[doc(hidden)]
    pub fn footprint(&self) -> Footprint {
        let (records, record_bytes) = self.payloads.size();
        Footprint {
            peers: self.peers.len(),
            sessions: self.sessions.len(),
            leases: self.leases.len(),
            waiting: self.lines.len(),
            scheduled: self.scheduled.len(),
            held_back: self.recovery.held_back(),
            records,
            record_bytes,
            watched: self.watches.len(),
            reads: self.reads.len(),
            effects: self.pending.len(),
        }
    }
}
