//! The task behind the handles: it holds the session and the state machines of [`crate::requests`], and carries
//! messages between them.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use jobq_proto::message::Welcome;
use jobq_proto::{ClientMessage, ServerMessage};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::State;
use super::submitter::MAX_BATCH;
use super::watch::LatestProgress;
use crate::alarm::Alarm;
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

/// Most commands that are taken before what they ask for is sent.
const COMMANDS_AT_ONCE: usize = 1024;

/// Makes the message of its number.
pub(super) type Question = Box<dyn FnOnce(u64) -> ServerMessage + Send>;

pub(super) type Answer = Result<ClientMessage, Unanswered>;

pub(super) enum Command {
    /// Submit these jobs.
    Submit {
        submit: Submit,
        answer: oneshot::Sender<SubmitAnswer>,
    },
    /// Ask this.
    Ask {
        question: Question,
        deadline: BootTime,
        answer: oneshot::Sender<Answer>,
        permit: OwnedSemaphorePermit,
    },
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
    commanded: mpsc::UnboundedReceiver<Command>,
    submit_permits: Arc<Semaphore>,
    /// Permits to be given back when there is room.
    jobs_taken: usize,
    submits: Submits<oneshot::Sender<SubmitAnswer>>,
    asks: Asks<(oneshot::Sender<Answer>, OwnedSemaphorePermit)>,
    watches: Watches,
    waiting: HashMap<u64, Waiting>,
    alarm: Alarm,
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
        submit_permits: Arc<Semaphore>,
        commanded: mpsc::UnboundedReceiver<Command>,
    ) -> Self {
        Self {
            session,
            state,
            commanded,
            submit_permits,
            jobs_taken: 0,
            submits: Submits::new(),
            asks: Asks::new(),
            watches: Watches::new(),
            waiting: HashMap::new(),
            alarm: Alarm::default(),
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
        self.commanded.close();
        while let Ok(command) = self.commanded.try_recv() {
            // Whoever asks or waits finds that nobody answers.
            if let Command::Submit { submit, answer } = command {
                self.submits.push(submit, answer);
            }
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

    /// Waits for something to happen, and takes what the handles want.
    async fn step(&mut self, events: &mut Vec<SessionEvent>) -> Result<(), End> {
        let due = self
            .submits
            .poll_timeout()
            .min(self.asks.poll_timeout())
            .min(self.watches.poll_timeout());
        let timer = self.alarm.wait(BootTime::now(), due);
        tokio::select! {
            biased;
            result = self.session.recv(events) => result.map_err(End::Over)?,
            command = self.commanded.recv() => self.take(command.ok_or(End::Dropped)?)?,
            () = timer => {}
        }
        for _ in 0..COMMANDS_AT_ONCE {
            match self.commanded.try_recv() {
                Ok(command) => self.take(command)?,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Err(End::Dropped),
            }
        }
        Ok(())
    }

    fn take(&mut self, command: Command) -> Result<(), End> {
        match command {
            Command::Submit { submit, answer } => {
                self.jobs_taken += submit.jobs.len();
                self.submits.push(submit, answer);
            }
            Command::Ask {
                question,
                deadline,
                answer,
                permit,
            } => self.asks.push(question, deadline, (answer, permit)),
            Command::Wait {
                group,
                ids,
                events,
                progress,
            } => {
                self.watches.push(group, ids, progress.is_some());
                self.waiting.insert(group, Waiting { events, progress });
            }
            Command::Forget { group } => {
                self.waiting.remove(&group);
                self.watches.forget(group);
            }
            Command::GiveUp { stream } => self.submits.give_up(stream),
            Command::Close(done) => return Err(End::Closed(done)),
        }
        Ok(())
    }

    fn handle_event(&mut self, now: BootTime, event: SessionEvent) {
        match event {
            SessionEvent::Connected { welcome, .. } => self.connected(now, *welcome),
            SessionEvent::Message(message) => self.handle_message(now, message),
            SessionEvent::Answered => {}
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
        let sent = self.transmit(now);
        let is_idle = self.submits.is_idle() && self.asks.is_idle() && self.watches.is_idle();
        self.session.set_busy(!is_idle);
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
