//! A proxy that mistreats the connections that go through it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::Chance;

/// Most bytes that are forwarded at a time.
const CHUNK: usize = 4096;

/// Bytes after which something happens to a connection, at most: some of it during the Hello, some later.
const MOST_BEFORE: u64 = 12_000;

/// Longest delay of a chunk, in milliseconds.
const MOST_DELAY: u64 = 25;

/// What a slow line carries in a millisecond, in bytes.
const SLOW: usize = 24;

/// What is done to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Manner {
    /// It is closed after some bytes.
    Cut,
    /// Each chunk is held up.
    Delay,
    /// Each byte is sent by itself.
    Split,
    /// Some bytes are sent twice.
    Repeat,
    /// After some bytes nothing more goes through, and nobody is told.
    Silence,
    /// It carries little at a time.
    Slow,
}

impl Manner {
    /// Those that a queue has to get over.
    pub(super) const ROUGH: [Self; 5] = [Self::Cut, Self::Delay, Self::Split, Self::Repeat, Self::Silence];

    fn name(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Delay => "delayed",
            Self::Split => "split",
            Self::Repeat => "repeated",
            Self::Silence => "silenced",
            Self::Slow => "slow",
        }
    }
}

/// The proxy. Dropped, it closes everything.
pub(super) struct Proxy {
    address: String,
    manners: watch::Sender<Vec<Manner>>,
    counts: Arc<Mutex<BTreeMap<String, usize>>>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Listens, and forwards to the server at `server` (`tcp://…`) in one of these manners.
    pub(super) async fn start(server: &str, manners: &[Manner], chance: Chance) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("the system has a port");
        let address = listener.local_addr().expect("it listens");
        let server = server
            .strip_prefix("tcp://")
            .expect("it is reached by TCP")
            .to_owned();
        let manners = watch::Sender::new(manners.to_vec());
        let counts = Arc::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(
            listener,
            server,
            manners.subscribe(),
            Arc::clone(&counts),
            chance,
        ));
        Self {
            address: format!("tcp://{address}"),
            manners,
            counts,
            _tasks: tasks,
        }
    }

    /// Where it listens.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Closes the connections that there are; new ones are left alone.
    pub(super) fn heal(&self) {
        self.manners.send_replace(Vec::new());
    }

    /// What it did, and to how many connections.
    pub(super) fn counts(&self) -> BTreeMap<String, usize> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn accept(
    listener: TcpListener,
    server: String,
    manners: watch::Receiver<Vec<Manner>>,
    counts: Arc<Mutex<BTreeMap<String, usize>>>,
    mut chance: Chance,
) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        while connections.try_join_next().is_some() {}
        let mut manners = manners.clone();
        let drawn = {
            let manners = manners.borrow_and_update();
            (!manners.is_empty()).then(|| *chance.pick(&manners))
        };
        if let Some(manner) = drawn {
            *counts
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(manner.name().to_owned())
                .or_default() += 1;
        }
        let (server, chance) = (server.clone(), chance.branch());
        connections.spawn(async move {
            // Errors end the connection, as they would without a proxy.
            let Ok(server) = TcpStream::connect(server).await else {
                return;
            };
            let Some(manner) = drawn else {
                let (mut client, mut server) = (client, server);
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                return;
            };
            tokio::select! {
                _ = forward(client, server, manner, chance) => {}
                _ = manners.changed() => {}
            }
        });
    }
}

/// Forwards both ways until one of them ends.
async fn forward(client: TcpStream, server: TcpStream, manner: Manner, mut chance: Chance) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let back = chance.branch();
    tokio::select! {
        ended = pump(from_client, to_server, manner, chance) => ended,
        ended = pump(from_server, to_client, manner, back) => ended,
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    manner: Manner,
    mut chance: Chance,
) -> io::Result<()> {
    let mut buffer = [0; CHUNK];
    let most = if manner == Manner::Slow { SLOW } else { CHUNK };
    let mut before = usize::try_from(chance.between(1, MOST_BEFORE)).expect("it is small");
    loop {
        let read = from.read(&mut buffer[..most]).await?;
        if read == 0 {
            return Ok(());
        }
        let chunk = &buffer[..read];
        let due = before <= read;
        match manner {
            Manner::Cut if due => return to.write_all(&chunk[..before]).await,
            Manner::Silence if due => {
                to.write_all(&chunk[..before]).await?;
                match std::future::pending::<Infallible>().await {}
            }
            Manner::Repeat if due => {
                let again = usize::try_from(chance.between(0, before as u64 - 1)).expect("it is an index");
                to.write_all(&chunk[..before]).await?;
                to.write_all(&chunk[again..]).await?;
                before = usize::MAX;
                continue;
            }
            Manner::Split => {
                for byte in chunk {
                    to.write_all(std::slice::from_ref(byte)).await?;
                    tokio::task::yield_now().await;
                }
            }
            Manner::Delay => {
                tokio::time::sleep(Duration::from_millis(chance.between(0, MOST_DELAY))).await;
                to.write_all(chunk).await?;
            }
            Manner::Slow => {
                to.write_all(chunk).await?;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Manner::Cut | Manner::Silence | Manner::Repeat => to.write_all(chunk).await?,
        }
        before = before.saturating_sub(read).max(1);
    }
}
