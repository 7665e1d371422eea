//! What was promised, against what the store holds. Each function gives one line for each thing that is wrong.

use std::collections::{BTreeMap, BTreeSet};

use jobq_proto::message::JobView;
use jobq_proto::{Fence, JobId, Status};
use jobq_server::store::{RunEnd, RunStatus};
use uuid::Uuid;

use crate::contents::Contents;
use crate::history::Ledger;

/// Workers lost in a row, after which a job fails.
const MAX_CHARGES: u32 = 3;

/// Most lines that a failed test shows.
const SHOWN: usize = 20;

/// Fails if anything is wrong.
///
/// # Panics
/// With what is wrong.
#[track_caller]
pub fn assert_none(wrong: &[String]) {
    let shown = &wrong[..wrong.len().min(SHOWN)];
    assert!(
        wrong.is_empty(),
        "{} things are wrong:\n  {}",
        wrong.len(),
        shown.join("\n  ")
    );
}

/// Every acknowledged job is there, once, as it was asked for; nothing is there that was not asked for; and the
/// store agrees with itself.
pub fn kept(ledger: &Ledger, contents: &Contents) -> Vec<String> {
    let mut wrong = sound(contents);
    wrong.extend(acknowledged_once(ledger));
    let by_id: BTreeMap<JobId, &JobView> = contents.jobs.iter().map(|job| (JobId(job.id), job)).collect();
    for (id, uuid) in &ledger.acknowledged {
        match by_id.get(id) {
            None => wrong.push(format!("job {id} was acknowledged and is lost")),
            Some(job) if job.uuid != *uuid => wrong.push(format!(
                "job {id} was acknowledged as {uuid}, and is {} in the store",
                job.uuid
            )),
            Some(_) => {}
        }
    }
    let uuids: BTreeSet<Uuid> = contents.jobs.iter().map(|job| job.uuid).collect();
    let lost = ledger.taken.iter().filter(|uuid| !uuids.contains(uuid));
    wrong.extend(lost.map(|uuid| format!("{uuid} was acknowledged and is lost")));
    for job in &contents.jobs {
        match ledger.asked.get(&job.uuid) {
            None => wrong.push(format!("job {} is there, and nobody asked for it", job.id)),
            Some(asked) if asked.name != job.name || Some(&asked.params) != job.params.as_ref() => {
                wrong.push(format!("job {} is not what was asked for", job.id));
            }
            Some(_) => {}
        }
    }
    wrong
}

/// Every job has ended well, unless it took as many workers down in a row as it may.
pub fn ended(contents: &Contents) -> Vec<String> {
    let mut wrong = Vec::new();
    for job in &contents.jobs {
        let reason = job.reason.as_deref().unwrap_or("no reason");
        match job.status {
            Status::Completed => {}
            Status::Failed if job.charges >= MAX_CHARGES => {}
            status if status.is_terminal() => wrong.push(format!(
                "job {} is {status} ({reason}) after {} lost workers in a row",
                job.id, job.charges
            )),
            status => wrong.push(format!("job {} has not ended: it is {status}", job.id)),
        }
    }
    wrong
}

/// No fence was given twice, a job's later runs have greater ones, no job completed twice, the run that counts is
/// one that was seen, and the store knows how each other one ended.
pub fn runs_accounted(ledger: &Ledger, contents: &Contents) -> Vec<String> {
    let mut wrong = settled_once(ledger, contents);
    for (id, fence) in seen(ledger) {
        if contents.runs.get(&(id, fence)) == Some(&RunStatus::Unknown) {
            wrong.push(format!("the end of run {fence} of job {id} is not recorded"));
        }
    }
    wrong
}

/// As [`runs_accounted`], where a worker may have died together with its server: the end of a run that was never on
/// record is not either.
pub fn settled_once(ledger: &Ledger, contents: &Contents) -> Vec<String> {
    let mut wrong = fences_rise(ledger);
    let seen = seen(ledger);
    let mut final_run = BTreeMap::new();
    for job in &contents.jobs {
        let (id, Some(fence)) = (JobId(job.id), job.fence) else {
            continue;
        };
        final_run.insert(id, fence);
        if job.status == Status::Completed && !seen.contains(&(id, fence)) {
            wrong.push(format!(
                "job {id} completed by run {fence}, and no handler was called for that"
            ));
        }
    }
    for (id, fence) in seen {
        let last = final_run.get(&id) == Some(&fence);
        match contents.runs.get(&(id, fence)) {
            None | Some(RunStatus::NoJob) => wrong.push(format!("the store knows no job {id}, which ran")),
            Some(RunStatus::Ended(RunEnd::Completed)) if !last => {
                wrong.push(format!("job {id} completed by run {fence} and by another"));
            }
            Some(RunStatus::Ended(_) | RunStatus::Unknown) => {}
        }
    }
    wrong
}

/// What a client was told of a job's end is what the store says: an end is final.
pub fn ends_stand(ledger: &Ledger, contents: &Contents) -> Vec<String> {
    let statuses: BTreeMap<u64, Status> = contents.jobs.iter().map(|job| (job.id, job.status)).collect();
    let differs = |(id, told): &(JobId, Status)| match statuses.get(&id.0) {
        Some(status) if status == told => None,
        Some(status) => Some(format!("job {id} was said to be {told}, and is {status}")),
        None => Some(format!("job {id} was said to be {told}, and is lost")),
    };
    ledger.ends.iter().filter_map(differs).collect()
}

/// Of several runs of a job, the last one counts: the others were lost, and what they said later was refused.
pub fn last_runs_count(ledger: &Ledger, contents: &Contents) -> Vec<String> {
    let last: BTreeMap<JobId, Fence> = seen(ledger).into_iter().collect();
    let other = |job: &JobView| {
        let last = last.get(&JobId(job.id))?;
        let counts = job.fence.filter(|fence| fence != last)?;
        Some(format!(
            "job {} ran last as {last}, and run {counts} counts",
            job.id
        ))
    };
    contents.jobs.iter().filter_map(other).collect()
}

/// No fence was given twice, and a job's later runs have greater ones.
pub fn fences_rise(ledger: &Ledger) -> Vec<String> {
    let mut given: BTreeMap<Fence, JobId> = BTreeMap::new();
    let mut last: BTreeMap<JobId, Fence> = BTreeMap::new();
    let mut wrong = Vec::new();
    for run in &ledger.runs {
        if let Some(other) = given.insert(run.fence, run.id) {
            wrong.push(format!(
                "the fence {} was given to job {other} and to job {}",
                run.fence, run.id
            ));
        }
        let before = last
            .insert(run.id, run.fence)
            .filter(|before| *before > run.fence);
        wrong.extend(
            before.map(|before| format!("job {} ran as {before} and later as {}", run.id, run.fence)),
        );
    }
    wrong
}

/// One handler was called for each job, once, and its run is the one that counts.
pub fn ran_once(ledger: &Ledger, contents: &Contents) -> Vec<String> {
    let mut runs: BTreeMap<JobId, Vec<Fence>> = BTreeMap::new();
    for run in &ledger.runs {
        runs.entry(run.id).or_default().push(run.fence);
    }
    let mut wrong = Vec::new();
    for job in &contents.jobs {
        let runs = runs.remove(&JobId(job.id)).unwrap_or_default();
        let fences: Vec<String> = runs.iter().map(Fence::to_string).collect();
        match runs[..] {
            [] => wrong.push(format!(
                "job {} is {}, and no handler was called",
                job.id, job.status
            )),
            [only] if job.fence != Some(only) => {
                wrong.push(format!(
                    "job {} ran as {only}, and the store says {:?}",
                    job.id, job.fence
                ));
            }
            [_] => {}
            _ => wrong.push(format!(
                "job {} ran more than once: as {}",
                job.id,
                fences.join(", ")
            )),
        }
        if job.attempts != 1 {
            wrong.push(format!("job {} has {} attempts on record", job.id, job.attempts));
        }
    }
    wrong.extend(runs.keys().map(|id| format!("job {id} ran, and is not there")));
    wrong
}

/// How many jobs were acknowledged and are not there. [`kept`] says which.
pub fn count_lost(ledger: &Ledger, contents: &Contents) -> usize {
    let uuids: BTreeSet<Uuid> = contents.jobs.iter().map(|job| job.uuid).collect();
    acknowledged(ledger).difference(&uuids).count()
}

/// How many jobs completed by more than one of their runs. [`settled_once`] says which.
pub fn count_twice(ledger: &Ledger, contents: &Contents) -> usize {
    let mut completed: BTreeMap<JobId, usize> = BTreeMap::new();
    for run in seen(ledger) {
        if contents.runs.get(&run) == Some(&RunStatus::Ended(RunEnd::Completed)) {
            *completed.entry(run.0).or_default() += 1;
        }
    }
    completed.values().filter(|runs| **runs > 1).count()
}

/// The jobs that were acknowledged in one way or the other.
pub fn acknowledged(ledger: &Ledger) -> BTreeSet<Uuid> {
    let numbered = ledger.acknowledged.iter().map(|(_, uuid)| *uuid);
    numbered.chain(ledger.taken.iter().copied()).collect()
}

/// The runs for which handlers were called.
fn seen(ledger: &Ledger) -> BTreeSet<(JobId, Fence)> {
    ledger.runs.iter().map(|run| (run.id, run.fence)).collect()
}

fn sound(contents: &Contents) -> Vec<String> {
    let mut wrong = Vec::new();
    if contents.integrity != "ok" {
        wrong.push(format!("the database is damaged: {}", contents.integrity));
    }
    let mut ids = BTreeSet::new();
    let mut uuids = BTreeSet::new();
    let mut ended = 0;
    for job in &contents.jobs {
        if !ids.insert(job.id) {
            wrong.push(format!("there are two jobs {}", job.id));
        }
        if !uuids.insert(job.uuid) {
            wrong.push(format!("there are two jobs with the uuid {}", job.uuid));
        }
        ended += u64::from(job.status.is_terminal());
        if job.status.is_terminal() == contents.live.contains(&JobId(job.id)) {
            wrong.push(format!(
                "job {} is {}, and the next server would see that otherwise",
                job.id, job.status
            ));
        }
    }
    wrong.extend(
        contents
            .live
            .iter()
            .filter(|id| !ids.contains(&id.0))
            .map(|id| format!("job {id} is live, and what was asked for is lost")),
    );
    for (what, count) in [("sums", contents.ended), ("records", contents.ended_rows)] {
        if count != ended {
            wrong.push(format!(
                "{ended} jobs have ended, and by the store's {what} it is {count}"
            ));
        }
    }
    wrong
}

fn acknowledged_once(ledger: &Ledger) -> Vec<String> {
    let mut uuids: BTreeMap<JobId, Uuid> = BTreeMap::new();
    let mut ids: BTreeMap<Uuid, JobId> = BTreeMap::new();
    let mut wrong = Vec::new();
    for &(id, uuid) in &ledger.acknowledged {
        let other = uuids.insert(id, uuid).filter(|other| *other != uuid);
        wrong.extend(other.map(|other| format!("job {id} was acknowledged for {other} and for {uuid}")));
        let other = ids.insert(uuid, id).filter(|other| *other != id);
        wrong.extend(other.map(|other| format!("{uuid} was acknowledged as job {other} and as job {id}")));
        if !ledger.asked.contains_key(&uuid) {
            wrong.push(format!("{uuid} was acknowledged, and nobody asked for it"));
        }
    }
    wrong
}

#[cfg(test)]
mod tests;
