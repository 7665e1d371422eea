//! Many jobs, from standard input.

use std::collections::VecDeque;

use anyhow::{Context, anyhow};
use jobq_client::{ErrorCode, Receipt, SubmitError, Submitter};
use serde_json::json;

use super::Args;
use super::fields::Defaults;
use super::lines::{self, Chunk};
use super::notices::Notices;
use crate::cli::Global;
use crate::connect::when_to_repeat;
use crate::exit::Exit;
use crate::output::{Output, count, escape, note};
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
        notices: Notices::new(client.clone()),
        last: 0,
    };
    let ended = stream.submit(defaults, &mut signals).await;
    let ended = stream.await_rest(ended, &mut signals).await;
    let Submitting {
        numbers,
        mut counts,
        notices,
        last,
        ..
    } = stream;
    // Those whose answers were not waited for.
    counts.give_up(&numbers);
    notices.finish();
    counts.note_past();
    client.close().await;
    counts.write(args.json)?;
    match ended {
        Ended::Input if counts.first_left.is_none() => Ok(counts.exit()),
        Ended::Signal => Err(Exit::Interrupted.because(counts.interruption(last))),
        Ended::Input | Ended::Server => Err(counts.exit().because(counts.failure())),
        Ended::Broken(error) => Err(error).context("failed to read standard input"),
    }
}

/// Why no more jobs are read.
enum Ended {
    /// There are none.
    Input,
    /// Somebody asked for it.
    Signal,
    /// The server does not answer, or takes nothing for too long.
    Server,
    /// The input cannot be read.
    Broken(std::io::Error),
}

struct Submitting {
    submitter: Submitter,
    /// The lines of the jobs that have no receipt yet. The submitter waits when the server's window is full, or its
    /// queue, so there are never many more than a window.
    numbers: VecDeque<u64>,
    counts: Counts,
    notices: Notices,
    /// The last line that was read and taken.
    last: u64,
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
                receipts = self.notices.during(self.submitter.receipts()), if !self.numbers.is_empty() => {
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

    /// Waits for the answers that are still to come. After the first signal nothing is repeated any more, and after a
    /// second one they are not waited for.
    async fn await_rest(&mut self, mut ended: Ended, signals: &mut Signals) -> Ended {
        let mut stopped = !matches!(ended, Ended::Input);
        if stopped {
            self.submitter.stop_repeating();
        }
        while !self.numbers.is_empty() {
            tokio::select! {
                receipts = self.notices.during(self.submitter.receipts()) => match receipts {
                    Ok(receipts) if receipts.is_empty() => break,
                    Ok(receipts) => self.take(receipts),
                    Err(_) => break,
                },
                () = signals.recv() => {
                    ended = Ended::Signal;
                    if std::mem::replace(&mut stopped, true) {
                        break;
                    }
                    self.submitter.stop_repeating();
                }
            }
        }
        ended
    }

    async fn send(&mut self, chunk: Chunk) -> Result<(), SubmitError> {
        self.notices.read(chunk.bytes);
        for (number, problem) in &chunk.broken {
            self.notices.note(&format!("line {number}: {}", escape(problem)));
        }
        self.counts.past += chunk.past;
        self.counts.broken += chunk.broken.len() as u64;
        self.numbers.extend(chunk.numbers);
        self.last = chunk.last;
        self.notices.during(self.submitter.push_many(chunk.jobs)).await
    }

    fn take(&mut self, receipts: Vec<Result<Receipt, SubmitError>>) {
        for receipt in receipts {
            self.counts.take(receipt, self.numbers.pop_front(), &self.notices);
        }
        self.notices.answered(self.counts.answered());
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
    /// Those whose time was past when they were read, whatever became of them.
    past: u64,
    /// The first line that is unknown or unsent.
    first_left: Option<Left>,
}

/// A line that is not known to be submitted.
#[derive(Debug)]
struct Left {
    line: u64,
    why: String,
    /// The server took it not, for a reason that may pass.
    refused: Option<ErrorCode>,
}

impl Counts {
    fn take(&mut self, receipt: Result<Receipt, SubmitError>, line: Option<u64>, notices: &Notices) {
        match receipt {
            Ok(receipt) if receipt.existing => self.duplicate += 1,
            Ok(_) => self.accepted += 1,
            // What the server did not take in all that time it will not take from the next lines either.
            Err(SubmitError::Refused(error)) if !error.code.may_repeat() => {
                self.refused += 1;
                let line = line.unwrap_or_default();
                notices.note(&format!("line {line}: refused: {}", escape(&error.to_string())));
            }
            Err(error) => {
                match error {
                    SubmitError::Unknown { .. } => self.unknown += 1,
                    _ => self.unsent += 1,
                }
                self.first_left.get_or_insert_with(|| Left {
                    line: line.unwrap_or_default(),
                    why: error.to_string(),
                    refused: match &error {
                        SubmitError::Refused(refusal) => Some(refusal.code),
                        _ => None,
                    },
                });
            }
        }
    }

    /// Whoever gives a time that is past may have meant another.
    fn note_past(&self) {
        if self.past > 0 {
            note(&format!(
                "{} had a time that is past; a job of such a time is due at once",
                count(self.past, "line")
            ));
        }
    }

    /// These lines will have no receipt.
    fn give_up(&mut self, numbers: &VecDeque<u64>) {
        self.unknown += numbers.len() as u64;
        if let Some(&first) = numbers.front() {
            self.first_left.get_or_insert_with(|| Left {
                line: first,
                why: "its answer was not waited for".to_owned(),
                refused: None,
            });
        }
    }

    /// Why not everything was submitted, and where to go on.
    fn failure(&self) -> anyhow::Error {
        let Some(left) = &self.first_left else {
            return anyhow!("failed to submit all jobs: the server is gone");
        };
        anyhow!(
            "failed to submit all jobs: {} were acknowledged, {} refused; line {} is the first that is not known to be \
             submitted: {}; go on there {} ({SAFE})",
            self.accepted + self.duplicate,
            self.refused,
            left.line,
            left.why,
            when_to_repeat(left.refused)
        )
    }

    /// Where to go on after an interruption, with `last` the last line that was read.
    fn interruption(&self, last: u64) -> anyhow::Error {
        let next = match &self.first_left {
            Some(left) => left.line,
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
        let mut output = Output::optional();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bulk_that_ends_early_says_how_much_was_taken_and_where_and_when_to_go_on() {
        let counts = Counts {
            accepted: 7,
            duplicate: 2,
            refused: 1,
            unsent: 5,
            first_left: Some(Left {
                line: 12,
                why: "the queue is full (queue_full)".to_owned(),
                refused: Some(ErrorCode::QueueFull),
            }),
            ..Counts::default()
        };
        assert_eq!(counts.exit(), Exit::Unreachable);
        assert_eq!(
            counts.failure().to_string(),
            "failed to submit all jobs: 9 were acknowledged, 1 refused; line 12 is the first that is not known to be \
             submitted: the queue is full (queue_full); go on there when fewer jobs are queued (lines with a uuid, and \
             all with --once, can be repeated)"
        );
    }
}
