//! Changing many jobs, by their numbers and uuids or by a filter: what `cancel` and `retry` have in common.
//!
//! A filter is turned into numbers first, then counted and confirmed, and only then carried out: what was agreed to
//! is what is done, whatever arrives meanwhile.

use std::fmt::Display;

use anyhow::{Context, anyhow};
use futures::TryStreamExt;
use jobq_client::{AskError, Client, JobId, Status};
use serde_json::Value;
use uuid::Uuid;

use super::job_ref::JobRef;
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
    /// The jobs' numbers, or the uuids that they were submitted under
    #[arg(value_name = "ID|UUID", value_parser = JobRef::parse, conflicts_with_all = ["status", "name", "username", "since", "until", "reason"])]
    jobs: Vec<JobRef>,
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

    /// What became of a job that does not exist.
    fn missing(job: JobRef) -> Changed;

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

/// The jobs to change.
#[derive(Debug, Default)]
struct Jobs {
    ids: Vec<JobId>,
    /// Those that there are no jobs of.
    missing: Vec<Uuid>,
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
        Ok(Some(jobs)) => carry_out::<C>(&client, &jobs, &targets, &mut signals).await,
        Ok(None) => Ok(Exit::Ok),
        Err(error) => Err(error),
    };
    client.close().await;
    changed.with_context(failed)
}

impl Targets {
    fn check<C: Change>(&self) -> anyhow::Result<()> {
        if self.jobs.is_empty() && self.selection.is_empty() {
            return Err(anyhow!(
                "no jobs are named; give their numbers or uuids, or say which by --name, --status and the other filters"
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
    async fn find<C: Change>(&self, client: &Client) -> anyhow::Result<Option<Jobs>> {
        if self.selection.is_empty() {
            return self.named(client).await.map(Some);
        }
        let ids = self.matching::<C>(client).await?;
        if ids.is_empty() {
            note("no jobs match");
            return Ok(None);
        }
        let found = Jobs {
            ids,
            missing: Vec::new(),
        };
        if self.yes {
            return Ok(Some(found));
        }
        let jobs = count(found.ids.len() as u64, "job");
        if !progress::can_ask() {
            return Err(Exit::Usage.because(anyhow!(
                "{jobs} would be changed, and there is no terminal to ask on; repeat it with --yes"
            )));
        }
        let question = format!("{} {jobs}?{}", C::VERB, C::REMARK);
        let agreed = tokio::task::spawn_blocking(move || progress::confirm(&question)).await;
        let agreed = agreed.context("the question panicked")?;
        if agreed.context("failed to read the answer")? {
            return Ok(Some(found));
        }
        note("nothing was changed");
        Ok(None)
    }

    /// The jobs that are named one by one.
    async fn named(&self, client: &Client) -> anyhow::Result<Jobs> {
        let mut jobs = Jobs::default();
        for &job in &self.jobs {
            match (job.id(client).await?, job) {
                (Some(id), _) => jobs.ids.push(id),
                (None, JobRef::Uuid(uuid)) => jobs.missing.push(uuid),
                // A number is one, whether or not there is such a job.
                (None, JobRef::Id(id)) => jobs.ids.push(id),
            }
        }
        Ok(jobs)
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
    jobs: &Jobs,
    targets: &Targets,
    signals: &mut Signals,
) -> anyhow::Result<Exit> {
    let ids = &jobs.ids;
    let mut telling = Telling::new::<C>(targets, ids.len() as u64);
    for &uuid in &jobs.missing {
        telling.tell(&uuid, &C::missing(JobRef::Uuid(uuid)))?;
    }
    let mut answered = 0;
    let mut ended = Ok(());
    for chunk in ids.chunks(CHUNK) {
        let changed = tokio::select! {
            changed = C::change(client, chunk) => changed,
            () = signals.recv() => {
                telling.exit = Exit::Interrupted;
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
        telling.line.at(answered as u64);
        for (id, changed) in chunk.iter().zip(changed) {
            telling.tell(id, &changed)?;
        }
    }
    let exit = telling.finish(answered > 0)?;
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

/// What is said of the jobs, and how it comes out.
struct Telling {
    output: Output,
    line: Line,
    json: bool,
    /// Nobody reads a line for each of a million jobs that were not named one by one.
    sums_up: bool,
    sums: Vec<(&'static str, u64)>,
    /// Nobody reads the output any more.
    unread: bool,
    exit: Exit,
}

impl Telling {
    fn new<C: Change>(targets: &Targets, jobs: u64) -> Self {
        Self {
            output: Output::new(),
            line: Line::steps(jobs),
            json: targets.json,
            sums_up: targets.jobs.is_empty() && !targets.json,
            sums: C::FIRST.iter().map(|&outcome| (outcome, 0)).collect(),
            unread: false,
            exit: Exit::Ok,
        }
    }

    fn tell(&mut self, job: &impl Display, changed: &Changed) -> anyhow::Result<()> {
        if !changed.done {
            self.exit = Exit::Partial;
        }
        match self.sums.iter_mut().find(|sum| sum.0 == changed.outcome) {
            Some(sum) => sum.1 += 1,
            None => self.sums.push((changed.outcome, 1)),
        }
        let Self { output, line, .. } = self;
        let told = match (self.json, self.sums_up || self.unread) {
            (_, true) => Ok(()),
            (true, false) => line.beside(|| output.json(&changed.object)),
            (false, false) => {
                line.beside(|| output.line(format_args!("{job}: {}", output::escape(&changed.says))))
            }
        };
        match told {
            // What was asked for is done, whether or not somebody reads about it.
            Err(error) if error.is::<OutputClosed>() => self.unread = true,
            told => told?,
        }
        Ok(())
    }

    fn finish(self, is_answered: bool) -> anyhow::Result<Exit> {
        let Self {
            mut output,
            line,
            sums,
            ..
        } = self;
        drop(line);
        if self.sums_up && is_answered {
            let sums: Vec<String> = sums
                .iter()
                .map(|(outcome, count)| format!("{count} {outcome}"))
                .collect();
            output.line(sums.join(", "))?;
        }
        match output.finish() {
            Err(error) if !error.is::<OutputClosed>() => Err(error),
            _ => Ok(self.exit),
        }
    }
}
