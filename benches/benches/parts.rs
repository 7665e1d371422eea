//! The time of each workload: `cargo bench -p jobq-benches`. Items are jobs.

use divan::Bencher;
use divan::counter::ItemsCount;
use jobq_benches::{Workload, measured};

fn main() {
    divan::main();
}

#[divan::bench(args = jobq_benches::codec::workloads())]
fn codec(bencher: Bencher, workload: &Workload) {
    bench(bencher, workload);
}

#[divan::bench(args = jobq_benches::machine::workloads())]
fn machine(bencher: Bencher, workload: &Workload) {
    bench(bencher, workload);
}

/// Each sample has a new database, and ten commits.
#[divan::bench(args = jobq_benches::store::workloads(), sample_count = 20, sample_size = 1)]
fn store(bencher: Bencher, workload: &Workload) {
    bench(bencher, workload);
}

fn bench(bencher: Bencher, workload: &Workload) {
    bencher
        .counter(ItemsCount::new(workload.jobs()))
        .with_inputs(|| workload.prepare())
        .bench_local_refs(measured);
}
