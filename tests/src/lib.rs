//! What the tests that cross the workspace's crates share.

#![forbid(unsafe_code)]
