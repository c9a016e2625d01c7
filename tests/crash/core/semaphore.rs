//! Semaphores: acquire, release, take over, close while holding, create_at; plain, and with undo.
//!
//! ```text
//! data:  | …     64: the semaphore, 192: its count slots
//! ```
//!
//! | kind      | what a death may change                                     | waiters continue when              |
//! |-----------|-------------------------------------------------------------|------------------------------------|
//! | plain     | permits of the victim are lost; a release may have happened | there are permits                  |
//! | with undo | nothing: all permits are returned                           | the victim is dead or has released |

use crate::suite::capi::segment::Segment;
use crate::suite::capi::semaphore::{Semaphore, Shape};
use crate::suite::capi::{FOREVER, NOT_OWNER, NOWAIT, Status, TIMEOUT, WOULD_BLOCK, status};
use crate::suite::harness::fixture::{
    PLACE, VICTIM_TIMEOUT_NS, attach, create, exit_code, open, open_attached, own_id, words,
};
use crate::suite::harness::library::Library;
use crate::suite::harness::operation::{Failure, Operation, Run, Setup, Verifier, Violation};
use crate::suite::harness::place::Place;
use crate::suite::harness::process::{self, expect_good_end, run_and_die, spawn_waiter};
use crate::suite::harness::shared_state::{Phase, Role, shared_state};
use crate::suite::harness::survivor::{refused, reopen};
use nix::unistd::Pid;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

/// Starts a process that acquires `count` permits.
fn start_waiter(semaphore: &Semaphore, count: u32) -> Pid {
    spawn_waiter(|| exit_code(semaphore.acquire(count, FOREVER)))
}

/// What the victim does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    /// Acquires permits and releases them.
    Pass,
    /// Releases the permits that it holds; a plain semaphore gets one more permit.
    Release,
    /// As `Pass`, after a process has died that held all permits.
    TakeOver,
    /// As `Pass`, after a process has died inside the lock. One permit is neither in its count slot nor in the value.
    Recount,
    /// Closes semaphore and segment while it holds permits, which counts as a death.
    CloseHolding,
    /// Waits for a permit until its timeout.
    Wait,
    CreateAt,
}

/// An operation of semaphores.
pub struct SemaphoreOperation {
    name: &'static str,
    every: usize,
    verb: Verb,
    shape: Shape,
    /// The permits that the victim acquires; for `Release` of a plain semaphore, those that the early waiter acquires.
    count: u32,
}

/// The dead and the live processes need every slot.
const PARTICIPANTS: u32 = 2;

/// Offsets of the words of a semaphore, in bytes (src/raw/semaphore.rs).
const LOCK: u64 = 8;
const WORD: u64 = 64;
const COUNTS: u64 = 128;

/// Returns a word of the data.
fn word(shmkit: &Library, segment: Segment, offset: u64) -> &'static AtomicU64 {
    let [word] = words(shmkit, segment, offset);
    word
}

/// Dies inside the lock, in a release: the permit has left its count slot, and is not in the value yet.
fn die_inside(shmkit: &Library) {
    let id = own_id();
    let segment = open(shmkit);
    word(shmkit, segment, PLACE + LOCK).store(id, SeqCst);
    word(shmkit, segment, PLACE + WORD).fetch_sub(1 << 32, SeqCst);
}

impl SemaphoreOperation {
    fn has_undo(&self) -> bool {
        self.shape.processes > 0
    }

    fn total(&self) -> u32 {
        self.shape.value as u32
    }

    /// Acquires permits and releases them.
    fn pass(&self, semaphore: &Semaphore, role: Role) -> Result<(), Status> {
        shared_state().set_phase(role, Phase::Acquiring);
        semaphore.acquire(self.count, FOREVER)?;
        shared_state().set_phase(role, Phase::Holding);
        semaphore.value()?;
        shared_state().set_phase(role, Phase::Releasing);
        semaphore.release(self.count)?;
        shared_state().set_phase(role, Phase::Idle);
        Ok(())
    }

    /// Waits for both waiters at a plain semaphore, in any state that the victim has left.
    fn await_waiters(&self, semaphore: &Semaphore, early: Pid) -> Result<(), Status> {
        let late = start_waiter(semaphore, 1);
        // A stopped waiter delays no other process.
        if self.verb == Verb::Release {
            shared_state().await_end_of_victim();
        }
        // A permit is acquired even if the victim died before it woke a waiter. If it were not, this process would wait
        // forever, and the harness would report it.
        while self.count == 1 && semaphore.value()? > 0 {
            std::thread::sleep(Duration::from_micros(200));
        }
        semaphore.release(self.count + 1)?;
        expect_good_end(early);
        expect_good_end(late);
        Ok(())
    }

    /// Returns the permits of a plain semaphore, which must agree with what the victim has done.
    fn count_plain(&self, semaphore: &Semaphore) -> Result<u32, Failure> {
        let value = semaphore.value().map_err(refused("value"))?;
        let whole = self.shape.value;
        let phase = shared_state().phase();
        let alone = shared_state().has_bystander.load(SeqCst) == 0;
        let count = u64::from(self.count);
        let expected = match self.verb {
            Verb::Pass if phase == Phase::Idle => whole..=whole,
            Verb::Pass if phase == Phase::Holding => whole - count..=whole - count,
            Verb::Pass => whole - count..=whole,
            Verb::Release if phase == Phase::Idle && alone => 1..=1,
            Verb::Release => 0..=1,
            _ => whole..=whole,
        };
        if !expected.contains(&value) {
            let text = format!("the victim was {phase:?}, and there are {value} permits");
            let violation = match value > *expected.end() {
                true => Violation::NotExclusive,
                false => Violation::Lost,
            };
            return Err(violation.failure(text));
        }
        Ok(value as u32)
    }

    /// Acquires all permits, which the dead processes must have returned.
    fn take_all(
        &self,
        verifier: &Verifier,
        segment: Segment,
        semaphore: &Semaphore,
    ) -> Result<(), Failure> {
        let total = self.total();
        // An acquire that finds a permit does not search for dead holders, but repairs the counts of a dead lock owner.
        if semaphore.value().map_err(refused("value"))? > 0 {
            semaphore
                .acquire(1, FOREVER)
                .map_err(refused("first acquire"))?;
            semaphore.release(1).map_err(refused("first release"))?;
        }
        semaphore
            .acquire(total, FOREVER)
            .map_err(refused("acquire"))?;
        let results = (semaphore.value(), semaphore.held());
        if results != (Ok(0), Ok(total.into())) {
            let text = format!("all permits are acquired, and value and held return {results:?}");
            return Err(Violation::NotExclusive.failure(text));
        }
        // The victim, and a process before it.
        let deaths = 1 + u64::from(self.verb == Verb::TakeOver);
        let recoveries = semaphore.stat().map_err(refused("stat"))?.recoveries;
        if recoveries > deaths {
            let text = format!(
                "at most {deaths} holders have died, and there are {recoveries} recoveries"
            );
            return Err(Violation::Misreported.failure(text));
        }
        let counts = (0..self.shape.processes.into())
            .map(|slot| word(verifier.shmkit, segment, PLACE + COUNTS + 64 * slot).load(SeqCst));
        let ours = counts.into_iter().find(|count| count & 0xffff != 0);
        verifier.check_dead_are_dead(ours.expect("this process holds all permits") >> 16)
    }

    /// Checks that each function works; this process has acquired all permits.
    fn works(&self, semaphore: &Semaphore, all: u32) -> Result<(), Failure> {
        let results = (semaphore.acquire(1, NOWAIT), semaphore.acquire(1, 1));
        if results != (Err(WOULD_BLOCK), Err(TIMEOUT)) {
            let text = format!("there is no permit, and acquire returns {results:?}");
            return Err(Violation::NotExclusive.failure(text));
        }
        let waiter = start_waiter(semaphore, 1);
        semaphore.release(1).map_err(refused("release"))?;
        if process::wait(waiter, process::WATCHDOG / 2).is_err() {
            process::kill(waiter);
            return Err(
                Violation::Stuck.failure("a permit was released, and a survivor still waits")
            );
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
        let results = (
            semaphore.value(),
            semaphore.held(),
            semaphore.release(1),
            semaphore.stat().map(|stat| stat.holders),
        );
        if results != (Ok(all.into()), Ok(0), Err(NOT_OWNER), Ok(0)) {
            let text =
                format!("all are released; value, held, release and holders are {results:?}");
            return Err(Violation::Misreported.failure(text));
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

    fn setup<'a>(&'a self, shmkit: &'a Library) -> Option<Setup<'a>> {
        Some(Box::new(move || {
            create(shmkit, PARTICIPANTS, None);
            if self.verb != Verb::CreateAt {
                let semaphore = Semaphore::create(shmkit, open(shmkit), PLACE, self.shape);
                semaphore.expect("the semaphore is created");
            }
            match self.verb {
                Verb::TakeOver => run_and_die(|| {
                    let semaphore = Semaphore::open(shmkit, open(shmkit), PLACE);
                    let semaphore = semaphore.expect("the semaphore exists");
                    semaphore
                        .acquire(self.total(), FOREVER)
                        .expect("all permits are free");
                }),
                Verb::Recount => run_and_die(|| die_inside(shmkit)),
                _ => {}
            }
        }))
    }

    fn prepare<'a>(&'a self, shmkit: &'a Library) -> Run<'a> {
        if self.verb == Verb::CreateAt {
            let segment = open_attached(shmkit);
            return Box::new(move || status(Semaphore::create(shmkit, segment, PLACE, self.shape)));
        }
        let segment = open(shmkit);
        let semaphore = Semaphore::open(shmkit, segment, PLACE).expect("the semaphore exists");
        if self.has_undo() {
            attach(shmkit, segment);
        }
        match self.verb {
            Verb::Pass | Verb::TakeOver | Verb::Recount => {
                Box::new(move || status(self.pass(&semaphore, Role::Victim)))
            }
            Verb::Wait => Box::new(move || match semaphore.acquire(1, VICTIM_TIMEOUT_NS) {
                Err(TIMEOUT) => 0,
                other => status(other),
            }),
            Verb::Release | Verb::CloseHolding => {
                if self.has_undo() {
                    semaphore
                        .acquire(self.count, FOREVER)
                        .expect("the victim is alone");
                    shared_state().set_phase(Role::Victim, Phase::Holding);
                } else {
                    shared_state().set_phase(Role::Victim, Phase::Acquiring);
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
                        shared_state().set_phase(Role::Victim, Phase::Releasing);
                    }
                    let done = status(semaphore.release(count));
                    shared_state().set_phase(Role::Victim, Phase::Idle);
                    done
                })
            }
            Verb::CreateAt => unreachable!("it is handled above"),
        }
    }

    fn blocks_bystander(&self) -> bool {
        match self.verb {
            Verb::Wait | Verb::CreateAt => false,
            // Permits of a plain semaphore are lost with the victim.
            Verb::Pass => self.has_undo(),
            // A bystander needs a second count slot.
            _ => self.shape.processes != 1,
        }
    }

    fn has_bystander(&self) -> bool {
        self.verb == Verb::Wait || self.blocks_bystander()
    }

    fn bystander_waits_first(&self) -> bool {
        matches!(self.verb, Verb::Release | Verb::CloseHolding)
    }

    fn bystander<'a>(&'a self, shmkit: &'a Library) -> Option<Run<'a>> {
        let segment = open(shmkit);
        let semaphore = Semaphore::open(shmkit, segment, PLACE).expect("the semaphore exists");
        shared_state().has_bystander.store(1, SeqCst);
        if self.has_undo() {
            attach(shmkit, segment);
            return Some(Box::new(move || {
                status(self.pass(&semaphore, Role::Bystander))
            }));
        }
        let early = start_waiter(&semaphore, self.count);
        Some(Box::new(move || {
            status(self.await_waiters(&semaphore, early))
        }))
    }

    fn inspect_live(&self, _victim: Pid, passed: bool, _place: &Place) -> Result<(), Failure> {
        match self.verb {
            // After its close it counts as dead.
            Verb::CloseHolding => Ok(()),
            _ => shared_state().check_not_overtaken(passed),
        }
    }

    fn verify(&self, verifier: &Verifier, done: bool) -> Result<(), Failure> {
        let segment = verifier.open_managed()?;
        let semaphore = reopen(
            done || self.verb != Verb::CreateAt,
            Semaphore::open(verifier.shmkit, segment, PLACE),
            |semaphore| semaphore.close(),
            || Semaphore::create(verifier.shmkit, segment, PLACE, self.shape),
        )?;
        if self.has_undo() {
            self.take_all(verifier, segment, &semaphore)?;
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
        shared_state().verdict()?;
        verifier.table_has_room(segment, PARTICIPANTS)?;
        semaphore.close().map_err(refused("close of a semaphore"))?;
        verifier.remove_last(segment)
    }
}

/// The operations of semaphores, slowest first.
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
        operation("semaphore: wait, times out", 8, Wait, 0, 0, 1),
        operation("semaphore: acquire, release", 1, Pass, 2, 0, 1),
        operation("semaphore: acquire, release of two", 1, Pass, 2, 0, 2),
        operation("semaphore: release", 1, Release, 0, 0, 1),
        operation(
            "semaphore: release, a waiter needs two",
            1,
            Release,
            0,
            0,
            2,
        ),
        operation("semaphore: create_at", 4, CreateAt, 2, 0, 1),
        operation(
            "semaphore: undo: close while holding",
            16,
            CloseHolding,
            2,
            3,
            2,
        ),
        operation("semaphore: undo: acquire, release", 8, Pass, 1, 3, 1),
        operation("semaphore: undo: acquire, release of two", 8, Pass, 3, 3, 2),
        operation("semaphore: undo: release", 4, Release, 2, 3, 2),
        operation(
            "semaphore: undo: acquire, after a dead holder",
            16,
            TakeOver,
            2,
            3,
            2,
        ),
        operation(
            "semaphore: undo: acquire, after a dead holder, one count slot",
            16,
            TakeOver,
            2,
            1,
            1,
        ),
        operation(
            "semaphore: undo: acquire, after a death in release",
            16,
            Recount,
            2,
            3,
            2,
        ),
        operation("semaphore: undo: create_at", 8, CreateAt, 2, 3, 1),
    ]
}
