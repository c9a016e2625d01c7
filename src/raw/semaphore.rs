//! The semaphore: one word that holds the number of available permits (sem_overview(7)).
//!
//! ```text
//! word: | value (32 bits) | WAITERS | WANTS_SEVERAL | sequence (30 bits) |      the futex compares the lower half
//! ```
//!
//! | word              | means                                | goes to                                        |
//! |-------------------|--------------------------------------|------------------------------------------------|
//! | value ≥ n         | n permits are available              | value - n: acquire                             |
//! | value             | no waiter sleeps                     | value + n: release; + WAITERS: a waiter sleeps |
//! | value + WAITERS   | waiters may sleep                    | value + n, next sequence: release, wakes n     |
//! | … + WANTS_SEVERAL | a sleeper wants more than one permit | likewise, and all are woken                    |
//! | … + WAITERS       | a release has found no sleeper       | without both marks: that release, wakes all    |
//!
//! A waiter that is about to sleep has seen WAITERS and a sequence. A release that comes before it sleeps has changed
//! the sequence. A release that removes WAITERS has changed that mark. A waiter that fell asleep just before is woken
//! by the second wake.
//!
//! Each arrow is one compare-and-swap of the whole word, so a death comes before it or after it. If a process dies
//! * in acquire: before its step nothing has happened; after it the permits are gone, unless the semaphore has undo
//!   (D-041);
//! * in release: before its step likewise; after it wakes may be lost, and sleepers look again within 12 ms;
//! * while it waits: WAITERS stays until a release finds no sleeper.

use super::count_slot::{CountSlot, CountSlots};
use super::wait::{SpinState, Wait};
use super::{WaitOptions, lock};
use crate::error::{Error, Result};
use crate::sys::atomic::{AtomicU64, Ordering};
use crate::sys::fork::Origin;
use crate::sys::futex::{self, WaitSet};

/// In the word: a waiter may sleep on it.
pub(super) const WAITERS: u64 = 1 << 31;
/// In the word: a sleeper wants more than one permit, so that one permit may be too few for the waiter that is woken.
const WANTS_SEVERAL: u64 = 1 << 30;
const SEQUENCE: u64 = WANTS_SEVERAL - 1;
/// One permit.
const ONE_PERMIT: u64 = 1 << 32;

/// The largest number of permits of a semaphore: the limit of POSIX (SEM_VALUE_MAX).
pub const MAX_PERMITS: u64 = i32::MAX as u64;

/// A semaphore in shared memory.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct RawSemaphore {
    /// Of a semaphore with undo: its owner changes slots and value. Its tag is that of the object.
    pub lock: lock::RawLock,
    pub(super) word: AtomicU64,
    /// The maximum of permits; of a semaphore with undo: the number of all permits.
    maximum: AtomicU64,
    /// The number of count slots that were ever used.
    pub(super) used: AtomicU64,
    waits: AtomicU64,
    pub(super) recoveries: AtomicU64,
    unused: [AtomicU64; 3],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<RawSemaphore>() == 128);

// SAFETY: nothing but atomics. (Those of loom are never found in mapped memory.)
unsafe impl crate::layout::Shared for RawSemaphore {}

/// The state of a semaphore. Each figure was true at some moment during the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SemaphoreInfo {
    /// The number of available permits.
    pub value: u64,
    /// The maximum of permits.
    pub maximum: u64,
    /// The number of acquires that had to sleep.
    pub waits: u64,
    /// The number of times that a dead process' permits were reclaimed.
    pub recoveries: u64,
    /// The number of processes that hold permits, if that is recorded; some may be dead.
    pub holders: u64,
}

/// The part of an acquire that depends on whether permits are recorded.
pub(super) trait PermitRecorder {
    /// Returns the process that acquires.
    fn origin(&self) -> Origin;
    /// Takes `count` permits if they are available, and records them.
    fn grant(&self, count: u64, wait: &Wait<'_>) -> Result<bool>;
    /// Reclaims the permits of dead processes; returns whether `count` permits are available now.
    fn recover(&self, count: u64, wait: &mut Wait<'_>) -> Result<bool>;
}

/// A semaphore without undo records nothing: any process may release permits.
impl PermitRecorder for RawSemaphore {
    fn origin(&self) -> Origin {
        Origin::here()
    }

    fn grant(&self, count: u64, _: &Wait<'_>) -> Result<bool> {
        Ok(self.take(count))
    }

    fn recover(&self, _: u64, _: &mut Wait<'_>) -> Result<bool> {
        Ok(false)
    }
}

fn value(word: u64) -> u64 {
    word / ONE_PERMIT
}

/// Returns the word with the next sequence.
fn advanced(word: u64) -> u64 {
    word & !SEQUENCE | word.wrapping_add(1) & SEQUENCE
}

impl RawSemaphore {
    /// Stores the state of a new semaphore in all fields but the tag.
    pub fn prepare(&self, value: u64, maximum: u64) {
        self.lock.clear();
        self.word.store(value * ONE_PERMIT, Ordering::Relaxed);
        self.maximum.store(maximum, Ordering::Relaxed);
        for field in [&self.used, &self.waits, &self.recoveries] {
            field.store(0, Ordering::Relaxed);
        }
        for field in &self.unused {
            field.store(0, Ordering::Relaxed);
        }
    }

    /// Returns the maximum of permits. `Corrupt`: the number is out of range.
    pub fn maximum(&self) -> Result<u64> {
        match self.maximum.load(Ordering::Relaxed) {
            maximum @ 1..=MAX_PERMITS => Ok(maximum),
            _ => Err(corrupt()),
        }
    }

    /// Returns the number of available permits; any process may have overwritten it.
    #[inline(always)]
    pub fn value(&self) -> u64 {
        value(self.word.load(Ordering::Relaxed))
    }

    /// Takes `count` permits if they are available and no other process changes the word meanwhile.
    #[inline(always)]
    pub fn try_take(&self, count: u64) -> bool {
        let seen = self.word.load(Ordering::Relaxed);
        value(seen) >= count && self.take_from(seen, count)
    }

    #[inline(always)]
    fn take_from(&self, seen: u64, count: u64) -> bool {
        // PAIRS semaphore.hand-over: what happened before a permit was released is seen by its next holder. Every
        // change of the word is a read-modify-write, so this value is ordered after all releases before it.
        self.word
            .compare_exchange(
                seen,
                seen - count * ONE_PERMIT,
                Ordering::Acquire,
                Ordering::Relaxed,
            )
            .is_ok()
    }

    /// Takes `count` permits if they are available.
    pub(super) fn take(&self, count: u64) -> bool {
        loop {
            let seen = self.word.load(Ordering::Relaxed);
            if value(seen) < count {
                return false;
            }
            if self.take_from(seen, count) {
                return true;
            }
        }
    }

    /// Acquires `count` permits, waiting for them. `WouldBlock`, `Timeout`, `Interrupted`, `Forked`.
    pub fn acquire(&self, count: u64, options: WaitOptions, spins: &SpinState) -> Result<()> {
        self.acquire_from(self, count, options, spins)
    }

    /// Does what `acquire` does, and also returns errors of `record`.
    pub(super) fn acquire_from(
        &self,
        record: &impl PermitRecorder,
        count: u64,
        options: WaitOptions,
        spins: &SpinState,
    ) -> Result<()> {
        let mut wait = Wait::new(options, spins, record.origin());
        let mut slept = false;
        let result = loop {
            let seen = self.word.load(Ordering::Relaxed);
            // 1. Enough permits are available: the first to swap has them.
            if value(seen) >= count {
                if let Err(error) = wait.check_origin() {
                    break Err(error);
                }
                match record.grant(count, &wait) {
                    Ok(true) => break Ok(()),
                    Ok(false) => continue,
                    Err(error) => break Err(error),
                }
            }
            // 2. A holder may be about to release.
            if wait.spin() {
                continue;
            }
            // 3. The holders may be dead.
            match record.recover(count, &mut wait) {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => break Err(error),
            }
            // 4. The holders are alive, or not recorded: wait, if the caller may.
            if let Err(error) = wait.check("too few permits are available") {
                break Err(error);
            }
            // 5. A release must see that a waiter sleeps. If the word has changed meanwhile, start again.
            let many = if count > 1 { WANTS_SEVERAL } else { 0 };
            let expected = seen | WAITERS | many;
            if seen != expected
                && self
                    .word
                    .compare_exchange(seen, expected, Ordering::Relaxed, Ordering::Relaxed)
                    .is_err()
            {
                continue;
            }
            if !slept {
                self.waits.fetch_add(1, Ordering::Relaxed);
            }
            slept = true;
            if let Err(error) = wait.sleep(&self.word, expected, WaitSet::Normal) {
                break Err(error);
            }
        };
        match result {
            Ok(()) => wait.record_success(),
            // The waiter goes on in the parent.
            Err(Error::Forked(_)) => {}
            // A wake may have been for this waiter: another waiter gets it.
            Err(_) if slept && self.value() > 0 => {
                futex::wake(&self.word, 1, WaitSet::All);
            }
            Err(_) => {}
        }
        result
    }

    /// Releases `count` permits if no waiter sleeps and no other process changes the word meanwhile.
    #[inline(always)]
    pub fn try_release(&self, count: u64, maximum: u64) -> bool {
        let seen = self.word.load(Ordering::Relaxed);
        // PAIRS semaphore.hand-over
        count <= maximum
            && value(seen) <= maximum - count
            && seen & WAITERS == 0
            && self
                .word
                .compare_exchange(
                    seen,
                    seen + count * ONE_PERMIT,
                    Ordering::Release,
                    Ordering::Relaxed,
                )
                .is_ok()
    }

    /// Releases `count` permits. `Overflow`: there would be more than `maximum`; none is released.
    ///
    /// A successful release neither allocates nor waits: a signal handler may call it.
    pub fn release(&self, count: u64, maximum: u64) -> Result<()> {
        let now = self.give(count, maximum)?;
        self.wake(count, now);
        Ok(())
    }

    /// Releases `count` permits and returns the new word; the caller must then call `wake`.
    pub(super) fn give(&self, count: u64, maximum: u64) -> Result<u64> {
        let mut seen = self.word.load(Ordering::Relaxed);
        loop {
            if value(seen) > maximum {
                return Err(corrupt());
            }
            if count > maximum - value(seen) {
                // A text without figures, because formatting them would allocate.
                return Err(Error::Overflow(
                    "the semaphore would have more permits than its maximum: release only what was acquired"
                        .into(),
                ));
            }
            match self.change(seen, value(seen) + count) {
                Ok(now) => return Ok(now),
                Err(other) => seen = other,
            }
        }
    }

    /// Stores the value `new`; returns the number of new permits and the word, with which the caller must call `wake`.
    pub(super) fn set(&self, new: u64) -> (u64, u64) {
        let mut seen = self.word.load(Ordering::Relaxed);
        loop {
            match self.change(seen, new) {
                Ok(now) => return (new.saturating_sub(value(seen)), now),
                Err(other) => seen = other,
            }
        }
    }

    /// Takes the word from `seen` to another value, and returns the new word.
    fn change(&self, seen: u64, value: u64) -> std::result::Result<u64, u64> {
        let new = (value * ONE_PERMIT) | seen & (ONE_PERMIT - 1);
        let new = match seen & WAITERS {
            0 => new,
            _ => advanced(new),
        };
        // PAIRS semaphore.hand-over
        self.word
            .compare_exchange(seen, new, Ordering::Release, Ordering::Relaxed)
            .map(|_| new)
    }

    /// Wakes waiters for `count` new permits; `now` is the word after the change.
    pub(super) fn wake(&self, count: u64, now: u64) {
        if now & WAITERS == 0 || count == 0 {
            return;
        }
        let sleepers = match now & WANTS_SEVERAL {
            0 => count as i32, // at most MAX_PERMITS
            _ => i32::MAX,
        };
        if futex::wake(&self.word, sleepers, WaitSet::All) {
            return;
        }
        // 1. No waiter sleeps. If the word has changed since, the process that changed it wakes.
        let unmarked = now & !(WAITERS | WANTS_SEVERAL);
        let cleared =
            self.word
                .compare_exchange(now, unmarked, Ordering::Relaxed, Ordering::Relaxed);
        // 2. The marks no longer announce a waiter that fell asleep in between.
        if cleared.is_ok() {
            futex::wake(&self.word, i32::MAX, WaitSet::All);
        }
    }

    /// Returns the number of available permits. `Corrupt`: it is more than `maximum`.
    pub fn checked_value(&self, maximum: u64) -> Result<u64> {
        match self.value() {
            value if value <= maximum => Ok(value),
            _ => Err(corrupt()),
        }
    }

    /// Returns the state of the semaphore. `Corrupt`.
    pub fn stat(&self, maximum: u64, cells: &[CountSlot]) -> Result<SemaphoreInfo> {
        let used = CountSlots {
            used: &self.used,
            all: cells,
        };
        let holders = used.used().iter().filter(|cell| cell.load().count() > 0);
        Ok(SemaphoreInfo {
            value: self.checked_value(maximum)?,
            maximum,
            waits: self.waits.load(Ordering::Relaxed),
            recoveries: self.recoveries.load(Ordering::Relaxed),
            holders: holders.count() as u64,
        })
    }
}

#[cold]
fn corrupt() -> Error {
    Error::Corrupt("the semaphore has more permits than its maximum; recreate it".into())
}
