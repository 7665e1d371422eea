//! jobq itself, by `jobq bench`.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::contest::{EACH, PAYLOAD, Phase};

/// Runs both scenarios.
pub(crate) fn compete(program: &Path, dir: &Path, jobs: u64) -> anyhow::Result<(Phase, Phase)> {
    let submit = bench(program, dir, "submit", jobs)?;
    let drain = bench(program, dir, "drain", jobs)?;
    Ok((submit, drain))
}

fn bench(program: &Path, dir: &Path, scenario: &str, jobs: u64) -> anyhow::Result<Phase> {
    let output = Command::new(program)
        .args(["bench", scenario, "--json"])
        .args(["--jobs", &jobs.to_string()])
        .args(["--payload", &PAYLOAD.to_string()])
        .args(["--batch", &EACH.to_string()])
        .arg("--dir")
        .arg(dir)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("failed to start {}", program.display()))?;
    ensure!(
        output.status.success(),
        "jobq bench {scenario} ended with {}",
        output.status
    );
    let figures: Value =
        serde_json::from_slice(&output.stdout).context("jobq bench --json does not print one object")?;
    let figure = |key: &str| {
        let value = figures.get(key).and_then(Value::as_f64);
        value.with_context(|| format!("jobq bench does not say {key}: {figures}"))
    };
    Ok(Phase {
        jobs,
        seconds: figure("seconds")?,
        server_cpu: figure("server_cpu_seconds").ok(),
        client_cpu: figure("client_cpu_seconds")?,
    })
}
