//! The simulator over some hundred seeds, and whether it would notice what is wrong.

#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use jobq_tests::Mutation;
use jobq_tests::sim::{self, Keep, Mutant, Outcome, Tally};

/// Seeds that are run here; `simulate` runs as many as one likes.
const SEEDS: u64 = 320;

/// Runs seeds on all processors until `each` has seen all of them, or says that it has seen enough.
fn run_seeds(seeds: u64, mutant: Option<Mutant>, each: impl Fn(u64, Outcome) -> bool + Sync) {
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds || !each(seed, sim::run(seed, Keep::Nothing, mutant)) {
                        next.store(seeds, Ordering::Relaxed);
                        return;
                    }
                }
            });
        }
    });
}

#[test]
fn whatever_goes_wrong_every_promise_is_kept() {
    let found = Mutex::new(Vec::new());
    run_seeds(SEEDS, None, |seed, outcome| {
        let wrong = outcome.wrong.map(|wrong| {
            format!("seed {seed}: {wrong}\n  cargo run -p jobq-tests --bin simulate -- --seed {seed} --trace")
        });
        found.lock().expect("no thread panics").extend(wrong);
        true
    });
    let found = found.into_inner().expect("no thread panicked");
    assert!(
        found.is_empty(),
        "{} seeds found something:\n{}",
        found.len(),
        found.join("\n")
    );
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in [0, 7, 21, 44] {
        let (one, two) = (sim::run(seed, Keep::All, None), sim::run(seed, Keep::All, None));
        assert!(one.trace.lines() > 100, "seed {seed} does little");
        assert!(
            one.trace.kept().eq(two.trace.kept()),
            "seed {seed} has two traces"
        );
        assert_eq!(one.trace.digest(), two.trace.digest());
        assert_eq!(
            one.trace.digest(),
            sim::run(seed, Keep::Nothing, None).trace.digest()
        );
    }
    let digests = [1, 2].map(|seed| sim::run(seed, Keep::Nothing, None).trace.digest());
    assert_ne!(digests[0], digests[1]);
}

#[test]
fn everything_that_can_go_wrong_does_so_in_some_seeds() {
    let sum = Mutex::new(Tally::default());
    run_seeds(60, None, |_, outcome| {
        sum.lock().expect("no thread panics").merge(&outcome.tally);
        true
    });
    let sum = sum.into_inner().expect("no thread panicked");
    let judged = [
        "stats judged",
        "caps filled again",
        "things heard while the store was stuck",
    ];
    for what in sim::FAULTS.into_iter().chain(judged) {
        assert!(sum.of(what) > 0, "{what} never happened");
    }
}

/// How many seeds it takes at most until a mutant is noticed.
fn noticed(mutant: Mutant, within: u64) {
    let noticed = Mutex::new(None);
    run_seeds(within, Some(mutant), |seed, outcome| {
        let mut noticed = noticed.lock().expect("no thread panics");
        if let Some(wrong) = outcome.wrong {
            noticed.get_or_insert((seed, wrong));
        }
        noticed.is_none()
    });
    let noticed = noticed.into_inner().expect("no thread panicked");
    assert!(
        noticed.is_some(),
        "{} goes unnoticed in {within} seeds",
        mutant.name()
    );
}

#[test]
fn acknowledging_before_the_sync_is_noticed() {
    noticed(Mutant::AcknowledgeBeforeSync, 60);
}

/// About one seed in a hundred has a report that comes so late.
#[test]
fn skipping_the_fence_check_is_noticed() {
    noticed(Mutant::SkipFenceCheck, 500);
}

#[test]
fn leaking_a_place_under_the_caps_is_noticed() {
    noticed(Mutant::LeakCapSlot, 40);
}

#[test]
fn dropping_a_resumed_run_is_noticed() {
    noticed(Mutant::DropResumedRun, 40);
}

#[test]
fn starting_a_job_before_its_time_is_noticed() {
    noticed(Mutant::StartBeforeRunAt, 40);
}

#[test]
fn forgetting_a_retry_is_noticed() {
    noticed(Mutant::ForgetRetry, 20);
}

#[test]
fn breaking_the_order_is_noticed() {
    noticed(Mutant::BreakOrder, 20);
}

#[test]
fn giving_a_worker_more_than_it_wants_is_noticed() {
    noticed(Mutant::ExceedCredit, 20);
}

#[test]
fn each_mutation_of_the_source_is_of_a_text_that_is_there_once() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let names: BTreeSet<&str> = Mutation::ALL.iter().map(|mutation| mutation.name).collect();
    assert_eq!(names.len(), Mutation::ALL.len(), "two have one name");
    for mutation in Mutation::ALL {
        let broken = mutation.apply(&root).unwrap_or_else(|error| panic!("{error}"));
        assert!(
            broken.contains(mutation.instead),
            "{} changes nothing",
            mutation.name
        );
        assert_ne!(mutation.text, mutation.instead);
    }
}
