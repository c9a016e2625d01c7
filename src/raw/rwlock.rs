//! The readers-writer lock: a turnstile that one process holds at a time, a word that holds the writer, and a count
//! slot for each process that reads.
//!
//! The turnstile is that of Downey, The Little Book of Semaphores, 4.2; a slot for each reader keeps readers off a
//! common cache line.
//!
//! | writer              | means                                             | goes to                                |
//! |---------------------|---------------------------------------------------|----------------------------------------|
//! | 0                   | no writer                                         | me + WAITS: the turnstile's holder     |
//! | me + WAITS          | I wait for the readers to leave; new readers wait | me: they have left; 0: I have given up |
//! | me                  | I write                                           | 0: release, downgrade                  |
//! | … + DIED            | the same, and what it guards may be half written  | … without DIED: mark_consistent        |
//! | dead + WAITS        | it had not yet written                            | 0: the next holder of the turnstile    |
//! | dead + WAITS + DIED | it had not yet written, but an earlier writer had | DIED: likewise                         |
//! | dead, dead + DIED   | it died writing                                   | DIED: likewise                         |
//!
//! | role        | enters by                                              | leaves by                              |
//! |-------------|--------------------------------------------------------|----------------------------------------|
//! | reader      | +1 in its slot, then checks: no writer                 | −1 in its slot; wakes a waiting writer |
//! | slow reader | −1 again; the turnstile; +1 in its slot                | the turnstile at once; as a reader     |
//! | writer      | the turnstile; WAITS; each slot is 0; writes           | 0, then the turnstile                  |
//! | upgrade     | the turnstile; WAITS; each slot but its own 1 is 0; −1 | as a writer                            |
//! | downgrade   | +1 in its slot; 0, then the turnstile                  | as a reader                            |
//!
//! Every writer passes the turnstile, and so does every reader that a writer holds up. So new readers cannot hold up a
//! writer forever. While there is no writer, a reader changes nothing but its own cache line.
//!
//! A dead holder of the turnstile is taken over as of any lock. Readers hold the turnstile too, so only the writer's
//! word reports whether data may be half written (D-039). Only the turnstile's holder stores an owner there, and it
//! removes that owner before it releases the turnstile. So an owner that the next holder finds there is dead.
//!
//! Each arrow is one store or compare-and-swap, so a death comes before it or after it. If a process dies
//! * as a reader: its count belongs to a dead process; a writer that waits for it finds that out and clears it;
//! * as a slow reader: likewise; if it held the turnstile, the next waiter takes that over, and nothing is half
//!   written;
//! * as a writer: with the turnstile alone, or WAITS, nothing is half written; without WAITS the next holder of the
//!   turnstile stores DIED;
//! * in an upgrade: as a reader until WAITS; then as a writer, and its own count ends with it;
//! * in a downgrade: as a writer until the word is 0, and then as a slow reader.

use super::count_slot::{CountSlot, CountSlots};
use super::wait::{SpinState, Wait};
use super::{Liveness, Timeout, WaitOptions, lock};
use crate::error::{Error, Result};
use crate::participant::Id;
use crate::sys::atomic::{AtomicU64, Ordering, one_order};
use crate::sys::clock;
use crate::sys::futex::{self, WaitSet};
use std::sync::atomic::{AtomicUsize, compiler_fence};
use std::time::Duration;

/// In the writer's word: the process has not written yet.
const WAITS: u64 = 1 << 31;
/// In the writer's word: a writer died writing, and `mark_consistent` has not been called since.
const DIED: u64 = 1 << 30;

/// How long an upgrade waits at the turnstile before it checks again whether the holder waits for it, in nanoseconds.
const UPGRADE_RECHECK_NS: u64 = 1_000_000;

/// A readers-writer lock in shared memory, without its count slots. All zeros but the tag is a free lock.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct RawRwLock {
    /// The turnstile; its tag is that of the object.
    pub turnstile: lock::RawLock,
    writer: AtomicU64,
    used: AtomicU64,
    writes: AtomicU64,
    contended: AtomicU64,
    recoveries: AtomicU64,
    /// When the writer that waits for the readers began to sleep (CLOCK_MONOTONIC); 0: none sleeps.
    waiting_since: AtomicU64,
    unused: [AtomicU64; 2],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<RawRwLock>() == 128);

// SAFETY: nothing but atomics. (Those of loom are never found in mapped memory.)
unsafe impl crate::layout::Shared for RawRwLock {}

/// The state of a readers-writer lock. Each figure was true at some moment during the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RwLockInfo {
    /// The process that writes or waits for the readers to leave, perhaps a dead one.
    pub writer: Option<Id>,
    /// Whether that process still waits.
    pub waits: bool,
    /// Whether a writer died, and `mark_consistent` has not been called since.
    pub writer_died: bool,
    /// How often the lock is held for reading. Dead readers count until a writer has waited for them.
    pub readers: u64,
    /// The number of processes that hold it for reading.
    pub reading: u64,
    /// The number of times that the lock was acquired for writing.
    pub writes: u64,
    /// The number of times that a caller waited for a writer, or a writer for readers.
    pub contended: u64,
    /// The number of writers that were found to have died writing.
    pub recoveries: u64,
    /// When the first waiter for the present holder began to sleep (CLOCK_MONOTONIC, ns), even if it has given up
    /// since; 0: no waiter for that holder.
    pub contended_since: u64,
}

/// What a handle remembers of a lock: not shared.
#[derive(Debug, Default)]
pub struct RwLockHandleState {
    /// The index of the slot that this process last used.
    cell: AtomicUsize,
    turnstile: SpinState,
    readers: SpinState,
}

/// A readers-writer lock with its count slots, as one handle sees it.
#[derive(Clone, Copy)]
pub struct RwLockRef<'a> {
    /// The words that all processes look at.
    pub raw: &'a RawRwLock,
    /// The count slots, which readers change.
    pub cells: &'a [CountSlot],
    /// What the handle remembers.
    pub handle: &'a RwLockHandleState,
}

impl RawRwLock {
    /// Stores the state of a new lock in all fields but the tag.
    pub fn clear(&self) {
        self.turnstile.clear();
        for field in [
            &self.writer,
            &self.used,
            &self.writes,
            &self.contended,
            &self.recoveries,
            &self.waiting_since,
        ] {
            field.store(0, Ordering::Relaxed);
        }
        for field in &self.unused {
            field.store(0, Ordering::Relaxed);
        }
    }
}

/// A process that holds the turnstile.
struct Entered {
    /// What is left of the writer's word: 0 or DIED.
    left: u64,
    /// The options for the rest of the wait.
    rest: WaitOptions,
}

impl<'a> RwLockRef<'a> {
    fn readers(&self) -> CountSlots<'a> {
        CountSlots {
            used: &self.raw.used,
            all: self.cells,
        }
    }

    #[inline(always)]
    fn hint(&self) -> usize {
        self.handle.cell.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn remember(&self, index: usize) {
        self.handle
            .cell
            .store(index, std::sync::atomic::Ordering::Relaxed);
    }

    /// Acquires the lock for reading if there is no writer, no writer died, and this process has the remembered slot.
    #[inline(always)]
    pub fn try_acquire_read(&self, me: Id) -> bool {
        // A new reader must not hold up a writer that waits.
        if self.raw.writer.load(Ordering::Relaxed) != 0 {
            return false;
        }
        let index = self.hint();
        if !self.readers().try_hold(me, index) {
            return false;
        }
        // A writer may have arrived meanwhile: it looks at this slot after its store, and this reader at its word after
        // its own.
        one_order();
        // PAIRS rwlock.announce; PAIRS rwlock.written: what the last writer did is seen here.
        if self.raw.writer.load(Ordering::SeqCst) == 0 {
            return true;
        }
        self.back_off(me, index);
        false
    }

    /// Takes back a count that was added although a writer had arrived, out of the slot where it was added.
    #[cold]
    fn back_off(&self, me: Id, index: usize) {
        if self.readers().release_in(me, index, 1) {
            return self.wake_writer(index);
        }
        // Another thread of this process has released that count instead of its own. This fails if a thread has
        // released what it did not hold.
        if let Ok(index) = self.readers().release(me, 1) {
            self.wake_writer(index);
        }
    }

    /// Wakes a writer that waits for the count in this slot to fall.
    #[inline(always)]
    fn wake_writer(&self, index: usize) {
        // A writer that has not seen the count fall has stored its word before: it is seen here.
        one_order();
        // PAIRS rwlock.announce
        if self.raw.writer.load(Ordering::SeqCst) & WAITS != 0 {
            Self::wake(self.cells, index);
        }
    }

    /// Takes the cells, not `self`: a caller without a writer to wake would have to store `self` as well.
    #[cold]
    fn wake(cells: &[CountSlot], index: usize) {
        if let Some(cell) = cells.get(index) {
            futex::wake(cell.word(), 1, WaitSet::All);
        }
    }

    /// Acquires the lock for reading, waiting for it; returns whether a writer died without a `mark_consistent` since.
    ///
    /// `WouldBlock`, `Timeout`, `Interrupted`, `Forked`; `TooManyProcesses`, `Overflow`; errors of `liveness`. The
    /// caller holds the lock if and only if this is `Ok`.
    pub fn acquire_read(
        &self,
        me: Id,
        options: WaitOptions,
        liveness: &impl Liveness,
    ) -> Result<bool> {
        if self.try_acquire_read(me) {
            return Ok(false);
        }
        self.acquire_read_contended(me, options, liveness)
    }

    #[cold]
    fn acquire_read_contended(
        &self,
        me: Id,
        options: WaitOptions,
        liveness: &impl Liveness,
    ) -> Result<bool> {
        // 1. Perhaps there is no writer: only a slot was missing, or a writer died.
        if let Some(died) = self.read_at_once(me, liveness)? {
            return Ok(died);
        }
        // 2. A live writer holds the turnstile. A dead one is found by the next holder of the turnstile.
        let entered = match self.enter(me, options, liveness) {
            Ok(entered) => entered,
            Err(error @ (Error::WouldBlock(_) | Error::Timeout(_))) => {
                // The last holder of the turnstile was perhaps another slow reader.
                return self.read_at_once(me, liveness)?.ok_or(error);
            }
            Err(error) => return Err(error),
        };
        // 3. This process keeps writers out; other readers may still come.
        let held = self.readers().hold(me, 1, liveness);
        if let Err(error @ Error::Forked(_)) = held {
            return Err(error);
        }
        self.raw.turnstile.release(me)?;
        self.remember(held?);
        Ok(entered.left & DIED != 0)
    }

    /// Acquires the lock for reading if there is no writer; returns as `acquire_read`. `None`: there is a writer.
    fn read_at_once(&self, me: Id, liveness: &impl Liveness) -> Result<Option<bool>> {
        if Id::of(self.raw.writer.load(Ordering::Relaxed)).is_some() {
            return Ok(None);
        }
        let index = self.readers().hold(me, 1, liveness)?;
        // As in `try_acquire_read`.
        one_order();
        // PAIRS rwlock.announce; PAIRS rwlock.written
        let seen = self.raw.writer.load(Ordering::SeqCst);
        if Id::of(seen).is_some() {
            self.back_off(me, index);
            return Ok(None);
        }
        self.remember(index);
        Ok(Some(seen & DIED != 0))
    }

    /// Releases the lock in the remembered slot; false: it is not held there, or another thread changed the slot.
    #[inline(always)]
    pub fn try_release_read(&self, me: Id) -> bool {
        let index = self.hint();
        let given = self.readers().try_release(me, index, 1);
        if given {
            self.wake_writer(index);
        }
        given
    }

    /// Releases the lock once, held for reading. `NotOwner`: this process does not hold it for reading.
    pub fn release_read(&self, me: Id) -> Result<()> {
        let index = self.readers().release(me, 1)?;
        self.wake_writer(index);
        Ok(())
    }

    /// Acquires the turnstile, and finds out what the last writer has left.
    fn enter(&self, me: Id, options: WaitOptions, liveness: &impl Liveness) -> Result<Entered> {
        let turnstile = &self.raw.turnstile;
        let mut rest = options;
        if !turnstile.try_acquire(me) {
            let began = match options.timeout {
                Timeout::After(_) => clock::monotonic(),
                Timeout::Immediate | Timeout::Never => 0,
            };
            let died = turnstile.acquire(me, options, &self.handle.turnstile, liveness)?;
            if died {
                // The writer's word shows what the death means; the turnstile itself is consistent (D-039).
                turnstile.mark_consistent(me)?;
            }
            if let Timeout::After(time) = options.timeout {
                let taken = clock::monotonic().saturating_sub(began);
                rest.timeout = Timeout::After(time.saturating_sub(Duration::from_nanos(taken)));
            }
        }
        Ok(Entered {
            left: self.settle(),
            rest,
        })
    }

    /// With the turnstile held, an owner in the writer's word is dead: clears it. Returns what is left, 0 or DIED.
    fn settle(&self) -> u64 {
        let seen = self.raw.writer.load(Ordering::Relaxed);
        let wrote = Id::of(seen).is_some() && seen & WAITS == 0;
        let left = if wrote { DIED } else { seen & DIED };
        if wrote {
            super::count(&self.raw.recoveries);
        }
        if seen != left {
            self.raw.waiting_since.store(0, Ordering::Relaxed);
            // PAIRS rwlock.written. The kernel made the dead writer's stores visible when it died.
            self.raw.writer.store(left, Ordering::Release);
        }
        left
    }

    /// Acquires the lock for writing if it is free, has no waiter, and no writer died.
    #[inline(always)]
    pub fn try_acquire_write(&self, me: Id) -> bool {
        if !self.raw.turnstile.try_acquire(me) {
            return false;
        }
        if self.raw.writer.load(Ordering::Relaxed) == 0 && self.has_no_readers() {
            self.announce(me, 0);
            if self.has_no_readers() {
                self.begin(me, 0);
                return true;
            }
        }
        self.leave_turnstile(me);
        false
    }

    fn has_no_readers(&self) -> bool {
        let mut used = self.readers().used().iter();
        used.all(|cell| cell.load().count() == 0)
    }

    /// With the turnstile held: removes this process from the writer's word, if it is there, and releases the
    /// turnstile.
    #[cold]
    fn leave_turnstile(&self, me: Id) {
        if Id::of(self.raw.writer.load(Ordering::Relaxed)) == Some(me) {
            // PAIRS rwlock.written: what the last writer did, which was seen at the turnstile.
            self.raw.writer.store(0, Ordering::Release);
        }
        // It fails if another thread of this process has released what it did not hold.
        let _ = self.raw.turnstile.release(me);
    }

    /// With the turnstile held: makes new readers wait for this writer.
    #[inline(always)]
    fn announce(&self, me: Id, left: u64) {
        // PAIRS rwlock.announce: a reader sees this when it looks, or this writer sees its count. SeqCst orders both.
        self.raw
            .writer
            .store(me.bits() | WAITS | left, Ordering::SeqCst);
        one_order();
    }

    /// Acquires the lock for writing, waiting for it; returns as `acquire_read`, without `TooManyProcesses` and
    /// `Overflow`.
    pub fn acquire_write(
        &self,
        me: Id,
        options: WaitOptions,
        liveness: &impl Liveness,
    ) -> Result<bool> {
        if self.try_acquire_write(me) {
            return Ok(false);
        }
        self.acquire_write_contended(me, options, liveness)
    }

    #[cold]
    fn acquire_write_contended(
        &self,
        me: Id,
        options: WaitOptions,
        liveness: &impl Liveness,
    ) -> Result<bool> {
        if options.timeout == Timeout::Immediate {
            // A writer that will not wait for the readers must not send new ones to the turnstile.
            self.until_alone(me, 0, options, liveness)?;
        }
        let Entered { left, rest } = self.enter(me, options, liveness)?;
        self.drain_readers(me, 0, left, rest, liveness)?;
        self.begin(me, left);
        Ok(left & DIED != 0)
    }

    /// With the turnstile held: keeps new readers out and waits until only `keep` counts are left, those of this
    /// process. Counts of dead readers are reclaimed. If this fails, the turnstile is released.
    fn drain_readers(
        &self,
        me: Id,
        keep: u64,
        left: u64,
        rest: WaitOptions,
        liveness: &impl Liveness,
    ) -> Result<()> {
        self.announce(me, left);
        let alone = self.until_alone(me, keep, rest, liveness);
        match &alone {
            Ok(true) => super::count(&self.raw.contended),
            Ok(false) => {}
            // The parent goes on to wait.
            Err(Error::Forked(_)) => {}
            Err(_) => self.retract(me, left)?,
        }
        alone.map(drop)
    }

    /// With the turnstile held: removes the writer, and releases the turnstile.
    fn retract(&self, me: Id, left: u64) -> Result<()> {
        self.raw.waiting_since.store(0, Ordering::Relaxed);
        // PAIRS rwlock.written: what the last writer did, which was seen at the turnstile.
        self.raw.writer.store(left, Ordering::Release);
        self.raw.turnstile.release(me)
    }

    /// With the turnstile held and no reader left: stores that this process writes.
    fn begin(&self, me: Id, left: u64) {
        if self.raw.waiting_since.load(Ordering::Relaxed) != 0 {
            self.raw.waiting_since.store(0, Ordering::Relaxed);
        }
        super::count(&self.raw.writes);
        self.raw.writer.store(me.bits() | left, Ordering::Relaxed);
        // The caller writes nothing before this store. A kill comes between two instructions, so their order is enough.
        compiler_fence(std::sync::atomic::Ordering::SeqCst);
    }

    /// Waits until this process holds the lock at most `keep` times for reading, and no other process does. Counts of
    /// dead readers are reclaimed. Returns whether the call waited.
    fn until_alone(
        &self,
        me: Id,
        keep: u64,
        options: WaitOptions,
        liveness: &impl Liveness,
    ) -> Result<bool> {
        let cells = self.readers();
        let mine = Id::of_ticket(me.ticket());
        let mut wait = Wait::new(options, &self.handle.readers, liveness.origin(me));
        let mut waited = false;
        // Slots that come into use from now on belong to readers that see the writer's word.
        for cell in cells.used() {
            loop {
                // 1. Once a slot has been 0, or only this process' own, no other reader can enter in it. A reader that
                //    adds to it takes that back out of this slot. Or, if a reader of a later slot has released this
                //    one's count, out of that slot.
                let seen = cell.load();
                let ours = keep > 0 && seen.owner() == mine;
                if seen.count() == 0 || ours && cells.held(me) <= keep {
                    break;
                }
                // 2. The reader may be about to leave.
                if wait.spin() {
                    waited = true;
                    continue;
                }
                // 3. The reader may be dead. If the slot has changed meanwhile, look again.
                let dead = match seen.owner() {
                    Some(owner) => liveness.is_dead(owner, liveness.origin(me))?,
                    None => true,
                };
                if dead {
                    cell.reclaim(seen);
                    continue;
                }
                // 4. The reader is alive: wait, if the caller may.
                wait.check("the lock is held for reading")?;
                waited = true;
                let since = &self.raw.waiting_since;
                if since.load(Ordering::Relaxed) == 0 {
                    since.store(wait.look(), Ordering::Relaxed);
                }
                wait.sleep(cell.word(), seen.bits(), WaitSet::Normal)?;
            }
        }
        if waited {
            wait.record_success();
        }
        wait.check_origin()?;
        Ok(waited)
    }

    /// Releases the lock if this process writes and no writer died.
    #[inline(always)]
    pub fn try_release_write(&self, me: Id) -> bool {
        let writer = &self.raw.writer;
        // PAIRS rwlock.written
        let written = writer.compare_exchange(me.bits(), 0, Ordering::Release, Ordering::Relaxed);
        if written.is_ok() && !self.raw.turnstile.try_release(me) {
            self.leave_turnstile(me);
        }
        written.is_ok()
    }

    /// Releases the lock, held for writing. `NotOwner`: this process does not write.
    pub fn release_write(&self, me: Id) -> Result<()> {
        if self.try_release_write(me) {
            return Ok(());
        }
        self.end(me)?;
        self.raw.turnstile.release(me)
    }

    /// Removes the writer; this process still holds the turnstile.
    fn end(&self, me: Id) -> Result<()> {
        self.change(me, |seen| seen & DIED)
    }

    /// Marks what the lock guards as consistent. `NotOwner`: this process does not write.
    pub fn mark_consistent(&self, me: Id) -> Result<()> {
        self.change(me, |seen| seen & !DIED)
    }

    /// Changes the writer's word if this process writes. If several of its threads try, one swaps.
    fn change(&self, me: Id, new: impl Fn(u64) -> u64) -> Result<()> {
        let writer = &self.raw.writer;
        let mut seen = writer.load(Ordering::Relaxed);
        while seen & !DIED == me.bits() {
            // PAIRS rwlock.written: readers from now on see what this writer wrote.
            match writer.compare_exchange(seen, new(seen), Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(now) => seen = now,
            }
        }
        Err(not_writing())
    }

    /// Goes from reading to writing, with no other writer in between. If this fails, this process still reads.
    ///
    /// `NotOwner`: it does not read. `Deadlock`: another caller waits for all readers to leave, this one included
    /// (D-040). Other errors as `acquire_write`.
    pub fn upgrade(&self, me: Id, options: WaitOptions, liveness: &impl Liveness) -> Result<()> {
        if self.readers().held(me) == 0 {
            return Err(Error::NotOwner(
                "this process does not hold the lock for reading: acquire it first".into(),
            ));
        }
        let Entered { left, rest } = self.enter_reading(me, options, liveness)?;
        if options.timeout == Timeout::Immediate
            && let Err(error) = self.until_alone(me, 1, options, liveness)
        {
            if matches!(error, Error::Forked(_)) {
                return Err(error);
            }
            // As in `acquire_write`: no reader has seen this writer.
            self.raw.turnstile.release(me)?;
            return Err(error);
        }
        self.drain_readers(me, 1, left, rest, liveness)?;
        if let Err(error) = self.readers().release(me, 1) {
            // Another thread of this process has released it.
            self.retract(me, left)?;
            return Err(error);
        }
        self.begin(me, left);
        Ok(())
    }

    /// Acquires the turnstile as `enter`, while this process reads. `Deadlock`: its holder waits for this process.
    fn enter_reading(
        &self,
        me: Id,
        options: WaitOptions,
        liveness: &impl Liveness,
    ) -> Result<Entered> {
        let mut wait = Wait::new(options, &self.handle.turnstile, liveness.origin(me));
        let mut slice = WaitOptions::NONBLOCKING;
        loop {
            match self.enter(me, slice, liveness) {
                Ok(entered) => {
                    return Ok(Entered {
                        rest: wait.rest(),
                        ..entered
                    });
                }
                Err(Error::WouldBlock(_) | Error::Timeout(_)) => {}
                Err(error) => return Err(error),
            }
            // 1. A live process holds the turnstile. If it waits for the readers, the writer's word has its id.
            let writer = Id::of(self.raw.writer.load(Ordering::Relaxed));
            if writer.is_some_and(|writer| self.raw.turnstile.is_held_by(writer)) {
                return Err(Error::Deadlock(
                    "another caller waits until all readers leave; release the lock, then acquire it for writing"
                        .into(),
                ));
            }
            // 2. Its holder is a slow reader, or a writer that has not stored its id yet: either takes a moment.
            if wait.spin() {
                wait.check_origin()?;
                continue;
            }
            wait.check("another process is acquiring the lock")?;
            slice = WaitOptions {
                timeout: match wait.rest().timeout {
                    Timeout::After(time) => {
                        Timeout::After(time.min(Duration::from_nanos(UPGRADE_RECHECK_NS)))
                    }
                    Timeout::Immediate | Timeout::Never => {
                        Timeout::After(Duration::from_nanos(UPGRADE_RECHECK_NS))
                    }
                },
                interruptible: options.interruptible,
            };
        }
    }

    /// Goes from writing to reading, with no other writer in between. If this fails, this process still writes.
    ///
    /// `NotOwner`: it does not write. `TooManyProcesses`, `Overflow`; errors of `liveness`.
    pub fn downgrade(&self, me: Id, liveness: &impl Liveness) -> Result<()> {
        if self.raw.writer.load(Ordering::Relaxed) & !DIED != me.bits() {
            return Err(not_writing());
        }
        let index = self.readers().hold(me, 1, liveness)?;
        if let Err(error) = self.end(me) {
            // Another thread of this process has released it.
            self.back_off(me, index);
            return Err(error);
        }
        self.remember(index);
        self.raw.turnstile.release(me)
    }

    /// Returns the state of the lock; whether its holders are alive is not checked.
    pub fn stat(&self) -> RwLockInfo {
        let raw = self.raw;
        let writer = raw.writer.load(Ordering::Relaxed);
        let turnstile = raw.turnstile.stat();
        let counts = self
            .readers()
            .used()
            .iter()
            .map(|cell| cell.load().count())
            .filter(|&count| count != 0);
        let (readers, reading) =
            counts.fold((0, 0), |(sum, number), count| (sum + count, number + 1));
        let since = [
            raw.waiting_since.load(Ordering::Relaxed),
            turnstile.contended_since,
        ];
        RwLockInfo {
            writer: Id::of(writer),
            waits: writer & WAITS != 0,
            writer_died: writer & DIED != 0,
            readers,
            reading,
            writes: raw.writes.load(Ordering::Relaxed),
            contended: turnstile
                .contended
                .wrapping_add(raw.contended.load(Ordering::Relaxed)),
            recoveries: raw.recoveries.load(Ordering::Relaxed),
            contended_since: since.into_iter().filter(|&at| at != 0).min().unwrap_or(0),
        }
    }
}

#[cold]
fn not_writing() -> Error {
    Error::NotOwner("this process does not hold the lock for writing: acquire it first".into())
}
