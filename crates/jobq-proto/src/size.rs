//! How long things are on the wire, so that senders can cut their batches before they encode them.

use crate::error::WireError;
use crate::message::{
    CompletedRun, EndedJob, EndedRun, FailedRun, HeldRun, JobProgress, JobView, OrderedJob, ProgressedJob,
    Receipt, RunProgress, RunRef, SettledRun, Submission,
};

/// An upper bound of the encoded length of one item of a batch, in bytes. Cheap: it adds up lengths and constants.
pub trait WireSize {
    /// At least as many bytes as this takes within its message.
    fn wire_size(&self) -> usize;
}

/// The longest head of a CBOR item.
const HEAD: usize = 9;
/// A fence: an array of two numbers.
const FENCE: usize = 1 + 2 * HEAD;

fn text(text: &str) -> usize {
    HEAD + text.len()
}

fn optional_text(value: &Option<String>) -> usize {
    value.as_deref().map_or(0, text)
}

fn optional_bytes(value: &Option<bytes::Bytes>) -> usize {
    value.as_ref().map_or(0, |b| HEAD + b.len())
}

impl WireSize for Submission {
    fn wire_size(&self) -> usize {
        // Keys: 88 bytes with their heads. Values: uuid 17, five numbers, a backoff with its keys.
        88 + 17
            + 5 * HEAD
            + (4 + 20 + 3 * HEAD)
            + text(&self.name)
            + optional_bytes(&self.params)
            + optional_text(&self.username)
            + optional_text(&self.priority)
    }
}

impl WireSize for WireError {
    fn wire_size(&self) -> usize {
        2 + 28 + 24 + HEAD + text(&self.message)
    }
}

impl WireSize for Receipt {
    fn wire_size(&self) -> usize {
        1 + 3 + HEAD + 10 + 7 + self.error.as_ref().map_or(0, WireSize::wire_size)
    }
}

impl WireSize for OrderedJob {
    fn wire_size(&self) -> usize {
        80 + 17
            + 4 * HEAD
            + FENCE
            + text(&self.name)
            + optional_text(&self.username)
            + HEAD
            + self.params.len()
    }
}

impl WireSize for RunRef {
    fn wire_size(&self) -> usize {
        1 + 3 + HEAD + 6 + FENCE
    }
}

impl WireSize for RunProgress {
    fn wire_size(&self) -> usize {
        1 + 3 + HEAD + 6 + FENCE + 5 + HEAD + 5 + text(&self.text)
    }
}

impl WireSize for JobProgress {
    fn wire_size(&self) -> usize {
        1 + 5 + HEAD + 5 + text(&self.text)
    }
}

impl WireSize for ProgressedJob {
    fn wire_size(&self) -> usize {
        1 + 3 + HEAD + 8 + HEAD + 9 + self.progress.wire_size()
    }
}

impl WireSize for EndedRun {
    fn wire_size(&self) -> usize {
        1 + 6 + FENCE + 4 + text(&self.end) + 3 + HEAD + 7 + optional_text(&self.reason)
    }
}

impl WireSize for HeldRun {
    fn wire_size(&self) -> usize {
        1 + 3 + HEAD + 6 + FENCE + 6 + 10
    }
}

impl WireSize for SettledRun {
    fn wire_size(&self) -> usize {
        1 + 3 + HEAD + 6 + FENCE + 8 + 16
    }
}

impl WireSize for CompletedRun {
    fn wire_size(&self) -> usize {
        1 + 3 + HEAD + 6 + FENCE + 4 + HEAD + 7 + optional_bytes(&self.result)
    }
}

impl WireSize for FailedRun {
    fn wire_size(&self) -> usize {
        1 + 3 + HEAD + 6 + FENCE + 4 + HEAD + 7 + text(&self.reason) + 7 + 6 + HEAD
    }
}

impl WireSize for EndedJob {
    fn wire_size(&self) -> usize {
        48 + HEAD + 12 + optional_text(&self.reason) + optional_bytes(&self.result)
    }
}

impl WireSize for JobView {
    fn wire_size(&self) -> usize {
        // Keys: 190 bytes with their heads. Values: uuid 17, eleven numbers, a fence, a status.
        194 + 17
            + HEAD
            + 11 * HEAD
            + FENCE
            + 12
            + text(&self.priority)
            + text(&self.name)
            + optional_text(&self.username)
            + optional_text(&self.reason)
            + optional_bytes(&self.params)
            + optional_bytes(&self.result)
            + self.progress.as_ref().map_or(0, WireSize::wire_size)
            + self.runs.iter().map(WireSize::wire_size).sum::<usize>()
    }
}
