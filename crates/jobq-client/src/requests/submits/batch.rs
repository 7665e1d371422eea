//! One batch of jobs: what of it is to be sent, what is on its way, and what has been answered.

use std::collections::VecDeque;
use std::ops::Range;

use jobq_proto::limits::MAX_NAME;
use jobq_proto::message::{Receipt, Submission};
use jobq_proto::{ErrorCode, JobName, Limits, Username, WireError, WireSize};

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
    jobs: u64,
    /// Of params.
    bytes: u64,
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

/// The next request of a batch.
pub(super) struct Cut {
    pub(super) range: Range<usize>,
    pub(super) room: Room,
}

#[derive(Debug)]
pub(super) struct Batch<T> {
    token: T,
    pub(super) jobs: Vec<Submission>,
    /// Empty, or one for each job; one with neither id nor error is unanswered.
    receipts: Vec<Receipt>,
    /// What is to be sent, in order.
    pub(super) todo: VecDeque<Range<usize>>,
    /// Jobs whose answer is not final.
    open: usize,
    /// Only jobs before this index were ever sent.
    reached: usize,
    pub(super) first_sent: Option<BootTime>,
    pub(super) deadline: BootTime,
    pub(super) repeat: bool,
    pub(super) refusals: u32,
    /// It waits for its time to be repeated.
    pub(super) is_delayed: bool,
    /// Some of it was on a connection that broke: it may be stored, whatever is refused later.
    uncertain: bool,
}

impl<T> Batch<T> {
    pub(super) fn new(submit: Submit, token: T) -> Self {
        let all = 0..submit.jobs.len();
        Self {
            token,
            open: submit.jobs.len(),
            jobs: submit.jobs,
            receipts: Vec::new(),
            todo: VecDeque::from([all]),
            reached: 0,
            first_sent: None,
            deadline: submit.deadline,
            repeat: submit.repeat,
            refusals: 0,
            is_delayed: false,
            uncertain: false,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.open == 0
    }

    /// Takes the next request off what is to be sent; none if there is nothing, or the window has no room worth
    /// using. Jobs that no server would take are answered here: a frame that is too large would cost the
    /// connection.
    pub(super) fn cut(&mut self, terms: &Terms, used: Room) -> Option<Cut> {
        loop {
            let todo = self.todo.front()?.clone();
            let start = todo.start;
            let (end, room, stop) = self.measure(todo, terms, used);
            if end > start {
                // Rather a little later than in crumbs: the answers that are under way make room.
                let crumb =
                    room.jobs < terms.window.jobs / CRUMBS && room.bytes < terms.window.bytes / CRUMBS;
                if matches!(stop, Stop::Window) && crumb && used.jobs > 0 {
                    return None;
                }
                self.take_front(end);
                return Some(Cut {
                    range: start..end,
                    room,
                });
            }
            match stop {
                Stop::Unsendable(error) => self.answer_unsendable(error),
                Stop::Window | Stop::Full => return None,
            }
        }
    }

    /// The jobs of a request that is about to leave.
    pub(super) fn send(&mut self, now: BootTime, range: Range<usize>) -> Vec<Submission> {
        self.first_sent.get_or_insert(now);
        self.reached = self.reached.max(range.end);
        self.jobs[range].to_vec()
    }

    /// The connection on which these were sent is gone.
    pub(super) fn lost(&mut self, range: Range<usize>) {
        self.uncertain = true;
        if !self.receipts.is_empty() {
            self.receipts[range.clone()].fill(Receipt::default());
        }
        self.todo.push_front(range);
    }

    /// These were refused for a passing reason, and are to be sent again. Until then that is what is known of them.
    pub(super) fn refused(&mut self, range: Range<usize>, error: &WireError) {
        self.refusals = self.refusals.saturating_add(1);
        if !self.uncertain {
            self.allocate();
            self.receipts[range.clone()].fill(Receipt::refused(error.clone()));
        }
        self.todo.push_front(range);
    }

    /// These are answered for good.
    pub(super) fn answered(&mut self, range: Range<usize>, mut receipts: Vec<Receipt>) {
        // A server that answers too little leaves the rest unknown.
        receipts.resize(range.len(), Receipt::default());
        if self.uncertain {
            for receipt in &mut receipts {
                if receipt.error.as_ref().is_some_and(|e| e.code.may_repeat()) {
                    *receipt = Receipt::default();
                }
            }
        }
        self.open = self.open.saturating_sub(range.len());
        if range.len() == self.jobs.len() {
            self.receipts = receipts;
        } else {
            self.allocate();
            for (place, receipt) in self.receipts[range].iter_mut().zip(receipts) {
                *place = receipt;
            }
        }
    }

    /// Why the whole answer is to be forgotten and the request repeated, if it is: the server is going, or all was
    /// refused for a passing reason and repeating was asked for.
    pub(super) fn reason_to_repeat<'a>(&self, receipts: &'a [Receipt]) -> Option<&'a WireError> {
        let first = receipts.first()?.error.as_ref()?;
        let all = receipts.iter().all(|receipt| {
            receipt
                .error
                .as_ref()
                .is_some_and(|e| e.code == ErrorCode::ShuttingDown || (self.repeat && e.code.may_repeat()))
        });
        all.then_some(first)
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

    /// How far from the start of `todo` one request can reach, and why no further.
    fn measure(&self, todo: Range<usize>, terms: &Terms, used: Room) -> (usize, Room, Stop) {
        let limits = &terms.limits;
        let most = usize::try_from(limits.items).unwrap_or(usize::MAX);
        let frame = limits.frame.saturating_sub(REQUEST_OVERHEAD);
        let end = todo.end.min(todo.start.saturating_add(most));
        let mut room = Room::default();
        let mut size = 0;
        for at in todo.start..end {
            let job = &self.jobs[at];
            let job_size = job.wire_size() as u64;
            if let Err(error) = sendable(job, job_size, limits) {
                return (at, room, Stop::Unsendable(error));
            }
            size += job_size;
            if size > frame {
                return (at, room, Stop::Full);
            }
            let bytes = params_len(job);
            let fits = used.jobs + room.jobs < terms.window.jobs
                && used.bytes + room.bytes + bytes <= terms.window.bytes;
            // One job is always sent, else one that is larger than the window would wait for ever.
            if !fits && used.jobs + room.jobs > 0 {
                return (at, room, Stop::Window);
            }
            room.add(Room { jobs: 1, bytes });
        }
        (end, room, Stop::Full)
    }

    fn answer_unsendable(&mut self, error: WireError) {
        if let Some(start) = self.todo.front().map(|todo| todo.start) {
            self.allocate();
            self.receipts[start] = Receipt::refused(error);
            self.open -= 1;
            self.take_front(start + 1);
        }
    }

    /// Takes what comes before `to` off the first range that is to be sent.
    fn take_front(&mut self, to: usize) {
        if let Some(front) = self.todo.front_mut() {
            front.start = to;
            if front.start >= front.end {
                self.todo.pop_front();
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
