//! The lock: one word that holds its owner.
//!
//! | word            | means                                 | goes to                                          |
//! |-----------------|---------------------------------------|--------------------------------------------------|
//! | 0               | free                                  | me: acquire                                      |
//! | DIED            | free, and an owner died               | me + DIED: acquire                               |
//! | me              | held                                  | 0: release; me + WAITERS: a waiter goes to sleep |
//! | me + WAITERS    | held, and waiters may sleep           | 0, and one is woken: release                     |
//! | me + STARVING … | held, and a waiter starves            | STARVING: release                                |
//! | STARVING …      | free, reserved for a starving waiter  | me: a starving waiter, or one that may barge     |
//! | me + DIED …     | held, what it guards may be half done | me …: mark_consistent; DIED …: release           |
//! | dead …          | its owner is dead                     | me + DIED + WAITERS: any waiter, or a try        |
//!
//! A waiter starves when it has waited for `STARVATION_THRESHOLD_NS`. From then on a free lock is left to starving
//! waiters (starvation mode, as in Go's sync.Mutex: <https://go.dev/src/internal/sync/mutex.go>). The starving waiter
//! may be dead, so any other waiter may barge, that is take the free lock, after it has slept once for it or when its
//! time is over; a caller that does not wait may barge at once.
//!
//! Each arrow is one compare-and-swap of the whole word, so a death comes before it or after it:
//!   acquire: before, nothing has happened; after, the owner is dead and the next waiter takes the lock over;
//!   release: likewise; after it a wake may be lost, and sleepers look again within 12 ms;
//!   take-over: the new owner is dead in turn, and DIED stays;
//!   waiting: STARVING stays, and the next waiter sleeps once before it barges.

use super::wait::{SpinState, Wait};
use super::{Liveness, Timeout, WaitOptions};
use crate::error::{Error, Result};
use crate::participant::Id;
use crate::sys::atomic::{AtomicU64, Ordering};
use crate::sys::futex::{self, WaitSet, WakeReason};

/// In the word: somebody may sleep on it. It lies in the half that the futex compares: a lower half that comes round
/// again shows it, so whoever releases then wakes.
const WAITERS: u64 = 1 << 31;
/// In the word: an owner died, and nobody has said since that what the lock guards is whole.
const DIED: u64 = 1 << 30;
/// In the word: a waiter starves. Others leave a free lock to it for one sleep: no longer, because it may be dead.
pub(super) const STARVING: u64 = 1 << 29;

/// A waiter that has waited so long, in nanoseconds, starves: it goes before all that do not.
const STARVATION_THRESHOLD_NS: u64 = if cfg!(loom) { 0 } else { 10_000_000 };

/// A lock of either kind in shared memory. All zeros but `tag` is a free one.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct RawLock {
    /// What it is and how it was made: `object` says how.
    pub tag: std::sync::atomic::AtomicU64,
    pub(super) word: AtomicU64,
    /// Of a recursive lock: which thread holds it, and how often; 0 while nobody does.
    pub(super) token: AtomicU64,
    pub(super) depth: AtomicU64,
    acquisitions: AtomicU64,
    contended: AtomicU64,
    recoveries: AtomicU64,
    /// When the first waiter for the present owner began to sleep (CLOCK_MONOTONIC); 0: nobody waits.
    contended_since: AtomicU64,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<RawLock>() == 64);

// SAFETY: nothing but atomics. (Those of loom are never found in mapped memory.)
unsafe impl crate::layout::Shared for RawLock {}

/// What is known of a lock, each figure as it was at some moment during the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockInfo {
    /// Who holds it; perhaps dead.
    pub owner: Option<Id>,
    /// Whether an owner died and nobody has said since that what it guards is whole.
    pub owner_died: bool,
    /// How often it was acquired.
    pub acquisitions: u64,
    /// How often that took waiting.
    pub contended: u64,
    /// How often it was taken over from the dead.
    pub recoveries: u64,
    /// When the first waiter for the present owner began to sleep (CLOCK_MONOTONIC, ns); 0: nobody waits.
    pub contended_since: u64,
}

impl RawLock {
    /// Makes all as it is in a new lock, but for the tag.
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

    /// Takes the lock if it is free and no owner died.
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

    /// Takes the lock, waiting for it; returns whether an owner died and nobody has said since that all is whole.
    ///
    /// `WouldBlock`, `Timeout`, `Interrupted`; what `liveness` says. The lock is held if and only if this is `Ok`.
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
        let me = me.bits();
        let nowait = options.timeout == Timeout::Immediate;
        let mut wait = Wait::new(options, spins);
        let mut waited = false;
        // WAITERS once we have slept: others may sleep as well, and the word may have lost their mark.
        let mut keep_waiters = 0;
        // STARVING once we starve.
        let mut starving = 0;
        // Whether we may take a free lock although another waiter starves: at once where we do not wait, else after one
        // sleep.
        let mut may_barge = nowait;
        loop {
            let seen = self.word.load(Ordering::Relaxed);
            let owner = Id::of(seen);
            // 1. Free: whoever swaps first has it.
            if owner.is_none() && (seen & STARVING == 0 || starving != 0 || may_barge) {
                // Another starving waiter sets the mark anew; a caller that does not wait leaves it as it is.
                let others = if nowait { STARVING } else { 0 };
                let mine = me | keep_waiters | seen & (DIED | WAITERS | others);
                if self.swap(seen, mine) {
                    if keep_waiters != 0 {
                        // We may have stamped what was free by then; nobody has slept for us.
                        self.contended_since.store(0, Ordering::Relaxed);
                    }
                    wait.record_success();
                    self.granted(waited);
                    return Ok(seen & DIED != 0);
                }
                continue;
            }
            // 2. Its owner may be just about to release it.
            if wait.spin() {
                waited = true;
                continue;
            }
            // 3. Its owner may be dead. Of several who see it one swaps; WAITERS, because somebody may sleep.
            if let Some(owner) = owner {
                let dead = match liveness.is_dead(owner) {
                    Ok(dead) => dead,
                    Err(error) => return self.give_up(keep_waiters | starving, error),
                };
                if dead {
                    if self.swap(seen, me | WAITERS | DIED) {
                        // Whoever still sleeps says so anew, at the latest after this slice.
                        self.contended_since.store(0, Ordering::Relaxed);
                        super::count(&self.recoveries);
                        self.granted(waited);
                        return Ok(true);
                    }
                    continue;
                }
            }
            // 4. It lives: we wait, as far as we may.
            if nowait {
                return Err(Error::WouldBlock("somebody else holds the lock".into()));
            }
            waited = true;
            let now = wait.look();
            if wait.is_over() {
                if owner.is_none() {
                    may_barge = true;
                    continue;
                }
                let error = Error::Timeout("the lock was not to be had in that time".into());
                return self.give_up(keep_waiters | starving, error);
            }
            if starving == 0 && keep_waiters != 0 && wait.waited() >= STARVATION_THRESHOLD_NS {
                starving = STARVING;
                continue;
            }
            // 5. Who releases must know that somebody sleeps. If the word has changed meanwhile, all begins again.
            let expected = seen | WAITERS | starving;
            if seen != expected
                && self
                    .word
                    .compare_exchange(seen, expected, Ordering::Relaxed, Ordering::Relaxed)
                    .is_err()
            {
                continue;
            }
            // The first to wait for this owner, as far as can be told; what an earlier one has left stands for nothing.
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
        // PAIRS lock.hand-over. From the dead nothing is received but what the kernel has made visible with its death.
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

    /// Returns without the lock. If we slept, a wake may have been ours: another waiter gets it. STARVING goes, so that
    /// no waiter leaves the lock to us.
    fn give_up(&self, marks: u64, error: Error) -> Result<bool> {
        if marks & STARVING != 0 {
            self.word.fetch_and(!STARVING, Ordering::Relaxed);
        }
        if marks != 0 {
            futex::wake(&self.word, 1, WaitSet::All);
        }
        Err(error)
    }

    /// Gives the lock back if it is ours, nobody waits and no owner died.
    #[inline(always)]
    pub fn try_release(&self, me: Id) -> bool {
        // PAIRS lock.hand-over
        self.word
            .compare_exchange(me.bits(), 0, Ordering::Release, Ordering::Relaxed)
            .is_ok()
    }

    /// Gives the lock back. `NotOwner`: it is free, or somebody else's.
    pub fn release(&self, me: Id) -> Result<()> {
        self.release_from(|owner| owner == me.bits())
    }

    /// Gives the lock back, whoever holds it. `NotOwner`: it is free.
    pub fn release_any(&self) -> Result<()> {
        self.release_from(|owner| owner != 0)
    }

    fn release_from(&self, may: impl Fn(u64) -> bool) -> Result<()> {
        let mut seen = self.word.load(Ordering::Relaxed);
        loop {
            if !may(seen & Id::BITS) {
                return Err(not_owner(seen));
            }
            if seen & WAITERS != 0 {
                self.contended_since.store(0, Ordering::Relaxed);
            }
            // PAIRS lock.hand-over: what we did while we held it is seen by the next owner.
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

    /// Says that what the lock guards is whole again. `NotOwner`: only its owner may say so.
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
        Err(not_owner(seen))
    }

    /// Says whether this is the owner.
    #[inline(always)]
    pub fn is_held_by(&self, me: Id) -> bool {
        self.word.load(Ordering::Relaxed) & Id::BITS == me.bits()
    }

    /// Says whether an owner died and nobody has said since that all is whole.
    pub fn owner_died(&self) -> bool {
        self.word.load(Ordering::Relaxed) & DIED != 0
    }

    /// Returns what is known of it; nobody is asked whether the owner lives.
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
fn not_owner(seen: u64) -> Error {
    let text = match Id::of(seen) {
        None => "nobody holds the lock",
        Some(_) => "the lock is held, but not by this process",
    };
    Error::NotOwner(text.into())
}
