//! Stores: one suite that every store must pass, and what is SQLite's own.

mod agreement;
mod backup;
mod conformance;
mod fixture;
mod lock;
mod packing;
mod pruning;
mod queries;
mod sqlite;
