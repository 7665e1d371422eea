//! A job for a test.

use std::time::Duration;

use bytes::Bytes;
use jobq_client::params;
use jobq_proto::job::micros;
use jobq_proto::message::OrderedJob;
use jobq_proto::{Fence, JobId};
use serde::Serialize;
use uuid::Uuid;

/// A job to hand to a [`TestWorker`](super::TestWorker): the first of 20 attempts, without a time-out of its own,
/// unless told otherwise.
#[derive(Debug, Clone)]
#[must_use = "a job does nothing until it is handed to a worker"]
pub struct TestJob {
    order: OrderedJob,
}

impl TestJob {
    /// A job of a name, with params.
    ///
    /// # Panics
    /// When the params cannot be encoded.
    #[track_caller]
    pub fn new(name: impl Into<String>, params: &impl Serialize) -> Self {
        match params::encode(params) {
            Ok(item) => Self::raw(name, item),
            Err(error) => panic!("failed to encode the params of a test's job: {error}"),
        }
    }

    /// A job of a name, with params as they travel: one encoded CBOR item, or what is none.
    pub fn raw(name: impl Into<String>, params: impl Into<Bytes>) -> Self {
        Self {
            order: OrderedJob {
                id: 0,
                fence: Fence { epoch: 1, seq: 0 },
                attempt: 1,
                max_attempts: 20,
                uuid: Uuid::nil(),
                name: name.into(),
                username: None,
                timeout: None,
                params: params.into(),
            },
        }
    }

    /// Which attempt it is, from 1.
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.order.attempt = attempt;
        self
    }

    /// The attempt after which it is not tried again.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.order.max_attempts = attempts;
        self
    }

    /// How long its run may take, in simulated time.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.order.timeout = Some(micros(timeout));
        self
    }

    /// Who it is for.
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.order.username = Some(username.into());
        self
    }

    /// The submission's identity. Otherwise each job has one that no other has.
    pub fn uuid(mut self, uuid: Uuid) -> Self {
        self.order.uuid = uuid;
        self
    }

    /// As a server hands it out.
    pub(super) fn order(self, id: JobId) -> OrderedJob {
        let mut order = self.order;
        order.id = id.0;
        order.fence = fence(id);
        if order.uuid.is_nil() {
            order.uuid = Uuid::from_u128(id.0.into());
        }
        order
    }
}

/// A test's job has one run, whose fence has the number of the job.
pub(super) fn fence(id: JobId) -> Fence {
    Fence { epoch: 1, seq: id.0 }
}
