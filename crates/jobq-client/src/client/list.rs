//! Listings: which jobs there are, page by page or one by one.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::SystemTime;

use futures::stream::{self, BoxStream, Stream, StreamExt};
use jobq_proto::message::{Include, JobView, Query};
use jobq_proto::{JobId, Status};

use super::Client;
use crate::error::AskError;
use crate::job_request::unix_micros;

/// Most jobs that a [`Listing`] asks for at a time: what it keeps in memory.
const PAGE: u64 = 1_000;

/// Which jobs to list: those that match all that is given, newest first.
///
/// ```
/// use std::time::{Duration, SystemTime};
///
/// use jobq_client::{JobFilter, Status};
///
/// let filter = JobFilter::new()
///     .status(Status::Failed)
///     .name("thumbnail")
///     .since(SystemTime::now() - Duration::from_secs(3600))
///     .reason("out of memory");
/// assert_eq!(filter.limit, None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct JobFilter {
    /// Only jobs in this status.
    pub status: Option<Status>,
    /// Only jobs of this name.
    pub name: Option<String>,
    /// Only jobs for this username.
    pub username: Option<String>,
    /// Only jobs that arrived at this time or later.
    pub since: Option<SystemTime>,
    /// Only jobs that arrived before this time.
    pub until: Option<SystemTime>,
    /// Only jobs whose reason has this text somewhere in it, letter for letter: 1 to 128 bytes.
    pub reason: Option<String>,
    /// Most jobs to give. For [`Client::list`] all that match where absent; for [`Client::page`] from 1 to the
    /// server's limit (10,000 by default), and 100 where absent.
    pub limit: Option<u64>,
    /// Only jobs before this one, as the `next` of a [`Page`] says.
    pub before: Option<JobId>,
    /// What to fetch beside the jobs' states.
    pub include: Option<Include>,
}

impl JobFilter {
    /// All jobs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only jobs in this status.
    #[must_use]
    pub fn status(mut self, status: Status) -> Self {
        self.status = Some(status);
        self
    }

    /// Only jobs of this name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Only jobs for this username.
    #[must_use]
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.username = Some(username.into());
        self
    }

    /// Only jobs that arrived at this time or later, by the server's clock.
    #[must_use]
    pub fn since(mut self, since: SystemTime) -> Self {
        self.since = Some(since);
        self
    }

    /// Only jobs that arrived before this time, by the server's clock.
    #[must_use]
    pub fn until(mut self, until: SystemTime) -> Self {
        self.until = Some(until);
        self
    }

    /// Only jobs whose reason has this text somewhere in it, letter for letter: 1 to 128 bytes.
    #[must_use]
    pub fn reason(mut self, text: impl Into<String>) -> Self {
        self.reason = Some(text.into());
        self
    }

    /// Most jobs to give: see [`JobFilter::limit`](#structfield.limit).
    #[must_use]
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Only jobs before this one, as the `next` of a [`Page`] says.
    #[must_use]
    pub fn before(mut self, id: JobId) -> Self {
        self.before = Some(id);
        self
    }

    /// Fetch this beside the jobs' states.
    #[must_use]
    pub fn include(mut self, include: Include) -> Self {
        self.include = Some(include);
        self
    }
}

impl From<JobFilter> for Query {
    fn from(filter: JobFilter) -> Query {
        Query {
            status: filter.status,
            name: filter.name,
            username: filter.username,
            since: filter.since.map(unix_micros),
            until: filter.until.map(unix_micros),
            reason: filter.reason,
            before: filter.before.map(|id| id.0),
            limit: filter.limit,
            include: filter.include,
            ..Query::default()
        }
    }
}

/// A page of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Page {
    /// The jobs, newest first. The server cuts pages by bytes, so there may be fewer than were asked for, or none.
    pub jobs: Vec<JobView>,
    /// There may be more: ask again with `before` set to this. The end is where this is none.
    pub next: Option<JobId>,
}

/// The jobs that match a filter, one by one, newest first: a [`Stream`], and never more than a page of it in memory.
/// It ends after the first error.
///
/// A job that changes while the listing is under way is given as it was when its page was read; one that arrives
/// meanwhile is not given.
pub struct Listing {
    inner: BoxStream<'static, Result<JobView, AskError>>,
}

impl Stream for Listing {
    type Item = Result<JobView, AskError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listing").finish_non_exhaustive()
    }
}

impl Client {
    /// The jobs that match, newest first, as a stream that asks for the next page when it is needed.
    ///
    /// ```no_run
    /// use futures::TryStreamExt;
    /// use jobq_client::{JobFilter, Status};
    ///
    /// # async fn example(client: jobq_client::Client) -> Result<(), jobq_client::AskError> {
    /// let mut failed = client.list(JobFilter::new().status(Status::Failed));
    /// while let Some(job) = failed.try_next().await? {
    ///     println!("{}: {}", job.id, job.reason.unwrap_or_default());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The stream's errors are those of [`Client::page`]; the deadline counts for each page by itself.
    pub fn list(&self, filter: JobFilter) -> Listing {
        let pages = Pages {
            client: self.clone(),
            left: filter.limit.unwrap_or(u64::MAX),
            filter,
            jobs: VecDeque::new(),
            is_over: false,
        };
        Listing {
            inner: stream::unfold(pages, Pages::next).boxed(),
        }
    }

    /// One page of the jobs that match, newest first.
    ///
    /// # Errors
    /// No answer in time, or a filter that the server refuses.
    pub async fn page(&self, filter: JobFilter) -> Result<Page, AskError> {
        let (jobs, next) = self.query(filter.into()).await?;
        let next = next.map(JobId);
        Ok(Page { jobs, next })
    }
}

struct Pages {
    client: Client,
    filter: JobFilter,
    /// Jobs that may still be given.
    left: u64,
    /// Those of the page that was read last.
    jobs: VecDeque<JobView>,
    /// There is no other page.
    is_over: bool,
}

impl Pages {
    async fn next(mut self) -> Option<(Result<JobView, AskError>, Self)> {
        loop {
            if let Some(job) = self.jobs.pop_front() {
                return Some((Ok(job), self));
            }
            if self.is_over || self.left == 0 {
                return None;
            }
            if let Err(error) = self.read_page().await {
                self.is_over = true;
                return Some((Err(error), self));
            }
        }
    }

    async fn read_page(&mut self) -> Result<(), AskError> {
        self.filter.limit = Some(self.left.min(PAGE));
        let page = self.client.page(self.filter.clone()).await?;
        // A page that does not lead on would be read for ever.
        if let (Some(next), Some(before)) = (page.next, self.filter.before)
            && next >= before
        {
            return Err(AskError::Unexpected);
        }
        self.left = self.left.saturating_sub(page.jobs.len() as u64);
        self.jobs = page.jobs.into();
        self.is_over = page.next.is_none();
        self.filter.before = page.next;
        Ok(())
    }
}
