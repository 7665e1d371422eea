//! Servers whose disk fails: syncs that report an error, which `strace` injects.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use jobq_client::{Client, JobRequest};
use jobq_tests::{Contents, History, Program, ServerProcess, Via, check, skipped, soon};
use tempfile::TempDir;

use crate::exit::STORE_FAILED;
use crate::fixture::{connect, directory, program, text};

/// Syncs that go well: more than a start takes.
const GOOD_SYNCS: u32 = 40;

#[tokio::test]
async fn a_failed_sync_ends_the_server_and_the_next_start_writes_the_log_anew() {
    let directory = directory();
    let Some((program, failing)) = with_failing_syncs(&directory).await else {
        return skipped("there is no `strace` here that may trace what it starts");
    };
    let arguments = ["--with-parent"];
    let mut server = ServerProcess::start(&program, directory.path(), Via::Unix, &arguments).await;
    // Its calls end when the server is not there: it does not come back by itself.
    let client = Client::builder(server.address())
        .deadline(std::time::Duration::from_millis(500))
        .connect()
        .await
        .expect("the server listens");
    let history = History::default();
    let acknowledged = submit_until_it_ends(&client, &history).await;
    assert!(acknowledged > 0, "some syncs go well");
    let status = server.wait().await;
    assert_eq!(status.code(), Some(STORE_FAILED), "{}", server.log());
    assert!(
        server.log().contains("nothing was acknowledged after that"),
        "{}",
        server.log()
    );
    let marker = server.data().join("suspect");
    assert!(marker.exists());

    std::fs::remove_file(failing).expect("it is there");
    server.restart().await;
    assert!(!marker.exists());
    assert!(server.log().contains("wrote the log anew"), "{}", server.log());
    let client = connect(server.address()).await;
    let new = JobRequest::new("after");
    history.asks(&new);
    history.acknowledges(&client.submit(new).await.expect("the disk is well again"));
    assert!(server.terminate().await.success());
    let ledger = history.ledger();
    let wrong = check::kept(&ledger, &Contents::read(&server.data(), &ledger).await);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Submits one job after the other until one is not acknowledged; how many were.
async fn submit_until_it_ends(client: &Client, history: &History) -> u32 {
    soon("the end of the server", async {
        let mut acknowledged = 0;
        loop {
            let job = JobRequest::new("before");
            history.asks(&job);
            match client.submit(job).await {
                Ok(receipt) => history.acknowledges(&receipt),
                Err(_) => return acknowledged,
            }
            acknowledged += 1;
        }
    })
    .await
}

/// The binary, whose syncs fail after some time as long as a file exists; and that file. None where it cannot be
/// traced.
async fn with_failing_syncs(directory: &TempDir) -> Option<(Program, std::path::PathBuf)> {
    let script = directory.path().join("jobq-on-a-failing-disk");
    let failing = directory.path().join("failing");
    std::fs::write(&failing, "").expect("it can be written");
    write_script(
        &script,
        &format!(
            "#!/bin/sh\n\
             [ -e {failing} ] || exec {jobq} \"$@\"\n\
             exec strace -f -qq -o /dev/null -e trace=fdatasync -e signal=none \
             -e inject=fdatasync:error=EIO:when={first}+ {jobq} \"$@\"\n",
            failing = text(&failing),
            jobq = text(program().path()),
            first = GOOD_SYNCS + 1,
        ),
    );
    let program = Program::new(&script);
    let tried = program.command(["--version"]).output().await;
    tried
        .is_ok_and(|output| output.status.success())
        .then_some((program, failing))
}

fn write_script(path: &Path, lines: &str) {
    std::fs::write(path, lines).expect("a script can be written");
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(path, executable).expect("it is ours");
}
