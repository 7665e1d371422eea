//! Looking at jobs.

use std::time::Duration;

use jobq_proto::limits::MAX_REASON_TEXT;
use jobq_proto::message::{Include, JobView, Jobs, Query};
use jobq_proto::{ClientMessage, ErrorCode, JobId, JobName, Status, Username, WireError};
use jobq_transport::PeerId;

use super::Machine;
use super::leases::Phase;
use super::peers::Weight;
use super::reads::Purpose;
use crate::store::{self, Filter, Read, Select};
use crate::time::Wall;

/// Jobs in the answer to a Query that does not say how many.
const DEFAULT_LIMIT: u64 = 100;

/// Where a page of a listing is cut, in bytes.
const PAGE_BYTES: usize = 256 * 1024;

/// How long a page is looked for, so that nobody who asks for what is rare keeps the others waiting.
const PATIENCE: Duration = Duration::from_millis(100);

impl Machine {
    pub(super) fn query(&mut self, peer: PeerId, query: Query) {
        let (request, status) = (query.request, query.status);
        let planned = self.plan_query(query).and_then(|query| {
            if !self.reads.has_room_for_query() {
                return Err(WireError::new(
                    ErrorCode::WindowExceeded,
                    "as many Queries wait as the server takes; repeat when some have been answered",
                ));
            }
            self.begin_request(peer, request, Weight::default())
                .map(|()| query)
        });
        match planned {
            Ok(query) => {
                let paged = matches!(query.select, Select::Page(_));
                let purpose = Purpose::Query {
                    peer,
                    request,
                    status,
                    paged,
                };
                self.reads.ask(Read::Query(query), purpose);
            }
            Err(error) => self.refuse(peer, request, error),
        }
    }

    fn plan_query(&self, query: Query) -> Result<store::Query, WireError> {
        let items = self.config.limits.items;
        if query.ids.len().max(query.uuids.len()) as u64 > items {
            return Err(WireError::new(
                ErrorCode::TooManyItems,
                format!("a Query names at most {items} jobs"),
            ));
        }
        let include = query.include;
        let select = match (query.ids.is_empty(), query.uuids.is_empty(), is_filtered(&query)) {
            (false, true, false) => Select::Ids(query.ids.into_iter().map(JobId).collect()),
            (true, false, false) => Select::Uuids(query.uuids),
            (true, true, _) => Select::Page(filter(query, items)?),
            _ => return Err(bad("a Query has ids, or uuids, or filters; give one of them")),
        };
        Ok(store::Query {
            select,
            params: include == Some(Include::Params),
            result: include == Some(Include::Result),
            runs: include == Some(Include::Runs),
            max_bytes: PAGE_BYTES,
            now: self.now.wall,
            max_attempts: self.config.max_attempts.get(),
            patience: PATIENCE,
        })
    }

    /// The store's answer, put right by what the machine knows better: runs that are not recorded yet.
    pub(super) fn query_answered(
        &mut self,
        peer: PeerId,
        request: u64,
        status: Option<Status>,
        paged: bool,
        answer: store::Answer,
    ) {
        let store::Answer { mut jobs, next } = answer;
        let next = next.map(|id| id.0);
        for job in &mut jobs {
            self.put_right(job);
        }
        if paged && let Some(status) = status {
            jobs.retain(|job| job.status == status);
        }
        self.end_request(peer, request);
        self.answer(peer, ClientMessage::Jobs(Jobs { request, jobs, next }));
    }

    fn put_right(&mut self, job: &mut JobView) {
        if job.status.is_terminal() {
            return;
        }
        match self
            .leases
            .find(JobId(job.id))
            .filter(|lease| lease.phase != Phase::Fetching)
        {
            Some(lease) => {
                job.status = Status::Processing;
                job.fence = Some(lease.fence);
                job.started = Some(lease.at.0);
                job.cancelling = lease.cancelling;
                job.progress = lease.progress.clone();
            }
            None if job.status == Status::Processing => job.status = Status::Queued,
            None => {}
        }
    }
}

fn bad(message: impl Into<String>) -> WireError {
    WireError::new(ErrorCode::BadRequest, message)
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
        return Err(bad("the status is none that this server knows"));
    }
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if limit == 0 || limit > items {
        return Err(bad(format!("the limit is {limit}; it is 1 to {items}")));
    }
    if let (Some(since), Some(until)) = (query.since, query.until)
        && since >= until
    {
        return Err(bad(format!(
            "since ({since}) is not before until ({until}), so no job can match"
        )));
    }
    if let Some(reason) = &query.reason
        && !(1..=MAX_REASON_TEXT).contains(&reason.len())
    {
        return Err(bad(format!(
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
