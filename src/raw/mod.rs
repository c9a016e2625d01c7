//! Algorithms on words in shared memory. They know no segment and no handle: the caller brings its own id, and an
//! implementation of [`Liveness`] that answers whether another participant is dead.
//!
//! Terms that are used here, in comments and in names:
//!
//! | term | meaning |
//! |------|---------|
//! | participant | a process that is attached to a managed segment and has an id in it |
//! | ticket | the number of a participant: drawn once per process and segment, never used again |
//! | slot | the place of a participant in the table of its segment; an id is a ticket and a slot in one word |
//! | word | an atomic integer of 64 bits in shared memory; a futex compares its lower half |
//! | cell | a few words behind a raw object, for one participant or thread: count slot, waiter cell, party cell |
//! | count slot | a cell that says how often one participant holds the object |
//! | mark | a flag bit of a word beside the owner's id, such as WAITERS, DIED or STARVING |
//! | slice | one bounded sleep of a waiter, at most 12 ms: after each slice the waiter checks word and owner again |
//! | spin state | how long recent waits took: one per handle and cause, never shared |
//! | handle state | what one handle remembers of an object to be fast: spin states and hints, never shared |
//! | liveness | whether a participant has ended, as the kernel tells by a byte lock (`participant`) |
//! | position | of the queue: a byte count that only grows, lap and offset in one number, and wraps around at 2^64 |
//! | lap | of the queue: one pass of positions over the ring |
//! | head | of the queue: the first record that is still needed; before it the ring is free |
//! | claim | of the queue: the next record to be taken; between head and claim records are leased or done |
//! | tail | of the queue: the end of the last record, where the next one is put |
//! | wrap | of the queue: the PAD record at which the last lap ended |
//! | reservation | of the queue: a record that its producer fills in place |
//! | lease | of the queue: a record that its consumer reads in place |
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

/// Tells who is dead.
pub trait Liveness {
    /// Says whether the participant with this id has ended. Never true for one that lives.
    fn is_dead(&self, id: crate::participant::Id) -> Result<bool>;
}

/// How long to wait, and who may end it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How long.
    pub limit: Limit,
    /// Whether the interrupt hook may end it.
    pub interruptible: bool,
}

/// How long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Not at all.
    Now,
    /// So many nanoseconds.
    Within(u64),
    /// Until it is there.
    Forever,
}

impl Patience {
    /// For ever, whatever signals come.
    pub const ENDLESS: Patience = Patience {
        limit: Limit::Forever,
        interruptible: false,
    };
    /// Not at all.
    pub const NONE: Patience = Patience {
        limit: Limit::Now,
        interruptible: false,
    };
}

/// Counts without an atomic step: only who holds what the figure is about does it.
#[inline(always)]
fn count(field: &AtomicU64) {
    field.store(
        field.load(Ordering::Relaxed).wrapping_add(1),
        Ordering::Relaxed,
    );
}
