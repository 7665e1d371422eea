//! The figures of a scenario, for people and for programs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::cost::Cost;
use super::setting::Setting;
use super::timing::Timing;
use super::usage::Memory;

/// Below this a sync cannot have reached a disk.
const IN_MEMORY: Duration = Duration::from_micros(5);

/// A scenario and its figures.
pub(super) struct Report {
    pub(super) setting: Setting,
    /// From the start of the server's process until it listened.
    pub(super) start: Duration,
    pub(super) fdatasync: Duration,
    pub(super) measured: Measured,
}

/// What was measured.
pub(super) struct Measured {
    /// What the jobs cost whose speed is the scenario's.
    pub(super) cost: Cost,
    /// At least one; the first is the scenario's own.
    pub(super) timings: Vec<(Label, Arc<Timing>)>,
    /// Whether times are compared with that of a sync, which they can be where jobs come one by one.
    pub(super) in_syncs: bool,
    /// The disk's sync between the jobs, where it was measured there; else the one before them counts.
    pub(super) fdatasync: Option<Duration>,
    /// What the scenario alone measures.
    pub(super) lines: Vec<Line>,
}

/// Figures that belong together: a line for people, and values by key for programs. Keys end with their unit.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) what: &'static str,
    pub(super) text: String,
    pub(super) values: Vec<(String, Value)>,
}

impl Line {
    pub(super) fn new<const N: usize>(what: &'static str, text: String, values: [(&str, Value); N]) -> Self {
        let values = values.map(|(key, value)| (key.to_owned(), value)).into();
        Self { what, text, values }
    }
}

impl Measured {
    pub(super) fn new(cost: Cost, timings: Vec<(Label, Arc<Timing>)>) -> Self {
        Self {
            cost,
            timings,
            in_syncs: false,
            fdatasync: None,
            lines: Vec::new(),
        }
    }
}

/// What a time is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Label {
    Ack,
    Started,
    Settled,
    Result,
    /// How much later than due a job was started.
    Late,
    /// The acknowledgement of small jobs beside large ones.
    SmallAck,
}

impl Label {
    fn key(self) -> &'static str {
        match self {
            Self::Ack => "ack",
            Self::Started => "started",
            Self::Settled => "settled",
            Self::Result => "result",
            Self::Late => "late",
            Self::SmallAck => "small_ack",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Ack => "acknowledged",
            Self::SmallAck => "small jobs",
            other => other.key(),
        }
    }
}

impl Report {
    /// One object.
    pub(super) fn json(&self) -> Value {
        let Self {
            setting,
            start,
            fdatasync,
            measured,
        } = self;
        let cost = &measured.cost;
        let mut object = Map::new();
        let mut put = |key: &str, value: Value| {
            object.insert(key.to_owned(), value);
        };
        put("scenario", json!(setting.scenario));
        put("jobs", json!(setting.jobs));
        put("seconds", json!(cost.time.as_secs_f64()));
        put("jobs_per_s", json!(cost.jobs_per_second().round() as u64));
        if let Some((_, timing)) = measured.timings.first() {
            put("p50_us", json!(timing.p50()));
            put("p99_us", json!(timing.p99()));
        }
        for (label, timing) in &measured.timings {
            let (key, p50, p99) = (label.key(), timing.p50(), timing.p99());
            put(&format!("{key}_p50_us"), json!(p50));
            put(&format!("{key}_p99_us"), json!(p99));
            if measured.in_syncs {
                put(&format!("{key}_p50_fdatasyncs"), json!(self.syncs(p50)));
                put(&format!("{key}_p99_fdatasyncs"), json!(self.syncs(p99)));
                put(&format!("{key}_p99_per_p50"), json!(ratio(p99, p50)));
            }
        }
        for (key, value) in measured.lines.iter().flat_map(|line| &line.values) {
            put(key, value.clone());
        }
        put("fdatasync_us", json!(micros(*fdatasync)));
        let memory = cost.memory;
        put("server_rss_bytes", json!(memory.map(|memory| memory.resident)));
        put(
            "server_rss_anon_bytes",
            json!(memory.map(|memory| memory.anonymous)),
        );
        put("server_peak_rss_bytes", json!(memory.map(|memory| memory.peak)));
        put(
            "server_cpu_seconds",
            json!(cost.server_cpu.map(|cpu| cpu.as_secs_f64())),
        );
        put("server_cpu_us_per_job", json!(cost.server_cpu_per_job()));
        put("client_cpu_seconds", json!(cost.client_cpu.as_secs_f64()));
        put("client_cpu_us_per_job", json!(cost.client_cpu_per_job()));
        put("server_start_us", json!(micros(*start)));
        put("payload", json!(setting.payload));
        put("clients", json!(setting.clients));
        put("workers", json!(setting.workers));
        put("concurrency", json!(setting.concurrency));
        put("names", json!(setting.names));
        put("batch", json!(setting.batch));
        put("outstanding", json!(setting.outstanding));
        put("rate", json!(setting.rate));
        Value::Object(object)
    }

    /// What a time is in syncs, where there is a disk.
    fn syncs(&self, micros: u64) -> Option<f64> {
        let sync = self.fdatasync.as_secs_f64() * 1e6;
        (self.fdatasync >= IN_MEMORY).then(|| micros as f64 / sync)
    }

    /// What is said of a time beside it.
    fn comparison(&self, p50: u64, p99: u64) -> String {
        match (self.measured.in_syncs, self.syncs(p50), self.syncs(p99)) {
            (true, Some(median), Some(most)) => format!(
                "   {median:.2} and {most:.2} x fdatasync, p99 = {:.1} x p50",
                ratio(p99, p50)
            ),
            _ => String::new(),
        }
    }

    fn head(&self) -> String {
        let setting = &self.setting;
        let mut head = format!(
            "{}: {} jobs of {} bytes; clients {}, batch {}",
            setting.scenario,
            grouped(setting.jobs),
            grouped(setting.payload as u64),
            setting.clients,
            setting.batch,
        );
        if let Some(outstanding) = setting.outstanding {
            head += &format!(", outstanding {outstanding}");
        }
        if let Some(rate) = setting.rate {
            head += &format!(", {} jobs/s asked for", grouped(rate));
        }
        head + &format!(
            "; workers {}, concurrency {}",
            setting.workers, setting.concurrency
        )
    }

    fn server(&self) -> String {
        let cost = &self.measured.cost;
        let mut server = format!("up in {}", span(micros(self.start)));
        if let Some((cpu, per_job)) = cost.server_cpu.zip(cost.server_cpu_per_job()) {
            server += &format!(", {:.2} s of CPU, {per_job:.2} µs a job", cpu.as_secs_f64());
        }
        if let Some(Memory {
            resident,
            anonymous,
            peak,
        }) = cost.memory
        {
            server += &format!(
                ", {} of memory ({} anonymous), {} at most",
                megabytes(resident),
                megabytes(anonymous),
                megabytes(peak)
            );
        }
        server
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cost = &self.measured.cost;
        writeln!(f, "{}", self.head())?;
        let speed = grouped(cost.jobs_per_second().round() as u64);
        line(
            f,
            "speed",
            &format!("{speed} jobs/s, {:.2} s in all", cost.time.as_secs_f64()),
        )?;
        for (label, timing) in &self.measured.timings {
            let (p50, p99) = (timing.p50(), timing.p99());
            let text = format!(
                "p50 {:>9}   p99 {:>9}{}",
                span(p50),
                span(p99),
                self.comparison(p50, p99)
            );
            line(f, label.text(), &text)?;
        }
        for Line { what, text, .. } in &self.measured.lines {
            line(f, what, text)?;
        }
        let memory_only = if self.fdatasync < IN_MEMORY {
            ", so this directory is not on a disk"
        } else {
            ""
        };
        line(
            f,
            "fdatasync",
            &format!("{}{memory_only}", span(micros(self.fdatasync))),
        )?;
        line(f, "server", &self.server())?;
        let client = format!(
            "{:.2} s of CPU, {:.2} µs a job",
            cost.client_cpu.as_secs_f64(),
            cost.client_cpu_per_job()
        );
        line(f, "client", &client)
    }
}

fn line(f: &mut fmt::Formatter<'_>, what: &str, text: &str) -> fmt::Result {
    writeln!(f, "  {what:<13} {text}")
}

fn ratio(one: u64, other: u64) -> f64 {
    one as f64 / other.max(1) as f64
}

pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Microseconds, in the unit that fits.
pub(super) fn span(micros: u64) -> String {
    match micros {
        0..10_000 => format!("{micros} µs"),
        10_000..10_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        _ => format!("{:.1} s", micros as f64 / 1e6),
    }
}

pub(super) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// A number with a comma after each three digits.
pub(super) fn grouped(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let timing = Arc::new(Timing::new());
        timing.record(Duration::from_micros(400));
        let cost = Cost {
            jobs: 1_000,
            time: Duration::from_secs(2),
            client_cpu: Duration::from_millis(500),
            server_cpu: Some(Duration::from_millis(250)),
            memory: Some(Memory {
                resident: 10_000_000,
                anonymous: 8_000_000,
                peak: 11_000_000,
            }),
        };
        let own = Line {
            what: "own",
            text: "three of them".to_owned(),
            values: vec![("own_jobs".to_owned(), json!(3))],
        };
        Report {
            setting: Setting {
                scenario: "latency",
                jobs: 1_000,
                payload: 100,
                clients: 1,
                workers: 1,
                concurrency: 1,
                batch: 1,
                outstanding: Some(1),
                rate: None,
                connections: 0,
                names: 1,
                observe: Duration::ZERO,
                keep_completed: None,
                dir: std::path::PathBuf::new(),
                log: None,
            },
            start: Duration::from_millis(20),
            fdatasync: Duration::from_micros(200),
            measured: Measured {
                in_syncs: true,
                lines: vec![own],
                ..Measured::new(cost, vec![(Label::Ack, timing)])
            },
        }
    }

    #[test]
    fn the_object_has_every_promised_field() {
        let json = report().json();
        for key in [
            "scenario",
            "jobs",
            "seconds",
            "jobs_per_s",
            "p50_us",
            "p99_us",
            "ack_p50_us",
            "own_jobs",
            "fdatasync_us",
            "server_rss_bytes",
            "server_rss_anon_bytes",
            "server_cpu_seconds",
            "client_cpu_seconds",
            "payload",
            "clients",
            "workers",
            "batch",
        ] {
            assert!(!json[key].is_null(), "{key} is missing in {json}");
        }
        assert_eq!(json["jobs_per_s"], 500);
        assert_eq!(json["p50_us"], 400);
        assert_eq!(json["ack_p50_fdatasyncs"], 2.0);
        assert_eq!(json["server_cpu_us_per_job"], 250.0);
    }

    #[test]
    fn the_text_says_what_a_latency_is_in_syncs() {
        let text = report().to_string();
        assert!(
            text.contains("2.00 and 2.00 x fdatasync, p99 = 1.0 x p50"),
            "{text}"
        );
        assert!(text.contains("250.00 µs a job"), "{text}");
        assert!(text.contains("own           three of them"), "{text}");
    }
}
