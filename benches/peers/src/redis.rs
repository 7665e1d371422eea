//! Redis: a list as a queue, its log of changes synced before each answer.

use std::collections::VecDeque;
use std::path::Path;
use std::process::Command;

use anyhow::ensure;

use crate::contest::{EACH, Peer, chunks, payload};
use crate::pipe::{Chunk, Pipe, number, unexpected};
use crate::server::Server;

/// Most replies under way.
const WINDOW: u64 = 4 * EACH;

/// How the list is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// LPUSH and RPOP, 1,000 commands in a pipeline: what was popped is lost if its worker is.
    Pipelined,
    /// The same, with 1,000 jobs in each command.
    Variadic,
    /// RPOPLPUSH to a second list, and LREM from that once the job is done.
    Reliable,
}

pub(crate) struct Redis {
    pipe: Pipe,
    how: Use,
}

/// Starts it.
pub(crate) fn start(program: &Path, dir: &Path) -> anyhow::Result<Server> {
    Server::start(program, dir, |port, dir, command: &mut Command| {
        command
            .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
            .args(["--appendonly", "yes", "--appendfsync", "always"])
            // Nothing beside the log: no snapshots, and no rewriting in the middle.
            .args(["--save", "", "--auto-aof-rewrite-percentage", "0"])
            .arg("--dir")
            .arg(dir);
        Ok(())
    })
}

impl Redis {
    pub(crate) fn new(pipe: Pipe, how: Use) -> Self {
        Self { pipe, how }
    }

    fn pop(&mut self, jobs: u64) -> anyhow::Result<()> {
        let pops = chunks(jobs, |_, bytes| command(bytes, &[b"RPOP", b"q"]));
        self.pipe.pipeline(&pops, WINDOW, |pipe| bulk(pipe).map(drop))
    }

    fn pop_many(&mut self, jobs: u64) -> anyhow::Result<()> {
        let pops: Vec<Chunk> = parts(jobs)
            .map(|(_, count)| {
                let mut bytes = Vec::new();
                command(&mut bytes, &[b"RPOP", b"q", count.to_string().as_bytes()]);
                Chunk { bytes, replies: 1 }
            })
            .collect();
        let mut popped = 0;
        self.pipe.pipeline(&pops, WINDOW / EACH, |pipe| {
            let count = prefixed(pipe, b'*')?;
            for _ in 0..count {
                bulk(pipe)?;
            }
            popped += count;
            Ok(())
        })?;
        ensure!(popped == jobs, "{popped} jobs came, and not {jobs}");
        Ok(())
    }

    /// Two pipelines are under way: while one is being popped, the jobs of the one before are removed.
    fn pop_and_remove(&mut self, jobs: u64) -> anyhow::Result<()> {
        let pops = chunks(jobs, |_, bytes| command(bytes, &[b"RPOPLPUSH", b"q", b"p"]));
        let mut pops = pops.iter();
        let mut expected = VecDeque::new();
        let mut next = |bytes: &mut Vec<u8>, expected: &mut VecDeque<Replies>| {
            if let Some(chunk) = pops.next() {
                bytes.extend(&chunk.bytes);
                expected.push_back(Replies::Popped(chunk.replies));
            }
        };
        let mut bytes = Vec::new();
        next(&mut bytes, &mut expected);
        next(&mut bytes, &mut expected);
        self.pipe.write(&bytes)?;
        while let Some(replies) = expected.pop_front() {
            match replies {
                Replies::Popped(count) => {
                    bytes.clear();
                    for _ in 0..count {
                        let payload = bulk(&mut self.pipe)?;
                        command(&mut bytes, &[b"LREM", b"p", b"-1", payload]);
                    }
                    expected.push_back(Replies::Removed(count));
                    next(&mut bytes, &mut expected);
                    self.pipe.write(&bytes)?;
                }
                Replies::Removed(count) => {
                    for _ in 0..count {
                        let removed = prefixed(&mut self.pipe, b':')?;
                        ensure!(removed == 1, "a job is not in the second list");
                    }
                }
            }
        }
        Ok(())
    }
}

/// What comes next.
enum Replies {
    Popped(u64),
    Removed(u64),
}

impl Peer for Redis {
    fn submissions(&self, jobs: u64) -> Vec<Chunk> {
        if self.how != Use::Variadic {
            return chunks(jobs, |n, bytes| command(bytes, &[b"LPUSH", b"q", &payload(n)]));
        }
        parts(jobs)
            .map(|(first, count)| {
                let payloads: Vec<Vec<u8>> = (first..first + count).map(payload).collect();
                let mut words: Vec<&[u8]> = vec![b"LPUSH", b"q"];
                words.extend(payloads.iter().map(Vec::as_slice));
                let mut bytes = Vec::new();
                command(&mut bytes, &words);
                Chunk { bytes, replies: 1 }
            })
            .collect()
    }

    fn submit(&mut self, chunks: &[Chunk]) -> anyhow::Result<()> {
        let window = if self.how == Use::Variadic {
            WINDOW / EACH
        } else {
            WINDOW
        };
        self.pipe
            .pipeline(chunks, window, |pipe| prefixed(pipe, b':').map(drop))
    }

    fn drain(&mut self, jobs: u64) -> anyhow::Result<()> {
        match self.how {
            Use::Pipelined => self.pop(jobs),
            Use::Variadic => self.pop_many(jobs),
            Use::Reliable => self.pop_and_remove(jobs),
        }
    }

    fn held(&mut self) -> anyhow::Result<u64> {
        let mut bytes = Vec::new();
        command(&mut bytes, &[b"LLEN", b"q"]);
        command(&mut bytes, &[b"LLEN", b"p"]);
        self.pipe.write(&bytes)?;
        Ok(prefixed(&mut self.pipe, b':')? + prefixed(&mut self.pipe, b':')?)
    }
}

/// The jobs in parts of [`EACH`]: the first of each, and how many.
fn parts(jobs: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..jobs)
        .step_by(EACH as usize)
        .map(move |first| (first, EACH.min(jobs - first)))
}

fn command(bytes: &mut Vec<u8>, words: &[&[u8]]) {
    bytes.extend(format!("*{}\r\n", words.len()).bytes());
    for word in words {
        bytes.extend(format!("${}\r\n", word.len()).bytes());
        bytes.extend(*word);
        bytes.extend(b"\r\n");
    }
}

/// A string.
fn bulk(pipe: &mut Pipe) -> anyhow::Result<&[u8]> {
    let length = prefixed(pipe, b'$')? as usize;
    let bytes = pipe.take(length + b"\r\n".len())?;
    Ok(&bytes[..length])
}

/// The number of a line that begins with a sign.
fn prefixed(pipe: &mut Pipe, sign: u8) -> anyhow::Result<u64> {
    match pipe.line()? {
        [first, rest @ ..] if *first == sign => number(rest),
        other => Err(unexpected(other)),
    }
}
