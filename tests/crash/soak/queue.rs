//! Workers that share a queue, put and get in every way there is, and are killed at random times and replaced: now and then
//! those that live come to an end, and every message must be accounted for.

use crate::suite::capi::queue::{EMPTY, FULL, Queue, Shape, TIMEOUT, WOULD_BLOCK, Way};
use crate::suite::harness::library::{Library, Status};
use crate::suite::harness::message_log::{INSIDE, LEAST, PUT, Post};
use crate::suite::harness::operation::{Crime, Finding, Look, Operation, Run};
use crate::suite::harness::process::{self, WATCHDOG};
use crate::suite::harness::queue_audit::{self, Expected};
use crate::suite::harness::queue_worker::{Hand, Step};
use crate::suite::harness::report::Report;
use crate::suite::harness::series::{ENOUGH, Plan, Series};
use crate::suite::harness::trace::Trouble;
use crate::suite::harness::verify::NAME;
use crate::suite::soak::random::{Dice, dice};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

/// What is wrong with workers that are broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// They say that they have put what they have not.
    Boasts,
    /// They say that they have got what they have only seen.
    Repeats,
    /// One that is told to end does not.
    Stays,
}

impl Flaw {
    /// Each of them.
    pub const ALL: [Flaw; 3] = [Flaw::Boasts, Flaw::Repeats, Flaw::Stays];
}

/// The workers, and who kills them.
pub struct QueueSoak {
    flaw: Option<Flaw>,
    post: OnceLock<Post>,
    /// The queue of this round.
    shape: Cell<Shape>,
}

const WORKERS: usize = 4;
const SURVIVOR: usize = WORKERS;
/// More than workers put in one round; when there are no more they only get.
const MESSAGES: usize = 1 << 20;
/// After so many deaths all is counted.
const ROUND: usize = 100;

/// Small, so that it is full and empty all the time; bounded by messages; and one that grows.
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

/// What makes a series of numbers of one worker: no two have the same.
fn own_dice() -> Dice {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = now.map_or(0, |now| now.as_nanos() as usize) ^ std::process::id() as usize;
    Dice::new(seed)
}

impl QueueSoak {
    /// Makes one, without a flaw or with one.
    pub fn new(flaw: Option<Flaw>) -> QueueSoak {
        QueueSoak {
            flaw,
            post: OnceLock::new(),
            shape: Cell::new(SHAPES[0]),
        }
    }

    fn post(&self) -> &Post {
        self.post.get_or_init(|| Post::new(MESSAGES, WORKERS + 1))
    }

    /// Does one thing or another.
    fn turn(&self, hand: &mut Hand, dice: &mut Dice) -> Result<(), Status> {
        /// One message in so many is copied without holding a lock.
        const RARELY: u64 = 64;
        const LARGE: usize = 64 << 10;
        /// So long they wait, in nanoseconds: mostly for nothing, and sometimes for a wake.
        const WAITS: [i64; 8] = [0, 0, 0, 0, 0, 0, 1_000_000, 20_000_000];
        let wait = WAITS[dice.number(8) as usize];
        let length = match dice.number(RARELY) {
            0 => LARGE + 8 * dice.number(64) as usize,
            _ => LEAST + 8 * dice.number(48) as usize,
        };
        match dice.number(12) {
            0..3 => hand.put(wait, length),
            3 => hand.put_many(wait, 1 + dice.number(4) as usize, LEAST + 8),
            4 => {
                hand.reserve(wait, length)?;
                // Others go on meanwhile, and wait for it.
                hand.perform(&Step::Stat)?;
                match dice.number(4) {
                    0 => hand.abort(),
                    _ => hand.commit(),
                }
            }
            5..8 => hand.take(wait),
            8 => hand.get_many(wait, 1 + dice.number(4) as usize).map(drop),
            9 => hand.peek(wait),
            _ => {
                hand.lease(wait)?;
                if dice.number(2) == 0 {
                    // Two at a time, given back in either order.
                    match hand.lease(0) {
                        Ok(()) | Err(EMPTY | WOULD_BLOCK) => {}
                        Err(status) => return Err(status),
                    }
                }
                while hand.leases() > 0 {
                    let which = dice.number(hand.leases() as u64) as usize;
                    match dice.number(4) {
                        0 => hand.nack(which)?,
                        _ => hand.ack(which)?,
                    }
                }
                Ok(())
            }
        }
    }

    fn work(&self, shmkit: &Library, worker: usize) -> Status {
        let post = self.post();
        let mut hand = Hand::open(shmkit, self.shape.get(), post, worker);
        let mut dice = own_dice();
        while post.stop().load(SeqCst) == 0 {
            match self.turn(&mut hand, &mut dice) {
                Ok(()) | Err(EMPTY | FULL | TIMEOUT | WOULD_BLOCK) => {}
                Err(status) => return status,
            }
            post.moves().fetch_add(1, SeqCst);
            match self.flaw {
                Some(Flaw::Boasts) if worker == 0 => {
                    if let Some(id) = post.begin() {
                        post.mark(id, INSIDE | PUT);
                    }
                }
                Some(Flaw::Repeats) if worker == 0 => hand.get_without_taking(),
                _ => {}
            }
        }
        if self.flaw == Some(Flaw::Stays) {
            crate::suite::soak::random::sleep();
        }
        0
    }

    fn start(&self, shmkit: &Library, worker: usize) -> Pid {
        process::spawn(|| -self.work(shmkit, worker))
    }

    /// Kills and replaces workers.
    fn kill_them(
        &self,
        shmkit: &Library,
        dice: &mut Dice,
        workers: &mut [Pid],
    ) -> Result<(), Finding> {
        const PAUSE: Duration = Duration::from_millis(3);
        let post = self.post();
        let (mut last, mut since) = (0, Instant::now());
        for _ in 0..ROUND {
            std::thread::sleep(dice.below(PAUSE));
            let worker = dice.number(WORKERS as u64) as usize;
            if process::has_ended(workers[worker]) {
                let end = process::wait(workers[worker], WATCHDOG);
                return Err(Crime::Refused.found(format!("a worker has ended: {end:?}")));
            }
            process::kill(workers[worker]);
            post.place(worker).bury();
            workers[worker] = self.start(shmkit, worker);
            let now = post.moves().load(SeqCst);
            if now != last {
                (last, since) = (now, Instant::now());
            } else if since.elapsed() > Duration::from_secs(u64::from(WATCHDOG)) {
                return Err(Crime::Stuck.found("nobody gets on any more"));
            }
        }
        Ok(())
    }

    /// Has those that live come to an end.
    fn end_them(&self, workers: &[Pid]) -> Result<(), Finding> {
        self.post().stop().store(1, SeqCst);
        let mut found = Ok(());
        for &worker in workers {
            match process::wait(worker, self.patience()) {
                Ok(WaitStatus::Exited(_, 0)) => {}
                Ok(other) => {
                    found = Err(Crime::Refused.found(format!("a worker has ended: {other:?}")));
                }
                Err(_) => {
                    process::kill(worker);
                    found = Err(Crime::Stuck.found("a worker does not come to its end"));
                }
            }
        }
        found
    }

    /// Runs one round of it.
    fn round(&self, series: &Series, dice: &mut Dice) -> Result<Vec<Finding>, Trouble> {
        let shmkit = series.shmkit();
        self.post().clear();
        let maker = process::spawn(|| {
            let made = Queue::named(shmkit, Some(NAME), Way::Create, self.shape.get());
            made.map_or_else(|status| -status, |_| 0)
        });
        let made = process::wait(maker, WATCHDOG);
        if !matches!(made, Ok(WaitStatus::Exited(_, 0))) {
            return Err(format!("the queue cannot be made: {made:?}"));
        }
        let mut workers: Vec<_> = (0..WORKERS)
            .map(|worker| self.start(shmkit, worker))
            .collect();
        let killed = self.kill_them(shmkit, dice, &mut workers);
        let ended = self.end_them(&workers);
        let verified = series.verify(true);
        let findings = [killed, ended, verified].into_iter();
        Ok(findings.filter_map(Result::err).collect())
    }

    /// Runs all of it.
    pub fn run(&self, series: &Series, plan: &Plan) -> Result<Report, Trouble> {
        let rounds = match (self.flaw, plan.every) {
            (Some(_), _) => 1,
            (None, Some(1)) => 100,
            (None, _) => 6,
        };
        let (mut report, mut dice) = (Report::new(0, 0, 1), dice(plan));
        let begin = Instant::now();
        let (mut messages, mut received) = (0, 0);
        for round in 0..rounds {
            self.shape.set(SHAPES[round % SHAPES.len()]);
            let findings = self.round(series, &mut dice)?;
            messages += self.post().how_many(PUT, 0);
            received += self.post().received();
            report.killed += ROUND;
            report
                .findings
                .extend(findings.into_iter().map(|it| (None, it)));
            if report.findings.len() >= ENOUGH {
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
            None => "queue: workers are killed at random times",
            Some(Flaw::Boasts) => "broken: workers that boast of messages",
            Some(Flaw::Repeats) => "broken: workers that repeat messages",
            Some(Flaw::Stays) => "broken: workers that stay",
        }
        .to_owned()
    }

    fn every(&self) -> usize {
        1
    }

    fn guilty_of(&self) -> Option<Crime> {
        self.flaw.map(|flaw| match flaw {
            Flaw::Boasts => Crime::Lost,
            Flaw::Repeats => Crime::Shared,
            Flaw::Stays => Crime::Stuck,
        })
    }

    fn patience(&self) -> u32 {
        match self.flaw {
            Some(Flaw::Stays) => 1,
            // All that is left of an unbounded one is counted.
            _ => 3 * WATCHDOG,
        }
    }

    fn prepare<'a>(&'a self, _shmkit: &'a Library) -> Run<'a> {
        unreachable!("it brings its own victims")
    }

    fn verify(&self, look: &Look, _done: bool) -> Result<(), Finding> {
        let expected = Expected {
            deaths: ROUND as u64,
            ordered: false,
            table: true,
        };
        queue_audit::audit(look, self.shape.get(), self.post(), SURVIVOR, &expected)
    }
}
