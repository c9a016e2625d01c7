//! Waiting: spinning first, then slices of sleep, until the time is over or the hook interrupts the caller.
//!
//! A waiter looks at the word that it waits for, calls a function of this file, and looks again after each return. A
//! wake that was lost to a kill costs one slice. Between two slices the waiter checks whether the owner has died.

use super::{Timeout, WaitOptions};
use crate::error::{Error, Result};
use crate::sys::atomic::{AtomicU64, spin_loop};
use crate::sys::fork::Origin;
use crate::sys::futex::{self, WaitSet, WakeReason};
use crate::sys::thread::CancelGuard;
use crate::sys::{clock, interrupt, process};
use std::time::Duration;

/// The first slice; each is twice as long as the one before, up to `MAX_SLICE_NS`. After each the waiter checks the
/// word and whether the owner lives, whatever wakes were lost. 12 ms cost 0.2 % of a core. With the kernel's own time,
/// a waiter has the lock of a dead owner within 20 ms.
const FIRST_SLICE_NS: u64 = 1_000_000;
const MAX_SLICE_NS: u64 = 12_000_000;

/// The most pauses of the processor that a waiter makes before it sleeps: about what a wake across cores costs.
const MAX_SPINS: u64 = 1000;
/// The same, if the caller expects the end soon because another process is at work on it: about a copy of 2 MiB
/// (D-059).
const MAX_SPINS_WHEN_EXPECTED: u64 = 4 * MAX_SPINS;
/// The most pauses between two looks. Each look takes the word's cache line away from the owner. With few looks an
/// owner that acquires again finds everything in its own cache; longer pauses would make hand-overs late (D-032).
const MAX_PAUSES_PER_LOOK: u64 = 16;

/// After this many eager waits that ended in a sleep, the next one spins as long as it may. Two waiters that wait for
/// each other and both sleep would go on sleeping, because a wake takes longer than they spin. A waiter that spins ends
/// that (D-033).
const SPIN_RETRY_INTERVAL: u64 = 8;

/// How long recent waits of this process took: for one cause of one handle, not shared.
#[derive(Debug, Default)]
pub struct SpinState {
    /// The moving average of pauses in waits that ended without a sleep.
    average: std::sync::atomic::AtomicU64,
    /// The number of eager waits that ended in a sleep.
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

/// Readings of the clock, in nanoseconds of CLOCK_MONOTONIC.
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
    /// The process that waits.
    origin: Origin,
    /// The pauses that this wait may make before it sleeps, has made, and makes before the next look.
    limit: u64,
    spun: u64,
    pauses: u64,
    eager: bool,
    slept: bool,
    /// The last reading of the clock; none before the first.
    times: Option<Times>,
    slice: u64,
}

impl<'a> Wait<'a> {
    /// Begins to wait; the clock is read only when there is reason to sleep.
    pub fn new(options: WaitOptions, spins: &'a SpinState, origin: Origin) -> Wait<'a> {
        Wait {
            options,
            spins,
            origin,
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

    /// Makes the wait eager: it looks as often as it can. For words that no process works on during the wait (D-033).
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

    /// Spins longer before it sleeps: the caller sees a process at work on what it waits for (D-059).
    pub fn expect_soon(&mut self) {
        if self.limit > 0 {
            self.limit = MAX_SPINS_WHEN_EXPECTED;
        }
    }

    /// `Forked`: this is a child that was forked since the wait began.
    pub fn check_origin(&self) -> Result<()> {
        self.origin.check()
    }

    /// Spins for a moment; returns false at once when the wait has spun long enough.
    ///
    /// A signal handler may fork meanwhile: before the caller takes anything, it calls `check_origin`.
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

    /// Records how long a successful wait took. A wait with a sleep does not count.
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

    /// Reads the clock, and returns its time.
    pub fn look(&mut self) -> u64 {
        self.times().now
    }

    /// Returns whether the time was over when the clock was last read.
    pub fn is_over(&self) -> bool {
        self.times.is_some_and(|times| times.now >= times.deadline)
    }

    /// Returns the nanoseconds from the first reading of the clock to the last.
    pub fn waited(&self) -> u64 {
        self.times
            .map_or(0, |times| times.now.saturating_sub(times.began))
    }

    /// Returns the options for the rest of the wait: the timeout is what was left at the last reading of the clock.
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
    /// over.
    ///
    /// `Interrupted`: the interrupt hook ended the wait. `Forked`: this is a child that was forked during the sleep or
    /// in the hook.
    pub fn sleep(&mut self, word: &AtomicU64, expected: u64, set: WaitSet) -> Result<WakeReason> {
        let times = match self.times {
            Some(times) => times,
            None => self.times(),
        };
        let until = times.deadline.min(times.now.saturating_add(self.slice));
        // A signal handler may call a cancellation point.
        let cancel = CancelGuard::new();
        let reason = futex::wait(word, expected, until, set);
        drop(cancel);
        self.origin.check()?;
        self.slept = true;
        self.slice = (2 * self.slice).min(MAX_SLICE_NS);
        if reason != WakeReason::Changed {
            self.ask()?;
        }
        Ok(reason)
    }

    /// Checks as `check` does, then sleeps as `sleep` does; the caller looks again. Errors of both.
    pub fn wait_slice(&mut self, word: &AtomicU64, expected: u64, state: &str) -> Result<()> {
        self.check(state)?;
        self.sleep(word, expected, WaitSet::Normal).map(drop)
    }

    /// Asks the interrupt hook. Errors as of `sleep`.
    pub fn ask(&self) -> Result<()> {
        let _cancel = CancelGuard::new();
        interrupt::ask(self.options.interruptible, self.origin)
    }

    /// Fails if the caller may not wait any longer; `state` is the state that it waits to end, as a sentence.
    ///
    /// `WouldBlock`: the caller may not wait at all. `Timeout`: the time is over.
    pub fn check(&mut self, state: &str) -> Result<()> {
        if self.options.timeout == Timeout::Immediate {
            return Err(Error::WouldBlock(state.to_owned().into()));
        }
        self.look();
        if self.is_over() {
            return Err(Error::Timeout(format!("timed out: {state}").into()));
        }
        Ok(())
    }
}
