//! The scenarios: each starts a server, has it do something, and says what that took.

pub(super) mod backlog;
pub(super) mod latency;
pub(super) mod throughput;
