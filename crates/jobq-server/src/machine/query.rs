//! Looking at jobs.

use std::collections::BTreeSet;
use std::time::Duration;

use jobq_proto::limits::MAX_REASON_TEXT;
use jobq_proto::message::{Include, JobView, Jobs, Query};
use jobq_proto::{ClientMessage, ErrorCode, JobId, JobName, Status, Username, WireError};
use jobq_transport::PeerId;

use super::Machine;
use super::leases::Phase;
use super::names::NameKey;
use super::peers::Weight;
use super::reads::Purpose;
use crate::access::NamePatterns;
use crate::store::{self, Filter, Read, Select};
use crate::time::Wall;

/// Jobs in the answer to a Query that does not say how many.
const DEFAULT_LIMIT: u64 = 100;

/// Where a page of a listing is cut, in bytes.
const PAGE_BYTES: usize = 256 * 1024;

/// How long a page is looked for, so that nobody who asks for what is rare keeps the others waiting.
const PATIENCE: Duration = Duration::from_millis(100);

/// What is left to do with the store's answer to a Query.
#[derive(Debug)]
pub(super) enum Listing {
    /// The jobs were named, and none is left out.
    Named,
    /// A page of the store's, which takes jobs for waiting that a worker has just been given.
    Stored(Option<Status>),
    /// Jobs that workers have, or had until a moment ago: what else they have to match, and where the page goes on.
    Leased { filter: Filter, next: Option<JobId> },
}

impl Machine {
    pub(super) fn query(&mut self, peer: PeerId, query: Query) {
        let request = query.request;
        let only = self.names_of(peer);
        let planned = self.plan_query(query, only).and_then(|planned| {
            if !self.reads.has_room_for_query(peer) {
                return Err(WireError::new(
                    ErrorCode::WindowExceeded,
                    "as many Queries wait as the server takes; repeat when some have been answered",
                ));
            }
            self.begin_request(peer, request, Weight::default())
                .map(|()| planned)
        });
        match planned {
            Ok((query, listing)) => {
                let purpose = Purpose::Query {
                    peer,
                    request,
                    listing,
                };
                self.reads.ask(Read::Query(query), purpose);
            }
            Err(error) => self.refuse(peer, request, error),
        }
    }

    fn plan_query(&self, query: Query, only: NamePatterns) -> Result<(store::Query, Listing), WireError> {
        let items = self.config.limits.items;
        if query.ids.len().max(query.uuids.len()) as u64 > items {
            return Err(WireError::new(
                ErrorCode::TooManyItems,
                format!("a Query names at most {items} jobs"),
            ));
        }
        let include = query.include;
        let (select, listing) = match (query.ids.is_empty(), query.uuids.is_empty(), is_filtered(&query)) {
            (false, true, false) => {
                let ids = query.ids.into_iter().map(JobId).collect();
                (Select::Ids(ids), Listing::Named)
            }
            (true, false, false) => (Select::Uuids(query.uuids), Listing::Named),
            (true, true, _) => self.plan_page(filter(query, items)?, &only),
            _ => {
                return Err(WireError::bad_request(
                    "a Query has ids, or uuids, or filters; give one of them",
                ));
            }
        };
        let query = store::Query {
            select,
            only,
            params: include == Some(Include::Params),
            result: include == Some(Include::Result),
            runs: include == Some(Include::Runs),
            max_bytes: PAGE_BYTES,
            now: self.now.wall,
            max_attempts: self.config.max_attempts.get(),
            patience: PATIENCE,
        };
        Ok((query, listing))
    }

    /// Which jobs workers have the machine knows itself, and at once; the store learns of most runs when they have
    /// ended.
    fn plan_page(&self, filter: Filter, only: &NamePatterns) -> (Select, Listing) {
        if filter.status != Some(Status::Processing) {
            let listing = Listing::Stored(filter.status);
            return (Select::Page(filter), listing);
        }
        let before = filter.before.unwrap_or(JobId(u64::MAX));
        let named = |name: NameKey| {
            let name = self.names.name(name);
            filter.name.as_ref().is_none_or(|wanted| **name == *wanted) && only.match_name(name.as_str())
        };
        let leased = self
            .leases
            .ordered_before(before)
            .filter(|(_, lease)| named(lease.name))
            .map(|(id, _)| id)
            .take(filter.limit + 1);
        let leaving = self
            .pending
            .leaving()
            .filter(|job| job.id < before && named(job.name))
            .map(|job| job.id);
        let mut ids: Vec<JobId> = leased.chain(leaving).collect();
        ids.sort_unstable_by(|a, b| b.cmp(a));
        let more = ids.len() > filter.limit;
        ids.truncate(filter.limit);
        let next = ids.last().copied().filter(|_| more);
        (Select::Ids(ids), Listing::Leased { filter, next })
    }

    /// The store's answer, put right by what the machine knows better: runs that are not recorded yet.
    pub(super) fn query_answered(
        &mut self,
        peer: PeerId,
        request: u64,
        listing: Listing,
        answer: store::Answer,
    ) {
        let store::Answer { mut jobs, mut next } = answer;
        self.put_right(&mut jobs);
        match listing {
            Listing::Named => {}
            Listing::Stored(status) => jobs.retain(|job| status.is_none_or(|status| job.status == status)),
            Listing::Leased { filter, next: rest } => {
                next = next.or(rest);
                jobs.retain(|job| filter.matches(job));
            }
        }
        let next = next.map(|id| id.0);
        self.end_request(peer, request);
        self.answer(peer, ClientMessage::Jobs(Jobs { request, jobs, next }));
    }

    /// A job that its worker has left is Processing until the store has it so: it is in one listing at every moment.
    fn put_right(&mut self, jobs: &mut [JobView]) {
        let mut not_leased = Vec::new();
        for job in jobs.iter_mut().filter(|job| !job.status.is_terminal()) {
            let lease = self.leases.find(JobId(job.id));
            match lease.filter(|lease| lease.phase != Phase::Fetching) {
                Some(lease) => {
                    job.status = Status::Processing;
                    job.fence = Some(lease.fence);
                    job.started = Some(lease.at.0);
                    job.cancelling = lease.cancelling;
                    job.progress = lease.progress.as_deref().cloned();
                }
                None => not_leased.push(job),
            }
        }
        if not_leased.is_empty() {
            return;
        }
        let leaving: BTreeSet<JobId> = self.pending.leaving().map(|job| job.id).collect();
        for job in not_leased {
            if leaving.contains(&JobId(job.id)) {
                job.status = Status::Processing;
            } else if job.status == Status::Processing {
                job.status = Status::Queued;
            }
        }
    }
}

/// Whether a Query has any of what makes it one for a page.
fn is_filtered(query: &Query) -> bool {
    query.status.is_some()
        || query.name.is_some()
        || query.username.is_some()
        || query.since.is_some()
        || query.until.is_some()
        || query.reason.is_some()
        || query.before.is_some()
        || query.limit.is_some()
}

/// What a Query for a page asks for, checked.
fn filter(query: Query, items: u64) -> Result<Filter, WireError> {
    if query.status == Some(Status::Unknown) {
        return Err(WireError::bad_request(
            "the status is none that this server knows",
        ));
    }
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if limit == 0 || limit > items {
        return Err(WireError::bad_request(format!(
            "the limit is {limit}; it is 1 to {items}"
        )));
    }
    if let (Some(since), Some(until)) = (query.since, query.until)
        && since >= until
    {
        return Err(WireError::bad_request(format!(
            "since ({since}) is not before until ({until}), so no job can match"
        )));
    }
    if let Some(reason) = &query.reason
        && !(1..=MAX_REASON_TEXT).contains(&reason.len())
    {
        return Err(WireError::bad_request(format!(
            "the text to find in reasons has {} bytes; it has 1 to {MAX_REASON_TEXT}",
            reason.len()
        )));
    }
    Ok(Filter {
        status: query.status,
        name: query.name.map(JobName::try_from).transpose()?,
        username: query.username.map(Username::try_from).transpose()?,
        since: query.since.map(Wall),
        until: query.until.map(Wall),
        reason: query.reason,
        before: query.before.map(JobId),
        limit: usize::try_from(limit).unwrap_or(usize::MAX),
    })
}
