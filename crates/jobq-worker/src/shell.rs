//! The session's thread: joins the machine to the session and to the handlers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jobq_client::{BootTime, Session, SessionError, SessionEvent};
use tokio_util::sync::CancellationToken;

use crate::handler::{Ended, Ending};
use crate::job::{Control, Job, Run};
use crate::machine::{Command, Event, FenceMap, Machine, Outcome, Start, Summary};
use crate::mailbox::Mailbox;
use crate::observer::{Connection, Observer, RunInfo};

/// While runs are held, the clock is read this often at least: timers stand still while the machine is suspended,
/// and leases do not.
const CLOCK_INTERVAL: Duration = Duration::from_secs(1);

/// What the session's thread and the handlers' runtime share.
pub(crate) struct Link {
    pub(crate) calls: Mailbox<Call>,
    pub(crate) ended: Arc<Mailbox<Ended>>,
    /// Take nothing new, and let handlers finish for a time.
    pub(crate) shutdown: CancellationToken,
    /// Nobody waits for the worker any more: let handlers finish for no time.
    pub(crate) abandon: CancellationToken,
    /// The session's thread has ended.
    pub(crate) over: CancellationToken,
}

/// A handler to be called.
pub(crate) struct Call {
    /// Which handler.
    pub(crate) name: usize,
    pub(crate) job: Job<Bytes>,
    pub(crate) run: Run,
    pub(crate) ending: Ending,
}

impl Link {
    pub(crate) fn new() -> Self {
        Self {
            calls: Mailbox::new(),
            ended: Arc::new(Mailbox::new()),
            shutdown: CancellationToken::new(),
            abandon: CancellationToken::new(),
            over: CancellationToken::new(),
        }
    }
}

/// Runs on the session's thread until the worker has shut down.
pub(crate) struct Shell {
    machine: Machine,
    session: Session,
    link: Arc<Link>,
    observer: Option<Arc<dyn Observer>>,
    shutdown_timeout: Duration,
    /// Nobody waits for the worker any more, and the machine knows.
    abandoned: bool,
    /// How to stop the handlers that run.
    controls: FenceMap<Arc<Control>>,
    /// Buffers that keep their room.
    heard: Vec<SessionEvent>,
    ended: Vec<Ended>,
    calls: Vec<Call>,
}

impl Shell {
    pub(crate) fn new(
        machine: Machine,
        session: Session,
        link: Arc<Link>,
        observer: Option<Arc<dyn Observer>>,
        shutdown_timeout: Duration,
    ) -> Self {
        Self {
            machine,
            session,
            link,
            observer,
            shutdown_timeout,
            abandoned: false,
            controls: FenceMap::default(),
            heard: Vec::new(),
            ended: Vec::new(),
            calls: Vec::new(),
        }
    }

    /// # Errors
    /// When the session ended for good: the server refuses this worker, or is no jobq server.
    pub(crate) async fn run(mut self) -> Result<Summary, SessionError> {
        while !self.machine.is_shut_down() {
            if let Err(error) = self.wait().await {
                self.stop_handlers().await;
                return Err(error);
            }
            self.act();
        }
        self.session.close().await;
        Ok(self.machine.summary())
    }

    /// Waits until something has happened. The session comes first, since it also writes.
    async fn wait(&mut self) -> Result<(), SessionError> {
        let begun = self.machine.is_shutting_down();
        let abandoned = self.abandoned;
        let sleep = until_timeout(&self.machine);
        tokio::select! {
            biased;
            result = self.session.recv(&mut self.heard) => result,
            () = self.link.abandon.cancelled(), if !abandoned => Ok(()),
            () = self.link.shutdown.cancelled(), if !begun => Ok(()),
            () = self.link.ended.ready() => Ok(()),
            () = sleep => Ok(()),
        }
    }

    /// Handles all that has happened, and does what follows from it.
    fn act(&mut self) {
        let now = BootTime::now();
        // First what was heard: a lease does not run out while its renewal lies here.
        let mut heard = std::mem::take(&mut self.heard);
        heard.drain(..).for_each(|event| self.handle_event(now, event));
        self.heard = heard;
        if let Some(sent) = self.session.last_answered_beat_sent() {
            self.machine.handle_contact(sent);
        }
        self.take_ended(now);
        if self.link.abandon.is_cancelled() {
            self.abandoned = true;
            self.machine.shut_down(now, Duration::ZERO);
        } else if self.link.shutdown.is_cancelled() && !self.machine.is_shutting_down() {
            tracing::info!(running = self.machine.running(), "shutting down");
            self.machine.shut_down(now, self.shutdown_timeout);
        }
        self.machine.handle_timeout(now);

        while let Some(message) = self.machine.poll_transmit(now) {
            if self.session.send(message).is_err() {
                // The session reports the end of the connection, and after the next one all of it is said again.
                break;
            }
        }
        self.session.flush();
        self.command();
        self.report_events();
    }

    fn handle_event(&mut self, now: BootTime, event: SessionEvent) {
        match event {
            SessionEvent::Connected { welcome, resumed } => {
                let sent = self.session.last_answered_beat_sent().unwrap_or(now);
                self.machine.handle_connected(now, &welcome, sent);
                if let Some(observer) = &self.observer {
                    observer.connected(&Connection {
                        server: &welcome.server,
                        resumed,
                    });
                }
            }
            SessionEvent::Message(message) => self.machine.handle_message(now, message),
            SessionEvent::Disconnected { error } => {
                self.machine.handle_disconnected();
                if let Some(observer) = &self.observer {
                    observer.disconnected(&error);
                }
            }
            _ => {}
        }
    }

    fn take_ended(&mut self, now: BootTime) {
        self.link.ended.take(&mut self.ended);
        for Ended { fence, ran, end } in self.ended.drain(..) {
            self.controls.remove(&fence);
            self.machine.handle_ended(now, fence, ran, end);
        }
    }

    /// Has handlers called, stopped and dropped.
    fn command(&mut self) {
        while let Some(command) = self.machine.poll_command() {
            match command {
                Command::Start(start) => self.start(start),
                Command::Cancel(fence) => {
                    if let Some(control) = self.controls.get(&fence) {
                        control.cancel.cancel();
                    }
                }
                Command::Drop(fence) => {
                    if let Some(control) = self.controls.get(&fence) {
                        tracing::warn!(%fence, "a handler did not stop within its grace; it is dropped where it waits");
                        control.drop.notify_one();
                    }
                }
            }
        }
        self.link.calls.append(&mut self.calls);
    }

    fn start(&mut self, Start { id, order }: Start) {
        let control = Arc::new(Control {
            limits: *self.machine.limits(),
            ..Control::default()
        });
        self.controls.insert(id.fence, Arc::clone(&control));
        self.calls.push(Call {
            name: id.name,
            job: order.into(),
            run: Run::new(id.fence, id.attempt, control),
            ending: Ending::new(id.fence, Arc::clone(&self.link.ended)),
        });
    }

    fn report_events(&mut self) {
        while let Some(event) = self.machine.poll_event() {
            let (Event::Started(id) | Event::Ended(id, _)) = &event;
            let name = self.machine.name(id.name);
            let run = RunInfo {
                id: id.job,
                name,
                attempt: id.attempt,
                fence: id.fence,
            };
            match &event {
                Event::Started(_) => {
                    tracing::debug!(id = %run.id, name, attempt = run.attempt, "started");
                    if let Some(observer) = &self.observer {
                        observer.started(&run);
                    }
                }
                Event::Ended(_, outcome) => {
                    log_end(&run, outcome);
                    if let Some(observer) = &self.observer {
                        observer.ended(&run, outcome);
                    }
                }
            }
        }
    }

    /// The session is over for good, so nothing can be reported: handlers stop, within their grace.
    async fn stop_handlers(&mut self) {
        self.machine.handle_disconnected();
        self.machine.shut_down(BootTime::now(), Duration::ZERO);
        self.command();
        while self.machine.running() > 0 {
            tokio::select! {
                () = self.link.ended.ready() => {}
                () = until_timeout(&self.machine) => {}
            }
            let now = BootTime::now();
            self.take_ended(now);
            self.machine.handle_timeout(now);
            self.command();
            self.report_events();
        }
    }
}

/// Sleeps until the machine's next timer. Takes what it needs before it waits.
fn until_timeout(machine: &Machine) -> impl Future<Output = ()> + use<> {
    let wait = machine
        .poll_timeout()
        .map(|due| due.since(BootTime::now()).min(CLOCK_INTERVAL));
    async move {
        match wait {
            Some(wait) => tokio::time::sleep(wait).await,
            None => std::future::pending().await,
        }
    }
}

fn log_end(run: &RunInfo<'_>, outcome: &Outcome) {
    let RunInfo {
        id, name, attempt, ..
    } = run;
    match outcome {
        Outcome::Completed => tracing::debug!(%id, name, attempt, "completed"),
        Outcome::Failed(_) => tracing::debug!(%id, name, attempt, "failed"),
        Outcome::Released => tracing::debug!(%id, name, attempt, "released"),
        Outcome::GivenUp => {
            tracing::warn!(%id, name, attempt, "given up: the run is no longer this worker's")
        }
    }
}
