//! What a job may say beside its name and params: as flags, and as fields of a line.

use std::borrow::Cow;
use std::time::Duration;

use jobq_client::json::{self, JsonError};
use jobq_client::{Backoff, JobRequest, Priority};
use jobq_proto::NewJob;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use uuid::Uuid;

use crate::times;
use crate::values::{self, number};

/// What a job may say of when, how often and for whom it runs.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Fields {
    /// Who the job is for
    #[arg(long, value_parser = values::username)]
    username: Option<String>,
    /// How urgent it is
    #[arg(long, ignore_case = true, value_parser = values::priority())]
    priority: Option<Priority>,
    /// Run it after so long, of 365 days at most
    #[arg(long = "in", value_name = "DURATION", value_parser = delay, conflicts_with = "at")]
    delay: Option<Duration>,
    /// Run it at that time, e.g. 2026-11-23T10:00:00+01:00, up to the year 3000; local time where no zone is given
    #[arg(long, value_name = "TIME", value_parser = start)]
    at: Option<i64>,
    /// Try it so often; 20 times unless the server was told otherwise
    #[arg(long, value_name = "N", value_parser = number::<u32>(1..=10_000))]
    max_attempts: Option<u32>,
    /// Stop a run after so long; it counts as a failed attempt
    #[arg(long, value_name = "DURATION", value_parser = times::positive_duration)]
    timeout: Option<Duration>,
    /// Wait so long after a failure: 10s each time, 1s^4 to grow with that power of the attempt, 1s^4,1h to stop there
    #[arg(long, value_name = "BACKOFF", value_parser = times::backoff)]
    backoff: Option<Backoff>,
}

impl Fields {
    /// When a job that is submitted now is due, in microseconds since 1970, if that is yet to come.
    pub(super) fn due(&self) -> Option<i64> {
        let now = jiff::Timestamp::now().as_microsecond();
        let after = self
            .delay
            .map(|delay| i64::try_from(delay.as_micros()).unwrap_or(i64::MAX));
        let at = self.at.or_else(|| after.map(|after| now.saturating_add(after)));
        at.filter(|&at| at > now)
    }

    /// The time of a job that is submitted now, in microseconds since 1970, if it is past: the job is due at once.
    pub(super) fn past(&self) -> Option<i64> {
        let now = jiff::Timestamp::now().as_microsecond();
        self.at.filter(|&at| at < now)
    }

    /// A job with these fields.
    pub(super) fn request(&self, name: &str) -> JobRequest {
        let mut request = JobRequest::new(name);
        if let Some(username) = &self.username {
            request = request.username(username);
        }
        if let Some(priority) = self.priority {
            request = request.priority(priority);
        }
        if let Some(delay) = self.delay {
            request = request.delay(delay);
        }
        if let Some(at) = self.at {
            request = request.run_at(at);
        }
        if let Some(attempts) = self.max_attempts {
            request = request.max_attempts(attempts);
        }
        if let Some(timeout) = self.timeout {
            request = request.timeout(timeout);
        }
        if let Some(backoff) = self.backoff {
            request = request.backoff(backoff);
        }
        request
    }
}

/// What lines without a name or field of their own have.
#[derive(Debug, Clone, Default)]
pub(super) struct Defaults {
    pub(super) name: Option<String>,
    pub(super) fields: Fields,
    /// What lines without a uuid get theirs from, together with their number.
    pub(super) once: Option<String>,
}

impl Defaults {
    /// Reads one line; the first one has number 1.
    ///
    /// # Errors
    /// What is wrong with it, and in which column where that is known.
    pub(super) fn read(&self, number: u64, text: &[u8]) -> Result<Read, String> {
        if let Err(error) = std::str::from_utf8(text) {
            return Err(format!("it is not UTF-8 at column {}", error.valid_up_to() + 1));
        }
        // serde would take an array for an object as well.
        if text.trim_ascii_start().starts_with(b"[") {
            return Err(
                "it is no JSON object but an array; `jq -c '.[]'` makes a line of each item".to_owned(),
            );
        }
        if !text.trim_ascii_start().starts_with(b"{") {
            return Err("it is no JSON object".to_owned());
        }
        let line: Line<'_> = serde_json::from_slice(text).map_err(|error| describe(&error))?;
        let name = line
            .name
            .as_deref()
            .or(self.name.as_deref())
            .ok_or("it has no \"name\", and no NAME was given")?;
        // A line that says one of the two has no use for the other's default.
        let (delay, at) = match (line.delay, line.at) {
            (None, None) => (self.fields.delay, self.fields.at),
            (Some(_), Some(_)) => return Err("it has both \"in\" and \"at\"; give one of them".to_owned()),
            given => given,
        };
        let fields = Fields {
            username: line.username.or_else(|| self.fields.username.clone()),
            priority: line.priority.or(self.fields.priority),
            delay,
            at,
            max_attempts: line.max_attempts.or(self.fields.max_attempts),
            timeout: line.timeout.or(self.fields.timeout),
            backoff: line.backoff.or(self.fields.backoff),
        };
        let mut request = fields.request(name);
        if let Some(params) = &line.params {
            json::check_lossless(text).map_err(|error| in_one_line(&error))?;
            request = request.raw_params(json::value_to_cbor(params).map_err(|error| error.to_string())?);
        }
        let job = match (line.uuid, &self.once) {
            (Some(uuid), _) => request.uuid(uuid),
            (None, Some(key)) => request.uuid(once(key, number)),
            (None, None) => request,
        };
        let is_past = fields.past().is_some();
        Ok(Read { job, is_past })
    }
}

/// The job of a line.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) job: JobRequest,
    /// Its time is past, and so it is due at once.
    pub(super) is_past: bool,
}

/// The uuid of a line: of version 8, with what its key is hashed to in front and its number behind, so that the uuids
/// of a long input rise and the server's index grows at its end.
fn once(key: &str, number: u64) -> Uuid {
    let key = Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("jobq:once:{key}").as_bytes());
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&key.as_bytes()[..8]);
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// One line of the input.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    params: Option<serde_json::Value>,
    uuid: Option<Uuid>,
    username: Option<String>,
    #[serde(default, deserialize_with = "priority")]
    priority: Option<Priority>,
    #[serde(default, rename = "in", deserialize_with = "delay_field")]
    delay: Option<Duration>,
    #[serde(default, deserialize_with = "time")]
    at: Option<i64>,
    max_attempts: Option<u32>,
    #[serde(default, deserialize_with = "positive_duration")]
    timeout: Option<Duration>,
    #[serde(default, deserialize_with = "backoff")]
    backoff: Option<Backoff>,
}

/// How long from now.
fn delay(text: &str) -> Result<Duration, String> {
    let delay = times::duration(text)?;
    if delay > NewJob::MAX_DURATION {
        return Err(
            "the longest delay is 365 days; a time of start can be as late as the year 3000".to_owned(),
        );
    }
    Ok(delay)
}

/// When, in microseconds since 1970.
fn start(text: &str) -> Result<i64, String> {
    let at = times::time(text)?;
    if !NewJob::RUN_AT.contains(&at) {
        return Err("it is not between 1970 and the year 3000".to_owned());
    }
    Ok(at)
}

/// The error of one line: its column, without a line number, which is always 1 here.
fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    match text.strip_suffix(&place) {
        Some(what) if error.is_data() => format!("{what} (at or before column {})", error.column()),
        Some(what) => format!("it is no JSON: {what} at column {}", error.column()),
        None => text,
    }
}

/// The error of one line, which says at which of them all it is: in the text itself it is always the first.
fn in_one_line(error: &JsonError) -> String {
    let text = error.to_string();
    // The last one is the error's own; a key may read like this too.
    match text.rsplit_once(" at line 1, column ") {
        Some((what, rest)) => format!("{what} at column {rest}"),
        None => text,
    }
}

fn parse<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, D::Error> {
    let text = Option::<Cow<'de, str>>::deserialize(deserializer)?;
    text.map(|text| parse(&text).map_err(|problem| D::Error::custom(format!("{text:?}: {problem}"))))
        .transpose()
}

fn priority<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Priority>, D::Error> {
    parse(deserializer, |text| {
        text.parse()
            .map_err(|_| "it is not high, normal or low".to_owned())
    })
}

fn delay_field<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    parse(deserializer, delay)
}

fn positive_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    parse(deserializer, times::positive_duration)
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    parse(deserializer, start)
}

fn backoff<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Backoff>, D::Error> {
    parse(deserializer, times::backoff)
}

#[cfg(test)]
mod tests {
    use jobq_proto::message::Submission;

    use super::*;

    fn read(line: &str) -> Result<Submission, String> {
        let fields = Fields {
            max_attempts: Some(3),
            delay: Some(Duration::from_secs(1)),
            ..Fields::default()
        };
        let defaults = Defaults {
            fields,
            ..Defaults::default()
        };
        defaults
            .read(1, line.as_bytes())
            .map(|read| Submission::from(read.job))
    }

    #[test]
    fn a_line_says_what_a_job_is_and_the_flags_say_the_rest() {
        let line = r#"{"name":"mail","params":{"to":"a"},"priority":"HIGH","at":"2026-11-23T09:00:00Z",
            "timeout":"1m","backoff":"10s","uuid":"019aac5e-6f5b-7c41-b0a5-3d9c7c0d4c11","username":"ada"}"#;
        let job = read(line).expect("it is a job");
        assert_eq!(job.name, "mail");
        assert_eq!(
            json::show(&job.params.expect("there are params")),
            r#"{"to":"a"}"#
        );
        assert_eq!(job.priority.as_deref(), Some("High"));
        assert_eq!(
            (job.run_at, job.delay),
            (Some(1_795_424_400_000_000), None),
            "the line's time, not the flag's"
        );
        assert_eq!((job.max_attempts, job.timeout), (Some(3), Some(60_000_000)));
        assert_eq!(job.username.as_deref(), Some("ada"));
        assert_eq!(job.uuid.to_string(), "019aac5e-6f5b-7c41-b0a5-3d9c7c0d4c11");
        assert_eq!(
            read(r#"{"name":"mail"}"#).expect("it is a job").delay,
            Some(1_000_000)
        );
    }

    #[test]
    fn the_same_line_of_the_same_key_has_the_same_uuid_and_no_other_has() {
        let uuids: Vec<Uuid> = (1..1_000).map(|number| once("mail", number)).collect();
        assert!(uuids.is_sorted_by(|one, next| one < next));
        assert_eq!(uuids[6], once("mail", 7));
        assert_ne!(uuids[6], once("post", 7));
        assert_eq!(
            (uuids[6].get_version_num(), uuids[6].get_variant()),
            (8, uuid::Variant::RFC4122)
        );
    }

    #[test]
    fn a_line_that_is_not_utf_8_says_where() {
        let wrong = Defaults::default().read(1, b"{\"name\":\"\xff\"}");
        assert_eq!(wrong.err().as_deref(), Some("it is not UTF-8 at column 10"));
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said_in_its_own_terms() {
        for (line, expected) in [
            (
                r#"{"name":"mail""#,
                "it is no JSON: EOF while parsing an object at column 14",
            ),
            (
                r#"{"nmae":"mail"}"#,
                "unknown field `nmae`, expected one of `name`, `params`, `uuid`, `username`, `priority`, `in`, `at`, \
                 `max_attempts`, `timeout`, `backoff`",
            ),
            (
                r#"{"name":"a","params":{"n":18446744073709551616}}"#,
                "the integer 18446744073709551616 at column 27 is",
            ),
            (
                r#"{"name":"a","params":{"b":[{"c":1,"c":2}]}}"#,
                "the key \"c\" at column 35 is",
            ),
            (
                r#"{"name":"a","params":{" at line 1, column 7":1," at line 1, column 7":2}}"#,
                "the key \" at line 1, column 7\" at column 48 is",
            ),
            (r#"{"name":"a","name":"b"}"#, "duplicate field `name`"),
            (r#"{"name":"abcdefg","nmae":"mail"}"#, "(at or before column 24)"),
            (r#"{"name":"abcdefgh","timeout":17}"#, "(at or before column 31)"),
            (r"{}", "no \"name\""),
            (r#"{"name":"a","in":"1m","at":"2026-11-23"}"#, "both"),
            (r#"{"name":"a","in":"soon"}"#, "\"soon\": it is no duration"),
            (r#"{"name":"a","priority":"top"}"#, "\"top\": it is not high"),
            (r#"{"name":"a"} {"name":"b"}"#, "trailing characters at column 14"),
            ("7", "no JSON object"),
            (r#"["a"]"#, "no JSON object but an array; `jq -c '.[]'`"),
            (r#"{"name":"a","in":"366d"}"#, "the longest delay is 365 days"),
        ] {
            let error = read(line).expect_err(line);
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
