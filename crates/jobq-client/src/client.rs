//! The client: a cheap handle to a task that holds the session.

mod ask;
mod backup;
mod builder;
mod driver;
mod list;
mod submit;
mod submitter;
mod wait;
mod watch;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use jobq_proto::message::Welcome;
use jobq_proto::{Window, WireError};
use tokio::sync::{Semaphore, mpsc, oneshot};

pub use ask::RetryReceipt;
pub use backup::{Backup, BackupProgress};
pub use builder::{ClientBuilder, IntoEndpoint};
pub use list::{JobFilter, Listing, Page};
pub use submit::Receipt;
pub use submitter::Submitter;
pub use wait::{Outcome, Outcomes, Results};
pub use watch::{JobEvent, JobEvents};

use crate::error::ConnectError;
use crate::session::SessionError;
use driver::Command;

/// A client of a jobq server: submits jobs, waits for them, asks about them and changes them.
///
/// It is a handle to a task that holds the connection; clones share it, and the task ends with the last of them.
/// When the connection is lost, the task connects again for as long as it takes, says so in the log, and repeats
/// whatever is unanswered. Every call but the waiting ones has a deadline.
///
/// ```no_run
/// use jobq_client::{Client, JobRequest};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::connect("tcp://127.0.0.1:7420").await?;
/// let receipt = client.submit(JobRequest::new("thumbnail").params(&("a/b.png", 640))?).await?;
/// let size: (u32, u32) = client.result(receipt.id).await?;
/// client.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    handle: Arc<Handle>,
    /// How long a call waits for its answer.
    deadline: Duration,
}

#[derive(Debug)]
struct Handle {
    /// Holds no more jobs than `submit_permits` allow, no more questions than `ask_permits`, and at most two commands for
    /// each wait.
    commands: mpsc::UnboundedSender<Command>,
    /// Spent by each job, and given back by the task when it has room for more.
    submit_permits: Arc<Semaphore>,
    /// Lent to each question until it is answered.
    ask_permits: Arc<Semaphore>,
    state: Arc<State>,
    /// For groups of watched jobs, and streams of submitted ones.
    next_number: AtomicU64,
}

/// What the task tells its handles.
#[derive(Debug)]
struct State {
    welcome: RwLock<Arc<Welcome>>,
    over: OnceLock<SessionError>,
    refusal: Mutex<Option<WireError>>,
}

impl Client {
    /// How long a call waits for its answer, unless the builder says otherwise.
    pub const DEADLINE: Duration = Duration::from_secs(30);

    /// Connects to a server with the default settings. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The address is none, nobody answers there, or the server refuses; the error names the address.
    pub async fn connect(endpoint: impl IntoEndpoint) -> Result<Client, ConnectError> {
        Self::builder(endpoint).connect().await
    }

    /// Settings for a client.
    pub fn builder(endpoint: impl IntoEndpoint) -> ClientBuilder {
        ClientBuilder::new(endpoint)
    }

    /// The same client with another deadline for each of its calls; the one before keeps its own.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn example(client: jobq_client::Client) -> Result<(), jobq_client::AskError> {
    /// let stats = client.with_deadline(Duration::from_secs(2)).stats().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Client {
        Client {
            handle: self.handle.clone(),
            deadline,
        }
    }

    /// How long each call waits for its answer.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// The server's terms, as it last stated them.
    pub fn welcome(&self) -> Arc<Welcome> {
        self.handle
            .state
            .welcome
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// How much may be unacknowledged, as the server last said.
    fn window(&self) -> Window {
        let welcome = self.handle.state.welcome.read();
        welcome.unwrap_or_else(PoisonError::into_inner).window
    }

    /// Why the server takes some jobs of this client, or of its clones, not now, while they are repeated: its queue is
    /// full, say. None when nothing that is being submitted was refused by the last answer. For telling people what is
    /// waited for.
    pub fn refusal(&self) -> Option<WireError> {
        let refusal = self.handle.state.refusal.lock();
        refusal.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the session, for all clones of this client, and waits up to a second for the server to be told. What is
    /// unanswered ends with an error.
    pub async fn close(self) {
        let (closed, done) = oneshot::channel();
        if self.handle.commands.send(Command::Close(closed)).is_ok() {
            // An error means that the task has ended already.
            let _ = done.await;
        }
    }

    /// Why the session is over, if it is over for good and was not closed.
    fn over(&self) -> Option<SessionError> {
        self.handle.state.over.get().cloned()
    }

    fn next_number(&self) -> u64 {
        self.handle.next_number.fetch_add(1, Ordering::Relaxed)
    }
}
