//! A whole system in one thread, in simulated time: the server's machine, the client's and the worker's protocol parts, a
//! network, a store, and a judge.
//!
//! A seed decides everything, so the same seed gives the same trace, byte for byte. [`run`] runs one; `plan` says what a
//! seed draws, `world` how a run goes, `faults` what goes wrong, `model` what has to be so nevertheless. What is simulated
//! is everything around the state machines of production: `server` keeps the rules of the server's driver, `session`,
//! `client` and `worker` those of theirs, `store` and `net` what disks and networks do. [`Mutant`]s break promises on
//! purpose, so that one sees that they would be missed.

mod agenda;
mod client;
mod ctx;
mod faults;
mod model;
mod mutants;
mod net;
mod plan;
mod rogue;
mod run;
mod server;
mod session;
mod store;
mod trace;
mod words;
mod worker;
mod world;

pub use mutants::Mutant;
pub use plan::FAULTS;
pub use run::{Outcome, run};
pub use trace::{Keep, Tally, Trace};
