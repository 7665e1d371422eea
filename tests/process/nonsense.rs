//! Input that makes no sense, from people and from peers.

use jobq_client::JobRequest;
use jobq_tests::program::finish;
use jobq_tests::server::free_port;
use jobq_tests::{Chance, History, ServerProcess, Via, soon};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::fixture::{connect, directory, program, seed, submit, text};

/// Exit codes: a command line or input that makes no sense, no server, and not all done.
const USAGE: i32 = 2;
const UNREACHABLE: i32 = 3;
const PARTIAL: i32 = 4;

#[tokio::test]
async fn an_unknown_flag_is_named() {
    for arguments in [
        &["--frobnicate"][..],
        &["list", "--frobnicate"],
        &["serve", "--frobnicate"],
    ] {
        let said = program().run(arguments).await.failure(USAGE);
        assert!(said.contains("--frobnicate"), "{said}");
    }
    let said = program().run(["frobnicate"]).await.failure(USAGE);
    assert!(said.contains("frobnicate"), "{said}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let address = format!("tcp://127.0.0.1:{}", free_port());
    for command in [
        &["list"][..],
        &["stats"],
        &["submit", "x"],
        &["show", "1"],
        &["cancel", "1"],
        &["retry", "1"],
    ] {
        let arguments = command.iter().copied().chain(["--server", &address]);
        let said = program().run(arguments).await.failure(UNREACHABLE);
        assert!(said.contains(&address), "{command:?}: {said}");
    }
}

#[tokio::test]
async fn broken_params_are_reported_with_their_line_and_column() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let at = ["--server", server.address()];
    let broken = "{\"a\": 1,\n \"b\" 2}";
    let flag = program()
        .run(["submit", "x", "--params", broken].into_iter().chain(at))
        .await;
    let input = program()
        .run_with_input(["submit", "x", "--params", "-"].into_iter().chain(at), broken)
        .await;
    let path = directory.path().join("params.json");
    std::fs::write(&path, broken).expect("it can be written");
    let file = format!("@{}", text(&path));
    let file = program()
        .run(["submit", "x", "--params", &file].into_iter().chain(at))
        .await;
    for said in [flag, input, file] {
        let said = said.failure(USAGE);
        assert!(said.contains("line 2, column 6"), "{said}");
    }
}

#[tokio::test]
async fn a_broken_line_is_reported_by_its_number_and_the_others_are_submitted() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let at = ["--server", server.address()];
    let lines = "{\"name\": \"x\"}\n{\"name\": \"x\", \"params\": }\n\n{\"name\": \"not a name\"}\n{\"name\": \"x\"}\n";
    let ended = program()
        .run_with_input(["submit", "--stdin"].into_iter().chain(at), lines)
        .await;
    let said = ended.clone().failure(PARTIAL);
    assert!(
        said.contains("line 2: ") && said.contains("column 25") && said.contains("line 4: "),
        "{ended}"
    );
    let listed = program()
        .run(["list", "--json"].into_iter().chain(at))
        .await
        .success();
    assert_eq!(listed.lines().count(), 2, "{listed}");
}

#[tokio::test]
async fn a_dash_for_the_name_means_many_jobs_from_standard_input() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let at = ["--server", server.address()];
    let lines = "{\"name\": \"x\"}\n{\"name\": \"y\"}\n";
    let ended = program()
        .run_with_input(["submit", "-", "--json"].into_iter().chain(at), lines)
        .await;
    let counts = ended.success();
    assert!(counts.contains("\"accepted\":2"), "{counts}");
    let said = program()
        .run(["submit", "-", "--wait"].into_iter().chain(at))
        .await
        .failure(USAGE);
    assert!(said.contains("--wait"), "{said}");
}

#[tokio::test]
async fn what_makes_no_sense_and_what_is_not_there_have_exit_codes_of_their_own() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let at = ["--server", server.address()];
    for (command, code) in [
        (&["submit", "x", "--in", "400d"][..], USAGE),
        (&["submit", "x", "--timeout", "366d"], USAGE),
        (&["list", "--name", "a b"], USAGE),
        (&["show", "99"], PARTIAL),
        (&["cancel", "99"], PARTIAL),
    ] {
        program()
            .run(command.iter().copied().chain(at))
            .await
            .failure(code);
    }
    let array = "[\"x\",null,null,null,null,null,null,null,null,null]\n";
    let said = program()
        .run_with_input(["submit", "-"].into_iter().chain(at), array)
        .await
        .failure(PARTIAL);
    assert!(said.contains("no JSON object"), "{said}");
}

#[tokio::test]
async fn a_listing_that_is_cut_says_so() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let at = ["--server", server.address()];
    let none = program().run(["list"].into_iter().chain(at)).await;
    assert!(none.stderr.contains("no jobs match"), "{none}");
    let lines = "{\"name\": \"x\"}\n".repeat(3);
    program()
        .run_with_input(["submit"].into_iter().chain(at), &lines)
        .await
        .success();
    let cut = program()
        .run(["list", "--limit", "2"].into_iter().chain(at))
        .await;
    assert!(cut.stderr.contains("--limit"), "{cut}");
    let whole = program()
        .run(["list", "--limit", "3"].into_iter().chain(at))
        .await;
    assert!(!whole.stderr.contains("--limit"), "{whole}");
}

#[tokio::test]
async fn a_listing_whose_reader_has_seen_enough_ends_quietly() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let client = connect(server.address()).await;
    // More than a pipe holds.
    let jobs = (0..5_000).map(|_| JobRequest::new("listed")).collect();
    submit(&client, &History::default(), jobs).await;
    for json in ["", "--json"] {
        let pipe = format!("\"$0\" list --limit 5000 {json} --server \"$1\" | head -n 1");
        let mut bash = Command::new("bash");
        bash.args([
            "-o",
            "pipefail",
            "-c",
            &pipe,
            text(program().path()),
            server.address(),
        ]);
        let ended = finish(bash).await;
        assert_eq!(ended.stderr, "", "{ended}");
        assert_eq!(ended.success().lines().count(), 1);
    }
}

#[tokio::test]
async fn bytes_that_are_no_protocol_disturb_no_other_peer() {
    let mut chance = Chance::new(seed(6));
    let directory = directory();
    let mut server = ServerProcess::start(&program(), directory.path(), Via::Tcp, &[]).await;
    let client = connect(server.address()).await;
    let history = History::default();
    let mut garbage = vec![
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        vec![0; 1_000],
        vec![0xff; 1_000],
        // A frame that is announced and does not come, one of a forbidden length, and one that is no CBOR.
        vec![0, 0, 0, 100, 0xa1],
        vec![0x7f, 0xff, 0xff, 0xff, 0xa1],
        vec![0, 0, 0, 2, 0xff, 0xff],
        // A message of an unknown name.
        b"\0\0\0\x06\xa1\x63Odd\xa0".to_vec(),
    ];
    for _ in 0..20 {
        let length = chance.between(1, 300);
        let byte = |_| u8::try_from(chance.between(0, 255)).expect("it is a byte");
        garbage.push((0..length).map(byte).collect());
    }
    for bytes in garbage {
        soon(
            "the end of a senseless connection",
            send_and_read_to_the_end(server.address(), &bytes),
        )
        .await;
        let jobs = vec![JobRequest::new("undisturbed")];
        submit(&client, &history, jobs).await;
    }
    assert!(!server.log().contains("panicked"), "{}", server.log());
    assert!(server.terminate().await.success());
}

/// Sends bytes, says that there are no more, and reads whatever is said to that.
async fn send_and_read_to_the_end(address: &str, bytes: &[u8]) {
    let address = address.strip_prefix("tcp://").expect("it is an address of TCP");
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    // The server may hang up at any time.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ = stream.take(1024 * 1024).read_to_end(&mut answer).await;
}
