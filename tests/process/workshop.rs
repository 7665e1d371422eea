//! A server and a client, and workers that run commands for their jobs.

use std::process::Stdio;

use jobq_client::{Client, JobId, JobRequest, Outcome, json};
use jobq_tests::soon::BOUND;
use jobq_tests::{History, NamedPipe, Process, ServerProcess, Via, until};
use serde::Serialize;
use tempfile::TempDir;

use crate::fixture::{connect, directory, program, submit, text};

pub(crate) struct Workshop {
    pub(crate) directory: TempDir,
    pub(crate) server: ServerProcess,
    pub(crate) client: Client,
}

impl Workshop {
    pub(crate) async fn open() -> Self {
        let directory = directory();
        let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
        let client = connect(server.address()).await;
        Self {
            directory,
            server,
            client,
        }
    }

    /// Starts a worker with these arguments of `jobq work`; its log is `work.log`.
    pub(crate) fn work(&self, arguments: &[&str]) -> Process {
        let mut command = program().command(["--server", self.server.address(), "work"]);
        command
            .args(arguments)
            .current_dir(self.directory.path())
            .stdout(Stdio::null());
        Process::spawn(command, "jobq work", &self.directory.path().join("work.log"))
    }

    /// Starts a worker for the jobs of `name` that runs a script of the shell, which finds `arguments` in `$1` and on.
    pub(crate) fn work_by(&self, name: &str, script: &str, arguments: &[&str]) -> Process {
        let words = [&[name, "--", "sh", "-c", script, "sh"], arguments].concat();
        self.work(&words)
    }

    /// A pipe by which scripts tell what they do.
    pub(crate) fn pipe(&self) -> NamedPipe {
        NamedPipe::new(&self.directory.path().join("pipe"))
    }

    /// Submits a job that is not tried again.
    pub(crate) async fn submit(&self, name: &str, params: &(impl Serialize + ?Sized)) -> JobId {
        let job = JobRequest::new(name)
            .params(params)
            .expect("the params can be encoded");
        submit(&self.client, &History::default(), vec![job.max_attempts(1)]).await[0]
    }

    pub(crate) async fn outcome(&self, id: JobId) -> Outcome {
        let outcome = self.client.wait_timeout(id, BOUND).await;
        outcome.unwrap_or_else(|error| panic!("job {id} does not end: {error}"))
    }

    /// What a job that has these params completes with, as JSON.
    pub(crate) async fn result(&self, name: &str, params: &(impl Serialize + ?Sized)) -> String {
        let id = self.submit(name, params).await;
        let outcome = self.outcome(id).await;
        assert_eq!(outcome.reason, None);
        outcome
            .result
            .map_or_else(|| "nothing".to_owned(), |result| json::show(&result))
    }

    /// Why a job that has these params fails.
    pub(crate) async fn reason(&self, name: &str, params: &(impl Serialize + ?Sized)) -> String {
        let id = self.submit(name, params).await;
        let outcome = self.outcome(id).await;
        outcome
            .reason
            .unwrap_or_else(|| panic!("job {id} ends as {:?}", outcome.status))
    }

    /// The path of a file of this test's own.
    pub(crate) fn file(&self, name: &str) -> String {
        text(&self.directory.path().join(name)).to_owned()
    }
}

/// Waits until a process is gone. Whoever adopted it may not have reaped it yet.
pub(crate) async fn gone(process: &str) {
    let stat = format!("/proc/{process}/stat");
    until(&format!("the end of process {process}"), async || {
        std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z ") || stat.contains(") X "))
    })
    .await;
}
