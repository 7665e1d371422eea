//! The faults of the program `faults`, a few rounds of each.

use jobq_tests::faults::{Fault, Outcome, Tally};

use crate::fixture::{directory, program, seed};

#[tokio::test]
async fn what_was_acknowledged_survives_sigkill_of_everybody() {
    bring(Fault::Kill, 12, 1_000).await;
}

/// The same from other seeds, so that two run at a time.
#[tokio::test]
async fn what_was_acknowledged_survives_sigkill_of_everybody_else() {
    bring(Fault::Kill, 12, 2_000).await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_power_cuts() {
    bring(Fault::Power, 3, 1).await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_writes_and_syncs_that_fail() {
    bring(Fault::DiskErrors, 5, 1).await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_disk_that_is_full_for_a_while() {
    bring(Fault::FullDisk, 1, 1).await;
}

#[tokio::test]
async fn a_flipped_bit_is_noticed_or_harmless_and_hands_out_no_wrong_job() {
    bring(Fault::BitFlips, 12, 1).await;
}

#[tokio::test]
async fn a_worker_that_was_suspended_past_its_lease_is_not_heeded() {
    bring(Fault::Suspend, 1, 1).await;
}

#[tokio::test]
async fn what_a_worker_ran_whose_line_went_silent_runs_again_and_the_worker_comes_back() {
    bring(Fault::Partition, 1, 1).await;
}

#[tokio::test]
async fn connections_that_are_cut_delayed_split_silenced_and_garbled_lose_nothing() {
    bring(Fault::Proxy, 3, 1).await;
}

#[tokio::test]
async fn slow_clients_and_workers_are_served() {
    bring(Fault::Slow, 1, 1).await;
}

#[tokio::test]
async fn of_several_servers_on_one_directory_one_runs() {
    bring(Fault::SecondServer, 2, 1).await;
}

#[tokio::test]
async fn no_job_runs_twice_when_the_server_is_restarted_under_load() {
    bring(Fault::Restart, 2, 1).await;
}

#[tokio::test]
async fn a_job_that_kills_its_worker_three_times_fails_and_its_neighbours_do_not() {
    bring(Fault::Poison, 1, 1).await;
}

#[tokio::test]
async fn the_jobs_of_a_killed_worker_run_again() {
    bring(Fault::DeadWorker, 1, 1).await;
}

/// Brings a fault so often, each time with another seed.
async fn bring(fault: Fault, rounds: u64, first: u64) {
    let first = seed(first);
    for seed in first..first + rounds {
        let directory = directory();
        let tally: Tally = match Box::pin(fault.bring(&program(), directory.path(), seed)).await {
            Outcome::Done(tally) => tally,
            Outcome::Skipped(why) => return eprintln!("skipped: {why}"),
        };
        if !tally.wrong.is_empty() {
            let kept = directory.keep();
            panic!(
                "{}, seed {seed}: {:#?}\nits history and data are in {}",
                fault.name(),
                tally.wrong,
                kept.display()
            );
        }
    }
}
