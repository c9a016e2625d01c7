//! Locks: mutual exclusion between processes, and between the threads of each, that survives the death of the owner.
//!
//! The owner is a process, and any of its threads may release the lock. If the owner dies, the next owner acquires the
//! lock and learns of the death, because the data that the lock guards may be half written. `raw::lock` has the states.
//!
//! ```
//! use shmkit::lock::{Lock, Options};
//! use std::time::Duration;
//!
//! # fn main() -> shmkit::error::Result<()> {
//! let lock = Lock::unnamed(&Options::default())?;
//! {
//!     let guard = lock.acquire()?;
//!     if guard.owner_died() {
//!         // Repair what the lock guards, then:
//!         guard.mark_consistent()?;
//!     }
//!     assert!(lock.try_acquire()?.is_none()); // it is not recursive
//! } // released
//! assert!(lock.acquire_timeout(Duration::from_millis(10))?.is_some());
//! # Ok(())
//! # }
//! ```

pub use super::{Create, FileOptions};
use super::{Layout, NoCell, Noun, Object, ObjectHandle, Storage, Tag, in_time, life_cycle};
use crate::error::Result;
use crate::layout::Kind;
use crate::participant::ProcessInfo;
use crate::raw::WaitOptions;
pub use crate::raw::lock::LockInfo;
use crate::raw::lock::RawLock;
use crate::raw::wait::SpinState;
use crate::segment::Segment;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

impl Object for RawLock {
    type Cell = NoCell;

    fn tag(&self) -> &AtomicU64 {
        &self.tag
    }
}

/// Returns the layout of a lock of either kind.
pub(super) fn layout(tag: Tag) -> Layout<'static, RawLock> {
    Layout::new(tag, |raw: &RawLock, _| raw.clear())
}

/// How a lock is created and opened. `Options::default()` suits most callers.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Any process may release the lock, not only its owner.
    pub transferable: bool,
    /// The file of a named lock.
    pub file: FileOptions,
}

/// In the tag: any process may release the lock.
const TRANSFERABLE: u16 = 1;

/// A lock that this process has open.
pub struct Lock {
    object: ObjectHandle<RawLock>,
    spins: SpinState,
    transferable: bool,
}

impl Noun for Lock {
    type Raw = RawLock;
    type Options = Options;

    fn file(options: &Options) -> &FileOptions {
        &options.file
    }

    fn layout(options: &Options, _: Create, _: Storage) -> Result<Layout<'_, RawLock>> {
        Ok(layout(Tag {
            flags: if options.transferable {
                TRANSFERABLE
            } else {
                0
            },
            ..Tag::of(Kind::Lock)
        }))
    }

    fn new(object: ObjectHandle<RawLock>) -> Result<Lock> {
        Ok(Lock {
            transferable: object.flags() & TRANSFERABLE != 0,
            object,
            spins: SpinState::default(),
        })
    }

    fn object(&self) -> &ObjectHandle<RawLock> {
        &self.object
    }
}

life_cycle!(Lock, Options);

impl Lock {
    /// The size of a lock in a segment, in bytes.
    pub const SIZE: u64 = size_of::<RawLock>() as u64;

    /// Returns the built-in lock of a managed segment.
    ///
    /// # Errors
    /// * `WrongKind`: the segment is plain
    /// * `Permission`: the segment is open for reading only
    pub fn of(segment: &Arc<Segment>) -> Result<Lock> {
        let raw = NonNull::from(segment.built_in_lock()?);
        Lock::new(ObjectHandle::known(segment.clone(), raw)?)
    }

    /// Acquires the lock and waits until it is free or its owner is dead.
    ///
    /// # Errors
    /// * `TooManyProcesses`: live processes own all participant slots of the segment
    /// * `LivenessUnknown`: this process has lost all descriptors of the segment, and cannot check whether
    ///   the owner lives
    /// * `Permission`: this user cannot write the file
    /// * `Corrupt`: the words of the lock contradict each other
    pub fn acquire(&self) -> Result<Guard<'_>> {
        self.guard(WaitOptions::BLOCKING)
    }

    /// Acquires the lock if it is free or its owner is dead; returns `None` if a live process holds it.
    ///
    /// # Errors
    /// As for [`acquire`](Lock::acquire).
    pub fn try_acquire(&self) -> Result<Option<Guard<'_>>> {
        in_time(self.guard(WaitOptions::NONBLOCKING))
    }

    /// Acquires the lock and waits at most this long; returns `None` if the time has passed.
    ///
    /// # Errors
    /// As for [`acquire`](Lock::acquire).
    pub fn acquire_timeout(&self, time: Duration) -> Result<Option<Guard<'_>>> {
        in_time(self.guard(WaitOptions::after(time)))
    }

    fn guard(&self, options: WaitOptions) -> Result<Guard<'_>> {
        let owner_died = self.acquire_with(options)?;
        Ok(Guard {
            lock: self,
            owner_died,
        })
    }

    /// Acquires the lock without a guard; returns whether an owner died and the lock is not marked consistent yet.
    /// `WouldBlock`, `Timeout`, `Interrupted`: the lock is not acquired.
    #[doc(hidden)]
    #[inline(always)]
    pub fn acquire_with(&self, options: WaitOptions) -> Result<bool> {
        match self.fast_acquire() {
            true => Ok(false),
            false => self.acquire_slow(options),
        }
    }

    /// Acquires the lock in one step if it is free, no owner died, and this process has used the segment before.
    #[inline(always)]
    pub(crate) fn fast_acquire(&self) -> bool {
        let me = self.object.known_id();
        me.is_some_and(|me| self.object.raw().try_acquire(me))
    }

    #[cold]
    fn acquire_slow(&self, options: WaitOptions) -> Result<bool> {
        let me = self.object.id()?;
        let raw = self.object.raw();
        raw.acquire(me, options, &self.spins, &**self.object.segment())
    }

    /// Releases the lock in one step if this process holds it, no thread waits, and no owner died.
    #[inline(always)]
    pub(crate) fn fast_release(&self) -> bool {
        let me = self.object.known_id();
        me.is_some_and(|me| self.object.raw().try_release(me))
    }

    /// Releases the lock. A guard does the same when it is dropped in the process that acquired it.
    ///
    /// Any process may release a transferable lock.
    ///
    /// # Errors
    /// * `NotOwner`: this process does not hold the lock; for a transferable lock, no process holds it
    pub fn release(&self) -> Result<()> {
        match self.transferable {
            true => self.object.raw().release_any(),
            false => self.object.raw().release(self.object.owner_id()?),
        }
    }

    /// Returns whether this process holds the lock.
    pub(super) fn is_held(&self) -> bool {
        let me = self.object.known_id();
        me.is_some_and(|me| self.object.raw().is_held_by(me))
    }

    /// Returns a number that identifies this lock in every process.
    pub(super) fn number(&self) -> u64 {
        self.object.number()
    }

    /// Records that what the lock guards is consistent again. `NotOwner`: this process does not hold the lock.
    #[doc(hidden)]
    pub fn mark_consistent(&self) -> Result<()> {
        self.object.raw().mark_consistent(self.object.owner_id()?)
    }

    /// Returns the state of the lock and its owner. It does not check whether the owner lives.
    pub fn stat(&self) -> (LockInfo, Option<ProcessInfo>) {
        let stat = self.object.raw().stat();
        let owner = stat.owner.and_then(|id| self.segment().process_info(id));
        (stat, owner)
    }

    /// Returns whether any process may release the lock.
    pub fn is_transferable(&self) -> bool {
        self.transferable
    }
}

/// An acquired lock; dropping the guard releases it.
#[derive(Debug)]
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct Guard<'a> {
    pub(super) lock: &'a Lock,
    pub(super) owner_died: bool,
}

impl Guard<'_> {
    /// Returns whether an owner died and the lock has not been marked consistent since: its data may be half written.
    pub fn owner_died(&self) -> bool {
        self.owner_died
    }

    /// Records that what the lock guards is consistent again, so that later owners do not learn of the death.
    ///
    /// # Errors
    /// * `NotOwner`: the lock was released through [`Lock::release`]
    pub fn mark_consistent(&self) -> Result<()> {
        self.lock.mark_consistent()
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // It fails if the lock was released through `Lock::release`, and in a forked child, which does not hold it.
        // Even a transferable lock is released only in the process that acquired it.
        let object = &self.lock.object;
        let _ = object.owner_id().and_then(|me| object.raw().release(me));
    }
}
