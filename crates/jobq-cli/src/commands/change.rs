//! Changing many jobs, by their numbers or by a filter: what `cancel` and `retry` have in common.
//!
//! A filter is turned into numbers first, then counted and confirmed, and only then carried out: what was agreed to
//! is what is done, whatever arrives meanwhile.

use anyhow::{Context, anyhow};
use futures::TryStreamExt;
use jobq_client::{AskError, Client, JobId, Status};
use serde_json::Value;

use super::selection::Selection;
use crate::cli::Global;
use crate::connect::unanswered;
use crate::exit::Exit;
use crate::output::{self, Output, OutputClosed, count, note};
use crate::progress::{self, Line};
use crate::signals::Signals;

/// Jobs that are changed at a time; an interruption waits for them.
const CHUNK: usize = 1_000;

/// Most jobs that one filter may change: their numbers are in memory.
const MAX_JOBS: usize = 10_000_000;

/// Which jobs to change.
#[derive(Debug, clap::Args)]
pub(super) struct Targets {
    /// The jobs' numbers
    #[arg(value_name = "ID", value_parser = crate::values::number::<u64>(1..), conflicts_with_all = ["status", "name", "username", "since", "until", "reason"])]
    ids: Vec<u64>,
    #[command(flatten)]
    selection: Selection,
    /// Do not ask before changing the jobs that match
    #[arg(long, short = 'y')]
    yes: bool,
    /// Write JSON, one job a line
    #[arg(long)]
    json: bool,
}

/// One way of changing jobs.
pub(super) trait Change {
    /// What it does, for sentences such as "failed to cancel jobs".
    const VERB: &'static str;
    /// The statuses in which it can change a job.
    const STATUSES: &'static [Status];
    /// Those that a filter without a status means.
    const MEANT: &'static [Status];

    /// What a question about many adds to their number.
    const REMARK: &'static str = "";
    /// The outcome that a sum of many names first, also if there is none, where there is such.
    const FIRST: Option<&'static str> = None;

    /// Changes some jobs; one answer for each, in order.
    async fn change(client: &Client, ids: &[JobId]) -> Result<Vec<Changed>, AskError>;
}

/// What became of one job.
pub(super) struct Changed {
    /// What a sum of many calls it; those that count as done come from a fixed set.
    pub(super) outcome: &'static str,
    /// It is as was asked for.
    pub(super) done: bool,
    /// For people.
    pub(super) says: String,
    /// For programs.
    pub(super) object: Value,
}

pub(super) async fn run<C: Change>(targets: Targets, global: &Global) -> anyhow::Result<Exit> {
    let failed = || format!("failed to {} jobs", C::VERB);
    targets
        .check::<C>()
        .map_err(|error| Exit::Usage.because(error))
        .with_context(failed)?;
    let mut signals = Signals::new()?;
    let client = global.connect().await.with_context(failed)?;
    let found = tokio::select! {
        found = targets.find::<C>(&client) => found,
        // Nothing has been changed yet.
        () = signals.recv() => return Ok(Exit::Interrupted),
    };
    let changed = match found {
        Ok(Some(ids)) => carry_out::<C>(&client, &ids, &targets, &mut signals).await,
        Ok(None) => Ok(Exit::Ok),
        Err(error) => Err(error),
    };
    client.close().await;
    changed.with_context(failed)
}

impl Targets {
    fn check<C: Change>(&self) -> anyhow::Result<()> {
        if self.ids.is_empty() && self.selection.is_empty() {
            return Err(anyhow!(
                "no jobs are named; give their numbers, or say which by --name, --status and the other filters"
            ));
        }
        if let Some(status) = self.selection.status
            && !C::STATUSES.contains(&status)
        {
            let statuses = C::STATUSES.iter().map(|status| status.as_str().to_lowercase());
            return Err(anyhow!(
                "`jobq {}` changes no job that is {}; expected --status {}",
                C::VERB,
                status.as_str().to_lowercase(),
                statuses.collect::<Vec<_>>().join(" or ")
            ));
        }
        Ok(())
    }

    /// The jobs; none if there is nothing to do.
    async fn find<C: Change>(&self, client: &Client) -> anyhow::Result<Option<Vec<JobId>>> {
        if self.selection.is_empty() {
            return Ok(Some(self.ids.iter().copied().map(JobId).collect()));
        }
        let ids = self.matching::<C>(client).await?;
        if ids.is_empty() {
            note("no jobs match");
            return Ok(None);
        }
        if self.yes {
            return Ok(Some(ids));
        }
        let jobs = count(ids.len() as u64, "job");
        if !progress::can_ask() {
            return Err(Exit::Usage.because(anyhow!(
                "{jobs} would be changed, and there is no terminal to ask on; repeat it with --yes"
            )));
        }
        let question = format!("{} {jobs}?{}", C::VERB, C::REMARK);
        let agreed = tokio::task::spawn_blocking(move || progress::confirm(&question)).await;
        let agreed = agreed.context("the question panicked")?;
        if agreed.context("failed to read the answer")? {
            return Ok(Some(ids));
        }
        note("nothing was changed");
        Ok(None)
    }

    async fn matching<C: Change>(&self, client: &Client) -> anyhow::Result<Vec<JobId>> {
        let line = Line::spinner();
        let statuses = match &self.selection.status {
            Some(status) => std::slice::from_ref(status),
            None => C::MEANT,
        };
        let mut ids = Vec::new();
        for &status in statuses {
            let mut jobs = client.list(self.selection.filter()?.status(status));
            while let Some(job) = jobs.try_next().await.map_err(unanswered)? {
                if ids.len() == MAX_JOBS {
                    return Err(Exit::Usage.because(anyhow!(
                        "more than {MAX_JOBS} jobs match; narrow the filter, by --until for example"
                    )));
                }
                ids.push(JobId(job.id));
                if ids.len().is_multiple_of(CHUNK) {
                    line.say(format!("{} so far", count(ids.len() as u64, "job")));
                }
            }
        }
        // A job may have changed its status between two listings.
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }
}

async fn carry_out<C: Change>(
    client: &Client,
    ids: &[JobId],
    targets: &Targets,
    signals: &mut Signals,
) -> anyhow::Result<Exit> {
    // Nobody reads a line for each of a million jobs that were not named one by one.
    let sums_up = targets.ids.is_empty() && !targets.json;
    let mut sums: Vec<(&'static str, u64)> = C::FIRST.iter().map(|&outcome| (outcome, 0)).collect();
    let mut output = Output::new();
    let mut exit = Exit::Ok;
    let line = Line::steps(ids.len() as u64);
    let mut answered = 0;
    let mut ended = Ok(());
    let mut unread = false;
    for chunk in ids.chunks(CHUNK) {
        let changed = tokio::select! {
            changed = C::change(client, chunk) => changed,
            () = signals.recv() => {
                exit = Exit::Interrupted;
                break;
            }
        };
        let changed = match changed {
            Ok(changed) => changed,
            Err(error) => {
                ended = Err(unanswered(error));
                break;
            }
        };
        answered += changed.len();
        line.at(answered as u64);
        for (id, changed) in chunk.iter().zip(changed) {
            if !changed.done {
                exit = Exit::Partial;
            }
            match sums.iter_mut().find(|sum| sum.0 == changed.outcome) {
                Some(sum) => sum.1 += 1,
                None => sums.push((changed.outcome, 1)),
            }
            let told = match (targets.json, sums_up || unread) {
                (_, true) => Ok(()),
                (true, false) => line.beside(|| output.json(&changed.object)),
                (false, false) => {
                    line.beside(|| output.line(format_args!("{id}: {}", output::escape(&changed.says))))
                }
            };
            match told {
                // What was asked for is done, whether or not somebody reads about it.
                Err(error) if error.is::<OutputClosed>() => unread = true,
                told => told?,
            }
        }
    }
    drop(line);
    if sums_up && answered > 0 {
        let sums: Vec<String> = sums
            .iter()
            .map(|(outcome, count)| format!("{count} {outcome}"))
            .collect();
        output.line(sums.join(", "))?;
    }
    match output.finish() {
        Err(error) if !error.is::<OutputClosed>() => return Err(error),
        _ => {}
    }
    if answered < ids.len() {
        note(&format!(
            "{} of {} were answered; what was asked for the next {} may have been done, and it is safe to repeat",
            answered,
            count(ids.len() as u64, "job"),
            CHUNK.min(ids.len() - answered)
        ));
    }
    ended.map(|()| exit)
}
