//! File systems of a round's own. They need Linux and root.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::round::Skipped;
use super::scene::text;
use crate::soon;

/// Shuts a mounted ext4 down without writing anything: `EXT4_IOC_SHUTDOWN`, which is `_IOR('X', 125, __u32)`, with
/// `EXT4_GOING_FLAGS_NOLOGFLUSH`. These programs can send it without unsafe code of ours; perl is nearly everywhere.
const SHUTDOWN: [&[&str]; 3] = [
    &[
        "perl",
        "-e",
        r#"sysopen(my $d, $ARGV[0], 0) && ioctl($d, 0x8004587d, pack("L", 2)) or die "$!\n""#,
    ],
    &[
        "python3",
        "-c",
        "import fcntl, os, struct, sys\n\
         fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))",
    ],
    &["xfs_io", "-x", "-c", "shutdown"],
];

/// A file by which it is seen that a file system works.
const PROBE: &str = "probe";

/// Between two attempts to mount a file system anew.
const RETRY: Duration = Duration::from_millis(50);

/// A file system that is mounted on a directory, until this is dropped.
#[derive(Debug)]
pub(super) struct Disk {
    at: PathBuf,
    /// The file that it is in; none if it is in memory.
    image: Option<PathBuf>,
}

impl Disk {
    /// Makes an ext4 of so many MiB in the file `image`, and mounts it on the directory `at`, which is made.
    pub(super) fn ext4(image: &Path, at: &Path, mib: u32) -> Result<Self, Skipped> {
        let size = format!("{mib}M");
        run(&["truncate", "-s", &size, text(image)])
            .and_then(|()| run(&["mkfs.ext4", "-q", text(image)]))
            .map_err(|why| Skipped(format!("no ext4 can be made here: {why}")))?;
        let disk = Self {
            at: at.to_owned(),
            image: Some(image.to_owned()),
        };
        make(at);
        disk.mount()
            .map_err(|why| Skipped(format!("no file can be mounted as a disk here: {why}")))?;
        Ok(disk)
    }

    /// Mounts a file system in memory of so many MiB on the directory `at`, which is made.
    pub(super) fn in_memory(at: &Path, mib: u32) -> Result<Self, Skipped> {
        make(at);
        let size = format!("size={mib}m");
        run(&["mount", "-t", "tmpfs", "-o", &size, "tmpfs", text(at)])
            .map_err(|why| Skipped(format!("no file system can be mounted here: {why}")))?;
        Ok(Self {
            at: at.to_owned(),
            image: None,
        })
    }

    /// Cuts its power: what is not on disk by now never will be. Every call to it fails from now on.
    pub(super) fn cut(&self) -> Result<(), Skipped> {
        let mut why = String::new();
        for words in SHUTDOWN {
            let words: Vec<&str> = words.iter().copied().chain([text(&self.at)]).collect();
            match run(&words) {
                Ok(()) => return Ok(()),
                Err(error) => why = error,
            }
        }
        Err(Skipped(format!("no file system can be shut down here: {why}")))
    }

    /// Its power is back: it is mounted anew, and has what was on disk. Nobody may use it meanwhile.
    ///
    /// # Panics
    /// It cannot be mounted.
    pub(super) async fn restore(&self) {
        let restored = async {
            loop {
                let mounted = run(&["umount", text(&self.at)]).and_then(|()| self.mount());
                mounted.unwrap_or_else(|why| panic!("the file system cannot be mounted anew: {why}"));
                // A process with mounts of its own, that began meanwhile, keeps the one that was shut down.
                if std::fs::write(self.at.join(PROBE), "").is_ok() {
                    break;
                }
                tokio::time::sleep(RETRY).await;
            }
        };
        soon("a file system that works again", restored).await;
    }

    fn mount(&self) -> Result<(), String> {
        let image = self
            .image
            .as_deref()
            .expect("only what is on disk is mounted anew");
        run(&["mount", "-o", "loop", text(image), text(&self.at)])
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily, since after a failure somebody may still be there.
        let _ = run(&["umount", "-l", text(&self.at)]);
    }
}

fn make(at: &Path) {
    std::fs::create_dir_all(at).unwrap_or_else(|error| panic!("failed to make {}: {error}", at.display()));
}

/// Runs a command; what it says if it fails.
pub(super) fn run(words: &[&str]) -> Result<(), String> {
    let output = Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{}: {error}", words[0]))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{}: {}",
        words[0],
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}
