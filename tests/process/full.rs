//! Servers whose disk fills up: a small file system of their own, which needs Linux and the right to mount one.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jobq_client::{Client, ErrorCode, JobId, JobRequest, SubmitError};
use jobq_proto::message::Beat;
use jobq_proto::{ClientMessage, ServerMessage};
use jobq_tests::{Program, RawPeer, ServerProcess, Via, skipped, soon, until};
use jobq_worker::{CancellationToken, Job, Run, Runtime};
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::exit::{STORE_FAILED, UNREACHABLE};
use crate::fixture::{completed, connect, directory, program, text};

const NAME: &str = "large";

/// The file system; a quarter of it is the reserve.
const DISK: &str = "48m";

/// Bytes of each job's result: together more than the ballast has.
const RESULT: usize = 900_000;

/// Runs under way when the disk fills up.
const RUNNING: u32 = 8;

/// Jobs that wait meanwhile.
const WAITING: usize = 3;

/// What the server logs when a batch finds no room even without the ballast.
const WAITS: &str = "what ends waits until there is room";

/// What `jobq stats` says meanwhile.
const FULL: &str = "the disk of the server is full: nothing is taken or handed out until there is room";

const SKIPPED: &str = "no file system can be mounted here, which takes `unshare` and root or user namespaces";

#[tokio::test]
async fn on_a_full_disk_runs_settle_and_nothing_begins_until_there_is_room() {
    let directory = directory();
    let Some(program) = with_small_disk(&directory, DISK).await else {
        return skipped(SKIPPED);
    };
    let mut server = ServerProcess::start(&program, directory.path(), Via::Unix, &[]).await;
    let client = connect(server.address()).await;
    let worker = Worker::start(&server, RUNNING);
    let running = submit(&client, RUNNING as usize).await;
    worker.begun(RUNNING).await;
    let waiting = submit(&client, WAITING).await;
    let ballast = seen_by(&server, &directory).join("ballast");
    assert!(ballast.exists());

    let filler = Filler::fill(&server, &directory);
    assert_eq!(refusal(&client).await, ErrorCode::StorageFull);
    worker.let_end(RUNNING);
    server.logged(WAITS).await;
    assert!(!ballast.exists(), "it is given up for what ends");
    assert_eq!(
        refusal(&client).await,
        ErrorCode::StorageFull,
        "the server still answers"
    );
    assert!(stats(&program, &server).await.contains(FULL));

    drop(filler);
    completed(&client, &running).await;
    worker.let_end(2 * RUNNING);
    completed(&client, &waiting).await;
    completed(&client, &[submit_when_there_is_room(&client).await]).await;
    server.logged("there is room on the disk again").await;
    assert!(ballast.exists(), "it is made again");
    assert!(!stats(&program, &server).await.contains(FULL));
    worker.stop().await;
    drop(client);
    assert!(server.terminate().await.success());
}

#[tokio::test]
async fn a_server_is_stopped_although_a_batch_waits_for_room_and_says_that_it_was_not_stored() {
    let directory = directory();
    let Some(program) = with_small_disk(&directory, DISK).await else {
        return skipped(SKIPPED);
    };
    let mut server = ServerProcess::start(&program, directory.path(), Via::Unix, &["--drain", "100ms"]).await;
    let client = connect(server.address()).await;
    let worker = Worker::start(&server, RUNNING);
    submit(&client, RUNNING as usize).await;
    worker.begun(RUNNING).await;
    let _filler = Filler::fill(&server, &directory);
    worker.let_end(RUNNING);
    server.logged(WAITS).await;
    let status = server.terminate().await;
    assert_eq!(status.code(), Some(STORE_FAILED), "{status}");
    assert!(server.log().contains("make room on its disk"), "{}", server.log());
}

#[tokio::test]
async fn runs_go_on_although_more_has_ended_than_a_stuck_server_takes() {
    const WORKERS: usize = 12;
    const RUNS: u32 = 4;
    const DISK: &str = "192m";
    /// More than fit into the time-to-live one after the other, as a stuck server hears them.
    const BEATS: u64 = 60;

    let directory = directory();
    let Some(program) = with_small_disk(&directory, DISK).await else {
        return skipped(SKIPPED);
    };
    let mut server = ServerProcess::start(&program, directory.path(), Via::Tcp, &["--ttl", "5s"]).await;
    let client = connect(server.address()).await;
    let jobs = submit(&client, WORKERS * RUNS as usize).await;
    let workers: Vec<Worker> = (0..WORKERS).map(|_| Worker::start(&server, RUNS)).collect();
    for worker in &workers {
        worker.begun(RUNS).await;
    }
    let filler = Filler::fill(&server, &directory);
    for worker in &workers {
        worker.let_end(RUNS - 1);
    }
    server.logged(WAITS).await;
    let (mut peer, _) = RawPeer::introduced(server.address(), None).await;
    for seq in 1..=BEATS {
        peer.send(&ServerMessage::Beat(Beat { seq })).await;
        assert_eq!(peer.recv().await, Some(ClientMessage::Beat(Beat { seq })));
    }
    drop(filler);
    for worker in &workers {
        worker.let_end(1);
    }
    completed(&client, &jobs).await;
    for worker in workers {
        assert_eq!(
            worker.begun.available_permits(),
            0,
            "no run was stopped and begun again"
        );
        worker.stop().await;
    }
    drop(client);
    assert!(server.terminate().await.success());
}

#[tokio::test]
async fn jobs_are_cancelled_on_a_full_disk_whose_log_has_no_room_to_be_folded_and_after_a_restart_too() {
    const JOBS: usize = 2_000;
    /// Together more than the ballast has, as the reserve is below.
    const PARAMS: usize = 2_000;
    const ONE_BY_ONE: usize = 3;
    const FREED: u64 = 1024 * 1024;

    let directory = directory();
    let Some(program) = with_small_disk(&directory, DISK).await else {
        return skipped(SKIPPED);
    };
    let arguments = ["--reserve", "10MB"];
    let mut server = ServerProcess::start(&program, directory.path(), Via::Unix, &arguments).await;
    let client = connect(server.address()).await;
    let disk = KeptDisk::of(&server, &directory);
    let params = "x".repeat(PARAMS);
    let job = |_| JobRequest::new(NAME).params(&params).expect("it is text");
    let mut jobs = submit_all(&client, (0..JOBS).map(job).collect())
        .await
        .into_iter();
    let mut cancel = async || {
        for id in jobs.by_ref().take(ONE_BY_ONE) {
            let answers = client.cancel(&[id]).await.expect("it is answered");
            assert_eq!(answers.len(), 1);
        }
    };
    let mut filler = Filler::fill(&server, &directory);
    not_folded(&server, &directory, 0).await;
    cancel().await;

    // What the ballast gave is used up by others too.
    filler.grow();
    server.kill().await;
    filler.shrink(FREED);
    let logged_before = server.log().len();
    server.restart().await;
    filler.seen_by(&server, &directory);
    not_folded(&server, &directory, logged_before).await;
    cancel().await;

    drop(filler);
    drop(disk);
    submit_when_there_is_room(&client).await;
    cancel().await;
    drop(client);
    assert!(server.terminate().await.success());
}

/// The binary, run with a file system of its own where its data goes; none where that cannot be.
async fn with_small_disk(directory: &TempDir, disk: &str) -> Option<Program> {
    let data = directory.path().join("data");
    std::fs::create_dir(&data).expect("a directory can be made");
    let script = directory.path().join("jobq-on-a-small-disk");
    // Who is not root becomes root in a user namespace of its own.
    let lines = format!(
        "#!/bin/sh\n\
         [ -e {kept} ] && exec nsenter $(cat {kept}) {program} \"$@\"\n\
         map=-r\n\
         [ \"$(id -u)\" = 0 ] && map=\n\
         exec unshare $map -m sh -c 'mount -t tmpfs -o size={disk} tmpfs {data} && exec {program} \"$@\"' sh \"$@\"\n",
        kept = text(&directory.path().join(KEPT)),
        data = text(&data),
        program = text(program().path())
    );
    std::fs::write(&script, lines).expect("a script can be written");
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&script, executable).expect("it is ours");
    let program = Program::new(&script);
    let tried = program.command(["--version"]).output().await;
    tried
        .is_ok_and(|output| output.status.success())
        .then_some(program)
}

/// The data directory as the server sees it.
fn seen_by(server: &ServerProcess, directory: &TempDir) -> PathBuf {
    let id = server.id().expect("it runs").to_string();
    let data = directory.path().join("data");
    let inside = data.strip_prefix("/").expect("it is absolute");
    Path::new("/proc").join(id).join("root").join(inside)
}

/// How `nsenter` finds a disk that is kept.
const KEPT: &str = "kept";

/// Keeps a server's disk beyond the server's life, for the next one.
struct KeptDisk {
    file: PathBuf,
    _namespaces: Vec<File>,
}

impl KeptDisk {
    fn of(server: &ServerProcess, directory: &TempDir) -> Self {
        let id = server.id().expect("it runs").to_string();
        let namespaces = |process: &str| Path::new("/proc").join(process).join("ns");
        let mut kept = Vec::new();
        let mut options = String::new();
        for (name, option) in [("user", "--preserve-credentials --user"), ("mnt", "--mount")] {
            let theirs = namespaces(&id).join(name);
            let read = |path: &Path| std::fs::read_link(path).expect("it is a link");
            if read(&theirs) == read(&namespaces("self").join(name)) {
                continue;
            }
            let file = File::open(theirs).expect("it is ours");
            let at = std::os::fd::AsRawFd::as_raw_fd(&file);
            options += &format!("{option}=/proc/{}/fd/{at} ", std::process::id());
            kept.push(file);
        }
        let file = directory.path().join(KEPT);
        std::fs::write(&file, options).expect("it can be written");
        Self {
            file,
            _namespaces: kept,
        }
    }
}

impl Drop for KeptDisk {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

/// A file that takes all room of a server's disk. Dropped, the room is there again.
struct Filler {
    path: PathBuf,
    file: File,
}

impl Filler {
    fn fill(server: &ServerProcess, directory: &TempDir) -> Self {
        let path = Self::path(server, directory);
        let file = File::create(&path).expect("there is room for its name");
        let mut filler = Self { path, file };
        filler.grow();
        filler
    }

    fn path(server: &ServerProcess, directory: &TempDir) -> PathBuf {
        seen_by(server, directory).join("filler")
    }

    /// Takes what room there is.
    fn grow(&mut self) {
        let block = [7; 4096];
        let full = loop {
            if let Err(error) = self.file.write_all(&block) {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
    }

    /// Gives so many bytes back, with or without a server.
    fn shrink(&self, bytes: u64) {
        let length = self.file.metadata().expect("it is open").len();
        self.file.set_len(length - bytes).expect("it gets shorter");
    }

    /// The server is another.
    fn seen_by(&mut self, server: &ServerProcess, directory: &TempDir) {
        self.path = Self::path(server, directory);
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        // Its disk is gone with its server, if that was first.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Waits until this server found out that its log cannot be folded, or has folded it, if it did so before its disk was
/// full. Its log file begins with so many bytes of the life before.
async fn not_folded(server: &ServerProcess, directory: &TempDir, before: usize) {
    const FOLDED: u64 = 1_000_000;

    let database = seen_by(server, directory).join("jobq.db");
    until("the log to be folded or not", async || {
        server.log()[before..].contains("the log is not folded")
            || database.metadata().expect("it is there").len() >= FOLDED
    })
    .await;
}

async fn stats(program: &Program, server: &ServerProcess) -> String {
    program
        .run(["stats", "--server", server.address()])
        .await
        .success()
}

async fn submit(client: &Client, count: usize) -> Vec<JobId> {
    submit_all(client, (0..count).map(|_| JobRequest::new(NAME)).collect()).await
}

async fn submit_all(client: &Client, jobs: Vec<JobRequest>) -> Vec<JobId> {
    let receipts = client.submit_many(jobs).await.expect("the client is not closed");
    receipts
        .into_iter()
        .map(|receipt| receipt.expect("there is room").id)
        .collect()
}

/// Submits until a job is refused, and says why it was. An idle server does not look at its disk, so the first may
/// still be taken.
async fn refusal(client: &Client) -> ErrorCode {
    soon("a refusal", async {
        loop {
            if let Err(code) = submit_one(client, "nobody-works-on-it").await {
                return code;
            }
        }
    })
    .await
}

async fn submit_when_there_is_room(client: &Client) -> JobId {
    soon("room", async {
        loop {
            match submit_one(client, NAME).await {
                Ok(id) => return id,
                Err(code) => assert_eq!(code, ErrorCode::StorageFull),
            }
        }
    })
    .await
}

/// Submits one job, in a way that does not repeat what is refused.
async fn submit_one(client: &Client, name: &str) -> Result<JobId, ErrorCode> {
    let receipts = client.submit_many(vec![JobRequest::new(name)]).await;
    let receipt = receipts.expect("the client is not closed").remove(0);
    match receipt {
        Ok(receipt) => Ok(receipt.id),
        Err(SubmitError::Refused(error)) => Err(error.code),
        Err(error) => panic!("{error}"),
    }
}

/// A worker whose runs end when they are let to, with a large result.
struct Worker {
    begun: Arc<Semaphore>,
    gate: Arc<Semaphore>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Worker {
    fn start(server: &ServerProcess, runs: u32) -> Self {
        let (begun, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let handler = {
            let (begun, gate) = (Arc::clone(&begun), Arc::clone(&gate));
            move |_: Job<()>, _: Run| {
                let (begun, gate) = (Arc::clone(&begun), Arc::clone(&gate));
                async move {
                    begun.add_permits(1);
                    gate.acquire().await.expect("it is never closed").forget();
                    Ok("x".repeat(RESULT))
                }
            }
        };
        let runtime = Runtime::new(server.address())
            .handler(NAME, handler)
            .concurrency(runs);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let ran = runtime.run(stopped.cancelled()).await;
            ran.expect("the worker comes back from everything");
        });
        Self {
            begun,
            gate,
            stop,
            task,
        }
    }

    async fn begun(&self, runs: u32) {
        let begun = soon("the start of all runs", self.begun.acquire_many(runs)).await;
        begun.expect("it is never closed").forget();
    }

    fn let_end(&self, runs: u32) {
        self.gate.add_permits(runs as usize);
    }

    async fn stop(self) {
        self.stop.cancel();
        soon("the worker's end", self.task)
            .await
            .expect("it does not panic");
    }
}

#[tokio::test]
async fn a_backup_is_given_up_when_the_disk_fills_up_meanwhile_so_that_jobs_have_its_room() {
    const JOBS: usize = 8;
    const PARAMS: usize = 1_000_000;

    let directory = directory();
    let Some(program) = with_small_disk(&directory, "96m").await else {
        return skipped(SKIPPED);
    };
    let mut server = ServerProcess::start(&program, directory.path(), Via::Unix, &[]).await;
    let client = connect(server.address()).await;
    let params = "x".repeat(PARAMS);
    let job = |_| JobRequest::new("kept").params(&params).expect("it is text");
    submit_all(&client, (0..JOBS).map(job).collect()).await;
    let data = seen_by(&server, &directory);
    let copies = || {
        let entries = std::fs::read_dir(&data).expect("it is there");
        let names = entries.map(|entry| entry.expect("it can be read").file_name());
        names
            .filter(|name| name.to_string_lossy().starts_with("backup-"))
            .count()
    };
    let mut backup = client.back_up().await.expect("it begins");
    let filler = Filler::fill(&server, &directory);
    // Whether it is whole by then or not, it is in the way of jobs. A server that rests looks at its disk from time to
    // time, and at each commit.
    refusal(&client).await;
    let given_up = async {
        match backup.ready(|_| {}).await {
            Err(error) => error,
            Ok(_) => backup.next().await.expect_err("its copy is gone"),
        }
    };
    let error = soon("the end of the backup", given_up).await;
    let words = error.to_string();
    assert!(
        words.contains("make room there") || words.contains("begin a backup anew"),
        "{words}"
    );
    assert_eq!(copies(), 0, "its room is for jobs");
    drop(filler);
    submit_when_there_is_room(&client).await;

    let file = directory.path().join("backup.db");
    let at = ["backup", text(&file), "--server", server.address()];
    program.run(at).await.success();
    assert!(file.exists(), "there is room for the next one");
    drop(client);
    assert!(server.terminate().await.success());
}

#[tokio::test]
async fn a_backup_for_which_there_is_no_room_is_refused_and_jobs_go_on() {
    const JOBS: usize = 14;
    const PARAMS: usize = 1_000_000;
    /// More than the reserve, and less than that and a copy.
    const FREE: u64 = 20 * 1024 * 1024;

    let directory = directory();
    let Some(program) = with_small_disk(&directory, DISK).await else {
        return skipped(SKIPPED);
    };
    let mut server = ServerProcess::start(&program, directory.path(), Via::Unix, &[]).await;
    let client = connect(server.address()).await;
    for _ in 0..JOBS {
        let job = JobRequest::new("kept").params(&"x".repeat(PARAMS));
        client
            .submit(job.expect("a text is CBOR"))
            .await
            .expect("it is taken");
    }
    let filler = Filler::fill(&server, &directory);
    filler.shrink(FREE);
    let file = directory.path().join("backup.db");
    let said = program
        .run(["backup", text(&file), "--server", server.address()])
        .await
        .failure(UNREACHABLE);
    assert!(said.contains("--reserve"), "{said}");
    assert!(!file.exists());
    // Jobs have their room.
    submit_when_there_is_room(&client).await;
    drop(client);
    assert!(server.terminate().await.success());
}
