//! Conditions: a thread that holds a lock waits, without it, until another one that holds it notifies.
//!
//! `sync::condition` has the states and what changes them; here a condition gets its place and its waiters' identity. The
//! lock is any `Lock` or `RLock`, in the same segment or in another one, but always the same one.
//!
//! ```
//! use shmkit::condition::{Condition, Options, WaitOptions};
//! use shmkit::lock::{self, Lock};
//!
//! # fn main() -> shmkit::error::Result<()> {
//! let lock = Lock::unnamed(&lock::Options::default())?;
//! let condition = Condition::unnamed(&Options::default())?;
//! let ready = std::cell::Cell::new(true); // in shared memory, for one
//! let guard = lock.lock()?;
//! while !ready.get() {
//!     let waited = condition.wait(&lock, WaitOptions::BLOCKING)?;
//!     if waited.recovered {
//!         // The lock's last owner died: make whole what it guards.
//!         guard.mark_consistent()?;
//!     }
//! }
//! condition.notify_all(&lock)?;
//! # Ok(())
//! # }
//! ```

use super::lock::Lock;
pub use super::lock::{Create, Named, Timeout, WaitOptions};
use super::rlock::RLock;
use super::{Object, Placed, Recipe, Tag, place};
use crate::error::{Error, Result};
use crate::layout::Kind;
use crate::raw::condition as core;
use crate::raw::condition::{Cell, Words};
pub use crate::raw::condition::{End, Mutex, Stat, Waited};
use crate::raw::wait::Spins;
use crate::segment::Segment;
use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// How many threads may wait at a time, unless asked otherwise.
pub const DEFAULT_CELLS: u32 = 128;
/// How many may at the most.
pub const MOST_CELLS: u32 = 4096;

impl Object for Words {
    type Cell = Cell;

    fn tag(&self) -> &AtomicU64 {
        &self.tag
    }
}

impl Mutex for Lock {
    fn is_held(&self) -> bool {
        Lock::is_held(self)
    }

    fn number(&self) -> u64 {
        Lock::number(self)
    }

    fn release_all(&self) -> Result<u64> {
        self.release().map(|()| 1)
    }

    fn acquire_all(&self, _depth: u64) -> Result<bool> {
        self.acquire(WaitOptions::BLOCKING)
    }
}

impl Mutex for RLock {
    fn is_held(&self) -> bool {
        self.depth() > 0
    }

    fn number(&self) -> u64 {
        RLock::number(self)
    }

    fn release_all(&self) -> Result<u64> {
        RLock::release_all(self)
    }

    fn acquire_all(&self, depth: u64) -> Result<bool> {
        RLock::acquire_all(self, depth)
    }
}

/// How a condition is made. `Options::default()` is what most want.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How many threads may wait at a time, 1 to 4096; 0: 128.
    pub cells: u32,
    /// How a named one is made and opened.
    pub named: Named,
}

impl Options {
    fn recipe(&self) -> Result<Recipe<'static, Words>> {
        let cells = match self.cells {
            0 => DEFAULT_CELLS,
            count @ 1..=MOST_CELLS => count,
            count => {
                return Err(Error::Invalid(
                    format!("{count} cells: a condition has 1 to {MOST_CELLS}").into(),
                ));
            }
        };
        Ok(Recipe::new(
            Tag {
                kind: Kind::Condition,
                flags: 0,
                cells: cells as u16,
            },
            &|words, cells| words.clear(cells),
        ))
    }

    /// Returns how many bytes such a condition takes in a segment.
    pub fn size(&self) -> Result<u64> {
        Ok(self.recipe()?.tag.size::<Words>())
    }
}

/// A condition of which this process has a handle.
pub struct Condition {
    placed: Placed<Words>,
    spins: Spins,
}

impl Condition {
    fn new(placed: Placed<Words>) -> Result<Condition> {
        let cells = placed.cells().len();
        if cells > MOST_CELLS as usize {
            return Err(Error::Corrupt(
                format!("a condition that says it has {cells} cells").into(),
            ));
        }
        Ok(Condition {
            placed,
            spins: Spins::default(),
        })
    }

    /// As `Lock::unnamed`.
    pub fn unnamed(options: &Options) -> Result<Condition> {
        Placed::unnamed(&options.recipe()?).and_then(Condition::new)
    }

    /// As `Lock::named`: the file holds the condition alone. Its lock stands elsewhere; `unlink` leaves it its name.
    pub fn named(name: &CStr, create: Create, options: &Options) -> Result<Condition> {
        Placed::in_file(name, &options.recipe()?, create, &options.named).and_then(Condition::new)
    }

    /// As `Lock::at`.
    pub fn at(
        segment: &Arc<Segment>,
        offset: u64,
        create: Create,
        options: &Options,
    ) -> Result<Condition> {
        Placed::at(segment, offset, &options.recipe()?, create).and_then(Condition::new)
    }

    /// As `Lock::open_fd`.
    pub fn open_fd(fd: i32, offset: u64, options: &Options) -> Result<Condition> {
        Placed::open_fd(fd, offset, &options.recipe()?, &options.named).and_then(Condition::new)
    }

    fn core(&self) -> core::Condition<'_> {
        core::Condition {
            words: self.placed.words(),
            cells: self.placed.cells(),
        }
    }

    /// Gives `mutex` back, which the caller holds, waits until it is notified, and takes it again, as often as before.
    ///
    /// The lock is held again whatever this returns but `NotOwner`: the caller did not hold it, or it is not to be had
    /// again (`Detached`). `Invalid`: another lock than the one with which the condition was used first. `Participants`:
    /// as many threads as it has cells wait already, or this process cannot become a participant of its segment.
    /// `Corrupt`: its bytes contradict themselves. Taking the lock again is bounded by no time, and nothing interrupts it.
    pub fn wait(&self, mutex: &(impl Mutex + ?Sized), options: WaitOptions) -> Result<Waited> {
        // Who does not hold the lock is told so first.
        self.core().check(mutex)?;
        let me = self.placed.id()?;
        let life = &**self.placed.segment();
        self.core().wait(me, mutex, options, &self.spins, life)
    }

    /// Notifies the `count` threads that have waited longest, or as many as wait; the dead are skipped.
    ///
    /// They return once they have the lock, which the caller holds. `NotOwner`: it does not. `Invalid`: as for `wait`.
    pub fn notify(&self, mutex: &(impl Mutex + ?Sized), count: u64) -> Result<()> {
        self.core().notify(count, mutex, &**self.placed.segment())
    }

    /// Notifies all threads that wait; otherwise as `notify`.
    pub fn notify_all(&self, mutex: &(impl Mutex + ?Sized)) -> Result<()> {
        self.notify(mutex, u64::MAX)
    }

    /// Returns what is known of it; nobody is asked who lives.
    pub fn stat(&self) -> Stat {
        self.core().stat()
    }
}

place!(Condition);
