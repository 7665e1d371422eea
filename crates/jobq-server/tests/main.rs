//! The integration tests of the server.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails by panicking")]

mod machine;
mod store;
