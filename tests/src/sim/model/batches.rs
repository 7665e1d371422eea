//! What the machine has written down, judged by what it was told.

use std::collections::BTreeSet;

use jobq_proto::{Fence, Status};
use jobq_server::store::{Batch, Change, Ended, InsertOutcome, JobRecord, Leased, Requeued, RunEnd, Stored};
use uuid::Uuid;

use super::{Ending, Job, Model, Report, Wait};
use crate::sim::agenda::{At, MILLI};

/// How far the machine's idea of a moment may be from the model's: what it did in one round counts as one moment.
const SLACK: At = 50 * MILLI;

/// No batch takes longer than this to be stored, and the one before it.
const LONGEST_SYNC: At = 60_000 * MILLI;

/// Workers lost in a row, after which a job fails.
const MAX_CHARGES: u32 = 3;

impl Model {
    /// The machine hands a batch to the store.
    pub(in crate::sim) fn batch_out(&mut self, batch: &Batch) {
        let mut endings = Vec::new();
        for change in &batch.changes {
            match change {
                Change::Ended(ended) => self.ends(batch.number, ended, &mut endings),
                Change::Requeued(back) => self.requeues(batch.number, back, &mut endings),
                Change::Leased(leased) => self.is_leased(leased),
                Change::SessionClosed { id } => {
                    self.absent_is_over(id.0, false);
                    if let Some(session) = self.sessions.get_mut(&id.0) {
                        session.closed = true;
                        session.silenced = session.conn.is_some() && !session.goodbye;
                        endings.push(Ending::Session(id.0));
                    }
                }
                _ => {}
            }
        }
        self.out.insert(batch.number, endings);
        self.last_batch = batch.number;
        self.handed.insert(batch.number, self.now);
    }

    fn ends(&mut self, number: u64, ended: &Ended, endings: &mut Vec<Ending>) {
        let id = ended.id.0;
        let Some(job) = self.jobs.get(&id) else {
            // It was inserted by this very batch, or one before that is not on disk: it never ran.
            if ended.run.is_some() {
                self.wrong(format!("job {id} has run, and was not on disk before"));
            }
            return;
        };
        if job.ended.is_some() || job.ending.is_some() {
            return self.wrong(format!("job {id} ends twice"));
        }
        let (cancel_asked, max_attempts, attempts, charges) =
            (job.cancel_asked, job.max_attempts, job.attempts, job.charges);
        if let Some((fence, end)) = ended.run {
            self.run_ends(number, id, fence, end, ended.charges > charges);
            endings.push(Ending::Run(fence));
        }
        let run = ended.run.and_then(|(fence, _)| self.runs.get(&fence));
        let wrong = match (ended.status, ended.run) {
            (Status::Completed, Some((_, RunEnd::Completed))) => {
                let reported = run.and_then(|run| run.report.clone());
                match reported {
                    Some(Report::Completed(result)) if result == ended.result => None,
                    other => Some(format!("it was reported as {other:?}")),
                }
            }
            (Status::Cancelled, _) if cancel_asked => None,
            (Status::Cancelled, _) => Some("nobody asked for that".to_owned()),
            (Status::Failed, Some((_, RunEnd::Failed))) => match run.and_then(|run| run.report.clone()) {
                Some(Report::Failed { never: true, .. }) => None,
                Some(Report::Failed { .. }) if attempts + 1 >= max_attempts => None,
                other => Some(format!(
                    "after {attempts} of {max_attempts} attempts it was reported as {other:?}"
                )),
            },
            (Status::Failed, Some((_, RunEnd::Lost))) => {
                let enough = charges + 1 >= MAX_CHARGES || attempts + 1 >= max_attempts;
                (!enough).then(|| format!("only {} of its workers were lost", charges + 1))
            }
            (Status::Failed, Some((_, RunEnd::TimedOut))) => {
                (attempts + 1 < max_attempts).then(|| "it had attempts left".to_owned())
            }
            other => Some(format!("it cannot end so: {other:?}")),
        };
        if let Some(why) = wrong {
            self.wrong(format!("job {id} ends as {}, but {why}", ended.status));
        }
        if let Some(job) = self.jobs.get_mut(&id) {
            job.ending = Some(number);
            endings.push(Ending::Job(id));
        }
        self.in_line.remove(&id);
        self.timed.remove(&id);
    }

    fn requeues(&mut self, number: u64, back: &Requeued, endings: &mut Vec<Ending>) {
        let id = back.id.0;
        let Some(job) = self.jobs.get(&id) else {
            return self.wrong(format!("job {id} waits again, and was not on disk before"));
        };
        if job.ended.is_some() || job.ending.is_some() {
            return self.wrong(format!("job {id} waits again after its end"));
        }
        let (attempts, charges) = (job.attempts, job.charges);
        let charged = back.charges > charges;
        self.run_ends(number, id, back.fence, back.end, charged);
        endings.push(Ending::Run(back.fence));
        let counts = match back.end {
            RunEnd::Failed | RunEnd::TimedOut => true,
            RunEnd::Lost => charged,
            RunEnd::Released | RunEnd::Completed => false,
        };
        let expected = attempts + u32::from(counts);
        if back.attempts != expected {
            self.wrong(format!(
                "job {id} has {} attempts on record after {:?}, and {expected} were made",
                back.attempts, back.end
            ));
        }
        let run = self.runs.get(&back.fence);
        if let Some(Report::Failed { never: true, .. }) = run.and_then(|run| run.report.as_ref())
            && back.end == RunEnd::Failed
        {
            self.wrong(format!(
                "job {id} is to be tried again, and its worker said never"
            ));
        }
    }

    /// A run ends: it is the job's last, and there is a reason.
    fn run_ends(&mut self, number: u64, id: u64, fence: Fence, end: RunEnd, charged: bool) {
        let last = self.jobs.get(&id).and_then(|job| job.last);
        let unsaid = matches!(end, RunEnd::Lost | RunEnd::Released)
            && !charged
            && last.is_none_or(|last| last < fence);
        let Some(run) = self.runs.get(&fence) else {
            if unsaid && fence.epoch == self.epoch {
                return self.never_left(number, id, fence, end);
            }
            return self.wrong(format!(
                "job {id}: run {fence} ends ({end:?}), and was never handed out"
            ));
        };
        if run.id != id {
            let other = run.id;
            return self.wrong(format!("run {fence} of job {other} ends as one of job {id}"));
        }
        if let Some(later) = last.filter(|last| *last > fence && self.is_lost_to_a_double(*last)) {
            self.live.remove(&later);
        } else if last != Some(fence) {
            return self.wrong(format!(
                "job {id}: {end:?} counts for run {fence}, and {} has been handed out since",
                last.map_or("none".to_owned(), |last| last.to_string())
            ));
        }
        if run.end.is_some() {
            return self.wrong(format!("job {id}: run {fence} ends twice"));
        }
        let reason = match end {
            RunEnd::Completed => matches!(run.report, Some(Report::Completed(_))),
            RunEnd::Failed => matches!(run.report, Some(Report::Failed { .. })),
            // Its order never left.
            RunEnd::Released if run.session == 0 => true,
            RunEnd::Released => {
                let mut its = run.claimed.iter().chain([&run.session]);
                matches!(run.report, Some(Report::Released)) || its.any(|session| self.said_goodbye(*session))
            }
            RunEnd::Lost => self.may_be_lost(run),
            RunEnd::TimedOut => self.may_time_out(run),
        };
        if !reason {
            return self.wrong(format!(
                "job {id}: run {fence} ends ({end:?}) without a reason: {run:?}, session {:?}",
                self.sessions.get(&run.session)
            ));
        }
        if charged && run.started.is_none() {
            self.wrong(format!(
                "job {id}: the loss of run {fence} is charged, and it had not started"
            ));
        }
        if let Some(run) = self.runs.get_mut(&fence) {
            run.end = Some((end, number, false));
        }
        self.live.remove(&fence);
    }

    /// Whether a run was handed out in an earlier life of the server, with nothing of it on disk, when its job seemed to be
    /// free since the network had repeated what its worker had said. An earlier run may be the current one again then, and
    /// the job has run twice; it counts once all the same.
    fn is_lost_to_a_double(&self, fence: Fence) -> bool {
        let run = self.runs.get(&fence);
        self.repeats && run.is_some_and(|run| run.ordered < self.begun && !run.leased && run.end.is_none())
    }

    /// A run is written down. It may be one whose order never left the server.
    fn is_leased(&mut self, leased: &Leased) {
        let (id, fence) = (leased.id.0, leased.fence);
        match self.runs.get(&fence) {
            Some(run) if run.id == id => {}
            Some(_) => self.wrong(format!("run {fence} is written down as one of job {id}")),
            None if self
                .jobs
                .get(&id)
                .is_some_and(|job| job.last.is_none_or(|last| last < fence)) =>
            {
                self.insert_unsaid(id, fence, None);
            }
            None => self.wrong(format!(
                "run {fence} of job {id} is written down, and there is a later one"
            )),
        }
    }

    /// A run ends whose order never left the server, since the connection for it was gone by then.
    fn never_left(&mut self, number: u64, id: u64, fence: Fence, end: RunEnd) {
        self.insert_unsaid(id, fence, Some((end, number, false)));
    }

    fn insert_unsaid(&mut self, id: u64, fence: Fence, end: Option<(RunEnd, u64, bool)>) {
        let run = super::Run {
            id,
            session: 0,
            ordered: self.now,
            timeout: None,
            started: None,
            report: None,
            reported: 0,
            unnamed: true,
            known_in: 0,
            leased: false,
            claimed: BTreeSet::new(),
            end,
        };
        self.runs.insert(fence, run);
        let before = self.jobs.get_mut(&id).and_then(|job| job.last.replace(fence));
        if let Some(before) = before {
            self.live.remove(&before);
        }
        self.in_line.remove(&id);
    }

    pub(super) fn said_goodbye(&self, session: u64) -> bool {
        self.sessions.get(&session).is_some_and(|session| session.goodbye)
    }

    /// Whether the server may think by now that a run's worker is lost.
    pub(super) fn may_be_lost(&self, run: &super::Run) -> bool {
        let Some(session) = self.sessions.get(&run.session) else {
            return run.unnamed;
        };
        let micros = |time: std::time::Duration| At::try_from(time.as_micros()).unwrap_or(At::MAX);
        let (ttl, grace) = (micros(self.config.ttl), micros(self.config.grace));
        let over = |since: At, time: At| self.now + SLACK >= since + time;
        let away = session.conn.is_none()
            && session.gone.is_some_and(|gone| {
                over(gone.max(self.begun), grace) && (gone >= self.begun || over(self.begun, ttl))
            });
        // Who was idle may have been silent for long before its first run.
        let silent_since = session.heard.max(session.at_work).max(self.begun);
        run.unnamed || away || over(silent_since, ttl)
    }

    /// Whether the server may have taken a run away whose worker did not end it in time.
    pub(super) fn may_time_out(&self, run: &super::Run) -> bool {
        let slack = At::try_from(self.config.timeout_slack.as_micros()).unwrap_or(At::MAX);
        match (run.timeout, run.started) {
            (Some(timeout), Some(started)) => self.now + SLACK >= started + timeout + slack,
            _ => false,
        }
    }

    /// A batch is on disk.
    pub(in crate::sim) fn batch_stored(&mut self, now: At, batch: &Batch, stored: &Stored) {
        self.now = now;
        let mut outcomes = stored.inserts.iter();
        let mut ended_here = BTreeSet::new();
        for change in &batch.changes {
            match change {
                Change::Insert { record, .. } => {
                    let outcome = outcomes.next();
                    if outcome == Some(&InsertOutcome::Inserted) {
                        self.inserted(record);
                    }
                }
                Change::Find { .. } => {
                    outcomes.next();
                }
                Change::Requeued(back) => self.is_back(back),
                Change::Leased(leased) => {
                    if let Some(run) = self.runs.get_mut(&leased.fence) {
                        run.leased = true;
                    }
                }
                Change::SessionClosed { id } => {
                    self.absent_is_over(id.0, true);
                    if let Some(session) = self.sessions.get_mut(&id.0) {
                        session.gone_for_good = true;
                    }
                }
                Change::Ended(ended) => {
                    ended_here.insert(ended.id.0);
                    self.has_ended(ended);
                }
                _ => {}
            }
        }
        self.out.remove(&batch.number);
        self.handed.remove(&batch.number);
        self.stored_at = self.now;
    }

    fn inserted(&mut self, record: &JobRecord) {
        let id = record.id.0;
        if let Some(old) = record.retry_of {
            self.retry_inserted(record, old.0);
        }
        let asked = [self.asked.get(&record.uuid), self.disputed.get(&record.uuid)];
        let fits = |asked: &&jobq_proto::message::Submission| {
            let params = asked.params.as_deref().unwrap_or(jobq_proto::NewJob::NO_PARAMS);
            asked.name == record.name.as_str()
                && params == &record.params[..]
                && asked.username.as_deref() == record.username.as_ref().map(jobq_proto::Username::as_str)
                && asked
                    .priority
                    .as_deref()
                    .is_none_or(|asked| asked.eq_ignore_ascii_case(record.priority.as_str()))
        };
        let Some(asked) = asked.into_iter().flatten().find(fits).cloned() else {
            return self.wrong(format!(
                "job {id} ({}) is stored, and nobody asked for it as it is",
                record.uuid.as_u128()
            ));
        };
        if let Some(other) = self
            .by_uuid
            .get(&record.uuid)
            .filter(|other| !self.may_be_gone(**other))
        {
            let other = *other;
            return self.wrong(format!(
                "the uuid {} is that of job {other} and of job {id}",
                record.uuid.as_u128()
            ));
        }
        if self.jobs.last_key_value().is_some_and(|(last, _)| *last >= id) {
            self.wrong(format!("job {id} is stored after jobs with greater ids"));
        }
        self.fits_queue(record);
        let (timed, wait) = self.waits_for(&asked);
        let job = Job {
            uuid: record.uuid,
            name: asked.name.clone(),
            priority: asked
                .priority
                .as_deref()
                .and_then(|priority| priority.parse().ok())
                .unwrap_or_default(),
            bytes: record.params.len() as u64,
            max_attempts: asked.max_attempts.unwrap_or(self.config.max_attempts.get()),
            last: None,
            attempts: 0,
            charges: 0,
            plain: !timed,
            wait,
            strict: false,
            doubtful_until: 0,
            ending: None,
            ended: None,
            cancel_asked: self.cancels.contains(&id),
            cancelled_early: self.cancels.contains(&id),
            could_go: false,
        };
        self.by_uuid.insert(record.uuid, id);
        if job.wait.is_some() {
            self.timed.insert(id);
        }
        self.jobs.insert(id, job);
    }

    /// One more job was let in, and so the limits on what is queued left room for it. What ends is written down in the order
    /// in which it counts, so that what is on disk by now is what the machine counted.
    fn fits_queue(&mut self, record: &JobRecord) {
        let limits = self.config.queue;
        let bytes = record.params.len() as u64;
        let (mut jobs, mut used, mut jobs_of_name, mut used_of_name) = (0, 0, 0, 0);
        for job in self.jobs.values().filter(|job| job.ended.is_none()) {
            jobs += 1;
            used += job.bytes;
            if job.name == record.name.as_str() {
                jobs_of_name += 1;
                used_of_name += job.bytes;
            }
        }
        let many = |count: u64, most: Option<u64>| most.is_some_and(|most| count >= most);
        let much = |used: u64, most: Option<u64>| most.is_some_and(|most| used > 0 && used + bytes > most);
        if many(jobs, limits.jobs)
            || many(jobs_of_name, limits.jobs_per_name)
            || much(used, limits.bytes)
            || much(used_of_name, limits.bytes_per_name)
        {
            self.wrong(format!(
                "job {} is let in beside {jobs} of {used} bytes, {jobs_of_name} of {used_of_name} bytes of its name: {limits:?}",
                record.id
            ));
        }
    }

    /// A job that repeats an ended one is what that one was.
    fn retry_inserted(&mut self, record: &JobRecord, old: u64) {
        let uuid = self
            .jobs
            .get(&old)
            .filter(|job| job.ended.is_some())
            .map(|job| job.uuid);
        let expected = uuid.map(|uuid| Uuid::new_v5(&uuid, b"jobq retry"));
        if !self.retries.contains(&old) || expected != Some(record.uuid) {
            return self.wrong(format!(
                "job {} repeats job {old}, which nobody asked for",
                record.id
            ));
        }
        let asked = uuid.and_then(|uuid| self.asked.get(&uuid).or(self.disputed.get(&uuid)));
        if let Some(mut again) = asked.cloned() {
            again.uuid = record.uuid;
            again.run_at = None;
            again.delay = None;
            again.params = Some(record.params.clone());
            self.asked.insert(record.uuid, again);
        }
    }

    /// What a job waits for, and whether it asked for a time at all.
    fn waits_for(&self, asked: &jobq_proto::message::Submission) -> (bool, Option<Wait>) {
        let wait = match (asked.run_at, asked.delay) {
            (Some(at), _) => Some(Wait {
                wall: at,
                mono: None,
                starts: self.starts,
                came: self
                    .heard
                    .get(&asked.uuid)
                    .is_some_and(|heard| heard.latest >= at),
            }),
            (None, Some(delay)) => self.heard.get(&asked.uuid).map(|heard| Wait {
                wall: heard.wall + i64::try_from(delay).unwrap_or(i64::MAX / 2),
                mono: Some(heard.at + delay),
                starts: self.starts,
                came: false,
            }),
            (None, None) => None,
        };
        (asked.run_at.is_some() || asked.delay.is_some(), wait)
    }

    /// A job waits again, durably.
    fn is_back(&mut self, back: &Requeued) {
        let (id, fence) = (back.id.0, back.fence);
        let mut wait = None;
        if let Some(run) = self.runs.get_mut(&fence) {
            if let Some(end) = &mut run.end {
                end.2 = true;
            }
            if let (RunEnd::Failed, Some(Report::Failed { after, at, wall, .. })) = (back.end, &run.report) {
                wait = Some((*after, *at, *wall));
            }
        }
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.attempts = back.attempts;
        job.charges = back.charges;
        job.strict = false;
        match back.end {
            RunEnd::Failed => {
                job.plain = false;
                if let Some((after, at, wall)) = wait {
                    let least = after.unwrap_or_else(|| self.least_backoff(id, back.attempts));
                    let wait = Wait {
                        wall: wall + i64::try_from(least).unwrap_or(i64::MAX / 2),
                        mono: Some(at + least),
                        starts: self.starts,
                        came: false,
                    };
                    self.timed.insert(id);
                    if let Some(job) = self.jobs.get_mut(&id) {
                        job.wait = Some(wait);
                    }
                }
            }
            RunEnd::TimedOut => job.plain = false,
            _ => {
                self.in_line.insert(id);
            }
        }
        self.waited_at_start.remove(&id);
    }

    /// The shortest wait after a job's attempt has failed.
    fn least_backoff(&self, id: u64, attempt: u32) -> At {
        let uuid = self.jobs.get(&id).map(|job| job.uuid);
        let asked = uuid.and_then(|uuid| self.asked.get(&uuid));
        let backoff = asked
            .and_then(|asked| asked.backoff)
            .unwrap_or(self.config.backoff);
        let wait = At::try_from(backoff.wait(attempt).as_micros()).unwrap_or(At::MAX / 4);
        wait / 100 * 90
    }

    fn has_ended(&mut self, ended: &Ended) {
        let id = ended.id.0;
        if let Some((fence, _)) = ended.run
            && let Some(end) = self.runs.get_mut(&fence).and_then(|run| run.end.as_mut())
        {
            end.2 = true;
        }
        // Its age counts from when its end was decided, which was some time before it was on disk.
        let reported = ended
            .run
            .and_then(|(fence, _)| self.runs.get(&fence))
            .map(|run| run.reported);
        let decided = reported
            .filter(|at| *at > 0)
            .unwrap_or(self.now.saturating_sub(LONGEST_SYNC));
        let (now, starts) = (decided, self.starts);
        if let Some(job) = self.jobs.get_mut(&id) {
            if let Some(last) = job.last {
                self.live.remove(&last);
            }
            job.ended = Some((ended.status, now, starts));
            job.attempts = ended.attempts;
            job.charges = ended.charges;
        }
        self.in_line.remove(&id);
        self.timed.remove(&id);
    }
}
