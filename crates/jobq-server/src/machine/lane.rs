//! Jobs of one name that are next by themselves, and the sessions that may take jobs of the name.

use std::collections::VecDeque;

use super::line::Waiting;
use super::names::NameKey;
use super::priority_queue::{Place, PriorityQueue};
use crate::store::SessionId;

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

/// A job in line, as far as it matters who takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Head {
    pub(super) place: Place,
    /// Of its name, and of suspects if it is one: whoever may take from that lane may take the job.
    pub(super) lane: LaneKey,
    /// Of its params.
    pub(super) bytes: u32,
}

impl Head {
    pub(super) fn new(place: Place, waiting: &Waiting) -> Self {
        Self {
            place,
            lane: waiting.lane(),
            bytes: waiting.bytes,
        }
    }
}

/// A lane.
#[derive(Default)]
pub(super) struct Lane {
    pub(super) jobs: PriorityQueue,
    /// Its first job as it stands among the heads of the lanes, if it does.
    pub(super) ready: Option<Head>,
    /// Sessions that may take from it, as far as is known; the one that has waited longest is first.
    takers: VecDeque<SessionId>,
}

/// What is kept for a lane, whether there is one or not.
#[derive(Default)]
struct Slot {
    /// The first of the lane's takers. Each job asks for it, and the next job is of another name as a rule: it stands here, and
    /// not in the lane, so that those of thousands of names are near each other.
    turn: Option<SessionId>,
    lane: Option<Box<Lane>>,
}

/// Lanes by name, and by whether they are those of suspects.
#[derive(Default)]
pub(super) struct Lanes(Vec<[Slot; 2]>);

impl Lanes {
    pub(super) fn get(&self, key: LaneKey) -> Option<&Lane> {
        self.slot(key)?.lane.as_deref()
    }

    pub(super) fn get_mut(&mut self, key: LaneKey) -> Option<&mut Lane> {
        self.slot_mut(key)?.lane.as_deref_mut()
    }

    pub(super) fn get_or_new(&mut self, key: LaneKey) -> &mut Lane {
        let place = key.name.index();
        if self.0.len() <= place {
            self.0.resize_with(place + 1, Default::default);
        }
        self.0[place][usize::from(key.suspects)]
            .lane
            .get_or_insert_default()
    }

    pub(super) fn remove(&mut self, key: LaneKey) -> Option<Box<Lane>> {
        let Slot { lane, .. } = std::mem::take(self.slot_mut(key)?);
        lane
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Lane> {
        self.0.iter().flatten().filter_map(|slot| slot.lane.as_deref())
    }

    /// The session whose turn it is at a lane.
    pub(super) fn turn(&self, key: LaneKey) -> Option<SessionId> {
        self.slot(key)?.turn
    }

    /// The session whose turn it was at a lane has taken.
    pub(super) fn rotate(&mut self, key: LaneKey) {
        self.change_takers(key, |takers| {
            if takers.len() > 1 {
                takers.rotate_left(1);
            }
        });
    }

    /// Lets a session take that does not take yet.
    pub(super) fn add_taker(&mut self, key: LaneKey, session: SessionId) {
        self.get_or_new(key);
        self.change_takers(key, |takers| {
            // Looking for it would make waking many sessions at once take a square of their number.
            debug_assert!(!takers.contains(&session), "a session has one turn at a lane");
            takers.push_back(session);
        });
    }

    /// A session takes no more.
    pub(super) fn remove_taker(&mut self, key: LaneKey, session: SessionId) {
        self.change_takers(key, |takers| {
            if takers.front() == Some(&session) {
                takers.pop_front();
            } else {
                takers.retain(|s| *s != session);
            }
        });
    }

    fn change_takers(&mut self, key: LaneKey, change: impl FnOnce(&mut VecDeque<SessionId>)) {
        if let Some(Slot {
            turn,
            lane: Some(lane),
        }) = self.slot_mut(key)
        {
            change(&mut lane.takers);
            *turn = lane.takers.front().copied();
        }
    }

    fn slot(&self, key: LaneKey) -> Option<&Slot> {
        Some(&self.0.get(key.name.index())?[usize::from(key.suspects)])
    }

    fn slot_mut(&mut self, key: LaneKey) -> Option<&mut Slot> {
        Some(&mut self.0.get_mut(key.name.index())?[usize::from(key.suspects)])
    }
}
