//! What `jobq work` gives to commands, and what it makes of what they do.

use jobq_client::{JobRequest, Status};
use jobq_proto::limits::MAX_REASON;
use jobq_tests::program::{finish, without_variables};
use jobq_tests::{History, Process, Terminal, soon};
use serde_json::{Value, json};

use crate::exit::USAGE;
use crate::fixture::{completed, program, submit, text};
use crate::workshop::{Workshop, gone};

#[tokio::test]
async fn a_worker_of_several_names_tells_its_command_which_and_puts_words_in_whole() {
    let shop = Workshop::open().await;
    let words = [
        "{params.file}",
        "{params.sizes.0}",
        "{id}:{name}",
        "${id} {print} {{}}",
        "{}",
    ];
    let script = r#"printf '%s|' "$JOBQ_NAME" "$@""#;
    let _worker = shop.work(
        &[
            &["a", "--name", "b,c", "--", "sh", "-c", script, "sh"],
            &words[..],
        ]
        .concat(),
    );
    let evil = "$(touch evil); `touch evil` \"'\\ * {id}\n";
    for name in ["a", "b", "c"] {
        let params = json!({"file": evil, "sizes": [200]});
        let id = shop.submit(name, &params).await;
        let said: String = shop.outcome(id).await.decode().expect("it completes with a text");
        assert_eq!(
            said,
            format!("{name}|{evil}|200|{id}:{name}|${{id}} {{print}} {{}}|{params}|")
        );
    }
    assert!(!shop.directory.path().join("evil").exists());
}

#[tokio::test]
async fn a_job_without_what_a_word_takes_fails_for_good_and_is_told_what() {
    let shop = Workshop::open().await;
    let _worker = shop.work(&["x", "--", "echo", "{params.sizes.1}"]);
    let job = JobRequest::new("x")
        .params(&json!({"sizes": [1]}))
        .expect("it can be encoded");
    let ids = submit(&shop.client, &History::default(), vec![job]).await;
    let outcome = shop.outcome(ids[0]).await;
    let reason = outcome.reason.expect("it fails though it has attempts left");
    assert!(
        reason.contains("{params.sizes.1}") && reason.contains("no field \"sizes.1\""),
        "{reason}"
    );
}

#[tokio::test]
async fn a_word_that_is_too_long_for_an_argument_fails_the_job_for_good() {
    let shop = Workshop::open().await;
    let _worker = shop.work(&["x", "--", "echo", "{}"]);
    let job = JobRequest::new("x")
        .params(&"x".repeat(500_000))
        .expect("it can be encoded");
    let ids = submit(&shop.client, &History::default(), vec![job]).await;
    let reason = shop
        .outcome(ids[0])
        .await
        .reason
        .expect("it fails though it has attempts left");
    assert!(reason.contains("standard input"), "{reason}");
}

#[tokio::test]
async fn output_as_json_is_the_result_and_what_is_none_is_shown_its_place() {
    let shop = Workshop::open().await;
    let _worker = shop.work(&["x", "--result", "json", "--", "printf", "%s", "{}"]);
    assert_eq!(shop.result("x", " {\"a\": [1, 2.5]}\n").await, r#"{"a":[1,2.5]}"#);
    let reason = shop.reason("x", "{\n  \"a\": }").await;
    assert!(reason.contains("line 2, column 8"), "{reason}");
    let reason = shop.reason("x", "{\"a\": 1, \"a\": 2}").await;
    assert!(reason.contains("the key \"a\" at line 1, column 10"), "{reason}");
}

#[tokio::test]
async fn output_that_is_no_text_is_kept_byte_by_byte() {
    let shop = Workshop::open().await;
    let _worker = shop.work_by("x", r"printf '\377\000\376'", &[]);
    let id = shop.submit("x", &()).await;
    let result = shop.outcome(id).await.result.expect("there is one");
    assert_eq!(result[..], [0x43, 0xff, 0x00, 0xfe], "a byte string of CBOR");
}

#[tokio::test]
async fn a_result_that_is_no_text_is_written_as_it_is_and_named_as_bytes_in_json() {
    let shop = Workshop::open().await;
    let _worker = shop.work_by("x", r"printf '\377\000\376'", &[]);
    let at = ["--server", shop.server.address()];
    let command = |arguments: &[&str]| program().command(arguments.iter().chain(&at));
    let raw = command(&["submit", "x", "--wait"]).output();
    let raw = soon("the result", raw).await.expect("it can be run");
    assert_eq!(raw.stdout, [0xff, 0x00, 0xfe], "{raw:?}");
    for arguments in [
        &["submit", "x", "--wait", "--json"][..],
        &["show", "1", "--result", "--json"],
        &["wait", "1", "--json"],
    ] {
        let said = program().run(arguments.iter().chain(&at)).await.success();
        let said: Value = serde_json::from_str(&said).expect("it is JSON");
        assert_eq!(
            (&said["result"], &said["result_encoding"]),
            (&"_wD-".into(), &"base64url".into())
        );
    }
    let shown = program()
        .run(["show", "1", "--result"].iter().chain(&at))
        .await
        .success();
    assert!(
        shown.contains("3 bytes that are no text, in base64url: \"_wD-\""),
        "{shown}"
    );
    let mut terminal = Terminal::start(command(&["submit", "x", "--wait"]), 100);
    terminal
        .until("a result of 3 bytes that is no text; write it to a file")
        .await;
    assert!(terminal.end().await.0.success());
}

#[tokio::test]
async fn a_text_that_looks_like_bytes_is_no_bytes() {
    let shop = Workshop::open().await;
    let _worker = shop.work_by("x", "printf _wD-", &[]);
    let at = ["--server", shop.server.address()];
    let said = program()
        .run(["submit", "x", "--wait", "--json"].iter().chain(&at))
        .await
        .success();
    assert!(said.contains("\"_wD-\"") && !said.contains("encoding"), "{said}");
}

#[tokio::test]
async fn the_reason_of_a_failure_is_the_end_of_what_was_said() {
    let shop = Workshop::open().await;
    let script = "yes é | head -n 100000 >&2; echo '::progress 50%' >&2; echo the point >&2; exit 7";
    let _worker = shop.work_by("x", script, &[]);
    let reason = shop.reason("x", &()).await;
    assert!(reason.starts_with("exit status 7: …"), "{reason}");
    assert!(
        reason.ends_with("é\nthe point") && reason.len() <= MAX_REASON,
        "{reason}"
    );
}

#[tokio::test]
async fn a_command_that_is_killed_by_a_signal_fails_its_job_which_names_the_signal() {
    let shop = Workshop::open().await;
    let _worker = shop.work_by("x", "echo so far >&2; kill -USR1 $$", &[]);
    let reason = shop.reason("x", &()).await;
    assert!(
        reason.starts_with("killed by SIGUSR1 (signal ") && reason.ends_with(": so far"),
        "{reason}"
    );
}

#[tokio::test]
async fn an_exit_status_can_say_that_trying_again_is_in_vain() {
    let shop = Workshop::open().await;
    let _worker = shop.work(&[
        "x",
        "--never",
        "65,66",
        "--",
        "sh",
        "-c",
        "echo no picture >&2; exit 66",
    ]);
    let ids = submit(&shop.client, &History::default(), vec![JobRequest::new("x")]).await;
    let reason = shop.outcome(ids[0]).await.reason;
    assert_eq!(
        reason.as_deref(),
        Some("exit status 66: no picture"),
        "though it has attempts left"
    );
}

#[tokio::test]
async fn a_gigabyte_of_output_is_dropped_and_fails_the_job_for_good() {
    let shop = Workshop::open().await;
    let worker = shop.work_by("x", "head -c 1073741824 /dev/zero", &[]);
    let ids = submit(&shop.client, &History::default(), vec![JobRequest::new("x")]).await;
    let reason = shop
        .outcome(ids[0])
        .await
        .reason
        .expect("it fails though it has attempts left");
    assert!(
        reason.starts_with("result_too_large: ") && reason.contains("1073741824"),
        "{reason}"
    );
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.id().expect("it runs")));
    let status = status.expect("it runs");
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("Linux tells it");
    let peak: u64 = peak
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("it is a number");
    assert!(peak < 200 * 1024, "the worker took {peak} KiB at its peak");
}

#[tokio::test]
async fn a_gigabyte_on_standard_error_does_no_harm() {
    let shop = Workshop::open().await;
    let _worker = shop.work_by("x", "head -c 1073741824 /dev/zero >&2; echo done", &[]);
    assert_eq!(shop.result("x", &()).await, r#""done\n""#);
}

#[tokio::test]
async fn params_that_a_command_does_not_read_or_reads_late_hold_nothing_up() {
    let shop = Workshop::open().await;
    let large = "x".repeat(900_000);
    let _blind = shop.work(&["blind", "--", "echo", "done"]);
    assert_eq!(shop.result("blind", &large).await, r#""done\n""#);
    // Far more than a pipe holds, before anything is read.
    let script = "head -c 500000 /dev/zero | tr '\\0' y; wc -c";
    let _late = shop.work_by("late", script, &[]);
    let result = shop.result("late", &large).await;
    // The text, its quotes and the end of the line.
    assert!(result.starts_with("\"yyy") && result.trim_end_matches("\\n\"").ends_with("900003"));
}

#[tokio::test]
async fn a_grandchild_that_holds_the_pipes_is_killed_once_its_command_has_ended() {
    let shop = Workshop::open().await;
    let _worker = shop.work_by("x", "sleep 3600 & echo $!", &[]);
    let id = shop.submit("x", &()).await;
    let said: String = shop.outcome(id).await.decode().expect("it completes with a text");
    gone(said.trim()).await;
}

#[tokio::test]
async fn a_run_takes_no_longer_than_the_workers_time_out_and_says_how_far_it_was() {
    let shop = Workshop::open().await;
    let script = "echo at page 7 >&2; exec sleep 3600";
    let _worker = shop.work(&["x", "--timeout", "1s", "--", "sh", "-c", script]);
    let reason = shop.reason("x", &()).await;
    assert!(
        reason.starts_with("timed out after 1s: ") && reason.ends_with(": at page 7"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_cancelled_job_gets_to_clean_up() {
    let shop = Workshop::open().await;
    let mut pipe = shop.pipe();
    let script =
        "trap 'echo cleaned > \"$1\"; exit 1' TERM; echo begun > \"$1\"; while :; do sleep 0.05; done";
    let _worker = shop.work_by("x", script, &[text(pipe.path())]);
    let id = shop.submit("x", &()).await;
    assert_eq!(pipe.line().await, "begun");
    shop.client.cancel(&[id]).await.expect("the server answers");
    assert_eq!(pipe.line().await, "cleaned");
    assert_eq!(shop.outcome(id).await.status, Status::Cancelled);
}

#[tokio::test]
async fn a_cancelled_job_whose_command_does_not_listen_is_killed_after_its_grace() {
    let shop = Workshop::open().await;
    let mut pipe = shop.pipe();
    let script = "trap '' TERM; echo $$ > \"$1\"; while :; do sleep 0.05; done";
    let path = text(pipe.path()).to_owned();
    let _worker = shop.work(&["x", "--grace", "200ms", "--", "sh", "-c", script, "sh", &path]);
    let id = shop.submit("x", &()).await;
    let process = pipe.line().await;
    shop.client.cancel(&[id]).await.expect("the server answers");
    assert_eq!(shop.outcome(id).await.status, Status::Cancelled);
    gone(&process).await;
}

#[tokio::test]
async fn what_a_command_says_of_its_progress_is_shown_while_it_runs() {
    let shop = Workshop::open().await;
    let go_on = shop.file("go-on");
    let script = "echo '::progress 2/8 page 2' >&2; while [ ! -e \"$1\" ]; do sleep 0.05; done";
    let _worker = shop.work_by("x", script, &[&go_on]);
    let id = shop.submit("x", &()).await;
    let shown = async {
        loop {
            let job = shop.client.show(id).await.expect("the server answers");
            if let Some(progress) = job.expect("it is there").progress {
                break progress;
            }
        }
    };
    let progress = soon("the job's progress", shown).await;
    assert_eq!((progress.part, &*progress.text), (Some(250_000), "page 2"));
    std::fs::write(&go_on, "").expect("it can be written");
    assert_eq!(shop.outcome(id).await.status, Status::Completed);
}

#[tokio::test]
async fn params_and_facts_reach_the_command_and_the_token_does_not() {
    let shop = Workshop::open().await;
    let script =
        r#"cat; echo "$JOBQ_ID $JOBQ_ATTEMPT/$JOBQ_MAX_ATTEMPTS ${JOBQ_USERNAME-none} ${JOBQ_TOKEN-none}""#;
    let mut command = program().command(["work", "x", "--server", shop.server.address()]);
    command
        .args(["--", "sh", "-c", script])
        .env("JOBQ_TOKEN", "secret");
    let _worker = Process::spawn(command, "jobq work", &shop.directory.path().join("work.log"));
    let id = shop.submit("x", &json!({"a": [1, "é"]})).await;
    let said: String = shop.outcome(id).await.decode().expect("it completes with a text");
    assert_eq!(said, format!("{{\"a\":[1,\"é\"]}}\n{id} 1/1 none none\n"));
}

#[tokio::test]
async fn a_command_line_that_makes_no_sense_is_refused_before_there_is_a_job() {
    let directory = crate::fixture::directory();
    let plain = directory.path().join("plain");
    std::fs::write(&plain, "#!/bin/sh\n").expect("it can be written");
    for (arguments, part) in [
        (
            &["x", "--", "no-such-command-anywhere"][..],
            "in no directory of PATH",
        ),
        (&["x", "--", "./no/such/file"], "./no/such/file"),
        (&["x", "--", text(&plain)], "chmod +x"),
        (&["x", "--", text(directory.path())], "it is no file"),
        (&["x", "--", ""], "PATH"),
        (&["x"], "COMMAND"),
        (&["--", "true"], "there is none"),
        (&["not a name", "--", "true"], "not a name"),
        (&["--name", "a", "--name", "", "--", "true"], "--name"),
        (&["x", "--name", "x", "--", "true"], "more than once"),
        (
            &["--name", "a,b,a", "--", "true"],
            "\"a\" is given more than once",
        ),
        (&["x", "-j", "0", "--", "true"], "from 1 to 10000"),
        (&["x", "--never", "0", "--", "true"], "--never"),
        (&["x", "-j", "many", "--", "true"], "many"),
        (&["x", "--timeout", "0s", "--", "true"], "--timeout"),
        (&["x", "--grace", "soon", "--", "true"], "--grace"),
        (&["x", "--result", "xml", "--", "true"], "xml"),
        (&["x", "--", "echo", "out/{params.a..b}"], "byte 5"),
        (&["x", "--", "sh", "-c", "echo {params.a}"], "a script for sh"),
        (&["x", "--", "./{name}"], "the program"),
    ] {
        let said = program()
            .run(["work"].iter().chain(arguments))
            .await
            .failure(USAGE);
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
}

#[tokio::test]
async fn more_commands_at_a_time_than_the_system_has_files_for_are_refused() {
    let mut bash = tokio::process::Command::new("bash");
    let script = "ulimit -Sn 200; ulimit -Hn 300; exec \"$0\" work x -j 100 -- true";
    bash.args(["-c", script, text(program().path())]);
    without_variables(&mut bash);
    let said = finish(bash).await.failure(USAGE);
    assert!(
        said.contains("464 open files") && said.contains("300") && said.contains("-j"),
        "{said}"
    );
}

#[tokio::test]
async fn many_commands_run_at_a_time_where_few_files_may_be_open_at_first() {
    let shop = Workshop::open().await;
    let mut pipe = shop.pipe();
    let go_on = shop.file("go-on");
    let script = "ulimit -Sn 100; exec \"$@\"";
    let command = r#"echo begun > "$1"; while [ ! -e "$2" ]; do sleep 0.2; done"#;
    let mut bash = tokio::process::Command::new("bash");
    without_variables(&mut bash)
        .args(["-c", script, "bash", text(program().path())])
        .args(["work", "x", "-j", "40", "--server", shop.server.address()])
        .args(["--", "sh", "-c", command, "sh", text(pipe.path()), &go_on]);
    let _worker = Process::spawn(bash, "jobq work", &shop.directory.path().join("work.log"));
    let mut ids = Vec::new();
    for _ in 0..40 {
        ids.push(shop.submit("x", &()).await);
    }
    for _ in 0..40 {
        assert_eq!(pipe.line().await, "begun");
    }
    std::fs::write(&go_on, "").expect("it can be written");
    completed(&shop.client, &ids).await;
}

#[tokio::test]
async fn a_command_that_disappears_fails_its_jobs_which_name_it() {
    let shop = Workshop::open().await;
    let command = shop.file("command");
    std::fs::write(&command, "#!/no/such/interpreter\n").expect("it can be written");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&command, executable).expect("it is this test's");
    let _worker = shop.work(&["x", "--", "./command"]);
    let reason = shop.reason("x", &()).await;
    assert!(
        reason.contains("./command") && reason.contains("interpreter"),
        "{reason}"
    );
    std::fs::remove_file(&command).expect("it is this test's");
    let reason = shop.reason("x", &()).await;
    assert!(
        reason.contains("failed to start ./command: No such file"),
        "{reason}"
    );
}
