//! What the tests that cross the workspace's crates share.
//!
//! [`Program`] runs the binary, [`ServerProcess`] and [`WorkerProcess`] keep it running, and can be killed. What the
//! tests do and what becomes of it is noted in a [`History`]; afterwards [`Contents`] reads what the server left on
//! disk, and [`check`] compares the two. The checks are functions over plain values, each with tests that it catches
//! what it is there for.
//!
//! Whatever goes wrong here panics: it fails the test that uses it.

#![forbid(unsafe_code)]

pub mod chance;
pub mod check;
pub mod contents;
pub mod faults;
pub mod fuzz;
pub mod history;
pub mod hostile;
pub mod markdown;
pub mod mutations;
pub mod peer;
pub mod pipe;
pub mod process;
pub mod program;
pub mod server;
pub mod sim;
pub mod skip;
pub mod soon;
pub mod terminal;
pub mod worker;

pub use chance::Chance;
pub use contents::Contents;
pub use history::{History, Ledger};
pub use mutations::Mutation;
pub use peer::RawPeer;
pub use pipe::NamedPipe;
pub use process::Process;
pub use program::{Finished, Program};
pub use server::{ServerProcess, Via};
pub use skip::skipped;
pub use soon::{soon, until};
pub use terminal::Terminal;
pub use worker::WorkerProcess;

/// The README's Rust examples are compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// And the guide's are run.
#[cfg(doctest)]
#[doc = include_str!("../../docs/GUIDE.md")]
struct Guide;
