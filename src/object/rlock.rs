//! Recursive locks: a thread that holds one may acquire it again, and releases it as often.
//!
//! The owner is a thread. Everything else is as for a [`Lock`](crate::lock::Lock). `raw::rlock` has the states.
//!
//! ```
//! use shmkit::rlock::RLock;
//!
//! # fn main() -> shmkit::error::Result<()> {
//! let lock = RLock::unnamed()?;
//! let outer = lock.acquire()?;
//! {
//!     let _inner = lock.acquire()?;
//!     assert_eq!(lock.depth(), 2);
//! }
//! assert_eq!(lock.depth(), 1);
//! if outer.owner_died() {
//!     // Repair what the lock guards, then:
//!     outer.mark_consistent()?;
//! }
//! # Ok(())
//! # }
//! ```

use super::lock::layout;
pub use super::lock::{Create, FileOptions, LockInfo};
use super::{Layout, Noun, ObjectHandle, Storage, Tag, in_time, life_cycle};
use crate::error::Result;
use crate::layout::Kind;
use crate::participant::ProcessInfo;
use crate::raw::lock::RawLock;
use crate::raw::wait::SpinState;
use crate::raw::{WaitOptions, rlock};
use std::marker::PhantomData;
use std::time::Duration;

/// A recursive lock that this process has open.
pub struct RLock {
    object: ObjectHandle<RawLock>,
    spins: SpinState,
}

impl Noun for RLock {
    type Raw = RawLock;
    type Options = FileOptions;

    fn file(options: &FileOptions) -> &FileOptions {
        options
    }

    fn layout(_: &FileOptions, _: Create, _: Storage) -> Result<Layout<'_, RawLock>> {
        Ok(layout(Tag::of(Kind::RLock)))
    }

    fn new(object: ObjectHandle<RawLock>) -> Result<RLock> {
        Ok(RLock {
            object,
            spins: SpinState::default(),
        })
    }

    fn object(&self) -> &ObjectHandle<RawLock> {
        &self.object
    }
}

life_cycle!(RLock);

impl RLock {
    /// The size of a recursive lock in a segment, in bytes.
    pub const SIZE: u64 = size_of::<RawLock>() as u64;

    /// Acquires the lock, or acquires it once more if this thread holds it.
    ///
    /// # Errors
    /// As for [`Lock::acquire`](crate::lock::Lock::acquire), and
    /// * `Overflow`: this thread has acquired it 2^64 - 1 times
    pub fn acquire(&self) -> Result<Guard<'_>> {
        self.guard(WaitOptions::BLOCKING)
    }

    /// Acquires the lock without waiting; returns `None` if another live thread holds it.
    ///
    /// # Errors
    /// As for [`acquire`](RLock::acquire).
    pub fn try_acquire(&self) -> Result<Option<Guard<'_>>> {
        in_time(self.guard(WaitOptions::NONBLOCKING))
    }

    /// Acquires the lock and waits at most this long; returns `None` if the time has passed.
    ///
    /// # Errors
    /// As for [`acquire`](RLock::acquire).
    pub fn acquire_timeout(&self, time: Duration) -> Result<Option<Guard<'_>>> {
        in_time(self.guard(WaitOptions::after(time)))
    }

    fn guard(&self, options: WaitOptions) -> Result<Guard<'_>> {
        let owner_died = self.acquire_with(options)?;
        Ok(Guard {
            lock: self,
            owner_died,
            of_this_thread: PhantomData,
        })
    }

    /// Acquires the lock as `Lock::acquire_with` does. `Overflow`: this thread has acquired it 2^64 - 1 times.
    #[doc(hidden)]
    #[inline(always)]
    pub fn acquire_with(&self, options: WaitOptions) -> Result<bool> {
        match self.fast_acquire() {
            true => Ok(false),
            false => self.acquire_slow(options),
        }
    }

    /// Acquires the lock as `Lock::fast_acquire` does, or once more if this thread holds it.
    #[inline(always)]
    pub(crate) fn fast_acquire(&self) -> bool {
        let me = self.object.known_id();
        me.is_some_and(|me| rlock::try_acquire(self.object.raw(), me))
    }

    #[cold]
    fn acquire_slow(&self, options: WaitOptions) -> Result<bool> {
        let me = self.object.id()?;
        let (raw, liveness) = (self.object.raw(), &**self.object.segment());
        rlock::acquire(raw, me, options, &self.spins, liveness)
    }

    /// Releases the lock in one step if this thread holds it once, no thread waits, and no owner died.
    #[inline(always)]
    pub(crate) fn fast_release(&self) -> bool {
        let me = self.object.known_id();
        me.is_some_and(|me| rlock::try_release(self.object.raw(), me))
    }

    /// Releases the lock once. `NotOwner`: this thread does not hold it.
    #[doc(hidden)]
    pub fn release(&self) -> Result<()> {
        rlock::release(self.object.raw(), self.object.owner_id()?)
    }

    /// Releases the lock entirely; returns how often this thread held it. `NotOwner`: this thread does not hold it.
    pub(super) fn release_all(&self) -> Result<u64> {
        rlock::release_all(self.object.raw(), self.object.owner_id()?)
    }

    /// Acquires the lock, which this thread does not hold, `depth` times at once; returns as `acquire_with`.
    pub(super) fn acquire_all(&self, depth: u64) -> Result<bool> {
        let me = self.object.id()?;
        let (raw, liveness) = (self.object.raw(), &**self.object.segment());
        rlock::acquire_all(raw, me, depth, WaitOptions::BLOCKING, &self.spins, liveness)
    }

    /// Returns a number that identifies this lock in every process.
    pub(super) fn number(&self) -> u64 {
        self.object.number()
    }

    /// Records that what the lock guards is consistent again. `NotOwner`: this thread does not hold the lock.
    #[doc(hidden)]
    pub fn mark_consistent(&self) -> Result<()> {
        rlock::mark_consistent(self.object.raw(), self.object.owner_id()?)
    }

    /// Returns how often this thread holds the lock.
    pub fn depth(&self) -> u64 {
        let me = self.object.known_id();
        me.map_or(0, |me| rlock::depth(self.object.raw(), me))
    }

    /// Returns the state of the lock and its owner. It does not check whether the owner lives.
    pub fn stat(&self) -> (LockInfo, Option<ProcessInfo>) {
        let stat = self.object.raw().stat();
        let owner = stat.owner.and_then(|id| self.segment().process_info(id));
        (stat, owner)
    }
}

/// An acquired recursive lock; dropping the guard releases it once. The guard must stay in its thread:
///
/// ```compile_fail,E0277
/// fn moved<T: Send>() {}
/// moved::<shmkit::rlock::Guard>();
/// ```
#[derive(Debug)]
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct Guard<'a> {
    pub(super) lock: &'a RLock,
    pub(super) owner_died: bool,
    of_this_thread: PhantomData<*const ()>,
}

impl Guard<'_> {
    /// Returns whether an owner died and the lock has not been marked consistent since: its data may be half written.
    pub fn owner_died(&self) -> bool {
        self.owner_died
    }

    /// Records that what the lock guards is consistent again, so that later owners do not learn of the death.
    ///
    /// # Errors
    /// * `NotOwner`: the lock was released entirely, by a condition that could not acquire it again
    pub fn mark_consistent(&self) -> Result<()> {
        self.lock.mark_consistent()
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // It fails if the thread does not hold the lock any more; then there is nothing to release.
        let _ = self.lock.release();
    }
}
