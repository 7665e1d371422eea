//! A message that was read: what it takes in memory, and about how much work it makes.

use jobq_proto::ServerMessage;

/// What a question costs beside its own bytes: it is answered from the store as a rule, and at some length.
const ASK: usize = 32 * 1024;

/// A message of a peer.
pub(super) struct Received {
    pub(super) message: ServerMessage,
    /// About how many bytes it takes in memory.
    pub(super) held: usize,
}

impl Received {
    /// One that had `length` bytes on the wire.
    pub(super) fn new(message: ServerMessage, length: usize) -> Self {
        let held = held(&message, length);
        Self { message, held }
    }

    /// What it costs to deal with it, in bytes of jobs that are submitted, in memory.
    pub(super) fn cost(&self) -> usize {
        match self.message {
            ServerMessage::Request(_) => self.held,
            _ if self.asks() => self.held + ASK,
            _ => self.held,
        }
    }

    /// Whether it asks for an answer of some length.
    pub(super) fn asks(&self) -> bool {
        use ServerMessage as M;
        matches!(
            self.message,
            M::Request(_)
                | M::Query(_)
                | M::Watch(_)
                | M::Cancel(_)
                | M::Retry(_)
                | M::Stats(_)
                | M::BackupRead(_)
        )
    }

    /// What it costs, if it asks for something.
    pub(super) fn asked(&self) -> usize {
        if self.asks() { self.cost() } else { 0 }
    }
}

/// An empty map or text is one byte on the wire and much more in memory.
fn held(message: &ServerMessage, length: usize) -> usize {
    use ServerMessage as M;
    length
        + size_of::<M>()
        + match message {
            M::Hello(message) => message.work.as_ref().map_or(0, |work| room(&work.names)),
            M::Request(message) => room(&message.jobs),
            M::Credit(message) => room(&message.names),
            M::Started(message) => room(&message.runs),
            M::Progress(message) => room(&message.runs),
            M::Completed(message) => room(&message.runs),
            M::Failed(message) => room(&message.runs),
            M::Released(message) => room(&message.runs),
            M::Holding(message) => room(&message.runs),
            M::Query(message) => room(&message.ids) + room(&message.uuids),
            M::Watch(message) => room(&message.ids),
            M::Cancel(message) => room(&message.ids),
            M::Retry(message) => room(&message.ids),
            _ => 0,
        }
}

fn room<T>(items: &Vec<T>) -> usize {
    items.capacity() * size_of::<T>()
}
