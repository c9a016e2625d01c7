//! The once flag: one word that reports whether some work is done, or which process does it (pthread_once(3)).
//!
//! | word         | means                                    | goes to                                          |
//! |--------------|------------------------------------------|--------------------------------------------------|
//! | 0            | not done                                 | me: begin                                        |
//! | DIED         | not done, and an owner died halfway      | me + DIED: begin                                 |
//! | me           | I do the work                            | DONE: done; 0: abort; + WAITERS: a waiter sleeps |
//! | me + WAITERS | I do the work, and waiters may sleep     | DONE: done; 0: abort; each wakes all             |
//! | me + DIED …  | I do the work, and an owner died halfway | as me …, but abort leaves DIED                   |
//! | dead …       | its owner is dead                        | me + DIED …: the next begin                      |
//! | DONE         | done                                     | stays                                            |
//!
//! The owner is a process: its threads wait like those of other processes. DIED stays until the work is done (D-044).
//!
//! Each arrow is one compare-and-swap of the whole word, so a death comes before it or after it. If a process dies
//! * in begin: before its step nothing has happened; after it the owner is dead, and the next caller begins again;
//! * in done or abort: before its step likewise; after it a wake may be lost, and sleepers look again within 12 ms;
//! * while it waits: WAITERS stays, and done or abort makes a wake without a sleeper.

use super::wait::{SpinState, Wait};
use super::{Liveness, WaitOptions};
use crate::error::{Error, Result};
use crate::participant::Id;
use crate::sys::atomic::{AtomicU64, Ordering};
use crate::sys::futex::{self, WaitSet};

/// In the word: a waiter may sleep on it. The mark is in the half that the futex compares.
const WAITERS: u64 = 1 << 31;
/// In the word: an owner died halfway, and the work is not done yet.
const DIED: u64 = 1 << 30;
/// In the word: the work is done.
const DONE: u64 = 1 << 29;

/// A once flag in shared memory. All zeros but `tag` is one whose work is not done.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct RawOnce {
    /// The kind of the object and the options that it was created with: see `object`.
    pub tag: std::sync::atomic::AtomicU64,
    pub(super) word: AtomicU64,
    attempts: AtomicU64,
    recoveries: AtomicU64,
    waits: AtomicU64,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<RawOnce>() == 64);

// SAFETY: atomics, and padding that is never read. (Those of loom are never found in mapped memory.)
unsafe impl crate::layout::Shared for RawOnce {}

/// The result of `begin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// The work is done, and its stores are visible.
    Done,
    /// The caller does the work, then calls `done` or `abort`.
    Mine {
        /// An owner died halfway before: the work may be half done.
        owner_died: bool,
    },
}

/// The state of a once flag. Each figure was true at some moment during the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnceInfo {
    /// Whether the work is done.
    pub done: bool,
    /// The owner, perhaps a dead process.
    pub owner: Option<Id>,
    /// Whether an owner died halfway, and the work is not done yet.
    pub owner_died: bool,
    /// The number of times that a caller became the owner.
    pub attempts: u64,
    /// The number of times that a caller took over from a dead owner.
    pub recoveries: u64,
    /// The number of waits that had to sleep.
    pub waits: u64,
}

impl RawOnce {
    /// Stores the state of a new once flag in all fields but the tag.
    pub fn reset(&self) {
        for field in [&self.word, &self.attempts, &self.recoveries, &self.waits] {
            field.store(0, Ordering::Relaxed);
        }
    }

    /// Returns whether the work is done; then its stores are visible.
    #[inline(always)]
    pub fn is_done(&self) -> bool {
        // PAIRS once.done: the stores of the work are seen here.
        self.word.load(Ordering::Acquire) & DONE != 0
    }

    /// Makes the caller the owner if the work is neither done nor in progress; waits for a live owner.
    ///
    /// `WouldBlock`, `Timeout`, `Interrupted`, `Forked`; errors of `liveness`.
    pub fn begin(
        &self,
        me: Id,
        options: WaitOptions,
        spins: &SpinState,
        liveness: &impl Liveness,
    ) -> Result<Begun> {
        let mut wait = Wait::new(options, spins, liveness.origin(me));
        let mut sleeps = false;
        loop {
            // PAIRS once.done
            let seen = self.word.load(Ordering::Acquire);
            if seen & DONE != 0 {
                wait.record_success();
                return Ok(Begun::Done);
            }
            // 1. There is no owner, or the owner may be dead. Of several callers that see it, one swaps.
            let died = match Id::of(seen) {
                None => seen & DIED,
                Some(owner) => {
                    if wait.spin() {
                        continue;
                    }
                    match liveness.is_dead(owner, liveness.origin(me))? {
                        true => DIED,
                        false => 0,
                    }
                }
            };
            if died != 0 || Id::of(seen).is_none() {
                // PAIRS once.abort. A dead owner has released nothing; the kernel made its stores visible when it died.
                let mine = me.bits() | died | seen & WAITERS;
                wait.check_origin()?;
                if self
                    .word
                    .compare_exchange(seen, mine, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
                {
                    super::count(&self.attempts);
                    if Id::of(seen).is_some() {
                        super::count(&self.recoveries);
                    }
                    return Ok(Begun::Mine {
                        owner_died: died != 0,
                    });
                }
                continue;
            }
            // 2. The owner is alive: wait, if the caller may. The owner must see that a waiter sleeps.
            wait.check("another caller does the work of the once flag")?;
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

    /// Marks the work as done. `NotOwner`: this process is not the owner.
    pub fn done(&self, me: Id) -> Result<()> {
        self.end(me, |_| DONE)
    }

    /// Leaves the work undone: the next caller begins it. `NotOwner`: this process is not the owner.
    pub fn abort(&self, me: Id) -> Result<()> {
        self.end(me, |seen| seen & DIED)
    }

    fn end(&self, me: Id, new: impl Fn(u64) -> u64) -> Result<()> {
        let mut seen = self.word.load(Ordering::Relaxed);
        loop {
            if seen & DONE != 0 || seen & Id::BITS != me.bits() {
                return Err(not_owner(seen));
            }
            // PAIRS once.done, once.abort: callers that find the work done, and the next owner, see what this owner
            // did.
            match self
                .word
                .compare_exchange(seen, new(seen), Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        if seen & WAITERS != 0 {
            futex::wake(&self.word, i32::MAX, WaitSet::All);
        }
        Ok(())
    }

    /// Returns the state of the once flag; whether the owner is alive is not checked.
    pub fn stat(&self) -> OnceInfo {
        let word = self.word.load(Ordering::Relaxed);
        let done = word & DONE != 0;
        OnceInfo {
            done,
            owner: Id::of(word).filter(|_| !done),
            owner_died: word & DIED != 0 && !done,
            attempts: self.attempts.load(Ordering::Relaxed),
            recoveries: self.recoveries.load(Ordering::Relaxed),
            waits: self.waits.load(Ordering::Relaxed),
        }
    }
}

#[cold]
fn not_owner(seen: u64) -> Error {
    let fact = match Id::of(seen) {
        _ if seen & DONE != 0 => "the work of the once flag is done already",
        None => "no process does the work of the once flag",
        Some(_) => "another process does the work of the once flag",
    };
    let text = format!("{fact}: finish only work that this process began");
    Error::NotOwner(text.into())
}
