//! What `jobq cert` makes and shows.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use jobq_tests::program::finish;
use jobq_tests::server::free_port;
use jobq_tests::{Process, soon};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::encrypting::{Certificates, stats};
use crate::fixture::{directory, program, text};

/// A command line or input that makes no sense.
const USAGE: i32 = 2;
/// No server answers, or it refuses this client.
const UNREACHABLE: i32 = 3;

#[tokio::test]
async fn it_is_shown_whom_certificates_are_for_and_when_they_expire() {
    let directory = directory();
    let certificates = Certificates::make(directory.path(), "certs").await;
    let renew = [
        "cert",
        "client",
        "web",
        "--dir",
        &certificates.file(""),
        "--valid",
        "90d",
    ];
    let made = program().run(renew).await.success();
    let (ca, web) = (certificates.file("ca.pem"), certificates.file("web.pem"));
    let shown = program().run(["cert", "show", &ca, &web]).await.success();
    assert!(shown.starts_with("FILE") && shown.lines().count() == 3, "{shown}");
    let json = program().run(["cert", "show", &web, "--json"]).await.success();
    let json: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    assert_eq!((&json["name"], &json["valid"]), (&"web".into(), &true.into()));
    // It is valid to the end of the day that was told.
    let last = made.split("valid until ").nth(1).and_then(|rest| rest.get(..10));
    let last: jiff::civil::Date = last.expect("a day is told").parse().expect("it is one");
    let expires = json["expires"].as_str().expect("it does expire");
    let next = last.tomorrow().expect("there is one").to_string();
    assert!(expires.starts_with(&next), "{expires} {last}");
    let said = program()
        .run(["cert", "show", &certificates.file("web.key")])
        .await;
    assert!(said.failure(USAGE).contains("holds no certificate"));
}

#[tokio::test]
async fn certificates_are_for_their_owner_and_never_replaced_unless_told_to() {
    let directory = directory();
    let certificates = Certificates::make(directory.path(), "certs").await;
    certificates.client("web").await;
    let mode = |file: &str| {
        let found = std::fs::metadata(certificates.file(file)).expect("it is there");
        found.permissions().mode() & 0o777
    };
    for (file, expected) in [
        ("", 0o700),
        ("ca.key", 0o600),
        ("ca.pem", 0o644),
        ("server.key", 0o600),
        ("server.pem", 0o644),
        ("web.key", 0o600),
        ("web.pem", 0o644),
    ] {
        assert_eq!(mode(file), expected, "{file}");
    }
    let read = |file: &str| std::fs::read_to_string(certificates.file(file)).expect("it is there");
    let files = [
        "ca.key",
        "ca.pem",
        "server.key",
        "server.pem",
        "web.key",
        "web.pem",
    ];
    let before = files.map(read);
    let at = certificates.file("");
    for again in [
        &["cert", "init", &at][..],
        &["cert", "server", &at],
        &["cert", "client", "api", "web", "--dir", &at],
    ] {
        let said = program().run(again).await.failure(USAGE);
        assert!(
            said.contains("is there already") && said.contains("--force"),
            "{said}"
        );
    }
    assert!(before == files.map(read), "a file was replaced");
    assert!(!Path::new(&certificates.file("api.pem")).exists(), "all or none");

    program().run(["cert", "server", &at, "--force"]).await.success();
    assert_eq!(read("ca.pem"), before[1]);
    assert_ne!(read("server.pem"), before[3]);
    assert_eq!(mode("server.key"), 0o600);
    // The new one is of the same CA.
    let server = certificates.serve(directory.path(), &[]).await;
    stats(server.address(), &certificates.trusted()).await.success();
}

#[tokio::test]
async fn names_that_no_certificate_is_for_are_refused_before_anything_is_made() {
    let directory = directory();
    let at = directory.path().join("certs");
    for (command, said) in [
        (
            &["cert", "init", "--host", "tls://queue.example", text(&at)][..],
            "without scheme and port",
        ),
        (
            &["cert", "client", "../web", "--dir", text(&at)],
            "no name for a client",
        ),
        (&["cert", "client", "ca", "--dir", text(&at)], "choose another"),
        (&["cert", "init", "--valid", "1h", text(&at)], "1d to 3650d"),
    ] {
        let error = program().run(command).await.failure(USAGE);
        assert!(error.contains(said), "{error}");
    }
    assert!(!at.exists());
    let said = program()
        .run(["cert", "client", "web", "--dir", text(&at)])
        .await
        .failure(1);
    assert!(
        said.contains("ca.pem") && said.contains("jobq cert init"),
        "{said}"
    );
}

#[tokio::test]
async fn the_commands_that_cert_init_prints_are_ready_to_be_typed() {
    let directory = directory();
    for (hosts, name) in [(&[][..], "localhost"), (&["--host", "127.0.0.1"], "127.0.0.1")] {
        let at = directory.path().join(name);
        let init = ["cert", "init", text(&at)];
        let said = program().run(init.iter().chain(hosts)).await.success();
        assert!(said.contains("valid until") && said.contains("ca.key"), "{said}");
        let port = free_port();
        let data = directory.path().join(format!("{name}-data"));
        let typed = |command: &str| {
            let line = said.lines().find(|line| line.contains(command));
            let line = line.unwrap_or_else(|| panic!("there is {command:?} in {said}"));
            // On a port of its own, and for this machine only.
            line.replace("0.0.0.0", "127.0.0.1")
                .replace(":7420", &format!(":{port}"))
        };
        let shell = |line: String| {
            let mut command = tokio::process::Command::new("sh");
            jobq_tests::program::without_variables(&mut command);
            let path = format!(
                "{}:{}",
                text(program().path().parent().expect("it is in a directory")),
                std::env::var("PATH").unwrap_or_default()
            );
            command
                .args(["-c", &line])
                .env("PATH", path)
                .env("JOBQ_SERVE_DATA", &data);
            command
        };
        if !hosts.is_empty() {
            finish(shell(typed("jobq token create"))).await.success();
        }
        let mut serve = shell(format!("exec env {}", typed("jobq serve")));
        serve.stdout(Stdio::piped());
        let mut server = Process::spawn(serve, "jobq serve", &directory.path().join("serve.log"));
        let stdout = server.take_stdout().expect("it is a pipe");
        let line = soon(
            "the server's first line",
            BufReader::new(stdout).lines().next_line(),
        )
        .await;
        assert!(line.is_ok_and(|line| line.is_some()), "it listens");
        finish(shell(typed("jobq stats"))).await.success();
        if !hosts.is_empty() {
            let mut without = shell(typed("jobq stats").replace("--token-file", "#"));
            without.env("JOBQ_TOKEN", "");
            let refused = finish(without).await.failure(UNREACHABLE);
            assert!(refused.contains("bad_token"), "{refused}");
        }
    }
}
