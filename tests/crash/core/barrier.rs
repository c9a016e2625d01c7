//! Barriers: wait, hold and release, withdraw, abort, reset, create_at; and the processes that wait during these calls.
//!
//! ```text
//! data:  | the two early waiters | …     64: the barrier
//! ```
//!
//! | waiter | starts to wait           | outcome                                                                    |
//! |--------|--------------------------|----------------------------------------------------------------------------|
//! | early  | before the victim begins | all pass or all get BROKEN, once the victim is dead and enough others wait |
//! | late   | when the victim is dead  | passes or gets BROKEN                                                      |
//!
//! A reset returns the barrier to its first state, in any state that dead processes have left.

use crate::suite::capi::barrier::Barrier;
use crate::suite::capi::{BROKEN, FOREVER, INTERRUPTED, Status, TIMEOUT, check, status};
use crate::suite::harness::fixture::{
    PLACE, VICTIM_TIMEOUT_NS, create, open, open_attached, words,
};
use crate::suite::harness::library::Library;
use crate::suite::harness::operation::{Failure, Operation, Run, Setup, Verifier, Violation};
use crate::suite::harness::process::{self, run_and_die, spawn_waiter};
use crate::suite::harness::shared_state::{Phase, Role, shared_state};
use crate::suite::harness::survivor::{refused, reopen};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use shmkit::capi::barrier::{SHMKIT_BARRIER_BROKEN, SHMKIT_BARRIER_SERIAL};
use shmkit::capi::interrupt::SHMKIT_INTERRUPTIBLE;
use std::ffi::c_void;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// The exit status of a waiter is its place in the turn, or this plus a negated status.
const REFUSED: i32 = 64;

/// Starts a process that waits for the other parties.
fn start_waiter(barrier: &Barrier) -> Pid {
    spawn_waiter(|| match barrier.wait(FOREVER, 0) {
        Ok(place) => place as i32,
        Err(status) => REFUSED - status,
    })
}

/// Returns the place of a waiter that has ended, or its status.
fn outcome(end: WaitStatus) -> Result<u32, Status> {
    match end {
        WaitStatus::Exited(_, code) if code >= REFUSED => Err(REFUSED - code),
        WaitStatus::Exited(_, code) => Ok(code as u32),
        other => panic!("a waiter has ended otherwise: {other:?}"),
    }
}

extern "C" fn at_once(_: *mut c_void) -> i32 {
    1
}

/// Has the hook interrupt this process at its first sleep.
fn interrupt_at_once(shmkit: &Library) {
    // SAFETY: the hook ignores its argument.
    let set = unsafe { (shmkit.interrupts.set_interrupt)(at_once, std::ptr::null_mut()) };
    assert_eq!(check(set), Ok(()));
}

/// What the victim does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    /// Waits until its timeout, for a party that never arrives.
    Wait,
    /// As `Wait`, with a party that has died in its wait.
    WaitBesideDead,
    /// Waits as the last party if the early waiters take part, else until its timeout.
    Last,
    /// As `Last`, and holds the other parties; then releases them.
    Hold,
    /// Releases the only party, which it holds.
    Release,
    /// Waits, is interrupted, and withdraws.
    Withdraw,
    Abort,
    Reset,
    /// Resets a barrier that a death has broken.
    ResetBroken,
    CreateAt,
}

/// An operation of barriers.
pub struct BarrierOperation {
    name: &'static str,
    verb: Verb,
    parties: u32,
    every: usize,
}

/// The number of early waiters.
const EARLY: usize = 2;

/// Waits until a process has ended, which need not be a child of this one.
fn await_end(process: u64) {
    let stat = format!("/proc/{process}/stat");
    // proc(5): the number, the name in parentheses, the state.
    let lives = || {
        let stat = std::fs::read_to_string(&stat).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    while lives() {
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Has a process die while it waits.
fn die_waiting(barrier: &Barrier) {
    let before = barrier.stat().expect("the barrier is open").waiting;
    let dying = process::spawn(|| status(barrier.wait(FOREVER, 0)));
    while barrier.stat().expect("the barrier is open").waiting == before {
        std::thread::yield_now();
    }
    process::kill(dying);
}

impl BarrierOperation {
    fn run(&self, barrier: &Barrier) -> Result<(), Status> {
        let waited = |result| match result {
            // Other parties may have died.
            Ok(_) | Err(TIMEOUT | BROKEN) => Ok(()),
            Err(status) => Err(status),
        };
        match self.verb {
            Verb::Wait | Verb::WaitBesideDead | Verb::Last => {
                waited(barrier.wait(VICTIM_TIMEOUT_NS, 0))
            }
            Verb::Hold => match barrier.wait(VICTIM_TIMEOUT_NS, SHMKIT_BARRIER_SERIAL) {
                Ok(place) if place + 1 == self.parties => waited(barrier.release().map(|()| place)),
                other => waited(other),
            },
            Verb::Release => barrier.release(),
            Verb::Withdraw => match barrier.wait(FOREVER, SHMKIT_INTERRUPTIBLE) {
                Err(INTERRUPTED) => Ok(()),
                other => waited(other),
            },
            Verb::Abort => barrier.abort(),
            Verb::Reset | Verb::ResetBroken => barrier.reset(),
            Verb::CreateAt => Ok(()),
        }
    }

    /// Waits until the victim is dead and starts the missing parties. All early waiters must get the same result.
    fn await_waiters(&self, barrier: &Barrier, early: &[Pid]) -> Result<(), Status> {
        shared_state().await_end_of_victim();
        let late = (EARLY..self.parties as usize).map(|_| start_waiter(barrier));
        let late: Vec<_> = late.collect();
        // If a waiter were to wait forever, so would this process, and the harness would report it.
        let end = |waiter: &Pid| outcome(waitpid(*waiter, None).expect("it is a child"));
        let early: Vec<_> = early.iter().map(end).collect();
        // The late waiters may wait for the next turn.
        barrier.abort()?;
        let late: Vec<_> = late.iter().map(end).collect();
        let all_pass = early.iter().all(Result::is_ok);
        let all_broken = early.iter().all(|result| *result == Err(BROKEN));
        assert!(all_pass || all_broken, "the early waiters got {early:?}");
        let known = late
            .iter()
            .all(|result| matches!(result, Ok(_) | Err(BROKEN)));
        assert!(known, "the late waiters got {late:?}");
        let late_pass = late.iter().any(Result::is_ok);
        assert!(all_pass || !late_pass, "early {early:?}, late {late:?}");
        let mut places: Vec<_> = early.iter().chain(&late).flatten().collect();
        let count = places.len();
        places.sort();
        places.dedup();
        assert_eq!(places.len(), count, "early {early:?}, late {late:?}");
        Ok(())
    }
}

impl Operation for BarrierOperation {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn every(&self) -> usize {
        self.every
    }

    fn setup<'a>(&'a self, shmkit: &'a Library) -> Option<Setup<'a>> {
        Some(Box::new(move || {
            create(shmkit, 16, None);
            if self.verb == Verb::CreateAt {
                return;
            }
            let barrier = Barrier::create(shmkit, open(shmkit), PLACE, self.parties);
            let barrier = barrier.expect("the barrier is created");
            if matches!(self.verb, Verb::WaitBesideDead | Verb::ResetBroken) {
                run_and_die(|| die_waiting(&barrier));
            }
            if self.verb == Verb::ResetBroken {
                run_and_die(|| barrier.abort().expect("the barrier is open"));
            }
        }))
    }

    fn prepare<'a>(&'a self, shmkit: &'a Library) -> Run<'a> {
        let segment = open_attached(shmkit);
        if self.verb == Verb::CreateAt {
            return Box::new(move || status(Barrier::create(shmkit, segment, PLACE, self.parties)));
        }
        let barrier = Barrier::open(shmkit, segment, PLACE).expect("the barrier exists");
        match self.verb {
            Verb::Release => {
                let held = barrier.wait(FOREVER, SHMKIT_BARRIER_SERIAL);
                assert_eq!(held, Ok(0));
            }
            Verb::Withdraw => interrupt_at_once(shmkit),
            _ => {}
        }
        Box::new(move || {
            shared_state().set_phase(Role::Victim, Phase::Acquiring);
            let done = status(self.run(&barrier));
            shared_state().set_phase(Role::Victim, Phase::Holding);
            done
        })
    }

    fn blocks_bystander(&self) -> bool {
        use Verb::{Abort, Release, Reset, Wait, Withdraw};
        matches!(self.verb, Wait | Release | Withdraw | Abort | Reset)
    }

    fn bystander_waits_first(&self) -> bool {
        self.blocks_bystander() || matches!(self.verb, Verb::Last | Verb::Hold)
    }

    fn bystander<'a>(&'a self, shmkit: &'a Library) -> Option<Run<'a>> {
        if self.verb == Verb::Release {
            let segment = open_attached(shmkit);
            let barrier = Barrier::open(shmkit, segment, PLACE).expect("the barrier exists");
            // It belongs to the next turn, and waits until that begins.
            return Some(Box::new(move || status(barrier.wait(FOREVER, 0))));
        }
        let segment = open(shmkit);
        let barrier = Barrier::open(shmkit, segment, PLACE).expect("the barrier exists");
        let early = [(); EARLY].map(|()| start_waiter(&barrier));
        for (pid, early) in words::<EARLY>(shmkit, segment, 0).iter().zip(early) {
            pid.store(early.as_raw() as u64, SeqCst);
        }
        Some(Box::new(move || {
            status(self.await_waiters(&barrier, &early))
        }))
    }

    fn accepts_from_bystander(&self, status: Status) -> bool {
        status == 0 || (self.verb == Verb::Release && status == BROKEN)
    }

    fn verify(&self, verifier: &Verifier, done: bool) -> Result<(), Failure> {
        let segment = verifier.open_managed()?;
        // The children of a killed bystander may live a moment longer.
        let early = words::<EARLY>(verifier.shmkit, segment, 0).iter();
        let early = early.map(|pid| pid.load(SeqCst));
        early.filter(|pid| *pid != 0).for_each(await_end);
        let barrier = reopen(
            done || self.verb != Verb::CreateAt,
            Barrier::open(verifier.shmkit, segment, PLACE),
            |barrier| barrier.close(),
            || Barrier::create(verifier.shmkit, segment, PLACE, self.parties),
        )?;
        let broken = barrier.stat().map_err(refused("stat"))?.flags & SHMKIT_BARRIER_BROKEN != 0;
        let returned = shared_state().phase() == Phase::Holding;
        if returned && self.verb == Verb::Abort && !broken {
            return Err(
                Violation::Lost.failure("abort has returned, and the barrier is not broken")
            );
        }
        // In any state that the victim has left, no party waits forever, and all get the same result.
        let results = self.all_wait(&barrier)?;
        let all_pass = results.iter().all(Result::is_ok);
        if !all_pass && !results.iter().all(|result| *result == Err(BROKEN)) {
            let text = format!("all parties wait, and get {results:?}");
            return Err(Violation::Misreported.failure(text));
        }
        if broken && all_pass {
            let text = "the barrier was broken, and all parties have passed";
            return Err(Violation::Misreported.failure(text));
        }
        // A reset returns the barrier to its first state.
        barrier.reset().map_err(refused("reset"))?;
        for _ in 0..2 {
            let mut results = self.all_wait(&barrier)?;
            results.sort();
            if !results.iter().copied().eq((0..self.parties).map(Ok)) {
                let text = format!("after a reset all parties wait, and get {results:?}");
                return Err(Violation::Misreported.failure(text));
            }
        }
        let after = barrier.stat().map_err(refused("stat"))?;
        if (after.flags, after.waiting) != (0, 0) {
            let text = format!("{} processes wait, flags {:#x}", after.waiting, after.flags);
            return Err(Violation::Misreported.failure(text));
        }
        shared_state().verdict()?;
        barrier.close().map_err(refused("close of a barrier"))?;
        verifier.remove_last(segment)
    }
}

impl BarrierOperation {
    /// Starts as many waiting processes as there are parties; returns their results.
    fn all_wait(&self, barrier: &Barrier) -> Result<Vec<Result<u32, Status>>, Failure> {
        let waiters = (0..self.parties).map(|_| start_waiter(barrier));
        let waiters: Vec<_> = waiters.collect();
        let ends = waiters.iter().map(|waiter| {
            let end = process::wait(*waiter, process::WATCHDOG / 4);
            end.map(outcome).map_err(|_| {
                waiters.iter().copied().for_each(process::kill);
                Violation::Stuck.failure("all parties wait, and one does not return")
            })
        });
        ends.collect()
    }
}

/// The operations of barriers, slowest first.
pub fn operations() -> Vec<BarrierOperation> {
    let operation = |name, every, verb, parties| BarrierOperation {
        name,
        verb,
        parties,
        every,
    };
    vec![
        operation("barrier: wait, times out", 12, Verb::Wait, 4),
        operation("barrier: wait, last party", 12, Verb::Last, 3),
        operation(
            "barrier: wait, a party is dead",
            24,
            Verb::WaitBesideDead,
            4,
        ),
        operation("barrier: hold, release", 24, Verb::Hold, 3),
        operation("barrier: wait, interrupted", 24, Verb::Withdraw, 4),
        operation("barrier: reset", 8, Verb::Reset, 3),
        operation("barrier: reset after a death", 12, Verb::ResetBroken, 3),
        operation("barrier: release", 4, Verb::Release, 1),
        operation("barrier: abort", 4, Verb::Abort, 3),
        operation("barrier: create_at", 8, Verb::CreateAt, 3),
    ]
}
