//! The jobs that wait: who is next, and who may take it.
//!
//! A [`Lane`] is what waits of one name: a [`Line`] for each priority, and the sessions that may take from it.
//! Suspects, jobs whose workers were lost, have a lane of their own, so that a session which may take no suspect
//! takes the next other job instead. The heads of all lanes that have somebody to take from them stand in one
//! ordered map, so that choosing the next job never looks through the names. The lanes of a name at its cap are closed:
//! their heads do not stand there.

use std::collections::{BTreeSet, VecDeque};

use jobq_proto::{JobId, Priority};

use super::Map;
use super::line::{Line, Waiting};
use super::names::NameKey;
use crate::store::SessionId;
use crate::time::Wall;

/// Which lane: a name, and whether it is that of the name's suspects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LaneKey {
    pub(super) name: NameKey,
    pub(super) suspects: bool,
}

impl LaneKey {
    pub(super) fn both(name: NameKey) -> [LaneKey; 2] {
        [false, true].map(|suspects| LaneKey { name, suspects })
    }
}

/// The head of a lane, as heads are ordered over all lanes: the most urgent is the least.
pub(super) type Head = (Priority, Wall, JobId);

/// What waits of one name.
#[derive(Default)]
struct Lane {
    lines: [Line; Priority::ALL.len()],
    /// Sessions that may take from it, as far as is known; the one that has waited longest is first.
    takers: VecDeque<SessionId>,
    /// Its head as it stands in [`Lines::ready`].
    ready: Option<Head>,
}

impl Lane {
    fn head(&self) -> Option<Head> {
        Priority::ALL.into_iter().find_map(|priority| {
            self.lines[priority as usize]
                .first()
                .map(|w| (priority, w.due, w.id))
        })
    }
}

/// All lanes.
#[derive(Default)]
pub(super) struct Lines {
    lanes: Map<LaneKey, Lane>,
    ready: Heads,
    /// Names of which nothing may be taken at the moment.
    closed: BTreeSet<NameKey>,
}

impl Lines {
    /// Puts a job into its lane.
    pub(super) fn push(&mut self, name: NameKey, priority: Priority, waiting: Waiting) {
        let key = LaneKey {
            name,
            suspects: waiting.is_suspect(),
        };
        self.lanes.entry(key).or_default().lines[priority as usize].push(waiting);
        self.refresh(key);
    }

    /// How many jobs wait.
    pub(super) fn len(&self) -> usize {
        self.lanes
            .values()
            .flat_map(|lane| &lane.lines)
            .map(Line::len)
            .sum()
    }

    /// The lane whose head is next, among those that have somebody to take from them, and the head with its bytes.
    pub(super) fn next(&self) -> Option<(LaneKey, Head, u32)> {
        let (head, key) = self.ready.first?;
        let first = self.lanes[&key].lines[head.0 as usize]
            .first()
            .expect("a ready lane has a head");
        Some((key, head, first.bytes))
    }

    /// The head of a lane with its bytes, whether somebody takes from the lane or not; none while its name is closed.
    pub(super) fn head(&self, key: LaneKey) -> Option<(Head, u32)> {
        let lane = self
            .lanes
            .get(&key)
            .filter(|_| !self.closed.contains(&key.name))?;
        let head = lane.head()?;
        let first = lane.lines[head.0 as usize].first()?;
        Some((head, first.bytes))
    }

    /// Nothing is taken of a name until it is opened again. Its lanes are not looked at meanwhile, however many jobs
    /// wait in them.
    pub(super) fn close(&mut self, name: NameKey) {
        if self.closed.insert(name) {
            LaneKey::both(name).into_iter().for_each(|key| self.refresh(key));
        }
    }

    /// The jobs of a name may be taken again.
    pub(super) fn open(&mut self, name: NameKey) {
        if self.closed.remove(&name) {
            LaneKey::both(name).into_iter().for_each(|key| self.refresh(key));
        }
    }

    /// Takes the head of a lane.
    pub(super) fn pop(&mut self, key: LaneKey) -> Option<(Priority, Waiting)> {
        let lane = self.lanes.get_mut(&key)?;
        let (priority, ..) = lane.head()?;
        let waiting = lane.lines[priority as usize].pop()?;
        self.refresh(key);
        Some((priority, waiting))
    }

    /// Takes a job out of its lane, wherever it stands.
    pub(super) fn remove(
        &mut self,
        name: NameKey,
        priority: Priority,
        due: Wall,
        id: JobId,
    ) -> Option<Waiting> {
        LaneKey::both(name).into_iter().find_map(|key| {
            let found = self.lanes.get_mut(&key)?.lines[priority as usize].remove(due, id)?;
            self.refresh(key);
            Some(found)
        })
    }

    /// The line that a lane's head stands in.
    pub(super) fn head_line(&self, key: LaneKey) -> Option<&Line> {
        let lane = self.lanes.get(&key)?;
        let (priority, ..) = lane.head()?;
        Some(&lane.lines[priority as usize])
    }

    /// Forgets a name of which nothing waits and that nobody takes.
    pub(super) fn forget(&mut self, name: NameKey) {
        for key in LaneKey::both(name) {
            if let Some(lane) = self.lanes.remove(&key) {
                debug_assert!(
                    lane.ready.is_none() && lane.head().is_none(),
                    "nothing waits there"
                );
            }
        }
    }

    /// Lets a session take from a lane that it does not take from.
    pub(super) fn add_taker(&mut self, key: LaneKey, session: SessionId) {
        let lane = self.lanes.entry(key).or_default();
        // Looking for it would make waking many sessions at once take a square of their number.
        debug_assert!(
            !lane.takers.contains(&session),
            "a session has one turn at a lane"
        );
        lane.takers.push_back(session);
        self.refresh(key);
    }

    /// A session takes no more from a lane.
    pub(super) fn remove_taker(&mut self, key: LaneKey, session: SessionId) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            if lane.takers.front() == Some(&session) {
                lane.takers.pop_front();
            } else {
                lane.takers.retain(|s| *s != session);
            }
            self.refresh(key);
        }
    }

    /// The session whose turn it is at a lane.
    pub(super) fn taker(&self, key: LaneKey) -> Option<SessionId> {
        self.lanes.get(&key)?.takers.front().copied()
    }

    /// The session whose turn it was has taken.
    pub(super) fn rotate(&mut self, key: LaneKey) {
        if let Some(lane) = self.lanes.get_mut(&key)
            && lane.takers.len() > 1
        {
            lane.takers.rotate_left(1);
        }
    }

    /// Puts jobs that were held back into their lanes.
    pub(super) fn release(&mut self, name: NameKey, held: HeldBack) {
        for (suspects, lines) in [(false, held.others), (true, held.suspects)] {
            let key = LaneKey { name, suspects };
            let lane = self.lanes.entry(key).or_default();
            for (line, held) in lane.lines.iter_mut().zip(lines) {
                if held.len() > 0 {
                    line.merge(held);
                }
            }
            self.refresh(key);
        }
    }

    fn refresh(&mut self, key: LaneKey) {
        let Some(lane) = self.lanes.get_mut(&key) else {
            return;
        };
        let closed = lane.takers.is_empty() || self.closed.contains(&key.name);
        let ready = if closed { None } else { lane.head() };
        if ready != lane.ready {
            let before = std::mem::replace(&mut lane.ready, ready);
            self.ready.replace(key, before, ready);
        }
    }
}

/// The heads of the lanes that may be taken from, in order. The first stands apart: as a rule it is taken, and the next
/// job of its lane is first again, so that the others stay where they are.
#[derive(Default)]
struct Heads {
    /// None only if there are no others.
    first: Option<(Head, LaneKey)>,
    others: Map<Head, LaneKey>,
}

impl Heads {
    /// A lane has another head, or its first, or none any more.
    fn replace(&mut self, lane: LaneKey, before: Option<Head>, head: Option<Head>) {
        if self.first.map(|(first, _)| first) == before {
            self.first = None;
        } else if let Some(before) = before {
            self.others.remove(&before);
        }
        let new = head.map(|head| (head, lane));
        let (first, second) = match (self.first.take(), new) {
            (Some(first), Some(new)) if new < first => (Some(new), Some(first)),
            (Some(first), new) => (Some(first), new),
            (None, new) => (new, None),
        };
        self.first = first;
        self.others.extend(second);
        if let Some(other) = self.others.first_entry()
            && first.is_none_or(|(first, _)| *other.key() < first)
        {
            let first = self.first.replace(other.remove_entry());
            self.others.extend(first);
        }
    }
}

/// Jobs of one name that may still be running at a worker that was there before the start.
#[derive(Default)]
pub(super) struct HeldBack {
    others: [Line; Priority::ALL.len()],
    suspects: [Line; Priority::ALL.len()],
}

impl HeldBack {
    pub(super) fn push(&mut self, priority: Priority, waiting: Waiting) {
        let lines = if waiting.is_suspect() {
            &mut self.suspects
        } else {
            &mut self.others
        };
        lines[priority as usize].push(waiting);
    }

    pub(super) fn len(&self) -> usize {
        self.others.iter().chain(&self.suspects).map(Line::len).sum()
    }

    pub(super) fn remove(&mut self, priority: Priority, due: Wall, id: JobId) -> Option<Waiting> {
        let place = priority as usize;
        self.others[place]
            .remove(due, id)
            .or_else(|| self.suspects[place].remove(due, id))
    }
}
