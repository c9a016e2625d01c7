//! The lock: one word with the id of its owner.
//!
//! The idea is the futex mutex (Drepper, Futexes Are Tricky), with the death of an owner as in a robust mutex
//! (EOWNERDEAD, pthread_mutexattr_setrobust(3)) and the starvation mode of Go's sync.Mutex
//! (<https://go.dev/src/internal/sync/mutex.go>).
//!
//! | word            | means                                 | goes to                                          |
//! |-----------------|---------------------------------------|--------------------------------------------------|
//! | 0               | free                                  | me: acquire                                      |
//! | DIED            | free, and an owner died               | me + DIED: acquire                               |
//! | me              | held                                  | 0: release; me + WAITERS: a waiter goes to sleep |
//! | me + WAITERS    | held, and waiters may sleep           | 0: release, which wakes one waiter               |
//! | me + STARVING … | held, and a waiter starves            | STARVING: release                                |
//! | STARVING …      | free, reserved for a starving waiter  | me: a starving waiter, or one that may barge     |
//! | me + DIED …     | held, what it guards may be half done | me …: mark_consistent; DIED …: release           |
//! | dead …          | its owner is dead                     | me + DIED + WAITERS: any waiter, or a try        |
//!
//! A waiter starves when it has waited for `STARVATION_THRESHOLD_NS`. From then on a free lock is left to starving
//! waiters (D-031). The starving waiter may be dead. So any other waiter may barge, that is, take the free lock, after
//! it has slept once for it or when its time is over. A caller that does not wait may barge at once.
//!
//! Each arrow is one compare-and-swap of the whole word, so a death comes before it or after it. If a process dies
//! * in acquire: before its step nothing has happened; after it the next waiter takes the lock over;
//! * in release: before its step the process dies as owner; after it a wake may be lost, and sleepers look again within
//!   12 ms;
//! * in a take-over: after its step the new owner is dead in turn, and DIED stays;
//! * while it waits: STARVING stays, and the next waiter sleeps once before it barges.

use super::wait::{SpinState, Wait};
use super::{Liveness, Timeout, WaitOptions};
use crate::error::{Error, Result};
use crate::participant::Id;
use crate::sys::atomic::{AtomicU64, Ordering};
use crate::sys::futex::{self, WaitSet, WakeReason};

/// In the word: a waiter may sleep on it. The mark is in the half that the futex compares. So if the lower half returns
/// to the value that a sleeper has seen, it still has the mark, and the next release wakes.
const WAITERS: u64 = 1 << 31;
/// In the word: an owner died, and `mark_consistent` has not been called since.
const DIED: u64 = 1 << 30;
/// In the word: a waiter starves. Others leave a free lock to it for one sleep and no longer, because it may be dead.
pub(super) const STARVING: u64 = 1 << 29;

/// A waiter that has waited so long, in nanoseconds, starves: it goes before all that do not starve (D-031).
const STARVATION_THRESHOLD_NS: u64 = if cfg!(loom) { 0 } else { 10_000_000 };

/// A lock of either kind in shared memory (D-021). All zeros but `tag` is a free lock.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct RawLock {
    /// The kind of the object and the options that it was created with: see `object`.
    pub tag: std::sync::atomic::AtomicU64,
    pub(super) word: AtomicU64,
    /// Of a recursive lock: the thread that holds it, and how often; 0 while it is free.
    pub(super) token: AtomicU64,
    pub(super) depth: AtomicU64,
    acquisitions: AtomicU64,
    contended: AtomicU64,
    recoveries: AtomicU64,
    /// When the first waiter for the present owner began to sleep (CLOCK_MONOTONIC); 0: no waiter.
    contended_since: AtomicU64,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<RawLock>() == 64);

// SAFETY: nothing but atomics. (Those of loom are never found in mapped memory.)
unsafe impl crate::layout::Shared for RawLock {}

/// The state of a lock. Each figure was true at some moment during the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockInfo {
    /// The owner, perhaps a dead process.
    pub owner: Option<Id>,
    /// Whether an owner died, and `mark_consistent` has not been called since.
    pub owner_died: bool,
    /// The number of times that the lock was acquired.
    pub acquisitions: u64,
    /// The number of acquisitions that had to wait.
    pub contended: u64,
    /// The number of times that the lock was taken over from a dead owner.
    pub recoveries: u64,
    /// When the first waiter for the present owner began to sleep (CLOCK_MONOTONIC, ns); 0: no waiter.
    pub contended_since: u64,
}

impl RawLock {
    /// Stores the state of a new lock in all fields but the tag.
    pub fn clear(&self) {
        for field in [
            &self.word,
            &self.token,
            &self.depth,
            &self.acquisitions,
            &self.contended,
            &self.recoveries,
            &self.contended_since,
        ] {
            field.store(0, Ordering::Relaxed);
        }
    }

    /// Acquires the lock if it is free and no owner died.
    #[inline(always)]
    pub fn try_acquire(&self, me: Id) -> bool {
        // PAIRS lock.hand-over: what the last owner did before it released is seen here.
        let taken = self
            .word
            .compare_exchange(0, me.bits(), Ordering::Acquire, Ordering::Relaxed)
            .is_ok();
        if taken {
            super::count(&self.acquisitions);
        }
        taken
    }

    /// Acquires the lock, waiting for it; returns whether an owner died without a `mark_consistent` since.
    ///
    /// `WouldBlock`, `Timeout`, `Interrupted`, `Forked`; errors of `liveness`. The caller holds the lock if and only if
    /// this is `Ok`.
    pub fn acquire(
        &self,
        me: Id,
        options: WaitOptions,
        spins: &SpinState,
        liveness: &impl Liveness,
    ) -> Result<bool> {
        if self.try_acquire(me) {
            return Ok(false);
        }
        self.acquire_contended(me, options, spins, liveness)
    }

    #[cold]
    fn acquire_contended(
        &self,
        me: Id,
        options: WaitOptions,
        spins: &SpinState,
        liveness: &impl Liveness,
    ) -> Result<bool> {
        let nowait = options.timeout == Timeout::Immediate;
        let origin = liveness.origin(me);
        let mut wait = Wait::new(options, spins, origin);
        let me = me.bits();
        let mut waited = false;
        // WAITERS after a sleep: other waiters may sleep as well, and the word may have lost their mark.
        let mut keep_waiters = 0;
        // STARVING once this waiter starves.
        let mut starving = 0;
        // Whether this waiter may take a free lock although another one starves: at once if it does not wait, else
        // after one sleep.
        let mut may_barge = nowait;
        loop {
            let seen = self.word.load(Ordering::Relaxed);
            let owner = Id::of(seen);
            // 1. The lock is free: the first to swap acquires it.
            if owner.is_none() && (seen & STARVING == 0 || starving != 0 || may_barge) {
                // Another starving waiter sets the mark again; a caller that does not wait leaves the mark as it is.
                let others = if nowait { STARVING } else { 0 };
                let mine = me | keep_waiters | seen & (DIED | WAITERS | others);
                wait.check_origin()?;
                if self.swap(seen, mine) {
                    if keep_waiters != 0 {
                        // Step 5 may have stored a time after the lock became free; no waiter sleeps for this owner
                        // yet.
                        self.contended_since.store(0, Ordering::Relaxed);
                    }
                    wait.record_success();
                    self.granted(waited);
                    return Ok(seen & DIED != 0);
                }
                continue;
            }
            // 2. The owner may be about to release it.
            if wait.spin() {
                waited = true;
                continue;
            }
            // 3. The owner may be dead. Of several waiters that see it, one swaps. WAITERS, because others may sleep.
            if let Some(owner) = owner {
                let dead = match liveness.is_dead(owner, origin) {
                    Ok(dead) => dead,
                    Err(error) => return self.give_up(keep_waiters | starving, error),
                };
                if dead {
                    if self.swap(seen, me | WAITERS | DIED) {
                        // Waiters that still sleep store their time again after this slice.
                        self.contended_since.store(0, Ordering::Relaxed);
                        super::count(&self.recoveries);
                        self.granted(waited);
                        return Ok(true);
                    }
                    continue;
                }
            }
            // 4. The owner is alive: wait, if the caller may.
            if nowait {
                return Err(Error::WouldBlock(match seen & Id::BITS == me {
                    true => "this process already holds the lock".into(),
                    false => "another process holds the lock".into(),
                }));
            }
            waited = true;
            let now = wait.look();
            if wait.is_over() {
                if owner.is_none() {
                    may_barge = true;
                    continue;
                }
                let error = Error::Timeout("timed out waiting for the lock".into());
                return self.give_up(keep_waiters | starving, error);
            }
            if starving == 0 && keep_waiters != 0 && wait.waited() >= STARVATION_THRESHOLD_NS {
                starving = STARVING;
                continue;
            }
            // 5. The owner must see that a waiter sleeps. If the word has changed meanwhile, start again.
            let expected = seen | WAITERS | starving;
            if seen != expected
                && self
                    .word
                    .compare_exchange(seen, expected, Ordering::Relaxed, Ordering::Relaxed)
                    .is_err()
            {
                continue;
            }
            // The first waiter for this owner, as far as is known; the time of an earlier owner's waiter is
            // overwritten.
            if seen & WAITERS == 0 || self.contended_since.load(Ordering::Relaxed) == 0 {
                self.contended_since.store(now, Ordering::Relaxed);
            }
            keep_waiters = WAITERS;
            let set = if starving == 0 {
                WaitSet::Normal
            } else {
                WaitSet::Priority
            };
            let reason = wait.sleep(&self.word, expected, set);
            if owner.is_none() && reason != Ok(WakeReason::Changed) {
                may_barge = true;
            }
            if let Err(error) = reason {
                return self.give_up(keep_waiters | starving, error);
            }
        }
    }

    /// Takes the word from `seen` to `mine`.
    fn swap(&self, seen: u64, mine: u64) -> bool {
        // PAIRS lock.hand-over. A dead owner has released nothing; the kernel made its stores visible when it died.
        self.word
            .compare_exchange(seen, mine, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    fn granted(&self, waited: bool) {
        super::count(&self.acquisitions);
        if waited {
            super::count(&self.contended);
        }
    }

    /// Returns without the lock. If this waiter slept, a wake may have been for it: another waiter gets that wake.
    /// STARVING is removed, so that no waiter leaves the lock to this one. After a fork the waiter goes on in the
    /// parent.
    fn give_up(&self, marks: u64, error: Error) -> Result<bool> {
        if matches!(error, Error::Forked(_)) {
            return Err(error);
        }
        if marks & STARVING != 0 {
            self.word.fetch_and(!STARVING, Ordering::Relaxed);
        }
        if marks != 0 {
            futex::wake(&self.word, 1, WaitSet::All);
        }
        Err(error)
    }

    /// Releases the lock if this process holds it, no waiter sleeps and no owner died.
    #[inline(always)]
    pub fn try_release(&self, me: Id) -> bool {
        // PAIRS lock.hand-over
        self.word
            .compare_exchange(me.bits(), 0, Ordering::Release, Ordering::Relaxed)
            .is_ok()
    }

    /// Releases the lock. `NotOwner`: it is free, or another process holds it.
    pub fn release(&self, me: Id) -> Result<()> {
        self.release_from(
            |owner| owner == me.bits(),
            "release only what this process acquired",
        )
    }

    /// Releases the lock, whatever process holds it. `NotOwner`: it is free.
    pub fn release_any(&self) -> Result<()> {
        self.release_from(|owner| owner != 0, "release only a held lock")
    }

    fn release_from(&self, may: impl Fn(u64) -> bool, remedy: &str) -> Result<()> {
        let mut seen = self.word.load(Ordering::Relaxed);
        loop {
            if !may(seen & Id::BITS) {
                return Err(not_owner(seen, remedy));
            }
            if seen & WAITERS != 0 {
                self.contended_since.store(0, Ordering::Relaxed);
            }
            // PAIRS lock.hand-over: what this owner did while it held the lock is seen by the next owner.
            match self.word.compare_exchange(
                seen,
                seen & (DIED | STARVING),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        if seen & STARVING != 0 && futex::wake(&self.word, 1, WaitSet::Priority) {
            return Ok(());
        }
        if seen & (WAITERS | STARVING) != 0 {
            futex::wake(&self.word, 1, WaitSet::All);
        }
        Ok(())
    }

    /// Marks what the lock guards as consistent. `NotOwner`: this process does not hold the lock.
    pub fn mark_consistent(&self, me: Id) -> Result<()> {
        let mut seen = self.word.load(Ordering::Relaxed);
        while seen & Id::BITS == me.bits() {
            match self.word.compare_exchange(
                seen,
                seen & !DIED,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(()),
                Err(now) => seen = now,
            }
        }
        Err(not_owner(seen, "acquire it first"))
    }

    /// Returns whether this process is the owner.
    #[inline(always)]
    pub fn is_held_by(&self, me: Id) -> bool {
        self.word.load(Ordering::Relaxed) & Id::BITS == me.bits()
    }

    /// Returns whether an owner died, and `mark_consistent` has not been called since.
    pub fn owner_died(&self) -> bool {
        self.word.load(Ordering::Relaxed) & DIED != 0
    }

    /// Returns the state of the lock; whether the owner is alive is not checked.
    pub fn stat(&self) -> LockInfo {
        let word = self.word.load(Ordering::Relaxed);
        LockInfo {
            owner: Id::of(word),
            owner_died: word & DIED != 0,
            acquisitions: self.acquisitions.load(Ordering::Relaxed),
            contended: self.contended.load(Ordering::Relaxed),
            recoveries: self.recoveries.load(Ordering::Relaxed),
            contended_since: match word & WAITERS {
                0 => 0,
                _ => self.contended_since.load(Ordering::Relaxed),
            },
        }
    }
}

#[cold]
fn not_owner(seen: u64, remedy: &str) -> Error {
    let fact = match Id::of(seen) {
        None => "no process holds the lock",
        Some(_) => "another process holds the lock",
    };
    let text = format!("{fact}: {remedy}");
    Error::NotOwner(text.into())
}
