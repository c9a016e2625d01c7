//! Recursive locks: a thread that holds one may take it again, and gives it back as often.
//!
//! `sync::rlock` has the states; the place and the owner's identity are those of any lock.

pub use super::lock::{Create, Named, Stat, Timeout, WaitOptions};
use super::lock::{nobody, recipe};
use super::{Placed, Recipe, Tag, place};
use crate::error::Result;
use crate::layout::Kind;
use crate::participant::Person;
use crate::raw::lock::Words;
use crate::raw::rlock;
use crate::raw::wait::Spins;
use crate::segment::Segment;
use std::ffi::CStr;
use std::marker::PhantomData;
use std::sync::Arc;

const RECIPE: Recipe<'static, Words> = recipe(Tag {
    kind: Kind::RLock,
    flags: 0,
    cells: 0,
});

/// A recursive lock of which this process has a handle.
pub struct RLock {
    placed: Placed<Words>,
    spins: Spins,
}

impl RLock {
    /// How many bytes one takes in a segment.
    pub const SIZE: u64 = size_of::<Words>() as u64;

    fn new(placed: Placed<Words>) -> RLock {
        RLock {
            placed,
            spins: Spins::default(),
        }
    }

    /// As `Lock::unnamed`.
    pub fn unnamed() -> Result<RLock> {
        Placed::unnamed(&RECIPE).map(RLock::new)
    }

    /// As `Lock::named`.
    pub fn named(name: &CStr, create: Create, named: &Named) -> Result<RLock> {
        Placed::in_file(name, &RECIPE, create, named).map(RLock::new)
    }

    /// As `Lock::at`.
    pub fn at(segment: &Arc<Segment>, offset: u64, create: Create) -> Result<RLock> {
        Placed::at(segment, offset, &RECIPE, create).map(RLock::new)
    }

    /// As `Lock::open_fd`.
    pub fn open_fd(fd: i32, offset: u64, named: &Named) -> Result<RLock> {
        Placed::open_fd(fd, offset, &RECIPE, named).map(RLock::new)
    }

    /// Takes the lock, or takes it once more; as `Lock::acquire`. `Overflow`: held 2^64 - 1 times.
    #[inline(always)]
    pub fn acquire(&self, options: WaitOptions) -> Result<bool> {
        match self.acquire_fast() {
            true => Ok(false),
            false => self.acquire_slowly(options),
        }
    }

    /// As `Lock::acquire_fast`.
    #[inline(always)]
    pub(crate) fn acquire_fast(&self) -> bool {
        let me = self.placed.known_id();
        me.is_some_and(|me| rlock::try_acquire(self.placed.words(), me))
    }

    #[cold]
    fn acquire_slowly(&self, options: WaitOptions) -> Result<bool> {
        let me = self.placed.id()?;
        let (words, life) = (self.placed.words(), &**self.placed.segment());
        rlock::acquire(words, me, options, &self.spins, life)
    }

    /// Takes the lock, however long that takes, until the guard is dropped.
    pub fn lock(&self) -> Result<Guard<'_>> {
        let recovered = self.acquire(WaitOptions::BLOCKING)?;
        Ok(Guard {
            lock: self,
            recovered,
            of_this_thread: PhantomData,
        })
    }

    /// Gives the lock back if that is one step: this thread holds it once, nobody waits, and no owner died.
    #[inline(always)]
    pub(crate) fn release_fast(&self) -> bool {
        let me = self.placed.known_id();
        me.is_some_and(|me| rlock::try_release(self.placed.words(), me))
    }

    /// Gives the lock back once. `NotOwner`: this thread does not hold it.
    pub fn release(&self) -> Result<()> {
        match self.placed.known_id() {
            Some(me) => rlock::release(self.placed.words(), me),
            None => Err(nobody()),
        }
    }

    /// Gives the lock back wholly; returns how often this thread held it. `NotOwner`: not at all.
    pub(crate) fn release_all(&self) -> Result<u64> {
        match self.placed.known_id() {
            Some(me) => rlock::release_all(self.placed.words(), me),
            None => Err(nobody()),
        }
    }

    /// Takes the lock, which this thread does not hold, so often, however long that takes; returns as `acquire`.
    pub(crate) fn acquire_all(&self, depth: u64) -> Result<bool> {
        let me = self.placed.id()?;
        let (words, life) = (self.placed.words(), &**self.placed.segment());
        rlock::acquire_all(words, me, depth, WaitOptions::BLOCKING, &self.spins, life)
    }

    /// As `Lock::number`.
    pub(crate) fn number(&self) -> u64 {
        self.placed.number()
    }

    /// Says that what the lock guards is whole again. `NotOwner`: this thread does not hold it.
    pub fn mark_consistent(&self) -> Result<()> {
        match self.placed.known_id() {
            Some(me) => rlock::mark_consistent(self.placed.words(), me),
            None => Err(nobody()),
        }
    }

    /// Returns how often this thread holds it.
    pub fn depth(&self) -> u64 {
        let me = self.placed.known_id();
        me.map_or(0, |me| rlock::depth(self.placed.words(), me))
    }

    /// As `Lock::stat`.
    pub fn stat(&self) -> (Stat, Option<Person>) {
        let stat = self.placed.words().stat();
        let owner = stat.owner.and_then(|id| self.segment().person(id));
        (stat, owner)
    }
}

place!(RLock);

/// A recursive lock that is held; dropped, it is released once. It stays with the thread that holds the lock:
///
/// ```compile_fail,E0277
/// fn moved<T: Send>() {}
/// moved::<shmkit::rlock::Guard>();
/// ```
pub struct Guard<'a> {
    lock: &'a RLock,
    recovered: bool,
    of_this_thread: PhantomData<*const ()>,
}

impl Guard<'_> {
    /// As `lock::Guard::recovered`.
    pub fn recovered(&self) -> bool {
        self.recovered
    }

    /// As `lock::Guard::mark_consistent`.
    pub fn mark_consistent(&self) -> Result<()> {
        self.lock.mark_consistent()
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // As `lock::Guard`.
        let _ = self.lock.release();
    }
}
