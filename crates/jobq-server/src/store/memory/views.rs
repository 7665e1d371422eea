//! Answers from what a memory disk holds.

use std::convert::Infallible;

use bytes::Bytes;
use jobq_proto::message::{EndedRun, JobView};
use jobq_proto::{Fence, JobId, Status, job};

use super::contents::{Contents, Job, PastRun, Standing};
use crate::store::budget::Budget;
use crate::store::{Answer, JobState, Query, Read, ReadAnswer, RunStatus, Select};

/// How many jobs a page looks at, before it leaves the rest to the next one: they are behind a lock.
const PAGE_LOOKS: usize = 100_000;

impl Contents {
    pub(super) fn answer(&self, read: &Read) -> ReadAnswer {
        match read {
            Read::Records(ids) => ReadAnswer::Records(
                ids.iter()
                    .map(|id| self.jobs.get(id).map(|job| job.record.clone()))
                    .collect(),
            ),
            Read::States { ids, result_bytes } => {
                let mut left = *result_bytes;
                let state = |id| self.jobs.get(id).map(|job| job.state(&mut left));
                ReadAnswer::States(ids.iter().map(state).collect())
            }
            Read::Runs(runs) => ReadAnswer::Runs(
                runs.iter()
                    .map(|(id, fence)| match self.jobs.get(id) {
                        None => RunStatus::NoJob,
                        Some(job) => job.run_status(*fence),
                    })
                    .collect(),
            ),
            Read::Query(query) => ReadAnswer::Query(self.query(query)),
            Read::BackupPart { .. } => ReadAnswer::BackupPart(None),
        }
    }

    fn query(&self, query: &Query) -> Answer {
        match &query.select {
            Select::Ids(ids) => self.listed(query, ids.iter().copied()),
            Select::Uuids(uuids) => self.listed(
                query,
                uuids.iter().filter_map(|uuid| self.uuids.get(uuid)).copied(),
            ),
            Select::Page(filter) => {
                let before = filter.before.unwrap_or(JobId(u64::MAX));
                let mut budget = Budget::new(query.max_bytes, filter.limit);
                for (looks, (id, job)) in self.jobs.range(..before).rev().enumerate() {
                    if looks == PAGE_LOOKS {
                        return budget.into_answer(Some(JobId(id.0 + 1)));
                    }
                    if !query.only.match_name(job.record.name.as_str()) {
                        continue;
                    }
                    let view = job.view(query);
                    if filter.matches(&view) && !budget.take(view) {
                        break;
                    }
                }
                budget.into_answer(None)
            }
        }
    }

    fn listed(&self, query: &Query, ids: impl Iterator<Item = JobId>) -> Answer {
        let mut budget = Budget::new(query.max_bytes, usize::MAX);
        let jobs = ids.filter_map(|id| self.jobs.get(&id));
        for job in jobs.filter(|job| query.only.match_name(job.record.name.as_str())) {
            if !budget.take(job.view(query)) {
                break;
            }
        }
        budget.into_answer(None)
    }
}

impl Job {
    /// Where it stands, with its result if that has at most `result_bytes`, which then shrink by it.
    fn state(&self, result_bytes: &mut u64) -> JobState {
        match &self.standing {
            Standing::Live(live) => JobState::Live {
                job: live.describe(&self.record),
                policy: self.record.policy,
                floor: live.floor.map(|(fence, _)| fence),
            },
            Standing::Ended { ended, .. } => {
                let rest = |result: &Bytes| result_bytes.checked_sub(result.len() as u64);
                let left = ended.result.as_ref().map(rest);
                if let Some(Some(left)) = left {
                    *result_bytes = left;
                }
                JobState::Ended {
                    name: self.record.name.clone(),
                    status: ended.status,
                    reason: ended.reason.clone(),
                    result: ended.result.clone().filter(|_| left != Some(None)),
                    omitted: left == Some(None),
                }
            }
        }
    }

    fn run_status(&self, fence: Fence) -> RunStatus {
        let last = match &self.standing {
            Standing::Live(live) => live.floor,
            Standing::Ended { ended, .. } => ended.run,
        };
        last.filter(|(last, _)| *last == fence)
            .map(|(_, end)| end)
            .or_else(|| self.runs.get(&fence).map(|run| run.end))
            .map_or(RunStatus::Unknown, RunStatus::Ended)
    }

    fn view(&self, query: &Query) -> JobView {
        let record = &self.record;
        let mut view = JobView {
            id: record.id.0,
            uuid: record.uuid,
            name: record.name.as_str().to_owned(),
            username: record.username.clone().map(String::from),
            priority: record.priority.as_str().to_owned(),
            status: Status::Queued,
            created: record.created.0,
            due: record.created.0,
            started: None,
            ended: None,
            ran: None,
            attempts: 0,
            max_attempts: record.policy.max_attempts.map_or(query.max_attempts, u32::from),
            charges: 0,
            fence: None,
            cancelling: false,
            reason: None,
            retry_of: record.retry_of.map(|id| id.0),
            params_bytes: record.params.len() as u64,
            params: query.params.then(|| record.params.clone()),
            result: None,
            progress: None,
            runs: Vec::new(),
        };
        match &self.standing {
            Standing::Live(live) => {
                view.status = match live.lease {
                    Some(_) => Status::Processing,
                    None if live.due > query.now && live.due != record.created => Status::Scheduled,
                    None => Status::Queued,
                };
                view.due = live.due.0;
                view.started = live.lease.map(|lease| lease.at.0);
                view.attempts = live.attempts;
                view.charges = live.charges;
                view.fence = live
                    .lease
                    .map(|lease| lease.fence)
                    .or(live.floor.map(|(fence, _)| fence));
                view.cancelling = live.cancelling;
                view.reason = self.runs.values().rev().find_map(|run| run.reason.clone());
            }
            Standing::Ended { due, ended } => {
                view.status = ended.status;
                view.due = due.0;
                view.started = ended.started.map(|at| at.0);
                view.ended = Some(ended.at.0);
                view.ran = ended.ran.map(job::micros);
                view.attempts = ended.attempts;
                view.charges = ended.charges;
                view.fence = ended.run.map(|(fence, _)| fence);
                view.reason = ended.reason.clone();
                view.result = ended.result.clone().filter(|_| query.result);
            }
        }
        if query.runs {
            let latest_first = self.runs.iter().rev().map(|(fence, run)| Ok(run.view(*fence)));
            view.runs = Budget::runs_that_fit(query.max_bytes, &view, latest_first)
                .unwrap_or_else(|error: Infallible| match error {});
        }
        view
    }
}

impl PastRun {
    fn view(&self, fence: Fence) -> EndedRun {
        EndedRun {
            fence,
            end: self.end.as_str().to_owned(),
            at: self.at.0,
            reason: self.reason.clone(),
        }
    }
}
