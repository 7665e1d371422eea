//! One line: jobs that are equally urgent.

use std::collections::VecDeque;

use jobq_proto::JobId;

use super::Map;
use super::lane::LaneKey;
use super::names::NameKey;
use super::packed::Packed;
use crate::time::Wall;

/// So many jobs are packed together: enough that a block costs nothing beside its jobs, and few enough that one job is
/// taken out of a block in some microseconds.
const BLOCK: usize = 256;

/// What the machine knows of a waiting job: what its order needs, and no more. There may be ten million of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) due: Wall,
    pub(super) id: JobId,
    pub(super) name: NameKey,
    /// Bytes of its params; at most the limit on params, which fits.
    pub(super) bytes: u32,
    pub(super) attempts: u16,
    pub(super) charges: u8,
}

impl Waiting {
    pub(super) fn new(name: NameKey, due: Wall, id: JobId, bytes: u64, attempts: u32, charges: u32) -> Self {
        Self {
            due,
            id,
            name,
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            attempts: u16::try_from(attempts).unwrap_or(u16::MAX),
            charges: u8::try_from(charges).unwrap_or(u8::MAX),
        }
    }

    pub(super) fn is_suspect(&self) -> bool {
        self.charges > 0
    }

    /// The lane that it stands in if it does not stand in common.
    pub(super) fn lane(&self) -> LaneKey {
        LaneKey {
            name: self.name,
            suspects: self.is_suspect(),
        }
    }

    pub(super) fn key(&self) -> (Wall, JobId) {
        (self.due, self.id)
    }
}

/// Jobs in the order `(due, id)`. Almost all arrive in that order; those that come back, or whose time comes later than
/// their neighbours', stand in a tree beside the others.
///
/// Of those that arrived in order a long line has the first ones apart, most of them packed. A short line has only the
/// latest, and pays nothing for what a long one saves: there may be many thousands of those.
#[derive(Default)]
pub(super) struct Line {
    /// Those before the latest, if there are any.
    earlier: Option<Box<Earlier>>,
    /// Fewer than two blocks.
    latest: VecDeque<Waiting>,
    returned: Map<(Wall, JobId), Waiting>,
}

/// The jobs of a long line that arrived before its latest.
#[derive(Default)]
struct Earlier {
    /// Never empty.
    next: VecDeque<Waiting>,
    packed: VecDeque<Packed>,
    /// How many jobs are packed.
    packed_jobs: usize,
}

impl Line {
    pub(super) fn len(&self) -> usize {
        let earlier = self.earlier.as_ref().map_or(0, |earlier| earlier.len());
        earlier + self.latest.len() + self.returned.len()
    }

    pub(super) fn push(&mut self, waiting: Waiting) {
        if self.last_arrived().is_some_and(|last| last >= waiting.key()) {
            self.returned.insert(waiting.key(), waiting);
            return;
        }
        self.latest.push_back(waiting);
        if self.latest.len() == 2 * BLOCK {
            let block = self.latest.drain(..BLOCK);
            self.earlier.get_or_insert_default().push(block);
        }
    }

    pub(super) fn first(&self) -> Option<&Waiting> {
        let arrived = match &self.earlier {
            Some(earlier) => earlier.next.front(),
            None => self.latest.front(),
        };
        let returned = self.returned.values().next();
        match (arrived, returned) {
            (Some(a), Some(r)) => Some(if a.key() < r.key() { a } else { r }),
            (a, r) => a.or(r),
        }
    }

    pub(super) fn pop(&mut self) -> Option<Waiting> {
        if let Some(key) = self.returned.keys().next().copied()
            && self.first().is_some_and(|first| first.key() == key)
        {
            return self.returned.remove(&key);
        }
        let Some(earlier) = &mut self.earlier else {
            return self.latest.pop_front();
        };
        let first = earlier.next.pop_front();
        self.unpack_next();
        first
    }

    /// Takes a job out of the line, wherever it stands.
    pub(super) fn remove(&mut self, due: Wall, id: JobId) -> Option<Waiting> {
        let key = (due, id);
        if let Some(found) = self.returned.remove(&key) {
            return Some(found);
        }
        if self.latest.front().is_some_and(|latest| latest.key() <= key) {
            return remove_from(&mut self.latest, key);
        }
        let earlier = self.earlier.as_mut()?;
        if earlier.next.back().is_some_and(|last| last.key() < key) {
            return earlier.remove_packed(key);
        }
        let found = remove_from(&mut earlier.next, key);
        self.unpack_next();
        found
    }

    /// The jobs that are about to be first, from about this place in the line on and roughly in order, and before them
    /// those that came back: a hint for reading ahead.
    pub(super) fn upcoming(&self, from: usize, count: usize) -> impl Iterator<Item = Waiting> {
        let returned = self.returned.values().copied().take(count);
        let of_earlier = self.earlier.as_ref().map_or(0, |earlier| earlier.len());
        let earlier = self.earlier.iter().flat_map(move |earlier| earlier.jobs(from));
        let latest = self.latest.iter().skip(from.saturating_sub(of_earlier));
        returned.chain(earlier.chain(latest.copied()).take(count))
    }

    /// The job at about this place in the line.
    pub(super) fn peek(&self, place: usize) -> Option<&Waiting> {
        let Some(earlier) = &self.earlier else {
            return self.latest.get(place);
        };
        let of_latest = || self.latest.get(place.saturating_sub(earlier.len()));
        earlier.peek(place).or_else(of_latest)
    }

    /// Puts another line's jobs into this one.
    pub(super) fn merge(&mut self, mut other: Line) {
        if self.first().is_none() {
            *self = other;
            return;
        }
        let mut own = std::mem::take(self);
        loop {
            let from = match (own.first(), other.first()) {
                (Some(a), Some(b)) if a.key() < b.key() => &mut own,
                (_, Some(_)) => &mut other,
                (Some(_), None) => &mut own,
                (None, None) => break,
            };
            if let Some(next) = from.pop() {
                self.push(next);
            }
        }
    }

    /// Where the last of those stands that arrived in order.
    fn last_arrived(&self) -> Option<(Wall, JobId)> {
        let latest = self.latest.back().map(Waiting::key);
        latest.or_else(|| self.earlier.as_ref().map(|earlier| earlier.last()))
    }

    /// Sees to it that the next jobs are at hand.
    fn unpack_next(&mut self) {
        if let Some(earlier) = &mut self.earlier
            && !earlier.unpack_next()
        {
            self.earlier = None;
        }
    }
}

impl Earlier {
    fn len(&self) -> usize {
        self.next.len() + self.packed_jobs
    }

    fn push(&mut self, block: impl ExactSizeIterator<Item = Waiting>) {
        if self.next.is_empty() {
            self.next.extend(block);
        } else {
            self.packed_jobs += block.len();
            self.packed.extend(Packed::pack(block));
        }
    }

    /// Those from about this place on: the packed ones from where a block begins.
    fn jobs(&self, from: usize) -> impl Iterator<Item = Waiting> {
        let blocks = from.saturating_sub(self.next.len()) / BLOCK;
        let packed = self.packed.iter().skip(blocks).flat_map(Packed::jobs);
        self.next.iter().skip(from).copied().chain(packed)
    }

    fn peek(&self, place: usize) -> Option<&Waiting> {
        match place.checked_sub(self.next.len()) {
            None => self.next.get(place),
            Some(behind) => self.packed.get(behind / BLOCK).map(Packed::first),
        }
    }

    fn last(&self) -> (Wall, JobId) {
        let next = || self.next.back().map(Waiting::key);
        let last = self.packed.back().map(Packed::last).or_else(next);
        last.expect("there are next jobs while there are earlier ones")
    }

    /// Whether there are next jobs still.
    fn unpack_next(&mut self) -> bool {
        if self.next.is_empty()
            && let Some(block) = self.packed.pop_front()
        {
            self.packed_jobs -= block.len();
            self.next.extend(block.jobs());
        }
        !self.next.is_empty()
    }

    fn remove_packed(&mut self, key: (Wall, JobId)) -> Option<Waiting> {
        let place = self.packed.partition_point(|block| block.last() < key);
        let block = self.packed.get_mut(place)?;
        let found = block.jobs().find(|job| job.key() == key)?;
        let others = Packed::pack(block.jobs().filter(|job| job.key() != key));
        match others {
            Some(others) => *block = others,
            None => _ = self.packed.remove(place),
        }
        self.packed_jobs -= 1;
        Some(found)
    }
}

fn remove_from(jobs: &mut VecDeque<Waiting>, key: (Wall, JobId)) -> Option<Waiting> {
    let place = jobs.binary_search_by_key(&key, Waiting::key).ok()?;
    jobs.remove(place)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::paged_map::Number;
    use super::*;

    fn waiting(due: i64, id: u64) -> Waiting {
        Waiting::new(NameKey::from_number(7), Wall(due), JobId(id), 1, 0, 0)
    }

    fn ids(line: &mut Line) -> Vec<u64> {
        std::iter::from_fn(|| line.pop()).map(|w| w.id.0).collect()
    }

    #[test]
    fn a_waiting_job_takes_32_bytes_at_most_and_in_a_long_line_two() {
        assert_eq!(size_of::<Waiting>(), 32);
        let mut line = Line::default();
        for id in 0..100_000 {
            line.push(waiting(10, id));
        }
        let earlier = line.earlier.expect("the line is long");
        let blocks: usize = earlier.packed.iter().map(Packed::memory).sum();
        assert!(
            blocks < 2 * earlier.packed_jobs,
            "{blocks} for {}",
            earlier.packed_jobs
        );
        assert!(earlier.packed_jobs > 99_000);
    }

    #[test]
    fn a_line_is_in_order_whatever_the_order_of_arrival() {
        let mut line = Line::default();
        for (due, id) in [(10, 1), (20, 2), (5, 3), (20, 1), (15, 9), (30, 4)] {
            line.push(waiting(due, id));
        }
        assert_eq!(line.len(), 6);
        assert_eq!(ids(&mut line), [3, 1, 9, 1, 2, 4]);
    }

    #[test]
    fn a_job_removed_from_the_middle_is_not_handed_out_and_not_counted() {
        let mut line = Line::default();
        for id in 1..=5 {
            line.push(waiting(10, id));
        }
        assert!(line.remove(Wall(10), JobId(3)).is_some());
        assert!(line.remove(Wall(10), JobId(3)).is_none(), "it is gone");
        assert!(line.remove(Wall(10), JobId(1)).is_some());
        assert_eq!(line.len(), 3);
        assert_eq!(ids(&mut line), [2, 4, 5]);
        assert_eq!(line.len(), 0);
    }

    #[test]
    fn a_long_line_is_the_map_that_a_tree_is() {
        let mut line = Line::default();
        let mut tree = BTreeMap::new();
        let mut state = 1_u64;
        let mut chance = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        for id in 1..=40_000_u64 {
            // It grows at first, and is then worked off and cancelled.
            let keeps = if id < 20_000 { 100 } else { 40 };
            let back = if chance(50) == 0 { chance(500) } else { 0 };
            let job = waiting((id / 7).saturating_sub(back).cast_signed(), id);
            line.push(job);
            tree.insert(job.key(), job);
            if chance(100) >= keeps {
                assert_eq!(line.pop(), tree.pop_first().map(|(_, job)| job));
            }
            let due = Wall(chance(id / 7 + 1).cast_signed());
            let key = tree.range((due, JobId(0))..).next();
            if let Some(key) = key.map(|(key, _)| *key).filter(|_| chance(4) == 0) {
                assert_eq!(line.remove(key.0, key.1), tree.remove(&key));
                assert_eq!(line.remove(key.0, key.1), None);
            }
            assert_eq!(line.len(), tree.len());
            assert_eq!(line.first(), tree.values().next());
        }
        let upcoming = |from| line.upcoming(from, usize::MAX);
        assert!(upcoming(0).all(|job| tree.contains_key(&job.key())));
        assert_eq!(upcoming(0).count(), tree.len());
        let packed = line.earlier.as_ref().map_or(0, |earlier| earlier.packed.len());
        assert!(packed > 3, "the test is about lines that are packed");
        while let Some((_, job)) = tree.pop_first() {
            assert_eq!(line.pop(), Some(job));
        }
        assert!(line.pop().is_none() && line.len() == 0);
    }

    #[test]
    fn a_place_in_a_long_line_is_found_roughly() {
        let mut line = Line::default();
        for id in 0..10_000 {
            line.push(waiting(0, id));
        }
        for place in [0, 1, 255, 256, 1_000, 5_000, 9_999] {
            let found = line.peek(place).expect("the line is longer").id.0;
            assert!(found.abs_diff(place as u64) < BLOCK as u64, "{found} for {place}");
            let from_there: Vec<_> = line.upcoming(place, 10_000).map(|job| job.id.0).collect();
            assert!(from_there.is_sorted() && from_there.last() == Some(&9_999));
            assert!(from_there[0].abs_diff(place as u64) < BLOCK as u64);
            assert!(from_there[0] <= place as u64, "no job is passed over");
        }
        assert!(line.peek(10_000).is_none());
    }

    #[test]
    fn lines_merge_in_order() {
        let mut one = Line::default();
        let mut other = Line::default();
        for id in [1, 4, 6] {
            one.push(waiting(10, id));
        }
        for id in [2, 5, 3] {
            other.push(waiting(10, id));
        }
        one.merge(other);
        assert_eq!(ids(&mut one), [1, 2, 3, 4, 5, 6]);
    }
}
