//! Synchronisation: words in shared memory by which processes wait for each other, and what changes them. They know no
//! segment and no handle.
//!
//! Whoever calls brings its own id and an answer to "is this one dead?".

pub mod barrier;
pub mod condition;
pub mod count_slot;
pub mod event;
#[cfg(all(test, not(loom)))]
mod fairness;
pub mod lock;
#[cfg(all(loom, test))]
mod model;
pub mod once;
pub mod queue;
pub mod rlock;
pub mod rwlock;
pub mod semaphore;
pub mod undo;
pub mod wait;

use crate::error::Result;
use crate::sys::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Tells who is dead.
pub trait Liveness {
    /// Says whether the participant with this id has ended. Never true for one that lives.
    fn is_dead(&self, id: crate::participant::Id) -> Result<bool>;
}

/// How a call waits: how long, and whether the interrupt hook may end it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitOptions {
    /// When the wait ends without success.
    pub timeout: Timeout,
    /// Whether the interrupt hook may end the wait.
    pub interruptible: bool,
}

/// When a wait ends without success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeout {
    /// At once: the call never sleeps.
    Immediate,
    /// When this time has passed.
    After(Duration),
    /// Never.
    Never,
}

impl WaitOptions {
    /// Waits without a timeout; signals do not end the wait.
    pub const BLOCKING: WaitOptions = WaitOptions {
        timeout: Timeout::Never,
        interruptible: false,
    };
    /// Does not wait.
    pub const NONBLOCKING: WaitOptions = WaitOptions {
        timeout: Timeout::Immediate,
        interruptible: false,
    };

    /// Waits at most this long; signals do not end the wait.
    pub const fn after(time: Duration) -> WaitOptions {
        WaitOptions {
            timeout: Timeout::After(time),
            interruptible: false,
        }
    }
}

/// Returns a time in nanoseconds, as clocks count; `u64::MAX` for 584 years and more.
pub(crate) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Counts without an atomic step: only who holds what the figure is about does it.
#[inline(always)]
fn count(field: &AtomicU64) {
    field.store(
        field.load(Ordering::Relaxed).wrapping_add(1),
        Ordering::Relaxed,
    );
}
