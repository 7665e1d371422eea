//! A server with a history: what most rounds consist of.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use jobq_client::{Client, JobId};
use rustix::process::Signal;
use uuid::Uuid;

use super::load::{WORKED, job};
use super::round::{Round, Tally};
use crate::history::HandlerRun;
use crate::soon::BOUND;
use crate::{Chance, Contents, History, Ledger, Program, ServerProcess, Via, WorkerProcess, check, soon};

/// The file to which scripts add a line for each run that begins.
const STARTS: &str = "starts";

/// Says that a run begins, in one write.
pub(super) const BEGIN: &str = r#"echo "$JOBQ_ID $JOBQ_FENCE $JOBQ_ATTEMPT" >> "$1""#;

/// Within so many microseconds a server is killed that starts: some come further than others.
const MOST_START: u64 = 40_000;

/// What is known of how runs ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Runs {
    /// Each job ran once.
    Once,
    /// Each run's end is on record.
    Accounted,
    /// So it is, and the last run of a job is the one that counts.
    LastCounts,
    /// Workers died with their server: ends may not be on record, and a job counts once all the same.
    SettledOnce,
}

/// A server, a client that stays, and the history of what happens to them.
pub(super) struct Scene {
    pub(super) program: Program,
    pub(super) directory: PathBuf,
    pub(super) chance: Chance,
    pub(super) history: Arc<History>,
    pub(super) server: ServerProcess,
    /// Asks, and waits for ends.
    pub(super) client: Client,
    /// Answers that did not come.
    pub(super) doubts: Arc<AtomicUsize>,
}

impl Scene {
    /// Starts a server with further arguments.
    pub(super) async fn open(round: Round, arguments: &[&str]) -> Self {
        Self::open_via(round, Via::Tcp, arguments).await
    }

    /// As [`Self::open`], reached in this way.
    pub(super) async fn open_via(round: Round, via: Via, arguments: &[&str]) -> Self {
        let server = ServerProcess::start(&round.program, &round.directory, via, arguments).await;
        let client = connect(server.address()).await;
        Self {
            program: round.program,
            directory: round.directory,
            chance: round.chance,
            history: round.history,
            server,
            client,
            doubts: Arc::default(),
        }
    }

    /// Starts a worker of so many runs at a time, whose jobs say that they begin, and end.
    pub(super) fn work(&self, concurrency: u32) -> WorkerProcess {
        self.work_by(BEGIN, self.server.address(), concurrency)
    }

    /// Starts a worker whose script finds the file to which [`BEGIN`] writes in `$1`.
    pub(super) fn work_by(&self, script: &str, address: &str, concurrency: u32) -> WorkerProcess {
        let starts = self.directory.join(STARTS);
        WorkerProcess::start(
            &self.program,
            &self.directory,
            address,
            WORKED,
            concurrency,
            script,
            &starts,
        )
    }

    /// A random moment within a span: that is when a fault hits, and nothing is waited for.
    pub(super) async fn moment(&mut self, within: Duration) {
        let most = u64::try_from(within.as_micros()).expect("moments are short");
        let after = Duration::from_micros(self.chance.between(0, most));
        tokio::time::sleep(after).await;
    }

    /// Kills the server, and starts it anew; now and then it is killed while it starts.
    pub(super) async fn kill_server(&mut self) {
        self.history.notes("fault     SIGKILL of the server");
        self.server.kill().await;
        while self.chance.percent(25) {
            let after = self.chance.between(0, MOST_START);
            self.history.notes(format_args!(
                "fault     SIGKILL of the server {after} µs after its start"
            ));
            self.server.start_and_kill(Duration::from_micros(after)).await;
        }
        self.restart().await;
    }

    /// Starts the server anew.
    pub(super) async fn restart(&mut self) {
        self.server.restart().await;
        self.history.notes("the server is up again");
    }

    /// Waits until a job has begun to run so often.
    pub(super) async fn begun(&self, id: JobId, times: usize) {
        let begun = async {
            while self.count_begun(id) < times {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        soon(&format!("the start of job {id} for the {times}. time"), begun).await;
    }

    /// How often a job has begun to run.
    pub(super) fn count_begun(&self, id: JobId) -> usize {
        self.starts().iter().filter(|run| run.id == id).count()
    }

    /// Submits jobs that are to be run.
    pub(super) async fn submit(&mut self, count: u32) -> Vec<JobId> {
        let mut ids = Vec::new();
        for _ in 0..count {
            let (job, _) = job(&mut self.chance, WORKED);
            self.history.asks(&job);
            let receipt = self.client.submit(job).await;
            let receipt = receipt.unwrap_or_else(|error| panic!("a job is not taken: {error}"));
            self.history.acknowledges(&receipt);
            ids.push(receipt.id);
        }
        ids
    }

    /// Waits until all jobs that are to be run and that the server knows have ended.
    pub(super) async fn drain(&self) -> BTreeSet<JobId> {
        self.history.notes("waits for the ends of all jobs");
        let ledger = self.history.ledger();
        let numbers: BTreeMap<Uuid, JobId> =
            ledger.acknowledged.iter().map(|&(id, uuid)| (uuid, id)).collect();
        let mut ids = BTreeSet::new();
        for (uuid, _) in ledger.asked.iter().filter(|(_, asked)| asked.name == WORKED) {
            let id = match numbers.get(uuid) {
                Some(id) => Some(*id),
                None => self
                    .client
                    .show_uuid(*uuid)
                    .await
                    .expect("the server answers")
                    .map(|job| JobId(job.id)),
            };
            ids.extend(id);
        }
        let mut ends = self.client.wait_many(ids.iter().copied());
        let all = async {
            while let Some(end) = ends.next().await {
                let end = end.unwrap_or_else(|error| panic!("a job's end is not told: {error}"));
                self.history.ends(end.id, end.status);
            }
        };
        soon("the ends of all jobs", all).await;
        ids
    }

    /// Ends the server in one of two ways, and compares what is on disk with the history. The jobs `ended` must have.
    pub(super) async fn close(mut self, ended: &BTreeSet<JobId>, runs: Runs) -> Tally {
        if self.chance.percent(50) {
            self.server.kill().await;
        } else {
            let status = self.server.terminate().await;
            assert!(status.success(), "the server does not stop well: {status}");
        }
        self.verdict(ended, runs).await.0
    }

    /// As [`Self::close`], of a server that has ended; with what is on disk.
    pub(super) async fn verdict(self, ended: &BTreeSet<JobId>, runs: Runs) -> (Tally, Contents) {
        for run in self.starts() {
            self.history.runs(run);
        }
        let ledger = self.history.ledger();
        let contents = Contents::read(&self.server.data(), &ledger).await;
        let mut tally = Tally::of(&ledger, &contents);
        tally.doubts = self.doubts.load(Ordering::Relaxed);
        tally.wrong = wrong(&ledger, &contents, ended, runs);
        (tally, contents)
    }

    fn starts(&self) -> Vec<HandlerRun> {
        let text = std::fs::read_to_string(self.directory.join(STARTS)).unwrap_or_default();
        let read = |line: &str| HandlerRun::read(line).unwrap_or_else(|| panic!("a script said {line:?}"));
        text.lines().map(read).collect()
    }
}

fn wrong(ledger: &Ledger, contents: &Contents, ended: &BTreeSet<JobId>, runs: Runs) -> Vec<String> {
    let mut waited_for = contents.clone();
    waited_for.jobs.retain(|job| ended.contains(&JobId(job.id)));
    let mut wrong = check::kept(ledger, contents);
    wrong.extend(check::ended(&waited_for));
    wrong.extend(check::ends_stand(ledger, contents));
    wrong.extend(match runs {
        Runs::Once => check::ran_once(ledger, &waited_for),
        Runs::Accounted => check::runs_accounted(ledger, contents),
        Runs::LastCounts => {
            let mut wrong = check::runs_accounted(ledger, contents);
            wrong.extend(check::last_runs_count(ledger, contents));
            wrong
        }
        Runs::SettledOnce => check::settled_once(ledger, contents),
    });
    wrong
}

/// Stops a worker by SIGTERM.
pub(super) async fn stop(mut worker: WorkerProcess) {
    let status = worker.terminate().await;
    // One that has just been started may not listen to signals yet.
    let stopped = status.success() || status.signal() == Some(Signal::TERM.as_raw());
    assert!(stopped, "a worker that is told to stop has not failed: {status}");
}

/// A client that repeats for as long as anything is waited for.
pub(super) async fn connect(address: &str) -> Client {
    let client = Client::builder(address).deadline(BOUND).connect().await;
    client.unwrap_or_else(|error| panic!("failed to connect: {error}"))
}

/// A path as text.
pub(super) fn text(path: &Path) -> &str {
    path.to_str().expect("the harness makes its paths of UTF-8")
}
