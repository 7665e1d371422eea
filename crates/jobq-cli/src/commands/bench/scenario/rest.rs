//! What a server does while nothing happens.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::cost::{Cost, Meter};
use super::super::report::Line;
use super::super::setup::Bench;

/// The cost of some time in which nothing happened.
pub(super) struct Rest {
    cost: Cost,
    /// How often the server was woken; none where the system does not tell.
    wakeups: Option<u64>,
}

impl Rest {
    /// Looks at the server for so long.
    pub(super) async fn observe(bench: &Bench, time: Duration, what: &'static str) -> Self {
        let sleeps = bench.server.sleeps();
        let meter = Meter::start(&bench.server);
        bench.wait(time, what).await;
        let wakeups = bench.server.sleeps().zip(sleeps);
        Self {
            cost: meter.stop(&bench.server, 0),
            wakeups: wakeups.map(|(now, before)| now.saturating_sub(before)),
        }
    }

    /// The keys begin with `what`.
    pub(super) fn line(&self, what: &'static str) -> Line {
        let seconds = self.cost.time.as_secs_f64();
        let percent = self.cost.server_core().map(|part| part * 100.0);
        let wakeups = self
            .wakeups
            .map(|wakeups| wakeups as f64 / seconds.max(f64::MIN_POSITIVE));
        let mut text = format!("for {seconds:.1} s");
        if let Some(percent) = percent {
            text += &format!(": the server took {percent:.2} % of a core");
        }
        if let Some(wakeups) = wakeups {
            text += &format!(", woken {wakeups:.1} times a second");
        }
        let values = [
            ("seconds", json!(seconds)),
            ("server_core_percent", percent.map_or(Value::Null, Value::from)),
            ("server_wakeups_per_s", wakeups.map_or(Value::Null, Value::from)),
        ];
        let values = values
            .map(|(name, value)| (format!("{what}_{name}"), value))
            .into();
        Line { what, text, values }
    }
}
