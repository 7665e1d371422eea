//! Both stores, given the same mixed batches, must agree on every answer: the one in memory is small enough to be
//! the model of the other.

use std::time::Duration;

use bytes::Bytes;
use jobq_proto::{Fence, JobId, Priority, Status};
use jobq_server::store::{
    Batch, Change, Ended, Filter, JobRecord, Leased, MemoryDisk, MemoryStore, Query, Read, Requeued, RunEnd,
    Select, SessionId, SqliteStore, Store, StoreReader,
};
use jobq_server::time::Wall;
use tempfile::TempDir;
use uuid::Uuid;

use super::fixture::{Disk, insert, job, live, page, query, stored};

const SEEDS: u64 = 6;
const BATCHES: u64 = 60;

#[tokio::test]
async fn the_stores_agree_after_any_mix_of_changes_and_restarts() {
    for seed in 0..SEEDS {
        let (memory_disk, directory) = (MemoryDisk::new(super::fixture::birth()), <TempDir as Disk>::new());
        let mut history = History::new(seed);
        let mut stores = (memory_disk.open(), Disk::open(&directory));
        for number in 1..=BATCHES {
            if history.below(15) == 0 {
                drop(stores);
                stores = (memory_disk.open(), Disk::open(&directory));
                agree_at_start(&mut stores, seed);
            }
            let batch = history.batch(number);
            stores.0.commit(batch.clone());
            stores.1.commit(batch);
            let (expected, stored) = (
                stored(&mut stores.0).await.unwrap(),
                stored(&mut stores.1).await.unwrap(),
            );
            assert_eq!(expected, stored, "seed {seed}, batch {number}");
            if number % 10 == 0 {
                for read in history.reads() {
                    let expected = stores.0.reader().answer(&read);
                    let answer = stores.1.reader().read(read.clone()).await.unwrap();
                    assert_eq!(expected, answer, "seed {seed}, batch {number}: {read:?}");
                }
            }
        }
        drop(stores);
        let check: String = rusqlite::Connection::open(directory.path().join("jobq.db"))
            .unwrap()
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(check, "ok", "seed {seed}");
    }
}

fn agree_at_start((memory, sqlite): &mut (MemoryStore, SqliteStore), seed: u64) {
    let (expected, found) = (memory.recovered(), sqlite.recovered());
    assert_eq!(
        (
            expected.epoch,
            expected.last_batch,
            expected.next_id,
            expected.clock
        ),
        (found.epoch, found.last_batch, found.next_id, found.clock),
        "seed {seed}"
    );
    assert_eq!(
        (&expected.names, &expected.sessions),
        (&found.names, &found.sessions),
        "seed {seed}"
    );
    assert_eq!(live(memory), live(sqlite), "seed {seed}");
}

/// Makes batches that keep the rules, from a seed.
struct History {
    state: u64,
    next_id: u64,
    next_seq: u64,
    live: Vec<u64>,
    runs: Vec<(JobId, Fence)>,
}

impl History {
    fn new(seed: u64) -> Self {
        Self {
            state: seed,
            next_id: 1,
            next_seq: 1,
            live: Vec::new(),
            runs: Vec::new(),
        }
    }

    /// A number below `bound`, by SplitMix64.
    fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn batch(&mut self, number: u64) -> Batch {
        let mut changes = Vec::new();
        for _ in 0..self.below(20) {
            // Runs of one kind too, since they may be written together.
            let (kind, times) = (self.below(6), 1 + self.below(2) * self.below(40));
            for _ in 0..times {
                changes.extend(self.change(kind));
            }
        }
        Batch {
            number,
            next_id: JobId(self.next_id),
            clock: Wall(i64::try_from(number).unwrap()),
            changes,
        }
    }

    fn change(&mut self, kind: u64) -> Option<Change> {
        if kind <= 1 {
            return Some(self.insert());
        }
        if self.live.is_empty() {
            return None;
        }
        let at = usize::try_from(self.below(self.live.len() as u64)).unwrap();
        let id = JobId(self.live[at]);
        self.next_seq += 1;
        let fence = Fence {
            epoch: 1 + self.below(3),
            seq: self.next_seq,
        };
        self.runs.push((id, fence));
        let reason = (self.below(2) == 0).then(|| format!("reason {}", self.next_seq));
        let at_time = Wall(500 + i64::try_from(self.next_seq).unwrap());
        Some(match kind {
            2 => Change::Leased(Leased {
                id,
                fence,
                session: SessionId(self.below(5)),
                started: self.below(2) == 0,
                at: at_time,
            }),
            3 => Change::Requeued(Requeued {
                id,
                fence,
                end: RunEnd::ALL[1 + usize::try_from(self.below(4)).unwrap()],
                due: Wall(900 + i64::try_from(self.below(200)).unwrap()),
                attempts: u32::try_from(self.below(9)).unwrap(),
                charges: u32::try_from(self.below(3)).unwrap(),
                reason,
                at: at_time,
            }),
            4 => Change::CancelMarked { id },
            _ => {
                self.live.swap_remove(at);
                let status = [Status::Completed, Status::Failed, Status::Cancelled]
                    [usize::try_from(self.below(3)).unwrap()];
                let end = RunEnd::ALL[usize::try_from(self.below(5)).unwrap()];
                Change::Ended(Ended {
                    id,
                    name: self.named(id.0).name,
                    status,
                    run: (self.below(4) > 0).then_some((fence, end)),
                    started: (self.below(2) == 0).then_some(at_time),
                    ran: (self.below(2) == 0).then(|| Duration::from_micros(self.next_seq)),
                    attempts: 1,
                    charges: 0,
                    reason: reason.filter(|_| status != Status::Completed),
                    result: (self.below(2) == 0).then(|| Bytes::from(format!("result of {id}"))),
                    at: at_time,
                })
            }
        })
    }

    /// A new job, or now and then one whose uuid is known.
    fn insert(&mut self) -> Change {
        let id = self.next_id;
        self.next_id += 1;
        let mut record = self.named(id);
        if id > 1 && self.below(8) == 0 {
            let known = 1 + self.below(id - 1);
            record.uuid = Uuid::from_u128(u128::from(known));
            if self.below(2) == 0 {
                record.params = job(known).params;
                record.name = self.named(known).name;
            }
            // It may have been one itself, and its uuid free; so that ids are not mixed up, it stays unused.
            if !self.live.contains(&known) {
                record = self.named(id);
                self.live.push(id);
            }
        } else {
            self.live.push(id);
        }
        insert(record)
    }

    /// The job of this id; its name and username follow from the id too.
    fn named(&self, id: u64) -> JobRecord {
        let names = ["a", "b.c", "d-e"];
        JobRecord {
            name: std::sync::Arc::new(names[usize::try_from(id % 3).unwrap()].parse().unwrap()),
            username: id
                .is_multiple_of(5)
                .then(|| format!("user {}", id % 2).try_into().unwrap()),
            priority: Priority::ALL[usize::try_from(id % 3).unwrap()],
            retry_of: id.is_multiple_of(11).then_some(JobId(id - 1)),
            ..job(id)
        }
    }

    fn reads(&self) -> Vec<Read> {
        let ids: Vec<_> = (0..=self.next_id).map(JobId).collect();
        // Each run that ended or began, and one of that job that never was.
        let runs = self
            .runs
            .iter()
            .flat_map(|(id, fence)| {
                let never = Fence {
                    epoch: fence.epoch + 3,
                    ..*fence
                };
                [(*id, *fence), (*id, never)]
            })
            .collect();
        let mut reads = vec![
            Read::Records(ids.clone()),
            Read::States {
                ids: ids.clone(),
                result_bytes: 400,
            },
            Read::Runs(runs),
            Read::Query(Query {
                result: true,
                ..query(Select::Ids(ids.clone()))
            }),
            Read::Query(Query {
                runs: true,
                ..query(Select::Ids(ids))
            }),
        ];
        let statuses = Status::ALL.into_iter().map(Some).chain([None]);
        for status in statuses {
            for name in [None, Some("a"), Some("b.c")] {
                for username in [None, Some("user 1")] {
                    let filter = Filter {
                        status,
                        name: name.map(|name| name.parse().unwrap()),
                        username: username.map(|name| name.parse().unwrap()),
                        before: Some(JobId(self.next_id * 3 / 4)),
                        limit: 40,
                        ..Filter::default()
                    };
                    reads.push(Read::Query(page(Filter {
                        reason: Some("son 7".to_owned()),
                        ..filter.clone()
                    })));
                    reads.push(Read::Query(page(Filter {
                        since: Some(Wall(20)),
                        until: Some(Wall(90)),
                        ..filter.clone()
                    })));
                    reads.push(Read::Query(page(filter)));
                }
            }
        }
        reads
    }
}
