//! What is left when everything has been worked off.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use jobq_proto::message::Stats;
use jobq_proto::{JobId, NewJob, Status};
use jobq_server::store::{
    Filter, LiveJob, MemoryReader, NameTotals, Query, Read, ReadAnswer, RunStatus, Select,
};
use jobq_server::time::Wall;

use super::Model;
use crate::check;
use crate::contents::Contents;
use crate::history::{Asked, HandlerRun, Ledger};
use crate::sim::agenda::{At, SECOND};

/// Jobs read at a time.
const PAGE: usize = 1_000;

/// After a start no record goes for so long, or for the uuid window if that is shorter.
const AFTER_START: At = 600 * SECOND;

impl Model {
    /// A job that has not ended.
    pub(in crate::sim) fn unfinished(&self) -> Option<u64> {
        let open = |(_, job): &(&u64, &super::Job)| job.ended.is_none();
        self.jobs.iter().find(open).map(|(id, _)| *id)
    }

    /// How many there are of these.
    pub(in crate::sim) fn unfinished_jobs(&self) -> usize {
        self.jobs.values().filter(|job| job.ended.is_none()).count()
    }

    /// How many jobs there were, and how many runs.
    pub(in crate::sim) fn size(&self) -> (usize, usize) {
        (self.jobs.len(), self.ordered.len())
    }

    /// How many jobs of a name could be out: they have not ended, and wait for no time.
    pub(in crate::sim) fn could_be_out(&self, name: &str) -> usize {
        let ready = |job: &&super::Job| {
            job.ended.is_none() && job.name == name && job.wait.is_none_or(|wait| wait.came)
        };
        self.jobs.values().filter(ready).count()
    }

    /// Whether nothing is on its way to the disk.
    pub(in crate::sim) fn is_at_rest(&self) -> bool {
        self.out.is_empty()
    }

    /// How many runs are out for certain, of a name or of all.
    pub(in crate::sim) fn out_of(&self, name: Option<&str>) -> usize {
        let runs = self.live.iter().filter_map(|fence| self.runs.get(fence));
        runs.filter(|run| name.is_none_or(|name| self.jobs.get(&run.id).is_some_and(|job| job.name == name)))
            .count()
    }

    /// From now on nothing changes, and what the server counts has to be what there is.
    pub(in crate::sim) fn judge_stats_from_now_on(&mut self) {
        self.judges_stats = true;
    }

    pub(in crate::sim) fn stop_judging_stats(&mut self) {
        self.judges_stats = false;
    }

    /// The server has said how many jobs there are.
    pub(super) fn says_stats(&mut self, stats: &Stats) {
        // What has just become durable may be on its way to a worker, behind a read of its record.
        let may_change = self.now < self.stored_at + 2 * SECOND;
        if !self.judges_stats || !self.is_at_rest() || may_change {
            return;
        }
        self.stats_judged += 1;
        let names: BTreeSet<String> = self.jobs.values().map(|job| job.name.clone()).collect();
        for name in names {
            let said = stats.names.iter().find(|stats| stats.name == name);
            let said = said.cloned().unwrap_or_default();
            let live = self
                .jobs
                .values()
                .filter(|job| job.name == name && job.ended.is_none());
            // An attempt that ran out of its time may have failed a moment ago, and waits for its next one: for how long is
            // known within bounds.
            let waits = live.clone().filter(|job| job.wait.is_some());
            let (waits, live) = (waits.count() as u64, live.count() as u64);
            let out = self.out_of(Some(&name)) as u64;
            let mut is_right = said.scheduled <= waits
                && (said.scheduled + said.queued, said.processing) == (live.saturating_sub(out), out);
            for (status, said) in [
                (Status::Completed, said.completed),
                (Status::Failed, said.failed),
                (Status::Cancelled, said.cancelled),
            ] {
                let ended = self.jobs.iter().filter(|(_, job)| {
                    job.name == name && job.ended.is_some_and(|(ended, ..)| ended == status)
                });
                let (all, gone) = ended.fold((0, 0), |(all, gone), (id, _)| {
                    (all + 1, gone + u64::from(self.may_be_gone(*id)))
                });
                is_right &= (all - gone..=all).contains(&said);
            }
            if !is_right {
                self.wrong(format!(
                    "nothing changes, {live} jobs of {name} have not ended, {out} are out, and the server counts {said:?}"
                ));
            }
        }
    }

    /// Whether the record of a job may be kept no longer.
    pub(super) fn may_be_gone(&self, id: u64) -> bool {
        let Some(job) = self.jobs.get(&id) else {
            return false;
        };
        let Some((_, at, starts)) = job.ended else {
            return false;
        };
        if job.could_go {
            return true;
        }
        let window = At::try_from(self.config.keep.uuid_window().as_micros()).unwrap_or(At::MAX / 2);
        if starts == self.starts {
            self.now >= at + window
        } else {
            self.now >= self.begun + window.min(AFTER_START)
        }
    }

    /// What is on the disk at the end agrees with all that was said and heard.
    pub(in crate::sim) fn judge_end(
        &mut self,
        now: At,
        disk: &MemoryReader,
        live: &[LiveJob],
        names: &[NameTotals],
    ) {
        self.now = now;
        let contents = self.contents(disk, live, names);
        let views: BTreeMap<u64, _> = contents.jobs.iter().map(|job| (job.id, job)).collect();
        let mut wrong = Vec::new();
        for (id, job) in &self.jobs {
            match (views.get(id), job.ended) {
                (None, _) if self.may_be_gone(*id) => {}
                (None, _) => wrong.push(format!("job {id} is gone")),
                (Some(view), Some((status, ..))) if view.status == status => {}
                (Some(view), ended) => {
                    wrong.push(format!(
                        "job {id} is {} on disk, and it should be {ended:?}",
                        view.status
                    ));
                }
            }
        }
        let ledger = self.ledger(&contents);
        wrong.extend(check::kept(&ledger, &contents));
        wrong.extend(check::fences_rise(&ledger));
        wrong.extend(check::ends_stand(&ledger, &contents));
        if let Some(first) = wrong.into_iter().next() {
            self.wrong(first);
        }
    }

    /// What was asked for and told, as a test of processes would have noted it.
    fn ledger(&self, contents: &Contents) -> Ledger {
        let kept: BTreeMap<_, _> = contents.jobs.iter().map(|job| (job.uuid, job)).collect();
        let mut asked = BTreeMap::new();
        for job in self.asked.values().chain(self.disputed.values()) {
            let params = job
                .params
                .clone()
                .unwrap_or(Bytes::from_static(NewJob::NO_PARAMS));
            // Of two jobs under one uuid the first that came counts, whichever that was.
            let counts = kept
                .get(&job.uuid)
                .is_none_or(|kept| kept.params.as_ref() == Some(&params));
            if counts {
                let name = job.name.clone();
                asked.insert(job.uuid, Asked { name, params });
            }
        }
        let acknowledged = self.acknowledged.iter().filter(|(id, _)| !self.may_be_gone(*id));
        let run = |(id, fence): &(u64, _)| HandlerRun {
            id: JobId(*id),
            fence: *fence,
            attempt: 0,
        };
        Ledger {
            asked,
            acknowledged: acknowledged.map(|(id, uuid)| (JobId(*id), *uuid)).collect(),
            taken: BTreeSet::new(),
            runs: self.ordered.iter().map(run).collect(),
            ends: self
                .told_ends
                .iter()
                .filter(|(id, _)| !self.may_be_gone(**id))
                .map(|(id, status)| (JobId(*id), *status))
                .collect(),
        }
    }

    fn contents(&self, disk: &MemoryReader, live: &[LiveJob], names: &[NameTotals]) -> Contents {
        let mut jobs = Vec::new();
        let mut before = None;
        loop {
            let filter = Filter {
                before,
                limit: PAGE,
                ..Filter::default()
            };
            let query = Query {
                select: Select::Page(filter),
                only: jobq_server::access::NamePatterns::all(),
                params: true,
                result: false,
                runs: false,
                max_bytes: usize::MAX,
                now: Wall(self.wall),
                max_attempts: 20,
                patience: Duration::MAX,
            };
            let ReadAnswer::Query(page) = disk.answer(&Read::Query(query)) else {
                break;
            };
            jobs.extend(page.jobs);
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        let of = |name: &NameTotals| name.completed + name.failed + name.cancelled;
        let ended = jobs.iter().filter(|job| job.status.is_terminal()).count();
        Contents {
            jobs,
            live: live.iter().map(|job| job.id).collect(),
            ended: names.iter().map(of).sum(),
            ended_rows: ended as u64,
            runs: BTreeMap::<_, RunStatus>::new(),
            integrity: "ok".to_owned(),
        }
    }
}
