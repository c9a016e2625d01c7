//! Waiting: a while of spinning, then slices of sleep, until the time is over or the caller is interrupted.
//!
//! A waiter looks at what it waits for, and then calls one of these; after each return it looks again. A wake that was
//! lost to a kill costs one slice, and between two slices the waiter asks whether the owner has died.

use super::{Timeout, WaitOptions};
use crate::error::{Error, Result};
use crate::sys::atomic::{AtomicU64, spin_loop};
use crate::sys::futex::{self, WaitSet, WakeReason};
use crate::sys::{clock, interrupt, process};
use std::time::Duration;

/// The first slice; each is twice as long as the one before, up to `MAX_SLICE_NS`. After each the waiter checks the
/// word and whether the owner lives, whatever wakes were lost. 12 ms cost 0.2 % of a core; with the kernel's own time a
/// waiter has the lock of a dead owner within 20 ms.
const FIRST_SLICE_NS: u64 = 1_000_000;
const MAX_SLICE_NS: u64 = 12_000_000;

/// How many pauses of the processor a waiter makes before it sleeps, at the most: about what a wake across cores costs.
const MAX_SPINS: u64 = 1000;
/// How many where the caller expects the end soon, because another process is at work on it: about a copy of 2 MiB.
const MAX_SPINS_WHEN_EXPECTED: u64 = 4 * MAX_SPINS;
/// How many between two looks, at the most. Each look takes the word's line away from the owner: with few of
/// them an owner that comes again finds everything in its own cache; more would make hand-overs late.
const MAX_PAUSES_PER_LOOK: u64 = 16;

/// Every so manieth eager wait that has ended in a sleep is followed by one that spins as long as it may. Two waiters
/// that wait for each other and both sleep go on sleeping, because a wake takes longer than they spin; one that spins
/// ends that.
const SPIN_RETRY_INTERVAL: u64 = 8;

/// How long recent waits of this process took: for one cause of one handle, not shared.
#[derive(Debug, Default)]
pub struct SpinState {
    /// The moving average of pauses before the waits ended without a sleep.
    average: std::sync::atomic::AtomicU64,
    /// How many eager waits have ended in a sleep.
    sleeps: std::sync::atomic::AtomicU64,
}

impl SpinState {
    fn limit(&self) -> u64 {
        if process::processors() < 2 || cfg!(loom) {
            return 0;
        }
        (2 * self.average.load(std::sync::atomic::Ordering::Relaxed) + 100).min(MAX_SPINS)
    }

    fn record_success(&self, spins: u64) {
        let old = self.average.load(std::sync::atomic::Ordering::Relaxed);
        let new = (old * 7 + spins) / 8;
        self.average
            .store(new, std::sync::atomic::Ordering::Relaxed);
    }

    fn record_sleep(&self) {
        self.sleeps
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }

    fn retries_spinning(&self) -> bool {
        self.sleeps.load(std::sync::atomic::Ordering::Relaxed) % SPIN_RETRY_INTERVAL
            == SPIN_RETRY_INTERVAL - 1
    }
}

/// What the clock says, in nanoseconds of CLOCK_MONOTONIC.
#[derive(Clone, Copy)]
struct Times {
    began: u64,
    now: u64,
    deadline: u64,
}

/// One wait, from its first look to its end.
pub struct Wait<'a> {
    options: WaitOptions,
    spins: &'a SpinState,
    /// How many pauses we make before we sleep, have made, and make before the next look.
    limit: u64,
    spun: u64,
    pauses: u64,
    eager: bool,
    slept: bool,
    /// As of the last look at the clock; none before the first.
    times: Option<Times>,
    slice: u64,
}

impl<'a> Wait<'a> {
    /// Begins to wait; the clock is read only when there is reason to sleep.
    pub fn new(options: WaitOptions, spins: &'a SpinState) -> Wait<'a> {
        Wait {
            options,
            spins,
            limit: match options.timeout {
                Timeout::Immediate => 0,
                Timeout::After(_) | Timeout::Never => spins.limit(),
            },
            spun: 0,
            pauses: 1,
            eager: false,
            slept: false,
            times: None,
            slice: FIRST_SLICE_NS,
        }
    }

    /// Makes it eager: it looks as often as it can. For what is passed to and fro, and nobody works on meanwhile.
    pub fn eager(self) -> Wait<'a> {
        let limit = match self.limit > 0 && self.spins.retries_spinning() {
            true => MAX_SPINS,
            false => self.limit,
        };
        Wait {
            eager: true,
            limit,
            ..self
        }
    }

    /// Looks longer before it sleeps: the caller sees somebody at work on what it waits for.
    pub fn expect_soon(&mut self) {
        if self.limit > 0 {
            self.limit = MAX_SPINS_WHEN_EXPECTED;
        }
    }

    /// Lets a moment pass without sleeping; false, at once, when there have been enough of them.
    pub fn spin(&mut self) -> bool {
        if self.spun >= self.limit {
            return false;
        }
        for _ in 0..self.pauses {
            spin_loop();
        }
        self.spun += self.pauses;
        if !self.eager {
            self.pauses = (2 * self.pauses).min(MAX_PAUSES_PER_LOOK);
        }
        true
    }

    /// Records, when what we waited for has come, how long that took; a wait with a sleep says nothing.
    pub fn record_success(&self) {
        if self.limit > 0 && !self.slept {
            self.spins.record_success(self.spun.min(MAX_SPINS));
        }
        if self.eager && self.slept {
            self.spins.record_sleep();
        }
    }

    fn times(&mut self) -> Times {
        let now = clock::monotonic();
        let times = match self.times {
            Some(times) => Times { now, ..times },
            None => Times {
                began: now,
                now,
                deadline: match self.options.timeout {
                    Timeout::Immediate => now,
                    Timeout::After(time) => now.saturating_add(super::nanoseconds(time)),
                    Timeout::Never => u64::MAX,
                },
            },
        };
        self.times = Some(times);
        times
    }

    /// Looks at the clock, and returns it.
    pub fn look(&mut self) -> u64 {
        self.times().now
    }

    /// Says whether the time was over at the last look at the clock.
    pub fn is_over(&self) -> bool {
        self.times.is_some_and(|times| times.now >= times.deadline)
    }

    /// Returns the nanoseconds from the first look at the clock to the last.
    pub fn waited(&self) -> u64 {
        self.times
            .map_or(0, |times| times.now.saturating_sub(times.began))
    }

    /// Returns how a wait goes on after the last look at the clock: the timeout is what is left.
    pub fn rest(&self) -> WaitOptions {
        let timeout = match (self.options.timeout, self.times) {
            (Timeout::After(_), Some(times)) => Timeout::After(Duration::from_nanos(
                times.deadline.saturating_sub(times.now),
            )),
            (timeout, _) => timeout,
        };
        WaitOptions {
            timeout,
            ..self.options
        }
    }

    /// Sleeps while the lower half of `word` is that of `expected`, until a wake, for one slice, or until the time is
    /// over. `Interrupted`: the hook says so.
    pub fn sleep(&mut self, word: &AtomicU64, expected: u64, set: WaitSet) -> Result<WakeReason> {
        let times = match self.times {
            Some(times) => times,
            None => self.times(),
        };
        let until = times.deadline.min(times.now.saturating_add(self.slice));
        let reason = futex::wait(word, expected, until, set);
        self.slept = true;
        self.slice = (2 * self.slice).min(MAX_SLICE_NS);
        if reason != WakeReason::Changed {
            interrupt::ask(self.options.interruptible)?;
        }
        Ok(reason)
    }

    /// Waits once more for `what`: sleeps as `sleep` does. Then the caller looks again. Errors as of `check` and `sleep`.
    pub fn wait_slice(&mut self, word: &AtomicU64, expected: u64, what: &str) -> Result<()> {
        self.check(what)?;
        self.sleep(word, expected, WaitSet::Normal).map(drop)
    }

    /// Asks the hook, where there was no sleep that did. `Interrupted`: it says so.
    pub fn ask(&self) -> Result<()> {
        interrupt::ask(self.options.interruptible)
    }

    /// Refuses to wait any longer for `what`. `WouldBlock`: it may not wait at all. `Timeout`: the time is over.
    pub fn check(&mut self, what: &str) -> Result<()> {
        if self.options.timeout == Timeout::Immediate {
            return Err(Error::WouldBlock(format!("{what}: not at once").into()));
        }
        self.look();
        if self.is_over() {
            return Err(Error::Timeout(format!("{what}: not in that time").into()));
        }
        Ok(())
    }
}
