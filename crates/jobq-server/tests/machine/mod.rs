//! The state machine, stepped by hand over a store in memory: one test a rule.

mod access;
mod asking;
mod backpressure;
mod cancelling;
mod caps;
mod chaos;
mod charges;
mod clocks;
mod credits;
mod endings;
mod fences;
mod full;
mod line;
mod listing;
mod manners;
mod payloads;
mod progress;
mod restarts;
mod retention;
mod retrying;
mod scopes;
mod sessions;
mod stopping;
mod submitting;
mod urgency;
mod world;
