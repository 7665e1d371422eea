//! Tests of the transport: one suite for every kind of stream, and what each has of its own.

mod accept;
mod addresses;
mod codec;
mod conformance;
mod fixtures;
