//! Tests of the transport: one suite for every kind of stream, and what each has of its own.

// Fixtures are not tests of their own, and a panic is how they fail too.
#![allow(clippy::unwrap_used)]

mod accept;
mod addresses;
mod certificates;
mod codec;
mod conformance;
mod dealer;
mod fixtures;
mod hostile;
mod tls;
