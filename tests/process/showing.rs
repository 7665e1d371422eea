//! The commands that show what jobq does, is and can: `demo`, `show`, `stats`, `completions` and `man`.

use serde_json::Value;

use jobq_tests::program::finish;
use jobq_tests::{Process, ServerProcess, Via, soon};
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::exit::{INTERRUPTED, PARTIAL, USAGE};
use crate::fixture::{directory, jobq, program, text};

#[tokio::test]
async fn the_demo_ends_with_a_table_of_what_became_of_its_jobs() {
    let demo = [
        "demo",
        "--jobs",
        "40",
        "--duration",
        "5ms",
        "--fail-every",
        "10",
        "-n",
        "4",
    ];
    let said = program().run(demo).await.success();
    let row = |name: &str| {
        let line = said.lines().find(|line| line.starts_with(name));
        let line = line.unwrap_or_else(|| panic!("there is no row {name:?}:\n{said}"));
        line.split_whitespace()
            .skip(1)
            .take(3)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(row("all"), ["40", "36", "4"], "{said}");
    assert_eq!(
        (row("High")[0].as_str(), row("Normal")[0].as_str()),
        ("20", "20"),
        "{said}"
    );
    let reason = said.lines().find(|line| line.contains("simulated failure"));
    assert!(
        reason.is_some_and(|line| line.trim_end().ends_with(" 4")),
        "{said}"
    );
}

#[tokio::test]
async fn stats_are_repeated_until_somebody_has_seen_enough() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let at = ["--server", server.address()];
    let watch = ["stats", "--watch", "--interval", "100ms", "--json"];
    let mut command = program().command(watch.into_iter().chain(at));
    command.stdout(std::process::Stdio::piped());
    let mut watch = Process::spawn(command, "jobq stats", &directory.path().join("stats.log"));
    let mut lines = BufReader::new(watch.take_stdout().expect("it is a pipe")).lines();
    for _ in 0..3 {
        let line = soon("the next line", lines.next_line())
            .await
            .expect("it can be read");
        let stats: Value = serde_json::from_str(&line.expect("it goes on")).expect("each line is JSON");
        assert_eq!(stats["peers"], 1, "{stats}");
    }
    watch.signal(Signal::INT);
    assert_eq!(watch.wait().await.code(), Some(INTERRUPTED));
    let stats = jobq(&server, &["stats"]).await.success();
    assert!(stats.contains("0 workers, 1 connection\n"), "{stats}");
    for wrong in [
        &["stats", "--interval", "2s"][..],
        &["stats", "--watch", "--interval", "1ms"],
    ] {
        jobq(&server, wrong).await.failure(USAGE);
    }
}

#[tokio::test]
async fn completions_and_manual_pages_know_every_command_and_flag() {
    let directory = directory();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = program().run(["completions", shell]).await.success();
        for word in ["submit", "max-attempts", "token-file", "interval"] {
            assert!(script.contains(word), "{shell} misses {word}");
        }
    }
    let script = directory.path().join("jobq.bash");
    let bash = program().run(["completions", "bash"]).await.success();
    std::fs::write(&script, bash).expect("it can be written");
    let mut check = tokio::process::Command::new("bash");
    check.args(["-n", text(&script)]);
    finish(check).await.success();
    let pages = directory.path().join("man1");
    program().run(["man", text(&pages)]).await.success();
    let help = program().run(["--help"]).await.success();
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands = listed
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next());
    for command in commands.filter(|command| *command != "help") {
        let page = std::fs::read_to_string(pages.join(format!("jobq-{command}.1")));
        let page = page.unwrap_or_else(|error| panic!("the page of {command} is missing: {error}"));
        for section in ["SYNOPSIS", "EXAMPLES\n.nf\n  jobq", "\"EXIT STATUS\"\n.nf\n"] {
            assert!(page.contains(&format!(".SH {section}")), "{command}: {page}");
        }
        assert!(!page.contains("EXTRA"), "{command}: {page}");
        let title = format!(".TH jobq-{command} 1 \"\" \"jobq {}\"", env!("CARGO_PKG_VERSION"));
        assert!(page.contains(&title), "{command}: {page}");
    }
    let page = program().run(["man"]).await.success();
    assert!(
        page.starts_with(".ie") || page.starts_with(".TH") || page.contains(".TH jobq"),
        "{page}"
    );
}

#[tokio::test]
async fn nobody_is_told_of_the_guard() {
    for shell in ["bash", "zsh", "fish"] {
        let script = program().run(["completions", shell]).await.success();
        assert!(!script.contains("work-guard"), "{shell}");
    }
    let said = program().run(["help", "work-guard"]).await.failure(USAGE);
    assert!(said.contains("unrecognized subcommand"), "{said}");
    let said = program().run(["work-guar"]).await.failure(USAGE);
    assert!(!said.contains("work-guard"), "{said}");
}

#[tokio::test]
async fn a_job_without_a_result_is_said_to_have_none() {
    let directory = directory();
    let server = ServerProcess::start(&program(), directory.path(), Via::Unix, &[]).await;
    let run = async |arguments: &[&str]| jobq(&server, arguments).await;
    run(&["submit", "x"]).await.success();
    let said = run(&["show", "1", "--result"]).await;
    assert!(!said.stdout.contains("result"), "{said}");
    let stderr = said.failure(PARTIAL);
    assert_eq!(stderr, "jobq: no result: the job is Queued\n");
}

#[tokio::test]
async fn every_command_s_help_has_examples_and_the_exit_codes() {
    let help = program().run(["--help"]).await.success();
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands = listed
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next());
    for command in commands.filter(|command| *command != "help") {
        let help = program().run([command, "--help"]).await.success();
        let example = format!("  jobq {command}");
        assert!(
            help.contains("Examples:") && help.contains(&example),
            "{command}: {help}"
        );
        assert!(help.contains("Exit codes:"), "{command}: {help}");
    }
}

#[tokio::test]
async fn no_colours_come_through_a_pipe() {
    for arguments in [&["--help"][..], &["list", "--frobnicate"]] {
        let said = program().run(arguments).await;
        assert!(
            !said.stdout.contains('\x1b') && !said.stderr.contains('\x1b'),
            "{said}"
        );
    }
}
