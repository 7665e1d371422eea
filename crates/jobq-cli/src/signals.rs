//! SIGINT and SIGTERM, counted: the first asks, the next insists. SIGHUP, which asks for files to be read again.

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
}

impl Hangups {
    /// # Errors
    /// The system refuses.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let hangup = signal(SignalKind::hangup()).context("failed to listen for signals")?;
        Ok(Self { hangup })
    }

    /// Waits for the next one. Cancel-safe.
    pub(crate) async fn recv(&mut self) {
        let _ = self.hangup.recv().await;
    }
}
