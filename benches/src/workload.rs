//! A piece of work that is measured.

use std::fmt;

/// Work that is ready: its call does it, once. What it makes it keeps, so that dropping that is not measured.
pub type Work = Box<dyn FnMut()>;

/// Makes the work ready.
type Prepare = Box<dyn Fn() -> Work + Send + Sync>;

/// A piece of work, the same each time.
pub struct Workload {
    name: String,
    jobs: u64,
    prepare: Prepare,
}

impl Workload {
    /// Work on `jobs` jobs that `prepare` makes ready.
    pub fn new(
        name: impl Into<String>,
        jobs: u64,
        prepare: impl Fn() -> Work + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            jobs,
            prepare: Box::new(prepare),
        }
    }

    /// Part and work, with a slash between them, e.g. `machine/submit 1,000 a request`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many jobs the work is about.
    pub fn jobs(&self) -> u64 {
        self.jobs
    }

    /// Makes everything ready, which is not measured.
    pub fn prepare(&self) -> Work {
        (self.prepare)()
    }

    /// Every workload there is.
    pub fn all() -> Vec<Self> {
        let mut all = crate::codec::workloads();
        all.extend(crate::machine::workloads());
        all.extend(crate::store::workloads());
        all.extend(crate::transport::workloads());
        all
    }
}

impl fmt::Display for Workload {
    /// Its name without the part, for a list of that part's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = self.name.split_once('/').map_or(&*self.name, |(_, short)| short);
        f.write_str(short)
    }
}

/// Does the work. Callgrind counts what happens in here, on all threads, and finds it by its name: it must stay a
/// function of its own.
#[inline(never)]
pub fn measured(work: &mut Work) {
    work();
    // Something after the call, or the call may become a jump out of here.
    std::hint::black_box(work);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_workload_does_what_it_says() {
        for workload in Workload::all() {
            // Each looks at what came of it.
            workload.prepare()();
        }
    }
}
