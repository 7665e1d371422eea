//! How long records of ended jobs are kept, and when the store is told to give some up.

use std::collections::VecDeque;
use std::time::Duration;

use jobq_proto::Status;

use super::Machine;
use super::names::NameKey;
use super::pace::Pace;
use crate::store::{ByEnd, Count, NameTotals, Prune, Pruned};
use crate::time::{Mono, Now, Wall};

/// How long a record is kept in any case that goes only since there are too many: so long is its uuid remembered.
const LEAST_AGE: Duration = Keep::LEAST_AGE;

/// What is told as the uuid window where records are kept for ever.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// How soon after one removal of old records the next begins: as soon as a small part of the shortest age has passed,
/// so that what goes one by one goes together.
const SOONEST: Duration = Duration::from_secs(1);
/// … and at the latest when something is due for so long.
const LATEST: Duration = Duration::from_secs(60);
/// The part.
const PART: u32 = 64;

/// How many times as fast as time itself the calendar may go before records are not believed to be as old as it says.
const FASTEST: u32 = 2;

/// A wall clock that has been ahead of the calendar for so long is written down as the time when jobs end: it was
/// behind before, rather than being wrong now.
const BELIEVED: Duration = Duration::from_secs(3600);

/// No clock that has been set is before this (2025-01-01): a calendar that is follows the wall clock at once.
const EARLIEST: Wall = Wall(1_735_689_600_000_000);

/// After a start no record goes for so long, or for the uuid window if that is shorter: the calendar alone says how
/// long the server was down, and clients are still repeating what it had not answered.
const AFTER_START: Duration = Duration::from_secs(600);

/// How long records of ended jobs are kept. What is absent is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Keep {
    /// Those of completed jobs.
    pub completed: Option<Duration>,
    /// Those of dead letters.
    pub failed: Option<Duration>,
    /// Those of cancelled jobs.
    pub cancelled: Option<Duration>,
    /// Most records of each of these; beyond it those of the lowest ids go, but none within a minute of its job's end.
    pub count: Option<u64>,
}

impl Keep {
    /// How long a record stays if it goes only since there are too many, and the least that a program should set for
    /// the others: a submit that is repeated after a lost connection is one job with the first only as long as there
    /// is a record of that.
    pub const LEAST_AGE: Duration = Duration::from_secs(60);
}

impl Default for Keep {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self {
            completed: Some(7 * DAY),
            failed: Some(30 * DAY),
            cancelled: Some(7 * DAY),
            count: None,
        }
    }
}

impl Keep {
    /// How long a uuid is remembered in any case after its job has ended.
    pub fn uuid_window(&self) -> Duration {
        self.shortest().unwrap_or(FOR_EVER)
    }

    fn ages(&self) -> ByEnd<Option<Duration>> {
        ByEnd {
            completed: self.completed,
            failed: self.failed,
            cancelled: self.cancelled,
        }
    }

    fn shortest(&self) -> Option<Duration> {
        let by_count = self.count.map(|_| LEAST_AGE);
        self.ages()
            .values()
            .into_iter()
            .copied()
            .chain([by_count])
            .flatten()
            .min()
    }

    /// How long after a removal the next one may begin.
    fn spacing(&self) -> Duration {
        let shortest = self.shortest().unwrap_or(FOR_EVER);
        (shortest / PART).clamp(SOONEST, LATEST)
    }
}

/// Which records there are, as far as that says when some are to go.
#[derive(Debug)]
pub(super) struct Retention {
    totals: ByEnd<u64>,
    /// When the first jobs ended that have records. Unknown until the store has been asked for the first time.
    oldest: Option<ByEnd<Option<Wall>>>,
    /// When the first jobs ended since the store was asked last …
    since_asked: ByEnd<Option<Wall>>,
    /// … and between that time and the one before: when it was asked, it may not have had them yet.
    before_asked: ByEnd<Option<Wall>>,
    is_asked: bool,
    /// There is more to do for what is due.
    more: bool,
    pace: Pace,
    not_before: Mono,
    calendar: Calendar,
    recent: Recent,
}

/// The calendar as far as records go by it. When the wall clock jumps ahead, this one follows at a walk, so that what
/// is to be kept for days does not go at once; when that was a mistake and is mended, it goes with it.
#[derive(Debug)]
struct Calendar {
    latest: Wall,
    at: Mono,
    /// Since when the wall clock has been ahead of this.
    behind_since: Option<Mono>,
}

impl Calendar {
    /// The time by this calendar: never later than the wall clock says.
    fn advance(&mut self, now: Now) -> Wall {
        let believed = self.latest.plus(now.mono.since(self.at) * FASTEST);
        self.latest = match self.latest < EARLIEST {
            true => now.wall,
            false => self.latest.max(believed.min(now.wall)),
        };
        self.at = now.mono;
        if self.latest >= now.wall {
            self.behind_since = None;
        } else {
            self.behind_since.get_or_insert(now.mono);
        }
        self.latest.min(now.wall)
    }

    /// The time to write down for a job that ends now.
    fn end_time(&mut self, now: Now) -> Wall {
        let today = self.advance(now);
        match self.behind_since {
            Some(since) if now.mono.since(since) >= BELIEVED => now.wall,
            _ => today,
        }
    }
}

/// The jobs that ended within the uuid window of real time: their records stay, whatever the calendar says.
#[derive(Debug)]
struct Recent {
    window: Duration,
    /// For each part of the window in which jobs ended, when it began and the earliest end that was written down in it.
    /// The oldest is first; there are at most [`PART`] and two.
    parts: VecDeque<(Mono, Wall)>,
}

impl Recent {
    fn part(&self) -> Duration {
        self.window / PART
    }

    fn add(&mut self, now: Mono, at: Wall) {
        self.forget(now);
        let part = self.part();
        match self.parts.back_mut() {
            Some((begun, earliest)) if now.since(*begun) < part => *earliest = at.min(*earliest),
            _ => self.parts.push_back((now, at)),
        }
    }

    /// When those of the oldest part are no longer recent.
    fn next(&self) -> Option<Mono> {
        let (begun, _) = self.parts.front()?;
        Some(begun.plus(self.window).plus(self.part()))
    }

    fn forget(&mut self, now: Mono) {
        while self.next().is_some_and(|at| at <= now) {
            self.parts.pop_front();
        }
    }

    /// Records of this end and later ones are to stay.
    fn earliest(&self) -> Option<Wall> {
        self.parts.iter().map(|(_, earliest)| *earliest).min()
    }
}

/// When the first record of a status is to go.
#[derive(Debug, Clone, Copy)]
struct Due {
    at: Wall,
    /// Nor before [`Recent::next`].
    is_recent: bool,
}

impl Retention {
    pub(super) fn new(keep: &Keep, names: &[NameTotals], clock: Wall, now: Now) -> Self {
        let mut totals = ByEnd::default();
        for name in names {
            totals.completed += name.completed;
            totals.failed += name.failed;
            totals.cancelled += name.cancelled;
        }
        Self {
            totals,
            oldest: None,
            since_asked: ByEnd::default(),
            before_asked: ByEnd::default(),
            is_asked: false,
            more: false,
            pace: Pace::default(),
            not_before: now.mono,
            calendar: Calendar {
                latest: clock.max(now.wall),
                at: now.mono,
                behind_since: None,
            },
            recent: Recent {
                window: keep.uuid_window(),
                parts: VecDeque::new(),
            },
        }
    }

    /// Peers can connect from now on.
    pub(super) fn begin(&mut self, now: Mono) {
        if self.totals != ByEnd::default() {
            self.not_before = now.plus(self.recent.window.min(AFTER_START));
        }
    }

    /// A job ended.
    fn ended(&mut self, now: Mono, status: Status, at: Wall) {
        // The calendar may have gone back since the one before.
        let earlier = |first: &mut Option<Wall>| *first = Some(first.map_or(at, |first| first.min(at)));
        *self.totals.of_mut(status) += 1;
        earlier(self.since_asked.of_mut(status));
        if let Some(oldest) = &mut self.oldest {
            earlier(oldest.of_mut(status));
        }
        self.recent.add(now, at);
    }

    /// By the calendar, when the next record of each status is to go.
    fn due(&self, keep: &Keep) -> impl Iterator<Item = Due> {
        let recent = self.recent.earliest();
        let due = move |status| {
            let Some(oldest) = &self.oldest else {
                return Some(Due {
                    at: Wall(i64::MIN),
                    is_recent: false,
                });
            };
            let too_many = keep.count.is_some_and(|most| *self.totals.of(status) > most);
            let by_count = too_many.then_some(LEAST_AGE);
            let age = [*keep.ages().of(status), by_count].into_iter().flatten().min()?;
            let ended = (*oldest.of(status))?;
            Some(Due {
                // A record goes when it is older than that.
                at: ended.plus(age).plus(Duration::from_micros(1)),
                is_recent: recent.is_some_and(|recent| ended >= recent),
            })
        };
        ByEnd::STATUSES.into_iter().filter_map(due)
    }
}

impl Machine {
    /// What is written down as the end of a job that ends now: the wall clock's time, but that of the calendar which
    /// records go by while the wall clock has jumped ahead of it. So a mistake that is mended within an hour leaves no
    /// records from a future that is long in coming.
    pub(super) fn end_time(&mut self) -> Wall {
        self.retention.calendar.end_time(self.now)
    }

    /// Counts a job that ended.
    pub(super) fn count_ended(&mut self, name: NameKey, status: Status, at: Wall) {
        self.names.count_ended(name, status);
        self.retention.ended(self.now.mono, status, at);
    }

    /// Records that the store is to give up. Nothing more comes before [`Machine::handle_pruned`].
    pub fn poll_prune(&mut self) -> Option<Prune> {
        let now = self.now;
        let retention = &mut self.retention;
        if retention.is_asked || self.closing || now.mono < retention.not_before {
            return None;
        }
        let today = retention.calendar.advance(now);
        retention.recent.forget(now.mono);
        let keep = &self.config.keep;
        let is_due = |due: Due| due.at <= today && !due.is_recent;
        if !retention.more && !retention.due(keep).any(is_due) {
            return None;
        }
        let recent = retention.recent.earliest().unwrap_or(Wall(i64::MAX));
        retention.is_asked = true;
        retention.before_asked = std::mem::take(&mut retention.since_asked);
        let ago = |age: Duration| {
            let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
            Wall(today.0.saturating_sub(age)).min(recent)
        };
        Some(Prune {
            before: keep.ages().map(|age| age.map_or(Wall(i64::MIN), ago)),
            count: keep.count.map(|most| Count {
                most,
                before: ago(LEAST_AGE),
            }),
        })
    }

    /// The store has given records up.
    pub fn handle_pruned(&mut self, now: Now, pruned: Pruned) {
        self.tick(now);
        for gone in &pruned.gone {
            self.names.count_gone(gone);
            let totals = &mut self.retention.totals;
            totals.completed = totals.completed.saturating_sub(gone.completed);
            totals.failed = totals.failed.saturating_sub(gone.failed);
            totals.cancelled = totals.cancelled.saturating_sub(gone.cancelled);
        }
        let retention = &mut self.retention;
        let mut oldest = pruned.oldest;
        for status in ByEnd::STATUSES {
            let known = [
                *oldest.of(status),
                *retention.before_asked.of(status),
                *retention.since_asked.of(status),
            ];
            *oldest.of_mut(status) = known.into_iter().flatten().min();
        }
        retention.oldest = Some(oldest);
        retention.is_asked = false;
        retention.more = pruned.more;
        if !pruned.more {
            retention.pace = Pace::default();
        } else if !pruned.gone.is_empty() {
            retention.pace.left(retention.totals.values().into_iter().sum());
        }
        let wait = match pruned.more {
            true if self.pending.is_idle() => Duration::ZERO,
            true => retention.pace.pause(),
            false => self.config.keep.spacing(),
        };
        retention.not_before = now.mono.plus(wait);
    }

    /// When records are to go, if the calendar goes on as it does.
    pub(super) fn next_prune(&self) -> Option<Mono> {
        let retention = &self.retention;
        if retention.is_asked || self.closing {
            return None;
        }
        let due = match retention.more {
            true => self.now.mono,
            false => {
                let today = self.now.wall.min(retention.calendar.latest);
                let recent = retention.recent.next().unwrap_or_default();
                let due = |due: Due| {
                    let at = self.now.mono.plus(due.at.since(today));
                    if due.is_recent { at.max(recent) } else { at }
                };
                retention.due(&self.config.keep).map(due).min()?
            }
        };
        Some(due.max(retention.not_before))
    }
}
