//! A process that acquires the lock under test, counts under it, and releases it.
//!
//! ```text
//! data:  | first | second | …     64: the lock
//! ```
//!
//! Both counters are incremented under the lock, with a call of the library in between. If a process dies in that call,
//! the next owner finds them unequal.

use crate::suite::capi::lock::{Kind, Lock};
use crate::suite::capi::segment::Segment;
use crate::suite::capi::{FOREVER, Status, check};
use crate::suite::harness::fixture::{PLACE, attach, open, words};
use crate::suite::harness::library::Library;
use crate::suite::harness::shared_state::{Mark, Phase, Role, shared_state};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One process, and what it has open.
pub struct LockWorker<'a> {
    shmkit: &'a Library,
    role: Role,
    kind: Kind,
    /// The segment.
    pub segment: Segment,
    /// The lock under test.
    pub lock: Lock,
    counters: &'static [AtomicU64; 2],
}

impl<'a> LockWorker<'a> {
    /// Uses a lock that is open.
    pub fn of(shmkit: &'a Library, role: Role, kind: Kind, segment: Segment, lock: Lock) -> Self {
        LockWorker {
            shmkit,
            role,
            kind,
            segment,
            lock,
            counters: words(shmkit, segment, 0),
        }
    }

    /// Opens segment and lock.
    pub fn open(shmkit: &'a Library, role: Role, kind: Kind) -> Self {
        let segment = open(shmkit);
        let lock = shmkit.open_lock_at(kind, segment, PLACE);
        LockWorker::of(shmkit, role, kind, segment, lock.expect("the lock exists"))
    }

    /// As `open`; the process is a participant afterwards.
    pub fn open_attached(shmkit: &'a Library, role: Role, kind: Kind) -> Self {
        let worker = LockWorker::open(shmkit, role, kind);
        attach(shmkit, worker.segment);
        worker
    }

    /// Acquires the lock, a recursive one twice; returns whether an owner has died.
    pub fn acquire(&self) -> Result<bool, Status> {
        shared_state().set_phase(self.role, Phase::Acquiring);
        let owner_died = self.shmkit.acquire(self.lock, FOREVER)?;
        shared_state().set_phase(self.role, Phase::Holding);
        shared_state().enter(self.role, owner_died);
        shared_state().check_notice(self.role, owner_died);
        if self.kind == Kind::RLock {
            self.shmkit.acquire(self.lock, FOREVER)?;
        }
        Ok(owner_died)
    }

    /// Increments the first counter alone, as a process that dies before the second.
    pub fn count_first(&self) {
        self.counters[0].fetch_add(1, Relaxed);
    }

    /// Repairs the counters if a dead owner has left them unequal, and increments both.
    pub fn count(&self, owner_died: bool) -> Result<(), Status> {
        let [first, second] = self.counters;
        let whole = first.load(Relaxed) == second.load(Relaxed);
        shared_state().check_whole(whole, owner_died);
        second.store(first.load(Relaxed), Relaxed);
        self.count_first();
        self.shmkit.lock_stat(self.lock)?;
        second.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Marks the guarded data as consistent.
    pub fn mark_consistent(&self) -> Result<(), Status> {
        if self.role == Role::Victim {
            shared_state().set_mark(Mark::Clearing);
        }
        check(self.shmkit.mark_consistent(self.lock))?;
        if self.role == Role::Victim {
            shared_state().set_mark(Mark::None);
        }
        Ok(())
    }

    /// Releases the lock as often as it was acquired.
    pub fn release(&self) -> Result<(), Status> {
        let times = 1 + usize::from(self.kind == Kind::RLock);
        for left in (0..times).rev() {
            if left == 0 {
                shared_state().leave();
                shared_state().set_phase(self.role, Phase::Releasing);
            }
            check(self.shmkit.release(self.lock))?;
        }
        shared_state().set_phase(self.role, Phase::Idle);
        Ok(())
    }

    /// Acquires, counts, marks as consistent if an owner has died, and releases.
    pub fn run(&self) -> Result<bool, Status> {
        let owner_died = self.acquire()?;
        self.count(owner_died)?;
        if owner_died {
            self.mark_consistent()?;
        }
        self.release()?;
        if self.role == Role::Bystander {
            shared_state().set_passed();
        }
        Ok(owner_died)
    }
}
