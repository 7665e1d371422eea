//! What `contrib` has for those who run jobq under systemd.

use std::path::Path;

use jobq_tests::program::finish;
use tokio::process::Command;

use super::is_installed;
use crate::fixture::{directory, program, text};

const SERVER: &str = include_str!("../../../contrib/jobq.service");
const WORKER: &str = include_str!("../../../contrib/jobq-worker@.service");

/// Where the units expect the binary.
const INSTALLED: &str = "/usr/local/bin/jobq";

#[tokio::test]
async fn systemd_accepts_the_units() {
    if !is_installed("systemd-analyze") {
        eprintln!("skipped, since there is no systemd-analyze here");
        return;
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
            eprintln!("skipped, since there is no systemd-analyze here");
            return;
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

#[tokio::test]
async fn the_unit_restarts_no_server_that_needs_a_person_first() {
    let help = program().run(["serve", "--help"]).await.success();
    let prevented = SERVER
        .lines()
        .find_map(|line| line.strip_prefix("RestartPreventExitStatus="));
    let prevented: Vec<&str> = prevented.expect("the unit has it").split_whitespace().collect();
    for status in &prevented {
        assert!(
            help.lines()
                .any(|line| line.trim_start().starts_with(&format!("{status}  "))),
            "{status} is no exit code of jobq"
        );
    }
    let failed = help
        .lines()
        .find(|line| line.contains("store failed"))
        .expect("there is such a code");
    let failed = failed.trim().split(' ').next().expect("it begins with the code");
    assert!(prevented.contains(&failed), "{failed} is among {prevented:?}");
    assert!(Path::new(INSTALLED).is_absolute());
}
