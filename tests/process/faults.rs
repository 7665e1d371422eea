//! The faults of the program `faults`, a few rounds of each.

use jobq_tests::faults::{Fault, Outcome, Tally};
use jobq_tests::skipped;

use crate::fixture::{directory, program, seed};

/// Each line is a test: so many rounds of a kind, from this seed on.
macro_rules! rounds {
    ($($name:ident: $rounds:literal of $fault:ident from $first:literal;)+) => {
        $(
            #[tokio::test]
            async fn $name() {
                bring(Fault::$fault, $rounds, $first).await;
            }
        )+

        /// The kinds that are tried here.
        const TRIED: &[Fault] = &[$(Fault::$fault),+];
    };
}

rounds! {
    what_was_acknowledged_survives_sigkill_of_everybody: 12 of Kill from 1_000;
    what_was_acknowledged_survives_sigkill_of_everybody_from_other_seeds: 12 of Kill from 2_000;
    what_was_acknowledged_survives_power_cuts: 3 of Power from 1;
    what_was_acknowledged_survives_writes_and_syncs_that_fail: 5 of DiskErrors from 1;
    what_was_acknowledged_survives_a_disk_that_is_full_for_a_while: 1 of FullDisk from 1;
    a_flipped_bit_is_noticed_or_harmless_and_hands_out_no_wrong_job: 12 of BitFlips from 1;
    a_worker_that_was_suspended_past_its_lease_is_not_heeded: 1 of Suspend from 1;
    what_a_worker_ran_whose_line_went_silent_runs_again_and_the_worker_comes_back: 1 of Partition from 1;
    connections_that_are_cut_delayed_split_silenced_and_garbled_lose_nothing: 3 of Proxy from 1;
    slow_clients_and_workers_are_served: 1 of Slow from 1;
    of_several_servers_on_one_directory_one_runs: 2 of SecondServer from 1;
    no_job_runs_twice_when_the_server_is_restarted_under_load: 2 of Restart from 1;
    a_job_that_kills_its_worker_three_times_fails_and_its_neighbours_do_not: 1 of Poison from 1;
    the_jobs_of_a_killed_worker_run_again: 1 of DeadWorker from 1;
}

/// What a silent worker costs is its lease, more than half a minute a round; the program `faults` measures it.
const TOO_LONG: Fault = Fault::SilentWorker;

#[test]
fn each_kind_of_fault_is_tried_here_but_the_one_that_takes_too_long() {
    let missing: Vec<Fault> = Fault::ALL
        .into_iter()
        .filter(|fault| !TRIED.contains(fault))
        .collect();
    assert_eq!(missing, [TOO_LONG]);
}

/// Brings a fault so often, each time with another seed.
async fn bring(fault: Fault, rounds: u64, first: u64) {
    let first = seed(first);
    for seed in first..first + rounds {
        let directory = directory();
        let tally: Tally = match Box::pin(fault.bring(&program(), directory.path(), seed)).await {
            Outcome::Done(tally) => tally,
            Outcome::Skipped(why) => return skipped(why),
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
