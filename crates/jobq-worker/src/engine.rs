//! Joins the machine to the handlers: has them called, stopped and dropped, and hears how they ended and how far they
//! have come. The session's thread drives it against a server, [`crate::testing`] without one.

use std::sync::Arc;

use bytes::Bytes;
use jobq_client::BootTime;
use jobq_proto::Fence;
use tokio_util::sync::CancellationToken;

use crate::handler::Ending;
use crate::job::{Control, Job, Run};
use crate::machine::{Command, Event, FenceMap, Machine, Outcome, Start};
use crate::mailbox::Mailbox;
use crate::observer::{Observer, RunInfo};
use crate::reports::{Ended, Reports};

/// What the session's thread and the handlers' runtime share.
pub(crate) struct Link {
    pub(crate) calls: Mailbox<Call>,
    pub(crate) reports: Arc<Reports>,
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
    pub(crate) ending: Ending,
}

impl Link {
    pub(crate) fn new() -> Self {
        Self {
            calls: Mailbox::new(),
            reports: Arc::new(Reports::new()),
            shutdown: CancellationToken::new(),
            abandon: CancellationToken::new(),
            over: CancellationToken::new(),
        }
    }
}

pub(crate) struct Engine {
    pub(crate) machine: Machine,
    link: Arc<Link>,
    observer: Option<Arc<dyn Observer>>,
    /// The handlers that run.
    called: FenceMap<Called>,
    /// Reports of progress wait in the link for their time.
    progress_waits: bool,
    /// Buffers that keep their room.
    ended: Vec<Ended>,
    progressed: Vec<Fence>,
    calls: Vec<Call>,
}

struct Called {
    control: Arc<Control>,
    /// It did not stop within its grace.
    overdue: bool,
}

impl Engine {
    pub(crate) fn new(machine: Machine, link: Arc<Link>, observer: Option<Arc<dyn Observer>>) -> Self {
        Self {
            machine,
            link,
            observer,
            called: FenceMap::default(),
            progress_waits: false,
            ended: Vec::new(),
            progressed: Vec::new(),
            calls: Vec::new(),
        }
    }

    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    pub(crate) fn observer(&self) -> Option<&dyn Observer> {
        self.observer.as_deref()
    }

    /// Waits until a handler has ended or reports progress. Cancel-safe. Reports that wait for their time do not count,
    /// so a handler that reports all the time wakes nobody all the time.
    pub(crate) async fn heard(&self) {
        tokio::select! {
            () = self.link.reports.ended.ready() => {}
            () = self.link.reports.progressed.ready(), if !self.progress_waits => {}
        }
    }

    /// When something is due that is not due yet.
    pub(crate) fn poll_timeout(&self) -> Option<BootTime> {
        let progress = self.machine.progress_due().filter(|_| self.progress_waits);
        [self.machine.poll_timeout(), progress]
            .into_iter()
            .flatten()
            .min()
    }

    /// Tells the machine what handlers did.
    pub(crate) fn take_heard(&mut self, now: BootTime) {
        // First how far runs have come: what a handler said before its end is told before it.
        let reports = &self.link.reports;
        self.progress_waits = reports.progressed.take_if(&mut self.progressed, || {
            self.machine.progress_due().is_some_and(|due| due <= now)
        });
        for fence in self.progressed.drain(..) {
            let called = self.called.get(&fence);
            if let Some(progress) = called.and_then(|called| called.control.progress.take()) {
                self.machine.handle_progress(now, fence, progress);
            }
        }
        self.link.reports.ended.take(&mut self.ended);
        for Ended { fence, ran, end } in self.ended.drain(..) {
            if let Some(Called {
                control,
                overdue: true,
            }) = self.called.remove(&fence)
            {
                let id = control.id;
                let name = self.machine.name(id.name);
                tracing::info!(id = %id.job, name, attempt = id.attempt, "a handler that did not stop in time has ended");
            }
            self.machine.handle_ended(now, fence, ran, end);
        }
    }

    /// The server may have forgotten how far the runs have come: it keeps that in memory only.
    pub(crate) fn tell_progress_again(&mut self) {
        for called in self.called.values() {
            called.control.tell_progress_again();
        }
    }

    /// Has handlers called, stopped and dropped.
    pub(crate) fn command(&mut self) {
        while let Some(command) = self.machine.poll_command() {
            match command {
                Command::Start(start) => self.start(start),
                Command::Cancel(fence) => {
                    if let Some(called) = self.called.get(&fence) {
                        called.control.cancel();
                    }
                }
                Command::Drop { fence, overdue } => self.drop_handler(fence, overdue),
            }
        }
        self.link.calls.append(&mut self.calls);
    }

    pub(crate) fn report_events(&mut self) {
        while let Some(event) = self.machine.poll_event() {
            self.report(&event);
        }
    }

    pub(crate) fn report(&self, event: &Event) {
        let (Event::Started(id) | Event::Ended(id, _) | Event::TooLate(id)) = event;
        let name = self.machine.name(id.name);
        let run = RunInfo {
            id: id.job,
            name,
            attempt: id.attempt,
            fence: id.fence,
        };
        match event {
            Event::Started(_) => {
                tracing::debug!(id = %run.id, name, attempt = run.attempt, "started");
                if let Some(observer) = &self.observer {
                    observer.started(&run);
                }
            }
            Event::Ended(_, outcome) => {
                self.log_end(&run, outcome);
                if let Some(observer) = &self.observer {
                    observer.ended(&run, outcome);
                }
            }
            Event::TooLate(_) => {
                if let Some(observer) = &self.observer {
                    observer.reported_too_late(&run);
                } else {
                    let why = "this was reported too late, when it was no longer this worker's";
                    tracing::warn!(id = %run.id, name, attempt = run.attempt, "lost: {why}");
                }
            }
        }
    }

    /// Tells all handlers to stop and drops those that can be.
    pub(crate) fn drop_all(&self) {
        for called in self.called.values() {
            called.control.cancel();
            called.control.drop.notify_one();
        }
        self.link.over.cancel();
    }

    /// Says which handlers go on although nobody waits for them any more.
    pub(crate) fn report_strays(&self) {
        for called in self.called.values() {
            let id = called.control.id;
            let name = self.machine.name(id.name);
            tracing::warn!(
                id = %id.job,
                name,
                attempt = id.attempt,
                "the worker has stopped, and a handler that was told to stop still runs"
            );
        }
    }

    fn start(&mut self, Start { id, order }: Start) {
        let reports = Arc::clone(&self.link.reports);
        let control = Arc::new(Control::new(id, *self.machine.limits(), Some(reports)));
        let called = Called {
            control: Arc::clone(&control),
            overdue: false,
        };
        self.called.insert(id.fence, called);
        self.calls.push(Call {
            name: id.name,
            job: order.into(),
            ending: Ending::new(Run::new(control)),
        });
    }

    fn drop_handler(&mut self, fence: Fence, overdue: bool) {
        if let Some(called) = self.called.get_mut(&fence) {
            if overdue {
                let id = called.control.id;
                let name = self.machine.name(id.name);
                tracing::warn!(
                    id = %id.job,
                    name,
                    attempt = id.attempt,
                    "a handler did not stop within its grace; its run is over, and its place stays taken until it \
                     returns or waits for something"
                );
            }
            called.overdue = overdue;
            called.control.drop.notify_one();
        }
    }

    /// Lost runs are worth a warning, unless somebody else tells of them.
    fn log_end(&self, run: &RunInfo<'_>, outcome: &Outcome) {
        let RunInfo {
            id, name, attempt, ..
        } = run;
        let lost = match outcome {
            Outcome::Completed => return tracing::debug!(%id, name, attempt, "completed"),
            Outcome::Failed(_) => return tracing::debug!(%id, name, attempt, "failed"),
            Outcome::Released => return tracing::debug!(%id, name, attempt, "released"),
            Outcome::Lost => "its lease ran out while this worker was away",
            Outcome::GivenUp => "it is no longer this worker's",
        };
        if self.observer.is_none() {
            tracing::warn!(%id, name, attempt, "lost: {lost}");
        } else {
            tracing::debug!(%id, name, attempt, "lost: {lost}");
        }
    }
}
