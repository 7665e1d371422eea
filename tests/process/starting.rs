//! Servers that must not start.

use std::process::Stdio;

use jobq_client::JobRequest;
use jobq_tests::contents::set_schema_version;
use jobq_tests::{Contents, History, Process, ServerProcess, Via, check, soon};
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::exit::CANNOT_START;
use crate::fixture::{connect, directory, program, submit, text};

#[tokio::test]
async fn a_second_server_on_the_same_data_exits_and_says_who_holds_it() {
    let directory = directory();
    let mut server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let data = server.data();
    let second = ["serve", "--listen", "tcp://127.0.0.1:0", "--data", text(&data)];
    let said = program().run(second).await.failure(CANNOT_START);
    let holder = format!("process {}", server.id().expect("it runs"));
    assert!(said.contains(&holder) && said.contains(text(&data)), "{said}");
    assert!(
        server.terminate().await.success(),
        "the first one is not disturbed"
    );
}

#[tokio::test]
async fn a_port_or_socket_in_use_is_named_and_its_owner_is_not_disturbed() {
    for via in [Via::Tcp, Via::Unix] {
        let directory = directory();
        let mut owner = ServerProcess::start(&program(), directory.path(), via, &[]).await;
        let client = connect(owner.address()).await;
        let other = directory.path().join("other");
        let serve = ["serve", "--listen", owner.address(), "--data", text(&other)];
        let said = program().run(serve).await.failure(CANNOT_START);
        assert!(
            said.contains(owner.address()) && said.contains("another program listens there"),
            "{said}"
        );
        submit(&client, &History::default(), vec![JobRequest::new("undisturbed")]).await;
        assert!(owner.terminate().await.success());
    }
}

#[tokio::test]
async fn a_file_where_the_socket_should_be_is_named_and_left_alone() {
    let directory = directory();
    let file = directory.path().join("notes");
    std::fs::write(&file, "mine").expect("it can be written");
    let address = format!("unix://{}", file.display());
    let data = directory.path().join("data");
    let serve = ["serve", "--listen", &address, "--data", text(&data)];
    let said = program().run(serve).await.failure(CANNOT_START);
    assert!(said.contains(&address), "{said}");
    assert_eq!(std::fs::read_to_string(&file).expect("it is there"), "mine");
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_one_is_named() {
    let directory = directory();
    let file = directory.path().join("file");
    std::fs::write(&file, "mine").expect("it can be written");
    // Nobody can write to the last one, not even root.
    for data in [file.clone(), file.join("data"), "/sys/jobq".into()] {
        let serve = ["serve", "--listen", "tcp://127.0.0.1:0", "--data", text(&data)];
        let said = program().run(serve).await.failure(CANNOT_START);
        assert!(said.contains(text(&data)) && said.contains("--data"), "{said}");
    }
    assert_eq!(std::fs::read_to_string(&file).expect("it is there"), "mine");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let directory = directory();
    let data = directory.path().join("data");
    std::fs::create_dir(&data).expect("it can be made");
    let database = data.join("jobq.db");
    let serve = ["serve", "--listen", "tcp://127.0.0.1:0", "--data", text(&data)];
    let letters = "Dear diary. ".repeat(1_000);
    std::fs::write(&database, &letters).expect("it can be written");
    let said = program().run(serve).await.failure(CANNOT_START);
    assert!(
        said.contains(text(&database)) && said.contains("is no SQLite database"),
        "{said}"
    );
    assert_eq!(
        std::fs::read_to_string(&database).expect("it is there"),
        letters,
        "the file was changed"
    );
    std::fs::remove_file(&database).expect("it is there");
    std::fs::create_dir(&database).expect("it can be made");
    let said = program().run(serve).await.failure(CANNOT_START);
    assert!(said.contains(text(&database)), "{said}");
}

#[tokio::test]
async fn a_ready_file_that_cannot_be_written_is_named_before_the_server_is_up() {
    let directory = directory();
    let (data, ready) = (directory.path().join("data"), directory.path().join("none/ready"));
    let serve = ["serve", "--listen", "tcp://127.0.0.1:0", "--data", text(&data)];
    for (ready, problem) in [
        (text(&ready), "No such file"),
        (text(directory.path()), "it is a directory"),
    ] {
        let serve = serve.into_iter().chain(["--ready-file", ready]);
        let said = program().run(serve).await.failure(CANNOT_START);
        assert!(said.contains(ready) && said.contains(problem), "{said}");
        assert!(!said.contains("is up"), "it is noticed before: {said}");
    }
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused_and_left_alone() {
    let directory = directory();
    let mut server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    assert!(server.terminate().await.success());
    let data = server.data();
    set_schema_version(&data, 999);
    let before = std::fs::read(data.join("jobq.db")).expect("it can be read");
    let serve = ["serve", "--listen", "tcp://127.0.0.1:0", "--data", text(&data)];
    let said = program().run(serve).await.failure(CANNOT_START);
    assert!(
        said.contains("schema version 999") && said.contains("newer jobq"),
        "{said}"
    );
    let after = std::fs::read(data.join("jobq.db")).expect("it can be read");
    assert!(before == after, "the database was changed");
}

#[tokio::test]
async fn a_database_whose_log_was_taken_away_is_refused_unless_the_loss_is_accepted() {
    let directory = directory();
    let mut server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let client = connect(server.address()).await;
    let history = History::default();
    submit(&client, &history, vec![JobRequest::new("logged")]).await;
    server.kill().await;
    let data = server.data();
    std::fs::remove_file(data.join("jobq.db-wal")).expect("what was just acknowledged is in the log");
    let serve = ["serve", "--listen", "tcp://127.0.0.1:0", "--data", text(&data)];
    let said = program().run(serve).await.failure(CANNOT_START);
    assert!(
        said.contains("was acknowledged") && said.contains("is lost") && said.contains("--accept-loss"),
        "{said}"
    );
    server.restart_with(&["--accept-loss"]).await;
    assert!(server.log().contains("accepted: what"), "{}", server.log());
    assert!(server.terminate().await.success());
    server.restart().await;
    server.kill().await;
    let ledger = history.ledger();
    let wrong = check::kept(&ledger, &Contents::read(&data, &ledger).await);
    assert!(
        wrong.iter().any(|line| line.contains("is lost")),
        "the checks see what is missing: {wrong:?}"
    );
}

#[tokio::test]
async fn a_server_on_port_0_says_which_port_it_has_also_in_its_ready_file() {
    let directory = directory();
    let (data, ready) = (directory.path().join("data"), directory.path().join("ready"));
    let serve = [
        "serve",
        "--listen",
        "tcp://127.0.0.1:0",
        "--data",
        text(&data),
        "--ready-file",
        text(&ready),
    ];
    let mut command = program().command(serve);
    command.stdout(Stdio::piped());
    let mut server = Process::spawn(command, "jobq serve", &directory.path().join("serve.log"));
    let stdout = server.take_stdout().expect("it is a pipe");
    let mut lines = BufReader::new(stdout).lines();
    let line = soon("the server's first line", lines.next_line()).await;
    let line = line.expect("it can be read").expect("there is one");
    let address = line
        .strip_prefix("listening on ")
        .expect("it says where it listens")
        .to_owned();
    assert!(!address.ends_with(":0"), "{address}");
    program().run(["stats", "--server", &address]).await.success();
    server.signal(Signal::TERM);
    assert!(server.wait().await.success());
    let written = std::fs::read_to_string(&ready).expect("it can be read");
    assert_eq!(written, format!("{address}\n"));
}
