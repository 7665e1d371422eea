//! beanstalkd, by <https://github.com/beanstalkd/beanstalkd/blob/master/doc/protocol.txt>.

use std::path::Path;
use std::process::Command;

use anyhow::Context;

use crate::contest::{EACH, Peer, chunks, payload};
use crate::pipe::{Chunk, Pipe, number, unexpected};
use crate::server::Server;

/// Most jobs submitted and not acknowledged.
const WINDOW: u64 = 4 * EACH;

/// Most jobs reserved or being reserved. The server looks through all jobs that a connection has reserved to find the
/// one that is due first, so that more of them make it slower; with fewer it runs dry.
const RESERVED: u64 = 100;

pub(crate) struct Beanstalkd {
    pipe: Pipe,
}

/// Starts it, with a log of which each record is synced, or with none.
pub(crate) fn start(program: &Path, dir: &Path, fsync: bool) -> anyhow::Result<Server> {
    Server::start(program, dir, |port, dir, command: &mut Command| {
        command.args(["-l", "127.0.0.1", "-p", &port.to_string()]);
        if fsync {
            command.arg("-b").arg(dir).arg("-f0");
        }
        Ok(())
    })
}

impl Beanstalkd {
    pub(crate) fn new(pipe: Pipe) -> Self {
        Self { pipe }
    }
}

impl Peer for Beanstalkd {
    fn submissions(&self, jobs: u64) -> Vec<Chunk> {
        chunks(jobs, |n, bytes| {
            let payload = payload(n);
            bytes.extend(format!("put 0 0 3600 {}\r\n", payload.len()).bytes());
            bytes.extend(payload);
            bytes.extend(b"\r\n");
        })
    }

    fn submit(&mut self, chunks: &[Chunk]) -> anyhow::Result<()> {
        self.pipe.pipeline(chunks, WINDOW, |pipe| match pipe.line()? {
            line if line.starts_with(b"INSERTED ") => Ok(()),
            other => Err(unexpected(other)),
        })
    }

    fn drain(&mut self, jobs: u64) -> anyhow::Result<()> {
        let mut reserving = jobs.min(RESERVED);
        let mut deleted = 0;
        let mut outstanding = 0;
        // What is written next, and how many replies it will have.
        let mut commands = b"reserve\r\n".repeat(reserving as usize);
        let mut unwritten = reserving;
        while deleted < jobs {
            if unwritten >= RESERVED / 4 || outstanding == 0 {
                self.pipe.write(&commands)?;
                commands.clear();
                outstanding += std::mem::take(&mut unwritten);
            }
            outstanding -= 1;
            let line = self.pipe.line()?;
            if line == b"DELETED" {
                deleted += 1;
                continue;
            }
            let reserved = line.strip_prefix(b"RESERVED ").ok_or_else(|| unexpected(line))?;
            let space = reserved.iter().position(|byte| *byte == b' ');
            let space = space.context("RESERVED has an id and a length")?;
            commands.extend(b"delete ");
            commands.extend(&reserved[..space]);
            commands.extend(b"\r\n");
            unwritten += 1;
            let length = number(&reserved[space..])? as usize;
            self.pipe.take(length + b"\r\n".len())?;
            if reserving < jobs {
                commands.extend(b"reserve\r\n");
                reserving += 1;
                unwritten += 1;
            }
        }
        Ok(())
    }

    fn held(&mut self) -> anyhow::Result<u64> {
        self.pipe.write(b"stats-tube default\r\n")?;
        let line = self.pipe.line()?;
        let length = line.strip_prefix(b"OK ").ok_or_else(|| unexpected(line))?;
        let length = number(length)? as usize;
        let stats = String::from_utf8_lossy(self.pipe.take(length)?).into_owned();
        self.pipe.take(b"\r\n".len())?;
        let count = |key: &str| -> anyhow::Result<u64> {
            let value = stats.lines().find_map(|line| line.strip_prefix(key));
            number(
                value
                    .with_context(|| format!("stats-tube has no {key}"))?
                    .as_bytes(),
            )
        };
        Ok(count("current-jobs-ready:")? + count("current-jobs-reserved:")?)
    }
}
