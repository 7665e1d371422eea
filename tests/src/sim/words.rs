//! Messages and batches in few words, for the trace.

use std::fmt::Write;

use jobq_proto::message::{Receipt, RunRef, SettleOutcome};
use jobq_proto::{ClientMessage, Fence, JobId, ServerMessage};
use jobq_server::store::{Batch, Change, InsertOutcome, Read, Stored};

/// A message to the server.
pub(super) fn to_server(message: &ServerMessage) -> String {
    use ServerMessage as M;
    match message {
        M::Hello(hello) => format!(
            "Hello {}{}",
            hello.label,
            match &hello.resume {
                Some(resume) => format!(", back as session {}", resume.session),
                None => String::new(),
            }
        ),
        M::Request(request) => {
            let mut text = format!("Request {}:", request.request);
            for job in &request.jobs {
                let _ = write!(text, " {}({})", job.uuid.as_u128(), job.name);
                if let Some(priority) = &job.priority {
                    let _ = write!(text, "!{priority}");
                }
                if let Some(at) = job.run_at {
                    let _ = write!(text, "@{at}");
                }
                if let Some(delay) = job.delay {
                    let _ = write!(text, "+{delay}");
                }
            }
            text
        }
        M::Credit(credit) => format!("Credit {:?} {:?}", credit.jobs, credit.names),
        M::Started(started) => format!("Started{}", runs(&started.runs)),
        M::Progress(progress) => format!("Progress of {}", progress.runs.len()),
        M::Completed(completed) => {
            let each = completed.runs.iter().map(|run| one(run.id, run.fence));
            format!("Completed{}", each.collect::<String>())
        }
        M::Failed(failed) => {
            let each = failed.runs.iter().map(|run| {
                let how = match (run.never, run.after) {
                    (true, _) => " never".to_owned(),
                    (false, Some(after)) => format!(" after {after}"),
                    (false, None) => String::new(),
                };
                one(run.id, run.fence) + &how
            });
            format!("Failed{}", each.collect::<String>())
        }
        M::Released(released) => format!("Released{}", runs(&released.runs)),
        M::Holding(holding) => {
            let each = holding
                .runs
                .iter()
                .map(|run| format!("{}:{:?}", one(run.id, run.fence), run.state));
            format!("Holding{}", each.collect::<String>())
        }
        M::Beat(beat) => format!("Beat {}", beat.seq),
        M::Cancel(cancel) => format!("Cancel {}: {:?}", cancel.request, cancel.ids),
        M::Retry(retry) => format!("Retry {}: {:?}", retry.request, retry.ids),
        M::Watch(watch) => format!("Watch {}: {:?}", watch.request, watch.ids),
        other => format!("{other:?}"),
    }
}

/// A message from the server.
pub(super) fn from_server(message: &ClientMessage) -> String {
    use ClientMessage as M;
    match message {
        M::Hello(welcome) => format!(
            "Hello, session {}{}",
            welcome.session,
            if welcome.resumed { " resumed" } else { "" }
        ),
        M::Acknowledged(answer) => {
            format!("Acknowledged {}:{}", answer.request, receipts(&answer.jobs))
        }
        M::Order(order) => {
            let each = order
                .jobs
                .iter()
                .map(|job| format!("{}({} try {})", one(job.id, job.fence), job.name, job.attempt));
            format!("Order{}", each.collect::<String>())
        }
        M::Settled(settled) => {
            let each = settled.runs.iter().map(|run| {
                let how = match run.outcome {
                    SettleOutcome::Applied => "",
                    SettleOutcome::AlreadyApplied => " already",
                    SettleOutcome::Stale => " STALE",
                    _ => " unknown",
                };
                one(run.id, run.fence) + how
            });
            format!("Settled{}", each.collect::<String>())
        }
        M::Cancel(cancel) => format!("Cancel{}", runs(&cancel.runs)),
        M::Ended(ended) => {
            let each = ended
                .jobs
                .iter()
                .map(|job| format!(" {}={:?}", job.id, job.status));
            format!("Ended {}:{}", ended.request, each.collect::<String>())
        }
        M::Jobs(jobs) => {
            let each = jobs.jobs.iter().map(|job| format!(" {}={}", job.id, job.status));
            format!("Jobs {}:{}", jobs.request, each.collect::<String>())
        }
        M::Retried(retried) => format!("Retried {}:{}", retried.request, receipts(&retried.jobs)),
        M::Refused(refused) => format!("Refused {}: {}", refused.request, refused.error.code),
        M::Error(last) => format!("Error: {}", last.error),
        M::Stats(stats) => format!("Stats {:?}", stats.total),
        other => format!("{other:?}"),
    }
}

/// What a batch changes.
pub(super) fn batch(batch: &Batch) -> String {
    let mut text = format!("batch {}:", batch.number);
    for change in &batch.changes {
        let _ = match change {
            Change::Insert { record, due } => {
                write!(
                    text,
                    " insert {} ({}) due {}",
                    record.id,
                    record.uuid.as_u128(),
                    due.0
                )
            }
            Change::Find { record } => write!(text, " find {}", record.uuid.as_u128()),
            Change::Leased(leased) => {
                let started = if leased.started { "started" } else { "leased" };
                write!(text, " {started} {}", one(leased.id.0, leased.fence))
            }
            Change::Requeued(back) => {
                write!(text, " requeued {} {:?}", one(back.id.0, back.fence), back.end)
            }
            Change::Ended(ended) => write!(text, " {} {} {:?}", ended.status, ended.id, ended.run),
            Change::CancelMarked { id } => write!(text, " cancelling {id}"),
            Change::SessionOpened(session) => write!(text, " session {}", session.id.0),
            Change::SessionClosed { id } => write!(text, " session {} over", id.0),
        };
    }
    text
}

/// A question to the store.
pub(super) fn read(read: &Read) -> String {
    match read {
        Read::Records(ids) => format!("for the records of {}", ids_of(ids)),
        Read::States { ids, .. } => format!("where {} stand", ids_of(ids)),
        Read::Runs(runs) => {
            let each = runs.iter().map(|(id, fence)| one(id.0, *fence));
            format!("how these ended:{}", each.collect::<String>())
        }
        Read::Query(_) => "what somebody wants to see".to_owned(),
        Read::BackupPart { offset, .. } => format!("for the part of a backup from {offset} on"),
    }
}

fn ids_of(ids: &[JobId]) -> String {
    let each: Vec<String> = ids.iter().map(JobId::to_string).collect();
    each.join(" ")
}

/// What became of a batch.
pub(super) fn stored(stored: &Stored) -> String {
    let mut text = format!("stored {}", stored.number);
    for outcome in &stored.inserts {
        let _ = match outcome {
            InsertOutcome::Inserted => write!(text, " new"),
            InsertOutcome::Existing(id) => write!(text, " known as {id}"),
            InsertOutcome::Conflict(id) => write!(text, " conflict with {id}"),
            InsertOutcome::NoRoom => write!(text, " no room"),
        };
    }
    text
}

fn one(id: u64, fence: Fence) -> String {
    format!(" {id}/{fence}")
}

fn runs(runs: &[RunRef]) -> String {
    runs.iter().map(|run| one(run.id, run.fence)).collect()
}

fn receipts(receipts: &[Receipt]) -> String {
    let each = receipts
        .iter()
        .map(|receipt| match (&receipt.id, &receipt.error) {
            (Some(id), _) if receipt.existing => format!(" {id} again"),
            (Some(id), _) => format!(" {id}"),
            (None, Some(error)) => format!(" {}", error.code),
            (None, None) => " nothing".to_owned(),
        });
    each.collect()
}
