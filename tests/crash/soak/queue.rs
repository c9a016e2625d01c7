//! Workers that share a queue, put and get in all ways, and are killed and replaced at random times. After each round
//! the live workers end, and every message must be accounted for.

use crate::suite::capi::queue::{Queue, Shape};
use crate::suite::capi::{EMPTY, FULL, Status, TIMEOUT, WOULD_BLOCK, Way};
use crate::suite::harness::fixture::NAME;
use crate::suite::harness::library::Library;
use crate::suite::harness::message_log::{INSIDE, MIN_LENGTH, MessageLog, PUT};
use crate::suite::harness::operation::{Failure, Operation, Run, Verifier, Violation};
use crate::suite::harness::process::{self, WATCHDOG};
use crate::suite::harness::queue_audit::{self, Expected};
use crate::suite::harness::queue_worker::{QueueWorker, Step};
use crate::suite::harness::report::Report;
use crate::suite::harness::series::{MAX_FAILURES, Plan, Series};
use crate::suite::harness::trace::Trouble;
use crate::suite::soak::random::{Rng, rng, sleep};
use crate::suite::soak::workers::{Progress, expect_ends, kill_live};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

/// The flaw of workers that are broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// They note messages as put that they have not put.
    ClaimsPuts,
    /// They note messages as got that they have only copied.
    ClaimsGets,
    /// A worker that must end does not.
    NeverEnds,
}

impl Flaw {
    /// All flaws.
    pub const ALL: [Flaw; 3] = [Flaw::ClaimsPuts, Flaw::ClaimsGets, Flaw::NeverEnds];
}

/// The workers, and the process that kills them.
pub struct QueueSoak {
    flaw: Option<Flaw>,
    log: OnceLock<MessageLog>,
    /// The queue of this round.
    shape: Cell<Shape>,
}

const WORKERS: usize = 4;
const SURVIVOR: usize = WORKERS;
/// More than the workers put in one round; beyond that they only get.
const MESSAGES: usize = 1 << 20;
/// The number of deaths in a round.
const ROUND: usize = 100;

/// Small, so that it is often full and often empty; bounded by messages; growing.
const SHAPES: [Shape; 3] = [
    Shape {
        capacity: 256 << 10,
        maxsize: 0,
        overwrites: false,
    },
    Shape {
        capacity: 256 << 10,
        maxsize: 5,
        overwrites: false,
    },
    Shape {
        capacity: 0,
        maxsize: 0,
        overwrites: false,
    },
];

/// Returns the random numbers of one worker; no two workers have the same.
fn worker_rng() -> Rng {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = now.map_or(0, |now| now.as_nanos() as usize) ^ std::process::id() as usize;
    Rng::new(seed)
}

impl QueueSoak {
    /// Creates the series, with or without a flaw.
    pub fn new(flaw: Option<Flaw>) -> QueueSoak {
        QueueSoak {
            flaw,
            log: OnceLock::new(),
            shape: Cell::new(SHAPES[0]),
        }
    }

    fn log(&self) -> &MessageLog {
        self.log
            .get_or_init(|| MessageLog::new(MESSAGES, WORKERS + 1))
    }

    /// Performs a random operation.
    fn act(&self, worker: &mut QueueWorker, rng: &mut Rng) -> Result<(), Status> {
        /// One message in this number is copied without a lock.
        const LARGE_INTERVAL: u64 = 64;
        const LARGE: usize = 64 << 10;
        /// Timeouts in nanoseconds: mostly none, and sometimes long enough for a wake.
        const TIMEOUTS_NS: [i64; 8] = [0, 0, 0, 0, 0, 0, 1_000_000, 20_000_000];
        let timeout = TIMEOUTS_NS[rng.number(8) as usize];
        let length = match rng.number(LARGE_INTERVAL) {
            0 => LARGE + 8 * rng.number(64) as usize,
            _ => MIN_LENGTH + 8 * rng.number(48) as usize,
        };
        match rng.number(12) {
            0..3 => worker.put(timeout, length),
            3 => worker.put_many(timeout, 1 + rng.number(4) as usize, MIN_LENGTH + 8),
            4 => {
                worker.reserve(timeout, length)?;
                // Other workers continue during this time, and wait for it.
                worker.perform(&Step::Stat)?;
                match rng.number(4) {
                    0 => worker.abort(),
                    _ => worker.commit(),
                }
            }
            5..8 => worker.take(timeout),
            8 => worker
                .get_many(timeout, 1 + rng.number(4) as usize)
                .map(drop),
            9 => worker.peek(timeout),
            _ => {
                worker.lease(timeout)?;
                if rng.number(2) == 0 {
                    // Two leases, returned in either order.
                    match worker.lease(0) {
                        Ok(()) | Err(EMPTY | WOULD_BLOCK) => {}
                        Err(status) => return Err(status),
                    }
                }
                while worker.leases() > 0 {
                    let which = rng.number(worker.leases() as u64) as usize;
                    match rng.number(4) {
                        0 => worker.nack(which)?,
                        _ => worker.ack(which)?,
                    }
                }
                Ok(())
            }
        }
    }

    fn work(&self, shmkit: &Library, number: usize) -> Status {
        let log = self.log();
        let mut worker = QueueWorker::open(shmkit, self.shape.get(), log, number);
        let mut rng = worker_rng();
        while log.stop().load(SeqCst) == 0 {
            match self.act(&mut worker, &mut rng) {
                Ok(()) | Err(EMPTY | FULL | TIMEOUT | WOULD_BLOCK) => {}
                Err(status) => return status,
            }
            log.operations().fetch_add(1, SeqCst);
            match self.flaw {
                Some(Flaw::ClaimsPuts) if number == 0 => {
                    if let Some(id) = log.begin() {
                        log.mark(id, INSIDE | PUT);
                    }
                }
                Some(Flaw::ClaimsGets) if number == 0 => worker.get_without_taking(),
                _ => {}
            }
        }
        if self.flaw == Some(Flaw::NeverEnds) {
            sleep();
        }
        0
    }

    fn start(&self, shmkit: &Library, worker: usize) -> Pid {
        process::spawn(|| -self.work(shmkit, worker))
    }

    /// Kills and replaces workers.
    fn kill_workers(
        &self,
        shmkit: &Library,
        rng: &mut Rng,
        workers: &mut [Pid],
    ) -> Result<(), Failure> {
        const PAUSE: Duration = Duration::from_millis(3);
        let log = self.log();
        let mut progress = Progress::new();
        for _ in 0..ROUND {
            std::thread::sleep(rng.below(PAUSE));
            let worker = rng.number(WORKERS as u64) as usize;
            kill_live(workers[worker])?;
            log.inbox(worker).write_off();
            workers[worker] = self.start(shmkit, worker);
            progress.check(log.operations().load(SeqCst))?;
        }
        Ok(())
    }

    /// Has the live workers end.
    fn end_workers(&self, workers: &[Pid]) -> Result<(), Failure> {
        self.log().stop().store(1, SeqCst);
        expect_ends(workers, self.time_limit())
    }

    /// Runs one round.
    fn round(&self, series: &Series, rng: &mut Rng) -> Result<Vec<Failure>, Trouble> {
        let shmkit = series.shmkit();
        self.log().clear();
        let creator = process::spawn(|| {
            let queue = Queue::named(shmkit, Some(NAME), Way::Create, self.shape.get());
            queue.map_or_else(|status| -status, |_| 0)
        });
        let created = process::wait(creator, WATCHDOG);
        if !matches!(created, Ok(WaitStatus::Exited(_, 0))) {
            return Err(format!("the queue cannot be created: {created:?}"));
        }
        let mut workers: Vec<_> = (0..WORKERS)
            .map(|worker| self.start(shmkit, worker))
            .collect();
        let killed = self.kill_workers(shmkit, rng, &mut workers);
        let ended = self.end_workers(&workers);
        let verified = series.verify(true);
        let failures = [killed, ended, verified].into_iter();
        Ok(failures.filter_map(Result::err).collect())
    }

    /// Runs the series.
    pub fn run(&self, series: &Series, plan: &Plan) -> Result<Report, Trouble> {
        let rounds = match (self.flaw, plan.every) {
            (Some(_), _) => 1,
            (None, Some(1)) => 100,
            (None, _) => 6,
        };
        let (mut report, mut rng) = (Report::new(0, 0, 1), rng(plan));
        let begin = Instant::now();
        let (mut messages, mut received) = (0, 0);
        for round in 0..rounds {
            self.shape.set(SHAPES[round % SHAPES.len()]);
            let failures = self.round(series, &mut rng)?;
            messages += self.log().count_marked(PUT, 0);
            received += self.log().received();
            report.killed += ROUND;
            report
                .failures
                .extend(failures.into_iter().map(|it| (None, it)));
            if report.failures.len() >= MAX_FAILURES {
                break;
            }
        }
        report.taken = report.killed;
        report.time = begin.elapsed();
        report.note = format!(", {messages} messages, {received} received");
        Ok(report)
    }
}

impl Operation for QueueSoak {
    fn name(&self) -> String {
        match self.flaw {
            None => "queue: workers, killed at random times",
            Some(Flaw::ClaimsPuts) => "selftest: queue: workers that note too many puts",
            Some(Flaw::ClaimsGets) => "selftest: queue: workers that note too many gets",
            Some(Flaw::NeverEnds) => "selftest: queue: workers that do not end",
        }
        .to_owned()
    }

    fn every(&self) -> usize {
        1
    }

    fn expect_violation(&self) -> Option<Violation> {
        self.flaw.map(|flaw| match flaw {
            Flaw::ClaimsPuts => Violation::Lost,
            Flaw::ClaimsGets => Violation::NotExclusive,
            Flaw::NeverEnds => Violation::Stuck,
        })
    }

    fn time_limit(&self) -> u32 {
        match self.flaw {
            Some(Flaw::NeverEnds) => 1,
            // All messages that are left in an unbounded queue are counted.
            _ => 3 * WATCHDOG,
        }
    }

    fn prepare<'a>(&'a self, _shmkit: &'a Library) -> Run<'a> {
        unreachable!("the workers are the victims")
    }

    fn verify(&self, verifier: &Verifier, _done: bool) -> Result<(), Failure> {
        let expected = Expected {
            deaths: ROUND as u64,
            ordered: false,
            table: true,
        };
        queue_audit::audit(verifier, self.shape.get(), self.log(), SURVIVOR, &expected)
    }
}
