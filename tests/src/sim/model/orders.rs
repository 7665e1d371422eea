//! Which job may be handed out, to whom, and when.

use std::collections::BTreeSet;

use jobq_proto::NewJob;
use jobq_proto::message::OrderedJob;

use super::{Model, Run};
use crate::sim::agenda::{At, ConnId, MILLI};

impl Model {
    /// A round of the server's loop begins, by the true calendar.
    pub(in crate::sim) fn round_begins(&mut self, now: At, wall: i64, reading: bool) {
        self.reading = reading;
        for session in self.sessions.values_mut() {
            session.asks_for_less = false;
        }
        self.looks_at_calendar(now, wall);
    }

    /// The server looks what time it is, by the true calendar: as it starts, and in each round. A time that has come stays
    /// so, whatever becomes of the calendar.
    pub(in crate::sim) fn looks_at_calendar(&mut self, now: At, wall: i64) {
        self.now = now;
        self.wall = wall;
        let starts = self.starts;
        for id in &self.timed {
            let Some(wait) = self.jobs.get_mut(id).and_then(|job| job.wait.as_mut()) else {
                continue;
            };
            let by_calendar = wait.mono.is_none() || wait.starts != starts;
            wait.came |= (by_calendar && wall >= wait.wall) || wait.mono.is_some_and(|mono| now >= mono);
        }
    }

    /// A round ends. What waits now, and might have been handed out, stands in line for certain. `quiet`: no records are
    /// being read. `idle`: no job's state is being asked for, and all that the store has told is handled.
    pub(in crate::sim) fn round_ends(&mut self, now: At, quiet: bool, idle: bool) {
        self.now = now;
        self.judge_order();
        self.await_no_longer(idle);
        if !quiet {
            return;
        }
        let held_back = self.names_held_back();
        // While an earlier batch is not on disk, later ends may not have been handed to the store yet.
        let known_until = self.handed.values().next().copied().unwrap_or(now);
        for id in &self.in_line {
            if let Some(job) = self.jobs.get_mut(id) {
                let doubtful = known_until < job.doubtful_until
                    || (self.waited_at_start.contains(id) && held_back.contains(&job.name));
                job.strict |= job.plain && !job.cancel_asked && job.charges == 0 && !doubtful;
            }
        }
    }

    pub(super) fn says_order(&mut self, conn: ConnId, order: &OrderedJob) {
        let (id, fence) = (order.id, order.fence);
        // It may have been written down before it was said.
        let unsaid = self
            .runs
            .get(&fence)
            .is_some_and(|run| run.session == 0 && run.id == id && run.end.is_none());
        if unsaid {
            self.runs.remove(&fence);
            if let Some(job) = self.jobs.get_mut(&id) {
                job.last = self
                    .ordered
                    .iter()
                    .rfind(|(of, _)| *of == id)
                    .map(|(_, fence)| *fence);
            }
        }
        if self.runs.contains_key(&fence) {
            return self.wrong(format!("the fence {fence} is given twice, now to job {id}"));
        }
        if fence.epoch != self.epoch {
            self.wrong(format!("the fence {fence} is not of the epoch {}", self.epoch));
        }
        self.is_what_was_asked(order);
        self.may_run(order);
        let Some(session) = self.conns.get(&conn).and_then(|state| state.session) else {
            return self.wrong(format!("job {id} is handed to a connection without Hello"));
        };
        if !self.reading {
            self.fits_credit(session, order);
        }
        self.fits_caps(&order.name);
        self.begins_to_work(session);
        self.round_orders.push((fence, id, !self.reading));
        self.ordered.push((id, fence));
        self.runs.insert(
            fence,
            Run {
                id,
                session,
                ordered: self.now,
                timeout: order.timeout,
                started: None,
                report: None,
                reported: 0,
                unnamed: false,
                known_in: self.starts,
                leased: false,
                claimed: BTreeSet::new(),
                end: None,
            },
        );
        if let Some(last) = self.jobs.get(&id).and_then(|job| job.last) {
            self.live.remove(&last);
        }
        self.live.insert(fence);
        self.timed.remove(&id);
        if let Some(job) = self.jobs.get_mut(&id) {
            job.last = Some(fence);
            job.wait = None;
        }
    }

    /// A session is given a run. If it has none, its silence counts from now on. It may have one that it has reported to an
    /// earlier life of the server.
    fn begins_to_work(&mut self, session: u64) {
        let is_its = |run: &Run| run.session == session || run.claimed.contains(&session);
        let mut open = self.runs.values().filter(|run| run.end.is_none() && !run.unnamed);
        let is_at_work = open.any(is_its);
        if let Some(session) = self.sessions.get_mut(&session).filter(|_| !is_at_work) {
            session.at_work = self.now;
        }
    }

    fn is_what_was_asked(&mut self, order: &OrderedJob) {
        let id = order.id;
        let asked = [self.asked.get(&order.uuid), self.disputed.get(&order.uuid)];
        let fits = asked.into_iter().flatten().any(|asked| {
            asked.name == order.name
                && asked.params.as_deref().unwrap_or(NewJob::NO_PARAMS) == &order.params[..]
                && asked.username == order.username
                && asked.timeout == order.timeout
        });
        if !fits {
            self.wrong(format!(
                "job {id} is handed out, and nobody asked for it as it is: {order:?}"
            ));
        }
        let Some(job) = self.jobs.get(&id) else {
            return self.wrong(format!("job {id} is handed out, and is not on disk"));
        };
        if job.uuid != order.uuid {
            self.wrong(format!("job {id} is handed out as another job"));
        } else if order.attempt != job.attempts + 1 {
            let made = job.attempts;
            self.wrong(format!(
                "job {id} is handed out as attempt {}, and {made} were made",
                order.attempt
            ));
        }
    }

    /// It has not ended, its last run is over, and its time has come.
    fn may_run(&mut self, order: &OrderedJob) {
        let (id, fence) = (order.id, order.fence);
        let Some(job) = self.jobs.get(&id) else { return };
        if let Some((status, ..)) = job.ended {
            return self.wrong(format!("job {id} is handed out after its end: it is {status}"));
        }
        if job.ending.is_some() {
            return self.wrong(format!("job {id} is handed out while its end is written down"));
        }
        if let Some(wait) = job.wait.filter(|wait| !wait.came) {
            let what = format!(
                "job {id} is handed out before its time: {wait:?}, and it is {} at {}",
                self.wall, self.now
            );
            return self.wrong(what);
        }
        let Some(last) = job.last else { return };
        if last >= fence {
            return self.wrong(format!("job {id} is handed out as {fence} after {last}"));
        }
        let Some(run) = self.runs.get(&last) else { return };
        let stored = run.end.is_some_and(|(.., stored)| stored);
        if last.epoch == self.epoch && !stored {
            let what =
                format!("job {id} is handed out as {fence}, and the end of {last} is not on disk: {run:?}");
            return self.wrong(what);
        }
        if !stored && run.known_in == self.starts && !run.unnamed && !self.is_closed_for_a_reason(run) {
            let what =
                format!("job {id} is handed out as {fence}, and {last} goes on: its worker has named it");
            return self.wrong(what);
        }
        let over = self
            .sessions
            .get(&run.session)
            .is_none_or(|session| session.gone_for_good);
        if !stored && !run.unnamed && !over {
            let what = format!(
                "job {id} is handed out as {fence}, and neither the end of {last} nor that of its session is on disk: {run:?}"
            );
            return self.wrong(what);
        }
        let ttl = At::try_from(self.config.ttl.as_micros()).unwrap_or(At::MAX / 2);
        if !stored
            && !run.unnamed
            && self.now + 50 * MILLI < self.begun + ttl
            && !self.is_known_to_have_left(run.session)
        {
            let what = format!(
                "job {id} is handed out as {fence}, and the worker of {last} still has time to come back: {:?}",
                self.sessions.get(&run.session)
            );
            self.wrong(what);
        }
    }

    /// Whether the session of a run that it had named is over since, and rightly: the run ends with it, and if it was not
    /// taken up yet, nothing is written down of that.
    fn is_closed_for_a_reason(&self, run: &Run) -> bool {
        let closed = self
            .sessions
            .get(&run.session)
            .is_some_and(|session| session.closed);
        closed && (self.said_goodbye(run.session) || self.may_be_lost(run))
    }

    /// Whether a session from before the start has come back without the run, or said goodbye.
    fn is_known_to_have_left(&self, session: u64) -> bool {
        self.sessions.get(&session).is_none_or(|session| {
            let grace = At::try_from(self.config.grace.as_micros()).unwrap_or(At::MAX / 2);
            let back = session.gone.is_some_and(|gone| gone > self.begun);
            session.closed
                || session.goodbye
                || session.conn.is_some()
                || (back && self.now + 50 * MILLI >= session.gone.unwrap_or(0) + grace)
        })
    }

    fn fits_credit(&mut self, session: u64, order: &OrderedJob) {
        let Some(state) = self.sessions.get(&session) else {
            return self.wrong(format!("job {} is handed to a session that is none", order.id));
        };
        let credit = state.work.names.iter().find(|name| name.name == order.name);
        let Some(credit) = credit.map(|credit| credit.jobs as usize) else {
            return self.wrong(format!(
                "job {} is handed to a worker that does not run {}",
                order.id, order.name
            ));
        };
        let jobs = state.work.jobs as usize;
        let held = self.live.iter().filter_map(|fence| self.runs.get(fence));
        let (mut all, mut of_name) = (0, 0);
        // A run whose time is over may have been taken away by a change that waits for a batch.
        let counts = |run: &&Run| run.session == session && !self.is_resumed(run) && !self.may_time_out(run);
        for run in held.filter(counts) {
            all += 1;
            of_name += usize::from(self.name_of(run.id) == Some(&order.name));
        }
        if !state.asks_for_less && (all >= jobs || of_name >= credit) {
            self.wrong(format!(
                "job {} is handed out beyond the credit: {all} of {jobs} are held, {of_name} of {credit} of the name",
                order.id
            ));
        }
    }

    fn is_resumed(&self, run: &Run) -> bool {
        run.ordered < self.begun
    }

    fn name_of(&self, id: u64) -> Option<&String> {
        self.jobs.get(&id).map(|job| &job.name)
    }

    fn fits_caps(&mut self, name: &str) {
        let live: Vec<&Run> = self
            .live
            .iter()
            .filter(|fence| !self.resumed_runs.contains(fence))
            .filter_map(|fence| self.runs.get(fence))
            .filter(|run| !self.may_be_over(run))
            .collect();
        let of_name = live
            .iter()
            .filter(|run| self.name_of(run.id).is_some_and(|of| of == name))
            .count();
        let all = live.len();
        let cap = self.config.caps.iter().find(|(of, _)| of.as_str() == name);
        let cap = cap.map(|(_, cap)| cap.get() as usize);
        if cap.is_some_and(|cap| of_name >= cap) {
            self.wrong(format!(
                "{} jobs of {name} are out, and its cap is {cap:?}",
                of_name + 1
            ));
        }
        if self.config.max_active.is_some_and(|most| all >= most) {
            let most = self.config.max_active;
            self.wrong(format!("{} jobs are out, and at most {most:?} may be", all + 1));
        }
    }

    /// Whether the machine may have given a run up without the model's having heard of it yet.
    fn may_be_over(&self, run: &Run) -> bool {
        let away = self
            .sessions
            .get(&run.session)
            .is_none_or(|session| session.conn.is_none() || session.goodbye);
        let ttl = At::try_from(self.config.ttl.as_micros()).unwrap_or(At::MAX / 2);
        let silent = self
            .sessions
            .get(&run.session)
            .is_some_and(|session| self.now + 50 * MILLI >= session.heard + ttl);
        run.unnamed || away || silent || self.may_time_out(run)
    }

    /// Of the jobs that were handed out in this round, none was while another of its name stood before it: more urgent, or
    /// as urgent and there first. Fences say in which order they were chosen.
    fn judge_order(&mut self) {
        let mut orders = std::mem::take(&mut self.round_orders);
        orders.sort_unstable();
        for (_, id, certain) in orders {
            self.in_line.remove(&id);
            let Some(job) = self.jobs.get_mut(&id) else {
                continue;
            };
            job.strict = false;
            if !job.plain || !certain {
                continue;
            }
            let (name, place) = (job.name.clone(), (job.priority, id));
            let passed = self.in_line.iter().copied().find(|other_id| {
                let other = self.jobs.get(other_id);
                other.is_some_and(|other| {
                    let ahead = (other.priority, *other_id) < place;
                    other.strict && !other.cancel_asked && other.name == name && ahead
                })
            });
            if let Some(passed) = passed {
                self.wrong(format!(
                    "job {id} ({}) is handed out before job {passed} ({})",
                    job_priority(self, id),
                    job_priority(self, passed)
                ));
            }
        }
    }
}

fn job_priority(model: &Model, id: u64) -> String {
    model.jobs.get(&id).map_or(String::new(), |job| {
        format!("{} of {} bytes", job.priority, job.bytes)
    })
}
