//! Input of people that makes no sense.

use std::process::Stdio;

use jobq_client::JobRequest;
use jobq_tests::program::finish;
use jobq_tests::server::free_port;
use jobq_tests::{History, ServerProcess, Via, soon};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::exit::{PARTIAL, UNREACHABLE, USAGE};
use crate::fixture::{completed, connect, directory, jobq, jobq_with_input, program, submit, text};

#[tokio::test]
async fn an_unknown_flag_is_named() {
    for arguments in [
        &["--frobnicate"][..],
        &["list", "--frobnicate"],
        &["serve", "--frobnicate"],
    ] {
        let said = program().run(arguments).await.failure(USAGE);
        assert!(said.contains("--frobnicate"), "{said}");
        assert!(
            said.starts_with("jobq: failed to read the command line: "),
            "{said}"
        );
    }
    let said = program().run(["frobnicate"]).await.failure(USAGE);
    assert!(said.contains("frobnicate"), "{said}");
}

#[tokio::test]
async fn flags_that_contradict_each_other_are_named() {
    for (arguments, flag) in [
        (
            &["submit", "x", "--in", "1h", "--at", "2030-01-01T00:00:00Z"][..],
            "--at",
        ),
        (&["submit", "--stdin", "--wait"], "--wait"),
        (&["submit", "--stdin", "--params", "1"], "--params"),
    ] {
        let said = program().run(arguments).await.failure(USAGE);
        assert!(said.contains(flag), "{arguments:?}: {said}");
    }
}

#[tokio::test]
async fn values_that_make_no_sense_are_named_with_what_was_expected() {
    for (arguments, value) in [
        (&["list", "--status", "lost"][..], "lost"),
        (&["list", "--limit", "many"], "many"),
        (&["submit", "x", "--priority", "urgent"], "urgent"),
        (&["submit", "x", "--in", "soon"], "soon"),
        (&["submit", "x", "--at", "next week"], "next week"),
        (&["submit", "x", "--max-attempts", "0"], "'0'"),
        (&["show", "seven"], "seven"),
        (&["cancel", "-1"], "-1"),
        (&["work", "x", "-j", "0", "--", "true"], "'0'"),
        (&["serve", "--ttl", "1ms"], "1ms"),
        (&["serve", "--listen", "ftp://here"], "ftp://here"),
        (&["serve", "--listen", "tcp://here:70000"], "70000"),
        (&["list", "--server", "here"], "\"here\" is no address"),
        (&["list", "--server", "unix://"], "unix://"),
        (&["list", "--server", "unix://jobq.sock"], "unix:jobq.sock"),
        (
            &["submit", "x", "n:=18446744073709551616"],
            "18446744073709551616",
        ),
        (
            &["submit", "x", "--params", "-9223372036854775809"],
            "-9223372036854775809",
        ),
        (
            &["submit", "x", "--params", r#"{"a":1,"a":2}"#],
            "the key \"a\" at line 1, column 8",
        ),
        (&["submit", "x", r#"n:={"a":1,"a":2}"#], "the key \"a\""),
        (&["list", "--log", "loud=very"], "loud=very"),
    ] {
        let said = program().run(arguments).await.failure(USAGE);
        assert!(said.contains(value), "{arguments:?}: {said}");
    }
    let said = program().run(["work", "x"]).await.failure(USAGE);
    assert!(said.contains("COMMAND"), "{said}");
}

#[tokio::test]
async fn a_name_that_begins_with_a_dash_can_be_given_and_is_told_how() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let at = ["--server", server.address()];
    for command in [
        &["list", "--name", "-x"][..],
        &["work", "-x", "--", "true"],
        &["submit", "-x"],
    ] {
        let said = program().run(command).await.failure(USAGE);
        assert!(said.contains("--name=-x") || said.contains("'-- -x'"), "{said}");
    }
    program()
        .run(at.iter().chain(&["submit", "--", "-x"]))
        .await
        .success();
    let listed = jobq(&server, &["list", "--name=-x"]).await.success();
    assert!(listed.contains(" -x "), "{listed}");
}

#[tokio::test]
async fn a_bad_name_is_refused_wherever_it_is_given() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let at = ["--server", server.address()];
    let long = "x".repeat(129);
    for name in ["", "two words", "größe", "a/b", "line\nbreak", &long] {
        for command in [
            &["submit", name][..],
            &["list", "--name", name],
            &["work", name, "--", "true"],
        ] {
            let (flags, command_line) = match command.iter().position(|part| *part == "--") {
                Some(end) => command.split_at(end),
                None => (command, &[][..]),
            };
            let arguments = flags.iter().chain(&at).chain(command_line);
            let said = program().run(arguments).await.failure(USAGE);
            assert!(said.contains("is not 1 to 128 characters"), "{command:?}: {said}");
        }
    }
    let listed = jobq(&server, &["list", "--json"]).await.success();
    assert_eq!(listed, "", "nothing was submitted");
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
        &["submit", "--stdin"],
        &["submit", "x", "--wait"],
    ] {
        for address in [&address, "unix:///no/such/socket"] {
            let arguments = command.iter().copied().chain(["--server", address]);
            let said = program().run(arguments).await.failure(UNREACHABLE);
            assert!(said.contains(address), "{command:?}: {said}");
        }
    }
}

#[tokio::test]
async fn a_program_that_is_no_jobq_server_is_named_also_when_it_says_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("some port is free");
    let address = format!("tcp://{}", listener.local_addr().expect("it has one"));
    let silent = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    let said = program()
        .run(["stats", "--server", &address])
        .await
        .failure(UNREACHABLE);
    assert!(
        said.contains(&address) && said.contains("is it a jobq server?"),
        "{said}"
    );
    silent.abort();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("some port is free");
    let address = format!("tcp://{}", listener.local_addr().expect("it has one"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    for command in [&["stats"][..], &["submit", "x"], &["work", "x"]] {
        let run: &[&str] = if command[0] == "work" {
            &["--", "true"]
        } else {
            &[]
        };
        let arguments = command.iter().copied().chain(["--server", &address]);
        let said = program()
            .run(arguments.chain(run.iter().copied()))
            .await
            .failure(UNREACHABLE);
        assert!(
            said.contains(&address) && said.contains("does not speak jobq's protocol"),
            "{command:?}: {said}"
        );
    }
}

#[tokio::test]
async fn a_worker_says_which_server_it_misses_and_keeps_trying_until_it_is_there() {
    let directory = directory();
    let mut server = ServerProcess::start(&program(), directory.path(), Via::Tcp, &[]).await;
    let client = connect(server.address()).await;
    let ids = submit(&client, &History::default(), vec![JobRequest::new("patient")]).await;
    server.kill().await;
    let address = server.address().to_owned();
    let mut command = program().command(["work", "patient", "--server", &address, "--", "true"]);
    let mut worker = command.stderr(Stdio::piped()).spawn().expect("it can be started");
    let mut said = BufReader::new(worker.stderr.take().expect("it is a pipe")).lines();
    let complaint = async {
        while let Ok(Some(line)) = said.next_line().await {
            if line.contains("keeps trying") && line.contains(&address) {
                return;
            }
        }
        panic!("the worker ended without a word about its server");
    };
    soon("a worker's complaint", complaint).await;
    tokio::spawn(async move { while let Ok(Some(_)) = said.next_line().await {} });
    server.restart().await;
    completed(&client, &ids).await;
    worker.kill().await.expect("it can be killed");
}

#[tokio::test]
async fn broken_params_are_reported_with_their_line_and_column() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let broken = "{\"a\": 1,\n \"b\" 2}";
    let flag = jobq(&server, &["submit", "x", "--params", broken]).await;
    let input = jobq_with_input(&server, &["submit", "x", "--params", "-"], broken).await;
    let path = directory.path().join("params.json");
    std::fs::write(&path, broken).expect("it can be written");
    let file = format!("@{}", text(&path));
    let file = jobq(&server, &["submit", "x", "--params", &file]).await;
    for said in [flag, input, file] {
        let said = said.failure(USAGE);
        assert!(said.contains("line 2, column 6"), "{said}");
    }
}

#[tokio::test]
async fn a_broken_line_is_reported_by_its_number_and_the_others_are_submitted() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let lines = "{\"name\": \"x\"}\n{\"name\": \"x\", \"params\": }\n\n{\"name\": \"not a name\"}\n{\"name\": \"x\"}\n";
    let ended = jobq_with_input(&server, &["submit", "--stdin"], lines).await;
    let said = ended.clone().failure(PARTIAL);
    assert!(
        said.contains("line 2: ") && said.contains("column 25") && said.contains("line 4: "),
        "{ended}"
    );
    let listed = jobq(&server, &["list", "--json"]).await.success();
    assert_eq!(listed.lines().count(), 2, "{listed}");
    let twice = "{\"name\": \"x\", \"params\": {\"a\": 1, \"a\": 2}}\n";
    let ended = jobq_with_input(&server, &["submit", "--stdin"], twice).await;
    let said = ended.failure(PARTIAL);
    assert!(said.contains("line 1: the key \"a\" at column 34"), "{said}");
}

#[tokio::test]
async fn a_byte_order_mark_before_params_in_a_file_is_passed_over() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let file = directory.path().join("params.json");
    std::fs::write(&file, "\u{feff}{\"a\": 1}\n").expect("it can be written");
    let params = format!("@{}", text(&file));
    let at = ["--server", server.address()];
    let submit = ["submit", "x", "--params", &params];
    program().run(submit.iter().chain(&at)).await.success();
    let show = ["show", "1", "--params"];
    let shown = program().run(show.iter().chain(&at)).await.success();
    assert!(shown.contains("{\"a\":1}"), "{shown}");
}

#[tokio::test]
async fn a_local_time_is_refused_where_the_zone_is_unknown() {
    let mut command = program().command(["submit", "x", "--at", "2099-06-01 06:00"]);
    command.env("TZ", "Bogus/Zone");
    let said = jobq_tests::program::finish(command).await.failure(USAGE);
    assert!(said.contains("TZ is \"Bogus/Zone\""), "{said}");
}

#[tokio::test]
async fn a_dash_for_the_name_means_many_jobs_from_standard_input() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let lines = "{\"name\": \"x\"}\n{\"name\": \"y\"}\n";
    let ended = jobq_with_input(&server, &["submit", "-", "--json"], lines).await;
    let counts = ended.success();
    assert!(counts.contains("\"accepted\":2"), "{counts}");
    let said = jobq(&server, &["submit", "-", "--wait"]).await.failure(USAGE);
    assert!(said.contains("--wait"), "{said}");
}

#[tokio::test]
async fn what_makes_no_sense_and_what_is_not_there_have_exit_codes_of_their_own() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    for (command, code) in [
        (&["submit", "x", "--in", "400d"][..], USAGE),
        (&["submit", "x", "--timeout", "366d"], USAGE),
        (&["list", "--name", "a b"], USAGE),
        (&["show", "99"], PARTIAL),
        (&["cancel", "99"], PARTIAL),
    ] {
        jobq(&server, command).await.failure(code);
    }
    let array = "[\"x\",null,null,null,null,null,null,null,null,null]\n";
    let said = jobq_with_input(&server, &["submit", "-"], array)
        .await
        .failure(PARTIAL);
    assert!(said.contains("no JSON object"), "{said}");
}

#[tokio::test]
async fn a_listing_that_is_cut_says_so() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let none = jobq(&server, &["list"]).await;
    assert!(none.stderr.contains("no jobs match"), "{none}");
    let lines = "{\"name\": \"x\"}\n".repeat(3);
    jobq_with_input(&server, &["submit"], &lines).await.success();
    let cut = jobq(&server, &["list", "--limit", "2"]).await;
    assert!(cut.stderr.contains("--limit"), "{cut}");
    let whole = jobq(&server, &["list", "--limit", "3"]).await;
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
