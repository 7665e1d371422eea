//! Standard input, read and parsed on a thread of its own, so that the next jobs are ready while others are sent.

use std::io::{self, BufRead, BufReader, Read};

use jobq_client::JobRequest;
use tokio::sync::mpsc;

use super::fields::Defaults;

/// Longest line. Params of the greatest length can be several times as long in JSON.
const MAX_LINE: usize = 16 * 1024 * 1024;

/// Most jobs in a chunk.
const CHUNK_JOBS: usize = 1_000;

/// A chunk is full when it has read so many bytes.
const CHUNK_BYTES: u64 = 1024 * 1024;

/// Chunks that wait to be sent.
const CHUNKS: usize = 2;

/// Bytes read from the system at a time.
const BUFFER: usize = 256 * 1024;

/// Some lines.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) jobs: Vec<JobRequest>,
    /// The jobs' lines, from 1.
    pub(super) numbers: Vec<u64>,
    /// Lines that are no jobs, and why.
    pub(super) broken: Vec<(u64, String)>,
    /// Jobs whose time is past.
    pub(super) past: u64,
    /// Bytes that were read for it.
    pub(super) bytes: u64,
    /// The number of the last line that was read for it.
    pub(super) last: u64,
}

/// Starts reading standard input. The last item is an error if it could not be read to its end.
pub(super) fn read(defaults: Defaults) -> mpsc::Receiver<io::Result<Chunk>> {
    let (chunks, received) = mpsc::channel(CHUNKS);
    std::thread::spawn(move || {
        let input = BufReader::with_capacity(BUFFER, io::stdin().lock());
        let read = read_chunks(input, &defaults, |chunk| chunks.blocking_send(Ok(chunk)).is_ok());
        if let Err(error) = read {
            // Nobody wants it if the receiver is gone.
            let _ = chunks.blocking_send(Err(error));
        }
    });
    received
}

/// Reads lines until the end, or until nobody takes them.
fn read_chunks<R: Read>(
    mut input: BufReader<R>,
    defaults: &Defaults,
    mut send: impl FnMut(Chunk) -> bool,
) -> io::Result<()> {
    let mut chunk = Chunk::default();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let length = input
            .by_ref()
            .take(MAX_LINE as u64 + 1)
            .read_until(b'\n', &mut line)?;
        if length == 0 {
            break;
        }
        chunk.bytes += length as u64;
        chunk.last = number;
        let text = if number == 1 { without_mark(&line) } else { &line };
        if length > MAX_LINE && !line.ends_with(b"\n") {
            chunk.bytes += skip_line(&mut input)?;
            chunk
                .broken
                .push((number, format!("it is longer than {MAX_LINE} bytes")));
        } else if !text.trim_ascii().is_empty() {
            match defaults.read(number, text) {
                Ok(read) => {
                    chunk.jobs.push(read.job);
                    chunk.numbers.push(number);
                    chunk.past += u64::from(read.is_past);
                }
                Err(problem) => chunk.broken.push((number, problem)),
            }
        }
        let full = chunk.jobs.len() + chunk.broken.len() >= CHUNK_JOBS || chunk.bytes >= CHUNK_BYTES;
        // Where the next read may have to wait, what is there is sent first.
        if (full || input.buffer().is_empty()) && !send(std::mem::take(&mut chunk)) {
            return Ok(());
        }
    }
    send(chunk);
    Ok(())
}

/// A text without the byte order mark that some programs put at its beginning.
pub(super) fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

/// Reads to the end of a line without keeping it.
fn skip_line(input: &mut impl BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(skipped);
        }
        let end = buffer.iter().position(|&byte| byte == b'\n');
        let length = end.map_or(buffer.len(), |end| end + 1);
        input.consume(length);
        skipped += length as u64;
        if end.is_some() {
            return Ok(skipped);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(input: &[u8]) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        let input = BufReader::new(input);
        read_chunks(input, &Defaults::default(), |chunk| {
            chunks.push(chunk);
            true
        })
        .expect("memory can be read");
        chunks
    }

    #[test]
    fn a_broken_line_leaves_the_others() {
        let input = b"{\"name\":\"a\"}\n\n{\"name\":\n{\"name\":\"b\"}";
        let chunks = chunks(input);
        let numbers: Vec<u64> = chunks.iter().flat_map(|chunk| chunk.numbers.clone()).collect();
        let broken: Vec<u64> = chunks
            .iter()
            .flat_map(|chunk| &chunk.broken)
            .map(|broken| broken.0)
            .collect();
        assert_eq!((numbers, broken), (vec![1, 4], vec![3]));
        assert_eq!(
            chunks.iter().map(|chunk| chunk.bytes).sum::<u64>(),
            input.len() as u64
        );
    }

    #[test]
    fn a_byte_order_mark_is_passed_over_at_the_beginning_and_nowhere_else() {
        let mark = "\u{feff}";
        let input = format!("{mark}{{\"name\":\"a\"}}\n{mark}{{\"name\":\"b\"}}\n");
        let chunks = chunks(input.as_bytes());
        let numbers: Vec<u64> = chunks.iter().flat_map(|chunk| chunk.numbers.clone()).collect();
        let broken: Vec<u64> = chunks
            .iter()
            .flat_map(|chunk| &chunk.broken)
            .map(|broken| broken.0)
            .collect();
        assert_eq!((numbers, broken), (vec![1], vec![2]));
    }

    #[test]
    fn a_line_that_is_too_long_is_skipped_and_reported() {
        let mut input = vec![b' '; MAX_LINE + 100_000];
        input.extend(b"\n{\"name\":\"b\"}\n");
        let chunks = chunks(&input);
        let broken: Vec<u64> = chunks
            .iter()
            .flat_map(|chunk| &chunk.broken)
            .map(|broken| broken.0)
            .collect();
        let numbers: Vec<u64> = chunks.iter().flat_map(|chunk| chunk.numbers.clone()).collect();
        assert_eq!((broken, numbers), (vec![1], vec![2]));
    }

    #[test]
    fn chunks_are_bounded() {
        let input = "{\"name\":\"a\"}\n".repeat(5 * CHUNK_JOBS);
        assert!(
            chunks(input.as_bytes())
                .iter()
                .all(|chunk| chunk.jobs.len() <= CHUNK_JOBS)
        );
    }
}
