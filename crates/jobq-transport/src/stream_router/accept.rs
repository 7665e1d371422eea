//! Taking connections, and bounding how many there are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jobq_proto::{ErrorCode, WireError};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Shared;
use super::connection::{refuse, serve};
use crate::listener::Listener;

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
    unadmitted: Arc<Count>,
    refusals: Arc<Count>,
}

/// A connection's places: among all, as long as the router has not heard of its end, and among those that are not
/// admitted. Each is free again when it is dropped.
pub(super) struct Seat {
    pub(super) place: Place,
    pub(super) unadmitted: Place,
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
            unadmitted: Count::up_to(max_unadmitted),
            refusals: Count::up_to(MAX_REFUSALS),
        }
    }

    /// Connections that have a seat.
    pub(super) fn taken(&self) -> usize {
        self.taken.count.load(Ordering::Acquire)
    }

    fn take(&self) -> Result<Seat, Refused> {
        let Some(place) = self.taken.take() else {
            return Err(self.refuse(&self.taken, "connections"));
        };
        match self.unadmitted.take() {
            Some(unadmitted) => Ok(Seat { place, unadmitted }),
            None => Err(self.refuse(&self.unadmitted, "connections that have not said Hello")),
        }
    }

    fn refuse(&self, full: &Count, what: &str) -> Refused {
        let message = format!("the server has {} {what} and takes no more", full.limit);
        tracing::warn!(message, "a connection is refused");
        Refused {
            place: self.refusals.take(),
            error: WireError::new(ErrorCode::TooManyPeers, message),
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
