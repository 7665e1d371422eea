//! A map by job, for jobs whose ids lie close together.
//!
//! Ids are given out one after the other and jobs leave in about that order, so the jobs that workers have, or that are
//! next in line, are mostly neighbours. They stand in pages of neighbouring ids, and only the pages in a tree: nothing
//! is moved when a job comes or goes, and few levels are looked through. Ids that lie far apart cost a page each.

use jobq_proto::JobId;

use super::Map;

/// Ids in a page. With more, few jobs far apart from each other would take much memory; with fewer, there are more pages
/// to look through.
const PAGE: usize = 16;

/// Something for each of some jobs, in the order of their ids.
#[derive(Debug, Clone)]
pub(super) struct JobMap<V> {
    pages: Map<u64, Box<Page<V>>>,
    len: usize,
}

#[derive(Debug, Clone)]
struct Page<V> {
    /// How many of the slots are taken; at least one.
    used: usize,
    slots: [Option<V>; PAGE],
}

/// The page of a job, and its slot there.
fn place(id: JobId) -> (u64, usize) {
    let size = PAGE as u64;
    (id.0 / size, (id.0 % size) as usize)
}

fn id(page: u64, slot: usize) -> JobId {
    JobId(page * PAGE as u64 + slot as u64)
}

impl<V> Default for JobMap<V> {
    fn default() -> Self {
        Self {
            pages: Map::new(),
            len: 0,
        }
    }
}

impl<V> JobMap<V> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn contains(&self, id: JobId) -> bool {
        self.get(id).is_some()
    }

    pub(super) fn get(&self, id: JobId) -> Option<&V> {
        let (page, slot) = place(id);
        self.pages.get(&page)?.slots[slot].as_ref()
    }

    pub(super) fn get_mut(&mut self, id: JobId) -> Option<&mut V> {
        let (page, slot) = place(id);
        self.pages.get_mut(&page)?.slots[slot].as_mut()
    }

    /// Puts something in a job's place, and takes out what was there.
    pub(super) fn insert(&mut self, id: JobId, value: V) -> Option<V> {
        let (page, slot) = place(id);
        let page = self.pages.entry(page).or_insert_with(Page::empty);
        let before = page.slots[slot].replace(value);
        if before.is_none() {
            page.used += 1;
            self.len += 1;
        }
        before
    }

    pub(super) fn remove(&mut self, id: JobId) -> Option<V> {
        let (number, slot) = place(id);
        let page = self.pages.get_mut(&number)?;
        let value = page.slots[slot].take()?;
        page.used -= 1;
        self.len -= 1;
        if page.used == 0 {
            self.pages.remove(&number);
        }
        Some(value)
    }

    /// Takes out what belongs to the job with the highest id.
    pub(super) fn pop_last(&mut self) -> Option<V> {
        let (number, page) = self.pages.last_key_value()?;
        let slot = page.slots.iter().rposition(Option::is_some)?;
        self.remove(id(*number, slot))
    }

    /// The jobs, by their ids.
    pub(super) fn ids(&self) -> impl Iterator<Item = JobId> {
        self.pages.iter().flat_map(|(number, page)| {
            let taken = page.slots.iter().enumerate().filter(|(_, slot)| slot.is_some());
            taken.map(|(slot, _)| id(*number, slot))
        })
    }

    /// Those with lower ids than that, the highest id first.
    pub(super) fn before(&self, end: JobId) -> impl Iterator<Item = (JobId, &V)> {
        let all = self
            .pages
            .range(..=place(end).0)
            .rev()
            .flat_map(|(number, page)| {
                let slots = page.slots.iter().enumerate().rev();
                slots.filter_map(|(slot, value)| Some((id(*number, slot), value.as_ref()?)))
            });
        all.skip_while(move |(id, _)| *id >= end)
    }
}

impl<V> Page<V> {
    fn empty() -> Box<Self> {
        Box::new(Self {
            used: 0,
            slots: [const { None }; PAGE],
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn all<V: Copy>(map: &JobMap<V>) -> Vec<(JobId, V)> {
        let mut all: Vec<_> = map
            .before(JobId(u64::MAX))
            .map(|(id, value)| (id, *value))
            .collect();
        all.reverse();
        all
    }

    #[test]
    fn it_is_the_map_that_a_tree_is() {
        let mut map = JobMap::default();
        let mut tree = BTreeMap::new();
        let mut state = 1_u64;
        for step in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let id = JobId((state >> 33) % 200 * ((state >> 61) + 1));
            if state & (1 << 20) == 0 {
                assert_eq!(map.insert(id, step), tree.insert(id, step));
            } else {
                assert_eq!(map.remove(id), tree.remove(&id));
            }
            assert_eq!(map.get(id), tree.get(&id));
            assert_eq!(map.len(), tree.len());
        }
        assert!(map.len() > 50, "the test is about maps with something in them");
        let of_tree: Vec<_> = tree.iter().map(|(id, value)| (*id, *value)).collect();
        assert_eq!(all(&map), of_tree);
        assert!(map.ids().eq(tree.keys().copied()));
        for end in [0, 1, 15, 16, 17, 199, 200, 5_000] {
            let before = tree.range(..JobId(end)).rev().map(|(id, value)| (*id, value));
            assert!(map.before(JobId(end)).eq(before), "before {end}");
        }
        while let Some((_, last)) = tree.pop_last() {
            assert_eq!(map.pop_last(), Some(last));
        }
        assert!(map.is_empty() && map.pop_last().is_none());
    }

    #[test]
    fn an_empty_map_keeps_no_pages() {
        let mut map = JobMap::default();
        for id in 0..1_000 {
            map.insert(JobId(id), ());
        }
        assert_eq!(map.pages.len(), 1_000_usize.div_ceil(PAGE));
        for id in (0..1_000).rev() {
            assert!(map.remove(JobId(id)).is_some());
        }
        assert!(map.pages.is_empty());
    }
}
