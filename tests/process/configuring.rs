//! What flags, variables and the configuration file set, and which of them counts.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use jobq_tests::Finished;
use jobq_tests::program::finish;
use serde_json::Value;

use crate::exit::{UNREACHABLE, USAGE};
use crate::fixture::{directory, program, text};

/// Runs jobq in a directory, with variables; it looks for its configuration file as it does for its users.
async fn run(directory: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Finished {
    let mut command = program().command(arguments);
    command
        .current_dir(directory)
        .env_remove("JOBQ_CONFIG")
        .env("XDG_CONFIG_HOME", directory.join("user"))
        .envs(variables.iter().copied());
    finish(command).await
}

/// One setting, as `jobq config --json` tells it.
async fn setting(directory: &Path, variables: &[(&str, &str)], flags: &[&str], name: &str) -> Value {
    let arguments: Vec<&str> = ["config", "--json", "--all"]
        .iter()
        .chain(flags)
        .copied()
        .collect();
    let said = run(directory, variables, &arguments).await.success();
    let line = said
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("each line is JSON"))
        .find(|line| line["setting"] == name);
    line.unwrap_or_else(|| panic!("there is no setting {name}: {said}"))
}

fn write(path: &Path, text: &str) {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).expect("it can be made");
    }
    std::fs::write(path, text).expect("it can be written");
}

#[tokio::test]
async fn a_flag_counts_for_more_than_a_variable_and_that_for_more_than_the_file() {
    let directory = directory();
    let at = directory.path();
    let default = setting(at, &[], &[], "server").await;
    assert_eq!(default["from"], "default", "{default}");
    write(&at.join("jobq.toml"), "\nserver = \"tcp://file:1\"\n");
    let file = setting(at, &[], &[], "server").await;
    assert_eq!(
        (&file["value"], &file["line"]),
        (&"tcp://file:1".into(), &2.into()),
        "{file}"
    );
    let variables = [("JOBQ_SERVER", "tcp://variable:1")];
    let variable = setting(at, &variables, &[], "server").await;
    assert_eq!(
        (&variable["value"], &variable["variable"]),
        (&"tcp://variable:1".into(), &"JOBQ_SERVER".into())
    );
    let flag = setting(at, &variables, &["--server", "tcp://flag:1"], "server").await;
    assert_eq!(
        (&flag["value"], &flag["from"]),
        (&"tcp://flag:1".into(), &"flag".into())
    );
}

#[tokio::test]
async fn the_file_is_the_one_named_else_the_directory_s_else_the_user_s() {
    let directory = directory();
    let at = directory.path();
    let limit = "list.limit";
    write(&at.join("user/jobq/jobq.toml"), "[list]\nlimit = 1\n");
    assert_eq!(setting(at, &[], &[], limit).await["value"], "1");
    write(&at.join("jobq.toml"), "[list]\nlimit = 2\n");
    assert_eq!(setting(at, &[], &[], limit).await["value"], "2");
    write(&at.join("named.toml"), "[list]\nlimit = 3\n");
    assert_eq!(
        setting(at, &[("JOBQ_CONFIG", "named.toml")], &[], limit).await["value"],
        "3"
    );
    assert_eq!(
        setting(at, &[], &["--config", "named.toml"], limit).await["value"],
        "3"
    );
    assert_eq!(
        setting(at, &[("JOBQ_CONFIG", "")], &[], limit).await["from"],
        "default"
    );
    let said = run(at, &[], &["config", "--config", "missing.toml"])
        .await
        .failure(USAGE);
    assert!(said.contains("missing.toml"), "{said}");
}

#[tokio::test]
async fn a_file_of_the_working_directory_that_others_can_have_written_is_not_used_unless_it_is_named() {
    let directory = directory();
    let at = directory.path();
    write(&at.join("user/jobq/jobq.toml"), "[list]\nlimit = 1\n");
    let file = at.join("jobq.toml");
    write(&file, "[list]\nlimit = 2\n");
    let limit = async |flags: &[&str]| setting(at, &[], flags, "list.limit").await["value"].clone();
    assert_eq!(limit(&[]).await, "2", "it is this user's");
    for (path, mode, what) in [(file.as_path(), 0o666, "to it"), (at, 0o777, "to its directory")] {
        let before = path.metadata().expect("it is there").permissions();
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("it is this user's");
        assert_eq!(limit(&[]).await, "1", "the user's own file: {what}");
        let said = run(at, &[], &["config"]).await;
        assert!(
            said.stderr.contains(what) && said.stderr.contains("--config jobq.toml"),
            "{said}"
        );
        assert_eq!(limit(&["--config", "jobq.toml"]).await, "2", "it is meant");
        std::fs::set_permissions(path, before).expect("it is this user's");
    }
    assert_eq!(limit(&[]).await, "2");
}

#[tokio::test]
async fn a_file_of_somebody_else_in_the_working_directory_is_shown_no_token() {
    if !rustix::process::geteuid().is_root() {
        return; // Only root can make one.
    }
    let directory = directory();
    let at = directory.path();
    let evil = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let server = format!("server = \"tcp://{}\"\n", evil.local_addr().expect("it is bound"));
    write(&at.join("jobq.toml"), &server);
    std::os::unix::fs::chown(at.join("jobq.toml"), Some(65_534), None).expect("root may");
    let token = [("JOBQ_TOKEN", "canary")];
    let from = setting(at, &token, &[], "server").await;
    assert_eq!(from["from"], "default", "{from}");
    let said = run(at, &token, &["config"]).await;
    assert!(said.stderr.contains("belongs to another user"), "{said}");
}

#[tokio::test]
async fn what_the_file_sets_is_in_force() {
    let directory = directory();
    let at = directory.path();
    let data = at.join("data");
    let file = format!(
        "server = \"unix://{0}/jobq.sock\"\n[serve]\nlisten = [\"unix://{0}/jobq.sock\"]\nmax_active = 7\n\
         [stats]\njson = true\n",
        text(at)
    );
    write(&at.join("named.toml"), &file);
    let named = at.join("named.toml");
    let named = text(&named);
    let mut command = program().command(["serve", "--config", named, "--data", text(&data)]);
    command.stdout(std::process::Stdio::piped());
    let mut server = jobq_tests::Process::spawn(command, "jobq serve", &at.join("serve.log"));
    let stdout = server.take_stdout().expect("it is a pipe");
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(stdout));
    let line = jobq_tests::soon("the server's first line", lines.next_line()).await;
    let line = line.expect("it can be read").expect("it listens");
    assert!(line.contains("jobq.sock"), "{line}");
    let stats = run(at, &[], &["stats", "--config", named]).await.success();
    let stats: Value = serde_json::from_str(&stats).expect("the file asks for JSON");
    assert_eq!(stats["max_active"], 7, "{stats}");
}

#[tokio::test]
async fn what_is_wrong_in_the_file_is_named_with_its_line_and_a_suggestion() {
    let directory = directory();
    let at = directory.path();
    for (file, expected) in [
        (
            "servr = \"x\"\n",
            "jobq.toml: line 1: there is no setting `servr`",
        ),
        ("servr = \"x\"\n", "did you mean `server`?"),
        ("[list]\n\njson = 3\n", "line 3: `json` is a switch"),
        ("[list]\nlimit = \"many\"\n", "jobq.toml:2 (--limit <N>)"),
        ("[list]\nlimit = -1\n", "expected a whole number, 1 or greater"),
        ("server = \"nowhere\"\n", "jobq.toml:1 (--server <ADDRESS>)"),
        ("[list\n", "line 1: it is no TOML"),
    ] {
        write(&at.join("jobq.toml"), file);
        let said = run(at, &[], &["list"]).await.failure(USAGE);
        assert!(said.contains(expected), "{file}: {said}");
        run(at, &[], &["config"]).await.failure(USAGE);
        run(at, &[], &["list", "--help"]).await.success();
    }
}

#[tokio::test]
async fn all_that_the_file_sets_is_checked_by_config_and_what_a_command_uses_by_the_command() {
    let directory = directory();
    let at = directory.path();
    for (file, command, expected) in [
        (
            "[serve]\ncap = { a = \"x\" }\n",
            &["serve"][..],
            "expected a number of jobs from 1",
        ),
        (
            "[work]\nconcurrency = 0\n",
            &["work", "x", "--", "true"],
            "expected a whole number from 1 to 10000",
        ),
        (
            "[submit]\nparams = '{\"a\": }'\n",
            &["submit", "x"],
            "expected value at line 1, column 7",
        ),
        (
            "[submit]\nparams = '[18446744073709551616]'\n",
            &["submit", "x"],
            "the integer 18446744073709551616 at line 1, column 2",
        ),
    ] {
        write(&at.join("jobq.toml"), file);
        for command in [&["config"][..], command] {
            let said = run(at, &[], command).await.failure(USAGE);
            assert!(
                said.contains("jobq.toml:2") && said.contains(expected),
                "{file}: {said}"
            );
            assert!(
                said.starts_with("jobq: failed to read the configuration file: "),
                "{said}"
            );
        }
    }
}

#[tokio::test]
async fn config_checks_also_what_a_variable_overrules() {
    let directory = directory();
    let at = directory.path();
    write(&at.join("jobq.toml"), "server = 3\n");
    let variables = [("JOBQ_SERVER", "unix:///tmp/x.sock")];
    let said = run(at, &variables, &["config"]).await.failure(USAGE);
    assert!(said.contains("jobq.toml:1"), "{said}");
}

#[tokio::test]
async fn what_one_call_is_about_is_no_setting() {
    let directory = directory();
    let at = directory.path();
    for file in [
        "[cancel]\nname = \"x\"\n",
        "[submit]\nuuid = \"019aac5e-6f5b-7c41-b0a5-3d9c7c0d4c11\"\n",
    ] {
        write(&at.join("jobq.toml"), file);
        let said = run(at, &[], &["cancel", "--yes"]).await.failure(USAGE);
        assert!(
            said.contains("line 2: ") && said.contains("what one call is about"),
            "{said}"
        );
    }
    std::fs::remove_file(at.join("jobq.toml")).expect("it is there");
    let variables = [("JOBQ_CANCEL_NAME", "x"), ("JOBQ_SUBMIT_BOGUS", "1")];
    let said = run(at, &variables, &["cancel", "--yes"]).await.failure(USAGE);
    assert!(said.contains("no jobs are named"), "{said}");
    let told = run(at, &variables, &["config"]).await;
    assert_eq!(told.code, Some(0), "{told}");
    for expected in ["JOBQ_CANCEL_NAME sets nothing", "JOBQ_SUBMIT_BOGUS sets nothing"] {
        assert!(told.stderr.contains(expected), "{told}");
    }
}

#[tokio::test]
async fn an_empty_variable_is_none() {
    let directory = directory();
    let server = setting(directory.path(), &[("JOBQ_SERVER", "")], &[], "server").await;
    assert_eq!(server["from"], "default", "{server}");
}

#[tokio::test]
async fn a_bad_variable_is_blamed_and_not_the_flag() {
    let directory = directory();
    let at = directory.path();
    let said = run(at, &[("JOBQ_SERVER", "nowhere")], &["list"])
        .await
        .failure(USAGE);
    assert!(said.contains("JOBQ_SERVER (--server"), "{said}");
    assert!(said.starts_with("jobq: failed to read the variables: "), "{said}");
    let said = run(
        at,
        &[("JOBQ_SERVER", "nowhere")],
        &["list", "--server", "nowhere too"],
    )
    .await;
    let said = said.failure(USAGE);
    assert!(!said.contains("JOBQ_SERVER"), "{said}");
    let both = [("JOBQ_SUBMIT_AT", "2099-01-01"), ("JOBQ_SUBMIT_IN", "5m")];
    let said = run(at, &both, &["submit", "x"]).await.failure(USAGE);
    assert!(
        said.contains("JOBQ_SUBMIT_AT") && said.contains("JOBQ_SUBMIT_IN"),
        "{said}"
    );
}

#[tokio::test]
async fn a_flag_overrules_what_contradicts_it() {
    let directory = directory();
    let at = directory.path();
    write(&at.join("jobq.toml"), "[submit]\nin = \"1h\"\n");
    let nowhere = format!("tcp://127.0.0.1:{}", jobq_tests::server::free_port());
    let submit = ["submit", "x", "--at", "2099-01-01", "--server", &nowhere];
    // It gets as far as looking for the server.
    run(at, &[("JOBQ_SUBMIT_IN", "5m")], &submit)
        .await
        .failure(UNREACHABLE);
    write(
        &at.join("jobq.toml"),
        "[submit]\nin = \"1h\"\nat = \"2099-01-01\"\n",
    );
    let said = run(at, &[], &["submit", "x", "--server", &nowhere])
        .await
        .failure(USAGE);
    assert!(
        said.contains("line 3: `at` cannot stand beside `in` in line 2"),
        "{said}"
    );
}

#[tokio::test]
async fn a_token_is_never_shown() {
    let directory = directory();
    let said = run(directory.path(), &[("JOBQ_TOKEN", "open-sesame")], &["config"])
        .await
        .success();
    assert!(
        said.contains("JOBQ_TOKEN") && !said.contains("open-sesame"),
        "{said}"
    );
}
