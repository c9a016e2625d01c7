//! Once: one word that says whether something has been done, or who is doing it.
//!
//! | word         | means                                  | goes to                                                       |
//! |--------------|----------------------------------------|---------------------------------------------------------------|
//! | 0            | not done                               | me: begin                                                     |
//! | DIED         | not done, somebody died halfway        | me + DIED: begin                                              |
//! | me           | I am doing it                          | DONE: done; 0: abort; me + WAITERS: somebody begins to sleep  |
//! | me + WAITERS | I am doing it, somebody may sleep      | DONE or 0, and all are woken: done, abort                     |
//! | me + DIED …  | I am doing it, and am not the first    | as me …; abort leaves DIED                                    |
//! | dead …       | who was doing it is dead               | me + DIED …: whoever begins                                   |
//! | DONE         | done                                   | stays                                                         |
//!
//! Each arrow is one compare-and-swap of the whole word, so whoever dies is before it or behind it:
//!   begin: before it nothing has happened; behind it who does it is dead, and the next one begins again;
//!   done: likewise; behind it a wake may be lost, and sleepers look again within 12 ms;
//!   abort: likewise;
//!   wait: WAITERS stays, and done or abort wakes in vain.

use super::wait::{SpinState, Wait};
use super::{Liveness, WaitOptions};
use crate::error::{Error, Result};
use crate::participant::Id;
use crate::sys::atomic::{AtomicU64, Ordering};
use crate::sys::futex::{self, WaitSet};

/// In the word: somebody may sleep on it. It lies in the half that the futex compares.
const WAITERS: u64 = 1 << 31;
/// In the word: somebody died halfway, and it is not done yet.
const DIED: u64 = 1 << 30;
/// In the word: it is done.
const DONE: u64 = 1 << 29;

/// A once in shared memory. All zeros but `tag` is one that is not done.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct RawOnce {
    /// What it is and how it was made: `object` says how.
    pub tag: std::sync::atomic::AtomicU64,
    pub(super) word: AtomicU64,
    attempts: AtomicU64,
    recoveries: AtomicU64,
    waits: AtomicU64,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<RawOnce>() == 64);

// SAFETY: atomics, and padding that nobody looks at. (Those of loom are never found in mapped memory.)
unsafe impl crate::layout::Shared for RawOnce {}

/// What came of `begin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// It is done; what was done is seen.
    Done,
    /// It is the caller's to do, who then says `done` or `abort`.
    Mine {
        /// Somebody died halfway before: what is to be done may be half done.
        owner_died: bool,
    },
}

/// What is known of a once, each figure as it was at some moment during the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnceInfo {
    /// Whether it is done.
    pub done: bool,
    /// Who is doing it; perhaps dead.
    pub owner: Option<Id>,
    /// Whether somebody died halfway, and it is not done yet.
    pub owner_died: bool,
    /// How often it was begun.
    pub attempts: u64,
    /// How often it was taken over from the dead.
    pub recoveries: u64,
    /// How often somebody had to sleep for it.
    pub waits: u64,
}

impl RawOnce {
    /// Makes all as it is in a new once, but for the tag.
    pub fn reset(&self) {
        for field in [&self.word, &self.attempts, &self.recoveries, &self.waits] {
            field.store(0, Ordering::Relaxed);
        }
    }

    /// Says whether it is done: then what was done is seen.
    #[inline(always)]
    pub fn is_done(&self) -> bool {
        // PAIRS once.done: what was done is seen here.
        self.word.load(Ordering::Acquire) & DONE != 0
    }

    /// Begins, if it is neither done nor being done by somebody who lives; waits for who does it.
    ///
    /// `WouldBlock`, `Timeout`, `Interrupted`; what `liveness` says.
    pub fn begin(
        &self,
        me: Id,
        options: WaitOptions,
        spins: &SpinState,
        liveness: &impl Liveness,
    ) -> Result<Begun> {
        let mut wait = Wait::new(options, spins);
        let mut sleeps = false;
        loop {
            // PAIRS once.done
            let seen = self.word.load(Ordering::Acquire);
            if seen & DONE != 0 {
                wait.record_success();
                return Ok(Begun::Done);
            }
            // 1. Nobody is doing it, or somebody who may be dead. Of several who see it one swaps.
            let died = match Id::of(seen) {
                None => seen & DIED,
                Some(owner) => {
                    if wait.spin() {
                        continue;
                    }
                    match liveness.is_dead(owner)? {
                        true => DIED,
                        false => 0,
                    }
                }
            };
            if died != 0 || Id::of(seen).is_none() {
                // PAIRS once.abort. From the dead nothing is received but what the kernel has made visible with its
                // death.
                let mine = me.bits() | died | seen & WAITERS;
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
            // 2. It lives: we wait, as far as we may. Who ends it must know that somebody sleeps.
            wait.check("what another one is doing once")?;
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

    /// Says that it is done. `NotOwner`: this process is not doing it.
    pub fn done(&self, me: Id) -> Result<()> {
        self.end(me, |_| DONE)
    }

    /// Gives it back undone: the next one begins. `NotOwner`: this process is not doing it.
    pub fn abort(&self, me: Id) -> Result<()> {
        self.end(me, |seen| seen & DIED)
    }

    fn end(&self, me: Id, what: impl Fn(u64) -> u64) -> Result<()> {
        let mut seen = self.word.load(Ordering::Relaxed);
        loop {
            if seen & DONE != 0 || seen & Id::BITS != me.bits() {
                return Err(not_owner(seen));
            }
            // PAIRS once.done, once.abort: what we did is seen by whoever finds it done, or begins next.
            match self
                .word
                .compare_exchange(seen, what(seen), Ordering::Release, Ordering::Relaxed)
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

    /// Returns what is known of it; nobody is asked whether who does it lives.
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
    let text = match Id::of(seen) {
        _ if seen & DONE != 0 => "it is done already",
        None => "nobody is doing it",
        Some(_) => "another process is doing it",
    };
    Error::NotOwner(text.into())
}
