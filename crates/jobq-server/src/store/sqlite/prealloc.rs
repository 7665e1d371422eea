//! Room for the log, made before it is needed.
//!
//! A commit that makes the log longer has more to sync than its pages: how long the file is, and which blocks it has. On
//! ext4 that sync takes nearly twice as long as one within the file, and hardly less after `fallocate`, since the file
//! system notes which of the promised blocks have been written. So zeros are written at the log's end, by a thread that
//! ends when it has done so.
//!
//! They are appended (`O_APPEND`): the system looks where the end is and writes there in one step, so that nothing is
//! overwritten that SQLite adds meanwhile. To SQLite they are what is left behind the last commit whenever the log has
//! begun anew: no frame of this log.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// A log that has used less, in bytes, is let be: that of a server with little to do begins anew before it is longer.
const LEAST_USED: u64 = 256 * 1024;

/// The file is made longer when it is less than so many times what has been used …
const AHEAD_AT_LEAST: u64 = 2;

/// … and has so many times that afterwards. So what a server has never needed is in proportion to what it has.
const AHEAD: u64 = 4;

/// How much is written and synced at a time, in bytes. A sync of the log waits for what is being written of it.
const STEP: usize = 1024 * 1024;

/// Makes the log longer ahead of the writer.
pub(super) struct Preallocation {
    log: PathBuf,
    /// The file is not made longer than this, in bytes.
    most: u64,
    /// How long the file was when it was last looked at.
    length: u64,
    growing: Option<JoinHandle<io::Result<()>>>,
    stop: Arc<AtomicBool>,
    /// It has failed, and is not tried again: the log grows commit by commit.
    has_failed: bool,
}

impl Preallocation {
    /// Room for the log in this file, up to `most` bytes of it.
    pub(super) fn new(log: PathBuf, most: u64) -> Self {
        Self {
            log,
            most,
            length: 0,
            growing: None,
            stop: Arc::default(),
            has_failed: false,
        }
    }

    /// How many bytes longer the file is to be, now that the log has used so many; none if it is long enough, or is being
    /// made longer.
    pub(super) fn lacks(&mut self, used: u64) -> Option<u64> {
        if used < LEAST_USED || self.length >= self.most.min(used.saturating_mul(AHEAD_AT_LEAST)) {
            return None;
        }
        if self.growing.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return None;
        }
        self.finish();
        if self.has_failed {
            return None;
        }
        self.length = self.log.metadata().map_or(0, |file| file.len());
        let wanted = self.most.min(used.saturating_mul(AHEAD));
        Some(wanted.saturating_sub(self.length)).filter(|lacks| *lacks > 0)
    }

    /// Makes the file so many bytes longer, beside the caller.
    pub(super) fn begin(&mut self, bytes: u64) {
        let (log, until, stop) = (self.log.clone(), self.length + bytes, Arc::clone(&self.stop));
        let thread = std::thread::Builder::new()
            .name("jobq-prealloc".to_owned())
            .spawn(move || append_zeros(&log, until, &stop));
        match thread {
            Ok(thread) => self.growing = Some(thread),
            Err(error) => self.fail(&error),
        }
    }

    /// Waits until the file is as long as it is to be.
    fn finish(&mut self) {
        let Some(thread) = self.growing.take() else {
            return;
        };
        match thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.fail(&error),
            Err(_) => self.fail(&io::Error::other("the thread that did it panicked")),
        }
    }

    /// Nothing is lost, and whoever syncs the log is told of a disk that fails, on a descriptor of his own.
    fn fail(&mut self, error: &io::Error) {
        tracing::warn!(log = %self.log.display(), "no room is made for the log before it is needed: {error}");
        self.has_failed = true;
    }
}

impl Drop for Preallocation {
    /// Nothing is appended any more when it is gone: the log may be cut, or removed.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.finish();
    }
}

/// Appends zeros until the file has so many bytes, whoever else makes it longer.
fn append_zeros(path: &Path, until: u64, stop: &AtomicBool) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).open(path)?;
    let zeros = vec![0; STEP];
    while !stop.load(Ordering::Acquire) {
        let missing = until.saturating_sub(file.metadata()?.len());
        if missing == 0 {
            break;
        }
        let now = usize::try_from(missing).unwrap_or(STEP).min(STEP);
        file.write_all(&zeros[..now])?;
        file.sync_data()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u64 = 8 * 1024 * 1024;

    fn log_of(dir: &tempfile::TempDir, bytes: &[u8]) -> Preallocation {
        let log = dir.path().join("log");
        std::fs::write(&log, bytes).expect("it is written");
        Preallocation::new(log, MOST)
    }

    fn length(log: &Preallocation) -> u64 {
        log.log.metadata().expect("it is there").len()
    }

    #[test]
    fn a_log_has_room_in_proportion_to_what_it_has_used() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = log_of(&dir, b"frames");
        assert_eq!(log.lacks(LEAST_USED - 1), None, "too little is done");
        for used in [LEAST_USED, 900_000, 2_000_000] {
            let lacks = log.lacks(used).expect("it is too short");
            log.begin(lacks);
            log.finish();
            assert_eq!(length(&log), used * AHEAD);
            assert_eq!(log.lacks(used), None);
            assert_eq!(
                log.lacks(used * AHEAD / AHEAD_AT_LEAST),
                None,
                "there is some left"
            );
        }
        let lacks = log.lacks(MOST).expect("it may be longer");
        log.begin(lacks);
        log.finish();
        assert_eq!(
            (length(&log), log.lacks(10 * MOST)),
            (MOST, None),
            "and no longer"
        );
        let bytes = std::fs::read(&log.log).expect("it is read");
        assert!(bytes.starts_with(b"frames\0"), "what was there is as it was");
    }

    #[test]
    fn what_is_written_meanwhile_is_not_overwritten() {
        use std::os::unix::fs::FileExt;
        const FRAME: usize = 8_000;
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = log_of(&dir, b"");
        let file = OpenOptions::new().write(true).open(&log.log).expect("it opens");
        let lacks = log.lacks(MOST).expect("it is too short");
        log.begin(lacks);
        // As SQLite does, beyond the end and within.
        let frames = usize::try_from(MOST).expect("it is little") / FRAME;
        for frame in 0..frames {
            let content = [u8::try_from(frame % 255 + 1).expect("it is a byte"); FRAME];
            file.write_all_at(&content, (frame * FRAME) as u64)
                .expect("it is written");
        }
        log.finish();
        let bytes = std::fs::read(&log.log).expect("it is read");
        for (frame, content) in bytes.chunks_exact(FRAME).take(frames).enumerate() {
            assert!(
                content.iter().all(|byte| usize::from(*byte) == frame % 255 + 1),
                "{frame}"
            );
        }
        assert!(!log.has_failed && length(&log) >= MOST);
    }

    #[test]
    fn what_cannot_be_made_longer_is_tried_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = Preallocation::new(dir.path().join("missing"), MOST);
        let lacks = log.lacks(LEAST_USED).expect("there is nothing");
        log.begin(lacks);
        log.finish();
        assert!(log.has_failed);
        assert_eq!(log.lacks(MOST), None);
    }

    #[test]
    fn nothing_is_appended_after_it_is_gone() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = log_of(&dir, b"");
        let lacks = log.lacks(MOST).expect("it is too short");
        log.begin(lacks);
        // Whoever appends holds it too.
        let stop = Arc::downgrade(&log.stop);
        drop(log);
        assert_eq!(stop.strong_count(), 0);
    }
}
