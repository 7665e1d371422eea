//! Which jobs: the flags that `list`, `cancel` and `retry` have in common.

use std::time::SystemTime;

use anyhow::anyhow;
use jobq_client::{JobFilter, Status};
use jobq_proto::limits::MAX_REASON_TEXT;

use crate::exit::Exit;
use crate::settings::WHICH_JOBS;
use crate::times;
use crate::values::{name, status, username};

/// The jobs that match all that is given.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Selection {
    /// Only jobs in this status
    #[arg(long, ignore_case = true, value_parser = status(), help_heading = WHICH_JOBS)]
    pub(super) status: Option<Status>,
    /// Only jobs of this name
    #[arg(long, value_parser = name, help_heading = WHICH_JOBS)]
    name: Option<String>,
    /// Only jobs for this username
    #[arg(long, value_parser = username, help_heading = WHICH_JOBS)]
    username: Option<String>,
    /// Only jobs that arrived then or later: a time, or how long ago, such as 2h
    #[arg(long, value_name = "TIME", value_parser = times::past, help_heading = WHICH_JOBS)]
    since: Option<SystemTime>,
    /// Only jobs that arrived before: a time, or how long ago
    #[arg(long, value_name = "TIME", value_parser = times::past, help_heading = WHICH_JOBS)]
    until: Option<SystemTime>,
    /// Only jobs whose reason has this text in it, letter for letter
    #[arg(long, value_name = "TEXT", value_parser = reason, help_heading = WHICH_JOBS)]
    reason: Option<String>,
}

impl Selection {
    /// Whether anything is given.
    pub(super) fn is_empty(&self) -> bool {
        let Self {
            status,
            name,
            username,
            since,
            until,
            reason,
        } = self;
        status.is_none()
            && name.is_none()
            && username.is_none()
            && since.is_none()
            && until.is_none()
            && reason.is_none()
    }

    /// The client's filter.
    ///
    /// # Errors
    /// No job can match.
    pub(super) fn filter(&self) -> anyhow::Result<JobFilter> {
        if let (Some(since), Some(until)) = (self.since, self.until)
            && since >= until
        {
            return Err(Exit::Usage.because(anyhow!(
                "--since is not before --until, so no job matches; turn them round"
            )));
        }
        let mut filter = JobFilter::new();
        filter.status = self.status;
        filter.name.clone_from(&self.name);
        filter.username.clone_from(&self.username);
        filter.since = self.since;
        filter.until = self.until;
        filter.reason.clone_from(&self.reason);
        Ok(filter)
    }
}

fn reason(text: &str) -> Result<String, String> {
    if (1..=MAX_REASON_TEXT).contains(&text.len()) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "it has {} bytes, expected 1 to {MAX_REASON_TEXT}",
            text.len()
        ))
    }
}
