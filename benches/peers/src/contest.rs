//! Who takes part, and the rounds.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::Args;
use crate::beanstalkd::{self, Beanstalkd};
use crate::jobq;
use crate::nats::{self, Nats};
use crate::pipe::Chunk;
use crate::redis::{self, Redis, Use};
use crate::server::{self, Server};

/// Jobs that are sent together, as `jobq bench` has it.
pub(crate) const EACH: u64 = 1_000;

/// Bytes of a job.
pub(crate) const PAYLOAD: usize = 100;

/// A server that is given work: each of its methods is called once, in this order.
pub(crate) trait Peer {
    /// What submits jobs. It is made before the time runs.
    fn submissions(&self, jobs: u64) -> Vec<Chunk>;

    /// Sends that, until the last job is acknowledged.
    fn submit(&mut self, chunks: &[Chunk]) -> anyhow::Result<()>;

    /// Takes all jobs and has them removed, until that is acknowledged.
    fn drain(&mut self, jobs: u64) -> anyhow::Result<()>;

    /// How many jobs the server holds: asked after each of the two.
    fn held(&mut self) -> anyhow::Result<u64>;
}

/// What one part of one round took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Phase {
    pub(crate) jobs: u64,
    pub(crate) seconds: f64,
    /// None where the system does not tell.
    pub(crate) server_cpu: Option<f64>,
    pub(crate) client_cpu: f64,
}

/// What one server did.
pub(crate) struct Outcome {
    pub(crate) name: String,
    /// Whether a job is on disk when its submission is acknowledged.
    pub(crate) on_disk: &'static str,
    pub(crate) submit: Vec<Phase>,
    pub(crate) drain: Vec<Phase>,
}

/// A kind of server, and how it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Jobq,
    Beanstalkd { fsync: bool },
    Nats { sync_always: bool },
    Redis(Use),
}

struct Contestant {
    kind: Kind,
    program: PathBuf,
    outcome: Outcome,
}

/// All rounds: in each, everybody once.
pub(crate) fn run(args: &Args) -> anyhow::Result<Vec<Outcome>> {
    let dir = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let mut contestants = contestants(args)?;
    for round in 1..=args.rounds {
        for contestant in &mut contestants {
            let name = &contestant.outcome.name;
            eprintln!("round {round} of {}: {name}", args.rounds);
            let (submit, drain) = contestant
                .kind
                .compete(&contestant.program, &dir, args.jobs)
                .with_context(|| format!("failed to measure {name}"))?;
            contestant.outcome.submit.push(submit);
            contestant.outcome.drain.push(drain);
        }
    }
    Ok(contestants.into_iter().map(|one| one.outcome).collect())
}

/// jobq, and whoever is there.
fn contestants(args: &Args) -> anyhow::Result<Vec<Contestant>> {
    let mut found = Vec::new();
    for kind in Kind::PEERS {
        if let Some(program) = server::find(kind.program()) {
            if kind == (Kind::Nats { sync_always: true }) && !nats::can_sync_always(&program) {
                eprintln!("nats-server is older than 2.10 and cannot sync every write: left out");
                continue;
            }
            found.push(Contestant::new(kind, program)?);
        }
    }
    if found.is_empty() {
        bail!("none of beanstalkd, redis-server and nats-server is on PATH; install at least one of them");
    }
    found.retain(|one| one.outcome.name.contains(&args.only));
    ensure!(
        !found.is_empty(),
        "none of the peers on PATH has {:?} in its name",
        args.only
    );
    let jobq = Contestant::new(Kind::Jobq, args.jobq.clone())
        .with_context(|| format!("{} cannot be used as jobq; see --jobq", args.jobq.display()))?;
    found.insert(0, jobq);
    Ok(found)
}

impl Contestant {
    fn new(kind: Kind, program: PathBuf) -> anyhow::Result<Self> {
        let flag = if matches!(kind, Kind::Beanstalkd { .. }) {
            "-v"
        } else {
            "--version"
        };
        let version = server::version(&program, flag)?;
        let (name, how, on_disk) = kind.description();
        let outcome = Outcome {
            name: format!("{name} {version}{how}"),
            on_disk,
            submit: Vec::new(),
            drain: Vec::new(),
        };
        Ok(Self {
            kind,
            program,
            outcome,
        })
    }
}

impl Kind {
    const PEERS: [Self; 7] = [
        Self::Beanstalkd { fsync: false },
        Self::Beanstalkd { fsync: true },
        Self::Nats { sync_always: false },
        Self::Nats { sync_always: true },
        Self::Redis(Use::Pipelined),
        Self::Redis(Use::Variadic),
        Self::Redis(Use::Reliable),
    ];

    fn program(self) -> &'static str {
        match self {
            Self::Jobq => "jobq",
            Self::Beanstalkd { .. } => "beanstalkd",
            Self::Nats { .. } => "nats-server",
            Self::Redis(_) => "redis-server",
        }
    }

    /// Its name, how it is used, and whether a job is on disk when its submission is acknowledged.
    fn description(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Jobq => ("jobq", "", "yes"),
            Self::Beanstalkd { fsync: false } => ("beanstalkd", ", in memory", "no"),
            Self::Beanstalkd { fsync: true } => ("beanstalkd", ", one fsync each (-f0)", "yes"),
            Self::Nats { sync_always: false } => (
                "NATS JetStream",
                ", work queue stream",
                "no: synced every two minutes",
            ),
            Self::Nats { sync_always: true } => ("NATS JetStream", ", work queue stream, sync always", "yes"),
            Self::Redis(Use::Pipelined) => (
                "Redis",
                ", list, appendfsync always, pipelines of 1000",
                "yes; a popped job is lost with its worker",
            ),
            Self::Redis(Use::Variadic) => (
                "Redis",
                ", list, appendfsync always, 1000 a command",
                "yes; popped jobs are lost with their worker",
            ),
            Self::Redis(Use::Reliable) => ("Redis", ", list, appendfsync always, RPOPLPUSH and LREM", "yes"),
        }
    }

    /// Submits and drains, on a server of its own.
    fn compete(self, program: &Path, dir: &Path, jobs: u64) -> anyhow::Result<(Phase, Phase)> {
        match self {
            Self::Jobq => jobq::compete(program, dir, jobs),
            Self::Beanstalkd { fsync } => {
                // Its speed is that of the disk, whatever the number.
                let jobs = if fsync { jobs / 10 } else { jobs };
                let server = beanstalkd::start(program, dir, fsync)?;
                let peer = Beanstalkd::new(server.connect()?);
                measure(&server, peer, jobs)
            }
            Self::Nats { sync_always } => {
                let server = nats::start(program, dir, sync_always)?;
                let peer = Nats::new(server.connect()?)?;
                measure(&server, peer, jobs)
            }
            Self::Redis(how) => {
                let server = redis::start(program, dir)?;
                let peer = Redis::new(server.connect()?, how);
                measure(&server, peer, jobs)
            }
        }
    }
}

/// Gives a server the work, and looks whether it has done it.
fn measure(server: &Server, mut peer: impl Peer, jobs: u64) -> anyhow::Result<(Phase, Phase)> {
    let chunks = peer.submissions(jobs);
    let submit = timed(server, jobs, || peer.submit(&chunks)).context("failed to submit")?;
    let held = peer.held()?;
    ensure!(
        held == jobs,
        "{jobs} jobs were submitted, and the server has {held}"
    );
    let drain = timed(server, jobs, || peer.drain(jobs)).context("failed to drain")?;
    let held = peer.held()?;
    ensure!(held == 0, "all jobs were taken, and the server has {held} more");
    Ok((submit, drain))
}

fn timed(server: &Server, jobs: u64, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Phase> {
    let (server_before, own_before, begun) = (server.cpu(), server::own_cpu(), Instant::now());
    work()?;
    let seconds = begun.elapsed().as_secs_f64();
    let client_cpu = (server::own_cpu() - own_before).as_secs_f64();
    let spent = |(before, after): (Duration, Duration)| (after - before).as_secs_f64();
    Ok(Phase {
        jobs,
        seconds,
        server_cpu: server_before.zip(server.cpu()).map(spent),
        client_cpu,
    })
}

/// The content of the `n`th job, which no other has.
pub(crate) fn payload(n: u64) -> Vec<u8> {
    let mut payload = format!("{n:020}").into_bytes();
    payload.resize(PAYLOAD, b'x');
    payload
}

/// Commands for jobs, in chunks of [`EACH`].
pub(crate) fn chunks(jobs: u64, mut command: impl FnMut(u64, &mut Vec<u8>)) -> Vec<Chunk> {
    (0..jobs)
        .step_by(EACH as usize)
        .map(|first| {
            let replies = EACH.min(jobs - first);
            let mut bytes = Vec::new();
            (first..first + replies).for_each(|n| command(n, &mut bytes));
            Chunk { bytes, replies }
        })
        .collect()
}
