//! Whose turn it is to be read, of those that say much.
//!
//! Who says little is read at once. Those that say much are read one after the other, each time a step of its own.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

use super::steps::{NextStep, Step, Steps};

/// Who says less at a time says little, in bytes: what is read in some hundredths of a millisecond.
const LITTLE: usize = 16 * 1024;

/// One connection's place among those that say much.
pub(super) struct Turns {
    all: PollSemaphore,
    mine: Option<OwnedSemaphorePermit>,
    next_step: NextStep,
    step: Option<Step>,
    /// About how many bytes have come lately: half as much counts of each earlier time.
    lately: usize,
}

impl Turns {
    /// `all` has a single permit: so those that are read take no more of the steps than those that are answered.
    pub(super) fn new(all: Arc<Semaphore>, steps: &Steps) -> Self {
        Self {
            all: PollSemaphore::new(all),
            mine: None,
            next_step: NextStep::new(steps),
            step: None,
            lately: 0,
        }
    }

    /// Ready when it may be read.
    pub(super) fn poll_mine(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.lately > LITTLE && self.step.is_none() {
            if self.mine.is_none() {
                self.mine = ready!(self.all.poll_acquire(cx));
            }
            self.step = Some(ready!(self.next_step.poll(cx)));
        }
        Poll::Ready(())
    }

    /// There was nothing to read.
    pub(super) fn pass(&mut self) {
        self.step = None;
        self.mine = None;
    }

    /// So many bytes were read. The next connection has its turn once the others have had theirs.
    pub(super) async fn over(&mut self, bytes: usize) {
        self.lately = (self.lately / 2).saturating_add(bytes);
        match self.step.take() {
            Some(step) => step.over().await,
            None if self.lately > LITTLE => tokio::task::yield_now().await,
            None => {}
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
        let (all, steps) = (Arc::new(Semaphore::new(1)), Steps::default());
        let mut peers: Vec<Turns> = (0..3).map(|_| Turns::new(all.clone(), &steps)).collect();
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
        let mut peer = Turns::new(all, &Steps::default());
        peer.over(MUCH).await;
        assert!(!is_read(&mut peer));
        peer.over(0).await;
        assert!(is_read(&mut peer));
    }

    #[tokio::test]
    async fn who_says_much_waits_for_other_long_work() {
        let (all, steps) = (Arc::new(Semaphore::new(1)), Steps::default());
        let mut peer = Turns::new(all, &steps);
        peer.over(MUCH).await;
        let step = steps.try_begin().expect("nobody has one");
        assert!(!is_read(&mut peer));
        step.over().await;
        assert!(is_read(&mut peer));
    }
}
