//! The codec: messages to bytes and back, on the path that a connection takes.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use jobq_transport::codec::{FrameCodec, Message, decode};
use tokio_util::codec::{Decoder, Encoder};

use crate::jobs;
use crate::workload::{Work, Workload};

/// Jobs of one run.
const JOBS: u64 = 1_000;

/// Longest frame, in bytes; longer than any here.
const MAX_FRAME: usize = 1024 * 1024;

/// Writing and reading every message of a job's way, with a thousand jobs in it and, where that happens, with one.
pub fn workloads() -> Vec<Workload> {
    let mut all = Vec::new();
    for each in [JOBS, 1] {
        both(&mut all, "Request", each, move |n| jobs::request(n, n, each));
        both(&mut all, "Acknowledged", each, move |n| {
            jobs::acknowledged(n, n, each)
        });
    }
    both(&mut all, "Order", JOBS, |n| jobs::order(n, JOBS));
    both(&mut all, "Started", JOBS, |n| jobs::started(&jobs::runs(n, JOBS)));
    both(&mut all, "Completed", JOBS, |n| {
        jobs::completed(&jobs::runs(n, JOBS))
    });
    both(&mut all, "Settled", JOBS, |n| jobs::settled(&jobs::runs(n, JOBS)));
    all
}

/// Writing and reading of messages with `each` jobs, as many as make [`JOBS`].
fn both<M: Message + Sync>(
    all: &mut Vec<Workload>,
    name: &str,
    each: u64,
    message: impl Fn(u64) -> M + Send + Sync + 'static,
) {
    let messages: Arc<[M]> = (0..JOBS / each).map(|n| message(n * each + 1)).collect();
    let mut stream = BytesMut::new();
    let mut frames = FrameCodec::new(MAX_FRAME);
    messages
        .iter()
        .for_each(|message| encode(&mut frames, message, &mut stream));
    let stream = stream.freeze();
    let write = {
        let messages = Arc::clone(&messages);
        move || write(Arc::clone(&messages))
    };
    let count = messages.len();
    let read = move || read::<M>(&stream, count);
    all.push(Workload::new(
        format!("codec/write {name} of {each}"),
        JOBS,
        write,
    ));
    all.push(Workload::new(format!("codec/read {name} of {each}"), JOBS, read));
}

fn write<M: Message + Sync>(messages: Arc<[M]>) -> Work {
    let mut frames = FrameCodec::new(MAX_FRAME);
    let mut stream = BytesMut::with_capacity(MAX_FRAME);
    Box::new(move || {
        for message in messages.iter() {
            encode(&mut frames, message, &mut stream);
            // As if it had been sent.
            stream.clear();
        }
    })
}

fn read<M: Message>(stream: &Bytes, count: usize) -> Work {
    let mut stream = BytesMut::from(&stream[..]);
    let mut messages: Vec<M> = Vec::with_capacity(count);
    let mut frames = FrameCodec::new(MAX_FRAME);
    Box::new(move || {
        while let Some(frame) = frames.decode(&mut stream).expect("the frames are good") {
            messages.push(decode(&frame).expect("it was written by the same codec"));
        }
        assert_eq!(messages.len(), count);
    })
}

fn encode<M: Message>(frames: &mut FrameCodec, message: &M, stream: &mut BytesMut) {
    let encoded = frames.encode(message, stream);
    encoded.expect("every message of the protocol can be written, and none here is too long");
}
