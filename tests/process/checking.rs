//! `jobq check`, and servers that meet what it would have found.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use jobq_client::JobRequest;
use jobq_tests::contents::damage_params;
use jobq_tests::{ServerProcess, Via, soon};
use jobq_worker::{CancellationToken, Job, Run, Runtime};

use crate::exit::{DAMAGED, FAILED};
use crate::fixture::{connect, directory, program, text};

#[tokio::test]
async fn a_sound_directory_is_said_to_be_once_its_server_has_ended_and_opens_afterwards() {
    let directory = directory();
    let mut server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let client = connect(server.address()).await;
    for _ in 0..3 {
        client
            .submit(JobRequest::new("checked"))
            .await
            .expect("it is taken");
    }
    let data = server.data();
    let said = program().run(["check", text(&data)]).await.failure(FAILED);
    assert!(said.contains("another server uses"), "{said}");
    server.kill().await;
    // With the log that the killed server has left, and without.
    for _ in 0..2 {
        let said = program().run(["check", text(&data)]).await.success();
        assert!(said.contains("is sound: 3 jobs, 3 of them live"), "{said}");
        server.restart().await;
        assert!(server.terminate().await.success());
    }
    let said = program().run(["check", text(&data), "--json"]).await.success();
    let report: serde_json::Value = serde_json::from_str(&said).expect("it is JSON");
    assert_eq!(
        (&report["sound"], &report["jobs"], &report["findings"]),
        (&true.into(), &3.into(), &serde_json::json!([]))
    );
}

#[tokio::test]
async fn a_directory_that_is_none_is_not_made_by_looking_at_it() {
    let directory = directory();
    let nowhere = directory.path().join("nowhere");
    let said = program().run(["check", text(&nowhere)]).await.failure(FAILED);
    assert!(said.contains("nowhere") && said.contains("no such"), "{said}");
    assert!(!nowhere.exists());
}

#[tokio::test]
async fn a_damaged_job_is_found_and_never_run() {
    let directory = directory();
    let mut server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let client = connect(server.address()).await;
    let job = JobRequest::new("damaged").params(&"pay 1").expect("it is plain");
    let id = client.submit(job).await.expect("it is taken").id;
    drop(client);
    assert!(server.terminate().await.success());
    let data = server.data();
    damage_params(&data, id);

    let found = program().run(["check", text(&data)]).await;
    let line = format!("job {id} is not as it was submitted");
    assert!(found.stdout.contains(&line), "{found}");
    let said = found.failure(DAMAGED);
    assert!(
        said.contains("1 finding") && said.contains("restore a copy"),
        "{said}"
    );
    let found = program().run(["check", text(&data), "--json"]).await;
    assert_eq!(found.code, Some(DAMAGED), "{found}");
    let report: serde_json::Value = serde_json::from_str(&found.stdout).expect("it is JSON");
    assert_eq!(report["sound"], false);

    server.restart().await;
    let runs = Arc::new(AtomicU32::new(0));
    let stop = CancellationToken::new();
    let handler = {
        let runs = Arc::clone(&runs);
        move |_: Job<String>, _: Run| {
            runs.fetch_add(1, Ordering::Relaxed);
            async { Ok("paid") }
        }
    };
    let runtime = Runtime::new(server.address()).handler("damaged", handler);
    let stopped = stop.clone();
    let worker = tokio::spawn(async move { runtime.run(stopped.cancelled()).await });
    let status = server.wait().await;
    assert_eq!(status.code(), Some(DAMAGED), "{}", server.log());
    assert!(
        server.log().contains(&line) && server.log().contains("`jobq check`"),
        "{}",
        server.log()
    );
    assert!(data.join("suspect").exists());
    stop.cancel();
    let ended = soon("the worker's end", worker).await;
    ended.expect("it does not panic").expect("the worker was welcome");
    assert_eq!(runs.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_directory_without_a_database_is_named_with_what_to_do() {
    let directory = directory();
    let none = directory.path().join("none");
    for (checked, problem) in [
        (none.as_path(), "no such directory"),
        (directory.path(), "no such file"),
    ] {
        let said = program().run(["check", text(checked)]).await.failure(FAILED);
        let begin = format!("jobq: failed to check {}: ", text(checked));
        assert!(said.starts_with(&begin), "{said}");
        assert!(said.contains(problem) && said.contains("--data"), "{said}");
    }
    assert!(!none.exists(), "looking makes nothing");
}
