//! Workers that are lost while they run jobs, and how long it takes until those run again.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use jobq_client::JobId;

use super::namespace::{INSIDE, Namespace};
use super::round::{Round, Skipped, Tally};
use super::scene::{BEGIN, Runs, Scene, stop};
use crate::{Via, WorkerProcess, soon};

/// Workers that are lost at a time, each with a job.
const LOST: u32 = 4;

/// The first run of a job stays until it is killed, and says which process it is. Later on, runs just end.
const STAY: &str = r#"
[ "$JOBQ_ATTEMPT" -gt 1 ] || [ -e "$1.go" ] || { echo $$ > "$1.$JOBQ_ID"; exec sleep 300; }
"#;

/// Within what the workers are lost, once they all run a job: a lease lasts from the last word that was heard.
const WITHIN: Duration = Duration::from_secs(1);

/// How workers are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// They are killed, which closes their connections.
    Killed,
    /// Their line goes silent, and stays so. The server has its usual time-to-live.
    Silent,
    /// It goes silent and comes back. The server has a short time-to-live.
    Healed,
}

pub(super) async fn run(mut round: Round, loss: Loss) -> Result<Tally, Skipped> {
    let namespace = match loss {
        Loss::Killed => None,
        Loss::Silent | Loss::Healed => Some(Namespace::new()?),
    };
    let jobq = round.program.clone();
    let flags: &[&str] = match loss {
        Loss::Killed => &[],
        Loss::Silent => &["--listen", INSIDE],
        Loss::Healed => &["--listen", INSIDE, "--ttl", "2s"],
    };
    if let Some(namespace) = &namespace {
        round.program = namespace.program(&round.directory, &jobq);
    }
    let mut scene = Scene::open_via(round, Via::Unix, flags).await;
    let outside = scene.server.address().to_owned();
    let inside = if namespace.is_some() { INSIDE } else { &outside };
    let script = format!("{BEGIN}\n{STAY}");
    let mut lost: Vec<WorkerProcess> = (0..LOST).map(|_| scene.work_by(&script, inside, 1)).collect();
    let ids = scene.submit(LOST).await;
    for id in &ids {
        scene.begun(*id, 1).await;
    }
    scene.program = jobq;
    let other = scene.work_by(&script, &outside, LOST);
    scene.moment(WITHIN).await;

    scene
        .history
        .notes(format_args!("fault     workers are lost: {loss:?}"));
    let since = Instant::now();
    match &namespace {
        Some(namespace) => namespace.cut(),
        None => {
            for worker in &mut lost {
                worker.kill().await;
            }
        }
    }
    let again = soon("the runs of lost jobs", runs_again(&scene, &ids, since)).await;
    if let Some(namespace) = &namespace {
        namespace.heal();
    }
    if loss == Loss::Healed {
        // They go on with other jobs.
        stop(other).await;
        std::fs::write(scene.directory.join("starts.go"), "").expect("it can be written");
        scene.submit(1).await;
        scene.drain().await;
        for worker in lost {
            stop(worker).await;
        }
    } else {
        scene.drain().await;
        stop(other).await;
        drop(lost);
    }
    let ended = scene.drain().await;
    let mut tally = scene.close(&ended, Runs::LastCounts).await;
    for run in again {
        tally.waits.push(run.after);
        tally.notice(if run.beside {
            "ran beside the lost run"
        } else {
            "the lost run had ended"
        });
    }
    drop(namespace);
    Ok(tally)
}

/// A job that runs again.
struct Again {
    after: Duration,
    /// Its lost run was still there.
    beside: bool,
}

async fn runs_again(scene: &Scene, ids: &[JobId], since: Instant) -> Vec<Again> {
    let mut again = BTreeMap::new();
    while again.len() < ids.len() {
        for &id in ids {
            if !again.contains_key(&id) && scene.count_begun(id) > 1 {
                let (after, beside) = (
                    since.elapsed(),
                    is_alive(&scene.directory.join(format!("starts.{id}"))),
                );
                scene
                    .history
                    .notes(format_args!("job {id} runs again after {after:?}"));
                again.insert(id, Again { after, beside });
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    again.into_values().collect()
}

/// Whether the process runs whose number is in a file.
fn is_alive(file: &Path) -> bool {
    let number = std::fs::read_to_string(file).unwrap_or_default();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", number.trim()));
    stat.is_ok_and(|stat| !stat.contains(") Z ") && !stat.contains(") X "))
}
