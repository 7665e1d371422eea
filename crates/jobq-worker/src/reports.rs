//! What handlers say, on its way to the session's thread.

use std::time::Duration;

use jobq_proto::Fence;

use crate::machine::End;
use crate::mailbox::Mailbox;

/// Where all handlers of a worker leave what they have to say.
#[derive(Debug)]
pub(crate) struct Reports {
    pub(crate) ended: Mailbox<Ended>,
    /// The runs whose latest report of progress has not been taken.
    pub(crate) progressed: Mailbox<Fence>,
}

/// A handler that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) fence: Fence,
    pub(crate) ran: Duration,
    pub(crate) end: End,
}

impl Reports {
    pub(crate) fn new() -> Self {
        Self {
            ended: Mailbox::new(),
            progressed: Mailbox::new(),
        }
    }
}
