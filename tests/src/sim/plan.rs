//! What a seed decides before anything happens: who takes part, how fast things are, and what goes wrong.
//!
//! Each seed draws a world of its own kind, so that rare kinds of trouble do not always come in the company of all
//! others: some worlds lose no message, some have one fault only, and some have none.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use jobq_proto::Backoff;
use jobq_server::machine::{Config, Keep, QueueLimits};

use super::agenda::{At, MILLI, SECOND};
use crate::Chance;

/// The names that jobs have.
pub(super) const NAMES: [&str; 4] = ["mail", "resize", "index", "bill"];

/// The longest that a handler takes when nothing goes wrong any more.
pub(super) const HANDLER_WHEN_CALM: At = 20 * MILLI;

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// The server's process is killed.
    Kill,
    /// The server's computer loses its power.
    PowerCut,
    /// The server is told to stop, and starts again, with other limits perhaps.
    Stop,
    /// The server's computer is suspended.
    Suspend,
    /// The server gets no processor for a while.
    HoldUp,
    /// Somebody sets the server's calendar.
    Calendar,
    /// The next sync fails.
    SyncFails,
    /// The disk has little room, for a while.
    DiskShort,
    /// The disk has no room at all, for a while.
    DiskFull,
    /// The disk is slow, for a while.
    SlowDisk,
    /// A connection ends, and one side, both or neither hear of it.
    Cut,
    /// Nothing gets through a connection for a while, in one direction or both.
    Stall,
    /// Nothing gets through from and to a peer for a while, and no new connection either.
    Partition,
    /// What a peer said on its connection is said again on another.
    Double,
    /// A worker's process is killed.
    WorkerDies,
    /// A worker's computer is gone, and says so to nobody.
    WorkerVanishes,
    /// A worker's computer is suspended.
    WorkerSuspends,
    /// A worker is told to stop, and lets its handlers finish.
    WorkerDrains,
    /// A client's process is killed, and forgets what it asked for.
    ClientDies,
}

impl Fault {
    /// All of them.
    pub(super) const ALL: [Fault; 19] = [
        Fault::Kill,
        Fault::PowerCut,
        Fault::Stop,
        Fault::Suspend,
        Fault::HoldUp,
        Fault::Calendar,
        Fault::SyncFails,
        Fault::DiskShort,
        Fault::DiskFull,
        Fault::SlowDisk,
        Fault::Cut,
        Fault::Stall,
        Fault::Partition,
        Fault::Double,
        Fault::WorkerDies,
        Fault::WorkerVanishes,
        Fault::WorkerSuspends,
        Fault::WorkerDrains,
        Fault::ClientDies,
    ];

    /// What it is called in counts and traces.
    pub(super) fn name(self) -> &'static str {
        FAULTS[self as usize]
    }
}

/// What each of them is called in counts.
pub const FAULTS: [&str; 19] = [
    "server killed",
    "power cut",
    "server told to stop",
    "server suspended",
    "server held up",
    "calendar set",
    "sync failed",
    "disk short of room",
    "disk full",
    "disk slow",
    "connection cut",
    "connection stalled",
    "peer partitioned",
    "connection doubled",
    "worker killed",
    "worker vanished",
    "worker suspended",
    "worker drained",
    "client killed",
];

/// A span, of which a part is drawn each time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span(pub(super) At, pub(super) At);

impl Span {
    pub(super) fn draw(self, chance: &mut Chance) -> At {
        chance.between(self.0, self.1)
    }
}

/// How a world is.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// How long faults go on, and users with them.
    pub(super) lasts: At,
    pub(super) clients: usize,
    pub(super) workers: usize,
    /// How many of [`NAMES`] there are.
    pub(super) names: usize,
    pub(super) config: Config,
    /// Between two things that a user does.
    pub(super) act: Span,
    /// How long handlers take, as a rule.
    pub(super) handling: Span,
    /// Each message is written and read as on a real connection.
    pub(super) codec: bool,
    pub(super) latency: Span,
    /// Of a hundred messages, so many take up to a hundred times as long.
    pub(super) late_percent: u64,
    pub(super) sync: Span,
    pub(super) read: Span,
    /// What the server needs for one round of its loop.
    pub(super) round: Span,
    /// Of a million steps of the server, it is killed after so many.
    pub(super) kill_ppm: u64,
    /// The server has little room for what waits for the store, so that a slow disk has it hear only what needs none.
    pub(super) tight: bool,
    /// Bytes queued for a peer above which it is sent only what it has to know.
    pub(super) max_queued: usize,
    /// What goes wrong, each as often as it stands here.
    pub(super) faults: Vec<Fault>,
    pub(super) fault_every: Span,
    /// Of a hundred handlers, so many take their worker down with them.
    pub(super) poison_percent: u64,
    /// By how many of a million parts the peers' clocks are too fast or too slow at most.
    pub(super) drift_ppm: u64,
    /// A peer that keeps to no rule takes part.
    pub(super) rogue: bool,
    /// Users ask for times, delays and retries, and not for plain jobs only.
    pub(super) fancy: bool,
}

impl Plan {
    /// Whether nothing goes wrong but with the server's disk, so that peers never have a reason to give it up.
    pub(super) fn only_disks_fail(&self) -> bool {
        let of_disks = [Fault::DiskShort, Fault::DiskFull, Fault::SlowDisk];
        self.faults.iter().all(|fault| of_disks.contains(fault))
    }

    /// How long a job may take by itself once nothing goes wrong any more: its record is read, its order and its report
    /// travel, its handler runs, and its end gets to the disk behind another batch.
    pub(super) fn longest_run(&self) -> At {
        let rounds = 6 * (self.round.1 + 2 * MILLI);
        self.read.1 + 3 * self.latency.1 + HANDLER_WHEN_CALM + 2 * self.sync.1 + rounds
    }

    pub(super) fn draw(chance: &mut Chance) -> Self {
        let names = chance.between(1, NAMES.len() as u64) as usize;
        let faults = faults(chance);
        let kills = faults.contains(&Fault::Kill);
        Self {
            lasts: chance.between(40, 150) * SECOND,
            clients: chance.between(1, 3) as usize,
            workers: chance.between(1, 4) as usize,
            names,
            config: config(chance, names),
            act: *chance.pick(&[
                Span(20 * MILLI, 800 * MILLI),
                Span(200 * MILLI, 3 * SECOND),
                Span(MILLI, 4 * SECOND),
                // Peers have long rests in between.
                Span(2 * SECOND, 60 * SECOND),
            ]),
            handling: *chance.pick(&[
                Span(MILLI, 200 * MILLI),
                Span(100 * MILLI, 3 * SECOND),
                Span(10 * MILLI, 12 * SECOND),
            ]),
            codec: chance.percent(50),
            latency: *chance.pick(&[Span(30, 400), Span(200, 5 * MILLI), Span(MILLI, 120 * MILLI)]),
            late_percent: *chance.pick(&[0, 0, 1, 5]),
            sync: *chance.pick(&[
                Span(200, 2 * MILLI),
                Span(MILLI, 40 * MILLI),
                Span(100, 700 * MILLI),
            ]),
            read: *chance.pick(&[Span(20, 300), Span(100, 20 * MILLI), Span(50, 900 * MILLI)]),
            round: *chance.pick(&[Span(1, 50), Span(10, 3 * MILLI), Span(1, 40 * MILLI)]),
            kill_ppm: if kills { *chance.pick(&[0, 100, 1_000]) } else { 0 },
            tight: chance.percent(30),
            max_queued: *chance.pick(&[256 * 1024, 2_000, 300]),
            fault_every: *chance.pick(&[
                Span(SECOND / 2, 4 * SECOND),
                Span(SECOND, 15 * SECOND),
                Span(5 * SECOND, 40 * SECOND),
            ]),
            poison_percent: if faults.is_empty() {
                0
            } else {
                *chance.pick(&[0, 0, 1, 6])
            },
            drift_ppm: *chance.pick(&[0, 0, 50, 500]),
            rogue: !faults.is_empty() && chance.percent(30),
            fancy: chance.percent(75),
            faults,
        }
    }
}

fn faults(chance: &mut Chance) -> Vec<Fault> {
    match chance.between(0, 9) {
        0 => Vec::new(),
        1 if chance.percent(30) => vec![Fault::DiskShort, Fault::DiskFull, Fault::SlowDisk],
        1 | 2 => vec![*chance.pick(&Fault::ALL)],
        3..=6 => {
            let of_a_hundred = chance.between(10, 60);
            let some = Fault::ALL.into_iter();
            some.filter(|_| chance.percent(of_a_hundred)).collect()
        }
        _ => Fault::ALL.to_vec(),
    }
}

/// The server's settings.
pub(super) fn config(chance: &mut Chance, names: usize) -> Config {
    let (ttl, beat, grace) = *chance.pick(&[(30, 10, 5), (30, 10, 5), (9, 3, 2)]);
    let seconds = Duration::from_secs;
    let mut config = Config::default();
    config.ttl = seconds(ttl);
    config.beat = seconds(beat);
    config.grace = seconds(grace);
    config.idle_beat = seconds(*chance.pick(&[0, 2 * beat, 60, 60]));
    config.keep = keep(chance);
    config.max_attempts = NonZeroU32::new(chance.between(2, 6) as u32).expect("it is 2 at least");
    config.backoff = Backoff {
        base: chance.between(100, 2_000) * MILLI,
        exponent: chance.between(0, 2) as u32,
        max: 30 * SECOND,
    };
    config.payload_budget = *chance.pick(&[0, 700, 64 * 1024 * 1024, 64 * 1024 * 1024]);
    config.close_within = seconds(chance.between(1, 10));
    set_limits(chance, &mut config, names);
    config
}

/// Draws the limits anew, as a restart may bring others.
pub(super) fn set_limits(chance: &mut Chance, config: &mut Config, names: usize) {
    config.max_active = chance.percent(30).then(|| chance.between(1, 6) as usize);
    config.caps = BTreeMap::new();
    for name in &NAMES[..names] {
        if chance.percent(25) {
            let cap = NonZeroU32::new(chance.between(1, 3) as u32).expect("it is 1 at least");
            config.caps.insert(name.parse().expect("the names are good"), cap);
        }
    }
    let mut queue = QueueLimits::default();
    queue.jobs = chance.percent(15).then(|| chance.between(5, 40));
    queue.bytes = chance.percent(10).then(|| chance.between(500, 5_000));
    queue.jobs_per_name = chance.percent(10).then(|| chance.between(3, 15));
    queue.bytes_per_name = chance.percent(10).then(|| chance.between(300, 3_000));
    config.queue = queue;
}

fn keep(chance: &mut Chance) -> Keep {
    if chance.percent(70) {
        return Keep::default();
    }
    let mut some = |least, most| {
        chance
            .percent(70)
            .then(|| Duration::from_secs(chance.between(least, most)))
    };
    let mut keep = Keep::default();
    keep.completed = some(30, 120);
    keep.failed = some(60, 200);
    keep.cancelled = some(30, 120);
    keep.count = some(3, 20).map(|count| count.as_secs());
    keep
}
