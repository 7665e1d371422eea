//! Servers that are told to stop while work is under way.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Stdio;
use std::sync::Arc;

use jobq_client::JobRequest;
use jobq_tests::history::HandlerRun;
use jobq_tests::{Contents, History, Process, ServerProcess, Via, check, soon};
use jobq_worker::{CancellationToken, Job, Observer, Outcome, Run, RunInfo, Runtime, Summary};
use rustix::fs::OFlags;
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::fixture::{completed, connect, directory, program, submit, text};

const NAME: &str = "interrupted";

/// Handlers at a time, and jobs that the worker holds beside those.
const RUNNING: usize = 2;
const HELD: usize = 2;

/// Jobs: some wait at the server.
const JOBS: usize = 6;

#[tokio::test]
async fn a_server_that_is_terminated_keeps_what_runs_for_the_worker_that_comes_back() {
    let mut scene = Scene::start(&["--drain", "1s"]).await;
    scene.server.signal(Signal::TERM);
    scene.closing_is_heard().await;
    assert!(scene.server.wait().await.success());
    scene.server.restart().await;
    scene.open.send_replace(true);
    scene.finish().await;
}

#[tokio::test]
async fn a_server_that_is_interrupted_waits_for_what_runs() {
    let mut scene = Scene::start(&["--drain", "10m"]).await;
    scene.server.signal(Signal::INT);
    scene.closing_is_heard().await;
    scene.open.send_replace(true);
    assert!(scene.server.wait().await.success());
    let ledger = scene.history.ledger();
    let contents = Contents::read(&scene.server.data(), &ledger).await;
    let ended = contents
        .jobs
        .iter()
        .filter(|job| job.status.is_terminal())
        .count();
    assert_eq!(ended, RUNNING, "what ran has ended, and nothing else was begun");
    scene.server.restart().await;
    scene.finish().await;
}

#[tokio::test]
async fn a_server_whose_terminal_is_closed_stops() {
    let directory = directory();
    // Its own side alone keeps a terminal open.
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags).expect("there are terminals left");
    grantpt(&ours).expect("it is ours");
    unlockpt(&ours).expect("it is ours");
    let path = ptsname(&ours, Vec::new()).expect("it has a name");
    let theirs = File::options()
        .read(true)
        .custom_flags(i32::try_from(OFlags::NOCTTY.bits()).expect("it is a flag"))
        .open(path.to_str().expect("it is a path"))
        .expect("it was just made");
    let data = directory.path().join("data");
    let mut command = program().command(["serve", "--listen", "tcp://127.0.0.1:0", "--data", text(&data)]);
    command.stdin(Stdio::from(theirs)).stdout(Stdio::null());
    let mut server = Process::spawn(command, "jobq serve", &directory.path().join("serve.log"));
    server.logged("the server is up").await;
    server.signal(Signal::HUP);
    server.logged("reloaded").await;
    drop(ours);
    server.signal(Signal::HUP);
    assert!(server.wait().await.success());
}

#[tokio::test]
async fn a_second_signal_stops_a_server_at_once() {
    let mut scene = Scene::start(&["--drain", "10m"]).await;
    scene.server.signal(Signal::TERM);
    scene.closing_is_heard().await;
    scene.server.signal(Signal::TERM);
    assert!(scene.server.wait().await.success());
    scene.server.restart().await;
    scene.open.send_replace(true);
    scene.finish().await;
}

/// A server, and a worker that runs some jobs and holds others. Its handlers end when `open` is true.
struct Scene {
    _directory: tempfile::TempDir,
    server: ServerProcess,
    history: Arc<History>,
    ids: Vec<jobq_client::JobId>,
    client: jobq_client::Client,
    open: watch::Sender<bool>,
    released: watch::Receiver<usize>,
    stop: CancellationToken,
    worker: JoinHandle<Summary>,
}

impl Scene {
    async fn start(arguments: &[&str]) -> Self {
        let directory = directory();
        let server = ServerProcess::start(&program(), directory.path(), Via::Tcp, arguments).await;
        let client = connect(server.address()).await;
        let history = Arc::new(History::default());
        let open = watch::Sender::new(false);
        let (releases, released) = watch::channel(0);
        let stop = CancellationToken::new();
        let worker = work(
            &server,
            &history,
            open.subscribe(),
            Releases(releases),
            stop.clone(),
        );
        let worker = tokio::spawn(worker);
        let jobs = (0..JOBS).map(|number| JobRequest::new(NAME).params(&number).expect("it can be encoded"));
        let ids = submit(&client, &history, jobs.collect()).await;
        history
            .until("handlers that run", |counts| counts.runs == RUNNING)
            .await;
        Self {
            _directory: directory,
            server,
            history,
            ids,
            client,
            open,
            released,
            stop,
            worker,
        }
    }

    /// The worker gives back what it has not begun.
    async fn closing_is_heard(&mut self) {
        let heard = self.released.wait_for(|released| *released == HELD);
        soon("jobs that the worker gives back", heard)
            .await
            .expect("the worker lives");
    }

    /// All jobs complete, each run once.
    async fn finish(mut self) {
        completed(&self.client, &self.ids).await;
        self.stop.cancel();
        let summary = soon("the worker's end", self.worker)
            .await
            .expect("it does not panic");
        assert_eq!(
            (summary.completed, summary.failed, summary.stale),
            (JOBS as u64, 0, 0)
        );
        assert!(self.server.terminate().await.success());
        let ledger = self.history.ledger();
        let contents = Contents::read(&self.server.data(), &ledger).await;
        check::assert_none(&check::kept(&ledger, &contents));
        check::assert_none(&check::ended(&contents));
        check::assert_none(&check::ran_once(&ledger, &contents));
    }
}

/// Counts what is given back.
struct Releases(watch::Sender<usize>);

impl Observer for Releases {
    fn ended(&self, _run: &RunInfo<'_>, outcome: &Outcome) {
        if *outcome == Outcome::Released {
            self.0.send_modify(|released| *released += 1);
        }
    }
}

fn work(
    server: &ServerProcess,
    history: &Arc<History>,
    open: watch::Receiver<bool>,
    observer: Releases,
    stop: CancellationToken,
) -> impl Future<Output = Summary> + Send + 'static {
    let history = history.clone();
    let handler = move |job: Job<usize>, run: Run| {
        history.runs(HandlerRun {
            id: job.id,
            fence: run.fence(),
            attempt: run.attempt(),
        });
        let mut open = open.clone();
        async move {
            // An error means that the test has failed already.
            let _ = open.wait_for(|open| *open).await;
            Ok(())
        }
    };
    let runtime = Runtime::new(server.address())
        .handler(NAME, handler)
        .concurrency(RUNNING as u32)
        .prefetch(HELD as u32)
        .observer(observer);
    async move {
        runtime
            .run(stop.cancelled())
            .await
            .expect("the worker comes back from everything")
    }
}
