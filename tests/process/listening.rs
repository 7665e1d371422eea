//! Who can reach a server.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use jobq_tests::{Process, ServerProcess, Via, until};

use crate::exit::USAGE;
use crate::fixture::{directory, jobq, program, text};

#[tokio::test]
async fn listening_in_the_open_is_refused_with_what_to_do_about_it() {
    let directory = directory();
    let data = directory.path().join("data");
    let certs = directory.path().join("certs");
    program().run(["cert", "init", text(&certs)]).await.success();
    let (cert, key) = (certs.join("server.pem"), certs.join("server.key"));
    let with_token = [("JOBQ_TOKEN", "a secret")];
    for (address, flags, variables, said) in [
        (
            "tcp://0.0.0.0:0",
            &[][..],
            &[][..],
            "without TLS and without asking who connects",
        ),
        ("tcp://0.0.0.0:0", &[], &with_token, "without TLS"),
        ("tcp://[::]:0", &[], &with_token, "without TLS"),
        (
            "tls://0.0.0.0:0",
            &["--tls-cert", text(&cert), "--tls-key", text(&key)],
            &[],
            "without asking who connects",
        ),
    ] {
        let fixed = [
            "serve",
            "--data",
            text(&data),
            "--listen",
            "tcp://127.0.0.1:0",
            "--listen",
            address,
        ];
        let mut command = program().command(fixed.iter().chain(flags));
        command.envs(variables.iter().copied());
        let error = jobq_tests::program::finish(command).await.failure(USAGE);
        let expected = [
            address,
            said,
            "--tls-cert",
            "--token-file",
            "--tls-client-ca",
            "--insecure-listen",
        ];
        assert!(expected.iter().all(|words| error.contains(words)), "{error}");
        assert!(!data.exists(), "nothing was begun");
    }
}

#[tokio::test]
async fn listening_in_the_open_is_possible_for_whoever_says_that_it_is_meant() {
    let directory = directory();
    let (data, ready) = (directory.path().join("data"), directory.path().join("ready"));
    let any = Ipv4Addr::UNSPECIFIED;
    let listen = format!("tcp://{any}:0");
    let serve = [
        "serve",
        "--data",
        text(&data),
        "--listen",
        &listen,
        "--ready-file",
        text(&ready),
    ];
    let mut command = program().command(serve.into_iter().chain(["--insecure-listen"]));
    command.stdout(Stdio::null());
    let server = Process::spawn(command, "jobq serve", &directory.path().join("serve.log"));
    until("a server that is up", async || ready.exists()).await;
    let address = std::fs::read_to_string(&ready).expect("it is there");
    let address = address.trim().replace(&any.to_string(), "127.0.0.1");
    program().run(["stats", "--server", &address]).await.success();
    assert!(
        server.log().contains("other machines reach this address"),
        "{}",
        server.log()
    );
}

#[tokio::test]
async fn a_unix_socket_is_for_those_who_were_meant() {
    for (flags, expected) in [(&[][..], 0o600), (&["--socket-mode", "660"], 0o660)] {
        let directory = directory();
        let server = ServerProcess::start(&program(), directory.path(), Via::Unix, flags).await;
        let socket = server.address().strip_prefix("unix://").expect("it is one");
        let mode = std::fs::metadata(socket)
            .expect("it is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, expected);
        jobq(&server, &["stats"]).await.success();
    }
    let said = program()
        .run(["serve", "--socket-mode", "rw"])
        .await
        .failure(USAGE);
    assert!(said.contains("--socket-mode") && said.contains("660"), "{said}");
}
