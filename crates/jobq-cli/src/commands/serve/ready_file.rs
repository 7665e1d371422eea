//! The file that tells whoever waits for it where the server listens.

use std::path::{Path, PathBuf};

use anyhow::anyhow;

use crate::exit::Exit;

/// A ready file to be written. Until then it is an empty one beside it, which goes with this value.
#[derive(Debug)]
pub(super) struct ReadyFile {
    path: PathBuf,
    unfinished: PathBuf,
}

impl ReadyFile {
    /// Sees to it that the file can be written once the server is up, as far as that can be known before.
    ///
    /// # Errors
    /// It cannot.
    pub(super) fn prepare(path: &Path) -> anyhow::Result<Self> {
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".new");
        let ready = Self {
            path: path.to_owned(),
            unfinished: unfinished.into(),
        };
        if ready.path.is_dir() {
            return Err(ready.failed("it is a directory; expected the path of a file"));
        }
        match std::fs::write(&ready.unfinished, "") {
            Ok(()) => Ok(ready),
            Err(error) => Err(ready.failed(format_args!("{error}; choose another --ready-file"))),
        }
    }

    /// Writes it: whoever sees the file sees all of it.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn write(self, text: &str) -> anyhow::Result<()> {
        std::fs::write(&self.unfinished, text)
            .and_then(|()| std::fs::rename(&self.unfinished, &self.path))
            .map_err(|error| self.failed(error))
    }

    fn failed(&self, problem: impl std::fmt::Display) -> anyhow::Error {
        let path = self.path.display();
        Exit::CannotStart.because(anyhow!("failed to write the ready file {path}: {problem}"))
    }
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        // It is there only if it was not renamed.
        let _ = std::fs::remove_file(&self.unfinished);
    }
}
