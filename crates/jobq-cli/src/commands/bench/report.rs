//! The figures of a scenario, for people and for programs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::scenario::Setting;
use super::server::Memory;
use super::timing::Timing;

/// Below this a sync cannot have reached a disk.
const IN_MEMORY: Duration = Duration::from_micros(5);

/// What was measured.
pub(super) struct Report {
    pub(super) setting: Setting,
    /// From the start of the server's process until it listened.
    pub(super) start: Duration,
    pub(super) fdatasync: Duration,
    pub(super) cost: Cost,
    /// At least one; the first is the scenario's own.
    pub(super) timings: Vec<(Label, Arc<Timing>)>,
}

/// What it took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    pub(super) time: Duration,
    pub(super) client_cpu: Duration,
    /// None where the system does not tell.
    pub(super) server_cpu: Option<Duration>,
    /// None where the system does not tell.
    pub(super) memory: Option<Memory>,
}

/// What a time is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Label {
    Ack,
    Started,
    Settled,
    Result,
}

impl Label {
    fn key(self) -> &'static str {
        match self {
            Self::Ack => "ack",
            Self::Started => "started",
            Self::Settled => "settled",
            Self::Result => "result",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Ack => "acknowledged",
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
            cost,
            timings,
        } = self;
        let mut object = Map::new();
        let mut put = |key: &str, value: Value| {
            object.insert(key.to_owned(), value);
        };
        put("scenario", json!(setting.scenario));
        put("jobs", json!(setting.jobs));
        put("seconds", json!(cost.time.as_secs_f64()));
        put("jobs_per_s", json!(self.jobs_per_second().round() as u64));
        if let Some((_, timing)) = timings.first() {
            put("p50_us", json!(timing.p50()));
            put("p99_us", json!(timing.p99()));
        }
        for (label, timing) in timings {
            put(&format!("{}_p50_us", label.key()), json!(timing.p50()));
            put(&format!("{}_p99_us", label.key()), json!(timing.p99()));
        }
        put("fdatasync_us", json!(micros(*fdatasync)));
        put(
            "server_rss_bytes",
            json!(cost.memory.map(|memory| memory.resident)),
        );
        put(
            "server_peak_rss_bytes",
            json!(cost.memory.map(|memory| memory.peak)),
        );
        put(
            "server_cpu_seconds",
            json!(cost.server_cpu.map(|cpu| cpu.as_secs_f64())),
        );
        put("client_cpu_seconds", json!(cost.client_cpu.as_secs_f64()));
        put("server_start_us", json!(micros(*start)));
        put("payload", json!(setting.payload));
        put("clients", json!(setting.clients));
        put("workers", json!(setting.workers));
        put("concurrency", json!(setting.concurrency));
        put("batch", json!(setting.batch));
        Value::Object(object)
    }

    fn jobs_per_second(&self) -> f64 {
        self.setting.jobs as f64 / self.cost.time.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    fn per_job(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() * 1e6 / self.setting.jobs as f64
    }

    /// What a time is in syncs; told where jobs come one by one, and where there is a disk.
    fn ratio(&self, micros: u64) -> String {
        if self.setting.batch > 1 || self.setting.scenario != "latency" || self.fdatasync < IN_MEMORY {
            return String::new();
        }
        format!(
            "   p50 = {:.1} x fdatasync",
            micros as f64 / (self.fdatasync.as_secs_f64() * 1e6)
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let setting = &self.setting;
        writeln!(
            f,
            "{}: {} jobs of {} bytes; clients {}, batch {}; workers {}, concurrency {}",
            setting.scenario,
            grouped(setting.jobs),
            setting.payload,
            setting.clients,
            setting.batch,
            setting.workers,
            setting.concurrency
        )?;
        let speed = grouped(self.jobs_per_second().round() as u64);
        line(
            f,
            "speed",
            &format!("{speed} jobs/s, {:.2} s in all", self.cost.time.as_secs_f64()),
        )?;
        for (label, timing) in &self.timings {
            let (p50, p99) = (timing.p50(), timing.p99());
            let text = format!("p50 {:>9}   p99 {:>9}{}", span(p50), span(p99), self.ratio(p50));
            line(f, label.text(), &text)?;
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
        let mut server = format!("up in {}", span(micros(self.start)));
        if let Some(cpu) = self.cost.server_cpu {
            server += &format!(
                ", {:.2} s of CPU, {:.2} µs a job",
                cpu.as_secs_f64(),
                self.per_job(cpu)
            );
        }
        if let Some(Memory { resident, peak }) = self.cost.memory {
            server += &format!(", {} of memory, {} at most", megabytes(resident), megabytes(peak));
        }
        line(f, "server", &server)?;
        let cpu = self.cost.client_cpu;
        let client = format!(
            "{:.2} s of CPU, {:.2} µs a job",
            cpu.as_secs_f64(),
            self.per_job(cpu)
        );
        line(f, "client", &client)
    }
}

fn line(f: &mut fmt::Formatter<'_>, what: &str, text: &str) -> fmt::Result {
    writeln!(f, "  {what:<13} {text}")
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Microseconds, in the unit that fits.
fn span(micros: u64) -> String {
    match micros {
        0..10_000 => format!("{micros} µs"),
        10_000..10_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        _ => format!("{:.1} s", micros as f64 / 1e6),
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// A number with a comma after each three digits.
fn grouped(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let timing = Arc::new(Timing::new());
        timing.record(Duration::from_micros(400));
        Report {
            setting: Setting {
                scenario: "latency",
                jobs: 1_000,
                payload: 100,
                clients: 1,
                workers: 1,
                concurrency: 1,
                batch: 1,
                dir: std::path::PathBuf::new(),
                log: None,
            },
            start: Duration::from_millis(20),
            fdatasync: Duration::from_micros(200),
            cost: Cost {
                time: Duration::from_secs(2),
                client_cpu: Duration::from_millis(500),
                server_cpu: Some(Duration::from_millis(250)),
                memory: Some(Memory {
                    resident: 10_000_000,
                    peak: 11_000_000,
                }),
            },
            timings: vec![(Label::Ack, timing)],
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
            "fdatasync_us",
            "server_rss_bytes",
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
    }

    #[test]
    fn the_text_says_what_a_latency_is_in_syncs() {
        let text = report().to_string();
        assert!(text.contains("p50 = 2.0 x fdatasync"), "{text}");
        assert!(text.contains("250.00 µs a job"), "{text}");
    }
}
