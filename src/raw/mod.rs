//! Algorithms on words in shared memory. They know no segment and no handle: the caller brings its own id, and an
//! implementation of [`Liveness`] that reports whether another participant is dead.
//!
//! Terms that are used here, in comments and in names:
//!
//! | term | meaning |
//! |------|---------|
//! | participant | a process with an identity in a managed segment |
//! | ticket | the number of a participant: drawn once per process and segment, never used again |
//! | slot | an entry of the participant table of a segment; an id is a ticket and a slot in one word |
//! | word | an atomic integer of 64 bits in shared memory; a futex compares its lower half |
//! | cell | a few words behind a raw object, for one participant or thread: count slot, waiter cell, party cell |
//! | count slot | a cell with the number of times that one participant holds the object |
//! | mark | a flag bit of a word beside the owner's id, such as WAITERS, DIED or STARVING |
//! | slice | one bounded sleep of a waiter, at most 12 ms: after each slice the waiter checks word and owner again |
//! | spin state | how long recent waits took: one per handle and cause, never shared |
//! | handle state | what one handle remembers of an object to be fast: spin states and hints, never shared |
//! | liveness | whether a participant has ended; the kernel reports it by a byte lock (`participant`) |
//! | position | of the queue: a byte count that only grows, lap and offset in one number, and wraps around at 2^64 |
//! | lap | of the queue: one pass of positions over the ring |
//! | head | of the queue: the first record that is still needed; before it the ring is free |
//! | claim | of the queue: the next record to be taken; between head and claim records are leased or done |
//! | tail | of the queue: the end of the last record, where the next one is put |
//! | wrap | of the queue: the PAD record at which the last lap ended |
//! | reservation | of the queue: a record that its producer fills in place |
//! | lease | of the queue: a record that its consumer reads in place |
//!
//! The state tables at the top of the files have these words:
//!
//! | word | meaning |
//! |------|---------|
//! | me | the id of a live process, which performs the operation |
//! | dead | the id of a dead process |
//! | … | any marks, or those of the state before |
//! | goes to | the possible next states, each with the operation that stores it |
//!
//! `PAIRS label` at an atomic access names the accesses in other places that it synchronizes with.

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
use crate::sys::fork::Origin;
use std::time::Duration;

/// Reports which participants are dead.
pub trait Liveness {
    /// Returns whether the participant with this id has ended. Never true for a live participant.
    ///
    /// `Forked`: `origin`, which began the call, is an ancestor of this process. The caller returns this error, and
    /// touches nothing shared.
    fn is_dead(&self, id: crate::participant::Id, origin: Origin) -> Result<bool>;

    /// Returns the process that has the id `me`, which is the caller's.
    fn origin(&self, me: crate::participant::Id) -> Origin;
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

/// Adds 1 without an atomic step: only the process that holds what the field describes may call it.
#[inline(always)]
fn count(field: &AtomicU64) {
    field.store(
        field.load(Ordering::Relaxed).wrapping_add(1),
        Ordering::Relaxed,
    );
}
