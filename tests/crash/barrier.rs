//! The operations of barriers: wait, hold and pass, withdraw, abort, reset, make at a place; and those who wait meanwhile.
//!
//! ```text
//! data:  | the victim's process | two that wait early | …     64: the barrier
//! ```
//!
//! | who waits | from when on                   | what comes of it                                               |
//! |-----------|--------------------------------|----------------------------------------------------------------|
//! | the early | before the victim does anything | all pass, or all are told: when the victim is dead and enough others have come |
//! | the late  | when the victim is dead        | pass, or are told                                              |
//!
//! After a reset all is as new, whatever the dead have left.

use crate::board::{Said, Who, board};
use crate::library::{Library, Segment, Status, functions};
use crate::operation::{Crime, Finding, Ground, Look, Operation, Run};
use crate::party::{PLACE, introduce, make, managed, open, status};
use crate::process::{self, run_and_die};
use crate::survivor::refused;
use crate::verify::NAME;
use nix::sys::signal::kill;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use shmkit::capi::barrier::{SHMKIT_BARRIER_BROKEN, SHMKIT_BARRIER_SERIAL};
use shmkit::capi::barrier::{shmkit_barrier_info, shmkit_barrier_options};
use shmkit::capi::interrupt::SHMKIT_INTERRUPTIBLE;
use shmkit::capi::segment::shmkit_segment;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

functions! {
    Barriers:
    create_at(*const shmkit_segment, u64, *const shmkit_barrier_options, *mut *mut c_void);
    open_at(*const shmkit_segment, u64, *const shmkit_barrier_options, *mut *mut c_void);
    wait(*mut c_void, i64, u32, *mut u32);
    pass(*mut c_void);
    reset(*mut c_void);
    abort(*mut c_void);
    stat(*const c_void, *mut shmkit_barrier_info);
    close(*mut c_void);
}

functions! {
    Interrupts:
    set_interrupt(extern "C" fn(*mut c_void) -> i32, *mut c_void);
}

/// Where those stand that are only there for the first calls, beside the objects that are.
const WARM_UP: u64 = 3072;

const FOREVER: i64 = -1;
const NOWAIT: i64 = 0;
const NOT_FOUND: Status = -4;
const TIMEOUT: Status = -10;
const WOULD_BLOCK: Status = -11;
const INTERRUPTED: Status = -12;
const NOT_OWNER: Status = -13;
const BROKEN: Status = -15;

/// How long a victim waits in vain: for two sleeps and what is left of a third, in nanoseconds.
const SHORTLY: i64 = 4_000_000;

/// A barrier that this process has open.
#[derive(Clone, Copy)]
struct Barrier<'a> {
    functions: &'a Barriers,
    handle: *mut c_void,
}

fn good(status: Status) -> Result<(), Status> {
    match status {
        0 => Ok(()),
        _ => Err(status),
    }
}

impl<'a> Barrier<'a> {
    /// Makes or finds it.
    fn make(
        shmkit: &'a Library,
        segment: Segment,
        offset: u64,
        parties: u32,
    ) -> Result<Barrier<'a>, Status> {
        let (functions, mut handle) = (&shmkit.barriers, std::ptr::null_mut());
        let options = shmkit_barrier_options {
            struct_size: size_of::<shmkit_barrier_options>() as u32,
            flags: 0,
            mode: 0,
            participants: 0,
            directory: std::ptr::null(),
            parties,
            reserved: 0,
        };
        // SAFETY: a Segment is an open handle; options and out live through the call.
        good(unsafe { (functions.create_at)(segment.0, offset, &options, &raw mut handle) })?;
        Ok(Barrier { functions, handle })
    }

    /// Finds it.
    fn find(shmkit: &'a Library, segment: Segment, offset: u64) -> Result<Barrier<'a>, Status> {
        let (functions, mut handle) = (&shmkit.barriers, std::ptr::null_mut());
        // SAFETY: as in `make`.
        let found =
            unsafe { (functions.open_at)(segment.0, offset, std::ptr::null(), &raw mut handle) };
        good(found).map(|()| Barrier { functions, handle })
    }

    fn wait(&self, timeout: i64, flags: u32) -> Result<u32, Status> {
        let mut place = 0;
        // SAFETY: a Barrier is an open handle; place lives through the call.
        good(unsafe { (self.functions.wait)(self.handle, timeout, flags, &raw mut place) })?;
        Ok(place)
    }

    fn pass(&self) -> Result<(), Status> {
        // SAFETY: as in `wait`.
        good(unsafe { (self.functions.pass)(self.handle) })
    }

    fn reset(&self) -> Result<(), Status> {
        // SAFETY: as in `wait`.
        good(unsafe { (self.functions.reset)(self.handle) })
    }

    fn abort(&self) -> Result<(), Status> {
        // SAFETY: as in `wait`.
        good(unsafe { (self.functions.abort)(self.handle) })
    }

    fn stat(&self) -> Result<shmkit_barrier_info, Status> {
        let mut out = shmkit_barrier_info {
            struct_size: size_of::<shmkit_barrier_info>() as u32,
            flags: 0,
            parties: 0,
            waiting: 0,
            turns: 0,
            breaks: 0,
            deaths: 0,
            offset: 0,
        };
        // SAFETY: as in `wait`; out has its size set.
        good(unsafe { (self.functions.stat)(self.handle, &raw mut out) })?;
        Ok(out)
    }

    fn close(&self) -> Result<(), Status> {
        // SAFETY: as in `wait`; each handle is closed once.
        good(unsafe { (self.functions.close)(self.handle) })
    }

    /// Starts a process that waits, and returns when it sleeps or has ended. It exits with its place, or with the status.
    fn waiter(&self) -> Pid {
        let waiter = process::spawn(|| match self.wait(FOREVER, 0) {
            Ok(place) => place as i32,
            Err(status) => REFUSED - status,
        });
        while !process::waits(waiter) && !process::has_ended(waiter) {
            std::thread::yield_now();
        }
        waiter
    }
}

/// What a waiter exits with: its place, or above this a status.
const REFUSED: i32 = 64;

/// Waits for the end of a waiter, and returns what came of its wait.
fn outcome(end: WaitStatus) -> Result<u32, Status> {
    match end {
        WaitStatus::Exited(_, code) if code >= REFUSED => Err(REFUSED - code),
        WaitStatus::Exited(_, code) => Ok(code as u32),
        other => panic!("a waiter has ended otherwise: {other:?}"),
    }
}

impl Library {
    /// As `warm_up`, for barriers.
    pub fn warm_up_barriers(&self, segment: Segment) -> Result<(), Status> {
        Barrier::make(self, segment, WARM_UP, 1)?.close()?;
        let barrier = Barrier::find(self, segment, WARM_UP)?;
        assert_eq!(barrier.wait(FOREVER, 0), Ok(0), "it waits for nobody");
        assert_eq!(barrier.wait(FOREVER, SHMKIT_BARRIER_SERIAL), Ok(0));
        assert_eq!(barrier.wait(1, 0), Err(TIMEOUT), "all are held");
        barrier.pass()?;
        assert_eq!(barrier.pass(), Err(NOT_OWNER));
        barrier.abort()?;
        assert_eq!(barrier.wait(FOREVER, 0), Err(BROKEN));
        barrier.reset()?;
        barrier.stat()?;
        barrier.close()?;
        let pair = Barrier::make(self, segment, WARM_UP + 256, 2)?;
        assert_eq!(pair.wait(NOWAIT, 0), Err(WOULD_BLOCK));
        assert_eq!(pair.wait(1_500_000, 0), Err(TIMEOUT), "nobody comes");
        pair.reset()?;
        pair.close()
    }
}

extern "C" fn at_once(_: *mut c_void) -> i32 {
    1
}

/// Has the first sleep of this process end its wait.
fn interrupt_at_once(shmkit: &Library) {
    // SAFETY: the hook takes anything.
    let status = unsafe { (shmkit.interrupts.set_interrupt)(at_once, std::ptr::null_mut()) };
    assert_eq!(status, 0);
}

/// What the victim does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    /// Waits in vain for somebody who does not come.
    Wait,
    /// As `Wait`, beside one that has died in a wait.
    WaitBesideDead,
    /// Waits, as the last one where the early wait; else in vain.
    Last,
    /// As `Last`, and holds the others; then it lets them pass.
    Hold,
    /// Lets itself pass, which it has held.
    Pass,
    /// Waits, is interrupted, and goes.
    Withdraw,
    Abort,
    Reset,
    /// Makes whole what a death has broken.
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

/// How many wait before the victim does anything.
const EARLY: u32 = 2;

/// Where the victim says which process it is, and behind it those who wait before it does anything.
fn numbers(shmkit: &Library, segment: Segment) -> &'static [AtomicU64] {
    let base = shmkit.data(segment).expect("it has an address");
    // SAFETY: the data has a page; whoever looks does so while the segment is open, and all use it as atomics.
    unsafe { std::slice::from_raw_parts(base.cast::<AtomicU64>(), 1 + EARLY as usize) }
}

/// Waits until a process has ended, whoever its parent is.
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

/// Waits, and dies.
fn die_waiting(barrier: &Barrier) {
    let before = barrier.stat().expect("it is open").waiting;
    let dying = process::spawn(|| status(barrier.wait(FOREVER, 0)));
    while barrier.stat().expect("it is open").waiting == before {
        std::thread::yield_now();
    }
    process::kill(dying);
}

impl BarrierOperation {
    fn run(&self, barrier: &Barrier) -> Result<(), Status> {
        let waited = |told| match told {
            // Those beside it may have died.
            Ok(_) | Err(TIMEOUT | BROKEN) => Ok(()),
            Err(status) => Err(status),
        };
        match self.verb {
            Verb::Wait | Verb::WaitBesideDead | Verb::Last => waited(barrier.wait(SHORTLY, 0)),
            Verb::Hold => match barrier.wait(SHORTLY, SHMKIT_BARRIER_SERIAL) {
                Ok(place) if place + 1 == self.parties => waited(barrier.pass().map(|()| place)),
                other => waited(other),
            },
            Verb::Pass => barrier.pass(),
            Verb::Withdraw => match barrier.wait(FOREVER, SHMKIT_INTERRUPTIBLE) {
                Err(INTERRUPTED) => Ok(()),
                other => waited(other),
            },
            Verb::Abort => barrier.abort(),
            Verb::Reset | Verb::ResetBroken => barrier.reset(),
            Verb::CreateAt => Ok(()),
        }
    }

    /// Waits until the victim is gone, has enough others come, and sees to it that all go on who must.
    fn stand_by(&self, barrier: &Barrier, victim: Pid, early: &[Pid]) -> Result<(), Status> {
        while kill(victim, None).is_ok() {
            std::thread::sleep(Duration::from_micros(200));
        }
        let late: Vec<_> = (EARLY..self.parties).map(|_| barrier.waiter()).collect();
        // Should they wait for ever, so do we, and the harness tells.
        let end = |waiter: &Pid| outcome(waitpid(*waiter, None).expect("it is ours"));
        let told: Vec<_> = early.iter().map(end).collect();
        // The late ones may wait for the next turn.
        barrier.abort()?;
        let last: Vec<_> = late.iter().map(end).collect();
        let all_pass = told.iter().all(Result::is_ok);
        let all_told = told.iter().all(|told| *told == Err(BROKEN));
        assert!(all_pass || all_told, "some of the early: {told:?}");
        let known = last.iter().all(|told| matches!(told, Ok(_) | Err(BROKEN)));
        assert!(known, "the late: {last:?}");
        let passed = last.iter().any(Result::is_ok);
        assert!(all_pass || !passed, "the early {told:?}, the late {last:?}");
        let mut places: Vec<_> = told.iter().chain(&last).flatten().collect();
        places.sort();
        places.dedup();
        let count = told.iter().chain(&last).flatten().count();
        assert_eq!(places.len(), count, "the early {told:?}, the late {last:?}");
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

    fn ground<'a>(&'a self, shmkit: &'a Library) -> Option<Ground<'a>> {
        Some(Box::new(move || {
            make(shmkit, 16, None);
            if self.verb == Verb::CreateAt {
                return;
            }
            let made = Barrier::make(shmkit, open(shmkit), PLACE, self.parties);
            let barrier = made.expect("a barrier can be made");
            if matches!(self.verb, Verb::WaitBesideDead | Verb::ResetBroken) {
                run_and_die(|| die_waiting(&barrier));
            }
            if self.verb == Verb::ResetBroken {
                run_and_die(|| barrier.abort().expect("it is open"));
            }
        }))
    }

    fn prepare<'a>(&'a self, shmkit: &'a Library) -> Run<'a> {
        let segment = open(shmkit);
        introduce(shmkit, segment);
        if self.verb == Verb::CreateAt {
            return Box::new(move || status(Barrier::make(shmkit, segment, PLACE, self.parties)));
        }
        let barrier = Barrier::find(shmkit, segment, PLACE).expect("it was made");
        numbers(shmkit, segment)[0].store(std::process::id().into(), SeqCst);
        match self.verb {
            Verb::Pass => {
                let held = barrier.wait(FOREVER, SHMKIT_BARRIER_SERIAL);
                assert_eq!(held, Ok(0));
            }
            Verb::Withdraw => interrupt_at_once(shmkit),
            _ => {}
        }
        Box::new(move || {
            board().say(Who::Victim, Said::Asks);
            let done = status(self.run(&barrier));
            board().say(Who::Victim, Said::Holds);
            done
        })
    }

    fn makes_others_wait(&self) -> bool {
        use Verb::{Abort, Pass, Reset, Wait, Withdraw};
        matches!(self.verb, Wait | Pass | Withdraw | Abort | Reset)
    }

    fn holds_at_marker(&self) -> bool {
        self.makes_others_wait() || matches!(self.verb, Verb::Last | Verb::Hold)
    }

    fn bystander<'a>(&'a self, shmkit: &'a Library) -> Option<Run<'a>> {
        let segment = open(shmkit);
        let barrier = Barrier::find(shmkit, segment, PLACE).expect("it was made");
        if self.verb == Verb::Pass {
            introduce(shmkit, segment);
            // It comes to the next turn, and waits until there is one.
            return Some(Box::new(move || status(barrier.wait(FOREVER, 0))));
        }
        let numbers = numbers(shmkit, segment);
        let victim = numbers[0].load(SeqCst);
        let early: Vec<_> = (0..EARLY).map(|_| barrier.waiter()).collect();
        for (number, early) in numbers[1..].iter().zip(&early) {
            number.store(early.as_raw() as u64, SeqCst);
        }
        Some(Box::new(move || {
            status(self.stand_by(&barrier, Pid::from_raw(victim as i32), &early))
        }))
    }

    fn bystander_may(&self, status: Status) -> bool {
        status == 0 || (self.verb == Verb::Pass && status == BROKEN)
    }

    fn verify(&self, look: &Look, done: bool) -> Result<(), Finding> {
        if !look.name_is_there(0)? {
            return Err(Crime::Lost.found("the name is gone"));
        }
        let segment = look.shmkit.open(NAME, 0, managed(0));
        let segment = segment.map_err(refused("open"))?;
        // Who was killed with the bystander may live a moment longer.
        let early = numbers(look.shmkit, segment)[1..].iter();
        let early = early.map(|number| number.load(SeqCst));
        early.filter(|number| *number != 0).for_each(await_end);
        match Barrier::find(look.shmkit, segment, PLACE) {
            Ok(barrier) => barrier.close().map_err(refused("close of a barrier"))?,
            Err(NOT_FOUND) if self.verb == Verb::CreateAt && !done => {}
            Err(NOT_FOUND) => return Err(Crime::Lost.found("the barrier is not there")),
            Err(status) => return Err(refused("open_at")(status)),
        }
        let barrier = Barrier::make(look.shmkit, segment, PLACE, self.parties);
        let barrier = barrier.map_err(refused("create_at"))?;
        let broken = barrier.stat().map_err(refused("stat"))?.flags & SHMKIT_BARRIER_BROKEN != 0;
        let returned = board().said() == Said::Holds;
        if returned && self.verb == Verb::Abort && !broken {
            return Err(Crime::Lost.found("abort has returned, and it is not broken"));
        }
        // Whatever the dead have left, nobody who comes waits for ever, and all are told the same.
        let told = self.all_come(&barrier)?;
        let all_pass = told.iter().all(Result::is_ok);
        if !all_pass && !told.iter().all(|told| *told == Err(BROKEN)) {
            return Err(Crime::Untold.found(format!("all have come, and are told {told:?}")));
        }
        if broken && all_pass {
            return Err(Crime::Untold.found("it was broken, and all have passed"));
        }
        // After a reset all is as new.
        barrier.reset().map_err(refused("reset"))?;
        for _ in 0..2 {
            let mut told = self.all_come(&barrier)?;
            told.sort();
            if !told.iter().copied().eq((0..self.parties).map(Ok)) {
                let text = format!("after a reset all have come, and are told {told:?}");
                return Err(Crime::Untold.found(text));
            }
        }
        let after = barrier.stat().map_err(refused("stat"))?;
        if (after.flags, after.waiting) != (0, 0) {
            let text = format!("{} wait, flags {:#x}", after.waiting, after.flags);
            return Err(Crime::Untold.found(text));
        }
        board().verdict()?;
        barrier.close().map_err(refused("close of a barrier"))?;
        look.remove(segment)?;
        look.nothing_is_left()
    }
}

impl BarrierOperation {
    /// Has as many come as there are parties, none of which has been here before; returns what they are told.
    fn all_come(&self, barrier: &Barrier) -> Result<Vec<Result<u32, Status>>, Finding> {
        let waiters: Vec<_> = (0..self.parties).map(|_| barrier.waiter()).collect();
        let ends = waiters.iter().map(|waiter| {
            let end = process::wait(*waiter, process::WATCHDOG / 4);
            end.map(outcome).map_err(|_| {
                waiters.iter().copied().for_each(process::kill);
                Crime::Stuck.found("all have come, and a survivor still waits")
            })
        });
        ends.collect()
    }
}

/// The operations of barriers, those that take longest first.
pub fn operations() -> Vec<BarrierOperation> {
    let operation = |name, every, verb, parties| BarrierOperation {
        name,
        verb,
        parties,
        every,
    };
    vec![
        operation("barrier: wait", 12, Verb::Wait, 4),
        operation("barrier: wait, as the last", 12, Verb::Last, 3),
        operation(
            "barrier: wait beside a dead one",
            24,
            Verb::WaitBesideDead,
            4,
        ),
        operation("barrier: hold, pass", 24, Verb::Hold, 3),
        operation("barrier: withdraw", 24, Verb::Withdraw, 4),
        operation("barrier: reset", 8, Verb::Reset, 3),
        operation("barrier: reset after a death", 12, Verb::ResetBroken, 3),
        operation("barrier: pass", 4, Verb::Pass, 1),
        operation("barrier: abort", 4, Verb::Abort, 3),
        operation("barrier: create_at", 8, Verb::CreateAt, 3),
    ]
}
