//! Writes and syncs that fail, at the n-th call: `strace` injects them.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use super::load::Load;
use super::round::{Round, Skipped, Tally};
use super::scene::{Runs, Scene, stop, text};
use crate::Program;

/// Calls, what they fail with, and up to which of them; more than a start takes.
const ERRORS: [(&str, &str, u64); 5] = [
    ("fdatasync", "EIO", 35),
    ("fsync", "EIO", 3),
    ("pwrite64", "EIO", 150),
    ("pwrite64", "ENOSPC", 150),
    ("ftruncate", "EIO", 2),
];

/// How long the error has to come, once there is load.
const WITHIN: Duration = Duration::from_millis(400);

/// How long a server takes at most that stops since its disk failed.
const MOST_STOP: Duration = Duration::from_secs(2);

pub(super) async fn run(mut round: Round) -> Result<Tally, Skipped> {
    let failing = Failing::new(&round.directory, &round.program);
    if failing.program.run(["--version"]).await.code != Some(0) {
        return Err(Skipped(
            "there is no `strace` here that may trace what it starts".to_owned(),
        ));
    }
    let jobq = std::mem::replace(&mut round.program, failing.program.clone());
    let mut scene = Scene::open(round, &[]).await;
    // Only the server's calls fail.
    scene.program = jobq;
    let worker = scene.work(2);
    let address = scene.server.address().to_owned();
    let load = Load::start(&mut scene, &address, 2);
    scene.moment(WITHIN / 4).await;
    scene.server.kill().await;

    let (call, error, most) = *scene.chance.pick(&ERRORS);
    let nth = scene.chance.between(1, most);
    scene
        .history
        .notes(format_args!("fault     the {nth}. {call} fails with {error}"));
    failing.begin(&format!("{call}:error={error}:when={nth}"));
    let said = scene.server.log().len();
    let ended = match scene.server.try_restart(&[]).await {
        Err(status) => Some(status),
        Ok(()) => match tokio::time::timeout(WITHIN, scene.server.wait()).await {
            Ok(status) => Some(status),
            // It may have come at the last moment.
            Err(_) if failing.has_failed() => tokio::time::timeout(MOST_STOP, scene.server.wait()).await.ok(),
            Err(_) => None,
        },
    };
    let seen = match ended {
        Some(status) => read(status, &scene.server.log()[said..]),
        None => {
            scene.server.kill().await;
            Ok(if failing.has_failed() {
                format!("went on after {error} from {call}")
            } else {
                "not reached".to_owned()
            })
        }
    };
    scene.history.notes(format_args!("the server: {seen:?}"));
    failing.end();
    scene.restart().await;
    load.finish().await;
    let drained = scene.drain().await;
    stop(worker).await;
    let mut tally = scene.close(&drained, Runs::SettledOnce).await;
    match seen {
        Ok(seen) => tally.notice(seen),
        Err(wrong) => tally.wrong.push(wrong),
    }
    Ok(tally)
}

/// What a server's end says of the error.
fn read(status: ExitStatus, log: &str) -> Result<String, String> {
    match status.code() {
        _ if log.contains("panicked") => Err(format!("the server panicked ({status})")),
        Some(10) => Ok("did not start".to_owned()),
        Some(11) => Ok("stopped with 11".to_owned()),
        Some(12) => Ok("stopped with 12".to_owned()),
        _ => Err(format!(
            "the server ended with {status}, which says nothing of its disk"
        )),
    }
}

/// The binary, whose calls fail as long as a file says which.
struct Failing {
    program: Program,
    file: PathBuf,
    /// What was called, as `strace` writes it.
    calls: PathBuf,
}

impl Failing {
    fn new(directory: &Path, jobq: &Program) -> Self {
        let (script, file) = (
            directory.join("jobq-on-a-failing-disk"),
            directory.join("failing"),
        );
        let calls = directory.join("calls.txt");
        // The tracer is no parent (-D), so that signals and exit codes are the server's own.
        let lines = format!(
            "#!/bin/sh\n\
             [ -e {file} ] || [ \"$1\" = --version ] || exec {jobq} \"$@\"\n\
             exec strace -D -f -qq -o {calls} -e signal=none -e trace=fdatasync,fsync,pwrite64,ftruncate \
             -e inject=\"$(cat {file} || echo fsync:error=EIO:when=9999)\" {jobq} \"$@\"\n",
            file = text(&file),
            calls = text(&calls),
            jobq = text(jobq.path()),
        );
        std::fs::write(&script, lines).expect("a script can be written");
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&script, executable).expect("it is ours");
        Self {
            program: Program::new(script),
            file,
            calls,
        }
    }

    fn begin(&self, injection: &str) {
        std::fs::write(&self.file, injection).expect("it can be written");
    }

    /// Whether a call has failed.
    fn has_failed(&self) -> bool {
        let calls = std::fs::read_to_string(&self.calls).unwrap_or_default();
        calls.contains("(INJECTED)")
    }

    fn end(&self) {
        std::fs::remove_file(&self.file).expect("it is there");
    }
}
