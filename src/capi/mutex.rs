//! The functions that locks and recursive locks share: they differ only in the type of the handle.

use super::handle::{Handle, Opaque};
use super::object::with;
use super::status::{SHMKIT_OK, shmkit_status};
use super::wait;
use crate::error::Result;
use crate::object::lock::Lock;
use crate::object::rlock::RLock;
use crate::raw::WaitOptions;

/// A lock or a recursive lock.
pub(super) trait Mutex: Opaque {
    /// Acquires the lock if one step is enough.
    fn fast_acquire(&self) -> bool;
    /// Acquires the lock, and waits for it; returns whether an owner died.
    fn acquire_with(&self, options: WaitOptions) -> Result<bool>;
    /// Releases the lock if one step is enough.
    fn fast_release(&self) -> bool;
    /// Releases the lock.
    fn release(&self) -> Result<()>;
}

macro_rules! mutex {
    ($($kind:ident),*) => {$(
        impl Mutex for $kind {
            #[inline(always)]
            fn fast_acquire(&self) -> bool {
                $kind::fast_acquire(self)
            }

            fn acquire_with(&self, options: WaitOptions) -> Result<bool> {
                $kind::acquire_with(self, options)
            }

            #[inline(always)]
            fn fast_release(&self) -> bool {
                $kind::fast_release(self)
            }

            fn release(&self) -> Result<()> {
                $kind::release(self)
            }
        }
    )*};
}

mutex!(Lock, RLock);

/// Acquires the lock.
///
/// # Safety
/// As for shmkit_lock_acquire.
#[inline(always)]
pub(super) unsafe fn acquire<L: Mutex, H>(
    lock: *mut H,
    timeout_ns: i64,
    flags: u32,
    owner_died: *mut u32,
) -> shmkit_status {
    // The path that cannot panic comes first: a free lock costs one exchange, after the first use of the segment.
    if wait::is_valid(timeout_ns, flags) && owner_died.is_aligned() {
        // SAFETY: the caller guarantees it (see # Safety).
        if let Some(lock) = unsafe { Handle::<L>::peek(lock.cast()) }
            && lock.fast_acquire()
        {
            if !owner_died.is_null() {
                // SAFETY: not NULL and aligned; the caller guarantees that it is writable.
                unsafe { owner_died.write(0) };
            }
            return SHMKIT_OK;
        }
    }
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { acquire_slow::<L, H>(lock, timeout_ns, flags, owner_died) }
}

/// The exported function with the C calling convention, so that the call compiles to a jump.
///
/// # Safety
/// As for shmkit_lock_acquire.
#[cold]
#[inline(never)]
unsafe extern "C" fn acquire_slow<L: Mutex, H>(
    lock: *mut H,
    timeout_ns: i64,
    flags: u32,
    owner_died: *mut u32,
) -> shmkit_status {
    let body = |lock: &L| {
        // SAFETY: the caller guarantees it (see # Safety).
        let died = unsafe { super::optional(owner_died, "owner_died") }?;
        let mark = lock.acquire_with(wait::options(timeout_ns, flags)?)?;
        died.map(|died| died.write(mark.into()));
        Ok(())
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(lock, body) }
}

/// Releases the lock.
///
/// # Safety
/// As for shmkit_lock_release.
#[inline(always)]
pub(super) unsafe fn release<L: Mutex, H>(lock: *mut H) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    if let Some(lock) = unsafe { Handle::<L>::peek(lock.cast()) }
        && lock.fast_release()
    {
        return SHMKIT_OK;
    }
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { release_slow::<L, H>(lock) }
}

/// The exported function with the C calling convention, so that the call compiles to a jump.
///
/// # Safety
/// As for shmkit_lock_release.
#[cold]
#[inline(never)]
unsafe extern "C" fn release_slow<L: Mutex, H>(lock: *mut H) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(lock, L::release) }
}
