//! Whose turn it is to be read, of those that say much.
//!
//! All connections of a server share one thread as a rule, and what takes time there is to make messages of bytes.
//! Who says little is read at once. Those that say much are read one after the other, and whatever else is to be done
//! comes between any two of them: so nobody waits for more than one, however many there are.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

/// Who says less at a time says little, in bytes: what is read in some hundredths of a millisecond.
const LITTLE: usize = 16 * 1024;

/// One connection's place among those that say much.
pub(super) struct Turns {
    all: PollSemaphore,
    mine: Option<OwnedSemaphorePermit>,
    /// About how many bytes have come lately: half as much counts of each earlier time.
    lately: usize,
}

impl Turns {
    /// `all` has a single permit.
    pub(super) fn new(all: Arc<Semaphore>) -> Self {
        Self {
            all: PollSemaphore::new(all),
            mine: None,
            lately: 0,
        }
    }

    /// Ready when it may be read.
    pub(super) fn poll_mine(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.lately > LITTLE && self.mine.is_none() {
            self.mine = ready!(self.all.poll_acquire(cx));
        }
        Poll::Ready(())
    }

    /// There was nothing to read.
    pub(super) fn pass(&mut self) {
        self.mine = None;
    }

    /// So many bytes were read. The next connection has its turn once the others have had theirs.
    pub(super) async fn over(&mut self, bytes: usize) {
        self.lately = (self.lately / 2).saturating_add(bytes);
        if self.lately > LITTLE {
            tokio::task::yield_now().await;
        }
        self.mine = None;
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use std::future::poll_fn;

    use super::*;

    const MUCH: usize = LITTLE + 1;

    fn is_read(turns: &mut Turns) -> bool {
        poll_fn(|cx| turns.poll_mine(cx)).now_or_never().is_some()
    }

    #[tokio::test]
    async fn those_that_say_much_are_read_one_after_the_other_and_those_that_say_little_at_once() {
        let all = Arc::new(Semaphore::new(1));
        let mut peers: Vec<Turns> = (0..3).map(|_| Turns::new(all.clone())).collect();
        for peer in &mut peers[..2] {
            assert!(is_read(peer), "nobody knows yet that it says much");
            peer.over(MUCH).await;
        }
        assert!(is_read(&mut peers[0]));
        assert!(!is_read(&mut peers[1]), "another has its turn");
        assert!(is_read(&mut peers[2]), "it has said little");
        peers[0].over(MUCH).await;
        assert!(!is_read(&mut peers[0]), "it is the other's turn now");
        assert!(is_read(&mut peers[1]));
        peers[1].pass();
        assert!(is_read(&mut peers[0]));
    }

    #[tokio::test]
    async fn who_said_much_once_says_little_soon() {
        let all = Arc::new(Semaphore::new(1));
        let _taken = all.clone().try_acquire_owned().expect("nobody has it");
        let mut peer = Turns::new(all);
        peer.over(MUCH).await;
        assert!(!is_read(&mut peer));
        peer.over(0).await;
        assert!(is_read(&mut peer));
    }
}
