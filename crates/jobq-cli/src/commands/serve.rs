//! `jobq serve`: a server, until a signal ends it.

mod limits;
mod listening;
mod peers;
mod ready_file;
mod retention;

use std::io::Write;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow};
use jobq_server::store::{SqliteSettings, StoreError};
use jobq_server::{Config, ReloadError, RunningServer, ServeError, Server, StartError, Stop};
use jobq_transport::TransportError;

use crate::cli::Global;
use crate::exit::Exit;
use crate::signals::{Hangups, Signals};
use crate::values::number;
use crate::{sizes, times};

use limits::Limits;
use listening::Listening;
use peers::Peers;
use ready_file::ReadyFile;
use retention::Retention;

/// The flags of `jobq serve`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Once it is up, it writes one line for each address to standard output, such as
`listening on tcp://127.0.0.1:7420`. With port 0 the system picks a port, and
the line says which.

SIGTERM or SIGINT stops it: it takes no more jobs, gives workers --drain to
finish theirs, and closes its store. A second signal stops it at once; what
workers have then is theirs when it is back.

SIGHUP has it read its certificates and tokens again. Connections go on, save for
those of tokens that were revoked. When the terminal it was started on is closed,
it stops as by SIGTERM.

Clients have to show a token if there is a list of them in the data directory
(`jobq token`), or one in JOBQ_TOKEN or --token-file that all may share, and
a certificate if there is --tls-client-ca. An address that other machines reach
needs one of both, and TLS: `jobq cert init` makes what that takes.

Examples:
  jobq serve
  jobq serve --data /var/lib/jobq --listen tcp://127.0.0.1:7420 --listen unix:///run/jobq.sock
  jobq serve --listen tls://0.0.0.0:7420 --tls-cert server.pem --tls-key server.key --token-file token
  jobq serve --cap thumbnail=4 --cap mail.send=1")]
pub(crate) struct Args {
    #[command(flatten)]
    listening: Listening,
    /// Keep the jobs in this directory; it is made if need be
    #[arg(long, value_name = "DIR", default_value = "./jobq-data")]
    data: PathBuf,
    /// Keep so many bytes of the disk free: below, no job is taken or handed out until there is room again
    ///
    /// What is under way still ends: results, failures and cancellations are kept, in the reserve if need be. Clients
    /// are told storage_full. A file named ballast, a quarter of the reserve, is given up when even that is used up,
    /// and made again afterwards. On a small file system the reserve is a quarter of it at most. 0 for none.
    #[arg(long, value_name = "SIZE", value_parser = sizes::size, default_value = "256MB")]
    reserve: u64,
    /// Start although the database lacks commits that were acknowledged: it becomes another store
    ///
    /// A server refuses to start when its database ends before the last commit that it acknowledged, as when its log
    /// was lost or an older copy took its place. With this flag it starts with what is there. Jobs that were
    /// submitted since are gone, jobs that ended since may run again, and workers begin new sessions. Give it once,
    /// and not in a unit file.
    #[arg(long)]
    accept_loss: bool,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    retention: Retention,
    #[command(flatten)]
    peers: Peers,
    /// Try a job so often, unless it says otherwise
    #[arg(long, value_name = "N", value_parser = number::<u32>(1..=10_000))]
    max_attempts: Option<u32>,
    /// Take a worker's jobs away when it has been silent for so long
    #[arg(long, value_name = "DURATION", value_parser = ttl, default_value = "30s")]
    ttl: Duration,
    /// Let a worker whose connection was lost keep its jobs for so long, in case it comes back
    #[arg(long, value_name = "DURATION", value_parser = times::duration, default_value = "5s")]
    grace: Duration,
    /// When stopping, wait so long for workers to finish or give back what they have
    #[arg(long, value_name = "DURATION", value_parser = times::duration, default_value = "10s")]
    drain: Duration,
    /// Write the addresses to this file once it is up, one a line
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// Stop when the process that started this one ends, however it ends
    #[cfg(target_os = "linux")]
    #[arg(long, hide = true)]
    with_parent: bool,
}

/// Shortest time-to-live of a session: workers have to have a few beats within it.
const MIN_TTL: Duration = Duration::from_secs(1);

/// Longest one: a day in which the jobs of a dead worker go nowhere.
const MAX_TTL: Duration = Duration::from_secs(24 * 3600);

pub(crate) async fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    // Before anything else, so that no signal ends a server that has opened its store.
    let mut signals = Signals::new()?;
    let mut hangups = Hangups::new()?;
    let shared = global.token()?;
    let config = config(&args, shared.clone());
    let server = Server::new().config(config).data(&args.data);
    let server = server.read_tokens().map_err(|error| cannot_start(error.into()))?;
    args.listening.check(server.asks_for_token())?;
    args.listening.check_token(shared.as_deref())?;
    let server = args.listening.apply(server, global)?;
    #[cfg(target_os = "linux")]
    if args.with_parent {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))
            .context("failed to be told of the parent's end")?;
    }
    let ready = args.ready_file.as_deref().map(ReadyFile::prepare).transpose()?;
    let mut store = SqliteSettings::default();
    store.reserve = args.reserve;
    store.accept_loss = args.accept_loss;
    let mut server = server
        .router(args.peers.router())
        .store(store)
        .start()
        .await
        .map_err(cannot_start)?;
    announce(&server, ready)?;
    serve(&mut server, &mut signals, &mut hangups).await
}

fn config(args: &Args, token: Option<String>) -> Config {
    let mut config = Config::default();
    config.token = token;
    config.max_attempts = args
        .max_attempts
        .and_then(NonZeroU32::new)
        .unwrap_or(config.max_attempts);
    config.ttl = args.ttl;
    config.grace = args.grace.min(args.ttl);
    // Three beats have to be lost for a session to be.
    config.beat = config.beat.min(args.ttl / 3);
    // Who wants silent workers noticed soon, wants to know of idle ones too.
    config.idle_beat = config.idle_beat.min(args.ttl * 4);
    config.close_within = args.drain;
    args.limits.apply(&mut config);
    args.retention.apply(&mut config);
    args.peers.apply(&mut config);
    config
}

/// Serves until the server ends by itself, or two signals have been heeded. The third ends the program where it is.
async fn serve(
    server: &mut RunningServer,
    signals: &mut Signals,
    hangups: &mut Hangups,
) -> anyhow::Result<Exit> {
    let stopper = server.stopper();
    let mut stops = [
        (Stop::Graceful, "stopping; a second signal stops at once"),
        (Stop::Now, "stopping at once"),
    ]
    .into_iter();
    loop {
        let is_to_stop = tokio::select! {
            result = server.wait() => return ended(result),
            () = hangups.recv() => hangups.terminal_is_gone(),
            () = signals.recv() => true,
        };
        if !is_to_stop {
            reload(server);
            continue;
        }
        let Some((stop, says)) = stops.next() else {
            return Ok(Exit::Interrupted);
        };
        tracing::info!("{says}");
        stopper.stop(stop);
    }
}

/// A server that cannot use its new files goes on with the old ones: whoever asked reads the log.
fn reload(server: &RunningServer) {
    let (tokens, tls) = match server.reload() {
        Ok(()) => return tracing::info!("reloaded"),
        Err(ReloadError::Tokens(tokens)) => (Some(tokens), None),
        Err(ReloadError::Tls(tls)) => (None, Some(tls)),
        Err(ReloadError::Both { tokens, tls }) => (Some(tokens), Some(tls)),
        Err(error) => return tracing::error!("failed to reload: {error}"),
    };
    match tokens {
        None => tracing::info!("the list of tokens is reloaded"),
        Some(error) => {
            tracing::error!(
                "failed to reload the list of tokens: {error}; what was read before stays in use"
            );
        }
    }
    match tls {
        None => tracing::info!("the certificates are reloaded, if it has any"),
        Some(error) => {
            tracing::error!("failed to reload the certificates: {error}; those read before stay in use");
        }
    }
}

fn ended(result: Result<(), ServeError>) -> anyhow::Result<Exit> {
    match result {
        Ok(()) => {
            tracing::info!("stopped");
            Ok(Exit::Ok)
        }
        Err(ServeError::Store(error)) => {
            let (exit, advice) = match &error {
                error if error.is_corruption() => (Exit::Damaged, CHECK_FIRST),
                error if error.is_full() => (Exit::StoreFailed, "Workers repeat what they were not answered"),
                _ => (
                    Exit::StoreFailed,
                    "Look at the disk before starting the server again",
                ),
            };
            Err(exit.because(anyhow!(
                "failed to go on serving: the store failed: {error}; nothing was acknowledged after that. {advice}"
            )))
        }
        Err(error) => Err(error).context("failed to go on serving"),
    }
}

/// What to do about a damaged database.
const CHECK_FIRST: &str =
    "Look at the disk, and run `jobq check` on the data directory before starting the server again";

fn cannot_start(error: StartError) -> anyhow::Error {
    if let StartError::Store(error) = &error
        && error.is_damage()
    {
        let exit = if error.is_corruption() {
            Exit::Damaged
        } else {
            Exit::StoreFailed
        };
        return exit.because(anyhow!("failed to start the server: {error}. {CHECK_FIRST}"));
    }
    let advice = match &error {
        StartError::Transport(TransportError::Bind { source, .. }) => match source.kind() {
            std::io::ErrorKind::AddrInUse => {
                "; another program listens there: stop it, or choose another --listen"
            }
            std::io::ErrorKind::PermissionDenied => {
                "; choose another --listen: a port above 1023, or a socket where this user may write"
            }
            std::io::ErrorKind::AddrNotAvailable => {
                "; this machine does not have that address: choose another --listen"
            }
            _ => "",
        },
        StartError::Store(error) if error.is_full() => "; its disk is full: make room",
        StartError::Store(StoreError::Directory { .. }) => {
            "; it has to be a directory that this user can write to: choose another --data"
        }
        _ => "",
    };
    Exit::CannotStart.because(anyhow!("failed to start the server: {error}{advice}"))
}

/// Tells whoever waits for it where the server listens: the file first, since it may not be possible to write it.
fn announce(server: &RunningServer, ready: Option<ReadyFile>) -> anyhow::Result<()> {
    if let Some(ready) = ready {
        let addresses = server.addresses().iter();
        ready.write(
            &addresses
                .map(|address| format!("{address}\n"))
                .collect::<String>(),
        )?;
    }
    let mut stdout = std::io::stdout().lock();
    for address in server.addresses() {
        // A server goes on without anybody reading its output.
        let _ = writeln!(stdout, "listening on {address}");
    }
    let _ = stdout.flush();
    Ok(())
}

fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = times::duration(text)?;
    if (MIN_TTL..=MAX_TTL).contains(&ttl) {
        Ok(ttl)
    } else {
        Err("it has to be from 1s to 24h".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_has_three_beats_within_its_time() {
        assert!(ttl("500ms").is_err() && ttl("2d").is_err());
        assert_eq!(ttl("3s"), Ok(Duration::from_secs(3)));
    }
}
