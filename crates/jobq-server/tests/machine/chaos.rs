//! Long runs of everything at once, with faults, from a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use jobq_proto::message::{HeldRun, NameCredit, NameStats, OrderedJob, RunState, SettleOutcome, Work};
use jobq_proto::{Fence, Status};
use jobq_server::Config;
use jobq_transport::PeerId;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::world::{BYTES, Worker, World, job, millis, run_of, secs, sized, urgent};

const SEEDS: u8 = 24;
const STEPS: u32 = 300;
const NAMES: [&str; 3] = ["a", "b", "c"];
const MAX_ACTIVE: usize = 6;
/// Of the last name.
const CAP: NonZeroU32 = NonZeroU32::new(2).expect("2 is not 0");

/// A worker with what it knows of its runs. It says nothing that is not true, and forgets nothing.
struct Hand {
    worker: Worker,
    connected: bool,
    runs: BTreeMap<Fence, Run>,
}

struct Run {
    order: OrderedJob,
    state: RunState,
    /// Its report gives it back; else it says how the run ended.
    released: bool,
}

struct Chaos {
    world: World,
    rng: ChaCha12Rng,
    client: PeerId,
    requests: Vec<u64>,
    acknowledged: BTreeSet<u64>,
    hands: Vec<Hand>,
    applied: BTreeMap<u64, u32>,
    /// Runs that were out at the last look.
    active: u64,
    /// Those of the name with a cap.
    capped: u64,
}

impl Chaos {
    fn new(seed: u8) -> Self {
        let mut rng = ChaCha12Rng::from_seed([seed; 32]);
        let mut config = Config::default();
        config.max_active = Some(MAX_ACTIVE);
        config.caps = BTreeMap::from([(NAMES[2].parse().expect("the name is good"), CAP)]);
        config.payload_budget = if rng.next_u32().is_multiple_of(2) {
            500
        } else {
            1 << 20
        };

        let mut world = World::seeded(config, seed);
        let client = world.client();
        Self {
            world,
            rng,
            client,
            requests: Vec::new(),
            acknowledged: BTreeSet::new(),
            hands: Vec::new(),
            applied: BTreeMap::new(),
            active: 0,
            capped: 0,
        }
    }

    fn below(&mut self, bound: u32) -> u32 {
        self.rng.next_u32() % bound
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }

    fn step(&mut self) {
        let dice = self.below(100);
        match dice {
            0..25 => self.submit(),
            25..60 => self.work(),
            60..70 => {
                let time = millis(u64::from(self.below(400)));
                self.world.advance(time);
            }
            70..74 => {
                let time = secs(u64::from(self.below(40)));
                self.world.advance(time);
            }
            74..78 => self.new_hand(),
            78..82 => self.cut_off(),
            82..88 => self.come_back(),
            88..90 => self.lose(),
            90..92 => self.cancel(),
            92..95 => self.world.hold_disk(),
            95..97 => self.world.release_disk(),
            97 => self.world.hold_reads(),
            98 => self.world.release_reads(),
            _ => self.crash(),
        }
        self.read();
        // Only a crash, and what lets a worker say that was there before it, brings runs back.
        self.check(matches!(dice, 82..88 | 95 | 96 | 98 | 99));
    }

    fn submit(&mut self) {
        let count = 1 + self.below(3);
        let mut jobs = Vec::new();
        for _ in 0..count {
            let name = NAMES[self.below(3) as usize];
            let mut new = match self.below(4) {
                0 => urgent(name, "High"),
                1 => sized(name, 200),
                _ => job(name),
            };
            if self.chance(20) {
                new.delay = Some(u64::from(self.below(20)) * 1_000_000);
            }
            if self.chance(20) {
                new.timeout = Some(1_000_000);
            }
            jobs.push(new);
        }
        let request = self.world.request(self.client, jobs);
        self.requests.push(request);
    }

    fn new_hand(&mut self) {
        if self.hands.len() >= 6 {
            return;
        }
        let names = NAMES.map(|name| NameCredit {
            name: name.to_owned(),
            jobs: 2,
        });
        let names = names[..1 + self.below(3) as usize].to_vec();
        let prefetch = self.below(2);
        let worker = self.world.new_worker(Work {
            names,
            jobs: 4,
            bytes: BYTES,
            prefetch,
        });
        self.world.hold(&worker, vec![]);
        self.hands.push(Hand {
            worker,
            connected: true,
            runs: BTreeMap::new(),
        });
    }

    fn any_hand(&mut self) -> Option<usize> {
        let count = u32::try_from(self.hands.len()).expect("there are few workers");
        (count > 0).then(|| self.below(count) as usize)
    }

    /// A worker goes on with one of its runs.
    fn work(&mut self) {
        let Some(index) = self.any_hand() else { return };
        let count = u32::try_from(self.hands[index].runs.len()).expect("there are few runs");
        if count == 0 || !self.hands[index].connected {
            return;
        }
        let pick = self.below(count) as usize;
        let dice = self.below(10);
        let Chaos { world, hands, .. } = self;
        let Hand { worker, runs, .. } = &mut hands[index];
        let run = runs.values_mut().nth(pick).expect("it is below the count");
        match run.state {
            RunState::Waiting if dice == 0 => {
                run.state = RunState::Ended;
                run.released = true;
                report(world, worker, run);
            }
            RunState::Waiting => {
                run.state = RunState::Running;
                world.started(worker, &run.order);
            }
            _ => {
                run.state = RunState::Ended;
                report(world, worker, run);
            }
        }
    }

    fn cut_off(&mut self) {
        if let Some(index) = self.any_hand() {
            self.read();
            let hand = &mut self.hands[index];
            hand.connected = false;
            self.world.disconnect(hand.worker.peer);
        }
    }

    fn come_back(&mut self) {
        if let Some(index) = self.any_hand() {
            self.resume(index);
        }
    }

    fn resume(&mut self, index: usize) {
        self.read();
        let Chaos { world, hands, .. } = self;
        let hand = &mut hands[index];
        let worker = world.resume_silently(&hand.worker);
        hand.worker = worker;
        hand.connected = true;
        if !hand.worker.welcome.resumed {
            // What it had is over; it may still report what had ended.
            hand.runs.retain(|_, run| run.state == RunState::Ended);
        }
        let named = |run: &Run| HeldRun {
            id: run.order.id,
            fence: run.order.fence,
            state: run.state,
        };
        world.hold(&hand.worker, hand.runs.values().map(named).collect());
        for run in hand.runs.values().filter(|run| run.state == RunState::Ended) {
            report(world, &hand.worker, run);
        }
    }

    /// A worker is gone for good.
    fn lose(&mut self) {
        if let Some(index) = self.any_hand() {
            self.read();
            let hand = self.hands.remove(index);
            self.world.disconnect(hand.worker.peer);
        }
    }

    fn cancel(&mut self) {
        let count = u32::try_from(self.acknowledged.len()).expect("there are few jobs");
        if count > 0 {
            let pick = self.below(count) as usize;
            let id = *self.acknowledged.iter().nth(pick).expect("it is below the count");
            self.world.cancel_later(self.client, &[id]);
        }
    }

    fn crash(&mut self) {
        self.read();
        self.world.crash_and_restart();
        self.requests.clear();
        self.client = self.world.client();
        for hand in &mut self.hands {
            hand.connected = false;
        }
    }

    /// Peers look at what they were sent.
    fn read(&mut self) {
        let Chaos {
            world,
            hands,
            applied,
            acknowledged,
            client,
            ..
        } = self;
        self.requests
            .retain(|request| match world.acknowledged(*client, *request) {
                Some(receipts) => {
                    acknowledged.extend(receipts.iter().filter_map(|receipt| receipt.id));
                    false
                }
                None => true,
            });
        for hand in hands {
            hand.connected &= world.is_open(hand.worker.peer);
            for order in world.orders(&hand.worker) {
                assert!(
                    !applied.contains_key(&order.id),
                    "job {} runs after it was completed",
                    order.id
                );
                let run = Run {
                    order,
                    state: RunState::Waiting,
                    released: false,
                };
                hand.runs.insert(run.order.fence, run);
            }
            for settled in world.settled_runs(&hand.worker) {
                let run = hand.runs.remove(&settled.fence);
                let ended = run.is_some_and(|run| run.state == RunState::Ended && !run.released);
                if ended && settled.outcome == SettleOutcome::Applied && completes(settled.id) {
                    *applied.entry(settled.id).or_default() += 1;
                }
            }
            for cancelled in world.cancels(&hand.worker) {
                if let Some(run) = hand.runs.get(&cancelled.fence) {
                    assert_eq!(run_of(&run.order), cancelled);
                }
            }
        }
    }

    fn check(&mut self, may_return: bool) {
        let stats = self.world.stats(self.client);
        let active = stats.total.processing;
        let of_name = |stats: &NameStats| (stats.name == NAMES[2]).then_some(stats.processing);
        let capped = stats.names.iter().find_map(of_name).unwrap_or(0);
        // Runs whose begin or end a crash has lost go on even if the cap was filled meanwhile.
        let most = self.active.max(MAX_ACTIVE as u64);
        assert!(may_return || active <= most, "{active} runs are out");
        let most = self.capped.max(CAP.get().into());
        assert!(may_return || capped <= most, "{capped} runs of one name are out");
        self.active = active;
        self.capped = capped;
    }

    /// Faults stop; whatever is there is worked off.
    fn settle_down(&mut self) {
        self.world.release_disk();
        self.world.release_reads();
        self.read();
        for hand in std::mem::take(&mut self.hands) {
            self.world.disconnect(hand.worker.peer);
        }
        self.world.advance(secs(40));
        let mut idle = 0;
        let names = NAMES.map(|name| (name, 4));
        let worker = self.world.worker(&names);
        let mut hand = Hand {
            worker,
            connected: true,
            runs: BTreeMap::new(),
        };
        while idle < 3 {
            let orders = self.world.orders(&hand.worker);
            idle = if orders.is_empty() { idle + 1 } else { 0 };
            for order in orders {
                let run = Run {
                    order,
                    state: RunState::Ended,
                    released: false,
                };
                report(&mut self.world, &hand.worker, &run);
                hand.runs.insert(run.order.fence, run);
            }
            self.world.advance(secs(200));
        }
        self.hands.push(hand);
        self.read();
        assert!(self.hands[0].runs.is_empty(), "reports are unanswered");
    }

    fn check_the_end(&mut self) {
        for id in self.acknowledged.clone() {
            let view = self.world.view(id);
            assert!(view.status.is_terminal(), "job {id} is {}", view.status);
            let completed = self.applied.get(&id).copied().unwrap_or(0);
            assert!(completed <= 1, "job {id} completed {completed} times");
            assert!(
                completed == 0 || view.status == Status::Completed,
                "job {id} was completed"
            );
        }
        let client = self.world.client();
        let all: Vec<u64> = self.acknowledged.iter().copied().collect();
        let watch = self.world.watch(client, &all, 0);
        assert_eq!(self.world.ended(client, watch).len(), all.len());
        let stats = self.world.stats_now();
        let total = &stats.total;
        assert_eq!((total.scheduled, total.queued, total.processing), (0, 0, 0));
        let ended = total.completed + total.failed + total.cancelled;
        assert!(ended >= self.acknowledged.len() as u64);
        self.world.machine.handle_shutdown(self.world.now);
        self.world.run();
        assert!(self.world.machine.is_drained());
    }
}

/// Which jobs' handlers complete; the others fail.
fn completes(id: u64) -> bool {
    !id.is_multiple_of(5)
}

fn report(world: &mut World, worker: &Worker, run: &Run) {
    let order = &run.order;
    if run.released {
        world.released(worker, order);
    } else if completes(order.id) {
        world.completed(worker, order);
    } else {
        world.failed_with(worker, order, order.attempt > 2, Some(1_000_000));
    }
}

fn run(seed: u8) -> Chaos {
    let mut chaos = Chaos::new(seed);
    for _ in 0..STEPS {
        chaos.step();
    }
    chaos.settle_down();
    chaos.check_the_end();
    chaos
}

#[test]
fn whatever_happens_every_acknowledged_job_ends_once_when_faults_stop() {
    let mut jobs = 0;
    for seed in 0..SEEDS {
        jobs += run(seed).acknowledged.len();
    }
    assert!(
        jobs > usize::from(SEEDS) * 20,
        "only {jobs} jobs were acknowledged"
    );
}

#[test]
fn without_faults_each_job_runs_once_and_once_more_for_each_failure() {
    let mut chaos = Chaos::new(1);
    for _ in 0..60 {
        chaos.submit();
        chaos.read();
    }
    chaos.settle_down();
    let orders = chaos.world.fences_issued();
    let jobs = chaos.acknowledged.len();
    // Failing jobs say so three times, the third time for good.
    let failing = chaos.acknowledged.iter().filter(|id| !completes(**id)).count();
    assert_eq!(orders, jobs + 2 * failing);
    chaos.check_the_end();
}

#[test]
fn the_same_seed_and_script_give_the_same_trace() {
    for seed in [3, 17] {
        let (one, two) = (run(seed), run(seed));
        assert!(one.world.trace.len() > 500);
        assert_eq!(one.world.trace, two.world.trace);
    }
    let (one, other) = (run(3), run(17));
    assert_ne!(one.world.trace, other.world.trace);
}
