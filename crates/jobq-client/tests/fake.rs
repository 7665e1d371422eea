//! A server that says what a test tells it to.

use std::time::Duration;

use bytes::Bytes;
use jobq_client::{Client, Endpoint, Limits, Welcome, Window};
use jobq_proto::message::{Acknowledged, Hello, Receipt, Request};
use jobq_proto::{ClientMessage, PROTOCOL_VERSION, ServerMessage};
use jobq_transport::Listener;
use jobq_transport::memory::{self, MemoryListener};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use uuid::Uuid;

/// Nothing in these tests takes as long; it only keeps a broken one from hanging.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct FakeServer {
    listener: MemoryListener,
    pub(crate) welcome: Welcome,
}

/// One connection, on the server's side.
pub(crate) struct Peer {
    stream: DuplexStream,
    pub(crate) hello: Hello,
}

impl FakeServer {
    pub(crate) fn new() -> (Endpoint, FakeServer) {
        let (connector, listener) = memory::channel();
        let welcome = Welcome {
            version: PROTOCOL_VERSION,
            server: "fake".to_owned(),
            store: Uuid::from_u128(7),
            epoch: 1,
            session: 11,
            secret: Bytes::from_static(&[3; 32]),
            resumed: false,
            ttl: 30_000_000,
            grace: 5_000_000,
            beat: 10_000_000,
            idle_beat: None,
            uuid_window: 3_600_000_000,
            limits: Limits::default(),
            window: Window::default(),
        };
        (connector.into(), FakeServer { listener, welcome })
    }

    /// A client, and its connection on the server's side.
    pub(crate) async fn client(&mut self, endpoint: Endpoint) -> (Client, Peer) {
        let (client, peer) = tokio::join!(Client::connect(endpoint), self.accept());
        (client.expect("the server is there"), peer)
    }

    /// Takes a connection and greets it.
    pub(crate) async fn accept(&mut self) -> Peer {
        let mut peer = self.accept_silently().await;
        peer.send(ClientMessage::Hello(Box::new(self.welcome.clone())))
            .await;
        peer
    }

    /// Takes a connection and reads its Hello.
    pub(crate) async fn accept_silently(&mut self) -> Peer {
        let setup = patiently(self.listener.accept()).await.expect("a connection");
        let (mut stream, _) = setup.await.expect("memory needs no handshake");
        match read(&mut stream).await {
            Some(ServerMessage::Hello(hello)) => Peer {
                stream,
                hello: *hello,
            },
            other => panic!("the first message is Hello, and it was {other:?}"),
        }
    }
}

impl Peer {
    /// The next message that is no Beat; none if the peer has closed the connection.
    pub(crate) async fn read(&mut self) -> Option<ServerMessage> {
        loop {
            match read(&mut self.stream).await {
                Some(ServerMessage::Beat(_)) => {}
                other => return other,
            }
        }
    }

    /// The next message, which is a Beat.
    pub(crate) async fn beat(&mut self) -> u64 {
        match read(&mut self.stream).await {
            Some(ServerMessage::Beat(beat)) => beat.seq,
            other => panic!("a Beat is due, and it was {other:?}"),
        }
    }

    pub(crate) async fn request(&mut self) -> Request {
        match self.read().await {
            Some(ServerMessage::Request(request)) => request,
            other => panic!("a Request is due, and it was {other:?}"),
        }
    }

    /// Acknowledges a request; ids count from `first`.
    pub(crate) async fn acknowledge(&mut self, request: &Request, first: u64) {
        let ids = first..first + request.jobs.len() as u64;
        let jobs = ids.map(|id| Receipt::stored(id, false)).collect();
        let request = request.request;
        self.send(ClientMessage::Acknowledged(Acknowledged { request, jobs }))
            .await;
    }

    pub(crate) async fn send(&mut self, message: ClientMessage) {
        let mut frame = vec![0; 4];
        ciborium::into_writer(&message, &mut frame).expect("a message is encodable");
        let length = u32::try_from(frame.len() - 4).expect("a short message");
        frame[..4].copy_from_slice(&length.to_be_bytes());
        patiently(self.stream.write_all(&frame))
            .await
            .expect("the peer reads");
    }
}

async fn read(stream: &mut DuplexStream) -> Option<ServerMessage> {
    let length = patiently(stream.read_u32()).await.ok()?;
    let mut frame = vec![0; length as usize];
    patiently(stream.read_exact(&mut frame)).await.ok()?;
    Some(ciborium::from_reader(frame.as_slice()).expect("a message"))
}

pub(crate) async fn patiently<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it happens in time")
}
