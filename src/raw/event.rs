//! The event: one word that reports whether it is set, and how often it was. A waiter remembers that number and waits
//! for it to change, as with an eventcount.
//!
//! ```text
//! word: | how often it was set (62 bits) | WAITERS | SET |
//! ```
//!
//! | word       | means                        | goes to                                                         |
//! |------------|------------------------------|-----------------------------------------------------------------|
//! | n          | clear                        | n + 1, SET: set; n, WAITERS: a waiter goes to sleep             |
//! | n, WAITERS | clear, and waiters may sleep | n + 1, SET: set, which wakes all                                |
//! | n, SET     | set                          | n: clear; n, SET: set, an exchange that changes nothing (D-034) |
//!
//! A waiter remembers n, and returns when the word has SET or another n. So `set` and then `clear` releases all that
//! had begun to wait. The n of 62 bits never returns to an old value. The 30 bits of it that the futex compares may, at
//! the cost of one sleep.
//!
//! Each arrow is one step. No process owns the event, so liveness is never checked. If a process dies
//! * in set: before its exchange nothing has happened; after it a wake may be lost, and sleepers look again within 12
//!   ms;
//! * in clear: its one step has happened or not;
//! * while it waits: WAITERS stays, and the next set makes a wake without a sleeper.

use super::WaitOptions;
use super::wait::{SpinState, Wait};
use crate::error::Result;
use crate::sys::atomic::{AtomicU64, Ordering};
use crate::sys::fork::Origin;
use crate::sys::futex::{self, WaitSet};

/// In the word: the event is set.
const SET: u64 = 1;
/// In the word: a waiter may sleep on it.
const WAITERS: u64 = 1 << 1;
/// In the word: one more time that the event was set.
const ONE_SET: u64 = 1 << 2;

/// An event in shared memory. All zeros but `tag` is a clear event.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct RawEvent {
    /// The kind of the object and the options that it was created with: see `object`.
    pub tag: std::sync::atomic::AtomicU64,
    pub(super) word: AtomicU64,
    waits: AtomicU64,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<RawEvent>() == 64);

// SAFETY: atomics, and padding that is never read. (Those of loom are never found in mapped memory.)
unsafe impl crate::layout::Shared for RawEvent {}

/// The state of an event. Each figure was true at some moment during the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventInfo {
    /// Whether the event is set.
    pub set: bool,
    /// The number of times that it was set while it was clear.
    pub sets: u64,
    /// The number of waits that had to sleep.
    pub waits: u64,
}

impl RawEvent {
    /// Stores the state of a new event in all fields but the tag.
    pub fn reset(&self) {
        self.word.store(0, Ordering::Relaxed);
        self.waits.store(0, Ordering::Relaxed);
    }

    fn load(&self) -> u64 {
        // PAIRS event.set: what happened before the set is seen by a waiter that returns. SeqCst, as every change of
        // the word: if two processes set an event each and then look at the other's, one of them finds it set.
        self.word.load(Ordering::SeqCst)
    }

    /// Returns whether the event is set.
    #[inline(always)]
    pub fn is_set(&self) -> bool {
        self.load() & SET != 0
    }

    /// Sets the event, and wakes all waiters.
    #[inline(always)]
    pub fn set(&self) {
        // A guess: a load would fetch the cache line twice, first to read it, then to change it (D-034).
        let mut seen = 0;
        loop {
            // A set that changes nothing is an exchange too (D-034). A process that clears the event and then looks for
            // work does so before this exchange or after it: either the event stays set, or the process finds the work.
            let new = match seen & SET {
                0 => seen.wrapping_add(ONE_SET) & !WAITERS | SET,
                _ => seen,
            };
            // PAIRS event.set
            match self
                .word
                .compare_exchange(seen, new, Ordering::SeqCst, Ordering::Relaxed)
            {
                Ok(_) if seen & (SET | WAITERS) == WAITERS => return self.wake(),
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    #[cold]
    fn wake(&self) {
        futex::wake(&self.word, i32::MAX, WaitSet::All);
    }

    /// Clears the event. A waiter that began to wait before, and that a set has released, still returns.
    #[inline(always)]
    pub fn clear(&self) {
        // PAIRS event.set
        self.word.fetch_and(!SET, Ordering::SeqCst);
    }

    /// Waits until the event is set; a set at any time since the call began is enough.
    ///
    /// `WouldBlock`, `Timeout`, `Interrupted`, `Forked`.
    pub fn wait(&self, options: WaitOptions, spins: &SpinState) -> Result<()> {
        let begun = self.load();
        match begun & SET {
            0 => self.wait_since(begun, options, spins),
            _ => Ok(()),
        }
    }

    /// Waits as `wait` does, for a caller that began to wait when the word was `begun`.
    #[cold]
    pub(super) fn wait_since(
        &self,
        begun: u64,
        options: WaitOptions,
        spins: &SpinState,
    ) -> Result<()> {
        let mut wait = Wait::new(options, spins, Origin::here()).eager();
        let mut sleeps = false;
        loop {
            let seen = self.load();
            if seen & SET != 0 || seen / ONE_SET != begun / ONE_SET {
                wait.check_origin()?;
                wait.record_success();
                return Ok(());
            }
            if wait.spin() {
                continue;
            }
            wait.check("the event is not set")?;
            // The next set must see that a waiter sleeps. If the word has changed meanwhile, look again.
            let expected = seen | WAITERS;
            if seen != expected
                && self
                    .word
                    .compare_exchange(seen, expected, Ordering::Relaxed, Ordering::Relaxed)
                    .is_err()
            {
                continue;
            }
            if !sleeps {
                sleeps = true;
                self.waits.fetch_add(1, Ordering::Relaxed);
            }
            wait.sleep(&self.word, expected, WaitSet::Normal)?;
        }
    }

    /// Returns the state of the event.
    pub fn stat(&self) -> EventInfo {
        let word = self.load();
        EventInfo {
            set: word & SET != 0,
            sets: word / ONE_SET,
            waits: self.waits.load(Ordering::Relaxed),
        }
    }
}
