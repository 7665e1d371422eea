//! One bit of the database, of its log or of its watermark is another when the server starts.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jobq_client::{Client, JobId};
use jobq_worker::{CancellationToken, Job, Run, Runtime};
use tokio::task::JoinHandle;

use super::load::{WORKED, job};
use super::round::{Round, Skipped, Tally};
use super::scene::{Scene, stop, text};
use crate::history::HandlerRun;
use crate::{Chance, Ledger, soon};

/// Jobs that have ended before, and that wait.
const ENDED: usize = 12;
const WAITING: usize = 40;

/// Exit codes with which a server says that it noticed.
const NOTICED: [i32; 3] = [10, 11, 12];

/// How long the server may leave a question open before it is asked again.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) async fn run(round: Round) -> Result<Tally, Skipped> {
    let mut scene = Scene::open(round, &[]).await;
    submit(&mut scene, ENDED).await;
    let worker = scene.work(4);
    scene.drain().await;
    stop(worker).await;
    let waiting = submit(&mut scene, WAITING).await;
    if scene.chance.percent(50) {
        scene.server.kill().await;
    } else {
        assert!(scene.server.terminate().await.success());
    }
    let flipped = flip(&scene.server.data(), &mut scene.chance);
    scene.history.notes(format_args!("fault     {flipped}"));

    let ledger = scene.history.ledger();
    let mut tally = Tally {
        acknowledged: ledger.acknowledged.len(),
        settled: ENDED,
        ..Tally::default()
    };
    if let Err(status) = scene.server.try_restart(&[]).await {
        match status.code() {
            Some(code) if NOTICED.contains(&code) && !scene.server.log().contains("panicked") => {
                tally.notice("noticed at start");
            }
            _ => tally
                .wrong
                .push(format!("the server ended with {status}; {flipped}")),
        }
        return Ok(tally);
    }
    let worker = Inspector::start(&scene, ledger, waiting.clone());
    let address = scene.server.address().to_owned();
    let ended = tokio::select! {
        status = scene.server.wait() => Some(status),
        () = all_taken(&address) => None,
    };
    let (ran, wrong) = worker.stop().await;
    let status = match ended {
        Some(status) => status,
        None => scene.server.terminate().await,
    };
    tally.settled += ran.len();
    tally.wrong = wrong;
    let skipped: Vec<String> = waiting.difference(&ran).map(JobId::to_string).collect();
    let checked = scene.program.run(["check", text(&scene.server.data())]).await;
    match status.code() {
        _ if scene.server.log().contains("panicked") => {
            tally.wrong.push(format!("the server panicked; {flipped}"));
        }
        Some(code) if NOTICED.contains(&code) => tally.notice("noticed on reading"),
        Some(0) if skipped.is_empty() && checked.code == Some(0) => tally.notice("in what is unused"),
        Some(0) if skipped.is_empty() => tally.notice("no harm, found by check"),
        Some(0) if checked.code == Some(12) => tally.notice("jobs held back, found by check"),
        _ => {
            tally.lost = skipped.len();
            tally.wrong.push(format!(
                "jobs {} were not handed out, and nothing was noticed ({status}); {flipped}",
                skipped.join(", ")
            ));
        }
    }
    Ok(tally)
}

async fn submit(scene: &mut Scene, count: usize) -> BTreeSet<JobId> {
    let jobs: Vec<_> = (0..count).map(|_| job(&mut scene.chance, WORKED).0).collect();
    jobs.iter().for_each(|job| scene.history.asks(job));
    let receipts = scene
        .client
        .submit_many(jobs)
        .await
        .expect("the client is not closed");
    let mut ids = BTreeSet::new();
    for receipt in receipts {
        let receipt = receipt.unwrap_or_else(|error| panic!("a job is not taken: {error}"));
        scene.history.acknowledges(&receipt);
        ids.insert(receipt.id);
    }
    ids
}

/// Flips a bit somewhere in the files, and says which.
fn flip(data: &Path, chance: &mut Chance) -> String {
    // While there is a log, nearly all is in there, and the database's pages give way to it.
    let name = match chance.between(0, 9) {
        0..=7 => "jobq.db-wal",
        8 => "jobq.db",
        _ => "watermark",
    };
    let (name, file) = match File::options().read(true).write(true).open(data.join(name)) {
        Ok(file) if file.metadata().is_ok_and(|metadata| metadata.len() > 0) => (name, file),
        // After a clean stop there is no log.
        _ => ("jobq.db", open(&data.join("jobq.db"))),
    };
    let length = file.metadata().expect("it is open").len();
    let (at, bit) = (chance.between(0, length - 1), chance.between(0, 7));
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("it is within the file");
    byte[0] ^= 1 << bit;
    file.write_all_at(&byte, at).expect("it can be written");
    format!("bit {bit} of byte {at} of {name} is flipped")
}

fn open(path: &Path) -> File {
    let file = File::options().read(true).write(true).open(path);
    file.unwrap_or_else(|error| panic!("failed to open {}: {error}", path.display()))
}

/// Waits until no job waits for a worker or runs.
async fn all_taken(address: &str) {
    let taken = async {
        loop {
            if let Ok(client) = Client::builder(address).deadline(PATIENCE).connect().await
                && let Ok(stats) = client.stats().await
                && stats.total.queued + stats.total.processing + stats.total.scheduled == 0
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("the end of all jobs, or of the server", taken).await;
}

/// A worker that compares each job that it is given with what was asked for.
struct Inspector {
    seen: Arc<Mutex<Seen>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    ran: BTreeSet<JobId>,
    wrong: Vec<String>,
}

impl Inspector {
    fn start(scene: &Scene, ledger: Ledger, waiting: BTreeSet<JobId>) -> Self {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let handler = {
            let (seen, history) = (Arc::clone(&seen), Arc::clone(&scene.history));
            let expected = Arc::new((ledger, waiting));
            move |job: Job<Bytes>, run: Run| {
                history.runs(HandlerRun {
                    id: job.id,
                    fence: run.fence(),
                    attempt: run.attempt(),
                });
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.wrong.extend(wrong_with(&job, &expected.0, &expected.1));
                if !seen.ran.insert(job.id) {
                    seen.wrong.push(format!("job {} was handed out twice", job.id));
                }
                async { Ok(None) }
            }
        };
        let runtime = Runtime::new(scene.server.address())
            .raw_handler(WORKED, handler)
            .concurrency(4);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            // A server that notices may end before the worker was welcome.
            let _ = runtime.run(stopped.cancelled()).await;
        });
        Self { seen, stop, task }
    }

    async fn stop(self) -> (BTreeSet<JobId>, Vec<String>) {
        self.stop.cancel();
        soon("the worker's end", self.task)
            .await
            .expect("it does not panic");
        let seen = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        (seen.ran, seen.wrong)
    }
}

fn wrong_with(job: &Job<Bytes>, ledger: &Ledger, waiting: &BTreeSet<JobId>) -> Option<String> {
    if !waiting.contains(&job.id) {
        return Some(format!(
            "job {} was handed out, which had ended or never was",
            job.id
        ));
    }
    if !ledger.acknowledged.contains(&(job.id, job.uuid)) {
        return Some(format!(
            "job {} was handed out as {}, which it is not",
            job.id, job.uuid
        ));
    }
    match ledger.asked.get(&job.uuid) {
        Some(asked) if asked.name == job.name && asked.params == job.params => None,
        _ => Some(format!(
            "job {} was handed out, and is not what was asked for",
            job.id
        )),
    }
}
