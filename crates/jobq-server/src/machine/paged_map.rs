//! A map by numbers of which those in it lie close together: jobs, names.
//!
//! Ids of jobs are given out one after the other and jobs leave in about that order, so the jobs that workers have, or that
//! are next in line, are mostly neighbours; and so are the names of a worker, as they came in one Hello. They stand in
//! pages of neighbouring numbers, and only the pages in a tree: nothing is moved when one comes or goes, and few levels are
//! looked through. Numbers that lie far apart cost a page each.

use std::marker::PhantomData;

use jobq_proto::JobId;

use super::Map;

/// Numbers in a page. With more, few of them far apart from each other would take much memory; with fewer, there are more
/// pages to look through.
const PAGE: usize = 16;

/// Something for each of some jobs, in the order of their ids.
pub(super) type JobMap<V> = PagedMap<JobId, V>;

/// What is a number.
pub(super) trait Number: Copy {
    fn from_number(number: u64) -> Self;

    fn number(self) -> u64;
}

impl Number for JobId {
    fn from_number(number: u64) -> Self {
        Self(number)
    }

    fn number(self) -> u64 {
        self.0
    }
}

/// Something for each of some numbers, in their order.
#[derive(Debug, Clone)]
pub(super) struct PagedMap<K, V> {
    pages: Map<u64, Box<Page<V>>>,
    len: usize,
    keys: PhantomData<K>,
}

#[derive(Debug, Clone)]
struct Page<V> {
    /// How many of the slots are taken; at least one.
    used: usize,
    slots: [Option<V>; PAGE],
}

/// The page of a number, and its slot there.
fn place(key: impl Number) -> (u64, usize) {
    let size = PAGE as u64;
    (key.number() / size, (key.number() % size) as usize)
}

fn key<K: Number>(page: u64, slot: usize) -> K {
    K::from_number(page * PAGE as u64 + slot as u64)
}

impl<K, V> Default for PagedMap<K, V> {
    fn default() -> Self {
        Self {
            pages: Map::new(),
            len: 0,
            keys: PhantomData,
        }
    }
}

impl<K: Number, V> PagedMap<K, V> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn contains(&self, key: K) -> bool {
        self.get(key).is_some()
    }

    pub(super) fn get(&self, key: K) -> Option<&V> {
        let (page, slot) = place(key);
        self.pages.get(&page)?.slots[slot].as_ref()
    }

    pub(super) fn get_mut(&mut self, key: K) -> Option<&mut V> {
        let (page, slot) = place(key);
        self.pages.get_mut(&page)?.slots[slot].as_mut()
    }

    /// What is in a place, with nothing there what is there by default.
    pub(super) fn get_or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        let (page, slot) = place(key);
        let page = self.pages.entry(page).or_insert_with(Page::empty);
        let new = usize::from(page.slots[slot].is_none());
        page.used += new;
        self.len += new;
        page.slots[slot].get_or_insert_default()
    }

    /// Puts something in a place, and takes out what was there.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let (page, slot) = place(key);
        let page = self.pages.entry(page).or_insert_with(Page::empty);
        let before = page.slots[slot].replace(value);
        if before.is_none() {
            page.used += 1;
            self.len += 1;
        }
        before
    }

    /// Puts something in a place where nothing is; whether it was free.
    pub(super) fn insert_new(&mut self, key: K, value: V) -> bool {
        let (page, slot) = place(key);
        let page = self.pages.entry(page).or_insert_with(Page::empty);
        let is_free = page.slots[slot].is_none();
        if is_free {
            page.slots[slot] = Some(value);
            page.used += 1;
            self.len += 1;
        }
        is_free
    }

    pub(super) fn remove(&mut self, key: K) -> Option<V> {
        let (number, slot) = place(key);
        let page = self.pages.get_mut(&number)?;
        let value = page.slots[slot].take()?;
        page.used -= 1;
        self.len -= 1;
        if page.used == 0 {
            self.pages.remove(&number);
        }
        Some(value)
    }

    /// Takes out what belongs to the highest number.
    pub(super) fn pop_last(&mut self) -> Option<V> {
        let (number, page) = self.pages.last_key_value()?;
        let slot = page.slots.iter().rposition(Option::is_some)?;
        self.remove(key(*number, slot))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.pages.iter().flat_map(|(number, page)| {
            let slots = page.slots.iter().enumerate();
            slots.filter_map(|(slot, value)| Some((key(*number, slot), value.as_ref()?)))
        })
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = K> {
        self.iter().map(|(key, _)| key)
    }

    /// Those with lower numbers than that, the highest first.
    pub(super) fn before(&self, end: K) -> impl Iterator<Item = (K, &V)> {
        let all = self
            .pages
            .range(..=place(end).0)
            .rev()
            .flat_map(|(number, page)| {
                let slots = page.slots.iter().enumerate().rev();
                slots.filter_map(|(slot, value)| Some((key::<K>(*number, slot), value.as_ref()?)))
            });
        all.skip_while(move |(key, _)| key.number() >= end.number())
    }
}

impl<K: Number, V> FromIterator<(K, V)> for PagedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(items: I) -> Self {
        let mut map = Self::default();
        for (key, value) in items {
            map.insert(key, value);
        }
        map
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
        for step in 0..20_000_u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let id = JobId((state >> 33) % 200 * ((state >> 61) + 1));
            if state & (1 << 20) == 0 {
                assert_eq!(map.insert(id, step), tree.insert(id, step));
            } else {
                assert_eq!(map.remove(id), tree.remove(&id));
            }
            if step % 5 == 0 {
                assert_eq!(map.insert_new(id, step), !tree.contains_key(&id));
                tree.entry(id).or_insert(step);
            }
            if step % 7 == 0 {
                *map.get_or_default(JobId(step)) += 1;
                *tree.entry(JobId(step)).or_default() += 1;
            }
            assert_eq!(map.get(id), tree.get(&id));
            assert_eq!(map.len(), tree.len());
        }
        assert!(map.len() > 50, "the test is about maps with something in them");
        let of_tree: Vec<_> = tree.iter().map(|(id, value)| (*id, *value)).collect();
        assert_eq!(all(&map), of_tree);
        assert!(map.keys().eq(tree.keys().copied()));
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
