//! Writing to one connection.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;

use jobq_proto::ClientMessage;
use tokio::io::AsyncWrite;

use super::link::{Link, Outgoing, Work};
use super::steps::{LONG, Steps};
use crate::codec::StreamError;
use crate::framed::MessageWriter;

/// Bytes that are encoded before they are written: few enough that the peer starts early and memory stays small,
/// many enough that a system call is worth it.
const WRITE_AT: usize = 128 * 1024;

/// Writes what is queued, until the link is finished; then ends this direction of the stream.
pub(super) async fn write_all<W: AsyncWrite + Unpin>(
    io: W,
    link: Arc<Link>,
    steps: Steps,
) -> Result<(), StreamError> {
    let mut writer = MessageWriter::new(io);
    let mut batch = VecDeque::new();
    loop {
        match link.take(&mut batch) {
            Work::Write => write_batch(&mut writer, &link, &steps, &mut batch).await?,
            Work::Wait => link.has_work().await,
            Work::Finish => {
                poll_fn(|cx| writer.poll_close(cx)).await?;
                return Ok(());
            }
        }
    }
}

async fn write_batch<W: AsyncWrite + Unpin>(
    writer: &mut MessageWriter<W, ClientMessage>,
    link: &Link,
    steps: &Steps,
    batch: &mut VecDeque<Outgoing>,
) -> Result<(), StreamError> {
    let mut weight = 0;
    while let Some((message, bytes)) = batch.pop_front() {
        if bytes > LONG {
            let step = steps.begin().await;
            writer.feed(&message)?;
            drop(message);
            // Not until it is written: the peer may not read.
            step.over().await;
        } else {
            writer.feed(&message)?;
        }
        weight += bytes;
        if batch.is_empty() || writer.buffered() >= WRITE_AT {
            poll_fn(|cx| writer.poll_flush(cx)).await?;
            link.written(std::mem::take(&mut weight));
            if !batch.is_empty() {
                // Encoding takes time, and others wait.
                tokio::task::yield_now().await;
            }
        }
    }
    Ok(())
}
