//! How far a long submit is: a bar on a terminal, nothing in a pipe.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;

use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use jobq_client::ErrorCode;

use crate::progress::{TICK, target};

/// A bar on standard error, with notes above it.
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub(super) fn new() -> Self {
        let bar = match input_length() {
            Some(length) => ProgressBar::with_draw_target(Some(length), target()).with_style(style(
                "{bar:30} {percent:>3}%  {msg}  {elapsed} (about {eta} left)",
            )),
            None => {
                ProgressBar::with_draw_target(None, target()).with_style(style("{spinner} {msg}  {elapsed}"))
            }
        };
        if !bar.is_hidden() {
            // While there is nothing to read, too.
            bar.enable_steady_tick(TICK);
        }
        Self { bar }
    }

    /// So many bytes more have been read.
    pub(super) fn read(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// So many jobs have been answered in all, and this is waited for, if it is anything but the next answer.
    pub(super) fn show(&self, jobs: u64, waits: Option<ErrorCode>) {
        if !self.is_drawn() {
            return;
        }
        let seconds = self.bar.elapsed().as_secs_f64().max(0.001);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss
        )]
        let rate = (jobs as f64 / seconds) as u64;
        let waits = waits.map_or("", |code| match code {
            ErrorCode::QueueFull => "; the queue is full; waiting",
            ErrorCode::StorageFull => "; the server's disk is full; waiting",
            ErrorCode::ShuttingDown => "; the server is going down; waiting",
            _ => "; the server refuses for now; waiting",
        });
        self.bar.set_message(format!(
            "{} {}, {}/s{waits}",
            HumanCount(jobs),
            if jobs == 1 { "job" } else { "jobs" },
            HumanCount(rate)
        ));
    }

    /// Whether somebody sees the bar.
    pub(super) fn is_drawn(&self) -> bool {
        !self.bar.is_hidden()
    }

    /// Says something that stays.
    pub(super) fn note(&self, text: &str) {
        // There is nobody to tell if this fails.
        self.bar.suspend(|| {
            let _ = writeln!(std::io::stderr(), "{text}");
        });
    }

    /// Takes the bar away.
    pub(super) fn finish(self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates above are well-formed")
}

/// How long standard input is, if it is a file.
fn input_length() -> Option<u64> {
    let input = std::io::stdin().as_fd().try_clone_to_owned().ok()?;
    let metadata = File::from(input).metadata().ok()?;
    metadata.is_file().then_some(metadata.len())
}
