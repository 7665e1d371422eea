//! Backups whose client loses its connection half-way, and workers that come back to a store that was restored.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jobq_client::{Client, JobId, JobRequest, Status};
use jobq_proto::message::{Completed, CompletedRun, Hello, Holding, NameCredit, Resume, SettleOutcome, Work};
use jobq_proto::{ClientMessage, PROTOCOL_VERSION, ServerMessage};
use jobq_tests::{RawPeer, ServerProcess, Via, soon};
use jobq_worker::{CancellationToken, Fence, Job, Run, Runtime};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use crate::fixture::{connect, directory, program, text};

/// What the first connection carries to the client before it is cut: less than a backup, and more than what is said
/// before one.
const CARRIED: u64 = 2_000_000;

/// Jobs that make a backup several times as large.
const JOBS: usize = 300;
const PARAMS: usize = 30_000;

/// Stands between a client and a server, and cuts the first connection in the middle of a backup.
struct Cutter {
    address: String,
    reached: Arc<Semaphore>,
    cut: Arc<Semaphore>,
    task: JoinHandle<()>,
}

impl Cutter {
    async fn start(server: &ServerProcess) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a port");
        let address = listener.local_addr().expect("it listens");
        let server = server.address().replace("tcp://", "");
        let (reached, cut) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let task = {
            let (reached, cut) = (Arc::clone(&reached), Arc::clone(&cut));
            tokio::spawn(async move {
                for carried in std::iter::once(CARRIED).chain(std::iter::repeat(u64::MAX)) {
                    let (client, _) = listener.accept().await.expect("it listens");
                    let Ok(server) = TcpStream::connect(&server).await else {
                        continue; // The client sees it closed, as without anybody between.
                    };
                    let (mut from_client, mut to_client) = client.into_split();
                    let (from_server, mut to_server) = server.into_split();
                    let up = tokio::spawn(async move { copy(&mut from_client, &mut to_server).await });
                    let mut down = from_server.take(carried);
                    let _ = copy(&mut down, &mut to_client).await;
                    if carried == CARRIED {
                        reached.add_permits(1);
                        cut.acquire().await.expect("it is never closed").forget();
                    }
                    up.abort();
                    let _ = to_client.shutdown().await;
                }
            })
        };
        Self {
            address: format!("tcp://{address}"),
            reached,
            cut,
            task,
        }
    }

    /// Waits until the client has as much as it gets by its first connection.
    async fn reached(&self) {
        let reached = soon("the middle of a backup", self.reached.acquire()).await;
        reached.expect("it is never closed").forget();
    }

    fn cut(&self) {
        self.cut.add_permits(1);
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn submit(client: &Client, count: usize) -> Vec<JobId> {
    let job = |_| JobRequest::new("kept").params(&"1".repeat(PARAMS));
    let jobs: Result<Vec<_>, _> = (0..count).map(job).collect();
    let receipts = client.submit_many(jobs.expect("a text is CBOR")).await;
    let receipts = receipts.expect("the client goes on").into_iter();
    receipts.map(|receipt| receipt.expect("it is taken").id).collect()
}

fn files(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("the directory is there");
    let names = entries.map(|entry| {
        let name = entry.expect("it can be read").file_name();
        name.to_string_lossy().into_owned()
    });
    let mut names: Vec<String> = names.filter(|name| name.contains("backup")).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_backup_whose_connection_is_cut_half_way_goes_on_over_the_next_one() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Tcp, &[]).await;
    let client = connect(server.address()).await;
    submit(&client, JOBS).await;
    let cutter = Cutter::start(&server).await;
    let file = directory.path().join("backup.db");
    let arguments = ["backup", text(&file), "--server", &cutter.address];
    let jobq = program();
    let (finished, ()) = tokio::join!(jobq.run(arguments), async {
        cutter.reached().await;
        assert_eq!(
            files(directory.path()),
            ["backup.db.part"],
            "half of it is not the file"
        );
        cutter.cut();
    });
    finished.success();
    assert_eq!(files(directory.path()), ["backup.db"]);
    let restored = directory.path().join("restored");
    let said = program()
        .run(["restore", text(&file), "--data", text(&restored)])
        .await
        .success();
    assert!(said.contains(&format!("{JOBS} jobs")), "{said}");
    assert!(
        files(&server.data()).is_empty(),
        "the server was told that it can go"
    );
}

#[tokio::test]
async fn a_backup_whose_server_dies_half_way_is_told_of_and_leaves_no_part_of_a_file() {
    let directory = directory();
    let mut server = ServerProcess::start(&program(), directory.path(), Via::Tcp, &[]).await;
    let client = connect(server.address()).await;
    submit(&client, JOBS).await;
    let cutter = Cutter::start(&server).await;
    let file = directory.path().join("backup.db");
    std::fs::write(&file, "the backup of yesterday").expect("it is written");
    let arguments = ["backup", text(&file), "--force", "--server", &cutter.address];
    let jobq = program();
    let (finished, ()) = tokio::join!(jobq.run(arguments), async {
        cutter.reached().await;
        server.kill().await;
        assert_eq!(
            files(&server.data()).len(),
            1,
            "it had no time to remove its copy"
        );
        server.restart().await;
        assert!(files(&server.data()).is_empty(), "a start does");
        cutter.cut();
    });
    let said = finished.failure(1);
    assert!(said.contains("begin") && said.contains("anew"), "{said}");
    assert_eq!(files(directory.path()), ["backup.db"], "no part is left");
    let kept = std::fs::read(&file).expect("it is there");
    assert_eq!(kept, b"the backup of yesterday");
}

/// What was running when the copy was made waits for its worker for so long.
const TTL: [&str; 2] = ["--ttl", "3s"];

/// Puts the backup in the place of a server's data.
async fn restore(server: &ServerProcess, file: &Path) {
    let old = server.data().with_extension("old");
    std::fs::rename(server.data(), &old).expect("it is moved");
    program()
        .run(["restore", text(file), "--data", text(&server.data())])
        .await
        .success();
}

#[tokio::test]
async fn a_worker_of_before_gives_up_its_run_when_its_server_was_restored_and_the_run_is_settled_once() {
    let directory = directory();
    let mut server = ServerProcess::start(&program(), directory.path(), Via::Unix, &TTL).await;
    let client = connect(server.address()).await;
    let (began, mut begun) = mpsc::unbounded_channel::<Fence>();
    let count = Arc::new(AtomicUsize::new(0));
    let runtime = Runtime::new(server.address()).handler("once", move |_: Job<()>, run: Run| {
        let (began, count) = (began.clone(), Arc::clone(&count));
        async move {
            let _ = began.send(run.fence());
            if count.fetch_add(1, Ordering::Relaxed) == 0 {
                // The run of the store that is no more; it ends well in spite of that.
                run.cancelled().await;
            }
            Ok(run.fence().epoch)
        }
    });
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    let worker = tokio::spawn(async move { runtime.run(stopped).await.expect("it comes back") });
    let id = client
        .submit(JobRequest::new("once"))
        .await
        .expect("it is taken")
        .id;
    let first = soon("the first run", begun.recv()).await.expect("it works");

    let file = directory.path().join("backup.db");
    program()
        .run(["backup", text(&file), "--server", server.address()])
        .await
        .success();
    // All that the copy does not know of.
    let lost = client
        .submit(JobRequest::new("lost"))
        .await
        .expect("it is taken")
        .id;
    server.kill().await;
    restore(&server, &file).await;
    server.restart().await;

    let second = soon("the run of the restored store", begun.recv())
        .await
        .expect("it works");
    assert!(second.epoch > first.epoch + 1_000_000, "{first:?} {second:?}");
    let epoch: u64 = soon("the result", client.result(id)).await.expect("it completes");
    assert_eq!(epoch, second.epoch, "what the first run said does not count");
    stop.cancel();
    soon("the worker's end", worker).await.expect("it does not panic");
    assert!(begun.recv().await.is_none(), "there was no third run");
    let job = client.show(id).await.expect("it answers").expect("it is there");
    assert_eq!(job.status, Status::Completed);
    assert!(client.show(lost).await.expect("it answers").is_none());
}

#[tokio::test]
async fn a_session_of_before_is_not_resumed_by_a_restored_store_and_its_reports_are_stale() {
    let directory = directory();
    let mut server = ServerProcess::start(&program(), directory.path(), Via::Tcp, &[]).await;
    let client = connect(server.address()).await;
    let work = || Work {
        names: vec![NameCredit {
            name: "once".to_owned(),
            jobs: 1,
        }],
        jobs: 1,
        bytes: 1_000_000,
        prefetch: 0,
    };
    let (mut peer, before) = RawPeer::introduced(server.address(), Some(work())).await;
    peer.send(&ServerMessage::Holding(Holding { runs: Vec::new() }))
        .await;
    let id = client
        .submit(JobRequest::new("once"))
        .await
        .expect("it is taken")
        .id;
    let Some(ClientMessage::Order(order)) = peer.recv().await else {
        panic!("the job is ordered");
    };
    let fence = order.jobs[0].fence;
    let file = directory.path().join("backup.db");
    program()
        .run(["backup", text(&file), "--server", server.address()])
        .await
        .success();
    server.kill().await;
    restore(&server, &file).await;
    server.restart().await;

    let mut peer = RawPeer::connect(server.address()).await;
    peer.send(&ServerMessage::Hello(Box::new(Hello {
        version: PROTOCOL_VERSION,
        label: "of before".to_owned(),
        token: None,
        work: Some(work()),
        resume: Some(Resume {
            store: before.store,
            session: before.session,
            secret: before.secret.clone(),
        }),
    })))
    .await;
    let Some(ClientMessage::Hello(after)) = peer.recv().await else {
        panic!("it may come in");
    };
    assert_ne!(after.store, before.store);
    assert!(!after.resumed);
    let completed = Completed {
        runs: vec![CompletedRun {
            id: id.0,
            fence,
            result: None,
            ran: 0,
        }],
    };
    peer.send(&ServerMessage::Holding(Holding { runs: Vec::new() }))
        .await;
    peer.send(&ServerMessage::Completed(completed)).await;
    let Some(ClientMessage::Settled(told)) = peer.recv().await else {
        panic!("each report is answered");
    };
    assert_eq!(told.runs[0].outcome, SettleOutcome::Stale);
    let job = client.show(id).await.expect("it answers").expect("it is there");
    assert!(
        !job.status.is_terminal() && job.result.is_none(),
        "what was done before does not count: {job:?}"
    );
}
