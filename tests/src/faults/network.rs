//! Connections that are mistreated on the way, and neighbours that must not notice.

use std::time::Duration;

use super::load::{Load, WORKED, job};
use super::proxy::{Manner, Proxy};
use super::round::{Round, Skipped, Tally};
use super::scene::{Runs, Scene, stop};
use crate::soon;

/// Short, so that silence is noticed soon.
const WAITS: [&str; 4] = ["--ttl", "1s", "--grace", "300ms"];

/// How long the line is bad.
const WITHIN: Duration = Duration::from_millis(1_500);

/// The exit code of a worker that its server refuses for good.
const REFUSED: i32 = 3;

/// How a job ends whose params were garbled on the way to a worker, by bytes that came twice. Plain TCP has nothing that
/// tells them from others; no command is run with them.
const GARBLED: &str = "is Failed (the params cannot be written as JSON";

/// Jobs that a neighbour submits meanwhile.
const NEIGHBOURS: u64 = 20;

/// What the line does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// It is cut, delayed, split, silenced, or repeats bytes.
    Broken,
    /// It is slow both ways.
    Slow,
}

pub(super) async fn run(round: Round, line: Line) -> Result<Tally, Skipped> {
    let (flags, manners): (&[&str], &[Manner]) = match line {
        Line::Broken => (&WAITS, &Manner::ROUGH),
        Line::Slow => (&[], &[Manner::Slow]),
    };
    let mut scene = Scene::open(round, flags).await;
    let proxy = Proxy::start(scene.server.address(), manners, scene.chance.branch()).await;
    scene.history.notes(format_args!(
        "fault     connections by {} are {line:?}",
        proxy.address()
    ));
    let mut far = scene.work_by(super::scene::BEGIN, proxy.address(), 3);
    let near = scene.work(1);
    let load = Load::start(&mut scene, proxy.address(), 2);
    for _ in 0..NEIGHBOURS {
        let (job, _) = job(&mut scene.chance, WORKED);
        scene.history.asks(&job);
        let receipt = soon("a neighbour's receipt", scene.client.submit(job)).await;
        let receipt = receipt.unwrap_or_else(|error| panic!("a neighbour has no receipt: {error}"));
        scene.history.acknowledges(&receipt);
        scene
            .moment(WITHIN / u32::try_from(NEIGHBOURS).expect("there are few"))
            .await;
    }
    if line == Line::Broken {
        scene.history.notes("the line is good again");
        proxy.heal();
    }
    load.finish().await;
    let ended = scene.drain().await;
    let status = far.terminate().await;
    stop(near).await;
    let runs = match line {
        // A worker that hears what is no message gives back what it has: of such runs nothing is kept.
        Line::Broken => Runs::SettledOnce,
        Line::Slow => Runs::Accounted,
    };
    let mut tally = scene.close(&ended, runs).await;
    if line == Line::Broken {
        let garbled = tally
            .wrong
            .extract_if(.., |wrong| wrong.contains(GARBLED))
            .count();
        (0..garbled).for_each(|_| tally.notice("params garbled on the way, and not run with"));
    }
    match status.code() {
        Some(0) => {}
        // It was told that what it says is no protocol, which it takes to be so for good.
        Some(REFUSED) if line == Line::Broken => tally.notice("workers that gave up"),
        _ => tally.wrong.push(format!("the far worker ended with {status}")),
    }
    tally.noticed.extend(proxy.counts());
    Ok(tally)
}
