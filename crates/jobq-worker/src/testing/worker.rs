//! A worker whose server is the test.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jobq_client::BootTime;
use jobq_proto::message::{Cancel, JobProgress, Order, RunRef, SettleOutcome, Settled, SettledRun, Welcome};
use jobq_proto::{ClientMessage, Fence, JobId, Limits, PROTOCOL_VERSION, ServerMessage, Window};
use tokio::task::yield_now;
use uuid::Uuid;

use super::job::{TestJob, fence};
use super::outcome::TestOutcome;
use crate::engine::{Engine, Link};
use crate::machine::{Config, Event, Machine, Outcome};
use crate::runtime::{Parts, Runtime, RuntimeError, dispatch};

/// How long a test waits for a handler, in real time, before it says that it waits for nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often tasks that are ready get their turn before time passes on. A handler that needs more turns to stop needs
/// its test to wait for its outcome.
const TURNS: usize = 32;

/// The simulated time at the start. Anything will do.
const START: BootTime = BootTime::from_micros(1_000_000_000);

/// No test lets more time pass, so the lease of a test's worker does not run out.
const TTL: Duration = Duration::from_secs(1_000 * 365 * 24 * 3_600);

/// Runs jobs with a [`Runtime`]'s handlers, settings and observer, without a server and in simulated time; see
/// [the module](super).
///
/// Handlers run on the tokio runtime that the test runs on. When the worker is dropped, they are told to stop, and
/// dropped.
pub struct TestWorker {
    engine: Engine,
    now: BootTime,
    jobs: BTreeMap<JobId, Tested>,
    shutdown_timeout: Duration,
}

/// What is known of a job.
#[derive(Debug, Default)]
struct Tested {
    outcome: Option<TestOutcome>,
    /// The result as the server was told it.
    result: Option<Bytes>,
    progress: Option<JobProgress>,
    /// It has come further since the test was told.
    has_progressed: bool,
}

impl TestWorker {
    /// A worker without a server. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// What is wrong with the runtime's settings, as [`Runtime::run`] says it. Its address is not looked at.
    pub fn new(runtime: Runtime) -> Result<Self, RuntimeError> {
        let Parts {
            config,
            handlers,
            observer,
            shutdown_timeout,
        } = runtime.into_parts()?;
        let config = Config {
            progress_interval: Duration::ZERO,
            ..config
        };
        let link = Arc::new(Link::new());
        let mut machine = Machine::new(config);
        machine.handle_connected(START, &welcome(), START);
        tokio::spawn(dispatch(handlers, Arc::clone(&link)));
        Ok(Self {
            engine: Engine::new(machine, link, observer),
            now: START,
            jobs: BTreeMap::new(),
            shutdown_timeout,
        })
    }

    /// Hands a job over and waits for how its run ends.
    ///
    /// # Panics
    /// As [`TestWorker::outcome`].
    pub async fn run(&mut self, job: TestJob) -> TestOutcome {
        let id = self.submit(job);
        self.outcome(id).await
    }

    /// Hands a job over. Its handler is called when there is a place for it, and the test waits for something.
    pub fn submit(&mut self, job: TestJob) -> JobId {
        let id = JobId(self.jobs.len() as u64 + 1);
        self.jobs.insert(id, Tested::default());
        let jobs = vec![job.order(id)];
        self.say(ClientMessage::Order(Order { jobs }));
        id
    }

    /// Waits for how a job's run ends. Time stands still meanwhile.
    ///
    /// # Panics
    /// When the job was not handed to this worker, or its run has not ended after 60 s of real time.
    pub async fn outcome(&mut self, id: JobId) -> TestOutcome {
        self.wait(id, "ended", |job| job.outcome.clone()).await
    }

    /// Waits until a run says how far it has come, if it has not said so since this was asked last.
    ///
    /// # Panics
    /// When the job was not handed to this worker, its run has ended, or it has not said anything after 60 s of real
    /// time.
    pub async fn progress(&mut self, id: JobId) -> JobProgress {
        let progressed = |job: &mut Tested| {
            let new = std::mem::take(&mut job.has_progressed);
            if !new && let Some(outcome) = &job.outcome {
                panic!("job {id} was to say how far it has come, and it has ended: {outcome:?}");
            }
            job.progress.clone().filter(|_| new)
        };
        self.wait(id, "said how far it has come", progressed).await
    }

    /// Cancels a job, as its user would: a run that waits is given back, one that runs is told to stop and has its
    /// grace.
    pub fn cancel(&mut self, id: JobId) {
        let run = RunRef {
            id: id.0,
            fence: fence(id),
        };
        self.say(ClientMessage::Cancel(Cancel { runs: vec![run] }));
    }

    /// Takes a run away, as a server does that has given the job to another worker.
    pub fn take_away(&mut self, id: JobId) {
        self.settle([(id.0, fence(id))], SettleOutcome::Stale);
    }

    /// Begins to shut down, as when the future that [`Runtime::run`] was given completes. The runtime's shutdown
    /// time-out passes by [`TestWorker::advance`].
    pub fn shut_down(&mut self) {
        self.engine.machine.shut_down(self.now, self.shutdown_timeout);
        self.pump();
    }

    /// Whether a shutdown that was begun is complete.
    pub fn is_shut_down(&self) -> bool {
        self.engine.machine.is_shut_down()
    }

    /// How many handlers run, those included that go on although their run is over.
    pub fn running(&self) -> usize {
        self.engine.machine.running() + self.engine.machine.strays()
    }

    /// Lets simulated time pass: for time-outs, which count from the call of the handler, for the graces of handlers
    /// that were told to stop, and for a shutdown. Between two of these, tasks that are ready have their turn; what
    /// handlers need real time for, such as a blocking one, is to be waited for by [`TestWorker::outcome`].
    pub async fn advance(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            for _ in 0..TURNS {
                yield_now().await;
                self.pump();
            }
            let Some(due) = self.engine.poll_timeout().filter(|due| *due <= until) else {
                break;
            };
            self.now = self.now.max(due);
            self.engine.machine.handle_timeout(self.now);
            self.pump();
        }
        self.now = until;
    }

    async fn wait<T>(&mut self, id: JobId, what: &str, mut known: impl FnMut(&mut Tested) -> Option<T>) -> T {
        let wait = async {
            loop {
                self.pump();
                let Some(job) = self.jobs.get_mut(&id) else {
                    panic!("job {id} was not handed to this worker");
                };
                if let Some(known) = known(job) {
                    return known;
                }
                self.engine.heard().await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(known) => known,
            Err(_) => panic!(
                "job {id} has not {what} within {} s of real time; simulated time passes only by advance()",
                PATIENCE.as_secs()
            ),
        }
    }

    fn say(&mut self, message: ClientMessage) {
        self.engine.machine.handle_message(self.now, message);
        self.pump();
    }

    fn settle(&mut self, runs: impl IntoIterator<Item = (u64, Fence)>, outcome: SettleOutcome) {
        let settled = |(id, fence)| SettledRun { id, fence, outcome };
        let runs = runs.into_iter().map(settled).collect();
        self.say(ClientMessage::Settled(Settled { runs }));
    }

    /// Does all that follows from what has happened.
    fn pump(&mut self) {
        self.engine.take_heard(self.now);
        while let Some(message) = self.engine.machine.poll_transmit(self.now) {
            self.answer(message);
        }
        self.engine.command();
        while let Some(event) = self.engine.machine.poll_event() {
            self.engine.report(&event);
            if let Event::Ended(run, outcome) = event {
                let job = self.jobs.entry(run.job).or_default();
                job.outcome = Some(match outcome {
                    Outcome::Completed => TestOutcome::Completed(job.result.take()),
                    Outcome::Failed(error) => TestOutcome::Failed(error),
                    Outcome::Released => TestOutcome::Released,
                    Outcome::Lost | Outcome::GivenUp => TestOutcome::GivenUp,
                });
            }
        }
    }

    /// Answers the worker as a server does whose disk is quick.
    fn answer(&mut self, message: ServerMessage) {
        let runs: Vec<(u64, Fence)> = match message {
            ServerMessage::Completed(completed) => {
                let runs = completed.runs.into_iter();
                runs.map(|run| {
                    self.jobs.entry(JobId(run.id)).or_default().result = run.result;
                    (run.id, run.fence)
                })
                .collect()
            }
            ServerMessage::Failed(failed) => failed.runs.iter().map(|run| (run.id, run.fence)).collect(),
            ServerMessage::Released(released) => {
                released.runs.iter().map(|run| (run.id, run.fence)).collect()
            }
            ServerMessage::Progress(progress) => {
                for run in progress.runs {
                    let job = self.jobs.entry(JobId(run.id)).or_default();
                    job.has_progressed = true;
                    job.progress = Some(JobProgress {
                        part: run.part,
                        text: run.text,
                    });
                }
                return;
            }
            // Nothing else is answered.
            _ => return,
        };
        let outcome = SettleOutcome::Applied;
        let settled = |(id, fence)| SettledRun { id, fence, outcome };
        let runs = runs.into_iter().map(settled).collect();
        let settled = ClientMessage::Settled(Settled { runs });
        self.engine.machine.handle_message(self.now, settled);
    }
}

impl Drop for TestWorker {
    fn drop(&mut self) {
        self.engine.drop_all();
    }
}

impl fmt::Debug for TestWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestWorker")
            .field("now", &self.now)
            .field("jobs", &self.jobs)
            .finish_non_exhaustive()
    }
}

fn welcome() -> Welcome {
    Welcome {
        version: PROTOCOL_VERSION,
        server: "test".to_owned(),
        store: Uuid::nil(),
        epoch: 1,
        session: 1,
        secret: Bytes::new(),
        resumed: false,
        ttl: jobq_proto::job::micros(TTL),
        grace: 0,
        beat: jobq_proto::job::micros(TTL),
        idle_beat: None,
        uuid_window: jobq_proto::job::micros(TTL),
        limits: Limits::default(),
        window: Window::default(),
    }
}
