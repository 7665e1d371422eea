//! The scenarios: each starts a server, has it do something, and says what that took.

pub(super) mod backlog;
mod comparison;
pub(super) mod idle;
pub(super) mod large;
pub(super) mod latency;
pub(super) mod names;
pub(super) mod prune;
mod rest;
pub(super) mod restart;
pub(super) mod scheduled;
pub(super) mod throughput;
