//! The jobs that wait: who is next, and who may take it.
//!
//! Jobs of all names stand in one common queue, in the order in which they are to be handed out, and its first is next as a
//! rule. So a job costs the same however many names there are, and choosing the next one never looks through the names.
//!
//! A job that comes up there while nobody may take it is set aside, into the [lane](super::lane::Lane) of its name: once, and
//! there it stands before no other name's. Some stand in lanes from the beginning. Suspects, jobs whose workers were
//! lost, have lanes of their own, so that a session which may take no suspect takes the next other job instead. Jobs of a
//! name with a cap are in its lane, which is closed while the name is at its cap.
//!
//! The heads of all lanes that have somebody to take from them and are not closed are kept in order. The next job is the
//! first of these or the first in common, whichever is more urgent.

use std::collections::BTreeSet;

use jobq_proto::{JobId, Priority};

use super::lane::{Head, LaneKey, Lanes};
use super::line::{Line, Waiting};
use super::names::NameKey;
use super::priority_queue::PriorityQueue;
use crate::store::SessionId;
use crate::time::Wall;

/// The job that is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) head: Head,
    /// Whether it stands in common.
    pub(super) in_common: bool,
}

/// All jobs in line.
#[derive(Default)]
pub(super) struct Lines {
    common: PriorityQueue,
    lanes: Lanes,
    /// The first jobs of the lanes that are open and have takers.
    heads: BTreeSet<Head>,
    /// Names of which nothing may be taken at the moment.
    closed: BTreeSet<NameKey>,
}

impl Lines {
    /// Puts a job in line with those of all other names. It is to be no suspect, and of a name without a cap.
    pub(super) fn push(&mut self, priority: Priority, waiting: Waiting) {
        debug_assert!(
            !waiting.is_suspect() && !self.closed.contains(&waiting.name),
            "it is for its lane"
        );
        self.common.push(priority, waiting);
    }

    /// Puts a job into its lane.
    pub(super) fn push_apart(&mut self, priority: Priority, waiting: Waiting) {
        let key = waiting.lane();
        self.lanes.get_or_new(key).jobs.push(priority, waiting);
        self.refresh(key);
    }

    /// How many jobs wait.
    pub(super) fn len(&self) -> usize {
        let apart: usize = self.lanes.all().map(|lane| lane.jobs.len()).sum();
        self.common.len() + apart
    }

    /// How many lanes have a job and somebody to take it.
    pub(super) fn ready_lanes(&self) -> usize {
        self.heads.len()
    }

    /// The job that is next, among those that somebody may take. Before it is found this sets so many aside at most, and
    /// takes them off `aside`; once that is 0 there may be others still.
    pub(super) fn next(&mut self, aside: &mut usize) -> Option<Next> {
        loop {
            let apart = self.heads.first().copied().map(|head| Next {
                head,
                in_common: false,
            });
            let Some((place, waiting)) = self.common.head() else {
                return apart;
            };
            if apart.is_some_and(|apart| apart.head.place < place) {
                return apart;
            }
            if self.taker(waiting.lane()).is_some() {
                return Some(Next {
                    head: Head::new(place, &waiting),
                    in_common: true,
                });
            }
            *aside = aside.checked_sub(1)?;
            if let Some((priority, waiting)) = self.common.pop() {
                self.push_apart(priority, waiting);
            }
        }
    }

    /// Takes the job that is next.
    pub(super) fn take(&mut self, next: &Next) -> Option<(Priority, Waiting)> {
        if next.in_common {
            return self.common.pop();
        }
        let key = next.head.lane;
        let taken = self.lanes.get_mut(key)?.jobs.pop()?;
        self.refresh(key);
        Some(taken)
    }

    /// The first job in a lane, whether somebody takes from the lane or not; none while its name is closed.
    pub(super) fn head(&self, key: LaneKey) -> Option<Head> {
        let lane = self.lanes.get(key)?;
        let (place, first) = lane.jobs.head().filter(|_| !self.closed.contains(&key.name))?;
        Some(Head::new(place, &first))
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

    /// Takes a job out of its line, wherever it stands.
    pub(super) fn remove(
        &mut self,
        name: NameKey,
        priority: Priority,
        due: Wall,
        id: JobId,
    ) -> Option<Waiting> {
        let in_common = self.common.remove(priority, due, id);
        in_common.or_else(|| {
            LaneKey::both(name).into_iter().find_map(|key| {
                let found = self.lanes.get_mut(key)?.jobs.remove(priority, due, id)?;
                self.refresh(key);
                Some(found)
            })
        })
    }

    /// The line that the next job stands in.
    pub(super) fn line_of(&self, next: &Next) -> Option<&Line> {
        if next.in_common {
            return self.common.head_line();
        }
        self.lanes.get(next.head.lane)?.jobs.head_line()
    }

    /// Whether it is to be looked at whether to read ahead where the next job stands: once for `every` job that is taken
    /// from there.
    pub(super) fn is_look_due(&mut self, next: &Next, every: usize) -> bool {
        if next.in_common {
            return self.common.is_look_due(every);
        }
        let lane = self.lanes.get_mut(next.head.lane);
        lane.is_some_and(|lane| lane.jobs.is_look_due(every))
    }

    /// Forgets a name of which nothing waits and that nobody takes.
    pub(super) fn forget(&mut self, name: NameKey) {
        for key in LaneKey::both(name) {
            if let Some(lane) = self.lanes.remove(key) {
                debug_assert!(
                    lane.ready.is_none() && lane.jobs.head().is_none(),
                    "nothing waits there"
                );
            }
        }
    }

    /// Lets a session take jobs of a lane that it does not take yet.
    pub(super) fn add_taker(&mut self, key: LaneKey, session: SessionId) {
        self.lanes.add_taker(key, session);
        self.refresh(key);
    }

    /// A session takes no more jobs of a lane.
    pub(super) fn remove_taker(&mut self, key: LaneKey, session: SessionId) {
        self.lanes.remove_taker(key, session);
        self.refresh(key);
    }

    /// The session whose turn it is at a lane.
    pub(super) fn taker(&self, key: LaneKey) -> Option<SessionId> {
        self.lanes.turn(key)
    }

    /// The session whose turn it was at a lane has taken.
    pub(super) fn rotate(&mut self, key: LaneKey) {
        self.lanes.rotate(key);
    }

    /// Puts jobs that were held back into their lanes.
    pub(super) fn release(&mut self, name: NameKey, held: HeldBack) {
        for (suspects, jobs) in [(false, held.others), (true, held.suspects)] {
            let key = LaneKey { name, suspects };
            self.lanes.get_or_new(key).jobs.merge(jobs);
            self.refresh(key);
        }
    }

    /// Notes the head of a lane, after something about the lane has changed.
    fn refresh(&mut self, key: LaneKey) {
        let is_ready = self.taker(key).is_some() && !self.closed.contains(&key.name);
        let Some(lane) = self.lanes.get_mut(key) else {
            return;
        };
        let head = lane.jobs.head().filter(|_| is_ready);
        let head = head.map(|(place, first)| Head::new(place, &first));
        let before = std::mem::replace(&mut lane.ready, head);
        if head != before {
            if let Some(before) = before {
                self.heads.remove(&before);
            }
            self.heads.extend(head);
        }
    }
}

/// Jobs of one name that may still be running at a worker that was there before the start.
#[derive(Default)]
pub(super) struct HeldBack {
    others: PriorityQueue,
    suspects: PriorityQueue,
}

impl HeldBack {
    pub(super) fn push(&mut self, priority: Priority, waiting: Waiting) {
        let jobs = if waiting.is_suspect() {
            &mut self.suspects
        } else {
            &mut self.others
        };
        jobs.push(priority, waiting);
    }

    pub(super) fn len(&self) -> usize {
        self.others.len() + self.suspects.len()
    }

    pub(super) fn remove(&mut self, priority: Priority, due: Wall, id: JobId) -> Option<Waiting> {
        let other = self.others.remove(priority, due, id);
        other.or_else(|| self.suspects.remove(priority, due, id))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::paged_map::Number;
    use super::super::priority_queue::Place;
    use super::*;

    const NAMES: u64 = 40;

    /// Of these many names the jobs stand in lanes from the beginning, and may be closed.
    const CAPPED: u64 = 10;

    fn lane(number: u64) -> LaneKey {
        LaneKey {
            name: NameKey::from_number(number),
            suspects: false,
        }
    }

    fn next(lines: &mut Lines) -> Option<Next> {
        let mut aside = usize::MAX;
        lines.next(&mut aside)
    }

    #[test]
    fn the_next_job_is_the_most_urgent_of_all_that_somebody_may_take() {
        let mut lines = Lines::default();
        let mut state = 1_u64;
        let mut chance = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        let mut waiting: BTreeMap<Place, LaneKey> = BTreeMap::new();
        let (mut taken, mut taken_apart) = (0, 0);
        for id in 1..=40_000_u64 {
            let number = chance(NAMES);
            let key = lane(number);
            match chance(9) {
                0..4 => {
                    let due = Wall((id / 5).saturating_sub(chance(300)).cast_signed());
                    let priority = Priority::ALL[chance(3) as usize];
                    let job = Waiting::new(key.name, due, JobId(id), 1, 0, 0);
                    if number < CAPPED {
                        lines.push_apart(priority, job);
                    } else {
                        lines.push(priority, job);
                    }
                    waiting.insert((priority, due, JobId(id)), key);
                }
                4 => {
                    let place = (Priority::ALL[chance(3) as usize], Wall(0), JobId(0));
                    let found = waiting.range(place..).nth(chance(20) as usize);
                    if let Some((&(priority, due, id), &key)) = found {
                        let removed = lines.remove(key.name, priority, due, id);
                        assert_eq!(removed.map(|job| job.id), Some(id));
                        waiting.remove(&(priority, due, id));
                    }
                }
                5 if lines.taker(key).is_some() => lines.remove_taker(key, SessionId(1)),
                5 => lines.add_taker(key, SessionId(1)),
                6 if chance(2) == 0 => lines.close(lane(number % CAPPED).name),
                6 => lines.open(lane(number % CAPPED).name),
                _ => {
                    if let Some(next) = next(&mut lines) {
                        let (priority, job) = lines.take(&next).expect("it is next");
                        assert_eq!((priority, job.due, job.id), next.head.place);
                        waiting.remove(&next.head.place);
                        taken += 1;
                        taken_apart += usize::from(!next.in_common);
                    }
                }
            }
            let may_be_taken = |key: LaneKey| !lines.closed.contains(&key.name) && lines.taker(key).is_some();
            let least = waiting.iter().find(|(_, key)| may_be_taken(**key));
            let expected = least.map(|(place, key)| (*place, *key));
            assert_eq!(
                next(&mut lines).map(|next| (next.head.place, next.head.lane)),
                expected
            );
            assert_eq!(lines.len(), waiting.len());
        }
        assert!(taken > 1_000 && lines.len() > 100, "{taken}, {}", lines.len());
        assert!(taken_apart > 500 && taken - taken_apart > 500, "{taken_apart}");
    }

    #[test]
    fn no_more_jobs_are_set_aside_at_a_time_than_is_said() {
        let mut lines = Lines::default();
        for id in 1..=10 {
            lines.push(
                Priority::Normal,
                Waiting::new(lane(0).name, Wall(0), JobId(id), 1, 0, 0),
            );
        }
        lines.push(
            Priority::Normal,
            Waiting::new(lane(1).name, Wall(0), JobId(11), 1, 0, 0),
        );
        lines.add_taker(lane(1), SessionId(1));
        let mut aside = 6;
        assert_eq!((lines.next(&mut aside), aside), (None, 0));
        assert_eq!(lines.len(), 11);
        let mut aside = 6;
        let next = lines.next(&mut aside).expect("it has come up");
        assert_eq!((next.head.place.2, next.in_common, aside), (JobId(11), true, 2));
        lines.add_taker(lane(0), SessionId(1));
        let next = lines.next(&mut aside).expect("somebody takes it again");
        assert_eq!((next.head.place.2, next.in_common, aside), (JobId(1), false, 2));
    }
}
