//! In which order peers are heard: start-time fair queueing (P. Goyal, H. M. Vin, H. Cheng, SIGCOMM 1996).
//!
//! Each peer has a time of its own that goes on by the cost of what is done for it, and the one that is furthest behind
//! is next. Who has been silent starts where the present one started: so it is heard soon, and saves nothing up.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::router::PeerId;

/// How long what a peer says next takes to be dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    /// So short that nobody notices.
    Brief,
    /// So long that only one such thing is done between two looks at everything else.
    Long,
}

/// The peers that have something to say, each once, in one order for what is brief and one for what is long.
#[derive(Default)]
pub(super) struct FairQueue {
    brief: BinaryHeap<Reverse<Turn>>,
    long: BinaryHeap<Reverse<Turn>>,
    /// Where the one started that was heard last; it never goes back.
    clock: u64,
    /// How many have joined: of two with the same start, the one that came first is first.
    joined: u64,
}

/// A peer's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn {
    /// Its own time.
    pub(super) start: u64,
    place: u64,
    pub(super) peer: PeerId,
}

impl FairQueue {
    /// A peer has something to say. `had`: its own time, where it has had its turn before.
    pub(super) fn join(&mut self, peer: PeerId, had: u64, length: Length) {
        self.joined += 1;
        let turn = Turn {
            start: had.max(self.clock),
            place: self.joined,
            peer,
        };
        self.of_mut(length).push(Reverse(turn));
    }

    /// The next one.
    pub(super) fn next(&mut self, length: Length) -> Option<Turn> {
        let Reverse(turn) = self.of_mut(length).pop()?;
        self.clock = self.clock.max(turn.start);
        Some(turn)
    }

    /// Whether somebody comes before one whose own time is `had`.
    pub(super) fn has_before(&self, had: u64, length: Length) -> bool {
        self.of(length)
            .peek()
            .is_some_and(|Reverse(turn)| turn.start <= had)
    }

    /// Whether nobody has anything of that length to say.
    pub(super) fn is_empty(&self, length: Length) -> bool {
        self.of(length).is_empty()
    }

    /// All of them, who leave.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = PeerId> + use<> {
        let mut turns = std::mem::take(&mut self.brief);
        turns.append(&mut self.long);
        let latest_first = turns.into_sorted_vec();
        latest_first.into_iter().rev().map(|Reverse(turn)| turn.peer)
    }

    fn of(&self, length: Length) -> &BinaryHeap<Reverse<Turn>> {
        match length {
            Length::Brief => &self.brief,
            Length::Long => &self.long,
        }
    }

    fn of_mut(&mut self, length: Length) -> &mut BinaryHeap<Reverse<Turn>> {
        match length {
            Length::Brief => &mut self.brief,
            Length::Long => &mut self.long,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PeerId = PeerId(1);
    const B: PeerId = PeerId(2);
    const C: PeerId = PeerId(3);

    /// Hears so many turns of a peer's whose cost is told, all of whom always have more to say; who was heard.
    fn hear(queue: &mut FairQueue, turns: usize, cost: impl Fn(PeerId) -> u64) -> Vec<PeerId> {
        let mut heard = Vec::new();
        for _ in 0..turns {
            let turn = queue.next(Length::Brief).expect("all have more to say");
            heard.push(turn.peer);
            queue.join(turn.peer, turn.start + cost(turn.peer), Length::Brief);
        }
        heard
    }

    #[test]
    fn each_gets_as_much_done_as_the_others_whatever_each_thing_costs() {
        let mut queue = FairQueue::default();
        for peer in [A, B, C] {
            queue.join(peer, 0, Length::Brief);
        }
        let cost = |peer| match peer {
            A => 100,
            B => 10,
            _ => 1,
        };
        let heard = hear(&mut queue, 111 * 20, cost);
        for (peer, cost) in [(A, 100), (B, 10), (C, 1)] {
            let done = heard.iter().filter(|&&who| who == peer).count() * cost;
            assert!((1_900..=2_100).contains(&done), "{done} for {peer}");
        }
    }

    #[test]
    fn who_was_silent_is_heard_next_and_has_saved_nothing_up() {
        let mut queue = FairQueue::default();
        queue.join(A, 0, Length::Brief);
        queue.join(B, 0, Length::Brief);
        hear(&mut queue, 100, |_| 50);
        queue.join(C, 0, Length::Brief);
        let heard = hear(&mut queue, 30, |_| 50);
        assert!(heard[..2].contains(&C), "{heard:?}");
        assert_eq!(heard.iter().filter(|&&peer| peer == C).count(), 10);
    }

    #[test]
    fn who_leaves_and_comes_back_at_once_does_not_start_anew() {
        let mut queue = FairQueue::default();
        queue.join(A, 0, Length::Brief);
        let turn = queue.next(Length::Brief).expect("it joined");
        queue.join(B, 0, Length::Brief);
        queue.join(A, turn.start + 100, Length::Brief);
        assert!(queue.has_before(turn.start + 100, Length::Brief));
        assert_eq!(hear(&mut queue, 4, |_| 30), [B, B, B, B]);
        assert_eq!(hear(&mut queue, 1, |_| 30), [A]);
    }

    #[test]
    fn what_is_long_waits_apart() {
        let mut queue = FairQueue::default();
        queue.join(A, 0, Length::Long);
        assert!(queue.is_empty(Length::Brief));
        assert!(!queue.has_before(u64::MAX, Length::Brief));
        queue.join(B, 0, Length::Brief);
        assert_eq!(queue.next(Length::Brief).map(|turn| turn.peer), Some(B));
        assert_eq!(queue.drain().collect::<Vec<_>>(), [A]);
        assert!(queue.is_empty(Length::Long));
    }
}
