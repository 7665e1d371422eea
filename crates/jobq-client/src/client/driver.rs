//! The task behind the handles: it holds the session and the state machines of [`crate::requests`], and carries
//! messages between them.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use jobq_proto::message::Welcome;
use jobq_proto::{ClientMessage, ServerMessage};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::State;
use super::submitter::MAX_BATCH;
use super::watch::LatestProgress;
use crate::clock::BootTime;
use crate::requests::asks::{Asks, Unanswered};
use crate::requests::submits::{Submit, SubmitAnswer, Submits};
use crate::requests::watches::{WatchEvent, Watches};
use crate::requests::{Lane, Terms};
use crate::session::{NotConnected, Session, SessionError, SessionEvent, chance};

/// Most jobs that are handed to the task while it has no room for more: those that wait for the window, or for a
/// connection. Who comes after them waits before the task takes them, so that whatever the task has is watched for its
/// deadline.
pub(super) const WAITING_JOBS: usize = 4 * MAX_BATCH;

/// Most questions that are unanswered at a time; who comes after them waits.
pub(super) const ASKS: usize = 1024;

/// No timer is shorter than this: the connection is looked at before a deadline passes.
const LEAST_SLEEP: Duration = Duration::from_millis(1);

/// Makes the message of its number.
pub(super) type Question = Box<dyn FnOnce(u64) -> ServerMessage + Send>;

pub(super) type Answer = Result<ClientMessage, Unanswered>;

#[derive(Debug)]
pub(super) struct SubmitCommand {
    pub(super) submit: Submit,
    pub(super) answer: oneshot::Sender<SubmitAnswer>,
}

pub(super) struct AskCommand {
    pub(super) question: Question,
    pub(super) deadline: BootTime,
    pub(super) answer: oneshot::Sender<Answer>,
    pub(super) permit: OwnedSemaphorePermit,
}

#[derive(Debug)]
pub(super) enum Command {
    /// Tell when these jobs, each named once, have ended, and how far they have come if there is `progress`.
    Wait {
        group: u64,
        ids: Vec<u64>,
        /// Gets no more events than there are ids: how far they have come goes to `progress`.
        events: mpsc::UnboundedSender<WatchEvent>,
        progress: Option<Arc<LatestProgress>>,
    },
    /// Nobody waits for this group any more.
    Forget { group: u64 },
    /// Repeat nothing of this stream of jobs any more.
    GiveUp { stream: u64 },
    /// End the session, and then drop this.
    Close(oneshot::Sender<()>),
}

pub(super) struct Driver {
    session: Session,
    state: Arc<State>,
    submitted: mpsc::UnboundedReceiver<SubmitCommand>,
    submit_permits: Arc<Semaphore>,
    /// Permits to be given back when there is room.
    jobs_taken: usize,
    asked: mpsc::UnboundedReceiver<AskCommand>,
    commanded: mpsc::UnboundedReceiver<Command>,
    submits: Submits<oneshot::Sender<SubmitAnswer>>,
    asks: Asks<(oneshot::Sender<Answer>, OwnedSemaphorePermit)>,
    watches: Watches,
    waiting: HashMap<u64, Waiting>,
    /// The handles know of a refusal.
    refused: bool,
}

/// Somebody who waits for jobs.
struct Waiting {
    events: mpsc::UnboundedSender<WatchEvent>,
    progress: Option<Arc<LatestProgress>>,
}

/// Why the task ends.
enum End {
    /// All handles are gone.
    Dropped,
    Closed(oneshot::Sender<()>),
    Over(SessionError),
}

impl Driver {
    pub(super) fn new(
        session: Session,
        state: Arc<State>,
        (submitted, submit_permits): (mpsc::UnboundedReceiver<SubmitCommand>, Arc<Semaphore>),
        asked: mpsc::UnboundedReceiver<AskCommand>,
        commanded: mpsc::UnboundedReceiver<Command>,
    ) -> Self {
        Self {
            session,
            state,
            submitted,
            submit_permits,
            jobs_taken: 0,
            asked,
            commanded,
            submits: Submits::new(),
            asks: Asks::new(),
            watches: Watches::new(),
            waiting: HashMap::new(),
            refused: false,
        }
    }

    /// Runs until the handles are gone or close it, or the session is over; `events` are those that came first.
    pub(super) async fn run(mut self, mut events: Vec<SessionEvent>) {
        let end = loop {
            let now = BootTime::now();
            for event in events.drain(..) {
                self.handle_event(now, event);
            }
            self.pump(now);
            if let Err(end) = self.step(&mut events).await {
                break end;
            }
        };
        if let End::Over(error) = &end {
            // Set before anybody is answered, who then looks here. Nobody else sets it.
            let _ = self.state.over.set(error.clone());
            tracing::error!(%error, "the session with the server is over");
        }
        self.submit_permits.close();
        self.submitted.close();
        self.asked.close();
        self.commanded.close();
        while let Ok(command) = self.submitted.try_recv() {
            self.submits.push(command.submit, command.answer);
        }
        self.submits.handle_over();
        self.asks.handle_over();
        self.answer();
        self.waiting.clear();
        self.session.close().await;
        if let End::Closed(done) = end {
            drop(done);
        }
    }

    /// Waits for one thing to happen.
    async fn step(&mut self, events: &mut Vec<SessionEvent>) -> Result<(), End> {
        let due = self
            .submits
            .poll_timeout()
            .min(self.asks.poll_timeout())
            .min(self.watches.poll_timeout());
        let timer = tokio::time::sleep(due.since(BootTime::now()).max(LEAST_SLEEP));
        tokio::select! {
            result = self.session.recv(events) => result.map_err(End::Over)?,
            Some(command) = self.submitted.recv() => self.take(command),
            Some(command) = self.asked.recv() => {
                self.asks.push(command.question, command.deadline, (command.answer, command.permit));
            }
            command = self.commanded.recv() => match command {
                None => return Err(End::Dropped),
                Some(Command::Close(done)) => return Err(End::Closed(done)),
                Some(Command::Forget { group }) => {
                    self.waiting.remove(&group);
                    self.watches.forget(group);
                }
                Some(Command::GiveUp { stream }) => {
                    // What was handed over before this was said.
                    self.take_submits();
                    self.submits.give_up(stream);
                }
                Some(Command::Wait { group, ids, events, progress }) => {
                    self.watches.push(group, ids, progress.is_some());
                    self.waiting.insert(group, Waiting { events, progress });
                }
            },
            () = timer => {}
        }
        Ok(())
    }

    fn handle_event(&mut self, now: BootTime, event: SessionEvent) {
        match event {
            SessionEvent::Connected { welcome, .. } => self.connected(now, *welcome),
            SessionEvent::Message(message) => self.handle_message(now, message),
            SessionEvent::Disconnected { .. } => {
                self.submits.handle_disconnected();
                self.asks.handle_disconnected();
                self.watches.handle_disconnected();
            }
        }
    }

    fn connected(&mut self, now: BootTime, welcome: Welcome) {
        let terms = Terms::from(&welcome);
        *self.state.welcome.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(welcome);
        self.submits.handle_connected(now, terms);
        self.asks.handle_connected();
        self.watches.handle_connected(terms);
    }

    fn handle_message(&mut self, now: BootTime, message: ClientMessage) {
        match message {
            ClientMessage::Acknowledged(answer) => self.submits.handle_acknowledged(now, chance, answer),
            ClientMessage::Ended(ended) => self.watches.handle_ended(ended),
            ClientMessage::Progressed(progressed) => self.watches.handle_progressed(progressed),
            ClientMessage::Refused(refused) => {
                let (request, error) = (refused.request, refused.error);
                match Lane::of(request) {
                    Lane::Submits => self.submits.handle_refused(now, chance(), request, &error),
                    Lane::Asks => self.asks.handle_refused(now, chance(), request, error),
                    Lane::Watches => self.watches.handle_refused(now, request, error),
                }
            }
            ClientMessage::Jobs(ref answer) => self.asks.handle_answer(answer.request, message),
            ClientMessage::Cancelled(ref answer) => self.asks.handle_answer(answer.request, message),
            ClientMessage::Retried(ref answer) => self.asks.handle_answer(answer.request, message),
            ClientMessage::Stats(ref answer) => self.asks.handle_answer(answer.request, message),
            ClientMessage::BackupState(ref answer) => self.asks.handle_answer(answer.request, message),
            ClientMessage::BackupPart(ref answer) => self.asks.handle_answer(answer.request, message),
            ClientMessage::Closing(_) => tracing::info!("the server is going down"),
            // Nothing of it in the log: it may carry params.
            _ => tracing::debug!("the server sent what no client asks for"),
        }
    }

    /// Lets time pass, hands out what is answered, and sends what is to be sent.
    fn pump(&mut self, now: BootTime) {
        self.submits.handle_timeout(now);
        self.asks.handle_timeout(now);
        self.watches.handle_timeout(now);
        self.take_submits();
        let sent = self.transmit(now);
        if self.submits.has_room() {
            self.submit_permits
                .add_permits(std::mem::take(&mut self.jobs_taken));
        }
        self.say_refusal();
        self.answer();
        if sent {
            self.session.flush();
        }
    }

    fn take_submits(&mut self) {
        while let Ok(command) = self.submitted.try_recv() {
            self.take(command);
        }
    }

    /// Lets the handles know what holds their jobs up.
    fn say_refusal(&mut self) {
        let refusal = self.submits.refusal();
        if refusal.is_some() || self.refused {
            self.refused = refusal.is_some();
            let mut said = self.state.refusal.lock().unwrap_or_else(PoisonError::into_inner);
            if said.as_ref() != refusal {
                *said = refusal.cloned();
            }
        }
    }

    fn take(&mut self, command: SubmitCommand) {
        self.jobs_taken += command.submit.jobs.len();
        self.submits.push(command.submit, command.answer);
    }

    /// What cannot be sent is sent again on the next connection: the session ends this one.
    fn transmit(&mut self, now: BootTime) -> bool {
        let mut sent = false;
        while let Some(result) = self.transmit_next(now) {
            if let Err(error) = result {
                tracing::debug!(%error, "a request has to wait for the next connection");
                break;
            }
            sent = true;
        }
        sent
    }

    fn transmit_next(&mut self, now: BootTime) -> Option<Result<(), NotConnected>> {
        if let Some(result) = self.submits.transmit(now, |request| self.session.send(request)) {
            return Some(result);
        }
        let message = self
            .asks
            .poll_transmit()
            .or_else(|| self.watches.poll_transmit())?;
        Some(self.session.send(&message))
    }

    /// Whoever does not wait any more is not told.
    fn answer(&mut self) {
        while let Some((token, answer)) = self.submits.poll_answer() {
            let _ = token.send(answer);
        }
        while let Some(((token, _permit), answer)) = self.asks.poll_answer() {
            let _ = token.send(answer);
        }
        while let Some((group, event)) = self.watches.poll_event() {
            let Some(waiting) = self.waiting.get(&group) else {
                continue;
            };
            match (event, &waiting.progress) {
                (WatchEvent::Progressed(job), Some(progress)) => progress.put(job),
                (WatchEvent::Progressed(_), None) => {}
                (event, _) => {
                    let _ = waiting.events.send(event);
                }
            }
        }
    }
}
