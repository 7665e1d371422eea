//! The session's thread: joins the engine to the session.

use std::time::Duration;

use jobq_client::{BootTime, Session, SessionError, SessionEvent};

use crate::engine::Engine;
use crate::machine::Summary;
use crate::observer::Connection;

/// While runs are held, the clock is read this often at least: timers stand still while the machine is suspended,
/// and leases do not.
const CLOCK_INTERVAL: Duration = Duration::from_secs(1);

/// Runs on the session's thread until the worker has shut down.
pub(crate) struct Shell {
    engine: Engine,
    session: Session,
    shutdown_timeout: Duration,
    /// Nobody waits for the worker any more, and the machine knows.
    abandoned: bool,
    /// A buffer that keeps its room.
    heard: Vec<SessionEvent>,
}

impl Shell {
    pub(crate) fn new(engine: Engine, session: Session, shutdown_timeout: Duration) -> Self {
        Self {
            engine,
            session,
            shutdown_timeout,
            abandoned: false,
            heard: Vec::new(),
        }
    }

    /// # Errors
    /// When the session ended for good: the server refuses this worker, or is no jobq server.
    pub(crate) async fn run(mut self) -> Result<Summary, SessionError> {
        while !self.engine.machine.is_shut_down() {
            if let Err(error) = self.wait().await {
                self.stop_handlers().await;
                self.engine.report_strays();
                return Err(error);
            }
            self.act();
        }
        self.engine.report_strays();
        self.session.close().await;
        Ok(self.engine.machine.summary())
    }

    /// Waits until something has happened. The session comes first, since it also writes.
    async fn wait(&mut self) -> Result<(), SessionError> {
        let begun = self.engine.machine.is_shutting_down();
        let abandoned = self.abandoned;
        let sleep = until_timeout(&self.engine);
        tokio::select! {
            biased;
            result = self.session.recv(&mut self.heard) => result,
            () = self.engine.link().abandon.cancelled(), if !abandoned => Ok(()),
            () = self.engine.link().shutdown.cancelled(), if !begun => Ok(()),
            () = self.engine.heard() => Ok(()),
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
            self.engine.machine.handle_contact(now, sent);
        }
        self.engine.take_heard(now);
        if self.engine.link().abandon.is_cancelled() {
            self.abandoned = true;
            self.engine.machine.shut_down(now, Duration::ZERO);
        } else if self.engine.link().shutdown.is_cancelled() && !self.engine.machine.is_shutting_down() {
            tracing::info!(running = self.engine.machine.running(), "shutting down");
            self.engine.machine.shut_down(now, self.shutdown_timeout);
        }
        self.engine.machine.handle_timeout(now);

        while let Some(message) = self.engine.machine.poll_transmit(now) {
            if self.session.send(&message).is_err() {
                // The session reports the end of the connection, and after the next one all of it is said again.
                break;
            }
        }
        self.session.set_busy(self.engine.machine.is_busy());
        self.session.flush();
        self.engine.command();
        self.engine.report_events();
    }

    fn handle_event(&mut self, now: BootTime, event: SessionEvent) {
        match event {
            SessionEvent::Connected { welcome, resumed } => {
                let sent = self.session.last_answered_beat_sent().unwrap_or(now);
                self.engine.machine.handle_connected(now, &welcome, sent);
                self.engine.tell_progress_again();
                if let Some(observer) = self.engine.observer() {
                    observer.connected(&Connection {
                        server: &welcome.server,
                        resumed,
                    });
                }
            }
            SessionEvent::Message(message) => self.engine.machine.handle_message(now, message),
            SessionEvent::Disconnected { error } => {
                self.engine.machine.handle_disconnected();
                if let Some(observer) = self.engine.observer() {
                    observer.disconnected(&error);
                }
            }
            _ => {}
        }
    }

    /// The session is over for good, so nothing can be reported: handlers stop, within their grace.
    async fn stop_handlers(&mut self) {
        self.engine.machine.handle_disconnected();
        self.engine.machine.shut_down(BootTime::now(), Duration::ZERO);
        self.engine.command();
        while self.engine.machine.running() > 0 {
            tokio::select! {
                () = self.engine.heard() => {}
                () = until_timeout(&self.engine) => {}
            }
            let now = BootTime::now();
            self.engine.take_heard(now);
            self.engine.machine.handle_timeout(now);
            self.engine.command();
            self.engine.report_events();
        }
    }
}

/// Sleeps until the next timer. Takes what it needs before it waits.
fn until_timeout(engine: &Engine) -> impl Future<Output = ()> + use<> {
    let wait = engine
        .poll_timeout()
        .map(|due| due.since(BootTime::now()).min(CLOCK_INTERVAL));
    async move {
        match wait {
            Some(wait) => tokio::time::sleep(wait).await,
            None => std::future::pending().await,
        }
    }
}
