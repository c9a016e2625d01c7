//! The operations of semaphores: acquire, release, take over from the dead, close while holding, make at a place.
//!
//! ```text
//! data:  | the victim's process | …     64: the semaphore, 192: its cells
//! ```
//!
//! | kind      | what a death may change                                | who waits goes on                               |
//! |-----------|--------------------------------------------------------|-------------------------------------------------|
//! | plain     | what the victim had taken is gone, what it gave may be there | as soon as permits are there               |
//! | with undo | nothing: all permits are to be had                     | as soon as the victim is dead, or has given back |

use crate::board::{Said, Who, board};
use crate::library::{Library, Segment, Status, functions};
use crate::operation::{Crime, Finding, Ground, Look, Operation, Run};
use crate::party::{PLACE, id_of_somebody, introduce, make, managed, open, status};
use crate::place::Place;
use crate::process::{self, ended_well, run_and_die};
use crate::survivor::refused;
use crate::verify::NAME;
use nix::sys::signal::kill;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use shmkit::capi::segment::shmkit_segment;
use shmkit::capi::semaphore::{
    SHMKIT_SEMAPHORE_UNDO, shmkit_semaphore_info, shmkit_semaphore_options,
};
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

functions! {
    Semaphores:
    create_at(*const shmkit_segment, u64, *const shmkit_semaphore_options, *mut *mut c_void);
    open_at(*const shmkit_segment, u64, *const shmkit_semaphore_options, *mut *mut c_void);
    acquire(*mut c_void, u32, i64, u32);
    release(*mut c_void, u32);
    value(*const c_void, *mut u64);
    held(*const c_void, *mut u64);
    stat(*const c_void, *mut shmkit_semaphore_info);
    close(*mut c_void);
}

/// Where those stand that are only there for the first calls, beside the objects that are.
const WARM_UP: u64 = 1024;

const FOREVER: i64 = -1;
const NOWAIT: i64 = 0;
const TIMEOUT: Status = -10;
const WOULD_BLOCK: Status = -11;
const NOT_FOUND: Status = -4;
const NOT_OWNER: Status = -13;

/// How a semaphore is made.
#[derive(Clone, Copy)]
struct Shape {
    value: u64,
    /// With undo: how many processes may hold permits; 0: without.
    processes: u32,
}

impl Shape {
    fn options(self) -> shmkit_semaphore_options {
        shmkit_semaphore_options {
            struct_size: size_of::<shmkit_semaphore_options>() as u32,
            flags: match self.processes {
                0 => 0,
                _ => SHMKIT_SEMAPHORE_UNDO,
            },
            mode: 0,
            participants: 0,
            // SHMKIT_DIR says where.
            directory: std::ptr::null(),
            value: self.value,
            maximum: 0,
            processes: self.processes,
            reserved: 0,
        }
    }
}

/// A semaphore that this process has open.
#[derive(Clone, Copy)]
struct Semaphore<'a> {
    functions: &'a Semaphores,
    handle: *mut c_void,
}

fn good(status: Status) -> Result<(), Status> {
    match status {
        0 => Ok(()),
        _ => Err(status),
    }
}

impl<'a> Semaphore<'a> {
    /// Makes or finds it.
    fn make(
        shmkit: &'a Library,
        segment: Segment,
        offset: u64,
        shape: Shape,
    ) -> Result<Semaphore<'a>, Status> {
        let (functions, mut handle) = (&shmkit.semaphores, std::ptr::null_mut());
        let options = shape.options();
        // SAFETY: a Segment is an open handle; options and out live through the call.
        good(unsafe { (functions.create_at)(segment.0, offset, &options, &raw mut handle) })?;
        Ok(Semaphore { functions, handle })
    }

    /// Finds it.
    fn find(shmkit: &'a Library, segment: Segment, offset: u64) -> Result<Semaphore<'a>, Status> {
        let (functions, mut handle) = (&shmkit.semaphores, std::ptr::null_mut());
        // SAFETY: as in `make`.
        let found =
            unsafe { (functions.open_at)(segment.0, offset, std::ptr::null(), &raw mut handle) };
        good(found).map(|()| Semaphore { functions, handle })
    }

    fn acquire(&self, count: u32, timeout: i64) -> Result<(), Status> {
        // SAFETY: a Semaphore is an open handle.
        good(unsafe { (self.functions.acquire)(self.handle, count, timeout, 0) })
    }

    fn release(&self, count: u32) -> Result<(), Status> {
        // SAFETY: as in `acquire`.
        good(unsafe { (self.functions.release)(self.handle, count) })
    }

    fn value(&self) -> Result<u64, Status> {
        let mut out = 0;
        // SAFETY: as in `acquire`; out lives through the call.
        good(unsafe { (self.functions.value)(self.handle, &raw mut out) })?;
        Ok(out)
    }

    fn held(&self) -> Result<u64, Status> {
        let mut out = 0;
        // SAFETY: as in `value`.
        good(unsafe { (self.functions.held)(self.handle, &raw mut out) })?;
        Ok(out)
    }

    fn stat(&self) -> Result<shmkit_semaphore_info, Status> {
        let mut out = shmkit_semaphore_info {
            struct_size: size_of::<shmkit_semaphore_info>() as u32,
            flags: 0,
            value: 0,
            maximum: 0,
            waits: 0,
            recoveries: 0,
            holders: 0,
            offset: 0,
            processes: 0,
            reserved: 0,
        };
        // SAFETY: as in `acquire`; out has its size set.
        good(unsafe { (self.functions.stat)(self.handle, &raw mut out) })?;
        Ok(out)
    }

    fn close(&self) -> Result<(), Status> {
        // SAFETY: as in `acquire`; each handle is closed once.
        good(unsafe { (self.functions.close)(self.handle) })
    }

    /// Starts a process that takes so many, and returns when it sleeps or has ended.
    fn waiter(&self, count: u32) -> Pid {
        let waiter = process::spawn(|| -status(self.acquire(count, FOREVER)));
        while !process::waits(waiter) && !process::has_ended(waiter) {
            std::thread::yield_now();
        }
        waiter
    }
}

impl Library {
    /// As `warm_up`, for semaphores.
    pub fn warm_up_semaphores(&self, segment: Segment) -> Result<(), Status> {
        for processes in [0, 1] {
            let (offset, shape) = (
                WARM_UP + 512 * u64::from(processes),
                Shape {
                    value: 1,
                    processes,
                },
            );
            Semaphore::make(self, segment, offset, shape)?.close()?;
            let semaphore = Semaphore::find(self, segment, offset)?;
            semaphore.acquire(1, FOREVER)?;
            assert_eq!(semaphore.acquire(1, 1), Err(TIMEOUT), "there is but one");
            semaphore.stat()?;
            semaphore.release(1)?;
            semaphore.value()?;
            if processes > 0 {
                semaphore.held()?;
            }
            semaphore.close()?;
        }
        Ok(())
    }
}

/// What the victim does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    /// Takes permits and gives them back.
    Pass,
    /// Gives back what it holds; of a plain one adds a permit.
    Release,
    /// As `Pass`, after a process has died that held them all.
    TakeOver,
    /// As `Pass`, after a process has died inside the lock, with a permit that neither its cell nor the value has.
    Recount,
    /// Lets go of semaphore and segment while it holds permits: that is dying.
    CloseHolding,
    /// Waits for what nobody gives, for a short time.
    Wait,
    CreateAt,
}

/// An operation of semaphores.
pub struct SemaphoreOperation {
    name: &'static str,
    every: usize,
    verb: Verb,
    shape: Shape,
    /// How many permits the victim wants; with a plain one that gives: how many the early waiter wants.
    count: u32,
}

/// How long a victim waits in vain: for two sleeps and what is left of a third, in nanoseconds.
const SHORTLY: i64 = 4_000_000;

/// Two: the dead and the living have no room to spare.
const PARTICIPANTS: u32 = 2;

/// Where the words of a semaphore stand in it, in bytes.
const LOCK: u64 = 8;
const WORD: u64 = 64;
const CELLS: u64 = 128;

/// Returns the word of eight bytes at this place of the data.
fn word(shmkit: &Library, segment: Segment, at: u64) -> &'static AtomicU64 {
    let base = shmkit.data(segment).expect("it has an address");
    let place = base.wrapping_add(at as usize).cast::<AtomicU64>();
    // SAFETY: the data has a page; whoever looks does so while the segment is open, and all use it as an atomic.
    unsafe { &*place }
}

/// Dies inside the lock, on its way out: its cell says that it holds nothing more, and the value not yet.
fn die_inside(shmkit: &Library) {
    let options = shmkit::segment::Options::default();
    let segment = shmkit::segment::Segment::open(NAME, 0, &options);
    let id = id_of_somebody(&Arc::new(segment.expect("the segment can be opened")));
    let opened = open(shmkit);
    word(shmkit, opened, PLACE + LOCK).store(id, SeqCst);
    word(shmkit, opened, PLACE + WORD).fetch_sub(1 << 32, SeqCst);
}

impl SemaphoreOperation {
    fn has_undo(&self) -> bool {
        self.shape.processes > 0
    }

    fn total(&self) -> u32 {
        self.shape.value as u32
    }

    /// Takes permits and gives them back.
    fn pass(&self, semaphore: &Semaphore, who: Who) -> Result<(), Status> {
        board().say(who, Said::Asks);
        semaphore.acquire(self.count, FOREVER)?;
        board().say(who, Said::Holds);
        semaphore.value()?;
        board().say(who, Said::Gives);
        semaphore.release(self.count)?;
        board().say(who, Said::Idle);
        Ok(())
    }

    /// Sees to it that all go on who wait at a plain one, whatever has come of the victim.
    fn stand_by(&self, semaphore: &Semaphore, victim: Pid, early: Pid) -> Result<(), Status> {
        let late = semaphore.waiter(1);
        // Somebody else who waits, and stands still, holds up nobody.
        while self.verb == Verb::Release && kill(victim, None).is_ok() {
            std::thread::sleep(Duration::from_micros(200));
        }
        // A permit that is there is taken, whatever wake the dead owe. Should it be left, we wait for ever, and the
        // harness tells.
        while self.count == 1 && semaphore.value()? > 0 {
            std::thread::sleep(Duration::from_micros(200));
        }
        semaphore.release(self.count + 1)?;
        for waiter in [early, late] {
            let end = waitpid(waiter, None);
            assert!(ended_well(end), "one who waits: {end:?}");
        }
        Ok(())
    }

    fn find<'a>(&self, look: &'a Look, done: bool) -> Result<(Segment, Semaphore<'a>), Finding> {
        if !look.name_is_there(0)? {
            return Err(Crime::Lost.found("the name is gone"));
        }
        let segment = look.shmkit.open(NAME, 0, managed(0));
        let segment = segment.map_err(refused("open"))?;
        match Semaphore::find(look.shmkit, segment, PLACE) {
            Ok(found) => found.close().map_err(refused("close of a semaphore"))?,
            Err(NOT_FOUND) if self.verb == Verb::CreateAt && !done => {}
            Err(NOT_FOUND) => return Err(Crime::Lost.found("the semaphore is not there")),
            Err(status) => return Err(refused("open_at")(status)),
        }
        let semaphore = Semaphore::make(look.shmkit, segment, PLACE, self.shape);
        Ok((segment, semaphore.map_err(refused("create_at"))?))
    }

    /// Looks how many permits a plain one has, which must be as many as the dead may have left.
    fn count_plain(&self, semaphore: &Semaphore) -> Result<u32, Finding> {
        let value = semaphore.value().map_err(refused("value"))?;
        let whole = self.shape.value;
        let said = board().said();
        let alone = board().there.load(SeqCst) == 0;
        let count = u64::from(self.count);
        let expected = match self.verb {
            Verb::Pass if said == Said::Idle => whole..=whole,
            Verb::Pass if said == Said::Holds => whole - count..=whole - count,
            Verb::Pass => whole - count..=whole,
            Verb::Release if said == Said::Idle && alone => 1..=1,
            Verb::Release => 0..=1,
            _ => whole..=whole,
        };
        if !expected.contains(&value) {
            let text = format!("the victim said {said:?}, and there are {value} permits");
            let crime = match value > *expected.end() {
                true => Crime::Shared,
                false => Crime::Lost,
            };
            return Err(crime.found(text));
        }
        Ok(value as u32)
    }

    /// Takes all permits, which the dead must have left or must give back.
    fn take_all(
        &self,
        look: &Look,
        segment: Segment,
        semaphore: &Semaphore,
    ) -> Result<(), Finding> {
        let total = self.total();
        // Who finds a permit does not look for the dead; if one has died inside the lock, all is counted nevertheless.
        if semaphore.value().map_err(refused("value"))? > 0 {
            semaphore
                .acquire(1, FOREVER)
                .map_err(refused("first acquire"))?;
            semaphore.release(1).map_err(refused("first release"))?;
        }
        semaphore
            .acquire(total, FOREVER)
            .map_err(refused("acquire"))?;
        let told = (semaphore.value(), semaphore.held());
        if told != (Ok(0), Ok(total.into())) {
            let text = format!("it holds all, and a survivor is told {told:?}");
            return Err(Crime::Shared.found(text));
        }
        // The victim, and who may have died before it.
        let deaths = 1 + u64::from(self.verb == Verb::TakeOver);
        let recoveries = semaphore.stat().map_err(refused("stat"))?.recoveries;
        if recoveries > deaths {
            let text = format!("{deaths} may have died, and it tells of {recoveries}");
            return Err(Crime::Untold.found(text));
        }
        let cells = (0..self.shape.processes.into())
            .map(|cell| word(look.shmkit, segment, PLACE + CELLS + 64 * cell).load(SeqCst));
        let ours = cells.into_iter().find(|cell| cell & 0xffff != 0);
        look.nobody_is_undead(ours.expect("we hold all") >> 16)
    }

    /// Checks that it does all that a semaphore does: this process has taken all permits.
    fn works(&self, semaphore: &Semaphore, all: u32) -> Result<(), Finding> {
        let told = (semaphore.acquire(1, NOWAIT), semaphore.acquire(1, 1));
        if told != (Err(WOULD_BLOCK), Err(TIMEOUT)) {
            let text = format!("there is no permit, and a survivor is told {told:?}");
            return Err(Crime::Shared.found(text));
        }
        let waiter = semaphore.waiter(1);
        semaphore.release(1).map_err(refused("release"))?;
        if process::wait(waiter, process::WATCHDOG / 2).is_err() {
            process::kill(waiter);
            return Err(Crime::Stuck.found("a permit was given, and a survivor still waits"));
        }
        if !self.has_undo() {
            return Ok(());
        }
        // The waiter has ended with its permit.
        if all > 1 {
            semaphore.release(all - 1).map_err(refused("release"))?;
        }
        semaphore
            .acquire(all, FOREVER)
            .map_err(refused("second acquire"))?;
        semaphore.release(all).map_err(refused("release"))?;
        let told = (
            semaphore.value(),
            semaphore.held(),
            semaphore.release(1),
            semaphore.stat().map(|stat| stat.holders),
        );
        if told != (Ok(all.into()), Ok(0), Err(NOT_OWNER), Ok(0)) {
            let text = format!("it has given all back, and a survivor is told {told:?}");
            return Err(Crime::Untold.found(text));
        }
        Ok(())
    }
}

impl Operation for SemaphoreOperation {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn every(&self) -> usize {
        self.every
    }

    fn ground<'a>(&'a self, shmkit: &'a Library) -> Option<Ground<'a>> {
        Some(Box::new(move || {
            make(shmkit, PARTICIPANTS, None);
            if self.verb != Verb::CreateAt {
                let made = Semaphore::make(shmkit, open(shmkit), PLACE, self.shape);
                made.expect("a semaphore can be made");
            }
            match self.verb {
                Verb::TakeOver => run_and_die(|| {
                    let semaphore = Semaphore::find(shmkit, open(shmkit), PLACE);
                    let semaphore = semaphore.expect("it was made");
                    semaphore
                        .acquire(self.total(), FOREVER)
                        .expect("they are there");
                }),
                Verb::Recount => run_and_die(|| die_inside(shmkit)),
                _ => {}
            }
        }))
    }

    fn prepare<'a>(&'a self, shmkit: &'a Library) -> Run<'a> {
        let segment = open(shmkit);
        if self.verb == Verb::CreateAt {
            introduce(shmkit, segment);
            return Box::new(move || status(Semaphore::make(shmkit, segment, PLACE, self.shape)));
        }
        let semaphore = Semaphore::find(shmkit, segment, PLACE).expect("it was made");
        word(shmkit, segment, 0).store(std::process::id().into(), SeqCst);
        if self.has_undo() {
            introduce(shmkit, segment);
        }
        match self.verb {
            Verb::Pass | Verb::TakeOver | Verb::Recount => {
                Box::new(move || status(self.pass(&semaphore, Who::Victim)))
            }
            Verb::Wait => Box::new(move || match semaphore.acquire(1, SHORTLY) {
                Err(TIMEOUT) => 0,
                other => status(other),
            }),
            Verb::Release | Verb::CloseHolding => {
                if self.has_undo() {
                    semaphore
                        .acquire(self.count, FOREVER)
                        .expect("nobody else is there");
                    board().say(Who::Victim, Said::Holds);
                } else {
                    board().say(Who::Victim, Said::Asks);
                }
                Box::new(move || {
                    if self.verb == Verb::CloseHolding {
                        return match semaphore.close() {
                            Ok(()) => shmkit.close(segment),
                            Err(status) => status,
                        };
                    }
                    let count = if self.has_undo() { self.count } else { 1 };
                    if self.has_undo() {
                        board().say(Who::Victim, Said::Gives);
                    }
                    let done = status(semaphore.release(count));
                    board().say(Who::Victim, Said::Idle);
                    done
                })
            }
            Verb::CreateAt => unreachable!("it has returned"),
        }
    }

    fn makes_others_wait(&self) -> bool {
        match self.verb {
            Verb::Wait | Verb::CreateAt => false,
            // Who waits for what a plain one has lost waits for ever.
            Verb::Pass => self.has_undo(),
            // There is but one cell, and who comes as well needs one.
            _ => self.shape.processes != 1,
        }
    }

    fn has_company(&self) -> bool {
        self.verb == Verb::Wait || self.makes_others_wait()
    }

    fn holds_at_marker(&self) -> bool {
        matches!(self.verb, Verb::Release | Verb::CloseHolding)
    }

    fn bystander<'a>(&'a self, shmkit: &'a Library) -> Option<Run<'a>> {
        let segment = open(shmkit);
        let semaphore = Semaphore::find(shmkit, segment, PLACE).expect("it was made");
        board().there.store(1, SeqCst);
        if self.has_undo() {
            introduce(shmkit, segment);
            return Some(Box::new(move || {
                status(self.pass(&semaphore, Who::Bystander))
            }));
        }
        let victim = word(shmkit, segment, 0).load(SeqCst);
        let early = semaphore.waiter(self.count);
        Some(Box::new(move || {
            status(self.stand_by(&semaphore, Pid::from_raw(victim as i32), early))
        }))
    }

    fn look_at(&self, _victim: Pid, passed: bool, _place: &Place) -> Result<(), Finding> {
        match self.verb {
            // Once it has closed it counts as dead.
            Verb::CloseHolding => Ok(()),
            _ => board().nobody_came_between(passed),
        }
    }

    fn verify(&self, look: &Look, done: bool) -> Result<(), Finding> {
        let (segment, semaphore) = self.find(look, done)?;
        if self.has_undo() {
            self.take_all(look, segment, &semaphore)?;
            self.works(&semaphore, self.total())?;
        } else {
            let value = self.count_plain(&semaphore)?;
            if value > 0 {
                semaphore
                    .acquire(value, NOWAIT)
                    .map_err(refused("acquire"))?;
            }
            self.works(&semaphore, value)?;
        }
        board().verdict()?;
        look.table_has_room(segment, PARTICIPANTS)?;
        semaphore.close().map_err(refused("close of a semaphore"))?;
        look.remove(segment)?;
        look.nothing_is_left()
    }
}

/// The operations of semaphores, those that take longest first.
pub fn operations() -> Vec<SemaphoreOperation> {
    let operation = |name, every, verb, value, processes, count| SemaphoreOperation {
        name,
        every,
        verb,
        shape: Shape { value, processes },
        count,
    };
    use Verb::{CloseHolding, CreateAt, Pass, Recount, Release, TakeOver, Wait};
    vec![
        operation("semaphore: wait, in vain", 8, Wait, 0, 0, 1),
        operation("semaphore: acquire, release", 1, Pass, 2, 0, 1),
        operation("semaphore: acquire, release of two", 1, Pass, 2, 0, 2),
        operation("semaphore: release", 1, Release, 0, 0, 1),
        operation("semaphore: release, two are wanted", 1, Release, 0, 0, 2),
        operation("semaphore: create_at", 4, CreateAt, 2, 0, 1),
        operation("undo: close, holding", 16, CloseHolding, 2, 3, 2),
        operation("undo: acquire, release", 8, Pass, 1, 3, 1),
        operation("undo: acquire, release of two", 8, Pass, 3, 3, 2),
        operation("undo: release", 4, Release, 2, 3, 2),
        operation("undo: take over", 16, TakeOver, 2, 3, 2),
        operation("undo: take over, one cell", 16, TakeOver, 2, 1, 1),
        operation("undo: count anew", 16, Recount, 2, 3, 2),
        operation("undo: create_at", 8, CreateAt, 2, 3, 1),
    ]
}
