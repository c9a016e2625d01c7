//! The readers-writer lock: a turnstile that one process holds at a time, a word that holds the writer, and a count
//! slot for each process that reads.
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
//! | role        | takes                                                  | gives                                  |
//! |-------------|--------------------------------------------------------|----------------------------------------|
//! | reader      | +1 in its slot, then checks: no writer                 | −1 in its slot; wakes a waiting writer |
//! | slow reader | −1 again; the turnstile; +1 in its slot                | the turnstile at once; as a reader     |
//! | writer      | the turnstile; WAITS; each slot is 0; writes           | 0, then the turnstile                  |
//! | upgrade     | the turnstile; WAITS; each slot but its own 1 is 0; −1 | as a writer                            |
//! | downgrade   | +1 in its slot; 0, then the turnstile                  | as a reader                            |
//!
//! Every writer, and every reader that a writer holds up, passes the turnstile, so that readers that keep coming hold
//! up no writer (Downey, The Little Book of Semaphores, 4.2). Readers change nothing but a line of their own as long as
//! there is no writer. A dead holder of the turnstile is taken over as of any lock. Readers hold it too, so only the
//! writer's word tells whether something is half written. Only the turnstile's holder stores an owner there, and
//! removes it before it releases the turnstile: an owner that the next holder finds there is dead.
//!
//! Each arrow is one store or compare-and-swap, so a death comes before it or after it:
//!   reader: its count is a dead process', which a writer that waits for it finds out and clears;
//!   slow reader: likewise; if it held the turnstile, the next waiter takes that over, and nothing is half written;
//!   writer: with the turnstile alone, or WAITS, nothing is half written; without WAITS, DIED is what it leaves;
//!   upgrade: as a reader until WAITS; then as a writer, and its own count ends with it;
//!   downgrade: as a writer until the word is 0, and then as a slow reader.

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

/// In the writer's word: it has not written yet.
const WAITS: u64 = 1 << 31;
/// In the writer's word: one died writing, and nobody has said since that what the lock guards is whole.
const DIED: u64 = 1 << 30;

/// How long an upgrade waits at the turnstile before it checks again whether the holder waits for it, in nanoseconds.
const UPGRADE_RECHECK_NS: u64 = 1_000_000;

/// A readers-writer lock in shared memory, but for its count slots. All zeros but the tag is a free one.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct RawRwLock {
    /// The turnstile; its tag is the object's.
    pub turnstile: lock::RawLock,
    writer: AtomicU64,
    used: AtomicU64,
    writes: AtomicU64,
    contended: AtomicU64,
    recoveries: AtomicU64,
    /// When the writer that waits for the readers began to sleep (CLOCK_MONOTONIC); 0: none does.
    waiting_since: AtomicU64,
    unused: [AtomicU64; 2],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<RawRwLock>() == 128);

// SAFETY: nothing but atomics. (Those of loom are never found in mapped memory.)
unsafe impl crate::layout::Shared for RawRwLock {}

/// What is known of a readers-writer lock, each figure as it was at some moment during the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RwLockInfo {
    /// Who writes, or waits for the readers to leave; perhaps dead.
    pub writer: Option<Id>,
    /// Whether that one still waits.
    pub waits: bool,
    /// Whether a writer died and nobody has said since that what the lock guards is whole.
    pub writer_died: bool,
    /// How often it is held for reading, by the dead too as long as nobody has waited for them.
    pub readers: u64,
    /// How many processes hold it so.
    pub reading: u64,
    /// How often it was acquired for writing.
    pub writes: u64,
    /// How often somebody waited for a writer, or a writer for readers.
    pub contended: u64,
    /// How many writers were found that had died writing.
    pub recoveries: u64,
    /// When the first to wait for who holds it now began to sleep (CLOCK_MONOTONIC, ns), even if it has given up since;
    /// 0: nobody has waited for that one.
    pub contended_since: u64,
}

/// What a handle remembers of a lock: not shared.
#[derive(Debug, Default)]
pub struct RwLockHandleState {
    /// The index of this process' slot when it was last used.
    cell: AtomicUsize,
    turnstile: SpinState,
    readers: SpinState,
}

/// A readers-writer lock with its count slots, as one handle sees it.
#[derive(Clone, Copy)]
pub struct RwLockRef<'a> {
    /// What all look at.
    pub raw: &'a RawRwLock,
    /// What each reader changes.
    pub cells: &'a [CountSlot],
    /// What the handle remembers.
    pub handle: &'a RwLockHandleState,
}

impl RawRwLock {
    /// Makes all as it is in a new lock, but for the tag.
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

/// The turnstile is ours.
struct Entered {
    /// What is left of the writer's word: 0 or DIED.
    left: u64,
    /// How to wait for the rest.
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

    /// Takes it for reading if nobody writes or wants to, no writer died, and this process was here before.
    #[inline(always)]
    pub fn try_acquire_read(&self, me: Id) -> bool {
        // Who comes while a writer waits is not to hold it up.
        if self.raw.writer.load(Ordering::Relaxed) != 0 {
            return false;
        }
        let index = self.hint();
        if !self.readers().try_hold(me, index) {
            return false;
        }
        // 1. A writer may have come between: it looks at our cell after its store, and we at its word after ours.
        one_order();
        // PAIRS rwlock.announce; PAIRS rwlock.written: what the last writer did is seen here.
        if self.raw.writer.load(Ordering::SeqCst) == 0 {
            return true;
        }
        self.back_off(me, index);
        false
    }

    /// Takes back a count that was not to be had, out of the cell where it was added.
    #[cold]
    fn back_off(&self, me: Id, index: usize) {
        if self.readers().release_in(me, index, 1) {
            return self.left(index);
        }
        // Another thread of ours has given that one back instead of its own. It fails where one has given back what it did
        // not hold.
        if let Ok(index) = self.readers().release(me, 1) {
            self.left(index);
        }
    }

    /// Wakes a writer that waits for the count in this cell to fall.
    #[inline(always)]
    fn left(&self, index: usize) {
        // A writer that has not seen our count fall has stored its word before: we see that here.
        one_order();
        // PAIRS rwlock.announce
        if self.raw.writer.load(Ordering::SeqCst) & WAITS != 0 {
            Self::wake(self.cells, index);
        }
    }

    /// Takes the cells, not `self`, which whoever wakes nobody would have to store as well.
    #[cold]
    fn wake(cells: &[CountSlot], index: usize) {
        if let Some(cell) = cells.get(index) {
            futex::wake(cell.word(), 1, WaitSet::All);
        }
    }

    /// Takes it for reading, waiting for it; returns whether a writer died and nobody has said since that all is whole.
    ///
    /// `WouldBlock`, `Timeout`, `Interrupted`; `TooManyProcesses`, `Overflow`; what `liveness` says. It is held if and
    /// only if this is `Ok`.
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
        // 1. Nobody writes: only a cell was missing, or one died writing.
        if let Some(died) = self.read_at_once(me, liveness)? {
            return Ok(died);
        }
        // 2. Whoever writes, or wants to, holds the turnstile; or it is dead, and who comes to the turnstile says so.
        let entered = match self.enter(me, options, liveness) {
            Ok(entered) => entered,
            Err(error @ (Error::WouldBlock(_) | Error::Timeout(_))) => {
                // It was perhaps another slow reader that held the turnstile last.
                return self.read_at_once(me, liveness)?.ok_or(error);
            }
            Err(error) => return Err(error),
        };
        // 3. No writer can come now. Other readers do.
        let held = self.readers().hold(me, 1, liveness);
        self.raw.turnstile.release(me)?;
        self.remember(held?);
        Ok(entered.left & DIED != 0)
    }

    /// Takes it for reading if nobody writes or wants to; returns as `acquire_read`. `None`: somebody does.
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

    /// Gives it back where this process was found last; false: it is not held there, or another thread came between.
    #[inline(always)]
    pub fn try_release_read(&self, me: Id) -> bool {
        let index = self.hint();
        let given = self.readers().try_release(me, index, 1);
        if given {
            self.left(index);
        }
        given
    }

    /// Gives back what was taken for reading, once. `NotOwner`: this process does not read.
    pub fn release_read(&self, me: Id) -> Result<()> {
        let index = self.readers().release(me, 1)?;
        self.left(index);
        Ok(())
    }

    /// Takes the turnstile, and finds out what the last writer has left.
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
                // The writer's word says what that means; the turnstile is in order.
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

    /// With the turnstile in our hands: whoever stands in the writer's word is dead. Returns what is left, 0 or DIED.
    fn settle(&self) -> u64 {
        let seen = self.raw.writer.load(Ordering::Relaxed);
        let wrote = Id::of(seen).is_some() && seen & WAITS == 0;
        let left = if wrote { DIED } else { seen & DIED };
        if wrote {
            super::count(&self.raw.recoveries);
        }
        if seen != left {
            self.raw.waiting_since.store(0, Ordering::Relaxed);
            // PAIRS rwlock.written. What the dead one did the kernel has made visible with its death.
            self.raw.writer.store(left, Ordering::Release);
        }
        left
    }

    /// Takes it for writing if nobody has it, nobody waits for it, and no writer died.
    #[inline(always)]
    pub fn try_acquire_write(&self, me: Id) -> bool {
        if !self.raw.turnstile.try_acquire(me) {
            return false;
        }
        if self.raw.writer.load(Ordering::Relaxed) == 0 && self.nobody_reads() {
            self.announce(me, 0);
            if self.nobody_reads() {
                self.begin(me, 0);
                return true;
            }
        }
        self.leave_turnstile(me);
        false
    }

    fn nobody_reads(&self) -> bool {
        let mut used = self.readers().used().iter();
        used.all(|cell| cell.load().count() == 0)
    }

    /// With the turnstile in our hands, and perhaps announced in vain.
    #[cold]
    fn leave_turnstile(&self, me: Id) {
        if Id::of(self.raw.writer.load(Ordering::Relaxed)) == Some(me) {
            // PAIRS rwlock.written: the last writer's, which we have seen at the turnstile.
            self.raw.writer.store(0, Ordering::Release);
        }
        // It fails where another thread of ours has given back what it did not hold.
        let _ = self.raw.turnstile.release(me);
    }

    /// With the turnstile in our hands: says that new readers are to wait for us.
    #[inline(always)]
    fn announce(&self, me: Id, left: u64) {
        // PAIRS rwlock.announce: a reader sees this when it looks, or we see its count. In the one order of both.
        self.raw
            .writer
            .store(me.bits() | WAITS | left, Ordering::SeqCst);
        one_order();
    }

    /// Takes it for writing, waiting for it; returns as `acquire_read`, without `TooManyProcesses` and `Overflow`.
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
            // Readers are not sent to the turnstile for one who will not wait for them.
            self.until_alone(me, 0, options, liveness)?;
        }
        let Entered { left, rest } = self.enter(me, options, liveness)?;
        self.drain_readers(me, 0, left, rest, liveness)?;
        self.begin(me, left);
        Ok(left & DIED != 0)
    }

    /// With the turnstile held: keeps new readers out and waits until only `keep` counts are left, which are ours.
    /// Counts of dead readers are reclaimed. Where that fails the turnstile is released.
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
            Err(_) => self.retract(me, left)?,
        }
        alone.map(drop)
    }

    /// With the turnstile in our hands: says that nobody writes, and gives it back.
    fn retract(&self, me: Id, left: u64) -> Result<()> {
        self.raw.waiting_since.store(0, Ordering::Relaxed);
        // PAIRS rwlock.written: the last writer's, which we have seen at the turnstile.
        self.raw.writer.store(left, Ordering::Release);
        self.raw.turnstile.release(me)
    }

    /// With the turnstile in our hands and nobody inside: says that we write.
    fn begin(&self, me: Id, left: u64) {
        if self.raw.waiting_since.load(Ordering::Relaxed) != 0 {
            self.raw.waiting_since.store(0, Ordering::Relaxed);
        }
        super::count(&self.raw.writes);
        self.raw.writer.store(me.bits() | left, Ordering::Relaxed);
        // Nothing is written before that stands there; a kill comes between two instructions, so their order will do.
        compiler_fence(std::sync::atomic::Ordering::SeqCst);
    }

    /// Waits until this process holds it `keep` times for reading, or less, and nobody else does; returns whether that
    /// took waiting. The dead are cleared away.
    fn until_alone(
        &self,
        me: Id,
        keep: u64,
        options: WaitOptions,
        liveness: &impl Liveness,
    ) -> Result<bool> {
        let cells = self.readers();
        let mine = Id::of_ticket(me.ticket());
        let mut wait = Wait::new(options, &self.handle.readers);
        let mut waited = false;
        // Cells that come into use from now on are those of readers who see our word.
        for cell in cells.used() {
            loop {
                // 1. Once it has been 0, or ours, nobody else can read in it: whoever adds to it takes that back, out of
                //    this cell, or, where who read in a later one has given back this one's, out of that.
                let seen = cell.load();
                let ours = keep > 0 && seen.owner() == mine;
                if seen.count() == 0 || ours && cells.held(me) <= keep {
                    break;
                }
                // 2. It may be just about to leave.
                if wait.spin() {
                    waited = true;
                    continue;
                }
                // 3. It may be dead. If the cell has changed meanwhile, we look again.
                let dead = match seen.owner() {
                    Some(owner) => liveness.is_dead(owner)?,
                    None => true,
                };
                if dead {
                    cell.reclaim(seen);
                    continue;
                }
                // 4. It lives: we wait, as far as we may.
                wait.check("it is held for reading")?;
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
        Ok(waited)
    }

    /// Gives back what was taken for writing if this process writes and no writer died.
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

    /// Gives back what was taken for writing. `NotOwner`: this process does not write.
    pub fn release_write(&self, me: Id) -> Result<()> {
        if self.try_release_write(me) {
            return Ok(());
        }
        self.end(me)?;
        self.raw.turnstile.release(me)
    }

    /// Says that nobody writes any more; the turnstile is still ours.
    fn end(&self, me: Id) -> Result<()> {
        self.change(me, |seen| seen & DIED)
    }

    /// Says that what the lock guards is whole again. `NotOwner`: only who writes may say so.
    pub fn mark_consistent(&self, me: Id) -> Result<()> {
        self.change(me, |seen| seen & !DIED)
    }

    /// Changes the writer's word if we write. Threads of ours may do the same at the same time: one swaps.
    fn change(&self, me: Id, new: impl Fn(u64) -> u64) -> Result<()> {
        let writer = &self.raw.writer;
        let mut seen = writer.load(Ordering::Relaxed);
        while seen & !DIED == me.bits() {
            // PAIRS rwlock.written: whoever reads from now on sees what we wrote.
            match writer.compare_exchange(seen, new(seen), Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(now) => seen = now,
            }
        }
        Err(not_writing())
    }

    /// Goes from reading to writing, so that nobody writes in between; where that fails, this process still reads.
    ///
    /// `NotOwner`: it does not read. `Deadlock`: somebody who wants to write waits for the readers, and so for this one.
    /// Else as `acquire_write`.
    pub fn upgrade(&self, me: Id, options: WaitOptions, liveness: &impl Liveness) -> Result<()> {
        if self.readers().held(me) == 0 {
            return Err(Error::NotOwner(
                "this process does not hold it for reading".into(),
            ));
        }
        let Entered { left, rest } = self.enter_reading(me, options, liveness)?;
        if options.timeout == Timeout::Immediate
            && let Err(error) = self.until_alone(me, 1, options, liveness)
        {
            // As in `acquire_write`: nobody has heard of us.
            self.raw.turnstile.release(me)?;
            return Err(error);
        }
        self.drain_readers(me, 1, left, rest, liveness)?;
        if let Err(error) = self.readers().release(me, 1) {
            // Another thread of ours has given it back.
            self.retract(me, left)?;
            return Err(error);
        }
        self.begin(me, left);
        Ok(())
    }

    /// Takes the turnstile as `enter`, while we read. `Deadlock`: who holds it waits for us.
    fn enter_reading(
        &self,
        me: Id,
        options: WaitOptions,
        liveness: &impl Liveness,
    ) -> Result<Entered> {
        let mut wait = Wait::new(options, &self.handle.turnstile);
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
            // 1. It is held by somebody who lives: who waits for the readers says so in the writer's word.
            let writer = Id::of(self.raw.writer.load(Ordering::Relaxed));
            if writer.is_some_and(|writer| self.raw.turnstile.is_held_by(writer)) {
                return Err(Error::Deadlock(
                    "somebody waits for all readers to leave, and so for this one: release it, and acquire it for writing"
                        .into(),
                ));
            }
            // 2. Or by a slow reader, or by a writer that has not said so yet: either takes a moment.
            if wait.spin() {
                continue;
            }
            wait.check("the readers-writer lock")?;
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

    /// Goes from writing to reading, so that nobody writes in between; where that fails, this process still writes.
    ///
    /// `NotOwner`: it does not write. `TooManyProcesses`, `Overflow`; what `liveness` says.
    pub fn downgrade(&self, me: Id, liveness: &impl Liveness) -> Result<()> {
        if self.raw.writer.load(Ordering::Relaxed) & !DIED != me.bits() {
            return Err(not_writing());
        }
        let index = self.readers().hold(me, 1, liveness)?;
        if let Err(error) = self.end(me) {
            // Another thread of ours has given it back.
            self.back_off(me, index);
            return Err(error);
        }
        self.remember(index);
        self.raw.turnstile.release(me)
    }

    /// Returns what is known of it; nobody is asked whether anybody lives.
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
    Error::NotOwner("this process does not hold it for writing".into())
}
