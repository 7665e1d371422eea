//! What came of it.

use serde_json::json;

use crate::Args;
use crate::contest::{Outcome, PAYLOAD, Phase};

/// A client that takes more than this part of its server's CPU time may hold the server up.
const LIGHT: f64 = 0.5;

/// Prints a table in Markdown, jobq first.
pub(crate) fn table(args: &Args, outcomes: &[Outcome]) {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!(
        "{} jobs of {PAYLOAD} bytes, one connection, {cores} cores for client and server; medians of {} rounds, each with all \
         in turns. jobq ×: jobq's speed by the peer's. CPU: microseconds a job of server + client.\n",
        thousands(args.jobs as f64),
        args.rounds
    );
    println!("| | on disk at the acknowledgement | submit/s | jobq × | CPU | drain/s | jobq × | CPU |");
    println!("|---|---|---:|---:|---:|---:|---:|---:|");
    let jobq = &outcomes[0];
    for outcome in outcomes {
        let cells = |phases: &[Phase], of_jobq: &[Phase]| {
            let speed = median(phases, Phase::speed);
            let ratio = median(of_jobq, Phase::speed) / speed;
            format!("{} | {ratio:.1} | {}", thousands(speed), cpu(phases))
        };
        println!(
            "| {} | {} | {} | {} |",
            outcome.name,
            outcome.on_disk,
            cells(&outcome.submit, &jobq.submit),
            cells(&outcome.drain, &jobq.drain)
        );
    }
    // jobq's client has a worker in it, which is a part of what is measured.
    for outcome in &outcomes[1..] {
        for (what, phases) in [("submit", &outcome.submit), ("drain", &outcome.drain)] {
            let part = median(phases, |phase| {
                let server = phase.server_cpu.filter(|time| *time > 0.0);
                server.map_or(0.0, |server| phase.client_cpu / server)
            });
            if part > LIGHT {
                println!(
                    "\n{}, {what}: the client took {:.0} % of the server's CPU time, and may have held it up.",
                    outcome.name,
                    part * 100.0
                );
            }
        }
    }
}

/// Prints one object a line, jobq first, with the figures of each round.
pub(crate) fn json(outcomes: &[Outcome]) {
    for outcome in outcomes {
        let object = json!({
            "name": outcome.name,
            "on_disk": outcome.on_disk,
            "submit": figures(&outcome.submit),
            "drain": figures(&outcome.drain),
        });
        println!("{object}");
    }
}

fn figures(phases: &[Phase]) -> serde_json::Value {
    let all = |figure: fn(&Phase) -> f64| phases.iter().map(figure).collect::<Vec<f64>>();
    json!({
        "jobs": phases.first().map(|phase| phase.jobs),
        "jobs_per_s": median(phases, Phase::speed).round(),
        "rounds_jobs_per_s": all(|phase| phase.speed().round()),
        "rounds_seconds": all(|phase| phase.seconds),
        "rounds_server_cpu_seconds": phases.iter().map(|phase| phase.server_cpu).collect::<Vec<_>>(),
        "rounds_client_cpu_seconds": all(|phase| phase.client_cpu),
    })
}

fn cpu(phases: &[Phase]) -> String {
    let micros = |seconds: f64, phase: &Phase| seconds / phase.jobs as f64 * 1e6;
    let client = median(phases, |phase| micros(phase.client_cpu, phase));
    if phases.iter().any(|phase| phase.server_cpu.is_none()) {
        return format!("? + {client:.1}");
    }
    let server = median(phases, |phase| {
        micros(phase.server_cpu.unwrap_or_default(), phase)
    });
    format!("{server:.1} + {client:.1}")
}

impl Phase {
    /// Jobs a second.
    fn speed(&self) -> f64 {
        self.jobs as f64 / self.seconds
    }
}

/// The middle one, or the mean of the two in the middle; 0 for none.
fn median(phases: &[Phase], figure: impl Fn(&Phase) -> f64) -> f64 {
    let mut all: Vec<f64> = phases.iter().map(figure).collect();
    all.sort_by(f64::total_cmp);
    match all.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => all[odd / 2],
        even => (all[even / 2 - 1] + all[even / 2]) / 2.0,
    }
}

/// A whole number with commas.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_commas_between_thousands() {
        let shown = [0.0, 999.4, 1_000.0, 123_456.0, 1_234_567.0].map(thousands);
        assert_eq!(shown, ["0", "999", "1,000", "123,456", "1,234,567"]);
    }

    #[test]
    fn the_median_is_in_the_middle() {
        let phases = [3.0, 1.0, 2.0, 10.0].map(|seconds| Phase {
            jobs: 1,
            seconds,
            server_cpu: None,
            client_cpu: 0.0,
        });
        let of = |some: &[Phase]| median(some, |phase| phase.seconds);
        assert_eq!((of(&phases), of(&phases[..3]), of(&[])), (2.5, 2.0, 0.0));
    }
}
