//! Who waits for the end of which job.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use jobq_proto::message::{Ended, EndedJob, Progressed, ProgressedJob, Unwatch, Watch};
use jobq_proto::{ServerMessage, WireError};

use super::{Lane, Numbers, Terms};
use crate::clock::BootTime;

/// Bytes of results and reasons that a Watch takes with its answers for each of its jobs; what is larger is fetched
/// when somebody asks for it.
const BYTES_PER_JOB: u64 = 64 * 1024;

/// Most bytes that one Watch takes with its answers.
const MAX_BYTES: u64 = 1024 * 1024;

/// How long a Watch that was refused for a passing reason is not repeated.
const REFUSAL_WAIT: Duration = Duration::from_secs(1);

/// What those who wait are told.
#[derive(Debug, Clone, PartialEq)]
pub enum WatchEvent {
    /// One of their jobs has ended, or does not exist.
    Ended(EndedJob),
    /// One of their jobs has come further.
    Progressed(ProgressedJob),
    /// They will hear nothing more: the server refused.
    Refused(WireError),
}

/// The watches of one client: groups of jobs, each with somebody who waits for them.
///
/// Watches belong to a connection, so they are sent again on the next one. No more jobs are watched at a time than
/// the server allows; the groups take turns.
#[derive(Debug)]
pub struct Watches {
    groups: BTreeMap<u64, Group>,
    /// Groups with jobs that are not watched yet.
    ready: VecDeque<u64>,
    /// Watches on this connection.
    parts: BTreeMap<u64, Part>,
    numbers: Numbers,
    /// Jobs in all parts.
    watched: usize,
    terms: Option<Terms>,
    unwatch: VecDeque<u64>,
    events: VecDeque<(u64, WatchEvent)>,
    /// Refused watches come back at this time.
    paused_until: Option<BootTime>,
}

#[derive(Debug)]
struct Group {
    unwatched: VecDeque<u64>,
    /// Jobs that have not ended.
    open: usize,
    /// They want to know how far their jobs have come.
    progress: bool,
}

#[derive(Debug)]
struct Part {
    group: u64,
    left: BTreeSet<u64>,
}

impl Default for Watches {
    fn default() -> Self {
        Self::new()
    }
}

impl Watches {
    /// No watches, and no connection.
    pub fn new() -> Self {
        Self {
            groups: BTreeMap::new(),
            ready: VecDeque::new(),
            parts: BTreeMap::new(),
            numbers: Numbers::new(Lane::Watches),
            watched: 0,
            terms: None,
            unwatch: VecDeque::new(),
            events: VecDeque::new(),
            paused_until: None,
        }
    }

    /// Whether nobody waits for anything.
    pub fn is_idle(&self) -> bool {
        self.groups.is_empty()
    }

    /// Starts to wait for some jobs, each named once, and for reports of how far they have come where `progress` says
    /// so. `group` is a number of the caller's, used once.
    pub fn push(&mut self, group: u64, ids: Vec<u64>, progress: bool) {
        let open = ids.len();
        self.ready.push_back(group);
        let unwatched = ids.into();
        self.groups.insert(
            group,
            Group {
                unwatched,
                open,
                progress,
            },
        );
    }

    /// Nobody waits for these any more.
    pub fn forget(&mut self, group: u64) {
        if self.groups.remove(&group).is_none() {
            return;
        }
        self.ready.retain(|&ready| ready != group);
        let parts: Vec<u64> = self
            .parts
            .iter()
            .filter(|(_, part)| part.group == group)
            .map(|(&number, _)| number)
            .collect();
        for number in parts {
            if let Some(part) = self.parts.remove(&number) {
                self.watched -= part.left.len();
                self.unwatch.push_back(number);
            }
        }
    }

    /// There is a connection; everybody who waits is to be watched for on it.
    pub fn handle_connected(&mut self, terms: Terms) {
        self.terms = Some(terms);
        self.paused_until = None;
    }

    /// The connection is gone, and with it the watches on it.
    pub fn handle_disconnected(&mut self) {
        self.terms = None;
        self.watched = 0;
        self.unwatch.clear();
        for (_, part) in std::mem::take(&mut self.parts) {
            self.put_back(part);
        }
    }

    /// Watched jobs have ended.
    pub fn handle_ended(&mut self, ended: Ended) {
        let Some(part) = self.parts.get_mut(&ended.request) else {
            return;
        };
        let (group_id, before) = (part.group, part.left.len());
        let Some(group) = self.groups.get_mut(&group_id) else {
            return;
        };
        for job in ended.jobs {
            if part.left.remove(&job.id) {
                group.open -= 1;
                self.events.push_back((group_id, WatchEvent::Ended(job)));
            }
        }
        self.watched -= before - part.left.len();
        if part.left.is_empty() {
            self.parts.remove(&ended.request);
        }
        if group.open == 0 {
            self.groups.remove(&group_id);
        }
    }

    /// Jobs that are not, or no longer, watched are left out.
    pub fn handle_progressed(&mut self, progressed: Progressed) {
        let Some(part) = self.parts.get(&progressed.request) else {
            return;
        };
        for job in progressed.jobs {
            if part.left.contains(&job.id) {
                self.events.push_back((part.group, WatchEvent::Progressed(job)));
            }
        }
    }

    /// A watch was refused. It is repeated later where that can help.
    pub fn handle_refused(&mut self, now: BootTime, request: u64, error: WireError) {
        let Some(part) = self.parts.remove(&request) else {
            return;
        };
        self.watched -= part.left.len();
        if error.code.may_repeat() {
            self.put_back(part);
            self.paused_until = Some(now + REFUSAL_WAIT);
        } else {
            self.forget(part.group);
            self.events.push_back((part.group, WatchEvent::Refused(error)));
        }
    }

    /// When [`Watches::handle_timeout`] is due next.
    pub fn poll_timeout(&self) -> BootTime {
        self.paused_until.unwrap_or(BootTime::NEVER)
    }

    /// Has repeated what has waited for long enough.
    pub fn handle_timeout(&mut self, now: BootTime) {
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
        }
    }

    /// The next message to send.
    pub fn poll_transmit(&mut self) -> Option<ServerMessage> {
        let terms = self.terms?;
        if let Some(request) = self.unwatch.pop_front() {
            return Some(ServerMessage::Unwatch(Unwatch { request }));
        }
        if self.paused_until.is_some() {
            return None;
        }
        let at_once = usize::try_from(terms.limits.watches).unwrap_or(usize::MAX);
        let items = usize::try_from(terms.limits.items).unwrap_or(usize::MAX);
        let most = at_once.saturating_sub(self.watched).min(items);
        if most == 0 {
            return None;
        }
        let group_id = self.ready.pop_front()?;
        let group = self.groups.get_mut(&group_id)?;
        let ids: Vec<u64> = group.unwatched.drain(..most.min(group.unwatched.len())).collect();
        if !group.unwatched.is_empty() {
            self.ready.push_back(group_id);
        }
        let progress = group.progress;
        let request = self.numbers.take();
        self.watched += ids.len();
        let bytes = (ids.len() as u64).saturating_mul(BYTES_PER_JOB).min(MAX_BYTES);
        let left = ids.iter().copied().collect();
        self.parts.insert(
            request,
            Part {
                group: group_id,
                left,
            },
        );
        Some(ServerMessage::Watch(Watch {
            request,
            ids,
            bytes,
            progress,
        }))
    }

    /// The next thing that somebody who waits is to be told, with their number.
    pub fn poll_event(&mut self) -> Option<(u64, WatchEvent)> {
        self.events.pop_front()
    }

    fn put_back(&mut self, part: Part) {
        if let Some(group) = self.groups.get_mut(&part.group) {
            if group.unwatched.is_empty() {
                self.ready.push_back(part.group);
            }
            group.unwatched.extend(part.left);
        }
    }
}

#[cfg(test)]
mod tests {
    use jobq_proto::{ErrorCode, Limits, Status, Window};

    use super::*;

    const NOW: BootTime = BootTime::from_micros(1_000_000);

    fn terms(watches: u64) -> Terms {
        Terms {
            limits: Limits {
                watches,
                ..Limits::default()
            },
            window: Window::default(),
            uuid_window: Duration::from_secs(60),
        }
    }

    fn sent(watches: &mut Watches) -> Watch {
        match watches.poll_transmit() {
            Some(ServerMessage::Watch(watch)) => watch,
            other => panic!("a Watch is due, and it was {other:?}"),
        }
    }

    fn job(id: u64) -> EndedJob {
        EndedJob {
            id,
            status: Some(Status::Completed),
            reason: None,
            result: None,
            omitted: false,
        }
    }

    fn end(watches: &mut Watches, request: u64, ids: &[u64]) {
        let jobs = ids.iter().copied().map(job).collect();
        watches.handle_ended(Ended { request, jobs });
    }

    #[test]
    fn no_more_jobs_are_watched_than_the_server_allows() {
        let mut watches = Watches::new();
        watches.push(1, vec![1, 2, 3, 4, 5], false);
        watches.push(2, vec![6], false);
        watches.handle_connected(terms(3));
        let first = sent(&mut watches);
        assert_eq!(first.ids, [1, 2, 3]);
        assert_eq!(watches.poll_transmit(), None);
        end(&mut watches, first.request, &[2]);
        assert_eq!(sent(&mut watches).ids, [6], "the groups take turns");
        end(&mut watches, first.request, &[1, 3]);
        assert_eq!(sent(&mut watches).ids, [4, 5]);
    }

    #[test]
    fn jobs_that_have_not_ended_are_watched_again_on_the_next_connection() {
        let mut watches = Watches::new();
        watches.push(1, vec![1, 2], false);
        watches.handle_connected(terms(10));
        let watch = sent(&mut watches);
        end(&mut watches, watch.request, &[1]);
        assert_eq!(watches.poll_event(), Some((1, WatchEvent::Ended(job(1)))));
        watches.handle_disconnected();
        watches.handle_connected(terms(10));
        let watch = sent(&mut watches);
        assert_eq!(watch.ids, [2]);
        end(&mut watches, watch.request, &[2, 2]);
        assert_eq!(watches.poll_event(), Some((1, WatchEvent::Ended(job(2)))));
        assert_eq!(watches.poll_event(), None, "an end is told once");
        assert!(watches.groups.is_empty() && watches.parts.is_empty());
    }

    #[test]
    fn a_watch_that_nobody_waits_for_is_ended() {
        let mut watches = Watches::new();
        watches.push(1, vec![1, 2], false);
        watches.push(2, vec![3], false);
        watches.handle_connected(terms(2));
        let request = sent(&mut watches).request;
        watches.forget(1);
        assert_eq!(
            watches.poll_transmit(),
            Some(ServerMessage::Unwatch(Unwatch { request }))
        );
        assert_eq!(sent(&mut watches).ids, [3], "its places are free");
        end(&mut watches, request, &[1]);
        assert_eq!(watches.poll_event(), None);
    }

    #[test]
    fn a_refused_watch_is_repeated_later_if_that_can_help_and_reported_if_not() {
        let mut watches = Watches::new();
        watches.push(1, vec![1], false);
        watches.handle_connected(terms(2));
        let request = sent(&mut watches).request;
        watches.handle_refused(NOW, request, WireError::new(ErrorCode::Internal, "not now"));
        assert_eq!(watches.poll_transmit(), None);
        assert_eq!(watches.poll_timeout(), NOW + REFUSAL_WAIT);
        watches.handle_timeout(NOW + REFUSAL_WAIT);
        let request = sent(&mut watches).request;
        let error = WireError::new(ErrorCode::BadRequest, "no");
        watches.handle_refused(NOW, request, error.clone());
        assert_eq!(watches.poll_event(), Some((1, WatchEvent::Refused(error))));
    }
}
