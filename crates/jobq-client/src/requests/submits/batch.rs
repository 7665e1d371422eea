//! One batch of jobs: what of it is to be sent, what is on its way, and what has been answered.

use std::ops::Range;
use std::time::Duration;

use jobq_proto::limits::MAX_NAME;
use jobq_proto::message::{Receipt, Request, Submission};
use jobq_proto::{ErrorCode, JobName, Limits, ServerMessage, Username, WireError, WireSize};
use smallvec::{SmallVec, smallvec};

use super::{Submit, SubmitAnswer};
use crate::clock::BootTime;
use crate::requests::Terms;

/// Bytes of a Request beside its jobs: its name, its fields' names, and two heads.
const REQUEST_OVERHEAD: u64 = 64;

/// A request that the window cuts short is worth sending if it takes at least one of this many parts of the window.
const CRUMBS: u64 = 8;

/// Places in the server's window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) jobs: u64,
    /// Of params.
    pub(super) bytes: u64,
}

impl Room {
    pub(super) fn add(&mut self, other: Room) {
        self.jobs += other.jobs;
        self.bytes += other.bytes;
    }

    pub(super) fn subtract(&mut self, other: Room) {
        self.jobs -= other.jobs;
        self.bytes -= other.bytes;
    }
}

/// Some jobs of a batch, by their indices: one range, or several where some in between have been answered.
pub(super) type Ranges = SmallVec<[Range<usize>; 1]>;

/// The next request of a batch.
pub(super) struct Cut {
    pub(super) ranges: Ranges,
    pub(super) room: Room,
}

/// What the answers to some jobs came to.
pub(super) struct Taken {
    /// Some of them are answered for good.
    pub(super) any: bool,
    /// Why the others are to be repeated, if there are others.
    pub(super) refusal: Option<WireError>,
}

#[derive(Debug)]
pub(super) struct Batch<T> {
    token: T,
    pub(super) stream: u64,
    pub(super) jobs: Vec<Submission>,
    /// Empty, or one for each job; one with neither id nor error is unanswered.
    receipts: Vec<Receipt>,
    /// What is to be sent, in order.
    pub(super) todo: Ranges,
    /// Jobs whose answer is not final.
    open: usize,
    /// Jobs on the wire.
    flying: usize,
    /// Bytes of params of all its jobs.
    bytes: u64,
    /// Only jobs before this index were ever sent.
    reached: usize,
    /// When the first was sent of those that the server has not said to be refused.
    pub(super) first_sent: Option<BootTime>,
    pub(super) deadline: BootTime,
    pub(super) patience: Duration,
    /// Repeat what is refused for a passing reason.
    pub(super) repeat: bool,
    /// Some of it was on a connection that broke: it may be stored, whatever is refused later.
    uncertain: bool,
}

impl<T> Batch<T> {
    pub(super) fn new(submit: Submit, token: T) -> Self {
        let all = 0..submit.jobs.len();
        Self {
            token,
            stream: submit.stream,
            open: submit.jobs.len(),
            flying: 0,
            bytes: submit.jobs.iter().map(params_len).sum(),
            jobs: submit.jobs,
            receipts: Vec::new(),
            todo: smallvec![all],
            reached: 0,
            first_sent: None,
            deadline: submit.deadline,
            patience: submit.patience,
            repeat: submit.repeat,
            uncertain: false,
        }
    }

    /// What it takes of what may be kept.
    pub(super) fn room(&self) -> Room {
        Room {
            jobs: self.jobs.len() as u64,
            bytes: self.bytes,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.open == 0
    }

    /// Takes the next request off what is to be sent; none if there is nothing, or the window has no room worth
    /// using. Jobs that no server would take are answered here: a frame that is too large would cost the
    /// connection.
    pub(super) fn cut(&mut self, terms: &Terms, used: Room) -> Option<Cut> {
        while !self.todo.is_empty() {
            let (cut, stop) = self.measure(terms, used);
            if !cut.ranges.is_empty() {
                let room = cut.room;
                // Rather a little later than in crumbs: the answers that are under way make room.
                let crumb =
                    room.jobs < terms.window.jobs / CRUMBS && room.bytes < terms.window.bytes / CRUMBS;
                if matches!(stop, Stop::Window) && crumb && used.jobs > 0 {
                    return None;
                }
                for range in &cut.ranges {
                    self.take_front(range.end);
                }
                return Some(cut);
            }
            match stop {
                Stop::Unsendable(error) => self.answer_unsendable(error),
                Stop::Window | Stop::Full => return None,
            }
        }
        None
    }

    /// Shows `send` the request of some jobs. Where they are all, as in small batches, they are lent to it and not cloned.
    pub(super) fn send<R>(
        &mut self,
        now: BootTime,
        request: u64,
        ranges: &[Range<usize>],
        send: impl FnOnce(&ServerMessage) -> R,
    ) -> R {
        let count: usize = ranges.iter().map(Range::len).sum();
        self.first_sent.get_or_insert(now);
        self.flying += count;
        self.reached = self.reached.max(ranges.last().map_or(0, |range| range.end));
        let are_all = count == self.jobs.len();
        let jobs = if are_all {
            std::mem::take(&mut self.jobs)
        } else {
            let mut jobs = Vec::with_capacity(count);
            for range in ranges {
                jobs.extend_from_slice(&self.jobs[range.clone()]);
            }
            jobs
        };
        let message = ServerMessage::Request(Request { request, jobs });
        let sent = send(&message);
        if let ServerMessage::Request(Request { jobs, .. }) = message
            && are_all
        {
            self.jobs = jobs;
        }
        sent
    }

    /// The connection on which these were sent is gone.
    pub(super) fn lost(&mut self, ranges: Ranges) {
        self.uncertain = true;
        for range in ranges {
            self.flying -= range.len();
            if !self.receipts.is_empty() {
                self.receipts[range.clone()].fill(Receipt::default());
            }
            self.put_back(range);
        }
    }

    /// All of these were refused for a passing reason, and are to be sent again. Until then that is what is known of
    /// them.
    pub(super) fn refused(&mut self, ranges: Ranges, error: &WireError) {
        for range in ranges {
            self.flying -= range.len();
            self.refuse(range, error);
        }
        self.forget_sending();
    }

    /// These are answered: for good, or by a passing refusal after which they are to be sent again.
    pub(super) fn answered(&mut self, ranges: Ranges, mut receipts: Vec<Receipt>) -> Taken {
        let count = ranges.iter().map(Range::len).sum();
        self.flying -= count;
        // A server that answers too little leaves the rest unknown.
        receipts.resize(count, Receipt::default());
        let refusal = receipts
            .iter()
            .find(|receipt| self.is_to_repeat(receipt))
            .and_then(|receipt| receipt.error.clone());
        if refusal.is_none() && count == self.jobs.len() {
            self.open = 0;
            self.receipts = receipts;
            self.leave_unknown(0..count);
            return Taken { any: true, refusal };
        }
        self.allocate();
        let mut any = false;
        let mut receipts = receipts.into_iter();
        for at in ranges.into_iter().flatten() {
            let receipt = receipts.next().unwrap_or_default();
            match &receipt.error {
                Some(error) if self.is_to_repeat(&receipt) => {
                    let error = error.clone();
                    self.refuse(at..at + 1, &error);
                }
                _ => {
                    any = true;
                    self.open -= 1;
                    self.receipts[at] = receipt;
                    self.leave_unknown(at..at + 1);
                }
            }
        }
        self.forget_sending();
        Taken { any, refusal }
    }

    /// Sends no more: what is not on the wire is answered as it stands.
    pub(super) fn give_up(&mut self) {
        self.open -= self.todo.iter().map(Range::len).sum::<usize>();
        self.todo.clear();
    }

    pub(super) fn into_answer(mut self) -> (T, SubmitAnswer) {
        self.allocate();
        (
            self.token,
            SubmitAnswer {
                jobs: self.jobs,
                receipts: self.receipts,
                reached: self.reached,
            },
        )
    }

    /// How much of `todo`, from its start, goes into one request, and why no more.
    fn measure(&self, terms: &Terms, used: Room) -> (Cut, Stop) {
        let limits = &terms.limits;
        let frame = limits.frame.saturating_sub(REQUEST_OVERHEAD);
        let mut cut = Cut {
            ranges: Ranges::new(),
            room: Room::default(),
        };
        let mut size = 0;
        for todo in &self.todo {
            let mut end = todo.start;
            let mut stop = None;
            for job in &self.jobs[todo.clone()] {
                let job_size = job.wire_size() as u64;
                size += job_size;
                let room = cut.room;
                let bytes = params_len(job);
                let fits = used.jobs + room.jobs < terms.window.jobs
                    && used.bytes + room.bytes + bytes <= terms.window.bytes;
                stop = if room.jobs == limits.items {
                    Some(Stop::Full)
                } else if let Err(error) = sendable(job, job_size, limits) {
                    Some(Stop::Unsendable(error))
                } else if size > frame {
                    Some(Stop::Full)
                } else if !fits && used.jobs + room.jobs > 0 {
                    // One job is always sent, else one that is larger than the window would wait for ever.
                    Some(Stop::Window)
                } else {
                    None
                };
                if stop.is_some() {
                    break;
                }
                cut.room.add(Room { jobs: 1, bytes });
                end += 1;
            }
            if end > todo.start {
                cut.ranges.push(todo.start..end);
            }
            if let Some(stop) = stop {
                return (cut, stop);
            }
        }
        (cut, Stop::Full)
    }

    /// Whether a receipt is no answer yet: the server is going, or the reason may pass and repeating was asked for.
    fn is_to_repeat(&self, receipt: &Receipt) -> bool {
        receipt.error.as_ref().is_some_and(|error| {
            error.code == ErrorCode::ShuttingDown || (self.repeat && error.code.may_repeat())
        })
    }

    fn refuse(&mut self, range: Range<usize>, error: &WireError) {
        if !self.uncertain {
            self.allocate();
            self.receipts[range.clone()].fill(Receipt::refused(error.clone()));
        }
        self.put_back(range);
    }

    /// After a connection that broke, a refusal for a passing reason does not say that a job is not stored.
    fn leave_unknown(&mut self, range: Range<usize>) {
        if !self.uncertain {
            return;
        }
        for receipt in &mut self.receipts[range] {
            if receipt.error.as_ref().is_some_and(|e| e.code.may_repeat()) {
                *receipt = Receipt::default();
            }
        }
    }

    /// If all that was sent is answered, in whatever way, the server need not remember the uuids of the rest.
    fn forget_sending(&mut self) {
        if self.flying == 0 && !self.uncertain {
            self.first_sent = None;
        }
    }

    /// To be sent again, in the order of the jobs.
    fn put_back(&mut self, range: Range<usize>) {
        let at = self.todo.partition_point(|todo| todo.start < range.start);
        match at.checked_sub(1).and_then(|before| self.todo.get_mut(before)) {
            Some(before) if before.end == range.start => before.end = range.end,
            _ => self.todo.insert(at, range),
        }
    }

    fn answer_unsendable(&mut self, error: WireError) {
        if let Some(start) = self.todo.first().map(|todo| todo.start) {
            self.allocate();
            self.receipts[start] = Receipt::refused(error);
            self.open -= 1;
            self.take_front(start + 1);
        }
    }

    /// Takes what comes before `to` off the first range that is to be sent.
    fn take_front(&mut self, to: usize) {
        if let Some(front) = self.todo.first_mut() {
            front.start = to;
            if front.start >= front.end {
                self.todo.remove(0);
            }
        }
    }

    fn allocate(&mut self) {
        if self.receipts.is_empty() {
            self.receipts.resize(self.jobs.len(), Receipt::default());
        }
    }
}

/// Why a request does not reach further.
enum Stop {
    /// It has everything, or all that fits into one.
    Full,
    /// The window has no more room.
    Window,
    /// The next job cannot be sent at all.
    Unsendable(WireError),
}

/// Checks what the server would answer with a closed connection, or what costs less to find here.
fn sendable(job: &Submission, size: u64, limits: &Limits) -> Result<(), WireError> {
    if !JobName::is_valid(&job.name) {
        JobName::try_from(job.name.clone())?;
    }
    if let Some(username) = &job.username
        && username.len() > MAX_NAME
    {
        Username::try_from(username.clone())?;
    }
    if params_len(job) > limits.params || size + REQUEST_OVERHEAD > limits.frame {
        return Err(WireError::new(
            ErrorCode::ParamsTooLarge,
            format!(
                "the params have {} bytes, and the limit is {}",
                params_len(job),
                limits.params
            ),
        ));
    }
    Ok(())
}

fn params_len(job: &Submission) -> u64 {
    job.params.as_ref().map_or(0, |params| params.len() as u64)
}
