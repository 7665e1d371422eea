//! Peers that mean no good, as many as one likes, and the neighbours that are not to notice.

mod attack;
mod neighbour;
mod trial;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

pub use attack::Attack;
pub use neighbour::{Latencies, Neighbour};
pub use trial::{Blocks, Trial, percentile};

/// By how much the priority of hostile peers is lower, in steps of nice, where they cannot stand back altogether.
const NICE: i32 = 19;

/// Hostile peers, on a thread of their own until they are dropped. It has what time the others leave: such peers have
/// computers of their own, and take none of the server's but by what they send.
#[derive(Debug)]
pub struct Flood {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: tokio::sync::Notify,
    stopped: AtomicBool,
    connections: AtomicU64,
    bytes: AtomicU64,
}

impl Flood {
    /// So many peers of each kind begin with an address of the kind `tcp://`. Those that are thrown out come again.
    ///
    /// # Panics
    /// The address is of another kind.
    pub fn start(address: &str, attacks: &[Attack], each: usize) -> Self {
        let address = address
            .strip_prefix("tcp://")
            .expect("it is an address of TCP")
            .to_owned();
        let shared = Arc::<Shared>::default();
        let (attacks, theirs) = (attacks.to_vec(), shared.clone());
        let thread = std::thread::spawn(move || {
            stand_back();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(async move {
                let mut peers = tokio::task::JoinSet::new();
                for attack in attacks {
                    for number in 0..each {
                        peers.spawn(attack.go_on(address.clone(), number, theirs.clone()));
                    }
                }
                theirs.stop.notified().await;
            });
        });
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// Connections that they have made.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Bytes that they have sent.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }
}

/// Has this thread run only while a processor has nothing else to do, if there is `chrt` (util-linux); else, with the
/// lowest priority.
fn stand_back() {
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    let idle = Command::new("chrt")
        .args(["--idle", "--pid", "0", &thread])
        .output();
    if !idle.is_ok_and(|output| output.status.success()) {
        // Where not even this is allowed, they only get in the way more.
        let _ = rustix::process::nice(NICE);
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        self.shared.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            // A hostile peer that fails is not what is tested.
            let _ = thread.join();
        }
    }
}

/// What a process has taken of memory at most so far, in bytes; none where the system does not say.
pub fn peak_memory(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// What a server takes of memory at most, as docs/OPERATIONS.md says, while its queue is short: for itself and its
/// caches, for so many connections, for `--peer-memory`, and for what is watched.
pub fn memory_bound(connections: u64, peer_memory: u64) -> u64 {
    const OWN: u64 = 200 * 1024 * 1024;
    const CONNECTION: u64 = 640 * 1024;
    OWN + connections * CONNECTION + peer_memory + peer_memory / 2 + peer_memory / 8
}
