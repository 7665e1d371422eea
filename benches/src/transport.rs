//! The transport: what a connection costs on which one message comes, or goes, at a time. The other side is a plain
//! socket in the same thread, of which hardly more than its system calls is counted.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use jobq_proto::ServerMessage;
use jobq_proto::message::Beat;
use jobq_transport::codec::{FrameCodec, Message};
use jobq_transport::router::{PeerId, Router, RouterEvent};
use jobq_transport::{
    Dealer, Endpoint, EndpointDealer, ListenAddress, RouterConfig, StreamRouter, TcpAddress,
};
use tokio::runtime::{Builder, Runtime};
use tokio_util::codec::Encoder;

use crate::jobs;
use crate::workload::{Work, Workload};

/// Jobs of one run.
const JOBS: u64 = 10_000;

/// Connections of the router.
const PEERS: u64 = 100;

/// Longest frame, in bytes; longer than any here.
const MAX_FRAME: usize = 64 * 1024;

/// A Request of one job and its answer, on the server's side and on the client's.
pub fn workloads() -> Vec<Workload> {
    vec![
        Workload::new("transport/router, 1 a connection", JOBS, router),
        Workload::new("transport/dealer, 1 at a time", JOBS, dealer),
    ]
}

/// All connections are read, and then all are answered, as a server does that stores their jobs together.
fn router() -> Work {
    let runtime = runtime();
    let mut router = StreamRouter::new(RouterConfig::default());
    let anywhere: ListenAddress = "tcp://127.0.0.1:0".parse().expect("it is an address");
    let bound = runtime.block_on(router.bind(&anywhere));
    let ListenAddress::Tcp(address) = bound.expect("a port is free") else {
        unreachable!("it listens where it was told to");
    };
    let mut peers: Vec<TcpStream> = (0..PEERS).map(|_| connect(&address)).collect();
    let hello = frame(&ServerMessage::Beat(Beat { seq: 1 }));
    say(&mut peers, &hello);
    let mut admitted = 0;
    let mut events = Vec::new();
    while admitted < PEERS {
        runtime
            .block_on(router.recv(&mut events, usize::MAX))
            .expect("it goes on");
        for event in events.drain(..) {
            if let RouterEvent::Message { peer, .. } = event {
                router.admit(peer, MAX_FRAME);
                admitted += 1;
            }
        }
    }
    let request = frame(&jobs::request(1, 1, 1));
    let answer = frame(&jobs::acknowledged(1, 1, 1)).len();
    Box::new(move || {
        for _ in 0..JOBS / PEERS {
            say(&mut peers, &request);
            runtime.block_on(answer_all(&mut router, &mut events));
            hear(&mut peers, answer);
        }
    })
}

/// Hears one message of each peer, and then answers them.
async fn answer_all(router: &mut StreamRouter, events: &mut Vec<RouterEvent>) {
    while events.len() < PEERS as usize {
        router.recv(events, usize::MAX).await.expect("it goes on");
    }
    let peers: Vec<PeerId> = events.drain(..).map(|event| event.peer()).collect();
    for peer in &peers {
        let sent = router.send(*peer, jobs::acknowledged(1, 1, 1));
        sent.expect("the peer is there");
    }
    router.flush();
    while peers.iter().any(|peer| router.queued(*peer) > 0) {
        tokio::task::yield_now().await;
    }
}

fn dealer() -> Work {
    let runtime = runtime();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it listens");
    let endpoint: Endpoint = format!("tcp://{address}").parse().expect("it is an address");
    let connected: Result<EndpointDealer, _> = runtime.block_on(endpoint.connect(MAX_FRAME));
    let mut dealer = connected.expect("it is listened to");
    let (server, _) = listener.accept().expect("it was connected to");
    server.set_nodelay(true).expect("a connection takes it");
    let mut server = [server];
    let request = jobs::request(1, 1, 1);
    let length = frame(&request).len();
    let answer = frame(&jobs::acknowledged(1, 1, 1));
    let mut answers = Vec::new();
    Box::new(move || {
        for _ in 0..JOBS {
            dealer.send(&request).expect("it is connected");
            dealer.flush();
            hear(&mut server, length);
            say(&mut server, &answer);
            runtime
                .block_on(dealer.recv(&mut answers, 1))
                .expect("it goes on");
            answers.clear();
        }
    })
}

fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime needs little")
}

fn connect(address: &TcpAddress) -> TcpStream {
    let stream = TcpStream::connect(address.authority()).expect("it is listened to");
    stream.set_nodelay(true).expect("a connection takes it");
    stream
}

/// Writes this on each.
fn say(streams: &mut [TcpStream], bytes: &[u8]) {
    for stream in streams {
        stream.write_all(bytes).expect("the other side reads");
    }
}

/// Reads so many bytes of each.
fn hear(streams: &mut [TcpStream], length: usize) {
    let mut bytes = vec![0; length];
    for stream in streams {
        stream.read_exact(&mut bytes).expect("the other side writes");
    }
}

/// A message as it goes over a stream.
fn frame<M: Message>(message: &M) -> Vec<u8> {
    let mut bytes = bytes::BytesMut::new();
    let encoded = FrameCodec::new(MAX_FRAME).encode(message, &mut bytes);
    encoded.expect("it is short");
    bytes.to_vec()
}
