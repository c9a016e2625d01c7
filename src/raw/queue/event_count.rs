//! Event counts: a waiter prepares, checks its condition once more, and sleeps until the next notification.
//!
//! ```text
//! word: | number of notifications (63 bits) | WAITERS |
//! ```
//!
//! | word       | means                      | goes to                                               |
//! |------------|----------------------------|-------------------------------------------------------|
//! | n          | no waiter                  | n, WAITERS: prepare_wait                              |
//! | n, WAITERS | waiters may sleep          | n + 1, WAITERS, and wakes the requested count: notify |
//! | n, WAITERS | … but no sleeper was found | n, and wakes all waiters: the same notify             |
//!
//! The key of prepare_wait is the count that the waiter has seen (Reed and Kanodia, Synchronization with eventcounts
//! and sequencers, doi:10.1145/359060.359076). A waiter prepares, and then checks its condition. A notifier stores what
//! that check reads, and then reads WAITERS. At least one of the two sees the other. If a notifier dies before it
//! wakes, sleepers check again within 12 ms. If a waiter dies, WAITERS stays set until a notification finds no sleeper.

use crate::error::Result;
use crate::raw::wait::Wait;
use crate::sys::atomic::{AtomicU64, Ordering, fence, fence_after_exchange};
use crate::sys::futex::{self, WaitSet};

const WAITERS: u64 = 1;
const ONE: u64 = 2;

/// An event count in shared memory, in a cache line of its own.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct EventCount {
    word: AtomicU64,
    waits: AtomicU64,
}

impl EventCount {
    /// Resets the words. Must precede the first use.
    pub fn prepare(&self) {
        self.word.store(0, Ordering::Relaxed);
        self.waits.store(0, Ordering::Relaxed);
    }

    /// Announces a waiter, and returns the key for `commit_wait`. The caller must check its condition once more in
    /// between.
    pub fn prepare_wait(&self) -> u64 {
        let key = self.word.fetch_or(WAITERS, Ordering::Relaxed) | WAITERS;
        // PAIRS bell.ring: the notifier sees WAITERS, or the check after this fence sees the notifier's store.
        fence(Ordering::SeqCst);
        key
    }

    /// Sleeps until a notification after `key`, for at most one slice or until the timeout. A waiter in
    /// `WaitSet::Priority` is woken only by a notification for all. Fails with `Interrupted`.
    pub fn commit_wait(&self, key: u64, wait: &mut Wait<'_>, set: WaitSet) -> Result<()> {
        self.waits.fetch_add(1, Ordering::Relaxed);
        wait.sleep(&self.word, key, set).map(drop)
    }

    /// Wakes up to `count` sleepers, or all if `count` is `u64::MAX`. The caller must store what they wait for before.
    pub fn notify(&self, count: u64) {
        // PAIRS bell.ring
        fence(Ordering::SeqCst);
        self.notify_unfenced(count);
    }

    /// As `notify`, where the caller's last step was an exchange: it released a lock, or changed a record's state
    /// (D-060).
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
        // 1. No sleeper of that set. If the word has changed since, another notifier or waiter continues from there.
        let quiet = now & !WAITERS;
        let cleared = self
            .word
            .compare_exchange(now, quiet, Ordering::Relaxed, Ordering::Relaxed);
        // 2. A waiter that fell asleep in between, or is in the other set, has lost its mark: all waiters check again.
        if cleared.is_ok() {
            futex::wake(&self.word, i32::MAX, WaitSet::All);
        }
    }

    /// Returns how often a waiter went to sleep.
    pub fn waits(&self) -> u64 {
        self.waits.load(Ordering::Relaxed)
    }
}
