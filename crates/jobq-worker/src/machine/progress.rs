//! How far runs have come, as the server is told: now and then, and only while there is something to tell.

use jobq_client::BootTime;
use jobq_proto::Fence;
use jobq_proto::message::{JobProgress, RunProgress};

use super::{Machine, State};

impl Machine {
    /// When reports that wait are to be handed over, by [`Machine::handle_progress`]; none while the server cannot be
    /// told.
    pub fn progress_due(&self) -> Option<BootTime> {
        if !self.connected {
            return None;
        }
        let interval = self.config.progress_interval;
        Some(self.reported.map_or(BootTime::default(), |last| last + interval))
    }

    /// How far a run has come; to be called only once [`Machine::progress_due`] has passed, with the latest report of
    /// each run that has made one since. What is no longer running is left out.
    pub fn handle_progress(&mut self, now: BootTime, fence: Fence, progress: JobProgress) {
        self.reported = Some(now);
        let Some(run) = self.runs.get(&fence) else {
            return;
        };
        if matches!(run.state, State::Running { .. }) {
            self.outbox.progress(RunProgress {
                id: run.id.job.0,
                fence,
                part: progress.part,
                text: progress.text,
            });
        }
    }
}
