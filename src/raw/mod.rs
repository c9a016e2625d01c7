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
