//! Jobs, and the messages in which they travel: 100 bytes of params each, as `jobq bench` has them.

use bytes::Bytes;
use jobq_proto::message::{
    Acknowledged, Completed, CompletedRun, Order, OrderedJob, Receipt, Request, RunRef, SettleOutcome,
    Settled, SettledRun, Started, Submission,
};
use jobq_proto::{ClientMessage, Fence, ServerMessage};
use uuid::Uuid;

/// The name of all jobs.
pub const NAME: &str = "bench";

/// Bytes of each job's params.
pub const PARAMS: usize = 100;

/// When the uuids' first job was made, in milliseconds since 1970.
const BORN: u64 = 1_800_000_000_000;

/// Jobs whose uuids are of one millisecond, as if a million were submitted a second.
const JOBS_A_MILLISECOND: u64 = 1_000;

/// The uuid of the `n`th job: of version 7, rising, and the rest of it without order, as clients make them.
pub fn uuid(n: u64) -> Uuid {
    let millis = BORN + n / JOBS_A_MILLISECOND;
    // Rising within the millisecond, as RFC 9562 has it in section 6.2; then bits that look random (Knuth's
    // multiplicative hashing).
    let within = n % JOBS_A_MILLISECOND;
    let noise = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    let mut random = [0; 10];
    random[2..].copy_from_slice(&noise);
    random[0] = (within >> 8) as u8;
    random[1] = within as u8;
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

/// Params of the `n`th job: a CBOR byte string of [`PARAMS`] bytes, its head included.
pub fn params(n: u64) -> Bytes {
    let content = PARAMS - 2;
    let mut params = vec![0x58, content as u8];
    params.extend(n.to_be_bytes().iter().cycle().take(content));
    params.into()
}

/// The right to report on the run of a job.
pub fn fence(job: u64) -> Fence {
    Fence { epoch: 1, seq: job }
}

/// Submits `count` jobs, the `first`th and those after it.
pub fn request(request: u64, first: u64, count: u64) -> ServerMessage {
    let job = |n| Submission {
        params: Some(params(n)),
        ..Submission::new(uuid(n), NAME)
    };
    let jobs = (first..first + count).map(job).collect();
    ServerMessage::Request(Request { request, jobs })
}

/// The answer to such a request.
pub fn acknowledged(request: u64, first: u64, count: u64) -> ClientMessage {
    let jobs = (first..first + count)
        .map(|id| Receipt::stored(id, false))
        .collect();
    ClientMessage::Acknowledged(Acknowledged { request, jobs })
}

/// Hands out `count` jobs.
pub fn order(first: u64, count: u64) -> ClientMessage {
    let job = |id| OrderedJob {
        id,
        fence: fence(id),
        attempt: 1,
        max_attempts: 20,
        uuid: uuid(id),
        name: NAME.to_owned(),
        username: None,
        timeout: None,
        params: params(id),
    };
    ClientMessage::Order(Order {
        jobs: (first..first + count).map(job).collect(),
    })
}

/// Says that these jobs are being run.
pub fn started(jobs: &[(u64, Fence)]) -> ServerMessage {
    let run = |&(id, fence): &(u64, Fence)| RunRef { id, fence };
    ServerMessage::Started(Started {
        runs: jobs.iter().map(run).collect(),
    })
}

/// Says that these jobs ended well.
pub fn completed(jobs: &[(u64, Fence)]) -> ServerMessage {
    let run = |&(id, fence): &(u64, Fence)| CompletedRun {
        id,
        fence,
        ran: 25,
        result: None,
    };
    ServerMessage::Completed(Completed {
        runs: jobs.iter().map(run).collect(),
    })
}

/// Answers that.
pub fn settled(jobs: &[(u64, Fence)]) -> ClientMessage {
    let run = |&(id, fence): &(u64, Fence)| SettledRun {
        id,
        fence,
        outcome: SettleOutcome::Applied,
    };
    ClientMessage::Settled(Settled {
        runs: jobs.iter().map(run).collect(),
    })
}

/// `count` jobs with their fences.
pub fn runs(first: u64, count: u64) -> Vec<(u64, Fence)> {
    (first..first + count).map(|id| (id, fence(id))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_of_version_7_and_rise() {
        let uuids: Vec<Uuid> = (0..10_000).map(uuid).collect();
        assert!(uuids.is_sorted_by(|a, b| a < b));
        assert!(uuids.iter().all(|uuid| uuid.get_version_num() == 7));
    }

    #[test]
    fn params_are_as_long_as_is_said() {
        assert_eq!(params(7).len(), PARAMS);
    }
}
