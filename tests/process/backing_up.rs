//! `jobq backup` and `jobq restore`: copies of a server that goes on, and what becomes of them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use jobq_client::{Client, JobId, JobRequest, Status};
use jobq_tests::contents::damage_params;
use jobq_tests::{ServerProcess, Via, soon, until};
use jobq_worker::{CancellationToken, Fence, Job, Run, Runtime};
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;

use crate::fixture::{connect, directory, jobq, program, text};

/// The exit codes.
const USAGE: i32 = 2;
const DAMAGED: i32 = 12;

/// A worker that tells the fence of each run and completes it.
struct Worker {
    fences: UnboundedReceiver<Fence>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Worker {
    fn start(server: &ServerProcess) -> Self {
        let (tell, fences) = unbounded_channel();
        let tell = Arc::new(tell);
        let stop = CancellationToken::new();
        let runtime = Runtime::new(server.address()).handler("kept", move |_: Job<String>, run: Run| {
            let tell = Arc::clone(&tell);
            async move {
                let _ = tell.send(run.fence());
                Ok(())
            }
        });
        let shutdown = stop.clone().cancelled_owned();
        let task = tokio::spawn(async move {
            runtime.run(shutdown).await.expect("the worker ends in order");
        });
        Self { fences, stop, task }
    }

    async fn runs(&mut self, count: usize) -> Vec<Fence> {
        let mut fences = Vec::new();
        while fences.len() < count {
            fences.push(soon("a run", self.fences.recv()).await.expect("the worker works"));
        }
        fences
    }

    async fn stop(self) {
        self.stop.cancel();
        soon("the end of a worker", self.task)
            .await
            .expect("it does not panic");
    }
}

async fn submit(client: &Client, count: usize, bytes: usize) -> Vec<JobId> {
    let jobs = (0..count).map(|_| {
        let job = JobRequest::new("kept").params(&"1".repeat(bytes));
        job.expect("a text is CBOR")
    });
    let receipts = client
        .submit_many(jobs.collect())
        .await
        .expect("the client goes on");
    let ids = receipts
        .into_iter()
        .map(|receipt| receipt.expect("it is taken").id);
    ids.collect()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("the directory is there");
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        let name = entry.expect("it can be read").file_name();
        name.to_string_lossy().into_owned()
    };
    entries.map(name).filter(|name| name.contains("backup")).collect()
}

#[tokio::test]
async fn what_was_acknowledged_before_a_backup_under_load_is_restored_from_it_and_no_fence_comes_again() {
    let directory = directory();
    let mut server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let client = connect(server.address()).await;
    let done = submit(&client, 20, 2_000).await;
    let mut worker = Worker::start(&server);
    let fences = worker.runs(done.len()).await;
    for id in &done {
        soon("the end of a job", client.wait(*id)).await.expect("it ends");
    }
    worker.stop().await;
    let waiting = submit(&client, 300, 20_000).await;

    let file = directory.path().join("backup.db");
    let load = async {
        for _ in 0..20 {
            submit(&client, 20, 2_000).await;
        }
    };
    let arguments = ["backup", text(&file), "--json"];
    let (said, ()) = tokio::join!(jobq(&server, &arguments), load);
    let said: Value = serde_json::from_str(&said.success()).expect("it is JSON");
    assert_eq!(said["bytes"], file.metadata().expect("it is there").len());
    let mode = file.metadata().expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "params are in it");
    assert!(
        names(&server.data()).is_empty(),
        "the server has removed its copy"
    );
    assert_eq!(names(directory.path()), ["backup.db"]);
    assert!(server.terminate().await.success());

    let restored = directory.path().join("restored");
    let refused = program()
        .run(["restore", text(&file), "--data", text(&server.data())])
        .await;
    assert!(refused.failure(USAGE).contains("is not empty"));
    let said = program()
        .run(["restore", text(&file), "--data", text(&restored)])
        .await
        .success();
    assert!(said.contains("jobq serve --data"), "{said}");
    program().run(["check", text(&restored)]).await.success();
    let place = directory.path().join("second");
    std::fs::create_dir(&place).expect("it is made");
    std::fs::rename(&restored, place.join("data")).expect("it is moved");

    let mut second = ServerProcess::start(&program(), &place, Via::Unix, &[]).await;
    let client = connect(second.address()).await;
    for id in done {
        let job = client.show(id).await.expect("it answers").expect("it is there");
        assert_eq!(job.status, Status::Completed, "job {id}");
    }
    for id in &waiting {
        let job = client.show(*id).await.expect("it answers").expect("it is there");
        assert_eq!(job.status, Status::Queued, "job {id}");
    }
    let mut worker = Worker::start(&second);
    let again = worker.runs(waiting.len()).await;
    let highest = fences.iter().max().expect("there were runs");
    assert!(
        again.iter().all(|fence| fence.epoch > highest.epoch + 1_000_000),
        "above all that the old server can still give away"
    );
    worker.stop().await;
    drop(client);
    assert!(second.terminate().await.success());
}

#[tokio::test]
async fn a_file_that_is_there_is_kept_unless_it_is_to_be_replaced() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let file = directory.path().join("backup.db");
    std::fs::write(&file, "something dear").expect("it is written");
    let said = jobq(&server, &["backup", text(&file)]).await.failure(USAGE);
    assert!(said.contains("--force"), "{said}");
    assert_eq!(std::fs::read(&file).expect("it is there"), b"something dear");
    jobq(&server, &["backup", text(&file), "--force"]).await.success();
    assert!(
        std::fs::read(&file)
            .expect("it is there")
            .starts_with(b"SQLite format 3")
    );
    let missing = directory.path().join("nowhere").join("backup.db");
    let said = jobq(&server, &["backup", text(&missing)]).await.failure(1);
    assert!(said.contains("nowhere"), "{said}");
}

#[tokio::test]
async fn a_client_that_is_killed_leaves_the_server_no_copy_and_the_next_one_can_begin() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let client = connect(server.address()).await;
    submit(&client, 1_000, 20_000).await;
    let file = directory.path().join("backup.db");
    let mut killed = program()
        .command(["backup", text(&file), "--server", server.address()])
        .spawn()
        .expect("it can be started");
    let data = server.data();
    until("a copy in the data directory", async || !names(&data).is_empty()).await;
    killed.kill().await.expect("it can be killed");
    until("the end of the copy", async || names(&data).is_empty()).await;
    // It may have had the first one whole before it was killed.
    let second = directory.path().join("second.db");
    jobq(&server, &["backup", text(&second)]).await.success();
    assert!(second.exists());
    assert!(names(&data).is_empty());
}

#[tokio::test]
async fn a_damaged_database_gives_no_backup_and_says_so() {
    let directory = directory();
    let mut server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let client = connect(server.address()).await;
    let ids = submit(&client, 3, 100).await;
    assert!(server.terminate().await.success());
    damage_params(&server.data(), ids[1]);
    server.restart().await;
    let file = directory.path().join("backup.db");
    let said = jobq(&server, &["backup", text(&file)]).await.failure(DAMAGED);
    assert!(said.contains(&format!("job {}", ids[1])), "{said}");
    assert!(said.contains("jobq check"), "{said}");
    assert!(names(directory.path()).is_empty());
    assert!(names(&server.data()).is_empty());
}
