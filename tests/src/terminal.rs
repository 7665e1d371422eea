//! A terminal that a program believes to talk to.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::process::{Child, Command};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::soon;

/// How long a program that has ended may take until all that it wrote has come through. It is waited for as long as
/// this only where something that was started beside it keeps the terminal open.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A program on a terminal of its own: all three of its streams are that terminal. Dropped, it is killed.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    /// Our side.
    keyboard: File,
    screen: UnboundedReceiver<Vec<u8>>,
    shown: String,
}

impl Terminal {
    /// Starts a program on a terminal with so many columns.
    pub fn start(command: Command, columns: u16) -> Self {
        Self::start_as("xterm", command, columns)
    }

    /// Starts a program on a terminal of this kind, as `TERM` has it.
    pub fn start_as(kind: &str, mut command: Command, columns: u16) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("there are terminals left");
        grantpt(&ours).expect("it is ours");
        unlockpt(&ours).expect("it is ours");
        let path = ptsname(&ours, Vec::new()).expect("it has a name");
        let theirs = File::options()
            .read(true)
            .write(true)
            .custom_flags(i32::try_from(OFlags::NOCTTY.bits()).expect("it is a flag"))
            .open(std::ffi::OsStr::from_bytes(path.to_bytes()))
            .expect("it was just made");
        let size = Winsize {
            ws_row: 24,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&theirs, size).expect("it has a size");
        let stream = || Stdio::from(theirs.try_clone().expect("a file can be opened twice"));
        command.stdin(stream()).stdout(stream()).stderr(stream());
        let child = command.env("TERM", kind).kill_on_drop(true).spawn();
        let child = child.expect("the binary can be started");
        let keyboard = File::from(ours);
        let mut screen = keyboard.try_clone().expect("a file can be opened twice");
        let (sender, received) = unbounded_channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // An error means that nobody has the other side open any more.
            while let Ok(length @ 1..) = screen.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            keyboard,
            screen: received,
            shown: String::new(),
        }
    }

    /// Waits until a text has been shown, and gives all that was shown so far.
    pub async fn until(&mut self, text: &str) -> &str {
        self.until_times(text, 1).await
    }

    /// Waits until a text has been shown so many times, and gives all that was shown so far.
    pub async fn until_times(&mut self, text: &str, times: usize) -> &str {
        let Self { screen, shown, .. } = self;
        let appears = async {
            while shown.matches(text).count() < times {
                match screen.recv().await {
                    Some(bytes) => shown.push_str(&String::from_utf8_lossy(&bytes)),
                    None => panic!("the program ended before it showed {text:?}: {shown}"),
                }
            }
        };
        soon(&format!("{text:?} on the terminal"), appears).await;
        &self.shown
    }

    /// Types a text.
    pub fn types(&mut self, text: &str) {
        self.keyboard
            .write_all(text.as_bytes())
            .expect("the terminal takes it");
    }

    /// Interrupts it, as Ctrl-C does.
    pub fn interrupt(&self) {
        let pid = self
            .child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        kill_process(pid.expect("it runs"), Signal::INT).expect("it can be interrupted");
    }

    /// Waits for its end; gives its exit status and all that was shown.
    pub async fn end(mut self) -> (ExitStatus, String) {
        let status = soon("the end of a program on a terminal", self.child.wait()).await;
        let Self { screen, shown, .. } = &mut self;
        // The terminal closes when the last who has it open ends; one that was started beside it may go on.
        let rest = async {
            while let Some(bytes) = screen.recv().await {
                shown.push_str(&String::from_utf8_lossy(&bytes));
            }
        };
        let _ = tokio::time::timeout(LAST_WORDS, rest).await;
        (status.expect("it can be waited for"), self.shown)
    }
}
