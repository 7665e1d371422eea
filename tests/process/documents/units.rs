//! What `contrib` has for those who run jobq under systemd.

use jobq_tests::program::finish;
use jobq_tests::skipped;
use tokio::process::Command;

use super::{OPERATIONS, is_installed};
use crate::fixture::{directory, program, text};

const SERVER: &str = include_str!("../../../contrib/jobq.service");
const WORKER: &str = include_str!("../../../contrib/jobq-worker@.service");

/// Where the units expect the binary.
const INSTALLED: &str = "/usr/local/bin/jobq";

#[tokio::test]
async fn systemd_accepts_the_units() {
    if !is_installed("systemd-analyze") {
        return skipped("there is no systemd-analyze");
    }
    let directory = directory();
    let units = [("jobq.service", SERVER), ("jobq-worker@.service", WORKER)];
    for (name, unit) in units {
        assert!(unit.contains(INSTALLED), "{name} runs the installed binary");
        // systemd looks whether the binary is there.
        let unit = unit.replace(INSTALLED, text(program().path()));
        std::fs::write(directory.path().join(name), unit).expect("it can be written");
    }
    // A template is verified as one of its instances.
    for name in ["jobq.service", "jobq-worker@thumbnail.service"] {
        let mut verify = Command::new("systemd-analyze");
        verify.args(["verify", "--man=no", text(&directory.path().join(name))]);
        let ended = finish(verify).await;
        let about_ours: Vec<&str> = ended
            .stderr
            .lines()
            .filter(|line| line.contains("jobq"))
            .collect();
        assert!(about_ours.is_empty(), "{name}: {ended}");
    }
}

#[tokio::test]
async fn systemd_finds_little_that_the_units_leave_open() {
    // The greatest exposure, in tenths of the ten that it goes up to. A worker's commands are anybody's guess.
    for (name, unit, most) in [
        ("jobq.service", SERVER, "20"),
        ("jobq-worker@.service", WORKER, "25"),
    ] {
        if !is_installed("systemd-analyze") {
            return skipped("there is no systemd-analyze");
        }
        let directory = directory();
        let path = directory.path().join(name);
        std::fs::write(&path, unit).expect("it can be written");
        let mut rate = Command::new("systemd-analyze");
        rate.args([
            "security",
            "--no-pager",
            "--offline=true",
            "--threshold",
            most,
            text(&path),
        ]);
        let rated = finish(rate).await;
        assert!(rated.stdout.contains("Overall exposure level"), "{rated}");
        rated.success();
    }
}

#[tokio::test]
async fn the_unit_gives_the_server_longer_to_stop_than_the_server_takes() {
    let seconds = |key: &str| -> u64 {
        let value = SERVER.lines().find_map(|line| line.strip_prefix(key));
        let value = value.unwrap_or_else(|| panic!("the unit has {key}"));
        value.trim_end_matches('s').parse().expect("it is in seconds")
    };
    let drain = SERVER
        .split("--drain ")
        .nth(1)
        .and_then(|rest| rest.split('s').next());
    let drain: u64 = drain
        .and_then(|drain| drain.parse().ok())
        .expect("the unit sets --drain");
    assert!(
        seconds("TimeoutStopSec=") > drain + 5,
        "closing the store takes time too"
    );
}

/// How the help explains the exit codes after which a person is needed first.
const NEED_A_PERSON: [&str; 3] = ["makes no sense", "store failed", "is damaged"];

#[tokio::test]
async fn the_unit_restarts_no_server_that_needs_a_person_first() {
    let help = program().run(["serve", "--help"]).await.success();
    let (_, codes) = help.split_once("Exit codes:\n").expect("the help has a table");
    let code = |meaning: &str| {
        let line = codes.lines().find(|line| line.contains(meaning));
        let line = line.unwrap_or_else(|| panic!("no exit code means that {meaning}"));
        line.split_whitespace().next().expect("it begins with the code")
    };
    let expected = format!("RestartPreventExitStatus={}", NEED_A_PERSON.map(code).join(" "));
    assert!(SERVER.lines().any(|line| line == expected), "{expected}");
    assert!(
        OPERATIONS.contains(&format!("`{expected}`")),
        "the manual says so"
    );
}
