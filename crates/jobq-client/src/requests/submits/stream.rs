//! The streams that jobs come in: what is refused for a passing reason holds up what comes after it.

use jobq_proto::WireError;

use crate::clock::BootTime;
use crate::requests::rising_map::RisingMap;

/// The batches of one stream that are not answered, and whether the server takes them.
///
/// While it refuses them, nothing of the stream is sent until the time has come to repeat it. Then its first jobs
/// are tried, in one request, and the others follow when those have been taken: a full server does not hear of
/// everything that waits, again and again.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// In their order.
    pub(super) batches: RisingMap<()>,
    pub(super) flow: Flow,
    /// In a row, with nothing taken in between.
    pub(super) refusals: u32,
    /// When one of its jobs was last answered for good.
    pub(super) last_answer: Option<BootTime>,
}

/// Whether the server takes the jobs of a stream.
#[derive(Debug, Default)]
pub(super) enum Flow {
    /// As far as is known.
    #[default]
    Open,
    /// No: they are tried again at this time.
    Waiting(BootTime, WireError),
    /// It did not, and the time has come to try again.
    Due(WireError),
    /// It did not, and this request will tell whether it does now.
    Trying(u64, WireError),
}

impl Stream {
    /// The numbers of its batches, for whoever is about to change them.
    pub(super) fn ids(&self) -> Vec<u64> {
        self.batches.keys().collect()
    }

    /// The reason for which the server does not take its jobs.
    pub(super) fn refusal(&self) -> Option<&WireError> {
        match &self.flow {
            Flow::Open => None,
            Flow::Waiting(_, error) | Flow::Due(error) | Flow::Trying(_, error) => Some(error),
        }
    }

    /// Whether its batches may be sent as the window allows.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.flow, Flow::Open)
    }

    /// The time has come to try its jobs again.
    pub(super) fn come_due(&mut self) {
        self.flow = match std::mem::take(&mut self.flow) {
            Flow::Waiting(_, error) => Flow::Due(error),
            flow => flow,
        };
    }

    /// A request of its jobs is sent; whether it is the one that tells if the others may follow.
    pub(super) fn sends(&mut self, request: u64) -> bool {
        match std::mem::take(&mut self.flow) {
            Flow::Due(error) => {
                self.flow = Flow::Trying(request, error);
                true
            }
            flow => {
                self.flow = flow;
                false
            }
        }
    }

    /// Whether the answer to a request says how things are now. Others of its time may come in after the first
    /// refusal; what they say is known.
    pub(super) fn decides(&self, request: u64) -> bool {
        match self.flow {
            Flow::Open => true,
            Flow::Trying(tried, _) => tried == request,
            Flow::Waiting(..) | Flow::Due(_) => false,
        }
    }
}
