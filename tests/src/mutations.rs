//! Defects that are put into the product's source on purpose, so that one sees that the simulator would find them.
//!
//! [`Mutation::ALL`] is the table: each is a piece of a source file and what stands there instead. The program `mutate`
//! builds a copy of the workspace with one of them at a time and runs the simulator in it; a test of this package holds that
//! each piece is there exactly once, so that the table goes with the source.

use std::path::{Path, PathBuf};

/// A change of the source that breaks a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mutation {
    /// Its name on the command line.
    pub name: &'static str,
    /// The file, from the workspace's root on.
    pub file: &'static str,
    /// What stands there, exactly once …
    pub text: &'static str,
    /// … and what stands there instead.
    pub instead: &'static str,
    /// Within how many seeds the simulator has to notice.
    pub seeds: u64,
}

/// Why a mutation cannot be put into a source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MutationError {
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The source has changed, and the table has not.
    #[error("{} holds the text of {name} {found} times, and it should be there once", path.display())]
    Text {
        /// The mutation.
        name: &'static str,
        /// The file.
        path: PathBuf,
        /// How often its text is there.
        found: usize,
    },
}

impl Mutation {
    /// All of them, the worst first.
    pub const ALL: [Self; 20] = [
        Self {
            name: "acknowledge-before-sync",
            file: "crates/jobq-server/src/machine/settle.rs",
            text: "self.pending.effect(Effect::Settled { session, run });",
            instead: "self.answer_report(session, run);",
            seeds: 100,
        },
        Self {
            name: "answer-cancel-before-sync",
            file: "crates/jobq-server/src/machine/ask.rs",
            text: "self.after_durable(Effect::Answer(peer, Box::new(answer)));",
            instead: "self.answer(peer, answer);",
            seeds: 100,
        },
        Self {
            name: "tell-stale-before-sync",
            file: "crates/jobq-server/src/machine/recovery.rs",
            text: "self.after_durable(Effect::TellSettled { session, run });",
            instead: "self.tell_settled(session, run);",
            seeds: 3_000,
        },
        Self {
            name: "forget-session-before-sync",
            file: "crates/jobq-server/src/machine/hello.rs",
            text: "self.pending.effect(Effect::SessionOver(id));",
            instead: "self.recovered_session_resolved(id);",
            seeds: 1_000,
        },
        Self {
            name: "skip-fence-check",
            file: "crates/jobq-server/src/machine/leases.rs",
            text: ".filter(|lease| lease.fence == run.fence && lease.session == session)",
            instead: ".filter(|lease| lease.fence >= run.fence)",
            seeds: 200,
        },
        Self {
            name: "skip-session-check",
            file: "crates/jobq-server/src/machine/leases.rs",
            text: "lease.fence == run.fence && lease.session == session",
            instead: "lease.fence == run.fence",
            seeds: 1_000,
        },
        Self {
            name: "leak-cap-slot",
            file: "crates/jobq-server/src/machine/leases.rs",
            text: "names.counts(lease.name).processing -= 1;",
            instead: "if !lease.fence.seq.is_multiple_of(10) { names.counts(lease.name).processing -= 1; }",
            seeds: 100,
        },
        Self {
            name: "leave-freed-line-closed",
            file: "crates/jobq-server/src/machine/leases.rs",
            text: "self.freed.insert(lease.name);",
            instead: "",
            seeds: 100,
        },
        Self {
            name: "exceed-cap",
            file: "crates/jobq-server/src/machine/names.rs",
            text: "entry.cap.is_some_and(|cap| entry.counts.processing >= cap)",
            instead: "entry.cap.is_some_and(|cap| entry.counts.processing > cap)",
            seeds: 100,
        },
        Self {
            name: "drop-resumed-run",
            file: "crates/jobq-server/src/machine/recovery.rs",
            text: "if fence.is_some_and(|fence| !named.contains(&(job.0, fence))) {",
            instead: "if fence.is_some_and(|fence| fence.seq.is_multiple_of(2) || !named.contains(&(job.0, fence))) {",
            seeds: 100,
        },
        Self {
            name: "forget-unrecorded-run",
            file: "crates/jobq-server/src/machine/recovery.rs",
            text: "} else if self.recovery.absent.contains_key(&name) {",
            instead: "} else if job.id.0.is_multiple_of(2) && self.recovery.absent.contains_key(&name) {",
            seeds: 200,
        },
        Self {
            name: "start-before-run-at",
            file: "crates/jobq-server/src/machine/scheduled.rs",
            text: "Until::Due => due <= now.wall,",
            instead: "Until::Due => due.0 <= now.wall.0 + 3_000_000,",
            seeds: 100,
        },
        Self {
            name: "start-before-delay",
            file: "crates/jobq-server/src/machine/scheduled.rs",
            text: "if self.next_deadline().is_some_and(|at| at <= now.mono) {",
            instead: "if self.next_deadline().is_some_and(|at| at.0 <= now.mono.0 + 1_000_000) {",
            seeds: 100,
        },
        Self {
            name: "forget-retry",
            file: "crates/jobq-server/src/machine/settle.rs",
            text: "let next = if never || last {",
            instead: "let next = if never || last || tried > lease.attempts {",
            seeds: 50,
        },
        Self {
            name: "count-released-run",
            file: "crates/jobq-server/src/machine/settle.rs",
            text: "End::Released => unchanged,",
            instead: "End::Released => Verdict { attempts: tried, ..unchanged },",
            seeds: 200,
        },
        Self {
            name: "break-order",
            file: "crates/jobq-server/src/machine/submit.rs",
            text: "let (due, until) = due(start, created, self.now);",
            instead: "let jumps = if self.next_id.0.is_multiple_of(5) { 60_000_000 } else { 0 }; \
                      let (due, until) = due(start, Wall(created.0 - jumps), self.now);",
            seeds: 50,
        },
        Self {
            name: "exceed-queue",
            file: "crates/jobq-server/src/machine/queue_limits.rs",
            text: "max_jobs.filter(|max| used.jobs >= *max)",
            instead: "max_jobs.filter(|max| used.jobs > *max)",
            seeds: 200,
        },
        Self {
            name: "miscount-ended",
            file: "crates/jobq-server/src/machine/settle.rs",
            text: "self.count_ended(name, ended.status, ended.at);",
            instead: "if !ended.id.0.is_multiple_of(7) { self.count_ended(name, ended.status, ended.at); }",
            seeds: 100,
        },
        Self {
            name: "exceed-credit",
            file: "crates/jobq-server/src/machine/sessions.rs",
            text: "&& self.held.jobs.len() < work.jobs\n",
            instead: "&& self.held.jobs.len() <= work.jobs\n",
            seeds: 100,
        },
        Self {
            name: "exceed-credit-of-name",
            file: "crates/jobq-server/src/machine/sessions.rs",
            text: ".fewer_of_than(lane.name, credit.saturating_sub(spare))",
            instead: ".fewer_of_than(lane.name, (credit + 1).saturating_sub(spare))",
            seeds: 100,
        },
    ];

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mutation| mutation.name == name)
    }

    /// The source of its file under `root` with the mutation in it.
    ///
    /// # Errors
    /// If the file cannot be read, or does not hold the text exactly once.
    pub fn apply(&self, root: &Path) -> Result<String, MutationError> {
        let path = root.join(self.file);
        let source = std::fs::read_to_string(&path).map_err(|source| MutationError::File {
            path: path.clone(),
            source,
        })?;
        match source.matches(self.text).count() {
            1 => Ok(source.replace(self.text, self.instead)),
            found => Err(MutationError::Text {
                name: self.name,
                path,
                found,
            }),
        }
    }
}
