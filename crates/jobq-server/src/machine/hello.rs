//! How connections begin, and how sessions go on and end.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use jobq_proto::job::micros;
use jobq_proto::limits::{MAX_HELD_BYTES, MAX_NAME};
use jobq_proto::message::{Closing, Credit, Hello, NameCredit, Resume, Welcome, Work};
use jobq_proto::{ClientMessage, ErrorCode, JobName, PROTOCOL_VERSION, WireError};
use jobq_transport::{CloseReason, PeerId};
use rand_chacha::rand_core::Rng;
use subtle::ConstantTimeEq;

use super::access::{self, Grant};
use super::lane::LaneKey;
use super::names::NameKey;
use super::paged_map::PagedMap;
use super::pending::Effect;
use super::sessions::{HoldingState, Session, WorkState};
use super::settle::End;
use super::silence::Silence;
use super::{Machine, Map};
use crate::store::{Change, SessionId, SessionRecord};

/// A second of [`Mono`](crate::time::Mono).
const SECOND: u64 = 1_000_000;

/// Bytes in a session's secret.
const SECRET_BYTES: usize = 32;

impl Machine {
    /// The first message of a connection. Who says it, and whether they are let in, comes before all but the version.
    pub(super) fn hello(&mut self, peer: PeerId, hello: Hello) {
        if self.peers.find(peer).is_some_and(|known| known.waiting.is_some()) {
            return self.refuse_peer(peer, hello_repeated());
        }
        if hello.version != PROTOCOL_VERSION {
            let error = WireError::new(
                ErrorCode::WrongVersion,
                format!(
                    "protocol version {} is not spoken here; this server speaks {PROTOCOL_VERSION}",
                    hello.version
                ),
            );
            return self.refuse_peer(peer, error);
        }
        self.knock(peer, hello);
    }

    /// A peer may come in: its session begins, or goes on.
    pub(super) fn welcome(&mut self, peer: PeerId, hello: Hello, grant: Arc<Grant>) {
        match self.check_hello(&hello, &grant) {
            Err(error) => self.refuse_peer(peer, error),
            Ok(work) => {
                let resumed = hello
                    .resume
                    .as_ref()
                    .and_then(|resume| self.resumable(resume, &grant, work.is_some()));
                let (id, secret, is_resumed) = match (resumed, hello.resume) {
                    (Some(id), Some(resume)) => {
                        self.resume(id, peer, hello.label, work);
                        self.end_forbidden_runs(id, &grant);
                        (id, resume.secret, true)
                    }
                    _ => {
                        let (id, secret) = self.open_session(peer, &grant, hello.label, work);
                        (id, secret, false)
                    }
                };
                if let Some(peer) = self.peers.find(peer) {
                    peer.session = Some(id);
                    peer.grant = Some(grant);
                }
                self.outbox.admit(
                    peer,
                    usize::try_from(self.config.limits.frame).unwrap_or(usize::MAX),
                );
                let welcome = self.welcome_message(id, secret, is_resumed);
                self.outbox.send(peer, ClientMessage::Hello(Box::new(welcome)));
                if self.closing {
                    self.outbox
                        .send(peer, ClientMessage::Closing(self.closing_message()));
                }
            }
        }
    }

    fn welcome_message(&self, session: SessionId, secret: Bytes, resumed: bool) -> Welcome {
        let idle_beat = Some(self.config.idle_beat).filter(|idle_beat| *idle_beat > self.config.beat);
        Welcome {
            version: PROTOCOL_VERSION,
            server: self.config.server.clone(),
            store: self.identity,
            epoch: self.epoch,
            session: session.0,
            secret,
            resumed,
            ttl: micros(self.config.ttl),
            grace: micros(self.config.grace),
            beat: micros(self.config.beat),
            idle_beat: idle_beat.map(micros),
            uuid_window: micros(self.config.keep.uuid_window()),
            limits: self.config.limits,
            window: self.config.window,
        }
    }

    /// Checks a Hello; the names of its work, if it has any, in the machine's terms.
    fn check_hello(&mut self, hello: &Hello, grant: &Grant) -> Result<Option<WorkState>, WireError> {
        if hello.label.len() > MAX_NAME || hello.label.chars().any(char::is_control) {
            return Err(WireError::new(
                ErrorCode::BadName,
                format!("a label has at most {MAX_NAME} bytes and no control characters"),
            ));
        }
        let work = hello.work.as_ref();
        work.map(|work| self.check_work(work, grant)).transpose()
    }

    fn check_work(&mut self, work: &Work, grant: &Grant) -> Result<WorkState, WireError> {
        if work.names.is_empty() || work.names.len() as u64 > self.config.limits.names {
            return Err(WireError::new(
                ErrorCode::TooManyItems,
                format!(
                    "a worker lists 1 to {} names, not {}",
                    self.config.limits.names,
                    work.names.len()
                ),
            ));
        }
        let mut wanted = Map::new();
        let prefetch = work.prefetch;
        for NameCredit { name, jobs } in &work.names {
            // First of all: whatever else is wrong is said with the name.
            let job_name = name.parse::<JobName>()?;
            if *jobs > 0 && *jobs <= prefetch {
                return Err(WireError::bad_request(format!(
                    "the worker holds at most {jobs} jobs of the name {name}, and {prefetch} of them are prefetched; \
                     the limits include those"
                )));
            }
            if !grant.may_touch(name) {
                return Err(access::forbidden_name(name));
            }
            if wanted.insert(job_name, *jobs as usize).is_some() {
                return Err(WireError::bad_request(format!("the name {name} is listed twice")));
            }
        }
        Ok(WorkState {
            credits: self.begin_work_on(wanted)?,
            jobs: work.jobs as usize,
            prefetch: work.prefetch as usize,
            bytes: work.bytes.min(MAX_HELD_BYTES),
            recording: 0,
            holding: HoldingState::Awaited,
            checking: Map::new(),
            keeps_free_for: None,
            parked: BTreeSet::new(),
        })
    }

    /// The keys of names that one more session works on, and how many jobs of each it wants to hold.
    fn begin_work_on(&mut self, wanted: Map<JobName, usize>) -> Result<PagedMap<NameKey, usize>, WireError> {
        let mut credits = PagedMap::default();
        for (name, jobs) in wanted {
            match self.names.intern(&name) {
                Ok(key) => {
                    self.names.add_worker(key);
                    credits.insert(key, jobs);
                }
                Err(error) => {
                    self.end_work_on(credits);
                    return Err(error);
                }
            }
        }
        Ok(credits)
    }

    /// A session works on these names no longer, and takes from their lanes no more.
    fn end_work_on(&mut self, credits: PagedMap<NameKey, usize>) {
        for key in credits.keys() {
            self.names.remove_worker(key);
            self.forget_name(key);
        }
    }

    /// Forgets a name, unless there is something to know about it: a worker that comes again and again under other
    /// names leaves nothing behind.
    pub(super) fn forget_name(&mut self, name: NameKey) {
        if !self.is_awaited(name) && self.names.forget_unused(name) {
            self.lines.forget(name);
        }
    }

    fn open_session(
        &mut self,
        peer: PeerId,
        grant: &Grant,
        label: String,
        work: Option<WorkState>,
    ) -> (SessionId, Bytes) {
        let id = self.sessions.next_id();
        let mut secret = [0; SECRET_BYTES];
        self.rng.fill_bytes(&mut secret);
        let silence = Silence::since(self.now.mono);
        let session = Session::new(label, grant.hash_secret(&secret), Some(peer), silence, work);
        self.sessions.insert(id, session);
        self.hasten_session_check(id);
        self.record_session(id);
        self.add_takers(id);
        (id, Bytes::copy_from_slice(&secret))
    }

    /// The session that a Hello may go on with: one of this store, whose secret it shows, and that belongs to whoever
    /// it is.
    pub(super) fn resumable(&mut self, resume: &Resume, grant: &Grant, worker: bool) -> Option<SessionId> {
        let id = SessionId(resume.session);
        if resume.store != self.identity || resume.secret.len() != SECRET_BYTES || !worker {
            return None;
        }
        let session = self.sessions.find(id)?;
        let is_its: bool = session
            .secret_hash
            .ct_eq(&grant.hash_secret(&resume.secret))
            .into();
        (session.is_worker() && is_its).then_some(id)
    }

    /// A session goes on with a new connection; its old one, if it is still there, is closed.
    fn resume(&mut self, id: SessionId, peer: PeerId, label: String, work: Option<WorkState>) {
        self.remove_takers(id);
        self.sessions.keep_free_no_more(id);
        let session = self
            .sessions
            .find(id)
            .expect("the session was found a moment ago");
        let old_peer = session.peer.replace(peer);
        session.label = label;
        session.silence.end(self.now.mono);
        session.grace = None;
        session.revoked = false;
        let (mut new, old) = (work.expect("only workers resume"), session.work.take());
        let same_names = old
            .as_ref()
            .is_some_and(|old| old.credits.keys().eq(new.credits.keys()));
        new.recording = old.as_ref().map_or(0, |old| old.recording);
        session.work = Some(new);
        if let Some(old_peer) = old_peer {
            let error = WireError::new(
                ErrorCode::SessionTaken,
                "another connection goes on with this session",
            );
            self.drop_peer(old_peer, Some(error), CloseReason::Replaced);
        }
        self.return_unsent(id);
        if !same_names {
            self.record_session(id);
        }
        self.end_work_on(old.map(|old| old.credits).unwrap_or_default());
        self.add_takers(id);
        self.sessions.update(id);
        self.hasten_session_check(id);
    }

    /// Ends runs of names that their worker may not touch any more, since it has come back with fewer rights.
    fn end_forbidden_runs(&mut self, id: SessionId, grant: &Grant) {
        if grant.is_unlimited() {
            return;
        }
        let held: Vec<_> = self
            .sessions
            .find(id)
            .map(|session| session.held.jobs().collect())
            .unwrap_or_default();
        for job in held {
            let name = self.leases.find(job).map(|lease| lease.name);
            if name.is_some_and(|name| !grant.may_touch(self.names.name(name).as_str())) {
                self.end_run(job, End::Lost { charged: false });
            }
        }
    }

    /// Has the store know a worker's session; it gets no job before that is durable.
    fn record_session(&mut self, id: SessionId) {
        let ttl = self.config.ttl;
        let Some(session) = self.sessions.find(id) else {
            return;
        };
        let Some(work) = &mut session.work else { return };
        work.recording += 1;
        // A session that came back for other names may still have runs of the earlier ones.
        let keys: BTreeSet<NameKey> = work.credits.keys().chain(session.held.names()).collect();
        let names = keys.into_iter().map(|key| self.names.name(key).clone()).collect();
        let record = SessionRecord {
            id,
            label: session.label.clone(),
            secret_hash: session.secret_hash,
            names,
            ttl,
        };
        self.pending.change(Change::SessionOpened(record));
        self.pending.effect(Effect::SessionRecorded(id));
    }

    pub(super) fn session_recorded(&mut self, id: SessionId) {
        if let Some(work) = self.sessions.find(id).and_then(|s| s.work.as_mut()) {
            work.recording = work.recording.saturating_sub(1);
            self.wake(id);
        }
    }

    /// A session has been silent, or away, for too long. How many names it had.
    pub(super) fn lose_session(&mut self, id: SessionId) -> usize {
        let Some(session) = self.sessions.find(id) else {
            return 0;
        };
        let names = session.work.as_ref().map_or(0, |work| work.credits.len());
        let (peer, revoked) = (session.peer, session.revoked);
        if let Some(peer) = peer {
            let error = WireError::new(
                ErrorCode::SessionSilent,
                "nothing was heard for longer than the time-to-live",
            );
            self.drop_peer(peer, Some(error), CloseReason::SessionEnded);
        }
        let end = match revoked {
            // Nothing says that its jobs took it down.
            true => |_| End::Lost { charged: false },
            false => |started| End::Lost { charged: started },
        };
        tracing::warn!(session = id.0, "a session is lost");
        self.end_session(id, end);
        names
    }

    /// A session says that it will not come back.
    pub(super) fn goodbye(&mut self, peer: PeerId, session: SessionId) {
        self.end_session(session, |_| End::Released);
        self.drop_peer(peer, None, CloseReason::Goodbye);
    }

    /// A session is over: its runs end, each in this way, by whether it had started.
    fn end_session(&mut self, id: SessionId, end: fn(bool) -> End) {
        self.return_unsent(id);
        let Some(session) = self.sessions.find(id) else {
            return;
        };
        let held: Vec<_> = session.held.jobs().collect();
        for job in held {
            let started = self.leases.find(job).is_some_and(|lease| lease.has_started());
            self.end_run(job, end(started));
        }
        self.remove_takers(id);
        self.end_session_check(id);
        if let Some(work) = self.sessions.remove(id).and_then(|session| session.work) {
            self.pending.change(Change::SessionClosed { id });
            // Before that is on disk, a crash would bring the session back, and with it runs that nobody has written down.
            self.pending.effect(Effect::SessionOver(id));
            self.end_work_on(work.credits);
        }
    }

    /// A connection is gone. A worker's session waits for it to come back; a client's ends.
    pub(super) fn forget_peer(&mut self, peer: PeerId) {
        self.outbox.forget(peer);
        self.watches.forget(peer);
        let Some(gone) = self.peers.remove(peer) else {
            return;
        };
        self.leave_backup(peer);
        tracing::debug!(peer = peer.0, from = %gone.info, "a connection is gone");
        let Some(id) = gone.session else { return };
        let grace = self.now.mono.plus(self.config.grace);
        let Some(session) = self.sessions.find(id).filter(|s| s.peer == Some(peer)) else {
            return;
        };
        if session.is_worker() {
            session.grace = Some(grace.min(session.due(&self.config)));
            session.peer = None;
            self.hasten_session_check(id);
            self.sessions.update(id);
            self.return_unsent(id);
        } else {
            self.end_session_check(id);
            self.sessions.remove(id);
        }
    }

    /// Closes a connection with a reason; what still comes from it is ignored.
    pub(super) fn refuse_peer(&mut self, peer: PeerId, error: WireError) {
        if let Some(known) = self.peers.find(peer)
            && let Some(unlogged) = self.refusals.take(self.now.mono.0 / SECOND)
        {
            let code = error.code;
            tracing::warn!(peer = peer.0, from = %known.info, %code, unlogged, "a peer is refused: {}", error.message);
        }
        self.outbox.close(peer, Some(error), CloseReason::Refused);
        self.forget_peer(peer);
    }

    fn drop_peer(&mut self, peer: PeerId, last: Option<WireError>, why: CloseReason) {
        self.outbox.close(peer, last, why);
        self.watches.forget(peer);
        self.peers.remove(peer);
        self.leave_backup(peer);
    }

    /// New limits on what a worker wants to hold.
    pub(super) fn set_credit(&mut self, peer: PeerId, id: SessionId, credit: Credit) {
        let names: Vec<(NameKey, usize)> = credit
            .names
            .iter()
            .filter_map(|c| Some((self.names.find(&c.name)?, c.jobs as usize)))
            .collect();
        let Some(work) = self.sessions.find(id).and_then(|s| s.work.as_mut()) else {
            let error = WireError::new(
                ErrorCode::NotAWorker,
                "Credit is for workers, and Hello named no work",
            );
            return self.refuse_peer(peer, error);
        };
        for (name, jobs) in names {
            if let Some(credit) = work.credits.get_mut(name) {
                *credit = jobs;
            }
        }
        work.jobs = credit.jobs.map_or(work.jobs, |jobs| jobs as usize);
        work.bytes = credit.bytes.map_or(work.bytes, |bytes| bytes.min(MAX_HELD_BYTES));
        self.wake(id);
    }

    fn add_takers(&mut self, id: SessionId) {
        for lane in self.lanes_of(id) {
            self.lines.add_taker(lane, id);
        }
    }

    fn remove_takers(&mut self, id: SessionId) {
        for lane in self.lanes_of(id) {
            self.lines.remove_taker(lane, id);
        }
    }

    fn lanes_of(&mut self, id: SessionId) -> Vec<LaneKey> {
        let work = self.sessions.find(id).and_then(|s| s.work.as_ref());
        work.map(|work| work.credits.keys().flat_map(LaneKey::both).collect())
            .unwrap_or_default()
    }

    /// A session may be able to take again what it could not: it lines up at the lanes it had left.
    pub(super) fn wake(&mut self, id: SessionId) {
        let Some(work) = self.sessions.find(id).and_then(|s| s.work.as_mut()) else {
            return;
        };
        if !work.parked.is_empty() {
            for lane in std::mem::take(&mut work.parked) {
                self.lines.add_taker(lane, id);
            }
        }
        self.sessions.keep_free_no_more(id);
    }

    /// A job of a lane has gone: those that kept themselves free for one of these look for the next job.
    pub(super) fn wake_those_free_for(&mut self, lane: LaneKey) {
        for id in self.sessions.keeping_free_for(lane) {
            self.wake(id);
        }
    }

    pub(super) fn announce_closing(&mut self) {
        let closing = self.closing_message();
        for peer in self.peers.ids() {
            if self.peers.find(peer).is_some_and(|p| p.session.is_some()) {
                self.outbox.send(peer, ClientMessage::Closing(closing));
            }
        }
    }

    fn closing_message(&self) -> Closing {
        Closing {
            within: micros(self.config.close_within),
        }
    }
}

pub(super) fn hello_repeated() -> WireError {
    WireError::new(ErrorCode::HelloRepeated, "Hello comes once on a connection")
}
