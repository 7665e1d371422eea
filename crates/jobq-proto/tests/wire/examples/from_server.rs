use bytes::Bytes;
use jobq_proto::message::{
    Acknowledged, BackupFile, BackupPart, BackupPhase, BackupState, Beat, Cancel, CancelOutcome,
    CancelResult, Cancelled, Closing, Ended, EndedJob, EndedRun, ErrorMessage, JobProgress, JobView, Jobs,
    NameStats, Order, OrderedJob, Progressed, ProgressedJob, Receipt, Refused, Retried, RunRef,
    SettleOutcome, Settled, SettledRun, Stats, Welcome,
};
use jobq_proto::{ClientMessage as C, ErrorCode, Limits, Status, Window, WireError};

use super::{fence, params, result, secret, store, uuid};

pub(super) fn examples() -> Vec<(&'static str, C)> {
    let mut all = session();
    all.extend(runs());
    all.extend(answers());
    all.extend(jobs());
    all.extend(backups());
    all.extend(refusals());
    all
}

fn session() -> Vec<(&'static str, C)> {
    let welcome = Welcome {
        version: 1,
        server: "jobq 0.1.0".to_owned(),
        store: store(),
        epoch: 3,
        session: 7,
        secret: secret(),
        resumed: false,
        ttl: 30_000_000,
        grace: 5_000_000,
        beat: 10_000_000,
        idle_beat: None,
        uuid_window: 604_800_000_000,
        limits: Limits::default(),
        window: Window::default(),
    };
    let resumed = Welcome {
        resumed: true,
        idle_beat: Some(120_000_000),
        ..welcome.clone()
    };
    vec![
        ("Hello.minimal", C::Hello(Box::new(welcome))),
        ("Hello.full", C::Hello(Box::new(resumed))),
        ("Beat.full", C::Beat(Beat { seq: 42 })),
        ("Closing.full", C::Closing(Closing { within: 15_000_000 })),
    ]
}

fn runs() -> Vec<(&'static str, C)> {
    let plain = OrderedJob {
        id: 1004,
        fence: fence(20),
        attempt: 1,
        max_attempts: 20,
        uuid: uuid(1),
        name: "ping".to_owned(),
        username: None,
        timeout: None,
        params: bytes::Bytes::from_static(jobq_proto::NewJob::NO_PARAMS),
    };
    let full = OrderedJob {
        id: 1001,
        fence: fence(17),
        attempt: 2,
        max_attempts: 5,
        uuid: uuid(2),
        name: "thumbnail".to_owned(),
        username: Some("ada".to_owned()),
        timeout: Some(120_000_000),
        params: params(),
    };
    let settled = |id, seq, outcome| SettledRun {
        id,
        fence: fence(seq),
        outcome,
    };
    vec![
        (
            "Order.minimal",
            C::Order(Order {
                jobs: vec![plain.clone()],
            }),
        ),
        (
            "Order.full",
            C::Order(Order {
                jobs: vec![full, plain],
            }),
        ),
        (
            "Settled.full",
            C::Settled(Settled {
                runs: vec![
                    settled(1001, 17, SettleOutcome::Applied),
                    settled(1002, 18, SettleOutcome::AlreadyApplied),
                    settled(1004, 20, SettleOutcome::Stale),
                    settled(9999, 2, SettleOutcome::NotFound),
                ],
            }),
        ),
        (
            "Cancel.full",
            C::Cancel(Cancel {
                runs: vec![RunRef {
                    id: 1003,
                    fence: fence(19),
                }],
            }),
        ),
    ]
}

fn answers() -> Vec<(&'static str, C)> {
    let cancelled = |id, outcome| CancelResult { id, outcome };
    vec![
        (
            "Acknowledged.minimal",
            C::Acknowledged(Acknowledged {
                request: 1,
                jobs: vec![Receipt::stored(1004, false)],
            }),
        ),
        (
            "Acknowledged.full",
            C::Acknowledged(Acknowledged {
                request: 2,
                jobs: vec![
                    Receipt::stored(1001, true),
                    Receipt::refused(WireError::new(ErrorCode::UuidConflict, "another name")),
                ],
            }),
        ),
        (
            "Cancelled.full",
            C::Cancelled(Cancelled {
                request: 5,
                jobs: vec![
                    cancelled(1002, CancelOutcome::Cancelled),
                    cancelled(1003, CancelOutcome::Marked),
                    cancelled(1001, CancelOutcome::AlreadyEnded),
                    cancelled(9999, CancelOutcome::NotFound),
                ],
            }),
        ),
        (
            "Retried.full",
            C::Retried(Retried {
                request: 6,
                jobs: vec![
                    Receipt::stored(1010, false),
                    Receipt::refused(WireError::new(ErrorCode::NotEnded, "job 1003 is Processing")),
                ],
            }),
        ),
        (
            "Ended.minimal",
            C::Ended(Ended {
                request: 4,
                jobs: vec![ended(1001, Some(Status::Completed))],
            }),
        ),
        (
            "Ended.full",
            C::Ended(Ended {
                request: 4,
                jobs: vec![
                    EndedJob {
                        result: Some(result()),
                        ..ended(1001, Some(Status::Completed))
                    },
                    EndedJob {
                        reason: Some("no such file: a.png".to_owned()),
                        ..ended(1002, Some(Status::Failed))
                    },
                    EndedJob {
                        omitted: true,
                        ..ended(1003, Some(Status::Completed))
                    },
                    ended(9999, None),
                ],
            }),
        ),
        (
            "Progressed.full",
            C::Progressed(Progressed {
                request: 4,
                jobs: vec![
                    ProgressedJob {
                        id: 1003,
                        attempt: 2,
                        progress: progress(),
                    },
                    ProgressedJob {
                        id: 1005,
                        attempt: 1,
                        progress: JobProgress::default(),
                    },
                ],
            }),
        ),
    ]
}

fn progress() -> JobProgress {
    JobProgress {
        part: Some(250_000),
        text: "page 3 of 12".to_owned(),
    }
}

fn ended(id: u64, status: Option<Status>) -> EndedJob {
    EndedJob {
        id,
        status,
        reason: None,
        result: None,
        omitted: false,
    }
}

fn jobs() -> Vec<(&'static str, C)> {
    let queued = JobView {
        id: 1004,
        uuid: uuid(1),
        name: "ping".to_owned(),
        username: None,
        priority: "Normal".to_owned(),
        status: Status::Queued,
        created: 1_795_370_000_000_000,
        due: 1_795_370_000_000_000,
        started: None,
        ended: None,
        ran: None,
        attempts: 0,
        max_attempts: 20,
        charges: 0,
        fence: None,
        cancelling: false,
        reason: None,
        retry_of: None,
        params_bytes: 1,
        params: None,
        result: None,
        progress: None,
        runs: Vec::new(),
    };
    let running = JobView {
        id: 1003,
        uuid: uuid(2),
        name: "thumbnail".to_owned(),
        username: Some("ada".to_owned()),
        priority: "High".to_owned(),
        status: Status::Processing,
        due: 1_795_370_400_000_000,
        started: Some(1_795_370_400_000_900),
        attempts: 1,
        max_attempts: 5,
        charges: 1,
        fence: Some(fence(19)),
        cancelling: true,
        reason: Some("the worker was lost".to_owned()),
        retry_of: Some(640),
        params_bytes: 6,
        params: Some(params()),
        progress: Some(progress()),
        ..queued.clone()
    };
    let completed = JobView {
        id: 1001,
        uuid: uuid(3),
        status: Status::Completed,
        started: Some(1_795_370_000_000_900),
        ended: Some(1_795_370_000_105_150),
        ran: Some(104_250),
        attempts: 1,
        fence: Some(fence(17)),
        result: Some(result()),
        ..queued.clone()
    };
    let failed = JobView {
        id: 1002,
        uuid: uuid(2),
        status: Status::Failed,
        ended: Some(1_795_370_009_000_000),
        attempts: 2,
        max_attempts: 2,
        fence: Some(fence(18)),
        reason: Some("no such file: a.png".to_owned()),
        runs: vec![
            EndedRun {
                fence: fence(9),
                end: "Lost".to_owned(),
                at: 1_795_370_005_000_000,
                reason: None,
            },
            EndedRun {
                fence: fence(18),
                end: "Failed".to_owned(),
                at: 1_795_370_009_000_000,
                reason: Some("no such file: a.png".to_owned()),
            },
        ],
        ..queued.clone()
    };
    let name = |name: &str| NameStats {
        name: name.to_owned(),
        scheduled: 1,
        queued: 2,
        processing: 3,
        cap: Some(4),
        completed: 400,
        failed: 5,
        cancelled: 6,
    };
    let stats = Stats {
        request: 7,
        uptime: 86_400_000_000,
        workers: 2,
        peers: 5,
        submitted: 1_000_000,
        settled: 999_989,
        lost: 1,
        ..Stats::default()
    };
    vec![
        (
            "Jobs.minimal",
            C::Jobs(Jobs {
                request: 3,
                jobs: vec![queued],
                next: None,
            }),
        ),
        (
            "Jobs.full",
            C::Jobs(Jobs {
                request: 3,
                jobs: vec![running],
                next: Some(1003),
            }),
        ),
        (
            "Jobs.result",
            C::Jobs(Jobs {
                request: 3,
                jobs: vec![completed],
                next: None,
            }),
        ),
        (
            "Jobs.runs",
            C::Jobs(Jobs {
                request: 3,
                jobs: vec![failed],
                next: None,
            }),
        ),
        ("Stats.minimal", C::Stats(Box::new(stats.clone()))),
        (
            "Stats.full",
            C::Stats(Box::new(Stats {
                max_active: Some(4),
                storage_full: true,
                names: vec![name("thumbnail")],
                truncated: true,
                total: name(""),
                ..stats
            })),
        ),
    ]
}

fn backups() -> Vec<(&'static str, C)> {
    let state = |phase| BackupState {
        request: 8,
        phase,
        done: 0,
        of: 0,
        file: None,
        error: None,
    };
    vec![
        (
            "BackupState.minimal",
            C::BackupState(Box::new(state(BackupPhase::Gone))),
        ),
        (
            "BackupState.copying",
            C::BackupState(Box::new(BackupState {
                done: 8_388_608,
                of: 104_857_600,
                ..state(BackupPhase::Copying)
            })),
        ),
        (
            "BackupState.ready",
            C::BackupState(Box::new(BackupState {
                file: Some(BackupFile {
                    bytes: 104_857_600,
                    sha256: secret(),
                    commit: 4711,
                    jobs: 1_000_000,
                }),
                ..state(BackupPhase::Ready)
            })),
        ),
        (
            "BackupState.failed",
            C::BackupState(Box::new(BackupState {
                error: Some(WireError::new(ErrorCode::StorageFull, "no room for a copy")),
                ..state(BackupPhase::Failed)
            })),
        ),
        (
            "BackupPart.full",
            C::BackupPart(BackupPart {
                request: 9,
                bytes: Bytes::from_static(b"SQLite format 3"),
            }),
        ),
    ]
}

fn refusals() -> Vec<(&'static str, C)> {
    let full = WireError {
        retry_after: Some(5_000_000),
        ..WireError::new(ErrorCode::StorageFull, "the disk is full")
    };
    vec![
        (
            "Refused.minimal",
            C::Refused(Refused {
                request: 2,
                error: WireError::new(ErrorCode::ShuttingDown, "the server is going down"),
            }),
        ),
        (
            "Refused.full",
            C::Refused(Refused {
                request: 2,
                error: full,
            }),
        ),
        (
            "Error.full",
            C::Error(ErrorMessage {
                error: WireError::new(
                    ErrorCode::WrongVersion,
                    "version 9 was asked for, and this server speaks 1",
                ),
            }),
        ),
    ]
}
