//! What is said of attempts that fail while somebody waits for a job's end.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jobq_client::{Client, JobId, JobView};
use tokio::time::Instant;

use crate::output::one_line;
use crate::times;

/// How often it is looked. Who waits for a retry waits for a second and more.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long an answer is waited for: the ends of the jobs are heard of by other means, and must not wait for this.
const PATIENCE: Duration = Duration::from_secs(5);

/// Most jobs that are looked at; nobody reads what happens to more at a time.
const MAX_JOBS: usize = 100;

/// Most characters of a reason.
const REASON_WIDTH: usize = 200;

/// The attempts of jobs that are waited for. The protocol tells of a job's end by itself, and of its attempts when
/// asked.
pub(super) struct Attempts {
    client: Client,
    /// When to look.
    next: Instant,
    /// How many have failed, as far as that was said.
    said: HashMap<JobId, u32>,
}

impl Attempts {
    pub(super) fn new(client: &Client) -> Self {
        Self {
            client: client.with_deadline(PATIENCE),
            next: Instant::now(),
            said: HashMap::new(),
        }
    }

    /// Waits until there is something to say of these jobs, and gives it: a line for each whose attempt failed.
    /// Cancel-safe.
    pub(super) async fn failed(&mut self, jobs: impl IntoIterator<Item = JobId>) -> Vec<String> {
        let jobs: Vec<JobId> = jobs.into_iter().take(MAX_JOBS).collect();
        loop {
            tokio::time::sleep_until(self.next).await;
            let views = self.client.show_many(&jobs).await;
            self.next = Instant::now() + LOOK_EVERY;
            // A server that is away is noticed by those who wait for the ends.
            let views = views.unwrap_or_default();
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let new = views
                .iter()
                .filter_map(|view| Some(line(view, self.said_before(view)?, now)));
            let lines: Vec<String> = new.collect();
            if !lines.is_empty() {
                return lines;
            }
        }
    }

    /// How many failed attempts were told, if more of them are to be told now.
    fn said_before(&mut self, view: &JobView) -> Option<u32> {
        if view.status.is_terminal() {
            return None;
        }
        let said = self.said.entry(JobId(view.id)).or_default();
        let before = std::mem::replace(said, view.attempts);
        (view.attempts > before).then_some(before)
    }
}

/// What is said of a job of which so many failed attempts were told, at a time since 1970.
fn line(view: &JobView, said: u32, now: Duration) -> String {
    let JobView {
        id,
        attempts,
        max_attempts,
        ..
    } = view;
    let which = match said + 1 {
        first if first < *attempts => format!("attempts {first} to {attempts}"),
        _ => format!("attempt {attempts}"),
    };
    let reason = view
        .reason
        .as_deref()
        .map(|reason| one_line(reason, REASON_WIDTH));
    let how = match reason {
        _ if view.charges > 0 => "was lost with its worker".to_owned(),
        Some(reason) => format!("failed: {reason}"),
        None => "failed".to_owned(),
    };
    let due = Duration::from_micros(u64::try_from(view.due).unwrap_or(0));
    let next = match due.saturating_sub(now) {
        Duration::ZERO => "next as soon as a worker is free".to_owned(),
        wait => {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            format!("next in {}", times::length(Duration::from_secs(seconds)))
        }
    };
    format!("job {id}: {which} of {max_attempts} {how}; {next}")
}

#[cfg(test)]
mod tests {
    use jobq_client::Status;
    use uuid::Uuid;

    use super::*;

    const NOW: Duration = Duration::from_secs(1_000);

    fn view() -> JobView {
        JobView {
            id: 12,
            uuid: Uuid::nil(),
            name: "x".to_owned(),
            username: None,
            priority: "Normal".to_owned(),
            status: Status::Scheduled,
            created: 0,
            due: 1_015_200_000,
            started: None,
            ended: None,
            ran: None,
            attempts: 1,
            max_attempts: 20,
            charges: 0,
            fence: None,
            cancelling: false,
            progress: None,
            reason: Some("no such file\nat line 3".to_owned()),
            retry_of: None,
            params_bytes: 0,
            params: None,
            result: None,
            runs: Vec::new(),
        }
    }

    #[test]
    fn a_failed_attempt_is_told_with_its_reason_in_one_line_and_the_time_of_the_next() {
        assert_eq!(
            line(&view(), 0, NOW),
            "job 12: attempt 1 of 20 failed: no such file … at line 3; next in 16s"
        );
        let due = JobView {
            due: 0,
            reason: None,
            ..view()
        };
        assert_eq!(
            line(&due, 0, NOW),
            "job 12: attempt 1 of 20 failed; next as soon as a worker is free"
        );
        let third = JobView {
            attempts: 3,
            ..view()
        };
        assert!(line(&third, 1, NOW).starts_with("job 12: attempts 2 to 3 of 20 failed: "));
        let lost = JobView { charges: 1, ..view() };
        assert!(line(&lost, 0, NOW).contains("was lost with its worker"));
    }
}
