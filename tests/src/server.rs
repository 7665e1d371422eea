//! `jobq serve` as a process that can be killed and started anew.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{ChildStdout, Command};

use crate::{Process, Program, soon};

/// How the line begins on which a server says where it listens.
const LISTENING: &str = "listening on ";

/// Ports for servers that come back: below those that systems hand out by themselves, so that no connection takes
/// one while its server is away.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// How a server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// Over TCP on the loopback device.
    Tcp,
    /// The same with TLS, for which the arguments have to name the certificate.
    Tls,
    /// Over a socket in the server's directory.
    Unix,
}

/// A server, its data in `data` and its log in `serve.log` of its directory. It is started anew on the same address
/// and data. Dropped, it is killed.
#[derive(Debug)]
pub struct ServerProcess {
    program: Program,
    directory: PathBuf,
    address: String,
    arguments: Vec<String>,
    process: Process,
}

impl ServerProcess {
    /// Starts a server with further arguments, and waits until it listens.
    pub async fn start(program: &Program, directory: &Path, via: Via, arguments: &[&str]) -> Self {
        let address = match via {
            Via::Tcp => format!("tcp://127.0.0.1:{}", free_port()),
            Via::Tls => format!("tls://127.0.0.1:{}", free_port()),
            Via::Unix => format!("unix://{}/jobq.sock", directory.display()),
        };
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let process = serve(program, directory, &address, &arguments).await;
        let process =
            process.unwrap_or_else(|status| panic!("the server ended before it listened: {status}"));
        Self {
            program: program.clone(),
            directory: directory.to_owned(),
            address,
            arguments,
            process,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where its data is.
    pub fn data(&self) -> PathBuf {
        data(&self.directory)
    }

    /// The number of its process; none once it has ended.
    pub fn id(&self) -> Option<u32> {
        self.process.id()
    }

    /// What it has logged, in all its lives.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Waits until it has logged a text.
    pub async fn logged(&self, text: &str) {
        self.process.logged(text).await;
    }

    /// Waits until it has logged a text so many times.
    pub async fn logged_times(&self, text: &str, times: usize) {
        self.process.logged_times(text, times).await;
    }

    /// Kills it by SIGKILL, and waits until it is gone.
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for its end.
    pub async fn wait(&mut self) -> ExitStatus {
        self.process.wait().await
    }

    /// Stops it by SIGTERM, and waits for its end.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait().await
    }

    /// Starts it anew, after its end, and kills it so much later, wherever it is then.
    pub async fn start_and_kill(&mut self, after: Duration) {
        assert_eq!(self.id(), None, "a server is started anew when it has ended");
        let (command, log) = command(&self.program, &self.directory, &self.address, &self.arguments);
        self.process = Process::spawn(command, "jobq serve", &log);
        tokio::time::sleep(after).await;
        self.kill().await;
    }

    /// Starts it anew, after its end, and waits until it listens.
    pub async fn restart(&mut self) {
        self.restart_with(&[]).await;
    }

    /// Starts it anew with further arguments, for this life only.
    pub async fn restart_with(&mut self, arguments: &[&str]) {
        let started = self.try_restart(arguments).await;
        started.unwrap_or_else(|status| panic!("the server ended before it listened: {status}"));
    }

    /// As [`Self::restart_with`], where it may refuse to start.
    ///
    /// # Errors
    /// How it ended instead of listening.
    pub async fn try_restart(&mut self, arguments: &[&str]) -> Result<(), ExitStatus> {
        assert_eq!(self.id(), None, "a server is started anew when it has ended");
        let further = arguments.iter().map(|&argument| argument.to_owned());
        let arguments: Vec<String> = self.arguments.iter().cloned().chain(further).collect();
        self.process = serve(&self.program, &self.directory, &self.address, &arguments).await?;
        Ok(())
    }
}

fn data(directory: &Path) -> PathBuf {
    directory.join("data")
}

fn command(program: &Program, directory: &Path, address: &str, arguments: &[String]) -> (Command, PathBuf) {
    let mut command = program.command(["serve", "--listen", address]);
    command.arg("--data").arg(data(directory)).args(arguments);
    command.stdout(Stdio::piped());
    (command, directory.join("serve.log"))
}

async fn serve(
    program: &Program,
    directory: &Path,
    address: &str,
    arguments: &[String],
) -> Result<Process, ExitStatus> {
    let (command, log) = command(program, directory, address, arguments);
    let mut process = Process::spawn(command, "jobq serve", &log);
    let stdout = process.take_stdout().expect("it is a pipe");
    let mut lines = BufReader::new(stdout).lines();
    let listening = soon(
        "the server's line that says where it listens",
        listening(&mut lines),
    )
    .await;
    let Some(listening) = listening else {
        return Err(process.wait().await);
    };
    assert_eq!(listening, address, "it listens where it was told to");
    // It may say more; a pipe that nobody reads would hold it up.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok(process)
}

async fn listening(lines: &mut Lines<BufReader<ChildStdout>>) -> Option<String> {
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(address) = line.strip_prefix(LISTENING) {
            return Some(address.trim().to_owned());
        }
    }
    None
}

/// A port that nobody listens on, and that no other call in this process gets.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let count = PORTS.end - PORTS.start;
    // Another run of the tests at the same time begins elsewhere.
    let begin = u16::try_from(std::process::id() % u32::from(count)).expect("it is less than a u16");
    for _ in 0..count {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % count;
        let port = PORTS.start + (begin + step) % count;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port from {} to {} is free", PORTS.start, PORTS.end - 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let ports: std::collections::BTreeSet<u16> = (0..100).map(|_| free_port()).collect();
        assert_eq!(ports.len(), 100);
    }
}
