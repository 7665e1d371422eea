//! The client and worker in Python that the guide shows.

use std::path::Path;
use std::process::Stdio;

use jobq_client::{Client, ClientTls, JobId, JobRequest};
use jobq_tests::markdown::blocks;
use jobq_tests::program::{finish, without_variables};
use jobq_tests::soon::BOUND;
use jobq_tests::{Contents, History, NamedPipe, Process, ServerProcess, Via, check, skipped};
use tokio::process::Command;

use super::{GUIDE, is_installed};
use crate::fixture::{completed, connect, directory, program, submit, text};

/// Says that it runs, and ends when it is told to.
const HANDLER: &str = r#"
import os, sys, time
import jobq

def handle(params, run):
    with open(sys.argv[1], "w") as pipe:
        pipe.write(f"{run.id} {run.attempt}\n")
    while not os.path.exists(sys.argv[2]):
        time.sleep(0.01)
    return params

jobq.Worker("lasting", handle).work()
"#;

#[tokio::test]
async fn the_guides_python_worker_goes_on_with_its_run_when_the_server_was_killed() {
    if !is_installed("python3") {
        return skipped("there is no python3");
    }
    let directory = directory();
    save("jobq.py", directory.path());
    std::fs::write(directory.path().join("lasting.py"), HANDLER).expect("it can be written");
    let mut server = ServerProcess::start(&program(), directory.path(), Via::Tcp, &[]).await;
    let client = connect(server.address()).await;
    let history = History::default();
    let mut begun = NamedPipe::new(&directory.path().join("begun"));
    let end = directory.path().join("end");
    let mut python = Command::new("python3");
    python
        .args(["lasting.py", text(begun.path()), text(&end)])
        .current_dir(directory.path())
        .env("JOBQ_SERVER", server.address())
        .stdout(Stdio::null());
    let _worker = Process::spawn(
        python,
        "the worker in Python",
        &directory.path().join("python.log"),
    );
    let ids = submit(&client, &history, vec![JobRequest::new("lasting")]).await;
    assert_eq!(begun.line().await, format!("{} 1", ids[0]));
    server.kill().await;
    server.restart().await;
    std::fs::write(&end, "").expect("it can be written");
    completed(&client, &ids).await;
    assert_eq!(begun.try_line(), None, "the run went on, and no other began");
    server.kill().await;
    let ledger = history.ledger();
    let contents = Contents::read(&server.data(), &ledger).await;
    check::assert_none(&check::kept(&ledger, &contents));
    assert_eq!(contents.job(ids[0]).attempts, 1);
}

#[tokio::test]
async fn the_guides_python_client_and_worker_speak_tls() {
    if !is_installed("python3") {
        return skipped("there is no python3");
    }
    let directory = directory();
    save("jobq.py", directory.path());
    save("greet.py", directory.path());
    let certificates = directory.path().join("certs");
    let file = |name: &str| text(&certificates.join(name)).to_owned();
    program()
        .run(["cert", "init", text(&certificates)])
        .await
        .success();
    program()
        .run(["cert", "client", "python", "--dir", text(&certificates)])
        .await
        .success();
    let (ca, cert, key) = (file("ca.pem"), file("server.pem"), file("server.key"));
    let flags = ["--tls-cert", &cert, "--tls-key", &key, "--tls-client-ca", &ca];
    let server = ServerProcess::start(&program(), directory.path(), Via::Tls, &flags).await;
    let python = |arguments: &[&str]| {
        let mut python = Command::new("python3");
        without_variables(&mut python)
            .args(arguments)
            .current_dir(directory.path())
            .env("JOBQ_SERVER", server.address())
            .env("JOBQ_TLS_CA", &ca)
            .env("JOBQ_TLS_CERT", file("python.pem"))
            .env("JOBQ_TLS_KEY", file("python.key"));
        python
    };
    let _worker = Process::spawn(
        python(&["greet.py"]),
        "the worker in Python",
        &directory.path().join("python.log"),
    );
    let submit = "import jobq; print(jobq.submit('greet', {'who': 'x' * 100_000}))";
    let mut ids = Vec::new();
    for _ in 0..3 {
        let submitted = finish(python(&["-c", submit])).await.success();
        ids.push(JobId(submitted.trim().parse().expect("it prints the number")));
    }
    let tls = ClientTls::new()
        .ca(&ca)
        .identity(file("python.pem"), file("python.key"));
    let client = Client::builder(server.address())
        .tls(tls)
        .deadline(BOUND)
        .connect()
        .await;
    completed(&client.expect("the server listens"), &ids).await;

    let mut stranger = python(&["-c", submit]);
    stranger.env("JOBQ_TLS_CA", file("python.pem"));
    let refused = finish(stranger).await.failure(1);
    assert!(refused.contains("is not trusted"), "{refused}");
}

/// Saves a file that the guide shows.
fn save(name: &str, directory: &Path) {
    let block = blocks(GUIDE)
        .into_iter()
        .find(|block| block.value("file") == Some(name));
    let block = block.unwrap_or_else(|| panic!("the guide shows no {name}"));
    std::fs::write(directory.join(name), block.text).expect("it can be written");
}
