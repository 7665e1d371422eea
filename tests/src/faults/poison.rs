//! A job that kills its worker, each time that it runs.

use jobq_client::{JobRequest, Status};

use super::load::WORKED;
use super::round::{Round, Skipped, Tally};
use super::scene::{BEGIN, Runs, Scene, stop};

/// Workers that one job may take down.
const MOST_DEATHS: u32 = 3;

/// Jobs beside the poisonous one.
const HARMLESS: u64 = 10;

const CONCURRENCY: u32 = 4;

/// Kills the worker that runs it, if its params say so.
const POISON: &str = r#"
read -r params
case $params in *poison*) kill -KILL $PPID; sleep 0.2 ;; esac
"#;

pub(super) async fn run(round: Round) -> Result<Tally, Skipped> {
    let mut scene = Scene::open(round, &["--grace", "300ms"]).await;
    let address = scene.server.address().to_owned();
    let place = scene.chance.between(0, HARMLESS);
    let mut poison = None;
    for number in 0..=HARMLESS {
        let what = if number == place { "poison" } else { "harmless" };
        let job = JobRequest::new(WORKED)
            .params(what)
            .expect("a text can be encoded");
        scene.history.asks(&job);
        let receipt = scene.client.submit(job).await;
        let receipt = receipt.unwrap_or_else(|error| panic!("a job is not taken: {error}"));
        scene.history.acknowledges(&receipt);
        if number == place {
            poison = Some(receipt.id);
        }
    }
    let script = format!("{BEGIN}\n{POISON}");
    let mut worker = scene.work_by(&script, &address, CONCURRENCY);
    let mut deaths = 0;
    let ended = {
        let mut ends = std::pin::pin!(scene.drain());
        loop {
            tokio::select! {
                ended = &mut ends => break ended,
                _ = worker.wait() => {
                    deaths += 1;
                    worker = scene.work_by(&script, &address, CONCURRENCY);
                }
            }
        }
    };
    stop(worker).await;
    scene.server.kill().await;
    let (mut tally, contents) = scene.verdict(&ended, Runs::Accounted).await;
    if deaths != MOST_DEATHS {
        tally.wrong.push(format!(
            "the job took {deaths} workers down, and not {MOST_DEATHS}"
        ));
    }
    for job in &contents.jobs {
        let is_poison = poison.is_some_and(|poison| poison.0 == job.id);
        let (status, charges) = match is_poison {
            true => (Status::Failed, MOST_DEATHS),
            false => (Status::Completed, 0),
        };
        if (job.status, job.charges) == (status, charges) {
            if is_poison {
                tally.notice("dead-lettered");
            }
        } else {
            tally.wrong.push(format!(
                "job {} is {} after {} lost workers in a row, and should be {status} after {charges} ({:?})",
                job.id, job.status, job.charges, job.reason
            ));
        }
    }
    Ok(tally)
}
