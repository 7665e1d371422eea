//! Servers that speak TLS, and those who connect to them.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use jobq_client::{Client, ClientTls, JobRequest};
use jobq_tests::program::finish;
use jobq_tests::soon::BOUND;
use jobq_tests::{Finished, Process, ServerProcess, Via, soon};
use rustix::process::Signal;

use crate::fixture::{completed, directory, program, text};

/// A command line or input that makes no sense.
const USAGE: i32 = 2;
/// No server answers, or it refuses this client.
const UNREACHABLE: i32 = 3;
/// A server that could not start.
const CANNOT_START: i32 = 10;

/// A directory of certificates that `jobq cert` makes.
pub(crate) struct Certificates(PathBuf);

impl Certificates {
    pub(crate) async fn make(within: &Path, name: &str) -> Self {
        let path = within.join(name);
        program().run(["cert", "init", text(&path)]).await.success();
        Self(path)
    }

    pub(crate) async fn client(&self, name: &str) {
        program()
            .run(["cert", "client", name, "--dir", text(&self.0)])
            .await
            .success();
    }

    pub(crate) fn file(&self, name: &str) -> String {
        text(&self.0.join(name)).to_owned()
    }

    /// A server's flags.
    fn of_server(&self) -> Vec<String> {
        self.shown("server")
    }

    /// The flags of somebody who shows a certificate.
    pub(crate) fn shown(&self, name: &str) -> Vec<String> {
        let (cert, key) = (
            self.file(&format!("{name}.pem")),
            self.file(&format!("{name}.key")),
        );
        vec!["--tls-cert".to_owned(), cert, "--tls-key".to_owned(), key]
    }

    /// The flag of whoever connects.
    pub(crate) fn trusted(&self) -> Vec<String> {
        vec!["--tls-ca".to_owned(), self.file("ca.pem")]
    }

    pub(crate) async fn serve(&self, directory: &Path, further: &[&str]) -> ServerProcess {
        let flags = self.of_server();
        let flags: Vec<&str> = flags
            .iter()
            .map(String::as_str)
            .chain(further.iter().copied())
            .collect();
        ServerProcess::start(&program(), directory, Via::Tls, &flags).await
    }
}

pub(crate) async fn stats(server: &str, flags: &[String]) -> Finished {
    let asked = ["stats", "--server", server];
    program()
        .run(asked.iter().copied().chain(flags.iter().map(String::as_str)))
        .await
}

#[tokio::test]
async fn jobs_are_submitted_and_worked_on_over_tls() {
    let directory = directory();
    let certificates = Certificates::make(directory.path(), "certs").await;
    let server = certificates.serve(directory.path(), &[]).await;
    let ca = certificates.file("ca.pem");
    let reached = ["--server", server.address(), "--tls-ca", &ca];
    let work = ["work", "echo"].iter().chain(&reached).chain(&["--", "cat"]);
    let command = program().command(work);
    let _worker = Process::spawn(command, "jobq work", &directory.path().join("work.log"));
    let submit = ["submit", "echo", "word=hello", "--wait"];
    let said = program().run(submit.iter().chain(&reached)).await.success();
    assert!(said.contains("hello"), "{said}");
    // What is in the variables and the configuration file counts as well.
    let mut command = program().command(["stats"]);
    command
        .env("JOBQ_SERVER", server.address())
        .env("JOBQ_TLS_CA", &ca);
    finish(command).await.success();
    let file = directory.path().join("jobq.toml");
    std::fs::write(
        &file,
        format!("server = {:?}\ntls-ca = {ca:?}\n", server.address()),
    )
    .expect("it can be written");
    program().run(["stats", "--config", text(&file)]).await.success();
    // And what the system trusts.
    let mut command = program().command(["stats", "--server", server.address()]);
    command.env("SSL_CERT_FILE", &ca);
    finish(command).await.success();
}

#[tokio::test]
async fn whoever_does_not_speak_tls_rightly_is_told_what_to_do() {
    let directory = directory();
    let certificates = Certificates::make(directory.path(), "certs").await;
    let others = Certificates::make(directory.path(), "others").await;
    let server = certificates.serve(directory.path(), &[]).await;
    let said = stats(server.address(), &others.trusted())
        .await
        .failure(UNREACHABLE);
    assert!(
        said.contains(server.address()) && said.contains("--tls-ca"),
        "{said}"
    );

    let plain = server.address().replace("tls://", "tcp://");
    let said = stats(&plain, &[]).await.failure(UNREACHABLE);
    assert!(said.contains("connect to it by tls://"), "{said}");
    let said = stats(&plain, &certificates.trusted()).await.failure(USAGE);
    assert!(said.contains(&plain) && said.contains("use tls://"), "{said}");

    let unencrypted = directory.path().join("plain");
    std::fs::create_dir(&unencrypted).expect("it can be made");
    let unencrypted = ServerProcess::start(&program(), &unencrypted, Via::Tcp, &[]).await;
    let encrypted = unencrypted.address().replace("tcp://", "tls://");
    let said = stats(&encrypted, &certificates.trusted())
        .await
        .failure(UNREACHABLE);
    assert!(
        said.contains("does not speak TLS") && said.contains("tcp://"),
        "{said}"
    );

    let said = stats(server.address(), &["--tls-cert".to_owned(), "x".to_owned()])
        .await
        .failure(USAGE);
    assert!(said.contains("--tls-cert needs --tls-key"), "{said}");
    let absent = ["--tls-ca".to_owned(), "absent.pem".to_owned()];
    let said = stats(server.address(), &absent).await.failure(USAGE);
    assert!(
        said.contains("absent.pem") && said.contains("No such file"),
        "{said}"
    );
    let work = [
        "work",
        "x",
        "--server",
        server.address(),
        "--tls-ca",
        "absent.pem",
        "--",
        "true",
    ];
    let said = program().run(work).await.failure(USAGE);
    assert!(said.contains("absent.pem"), "{said}");
}

#[tokio::test]
async fn a_server_that_asks_for_certificates_lets_in_those_who_show_one_of_its_ca() {
    let directory = directory();
    let certificates = Certificates::make(directory.path(), "certs").await;
    let others = Certificates::make(directory.path(), "others").await;
    certificates.client("web").await;
    others.client("web").await;
    let ca = certificates.file("ca.pem");
    let server = certificates
        .serve(directory.path(), &["--tls-client-ca", &ca])
        .await;
    let said = stats(server.address(), &certificates.trusted())
        .await
        .failure(UNREACHABLE);
    assert!(
        said.contains("asks for a client certificate") && said.contains("--tls-cert"),
        "{said}"
    );
    let stranger = [certificates.trusted(), others.shown("web")].concat();
    let said = stats(server.address(), &stranger).await.failure(UNREACHABLE);
    assert!(said.contains("does not accept the certificate"), "{said}");
    // A server's certificate is none for a client, though its CA has signed it.
    let server_s = [certificates.trusted(), certificates.shown("server")].concat();
    stats(server.address(), &server_s).await.failure(UNREACHABLE);
    let known = [certificates.trusted(), certificates.shown("web")].concat();
    stats(server.address(), &known).await.success();
}

#[tokio::test]
async fn what_can_be_reloaded_counts_while_the_rest_cannot_be_read() {
    let directory = directory();
    let certificates = Certificates::make(directory.path(), "certs").await;
    let next = Certificates::make(directory.path(), "next").await;
    let data = directory.path().join("data");
    let token = async |arguments: &[&str]| {
        let at = ["--data", text(&data)];
        let command = ["token"].iter().chain(arguments).chain(&at);
        program().run(command).await.success().trim().to_owned()
    };
    let kept = token(&["create", "kept", "--scope", "admin"]).await;
    let lost = token(&["create", "lost", "--scope", "admin"]).await;
    let server = certificates.serve(directory.path(), &[]).await;
    let ask = async |token: &str, trusting: &Certificates| {
        let trusted = trusting.trusted();
        let asked = ["stats", "--server", server.address()].into_iter();
        let mut command = program().command(asked.chain(trusted.iter().map(String::as_str)));
        command.env("JOBQ_TOKEN", token);
        finish(command).await
    };
    ask(&lost, &certificates).await.success();

    token(&["revoke", "lost"]).await;
    let (key, away) = (certificates.file("server.key"), certificates.file("away"));
    std::fs::rename(&key, &away).expect("it is there");
    server.signal(Signal::HUP);
    server.logged("failed to reload the certificates").await;
    let refused = ask(&lost, &certificates).await.failure(UNREACHABLE);
    assert!(refused.contains("bad_token"), "{refused}");
    ask(&kept, &certificates).await.success();

    for file in ["server.pem", "server.key"] {
        std::fs::copy(next.file(file), certificates.file(file)).expect("it can be replaced");
    }
    let list = data.join("tokens");
    std::fs::write(&list, "broken").expect("it can be written");
    server.signal(Signal::HUP);
    server.logged("failed to reload the list of tokens").await;
    ask(&kept, &next).await.success();

    std::fs::remove_file(&key).expect("it is there");
    server.signal(Signal::HUP);
    server
        .logged_times("failed to reload the list of tokens", 2)
        .await;
    server.logged_times("failed to reload the certificates", 2).await;
    ask(&kept, &next).await.success();
}

#[tokio::test]
async fn new_certificates_are_taken_on_sighup_and_connections_go_on() {
    let directory = directory();
    let certificates = Certificates::make(directory.path(), "certs").await;
    let next = Certificates::make(directory.path(), "next").await;
    let server = certificates.serve(directory.path(), &[]).await;
    let tls = ClientTls::new().ca(certificates.file("ca.pem"));
    let client = Client::builder(server.address())
        .tls(tls)
        .deadline(BOUND)
        .connect()
        .await;
    let client = client.expect("the server listens");
    for file in ["server.pem", "server.key"] {
        std::fs::copy(next.file(file), certificates.file(file)).expect("it can be replaced");
    }
    server.signal(Signal::HUP);
    server.logged("reloaded").await;
    stats(server.address(), &certificates.trusted())
        .await
        .failure(UNREACHABLE);
    stats(server.address(), &next.trusted()).await.success();
    // This one trusts the old CA only, so a new connection would fail.
    let receipt = client
        .submit(JobRequest::new("later"))
        .await
        .expect("the connection goes on");
    client
        .cancel(&[receipt.id])
        .await
        .expect("the connection goes on");

    std::fs::write(certificates.file("server.pem"), "no certificate").expect("it can be written");
    server.signal(Signal::HUP);
    server.logged("failed to reload").await;
    assert!(server.log().contains("server.pem"), "{}", server.log());
    stats(server.address(), &next.trusted()).await.success();
    client
        .submit(JobRequest::new("later"))
        .await
        .expect("the connection goes on");
}

#[tokio::test]
async fn a_server_whose_certificate_cannot_be_used_says_which_file_is_wrong() {
    let directory = directory();
    let certificates = Certificates::make(directory.path(), "certs").await;
    let others = Certificates::make(directory.path(), "others").await;
    let serve = async |flags: &[&str]| {
        let data = directory.path().join("data");
        let fixed = ["serve", "--listen", "tls://127.0.0.1:0", "--data", text(&data)];
        program().run(fixed.iter().chain(flags)).await
    };
    let (cert, key) = (certificates.file("server.pem"), certificates.file("server.key"));
    let said = serve(&[]).await.failure(USAGE);
    assert!(
        said.contains("--tls-cert") && said.contains("jobq cert init"),
        "{said}"
    );
    let said = serve(&["--tls-cert", &cert]).await.failure(USAGE);
    assert!(said.contains("--tls-key"), "{said}");
    let said = serve(&["--tls-cert", &cert, "--tls-key", "absent.key"])
        .await
        .failure(CANNOT_START);
    assert!(said.contains("absent.key"), "{said}");
    let other = others.file("server.key");
    let said = serve(&["--tls-cert", &cert, "--tls-key", &other])
        .await
        .failure(CANNOT_START);
    assert!(
        said.contains(&cert) && said.contains(&other) && said.contains("does not belong"),
        "{said}"
    );
    let said = serve(&["--tls-cert", &cert, "--tls-key", &key, "--tls-client-ca", &key]).await;
    let said = said.failure(CANNOT_START);
    assert!(
        said.contains("client certificates") && said.contains(&key),
        "{said}"
    );
}

#[tokio::test]
async fn a_key_that_everybody_may_read_is_warned_of() {
    let directory = directory();
    let certificates = Certificates::make(directory.path(), "certs").await;
    let mut server = certificates.serve(directory.path(), &[]).await;
    assert!(!server.log().contains("chmod 600"), "{}", server.log());
    assert!(server.terminate().await.success());
    let key = certificates.file("server.key");
    std::fs::set_permissions(&key, Permissions::from_mode(0o644)).expect("it is ours");
    server.restart().await;
    assert!(
        server.log().contains(&key) && server.log().contains("chmod 600"),
        "{}",
        server.log()
    );
}

#[tokio::test]
async fn a_certificate_that_is_about_to_expire_is_warned_of_at_the_start_and_at_each_reload() {
    const NEAR: &str = "the server's certificate expires in";

    let directory = directory();
    let certificates = Certificates::make(directory.path(), "certs").await;
    let at = certificates.file("");
    let renew = async |valid: &str| {
        let renew = ["cert", "server", &at, "--force", "--valid", valid];
        program().run(renew).await.success();
    };
    let server = certificates.serve(directory.path(), &[]).await;
    assert!(!server.log().contains(NEAR), "it is valid for two years");
    renew("9d").await;
    server.signal(Signal::HUP);
    server.logged(NEAR).await;
    let log = server.log();
    assert!(
        log.contains(&certificates.file("server.pem")) && log.contains("SIGHUP"),
        "{log}"
    );

    let second = directory.path().join("second");
    std::fs::create_dir(&second).expect("it can be made");
    let second = certificates.serve(&second, &[]).await;
    second.logged(NEAR).await;
}

/// Jobs that take a while go on while certificates are renewed on both sides.
#[tokio::test]
async fn a_worker_takes_its_renewed_certificate_when_it_connects_again() {
    let directory = directory();
    let certificates = Certificates::make(directory.path(), "certs").await;
    let next = Certificates::make(directory.path(), "next").await;
    certificates.client("worker").await;
    next.client("worker").await;
    let ca = certificates.file("ca.pem");
    let mut server = certificates
        .serve(directory.path(), &["--tls-client-ca", &ca])
        .await;
    let address = server.address().to_owned();
    let shown = certificates.shown("worker");
    let mut work = vec!["work", "echo", "--server", &address, "--tls-ca", &ca];
    work.extend(shown.iter().map(String::as_str));
    let work = work.into_iter().chain(["--", "cat"]);
    let command = program().command(work);
    let _worker = Process::spawn(command, "jobq work", &directory.path().join("work.log"));
    let client = async |certificates: &Certificates| {
        let tls = ClientTls::new()
            .ca(certificates.file("ca.pem"))
            .identity(certificates.file("worker.pem"), certificates.file("worker.key"));
        let client = Client::builder(&address).tls(tls).deadline(BOUND).connect().await;
        client.expect("the server listens")
    };
    let before = client(&certificates).await;
    let id = before
        .submit(JobRequest::new("echo"))
        .await
        .expect("it is taken")
        .id;
    completed(&before, &[id]).await;
    before.close().await;
    for file in ["ca.pem", "server.pem", "server.key", "worker.pem", "worker.key"] {
        std::fs::copy(next.file(file), certificates.file(file)).expect("it can be replaced");
    }
    assert!(server.terminate().await.success());
    server.restart().await;
    let after = client(&next).await;
    let id = after
        .submit(JobRequest::new("echo"))
        .await
        .expect("it is taken")
        .id;
    completed(&after, &[id]).await;
}

#[tokio::test]
async fn a_certificate_does_what_its_entry_allows_and_without_one_nothing_once_there_are_entries() {
    let directory = directory();
    let certificates = Certificates::make(directory.path(), "certs").await;
    certificates.client("web").await;
    certificates.client("other").await;
    let client_ca = certificates.file("ca.pem");
    let server = certificates
        .serve(directory.path(), &["--tls-client-ca", &client_ca])
        .await;
    let run_as = async |name: &str, arguments: &[&str]| {
        let (shown, trusted) = (certificates.shown(name), certificates.trusted());
        let flags = shown.iter().chain(&trusted).map(String::as_str);
        let at = ["--server", server.address()];
        let all = at.into_iter().chain(flags).chain(arguments.iter().copied());
        program().run(all).await
    };
    for name in ["web", "other"] {
        run_as(name, &["submit", "anything"]).await.success();
    }
    let data = server.data();
    let made = [
        "token", "create", "web", "--scope", "submit", "--only", "mail", "--cert",
    ];
    let made = program()
        .run(made.into_iter().chain(["--data", text(&data)]))
        .await;
    assert_eq!(
        (made.code, made.stdout.as_str()),
        (Some(0), ""),
        "there is no token: {made}"
    );
    assert!(made.stderr.contains("nor do client certificates"), "{made}");
    server.signal(Signal::HUP);
    soon("the server has read its list", async {
        while run_as("other", &["stats"]).await.code == Some(0) {}
    })
    .await;
    let refused = run_as("other", &["stats"]).await.failure(UNREACHABLE);
    assert!(refused.contains("bad_token"), "{refused}");
    run_as("web", &["submit", "mail"]).await.success();
    let foreign = run_as("web", &["submit", "anything"]).await.failure(UNREACHABLE);
    assert!(foreign.contains("forbidden"), "{foreign}");
}
