//! Asks the kernel about this process, and keeps short-lived descriptors out of forked children.

use nix::sys::resource::{Resource, getrlimit};
use std::cell::UnsafeCell;
use std::sync::Once;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// What a limit that does not exist is told as.
pub const UNLIMITED: u64 = u64::MAX;

/// Returns the effective user of this process: who owns what it makes.
pub fn user() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Returns the size of a page in bytes.
pub fn page_size() -> u64 {
    /// 0 until it was asked for: it never changes, and every call that maps wants it several times.
    static KNOWN: AtomicU64 = AtomicU64::new(0);
    match KNOWN.load(Ordering::Relaxed) {
        0 => {
            // SAFETY: sysconf only reads; _SC_PAGESIZE exists everywhere.
            let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
            let size = u64::try_from(size).unwrap_or(4096);
            KNOWN.store(size, Ordering::Relaxed);
            size
        }
        known => known,
    }
}

fn limit(resource: Resource) -> u64 {
    // RLIM_INFINITY is u64::MAX, our UNLIMITED.
    getrlimit(resource).map_or(UNLIMITED, |(soft, _)| soft)
}

/// Returns the largest file this process may write, in bytes; going past it would raise SIGXFSZ.
pub fn file_size_limit() -> u64 {
    limit(Resource::RLIMIT_FSIZE)
}

/// Returns how much this process may lock in memory, in bytes.
pub fn locked_memory_limit() -> u64 {
    limit(Resource::RLIMIT_MEMLOCK)
}

/// Returns how much address space this process may have, in bytes.
pub fn address_space_limit() -> u64 {
    limit(Resource::RLIMIT_AS)
}

/// Returns how many file descriptors this process may have.
pub fn open_files_limit() -> u64 {
    limit(Resource::RLIMIT_NOFILE)
}

/// How many descriptors may be in flight at once; more threads than that wait for each other.
const IN_FLIGHT: usize = 64;
const NONE: i32 = -1;

/// Descriptors that must not live on in a forked child, because a lock hangs on them.
static DESCRIPTORS: [AtomicI32; IN_FLIGHT] = [const { AtomicI32::new(NONE) }; IN_FLIGHT];

struct Fence(UnsafeCell<libc::pthread_mutex_t>);
// SAFETY: a pthread mutex is made to be used from any thread.
unsafe impl Sync for Fence {}

/// Held while a descriptor is opened and noted, and by every fork: so a child never inherits one it has not heard of.
static FENCE: Fence = Fence(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER));
static HANDLERS: Once = Once::new();

extern "C" fn lock_fence() {
    // SAFETY: the mutex is static and initialised; it is not locked by this thread (no caller of ours forks inside it).
    unsafe { libc::pthread_mutex_lock(FENCE.0.get()) };
}

extern "C" fn unlock_fence() {
    // SAFETY: this thread locked it, in `fork_safely` or in the prepare handler; the child's thread is a copy of that.
    unsafe { libc::pthread_mutex_unlock(FENCE.0.get()) };
}

extern "C" fn drop_inherited() {
    for slot in &DESCRIPTORS {
        let fd = slot.swap(NONE, Ordering::Relaxed);
        if fd != NONE {
            // SAFETY: noted descriptors are open, and in this child nobody else uses them: their owners' threads are
            // gone, and a `Fleeting` that the forking thread still holds finds its slot empty and leaves it alone.
            unsafe { libc::close(fd) };
        }
    }
    unlock_fence();
}

/// A descriptor that forked children do not keep.
///
/// A child made by `fork` closes its copy at once. One made by a raw `clone` without `exec` keeps it: not covered.
pub struct Fleeting {
    fd: i32,
    slot: &'static AtomicI32,
}

impl Fleeting {
    /// Opens a descriptor with `open`, which returns it or an error, such that no forked child keeps it.
    pub fn open<E>(
        open: impl FnOnce() -> std::result::Result<std::os::fd::OwnedFd, E>,
    ) -> std::result::Result<Self, E> {
        use std::os::fd::IntoRawFd;
        HANDLERS.call_once(|| {
            // SAFETY: the three handlers are static functions that only take, give back and read statics.
            unsafe {
                libc::pthread_atfork(Some(lock_fence), Some(unlock_fence), Some(drop_inherited))
            };
        });
        loop {
            lock_fence();
            let Some(slot) = DESCRIPTORS
                .iter()
                .find(|slot| slot.load(Ordering::Relaxed) == NONE)
            else {
                unlock_fence();
                std::thread::yield_now();
                continue;
            };
            let opened = open().map(IntoRawFd::into_raw_fd);
            if let Ok(fd) = opened {
                slot.store(fd, Ordering::Relaxed);
            }
            unlock_fence();
            return opened.map(|fd| Fleeting { fd, slot });
        }
    }

    /// Returns the descriptor's number.
    pub fn borrow(&self) -> std::os::fd::BorrowedFd<'_> {
        // SAFETY: the descriptor stays open as long as self: only drop and a forked child's handler close it.
        unsafe { std::os::fd::BorrowedFd::borrow_raw(self.fd) }
    }
}

impl Drop for Fleeting {
    fn drop(&mut self) {
        lock_fence();
        let mine = self
            .slot
            .compare_exchange(self.fd, NONE, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok();
        if mine {
            // SAFETY: the slot still named it, so it is ours and open; from here on nobody names it.
            unsafe { libc::close(self.fd) };
        }
        unlock_fence();
    }
}
