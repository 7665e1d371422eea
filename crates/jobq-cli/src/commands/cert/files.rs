//! A directory of certificates and keys.

use std::fs::{DirBuilder, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use tempfile::Builder;

use super::authority::Pair;
use crate::exit::Exit;

/// A key is for its owner.
const KEY_MODE: u32 = 0o600;

/// A certificate is shown to everybody.
const CERT_MODE: u32 = 0o644;

/// A directory of certificates and keys.
pub(super) struct Folder {
    path: PathBuf,
    /// Whether files that are there may be replaced.
    force: bool,
}

impl Folder {
    /// A directory, which is made for its owner only if it is not there.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn make(path: &Path, force: bool) -> anyhow::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("the directory {} cannot be made", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            force,
        })
    }

    /// Looks for files that would be replaced, before anything is written.
    ///
    /// # Errors
    /// There is one, and it may not be.
    pub(super) fn expect_none(&self, names: &[impl AsRef<str>]) -> anyhow::Result<()> {
        if self.force {
            return Ok(());
        }
        let there = names
            .iter()
            .map(|name| self.path.join(name.as_ref()))
            .find(|path| path.exists());
        there.map_or(Ok(()), |path| Err(in_the_way(&path)))
    }

    /// Writes a key and then its certificate, as NAME.key and NAME.pem.
    ///
    /// # Errors
    /// A file cannot be written, or is there and may not be replaced.
    pub(super) fn write(&self, name: &str, pair: &Pair) -> anyhow::Result<()> {
        self.write_file(&format!("{name}.key"), &pair.key, KEY_MODE)?;
        self.write_file(&format!("{name}.pem"), &pair.cert, CERT_MODE)
    }

    /// Reads NAME.key and NAME.pem.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub(super) fn read(&self, name: &str) -> anyhow::Result<Pair> {
        let read = |file: String| {
            let path = self.path.join(file);
            std::fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))
        };
        Ok(Pair {
            cert: read(format!("{name}.pem"))?,
            key: read(format!("{name}.key"))?,
        })
    }

    /// Whoever sees a file sees all of it, and never with more permissions than it is to have.
    fn write_file(&self, name: &str, text: &str, mode: u32) -> anyhow::Result<()> {
        let path = self.path.join(name);
        let written = || -> std::io::Result<tempfile::NamedTempFile> {
            let mut file = Builder::new().prefix(".new-").tempfile_in(&self.path)?;
            file.write_all(text.as_bytes())?;
            file.as_file().set_permissions(Permissions::from_mode(mode))?;
            file.as_file().sync_all()?;
            Ok(file)
        };
        let file = written().with_context(|| format!("{} cannot be written", path.display()))?;
        let kept = match self.force {
            true => file.persist(&path),
            false => file.persist_noclobber(&path),
        };
        kept.map(drop).map_err(|error| match error.error.kind() {
            std::io::ErrorKind::AlreadyExists => in_the_way(&path),
            _ => anyhow!("{} cannot be written: {}", path.display(), error.error),
        })
    }
}

fn in_the_way(path: &Path) -> anyhow::Error {
    Exit::Usage.because(anyhow!(
        "{} is there already; choose another directory, or say --force to replace it",
        path.display()
    ))
}
