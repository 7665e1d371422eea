//! What neighbours notice of hostile peers: measured in turns, since no machine is as fast now as it was before.

use std::path::Path;
use std::time::Duration;

use super::neighbour::{Latencies, Neighbour};
use super::{Attack, Flood, memory_bound, peak_memory};
use crate::{Program, ServerProcess, Via};

/// The flag `--peer-memory`, in bytes.
const PEER_MEMORY: u64 = 256 * 1024 * 1024;

/// Jobs that wait all the time, so that answers can be long.
const LEFT: usize = 1_000;

/// Two servers on one machine, and a neighbour on each. One is attacked; what the other's neighbour notices is what the
/// attack takes of the machine.
#[derive(Debug)]
pub struct Trial {
    attacked: Site,
    beside: Site,
    attacks: Vec<Attack>,
    /// How many peers of each kind.
    each: usize,
}

#[derive(Debug)]
struct Site {
    server: ServerProcess,
    neighbour: Neighbour,
}

/// What was measured, block by block.
#[derive(Debug, Clone, Default)]
pub struct Blocks {
    /// While nobody was attacked.
    pub usual: Vec<Latencies>,
    /// On the server that is attacked.
    pub attacked: Vec<Latencies>,
    /// Meanwhile, on the other.
    pub beside: Vec<Latencies>,
    /// Connections that hostile peers made.
    pub connections: u64,
    /// Bytes that they sent.
    pub bytes: u64,
    /// Most bytes of memory that the server took.
    pub memory: u64,
    /// How many that may be.
    pub memory_bound: u64,
}

impl Trial {
    /// Starts the servers, their data in a directory.
    pub async fn prepare(program: &Program, directory: &Path, attacks: &[Attack], each: usize) -> Self {
        let connections = most_connections(attacks, each).to_string();
        Self {
            attacked: Site::open(program, &directory.join("attacked"), &connections).await,
            beside: Site::open(program, &directory.join("beside"), &connections).await,
            attacks: attacks.to_vec(),
            each,
        }
    }

    /// Measures so many times so many jobs without hostile peers and with them, in turns.
    ///
    /// # Panics
    /// A neighbour's connection ended, or its jobs do not run.
    pub async fn run(&mut self, rounds: usize, jobs: usize) -> Blocks {
        let Self {
            attacked,
            beside,
            attacks,
            each,
        } = self;
        let peers = (attacks.len() * *each) as u64;
        let mut blocks = Blocks {
            memory_bound: memory_bound(most_connections(attacks, *each), PEER_MEMORY),
            ..Blocks::default()
        };
        for _ in 0..rounds {
            let (usual, _) = attacked
                .neighbour
                .run_jobs_beside(&mut beside.neighbour, jobs)
                .await;
            blocks.usual.push(usual);
            let flood = Flood::start(attacked.server.address(), attacks, *each);
            while flood.connections() < peers {
                attacked.neighbour.run_jobs(1).await;
            }
            let (noticed, others) = attacked
                .neighbour
                .run_jobs_beside(&mut beside.neighbour, jobs)
                .await;
            blocks.attacked.push(noticed);
            blocks.beside.push(others);
            blocks.connections += flood.connections();
            blocks.bytes += flood.bytes();
            drop(flood);
            attacked.neighbour.be_alone().await;
        }
        blocks.memory = attacked.server.id().and_then(peak_memory).unwrap_or(0);
        blocks
    }
}

impl Site {
    async fn open(program: &Program, directory: &Path, connections: &str) -> Self {
        std::fs::create_dir_all(directory).expect("a directory can be made");
        let memory = PEER_MEMORY.to_string();
        let flags = [
            "--ttl",
            "1h",
            "--max-connections",
            connections,
            "--peer-memory",
            &memory,
        ];
        let server = ServerProcess::start(program, directory, Via::Tcp, &flags).await;
        let mut neighbour = Neighbour::move_in(server.address()).await;
        neighbour.leave_jobs(LEFT).await;
        neighbour.run_jobs(WARM_UP).await;
        Self { server, neighbour }
    }
}

/// Jobs that are not measured: the first ones meet what is not cached yet.
const WARM_UP: usize = 20;

/// The flag `--max-connections`: room for all, and for those that come again before they are gone.
fn most_connections(attacks: &[Attack], each: usize) -> u64 {
    2 * (each * attacks.len()) as u64 + 10
}

/// The middle one of the blocks' percentiles: one block in which the machine was busy with something else does not
/// count.
///
/// # Panics
/// There are no blocks.
pub fn percentile(blocks: &[Latencies], percent: usize) -> Duration {
    let mut each: Vec<Duration> = blocks.iter().map(|block| block.percentile(percent)).collect();
    each.sort_unstable();
    each[each.len() / 2]
}
