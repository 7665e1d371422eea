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
