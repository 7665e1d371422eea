//! Many jobs, from standard input.

use std::collections::VecDeque;

use anyhow::{Context, anyhow};
use jobq_client::{Receipt, SubmitError, Submitter};
use serde_json::json;

use super::Args;
use super::fields::Defaults;
use super::lines::{self, Chunk};
use super::progress::Progress;
use crate::cli::Global;
use crate::connect::patiently;
use crate::exit::Exit;
use crate::output::{Output, escape};
use crate::signals::Signals;

pub(super) async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let mut signals = Signals::new()?;
    let client = global.connect().await.context("failed to submit jobs")?;
    let defaults = Defaults {
        name: args.name,
        fields: args.fields,
        once: args.once,
    };
    let mut stream = Submitting {
        submitter: client.submitter(),
        numbers: VecDeque::new(),
        counts: Counts::default(),
        progress: Progress::new(),
        last: 0,
        silent: false,
    };
    let mut ended = stream.submit(defaults, &mut signals).await;
    let (submitter, progress) = (stream.submitter, &stream.progress);
    let last = tokio::select! {
        receipts = patiently(submitter.finish(), |text| progress.note(&format!("jobq: {text}"))) => receipts,
        () = signals.recv() => {
            ended = Ended::Signal;
            Ok(Vec::new())
        }
    };
    for receipt in last.unwrap_or_default() {
        stream
            .counts
            .take(receipt, stream.numbers.pop_front(), &stream.progress);
    }
    // Those whose answers were not waited for.
    stream.counts.give_up(&stream.numbers);
    stream.progress.finish();
    client.close().await;
    stream.counts.write(args.json)?;
    match ended {
        Ended::Input if stream.counts.first_left.is_none() => Ok(stream.counts.exit()),
        Ended::Signal => Err(Exit::Interrupted.because(stream.counts.interruption(stream.last))),
        Ended::Input | Ended::Server => Err(stream.counts.exit().because(stream.counts.failure())),
        Ended::Broken(error) => Err(error).context("failed to read standard input"),
    }
}

/// Why no more jobs are read.
enum Ended {
    /// There are none.
    Input,
    /// Somebody asked for it.
    Signal,
    /// The server does not answer.
    Server,
    /// The input cannot be read.
    Broken(std::io::Error),
}

struct Submitting {
    submitter: Submitter,
    /// The lines of the jobs that have no receipt yet. The submitter waits when the server's window is full, so
    /// there are never many more than that.
    numbers: VecDeque<u64>,
    counts: Counts,
    progress: Progress,
    /// The last line that was read and taken.
    last: u64,
    /// The server has not answered for a while, and that was said.
    silent: bool,
}

impl Submitting {
    async fn submit(&mut self, defaults: Defaults, signals: &mut Signals) -> Ended {
        let mut chunks = lines::read(defaults);
        loop {
            tokio::select! {
                chunk = chunks.recv() => match chunk {
                    None => return Ended::Input,
                    Some(Err(error)) => return Ended::Broken(error),
                    Some(Ok(chunk)) => {
                        let sent = tokio::select! {
                            sent = self.send(chunk) => sent,
                            () = signals.recv() => return Ended::Signal,
                        };
                        if sent.is_err() {
                            return Ended::Server;
                        }
                        let receipts = self.submitter.take_receipts();
                        self.take(receipts);
                    }
                },
                receipts = patiently(self.submitter.receipts(), |text| say(&self.progress, &mut self.silent, text)),
                    if !self.numbers.is_empty() =>
                {
                    match receipts {
                        Ok(receipts) => self.take(receipts),
                        Err(_) => return Ended::Server,
                    }
                }
                () = signals.recv() => return Ended::Signal,
            }
            if self.counts.unsent > 0 || self.counts.unknown > 0 {
                return Ended::Server;
            }
        }
    }

    async fn send(&mut self, chunk: Chunk) -> Result<(), SubmitError> {
        self.progress.read(chunk.bytes);
        for (number, problem) in &chunk.broken {
            self.progress.note(&format!("line {number}: {}", escape(problem)));
        }
        self.counts.broken += chunk.broken.len() as u64;
        self.numbers.extend(chunk.numbers);
        self.last = chunk.last;
        let (progress, silent) = (&self.progress, &mut self.silent);
        patiently(self.submitter.push_many(chunk.jobs), |text| {
            say(progress, silent, text)
        })
        .await
    }

    fn take(&mut self, receipts: Vec<Result<Receipt, SubmitError>>) {
        self.silent &= receipts.is_empty();
        for receipt in receipts {
            self.counts
                .take(receipt, self.numbers.pop_front(), &self.progress);
        }
        self.progress.answered(self.counts.answered());
    }
}

/// Says once in each silence that there is one.
fn say(progress: &Progress, silent: &mut bool, text: &str) {
    if !std::mem::replace(silent, true) {
        progress.note(&format!("jobq: {text}"));
    }
}

/// Which lines need no care.
const SAFE: &str = "lines with a uuid, and all with --once, can be repeated";

/// What became of the lines.
#[derive(Debug, Default)]
struct Counts {
    accepted: u64,
    duplicate: u64,
    refused: u64,
    broken: u64,
    unknown: u64,
    unsent: u64,
    /// The first line that is unknown or unsent, and why.
    first_left: Option<(u64, String)>,
}

impl Counts {
    fn take(&mut self, receipt: Result<Receipt, SubmitError>, line: Option<u64>, progress: &Progress) {
        match receipt {
            Ok(receipt) if receipt.existing => self.duplicate += 1,
            Ok(_) => self.accepted += 1,
            // What the server cannot take now it will not take from the next lines either.
            Err(SubmitError::Refused(error)) if !error.code.may_repeat() => {
                self.refused += 1;
                let line = line.unwrap_or_default();
                progress.note(&format!("line {line}: refused: {}", escape(&error.to_string())));
            }
            Err(error) => {
                match error {
                    SubmitError::Unknown { .. } => self.unknown += 1,
                    _ => self.unsent += 1,
                }
                self.first_left
                    .get_or_insert_with(|| (line.unwrap_or_default(), error.to_string()));
            }
        }
    }

    /// These lines will have no receipt.
    fn give_up(&mut self, numbers: &VecDeque<u64>) {
        self.unknown += numbers.len() as u64;
        if let Some(&first) = numbers.front() {
            let why = "its answer was not waited for".to_owned();
            self.first_left.get_or_insert((first, why));
        }
    }

    /// Why not everything was submitted, and where to go on.
    fn failure(&self) -> anyhow::Error {
        match &self.first_left {
            Some((line, why)) => anyhow!(
                "failed to submit all jobs: line {line} is the first that is not known to be submitted: {why}; go on \
                 there when the server is well again ({SAFE})"
            ),
            None => anyhow!("failed to submit all jobs: the server is gone"),
        }
    }

    /// Where to go on after an interruption, with `last` the last line that was read.
    fn interruption(&self, last: u64) -> anyhow::Error {
        let next = match &self.first_left {
            Some((line, _)) => *line,
            None => last + 1,
        };
        anyhow!(
            "interrupted; line {next} is the first that is not known to be submitted: go on there ({SAFE})"
        )
    }

    fn answered(&self) -> u64 {
        self.accepted + self.duplicate + self.refused
    }

    fn exit(&self) -> Exit {
        if self.unknown > 0 {
            Exit::Unknown
        } else if self.unsent > 0 {
            Exit::Unreachable
        } else if self.refused > 0 || self.broken > 0 {
            Exit::Partial
        } else {
            Exit::Ok
        }
    }

    fn write(&self, as_json: bool) -> anyhow::Result<()> {
        let mut output = Output::new();
        if as_json {
            output.json(&json!({
                "accepted": self.accepted,
                "duplicate": self.duplicate,
                "refused": self.refused,
                "broken": self.broken,
                "unknown": self.unknown,
                "unsent": self.unsent,
            }))?;
        } else {
            let mut line = format!(
                "{} accepted, {} duplicate, {} refused, {} broken",
                self.accepted, self.duplicate, self.refused, self.broken
            );
            for (count, label) in [(self.unknown, "unknown"), (self.unsent, "not sent")] {
                if count > 0 {
                    line.push_str(&format!(", {count} {label}"));
                }
            }
            output.line(line)?;
        }
        output.finish()
    }
}
