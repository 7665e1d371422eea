//! The integration tests of the server.

mod machine;
mod store;
