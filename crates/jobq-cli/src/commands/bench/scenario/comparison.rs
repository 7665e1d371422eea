//! A speed beside the same speed in another situation.

use serde_json::json;

use super::super::cost::Cost;
use super::super::report::{Line, grouped};

/// Compares a cost with that of the base; the keys begin with `key`.
pub(super) fn comparison(
    what: &'static str,
    key: &str,
    (cost, situation): (&Cost, &str),
    (base, base_situation): (&Cost, &str),
) -> Line {
    let (speed, base_speed) = (cost.jobs_per_second(), base.jobs_per_second());
    let ratio = speed / base_speed;
    let text = format!(
        "{} jobs/s {situation}, {} {base_situation}: {ratio:.2} x",
        grouped(speed.round() as u64),
        grouped(base_speed.round() as u64),
    );
    let values = [
        ("jobs_per_s", json!(speed.round() as u64)),
        ("base_jobs_per_s", json!(base_speed.round() as u64)),
        ("ratio", json!(ratio)),
        ("server_cpu_us_per_job", json!(cost.server_cpu_per_job())),
        ("base_server_cpu_us_per_job", json!(base.server_cpu_per_job())),
    ];
    let values = values
        .map(|(name, value)| (format!("{key}_{name}"), value))
        .into();
    Line { what, text, values }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn half_the_speed_is_half() {
        let base = Cost {
            jobs: 1_000,
            time: Duration::from_secs(1),
            client_cpu: Duration::ZERO,
            server_cpu: Some(Duration::from_millis(10)),
            memory: None,
        };
        let cost = Cost {
            time: Duration::from_secs(2),
            ..base
        };
        let line = comparison("working", "drain", (&cost, "then"), (&base, "now"));
        assert_eq!(line.text, "500 jobs/s then, 1,000 now: 0.50 x");
        let value = |key: &str| line.values.iter().find(|(name, _)| name == key);
        assert_eq!(
            value("drain_ratio"),
            Some(&("drain_ratio".to_owned(), json!(0.5)))
        );
        assert!(value("drain_server_cpu_us_per_job").is_some());
    }
}
