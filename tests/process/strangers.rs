//! Peers that break the protocol: each is told what was wrong, and no other peer notices.

use std::process::Stdio;

use jobq_client::{Client, JobId, JobRequest};
use jobq_proto::message::{
    Beat, Completed, CompletedRun, Failed, FailedRun, Hello, Holding, NameCredit, OrderedJob, Progress,
    Released, Request, RunProgress, RunRef, SettleOutcome, SettledRun, Started, Submission, Work,
};
use jobq_proto::{ClientMessage, ErrorCode, Fence, PROTOCOL_VERSION, ServerMessage, Status};
use jobq_tests::history::HandlerRun;
use jobq_tests::peer::{announced, frame};
use jobq_tests::soon::BOUND;
use jobq_tests::{Chance, Contents, History, RawPeer, ServerProcess, Via, check};

use crate::fixture::{connect, directory, jobq, program, seed, submit};

/// The one job that the neighbour runs from the beginning to the end of a scene.
const LONG: &str = "long";

/// The jobs that it runs in between, one at a time.
const SHORT: &str = "short";

/// How deep nonsense is nested.
const DEPTHS: [usize; 3] = [33, 1_000, 1_000_000];

#[tokio::test]
async fn bytes_that_are_no_protocol_disturb_no_other_peer() {
    let mut scene = Scene::start().await;
    let mut chance = Chance::new(seed(6));
    let mut garbage = vec![
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        vec![0; 1_000],
        vec![0xff; 1_000],
        // A frame that is announced and does not come, one of a forbidden length, and one that is no CBOR.
        vec![0, 0, 0, 100, 0xa1],
        vec![0x7f, 0xff, 0xff, 0xff, 0xa1],
        vec![0, 0, 0, 2, 0xff, 0xff],
    ];
    for _ in 0..20 {
        let length = chance.between(1, 300);
        let byte = |_| u8::try_from(chance.between(0, 255)).expect("it is a byte");
        garbage.push((0..length).map(byte).collect());
    }
    for bytes in garbage {
        let mut newcomer = scene.newcomer().await;
        newcomer.write(&bytes).await;
        newcomer.finish().await;
        newcomer.last_words().await;
        let mut known = scene.known().await;
        known.write(&bytes).await;
        known.finish().await;
        known.last_words().await;
        scene.works_on().await;
    }
    scene.finish().await;
}

#[tokio::test]
async fn a_frame_over_the_limit_is_refused_by_its_length_alone() {
    let mut scene = Scene::start().await;
    for length in [163_841, 1_114_112, u32::MAX] {
        let mut newcomer = scene.newcomer().await;
        newcomer.write(&announced(length)).await;
        let error = told(newcomer, ErrorCode::FrameTooLarge).await;
        assert!(
            error.contains(&length.to_string()) && error.contains("163840"),
            "{error}"
        );
        scene.works_on().await;
    }
    for length in [1_114_113, u32::MAX] {
        let mut known = scene.known().await;
        known.write(&announced(length)).await;
        let error = told(known, ErrorCode::FrameTooLarge).await;
        assert!(
            error.contains(&length.to_string()) && error.contains("1114112"),
            "{error}"
        );
        scene.works_on().await;
    }
    scene.finish().await;
}

#[tokio::test]
async fn a_message_before_hello_is_told_what_comes_first() {
    let mut scene = Scene::start().await;
    let job = Submission::from(JobRequest::new(SHORT));
    let hasty = [
        ServerMessage::Request(Request {
            request: 1,
            jobs: vec![job],
        }),
        ServerMessage::Beat(Beat { seq: 1 }),
        ServerMessage::Holding(Holding::default()),
        completed(scene.long),
    ];
    for message in hasty {
        let mut newcomer = scene.newcomer().await;
        newcomer.send(&message).await;
        let error = told(newcomer, ErrorCode::HelloExpected).await;
        assert!(error.contains("Hello"), "{error}");
        scene.works_on().await;
    }
    scene.finish().await;
}

#[tokio::test]
async fn a_wrong_version_is_told_which_one_is_right() {
    let mut scene = Scene::start().await;
    for version in [0, PROTOCOL_VERSION + 1, u32::MAX] {
        let mut newcomer = scene.newcomer().await;
        let hello = Hello {
            version,
            ..Hello::new("")
        };
        newcomer.send(&ServerMessage::Hello(Box::new(hello))).await;
        let error = told(newcomer, ErrorCode::WrongVersion).await;
        assert!(
            error.contains(&version.to_string()) && error.contains(&PROTOCOL_VERSION.to_string()),
            "{error}"
        );
        scene.works_on().await;
    }
    scene.finish().await;
}

#[tokio::test]
async fn what_is_nested_too_deep_is_no_message() {
    let mut scene = Scene::start().await;
    let openings: [&[u8]; 4] = [&[0x81], &[0x9f], &[0xa1, 0x00], &[0xc1]];
    for opening in openings {
        for depth in DEPTHS {
            let nested = opening.repeat(depth.min(1_000_000 / opening.len()));
            // In a field that nobody knows and everybody skips, and as a message.
            let mut in_a_field = b"\xa1\x65Hello\xa2\x67version\x01\x63odd".to_vec();
            in_a_field.extend_from_slice(&nested);
            in_a_field.push(0);
            for body in [in_a_field, nested] {
                if body.len() <= 4_096 {
                    let mut newcomer = scene.newcomer().await;
                    newcomer.write(&frame(&body)).await;
                    told(newcomer, ErrorCode::Malformed).await;
                }
                let mut known = scene.known().await;
                known.write(&frame(&body)).await;
                told(known, ErrorCode::Malformed).await;
            }
            scene.works_on().await;
        }
    }
    scene.finish().await;
}

#[tokio::test]
async fn a_message_of_an_unknown_name_is_told_that_nobody_knows_it() {
    let mut scene = Scene::start().await;
    let odd = frame(b"\xa1\x63Odd\xa0");
    for mut peer in [scene.newcomer().await, scene.known().await] {
        peer.write(&odd).await;
        let error = told(peer, ErrorCode::UnknownMessage).await;
        assert!(error.contains("Odd"), "{error}");
        scene.works_on().await;
    }
    scene.finish().await;
}

#[tokio::test]
async fn settlements_for_fences_that_were_never_issued_change_nothing() {
    let mut scene = Scene::start().await;
    let Fence { epoch, seq } = scene.long.fence;
    let (mut forger, _) = RawPeer::introduced(scene.server.address(), Some(work(&[("other", 1)]))).await;
    forger.send(&ServerMessage::Holding(Holding::default())).await;
    let fences = [
        (0, 0),
        (epoch, 0),
        (epoch, seq + 1_000),
        (epoch + 1, 1),
        (u64::MAX, u64::MAX),
        // This one is good, and another session's.
        (epoch, seq),
    ];
    for (epoch, seq) in fences {
        for id in [scene.long.id, 0, 1_000_000, u64::MAX] {
            let run = RunRef {
                id,
                fence: Fence { epoch, seq },
            };
            forger
                .send(&ServerMessage::Started(Started { runs: vec![run] }))
                .await;
            forger.send(&progress(run)).await;
            for report in [completed(run), failed(run), released(run)] {
                forger.send(&report).await;
                let outcome = settled(&mut forger).await;
                let expected = match id {
                    id if id == scene.long.id => SettleOutcome::Stale,
                    _ => SettleOutcome::NotFound,
                };
                assert_eq!((outcome.id, outcome.outcome), (id, expected), "{report:?}");
            }
        }
        scene.works_on().await;
    }
    scene.finish().await;
}

#[tokio::test]
async fn params_nested_a_thousand_deep_travel_unread_and_fail_only_where_they_are_read() {
    let mut scene = Scene::start().await;
    let mut nested = vec![0x81; 1_000];
    nested.push(0);
    let job = JobRequest::new("deep").raw_params(nested);
    let id = submit(&scene.client, &scene.history, vec![job]).await[0];
    let at = ["--server", scene.server.address()];
    let asked = id.to_string();
    for command in [&["show", &asked, "--params"][..], &["list", "--json"]] {
        let shown = jobq(&scene.server, command).await.success();
        assert!(shown.contains("deep"), "{shown}");
    }
    let mut worker = program().command(["work", "deep"].iter().chain(&at).chain(&["--", "cat"]));
    let mut worker = worker
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary can be started");
    let outcome = scene
        .client
        .wait_timeout(id, BOUND)
        .await
        .expect("the job is there");
    let reason = outcome.reason.unwrap_or_default();
    assert_eq!(outcome.status, Status::Failed, "{reason}");
    assert!(reason.contains("params"), "{reason}");
    worker.kill().await.expect("it can be killed");
    scene.works_on().await;
    scene.finish().await;
}

/// A server with a neighbour: a worker whose one connection lasts as long as the scene, with one run that goes on all
/// the time.
struct Scene {
    server: ServerProcess,
    client: Client,
    history: History,
    neighbour: RawPeer,
    long: RunRef,
    /// Behind the server, whose log is in it and is shown when a test fails.
    _directory: tempfile::TempDir,
}

impl Scene {
    async fn start() -> Self {
        let directory = directory();
        // The neighbour sends no beats.
        let server = ServerProcess::start(&program(), directory.path(), Via::Tcp, &["--ttl", "1h"]).await;
        let client = connect(server.address()).await;
        let history = History::default();
        submit(&client, &history, vec![JobRequest::new(LONG)]).await;
        let (mut neighbour, _) =
            RawPeer::introduced(server.address(), Some(work(&[(LONG, 1), (SHORT, 1)]))).await;
        neighbour.send(&ServerMessage::Holding(Holding::default())).await;
        let long = begin(&mut neighbour, &history).await;
        Self {
            server,
            client,
            history,
            neighbour,
            long,
            _directory: directory,
        }
    }

    /// A peer that has not said Hello.
    async fn newcomer(&self) -> RawPeer {
        RawPeer::connect(self.server.address()).await
    }

    /// A client whose Hello was good.
    async fn known(&self) -> RawPeer {
        RawPeer::introduced(self.server.address(), None).await.0
    }

    /// The neighbour runs another job.
    async fn works_on(&mut self) {
        submit(&self.client, &self.history, vec![JobRequest::new(SHORT)]).await;
        let run = begin(&mut self.neighbour, &self.history).await;
        self.complete(run).await;
    }

    /// The neighbour completes the run that went on all the time, and everything is as it was promised.
    async fn finish(mut self) {
        self.complete(self.long).await;
        assert!(!self.server.log().contains("panicked"), "{}", self.server.log());
        self.server.kill().await;
        let ledger = self.history.ledger();
        let contents = Contents::read(&self.server.data(), &ledger).await;
        check::assert_none(&check::kept(&ledger, &contents));
        check::assert_none(&check::runs_accounted(&ledger, &contents));
        for run in &ledger.runs {
            let job = contents.job(run.id);
            assert_eq!(
                (job.status, job.attempts),
                (Status::Completed, 1),
                "{:?}",
                job.reason
            );
        }
    }

    async fn complete(&mut self, run: RunRef) {
        self.neighbour.send(&completed(run)).await;
        let settled = settled(&mut self.neighbour).await;
        assert_eq!((settled.id, settled.outcome), (run.id, SettleOutcome::Applied));
    }
}

/// Takes the next order, and says that it has begun.
async fn begin(worker: &mut RawPeer, history: &History) -> RunRef {
    let OrderedJob {
        id, fence, attempt, ..
    } = match worker.recv().await {
        Some(ClientMessage::Order(mut order)) if order.jobs.len() == 1 => order.jobs.remove(0),
        other => panic!("a worker with room for one job was sent {other:?}"),
    };
    history.runs(HandlerRun {
        id: JobId(id),
        fence,
        attempt,
    });
    let run = RunRef { id, fence };
    worker
        .send(&ServerMessage::Started(Started { runs: vec![run] }))
        .await;
    run
}

/// The answer to the report of one run.
async fn settled(worker: &mut RawPeer) -> SettledRun {
    match worker.recv().await {
        Some(ClientMessage::Settled(settled)) if settled.runs.len() == 1 => settled.runs[0],
        other => panic!("a report of one run was answered by {other:?}"),
    }
}

/// The text of the error that ends a connection.
#[track_caller]
fn told(peer: RawPeer, code: ErrorCode) -> impl Future<Output = String> {
    let caller = std::panic::Location::caller();
    async move {
        match peer.last_words().await {
            Some(error) if error.code == code => error.message,
            other => panic!("at {caller}: expected {code:?}, and the last words were {other:?}"),
        }
    }
}

fn work(names: &[(&str, u32)]) -> Work {
    let credit = |&(name, jobs): &(&str, u32)| NameCredit {
        name: name.to_owned(),
        jobs,
    };
    Work {
        names: names.iter().map(credit).collect(),
        jobs: names.iter().map(|(_, jobs)| jobs).sum(),
        bytes: 1024 * 1024,
        prefetch: 0,
    }
}

fn completed(run: RunRef) -> ServerMessage {
    let run = CompletedRun {
        id: run.id,
        fence: run.fence,
        ran: 1,
        result: None,
    };
    ServerMessage::Completed(Completed { runs: vec![run] })
}

fn failed(run: RunRef) -> ServerMessage {
    let run = FailedRun {
        id: run.id,
        fence: run.fence,
        ran: 1,
        reason: "forged".to_owned(),
        never: true,
        after: None,
    };
    ServerMessage::Failed(Failed { runs: vec![run] })
}

fn released(run: RunRef) -> ServerMessage {
    ServerMessage::Released(Released { runs: vec![run] })
}

fn progress(run: RunRef) -> ServerMessage {
    let run = RunProgress {
        id: run.id,
        fence: run.fence,
        part: Some(u32::MAX),
        text: "forged".to_owned(),
    };
    ServerMessage::Progress(Progress { runs: vec![run] })
}
