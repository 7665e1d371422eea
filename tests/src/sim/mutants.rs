//! Worlds in which the product does wrong, so that one sees that it would be noticed.
//!
//! A mutant stands between the machine and everybody else: it changes what the machine hears, says, or is told of the
//! time and of the disk. So it breaks a promise as a defect in the machine would, and no switch for it is in the product.

use std::sync::Arc;

use jobq_proto::{ClientMessage, ServerMessage};
use jobq_server::store::{Batch, Change, JobRecord};

use super::agenda::ConnId;
use super::ctx::Ctx;

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutant {
    /// Batches are reported as durable before they are.
    AcknowledgeBeforeSync,
    /// A report under a fence that is over counts for the run that is current.
    SkipFenceCheck,
    /// A run has ended, and its place under the caps stays taken.
    LeakCapSlot,
    /// A run that its worker names when it comes back is given away.
    DropResumedRun,
    /// Jobs are handed out before their time.
    StartBeforeRunAt,
    /// A job that is to be tried again is not.
    ForgetRetry,
    /// A job goes before others that were there first.
    BreakOrder,
    /// A worker is given more than it wants to hold.
    ExceedCredit,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Mutant; 8] = [
        Mutant::AcknowledgeBeforeSync,
        Mutant::SkipFenceCheck,
        Mutant::LeakCapSlot,
        Mutant::DropResumedRun,
        Mutant::StartBeforeRunAt,
        Mutant::ForgetRetry,
        Mutant::BreakOrder,
        Mutant::ExceedCredit,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Mutant::AcknowledgeBeforeSync => "acknowledge-before-sync",
            Mutant::SkipFenceCheck => "skip-fence-check",
            Mutant::LeakCapSlot => "leak-cap-slot",
            Mutant::DropResumedRun => "drop-resumed-run",
            Mutant::StartBeforeRunAt => "start-before-run-at",
            Mutant::ForgetRetry => "forget-retry",
            Mutant::BreakOrder => "break-order",
            Mutant::ExceedCredit => "exceed-credit",
        }
    }
}

/// By how much the machine's calendar is ahead of the true one, in microseconds.
pub(super) fn calendar_ahead(mutant: Option<Mutant>) -> i64 {
    if mutant == Some(Mutant::StartBeforeRunAt) {
        3_000_000
    } else {
        0
    }
}

/// What the machine hears instead of a message.
pub(super) fn hear(ctx: &mut Ctx, peer: ConnId, message: ServerMessage) -> Vec<(ConnId, ServerMessage)> {
    let Some(mutant) = ctx.mutant else {
        return vec![(peer, message)];
    };
    let message = match (mutant, message) {
        (Mutant::DropResumedRun, ServerMessage::Holding(mut holding)) => {
            holding.runs.clear();
            ServerMessage::Holding(holding)
        }
        (Mutant::ForgetRetry, ServerMessage::Failed(mut failed)) => {
            failed.runs.iter_mut().for_each(|run| run.never = true);
            ServerMessage::Failed(failed)
        }
        (Mutant::BreakOrder, ServerMessage::Request(mut request)) => {
            for job in &mut request.jobs {
                if job.uuid.as_u128().is_multiple_of(5) {
                    job.priority = Some("High".to_owned());
                }
            }
            ServerMessage::Request(request)
        }
        (Mutant::ExceedCredit, ServerMessage::Hello(mut hello)) => {
            if let Some(work) = &mut hello.work {
                work.jobs += 1;
                work.names.iter_mut().for_each(|name| name.jobs += 1);
            }
            ServerMessage::Hello(hello)
        }
        (Mutant::SkipFenceCheck, ServerMessage::Completed(completed)) => {
            return forge(ctx, peer, completed);
        }
        (Mutant::LeakCapSlot, ServerMessage::Completed(completed)) => return leak(peer, completed),
        (_, message) => message,
    };
    vec![(peer, message)]
}

/// What is written down instead of what a machine of a mutant's world writes down: the priority that was asked for, so
/// that only the order in which jobs are handed out is wrong.
pub(super) fn write(ctx: &Ctx, mut batch: Batch) -> Batch {
    if ctx.mutant != Some(Mutant::BreakOrder) {
        return batch;
    }
    for change in &mut batch.changes {
        if let Change::Insert { record, .. } | Change::Find { record } = change
            && let Some(priority) = ctx.model.priority_of(record.uuid)
        {
            let right = JobRecord {
                priority,
                ..(**record).clone()
            };
            *record = Arc::new(right);
        }
    }
    batch
}

/// What is said instead of a message of the machine.
pub(super) fn say(ctx: &mut Ctx, peer: ConnId, message: ClientMessage) -> Vec<(ConnId, ClientMessage)> {
    let (Some(Mutant::SkipFenceCheck), ClientMessage::Settled(mut settled)) = (ctx.mutant, message.clone())
    else {
        return vec![(peer, message)];
    };
    let mut said = Vec::new();
    settled
        .runs
        .retain(|run| match ctx.model.forged.remove(&run.fence) {
            Some((liar, fence)) => {
                let mut told = *run;
                told.fence = fence;
                said.push((liar, told));
                false
            }
            None => true,
        });
    let mut all = vec![(peer, ClientMessage::Settled(settled))];
    for (liar, told) in said {
        let runs = vec![told];
        all.push((
            liar,
            ClientMessage::Settled(jobq_proto::message::Settled { runs }),
        ));
    }
    all
}

/// A report on a run that is over is taken for one on the job's current run, whoever has that.
fn forge(
    ctx: &mut Ctx,
    peer: ConnId,
    mut completed: jobq_proto::message::Completed,
) -> Vec<(ConnId, ServerMessage)> {
    let mut heard = Vec::new();
    completed.runs.retain(|run| {
        let Some((fence, holder)) = ctx
            .model
            .current_run(run.id)
            .filter(|(fence, _)| *fence != run.fence)
        else {
            return true;
        };
        ctx.model.forged.insert(fence, (peer, run.fence));
        let mut forged = run.clone();
        forged.fence = fence;
        let runs = vec![forged];
        heard.push((
            holder,
            ServerMessage::Completed(jobq_proto::message::Completed { runs }),
        ));
        false
    });
    heard.push((peer, ServerMessage::Completed(completed)));
    heard
}

/// Every tenth report is lost within the server, which answers it nevertheless.
fn leak(peer: ConnId, mut completed: jobq_proto::message::Completed) -> Vec<(ConnId, ServerMessage)> {
    completed.runs.retain(|run| !run.fence.seq.is_multiple_of(10));
    vec![(peer, ServerMessage::Completed(completed))]
}
