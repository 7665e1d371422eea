//! Waiting with a bound.

use std::time::Duration;

/// Longest wait for anything, with much to spare on a busy machine: reaching it means that it never comes.
pub const BOUND: Duration = Duration::from_secs(60);

/// Waits for what has to come.
///
/// # Panics
/// It does not come within [`BOUND`]; the message says what did not.
pub async fn soon<T>(what: &str, event: impl Future<Output = T>) -> T {
    match tokio::time::timeout(BOUND, event).await {
        Ok(value) => value,
        Err(_) => panic!("waited {} s in vain: {what}", BOUND.as_secs()),
    }
}

/// How long nobody looks again for what nobody tells of. The processors belong to those that are waited for; so short
/// a time is not noticed beside what starting a process takes.
const PAUSE: Duration = Duration::from_millis(10);

/// Waits until something is so, where that can only be looked at: a line in a log, a file, a count.
///
/// # Panics
/// It is not so within [`BOUND`]; the message says what was waited for.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(PAUSE).await;
        }
    };
    soon(what, wait).await;
}
