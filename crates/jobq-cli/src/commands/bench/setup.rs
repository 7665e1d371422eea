//! What every scenario starts with and ends with: a server of its own with clients, and the comparison of all counts.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use jobq_client::{Client, Stats};
use jobq_worker::Summary;

use super::disk;
use super::jobs::{Load, one_name};
use super::report::{Measured, Report};
use super::server::Server;
use super::setting::Setting;
use super::submitting;
use super::timing::{StampClock, Timing};
use super::verify::Expected;
use super::working::{self, Crew, Ledger};
use crate::descriptors;
use crate::exit::Exit;

/// Open files of a worker here: its connection, and what its thread waits on.
const WORKER_FILES: u64 = 8;

/// Open files that each process needs beside those of the connections.
const OWN_FILES: u64 = 256;

/// How often a sign that something goes on moves.
const BUSY_STEP: Duration = Duration::from_millis(100);

/// How often a bar of a wait moves.
const WAIT_STEP: Duration = Duration::from_millis(100);

/// A server and its clients.
pub(super) struct Bench {
    pub(super) setting: Setting,
    /// Before the server, so that none of them comes back to one that was killed.
    pub(super) clients: Vec<Client>,
    pub(super) server: Server,
    pub(super) clock: StampClock,
    /// Bars that are shown at the same time, below each other.
    bars: MultiProgress,
    fdatasync: Duration,
}

impl Bench {
    /// Starts a server and connects the clients of the setting.
    ///
    /// # Errors
    /// It does not start, cannot be reached, or the disk cannot be written.
    pub(super) async fn start(setting: &Setting) -> anyhow::Result<Self> {
        make_room(setting)?;
        let server = Server::start(setting).await?;
        let fdatasync = fdatasync(server.directory()).await?;
        let mut clients = Vec::new();
        for _ in 0..setting.clients {
            clients.push(connect(&server).await?);
        }
        Ok(Self {
            setting: setting.clone(),
            clients,
            bars: MultiProgress::new(),
            server,
            clock: StampClock::new(),
            fdatasync,
        })
    }

    /// All jobs of the setting.
    pub(super) fn load(&self) -> Load {
        Load::new(&self.setting, self.clock)
    }

    /// The workers of the setting.
    pub(super) fn crew(&self) -> Crew {
        Crew {
            workers: self.setting.workers,
            concurrency: self.setting.concurrency,
            names: one_name(),
        }
    }

    /// Submits a load. Returns how many jobs the server has acknowledged: all.
    ///
    /// # Errors
    /// As [`submitting::submit_all`], and if jobs are missing.
    pub(super) async fn submit(
        &self,
        load: &Load,
        acknowledged: &Arc<Timing>,
        what: &'static str,
    ) -> anyhow::Result<u64> {
        let bar = self.bar(load.jobs, what);
        let taken = submitting::submit_all(&self.clients, load, acknowledged, &bar).await;
        bar.finish_and_clear();
        let taken = taken?;
        if taken != load.jobs {
            bail!("{} jobs were submitted, and {taken} acknowledged", load.jobs);
        }
        Ok(taken)
    }

    /// Has workers run `jobs` more jobs, and returns what they did once that is settled.
    ///
    /// # Errors
    /// As [`working::work_all`].
    pub(super) async fn work(
        &self,
        crew: &Crew,
        ledger: &Arc<Ledger>,
        jobs: u64,
        what: &'static str,
    ) -> anyhow::Result<Summary> {
        let bar = self.bar(jobs, what);
        let summary = working::work_all(self.server.address(), crew, ledger, jobs, &bar).await;
        bar.finish_and_clear();
        summary
    }

    /// A bar of so many jobs below those that are shown.
    pub(super) fn bar(&self, jobs: u64, what: &'static str) -> ProgressBar {
        self.bars.add(bar(jobs, what))
    }

    /// A sign, below those that are shown, that something goes on.
    pub(super) fn busy(&self, what: &'static str) -> ProgressBar {
        self.bars.add(busy(what))
    }

    /// Waits, and shows how long yet.
    pub(super) async fn wait(&self, time: Duration, what: &'static str) {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let style = ProgressStyle::with_template("{msg:18} {bar:30} {eta} left")
            .expect("the template is well formed");
        let bar = ProgressBar::new(millis(time))
            .with_style(style)
            .with_message(what);
        let bar = self.bars.add(bar);
        let begun = Instant::now();
        while begun.elapsed() < time {
            let left = time.saturating_sub(begun.elapsed());
            tokio::time::sleep(left.min(WAIT_STEP)).await;
            bar.set_position(millis(begun.elapsed()));
        }
        bar.finish_and_clear();
    }

    /// What the server counts.
    ///
    /// # Errors
    /// It does not say.
    pub(super) async fn stats(&self) -> anyhow::Result<Stats> {
        self.clients[0].stats().await.context("failed to ask the server")
    }

    /// Ends the server, and starts another one on its store, which has no clients yet.
    ///
    /// # Errors
    /// The server does not end as it should, or the other one does not start.
    pub(super) async fn restart(self, ending: Ending) -> anyhow::Result<(Self, Between)> {
        let busy = self.busy("starting again");
        // A client that finds its server gone would come back to it.
        for client in self.clients {
            client.close().await;
        }
        let begun = Instant::now();
        let leftover = match ending {
            Ending::Kill => self.server.kill(),
            Ending::Stop => self.server.stop().await?,
        };
        let between = Between {
            ending: begun.elapsed(),
            database: leftover.database_bytes()?,
        };
        let server = leftover.start(&self.setting).await?;
        busy.finish_and_clear();
        let bench = Self {
            clients: Vec::new(),
            server,
            ..self
        };
        Ok((bench, between))
    }

    /// Compares all counts, stops the server, and makes the report.
    ///
    /// # Errors
    /// The server or its store count differently, or the server ends with an error.
    pub(super) async fn finish(self, expected: &Expected, measured: Measured) -> anyhow::Result<Report> {
        let report = Report {
            setting: self.setting.clone(),
            start: self.server.start_time(),
            fdatasync: measured.fdatasync.unwrap_or(self.fdatasync),
            measured,
        };
        self.end(expected).await?;
        Ok(report)
    }

    /// Compares all counts and stops the server.
    ///
    /// # Errors
    /// As [`Bench::finish`].
    pub(super) async fn end(self, expected: &Expected) -> anyhow::Result<()> {
        expected.check_server(&self.stats().await?)?;
        for client in self.clients {
            client.close().await;
        }
        let busy = self.bars.add(busy("comparing counts"));
        let leftover = self.server.stop().await?;
        let checked = expected.check_store(&leftover).await;
        busy.finish_and_clear();
        checked
    }
}

/// Raises the limit of open files for all connections, here and in the server, which inherits it.
fn make_room(setting: &Setting) -> anyhow::Result<()> {
    let peers = setting.connections + setting.clients + setting.workers * WORKER_FILES;
    let needed = peers + OWN_FILES;
    descriptors::raise(needed).map_err(|allowed| {
        Exit::Usage.because(anyhow!(
            "failed to make room for all connections: they need {needed} open files, and the system allows {allowed}; \
             give fewer --connections, --clients or --workers, or raise the limit (ulimit -Hn)"
        ))
    })
}

/// What is seen between two servers on a store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Between {
    /// How long the first one took to end.
    pub(super) ending: Duration,
    /// How long the database is with its log, in bytes.
    pub(super) database: u64,
}

/// How a server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Without a word.
    Kill,
    /// As it should.
    Stop,
}

/// A client of a server.
///
/// # Errors
/// It cannot be reached.
pub(super) async fn connect(server: &Server) -> anyhow::Result<Client> {
    let client = Client::builder(server.address()).label("jobq bench");
    client.connect().await.context("failed to connect")
}

/// The time of a sync in a directory.
async fn fdatasync(directory: &Path) -> anyhow::Result<Duration> {
    let directory = directory.to_owned();
    tokio::task::spawn_blocking(move || disk::fdatasync(&directory))
        .await
        .context("measuring the disk panicked")?
        .context("failed to measure the disk's fdatasync")
}

/// A sign on standard error that something goes on; none where that is no terminal.
fn busy(what: &'static str) -> ProgressBar {
    let busy = ProgressBar::new_spinner().with_message(what);
    busy.enable_steady_tick(BUSY_STEP);
    busy
}

/// A bar on standard error; none where that is no terminal.
fn bar(jobs: u64, what: &'static str) -> ProgressBar {
    let template = "{msg:18} {bar:30} {human_pos}/{human_len}  {rate}/s  {eta} left";
    let style = ProgressStyle::with_template(template)
        .expect("the template is well formed")
        .with_key("rate", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            // Writing to a text does not fail.
            let _ = write!(out, "{}", HumanCount(state.per_sec() as u64));
        });
    ProgressBar::new(jobs).with_style(style).with_message(what)
}
