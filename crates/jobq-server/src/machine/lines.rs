//! The jobs that wait: who is next, and who may take it.
//!
//! A [`Lane`] is what waits of one name: a [`Line`] for each priority, and the sessions that may take from it.
//! Suspects, jobs whose workers were lost, have a lane of their own, so that a session which may take no suspect
//! takes the next other job instead. The heads of all lanes that have somebody to take from them stand in one
//! heap, so that choosing the next job never looks through the names. The lanes of a name at its cap are closed:
//! their heads do not stand there.

use std::collections::{BTreeSet, VecDeque};

use jobq_proto::{JobId, Priority};

pub(super) use super::heads::Head;
use super::heads::{Heads, Ready};
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

/// What waits of one name.
///
/// There may be thousands, and the next job is of another as a rule, so it looks at as little of a lane's memory as it can:
/// what it has to know stands in the lane itself.
#[derive(Default)]
struct Lane {
    /// The first of its jobs.
    head: Option<(Priority, Waiting)>,
    /// That as it stands in [`Lines::heads`].
    ready: Option<Head>,
    /// The first of its takers.
    turn: Option<SessionId>,
    /// Jobs that are taken from it before the next look at whether to read ahead.
    before_look: usize,
    lines: [Line; Priority::ALL.len()],
    /// Sessions that may take from it, as far as is known; the one that has waited longest is first.
    takers: VecDeque<SessionId>,
}

impl Lane {
    fn push(&mut self, priority: Priority, waiting: Waiting) {
        self.lines[priority as usize].push(waiting);
        let is_first = |(p, first): (Priority, Waiting)| (priority, waiting.key()) < (p, first.key());
        if self.head.is_none_or(is_first) {
            self.head = Some((priority, waiting));
        }
    }

    fn pop(&mut self) -> Option<(Priority, Waiting)> {
        let (priority, first) = self.head?;
        let popped = self.lines[priority as usize].pop();
        debug_assert_eq!(popped, Some(first), "the head is the first");
        // Nothing more urgent waits.
        self.head = self.first_from(priority);
        Some((priority, first))
    }

    fn remove(&mut self, priority: Priority, due: Wall, id: JobId) -> Option<Waiting> {
        let found = self.lines[priority as usize].remove(due, id)?;
        if self.head.is_some_and(|(_, head)| head.id == id) {
            self.head = self.first_from(priority);
        }
        Some(found)
    }

    fn merge(&mut self, lines: [Line; Priority::ALL.len()]) {
        for (line, other) in self.lines.iter_mut().zip(lines) {
            if other.len() > 0 {
                line.merge(other);
            }
        }
        self.head = self.first_from(Priority::High);
    }

    /// The first of the jobs of this priority and the less urgent ones.
    fn first_from(&self, priority: Priority) -> Option<(Priority, Waiting)> {
        let priorities = &Priority::ALL[priority as usize..];
        priorities.iter().find_map(|priority| {
            let first = self.lines[*priority as usize].first()?;
            Some((*priority, *first))
        })
    }

    /// Its head, with the bytes of its params.
    fn head(&self) -> Option<(Head, u32)> {
        let (priority, first) = self.head?;
        Some(((priority, first.due, first.id), first.bytes))
    }
}

/// Lanes by name, and by whether they are those of suspects.
#[derive(Default)]
struct Lanes(Vec<[Option<Box<Lane>>; 2]>);

impl Lanes {
    fn get(&self, key: LaneKey) -> Option<&Lane> {
        self.0.get(key.name.index())?[usize::from(key.suspects)].as_deref()
    }

    fn get_mut(&mut self, key: LaneKey) -> Option<&mut Lane> {
        self.0.get_mut(key.name.index())?[usize::from(key.suspects)].as_deref_mut()
    }

    fn get_or_new(&mut self, key: LaneKey) -> &mut Lane {
        let place = key.name.index();
        if self.0.len() <= place {
            self.0.resize_with(place + 1, Default::default);
        }
        self.0[place][usize::from(key.suspects)].get_or_insert_default()
    }

    fn remove(&mut self, key: LaneKey) -> Option<Box<Lane>> {
        self.0.get_mut(key.name.index())?[usize::from(key.suspects)].take()
    }

    fn all(&self) -> impl Iterator<Item = &Lane> {
        self.0.iter().flatten().flatten().map(|lane| &**lane)
    }
}

/// All lanes, and what is next in them.
#[derive(Default)]
pub(super) struct Lines {
    lanes: Lanes,
    heads: Heads,
    /// Names of which nothing may be taken at the moment.
    closed: BTreeSet<NameKey>,
}

impl Lines {
    /// Puts a job into its lane.
    pub(super) fn push(&mut self, priority: Priority, waiting: Waiting) {
        let key = LaneKey {
            name: waiting.name,
            suspects: waiting.is_suspect(),
        };
        self.lanes.get_or_new(key).push(priority, waiting);
        self.refresh(key);
    }

    /// How many jobs wait.
    pub(super) fn len(&self) -> usize {
        let lines = self.lanes.all().flat_map(|lane| &lane.lines);
        lines.map(Line::len).sum()
    }

    /// How many lanes have a job and somebody to take it.
    pub(super) fn ready(&self) -> usize {
        self.heads.len()
    }

    /// The lane whose head is next, among those that have somebody to take from them, and the head with its bytes.
    pub(super) fn next(&self) -> Option<(LaneKey, Head, u32)> {
        let Ready { head, lane, bytes } = self.heads.first()?;
        Some((lane, head, bytes))
    }

    /// The head of a lane with its bytes, whether somebody takes from the lane or not; none while its name is closed.
    pub(super) fn head(&self, key: LaneKey) -> Option<(Head, u32)> {
        let lane = self.lanes.get(key);
        lane.filter(|_| !self.closed.contains(&key.name))?.head()
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
        let taken = self.lanes.get_mut(key)?.pop()?;
        self.refresh(key);
        Some(taken)
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
            let found = self.lanes.get_mut(key)?.remove(priority, due, id)?;
            self.refresh(key);
            Some(found)
        })
    }

    /// The line that a lane's head stands in.
    pub(super) fn head_line(&self, key: LaneKey) -> Option<&Line> {
        let lane = self.lanes.get(key)?;
        let (priority, _) = lane.head?;
        Some(&lane.lines[priority as usize])
    }

    /// Whether it is to be looked at whether to read ahead in a lane: at its first job, and at each `every`th from then on.
    pub(super) fn is_look_due(&mut self, key: LaneKey, every: usize) -> bool {
        let Some(lane) = self.lanes.get_mut(key) else {
            return false;
        };
        let left = lane.before_look.checked_sub(1);
        lane.before_look = left.unwrap_or(every.saturating_sub(1));
        left.is_none()
    }

    /// Forgets a name of which nothing waits and that nobody takes.
    pub(super) fn forget(&mut self, name: NameKey) {
        for key in LaneKey::both(name) {
            if let Some(lane) = self.lanes.remove(key) {
                debug_assert!(lane.ready.is_none() && lane.head.is_none(), "nothing waits there");
            }
        }
    }

    /// Lets a session take from a lane that it does not take from.
    pub(super) fn add_taker(&mut self, key: LaneKey, session: SessionId) {
        let lane = self.lanes.get_or_new(key);
        // Looking for it would make waking many sessions at once take a square of their number.
        debug_assert!(
            !lane.takers.contains(&session),
            "a session has one turn at a lane"
        );
        lane.takers.push_back(session);
        lane.turn = lane.takers.front().copied();
        self.refresh(key);
    }

    /// A session takes no more from a lane.
    pub(super) fn remove_taker(&mut self, key: LaneKey, session: SessionId) {
        if let Some(lane) = self.lanes.get_mut(key) {
            if lane.takers.front() == Some(&session) {
                lane.takers.pop_front();
            } else {
                lane.takers.retain(|s| *s != session);
            }
            lane.turn = lane.takers.front().copied();
            self.refresh(key);
        }
    }

    /// The session whose turn it is at a lane.
    pub(super) fn taker(&self, key: LaneKey) -> Option<SessionId> {
        self.lanes.get(key)?.turn
    }

    /// The session whose turn it was has taken.
    pub(super) fn rotate(&mut self, key: LaneKey) {
        if let Some(lane) = self.lanes.get_mut(key)
            && lane.takers.len() > 1
        {
            lane.takers.rotate_left(1);
            lane.turn = lane.takers.front().copied();
        }
    }

    /// Puts jobs that were held back into their lanes.
    pub(super) fn release(&mut self, name: NameKey, held: HeldBack) {
        for (suspects, lines) in [(false, held.others), (true, held.suspects)] {
            let key = LaneKey { name, suspects };
            self.lanes.get_or_new(key).merge(lines);
            self.refresh(key);
        }
    }

    /// Notes the head of a lane, after something about the lane has changed.
    fn refresh(&mut self, key: LaneKey) {
        let is_closed = self.closed.contains(&key.name);
        let Some(lane) = self.lanes.get_mut(key) else {
            return;
        };
        let is_ready = lane.turn.is_some() && !is_closed;
        let head = lane.head().filter(|_| is_ready);
        let ready = head.map(|(head, _)| head);
        let before = std::mem::replace(&mut lane.ready, ready);
        if ready != before {
            let ready = head.map(|(head, bytes)| Ready {
                head,
                lane: key,
                bytes,
            });
            let lanes = &self.lanes;
            let is_head = |ready: &Ready| {
                let lane = lanes.get(ready.lane);
                lane.is_some_and(|lane| lane.ready == Some(ready.head))
            };
            self.heads.replace(before, ready, is_head);
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

#[cfg(test)]
mod tests {
    use super::super::paged_map::Number;
    use super::*;

    const NAMES: u64 = 40;

    fn lane(number: u64) -> LaneKey {
        LaneKey {
            name: NameKey::from_number(number),
            suspects: false,
        }
    }

    /// The least of all heads, found by looking at each lane.
    fn least(lines: &Lines) -> Option<(LaneKey, Head)> {
        let is_open = |key: &LaneKey| !lines.closed.contains(&key.name) && lines.taker(*key).is_some();
        let heads = (0..NAMES).map(lane).filter(is_open).filter_map(|key| {
            let (priority, first) = lines.lanes.get(key)?.first_from(Priority::High)?;
            Some((key, (priority, first.due, first.id)))
        });
        heads.min_by_key(|(_, head)| *head)
    }

    #[test]
    fn the_next_head_is_the_least_of_all_and_no_more_are_kept_than_a_few_for_each_lane() {
        let mut lines = Lines::default();
        let mut state = 1_u64;
        let mut chance = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        let (mut found, mut waiting) = (0, Vec::new());
        for id in 1..=40_000_u64 {
            let key = lane(chance(NAMES));
            match chance(9) {
                0..4 => {
                    let due = Wall((id / 5).saturating_sub(chance(300)).cast_signed());
                    let priority = Priority::ALL[chance(3) as usize];
                    lines.push(priority, Waiting::new(key.name, due, JobId(id), 1, 0, 0));
                    waiting.push((key.name, priority, due, JobId(id)));
                }
                4 if !waiting.is_empty() => {
                    let place = chance(waiting.len() as u64) as usize;
                    let (name, priority, due, id) = waiting.swap_remove(place);
                    lines.remove(name, priority, due, id);
                }
                5 if lines.taker(key).is_some() => lines.remove_taker(key, SessionId(1)),
                5 => lines.add_taker(key, SessionId(1)),
                6 if chance(2) == 0 => lines.close(key.name),
                6 => lines.open(key.name),
                _ => {
                    if let Some((key, ..)) = lines.next() {
                        assert!(lines.pop(key).is_some());
                        found += 1;
                    }
                }
            }
            assert_eq!(lines.next().map(|(key, head, _)| (key, head)), least(&lines));
            assert!(lines.ready() <= NAMES as usize);
            assert!(lines.heads.entries() <= lines.heads.most_entries());
        }
        assert!(found > 1_000 && lines.len() > 100, "{found}, {}", lines.len());
    }
}
