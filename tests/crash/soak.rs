//! Workers that share a lock and a recursive lock, and are killed at random times and replaced: who survives must find
//! every acquisition that was acknowledged, and never two inside at a time.
//!
//! ```text
//! data:   0: first | second   (of the lock)      64: first | second   (of the recursive one)     128, 192: the locks
//! ledger: stop | deaths | two inside | inside, inside | told, told |  per worker: acknowledged, acknowledged | longest wait
//! ```

use crate::board::shared_words;
use crate::library::{Library, Segment, Status};
use crate::locks::{FOREVER, Kind, Lock, NOWAIT};
use crate::operation::{Crime, Finding, Look, Operation, Run};
use crate::party::{managed, open};
use crate::process::{self, WATCHDOG};
use crate::random::dice;
use crate::report::Report;
use crate::series::{Plan, Series};
use crate::survivor::refused;
use crate::trace::Trouble;
use crate::verify::{NAME, PAGE};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// What is wrong with workers that are broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// They do not take the lock.
    TakesNothing,
    /// They acknowledge what they have not done.
    Boasts,
    /// One that is told to end does not give back what it holds, and does not end.
    Keeps,
}

impl Flaw {
    /// Each of them.
    pub const ALL: [Flaw; 3] = [Flaw::TakesNothing, Flaw::Boasts, Flaw::Keeps];
}

/// The workers, and who kills them.
pub struct Soak {
    flaw: Option<Flaw>,
    ledger: OnceLock<Ledger>,
}

const WORKERS: usize = 3;
/// The living and the audit; the dead are found when there is no other place.
const PARTICIPANTS: u32 = WORKERS as u32 + 1;
const KINDS: [Kind; 2] = [Kind::Lock, Kind::RLock];
/// A flaw shows in this time.
const SHORTLY: Duration = Duration::from_secs(1);

fn place(kind: Kind) -> u64 {
    128 + 64 * kind as u64
}

/// What workers and killer know of each other, outside of the memory under test.
struct Ledger(&'static [AtomicU64]);

const GENERAL: usize = 8;
const EACH: usize = 8;

impl Ledger {
    fn new() -> Ledger {
        Ledger(shared_words(GENERAL + EACH * WORKERS))
    }

    fn stop(&self) -> &AtomicU64 {
        &self.0[0]
    }

    fn deaths(&self) -> &AtomicU64 {
        &self.0[1]
    }

    /// How often somebody found another one inside, or half of the work of one, and was not told of a death.
    fn shared(&self) -> &AtomicU64 {
        &self.0[2]
    }

    fn inside(&self, kind: Kind) -> &AtomicU64 {
        &self.0[3 + kind as usize]
    }

    /// How often somebody was told of a death.
    fn told(&self, kind: Kind) -> &AtomicU64 {
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
    counters: [&'static AtomicU64; 2],
}

fn guarded(shmkit: &Library, segment: Segment, kind: Kind) -> Guarded {
    let base = shmkit.data(segment).expect("it has an address");
    let words = base.wrapping_add(64 * kind as usize).cast::<AtomicU64>();
    let counters = [0, 1].map(|number| {
        // SAFETY: two words of the data, aligned, mapped as long as the process lives, which all use as atomics.
        unsafe { &*words.wrapping_add(number) }
    });
    let lock = shmkit.create_lock_at(kind, segment, place(kind));
    Guarded {
        kind,
        lock: lock.expect("it can be made"),
        counters,
    }
}

impl Soak {
    /// Makes one, without a flaw or with one.
    pub fn new(flaw: Option<Flaw>) -> Soak {
        Soak {
            flaw,
            ledger: OnceLock::new(),
        }
    }

    fn ledger(&self) -> &Ledger {
        self.ledger.get_or_init(Ledger::new)
    }

    /// Takes a lock, counts, acknowledges, counts, and gives it back.
    fn pass(&self, shmkit: &Library, worker: usize, it: &Guarded) -> Result<(), Status> {
        let good = |status| if status == 0 { Ok(()) } else { Err(status) };
        let (ledger, takes) = (self.ledger(), self.flaw != Some(Flaw::TakesNothing));
        let begin = Instant::now();
        let told = takes && shmkit.acquire(it.lock, FOREVER)?;
        let waited = begin.elapsed().as_nanos() as u64;
        ledger.longest_wait(worker).fetch_max(waited, SeqCst);
        let inside = ledger.inside(it.kind);
        let alone = inside.swap(worker as u64 + 1, SeqCst) == 0;
        if takes && it.kind == Kind::RLock {
            shmkit.acquire(it.lock, NOWAIT)?;
        }
        let [first, second] = it.counters;
        let whole = first.load(SeqCst) == second.load(SeqCst);
        if !(alone && whole || told) {
            ledger.shared().fetch_add(1, SeqCst);
        }
        if told {
            ledger.told(it.kind).fetch_add(1, SeqCst);
            second.store(first.load(SeqCst), SeqCst);
            good(shmkit.mark_consistent(it.lock))?;
        }
        // A load and a store: two at a time would lose one.
        first.store(first.load(SeqCst) + 1, SeqCst);
        let boast = u64::from(self.flaw == Some(Flaw::Boasts));
        ledger
            .acknowledged(worker, it.kind)
            .fetch_add(1 + boast, SeqCst);
        second.store(second.load(SeqCst) + 1, SeqCst);
        if self.flaw == Some(Flaw::Keeps) && ledger.stop().load(SeqCst) == 1 {
            crate::random::sleep();
        }
        inside.store(0, SeqCst);
        if takes && it.kind == Kind::RLock {
            good(shmkit.release(it.lock))?;
        }
        match takes {
            true => good(shmkit.release(it.lock)),
            false => Ok(()),
        }
    }

    fn work(&self, shmkit: &Library, worker: usize) -> Status {
        let segment = open(shmkit);
        let both = KINDS.map(|kind| guarded(shmkit, segment, kind));
        let mut last = false;
        while !last {
            // Once more after it is told to end.
            last = self.ledger().stop().load(SeqCst) == 1;
            for it in &both {
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

    fn progress(&self) -> u64 {
        KINDS.map(|kind| self.ledger().total(kind)).iter().sum()
    }

    /// Kills and replaces workers until the time is up, or something is wrong.
    fn kill_them(&self, shmkit: &Library, plan: &Plan, workers: &mut [Pid]) -> Result<(), Finding> {
        const SHORT: Duration = Duration::from_secs(5);
        const LONG: Duration = Duration::from_secs(60);
        const PAUSE: Duration = Duration::from_millis(2);
        let time = match (self.flaw, plan.every) {
            (Some(_), _) => SHORTLY,
            (None, Some(1)) => LONG,
            (None, _) => SHORT,
        };
        let (ledger, mut dice) = (self.ledger(), dice(plan));
        let begin = Instant::now();
        let (mut last, mut since) = (0, begin);
        while begin.elapsed() < time {
            std::thread::sleep(dice.below(PAUSE));
            let worker = dice.below(PAUSE).as_nanos() as usize % WORKERS;
            if process::has_ended(workers[worker]) {
                let end = process::wait(workers[worker], WATCHDOG);
                return Err(Crime::Refused.found(format!("a worker has ended: {end:?}")));
            }
            process::kill(workers[worker]);
            ledger.deaths().fetch_add(1, SeqCst);
            workers[worker] = self.start(shmkit, worker);
            let now = self.progress();
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
        self.ledger().stop().store(1, SeqCst);
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

    /// Runs all of it.
    pub fn run(&self, series: &Series, plan: &Plan) -> Result<Report, Trouble> {
        let (shmkit, ledger) = (series.shmkit(), self.ledger());
        let mut report = Report::new(0, 0, 1);
        let begin = Instant::now();
        let maker = process::spawn(|| {
            let made = shmkit.create(Some(NAME), PAGE, managed(PARTICIPANTS));
            let made = made.expect("a segment can be made");
            for kind in KINDS {
                guarded(shmkit, made, kind);
            }
            0
        });
        if !matches!(process::wait(maker, WATCHDOG), Ok(WaitStatus::Exited(_, 0))) {
            return Err("the segment cannot be made".into());
        }
        let mut workers: Vec<_> = (0..WORKERS)
            .map(|worker| self.start(shmkit, worker))
            .collect();
        let killed = self.kill_them(shmkit, plan, &mut workers);
        let ended = self.end_them(&workers);
        report.time = begin.elapsed();
        report.killed = ledger.deaths().load(SeqCst) as usize;
        report.taken = report.killed;
        let verified = series.verify(true);
        let findings = [killed, ended, verified]
            .into_iter()
            .filter_map(Result::err);
        report.findings = findings.map(|finding| (None, finding)).collect();
        let waits = (0..WORKERS).map(|worker| ledger.longest_wait(worker).load(SeqCst));
        report.note = format!(
            ", {} acquisitions, longest wait {:.1} ms",
            self.progress(),
            waits.max().unwrap_or(0) as f64 / 1e6
        );
        Ok(report)
    }

    /// Checks that what was acknowledged was done, once, and by one at a time.
    fn audit(&self, look: &Look, it: &Guarded) -> Result<(), Finding> {
        let (shmkit, ledger) = (look.shmkit, self.ledger());
        let told = shmkit
            .acquire(it.lock, FOREVER)
            .map_err(refused("acquire"))?;
        let [first, second] = it.counters.map(|counter| counter.load(SeqCst));
        let stat = shmkit.lock_stat(it.lock).map_err(refused("stat"))?;
        let (total, deaths) = (ledger.total(it.kind), ledger.deaths().load(SeqCst));
        let kind = it.kind;
        if first != second && !told {
            let text = format!("{kind:?}: {first} began and {second} ended, and nobody died");
            return Err(Crime::Untold.found(text));
        }
        // Whoever is told says that all is whole, or dies in turn.
        let tales = ledger.told(kind).load(SeqCst);
        if tales > deaths {
            let text = format!("{kind:?}: {deaths} died, and {tales} deaths were told");
            return Err(Crime::Untold.found(text));
        }
        // Each death may have come between a step and what tells of it.
        if !(total..=total + deaths).contains(&first) {
            let text =
                format!("{kind:?}: {total} were acknowledged, {deaths} died, {first} are there");
            return Err(Crime::Lost.found(text));
        }
        // The audit's own is among them.
        if !(first..=first + deaths + 1).contains(&stat.acquisitions) || stat.recoveries > deaths {
            let text = format!(
                "{kind:?}: {first} acquisitions and {deaths} deaths, and the lock tells of {} and {}",
                stat.acquisitions, stat.recoveries
            );
            return Err(Crime::Lost.found(text));
        }
        look.nobody_is_undead(stat.owner_ticket)?;
        match (shmkit.mark_consistent(it.lock), shmkit.release(it.lock)) {
            (0, 0) => Ok(()),
            other => {
                let text = format!("mark_consistent and release returned {other:?}");
                Err(Crime::Refused.found(text))
            }
        }
    }
}

impl Operation for Soak {
    fn name(&self) -> String {
        match self.flaw {
            None => "lock, rlock: workers are killed at random times",
            Some(Flaw::TakesNothing) => "broken: workers that take no lock",
            Some(Flaw::Boasts) => "broken: workers that acknowledge too much",
            Some(Flaw::Keeps) => "broken: workers that keep the lock",
        }
        .to_owned()
    }

    fn every(&self) -> usize {
        1
    }

    fn guilty_of(&self) -> Option<Crime> {
        self.flaw.map(|flaw| match flaw {
            Flaw::TakesNothing => Crime::Shared,
            Flaw::Boasts => Crime::Lost,
            Flaw::Keeps => Crime::Stuck,
        })
    }

    fn patience(&self) -> u32 {
        if self.flaw.is_some() { 1 } else { WATCHDOG }
    }

    fn prepare<'a>(&'a self, _shmkit: &'a Library) -> Run<'a> {
        unreachable!("it brings its own victims")
    }

    fn verify(&self, look: &Look, _done: bool) -> Result<(), Finding> {
        let shared = self.ledger().shared().load(SeqCst);
        if shared > 0 {
            let text = format!("{shared} times two were inside, and nobody was told of a death");
            return Err(Crime::Shared.found(text));
        }
        let segment = open(look.shmkit);
        for kind in KINDS {
            let it = guarded(look.shmkit, segment, kind);
            self.audit(look, &it)?;
            let closed = look.shmkit.close_lock(it.lock);
            if closed != 0 {
                return Err(refused("close of a lock")(closed));
            }
        }
        look.table_has_room(segment, PARTICIPANTS)?;
        look.remove(segment)?;
        look.nothing_is_left()
    }
}
