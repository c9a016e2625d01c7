//! What the C functions of locks of both kinds do: they differ in the type of the handle.

use super::handle::{Handle, Opaque};
use super::object::with;
use super::status::{SHMKIT_OK, shmkit_status};
use super::wait;
use crate::error::Result;
use crate::object::lock::Lock;
use crate::object::rlock::RLock;
use crate::raw::WaitOptions;

/// A lock of either kind.
pub(super) trait Mutex: Opaque {
    /// Takes it if that is one step.
    fn fast_acquire(&self) -> bool;
    /// Takes it, waiting; returns whether an owner died.
    fn acquire_with(&self, options: WaitOptions) -> Result<bool>;
    /// Gives it back if that is one step.
    fn fast_release(&self) -> bool;
    /// Gives it back.
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

/// Takes the lock.
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
    // What cannot panic goes ahead of what could: a free lock of a process that is known costs one exchange.
    if wait::is_valid(timeout_ns, flags) && owner_died.is_aligned() {
        // SAFETY: the caller's promise.
        if let Some(lock) = unsafe { Handle::<L>::peek(lock.cast()) }
            && lock.fast_acquire()
        {
            if !owner_died.is_null() {
                // SAFETY: not NULL and aligned; the caller promises that it is writable.
                unsafe { owner_died.write(0) };
            }
            return SHMKIT_OK;
        }
    }
    // SAFETY: the caller's promise.
    unsafe { acquire_slow::<L, H>(lock, timeout_ns, flags, owner_died) }
}

/// As the exported function, by its own convention: a jump leads here.
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
        // SAFETY: the caller's promise.
        let died = unsafe { super::optional(owner_died, "owner_died") }?;
        let mark = lock.acquire_with(wait::options(timeout_ns, flags)?)?;
        died.map(|died| died.write(mark.into()));
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { with(lock, body) }
}

/// Gives the lock back.
///
/// # Safety
/// As for shmkit_lock_release.
#[inline(always)]
pub(super) unsafe fn release<L: Mutex, H>(lock: *mut H) -> shmkit_status {
    // SAFETY: the caller's promise.
    if let Some(lock) = unsafe { Handle::<L>::peek(lock.cast()) }
        && lock.fast_release()
    {
        return SHMKIT_OK;
    }
    // SAFETY: the caller's promise.
    unsafe { release_slow::<L, H>(lock) }
}

/// As the exported function, by its own convention: a jump leads here.
///
/// # Safety
/// As for shmkit_lock_release.
#[cold]
#[inline(never)]
unsafe extern "C" fn release_slow<L: Mutex, H>(lock: *mut H) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { with(lock, L::release) }
}
