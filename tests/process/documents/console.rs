//! The commands in `console` blocks. Those of jobq are run; of the others, which build, install or need root, it is
//! looked up whether what they name is there.

use jobq_tests::markdown::blocks;

use super::{pages, root};
use crate::fixture::{directory, program};

/// How cargo runs the binary.
const CARGO_RUN: [&str; 2] = ["cargo run -- ", "cargo run --release -- "];

/// The console commands of all pages, without their comments.
fn commands() -> Vec<String> {
    let mut commands = Vec::new();
    for (_, page) in pages() {
        for block in blocks(&page).iter().filter(|block| block.language == "console") {
            let lines = block.text.lines();
            commands.extend(lines.map(|line| line.split(" # ").next().unwrap_or(line).trim().to_owned()));
        }
    }
    commands
}

/// The commands of jobq that need nothing but a directory. Of the others the flags are looked up.
const ALONE: [&str; 2] = ["demo", "bench"];

/// The one that takes over a minute with however few jobs, since records are kept for as long. The tests of `bench` run it.
const TAKES_A_MINUTE: &str = "bench prune";

/// What a command gives to jobq, if it is one of jobq.
fn of_jobq(command: &str) -> Option<&str> {
    let prefixes = CARGO_RUN.iter().chain(&["jobq "]);
    prefixes.filter_map(|prefix| command.strip_prefix(prefix)).next()
}

#[tokio::test]
async fn console_commands_of_jobq_can_be_run() {
    let directory = directory();
    let mut seen = 0;
    for arguments in commands().iter().filter_map(|command| of_jobq(command)) {
        let is_alone = ALONE.iter().any(|alone| arguments.starts_with(alone));
        if !is_alone || arguments.starts_with(TAKES_A_MINUTE) {
            continue;
        }
        // As they stand there, they take many jobs, to be worth a look or a measurement.
        let fewer = ["--jobs", "200"];
        let mut command = program().command(arguments.split_whitespace().chain(fewer));
        command
            .current_dir(directory.path())
            .env("TMPDIR", directory.path());
        jobq_tests::program::finish(command).await.success();
        seen += 1;
    }
    assert!(seen >= 5, "there are such commands: {seen}");
}

#[test]
fn other_console_commands_name_what_is_there() {
    let root = root();
    let mut seen = 0;
    for command in commands()
        .into_iter()
        .filter(|command| of_jobq(command).is_none())
    {
        let words: Vec<&str> = command.split_whitespace().collect();
        for (place, word) in words.iter().enumerate() {
            let in_checkout = ["benches/", "crates/", "contrib/"]
                .iter()
                .any(|folder| word.starts_with(folder));
            let is_package =
                place > 0 && words[0] == "cargo" && ["-p", "--package"].contains(&words[place - 1]);
            let path = match (in_checkout, is_package) {
                (true, _) => root.join(word),
                (_, true) if *word == "jobq-tests" => root.join("tests"),
                (_, true) => root.join("crates").join(word),
                _ => continue,
            };
            assert!(path.exists(), "{command}: there is no {}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 5, "there are such commands: {seen}");
}

#[test]
fn the_programs_of_the_tests_have_the_flags_that_they_are_given() {
    let mut seen = 0;
    for command in commands() {
        let Some((_, arguments)) = command.split_once("-p jobq-tests --bin ") else {
            continue;
        };
        let name = arguments.split_whitespace().next().unwrap_or_default();
        let source = root().join(format!("tests/src/bin/{name}.rs"));
        let source = std::fs::read_to_string(source).unwrap_or_else(|error| panic!("{command}: {error}"));
        let flags = arguments
            .split_whitespace()
            .filter_map(|word| word.strip_prefix("--"));
        for flag in flags.filter(|flag| !["", "help"].contains(flag)) {
            let field = format!("    {}: ", flag.replace('-', "_"));
            let named = format!("long = \"{flag}\"");
            assert!(
                source.contains(&field) || source.contains(&named),
                "{command}: there is no --{flag}"
            );
            seen += 1;
        }
    }
    assert!(seen >= 5, "there are such commands: {seen}");
}
