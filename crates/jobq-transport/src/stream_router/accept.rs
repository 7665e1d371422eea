//! Taking connections, and bounding how many there are.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jobq_proto::{ErrorCode, WireError};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Shared;
use super::connection::{refuse, serve};
use crate::listener::Listener;
use crate::log_budget::SharedLogBudget;

/// How long to wait after `accept` failed, as it does when there are too many open files. Nothing says when that
/// is over.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections beyond the limit that are told so at a time; others are closed without a word.
const MAX_REFUSALS: usize = 64;

/// Takes connections until told to stop, then waits for those it took.
pub(super) async fn accept_all<L: Listener>(
    shared: Arc<Shared>,
    mut listener: L,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            setup = listener.accept() => match setup {
                Ok(setup) => admit_one::<L>(&shared, setup, &mut connections),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a connection's task failed");
                }
            }
            () = told(&mut stop) => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Waits for the word to stop.
async fn told(stop: &mut watch::Receiver<bool>) {
    // An error says that the router is gone, and this task with it.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn admit_one<L: Listener>(shared: &Arc<Shared>, setup: L::Setup, connections: &mut JoinSet<()>) {
    match shared.seats.take() {
        Ok(seat) => {
            connections.spawn(serve(shared.clone(), setup, seat));
        }
        Err(Refused {
            place: Some(place),
            error,
        }) => {
            connections.spawn(refuse(shared.clone(), setup, error, place));
        }
        Err(Refused { place: None, .. }) => {}
    }
}

/// How many connections there are, against how many there may be.
pub(super) struct Seats {
    taken: Arc<Count>,
    strangers: Arc<Strangers>,
    refusals: Arc<Count>,
    /// Lines about connections that are refused.
    pub(super) log: SharedLogBudget,
}

/// A connection's places: among all, as long as the router has not heard of its end, and among those that are not
/// admitted. Each is free again when it is dropped.
pub(super) struct Seat {
    pub(super) place: Place,
    pub(super) stranger: Stranger,
}

/// A connection for which there is no seat.
pub(super) struct Refused {
    /// The right to say so; none if too many are being told already.
    place: Option<Place>,
    error: WireError,
}

impl Seats {
    pub(super) fn new(max_peers: usize, max_unadmitted: usize) -> Self {
        Self {
            taken: Count::up_to(max_peers),
            strangers: Strangers::up_to(max_unadmitted),
            refusals: Count::up_to(MAX_REFUSALS),
            log: SharedLogBudget::new(),
        }
    }

    /// Connections that have a seat.
    pub(super) fn taken(&self) -> usize {
        self.taken.count.load(Ordering::Acquire)
    }

    fn take(&self) -> Result<Seat, Refused> {
        let Some(place) = self.taken.take() else {
            return Err(self.refuse(self.taken.limit, "connections"));
        };
        match self.strangers.take() {
            Some(stranger) => Ok(Seat { place, stranger }),
            None => {
                let what = "connections whose Hello it has yet to answer";
                Err(self.refuse(self.strangers.limit, what))
            }
        }
    }

    fn refuse(&self, limit: usize, what: &str) -> Refused {
        let message = format!("the server has {limit} {what} and takes no more");
        if let Some(unlogged) = self.log.take() {
            tracing::warn!(message, unlogged, "a connection is refused");
        }
        Refused {
            place: self.refusals.take(),
            error: WireError::new(ErrorCode::TooManyPeers, message),
        }
    }
}

/// The connections that are not admitted. Where there are as many as may be, a new one takes the place of the one that
/// has been silent the longest: an honest peer says Hello at once, so whoever opens connections and says nothing keeps
/// nobody out.
struct Strangers {
    state: Mutex<Waiting>,
    limit: usize,
}

#[derive(Default)]
struct Waiting {
    count: usize,
    next: u64,
    /// Those that have said nothing yet, the oldest first.
    silent: BTreeMap<u64, Arc<Notify>>,
}

/// The place of a connection among those that are not admitted, until it is dropped.
pub(super) struct Stranger {
    strangers: Arc<Strangers>,
    number: u64,
    replaced: Arc<Notify>,
    spoken: bool,
}

impl Strangers {
    fn up_to(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            limit,
        })
    }

    fn take(self: &Arc<Self>) -> Option<Stranger> {
        let mut waiting = self.lock();
        if waiting.count >= self.limit {
            let (_, replaced) = waiting.silent.pop_first()?;
            replaced.notify_one();
            waiting.count -= 1;
        }
        let number = waiting.next;
        waiting.next += 1;
        waiting.count += 1;
        let replaced = Arc::<Notify>::default();
        waiting.silent.insert(number, replaced.clone());
        drop(waiting);
        Some(Stranger {
            strangers: self.clone(),
            number,
            replaced,
            spoken: false,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing in here panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stranger {
    /// Waits until a newer connection has taken the place of this one.
    pub(super) async fn replaced(&self) {
        self.replaced.notified().await;
    }

    /// It has said something, so it keeps its place. `false` if that is gone.
    pub(super) fn has_spoken(&mut self) -> bool {
        self.spoken = self.strangers.lock().silent.remove(&self.number).is_some();
        self.spoken
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut waiting = self.strangers.lock();
        // The place of one that was replaced is another's.
        if waiting.silent.remove(&self.number).is_some() || self.spoken {
            waiting.count -= 1;
        }
    }
}

/// A number of things, and how many there may be.
pub(super) struct Count {
    count: AtomicUsize,
    limit: usize,
}

impl Count {
    pub(super) fn up_to(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            count: AtomicUsize::new(0),
            limit,
        })
    }

    pub(super) fn take(self: &Arc<Self>) -> Option<Place> {
        let one_more = |count| (count < self.limit).then_some(count + 1);
        self.count
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more)
            .ok()?;
        Some(Place(self.clone()))
    }
}

/// One of a count. It counts until it is dropped.
pub(super) struct Place(Arc<Count>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::AcqRel);
    }
}
