//! Running one seed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::mutants::Mutant;
use super::trace::{Keep, Tally, Trace};
use super::world::World;

/// What came of a seed.
#[derive(Debug)]
pub struct Outcome {
    /// What was wrong, if anything was.
    pub wrong: Option<String>,
    /// What happened how often.
    pub tally: Tally,
    /// What happened.
    pub trace: Trace,
}

/// Runs a seed, with a mutant or without. A panic within counts as something wrong.
pub fn run(seed: u64, keep: Keep, mutant: Option<Mutant>) -> Outcome {
    let mut world = World::new(seed, keep, mutant);
    let panicked = catch_unwind(AssertUnwindSafe(|| world.run())).err();
    let wrong = panicked.map(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        format!("a panic: {}", text.unwrap_or("without a text"))
    });
    let ctx = world.ctx;
    Outcome {
        wrong: ctx.wrong.or(wrong),
        tally: ctx.tally,
        trace: ctx.trace,
    }
}
