//! Bells: who waits listens, and who has something for it rings.
//!
//! ```text
//! word: | how often it was rung (63 bits) | WAITERS |
//! ```
//!
//! | word       | means                 | goes to                                                          |
//! |------------|-----------------------|------------------------------------------------------------------|
//! | n          | nobody listens        | n, WAITERS: listen                                               |
//! | n, WAITERS | somebody may sleep    | n + 1, WAITERS, and so many are woken: ring                      |
//! | n, WAITERS | … but nobody did      | n, and all are woken: that ring                                  |
//!
//! Who waits listens, looks once more for what it waits for, and sleeps; who has something stores it, and then looks
//! whether anybody listens: one of the two sees the other. If who rings dies before it wakes, sleepers look again within
//! 12 ms; if who waits dies, WAITERS stays until somebody rings in vain.

use crate::error::Result;
use crate::raw::wait::Wait;
use crate::sys::atomic::{AtomicU64, Ordering, fence, fence_after_exchange};
use crate::sys::futex::{self, WaitSet};

const WAITERS: u64 = 1;
const ONE: u64 = 2;

/// A bell in shared memory, in a cache line of its own.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct EventCount {
    word: AtomicU64,
    waits: AtomicU64,
}

impl EventCount {
    /// Makes it a new one: before anyone uses it.
    pub fn prepare(&self) {
        self.word.store(0, Ordering::Relaxed);
        self.waits.store(0, Ordering::Relaxed);
    }

    /// Says that somebody is about to sleep, and returns what is to be given to `sleep`: after one more look.
    pub fn prepare_wait(&self) -> u64 {
        let key = self.word.fetch_or(WAITERS, Ordering::Relaxed) | WAITERS;
        // PAIRS bell.ring: either who rings sees WAITERS, or the look after this sees what it has stored.
        fence(Ordering::SeqCst);
        key
    }

    /// Sleeps until it is rung, for one slice, or until the time is over: in `WaitSet::Priority`, until it is rung for all.
    /// `Interrupted`.
    pub fn commit_wait(&self, key: u64, wait: &mut Wait<'_>, set: WaitSet) -> Result<()> {
        self.waits.fetch_add(1, Ordering::Relaxed);
        wait.sleep(&self.word, key, set).map(drop)
    }

    /// Has up to `count` of those who sleep look again, `u64::MAX`: all: what they look for has been stored before.
    pub fn notify(&self, count: u64) {
        // PAIRS bell.ring
        fence(Ordering::SeqCst);
        self.notify_unfenced(count);
    }

    /// As `ring`, by who has exchanged a word last: released a lock, or said what becomes of a record.
    #[inline(always)]
    pub fn notify_after_exchange(&self, count: u64) {
        // PAIRS bell.ring
        fence_after_exchange();
        self.notify_unfenced(count);
    }

    #[inline(always)]
    fn notify_unfenced(&self, count: u64) {
        if self.word.load(Ordering::Relaxed) & WAITERS != 0 {
            self.wake(count);
        }
    }

    #[cold]
    fn wake(&self, count: u64) {
        let now = self
            .word
            .fetch_add(ONE, Ordering::Relaxed)
            .wrapping_add(ONE);
        let set = match count {
            u64::MAX => WaitSet::All,
            _ => WaitSet::Normal,
        };
        if futex::wake(&self.word, count.min(i32::MAX as u64) as i32, set) {
            return;
        }
        // 1. Nobody who is meant sleeps. If the word has changed since, somebody else will see to it.
        let quiet = now & !WAITERS;
        let cleared = self
            .word
            .compare_exchange(now, quiet, Ordering::Relaxed, Ordering::Relaxed);
        // 2. But who has fallen asleep in between, or is not meant, is not announced any more.
        if cleared.is_ok() {
            futex::wake(&self.word, i32::MAX, WaitSet::All);
        }
    }

    /// Returns how often somebody had to sleep.
    pub fn waits(&self) -> u64 {
        self.waits.load(Ordering::Relaxed)
    }
}
