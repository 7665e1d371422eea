//! What is said while many jobs wait: once each, and only what is so.

use std::time::{Duration, Instant};

use jobq_client::{Client, ErrorCode};

use super::progress::Progress;
use crate::connect::{NOTICE_AFTER, refusal, silence};
use crate::times;

/// How often it is looked what is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What is shown and said on the way.
pub(super) struct Notices {
    client: Client,
    progress: Progress,
    /// Jobs that were answered.
    answered: u64,
    /// The server has not answered for a while, and that was said.
    silent: bool,
    /// The server refuses what it may take later, and that was said.
    refused: Option<ErrorCode>,
}

impl Notices {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            progress: Progress::new(),
            answered: 0,
            silent: false,
            refused: None,
        }
    }

    /// Waits for a call, and says what it waits for if that takes long.
    pub(super) async fn during<T>(&mut self, call: impl Future<Output = T>) -> T {
        let mut call = std::pin::pin!(call);
        let mut since = Instant::now();
        loop {
            tokio::select! {
                biased;
                answer = &mut call => return answer,
                () = tokio::time::sleep(LOOK_EVERY) => self.look(&mut since),
            }
        }
    }

    /// So many bytes more have been read.
    pub(super) fn read(&self, bytes: u64) {
        self.progress.read(bytes);
    }

    /// So many jobs have been answered in all.
    pub(super) fn answered(&mut self, jobs: u64) {
        self.silent &= jobs == self.answered;
        self.answered = jobs;
        self.progress
            .show(jobs, self.client.refusal().map(|error| error.code));
    }

    /// Says something that stays.
    pub(super) fn note(&self, text: &str) {
        self.progress.note(text);
    }

    /// Takes the bar away.
    pub(super) fn finish(self) {
        self.progress.finish();
    }

    fn look(&mut self, since: &mut Instant) {
        let error = self.client.refusal();
        let code = error.as_ref().map(|error| error.code);
        self.progress.show(self.answered, code);
        let patience = times::length(self.client.deadline());
        if let Some(error) = error {
            *since = Instant::now();
            // A queue that becomes shorter is full again and again.
            if self.refused.replace(error.code) != code && !self.progress.is_drawn() {
                self.note(&format!(
                    "jobq: {}; waiting, and giving up if nothing is taken for {patience}",
                    refusal(&error)
                ));
            }
        } else if since.elapsed() >= NOTICE_AFTER && !std::mem::replace(&mut self.silent, true) {
            self.note(&format!(
                "jobq: {}; still trying, for up to {patience} in all",
                silence()
            ));
        }
    }
}
