//! Conditions: a thread that holds a lock releases it and waits until another owner of the lock notifies it.
//!
//! The lock is any `Lock` or `RLock`, in the same segment or in another, but always the same one. `raw::condition` has
//! the states.
//!
//! ```
//! use shmkit::condition::{Condition, Options};
//! use shmkit::lock::{self, Lock};
//! use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
//!
//! # fn main() -> shmkit::error::Result<()> {
//! let lock = Lock::unnamed(&lock::Options::default())?;
//! let condition = Condition::unnamed(&Options::default())?;
//! let ready = AtomicBool::new(false); // usually in shared memory
//! std::thread::scope(|scope| {
//!     let waiter = scope.spawn(|| {
//!         let mut guard = lock.acquire()?;
//!         while !ready.load(Relaxed) {
//!             condition.wait(&mut guard)?;
//!             if guard.owner_died() {
//!                 // Repair what the lock guards, then:
//!                 guard.mark_consistent()?;
//!             }
//!         }
//!         shmkit::error::Result::Ok(())
//!     });
//!     let guard = lock.acquire()?;
//!     ready.store(true, Relaxed);
//!     condition.notify_one(&guard)?;
//!     drop(guard);
//!     waiter.join().expect("the thread does not panic")
//! })
//! # }
//! ```

use super::lock::{self, Lock};
pub use super::lock::{Create, FileOptions};
use super::rlock::{self, RLock};
use super::{Layout, Noun, Object, ObjectHandle, Storage, Tag, life_cycle};
use crate::error::{Error, Result};
use crate::layout::Kind;
use crate::raw::WaitOptions;
use crate::raw::condition as core;
pub use crate::raw::condition::ConditionInfo;
#[doc(hidden)]
pub use crate::raw::condition::{End, Mutex, Waited};
use crate::raw::condition::{RawCondition, WaiterCell};
use crate::raw::wait::SpinState;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// Number of threads that can wait at a time, if the options give none.
pub const DEFAULT_CELLS: u32 = 128;
/// Maximum number of threads that can wait at a time.
pub const MAX_CELLS: u32 = 4096;

impl Object for RawCondition {
    type Cell = WaiterCell;

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
        self.acquire_with(WaitOptions::BLOCKING)
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

/// The guard of a lock that a condition can release: [`lock::Guard`] or [`rlock::Guard`].
pub trait Guard: sealed::Guard {}

mod sealed {
    pub trait Guard {
        type Mutex: super::Mutex;
        fn mutex(&self) -> &Self::Mutex;
        fn set_owner_died(&mut self, owner_died: bool);
    }
}

macro_rules! guards {
    ($($noun:ident: $module:ident),*) => {$(
        impl Guard for $module::Guard<'_> {}

        impl sealed::Guard for $module::Guard<'_> {
            type Mutex = $noun;

            fn mutex(&self) -> &$noun {
                self.lock
            }

            fn set_owner_died(&mut self, owner_died: bool) {
                self.owner_died = owner_died;
            }
        }
    )*};
}

guards!(Lock: lock, RLock: rlock);

/// How a condition is created and opened. `Options::default()` suits most callers.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Number of threads that can wait at a time, 1 to 4096; 0: 128.
    pub cells: u32,
    /// The file of a named condition. It does not contain the lock.
    pub file: FileOptions,
}

impl Options {
    /// Returns the size of such a condition in a segment, in bytes.
    ///
    /// # Errors
    /// * `Invalid`: more than 4096 cells
    pub fn size(&self) -> Result<u64> {
        Condition::size(self)
    }
}

/// A condition that this process has open.
pub struct Condition {
    object: ObjectHandle<RawCondition>,
    spins: SpinState,
}

impl Noun for Condition {
    type Raw = RawCondition;
    type Options = Options;

    fn file(options: &Options) -> &FileOptions {
        &options.file
    }

    fn layout(options: &Options, _: Create, _: Storage) -> Result<Layout<'_, RawCondition>> {
        let cells = match options.cells {
            0 => DEFAULT_CELLS,
            count @ 1..=MAX_CELLS => count,
            count => {
                return Err(Error::Invalid(
                    format!("cells must be from 1 to {MAX_CELLS}, not {count}").into(),
                ));
            }
        };
        let tag = Tag {
            cells: cells as u16,
            ..Tag::of(Kind::Condition)
        };
        Ok(Layout::new(tag, |raw: &RawCondition, cells| {
            raw.clear(cells)
        }))
    }

    fn new(object: ObjectHandle<RawCondition>) -> Result<Condition> {
        let cells = object.cells().len();
        if cells > MAX_CELLS as usize {
            return Err(Error::Corrupt(
                format!("the condition has {cells} cells, but must have at most {MAX_CELLS}; recreate it").into(),
            ));
        }
        Ok(Condition {
            object,
            spins: SpinState::default(),
        })
    }

    fn object(&self) -> &ObjectHandle<RawCondition> {
        &self.object
    }
}

life_cycle!(Condition, Options);

impl Condition {
    fn core(&self) -> core::ConditionRef<'_> {
        core::ConditionRef {
            raw: self.object.raw(),
            cells: self.object.cells(),
        }
    }

    /// Releases the lock, waits for a notification, and acquires the lock again.
    ///
    /// After that the guard reports whether an owner died meanwhile. This thread holds the lock again unless the call
    /// fails with `NotOwner`. No timeout limits the second acquisition.
    ///
    /// # Errors
    /// * `Invalid`: the condition was first used with another lock
    /// * `NotOwner`: the guard did not hold the lock, or the lock could not be acquired again
    /// * `TooManyProcesses`: waiters occupy all cells, or live processes own all participant slots of the segment
    /// * `LivenessUnknown`: this process cannot check which processes live
    /// * `Corrupt`: the words of the condition contradict each other
    pub fn wait(&self, guard: &mut impl Guard) -> Result<()> {
        self.wait_guarded(guard, WaitOptions::BLOCKING).map(drop)
    }

    /// Waits as [`wait`](Condition::wait) does, for at most this long; returns whether it was notified.
    ///
    /// # Errors
    /// As for [`wait`](Condition::wait).
    pub fn wait_timeout(&self, guard: &mut impl Guard, time: Duration) -> Result<bool> {
        let end = self.wait_guarded(guard, WaitOptions::after(time))?;
        Ok(end == End::Notified)
    }

    fn wait_guarded(&self, guard: &mut impl Guard, options: WaitOptions) -> Result<End> {
        let waited = self.wait_with(guard.mutex(), options)?;
        guard.set_owner_died(waited.owner_died);
        Ok(waited.end)
    }

    /// Waits as `wait` does, for a lock without a guard. The lock is acquired again as many times as it was held.
    #[doc(hidden)]
    pub fn wait_with(&self, mutex: &(impl Mutex + ?Sized), options: WaitOptions) -> Result<Waited> {
        // A caller that does not hold the lock must get that error first.
        self.core().check(mutex)?;
        let me = self.object.id()?;
        let liveness = &**self.object.segment();
        self.core().wait(me, mutex, options, &self.spins, liveness)
    }

    /// Notifies the thread that has waited longest, if any. That thread returns when it has acquired the lock.
    ///
    /// # Errors
    /// * `Invalid`: the condition was first used with another lock
    /// * `NotOwner`: the guard does not hold the lock
    pub fn notify_one(&self, guard: &impl Guard) -> Result<()> {
        self.notify_with(guard.mutex(), 1)
    }

    /// Notifies the `count` threads that have waited longest, or all if fewer wait.
    ///
    /// # Errors
    /// As for [`notify_one`](Condition::notify_one).
    pub fn notify(&self, guard: &impl Guard, count: u64) -> Result<()> {
        self.notify_with(guard.mutex(), count)
    }

    /// Notifies all threads that wait.
    ///
    /// # Errors
    /// As for [`notify_one`](Condition::notify_one).
    pub fn notify_all(&self, guard: &impl Guard) -> Result<()> {
        self.notify_with(guard.mutex(), u64::MAX)
    }

    /// Notifies as `notify` does, for a lock without a guard.
    #[doc(hidden)]
    pub fn notify_with(&self, mutex: &(impl Mutex + ?Sized), count: u64) -> Result<()> {
        self.core().notify(count, mutex, &**self.object.segment())
    }

    /// Returns the state of the condition. It does not check which waiters live.
    pub fn stat(&self) -> ConditionInfo {
        self.core().stat()
    }
}
