//! A router with one listener of each kind, peers to talk to it, and messages.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use jobq_proto::message::{Beat, ErrorMessage, Hello, Order, OrderedJob, Request, Submission};
use jobq_proto::{ClientMessage, ErrorCode, Fence, ServerMessage};
use jobq_transport::{
    BindOptions, ByteStream, ClientTls, Connector, Dealer, Endpoint, EndpointDealer, ListenAddress, PeerId,
    Router, RouterConfig, RouterEvent, ServerTls, StreamRouter, TcpConnector, TransportError, UnixConnector,
    memory,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use uuid::Uuid;

use crate::certificates;

/// Longer than anything here takes on the slowest machine. It turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// The limit of frames after Hello, in the tests.
pub(crate) const MAX_FRAME: usize = 2 * 1024 * 1024;

/// A kind of byte stream.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Tcp,
    Tls,
    Unix,
    Memory,
}

/// A router that listens, and where.
pub(crate) struct Fixture {
    pub(crate) router: StreamRouter,
    pub(crate) endpoint: Endpoint,
    _folder: TempDir,
}

impl Fixture {
    pub(crate) async fn new(kind: Kind) -> Self {
        Self::with(kind, RouterConfig::default()).await
    }

    pub(crate) async fn with(kind: Kind, config: RouterConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut router = StreamRouter::new(config);
        let endpoint = match kind {
            Kind::Tcp => router
                .bind(&"tcp://127.0.0.1:0".parse().unwrap())
                .await
                .unwrap()
                .into(),
            Kind::Tls => {
                let folder = folder.path();
                let ca = certificates::authority();
                let server = ca.server(&["127.0.0.1"]).write(folder, "server");
                let tls = ServerTls::load(server.files(None)).unwrap();
                let address = listen_tls(&mut router, tls).await;
                let settings = ClientTls::new().ca(ca.write(folder, "ca"));
                Endpoint::from(address).with_tls(settings).unwrap()
            }
            Kind::Unix => {
                let address = ListenAddress::Unix(folder.path().join("jobq.sock"));
                router.bind(&address).await.unwrap().into()
            }
            Kind::Memory => {
                let (connector, listener) = memory::channel();
                router.listen(listener);
                connector.into()
            }
        };
        Self {
            router,
            endpoint,
            _folder: folder,
        }
    }

    /// A peer that has said Hello, and that the router has not admitted.
    pub(crate) async fn newcomer(&mut self) -> (EndpointDealer, PeerId) {
        let mut dealer = self.endpoint.connect(MAX_FRAME).await.unwrap();
        dealer.send(&hello()).unwrap();
        dealer.flush();
        let peer = self.opened().await;
        assert_eq!(self.message().await, (peer, hello()));
        (dealer, peer)
    }

    /// A peer that is admitted.
    pub(crate) async fn peer(&mut self) -> (EndpointDealer, PeerId) {
        let (dealer, peer) = self.newcomer().await;
        self.router.admit(peer, MAX_FRAME);
        (dealer, peer)
    }

    /// The next event, which is the only one that is taken.
    pub(crate) async fn event(&mut self) -> RouterEvent {
        let mut events = Vec::new();
        within(self.router.recv(&mut events, 1)).await.unwrap();
        assert_eq!(events.len(), 1);
        events.remove(0)
    }

    pub(crate) async fn opened(&mut self) -> PeerId {
        match self.event().await {
            RouterEvent::Opened { peer, .. } => peer,
            other => panic!("expected Opened, not {other:?}"),
        }
    }

    pub(crate) async fn message(&mut self) -> (PeerId, ServerMessage) {
        match self.event().await {
            RouterEvent::Message { peer, message } => (peer, message),
            other => panic!("expected a message, not {other:?}"),
        }
    }

    pub(crate) async fn closed(&mut self) -> (PeerId, jobq_transport::Closed) {
        match self.event().await {
            RouterEvent::Closed { peer, why } => (peer, why),
            other => panic!("expected Closed, not {other:?}"),
        }
    }

    /// The bare stream of a new connection.
    pub(crate) async fn raw(&self) -> Box<dyn ByteStream> {
        match &self.endpoint {
            Endpoint::Tcp(address) => Box::new(
                TcpConnector {
                    address: address.clone(),
                }
                .connect()
                .await
                .unwrap(),
            ),
            Endpoint::Tls(connector) => Box::new(connector.connect().await.unwrap()),
            Endpoint::Unix(path) => Box::new(UnixConnector { path: path.clone() }.connect().await.unwrap()),
            Endpoint::Memory(connector) => Box::new(connector.connect().await.unwrap()),
            other => panic!("no such kind here: {other}"),
        }
    }
}

/// Has a router listen on a port of the loopback device for TLS.
pub(crate) async fn listen_tls(router: &mut StreamRouter, tls: ServerTls) -> ListenAddress {
    let mut options = BindOptions::default();
    options.tls = Some(tls);
    let address = "tls://127.0.0.1:0".parse().unwrap();
    router.bind_with(&address, &options).await.unwrap()
}

/// The outcome of something that must not hang.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it ends in time")
}

/// The next messages from the server, at least one.
pub(crate) async fn receive(dealer: &mut EndpointDealer) -> Result<Vec<ClientMessage>, TransportError> {
    let mut messages = Vec::new();
    within(dealer.recv(&mut messages, 1_000)).await?;
    assert!(!messages.is_empty());
    Ok(messages)
}

/// Everything from the server until it closes the connection.
pub(crate) async fn receive_all(dealer: &mut EndpointDealer) -> (Vec<ClientMessage>, TransportError) {
    let mut all = Vec::new();
    loop {
        match receive(dealer).await {
            Ok(messages) => all.extend(messages),
            Err(error) => return (all, error),
        }
    }
}

/// Writes a frame with this content.
pub(crate) async fn write_frame(stream: &mut Box<dyn ByteStream>, frame: &[u8]) {
    stream
        .write_all(&(frame.len() as u32).to_be_bytes())
        .await
        .unwrap();
    stream.write_all(frame).await.unwrap();
}

/// Reads a frame.
pub(crate) async fn read_frame(stream: &mut Box<dyn ByteStream>) -> ClientMessage {
    let length = within(stream.read_u32()).await.unwrap();
    let mut frame = vec![0; length as usize];
    within(stream.read_exact(&mut frame)).await.unwrap();
    jobq_transport::codec::decode(&frame).unwrap()
}

/// The code of the last words, which end the stream.
pub(crate) async fn read_refusal(stream: &mut Box<dyn ByteStream>) -> (ErrorCode, String) {
    let refusal = refusal(read_frame(stream).await);
    let mut rest = Vec::new();
    within(stream.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, [], "nothing follows the last words");
    refusal
}

/// The content of last words.
pub(crate) fn refusal(message: ClientMessage) -> (ErrorCode, String) {
    match message {
        ClientMessage::Error(ErrorMessage { error }) => (error.code, error.message),
        other => panic!("expected an error, not {other:?}"),
    }
}

pub(crate) fn hello() -> ServerMessage {
    hello_of("a test")
}

/// A Hello with a label.
pub(crate) fn hello_of(label: &str) -> ServerMessage {
    ServerMessage::Hello(Box::new(Hello::new(label)))
}

/// A numbered message to the server.
pub(crate) fn beat(seq: u64) -> ServerMessage {
    ServerMessage::Beat(Beat { seq })
}

/// A numbered message from the server.
pub(crate) fn beat_back(seq: u64) -> ClientMessage {
    ClientMessage::Beat(Beat { seq })
}

/// A Request with one job that has this many bytes of params.
pub(crate) fn request(params: usize) -> ServerMessage {
    ServerMessage::Request(Request {
        request: 1,
        jobs: vec![Submission {
            params: Some(content(params)),
            ..Submission::new(Uuid::from_u128(7), "thumbnail")
        }],
    })
}

/// An Order of one job that has this many bytes of params.
pub(crate) fn order(params: usize) -> ClientMessage {
    ClientMessage::Order(Order {
        jobs: vec![OrderedJob {
            id: 1,
            fence: Fence { epoch: 1, seq: 1 },
            attempt: 1,
            max_attempts: 20,
            uuid: Uuid::from_u128(7),
            name: "thumbnail".to_owned(),
            username: None,
            timeout: None,
            params: content(params),
        }],
    })
}

/// Bytes that would show if some were lost or doubled.
fn content(length: usize) -> Bytes {
    (0..length).map(|i| (i % 251) as u8).collect()
}
