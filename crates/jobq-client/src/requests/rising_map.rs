//! A map whose keys nearly always rise, as numbers do that are given out one after the other and whose things end about
//! in the order in which they began.

use std::collections::{BTreeMap, VecDeque};

/// The ring has at most this many places for each entry in it, beside [`FREE_PLACES`]; what is too far behind is moved to
/// the tree.
const SPARSE: usize = 8;

/// Places that the ring may have whatever is in it.
const FREE_PLACES: usize = 64;

/// Room of an empty ring that is kept for what comes next, in places.
const KEPT_PLACES: usize = 1024;

/// A map, in the order of its keys. Putting something in at its end, finding it and taking it out are a few instructions
/// each, as long as most of what lies between the first and the last entry is there; anything else is right too, and
/// takes the time of a `BTreeMap`.
#[derive(Debug)]
pub(crate) struct RisingMap<V> {
    /// The places of the keys from `first` on. The first of them is not empty.
    ring: VecDeque<Option<V>>,
    first: u64,
    /// Entries in the ring.
    in_ring: usize,
    /// The entries of smaller keys.
    tree: BTreeMap<u64, V>,
}

impl<V> Default for RisingMap<V> {
    fn default() -> Self {
        Self {
            ring: VecDeque::new(),
            first: 0,
            in_ring: 0,
            tree: BTreeMap::new(),
        }
    }
}

impl<V> RisingMap<V> {
    pub(crate) fn is_empty(&self) -> bool {
        self.in_ring == 0 && self.tree.is_empty()
    }

    pub(crate) fn get(&self, key: u64) -> Option<&V> {
        match self.place(key) {
            Some(place) => self.ring.get(place)?.as_ref(),
            None => self.tree.get(&key),
        }
    }

    pub(crate) fn get_mut(&mut self, key: u64) -> Option<&mut V> {
        match self.place(key) {
            Some(place) => self.ring.get_mut(place)?.as_mut(),
            None => self.tree.get_mut(&key),
        }
    }

    pub(crate) fn first(&self) -> Option<(u64, &V)> {
        match self.tree.first_key_value() {
            Some((&key, value)) => Some((key, value)),
            None => Some((self.first, self.ring.front()?.as_ref()?)),
        }
    }

    pub(crate) fn last(&self) -> Option<(u64, &V)> {
        self.iter().next_back()
    }

    /// All entries, in the order of their keys.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, &V)> {
        let in_tree = self.tree.iter().map(|(&key, value)| (key, value));
        let in_ring = self.ring.iter().enumerate();
        in_tree.chain(in_ring.filter_map(|(place, value)| Some((self.first + place as u64, value.as_ref()?))))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = u64> {
        self.iter().map(|(key, _)| key)
    }

    pub(crate) fn insert(&mut self, key: u64, value: V) {
        if self.in_ring == 0 && self.tree.last_key_value().is_none_or(|(&last, _)| last < key) {
            self.first = key;
        }
        let Some(place) = self.place(key) else {
            self.tree.insert(key, value);
            return;
        };
        if place >= self.ring.len() {
            if place > self.most_places() {
                while self.in_ring > 0 {
                    self.move_first();
                }
                return self.insert(key, value);
            }
            self.ring.resize_with(place, || None);
            self.ring.push_back(Some(value));
            self.in_ring += 1;
        } else if self.ring[place].replace(value).is_none() {
            self.in_ring += 1;
        }
    }

    pub(crate) fn get_or_insert_default(&mut self, key: u64) -> &mut V
    where
        V: Default,
    {
        if self.get(key).is_none() {
            self.insert(key, V::default());
        }
        self.get_mut(key)
            .expect("it is there, or has just been put there")
    }

    pub(crate) fn remove(&mut self, key: u64) -> Option<V> {
        let Some(place) = self.place(key) else {
            return self.tree.remove(&key);
        };
        let removed = self.ring.get_mut(place)?.take()?;
        self.in_ring -= 1;
        self.trim();
        while self.ring.len() > self.most_places() {
            self.move_first();
        }
        Some(removed)
    }

    pub(crate) fn pop_first(&mut self) -> Option<(u64, V)> {
        let (key, _) = self.first()?;
        Some((key, self.remove(key)?))
    }

    /// Where in the ring a key has its place, now or when there are enough; none if its place is in the tree.
    fn place(&self, key: u64) -> Option<usize> {
        usize::try_from(key.checked_sub(self.first)?).ok()
    }

    fn most_places(&self) -> usize {
        FREE_PLACES + SPARSE * self.in_ring
    }

    /// Moves the first entry of the ring to the tree.
    fn move_first(&mut self) {
        if let Some(Some(value)) = self.ring.pop_front() {
            self.tree.insert(self.first, value);
            self.first += 1;
            self.in_ring -= 1;
        }
        self.trim();
    }

    /// Has the ring begin and end with an entry.
    fn trim(&mut self) {
        if self.in_ring == 0 {
            self.ring.clear();
            self.ring.shrink_to(KEPT_PLACES);
        }
        while matches!(self.ring.front(), Some(None)) {
            self.ring.pop_front();
            self.first += 1;
        }
        while matches!(self.ring.back(), Some(None)) {
            self.ring.pop_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        /// So far behind the greatest key that there ever was, or after it.
        Insert(i64),
        /// The entry so far from the first.
        Remove(usize),
        PopFirst,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => Just(Step::Insert(1)),
            2 => (-200_i64..200).prop_map(Step::Insert),
            1 => Just(Step::Insert(1 << 40)),
            3 => Just(Step::PopFirst),
            3 => (0_usize..4).prop_map(Step::Remove),
            2 => (0_usize..300).prop_map(Step::Remove),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn it_holds_what_an_ordered_map_holds(steps in prop::collection::vec(step(), 0..300)) {
            let mut map = RisingMap::default();
            let mut model = BTreeMap::new();
            let mut greatest = 0_u64;
            for (value, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Insert(by) => {
                        let key = greatest.saturating_add_signed(by);
                        greatest = greatest.max(key);
                        map.insert(key, value);
                        model.insert(key, value);
                    }
                    Step::Remove(at) => {
                        let key = model.keys().nth(at).copied().unwrap_or(at as u64);
                        prop_assert_eq!(map.get(key), model.get(&key));
                        prop_assert_eq!(map.get_mut(key), model.get_mut(&key));
                        prop_assert_eq!(map.remove(key), model.remove(&key));
                    }
                    Step::PopFirst => prop_assert_eq!(map.pop_first(), model.pop_first()),
                }
                prop_assert_eq!(map.is_empty(), model.is_empty());
                prop_assert_eq!(map.first(), model.first_key_value().map(|(&key, value)| (key, value)));
                prop_assert_eq!(map.last(), model.last_key_value().map(|(&key, value)| (key, value)));
                prop_assert!(map.ring.len() <= FREE_PLACES + SPARSE * model.len());
            }
            prop_assert!(map.iter().eq(model.iter().map(|(&key, value)| (key, value))));
        }
    }

    #[test]
    fn one_entry_that_stays_does_not_keep_the_places_of_those_that_came_after_it() {
        let mut map = RisingMap::default();
        map.insert(0, ());
        for key in 1..100_000 {
            map.insert(key, ());
            map.remove(key);
        }
        assert_eq!(map.keys().collect::<Vec<_>>(), [0]);
        assert!(map.ring.len() <= FREE_PLACES + SPARSE);
    }

    #[test]
    fn an_empty_map_gives_the_room_of_many_entries_back() {
        let mut map = RisingMap::default();
        for key in 0..100_000 {
            map.insert(key, key);
        }
        while map.pop_first().is_some() {}
        assert!(map.ring.capacity() <= 2 * KEPT_PLACES, "{}", map.ring.capacity());
    }
}
