//! The event: one word that says whether it is set, and how often it was.
//!
//! ```text
//! word: | how often it was set (62 bits) | WAITERS | SET |
//! ```
//!
//! | word       | means                     | goes to                                                       |
//! |------------|---------------------------|---------------------------------------------------------------|
//! | n          | clear                     | n + 1, SET: set; n, WAITERS: somebody begins to sleep         |
//! | n, WAITERS | clear, somebody may sleep | n + 1, SET, and all are woken: set                            |
//! | n, SET     | set                       | n: clear; the same, by an exchange that changes nothing: set  |
//!
//! Whoever waits remembers n, and has what it waits for as soon as the word says SET or another n: so `set` and then
//! `clear` lets all go on that had begun to wait. The n of 62 bits never comes round; the 30 bits that the futex compares
//! may, and cost one sleep.
//!
//! Each arrow is one step, nobody owns anything, and nobody is asked who lives. If a process dies in
//!   set: before its exchange nothing has happened; behind it a wake may be lost, and sleepers look again within 12 ms;
//!   clear: before or behind its one step;
//!   wait: WAITERS stays, and the next set wakes in vain.

use super::WaitOptions;
use super::wait::{SpinState, Wait};
use crate::error::Result;
use crate::sys::atomic::{AtomicU64, Ordering};
use crate::sys::futex::{self, WaitSet};

/// In the word: it is set.
const SET: u64 = 1;
/// In the word: somebody may sleep on it.
const WAITERS: u64 = 1 << 1;
/// In the word: one more time that it was set.
const ONE_SET: u64 = 1 << 2;

/// An event in shared memory. All zeros but `tag` is one that is clear.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct RawEvent {
    /// What it is and how it was made: `object` says how.
    pub tag: std::sync::atomic::AtomicU64,
    pub(super) word: AtomicU64,
    waits: AtomicU64,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<RawEvent>() == 64);

// SAFETY: atomics, and padding that nobody looks at. (Those of loom are never found in mapped memory.)
unsafe impl crate::layout::Shared for RawEvent {}

/// What is known of an event, each figure as it was at some moment during the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventInfo {
    /// Whether it is set.
    pub set: bool,
    /// How often it was set when it was clear.
    pub sets: u64,
    /// How often somebody had to sleep for it.
    pub waits: u64,
}

impl RawEvent {
    /// Makes all as it is in a new event, but for the tag.
    pub fn reset(&self) {
        self.word.store(0, Ordering::Relaxed);
        self.waits.store(0, Ordering::Relaxed);
    }

    fn load(&self) -> u64 {
        // PAIRS event.set: what was done before it was set is seen by whoever goes on. SeqCst, as in all that changes the
        // word: of two who set an event each and then look at the other's, one finds it set.
        self.word.load(Ordering::SeqCst)
    }

    /// Says whether it is set.
    #[inline(always)]
    pub fn is_set(&self) -> bool {
        self.load() & SET != 0
    }

    /// Sets it, and wakes all who wait.
    #[inline(always)]
    pub fn set(&self) {
        // A guess, because a look would have the word come here twice: to be read, and to be changed.
        let mut seen = 0;
        loop {
            // Even what changes nothing is an exchange. Who clears it and then looks whether there is work either comes
            // after that, and finds the work of who has set it, or before, and then it is not set.
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

    /// Makes it clear; who has begun to wait before and found it set goes on.
    #[inline(always)]
    pub fn clear(&self) {
        // PAIRS event.set
        self.word.fetch_and(!SET, Ordering::SeqCst);
    }

    /// Waits until it is set; it is enough that it was since the call began.
    ///
    /// `WouldBlock`, `Timeout`, `Interrupted`.
    pub fn wait(&self, options: WaitOptions, spins: &SpinState) -> Result<()> {
        let begun = self.load();
        match begun & SET {
            0 => self.wait_since(begun, options, spins),
            _ => Ok(()),
        }
    }

    /// As `wait`, by who has begun to wait when the word was `begun`.
    #[cold]
    pub(super) fn wait_since(
        &self,
        begun: u64,
        options: WaitOptions,
        spins: &SpinState,
    ) -> Result<()> {
        let mut wait = Wait::new(options, spins).eager();
        let mut sleeps = false;
        loop {
            let seen = self.load();
            if seen & SET != 0 || seen / ONE_SET != begun / ONE_SET {
                wait.record_success();
                return Ok(());
            }
            if wait.spin() {
                continue;
            }
            wait.check("an event that is not set")?;
            // Whoever sets it must know that somebody sleeps. If the word has changed meanwhile, we look again.
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

    /// Returns what is known of it.
    pub fn stat(&self) -> EventInfo {
        let word = self.load();
        EventInfo {
            set: word & SET != 0,
            sets: word / ONE_SET,
            waits: self.waits.load(Ordering::Relaxed),
        }
    }
}
