//! What a dealer does with streams that keep something back.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use jobq_proto::limits::MAX_FIRST_FRAME;
use jobq_transport::{Dealer, StreamDealer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream, ReadBuf};

use crate::fixtures::{beat, within};

/// A stream that takes whatever is written into a buffer of its own and passes it on when it is flushed, as TLS does;
/// the first time, the other side is not ready.
struct KeepsBack {
    inner: DuplexStream,
    kept: VecDeque<u8>,
    is_ready: bool,
}

impl AsyncRead for KeepsBack {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for KeepsBack {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.kept.extend(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.is_ready, true) {
            return Poll::Pending;
        }
        let this = &mut *self;
        while !this.kept.is_empty() {
            let bytes = this.kept.make_contiguous();
            let written = ready!(Pin::new(&mut this.inner).poll_write(cx, bytes))?;
            this.kept.drain(..written);
        }
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn what_a_stream_keeps_back_is_passed_on_while_answers_are_waited_for() {
    let (inner, mut server) = tokio::io::duplex(MAX_FIRST_FRAME);
    let stream = KeepsBack {
        inner,
        kept: VecDeque::new(),
        is_ready: false,
    };
    let mut dealer = StreamDealer::new(stream, MAX_FIRST_FRAME);
    dealer.send(&beat(1)).unwrap();
    dealer.flush();
    assert_eq!(dealer.queued_bytes(), 0, "the stream has taken it");
    let (mut length, mut answers) = ([0; 4], Vec::new());
    tokio::select! {
        end = dealer.recv(&mut answers, 1) => panic!("nothing was answered: {end:?}"),
        read = within(server.read_exact(&mut length)) => read.map(drop).unwrap(),
    }
}
