//! Real faults on the real binary: each round starts `jobq serve`, clients and workers as processes, brings one kind of
//! fault, and then compares what was asked, acknowledged and seen with what is on disk.
//!
//! [`Fault`] is where to start: [`Fault::bring`] is one round of one kind. The program `faults` runs as many as one
//! likes, the tests of the binary a few of each.

mod bit_flips;
mod disk;
mod disk_errors;
mod full_disk;
mod kill;
mod load;
mod lost_worker;
mod namespace;
mod network;
mod poison;
mod power;
mod proxy;
mod report;
mod restart;
mod round;
mod scene;
mod second_server;
mod suspend;

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::path::Path;

use futures::FutureExt;
use futures::future::LocalBoxFuture;

use crate::Program;

pub use report::Report;
pub use round::{Outcome, Round, Tally};

use lost_worker::Loss;
use network::Line;
use round::Skipped;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL of the server, of workers and of clients at random moments.
    Kill,
    /// Power cuts: the store's file system is shut down without writing what it has in memory.
    Power,
    /// A write or a sync that fails.
    DiskErrors,
    /// A file system that fills up and is freed.
    FullDisk,
    /// One bit of the database or its log is another.
    BitFlips,
    /// A worker that is stopped past its lease, and goes on.
    Suspend,
    /// A connection that goes silent, and comes back.
    Partition,
    /// Connections that are cut, held up, taken apart, silenced, and whose bytes are repeated.
    Proxy,
    /// Readers and writers that are slow.
    Slow,
    /// More than one server on the same directory.
    SecondServer,
    /// Restarts under load, with running jobs.
    Restart,
    /// A job that kills its worker.
    Poison,
    /// How long until the jobs of a killed worker run again.
    DeadWorker,
    /// How long until the jobs of a worker run again whose connection went silent.
    SilentWorker,
}

impl Fault {
    /// All kinds, in the order in which they are run.
    pub const ALL: [Self; 14] = [
        Self::Kill,
        Self::Power,
        Self::DiskErrors,
        Self::FullDisk,
        Self::BitFlips,
        Self::Suspend,
        Self::Partition,
        Self::Proxy,
        Self::Slow,
        Self::SecondServer,
        Self::Restart,
        Self::Poison,
        Self::DeadWorker,
        Self::SilentWorker,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Power => "power",
            Self::DiskErrors => "disk-errors",
            Self::FullDisk => "full-disk",
            Self::BitFlips => "bit-flips",
            Self::Suspend => "suspend",
            Self::Partition => "partition",
            Self::Proxy => "proxy",
            Self::Slow => "slow",
            Self::SecondServer => "second-server",
            Self::Restart => "restart",
            Self::Poison => "poison",
            Self::DeadWorker => "dead-worker",
            Self::SilentWorker => "silent-worker",
        }
    }

    /// What it does, in a line for people.
    pub fn about(self) -> &'static str {
        match self {
            Self::Kill => "SIGKILL of the server, of workers and of clients at random moments",
            Self::Power => "power cuts: the store's ext4 is shut down without flushing (root)",
            Self::DiskErrors => "the n-th write or sync fails (strace)",
            Self::FullDisk => "the store's file system fills up and is freed (root)",
            Self::BitFlips => "one bit of the database, its log or its watermark is flipped",
            Self::Suspend => "SIGSTOP of a worker past its lease, then SIGCONT",
            Self::Partition => "a connection goes silent past the lease, and comes back (root)",
            Self::Proxy => "connections are cut, delayed, split, silenced, and bytes repeated",
            Self::Slow => "a client and a worker that read and write slowly",
            Self::SecondServer => "a second server on the same directory, and two that start at once",
            Self::Restart => "the server is restarted under load: no job runs twice",
            Self::Poison => "a job kills its worker: a dead letter after three",
            Self::DeadWorker => "measures how soon a killed worker's jobs run again (7 s a round)",
            Self::SilentWorker => "measures it for a silent partition (root; 35 s a round)",
        }
    }

    /// How many rounds the long form has.
    pub fn rounds(self) -> u64 {
        match self {
            Self::Kill => 1_000,
            Self::BitFlips => 500,
            Self::Power | Self::DiskErrors | Self::Proxy => 100,
            Self::FullDisk | Self::Restart => 50,
            Self::Suspend | Self::Partition | Self::Slow | Self::SecondServer | Self::Poison => 20,
            Self::DeadWorker => 10,
            Self::SilentWorker => 5,
        }
    }

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.name() == name)
    }

    /// One round, in a directory of its own. The seed says when and where the fault hits, as far as that can be said:
    /// processes run as fast as they run.
    ///
    /// Whatever is wrong is in the tally, a panic of the harness included. Dropped before its end, it ends its
    /// processes and undoes its mounts.
    pub async fn bring(self, program: &Program, directory: &Path, seed: u64) -> Outcome {
        let round = Round::new(program, directory, seed);
        match AssertUnwindSafe(self.run(round)).catch_unwind().await {
            Ok(Ok(tally)) => Outcome::Done(tally),
            Ok(Err(Skipped(why))) => Outcome::Skipped(why),
            Err(panic) => Outcome::Done(Tally::broken(message(panic.as_ref()))),
        }
    }

    fn run(self, round: Round) -> LocalBoxFuture<'static, Result<Tally, Skipped>> {
        match self {
            Self::Kill => Box::pin(kill::run(round)),
            Self::Power => Box::pin(power::run(round)),
            Self::DiskErrors => Box::pin(disk_errors::run(round)),
            Self::FullDisk => Box::pin(full_disk::run(round)),
            Self::BitFlips => Box::pin(bit_flips::run(round)),
            Self::Suspend => Box::pin(suspend::run(round)),
            Self::Partition => Box::pin(lost_worker::run(round, Loss::Healed)),
            Self::Proxy => Box::pin(network::run(round, Line::Broken)),
            Self::Slow => Box::pin(network::run(round, Line::Slow)),
            Self::SecondServer => Box::pin(second_server::run(round)),
            Self::Restart => Box::pin(restart::run(round)),
            Self::Poison => Box::pin(poison::run(round)),
            Self::DeadWorker => Box::pin(lost_worker::run(round, Loss::Killed)),
            Self::SilentWorker => Box::pin(lost_worker::run(round, Loss::Silent)),
        }
    }
}

/// What a panic said.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("the harness panicked without a word").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_found_by_its_name() {
        for fault in Fault::ALL {
            assert_eq!(Fault::named(fault.name()), Some(fault));
        }
        assert_eq!(Fault::named("no-such-fault"), None);
    }
}
