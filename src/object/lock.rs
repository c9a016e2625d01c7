//! Locks: mutual exclusion between processes, and between threads of one, that survives the death of its owner.
//!
//! `sync::lock` has the states and what changes them; here a lock gets its place and its owner's identity.
//!
//! ```
//! use shmkit::lock::{Lock, Options};
//!
//! # fn main() -> shmkit::error::Result<()> {
//! let lock = Lock::unnamed(&Options::default())?;
//! {
//!     let guard = lock.lock()?;
//!     if guard.recovered() {
//!         // Its last owner died: make whole what the lock guards.
//!         guard.mark_consistent()?;
//!     }
//! } // released
//! # Ok(())
//! # }
//! ```

pub use super::{Create, Named};
use super::{NoCell, Object, Placed, Recipe, Tag, place};
use crate::error::Result;
use crate::layout::Kind;
use crate::participant::Person;
pub use crate::raw::lock::Stat;
use crate::raw::lock::Words;
use crate::raw::wait::Spins;
pub use crate::raw::{Timeout, WaitOptions};
use crate::segment::Segment;
use std::ffi::CStr;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

impl Object for Words {
    type Cell = NoCell;

    fn tag(&self) -> &AtomicU64 {
        &self.tag
    }
}

/// Makes a new lock of either kind.
pub(crate) const fn recipe(tag: Tag) -> Recipe<'static, Words> {
    Recipe::new(tag, &|words, _| words.clear())
}

/// How a lock is made. `Options::default()` is what most want.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Any process may release it, not the owner alone.
    pub transferable: bool,
    /// How a named one is made and opened.
    pub named: Named,
}

impl Options {
    fn recipe(&self) -> Recipe<'static, Words> {
        recipe(Tag {
            kind: Kind::Lock,
            flags: if self.transferable { TRANSFERABLE } else { 0 },
            cells: 0,
        })
    }
}

/// In the tag: any process may release it.
const TRANSFERABLE: u16 = 1;

/// A lock of which this process has a handle.
pub struct Lock {
    placed: Placed<Words>,
    spins: Spins,
    transferable: bool,
}

impl Lock {
    /// How many bytes one takes in a segment.
    pub const SIZE: u64 = size_of::<Words>() as u64;

    fn new(placed: Placed<Words>) -> Lock {
        Lock {
            transferable: placed.flags() & TRANSFERABLE != 0,
            placed,
            spins: Spins::default(),
        }
    }

    /// Makes one without a name: threads and children have it, and whoever is handed its descriptor and place.
    pub fn unnamed(options: &Options) -> Result<Lock> {
        Placed::unnamed(&options.recipe()).map(Lock::new)
    }

    /// Makes or finds the lock of this name: a file that holds it alone.
    pub fn named(name: &CStr, create: Create, options: &Options) -> Result<Lock> {
        Placed::in_file(name, &options.recipe(), create, &options.named).map(Lock::new)
    }

    /// Makes or finds the lock at `offset` of the data of a full segment.
    ///
    /// `WrongKind`: something else stands there, or the segment is plain. `Invalid`: not a multiple of 64, not inside,
    /// or it was made with other options.
    pub fn at(
        segment: &Arc<Segment>,
        offset: u64,
        create: Create,
        options: &Options,
    ) -> Result<Lock> {
        Placed::at(segment, offset, &options.recipe(), create).map(Lock::new)
    }

    /// Returns the lock that every full segment has. `WrongKind`: a plain one.
    pub fn of(segment: &Arc<Segment>) -> Result<Lock> {
        let words = NonNull::from(segment.built_in_lock()?);
        Placed::known(segment.clone(), words).map(Lock::new)
    }

    /// Finds the lock that was handed over: a descriptor, and the place that `offset` said where it comes from.
    pub fn open_fd(fd: i32, offset: u64, options: &Options) -> Result<Lock> {
        Placed::open_fd(fd, offset, &options.recipe(), &options.named).map(Lock::new)
    }

    /// Takes the lock, waiting for it; returns whether an owner died and `mark_consistent` has not been called since.
    ///
    /// It is held if and only if this is `Ok`. `WouldBlock`, `Timeout`, `Interrupted`: it is not. `Participants`,
    /// `Detached`, `Permission`, `Corrupt`: this process cannot be an owner, or nobody can tell whether the owner lives.
    #[inline(always)]
    pub fn acquire(&self, options: WaitOptions) -> Result<bool> {
        match self.acquire_fast() {
            true => Ok(false),
            false => self.acquire_slowly(options),
        }
    }

    /// Takes the lock if that is one step: it is free, no owner died, and this process has used the segment before.
    #[inline(always)]
    pub(crate) fn acquire_fast(&self) -> bool {
        let me = self.placed.known_id();
        me.is_some_and(|me| self.placed.words().try_acquire(me))
    }

    #[cold]
    fn acquire_slowly(&self, options: WaitOptions) -> Result<bool> {
        let me = self.placed.id()?;
        let words = self.placed.words();
        words.acquire(me, options, &self.spins, &**self.placed.segment())
    }

    /// Takes the lock, however long that takes, until the guard is dropped.
    pub fn lock(&self) -> Result<Guard<'_>> {
        let recovered = self.acquire(WaitOptions::BLOCKING)?;
        Ok(Guard {
            lock: self,
            recovered,
        })
    }

    /// Gives the lock back if that is one step: it is ours, nobody waits, and no owner died.
    #[inline(always)]
    pub(crate) fn release_fast(&self) -> bool {
        let me = self.placed.known_id();
        me.is_some_and(|me| self.placed.words().try_release(me))
    }

    /// Gives the lock back. `NotOwner`: this process does not hold it (of a transferable one: nobody does).
    pub fn release(&self) -> Result<()> {
        if self.transferable {
            return self.placed.words().release_any();
        }
        match self.placed.known_id() {
            Some(me) => self.placed.words().release(me),
            None => Err(nobody()),
        }
    }

    /// Says whether this process holds it.
    pub(crate) fn is_held(&self) -> bool {
        let me = self.placed.known_id();
        me.is_some_and(|me| self.placed.words().is_held_by(me))
    }

    /// Returns a number that this lock has in every process, and no other one.
    pub(crate) fn number(&self) -> u64 {
        self.placed.number()
    }

    /// Says that what the lock guards is whole again. `NotOwner`: this process does not hold it.
    pub fn mark_consistent(&self) -> Result<()> {
        match self.placed.known_id() {
            Some(me) => self.placed.words().mark_consistent(me),
            None => Err(nobody()),
        }
    }

    /// Returns what is known of it and of who holds it; nobody is asked whether the owner lives.
    pub fn stat(&self) -> (Stat, Option<Person>) {
        let stat = self.placed.words().stat();
        let owner = stat.owner.and_then(|id| self.segment().person(id));
        (stat, owner)
    }

    /// Whether any process may release it.
    pub fn is_transferable(&self) -> bool {
        self.transferable
    }
}

place!(Lock);

#[cold]
pub(crate) fn nobody() -> crate::error::Error {
    crate::error::Error::NotOwner("this process holds nothing in this segment".into())
}

/// A lock that is held; dropped, it is released.
pub struct Guard<'a> {
    lock: &'a Lock,
    recovered: bool,
}

impl Guard<'_> {
    /// Whether an owner died, and nobody has said since that what the lock guards is whole.
    pub fn recovered(&self) -> bool {
        self.recovered
    }

    /// Says that what the lock guards is whole again.
    pub fn mark_consistent(&self) -> Result<()> {
        self.lock.mark_consistent()
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // It fails where somebody has released it through the lock itself: then there is nothing to do.
        let _ = self.lock.release();
    }
}
