//! Clients that submit while faults happen: one within this process that hears of each job, and programs that can be
//! killed.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jobq_client::{Client, JobRequest, Priority, SubmitError, json};
use tokio::io::AsyncWriteExt;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::scene::Scene;
use crate::{Chance, History, Process, Program, soon};

/// The name of the jobs that workers run.
pub(super) const WORKED: &str = "worked";

/// The name of jobs that nobody runs: they cost no process, and have to be there at the end.
const KEPT: &str = "kept";

/// Who the jobs are for.
const USERNAME: &str = "somebody";

/// Of the steady client's jobs, one in so many is run.
const RUN_ONE_IN: u64 = 8;

/// Jobs that the steady client submits at least, and at most.
const STEADY: std::ops::RangeInclusive<u64> = 10..=400;

/// Between two jobs of the steady client.
const PACE: Duration = Duration::from_millis(1);

/// How long the steady client waits for an answer before it asks again.
const PATIENCE: Duration = Duration::from_millis(700);

/// Jobs that one program submits.
const BATCH: u64 = 12;

/// The exit code of a client of which jobs were refused for good.
const PARTIAL: i32 = 4;

/// Longest text in a job's params, in bytes.
const MOST_PADDING: u64 = 1_500;

/// Clients at work.
pub(super) struct Load {
    tasks: JoinSet<()>,
    enough: watch::Sender<bool>,
    kill: Arc<Notify>,
}

impl Load {
    /// Starts a client that submits one job after the other until it is told that it is enough, and one program after
    /// the other that submits a batch. They reach the server at `address`.
    pub(super) fn start(scene: &mut Scene, address: &str, programs: u32) -> Self {
        let enough = watch::Sender::new(false);
        let kill = Arc::new(Notify::new());
        let mut tasks = JoinSet::new();
        let mut producer = || Producer {
            program: scene.program.clone(),
            directory: scene.directory.clone(),
            address: address.to_owned(),
            chance: scene.chance.branch(),
            history: Arc::clone(&scene.history),
            doubts: Arc::clone(&scene.doubts),
        };
        tasks.spawn(producer().submit_steadily(enough.subscribe()));
        tasks.spawn(producer().submit_by_programs(programs, Arc::clone(&kill)));
        Self { tasks, enough, kill }
    }

    /// Kills the program that submits now, if there is one.
    pub(super) fn kill_program(&self) {
        self.kill.notify_waiters();
    }

    /// Lets the clients come to their ends, and waits for those.
    pub(super) async fn finish(mut self) {
        self.enough.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }
}

/// Submits jobs, until each is acknowledged.
struct Producer {
    program: Program,
    directory: PathBuf,
    address: String,
    chance: Chance,
    history: Arc<History>,
    doubts: Arc<AtomicUsize>,
}

impl Producer {
    async fn submit_steadily(mut self, mut enough: watch::Receiver<bool>) {
        let mut client = self.connect().await;
        for number in 0..*STEADY.end() {
            if *enough.borrow_and_update() && number >= *STEADY.start() {
                break;
            }
            let name = if number % RUN_ONE_IN == 0 { WORKED } else { KEPT };
            let job = job(&mut self.chance, name).0;
            self.history.asks(&job);
            let taken = async {
                loop {
                    match client.submit(job.clone()).await {
                        Ok(receipt) => return self.history.acknowledges(&receipt),
                        Err(error) => {
                            if let Some(other) = self.another(&error).await {
                                client = other;
                            }
                        }
                    }
                }
            };
            soon("a receipt", taken).await;
            tokio::time::sleep(PACE).await;
        }
        client.close().await;
    }

    /// A client that may have an answer, where there is none to be had from this one.
    async fn another(&self, error: &SubmitError) -> Option<Client> {
        self.history.notes(format_args!("no receipt: {error}"));
        match error {
            SubmitError::Refused(refusal) if !refusal.code.may_repeat() => {
                panic!("a job is refused: {refusal}")
            }
            SubmitError::Refused(_) | SubmitError::TimedOut { .. } => None,
            SubmitError::Unknown { .. } => {
                self.doubts.fetch_add(1, Ordering::Relaxed);
                None
            }
            // Something broke the protocol on the way, and was told so.
            _ => Some(self.connect().await),
        }
    }

    async fn connect(&self) -> Client {
        let connected = async {
            loop {
                let client = Client::builder(self.address.as_str())
                    .deadline(PATIENCE)
                    .connect()
                    .await;
                match client {
                    Ok(client) => return client,
                    Err(error) => self.history.notes(format_args!("no connection: {error}")),
                }
                tokio::time::sleep(PACE).await;
            }
        };
        soon("a connection", connected).await
    }

    async fn submit_by_programs(mut self, programs: u32, kill: Arc<Notify>) {
        for _ in 0..programs {
            let mut input = String::new();
            let mut uuids = Vec::new();
            for _ in 0..BATCH {
                let (job, line) = job(&mut self.chance, WORKED);
                self.history.asks(&job);
                uuids.push(job.identity());
                input.push_str(&line);
                input.push('\n');
            }
            let taken = async {
                loop {
                    let status = self.submit_by_program(&input, &kill).await;
                    if status == Some(0) {
                        return uuids.iter().for_each(|uuid| self.history.takes(*uuid));
                    }
                    self.history.notes(format_args!("a client ended with {status:?}"));
                    assert_ne!(status, Some(PARTIAL), "jobs are refused: see submit.log");
                    self.doubts.fetch_add(uuids.len(), Ordering::Relaxed);
                    // One that was killed does not always come back.
                    if status.is_none() && self.chance.percent(33) {
                        return;
                    }
                }
            };
            soon("the end of a client that submits", taken).await;
        }
    }

    /// Its exit code; none if it was killed.
    async fn submit_by_program(&self, input: &str, kill: &Notify) -> Option<i32> {
        // Before the start, so that no kill is missed.
        let killed = kill.notified();
        let mut command = self
            .program
            .command(["submit", "--stdin", "--server", &self.address]);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut process = Process::spawn(command, "jobq submit", &self.directory.join("submit.log"));
        let mut stdin = process.take_stdin().expect("it is a pipe");
        let input = input.to_owned();
        tokio::spawn(async move {
            // It may be killed before it has read all.
            let _ = stdin.write_all(input.as_bytes()).await;
        });
        let status = tokio::select! {
            status = process.wait() => Some(status),
            () = killed => None,
        };
        match status {
            Some(status) => status.code(),
            None => {
                self.history.notes("fault     SIGKILL of a client");
                process.kill().await;
                None
            }
        }
    }
}

/// A job, and the line that has `jobq submit` submit it.
///
/// Its params end in capital letters, and a field follows them: where bytes of them are repeated on the way, what comes
/// next is none of CBOR's texts, and the message none. Params that end a message could be others unnoticed: nobody
/// looks into them, and TCP has no more than its own checksum.
pub(super) fn job(chance: &mut Chance, name: &str) -> (JobRequest, String) {
    let letter = char::from(b'A' + u8::try_from(chance.between(0, 25)).expect("it is less than 26"));
    let padding =
        String::from(letter).repeat(usize::try_from(chance.between(0, MOST_PADDING)).expect("it is small"));
    let params = serde_json::json!({ "number": chance.between(0, 1 << 50), "text": padding }).to_string();
    let (priority, word) = match chance.between(0, 2) {
        0 => (Priority::High, "high"),
        1 => (Priority::Normal, "normal"),
        _ => (Priority::Low, "low"),
    };
    let uuid = Uuid::now_v7();
    let line = format!(
        r#"{{"name":"{name}","uuid":"{uuid}","priority":"{word}","username":"{USERNAME}","params":{params}}}"#
    );
    let params = json::to_cbor(params.as_bytes()).expect("what was just written is JSON");
    let job = JobRequest::new(name)
        .raw_params(params)
        .uuid(uuid)
        .username(USERNAME)
        .priority(priority);
    (job, line)
}
