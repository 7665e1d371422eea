//! One command, from its start to its last word.

use std::io;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jobq_worker::{CancellationToken, Run};
use tokio::io::AsyncWriteExt;
use tokio::process::{ChildStdin, Command};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::capture::{Head, Tail};
use super::group::Group;
use super::guard::Guard;
use super::progress;

/// How much of standard error is kept: its end, which most programs use for what went wrong.
const STDERR_TAIL: usize = 64 * 1024;

/// How long whoever else holds a command's pipes has to let go of them once it has exited.
pub(super) const PIPES_WAIT: Duration = Duration::from_secs(1);

/// How long the pipes have once their holders are killed. What then still holds them has left the group, and what
/// it goes on to say is not waited for.
const LAST_WORDS_WAIT: Duration = Duration::from_millis(200);

/// A year; a timer for longer would be none.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// How to run a command.
#[derive(Debug)]
pub(super) struct Orders {
    /// Goes to its standard input.
    pub(super) input: Bytes,
    /// Whether its standard output is read.
    pub(super) keep_output: bool,
    /// How many bytes of that are kept.
    pub(super) output_limit: usize,
    /// How long it has between SIGTERM and SIGKILL.
    pub(super) grace: Duration,
    /// How long whoever else holds its pipes has to let go of them once it has exited by itself.
    pub(super) pipes_wait: Duration,
    /// Stop it when this is cancelled, and say how far it has come.
    pub(super) run: Run,
    /// Once it is to be stopped: without grace.
    pub(super) kill: CancellationToken,
    /// Kills it if this process is killed.
    pub(super) guard: Arc<Guard>,
}

/// A command that has exited.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) status: ExitStatus,
    /// Whether it was told to stop; the runtime knows why.
    pub(super) stopped: bool,
    pub(super) stdout: Head,
    pub(super) stderr: Tail,
}

/// Runs a command in a process group of its own until it has exited and said all it had to say. When this is
/// dropped, the group is killed.
///
/// # Errors
/// It could not be started, or not be waited for.
pub(super) async fn run(mut command: Command, orders: Orders) -> io::Result<Finished> {
    let stdout = if orders.keep_output {
        Stdio::piped()
    } else {
        Stdio::null()
    };
    command
        .stdin(Stdio::piped())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    // Dropped in the reverse order: the group is killed before its leader is reaped.
    let (mut child, mut group) = Group::start(&mut command, &orders.guard)?;
    let mut head = Head::new(orders.output_limit);
    let mut tail = Tail::new(STDERR_TAIL);
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let stopped = {
        // All three at once: a command may write before it has read all, and wait for neither.
        let pipes = async {
            tokio::join!(
                feed(stdin, &orders.input),
                head.read(stdout),
                progress::read(stderr, &mut tail, &orders.run)
            )
        };
        let mut pipes = pin!(pipes);
        let mut open = true;
        let mut stop = Stop::new(&orders);
        loop {
            tokio::select! {
                exited = group.leader_exited() => break exited?,
                _ = &mut pipes, if open => open = false,
                () = stop.due() => stop.advance(&group),
            }
        }
        if open {
            tokio::select! {
                _ = &mut pipes => open = false,
                () = stop.pipes_due() => {}
            }
        }
        if open {
            group.kill();
            // Either they are closed now, or they are given up.
            let _ = timeout(LAST_WORDS_WAIT, &mut pipes).await;
        }
        stop.begun
    };
    if stopped {
        // All of it was to stop, and what began it has.
        drop(group);
    } else {
        group.leave();
    }
    Ok(Finished {
        status: child.wait().await?,
        stopped,
        stdout: head,
        stderr: tail,
    })
}

/// Writes the input and closes the pipe. A command need not read what it is given, so a closed pipe is no error.
async fn feed(stdin: Option<ChildStdin>, input: &[u8]) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(input).await;
    }
}

/// How far a command is on its way to be stopped.
struct Stop<'a> {
    orders: &'a Orders,
    begun: bool,
    /// When its grace is over.
    kill_at: Option<Instant>,
}

impl<'a> Stop<'a> {
    fn new(orders: &'a Orders) -> Self {
        Self {
            orders,
            begun: false,
            kill_at: None,
        }
    }

    /// Waits until the next step is due; for ever when there is none.
    async fn due(&self) {
        if !self.begun {
            // Before that, `kill` says nothing about this run.
            return self.orders.run.cancelled().await;
        }
        let Some(at) = self.kill_at else {
            return std::future::pending().await;
        };
        tokio::select! {
            () = self.orders.kill.cancelled() => {}
            () = sleep_until(at) => {}
        }
    }

    /// Waits until whoever else holds the pipes of a command that has exited is to let go of them: in a group that
    /// was told to stop each has the grace, since shells end before what they began.
    async fn pipes_due(&self) {
        if self.kill_at.is_some() {
            self.due().await;
        } else {
            sleep(self.orders.pipes_wait).await;
        }
    }

    fn advance(&mut self, group: &Group) {
        if self.begun || self.orders.kill.is_cancelled() {
            group.kill();
            self.kill_at = None;
        } else {
            group.terminate();
            self.kill_at = Some(Instant::now() + self.orders.grace.min(FAR));
        }
        self.begun = true;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use jobq_worker::Fence;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    fn orders() -> Orders {
        Orders {
            input: Bytes::from_static(b"input\n"),
            keep_output: true,
            output_limit: 1024,
            grace: Duration::from_secs(60),
            pipes_wait: PIPES_WAIT,
            run: Run::detached(Fence { epoch: 1, seq: 1 }, 1, CancellationToken::new()),
            kill: CancellationToken::new(),
            guard: Arc::default(),
        }
    }

    #[tokio::test]
    async fn input_goes_in_and_both_outputs_come_out() {
        let finished = run(shell("cat; echo problem >&2; exit 3"), orders())
            .await
            .expect("it starts");
        assert_eq!(finished.status.code(), Some(3));
        assert_eq!(finished.stderr.text(100), "problem");
        assert_eq!(finished.stdout.into_bytes(), b"input\n");
    }

    #[tokio::test]
    async fn what_it_says_of_its_progress_is_reported_and_no_reason() {
        let orders = orders();
        let run_handle = orders.run.clone();
        let finished = run(shell("echo '::progress 25% page 1' >&2; echo oops >&2"), orders)
            .await
            .expect("it starts");
        assert_eq!(finished.stderr.text(100), "oops");
        let progress = run_handle.latest_progress().expect("it said so");
        assert_eq!((progress.part, &*progress.text), (Some(250_000), "page 1"));
    }

    #[tokio::test]
    async fn a_command_that_reads_nothing_of_a_large_input_ends_by_itself() {
        let input = Bytes::from(vec![b'x'; 1_000_000]);
        let finished = run(shell("echo done"), Orders { input, ..orders() })
            .await
            .expect("it starts");
        assert!(finished.status.success());
        assert_eq!(finished.stdout.into_bytes(), b"done\n");
    }

    #[tokio::test]
    async fn a_command_that_writes_while_it_reads_is_not_held_up() {
        let input = Bytes::from(vec![b'x'; 1_000_000]);
        let finished = run(shell("cat"), Orders { input, ..orders() })
            .await
            .expect("it starts");
        assert!(finished.status.success());
        assert_eq!(finished.stdout.total(), 1_000_000);
        assert!(finished.stdout.is_cut());
    }

    #[tokio::test]
    async fn a_grandchild_that_holds_the_pipes_is_killed() {
        // It would hold them for an hour.
        let finished = run(shell("sleep 3600 & echo $!"), orders())
            .await
            .expect("it starts");
        assert!(finished.status.success());
        gone(&finished.stdout.into_bytes()).await;
    }

    #[tokio::test]
    async fn the_number_of_a_group_goes_to_nobody_else_while_its_pipes_are_waited_for() {
        let script = "(while [ -e /proc/$$ ]; do sleep 0.01; done; echo free) & exit 0";
        let finished = run(shell(script), orders()).await.expect("it starts");
        assert!(finished.status.success());
        assert_eq!(
            finished.stdout.into_bytes(),
            b"",
            "the shell is not reaped before the kill"
        );
    }

    /// Waits until the process is gone whose number a script wrote.
    async fn gone(output: &[u8]) {
        let output = str::from_utf8(output).expect("it is a number");
        let process: u32 = output.trim().parse().expect("it is a number");
        // Killed, it takes a moment to be gone, and may then wait to be reaped by whoever adopted it.
        let stat = format!("/proc/{process}/stat");
        let gone = async {
            while std::fs::read_to_string(&stat)
                .is_ok_and(|stat| !stat.contains(") Z ") && !stat.contains(") X "))
            {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(60), gone)
            .await
            .expect("it is killed");
    }

    #[tokio::test]
    async fn a_command_that_ignores_sigterm_is_killed_after_its_grace() {
        let orders = Orders {
            grace: Duration::from_millis(50),
            ..orders()
        };
        orders.run.cancellation().cancel();
        let finished = run(shell("trap '' TERM; while :; do sleep 0.01; done"), orders)
            .await
            .expect("it starts");
        assert!(finished.stopped && !finished.status.success());
    }

    #[tokio::test]
    async fn a_command_that_is_stopped_without_grace_is_killed() {
        let orders = orders();
        orders.kill.cancel();
        orders.run.cancellation().cancel();
        let finished = run(shell("trap '' TERM; while :; do sleep 0.01; done"), orders)
            .await
            .expect("it starts");
        assert!(finished.stopped && !finished.status.success());
    }

    /// Runs a script, and stops it when it has reported progress.
    async fn run_until_ready(script: &str) -> Finished {
        run_orders_until_ready(script, orders()).await
    }

    async fn run_orders_until_ready(script: &str, orders: Orders) -> Finished {
        let handle = orders.run.clone();
        let stop = async {
            while handle.latest_progress().is_none() {
                tokio::task::yield_now().await;
            }
            handle.cancellation().cancel();
        };
        let (finished, ()) = tokio::join!(run(shell(script), orders), stop);
        finished.expect("it starts")
    }

    #[tokio::test]
    async fn a_cancelled_command_gets_to_clean_up() {
        let script =
            "trap 'echo cleaned; exit 0' TERM; echo '::progress ready' >&2; while :; do sleep 0.01; done";
        let finished = run_until_ready(script).await;
        assert!(finished.stopped && finished.status.success());
        assert_eq!(finished.stdout.into_bytes(), b"cleaned\n");
    }

    #[tokio::test]
    async fn what_a_stopped_shell_began_has_the_grace_too() {
        // `$$` is the shell that was started, in there too. It has exited, nothing is waited for then, and what it
        // began still has a few processes to start.
        let script = "(trap 'until grep -q ^State:.Z /proc/$$/status; do :; done; \
                      for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do /bin/sh -c :; done; \
                      echo cleaned; exit' TERM; echo '::progress ready' >&2; while :; do sleep 0.01; done) & wait";
        let orders = Orders {
            pipes_wait: Duration::ZERO,
            ..orders()
        };
        let finished = run_orders_until_ready(script, orders).await;
        assert_eq!(finished.status.signal(), Some(15), "the shell does not wait");
        assert_eq!(finished.stdout.into_bytes(), b"cleaned\n");
    }

    #[tokio::test]
    async fn what_a_stopped_command_leaves_behind_is_killed() {
        let script = "(trap '' TERM; exec sleep 3600 > /dev/null 2>&1) & echo $!; \
                      until grep -qs sleep /proc/$!/comm; do :; done; echo '::progress ready' >&2; wait";
        let finished = run_until_ready(script).await;
        assert!(finished.stopped);
        gone(&finished.stdout.into_bytes()).await;
    }

    #[tokio::test]
    async fn the_others_being_killed_is_no_reason_to_end() {
        let orders = orders();
        orders.kill.cancel();
        let finished = run(shell("echo done"), orders).await.expect("it starts");
        assert!(!finished.stopped && finished.status.success());
    }

    #[tokio::test]
    async fn a_command_that_is_not_there_is_an_error() {
        let error = run(Command::new("/no/such/command"), orders())
            .await
            .expect_err("it is not there");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
