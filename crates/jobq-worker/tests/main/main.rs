//! The runtime against a server that is played by hand.

mod ends;
mod life;
mod played_server;
mod progress;
mod settings;
mod stubborn;
mod testing;
