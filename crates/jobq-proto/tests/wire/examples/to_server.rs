use jobq_proto::message::{
    Backup, BackupDone, BackupRead, Beat, CancelJobs, Completed, CompletedRun, Credit, Failed, FailedRun,
    Goodbye, HeldRun, Hello, Holding, Include, NameCredit, Progress, Query, Released, Request, Resume,
    RetryJobs, RunProgress, RunRef, RunState, Started, StatsQuery, Submission, Unwatch, Watch, Work,
};
use jobq_proto::{Backoff, ServerMessage as S, Status};

use super::{fence, params, result, secret, store, uuid};

pub(super) fn examples() -> Vec<(&'static str, S)> {
    let mut all = hellos();
    all.extend(requests());
    all.extend(runs());
    all.extend(questions());
    all
}

fn hellos() -> Vec<(&'static str, S)> {
    let client = Hello {
        version: 1,
        label: String::new(),
        token: None,
        work: None,
        resume: None,
    };
    let thumbnail = NameCredit {
        name: "thumbnail".to_owned(),
        jobs: 8,
    };
    let worker = Hello {
        version: 1,
        label: "render-1".to_owned(),
        token: Some("s3cret".to_owned()),
        work: Some(Work {
            names: vec![
                thumbnail,
                NameCredit {
                    name: "mail.send".to_owned(),
                    jobs: 0,
                },
            ],
            jobs: 8,
            bytes: 8 * 1024 * 1024,
            prefetch: 2,
        }),
        resume: Some(Resume {
            store: store(),
            session: 7,
            secret: secret(),
        }),
    };
    vec![
        ("Hello.minimal", S::Hello(Box::new(client))),
        ("Hello.full", S::Hello(Box::new(worker))),
        ("Goodbye.full", S::Goodbye(Goodbye {})),
        ("Beat.full", S::Beat(Beat { seq: 42 })),
    ]
}

fn requests() -> Vec<(&'static str, S)> {
    let plain = Submission::new(uuid(1), "ping");
    let scheduled = Submission {
        uuid: uuid(2),
        name: "thumbnail".to_owned(),
        params: Some(params()),
        username: Some("ada".to_owned()),
        priority: Some("High".to_owned()),
        run_at: Some(1_795_370_400_000_000),
        max_attempts: Some(5),
        timeout: Some(60_000_000),
        backoff: Some(Backoff {
            base: 2_000_000,
            exponent: 2,
            max: 3_600_000_000,
        }),
        ..plain.clone()
    };
    let delayed = Submission {
        uuid: uuid(3),
        delay: Some(600_000_000),
        ..plain.clone()
    };
    vec![
        (
            "Request.minimal",
            S::Request(Request {
                request: 1,
                jobs: vec![plain],
            }),
        ),
        (
            "Request.full",
            S::Request(Request {
                request: 2,
                jobs: vec![scheduled, delayed],
            }),
        ),
    ]
}

fn runs() -> Vec<(&'static str, S)> {
    let run = |id, seq| RunRef {
        id,
        fence: fence(seq),
    };
    let held = |id, seq, state| HeldRun {
        id,
        fence: fence(seq),
        state,
    };
    let completed = CompletedRun {
        id: 1001,
        fence: fence(17),
        ran: 0,
        result: None,
    };
    let failed = FailedRun {
        id: 1002,
        fence: fence(18),
        ran: 0,
        reason: "no such file: a.png".to_owned(),
        never: false,
        after: None,
    };
    vec![
        (
            "Credit.minimal",
            S::Credit(Credit {
                names: Vec::new(),
                jobs: Some(0),
                bytes: None,
            }),
        ),
        (
            "Credit.full",
            S::Credit(Credit {
                names: vec![NameCredit {
                    name: "thumbnail".to_owned(),
                    jobs: 4,
                }],
                jobs: Some(4),
                bytes: Some(1024 * 1024),
            }),
        ),
        (
            "Started.full",
            S::Started(Started {
                runs: vec![run(1001, 17), run(1002, 18)],
            }),
        ),
        (
            "Progress.minimal",
            S::Progress(Progress {
                runs: vec![RunProgress {
                    id: 1001,
                    fence: fence(17),
                    part: None,
                    text: String::new(),
                }],
            }),
        ),
        (
            "Progress.full",
            S::Progress(Progress {
                runs: vec![RunProgress {
                    id: 1001,
                    fence: fence(17),
                    part: Some(250_000),
                    text: "page 3 of 12".to_owned(),
                }],
            }),
        ),
        (
            "Completed.minimal",
            S::Completed(Completed {
                runs: vec![completed.clone()],
            }),
        ),
        (
            "Completed.full",
            S::Completed(Completed {
                runs: vec![CompletedRun {
                    ran: 104_250,
                    result: Some(result()),
                    ..completed
                }],
            }),
        ),
        (
            "Failed.minimal",
            S::Failed(Failed {
                runs: vec![failed.clone()],
            }),
        ),
        (
            "Failed.full",
            S::Failed(Failed {
                runs: vec![
                    FailedRun {
                        ran: 2_017,
                        never: true,
                        ..failed.clone()
                    },
                    FailedRun {
                        id: 1003,
                        fence: fence(19),
                        ran: 5_000_000,
                        reason: "the mail server is busy".to_owned(),
                        after: Some(30_000_000),
                        ..failed
                    },
                ],
            }),
        ),
        (
            "Released.full",
            S::Released(Released {
                runs: vec![run(1004, 20)],
            }),
        ),
        ("Holding.minimal", S::Holding(Holding { runs: Vec::new() })),
        (
            "Holding.full",
            S::Holding(Holding {
                runs: vec![
                    held(1001, 17, RunState::Ended),
                    held(1002, 18, RunState::Running),
                    held(1004, 20, RunState::Waiting),
                ],
            }),
        ),
    ]
}

fn questions() -> Vec<(&'static str, S)> {
    let everything = Query {
        request: 3,
        ..Query::default()
    };
    vec![
        ("Query.minimal", S::Query(Box::new(everything.clone()))),
        (
            "Query.full",
            S::Query(Box::new(Query {
                status: Some(Status::Failed),
                name: Some("thumbnail".to_owned()),
                username: Some("ada".to_owned()),
                since: Some(1_795_370_000_000_000),
                until: Some(1_795_456_400_000_000),
                reason: Some("no such file".to_owned()),
                before: Some(1003),
                limit: Some(50),
                include: Some(Include::Params),
                ..everything.clone()
            })),
        ),
        (
            "Query.ids",
            S::Query(Box::new(Query {
                ids: vec![1001, 1002],
                include: Some(Include::Result),
                ..everything.clone()
            })),
        ),
        (
            "Query.runs",
            S::Query(Box::new(Query {
                ids: vec![1002],
                include: Some(Include::Runs),
                ..everything.clone()
            })),
        ),
        (
            "Query.uuids",
            S::Query(Box::new(Query {
                uuids: vec![uuid(1)],
                ..everything
            })),
        ),
        (
            "Watch.minimal",
            S::Watch(Watch {
                request: 4,
                ids: vec![1001],
                bytes: 0,
                progress: false,
            }),
        ),
        (
            "Watch.full",
            S::Watch(Watch {
                request: 4,
                ids: vec![1001, 1002, 9999],
                bytes: 65_536,
                progress: true,
            }),
        ),
        ("Unwatch.full", S::Unwatch(Unwatch { request: 4 })),
        (
            "Cancel.full",
            S::Cancel(CancelJobs {
                request: 5,
                ids: vec![1002, 1003, 1001, 9999],
            }),
        ),
        (
            "Retry.full",
            S::Retry(RetryJobs {
                request: 6,
                ids: vec![1002, 1003],
            }),
        ),
        ("Stats.full", S::Stats(StatsQuery { request: 7 })),
        (
            "Backup.full",
            S::Backup(Backup {
                request: 8,
                backup: uuid(7),
            }),
        ),
        (
            "BackupRead.full",
            S::BackupRead(BackupRead {
                request: 9,
                backup: uuid(7),
                offset: 98_304,
                length: BackupRead::MAX_LENGTH,
            }),
        ),
        (
            "BackupDone.full",
            S::BackupDone(BackupDone {
                request: 10,
                backup: uuid(7),
            }),
        ),
    ]
}
