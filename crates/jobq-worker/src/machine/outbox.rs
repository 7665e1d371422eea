//! What is to be said to the server, in batches as large as a message may be.

use std::collections::VecDeque;

use jobq_proto::message::{
    Completed, Credit, Failed, FailedRun, HeldRun, Holding, NameCredit, OrderedJob, Progress, Released,
    RunProgress, RunRef, Started,
};
use jobq_proto::{Fence, Limits, ServerMessage, WireSize};

use super::fence_map::FenceMap;
use super::run::{ReportKind, Run, State};

/// Bytes of a batch message beside its items: its name, the name of its field and the head of its array.
const MESSAGE_HEAD: usize = 64;

/// Most bytes of reports that are under way at a time, or one report. After a long absence there may be more to
/// report than a connection takes at once. With one report more it is less than the 4 MiB that a server reads while its
/// store is stuck, so that it hears the Beats behind them.
const REPORT_WINDOW: usize = 2 * 1024 * 1024;

/// What waits to be said. All of it is said again, or is no longer true, after a reconnect.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    holding: bool,
    started: VecDeque<Fence>,
    completed: VecDeque<Fence>,
    failed: VecDeque<Fence>,
    released: VecDeque<Fence>,
    /// Orders given back without being kept, since there were too many.
    refused: VecDeque<RunRef>,
    /// Orders failed without being kept, since their names are not ours.
    unknown: VecDeque<FailedRun>,
    /// At most one report for each run that is held: the caller sees to it.
    progress: VecDeque<RunProgress>,
    /// What the server takes for our credit: for all names, and for each.
    told: Option<(u32, Vec<u32>)>,
    /// The sizes of all reports under way; each run has that of its own.
    bytes_under_way: usize,
}

impl Outbox {
    /// Forgets what was to be said on a connection that is gone, and begins a new one with Holding.
    pub(super) fn reset(&mut self, told: (u32, Vec<u32>)) {
        *self = Self {
            holding: true,
            told: Some(told),
            ..Self::default()
        };
    }

    pub(super) fn start(&mut self, fence: Fence) {
        self.started.push_back(fence);
    }

    pub(super) fn report(&mut self, fence: Fence, kind: ReportKind) {
        match kind {
            ReportKind::Completed => self.completed.push_back(fence),
            ReportKind::Failed => self.failed.push_back(fence),
            ReportKind::Released => self.released.push_back(fence),
        }
    }

    pub(super) fn progress(&mut self, report: RunProgress) {
        self.progress.push_back(report);
    }

    /// The server knows how this run ended, or is not told.
    pub(super) fn settled(&mut self, run: &Run) {
        self.bytes_under_way -= run.under_way;
    }

    /// Gives an order back that is one too many.
    pub(super) fn refuse(&mut self, run: RunRef) {
        self.refused.push_back(run);
    }

    /// Fails an order of a name that is not ours. Given back, it would come again at once; a failed attempt has a
    /// backoff.
    pub(super) fn refuse_unknown(&mut self, order: &OrderedJob) {
        self.unknown.push_back(FailedRun {
            id: order.id,
            fence: order.fence,
            ran: 0,
            reason: "it was sent to a worker that does not run its name".to_owned(),
            never: false,
            after: None,
        });
    }

    /// Whether Holding is still to be said.
    pub(super) fn is_holding(&self) -> bool {
        self.holding
    }

    /// Whether the next message is Holding.
    pub(super) fn poll_holding(&mut self) -> bool {
        std::mem::take(&mut self.holding)
    }

    /// The next message but Holding and Credit. What is over meanwhile is left out.
    pub(super) fn poll(&mut self, limits: &Limits, held: &mut FenceMap<Run>) -> Option<ServerMessage> {
        let whole = usize::MAX;
        let runs = batch(&mut self.started, limits, whole, |fence| {
            held.get(fence)?.started()
        });
        if !runs.is_empty() {
            return Some(ServerMessage::Started(Started { runs }));
        }
        let runs = batch(&mut self.progress, limits, whole, |report| {
            held.contains_key(&report.fence).then(|| report.clone())
        });
        if !runs.is_empty() {
            return Some(ServerMessage::Progress(Progress { runs }));
        }
        let room = self.room();
        let runs = batch(&mut self.completed, limits, room, |fence| {
            held.get(fence)?.completed()
        });
        if !runs.is_empty() {
            runs.iter()
                .for_each(|run| self.sent(held, run.fence, run.wire_size()));
            return Some(ServerMessage::Completed(Completed { runs }));
        }
        let runs = batch(&mut self.failed, limits, room, |fence| held.get(fence)?.failed());
        if !runs.is_empty() {
            runs.iter()
                .for_each(|run| self.sent(held, run.fence, run.wire_size()));
            return Some(ServerMessage::Failed(Failed { runs }));
        }
        let runs = batch(&mut self.released, limits, whole, |fence| {
            held.get(fence)?.released()
        });
        if !runs.is_empty() {
            return Some(ServerMessage::Released(Released { runs }));
        }
        let runs = batch(&mut self.refused, limits, whole, |run| Some(*run));
        if !runs.is_empty() {
            return Some(ServerMessage::Released(Released { runs }));
        }
        let runs = batch(&mut self.unknown, limits, whole, |run| Some(run.clone()));
        (!runs.is_empty()).then_some(ServerMessage::Failed(Failed { runs }))
    }

    /// The difference between the credit that the server knows and `credit`, if there is one.
    pub(super) fn poll_credit<'a>(
        &mut self,
        credit: (u32, Vec<u32>),
        name: impl Fn(usize) -> &'a str,
    ) -> Option<ServerMessage> {
        let told = self.told.as_mut()?;
        if *told == credit {
            return None;
        }
        let changed = credit
            .1
            .iter()
            .enumerate()
            .filter(|(i, jobs)| told.1.get(*i) != Some(*jobs));
        let names = changed
            .map(|(i, jobs)| NameCredit {
                name: name(i).to_owned(),
                jobs: *jobs,
            })
            .collect();
        let jobs = (told.0 != credit.0).then_some(credit.0);
        *told = credit;
        Some(ServerMessage::Credit(Credit {
            names,
            jobs,
            bytes: None,
        }))
    }

    fn sent(&mut self, held: &mut FenceMap<Run>, fence: Fence, size: usize) {
        if let Some(run) = held.get_mut(&fence) {
            self.bytes_under_way += size;
            run.under_way = size;
        }
    }

    /// Bytes of reports that may be sent now. While there is any, one report is sent, however large.
    fn room(&self) -> usize {
        REPORT_WINDOW.saturating_sub(self.bytes_under_way)
    }
}

/// The runs to name in Holding, as many as fit in it, and those that do not fit. What is furthest comes first.
pub(super) fn holding<'a>(
    runs: impl Iterator<Item = &'a Run>,
    limits: &Limits,
) -> (ServerMessage, Vec<Fence>) {
    let mut runs: Vec<&Run> = runs.collect();
    runs.sort_unstable_by_key(|run| (what_is_left(run), run.id.fence));
    let mut queue: VecDeque<HeldRun> = runs.into_iter().map(Run::held).collect();
    let named = batch(&mut queue, limits, usize::MAX, |held| Some(*held));
    let rest = queue.into_iter().map(|held| held.fence).collect();
    (ServerMessage::Holding(Holding { runs: named }), rest)
}

fn what_is_left(run: &Run) -> u8 {
    match run.state {
        State::Ended(_) => 0,
        State::Running { .. } => 1,
        State::Waiting(_) => 2,
    }
}

/// Takes items off the front of `queue`, as many as one message and `room` bytes hold, but at least one if there is
/// any room. Those for which `item` has nothing are dropped.
fn batch<Q, T: WireSize>(
    queue: &mut VecDeque<Q>,
    limits: &Limits,
    room: usize,
    item: impl Fn(&Q) -> Option<T>,
) -> Vec<T> {
    let frame = usize::try_from(limits.frame).unwrap_or(usize::MAX);
    let room_left = room.min(frame.saturating_sub(MESSAGE_HEAD));
    let most = usize::try_from(limits.items).unwrap_or(usize::MAX).max(1);
    let mut items = Vec::new();
    if room == 0 {
        return items;
    }
    let mut bytes = 0;
    while let Some(front) = queue.front() {
        if let Some(item) = item(front) {
            bytes += item.wire_size();
            if !items.is_empty() && (bytes > room_left || items.len() == most) {
                break;
            }
            items.push(item);
        }
        queue.pop_front();
    }
    items
}
