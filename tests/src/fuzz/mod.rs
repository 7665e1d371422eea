//! What the fuzz targets do with their input: `run` of each module here takes any bytes and panics if something is
//! wrong.
//!
//! `fuzz/` gives them to libFuzzer, with a nightly compiler; the workspace's own tests run them over the inputs that
//! are kept in `fuzz/corpus`. What reads from a peer is either given bytes ([`frames`], [`messages`]) or a play
//! ([`server`], [`client`], [`worker`]): the bytes are then a script of what happens, in which messages are made up
//! field by field, so that most of them get past the codec.

pub mod client;
pub mod frames;
mod invent;
pub mod messages;
mod script;
pub mod server;
pub mod worker;

/// What a target does with its input.
pub type Target = fn(&[u8]);

/// Every target, by its name in `fuzz/`.
pub const TARGETS: &[(&str, Target)] = &[
    ("client", client::run),
    ("frames", frames::run),
    ("messages", messages::run),
    ("server", server::run),
    ("worker", worker::run),
];

#[cfg(test)]
mod tests {
    use std::fs;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::Path;

    use super::TARGETS;
    use crate::Chance;

    /// Most bytes of all inputs that are kept.
    const MAX_CORPUS: usize = 200 * 1024;

    #[test]
    fn every_target_takes_the_inputs_that_were_kept_for_it() {
        let mut bytes = 0;
        for (name, run) in TARGETS {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../fuzz/corpus")
                .join(name);
            let mut files: Vec<_> = fs::read_dir(&folder)
                .unwrap_or_else(|error| panic!("failed to read {}: {error}", folder.display()))
                .map(|entry| entry.expect("the folder can be read").path())
                .collect();
            files.sort_unstable();
            assert!(!files.is_empty(), "{} has no inputs", folder.display());
            for file in files {
                let input = fs::read(&file).expect("the corpus can be read");
                bytes += input.len();
                let outcome = catch_unwind(AssertUnwindSafe(|| run(&input)));
                assert!(outcome.is_ok(), "{name} fails on {}", file.display());
            }
        }
        assert!(bytes <= MAX_CORPUS, "the corpus has grown to {bytes} bytes");
    }

    #[test]
    fn every_target_takes_random_inputs() {
        let mut chance = Chance::new(2026);
        for (name, run) in TARGETS {
            for round in 0..ROUNDS {
                let length = chance.between(0, 600);
                let byte = |_| u8::try_from(chance.between(0, 255)).expect("it is a byte");
                let input: Vec<u8> = (0..length).map(byte).collect();
                let outcome = catch_unwind(AssertUnwindSafe(|| run(&input)));
                assert!(outcome.is_ok(), "{name} fails on input {round}: {input:?}");
            }
        }
    }

    /// Inputs for each target; a fuzzer makes as many in a second.
    const ROUNDS: usize = 300;
}
