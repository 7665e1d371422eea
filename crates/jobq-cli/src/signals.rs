//! SIGINT and SIGTERM, counted: the first asks, the next insists. SIGHUP, which asks for files to be read again.

use std::io::IsTerminal;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that ask a program to end. From its making on, they end nothing by themselves.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// # Errors
    /// The system refuses.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("failed to listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// Waits for the next one. Cancel-safe.
    pub(crate) async fn recv(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The signal that asks a program to read its files again. From its making on, it ends nothing.
#[derive(Debug)]
pub(crate) struct Hangups {
    hangup: Signal,
    /// Whether the program was started on a terminal.
    on_terminal: bool,
}

impl Hangups {
    /// # Errors
    /// The system refuses.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let hangup = signal(SignalKind::hangup()).context("failed to listen for signals")?;
        let on_terminal = std::io::stdin().is_terminal();
        Ok(Self { hangup, on_terminal })
    }

    /// Waits for the next one. Cancel-safe.
    pub(crate) async fn recv(&mut self) {
        let _ = self.hangup.recv().await;
    }

    /// Whether the terminal that the program was started on has been closed. That is said by the same signal, and is no
    /// wish to have files read.
    pub(crate) fn terminal_is_gone(&self) -> bool {
        self.on_terminal && !std::io::stdin().is_terminal()
    }
}
