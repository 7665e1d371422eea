//! What the server hears, and what it says that is not an order.

use std::collections::BTreeSet;

use jobq_proto::message::{
    Acknowledged, CancelOutcome, Cancelled, EndedJob, Holding, RunRef, RunState, SettleOutcome, SettledRun,
    Welcome,
};
use jobq_proto::{ClientMessage, JobId, ServerMessage};
use jobq_server::store::{MemoryReader, Read, ReadAnswer, RunEnd};

use super::{ConnState, Heard, Model, Report, Run, SessionState};
use crate::sim::agenda::{At, ConnId, SECOND};

impl Model {
    /// A message is handed to the machine.
    pub(in crate::sim) fn server_hears(&mut self, now: At, conn: ConnId, message: &ServerMessage) {
        use ServerMessage as M;
        self.now = now;
        if let M::Hello(hello) = message {
            let state = ConnState {
                work: hello.work.clone(),
                ..ConnState::default()
            };
            self.conns.insert(conn, state);
            // It lives from now on, and not only when it is told; or somebody has guessed its number.
            if let Some(resume) = &hello.resume {
                self.absent_is_heard(resume.session);
            }
            return;
        }
        let Some(state) = self.conns.get(&conn) else {
            return;
        };
        let session = state.session;
        if let Some(session) = session.and_then(|session| self.sessions.get_mut(&session)) {
            session.heard = now;
        }
        if let Some(session) = session {
            self.absent_is_heard(session);
        }
        match message {
            M::Request(request) => {
                for job in &request.jobs {
                    let wall = self.wall;
                    let first = Heard {
                        at: now,
                        wall,
                        latest: wall,
                    };
                    let heard = self.heard.entry(job.uuid).or_insert(first);
                    heard.wall = heard.wall.min(wall);
                    heard.latest = heard.latest.max(wall);
                }
                let uuids = request.jobs.iter().map(|job| job.uuid).collect();
                self.requests.insert((conn, request.request), uuids);
            }
            M::Cancel(cancel) => {
                self.cancels.extend(&cancel.ids);
                for id in &cancel.ids {
                    if let Some(job) = self.jobs.get_mut(id) {
                        job.cancel_asked = true;
                    }
                }
            }
            M::Retry(retry) => self.retries.extend(&retry.ids),
            M::Goodbye(_) => {
                if let Some(session) = session.and_then(|session| self.sessions.get_mut(&session)) {
                    session.goodbye = true;
                }
            }
            M::Credit(credit) => {
                if let Some(session) = session.and_then(|session| self.sessions.get_mut(&session)) {
                    session.asks_for_less = true;
                    let work = &mut session.work;
                    work.jobs = credit.jobs.unwrap_or(work.jobs);
                    work.bytes = credit.bytes.unwrap_or(work.bytes);
                    for new in &credit.names {
                        if let Some(name) = work.names.iter_mut().find(|name| name.name == new.name) {
                            name.jobs = new.jobs;
                        }
                    }
                }
            }
            M::Holding(holding) => self.hear_holding(conn, holding),
            M::Started(started) => {
                for run in &started.runs {
                    self.run_started(session, *run);
                }
            }
            M::Completed(completed) => {
                for run in &completed.runs {
                    let report = Report::Completed(run.result.clone());
                    self.hear_report(session, run.id, run.fence, report);
                }
            }
            M::Failed(failed) => {
                for run in &failed.runs {
                    let report = Report::Failed {
                        never: run.never,
                        after: run.after,
                        at: now,
                        wall: self.wall,
                    };
                    self.hear_report(session, run.id, run.fence, report);
                }
            }
            M::Released(released) => {
                for run in &released.runs {
                    self.hear_report(session, run.id, run.fence, Report::Released);
                }
            }
            _ => {}
        }
    }

    fn hear_report(&mut self, session: Option<u64>, id: u64, fence: jobq_proto::Fence, report: Report) {
        let now = self.now;
        let run = self.runs.get_mut(&fence);
        let is_its = |run: &&mut Run| {
            run.id == id && session.is_some_and(|id| run.session == id || run.claimed.contains(&id))
        };
        if let Some(run) = run.filter(is_its) {
            if run.report.is_none() {
                run.report = Some(report);
                run.reported = now;
            }
            self.live.remove(&fence);
        }
    }

    fn run_started(&mut self, session: Option<u64>, run: RunRef) {
        let now = self.now;
        let known = self.runs.get_mut(&run.fence);
        let is_its = |known: &&mut Run| {
            known.id == run.id && session.is_some_and(|id| known.session == id || known.claimed.contains(&id))
        };
        if let Some(known) = known.filter(is_its) {
            known.started.get_or_insert(now);
        }
    }

    /// A worker says what it has. What it names goes on, what it does not is given up.
    fn hear_holding(&mut self, conn: ConnId, holding: &Holding) {
        let Some(state) = self.conns.get(&conn) else {
            return;
        };
        let (Some(session), resumed, starts) = (state.session, state.resumed, self.starts) else {
            return;
        };
        self.absent_says_holding(session, holding);
        let named: BTreeSet<_> = holding.runs.iter().map(|run| run.fence).collect();
        for run in holding.runs.iter().filter(|_| resumed) {
            let known = self.runs.get_mut(&run.fence).filter(|known| known.id == run.id);
            if let Some(known) = known.filter(|known| known.session != session && known.ordered < self.begun)
            {
                known.claimed.insert(session);
            }
        }
        for run in &holding.runs {
            if run.state != RunState::Waiting {
                let run = RunRef {
                    id: run.id,
                    fence: run.fence,
                };
                self.run_started(Some(session), run);
            }
        }
        for (fence, run) in &mut self.runs {
            if run.session != session || run.end.is_some_and(|(.., stored)| stored) {
                continue;
            }
            if named.contains(fence) {
                run.known_in = starts;
            } else {
                run.unnamed = true;
                self.live.remove(fence);
            }
        }
    }

    /// The machine is told that a connection has ended.
    pub(in crate::sim) fn server_sees_end(&mut self, now: At, conn: ConnId) {
        self.now = now;
        self.conn_ends(conn);
    }

    /// The machine closes a connection.
    pub(in crate::sim) fn server_closes(&mut self, now: At, conn: ConnId) {
        self.now = now;
        self.conn_ends(conn);
    }

    fn conn_ends(&mut self, conn: ConnId) {
        let now = self.now;
        let id = self.conns.remove(&conn).and_then(|state| state.session);
        if let Some(id) = id
            && let Some(session) = self.sessions.get_mut(&id)
            && session.conn == Some(conn)
        {
            session.conn = None;
            session.gone = Some(now);
            let names = session.work.names.iter().map(|name| name.name.clone()).collect();
            self.orders_may_be_lost(names);
            self.absent_changes_conn(id);
        }
        let requests: Vec<u64> = self
            .requests
            .range((conn, 0)..=(conn, u64::MAX))
            .map(|((_, request), _)| *request)
            .collect();
        for request in requests {
            self.requests.remove(&(conn, request));
        }
    }

    /// A worker's connection has ended. Jobs may have been given to it in this very moment, whose orders never left; those
    /// that have come to the disk in this moment, too, which are told to nobody yet.
    fn orders_may_be_lost(&mut self, names: BTreeSet<String>) {
        let grace = At::try_from(self.config.grace.as_micros()).unwrap_or(At::MAX / 2);
        let until = self.now + grace + 2 * SECOND;
        let live = self.jobs.values_mut().filter(|job| job.ended.is_none());
        for job in live.filter(|job| names.contains(&job.name)) {
            job.strict = false;
            job.doubtful_until = job.doubtful_until.max(until);
        }
    }

    /// The machine sends a message; `disk` says what is durable.
    pub(in crate::sim) fn server_says(
        &mut self,
        now: At,
        conn: ConnId,
        message: &ClientMessage,
        disk: &MemoryReader,
    ) {
        self.now = now;
        if !self.conns.contains_key(&conn) {
            // It was made ready before the connection ended, and reaches nobody. But a session has come back, and gone.
            if let ClientMessage::Hello(welcome) = message
                && welcome.resumed
                && let Some(session) = self.sessions.get_mut(&welcome.session)
                && session.conn.is_none()
            {
                session.gone = Some(now);
            }
            return;
        }
        match message {
            ClientMessage::Hello(welcome) => self.says_welcome(conn, welcome),
            ClientMessage::Acknowledged(answer) => self.says_acknowledged(conn, answer, disk),
            ClientMessage::Order(order) => {
                for job in &order.jobs {
                    self.says_order(conn, job);
                }
            }
            ClientMessage::Settled(settled) => {
                for run in &settled.runs {
                    self.says_settled(conn, run);
                }
            }
            ClientMessage::Ended(ended) => {
                for job in &ended.jobs {
                    self.says_ended(job);
                }
            }
            ClientMessage::Cancelled(cancelled) => self.says_cancelled(cancelled),
            ClientMessage::Stats(stats) => self.says_stats(stats),
            _ => {}
        }
    }

    fn says_welcome(&mut self, conn: ConnId, welcome: &Welcome) {
        let now = self.now;
        // Its session lives on also if its connection has ended meanwhile.
        self.absent_is_heard(welcome.session);
        self.absent_changes_conn(welcome.session);
        let Some(state) = self.conns.get_mut(&conn) else {
            return;
        };
        state.session = Some(welcome.session);
        state.resumed = welcome.resumed;
        let Some(work) = state.work.clone() else { return };
        match self.sessions.get_mut(&welcome.session) {
            Some(session) => {
                session.work = work;
                session.conn = Some(conn);
                session.gone = None;
                session.heard = now;
            }
            None => {
                let session = SessionState {
                    work,
                    conn: Some(conn),
                    gone: None,
                    heard: now,
                    at_work: 0,
                    goodbye: false,
                    closed: false,
                    silenced: false,
                    gone_for_good: false,
                    asks_for_less: false,
                };
                self.sessions.insert(welcome.session, session);
            }
        }
    }

    fn says_acknowledged(&mut self, conn: ConnId, answer: &Acknowledged, disk: &MemoryReader) {
        let Some(uuids) = self.requests.remove(&(conn, answer.request)) else {
            return self.wrong(format!(
                "request {} of connection {conn} is answered, and was not asked",
                answer.request
            ));
        };
        if uuids.len() != answer.jobs.len() {
            return self.wrong(format!(
                "{} jobs were asked for and {} answered",
                uuids.len(),
                answer.jobs.len()
            ));
        }
        for (uuid, receipt) in uuids.into_iter().zip(&answer.jobs) {
            let Some(id) = receipt.id else { continue };
            let ReadAnswer::Records(records) = disk.answer(&Read::Records(vec![JobId(id)])) else {
                continue;
            };
            match records.into_iter().next().flatten() {
                None if self.jobs.get(&id).is_some_and(|job| job.ended.is_some()) => {}
                None => self.wrong(format!("job {id} is acknowledged, and is not on disk")),
                Some(record) if record.uuid != uuid => self.wrong(format!(
                    "job {id} is acknowledged for {}, and is {} on disk",
                    uuid.as_u128(),
                    record.uuid.as_u128()
                )),
                Some(_) => {}
            }
            if !receipt.existing && self.jobs.get(&id).is_some_and(|job| job.ended.is_none()) {
                self.in_line.insert(id);
            }
        }
    }

    fn says_settled(&mut self, conn: ConnId, settled: &SettledRun) {
        let SettledRun { id, fence, outcome } = *settled;
        let session = self.conns.get(&conn).and_then(|state| state.session);
        let resumed = self.conns.get(&conn).is_some_and(|state| state.resumed);
        let Some(run) = self.runs.get(&fence) else {
            if matches!(outcome, SettleOutcome::Applied | SettleOutcome::AlreadyApplied) {
                self.wrong(format!(
                    "a report on run {fence} counts, which was never handed out"
                ));
            }
            return;
        };
        let durable = run.end.filter(|(.., stored)| *stored).map(|(end, ..)| end);
        match outcome {
            SettleOutcome::Applied => {
                let expected = match run.report {
                    Some(Report::Completed(_)) => Some(RunEnd::Completed),
                    Some(Report::Failed { .. }) => Some(RunEnd::Failed),
                    Some(Report::Released) => Some(RunEnd::Released),
                    None => None,
                };
                if durable.is_none() || durable != expected {
                    self.wrong(format!(
                        "job {id}: {expected:?} is told to count for run {fence}, and {durable:?} is on disk"
                    ));
                }
            }
            SettleOutcome::AlreadyApplied if durable.is_none() => {
                self.wrong(format!(
                    "job {id}: run {fence} is told to be on disk already, and is not"
                ));
            }
            SettleOutcome::Stale => {
                let job = self.jobs.get(&id);
                let current = job.is_some_and(|job| job.last == Some(fence) && job.ended.is_none());
                if current && durable.is_none() && !run.unnamed && Some(run.session) == session && resumed {
                    self.wrong(format!(
                        "job {id}: run {fence} goes on, and its worker is told that it is over"
                    ));
                }
            }
            _ => {}
        }
    }

    fn says_ended(&mut self, end: &EndedJob) {
        let known = self.jobs.get(&end.id).and_then(|job| job.ended);
        match (end.status, known) {
            (Some(status), Some((known, ..))) if status == known => {}
            (Some(status), known) => self.wrong(format!(
                "a client is told that job {} is {status}, and on disk it is {known:?}",
                end.id
            )),
            (None, None) if self.jobs.contains_key(&end.id) => self.wrong(format!(
                "a client is told that there is no job {}, and there is",
                end.id
            )),
            (None, _) => {}
        }
    }

    fn says_cancelled(&mut self, cancelled: &Cancelled) {
        for result in &cancelled.jobs {
            let Some(job) = self.jobs.get(&result.id) else {
                continue;
            };
            let ended = job.ended.map(|(status, ..)| status);
            let right = match result.outcome {
                CancelOutcome::Cancelled => ended == Some(jobq_proto::Status::Cancelled),
                CancelOutcome::AlreadyEnded => ended.is_some(),
                CancelOutcome::NotFound => ended.is_some() || job.cancelled_early,
                _ => true,
            };
            if !right {
                let what = format!(
                    "the cancellation of job {} is answered with {:?}, and on disk it is {ended:?}",
                    result.id, result.outcome
                );
                self.wrong(what);
            }
        }
    }

    /// A client has read the acknowledgement of a job.
    pub(in crate::sim) fn client_told_acknowledged(&mut self, id: u64, uuid: uuid::Uuid) {
        self.acknowledged.push((id, uuid));
    }

    /// A client has read that a job has ended.
    pub(in crate::sim) fn client_told_end(&mut self, end: &EndedJob) {
        let Some(status) = end.status else { return };
        let before = *self.told_ends.entry(end.id).or_insert(status);
        if before != status {
            self.wrong(format!(
                "clients were told that job {} is {before}, and that it is {status}",
                end.id
            ));
        }
    }

    /// A client has read an answer.
    pub(in crate::sim) fn client_told(&mut self, now: At, message: &ClientMessage) {
        self.now = now;
        let ClientMessage::Jobs(jobs) = message else {
            return;
        };
        for view in &jobs.jobs {
            if view.status.is_terminal() {
                let end = EndedJob {
                    id: view.id,
                    status: Some(view.status),
                    reason: None,
                    result: None,
                    omitted: false,
                };
                self.client_told_end(&end);
            }
        }
    }

    /// A worker has read what became of its report.
    pub(in crate::sim) fn worker_told(&mut self, settled: &SettledRun) {
        if settled.outcome == SettleOutcome::Applied
            && self
                .runs
                .get(&settled.fence)
                .is_none_or(|run| !run.end.is_some_and(|(.., stored)| stored))
        {
            self.wrong(format!(
                "a worker is told that its report on run {} counts, and it is not on disk",
                settled.fence
            ));
        }
    }
}
