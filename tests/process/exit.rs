//! The exit codes, as scripts know them.

use crate::fixture::program;

pub(crate) const FAILED: i32 = 1;
pub(crate) const USAGE: i32 = 2;
pub(crate) const UNREACHABLE: i32 = 3;
pub(crate) const PARTIAL: i32 = 4;
pub(crate) const JOB_FAILED: i32 = 5;
pub(crate) const JOB_CANCELLED: i32 = 6;
pub(crate) const UNKNOWN: i32 = 7;
pub(crate) const TIME_OVER: i32 = 8;
pub(crate) const CANNOT_START: i32 = 10;
pub(crate) const STORE_FAILED: i32 = 11;
pub(crate) const DAMAGED: i32 = 12;
pub(crate) const INTERRUPTED: i32 = 130;

#[tokio::test]
async fn the_help_lists_each_exit_code() {
    let help = program().run(["serve", "--help"]).await.success();
    let (_, table) = help.split_once("Exit codes:\n").expect("the help has a table");
    let listed: Vec<(i32, &str)> = table
        .lines()
        .map_while(|line| line.trim().split_once("  "))
        .map(|(code, meaning)| (code.parse().expect("it is a number"), meaning))
        .collect();
    let expected = [
        (0, "done"),
        (FAILED, "failed"),
        (USAGE, "makes no sense"),
        (UNREACHABLE, "no server answers"),
        (PARTIAL, "not all of it was done"),
        (JOB_FAILED, "job that was waited for failed"),
        (JOB_CANCELLED, "was cancelled"),
        (UNKNOWN, "no answer came"),
        (TIME_OVER, "the time given was over"),
        (CANNOT_START, "could not start"),
        (STORE_FAILED, "store failed"),
        (DAMAGED, "is damaged"),
        (INTERRUPTED, "interrupted"),
    ];
    assert_eq!(listed.len(), expected.len(), "{table}");
    for ((code, meaning), (expected, word)) in listed.into_iter().zip(expected) {
        assert!(
            code == expected && meaning.contains(word),
            "{code} is {meaning:?}"
        );
    }
}
