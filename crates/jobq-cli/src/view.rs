//! Jobs as they are shown, to people and to programs.

use std::time::Duration;

use bytes::Bytes;
use jobq_client::{EndedRun, JobProgress, JobView, Status, json};
use serde_json::{Map, Value, json};

use crate::output::count;
use crate::times;

/// A job as one JSON object. Times are RFC 3339, durations are microseconds and say so in their names.
pub(crate) fn job(view: &JobView) -> Map<String, Value> {
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
    let time = |micros: i64| Value::from(times::rfc3339(micros));
    put("id", view.id.into());
    put("uuid", view.uuid.to_string().into());
    put("name", view.name.as_str().into());
    put("username", json!(view.username));
    put("priority", view.priority.as_str().into());
    put("status", view.status.as_str().into());
    put("created", time(view.created));
    put("due", time(view.due));
    put("started", view.started.map_or(Value::Null, time));
    put("ended", view.ended.map_or(Value::Null, time));
    put("ran_us", json!(view.ran));
    put("attempts", view.attempts.into());
    put("max_attempts", view.max_attempts.into());
    put("charges", view.charges.into());
    put("cancelling", view.cancelling.into());
    put(
        "progress",
        view.progress.as_ref().map_or(Value::Null, progress_object),
    );
    put("reason", json!(view.reason));
    put("retry_of", json!(view.retry_of));
    put("params_bytes", view.params_bytes.into());
    object
}

/// A job as pairs of a label and a text, without what it does not have.
pub(crate) fn lines(view: &JobView) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    let mut put = |label, text: Option<String>| lines.extend(text.map(|text| (label, text)));
    let cancelling = if view.cancelling { ", cancelling" } else { "" };
    put("id", Some(view.id.to_string()));
    put("uuid", Some(view.uuid.to_string()));
    put("name", Some(view.name.clone()));
    put("username", view.username.clone());
    put("priority", Some(view.priority.clone()));
    put("status", Some(format!("{}{cancelling}", view.status)));
    put("created", Some(times::local(view.created)));
    put("due", (view.due != view.created).then(|| times::local(view.due)));
    put("started", view.started.map(times::local));
    put("ended", view.ended.map(times::local));
    put(
        "ran",
        view.ran
            .map(|micros| times::length(Duration::from_micros(micros))),
    );
    put(
        "attempts",
        Some(format!("{} of {}", view.attempts, view.max_attempts)),
    );
    put(
        "charges",
        (view.charges > 0).then(|| format!("{} lost in a row", count(view.charges.into(), "worker"))),
    );
    put("progress", view.progress.as_ref().map(progress));
    put("reason", view.reason.clone());
    put("retry of", view.retry_of.map(|id| id.to_string()));
    put(
        "size",
        Some(format!("{} of params", count(view.params_bytes, "byte"))),
    );
    lines
}

/// How far a job has come, for people: "45 % resizing".
pub(crate) fn progress(progress: &JobProgress) -> String {
    let part = progress.fraction().map(|part| format!("{:.0} %", part * 100.0));
    let text = Some(progress.text.trim()).filter(|text| !text.is_empty());
    match (part, text) {
        (Some(part), Some(text)) => format!("{part} {text}"),
        (Some(part), None) => part,
        (None, text) => text.unwrap_or_default().to_owned(),
    }
}

/// How far a job has come, for programs: the part from 0 to 1, and the text.
pub(crate) fn progress_object(progress: &JobProgress) -> Value {
    json!({ "part": progress.fraction(), "text": progress.text })
}

/// A job's ended runs, as far as the server sent them: those that did not give it back. The one that completed it has
/// no fence.
pub(crate) fn runs(view: &JobView) -> Value {
    let run = |run: &EndedRun| {
        json!({
            "fence": run.fence.to_string(),
            "end": run.end,
            "at": times::rfc3339(run.at),
            "reason": run.reason,
        })
    };
    let completed = completed(view)
        .map(|at| json!({ "fence": null, "end": "Completed", "at": times::rfc3339(at), "reason": null }));
    view.runs.iter().map(run).chain(completed).collect()
}

/// When a job's last run completed it; the server keeps that with the job.
fn completed(view: &JobView) -> Option<i64> {
    view.ended.filter(|_| view.status == Status::Completed)
}

/// The same for people: one paragraph a run, its reason below it.
pub(crate) fn run_lines(view: &JobView) -> Option<String> {
    let run = |run: &EndedRun| {
        let end = match run.end.as_str() {
            "Failed" => "failed",
            "Lost" => "its worker was lost",
            "TimedOut" => "it took too long",
            other => other,
        };
        let reason = run.reason.iter().flat_map(|reason| reason.trim_end().lines());
        let reason: String = reason.map(|line| format!("\n  {line}")).collect();
        format!("{}  {end}{reason}", times::local(run.at))
    };
    let completed = completed(view).map(|at| format!("{}  completed", times::local(at)));
    let runs: Vec<String> = view.runs.iter().map(run).chain(completed).collect();
    (!runs.is_empty()).then(|| runs.join("\n"))
}

/// Adds params or a result to an object. Where it is bytes, and not a text that looks the same, a field beside it says
/// how they are written: `"result_encoding": "base64url"`.
pub(crate) fn put_payload(object: &mut Map<String, Value>, key: &str, item: Option<&Bytes>) {
    object.insert(key.to_owned(), payload(item));
    if item.is_some_and(|item| json::byte_string(item).is_some()) {
        object.insert(format!("{key}_encoding"), "base64url".into());
    }
}

/// Params or a result in a line, for people. Bytes say that they are that.
pub(crate) fn payload_line(item: Option<&Bytes>) -> String {
    let text = payload(item);
    match item.and_then(|item| json::byte_string(item)) {
        Some(bytes) => format!(
            "{} that are no text, in base64url: {text}",
            count(bytes.len() as u64, "byte")
        ),
        None => text.to_string(),
    }
}

/// Params or a result as JSON. What is no CBOR is shown as its bytes, as text.
pub(crate) fn payload(item: Option<&Bytes>) -> Value {
    let Some(item) = item else { return Value::Null };
    json::from_cbor(item).unwrap_or_else(|_| json::show(item).into())
}
