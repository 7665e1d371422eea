//! Waiting for the other side to have read the end.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

/// How long to wait for it.
const LINGER: Duration = Duration::from_secs(1);

/// Reads and drops what still comes, until the other side closes, or for a second, or up to so many bytes.
///
/// A socket that is closed while something in it is unread is reset, and what was written last may then never
/// arrive.
pub(crate) async fn linger(mut stream: impl AsyncRead + Unpin, max_bytes: usize) {
    let mut buffer = [0; 4096];
    let mut left = max_bytes;
    let read_on = async {
        while left > 0
            && let Ok(read) = stream.read(&mut buffer).await
            && read > 0
        {
            left = left.saturating_sub(read);
        }
    };
    // Out of time is as good as any other end.
    let _ = timeout(LINGER, read_on).await;
}
