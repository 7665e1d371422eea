//! One job, by flags.

use std::io::Read;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use futures::StreamExt;
use jobq_client::{Client, JobEvent, JobId, JobRequest, Outcome, Receipt, Status, WaitError, json};
use serde_json::{Map, Value};

use super::lines::without_mark;
use super::{Args, not_submitted, pairs};
use crate::cli::Global;
use crate::commands::attempts::Attempts;
use crate::commands::wait::not_waited;
use crate::connect::patiently;
use crate::exit::Exit;
use crate::output::{Output, count, note, one_line};
use crate::progress::Line;
use crate::signals::Signals;
use crate::{times, view};

/// Most columns of a progress report; the terminal may have room for fewer.
const PROGRESS_WIDTH: usize = 200;

/// Most columns of the reason of a job that failed; `jobq show` and `--json` have all of it.
const REASON_WIDTH: usize = 200;

/// Longest params as JSON; the server's limit counts their CBOR, which is shorter.
const MAX_PARAMS: u64 = 16 * 1024 * 1024;

pub(super) async fn run(name: &str, args: &Args, global: &Global) -> anyhow::Result<Exit> {
    let mut request = args.fields.request(name);
    if !args.pairs.is_empty() || args.params.is_some() {
        let params = match &args.params {
            Some(params) => read_params(params),
            None => pairs::object(&args.pairs)
                .map_err(anyhow::Error::from)
                .and_then(|object| Ok(json::value_to_cbor(&object)?)),
        };
        let params = params.context("failed to read the params");
        request = request.raw_params(params.map_err(|error| Exit::Usage.because(error))?);
    }
    if let Some(uuid) = args.uuid {
        request = request.uuid(uuid);
    }
    let client = global.connect().await.context("failed to submit the job")?;
    let submitted = submit(&client, request, args).await;
    client.close().await;
    submitted
}

async fn submit(client: &Client, request: JobRequest, args: &Args) -> anyhow::Result<Exit> {
    let receipt = patiently(client, client.submit(request), note)
        .await
        .map_err(|error| not_submitted(error, client.deadline()))
        .context("failed to submit the job")?;
    if let Some(past) = args.fields.past().filter(|_| !receipt.existing) {
        note(&format!("{} is past; the job is due at once", times::local(past)));
    }
    if args.wait {
        // From here on a signal ends the wait and not the program, which has the job's number to tell.
        let mut signals = Signals::new()?;
        let outcome = tokio::select! {
            outcome = wait(client, receipt.id, args.fields.due()) => outcome.map_err(not_waited)?,
            () = signals.recv() => {
                return Err(Exit::Interrupted.because(anyhow!(
                    "interrupted; job {} goes on, and `jobq show {0}` tells what became of it",
                    receipt.id
                )));
            }
        };
        return write_outcome(&receipt, &outcome, args.json);
    }
    let mut output = Output::optional();
    if args.json {
        output.json(&object(&receipt))?;
    } else {
        output.line(receipt.id)?;
    }
    output.finish()?;
    Ok(Exit::Ok)
}

/// Waits for the job's end, says which attempts fail, and shows on a terminal how far it has come.
async fn wait(client: &Client, id: JobId, due: Option<i64>) -> Result<Outcome, WaitError> {
    let line = Line::spinner();
    line.say(match due {
        Some(due) => format!("job {id} is due at {}", times::local(due)),
        None => format!("job {id} waits for a worker"),
    });
    let mut events = client.watch([id]);
    let mut attempts = Attempts::new(client);
    loop {
        let event = tokio::select! {
            biased;
            event = events.next() => event,
            failed = attempts.failed([id]) => {
                line.beside(|| failed.iter().for_each(|line| note(line)));
                continue;
            }
        };
        let Some(event) = event else { break };
        match event? {
            JobEvent::Ended(outcome) => return Ok(outcome),
            JobEvent::Progressed {
                attempt, progress, ..
            } => {
                let again = if attempt > 1 {
                    format!(", attempt {attempt}")
                } else {
                    String::new()
                };
                let text = one_line(&view::progress(&progress), PROGRESS_WIDTH);
                line.say(format!("job {id}{again}: {text}"));
            }
            _ => {}
        }
    }
    Err(WaitError::Closed)
}

/// Checks `--params`, as far as that is possible without reading what it names.
///
/// # Errors
/// It is no JSON, or would lose something.
pub(super) fn params(text: &str) -> Result<String, String> {
    if text != "-" && !text.starts_with('@') {
        json::to_cbor(text.as_bytes()).map_err(|error| error.to_string())?;
    }
    Ok(text.to_owned())
}

fn read_params(params: &str) -> anyhow::Result<Bytes> {
    let text = match params.strip_prefix('@') {
        Some(path) => {
            let file = std::fs::File::open(path).with_context(|| format!("cannot open {path}"))?;
            read_all(file).with_context(|| format!("cannot read {path}"))?
        }
        None if params == "-" => read_all(std::io::stdin().lock()).context("cannot read standard input")?,
        None => params.as_bytes().to_vec(),
    };
    Ok(json::to_cbor(without_mark(&text))?)
}

fn read_all(source: impl Read) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(MAX_PARAMS + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_PARAMS {
        return Err(anyhow!("there are more than {MAX_PARAMS} bytes"));
    }
    Ok(bytes)
}

fn write_outcome(receipt: &Receipt, outcome: &Outcome, as_json: bool) -> anyhow::Result<Exit> {
    let mut output = Output::optional();
    if as_json {
        let mut object = object(receipt);
        object.insert("status".to_owned(), outcome.status.as_str().into());
        object.insert("reason".to_owned(), outcome.reason.as_deref().into());
        view::put_payload(&mut object, "result", outcome.result.as_ref());
        output.json(&object)?;
    } else if outcome.status == Status::Completed
        && let Some(result) = &outcome.result
    {
        write_result(&mut output, result)?;
    }
    output.finish()?;
    let (exit, ended) = match outcome.status {
        Status::Completed => return Ok(Exit::Ok),
        Status::Cancelled => (Exit::JobCancelled, "was cancelled"),
        _ => (Exit::JobFailed, "failed"),
    };
    if as_json {
        return Ok(exit);
    }
    let id = receipt.id;
    Err(exit.because(match &outcome.reason {
        Some(reason) => anyhow!("job {id} {ended}: {}", one_line(reason, REASON_WIDTH)),
        None => anyhow!("job {id} {ended}"),
    }))
}

/// For a person or a program that knows what to expect: a text as it is, bytes as they are, the rest as JSON.
fn write_result(output: &mut Output, result: &Bytes) -> anyhow::Result<()> {
    match json::byte_string(result) {
        Some(bytes) if output.is_terminal() => {
            note(&format!(
                "a result of {} that is no text; write it to a file",
                count(bytes.len() as u64, "byte")
            ));
            Ok(())
        }
        Some(bytes) => output.bytes(&bytes),
        None => match view::payload(Some(result)) {
            Value::String(text) => output.foreign(&text),
            value => output.line(value),
        },
    }
}

fn object(receipt: &Receipt) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("id".to_owned(), receipt.id.0.into());
    object.insert("uuid".to_owned(), receipt.uuid.to_string().into());
    object.insert("existing".to_owned(), receipt.existing.into());
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn params_are_json_or_a_file_and_errors_say_where() {
        assert_eq!(
            json::show(&read_params(r#"{"a":1}"#).expect("it is JSON")),
            r#"{"a":1}"#
        );
        let error = read_params("{\n  'a': 1}").expect_err("it is no JSON");
        assert!(error.to_string().contains("line 2, column 3"), "{error}");
        let error = read_params("@/no/such/file").expect_err("there is none");
        assert!(error.to_string().contains("/no/such/file"), "{error}");
    }
}
