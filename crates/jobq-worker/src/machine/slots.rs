//! Which run starts next: the order of arrival, within the limits of each name and of all names together.

use std::collections::{BTreeMap, HashMap, VecDeque};

use jobq_proto::Fence;

use super::{Config, NameLimit};

/// The places that handlers run in, and the runs that wait for one.
#[derive(Debug)]
pub(super) struct Slots {
    names: Vec<Name>,
    index: HashMap<String, usize>,
    /// The name that was looked up last: orders come in runs of one name.
    latest: usize,
    limit: u32,
    busy: u32,
    waiting: usize,
    /// The runs that are first in line of a name that has a place free: their names, by arrival. So the next run is found
    /// without a look at each name.
    heads: BTreeMap<u64, usize>,
    /// Numbers arrivals, so that the queues of the names can be merged.
    arrivals: u64,
}

#[derive(Debug)]
struct Name {
    name: String,
    limit: u32,
    busy: u32,
    /// Busy places whose run is over for the server, while its handler goes on.
    stray: u32,
    waiting: VecDeque<(u64, Fence)>,
}

impl Name {
    /// When the first run in its line arrived, if there is a place for it.
    fn head(&self) -> Option<u64> {
        let (arrival, _) = self.waiting.front()?;
        (self.busy < self.limit).then_some(*arrival)
    }
}

impl Slots {
    pub(super) fn new(config: &Config) -> Self {
        let name = |limit: &NameLimit| Name {
            name: limit.name.clone(),
            limit: limit.concurrency.min(config.concurrency),
            busy: 0,
            stray: 0,
            waiting: VecDeque::new(),
        };
        let names: Vec<Name> = config.names.iter().map(name).collect();
        let index = names
            .iter()
            .enumerate()
            .map(|(i, n)| (n.name.clone(), i))
            .collect();
        Self {
            names,
            index,
            latest: 0,
            limit: config.concurrency,
            busy: 0,
            waiting: 0,
            heads: BTreeMap::new(),
            arrivals: 0,
        }
    }

    pub(super) fn index_of(&mut self, name: &str) -> Option<usize> {
        let latest = self.names.get(self.latest);
        if latest.is_none_or(|latest| latest.name != name) {
            self.latest = *self.index.get(name)?;
        }
        Some(self.latest)
    }

    pub(super) fn name(&self, index: usize) -> &str {
        &self.names[index].name
    }

    /// How many handlers run, stray ones included.
    pub(super) fn busy(&self) -> usize {
        self.busy as usize
    }

    /// Puts a run at the end of the line.
    pub(super) fn wait(&mut self, name: usize, fence: Fence) {
        self.arrivals += 1;
        self.waiting += 1;
        let run = (self.arrivals, fence);
        self.change(name, |name| name.waiting.push_back(run));
    }

    /// Takes a place of this name for a run that has just come, if there is one and no other waits for it.
    pub(super) fn take(&mut self, name: usize) -> bool {
        let of_name = &mut self.names[name];
        let free = self.busy < self.limit && of_name.busy < of_name.limit && of_name.waiting.is_empty();
        if free {
            of_name.busy += 1;
            self.busy += 1;
        }
        free
    }

    /// Takes the place for the run that came first among those whose name has one free.
    pub(super) fn next(&mut self) -> Option<Fence> {
        if self.busy >= self.limit || self.waiting == 0 {
            return None;
        }
        let name = *self.heads.first_key_value()?.1;
        let (_, fence) = self.change(name, |name| {
            let first = name.waiting.pop_front();
            name.busy += u32::from(first.is_some());
            first
        })?;
        self.waiting -= 1;
        self.busy += 1;
        Some(fence)
    }

    /// Takes a run out of the line.
    pub(super) fn leave(&mut self, name: usize, fence: Fence) {
        let left = self.change(name, |name| {
            let before = name.waiting.len();
            name.waiting.retain(|(_, waiting)| *waiting != fence);
            before - name.waiting.len()
        });
        self.waiting -= left;
    }

    /// Empties the line; the runs come in the order in which they arrived.
    pub(super) fn leave_all(&mut self) -> Vec<Fence> {
        let mut all: Vec<_> = self
            .names
            .iter_mut()
            .flat_map(|name| name.waiting.drain(..))
            .collect();
        all.sort_unstable();
        self.waiting = 0;
        self.heads.clear();
        all.into_iter().map(|(_, fence)| fence).collect()
    }

    /// The place of a handler that has returned is free again.
    pub(super) fn free(&mut self, name: usize) {
        self.change(name, |name| name.busy -= 1);
        self.busy -= 1;
    }

    /// Changes a name's line or places.
    fn change<T>(&mut self, index: usize, change: impl FnOnce(&mut Name) -> T) -> T {
        let name = &mut self.names[index];
        let before = name.head();
        let changed = change(name);
        let after = name.head();
        if before != after {
            before.and_then(|arrival| self.heads.remove(&arrival));
            self.heads.extend(after.map(|arrival| (arrival, index)));
        }
        changed
    }

    /// A handler goes on although its run is over: its place is not on offer until it returns.
    pub(super) fn stray(&mut self, name: usize) {
        self.names[name].stray += 1;
    }

    /// A stray handler has returned.
    pub(super) fn free_stray(&mut self, name: usize) {
        self.names[name].stray -= 1;
        self.free(name);
    }

    /// How many runs may be held at a time, over all names and of each. Stray handlers are taken off, so that the
    /// server does not send jobs here that would wait behind them.
    pub(super) fn credit(&self, prefetch: u32) -> (u32, Vec<u32>) {
        let stray: u32 = self.names.iter().map(|name| name.stray).sum();
        let total = self.limit.saturating_sub(stray).saturating_add(prefetch);
        let of = |name: &Name| {
            name.limit
                .saturating_sub(name.stray)
                .saturating_add(prefetch)
                .min(total)
        };
        (total, self.names.iter().map(of).collect())
    }
}
