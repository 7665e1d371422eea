//! About how many bytes a message takes that is sent, without encoding it, which is the work of each connection's
//! writer.

use jobq_proto::message::ErrorMessage;
use jobq_proto::{ClientMessage, WireSize};

/// A message's name, the heads of its maps and arrays, and the few fields that are no batch.
const FRAME: usize = 64;

/// A Hello, whose texts are short.
const HELLO: usize = 512;

/// One entry of a batch that holds numbers only.
const NUMBERS: usize = 64;

/// One name's counts, with the name.
const NAME_STATS: usize = 272;

/// How far a backup has come, and the file's length and hash.
const BACKUP_STATE: usize = 256;

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
            ClientMessage::Progressed(message) => items(&message.jobs),
            ClientMessage::Cancelled(message) => message.jobs.len() * NUMBERS,
            ClientMessage::Retried(message) => items(&message.jobs),
            ClientMessage::Stats(message) => (message.names.len() + 2) * NAME_STATS,
            ClientMessage::BackupState(message) => {
                BACKUP_STATE + message.error.as_ref().map_or(0, WireSize::wire_size)
            }
            ClientMessage::BackupPart(message) => message.bytes.len(),
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

#[cfg(test)]
mod tests {
    use jobq_proto::message::{
        Acknowledged, BackupFile, BackupPart, BackupPhase, BackupState, Beat, Cancel, CancelOutcome,
        CancelResult, Cancelled, Closing, Ended, EndedJob, JobProgress, Jobs, NameStats, Order, OrderedJob,
        Progressed, ProgressedJob, Receipt, Refused, Retried, RunRef, SettleOutcome, Settled, SettledRun,
        Stats, Welcome,
    };
    use jobq_proto::{ErrorCode, Fence, Limits, Window, WireError};
    use uuid::Uuid;

    use super::*;
    use crate::codec::encode;

    const MAX: u64 = u64::MAX;
    const FENCE: Fence = Fence { epoch: MAX, seq: MAX };

    fn error() -> WireError {
        WireError {
            code: ErrorCode::HoldingExpected,
            message: "x".repeat(300),
            retry_after: Some(MAX),
        }
    }

    fn ordered(params: usize) -> OrderedJob {
        OrderedJob {
            id: MAX,
            fence: FENCE,
            attempt: u32::MAX,
            max_attempts: u32::MAX,
            uuid: Uuid::max(),
            name: "n".repeat(128),
            username: Some("u".repeat(128)),
            timeout: Some(MAX),
            params: vec![0; params].into(),
        }
    }

    fn progressed() -> ProgressedJob {
        ProgressedJob {
            id: MAX,
            attempt: u32::MAX,
            progress: JobProgress {
                part: Some(u32::MAX),
                text: "t".repeat(256),
            },
        }
    }

    fn stats() -> Stats {
        let name = NameStats {
            name: "n".repeat(128),
            scheduled: MAX,
            queued: MAX,
            processing: MAX,
            cap: Some(MAX),
            completed: MAX,
            failed: MAX,
            cancelled: MAX,
        };
        Stats {
            request: MAX,
            uptime: MAX,
            workers: MAX,
            peers: MAX,
            max_active: Some(MAX),
            submitted: MAX,
            settled: MAX,
            lost: MAX,
            names: vec![name.clone(); Stats::MAX_NAMES],
            truncated: true,
            storage_full: true,
            total: name,
        }
    }

    fn welcome() -> Welcome {
        Welcome {
            version: u32::MAX,
            server: "jobq 10.20.30".to_owned(),
            store: Uuid::max(),
            epoch: MAX,
            session: MAX,
            secret: vec![0; 32].into(),
            resumed: true,
            ttl: MAX,
            grace: MAX,
            beat: MAX,
            idle_beat: Some(MAX),
            uuid_window: MAX,
            limits: Limits::default(),
            window: Window::default(),
        }
    }

    fn backup_state() -> BackupState {
        let file = BackupFile {
            bytes: MAX,
            sha256: vec![0; 32].into(),
            commit: MAX,
            jobs: MAX,
        };
        BackupState {
            request: MAX,
            phase: BackupPhase::Checking,
            done: MAX,
            of: MAX,
            file: Some(file),
            error: Some(error()),
        }
    }

    #[test]
    fn a_message_is_never_longer_than_its_weight_and_rarely_much_shorter() {
        let settled = SettledRun {
            id: MAX,
            fence: FENCE,
            outcome: SettleOutcome::AlreadyApplied,
        };
        let cancelled = CancelResult {
            id: MAX,
            outcome: CancelOutcome::AlreadyEnded,
        };
        let receipts = vec![Receipt::stored(MAX, true), Receipt::refused(error())];
        let ended = EndedJob {
            id: MAX,
            status: None,
            reason: Some("r".repeat(500)),
            result: Some(vec![0; 5_000].into()),
            omitted: true,
        };
        let messages = [
            ClientMessage::Hello(Box::new(welcome())),
            ClientMessage::Acknowledged(Acknowledged {
                request: MAX,
                jobs: receipts.clone(),
            }),
            ClientMessage::Retried(Retried {
                request: MAX,
                jobs: receipts,
            }),
            ClientMessage::Cancel(Cancel {
                runs: vec![
                    RunRef {
                        id: MAX,
                        fence: FENCE
                    };
                    100
                ],
            }),
            ClientMessage::Jobs(Jobs {
                request: MAX,
                jobs: Vec::new(),
                next: Some(MAX),
            }),
            ClientMessage::Ended(Ended {
                request: MAX,
                jobs: vec![ended; 3],
            }),
            ClientMessage::BackupState(Box::new(backup_state())),
            ClientMessage::BackupPart(BackupPart {
                request: MAX,
                bytes: vec![0; 48 * 1024].into(),
            }),
            ClientMessage::Order(Order {
                jobs: vec![ordered(0), ordered(100_000)],
            }),
            ClientMessage::Settled(Settled {
                runs: vec![settled; 100],
            }),
            ClientMessage::Progressed(Progressed {
                request: MAX,
                jobs: vec![progressed(); 3],
            }),
            ClientMessage::Cancelled(Cancelled {
                request: MAX,
                jobs: vec![cancelled; 100],
            }),
            ClientMessage::Stats(Box::new(stats())),
            ClientMessage::Refused(Refused {
                request: MAX,
                error: error(),
            }),
            ClientMessage::Error(ErrorMessage { error: error() }),
            ClientMessage::Beat(Beat { seq: MAX }),
            ClientMessage::Closing(Closing { within: MAX }),
        ];
        for name in ClientMessage::NAMES {
            let is_it = |message: &ClientMessage| format!("{message:?}").starts_with(&format!("{name}("));
            assert!(messages.iter().any(is_it), "a {name} is missing here");
        }
        for message in messages {
            let length = encode(&message)
                .expect("the protocol's messages can be written")
                .len();
            let weight = weight(&message);
            assert!(weight >= length, "{weight} for {length} bytes of {message:?}");
            assert!(
                weight <= 2 * length + HELLO,
                "{weight} for {length} bytes of {message:?}"
            );
        }
    }
}
