//! Workers that share a lock and a recursive lock, and are killed and replaced at random times. Every acknowledged
//! acquisition must be counted, and no two workers may be inside at a time.
//!
//! ```text
//! data:     0: first | second   (of the lock)      64: first | second   (of the recursive one)     128, 192: the locks
//! counters: stop | deaths | not exclusive | inside, inside | reported deaths, reported deaths
//!           | per worker: acknowledged, acknowledged, longest wait
//! ```

use crate::suite::capi::lock::{Kind, Lock};
use crate::suite::capi::segment::Segment;
use crate::suite::capi::{FOREVER, NOWAIT, Status, check};
use crate::suite::harness::fixture::{NAME, PAGE, managed, open, words};
use crate::suite::harness::library::Library;
use crate::suite::harness::operation::{Failure, Operation, Run, Verifier, Violation};
use crate::suite::harness::process::{self, WATCHDOG};
use crate::suite::harness::report::Report;
use crate::suite::harness::series::{Plan, Series};
use crate::suite::harness::shared_state::shared_words;
use crate::suite::harness::survivor::refused;
use crate::suite::harness::trace::Trouble;
use crate::suite::soak::random::{rng, sleep};
use crate::suite::soak::workers::{Progress, expect_ends, kill_live};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// The flaw of workers that are broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// They do not acquire the lock.
    SkipsLock,
    /// They acknowledge more than they have done.
    Overclaims,
    /// A worker that must end keeps the lock, and does not end.
    NeverReleases,
}

impl Flaw {
    /// All flaws.
    pub const ALL: [Flaw; 3] = [Flaw::SkipsLock, Flaw::Overclaims, Flaw::NeverReleases];
}

/// The workers, and the process that kills them.
pub struct LockSoak {
    flaw: Option<Flaw>,
    counters: OnceLock<Counters>,
}

const WORKERS: usize = 3;
/// The live workers and the auditor; places of dead workers are reclaimed when no other is free.
const PARTICIPANTS: u32 = WORKERS as u32 + 1;
const KINDS: [Kind; 2] = [Kind::Lock, Kind::RLock];
/// The time in which a flaw shows.
const FLAW_TIME: Duration = Duration::from_secs(1);

fn place(kind: Kind) -> u64 {
    128 + 64 * kind as u64
}

/// Words that the processes share outside of the memory under test.
struct Counters(&'static [AtomicU64]);

const GENERAL: usize = 8;
const EACH: usize = 8;

impl Counters {
    fn new() -> Counters {
        Counters(shared_words(GENERAL + EACH * WORKERS))
    }

    fn stop(&self) -> &AtomicU64 {
        &self.0[0]
    }

    fn deaths(&self) -> &AtomicU64 {
        &self.0[1]
    }

    /// How often a worker found another one inside, or unequal counters, without the report of a death.
    fn not_exclusive(&self) -> &AtomicU64 {
        &self.0[2]
    }

    fn inside(&self, kind: Kind) -> &AtomicU64 {
        &self.0[3 + kind as usize]
    }

    /// How often a death was reported.
    fn reported(&self, kind: Kind) -> &AtomicU64 {
        &self.0[5 + kind as usize]
    }

    fn acknowledged(&self, worker: usize, kind: Kind) -> &AtomicU64 {
        &self.0[GENERAL + EACH * worker + kind as usize]
    }

    fn longest_wait(&self, worker: usize) -> &AtomicU64 {
        &self.0[GENERAL + EACH * worker + 2]
    }

    fn total(&self, kind: Kind) -> u64 {
        let each = (0..WORKERS).map(|worker| self.acknowledged(worker, kind).load(SeqCst));
        each.sum()
    }
}

/// A lock of the segment, and the two counters that it guards.
struct Guarded {
    kind: Kind,
    lock: Lock,
    counters: &'static [AtomicU64; 2],
}

fn guarded(shmkit: &Library, segment: Segment, kind: Kind) -> Guarded {
    let lock = shmkit.create_lock_at(kind, segment, place(kind));
    Guarded {
        kind,
        lock: lock.expect("the lock is created"),
        counters: words(shmkit, segment, 64 * kind as u64),
    }
}

impl LockSoak {
    /// Creates the series, with or without a flaw.
    pub fn new(flaw: Option<Flaw>) -> LockSoak {
        LockSoak {
            flaw,
            counters: OnceLock::new(),
        }
    }

    fn counters(&self) -> &Counters {
        self.counters.get_or_init(Counters::new)
    }

    /// Acquires a lock, counts, acknowledges, counts, and releases it.
    fn pass(&self, shmkit: &Library, worker: usize, it: &Guarded) -> Result<(), Status> {
        let (counters, acquires) = (self.counters(), self.flaw != Some(Flaw::SkipsLock));
        let begin = Instant::now();
        let owner_died = acquires && shmkit.acquire(it.lock, FOREVER)?;
        let waited = begin.elapsed().as_nanos() as u64;
        counters.longest_wait(worker).fetch_max(waited, SeqCst);
        let inside = counters.inside(it.kind);
        let alone = inside.swap(worker as u64 + 1, SeqCst) == 0;
        if acquires && it.kind == Kind::RLock {
            shmkit.acquire(it.lock, NOWAIT)?;
        }
        let [first, second] = it.counters;
        let whole = first.load(SeqCst) == second.load(SeqCst);
        if !(alone && whole || owner_died) {
            counters.not_exclusive().fetch_add(1, SeqCst);
        }
        if owner_died {
            counters.reported(it.kind).fetch_add(1, SeqCst);
            second.store(first.load(SeqCst), SeqCst);
            check(shmkit.mark_consistent(it.lock))?;
        }
        // Not atomic, so that two workers inside would lose a count.
        first.store(first.load(SeqCst) + 1, SeqCst);
        let excess = u64::from(self.flaw == Some(Flaw::Overclaims));
        counters
            .acknowledged(worker, it.kind)
            .fetch_add(1 + excess, SeqCst);
        second.store(second.load(SeqCst) + 1, SeqCst);
        if self.flaw == Some(Flaw::NeverReleases) && counters.stop().load(SeqCst) == 1 {
            sleep();
        }
        inside.store(0, SeqCst);
        if acquires && it.kind == Kind::RLock {
            check(shmkit.release(it.lock))?;
        }
        match acquires {
            true => check(shmkit.release(it.lock)),
            false => Ok(()),
        }
    }

    fn work(&self, shmkit: &Library, worker: usize) -> Status {
        let segment = open(shmkit);
        let locks = KINDS.map(|kind| guarded(shmkit, segment, kind));
        let mut last = false;
        while !last {
            // Once more after the stop word is set.
            last = self.counters().stop().load(SeqCst) == 1;
            for it in &locks {
                if let Err(status) = self.pass(shmkit, worker, it) {
                    return status;
                }
            }
        }
        0
    }

    fn start(&self, shmkit: &Library, worker: usize) -> Pid {
        process::spawn(|| -self.work(shmkit, worker))
    }

    fn total(&self) -> u64 {
        KINDS.map(|kind| self.counters().total(kind)).iter().sum()
    }

    /// Kills and replaces workers until the time is over or a failure is found.
    fn kill_workers(
        &self,
        shmkit: &Library,
        plan: &Plan,
        workers: &mut [Pid],
    ) -> Result<(), Failure> {
        const SHORT: Duration = Duration::from_secs(5);
        const ONE_MINUTE: Duration = Duration::from_secs(60);
        const PAUSE: Duration = Duration::from_millis(2);
        let time = match (self.flaw, plan.every) {
            (Some(_), _) => FLAW_TIME,
            (None, Some(1)) => ONE_MINUTE,
            (None, _) => SHORT,
        };
        let (counters, mut rng) = (self.counters(), rng(plan));
        let begin = Instant::now();
        let mut progress = Progress::new();
        while begin.elapsed() < time {
            std::thread::sleep(rng.below(PAUSE));
            let worker = rng.below(PAUSE).as_nanos() as usize % WORKERS;
            kill_live(workers[worker])?;
            counters.deaths().fetch_add(1, SeqCst);
            workers[worker] = self.start(shmkit, worker);
            progress.check(self.total())?;
        }
        Ok(())
    }

    /// Has the live workers end.
    fn end_workers(&self, workers: &[Pid]) -> Result<(), Failure> {
        self.counters().stop().store(1, SeqCst);
        expect_ends(workers, self.time_limit())
    }

    /// Runs the series.
    pub fn run(&self, series: &Series, plan: &Plan) -> Result<Report, Trouble> {
        let (shmkit, counters) = (series.shmkit(), self.counters());
        let mut report = Report::new(0, 0, 1);
        let begin = Instant::now();
        let creator = process::spawn(|| {
            let created = shmkit.create(Some(NAME), PAGE, managed(PARTICIPANTS));
            let segment = created.expect("the segment is created");
            for kind in KINDS {
                guarded(shmkit, segment, kind);
            }
            0
        });
        if !matches!(
            process::wait(creator, WATCHDOG),
            Ok(WaitStatus::Exited(_, 0))
        ) {
            return Err("the segment cannot be created".into());
        }
        let mut workers: Vec<_> = (0..WORKERS)
            .map(|worker| self.start(shmkit, worker))
            .collect();
        let killed = self.kill_workers(shmkit, plan, &mut workers);
        let ended = self.end_workers(&workers);
        report.time = begin.elapsed();
        report.killed = counters.deaths().load(SeqCst) as usize;
        report.taken = report.killed;
        let verified = series.verify(true);
        let failures = [killed, ended, verified]
            .into_iter()
            .filter_map(Result::err);
        report.failures = failures.map(|failure| (None, failure)).collect();
        let waits = (0..WORKERS).map(|worker| counters.longest_wait(worker).load(SeqCst));
        report.note = format!(
            ", {} acquisitions, longest wait {:.1} ms",
            self.total(),
            waits.max().unwrap_or(0) as f64 / 1e6
        );
        Ok(report)
    }

    /// Checks that what was acknowledged was done, once, and by one worker at a time.
    fn audit(&self, verifier: &Verifier, it: &Guarded) -> Result<(), Failure> {
        let (shmkit, counters) = (verifier.shmkit, self.counters());
        let owner_died = shmkit
            .acquire(it.lock, FOREVER)
            .map_err(refused("acquire"))?;
        let [first, second] = it.counters.each_ref().map(|counter| counter.load(SeqCst));
        let stat = shmkit.lock_stat(it.lock).map_err(refused("stat"))?;
        let (total, deaths) = (counters.total(it.kind), counters.deaths().load(SeqCst));
        let kind = it.kind;
        if first != second && !owner_died {
            let text = format!(
                "{kind:?}: the counters are {first} and {second}, and no death is reported"
            );
            return Err(Violation::Misreported.failure(text));
        }
        // A worker that gets the report of a death marks the data as consistent, or dies in turn.
        let reported = counters.reported(kind).load(SeqCst);
        if reported > deaths {
            let text =
                format!("{kind:?}: {deaths} workers died, and {reported} deaths were reported");
            return Err(Violation::Misreported.failure(text));
        }
        // Each worker may have died between a count and its acknowledgement.
        if !(total..=total + deaths).contains(&first) {
            let text = format!(
                "{kind:?}: {total} were acknowledged, {deaths} workers died, {first} are counted"
            );
            return Err(Violation::Lost.failure(text));
        }
        // One acquisition is that of the audit.
        if !(first..=first + deaths + 1).contains(&stat.acquisitions) || stat.recoveries > deaths {
            let text = format!(
                "{kind:?}: {first} acquisitions and {deaths} deaths; the lock counts {} and {}",
                stat.acquisitions, stat.recoveries
            );
            return Err(Violation::Lost.failure(text));
        }
        verifier.check_dead_are_dead(stat.owner_ticket)?;
        check(shmkit.mark_consistent(it.lock)).map_err(refused("mark_consistent"))?;
        check(shmkit.release(it.lock)).map_err(refused("release"))
    }
}

impl Operation for LockSoak {
    fn name(&self) -> String {
        match self.flaw {
            None => "lock, rlock: workers, killed at random times",
            Some(Flaw::SkipsLock) => "selftest: lock: workers that acquire no lock",
            Some(Flaw::Overclaims) => "selftest: lock: workers that acknowledge too much",
            Some(Flaw::NeverReleases) => "selftest: lock: workers that keep the lock",
        }
        .to_owned()
    }

    fn every(&self) -> usize {
        1
    }

    fn expect_violation(&self) -> Option<Violation> {
        self.flaw.map(|flaw| match flaw {
            Flaw::SkipsLock => Violation::NotExclusive,
            Flaw::Overclaims => Violation::Lost,
            Flaw::NeverReleases => Violation::Stuck,
        })
    }

    fn time_limit(&self) -> u32 {
        if self.flaw.is_some() { 1 } else { WATCHDOG }
    }

    fn prepare<'a>(&'a self, _shmkit: &'a Library) -> Run<'a> {
        unreachable!("the workers are the victims")
    }

    fn verify(&self, verifier: &Verifier, _done: bool) -> Result<(), Failure> {
        let count = self.counters().not_exclusive().load(SeqCst);
        if count > 0 {
            let text = format!("two workers were inside {count} times, and no death was reported");
            return Err(Violation::NotExclusive.failure(text));
        }
        let segment = open(verifier.shmkit);
        for kind in KINDS {
            let it = guarded(verifier.shmkit, segment, kind);
            self.audit(verifier, &it)?;
            check(verifier.shmkit.close_lock(it.lock)).map_err(refused("close of a lock"))?;
        }
        verifier.table_has_room(segment, PARTICIPANTS)?;
        verifier.remove_last(segment)
    }
}
