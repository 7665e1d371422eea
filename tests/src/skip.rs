//! What a machine does not allow.

use std::fmt::Display;

/// Set to `never`, nothing may be left out.
const VARIABLE: &str = "JOBQ_TESTS_SKIP";

/// Says that a test leaves something out, since it cannot be done here.
///
/// # Panics
/// `JOBQ_TESTS_SKIP` is `never`: whoever says so means to have everything that the tests need.
#[track_caller]
pub fn skipped(why: impl Display) {
    if std::env::var_os(VARIABLE).is_some_and(|value| value == "never") {
        panic!("nothing is to be left out, and this is: {why}");
    }
    eprintln!("skipped: {why}");
}
