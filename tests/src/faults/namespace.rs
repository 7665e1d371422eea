//! A network of a round's own, whose one line can be cut in silence. It needs Linux and root.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use super::disk::run;
use super::round::Skipped;
use super::scene::text;
use crate::Program;

/// Where a server listens inside: nobody else is there.
pub(super) const INSIDE: &str = "tcp://127.0.0.1:7420";

/// A network namespace, until this is dropped. Its loopback device is the line: while it is down, what is sent goes
/// nowhere, and no end of a connection is told.
#[derive(Debug)]
pub(super) struct Namespace {
    name: String,
}

impl Namespace {
    pub(super) fn new() -> Result<Self, Skipped> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("jobq-faults-{}-{number}", std::process::id());
        run(&["ip", "netns", "add", &name])
            .map_err(|why| Skipped(format!("no network namespace can be made here: {why}")))?;
        let namespace = Self { name };
        namespace.heal();
        Ok(namespace)
    }

    /// The binary, run inside.
    pub(super) fn program(&self, directory: &Path, jobq: &Program) -> Program {
        let script = directory.join("jobq-inside");
        let lines = format!(
            "#!/bin/sh\nexec ip netns exec {} {} \"$@\"\n",
            self.name,
            text(jobq.path())
        );
        std::fs::write(&script, lines).expect("a script can be written");
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&script, executable).expect("it is ours");
        Program::new(script)
    }

    /// Cuts the line.
    pub(super) fn cut(&self) {
        self.set("down");
    }

    /// The line is there again.
    pub(super) fn heal(&self) {
        self.set("up");
    }

    fn set(&self, to: &str) {
        let set = run(&["ip", "-n", &self.name, "link", "set", "lo", to]);
        set.unwrap_or_else(|why| panic!("the line cannot be set {to}: {why}"));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = run(&["ip", "netns", "delete", &self.name]);
    }
}
