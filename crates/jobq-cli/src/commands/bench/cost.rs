//! What a part of a scenario costs: time, CPU time of both processes, and the server's memory.

use std::time::{Duration, Instant};

use super::server::Server;
use super::usage::{self, Memory};

/// What it took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    /// The jobs that it was spent on.
    pub(super) jobs: u64,
    pub(super) time: Duration,
    pub(super) client_cpu: Duration,
    /// None where the system does not tell.
    pub(super) server_cpu: Option<Duration>,
    /// The server's at the end; none where the system does not tell.
    pub(super) memory: Option<Memory>,
}

impl Cost {
    pub(super) fn jobs_per_second(&self) -> f64 {
        self.jobs as f64 / self.time.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// Microseconds of CPU time of the server a job.
    pub(super) fn server_cpu_per_job(&self) -> Option<f64> {
        self.server_cpu.map(|cpu| self.per_job(cpu))
    }

    /// Microseconds of CPU time of this process a job.
    pub(super) fn client_cpu_per_job(&self) -> f64 {
        self.per_job(self.client_cpu)
    }

    /// The CPU time of the server as a part of one core.
    pub(super) fn server_core(&self) -> Option<f64> {
        let time = self.time.as_secs_f64().max(f64::MIN_POSITIVE);
        self.server_cpu.map(|cpu| cpu.as_secs_f64() / time)
    }

    /// All of them, one after the other: at least one.
    pub(super) fn of_all(costs: &[Self]) -> Self {
        let all = costs.iter().copied().reduce(Self::and);
        all.expect("what was measured has at least one round")
    }

    /// Both, one after the other.
    pub(super) fn and(self, next: Self) -> Self {
        let server_cpu = self.server_cpu.zip(next.server_cpu);
        Self {
            jobs: self.jobs + next.jobs,
            time: self.time + next.time,
            client_cpu: self.client_cpu + next.client_cpu,
            server_cpu: server_cpu.map(|(one, other)| one + other),
            memory: next.memory,
        }
    }

    fn per_job(&self, cpu: Duration) -> f64 {
        cpu.as_secs_f64() * 1e6 / self.jobs.max(1) as f64
    }
}

/// Measures it.
pub(super) struct Meter {
    begun: Instant,
    server_cpu: Option<Duration>,
    client_cpu: Duration,
}

impl Meter {
    pub(super) fn start(server: &Server) -> Self {
        Self {
            server_cpu: server.cpu(),
            client_cpu: usage::own_cpu(),
            begun: Instant::now(),
        }
    }

    /// The cost until now, of so many jobs.
    pub(super) fn stop(self, server: &Server, jobs: u64) -> Cost {
        let time = self.begun.elapsed();
        let server_cpu = server.cpu().zip(self.server_cpu);
        Cost {
            jobs,
            time,
            client_cpu: usage::own_cpu().saturating_sub(self.client_cpu),
            server_cpu: server_cpu.map(|(now, before)| now.saturating_sub(before)),
            memory: server.memory(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: Cost = Cost {
        jobs: 1_000,
        time: Duration::from_secs(2),
        client_cpu: Duration::from_millis(500),
        server_cpu: Some(Duration::from_millis(250)),
        memory: None,
    };

    #[test]
    fn two_costs_after_each_other_are_one_of_the_jobs_of_both() {
        let both = COST.and(COST);
        assert_eq!((both.jobs, both.time), (2_000, Duration::from_secs(4)));
        assert_eq!(both.jobs_per_second(), 500.0);
        assert_eq!(both.server_cpu_per_job(), Some(250.0));
        assert_eq!(both.client_cpu_per_job(), 500.0);
        assert_eq!(both.server_core(), Some(0.125));
    }

    #[test]
    fn what_is_not_known_of_one_is_not_known_of_both() {
        let unknown = Cost {
            server_cpu: None,
            ..COST
        };
        assert_eq!(COST.and(unknown).server_cpu_per_job(), None);
    }
}
