//! Restarts under load, with running jobs: none runs twice, for their workers come back in time.

use std::time::Duration;

use super::load::Load;
use super::round::{Round, Skipped, Tally};
use super::scene::{BEGIN, Runs, Scene, stop};

/// Long enough to be met by a restart, or by two.
const BEGIN_AND_STAY: &str = r#"
case $((JOBQ_ID % 4)) in 0) sleep 0.3 ;; 1) sleep 0.1 ;; esac
"#;

/// Within what a restart comes after the one before.
const WITHIN: Duration = Duration::from_millis(300);

const RESTARTS: u32 = 3;

pub(super) async fn run(round: Round) -> Result<Tally, Skipped> {
    let mut scene = Scene::open(round, &["--drain", "50ms"]).await;
    let address = scene.server.address().to_owned();
    let script = format!("{BEGIN}\n{BEGIN_AND_STAY}");
    let workers = [4, 3].map(|concurrency| scene.work_by(&script, &address, concurrency));
    let load = Load::start(&mut scene, &address, 2);
    let mut seen = Vec::new();
    for _ in 0..RESTARTS {
        scene.moment(WITHIN).await;
        if scene.chance.percent(50) {
            scene.kill_server().await;
            seen.push("killed");
        } else {
            scene.history.notes("fault     SIGTERM of the server");
            let status = scene.server.terminate().await;
            assert!(status.success(), "the server does not stop well: {status}");
            scene.restart().await;
            seen.push("stopped");
        }
    }
    load.finish().await;
    let ended = scene.drain().await;
    for worker in workers {
        stop(worker).await;
    }
    let mut tally = scene.close(&ended, Runs::Once).await;
    seen.into_iter().for_each(|seen| tally.notice(seen));
    Ok(tally)
}
