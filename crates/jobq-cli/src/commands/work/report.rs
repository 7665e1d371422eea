//! How a command ended, as the job's result or the reason of its failure.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use bytes::Bytes;
use jobq_client::{json, params};
use jobq_proto::limits::MAX_REASON;
use jobq_worker::JobError;
use rustix::process::Signal;

use super::ResultKind;
use super::capture::Tail;
use super::child::Finished;

/// What the runtime puts before the reason of a run that it stopped: "timed out after …: ", in bytes.
const STOP_ROOM: usize = 64;

/// What is expected of a command.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) result: ResultKind,
    /// The exit statuses that say that trying again is in vain.
    pub(super) never: Vec<u8>,
}

impl Expected {
    /// Whether standard output is read.
    pub(super) fn wants_output(&self) -> bool {
        self.result != ResultKind::None
    }

    fn is_final(&self, status: ExitStatus) -> bool {
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        code.is_some_and(|code| self.never.contains(&code))
    }
}

/// The result of a command that did well, or why it did not.
///
/// The reason has at most `most_reason` bytes.
pub(super) fn outcome(
    finished: Finished,
    expected: &Expected,
    most_reason: usize,
) -> Result<Option<Bytes>, JobError> {
    let Finished {
        status,
        stopped,
        stdout,
        stderr,
    } = finished;
    let most_reason = most_reason.min(MAX_REASON);
    // A command that was told to stop has not done its work, whatever it exits with.
    if stopped {
        let room = most_reason.saturating_sub(STOP_ROOM);
        return Err(JobError::retry(with_tail(&describe(status), &stderr, room)));
    }
    if !status.success() {
        let reason = with_tail(&describe(status), &stderr, most_reason);
        return Err(if expected.is_final(status) {
            JobError::never(reason)
        } else {
            JobError::retry(reason)
        });
    }
    if stdout.is_cut() {
        return Err(JobError::never(format!(
            "result_too_large: the command wrote {} bytes to standard output, and the limit is {}; let it write less, \
             or run it with --result none",
            stdout.total(),
            stdout.limit()
        )));
    }
    result(stdout.into_bytes(), expected.result)
}

fn result(output: Vec<u8>, kind: ResultKind) -> Result<Option<Bytes>, JobError> {
    if output.is_empty() {
        return Ok(None);
    }
    let encoded = match kind {
        ResultKind::None => return Ok(None),
        ResultKind::Json => {
            return json::to_cbor(&output).map(Some).map_err(|error| {
                JobError::retry(format!(
                    "the command's output is not what --result json takes: {error}"
                ))
            });
        }
        ResultKind::Text => match String::from_utf8(output) {
            Ok(text) => params::encode(&text),
            Err(error) => return Ok(Some(byte_string(error.as_bytes()))),
        },
    };
    encoded
        .map(Some)
        .map_err(|error| JobError::never(error.to_string()))
}

/// A CBOR byte string (RFC 8949, section 3.1, major type 2).
fn byte_string(bytes: &[u8]) -> Bytes {
    const MAJOR: u8 = 2 << 5;
    let mut item = Vec::with_capacity(bytes.len() + 9);
    match bytes.len() {
        // Below 24, the length stands in the first byte; an 8-byte length serves all others.
        length @ 0..24 => item.push(MAJOR | u8::try_from(length).unwrap_or_default()),
        length => {
            item.push(MAJOR | 27);
            item.extend((length as u64).to_be_bytes());
        }
    }
    item.extend_from_slice(bytes);
    item.into()
}

fn describe(status: ExitStatus) -> String {
    let Some(number) = status.signal() else {
        return match status.code() {
            Some(code) => format!("exit status {code}"),
            None => status.to_string(),
        };
    };
    let dumped = if status.core_dumped() { ", core dumped" } else { "" };
    match Signal::from_named_raw(number) {
        Some(signal) => format!("killed by {} (signal {number}{dumped})", name(signal)),
        None => format!("killed by signal {number}{dumped}"),
    }
}

/// A signal's name, as `kill -l` has it.
fn name(signal: Signal) -> String {
    match signal {
        // These two go by other names in there.
        Signal::ABORT => "SIGABRT".to_owned(),
        Signal::ALARM => "SIGALRM".to_owned(),
        signal => {
            let name = format!("{signal:?}");
            let name = name.trim_matches('"');
            format!("SIG{}", name.strip_prefix("Signal::").unwrap_or(name))
        }
    }
}

/// What happened, and the end of what the command said about it, in at most so many bytes.
fn with_tail(what: &str, stderr: &Tail, most: usize) -> String {
    let tail = stderr.text(most.saturating_sub(what.len() + 2));
    if tail.is_empty() {
        what.to_owned()
    } else {
        format!("{what}: {tail}")
    }
}

#[cfg(test)]
mod tests {
    use jobq_worker::Retry;

    use super::*;
    use crate::commands::work::capture::Head;

    fn expected(result: ResultKind) -> Expected {
        let never = vec![65, 66];
        Expected { result, never }
    }

    fn outcome(finished: Finished, kind: ResultKind) -> Result<Option<Bytes>, JobError> {
        super::outcome(finished, &expected(kind), MAX_REASON)
    }

    async fn finished(raw_status: i32, stdout: &[u8], stderr: &[u8]) -> Finished {
        let mut head = Head::new(1000);
        head.read(Some(stdout)).await;
        let mut tail = Tail::new(64 * 1024);
        tail.take(stderr);
        Finished {
            status: ExitStatus::from_raw(raw_status),
            stopped: false,
            stdout: head,
            stderr: tail,
        }
    }

    async fn failure(raw_status: i32, stderr: &[u8]) -> String {
        let finished = finished(raw_status, b"", stderr).await;
        outcome(finished, ResultKind::Text)
            .expect_err("it failed")
            .reason()
            .to_owned()
    }

    #[tokio::test]
    async fn output_is_text_or_bytes_or_json_or_nothing() {
        let shown = |result: Option<Bytes>| json::show(&result.expect("there is one"));
        let text = outcome(finished(0, b"done\n", b"").await, ResultKind::Text).expect("it completed");
        assert_eq!(shown(text), r#""done\n""#);
        let bytes = outcome(finished(0, &[0xff, 0xfe], b"").await, ResultKind::Text).expect("it completed");
        assert_eq!(bytes.as_deref(), Some(&[0x42, 0xff, 0xfe][..]));
        let long = outcome(finished(0, &[0xff; 300], b"").await, ResultKind::Text).expect("it completed");
        assert_eq!(
            params::decode::<serde_json::Value>(&long.expect("there is one")).ok(),
            None
        );
        let value =
            outcome(finished(0, b" {\"a\": [1]}\n", b"").await, ResultKind::Json).expect("it completed");
        assert_eq!(shown(value), r#"{"a":[1]}"#);
        for kind in [ResultKind::Text, ResultKind::Json, ResultKind::None] {
            assert_eq!(outcome(finished(0, b"", b"").await, kind), Ok(None));
        }
    }

    #[tokio::test]
    async fn output_that_is_no_json_says_where() {
        let error = outcome(finished(0, b"{\n x", b"").await, ResultKind::Json).expect_err("it is none");
        assert!(error.reason().contains("line 2, column 2"), "{error}");
    }

    #[tokio::test]
    async fn too_much_output_is_not_tried_again() {
        let error =
            outcome(finished(0, &[b'x'; 1001], b"").await, ResultKind::Text).expect_err("it is too much");
        assert!(error.reason().starts_with("result_too_large: "), "{error}");
        assert_eq!(error.retries(), Retry::Never);
    }

    #[tokio::test]
    async fn a_reason_names_the_status_or_the_signal_and_what_was_said() {
        assert_eq!(
            failure(3 << 8, b"no such file\n").await,
            "exit status 3: no such file"
        );
        assert_eq!(failure(1 << 8, b"").await, "exit status 1");
        assert_eq!(failure(9, b"").await, "killed by SIGKILL (signal 9)");
        assert_eq!(
            failure(11 | 0x80, b"x").await,
            "killed by SIGSEGV (signal 11, core dumped): x"
        );
    }

    #[tokio::test]
    async fn some_exit_statuses_say_that_trying_again_is_in_vain() {
        for (raw_status, retry) in [
            (1 << 8, Retry::Backoff),
            (65 << 8, Retry::Never),
            (66 << 8, Retry::Never),
            // A signal's number is no exit status.
            (65, Retry::Backoff),
        ] {
            let finished = finished(raw_status, b"", b"no picture").await;
            let error = outcome(finished, ResultKind::Text).expect_err("it failed");
            assert_eq!(error.retries(), retry, "{error}");
        }
    }

    #[tokio::test]
    async fn a_long_reason_is_cut_to_its_end() {
        let mut said = vec![b'x'; 100_000];
        said.extend(b" the point");
        let reason = failure(1 << 8, &said).await;
        assert!(reason.len() <= MAX_REASON);
        assert!(reason.starts_with("exit status 1: …x") && reason.ends_with("x the point"));
    }

    #[tokio::test]
    async fn a_server_may_take_shorter_reasons() {
        let said = "é".repeat(1_000);
        let finished = finished(1 << 8, b"", said.as_bytes()).await;
        let error = super::outcome(finished, &expected(ResultKind::Text), 101).expect_err("it failed");
        assert!((99..=101).contains(&error.reason().len()), "{error}");
        assert!(error.reason().ends_with("éé"), "{error}");
    }

    #[tokio::test]
    async fn a_command_that_was_stopped_did_not_complete() {
        let mut stopped = finished(0, b"half", b"").await;
        stopped.stopped = true;
        let error = outcome(stopped, ResultKind::Text).expect_err("it was stopped");
        assert_eq!(error.reason(), "exit status 0");
    }
}
