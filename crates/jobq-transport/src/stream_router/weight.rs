//! About how many bytes a message takes, without encoding it: that is the writer's work, on another thread.

use jobq_proto::message::ErrorMessage;
use jobq_proto::{ClientMessage, WireSize};

/// A message's name, the heads of its maps and arrays, and the few fields that are no batch.
const FRAME: usize = 64;

/// A Hello, whose texts are short.
const HELLO: usize = 512;

/// One entry of a batch that holds numbers only.
const NUMBERS: usize = 64;

/// One name's counts, with the name.
const NAME_STATS: usize = 256;

/// At least as many bytes as the message takes on the wire, and not many more.
pub(super) fn weight(message: &ClientMessage) -> usize {
    FRAME
        + match message {
            ClientMessage::Hello(_) => HELLO,
            ClientMessage::Acknowledged(message) => items(&message.jobs),
            ClientMessage::Order(message) => items(&message.jobs),
            ClientMessage::Settled(message) => items(&message.runs),
            ClientMessage::Cancel(message) => items(&message.runs),
            ClientMessage::Jobs(message) => items(&message.jobs),
            ClientMessage::Ended(message) => items(&message.jobs),
            ClientMessage::Cancelled(message) => message.jobs.len() * NUMBERS,
            ClientMessage::Retried(message) => items(&message.jobs),
            ClientMessage::Stats(message) => (message.names.len() + 2) * NAME_STATS,
            ClientMessage::Refused(message) => message.error.wire_size(),
            ClientMessage::Error(ErrorMessage { error }) => error.wire_size(),
            ClientMessage::Beat(_) | ClientMessage::Closing(_) => 0,
            // A message of a newer protocol crate.
            _ => HELLO,
        }
}

fn items<T: WireSize>(items: &[T]) -> usize {
    items.iter().map(WireSize::wire_size).sum()
}
