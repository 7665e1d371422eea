//! Long pieces of work, one at a time.
//!
//! All connections of a server share one thread as a rule. What takes long there is to make many messages of bytes, to
//! deal with a message of many jobs, and to write a long answer. Between any two of those everybody else has a turn, so
//! that nobody waits for more than one, however much there is to be done.

use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

/// What costs more is a step of its own, in bytes of a message in memory: what is dealt with in some hundredths of a
/// millisecond.
pub(super) const LONG: usize = 16 * 1024;

/// Who may take the next step.
#[derive(Clone)]
pub(super) struct Steps(Arc<Semaphore>);

/// A step that has begun.
pub(super) struct Step(
    #[expect(dead_code, reason = "it counts for as long as it is there")] OwnedSemaphorePermit,
);

impl Default for Steps {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Steps {
    /// Waits for a step, in the order of those who wait. Who does not wait on has no place among them.
    pub(super) async fn begin(&self) -> Step {
        let permit = self.0.clone().acquire_owned().await;
        Step(permit.expect("it is never closed"))
    }

    /// A step, if nobody is in the middle of one or waits.
    pub(super) fn try_begin(&self) -> Option<Step> {
        self.0.clone().try_acquire_owned().ok().map(Step)
    }
}

impl Step {
    /// Ends it once everybody else has had a turn.
    pub(super) async fn over(self) {
        tokio::task::yield_now().await;
    }

    /// The same for one who has something else to do meanwhile.
    pub(super) fn over_soon(self) {
        tokio::spawn(self.over());
    }
}

/// A task's place among those who wait, for one that polls. It is to be polled on until it is ready, or dropped.
pub(super) struct NextStep(PollSemaphore);

impl NextStep {
    pub(super) fn new(steps: &Steps) -> Self {
        Self(PollSemaphore::new(steps.0.clone()))
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        self.0
            .poll_acquire(cx)
            .map(|permit| Step(permit.expect("it is never closed")))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn one_step_is_taken_at_a_time_and_others_have_a_turn_before_the_next() {
        let steps = Steps::default();
        let step = steps.try_begin().expect("nobody has one");
        assert!(steps.try_begin().is_none());
        assert!(steps.begin().now_or_never().is_none());
        let mut over = Box::pin(step.over());
        assert!(futures::poll!(&mut over).is_pending());
        assert!(steps.try_begin().is_none(), "the others have not had their turn");
        over.await;
        assert!(steps.try_begin().is_some());
    }

    #[tokio::test]
    async fn a_step_that_nobody_waits_for_ends_all_the_same() {
        let steps = Steps::default();
        steps.try_begin().expect("nobody has one").over_soon();
        assert!(steps.try_begin().is_none());
        steps.begin().await;
    }
}
