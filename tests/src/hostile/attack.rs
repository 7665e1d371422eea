//! What hostile peers do.

use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use jobq_proto::message::{Beat, Hello, NameCredit, Query, Request, Submission, Watch, Work};
use jobq_proto::{PROTOCOL_VERSION, ServerMessage};
use jobq_transport::codec::encode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

use super::Shared;
use crate::Chance;
use crate::peer::frame;

/// What one kind of hostile peer does, over and over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attack {
    /// Connects and says nothing.
    Silent,
    /// Sends its Hello byte by byte.
    Trickle,
    /// Sends all of the longest frame but its last byte.
    Hoard,
    /// Asks for long answers and reads none.
    Deaf,
    /// Reads one byte now and then of long answers.
    Sip,
    /// Submits what is refused, as fast as it can, and reads no answer.
    Flood,
    /// Sends long lists of nothing.
    Wide,
    /// Sends random bytes after a good Hello.
    Garbage,
    /// Comes and goes, as a worker of many names.
    Flicker,
}

/// A peer that was thrown out waits so long before it comes again: it is one of many.
const PAUSE: Duration = Duration::from_millis(10);

/// Between two bytes of those that are slow on purpose.
const SLOW: Duration = Duration::from_millis(100);

/// Bytes of the longest frame of a server with the default limits.
const LONGEST: u32 = 1_114_112;

/// A frame of a thousand jobs that are refused.
static REFUSED: LazyLock<Vec<u8>> = LazyLock::new(|| bytes_of(&refused_jobs()));

/// A frame of a million ids: an empty one takes a byte on the wire and eight in memory.
static WIDE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    bytes_of(&ServerMessage::Watch(Watch {
        request: 1,
        ids: vec![0; LONGEST as usize - 100],
        bytes: u64::MAX,
        progress: true,
    }))
});

impl Attack {
    /// All of them.
    pub const ALL: [Attack; 9] = [
        Attack::Silent,
        Attack::Trickle,
        Attack::Hoard,
        Attack::Deaf,
        Attack::Sip,
        Attack::Flood,
        Attack::Wide,
        Attack::Garbage,
        Attack::Flicker,
    ];

    /// What it is called on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Trickle => "trickle",
            Self::Hoard => "hoard",
            Self::Deaf => "deaf",
            Self::Sip => "sip",
            Self::Flood => "flood",
            Self::Wide => "wide",
            Self::Garbage => "garbage",
            Self::Flicker => "flicker",
        }
    }

    /// The attack of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|attack| attack.name() == name)
    }

    /// Attacks until the flood is over.
    pub(super) async fn go_on(self, address: String, number: usize, shared: Arc<Shared>) {
        let mut chance = Chance::new(number as u64);
        while !shared.stopped.load(Ordering::Relaxed) {
            if let Ok(stream) = TcpStream::connect(&address).await
                && stream.set_nodelay(true).is_ok()
            {
                shared.connections.fetch_add(1, Ordering::Relaxed);
                let peer = Peer {
                    stream,
                    shared: &shared,
                };
                // It ends when the server ends it.
                let _ = self.once(peer, &mut chance).await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn once(self, mut peer: Peer<'_>, chance: &mut Chance) -> std::io::Result<()> {
        match self {
            Self::Silent => return peer.read_to_the_end().await,
            Self::Trickle => {
                for byte in bytes_of(&hello(None)) {
                    peer.write(&[byte]).await?;
                    tokio::time::sleep(SLOW).await;
                }
                return peer.read_to_the_end().await;
            }
            Self::Flicker => {
                peer.say(&hello(Some(work(chance)))).await?;
                return peer.stream.read(&mut [0; 1024]).await.map(drop);
            }
            _ => peer.say(&hello(None)).await?,
        }
        match self {
            Self::Hoard => {
                peer.write(&LONGEST.to_be_bytes()).await?;
                peer.write(&vec![0xa1; LONGEST as usize - 1]).await?;
                peer.read_to_the_end().await
            }
            Self::Deaf => peer.ask_for_ever(false).await,
            Self::Sip => peer.ask_for_ever(true).await,
            Self::Flood => loop {
                peer.write(&REFUSED).await?;
            },
            Self::Wide => loop {
                peer.write(&WIDE).await?;
            },
            _ => {
                let length = usize::try_from(chance.between(1, 100_000)).expect("it is small");
                let byte = |_| u8::try_from(chance.between(0, 255)).expect("it is a byte");
                let garbage: Vec<u8> = (0..length).map(byte).collect();
                peer.write(&garbage).await?;
                peer.stream.shutdown().await?;
                peer.read_to_the_end().await
            }
        }
    }
}

struct Peer<'s> {
    stream: TcpStream,
    shared: &'s Shared,
}

impl Peer<'_> {
    async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.shared.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    async fn say(&mut self, message: &ServerMessage) -> std::io::Result<()> {
        self.write(&bytes_of(message)).await
    }

    async fn read_to_the_end(&mut self) -> std::io::Result<()> {
        while self.stream.read(&mut [0; 1024]).await? > 0 {}
        Ok(())
    }

    /// Asks for all jobs there are, again and again, and reads a byte now and then or nothing.
    async fn ask_for_ever(&mut self, sips: bool) -> std::io::Result<()> {
        for request in 1.. {
            self.say(&ServerMessage::Query(Box::new(Query {
                request,
                limit: Some(1_000),
                ..Query::default()
            })))
            .await?;
            self.say(&ServerMessage::Beat(Beat { seq: request })).await?;
            if sips {
                self.stream.read_exact(&mut [0]).await?;
                tokio::time::sleep(SLOW).await;
            }
        }
        Ok(())
    }
}

fn bytes_of(message: &ServerMessage) -> Vec<u8> {
    frame(&encode(message).expect("it can be encoded"))
}

fn hello(work: Option<Work>) -> ServerMessage {
    ServerMessage::Hello(Box::new(Hello {
        version: PROTOCOL_VERSION,
        label: "hostile".to_owned(),
        token: None,
        work,
        resume: None,
    }))
}

/// A thousand names of their own, of the greatest length.
fn work(chance: &mut Chance) -> Work {
    let stem = chance.between(0, 99);
    let name = |number| NameCredit {
        name: format!("{:x>120}{stem:02}{number:04}", ""),
        jobs: 1,
    };
    Work {
        names: (0..1_000).map(name).collect(),
        jobs: 1,
        bytes: 1,
        prefetch: 0,
    }
}

/// A thousand jobs whose names nobody may use.
fn refused_jobs() -> ServerMessage {
    let job = |number| Submission {
        params: Some(Bytes::from_static(&[0xf6])),
        ..Submission::new(Uuid::from_u128(number), "no name")
    };
    ServerMessage::Request(Request {
        request: 1,
        jobs: (0..1_000).map(job).collect(),
    })
}
