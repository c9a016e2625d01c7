//! Readers-writer locks: read, write, upgrade, downgrade, release, mark_consistent, create_at; with a reader or a
//! writer that waits, and after deaths of both.
//!
//! ```text
//! data:  | first | second | …     64: the lock, with two count slots
//! ```
//!
//! The writer increments both counters, with a call of the library in between. If it dies in that call, they are
//! unequal. The phase of the victim is that of a writer; `victim_reads` is 1 while it reads.

use crate::suite::capi::rwlock::RwLock;
use crate::suite::capi::segment::Segment;
use crate::suite::capi::{DEADLOCK, FOREVER, NOWAIT, Status, status};
use crate::suite::harness::fixture::{PLACE, create, open, open_attached, words};
use crate::suite::harness::library::Library;
use crate::suite::harness::operation::{Failure, Operation, Run, Setup, Verifier, Violation};
use crate::suite::harness::place::Place;
use crate::suite::harness::process::run_and_die;
use crate::suite::harness::shared_state::{Mark, Phase, Role, shared_state};
use crate::suite::harness::survivor::{refused, reopen};
use nix::unistd::Pid;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

/// The number of processes that may read: the dead and the live ones need every count slot.
const READERS: u32 = 2;

/// A process that has the lock open, and the counters that it guards.
struct RwLockWorker<'a> {
    role: Role,
    lock: RwLock<'a>,
    counters: &'static [AtomicU64; 2],
}

impl<'a> RwLockWorker<'a> {
    fn of(shmkit: &'a Library, role: Role, segment: Segment, lock: RwLock<'a>) -> RwLockWorker<'a> {
        RwLockWorker {
            role,
            lock,
            counters: words(shmkit, segment, 0),
        }
    }

    /// Opens the lock; the process is a participant.
    fn open_attached(shmkit: &'a Library, role: Role) -> RwLockWorker<'a> {
        let segment = open_attached(shmkit);
        let lock = RwLock::open(shmkit, segment, PLACE).expect("the lock exists");
        RwLockWorker::of(shmkit, role, segment, lock)
    }

    /// Notes whether the victim reads.
    fn set_reading(&self, reads: bool) {
        if self.role == Role::Victim {
            shared_state().victim_reads.store(reads.into(), SeqCst);
        }
    }

    /// Acquires the lock for reading; returns whether a writer has died.
    fn start_reading(&self) -> Result<bool, Status> {
        let owner_died = self.lock.acquire_read(FOREVER)?;
        self.set_reading(true);
        shared_state().check_notice(self.role, owner_died);
        Ok(owner_died)
    }

    /// Reads both counters, with a call of the library in between.
    fn read_counters(&self, owner_died: bool) -> Result<(), Status> {
        let first = self.counters[0].load(Relaxed);
        self.lock.stat()?;
        shared_state().check_whole(first == self.counters[1].load(Relaxed), owner_died);
        Ok(())
    }

    fn stop_reading(&self) -> Result<(), Status> {
        self.set_reading(false);
        self.lock.release_read()
    }

    fn read_once(&self) -> Result<(), Status> {
        let owner_died = self.start_reading()?;
        self.read_counters(owner_died)?;
        self.stop_reading()
    }

    /// Acquires the lock for writing; returns whether a writer has died.
    fn start_writing(&self) -> Result<bool, Status> {
        shared_state().set_phase(self.role, Phase::Acquiring);
        let owner_died = self.lock.acquire_write(FOREVER)?;
        self.enter(owner_died);
        Ok(owner_died)
    }

    /// Notes that it is the writer now.
    fn enter(&self, owner_died: bool) {
        shared_state().set_phase(self.role, Phase::Holding);
        shared_state().enter(self.role, owner_died);
        shared_state().check_notice(self.role, owner_died);
    }

    /// Repairs the counters if a dead writer has left them unequal, and increments both.
    fn count(&self, owner_died: bool) -> Result<(), Status> {
        let [first, second] = self.counters;
        shared_state().check_whole(first.load(Relaxed) == second.load(Relaxed), owner_died);
        second.store(first.load(Relaxed), Relaxed);
        first.fetch_add(1, Relaxed);
        self.lock.stat()?;
        second.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Marks the counters as consistent.
    fn mark_consistent(&self) -> Result<(), Status> {
        if self.role == Role::Victim {
            shared_state().set_mark(Mark::Clearing);
        }
        self.lock.mark_consistent()?;
        if self.role == Role::Victim {
            shared_state().set_mark(Mark::None);
        }
        Ok(())
    }

    /// Notes that it is about to release the lock as the writer.
    fn leave(&self) {
        shared_state().leave();
        shared_state().set_phase(self.role, Phase::Releasing);
    }

    fn stop_writing(&self) -> Result<(), Status> {
        self.leave();
        self.lock.release_write()?;
        shared_state().set_phase(self.role, Phase::Idle);
        Ok(())
    }

    /// As the writer, counts and releases the lock.
    fn write(&self, owner_died: bool) -> Result<(), Status> {
        self.count(owner_died)?;
        if owner_died {
            self.mark_consistent()?;
        }
        self.stop_writing()
    }

    fn write_once(&self) -> Result<(), Status> {
        let owner_died = self.start_writing()?;
        self.write(owner_died)
    }

    /// Upgrades and writes, or releases the lock as a reader if another process waits to upgrade or write.
    fn upgrade_and_write(&self) -> Result<(), Status> {
        shared_state().set_phase(self.role, Phase::Acquiring);
        match self.lock.upgrade(FOREVER) {
            Ok(()) => {
                self.set_reading(false);
                self.enter(false);
                self.write(false)
            }
            Err(DEADLOCK) => {
                shared_state().set_phase(self.role, Phase::Idle);
                self.stop_reading()
            }
            Err(status) => Err(status),
        }
    }

    fn downgrade_and_read(&self) -> Result<(), Status> {
        self.leave();
        self.lock.downgrade()?;
        shared_state().set_phase(self.role, Phase::Idle);
        self.set_reading(true);
        self.read_counters(false)?;
        self.stop_reading()
    }
}

/// What the victim does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    /// Reads, not for the first time.
    Read,
    /// Reads for the first time.
    ReadFirst,
    /// Reads after a writer has died.
    ReadMarked,
    /// Writes.
    Write,
    /// Writes after a writer has died, and marks the counters as consistent.
    TakeOver,
    /// Writes after as many readers have died as there are count slots.
    WriteAfterReaders,
    /// Upgrades.
    Upgrade,
    /// Upgrades after another reader has died.
    UpgradeAfterReader,
    /// Downgrades.
    Downgrade,
    /// Releases the lock as a reader.
    ReleaseRead,
    /// Releases the lock as the writer.
    ReleaseWrite,
    /// Marks the counters as consistent after a writer has died.
    MarkConsistent,
    /// Creates the lock.
    CreateAt,
}

/// The bystander.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    Alone,
    Reader,
    Writer,
}

/// An operation of readers-writer locks.
pub struct RwLockOperation {
    verb: Verb,
    beside: Beside,
    every: usize,
    /// Whether the survivor writes before it reads; it alternates.
    writes_first: Cell<bool>,
}

impl RwLockOperation {
    fn has_marked(&self) -> bool {
        matches!(
            self.verb,
            Verb::ReadMarked | Verb::TakeOver | Verb::MarkConsistent
        )
    }
}

impl Operation for RwLockOperation {
    fn name(&self) -> String {
        let verb = match self.verb {
            Verb::Read => "read",
            Verb::ReadFirst => "read, for the first time",
            Verb::ReadMarked => "read, after a dead writer",
            Verb::Write => "write",
            Verb::TakeOver => "write, after a dead writer",
            Verb::WriteAfterReaders => "write, after dead readers",
            Verb::Upgrade => "upgrade",
            Verb::UpgradeAfterReader => "upgrade, after a dead reader",
            Verb::Downgrade => "downgrade",
            Verb::ReleaseRead => "release_read",
            Verb::ReleaseWrite => "release_write",
            Verb::MarkConsistent => "mark_consistent",
            Verb::CreateAt => "create_at",
        };
        let beside = match self.beside {
            Beside::Alone => "",
            Beside::Reader => ", beside a reader",
            Beside::Writer => ", beside a writer",
        };
        format!("rwlock: {verb}{beside}")
    }

    fn every(&self) -> usize {
        self.every
    }

    fn setup<'a>(&'a self, shmkit: &'a Library) -> Option<Setup<'a>> {
        self.writes_first.set(!self.writes_first.get());
        Some(Box::new(move || {
            create(shmkit, 2, None);
            if self.verb == Verb::CreateAt {
                return;
            }
            let lock = RwLock::create(shmkit, open(shmkit), PLACE, READERS);
            let lock = lock.expect("the lock is created");
            lock.close().expect("the lock is open");
            let read = || {
                let worker = RwLockWorker::open_attached(shmkit, Role::Survivor);
                assert_eq!(worker.lock.acquire_read(FOREVER), Ok(false));
            };
            if self.has_marked() {
                run_and_die(|| {
                    let worker = RwLockWorker::open_attached(shmkit, Role::Survivor);
                    assert_eq!(worker.lock.acquire_write(FOREVER), Ok(false));
                    worker.counters[0].fetch_add(1, Relaxed);
                });
                shared_state().set_mark(Mark::Set);
            }
            match self.verb {
                Verb::WriteAfterReaders => (0..2).for_each(|_| run_and_die(read)),
                Verb::UpgradeAfterReader => run_and_die(read),
                _ => {}
            }
        }))
    }

    fn prepare<'a>(&'a self, shmkit: &'a Library) -> Run<'a> {
        if self.verb == Verb::CreateAt {
            let segment = open_attached(shmkit);
            return Box::new(move || status(RwLock::create(shmkit, segment, PLACE, READERS)));
        }
        let worker = RwLockWorker::open_attached(shmkit, Role::Victim);
        let free = "the victim is alone";
        match self.verb {
            Verb::Read => worker.read_once().expect(free),
            Verb::Upgrade | Verb::UpgradeAfterReader | Verb::ReleaseRead => {
                assert_eq!(worker.start_reading(), Ok(false));
            }
            Verb::Downgrade | Verb::ReleaseWrite | Verb::MarkConsistent => {
                let owner_died = worker.start_writing().expect(free);
                worker.count(owner_died).expect("the lock is open");
            }
            _ => {}
        }
        Box::new(move || {
            status(match self.verb {
                Verb::Read | Verb::ReadFirst | Verb::ReadMarked => worker.read_once(),
                Verb::Write | Verb::TakeOver | Verb::WriteAfterReaders => worker.write_once(),
                Verb::Upgrade | Verb::UpgradeAfterReader => worker.upgrade_and_write(),
                Verb::Downgrade => worker.downgrade_and_read(),
                Verb::ReleaseRead => worker.stop_reading(),
                Verb::ReleaseWrite => worker.stop_writing(),
                Verb::MarkConsistent => worker.mark_consistent(),
                Verb::CreateAt => unreachable!("it is handled above"),
            })
        })
    }

    fn blocks_bystander(&self) -> bool {
        self.beside != Beside::Alone
    }

    fn bystander_waits_first(&self) -> bool {
        match self.verb {
            // A waiting writer makes the upgrade fail with DEADLOCK; a reader passes a reader.
            Verb::Upgrade | Verb::UpgradeAfterReader | Verb::ReleaseRead => {
                self.beside == Beside::Writer
            }
            Verb::Downgrade | Verb::ReleaseWrite | Verb::MarkConsistent => self.blocks_bystander(),
            _ => false,
        }
    }

    fn bystander<'a>(&'a self, shmkit: &'a Library) -> Option<Run<'a>> {
        let worker = RwLockWorker::open_attached(shmkit, Role::Bystander);
        Some(Box::new(move || {
            status(match self.beside {
                Beside::Reader => worker.read_once(),
                Beside::Writer | Beside::Alone => {
                    worker.write_once().map(|()| shared_state().set_passed())
                }
            })
        }))
    }

    fn inspect_live(&self, _victim: Pid, passed: bool, _place: &Place) -> Result<(), Failure> {
        if passed && self.beside == Beside::Writer && shared_state().victim_reads.load(SeqCst) == 1
        {
            return Err(Violation::NotExclusive
                .failure("the bystander wrote while the victim was alive and reading"));
        }
        shared_state().check_not_overtaken(passed)
    }

    fn verify(&self, verifier: &Verifier, done: bool) -> Result<(), Failure> {
        let segment = verifier.open_managed()?;
        let lock = reopen(
            done || self.verb != Verb::CreateAt,
            RwLock::open(verifier.shmkit, segment, PLACE),
            |lock| lock.close(),
            || RwLock::create(verifier.shmkit, segment, PLACE, READERS),
        )?;
        let worker = RwLockWorker::of(verifier.shmkit, Role::Survivor, segment, lock);
        let read = || -> Result<bool, Failure> {
            let owner_died = worker.start_reading().map_err(refused("acquire_read"))?;
            worker.read_counters(owner_died).map_err(refused("stat"))?;
            worker.stop_reading().map_err(refused("release_read"))?;
            Ok(owner_died)
        };
        let write = || -> Result<bool, Failure> {
            let owner_died = worker.start_writing().map_err(refused("acquire_write"))?;
            let mine = lock.stat().map_err(refused("stat"))?.owner_ticket;
            verifier.check_dead_are_dead(mine)?;
            worker.count(owner_died).map_err(refused("stat"))?;
            worker.stop_writing().map_err(refused("release_write"))?;
            Ok(owner_died)
        };
        // 1. All owners get the same report until one of them marks the counters as consistent.
        let reports = match self.writes_first.get() {
            true => [write()?, read()?, write()?],
            false => [read()?, write()?, read()?],
        };
        shared_state().verdict()?;
        if reports != [reports[0]; 3] {
            let text = format!("reports of a death: {reports:?}");
            return Err(Violation::Misreported.failure(text));
        }
        let stat = lock.stat().map_err(refused("stat"))?;
        if stat.recoveries > u64::from(self.has_marked()) + 1
            || (reports[0] && stat.recoveries == 0)
        {
            let text = format!(
                "{} recoveries, and a death was reported: {}",
                stat.recoveries, reports[0]
            );
            return Err(Violation::Misreported.failure(text));
        }
        // 2. Each function works, and without waiting.
        lock.acquire_write(NOWAIT)
            .map_err(refused("second acquire_write"))?;
        lock.mark_consistent().map_err(refused("mark_consistent"))?;
        lock.downgrade().map_err(refused("downgrade"))?;
        let again = lock
            .acquire_read(NOWAIT)
            .map_err(refused("second acquire_read"))?;
        if again {
            let text = "a death is reported after mark_consistent";
            return Err(Violation::Misreported.failure(text));
        }
        lock.release_read().map_err(refused("release_read"))?;
        lock.upgrade(NOWAIT).map_err(refused("upgrade"))?;
        lock.release_write().map_err(refused("release_write"))?;
        let stat = lock.stat().map_err(refused("stat"))?;
        if (stat.readers, stat.flags) != (0, 0) {
            let text = format!("{} readers, flags {:#x} are left", stat.readers, stat.flags);
            return Err(Violation::Stuck.failure(text));
        }
        lock.close().map_err(refused("close of the lock"))?;
        verifier.remove_last(segment)
    }
}

/// The operations of readers-writer locks, slowest first.
pub fn operations() -> Vec<RwLockOperation> {
    use Beside::{Alone, Reader, Writer};
    let operation = |every, verb, beside| RwLockOperation {
        verb,
        beside,
        every,
        writes_first: Cell::new(false),
    };
    vec![
        operation(16, Verb::TakeOver, Writer),
        operation(16, Verb::TakeOver, Reader),
        operation(16, Verb::WriteAfterReaders, Writer),
        operation(16, Verb::UpgradeAfterReader, Writer),
        operation(16, Verb::UpgradeAfterReader, Reader),
        operation(16, Verb::ReadMarked, Writer),
        operation(8, Verb::Write, Writer),
        operation(8, Verb::Write, Reader),
        operation(8, Verb::Upgrade, Writer),
        operation(8, Verb::Upgrade, Reader),
        operation(8, Verb::Downgrade, Writer),
        operation(8, Verb::Downgrade, Reader),
        operation(8, Verb::ReadFirst, Writer),
        operation(2, Verb::Read, Writer),
        operation(2, Verb::MarkConsistent, Writer),
        operation(2, Verb::ReleaseWrite, Writer),
        operation(2, Verb::ReleaseWrite, Reader),
        operation(1, Verb::ReleaseRead, Writer),
        operation(16, Verb::CreateAt, Alone),
    ]
}
