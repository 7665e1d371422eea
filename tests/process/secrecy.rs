//! What must not be found in logs, errors, listings and files that are not for it: canaries are planted everywhere and
//! looked for in all that is written, at the most verbose level.

use std::path::Path;

use jobq_tests::program::finish;
use jobq_tests::{Process, Program, ServerProcess, Via};

use crate::fixture::{directory, program, text};

const PARAMS: &str = "canary-of-params";
const RESULT: &str = "canary-of-a-result";

/// What is looked for: the text itself, as bytes in Rust's notation, and in hexadecimal.
fn shapes(canary: &str) -> [String; 3] {
    let bytes: Vec<String> = canary.bytes().map(|byte| byte.to_string()).collect();
    let hex: String = canary.bytes().map(|byte| format!("{byte:02x}")).collect();
    [canary.to_owned(), bytes.join(", "), hex]
}

#[track_caller]
fn assert_none(what: &str, written: &str, canaries: &[&str]) {
    for canary in canaries {
        for shape in shapes(canary) {
            if let Some(at) = written.find(&shape) {
                let from = written.floor_char_boundary(at.saturating_sub(300));
                panic!("{what} has {canary}: …{}", &written[from..at + shape.len()]);
            }
        }
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

#[tokio::test]
async fn tokens_params_and_results_are_in_no_log_error_or_listing() {
    let folder = directory();
    let data = folder.path().join("data");
    let made = program()
        .run([
            "token",
            "create",
            "admin",
            "--scope",
            "admin",
            "--data",
            text(&data),
        ])
        .await;
    let token = made.success().trim().to_owned();
    let last = if token.ends_with('x') { 'y' } else { 'x' };
    let wrong = format!("{}{last}", &token[..token.len() - 1]);
    let canaries = [token.as_str(), wrong.as_str(), PARAMS, RESULT];
    let server = ServerProcess::start(&program(), folder.path(), Via::Tcp, &["--log", "trace"]).await;
    let command = |token: &str, arguments: &[&str]| {
        let common = ["--server", server.address(), "--log", "trace"];
        let mut command = program().command(common.iter().chain(arguments));
        command.env("JOBQ_TOKEN", token).env("RUST_LOG", "trace");
        command
    };
    // The command line is nobody's secret, so the result is in none.
    let result = folder.path().join("result");
    std::fs::write(&result, RESULT).expect("it can be written");
    let script = format!("cat >/dev/null; cat {}; [ \"$JOBQ_NAME\" = good ]", text(&result));
    let log = folder.path().join("work.log");
    let working = command(
        &token,
        &["work", "good", "--name", "bad", "--", "sh", "-c", &script],
    );
    let mut worker = Process::spawn(working, "jobq work", &log);
    let params = format!("{{\"secret\": \"{PARAMS}\"}}");
    for (name, code) in [("good", 0), ("bad", 5)] {
        let submit = [
            "submit",
            name,
            "--params",
            &params,
            "--max-attempts",
            "1",
            "--wait",
        ];
        let submitted = finish(command(&token, &submit)).await;
        assert_eq!(submitted.code, Some(code), "{submitted}");
        assert_none("the log of submit", &submitted.stderr, &canaries);
    }
    let listings = [
        &["list", "--json"][..],
        &["list"],
        &["stats", "--json"],
        &["show", "1"],
        &["show", "1", "--json"],
        &["config"],
    ];
    for listing in listings {
        let printed = finish(command(&token, listing)).await;
        assert_eq!(printed.code, Some(0), "{listing:?} {printed}");
        assert_none(
            &format!("{listing:?}"),
            &format!("{}{}", printed.stdout, printed.stderr),
            &canaries,
        );
    }
    let refused = finish(command(&wrong, &["list"])).await;
    assert_none("the error of a refused client", &refused.failure(3), &canaries);
    let bad_params = finish(command(
        &token,
        &["submit", "good", "--params", &format!("{{\"{PARAMS}")],
    ))
    .await;
    assert_eq!(bad_params.code, Some(2), "{bad_params}");

    worker.signal(rustix::process::Signal::TERM);
    worker.wait().await;
    let mut server = server;
    server.terminate().await;
    for (what, written) in [
        ("the server's log", server.log()),
        ("the worker's log", worker.log()),
        ("the list of tokens", read(&data.join("tokens"))),
        ("the lock", read(&data.join("lock"))),
    ] {
        assert_none(what, &written, &canaries);
    }
    assert!(
        server.log().contains("DEBUG"),
        "the log is as verbose as it can be"
    );
}

/// A server whose core would be dumped, if it allows that: it is told to dump it. Whether that was done.
#[cfg(target_os = "linux")]
async fn dumps_core(folder: &Path, arguments: &[&str]) -> bool {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::ExitStatusExt;

    let script = folder.join("dumping");
    let lines = format!(
        "#!/bin/sh\nulimit -c unlimited\ncd {}\nexec {} \"$@\"\n",
        text(folder),
        text(program().path())
    );
    std::fs::write(&script, lines).expect("it can be written");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).expect("it is ours");
    let mut server = ServerProcess::start(&Program::new(&script), folder, Via::Tcp, arguments).await;
    server.signal(rustix::process::Signal::ABORT);
    server.wait().await.core_dumped()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn no_core_is_dumped_of_a_server_unless_somebody_wants_it() {
    let folder = directory();
    assert!(!dumps_core(folder.path(), &[]).await);
    if !dumps_core(folder.path(), &["--core-dumps"]).await {
        eprintln!("this system dumps no cores, so nothing was seen");
    }
}
