//! The scenario that measures what connections cost that do nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, bail};
use futures::stream::{self, StreamExt, TryStreamExt};
use jobq_client::{Endpoint, Session, SessionConfig, SessionEvent, Stats, Work};
use jobq_proto::ServerMessage;
use jobq_proto::message::{Holding, NameCredit};
use serde_json::json;
use tokio::task::JoinSet;

use super::super::report::{Line, Report, grouped};
use super::super::setting::Setting;
use super::super::setup::Bench;
use super::super::usage::Memory;
use super::latency;
use super::rest::Rest;

/// The name that idle workers wait for jobs of. There are none.
const IDLE_NAME: &str = "idle";

/// Connections that are made at a time.
const CONNECTING: usize = 64;

/// Memory and CPU time of a server with many connections that do nothing, half of them clients and half workers; and
/// the latency of single jobs beside them.
pub(in super::super) async fn idle(setting: &Setting) -> anyhow::Result<Report> {
    let bench = Bench::start(&latency::one_at_a_time(setting)).await?;
    let before = bench.server.memory();
    let peers = Peers::connect(&bench).await?;
    peers.check(&bench.stats().await?)?;
    let after = bench.server.memory();

    let rest = Rest::observe(&bench, setting.observe, "doing nothing").await;
    peers.check(&bench.stats().await?)?;

    let (expected, mut measured) = latency::measure(&bench).await?;
    peers.check(&bench.stats().await?)?;
    let lines = [peers.memory_line(before.zip(after)), rest.line("idle")];
    measured.lines.splice(..0, lines);
    drop(peers);
    bench.finish(&expected, measured).await
}

/// Connections that do nothing but what keeps them alive. Dropped, they are cut.
struct Peers {
    clients: u64,
    workers: u64,
    /// Each receives for ever, and sends a Beat when it is due: seldom, since it has nothing under way.
    sessions: JoinSet<()>,
    /// Connections that were lost.
    lost: Arc<AtomicU64>,
    /// Connections of the bench itself.
    own: u64,
}

impl Peers {
    async fn connect(bench: &Bench) -> anyhow::Result<Self> {
        let connections = bench.setting.connections;
        let workers = connections / 2;
        let endpoint: Endpoint = bench
            .server
            .address()
            .parse()
            .context("failed to read the server's address")?;
        let bar = bench.bar(connections, "connecting");
        let connect = |number: u64| {
            let (endpoint, bar) = (endpoint.clone(), &bar);
            async move {
                let session = connect(endpoint, number < workers).await;
                bar.inc(1);
                session
            }
        };
        let connected = stream::iter((0..connections).map(connect))
            .buffer_unordered(CONNECTING)
            .try_collect::<Vec<Session>>()
            .await;
        bar.finish_and_clear();
        let lost = Arc::new(AtomicU64::new(0));
        let mut sessions = JoinSet::new();
        for session in connected? {
            sessions.spawn(keep(session, Arc::clone(&lost)));
        }
        Ok(Self {
            clients: connections - workers,
            workers,
            sessions,
            lost,
            own: bench.clients.len() as u64,
        })
    }

    fn count(&self) -> u64 {
        self.clients + self.workers
    }

    /// # Errors
    /// A connection was lost, or the server counts others.
    fn check(&self, stats: &Stats) -> anyhow::Result<()> {
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > 0 || self.sessions.len() as u64 != self.count() {
            bail!("{lost} of {} idle connections were lost", self.count());
        }
        if stats.peers != self.count() + self.own || stats.workers != self.workers {
            bail!(
                "the counts disagree: there are {} connections with {} workers among them, and the server counts {} \
                 and {}",
                self.count() + self.own,
                self.workers,
                stats.peers,
                stats.workers,
            );
        }
        Ok(())
    }

    /// What each takes of the server's memory.
    fn memory_line(&self, memory: Option<(Memory, Memory)>) -> Line {
        let each = |bytes: fn(Memory) -> u64| {
            memory.map(|(before, after)| bytes(after).saturating_sub(bytes(before)) / self.count().max(1))
        };
        let (resident, anonymous) = (each(|memory| memory.resident), each(|memory| memory.anonymous));
        let mut text = format!(
            "{} clients and {} workers that do nothing",
            grouped(self.clients),
            grouped(self.workers)
        );
        if let Some((resident, anonymous)) = resident.zip(anonymous) {
            text += &format!(
                "; {} bytes of the server's memory each, {} of them anonymous",
                grouped(resident),
                grouped(anonymous)
            );
        }
        Line::new(
            "connections",
            text,
            [
                ("idle_connections", json!(self.count())),
                ("idle_clients", json!(self.clients)),
                ("idle_workers", json!(self.workers)),
                ("rss_bytes_per_connection", json!(resident)),
                ("rss_anon_bytes_per_connection", json!(anonymous)),
            ],
        )
    }
}

/// A session that the server has welcomed.
async fn connect(endpoint: Endpoint, is_worker: bool) -> anyhow::Result<Session> {
    let mut config = SessionConfig::new(endpoint);
    config.label = "jobq bench idle".to_owned();
    config.work = is_worker.then(|| Work {
        names: vec![NameCredit {
            name: IDLE_NAME.to_owned(),
            jobs: 1,
        }],
        jobs: 1,
        bytes: jobq_worker::Runtime::CREDIT_BYTES,
        prefetch: 0,
    });
    let mut session = Session::new(config);
    let mut events = Vec::new();
    session
        .recv(&mut events)
        .await
        .context("failed to connect an idle peer")?;
    match events.into_iter().next() {
        Some(SessionEvent::Connected { .. }) => {}
        other => bail!("failed to connect an idle peer: {other:?}"),
    }
    if is_worker {
        // What every worker says first.
        let held = ServerMessage::Holding(Holding { runs: Vec::new() });
        session
            .send(&held)
            .context("failed to say that an idle worker holds nothing")?;
        session.flush();
    }
    Ok(session)
}

/// Keeps a session alive, and counts the connections that it loses.
async fn keep(mut session: Session, lost: Arc<AtomicU64>) {
    let mut events = Vec::new();
    session.set_busy(false);
    loop {
        let heard = session.recv(&mut events).await;
        let is_lost = |event: &SessionEvent| matches!(event, SessionEvent::Disconnected { .. });
        if heard.is_err() || events.iter().any(is_lost) {
            lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        events.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_connection_and_one_that_the_server_does_not_count_are_errors() {
        let peers = Peers {
            clients: 0,
            workers: 0,
            sessions: JoinSet::new(),
            lost: Arc::default(),
            own: 1,
        };
        let stats = |peers, workers| Stats {
            peers,
            workers,
            ..Stats::default()
        };
        peers.check(&stats(1, 0)).expect("they agree");
        for (connections, workers) in [(2, 0), (0, 0), (1, 1)] {
            let error = peers.check(&stats(connections, workers));
            let error = error.expect_err("they disagree").to_string();
            assert!(error.contains("the counts disagree"), "{error}");
        }
        peers.lost.fetch_add(1, Ordering::Relaxed);
        peers.check(&stats(1, 0)).expect_err("one was lost");
    }
}
