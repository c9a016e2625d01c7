//! The semaphore with undo: what a process holds is released when the process ends, however it ends (SEM_UNDO,
//! semop(2)).
//!
//! | owner of the lock | count slots           | value                       | goes to                            |
//! |-------------------|-----------------------|-----------------------------|------------------------------------|
//! | none              | what each holds       | all permits but those       | me: acquire, release               |
//! | me                | mine ± n              | as before                   | value ± n, then none               |
//! | me                | a dead one: reclaimed | as before                   | permits but those held, then none  |
//! | dead              | what each holds       | as before, or all but those | me + DIED: next owner, counts anew |
//!
//! The slots are authoritative, and the value follows from them (D-041). It is counted anew if an owner of the lock has
//! died. Counting stores the same value however often it is done, so the counting process may die too. If a holder dies
//! outside the lock, the first acquire that would have to wait for its permits reclaims them.

use super::count_slot::{CountSlot, CountSlots, HeldCount};
use super::semaphore::{PermitRecorder, RawSemaphore};
use super::wait::{SpinState, Wait};
use super::{Liveness, Timeout, WaitOptions};
use crate::error::{Error, Result};
use crate::participant::Id;
use crate::sys::atomic::Ordering;
use crate::sys::fork::Origin;
use std::time::Duration;

/// The least time that an acquire waits for the lock inside, in nanoseconds, even if it may not wait for permits. The
/// lock is held for less than a microsecond, unless its owner is not running; an owner that holds it so long is stopped
/// (D-042).
const MIN_LOCK_TIMEOUT_NS: u64 = 1_000_000_000;

/// How long a release waits for the lock inside, in nanoseconds: callers hardly expect a release to fail.
const RELEASE_LOCK_TIMEOUT_NS: u64 = 5_000_000_000;

/// How long the result that all holders are alive is valid, in nanoseconds.
const LIVENESS_CACHE_NS: u64 = if cfg!(loom) { 0 } else { 1_000_000 };

/// What a handle remembers: not shared.
#[derive(Debug, Default)]
pub struct UndoHandleState {
    /// How long recent waits for the lock inside took.
    spins: SpinState,
    /// When all holders were last found alive (CLOCK_MONOTONIC).
    alive: std::sync::atomic::AtomicU64,
    /// The index of the slot that this process last used.
    cell: std::sync::atomic::AtomicUsize,
}

/// A semaphore with undo, as one process sees it.
pub struct UndoRef<'a, L> {
    /// Its words.
    pub raw: &'a RawSemaphore,
    /// Its count slots.
    pub all: &'a [CountSlot],
    /// The number of all permits.
    pub total: u64,
    /// What the handle remembers.
    pub handle: &'a UndoHandleState,
    /// This process.
    pub me: Id,
    /// Reports which holders are dead.
    pub liveness: &'a L,
}

/// Returns the count slots of a semaphore.
pub fn cells<'a>(raw: &'a RawSemaphore, all: &'a [CountSlot]) -> CountSlots<'a> {
    CountSlots {
        used: &raw.used,
        all,
    }
}

impl<L: Liveness> UndoRef<'_, L> {
    /// Acquires a permit if the lock inside is free, this process has a slot, and no owner of that lock has died.
    pub fn try_acquire(&self) -> bool {
        let (lock, cells) = (&self.raw.lock, self.cells());
        if self.raw.value() == 0 || !lock.try_acquire(self.me) {
            return false;
        }
        let cell = self.handle.cell.load(Ordering::Relaxed);
        let taken = self.raw.value() > 0 && cells.try_hold(self.me, cell);
        // While this process holds the lock, only its marks change the word, unless another process overwrites the
        // value.
        if taken && !self.raw.take(1) {
            let _ = self.count();
        }
        self.leave();
        taken
    }

    /// Releases a permit if the lock inside is free, this process has a slot, and no owner of that lock has died.
    pub fn try_release(&self) -> bool {
        if !self.raw.lock.try_acquire(self.me) {
            return false;
        }
        let cell = self.handle.cell.load(Ordering::Relaxed);
        let held = self.cells().try_release(self.me, cell, 1);
        let given = if held { self.give(1) } else { None };
        self.leave();
        if let Some(now) = given {
            self.raw.wake(1, now);
        }
        held
    }

    /// Acquires `count` permits, waiting for them; permits of dead processes are reclaimed.
    ///
    /// `WouldBlock`, `Timeout`, `Interrupted`, `Forked`. `TooManyProcesses`: as many live processes hold permits as there
    /// are count slots. `Overflow`: this process would hold more than 65,535 permits. Errors of `liveness`.
    pub fn acquire(&self, count: u64, options: WaitOptions, spins: &SpinState) -> Result<()> {
        self.raw.acquire_from(self, count, options, spins)
    }

    /// Releases `count` permits. `NotOwner`: this process holds fewer. `Timeout`: a process was stopped while it held
    /// the lock inside. Errors of `liveness`.
    pub fn release(&self, count: u64) -> Result<()> {
        self.enter(WaitOptions {
            timeout: match cfg!(loom) {
                true => Timeout::Never,
                false => Timeout::After(Duration::from_nanos(RELEASE_LOCK_TIMEOUT_NS)),
            },
            interruptible: false,
        })?;
        let released = self.cells().release(self.me, count);
        let given = released.map(|_| self.give(count));
        if let Some(now) = self.leave_after(given)? {
            self.raw.wake(count, now);
        }
        Ok(())
    }

    /// Inside the lock: raises the value by what a slot has released. The caller must then wake `count`, with that
    /// word.
    fn give(&self, count: u64) -> Option<u64> {
        let given = self.raw.give(count, self.total);
        if given.is_err() {
            // Another process has overwritten the value: count it anew from the slots.
            let _ = self.count();
        }
        given.ok()
    }

    fn cells(&self) -> CountSlots<'_> {
        cells(self.raw, self.all)
    }

    /// Acquires the lock inside. If its owner has died, the value is counted anew first.
    fn enter(&self, options: WaitOptions) -> Result<()> {
        let lock = &self.raw.lock;
        let entered = lock.acquire(self.me, options, &self.handle.spins, self.liveness);
        let owner_died = entered.map_err(|error| match error {
            Error::Timeout(_) => {
                Error::Timeout("timed out waiting for the lock inside the semaphore".into())
            }
            other => other,
        })?;
        if owner_died {
            // A holder whose liveness is unknown counts as alive; the value follows from the slots in any case.
            if let Err(error @ Error::Forked(_)) = self.count() {
                return Err(error);
            }
            let _ = lock.mark_consistent(self.me);
        }
        Ok(())
    }

    /// Releases the lock inside.
    fn leave(&self) {
        // It fails if another process has overwritten the lock: then there is nothing to release.
        let _ = self.raw.lock.release(self.me);
    }

    /// Releases the lock inside after a call of `liveness`. A child that was forked in it leaves the lock to its
    /// parent.
    fn leave_after<T>(&self, result: Result<T>) -> Result<T> {
        self.liveness.origin(self.me).check()?;
        self.leave();
        result
    }

    /// Inside the lock: frees the slots of dead processes, and stores the value that follows from the slots.
    ///
    /// `Forked`; other errors of `liveness`: holders whose liveness is unknown count as alive.
    fn count(&self) -> Result<()> {
        let (mut held, mut dead, mut failure) = (0, 0, None);
        for cell in self.cells().used() {
            let seen = cell.load();
            let dead_holder = match self.is_dead(seen) {
                Err(error @ Error::Forked(_)) => return Err(error),
                Err(error) => {
                    failure = Some(error);
                    false
                }
                Ok(dead) => dead,
            };
            match dead_holder && cell.reclaim(seen) {
                true => dead += 1,
                false => held += seen.count(),
            }
        }
        let (more, now) = self.raw.set(self.total.saturating_sub(held));
        self.raw.recoveries.fetch_add(dead, Ordering::Relaxed);
        self.raw.wake(more, now);
        // The wake is a system call.
        self.liveness.origin(self.me).check()?;
        failure.map_or(Ok(()), Err)
    }

    /// Returns whether the owner of a slot that holds permits is dead.
    fn is_dead(&self, seen: HeldCount) -> Result<bool> {
        match seen.owner() {
            _ if seen.count() == 0 => Ok(false),
            Some(owner) if owner.ticket() == self.me.ticket() => Ok(false),
            Some(owner) => self.liveness.is_dead(owner, self.origin()),
            None => Ok(true),
        }
    }

    /// Returns whether a process died that holds permits or the lock inside.
    fn has_died(&self) -> Result<bool> {
        let lock = self.raw.lock.stat();
        if lock.owner_died {
            return Ok(true);
        }
        match lock.owner {
            Some(owner) if owner != self.me && self.liveness.is_dead(owner, self.origin())? => {
                return Ok(true);
            }
            _ => {}
        }
        for cell in self.cells().used() {
            if self.is_dead(cell.load())? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns how to wait for the lock inside: as long as for permits, but at least `MIN_LOCK_TIMEOUT_NS`.
    fn lock_wait(&self, wait: &Wait<'_>) -> WaitOptions {
        let options = wait.rest();
        let timeout = match options.timeout {
            // The model has no clock.
            Timeout::Immediate | Timeout::After(_) if cfg!(loom) => Timeout::Never,
            Timeout::Immediate => Timeout::After(Duration::from_nanos(MIN_LOCK_TIMEOUT_NS)),
            Timeout::After(time) => {
                Timeout::After(time.max(Duration::from_nanos(MIN_LOCK_TIMEOUT_NS)))
            }
            Timeout::Never => Timeout::Never,
        };
        WaitOptions { timeout, ..options }
    }

    /// Acquires the lock inside on behalf of an acquire.
    fn enter_bounded(&self, wait: &Wait<'_>) -> Result<()> {
        let entered = self.enter(self.lock_wait(wait));
        entered.map_err(|error| match error {
            Error::Timeout(cause) if wait.rest().timeout == Timeout::Immediate => {
                Error::WouldBlock(cause)
            }
            other => other,
        })
    }
}

impl<L: Liveness> PermitRecorder for UndoRef<'_, L> {
    fn origin(&self) -> Origin {
        self.liveness.origin(self.me)
    }

    fn grant(&self, count: u64, wait: &Wait<'_>) -> Result<bool> {
        self.enter_bounded(wait)?;
        let taken = match self.raw.value() < count {
            true => Ok(false),
            false => self.record(count),
        };
        self.leave_after(taken)
    }

    fn recover(&self, count: u64, wait: &mut Wait<'_>) -> Result<bool> {
        let now = wait.look();
        let alive = &self.handle.alive;
        if now.saturating_sub(alive.load(Ordering::Relaxed)) < LIVENESS_CACHE_NS {
            return Ok(false);
        }
        if !self.has_died()? {
            alive.store(now, Ordering::Relaxed);
            return Ok(false);
        }
        self.enter_bounded(wait)?;
        let counted = self.count();
        self.leave_after(counted)
            .map(|()| self.raw.value() >= count)
    }
}

impl<L: Liveness> UndoRef<'_, L> {
    /// Inside the lock: takes `count` permits, which are available.
    fn record(&self, count: u64) -> Result<bool> {
        let cells = self.cells();
        let full = cells.used().len() == self.all.len();
        let has_room = |seen: HeldCount| seen.bits() == 0 || self.is_mine(seen);
        // Then the slot that `hold` takes may be a dead process', and its permits are reclaimed.
        let may_reclaim = full && !self.all.iter().any(|cell| has_room(cell.load()));
        let cell = cells.hold(self.me, count, self.liveness)?;
        self.handle.cell.store(cell, Ordering::Relaxed);
        // If another process has overwritten the value, it is counted anew from the slots as well.
        if (may_reclaim || !self.raw.take(count))
            && let Err(error @ Error::Forked(_)) = self.count()
        {
            return Err(error);
        }
        Ok(true)
    }

    fn is_mine(&self, seen: HeldCount) -> bool {
        let owner = seen.owner();
        owner.is_some_and(|owner| owner.ticket() == self.me.ticket())
    }
}
