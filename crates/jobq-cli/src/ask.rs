//! Asking whoever sits at the terminal for a secret.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// Asks for one line, and shows nothing of it while it is typed. None where there is no terminal.
///
/// # Errors
/// The terminal cannot be read.
pub(crate) fn for_secret(prompt: &str) -> io::Result<Option<String>> {
    if io::stdin().is_terminal() {
        return ask(io::stdin().as_fd(), io::stdin().lock(), prompt).map(Some);
    }
    // Standard input may be what is submitted, and somebody sit there all the same.
    match File::open("/dev/tty") {
        Ok(terminal) => ask(terminal.as_fd(), BufReader::new(&terminal), prompt).map(Some),
        Err(_) => Ok(None),
    }
}

fn ask(terminal: BorrowedFd<'_>, mut input: impl BufRead, prompt: &str) -> io::Result<String> {
    // Before anything is asked: an answer that comes at once is not shown either.
    let _quiet = Quiet::begin(terminal)?;
    let mut stderr = io::stderr();
    stderr.write_all(prompt.as_bytes())?;
    stderr.flush()?;
    let mut line = String::new();
    input.read_line(&mut line)?;
    writeln!(stderr)?;
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    Ok(line)
}

/// A terminal that shows nothing of what is typed, until this is dropped.
struct Quiet<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> Quiet<'a> {
    fn begin(terminal: BorrowedFd<'a>) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(terminal, OptionalActions::Now, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // There is nothing to be done if this fails.
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}
