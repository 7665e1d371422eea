//! The worker as a whole: its handlers, its settings, and its life.

use std::collections::HashSet;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::BoxFuture;
use jobq_client::{IntoEndpoint, Session, SessionConfig, SessionError};
use jobq_proto::limits::{MAX_FIRST_FRAME, MAX_NAME};
use jobq_proto::message::{NameCredit, Work};
use jobq_proto::{JobName, WireError};
use jobq_transport::{AddressError, ClientTls, Endpoint, TlsError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio_util::sync::CancellationToken;

use crate::engine::{Call, Engine, Link};
use crate::error::JobError;
use crate::handler::{self, Handler};
use crate::job::{Job, Run};
use crate::machine::{Config, MAX_HELD, Machine, NameLimit, Summary};
use crate::observer::Observer;
use crate::shell::Shell;
use crate::worker::{Worker, assert_name};

/// Handlers that are begun in one go, before those that run get their turn. A task queue of tokio holds this many.
const CALLS_AT_ONCE: usize = 256;

/// Those that end without a wait are begun for so long in one go, or timers and sockets of the same runtime would wait for
/// all of them.
const CALLS_TIME: Duration = Duration::from_millis(1);

/// Handlers between two looks at the time.
const LOOK_EVERY: usize = 8;

/// How far runs have come is told ten times a second at most: nobody sees more.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// Bytes of a worker's Hello beside its names, label and token: the resumed session, the numbers and all keys.
const HELLO_HEAD: usize = 256;

/// Bytes that a name takes in Hello beside its text.
const NAME_HEAD: usize = 20;

/// Runs workers: connects to a server, takes jobs, calls handlers and reports how they ended, until it is told to
/// stop. It reconnects for ever.
///
/// ```no_run
/// use jobq_worker::{Job, JobError, Run, Runtime};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let summary = Runtime::new("tcp://127.0.0.1:7420")
///     .handler("ping", |_job: Job<()>, _run: Run| async move { Ok("pong") })
///     .blocking("count", |job: Job<String>, run: Run| {
///         let mut words = 0;
///         for _word in job.params.split_whitespace() {
///             if run.is_cancelled() {
///                 return Err(JobError::retry("stopped"));
///             }
///             words += 1;
///         }
///         Ok(words)
///     })
///     .concurrency(8)
///     .run(std::future::pending::<()>())
///     .await?;
/// println!("{} jobs completed", summary.completed);
/// # Ok(())
/// # }
/// ```
#[must_use = "a runtime does nothing until it is run"]
pub struct Runtime {
    /// Read where the caller can be told what is wrong with it.
    server: Result<Endpoint, AddressError>,
    handlers: Vec<(String, Arc<dyn Handler>)>,
    limits: Vec<(String, u32)>,
    concurrency: u32,
    prefetch: u32,
    default_timeout: Option<Duration>,
    credit_bytes: u64,
    label: String,
    token: Option<String>,
    tls: Option<ClientTls>,
    shutdown_timeout: Duration,
    cancel_grace: Duration,
    observer: Option<Arc<dyn Observer>>,
}

/// A [`Runtime`] whose settings are right, without its server.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) handlers: Vec<Arc<dyn Handler>>,
    pub(crate) observer: Option<Arc<dyn Observer>>,
    pub(crate) shutdown_timeout: Duration,
}

/// Why a worker could not run, or cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The server's address cannot be read.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// What the settings for TLS say cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A handler has a name that no job can have.
    #[error(transparent)]
    Name(WireError),
    /// Two handlers have the same name, or a limit is for a name without a handler.
    #[error("there are {count} handlers for {name:?}, and there must be one")]
    Handlers {
        /// The name.
        name: String,
        /// How many handlers it has.
        count: usize,
    },
    /// There is no handler, so nothing to do.
    #[error("the worker has no handlers; add one with worker(), handler() or blocking()")]
    NoHandlers,
    /// A number in the settings is out of range.
    #[error("{setting} is {value}, and has to be {expected}")]
    Setting {
        /// Which.
        setting: &'static str,
        /// What it is.
        value: u64,
        /// What it may be.
        expected: String,
    },
    /// The session's thread could not be started.
    #[error("cannot start the session's thread: {0}")]
    Thread(#[source] io::Error),
    /// The server refuses this worker for good, or there is no server to come back to.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The session's thread panicked; an [`Observer`] may have. The server releases what the worker held.
    #[error("the session's thread panicked")]
    Panicked,
}

impl Runtime {
    /// How many handlers run at a time, unless told otherwise.
    pub const CONCURRENCY: u32 = 8;
    /// How many bytes of params are held at a time, unless told otherwise.
    pub const CREDIT_BYTES: u64 = 8 * 1024 * 1024;
    /// How long handlers may run after the shutdown began, unless told otherwise.
    pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);
    /// How long a handler that was told to stop has, unless told otherwise. Less than the 10 s after which the
    /// server revokes a run that has timed out.
    pub const CANCEL_GRACE: Duration = Duration::from_secs(5);

    /// A worker of the server at an address such as `tcp://127.0.0.1:7420`, `tls://queue.example` or
    /// `unix:///run/jobq.sock`, or at an [`Endpoint`], which may be a server in this process.
    pub fn new(server: impl IntoEndpoint) -> Self {
        Self {
            server: server.into_endpoint(),
            handlers: Vec::new(),
            limits: Vec::new(),
            concurrency: Self::CONCURRENCY,
            prefetch: 0,
            default_timeout: None,
            credit_bytes: Self::CREDIT_BYTES,
            label: String::new(),
            token: None,
            tls: None,
            shutdown_timeout: Self::SHUTDOWN_TIMEOUT,
            cancel_grace: Self::CANCEL_GRACE,
            observer: None,
        }
    }

    /// Runs the jobs of `W::JOB_NAME`.
    pub fn worker<W: Worker>(self, worker: W) -> Self {
        assert_name::<W>();
        self.add(W::JOB_NAME, handler::of_worker(worker))
    }

    /// Runs the jobs of `name` with an asynchronous closure. It must not block its thread for long; what does
    /// belongs in [`Runtime::blocking`].
    pub fn handler<F, Fut, P, O>(self, name: &str, handler: F) -> Self
    where
        F: Fn(Job<P>, Run) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, JobError>> + Send + 'static,
        P: DeserializeOwned + Send + 'static,
        O: Serialize + Send + 'static,
    {
        self.add(name, handler::of_async(handler))
    }

    /// Runs the jobs of `name` with a closure that may block; each run has a thread of tokio's blocking pool, which
    /// has 512 unless the runtime was built otherwise.
    pub fn blocking<F, P, O>(self, name: &str, handler: F) -> Self
    where
        F: Fn(Job<P>, Run) -> Result<O, JobError> + Send + Sync + 'static,
        P: DeserializeOwned + Send + 'static,
        O: Serialize + Send + 'static,
    {
        self.add(name, handler::of_blocking(handler))
    }

    /// Runs the jobs of `name` with a closure that takes the params as they came and returns the result as it goes:
    /// one encoded CBOR item each, which nobody looks into.
    pub fn raw_handler<F, Fut>(self, name: &str, handler: F) -> Self
    where
        F: Fn(Job<Bytes>, Run) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Option<Bytes>, JobError>> + Send + 'static,
    {
        self.add(name, handler::of_raw(handler))
    }

    /// How many handlers run at a time, over all names. The default is [`Runtime::CONCURRENCY`].
    pub fn concurrency(self, concurrency: u32) -> Self {
        Self { concurrency, ..self }
    }

    /// How many handlers of one name run at a time, if fewer than [`Runtime::concurrency`].
    pub fn concurrency_of(mut self, name: &str, concurrency: u32) -> Self {
        self.limits.push((name.to_owned(), concurrency));
        self
    }

    /// How long a run may take whose job has no time-out of its own; without this, for ever. Like a job's time-out it
    /// counts from the call of the handler, and what takes longer is a failed attempt.
    pub fn default_timeout(self, default_timeout: Duration) -> Self {
        let default_timeout = Some(default_timeout);
        Self {
            default_timeout,
            ..self
        }
    }

    /// How many jobs are held beyond those that run, so that the next is at hand when one ends. The default is 0:
    /// a job that waits here could run elsewhere.
    pub fn prefetch(self, prefetch: u32) -> Self {
        Self { prefetch, ..self }
    }

    /// How many bytes of params are held at a time. The default is [`Runtime::CREDIT_BYTES`]; one job is always
    /// taken, however large.
    pub fn credit_bytes(self, credit_bytes: u64) -> Self {
        Self { credit_bytes, ..self }
    }

    /// What the worker calls itself, for logs and listings: up to 128 bytes. It identifies nothing.
    pub fn label(self, label: impl Into<String>) -> Self {
        let label = label.into();
        Self { label, ..self }
    }

    /// The secret that the server asks for.
    pub fn token(self, token: impl Into<String>) -> Self {
        let token = Some(token.into());
        Self { token, ..self }
    }

    /// Whom to trust at a `tls://` address, and which certificate to show there. Without this, the system's CAs are
    /// trusted, and no certificate is shown. For a Unix socket it means nothing, and with `tcp://` it is an error. The
    /// files are read anew for each connection, so a certificate can be renewed while the worker runs.
    ///
    /// ```no_run
    /// use jobq_worker::{ClientTls, Job, Run, Runtime};
    ///
    /// let worker = Runtime::new("tls://queue.example")
    ///     .tls(ClientTls::new().ca("ca.pem").identity("worker-1.pem", "worker-1.key"))
    ///     .handler("ping", |_job: Job<()>, _run: Run| async move { Ok("pong") });
    /// ```
    pub fn tls(self, tls: ClientTls) -> Self {
        let tls = Some(tls);
        Self { tls, ..self }
    }

    /// How long handlers may run after the shutdown began, before they are told to stop and their jobs given back.
    /// The default is [`Runtime::SHUTDOWN_TIMEOUT`].
    pub fn shutdown_timeout(self, shutdown_timeout: Duration) -> Self {
        Self {
            shutdown_timeout,
            ..self
        }
    }

    /// How long a handler that was told to stop has until it is dropped, and its run ended without it. The default
    /// is [`Runtime::CANCEL_GRACE`].
    pub fn cancel_grace(self, cancel_grace: Duration) -> Self {
        Self { cancel_grace, ..self }
    }

    /// Who is told what the worker does.
    pub fn observer(self, observer: impl Observer) -> Self {
        let observer = Some(Arc::new(observer) as Arc<dyn Observer>);
        Self { observer, ..self }
    }

    /// Runs until `shutdown` completes, and then shuts down: takes nothing new, gives back what has not started,
    /// lets handlers finish within the shutdown's time-out, gives the rest back, and waits until the server has all
    /// that on disk.
    ///
    /// Handlers run on the tokio runtime that this is called on. The session has a thread of its own, so that a
    /// handler that blocks does not cost its neighbours their leases. When the future is dropped, handlers are told
    /// to stop, and what they leave is given back.
    ///
    /// # Errors
    /// What is wrong with the settings, at once. Later only what trying again cannot help: a token or a version that
    /// the server refuses, or an embedded server that is gone.
    pub async fn run(self, shutdown: impl Future) -> Result<Summary, RuntimeError> {
        let config = self.config()?;
        let session = self.session(&config).await?;
        let link = Arc::new(Link::new());
        let machine = Machine::new(config);
        let engine = Engine::new(machine, Arc::clone(&link), self.observer);
        let shell = Shell::new(engine, session, self.shutdown_timeout);
        let handlers = self.handlers.into_iter().map(|(_, handler)| handler).collect();
        let _abandon = link.abandon.clone().drop_guard();
        let mut over = pin!(spawn(shell, link.over.clone())?);
        tokio::spawn(dispatch(handlers, Arc::clone(&link)));
        tokio::select! {
            result = &mut over => return result.unwrap_or(Err(RuntimeError::Panicked)),
            _ = shutdown => link.shutdown.cancel(),
        }
        over.await.unwrap_or(Err(RuntimeError::Panicked))
    }

    /// What a worker without a server is made of.
    pub(crate) fn into_parts(self) -> Result<Parts, RuntimeError> {
        Ok(Parts {
            config: self.config()?,
            handlers: self.handlers.into_iter().map(|(_, handler)| handler).collect(),
            observer: self.observer,
            shutdown_timeout: self.shutdown_timeout,
        })
    }

    fn add(mut self, name: &str, handler: Arc<dyn Handler>) -> Self {
        self.handlers.push((name.to_owned(), handler));
        self
    }

    /// The settings, checked.
    fn config(&self) -> Result<Config, RuntimeError> {
        if self.handlers.is_empty() {
            return Err(RuntimeError::NoHandlers);
        }
        check("the label's length", self.label.len() as u64, 0, MAX_NAME as u64)?;
        check("the concurrency", self.concurrency.into(), 1, MAX_HELD as u64)?;
        let held = u64::from(self.concurrency) + u64::from(self.prefetch);
        check("concurrency and prefetch together", held, 1, MAX_HELD as u64)?;
        let names: usize = self.handlers.iter().map(|(name, _)| name.len() + NAME_HEAD).sum();
        let hello = names + self.label.len() + self.token.as_ref().map_or(0, String::len);
        let room = (MAX_FIRST_FRAME - HELLO_HEAD) as u64;
        check(
            "the length of all names, label and token together",
            hello as u64,
            0,
            room,
        )?;
        let mut seen = HashSet::new();
        for (name, _) in &self.handlers {
            name.parse::<JobName>().map_err(RuntimeError::Name)?;
            if !seen.insert(name) {
                return Err(self.handlers_of(name));
            }
        }
        for (name, limit) in &self.limits {
            check("the concurrency of a name", (*limit).into(), 1, MAX_HELD as u64)?;
            if !seen.contains(name) {
                return Err(self.handlers_of(name));
            }
        }
        let limit = |name: &String| NameLimit {
            name: name.clone(),
            concurrency: self
                .limits
                .iter()
                .filter(|(limited, _)| limited == name)
                .map(|(_, limit)| *limit)
                .min()
                .unwrap_or(self.concurrency),
        };
        Ok(Config {
            names: self.handlers.iter().map(|(name, _)| limit(name)).collect(),
            concurrency: self.concurrency,
            prefetch: self.prefetch,
            default_timeout: self.default_timeout,
            cancel_grace: self.cancel_grace,
            progress_interval: PROGRESS_INTERVAL,
        })
    }

    fn handlers_of(&self, name: &String) -> RuntimeError {
        RuntimeError::Handlers {
            name: name.clone(),
            count: self.handlers.iter().filter(|(other, _)| other == name).count(),
        }
    }

    async fn session(&self, config: &Config) -> Result<Session, RuntimeError> {
        let (jobs, of_names) = config.credit();
        let credit = |(limit, jobs): (&NameLimit, u32)| NameCredit {
            name: limit.name.clone(),
            jobs,
        };
        let mut server = self.server.clone()?;
        if let Some(tls) = &self.tls {
            server = server.with_tls(tls.clone())?;
        }
        server.check().await?;
        let mut session = SessionConfig::new(server);
        session.label = self.label.clone();
        session.token = self.token.clone();
        session.work = Some(Work {
            names: config.names.iter().zip(of_names).map(credit).collect(),
            jobs,
            bytes: self.credit_bytes,
            prefetch: self.prefetch,
        });
        Ok(Session::new(session))
    }
}

fn check(setting: &'static str, value: u64, least: u64, most: u64) -> Result<(), RuntimeError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(RuntimeError::Setting {
        setting,
        value,
        expected: format!("{least} to {most}"),
    })
}

/// Starts the session's thread. It ends by itself, soon after the worker is abandoned at the latest.
fn spawn(
    shell: Shell,
    ended: CancellationToken,
) -> Result<oneshot::Receiver<Result<Summary, RuntimeError>>, RuntimeError> {
    let (over, result) = oneshot::channel();
    let run = move || {
        let _ended = ended.drop_guard();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let result = match runtime {
            Ok(runtime) => runtime.block_on(shell.run()).map_err(RuntimeError::Session),
            Err(error) => Err(RuntimeError::Thread(error)),
        };
        // Nobody listens if the worker was abandoned.
        drop(over.send(result));
    };
    let thread = thread::Builder::new().name("jobq-session".to_owned());
    thread.spawn(run).map_err(RuntimeError::Thread)?;
    Ok(result)
}

/// Calls handlers, until the session's thread ends. A task of its own, so that the tasks it begins go to the queue
/// of its thread.
pub(crate) async fn dispatch(handlers: Vec<Arc<dyn Handler>>, link: Arc<Link>) {
    let one_thread = Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread;
    let mut calls = Vec::new();
    loop {
        tokio::select! {
            () = link.calls.ready() => {}
            () = link.over.cancelled() => return,
        }
        link.calls.take(&mut calls);
        let mut begun = 0;
        let mut since = Instant::now();
        for Call { name, job, ending } in calls.drain(..) {
            // One that was cancelled on its way here is not called; `ending` says so when it is dropped.
            if !ending.run().is_cancelled()
                && let Some(run) = handlers[name].call(job, ending)
            {
                begin(run, one_thread);
            }
            begun += 1;
            let is_long = begun % LOOK_EVERY == 0 && since.elapsed() > CALLS_TIME;
            if begun % CALLS_AT_ONCE == 0 || is_long {
                yield_now().await;
                since = Instant::now();
            }
        }
    }
}

/// Has a run go on to its end, as a task. On a runtime of one thread, a handler that has nothing to wait for ends right
/// here, which costs less than half; on others, handlers run beside each other from their beginning.
fn begin(mut run: BoxFuture<'static, ()>, one_thread: bool) {
    let first_poll = move || {
        // If it waits, the task polls it again, with a waker that wakes.
        let mut context = Context::from_waker(Waker::noop());
        (!one_thread || run.as_mut().poll(&mut context).is_pending()).then_some(run)
    };
    // A panic that its handler's own guard lets through is one of dropping what the handler leaves. As in a task, it
    // ends this run alone.
    match catch_unwind(AssertUnwindSafe(first_poll)) {
        Ok(Some(run)) => drop(tokio::spawn(run)),
        Ok(None) => {}
        // Dropping it could panic once more.
        Err(payload) => std::mem::forget(payload),
    }
}
