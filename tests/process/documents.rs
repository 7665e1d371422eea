//! The documents, taken at their word: what they tell to type is typed, what they say of flags and exit codes is
//! looked up, and their queries are asked.
//!
//! A page's `bash` blocks are one session, in an empty directory. What stands behind the opening fence says more:
//! `file:NAME` saves the block under that name, `needs:PROGRAM` leaves it out where there is no such program, and
//! the lines of all `text output` blocks have to be printed by the session, whole and in this order; `…` in a line
//! stands for what differs each time. `console` blocks have commands for other places: a checkout, or a machine that
//! jobq is installed on.

mod claims;
mod console;
mod python;
mod queries;
mod units;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use jobq_tests::markdown::{Block, blocks};
use jobq_tests::program::{finish, without_variables};
use jobq_tests::server::free_port;
use jobq_tests::{Finished, skipped};
use tokio::process::Command;

use crate::fixture::{directory, program, text};

const README: &str = include_str!("../../README.md");
const GUIDE: &str = include_str!("../../docs/GUIDE.md");
const OPERATIONS: &str = include_str!("../../docs/OPERATIONS.md");

/// Where there are pages: Markdown, and all of `contrib`. Each crate has one, too.
const PLACES: [&str; 4] = ["", "docs", "fuzz", "contrib"];

/// Stands in for ImageMagick where there is none: its images end in `END`.
const CONVERT: &str = r#"#!/bin/sh
for last; do :; done
case "$*" in
    *plasma:*) printf 'IMAGE %2000s END' '' > "$last" ;;
    *)
        tail -c 3 "$1" | grep -q END || { echo "convert: corrupt image: $1" >&2; exit 1; }
        printf 'IMAGE END' > "$last"
        ;;
esac
"#;

/// What the README's readers type, and what a test has instead of it.
const CARGO_RUN: &str = "cargo run --release --";

/// The project's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All pages, by their paths from the root.
fn pages() -> Vec<(String, String)> {
    let crates = names_in("crates")
        .into_iter()
        .map(|name| format!("crates/{name}"));
    let places = PLACES.map(str::to_owned).into_iter().chain(crates);
    let paths = places.flat_map(|place| {
        let names = names_in(&place);
        names.into_iter().map(move |name| match place.as_str() {
            "" => name,
            place => format!("{place}/{name}"),
        })
    });
    let paths = paths.filter(|path| path.ends_with(".md") || path.starts_with("contrib/"));
    let read = |path: String| {
        let text = std::fs::read_to_string(root().join(&path)).expect("a page is text");
        (path, text)
    };
    paths.map(read).collect()
}

/// What is in a directory of the project, in order.
fn names_in(place: &str) -> Vec<String> {
    let entries = std::fs::read_dir(root().join(place)).expect("the directory is there");
    let names = entries.map(|entry| entry.expect("it can be read").file_name());
    let mut names: Vec<String> = names
        .map(|name| name.into_string().expect("names are UTF-8"))
        .collect();
    names.sort();
    names
}

#[test]
fn all_documents_are_among_the_pages() {
    let pages: Vec<String> = pages().into_iter().map(|(page, _)| page).collect();
    for page in [
        "README.md",
        "docs/SECURITY.md",
        "fuzz/README.md",
        "crates/jobq-worker/README.md",
        "contrib/Dockerfile",
    ] {
        assert!(pages.iter().any(|known| known == page), "{page}: {pages:?}");
    }
}

#[test]
fn the_readme_is_short() {
    let lines = README.lines().count();
    assert!(lines <= 150, "it has {lines} lines");
}

#[tokio::test]
async fn the_readmes_tour_works_when_it_is_pasted_into_one_shell() {
    assert!(README.contains(CARGO_RUN), "there is a tour");
    let said = follow(&README.replace(CARGO_RUN, "jobq")).await.success();
    let results = ["hello, you", r#"result …"hello, world\n""#];
    let missing = missing_line(results, &said);
    assert_eq!(missing, None, "in what was printed:\n{said}");
}

#[tokio::test]
async fn the_guide_works_when_it_is_followed_in_one_shell() {
    expect_output(GUIDE, &follow(GUIDE).await.success());
}

#[tokio::test]
async fn the_operators_manual_works_when_it_is_followed_in_one_shell() {
    expect_output(OPERATIONS, &follow(OPERATIONS).await.success());
}

/// Pastes all of a page's `bash` blocks into one shell, in an empty directory where the page's files are. A server
/// that is started without an address has one of its own, where the other commands look for it.
async fn follow(page: &str) -> Finished {
    let directory = directory();
    let place = directory.path().join("empty");
    std::fs::create_dir(&place).expect("a directory can be made");
    let mut session = String::new();
    for block in usable(page) {
        if let Some(name) = block.value("file") {
            std::fs::write(place.join(name), &block.text).expect("it can be written");
        } else if block.language == "bash" {
            session.push_str(&block.text);
        }
    }
    assert!(!session.is_empty(), "there is something to type");
    // What is left running when a command fails ends with the shell.
    let script = format!("trap 'kill $(jobs -p) 2> /dev/null || true' EXIT\nset -euo pipefail\n{session}");
    let mut bash = std::process::Command::new("bash");
    bash.args(["-c", &script]).current_dir(&place).process_group(0);
    let mut bash = Command::from(bash);
    without_variables(&mut bash)
        .env("TMPDIR", directory.path())
        .env("PATH", path_with_jobq(directory.path()));
    let address = format!("tcp://127.0.0.1:{}", free_port());
    bash.env("JOBQ_SERVER", &address)
        .env("JOBQ_SERVE_LISTEN", &address);
    finish(bash).await
}

/// A page's blocks, without those for which a program is missing here.
fn usable(page: &str) -> Vec<Block> {
    let mut usable = blocks(page);
    usable.retain(|block| match block.value("needs") {
        Some(program) if !is_installed(program) => {
            skipped(format_args!("there is no {program} for this:\n{}", block.text));
            false
        }
        _ => true,
    });
    usable
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// Whether `convert` is ImageMagick's.
fn has_imagemagick() -> bool {
    let version = std::process::Command::new("convert").arg("-version").output();
    version.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains("ImageMagick"))
}

/// The `PATH` of this process with the binary under test in front, as `jobq`.
fn path_with_jobq(directory: &Path) -> String {
    let bin = directory.join("bin");
    std::fs::create_dir(&bin).expect("a directory can be made");
    std::os::unix::fs::symlink(program().path(), bin.join("jobq")).expect("a link can be made");
    if !has_imagemagick() {
        let convert = bin.join("convert");
        std::fs::write(&convert, CONVERT).expect("it can be written");
        std::fs::set_permissions(&convert, Permissions::from_mode(0o755)).expect("it is ours");
    }
    format!("{}:{}", text(&bin), std::env::var("PATH").unwrap_or_default())
}

/// The lines that a page shows as output have been printed, in their order.
#[track_caller]
fn expect_output(page: &str, said: &str) {
    let blocks = usable(page);
    let shown = blocks.iter().filter(|block| block.has("output"));
    if let Some(line) = missing_line(shown.flat_map(|block| block.text.lines()), said) {
        panic!("the page shows {line:?} behind what it shows before, and what was printed is:\n{said}");
    }
}

/// The first of these lines that does not follow those before it in what was printed; `…` stands for anything.
fn missing_line<'a>(shown: impl IntoIterator<Item = &'a str>, said: &str) -> Option<&'a str> {
    let mut printed = said.lines();
    let mut is_printed = |shown: &str| {
        printed.any(|line| match shown.split_once('…') {
            Some((begin, end)) => line
                .strip_prefix(begin)
                .is_some_and(|rest| rest.ends_with(end) && rest.len() > end.len()),
            None => line == shown,
        })
    };
    shown.into_iter().find(|shown| !is_printed(shown))
}

#[test]
fn a_line_is_missed_that_was_printed_in_part_or_before_the_others() {
    let said = "revoked web\njob 12\nok\nend\n";
    assert_eq!(missing_line(["job …", "ok"], said), None);
    assert_eq!(missing_line(["ok", "job …"], said), Some("job …"));
    assert_eq!(missing_line(["job", "end"], said), Some("job"));
    assert_eq!(
        missing_line(["job 12…"], said),
        Some("job 12…"),
        "it stands for something"
    );
    assert_eq!(missing_line(["end", "end"], said), Some("end"));
}
