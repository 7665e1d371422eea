//! The client against a server that says what it is told to, over the memory transport.

mod ask;
mod connect;
mod fake;
mod session;
mod submit;
mod wait;
