//! The server of jobq.
//!
//! [`machine`] is the whole logic, without I/O: time, messages and stored batches go in, messages, batches and
//! reads come out. [`store`] keeps jobs. The driver joins the two to a router of `jobq-transport`, and [`Server`]
//! starts all of it. Start reading at [`machine`].

#![forbid(unsafe_code)]

pub mod machine;
pub mod store;
pub mod time;
