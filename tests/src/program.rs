//! The binary under test.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::soon;

/// The binary `jobq`. Cargo tells a test target where it is: `env!("CARGO_BIN_EXE_jobq")`.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
}

/// A process that has ended, and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Program {
    /// The binary at this path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A command with these arguments, nothing to read, and no variable of jobq's from outside.
    pub fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(&self.path);
        without_variables(&mut command)
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Runs it to its end.
    pub async fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Finished {
        finish(self.command(arguments)).await
    }

    /// Runs it to its end with something to read.
    pub async fn run_with_input<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        input: &str,
    ) -> Finished {
        let mut command = self.command(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary can be started");
        let mut stdin = child.stdin.take().expect("it is a pipe");
        let input = input.as_bytes().to_vec();
        let write = async move {
            // It may have enough before it has read all.
            let _ = stdin.write_all(&input).await;
        };
        let (output, ()) = soon("the end of a command", async {
            tokio::join!(child.wait_with_output(), write)
        })
        .await;
        Finished::from(output.expect("the command can be waited for"))
    }
}

/// Runs a command to its end.
pub async fn finish(mut command: Command) -> Finished {
    let what = format!("the end of {:?}", command.as_std());
    let output = soon(&what, command.kill_on_drop(true).output()).await;
    Finished::from(output.unwrap_or_else(|error| panic!("{what}: {error}")))
}

/// Takes the variables away that would set flags of jobq, and the configuration file of whoever runs the tests.
pub fn without_variables(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("JOBQ_") {
            command.env_remove(name);
        }
    }
    command.env("JOBQ_CONFIG", "")
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Finished {
    /// Its standard output.
    ///
    /// # Panics
    /// It did not end well.
    #[track_caller]
    pub fn success(self) -> String {
        assert_eq!(self.code, Some(0), "{self}");
        self.stdout
    }

    /// Its standard error.
    ///
    /// # Panics
    /// It did not end with this code, or it panicked on the way.
    #[track_caller]
    pub fn failure(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self}");
        assert!(!self.stderr.contains("panicked"), "{self}");
        self.stderr
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { code, stdout, stderr } = self;
        write!(
            f,
            "exit code {code:?}\n---- standard output:\n{stdout}\n---- standard error:\n{stderr}"
        )
    }
}
