//! Stores: one suite that every store must pass, and what is SQLite's own.

mod agreement;
mod backup;
mod check;
mod conformance;
mod damage;
mod fixture;
mod lock;
mod memory_disk;
mod packing;
mod pruning;
mod queries;
mod sqlite;
