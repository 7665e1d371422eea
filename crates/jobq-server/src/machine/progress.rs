//! How far runs have come: what their workers say last is kept with their leases, and told to those who watch.
//!
//! Progress is for people. It is never on disk, is forgotten with its run, and takes only the room that is left in a
//! connection: what does not fit is told later, as it is then.

use std::collections::BTreeSet;
use std::time::Duration;

use jobq_proto::limits::MAX_PROGRESS_TEXT;
use jobq_proto::message::{JobProgress, Progress, Progressed, ProgressedJob, RunProgress, RunRef};
use jobq_proto::{ClientMessage, JobId, WireSize};
use jobq_transport::PeerId;

use super::Machine;
use super::leases::Phase;
use super::timers::Timer;
use crate::store::SessionId;
use crate::time::{Mono, Now};

/// Between two tellings of one watch: ten a second are as many as a person can see.
const TELLING_INTERVAL: Duration = Duration::from_millis(100);

/// Where what a watch is told at once is cut, in bytes; the rest is told after the pause.
const CUT: usize = 64 * 1024;

/// What one watch is still to be told of its jobs' progress.
#[derive(Default)]
pub(super) struct Follower {
    /// Jobs with news. The news themselves are with the leases, so that only the latest are told.
    news: BTreeSet<JobId>,
    /// Where the next telling begins, so that all jobs have their turn when not all fit.
    from: u64,
    /// Nothing is told before this.
    not_before: Mono,
    /// When the timer for the next telling is set to.
    timer: Option<Mono>,
}

impl Follower {
    /// There is news of a job.
    pub(super) fn note(&mut self, id: JobId) {
        self.news.insert(id);
    }

    /// There will be no news of a job any more.
    pub(super) fn forget(&mut self, id: JobId) {
        self.news.remove(&id);
    }

    /// The next job with news, in turn.
    fn next(&mut self) -> Option<JobId> {
        let id = self
            .news
            .range(JobId(self.from)..)
            .next()
            .or_else(|| self.news.first())
            .copied()?;
        self.news.remove(&id);
        self.from = id.0.saturating_add(1);
        Some(id)
    }
}

/// A report within its limits: a whole part at most, and a text of one line.
pub(super) fn checked(run: RunProgress) -> JobProgress {
    let end = run.text.floor_char_boundary(MAX_PROGRESS_TEXT);
    let text = run.text[..end].chars();
    JobProgress {
        part: run.part.map(|part| part.min(JobProgress::WHOLE)),
        text: text.map(|c| if c.is_control() { ' ' } else { c }).collect(),
    }
}

impl Machine {
    /// A worker says how far its runs have come. What it says of others is ignored.
    pub(super) fn runs_progressed(&mut self, peer: PeerId, session: SessionId, progress: Progress) {
        if !self.may_name(peer, progress.runs.len()) {
            return;
        }
        let mut watches = BTreeSet::new();
        for run in progress.runs {
            let named = RunRef {
                id: run.id,
                fence: run.fence,
            };
            let current = self.leases.current(named, session);
            if let Some(lease) = current.filter(|lease| lease.phase != Phase::Fetching) {
                let progress = Some(Box::new(checked(run)));
                if lease.progress != progress {
                    lease.progress = progress;
                    watches.extend(self.watches.note_progress(JobId(named.id)));
                }
            } else if let Some(meanwhile) = self.checked_run(session, named) {
                meanwhile.progress = Some(checked(run));
            }
        }
        for (peer, request) in watches {
            self.tell_progress(peer, request);
        }
    }

    /// A watch has begun: it is told at once how far its jobs have come.
    pub(super) fn begin_following(&mut self, peer: PeerId, request: u64, ids: &BTreeSet<JobId>) {
        let mut follower = Follower::default();
        for id in ids {
            if self
                .leases
                .find(*id)
                .is_some_and(|lease| lease.progress.is_some())
            {
                follower.note(*id);
            }
        }
        self.watches.follow(peer, request, follower);
        self.tell_progress(peer, request);
    }

    /// The timer of a watch: the pause after its last telling is over.
    pub(super) fn resume_telling(&mut self, peer: PeerId, request: u64) {
        if let Some(follower) = self.watches.follower(peer, request) {
            follower.timer = None;
            self.tell_progress(peer, request);
        }
    }

    /// Tells a watch the news there are, now or when the pause after the last telling is over.
    fn tell_progress(&mut self, peer: PeerId, request: u64) {
        let now = self.now.mono;
        let only = self.names_of(peer);
        let names = &self.names;
        let Some(follower) = self.watches.follower(peer, request) else {
            return;
        };
        let mut jobs = Vec::new();
        let mut bytes = 0;
        while now >= follower.not_before
            && bytes < CUT
            && let Some(id) = follower.next()
        {
            // A run that has ended meanwhile is not told of, nor one that has said nothing yet.
            let Some(lease) = self.leases.find(id) else {
                continue;
            };
            let Some(progress) = lease
                .progress
                .clone()
                .filter(|_| only.match_name(names.name(lease.name).as_str()))
            else {
                continue;
            };
            let job = ProgressedJob {
                id: id.0,
                attempt: lease.attempts + 1,
                progress: *progress,
            };
            bytes += job.wire_size();
            jobs.push(job);
        }
        if !jobs.is_empty() {
            follower.not_before = now.plus(TELLING_INTERVAL);
        }
        if !follower.news.is_empty() && follower.timer.is_none() {
            follower.timer = Some(follower.not_before);
            self.timers
                .set(follower.not_before, Timer::Progress(peer, request));
        }
        if !jobs.is_empty() {
            self.outbox.offer(peer, Progressed { request, jobs });
        }
    }

    /// A connection had no room for something that was offered to it: it is offered again later, as it is then.
    pub fn handle_no_room(&mut self, now: Now, peer: PeerId, offered: ClientMessage) {
        self.tick(now);
        let ClientMessage::Progressed(Progressed { request, jobs }) = offered else {
            return; // Nothing else is offered.
        };
        if let Some(follower) = self.watches.follower(peer, request) {
            for job in jobs {
                follower.note(JobId(job.id));
            }
            follower.not_before = follower.not_before.max(now.mono.plus(TELLING_INTERVAL));
            self.tell_progress(peer, request);
        }
    }
}

#[cfg(test)]
mod tests {
    use jobq_proto::Fence;

    use super::*;

    fn check(part: Option<u32>, text: &str) -> JobProgress {
        checked(RunProgress {
            id: 1,
            fence: Fence { epoch: 1, seq: 1 },
            part,
            text: text.to_owned(),
        })
    }

    #[test]
    fn a_part_beyond_the_whole_counts_as_the_whole() {
        assert_eq!(check(Some(7), "").part, Some(7));
        assert_eq!(
            check(Some(JobProgress::WHOLE + 1), "").part,
            Some(JobProgress::WHOLE)
        );
        assert_eq!(check(None, "").part, None);
    }

    #[test]
    fn a_text_is_cut_between_characters_and_has_no_control_characters() {
        assert_eq!(check(None, "a\tb\r\n\u{1b}[31mc\u{9b}d").text, "a b   [31mc d");
        let long = check(None, &"é".repeat(MAX_PROGRESS_TEXT)).text;
        assert_eq!(long, "é".repeat(MAX_PROGRESS_TEXT / 2));
        let odd = check(None, &format!("x{}", "é".repeat(MAX_PROGRESS_TEXT))).text;
        assert_eq!(odd.len(), MAX_PROGRESS_TEXT - 1);
    }

    #[test]
    fn jobs_with_news_have_their_turn() {
        let mut follower = Follower::default();
        for id in [1, 2, 3] {
            follower.note(JobId(id));
        }
        assert_eq!(follower.next(), Some(JobId(1)));
        follower.note(JobId(1));
        assert_eq!(follower.next(), Some(JobId(2)));
        assert_eq!(follower.next(), Some(JobId(3)));
        assert_eq!(follower.next(), Some(JobId(1)));
        assert_eq!(follower.next(), None);
    }
}
