//! Tokens on the command line, and what a server makes of them.

use std::path::Path;

use jobq_client::{Client, JobRequest};
use jobq_tests::{Finished, ServerProcess, Via};
use rustix::process::Signal;
use serde_json::Value;

use crate::fixture::{directory, program, text};

/// Makes a token for the server of a directory; what is printed.
async fn create(directory: &Path, arguments: &[&str]) -> Finished {
    let data = directory.join("data");
    let own = ["token", "create", "--data", text(&data)];
    program()
        .run(own.into_iter().chain(arguments.iter().copied()))
        .await
}

/// A token with these arguments.
async fn token(directory: &Path, arguments: &[&str]) -> String {
    let printed = create(directory, arguments).await.success();
    let mut lines = printed.lines();
    let token = lines.next().expect("the token is printed").to_owned();
    assert!(
        token.starts_with("jobq_") && lines.next().is_none(),
        "the token alone: {printed}"
    );
    token
}

/// Runs the binary with a token in its environment.
async fn with_token(server: &ServerProcess, token: &str, arguments: &[&str]) -> Finished {
    // Behind the words of a command that a worker runs no flag is jobq's own.
    let at = ["--server", server.address()];
    let mut command = program().command(at.into_iter().chain(arguments.iter().copied()));
    command.env("JOBQ_TOKEN", token);
    jobq_tests::program::finish(command).await
}

async fn list(directory: &Path) -> Vec<Value> {
    let data = directory.join("data");
    let printed = program()
        .run(["token", "list", "--json", "--data", text(&data)])
        .await;
    let parse = |line: &str| serde_json::from_str(line).expect("each line is JSON");
    printed.success().lines().map(parse).collect()
}

#[tokio::test]
async fn a_token_is_printed_once_listed_without_itself_and_revoked_by_its_id() {
    let folder = directory();
    let secret = token(
        folder.path(),
        &[
            "web",
            "--scope",
            "submit",
            "--only",
            "mail.*,report",
            "--expires",
            "90d",
        ],
    )
    .await;
    let second = token(folder.path(), &["web", "--scope", "submit"]).await;
    assert_ne!(secret, second);
    let third = create(folder.path(), &["web", "--scope", "submit"])
        .await
        .failure(1);
    assert!(
        third.contains("2 valid tokens already") && third.contains("revoke"),
        "{third}"
    );

    let listed = list(folder.path()).await;
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[0]["only"], serde_json::json!(["mail.*", "report"]));
    assert_eq!(
        (&listed[0]["scope"], &listed[0]["valid"]),
        (&"submit".into(), &true.into())
    );
    assert!(listed[0]["expires"].is_string() && listed[1]["expires"].is_null());
    let data = folder.path().join("data");
    let shown = program()
        .run(["token", "list", "--data", text(&data)])
        .await
        .success();
    let file = std::fs::read_to_string(data.join("tokens")).expect("it is there");
    for secret in [&secret, &second] {
        assert!(
            !shown.contains(secret.as_str()) && !file.contains(&secret[5..]),
            "{shown}{file}"
        );
    }

    let id = listed[0]["id"].as_str().expect("it has one").to_owned();
    let revoked = program()
        .run(["token", "revoke", &id, "--data", text(&data)])
        .await
        .success();
    assert_eq!(revoked, format!("revoked {id} of web\n"));
    assert_eq!(list(folder.path()).await.len(), 1);
    let unknown = program()
        .run(["token", "revoke", &id, "--data", text(&data)])
        .await
        .failure(4);
    assert!(unknown.contains("no token has the name or id"), "{unknown}");
}

#[tokio::test]
async fn what_can_be_no_token_is_refused_before_anything_is_written() {
    let folder = directory();
    for (arguments, expected) in [
        (&["web", "--scope", "everything"][..], "submit, work or admin"),
        (&["web", "--scope", "submit", "--only", "a b"], "is no pattern"),
        (&["", "--scope", "submit"], "is empty"),
        (
            &["web", "--scope", "submit", "--expires", "0s"],
            "longer than nothing",
        ),
    ] {
        let error = create(folder.path(), arguments).await.failure(2);
        assert!(error.contains(expected), "{error}");
    }
    assert!(!folder.path().join("data/tokens").exists());
}

#[tokio::test]
async fn a_list_of_tokens_that_cannot_be_read_keeps_a_server_from_starting() {
    let folder = directory();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).expect("it can be made");
    std::fs::write(data.join("tokens"), "format = 1\n\n[[token]]\nsecret-canary\n")
        .expect("it can be written");
    let started = program()
        .run(["serve", "--listen", "tcp://127.0.0.1:0", "--data", text(&data)])
        .await;
    let error = started.failure(10);
    assert!(
        error.contains("tokens") && error.contains("line 4") && !error.contains("canary"),
        "{error}"
    );
}

#[tokio::test]
async fn scopes_and_names_are_kept_to_over_the_wire() {
    let folder = directory();
    let admin = token(folder.path(), &["admin", "--scope", "admin"]).await;
    let submit = token(folder.path(), &["web", "--scope", "submit", "--only", "own*"]).await;
    let work = token(folder.path(), &["worker", "--scope", "work"]).await;
    let server = ServerProcess::start(&program(), folder.path(), Via::Tcp, &[]).await;

    let none = program()
        .run(["list", "--server", server.address()])
        .await
        .failure(3);
    assert!(
        none.contains("bad_token") && none.contains("--ask-token"),
        "{none}"
    );
    with_token(&server, &admin, &["submit", "foreign"])
        .await
        .success();
    let foreign = with_token(&server, &submit, &["submit", "foreign"])
        .await
        .failure(3);
    assert!(
        foreign.contains("forbidden") && foreign.contains("the name foreign"),
        "{foreign}"
    );
    let own = with_token(&server, &submit, &["submit", "own.one"])
        .await
        .success();
    let listed = with_token(&server, &submit, &["list", "--json"]).await.success();
    assert_eq!(listed.lines().count(), 1, "{listed}");
    let missing = with_token(&server, &submit, &["show", "1"]).await.failure(4);
    assert!(
        missing.contains("there is no job 1") || missing.contains("no such job"),
        "{missing}"
    );
    let cancelled = with_token(&server, &work, &["cancel", own.trim()])
        .await
        .failure(3);
    assert!(cancelled.contains("forbidden"), "{cancelled}");
    let working = with_token(&server, &submit, &["work", "own.one", "--", "true"])
        .await
        .failure(3);
    assert!(
        working.contains("forbidden") && working.contains("jobq token list"),
        "{working}"
    );
}

#[tokio::test]
async fn a_token_that_may_not_back_up_is_refused_and_leaves_no_file() {
    let folder = directory();
    let admin = token(folder.path(), &["admin", "--scope", "admin"]).await;
    let mut limited = Vec::new();
    for arguments in [
        &["web", "--scope", "submit"][..],
        &["worker", "--scope", "work"],
        &["some", "--scope", "admin", "--only", "mail.*"],
    ] {
        limited.push(token(folder.path(), arguments).await);
    }
    let server = ServerProcess::start(&program(), folder.path(), Via::Tcp, &[]).await;
    with_token(&server, &admin, &["submit", "secret"]).await.success();
    let place = folder.path().join("place");
    std::fs::create_dir(&place).expect("it can be made");
    let file = place.join("copy.db");
    let count = |directory: &Path| std::fs::read_dir(directory).expect("it is there").count();
    let before = count(&server.data());
    for token in &limited {
        let refused = with_token(&server, token, &["backup", text(&file)])
            .await
            .failure(3);
        assert!(
            refused.contains("forbidden") && refused.contains("scope admin"),
            "{refused}"
        );
        assert_eq!(count(&place), 0, "neither the file nor a part of it");
        assert_eq!(count(&server.data()), before, "no copy was begun");
    }
    with_token(&server, &admin, &["backup", text(&file)])
        .await
        .success();
    // Nor is one that is there replaced.
    let bytes = std::fs::read(&file).expect("it is there");
    with_token(&server, &limited[0], &["backup", text(&file), "--force"])
        .await
        .failure(3);
    assert!(
        std::fs::read(&file).is_ok_and(|found| found == bytes) && count(&place) == 1,
        "the backup of before is kept"
    );
}

#[tokio::test]
async fn a_short_shared_token_is_warned_of_and_refused_where_other_machines_can_try_it() {
    let folder = directory();
    let start = async |name: &str, token: &str, arguments: &[&str]| {
        let data = folder.path().join(name);
        let fixed = ["serve", "--data", text(&data)];
        let mut command = program().command(fixed.iter().chain(arguments));
        command.env("JOBQ_TOKEN", token);
        jobq_tests::program::finish(command).await
    };
    // A port that is no number any server listens on: what is refused before that is refused.
    let refused = start("exposed", "secret", &["--listen", "tcp://0.0.0.0:0"]).await;
    assert!(refused.failure(2).contains("without TLS"));
    let at = folder.path().join("certs");
    program().run(["cert", "init", text(&at)]).await.success();
    let (cert, key) = (at.join("server.pem"), at.join("server.key"));
    let tls = ["--tls-cert", text(&cert), "--tls-key", text(&key)];
    let exposed = ["--listen", "tls://0.0.0.0:0"];
    let exposed: Vec<&str> = exposed.iter().chain(&tls).copied().collect();
    let refused = start("exposed", "secret", &exposed).await.failure(2);
    assert!(
        refused.contains("6 bytes") && refused.contains("jobq token create") && !refused.contains("secret"),
        "{refused}"
    );
    assert!(!folder.path().join("exposed").exists(), "before anything is made");

    for (name, token, is_warned) in [("short", "secret", true), ("long", "sixteen-bytes-it", false)] {
        let place = folder.path().join(name);
        std::fs::create_dir(&place).expect("it can be made");
        let file = place.join("shared");
        std::fs::write(&file, token).expect("it can be written");
        let arguments = ["--token-file", text(&file)];
        let server = ServerProcess::start(&program(), &place, Via::Tcp, &arguments).await;
        with_token(&server, token, &["stats"]).await.success();
        let log = server.log();
        assert_eq!(
            log.contains("may be guessed") && log.contains("jobq token create") && log.contains("bytes=6"),
            is_warned,
            "{log}"
        );
        assert!(!log.contains(token), "{log}");
    }
}

#[tokio::test]
async fn sighup_ends_the_connections_of_revoked_tokens_and_no_others() {
    let folder = directory();
    let kept = token(folder.path(), &["kept", "--scope", "admin"]).await;
    let lost = token(folder.path(), &["lost", "--scope", "admin"]).await;
    let server = ServerProcess::start(&program(), folder.path(), Via::Tcp, &[]).await;
    let connect = async |token: &str| {
        let builder = Client::builder(server.address()).token(token);
        builder.connect().await.expect("the token is good")
    };
    let (keeping, losing) = (connect(&kept).await, connect(&lost).await);
    let before = keeping.submit(JobRequest::new("a")).await.expect("it may submit");

    let data = folder.path().join("data");
    program()
        .run(["token", "revoke", "lost", "--data", text(&data)])
        .await
        .success();
    let made = token(folder.path(), &["new", "--scope", "submit"]).await;
    server.signal(Signal::HUP);
    server.logged("reloaded").await;
    let after = keeping
        .submit(JobRequest::new("a"))
        .await
        .expect("its connection goes on");
    assert!(after.id > before.id);
    let error = losing
        .submit(JobRequest::new("a"))
        .await
        .expect_err("it may not any more");
    assert!(error.to_string().contains("bad_token"), "{error}");
    let new = connect(&made).await;
    let peers = keeping.stats().await.expect("it may ask").peers;
    assert_eq!(peers, 2, "the one that was kept and the new one");
    drop(new);

    // What cannot be read changes nothing.
    std::fs::write(data.join("tokens"), "broken").expect("it can be written");
    server.signal(Signal::HUP);
    server.logged("failed to reload").await;
    std::fs::remove_file(data.join("tokens")).expect("it is there");
    server.signal(Signal::HUP);
    server.logged_times("failed to reload", 2).await;
    let open = Client::builder(server.address()).connect().await;
    assert!(open.is_err(), "a list that is gone lets nobody in");
    keeping
        .submit(JobRequest::new("a"))
        .await
        .expect("its connection goes on");
}

#[tokio::test]
async fn a_token_that_was_cut_is_told_of_before_the_server_refuses_it() {
    let folder = directory();
    let admin = token(folder.path(), &["admin", "--scope", "admin"]).await;
    let server = ServerProcess::start(&program(), folder.path(), Via::Tcp, &[]).await;
    let cut = with_token(&server, &admin[..40], &["list"]).await.failure(3);
    assert!(
        cut.contains("not a whole one") && !cut.contains(&admin[10..40]),
        "{cut}"
    );
}

#[tokio::test]
async fn without_a_terminal_there_is_nobody_to_ask_for_a_token() {
    let asked = program().run(["list", "--ask-token"]).await.failure(2);
    assert!(asked.contains("no terminal to ask at"), "{asked}");
}

#[tokio::test]
async fn a_list_of_tokens_that_others_may_read_is_warned_of_once() {
    let folder = directory();
    token(folder.path(), &["web", "--scope", "submit"]).await;
    let list = folder.path().join("data/tokens");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&list, mode).expect("it is this user's");
    let server = ServerProcess::start(&program(), folder.path(), Via::Tcp, &[]).await;
    server.logged("the server is up").await;
    assert_eq!(server.log().matches("chmod 600").count(), 1, "{}", server.log());
}
