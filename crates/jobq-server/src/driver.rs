//! Joins the machine to a router, a store and a clock.
//!
//! One loop: take what has come, hand it to the machine, carry out what the machine wants. While a batch is being
//! synced the next one fills; that is the group commit, and it needs no timer.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use futures::{FutureExt, future};
use jobq_transport::{PeerId, Router, RouterEvent, SendError, TransportError};
use tokio::sync::watch;

use crate::access::Tokens;
use crate::clock::Clock;
use crate::machine::{Machine, ReadToken, Transmit};
use crate::store::{ReadAnswer, Space, Store, StoreError, StoreEvent, StoreReader};
use crate::time::{Mono, Now};

/// Batches handed to the store and not yet durable: one that is being synced, and one that is ready when that is
/// done.
const MAX_BATCHES: usize = 2;

/// A store that has failed says why within this time: its marker may have to be written first.
const TELLS_WITHIN: Duration = Duration::from_secs(10);

/// Events taken from the router at a time.
const EVENTS: usize = 4_096;

/// How often the router is emptied before timers fire. What arrived before a lease's deadline is in it, and peers
/// that go on sending cannot hold the timers up for ever.
const ROUNDS_BEFORE_TIMERS: usize = 64;

/// A timer that fires this late was held up by something that may have held up the connections' readers too.
const LATE: Duration = Duration::from_millis(100);

/// A server that was suspended for so long, or whose timers are so late, was not listening: its sessions get time to
/// speak before they are given up.
const PAUSE: Duration = Duration::from_secs(1);

/// How long the connections' readers then have, for one pass over what has arrived.
const LATE_PAUSE: Duration = Duration::from_millis(2);

/// While the machine has no room, since the store is stuck: how often it is looked for what can be heard all the same.
/// A small part of a Beat's interval, and long enough that a commit is over before, where nothing is wrong.
const HEAR_EVERY: Duration = Duration::from_millis(100);

/// Most events that wait here when more are looked for.
const MAX_WAITING: usize = 2 * EVENTS;

/// What is queued for a peer, in bytes, above which it is sent only what it has to know. Far below what a router queues
/// for one peer, so that what is said by the way never fills that.
const MAX_QUEUED: usize = 256 * 1024;

/// The same, above which its Queries wait: a short page. Who has not read the last one needs no next one yet.
const MAX_UNREAD: usize = 64 * 1024;

/// While questions wait for their peers to read: how often it is looked whether they have. Long enough to cost nothing,
/// and short enough that a page each time is more than a person reads.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Why a server stopped serving.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The store failed. Nothing was acknowledged from then on; what was under way is in doubt, and clients repeat
    /// it.
    #[error("the store failed: {0}")]
    Store(#[from] StoreError),
    /// The transport failed.
    #[error("the transport failed: {0}")]
    Transport(#[from] TransportError),
    /// The server's task panicked, which is a defect.
    #[error("the server panicked: {0}")]
    Panicked(String),
}

/// How far a stop has been asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Stop {
    /// Not at all.
    #[default]
    No,
    /// Let workers finish or give back what they have, within the limit for that.
    Graceful,
    /// Wait for no worker; what they have is theirs when the server is back.
    Now,
}

/// The loop and what it joins.
pub(crate) struct Driver<R, S: Store, C> {
    machine: Machine,
    router: R,
    /// Before the store, whose readers wait for them when it is dropped.
    reads: Reads,
    store: S,
    clock: C,
    stop: watch::Receiver<Stop>,
    /// The tokens that count, when others do than before.
    tokens: watch::Receiver<Option<Tokens>>,
    /// Taken from the router, and not handed to the machine yet.
    inbox: VecDeque<RouterEvent>,
    /// While the machine has no room: when it is looked next for what can be heard all the same.
    hear_at: Option<Mono>,
    batches_out: usize,
    /// How long the computer had been suspended when that was last looked at.
    suspended: Duration,
    /// How much room the store has; without any, its batches do not come back.
    space: Space,
}

type Reads = FuturesUnordered<future::BoxFuture<'static, (ReadToken, Result<ReadAnswer, StoreError>)>>;

/// What ended a wait.
enum Woken {
    Router(Result<(), TransportError>),
    /// All that has come is brief.
    Brief(Result<(), TransportError>),
    Store(Result<StoreEvent, StoreError>),
    Read(ReadToken, Result<ReadAnswer, StoreError>),
    Timeout,
    /// It is time to look for what can be heard without room.
    Hear,
    /// A peer may have read what waited for it.
    Reader,
    Stop,
    Tokens,
}

impl<R: Router, S: Store, C: Clock> Driver<R, S, C> {
    pub(crate) fn new(
        machine: Machine,
        router: R,
        store: S,
        clock: C,
        stop: watch::Receiver<Stop>,
        tokens: watch::Receiver<Option<Tokens>>,
    ) -> Self {
        Self {
            machine,
            router,
            store,
            suspended: clock.suspended(),
            clock,
            stop,
            tokens,
            inbox: VecDeque::new(),
            hear_at: None,
            reads: FuturesUnordered::new(),
            batches_out: 0,
            space: Space::Enough,
        }
    }

    /// Serves until a stop is asked for and done, or something fails.
    pub(crate) async fn run(mut self, close_within: Duration) -> Result<(), ServeError> {
        let mut served = self.serve(close_within).await;
        if let Err(ServeError::Store(StoreError::Closed)) = served {
            served = Err(self.why_closed().await.into());
        }
        if served.is_ok() {
            self.machine.close_peers();
            self.carry_out();
            self.router.drain().await;
        }
        // Questions that nobody will hear the answer to must not hold the store's readers.
        self.reads.clear();
        if let Err(ServeError::Store(error)) = &served
            && error.is_damage()
        {
            return served; // Nothing more is written to a store that cannot be trusted.
        }
        // Whatever else failed, the store is closed in order as far as it can be.
        let closed = self.store.close().await;
        served?;
        Ok(closed?)
    }

    /// Why the store is closed: its readers turn questions away as soon as it has failed, and it says why elsewhere.
    async fn why_closed(&mut self) -> StoreError {
        let failure = async {
            loop {
                if let Err(error) = self.store.recv().await {
                    return error;
                }
            }
        };
        let told = tokio::time::timeout(TELLS_WITHIN, failure).await;
        told.unwrap_or(StoreError::Closed)
    }

    async fn serve(&mut self, close_within: Duration) -> Result<(), ServeError> {
        let mut events = Vec::new();
        let mut deadline = None;
        loop {
            self.carry_out();
            let stop = *self.stop.borrow_and_update();
            if stop != Stop::No {
                let now = self.clock.now();
                self.machine.handle_shutdown(now);
                self.carry_out();
                let deadline = *deadline.get_or_insert(now.mono.plus(close_within));
                let give_up = stop == Stop::Now || now.mono >= deadline;
                if self.machine.is_drained() || (give_up && self.machine.is_idle()) {
                    return Ok(());
                }
                if give_up && self.space == Space::Full {
                    return Err(StoreError::NoRoom.into());
                }
            }
            let woken = self.wait(&mut events, deadline).await;
            self.notice_suspend();
            self.inbox.extend(events.drain(..));
            match woken {
                Woken::Router(received) => received?,
                Woken::Brief(received) => {
                    received?;
                    self.hand_in_while(Machine::accepts_brief);
                }
                Woken::Store(event) => self.store_event(event?),
                Woken::Read(token, answer) => self.read(token, answer)?,
                Woken::Timeout => self.timeout(&mut events).await,
                Woken::Hear => self.hear(&mut events),
                Woken::Reader | Woken::Stop => {}
                Woken::Tokens => {
                    let tokens = self.tokens.borrow_and_update().clone();
                    self.machine.handle_tokens(self.clock.now(), tokens);
                }
            }
            self.take_more()?;
        }
    }

    /// Waits for one thing to happen.
    async fn wait(&mut self, events: &mut Vec<RouterEvent>, deadline: Option<Mono>) -> Woken {
        let accepts = self.machine.accepts();
        if accepts && !self.inbox.is_empty() {
            return Woken::Router(Ok(()));
        }
        // What came before, and has no room, is not overtaken.
        let accepts_brief = !accepts && self.inbox.is_empty() && self.machine.accepts_brief();
        let timeout = self.machine.poll_timeout().filter(|_| accepts);
        let now = self.clock.now().mono;
        // Once it has passed, the deadline of a stop waits for batches only, which say so themselves.
        let deadline = deadline.filter(|at| *at > now);
        let wait = [timeout, deadline]
            .into_iter()
            .flatten()
            .min()
            .map(|at| at.since(now));
        self.hear_at = (!accepts).then(|| self.hear_at.unwrap_or(now.plus(HEAR_EVERY)));
        let hear = self.hear_at.map(|at| at.since(now));
        let look_again = self.machine.holds_queries().then_some(LOOK_AGAIN);
        tokio::select! {
            event = self.store.recv() => Woken::Store(event),
            woken = listen(&mut self.router, events, accepts_brief), if accepts || accepts_brief => woken,
            Some((token, answer)) = self.reads.next(), if !self.reads.is_empty() => Woken::Read(token, answer),
            () = sleep(wait) => Woken::Timeout,
            () = sleep(hear) => Woken::Hear,
            () = sleep(look_again) => Woken::Reader,
            Ok(()) = self.stop.changed() => Woken::Stop,
            Ok(()) = self.tokens.changed() => Woken::Tokens,
        }
    }

    /// After a suspend, whoever was suspended too has to be heard before anything runs out.
    fn notice_suspend(&mut self) {
        let suspended = self.clock.suspended();
        let since = suspended.saturating_sub(std::mem::replace(&mut self.suspended, suspended));
        if since > PAUSE {
            tracing::info!(?since, "the computer was suspended");
            self.machine.handle_pause(self.clock.now());
        }
    }

    /// Takes what else the store has reported meanwhile, so that it is dealt with together. What peers say is left to the
    /// router, which knows whose turn it is.
    fn take_more(&mut self) -> Result<(), ServeError> {
        while self.batches_out > 0
            && let Some(event) = self.store.recv().now_or_never()
        {
            self.store_event(event?);
        }
        while let Some(Some((token, answer))) = self.reads.next().now_or_never() {
            let is_long = matches!(answer, Ok(ReadAnswer::Query(_)));
            self.read(token, answer)?;
            if is_long {
                break;
            }
        }
        self.hand_in();
        Ok(())
    }

    /// The store has reported something.
    fn store_event(&mut self, event: StoreEvent) {
        let now = self.clock.now();
        match event {
            StoreEvent::Stored(stored) => {
                self.batches_out -= 1;
                self.machine.handle_stored(now, stored);
            }
            StoreEvent::Pruned(pruned) => self.machine.handle_pruned(now, pruned),
            StoreEvent::Backup(report) => self.machine.handle_backup(now, report),
            StoreEvent::Space(space) => {
                self.space = space;
                self.machine.handle_space(now, space);
            }
        }
    }

    /// The store has answered, or could not. One that cannot answer what a person asked goes on, unless it is
    /// damaged.
    fn read(&mut self, token: ReadToken, answer: Result<ReadAnswer, StoreError>) -> Result<(), StoreError> {
        let now = self.clock.now();
        match answer {
            Ok(answer) => self.machine.handle_read(now, token, answer),
            Err(error) if error.is_damage() => return Err(error),
            Err(error) => {
                tracing::error!("a question to the store failed: {error}");
                if !self.machine.handle_unread(now, token) {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Something is due; but before anybody loses a run, everything that has arrived before is handled. Where the
    /// process was stopped or busy for a while, that is not in the inbox yet but in the connections' buffers, so
    /// their readers go first.
    async fn timeout(&mut self, events: &mut Vec<RouterEvent>) {
        let now = self.clock.now();
        let due = self.machine.poll_timeout().unwrap_or(now.mono);
        let late = now.mono.since(due);
        let is_late = late > LATE;
        if late > PAUSE {
            tracing::warn!(?late, "the server was held up");
            self.machine.handle_pause(now);
        }
        let rounds = if self.machine.takes_runs(now.mono) {
            ROUNDS_BEFORE_TIMERS
        } else {
            0
        };
        for _ in 0..rounds {
            if is_late {
                tokio::time::sleep(LATE_PAUSE).await;
            }
            self.hand_in();
            if !self.machine.accepts() {
                return; // The timers are still due when there is room again.
            }
            if self.router.try_recv(events, EVENTS) == 0 {
                break;
            }
            self.inbox.extend(events.drain(..));
        }
        if !self.machine.accepts() {
            return;
        }
        let mono = now.mono.max(self.machine.now().mono);
        self.machine.handle_timeout(Now { mono, ..now });
    }

    /// Hands events to the machine for as long as it has room.
    fn hand_in(&mut self) {
        self.hand_in_while(Machine::accepts);
    }

    fn hand_in_while(&mut self, has_room: impl Fn(&Machine) -> bool) {
        let now = self.clock.now();
        while has_room(&self.machine) {
            let Some(event) = self.inbox.pop_front() else {
                break;
            };
            self.handle(now, event);
        }
    }

    /// Hands in what the machine hears although it has no room; the rest waits, in order for each peer. So sessions
    /// live on however long the store is stuck. What waits is bounded as ever: here by number, and in the router for
    /// each peer.
    fn hear(&mut self, events: &mut Vec<RouterEvent>) {
        self.hear_at = None;
        self.machine.handle_hearing(self.clock.now());
        if self.inbox.len() < MAX_WAITING {
            let machine = &mut self.machine;
            let waiting: HashSet<PeerId> = self.inbox.iter().map(RouterEvent::peer).collect();
            self.router
                .try_recv_some(events, EVENTS, &mut |peer, message, behind| {
                    machine.hears(peer, message, behind || waiting.contains(&peer))
                });
            self.inbox.extend(events.drain(..));
        }
        let now = self.clock.now();
        let mut behind = HashSet::new();
        for event in std::mem::take(&mut self.inbox) {
            let peer = event.peer();
            let is_behind = behind.contains(&peer);
            let is_heard = match &event {
                RouterEvent::Opened { .. } => true,
                RouterEvent::Message { message, .. } => self.machine.hears(peer, message, is_behind),
                RouterEvent::Closed { .. } => !is_behind,
            };
            if is_heard {
                self.handle(now, event);
            } else {
                behind.insert(peer);
                self.inbox.push_back(event);
            }
        }
    }

    fn handle(&mut self, now: Now, event: RouterEvent) {
        match event {
            RouterEvent::Opened { peer, info } => self.machine.handle_opened(now, peer, info),
            RouterEvent::Message { peer, message } => self.machine.handle_message(now, peer, message),
            RouterEvent::Closed { peer, why } => {
                tracing::debug!(peer = peer.0, "connection closed: {why}");
                self.machine.handle_closed(now, peer);
            }
        }
    }

    /// Does what the machine wants: batches first, since the others wait for them.
    fn carry_out(&mut self) {
        while self.batches_out < MAX_BATCHES {
            let Some(batch) = self.machine.poll_batch() else {
                break;
            };
            self.batches_out += 1;
            self.store.commit(batch);
        }
        if let Some(prune) = self.machine.poll_prune() {
            self.store.prune(prune);
        }
        while let Some(order) = self.machine.poll_backup() {
            self.store.back_up(order);
        }
        let router = &self.router;
        while let Some(asked) = self
            .machine
            .poll_read_for(|peer| router.queued(peer) <= MAX_UNREAD)
        {
            let reader = self.store.reader();
            self.reads
                .push(async move { (asked.token, reader.read(asked.read).await) }.boxed());
        }
        while let Some(transmit) = self.machine.poll_transmit() {
            match transmit {
                Transmit::Offer(peer, message) if self.router.queued(peer) > MAX_QUEUED => {
                    self.machine.handle_no_room(self.clock.now(), peer, message);
                }
                Transmit::Send(peer, message) | Transmit::Offer(peer, message) => {
                    match self.router.send(peer, message) {
                        Ok(()) | Err(SendError::Gone(_)) => {}
                        // The router closes a connection that cannot be written to, and reports it.
                        Err(error) => tracing::warn!(peer = peer.0, "a message was not sent: {error}"),
                    }
                }
                Transmit::Admit(peer, max_frame) => self.router.admit(peer, max_frame),
                Transmit::Close(peer, last, why) => self.router.close(peer, last, why),
            }
        }
        self.router.flush();
    }
}

/// Waits for what peers say; only for what is brief, if there is room for no more.
async fn listen(router: &mut impl Router, events: &mut Vec<RouterEvent>, only_brief: bool) -> Woken {
    match only_brief {
        true => Woken::Brief(router.recv_brief(events, EVENTS).await),
        false => Woken::Router(router.recv(events, EVENTS).await),
    }
}

/// Waits so long, or for ever.
async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => future::pending().await,
    }
}

#[cfg(test)]
mod tests;
