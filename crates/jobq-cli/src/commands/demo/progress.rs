//! How far it is: a bar on a terminal, and a line now and then elsewhere. Both on standard error.

use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::{count, is_dumb};

/// Lines that are written where there is no terminal.
const LINES: u64 = 10;

pub(super) enum Progress {
    Bar(ProgressBar),
    Lines { jobs: u64, next: u64 },
}

impl Progress {
    pub(super) fn new(jobs: u64) -> Self {
        if !io::stderr().is_terminal() || is_dumb() {
            return Self::Lines {
                jobs,
                next: jobs.div_ceil(LINES),
            };
        }
        let template = "{bar:40} {pos}/{len}  {msg}  {elapsed} of about {duration}";
        let style = ProgressStyle::with_template(template).expect("the template is well formed");
        let bar = ProgressBar::new(jobs).with_style(style);
        bar.tick();
        Self::Bar(bar)
    }

    /// So many have ended.
    pub(super) fn show(&mut self, completed: u64, failed: u64) {
        let ended = completed + failed;
        match self {
            Self::Bar(bar) => {
                bar.set_message(format!("{failed} failed"));
                bar.set_position(ended);
            }
            Self::Lines { jobs, next } => {
                if ended >= *next {
                    *next = (ended + jobs.div_ceil(LINES)).min((*jobs).max(ended + 1));
                    // There is nobody to tell if this fails.
                    let _ = writeln!(
                        io::stderr(),
                        "{ended} of {} ended, {failed} failed",
                        count(*jobs, "job")
                    );
                }
            }
        }
    }

    pub(super) fn finish(self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
