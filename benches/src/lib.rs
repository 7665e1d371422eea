//! What a job costs in the parts of jobq through which it goes: codec, machine and store, each by itself.
//!
//! A [`Workload`] is a piece of work on the types of production, the same each time. `benches/instructions` counts its
//! instructions, which says exactly what a change costs; `cargo bench -p jobq-benches` takes its time. What all parts
//! do together is for `jobq bench` to measure. Start reading at [`workload`].

#![forbid(unsafe_code)]

pub mod callgrind;
pub mod codec;
pub mod jobs;
pub mod machine;
pub mod store;
pub mod transport;
pub mod workload;

pub use workload::{Work, Workload, measured};
