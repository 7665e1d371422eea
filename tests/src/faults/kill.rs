//! SIGKILL of the server, of workers and of clients, at random moments.

use std::time::Duration;

use super::load::Load;
use super::round::{Round, Skipped, Tally};
use super::scene::{Runs, Scene, stop};

/// Short, so that a round does not wait for workers that died; and so long that a run which began in the moment of
/// its worker's death has said so before the next one begins.
const WAITS: [&str; 4] = ["--ttl", "1s", "--grace", "300ms"];

/// Within what a kill comes after the one before.
const WITHIN: Duration = Duration::from_millis(120);

/// Most kills in a round.
const MOST_KILLS: u64 = 3;

/// Programs that submit.
const PROGRAMS: u32 = 3;

pub(super) async fn run(round: Round) -> Result<Tally, Skipped> {
    let mut scene = Scene::open(round, &WAITS).await;
    let mut workers = [scene.work(4), scene.work(2)];
    let address = scene.server.address().to_owned();
    let load = Load::start(&mut scene, &address, PROGRAMS);
    let mut kills = Kills::default();
    for _ in 0..scene.chance.between(1, MOST_KILLS) {
        scene.moment(WITHIN).await;
        let victim = scene.chance.between(0, 9);
        if matches!(victim, 0..=3 | 9) {
            kills.clients += 1;
            load.kill_program();
        }
        if matches!(victim, 4..=5 | 9) {
            kills.workers += 1;
            let which = usize::from(scene.chance.percent(50));
            scene.history.notes("fault     SIGKILL of a worker");
            workers[which].kill().await;
            workers[which] = scene.work(4);
        }
        if matches!(victim, 0..=1 | 6..=9) {
            kills.servers += 1;
            scene.kill_server().await;
        }
    }
    load.finish().await;
    let ended = scene.drain().await;
    for worker in workers {
        stop(worker).await;
    }
    let runs = if kills.servers > 0 {
        Runs::SettledOnce
    } else {
        Runs::Accounted
    };
    let mut tally = scene.close(&ended, runs).await;
    kills.note(&mut tally);
    Ok(tally)
}

/// What was killed.
#[derive(Default)]
struct Kills {
    servers: usize,
    workers: usize,
    clients: usize,
}

impl Kills {
    fn note(&self, tally: &mut Tally) {
        for (what, count) in [
            ("servers killed", self.servers),
            ("workers killed", self.workers),
            ("clients killed", self.clients),
        ] {
            if count > 0 {
                tally.noticed.insert(what.to_owned(), count);
            }
        }
    }
}
