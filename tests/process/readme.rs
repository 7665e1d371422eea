//! The README, taken at its word.

use std::os::unix::process::CommandExt;

use jobq_tests::markdown::blocks;
use jobq_tests::program::{finish, without_variables};
use tokio::process::Command;

use crate::fixture::{directory, program, text};

const README: &str = include_str!("../../README.md");

/// What its readers type, and what a test has instead of it.
const CARGO_RUN: &str = "cargo run --release --";

#[test]
fn the_readme_is_short() {
    let lines = README.lines().count();
    assert!(lines <= 150, "it has {lines} lines");
}

#[tokio::test]
async fn the_readmes_tour_works_when_it_is_pasted_into_one_shell() {
    let directory = directory();
    let tour = blocks(README, "bash").concat();
    assert!(tour.contains(CARGO_RUN), "there is a tour");
    let program = program();
    let tour = tour.replace(CARGO_RUN, text(program.path()));
    let mut bash = std::process::Command::new("bash");
    // What is left running when a command fails ends with the shell.
    bash.args([
        "-c",
        &format!("trap 'kill $(jobs -p) 2> /dev/null || true' EXIT\nset -euo pipefail\n{tour}"),
    ])
    .current_dir(directory.path())
    .env("TMPDIR", directory.path())
    .process_group(0);
    let mut bash = Command::from(bash);
    without_variables(&mut bash);
    let said = finish(bash).await.success();
    for result in ["hello, world", "hello, you"] {
        assert!(
            said.contains(result),
            "{result:?} is not in what was printed:\n{said}"
        );
    }
}
