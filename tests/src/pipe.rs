//! A named pipe on which shell scripts tell a test what they do.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::soon;

/// What ends the reading thread; no script says this.
const END: &str = "end of the test";

/// A named pipe, and the lines that come through it. A short line that a script writes by one `echo` arrives whole,
/// whoever else writes at the time.
#[derive(Debug)]
pub struct NamedPipe {
    path: PathBuf,
    /// Open for writing too, so that the pipe has no end while no script has it open.
    file: File,
    lines: UnboundedReceiver<String>,
}

impl NamedPipe {
    /// Makes the pipe `path`.
    pub fn new(path: &Path) -> Self {
        let made = Command::new("mkfifo").arg(path).status();
        assert!(
            made.is_ok_and(|status| status.success()),
            "mkfifo {} failed",
            path.display()
        );
        let file = File::options().read(true).write(true).open(path);
        let file = file.expect("what was just made can be opened");
        let reader = BufReader::new(file.try_clone().expect("a file can be opened twice"));
        let (sender, lines) = unbounded_channel();
        std::thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                if line == END || sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self {
            path: path.to_owned(),
            file,
            lines,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for the next line.
    pub async fn line(&mut self) -> String {
        let line = soon("a line from a script", self.lines.recv()).await;
        line.expect("the reading thread ends after this does")
    }

    /// The next line, if it has come already.
    pub fn try_line(&mut self) -> Option<String> {
        self.lines.try_recv().ok()
    }
}

impl Drop for NamedPipe {
    fn drop(&mut self) {
        // If this fails, a thread stays behind until the tests have ended.
        let _ = writeln!(self.file, "{END}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_come_through_in_their_order() {
        let directory = tempfile::tempdir().expect("there is room");
        let mut pipe = NamedPipe::new(&directory.path().join("pipe"));
        let script = "echo one > \"$1\"; echo two > \"$1\"";
        let status = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(pipe.path())
            .status();
        assert!(status.expect("there is a shell").success());
        assert_eq!(
            (pipe.line().await, pipe.line().await),
            ("one".to_owned(), "two".to_owned())
        );
        assert_eq!(pipe.try_line(), None);
    }
}
