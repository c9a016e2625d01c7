//! What a fork must not tear apart: words that are zero in a child, descriptors that a child must not keep, and the
//! fork lock, for which forks wait.
//!
//! ```text
//! page:  | lock (4 bytes) | … | word | word | word | …        MADV_WIPEONFORK: a child finds zeros
//! ```
//!
//! | lock | means                               |
//! |------|-------------------------------------|
//! | 0    | free; so in every new child         |
//! | 1    | a thread holds it                   |
//! | 2    | a thread holds it, and others sleep |

use super::process::page_size;
use super::refused;
use crate::error::{Error, Result};
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous};
use std::cell::UnsafeCell;
use std::num::NonZeroUsize;
use std::os::fd::{BorrowedFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// How many words a page is sure to hold; larger pages leave the rest unused.
const WORDS_PER_PAGE: usize = 512;

#[repr(C)]
struct Page {
    lock: AtomicU32,
    /// Registering the fork handlers twice would take the lock twice.
    _unused: AtomicU32,
    words: [AtomicU64; WORDS_PER_PAGE - 1],
}

impl Page {
    const fn zeros() -> Page {
        Page {
            lock: AtomicU32::new(0),
            _unused: AtomicU32::new(0),
            words: [const { AtomicU64::new(0) }; WORDS_PER_PAGE - 1],
        }
    }

    /// Maps a page that a forked child finds full of zeros; it is never unmapped.
    fn map() -> std::result::Result<&'static Page, Errno> {
        let length = NonZeroUsize::new(page_size() as usize).ok_or(Errno::EINVAL)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
        let page = unsafe { mmap_anonymous(None, length, access, MapFlags::MAP_PRIVATE) }?;
        // SAFETY: the page is ours, and nobody relies yet on what a child finds in it.
        let wiped = unsafe { madvise(page, length.get(), MmapAdvise::MADV_WIPEONFORK) };
        if let Err(errno) = wiped {
            // SAFETY: the page was mapped above with this length, and nobody else knows of it.
            let _ = unsafe { nix::sys::mman::munmap(page, length.get()) };
            return Err(errno);
        }
        // SAFETY: a page of zeros, aligned and never unmapped, is a Page: atomics take any bytes.
        Ok(unsafe { page.cast::<Page>().as_ref() })
    }
}

/// The page that has the fork lock; null until the first use.
static FIRST: AtomicPtr<Page> = AtomicPtr::new(std::ptr::null_mut());
/// Has the fork lock where the kernel wipes no pages: then there are no fork-local words.
static UNWIPED: Page = Page::zeros();

fn first_page() -> &'static Page {
    let known = FIRST.load(Ordering::Acquire); // PAIRS fork.page
    if known.is_null() {
        return map_first_page();
    }
    // SAFETY: FIRST is null or a page that is never unmapped.
    unsafe { &*known }
}

#[cold]
fn map_first_page() -> &'static Page {
    let page = Page::map().unwrap_or(&UNWIPED);
    // Of two threads that come here at once one wins; the other's page stays unused.
    // PAIRS fork.page: who sees the address sees its zeros.
    match FIRST.compare_exchange(
        std::ptr::null_mut(),
        std::ptr::from_ref(page).cast_mut(),
        Ordering::AcqRel,
        Ordering::Acquire,
    ) {
        Ok(_) => page,
        // SAFETY: as in `first_page`.
        Err(other) => unsafe { &*other },
    }
}

/// Sleeps while `word` is `expected`: among the threads of this process, whose own page it stands in, so the futex is private.
fn sleep(word: &AtomicU32, expected: u32) {
    let (operation, forever) = (
        libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
        std::ptr::null::<libc::timespec>(),
    );
    // SAFETY: the kernel reads the four bytes at `word`, which is never unmapped.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, expected, forever) };
}

fn acquire_fork_lock() {
    let lock = &first_page().lock;
    // PAIRS fork.fence: what the last one inside has done is seen here.
    if lock
        .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
        .is_err()
    {
        while lock.swap(2, Ordering::Acquire) != 0 {
            sleep(lock, 2);
        }
    }
}

fn release_fork_lock() {
    let lock = &first_page().lock;
    // PAIRS fork.fence
    if lock.swap(0, Ordering::Release) == 2 {
        let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: the address only names the sleepers.
        unsafe { libc::syscall(libc::SYS_futex, lock.as_ptr(), operation, 1) };
    }
}

extern "C" fn prepare() {
    acquire_fork_lock();
}

extern "C" fn parent() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    release_fork_lock();
}

extern "C" fn child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    for slot in &CLOSE_ON_FORK_FDS {
        let fd = slot.swap(NO_FD, Ordering::Relaxed);
        if fd != NO_FD {
            // SAFETY: noted descriptors are open, and in this child nobody else uses them: their owners' threads are
            // gone, and a `CloseOnForkFd` that the forking thread still holds finds its slot empty and leaves it alone.
            unsafe { libc::close(fd) };
        }
    }
    // Wiped already, but for the page that no kernel wipes.
    release_fork_lock();
}

/// How many forks there have been, in this process and in those it was forked from.
static FORKS: AtomicU64 = AtomicU64::new(0);
/// Set before the handlers are registered: a child forked in between does without, instead of waiting for itself.
static REGISTERED: AtomicBool = AtomicBool::new(false);

/// The fork lock, held: no fork happens, and no other thread has it; dropped, it is released.
///
/// Its holder must not fork. A raw `clone` does not wait for it: what it copies is not covered.
pub struct ForkLock(());

impl ForkLock {
    /// Takes it, waiting for another thread that has it.
    pub fn enter() -> ForkLock {
        acquire_fork_lock();
        if !REGISTERED.swap(true, Ordering::Relaxed) {
            // SAFETY: the three handlers are static functions that only take, give back and read statics.
            unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
        }
        ForkLock(())
    }
}

impl Drop for ForkLock {
    fn drop(&mut self) {
        release_fork_lock();
    }
}

/// A value that can be reached only with the fork lock, so that a forked child finds it whole.
pub struct ForkLocked<T>(UnsafeCell<T>);

// SAFETY: `get` gives out one reference at a time: it borrows the fork lock, of which there is one, mutably.
unsafe impl<T: Send> Sync for ForkLocked<T> {}

impl<T> ForkLocked<T> {
    /// Keeps a value.
    pub const fn new(value: T) -> ForkLocked<T> {
        ForkLocked(UnsafeCell::new(value))
    }

    /// Returns the value.
    pub fn get<'a>(&'a self, _inside: &'a mut ForkLock) -> &'a mut T {
        // SAFETY: one thread is inside, it has one `ForkLock`, and that is borrowed as long as the value is.
        unsafe { &mut *self.0.get() }
    }
}

/// Returns a number that changes with every fork that a handler could see.
pub fn forks() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

/// A word that is zero in a forked child, whatever it was in its parent.
pub type ForkLocal = &'static AtomicU64;

static UNUSED: ForkLocked<Vec<ForkLocal>> = ForkLocked::new(Vec::new());

/// Gives out a fork-local word, which is zero. `Unsupported` where the kernel wipes no pages (before Linux 4.14).
pub fn new_fork_local(inside: &mut ForkLock) -> Result<ForkLocal> {
    let unused = UNUSED.get(inside);
    if unused.is_empty() {
        let page = match FIRST.load(Ordering::Acquire) {
            first if first == std::ptr::from_ref(&UNWIPED).cast_mut() => Err(Errno::EINVAL),
            // PAIRS fork.page. The first page is used up first.
            first if !FIRST_USED.swap(true, Ordering::Relaxed) => {
                // SAFETY: with the fork lock held FIRST has been set, to a page that is never unmapped.
                Ok(unsafe { &*first })
            }
            _ => Page::map(),
        };
        let page = page.map_err(|errno| match errno {
            Errno::EINVAL => Error::Unsupported(
                "this kernel cannot wipe a page at fork (MADV_WIPEONFORK, Linux 4.14)".into(),
            ),
            _ => refused(errno, "cannot map a page that forks wipe"),
        })?;
        unused.extend(page.words.iter());
    }
    unused
        .pop()
        .ok_or(Error::Internal("a page without words".into()))
}

static FIRST_USED: AtomicBool = AtomicBool::new(false);

/// Takes a fork-local word back.
pub fn free_fork_local(inside: &mut ForkLock, word: ForkLocal) {
    word.store(0, Ordering::Relaxed);
    UNUSED.get(inside).push(word);
}

/// How many descriptors may be in flight at once; more threads than that wait for each other.
const MAX_CLOSE_ON_FORK_FDS: usize = 64;
const NO_FD: i32 = -1;

/// Descriptors that must not live on in a forked child, because a lock hangs on them.
static CLOSE_ON_FORK_FDS: [AtomicI32; MAX_CLOSE_ON_FORK_FDS] =
    [const { AtomicI32::new(NO_FD) }; MAX_CLOSE_ON_FORK_FDS];

/// A descriptor that forked children do not keep.
///
/// A child made by `fork` closes its copy at once. One made by a raw `clone` without `exec` keeps it: not covered.
pub struct CloseOnForkFd {
    fd: i32,
    slot: &'static AtomicI32,
}

impl CloseOnForkFd {
    /// Opens a descriptor with `open`, which returns it or an error, such that no forked child keeps it.
    pub fn open<E>(
        open: impl FnOnce() -> std::result::Result<OwnedFd, E>,
    ) -> std::result::Result<Self, E> {
        loop {
            let inside = ForkLock::enter();
            let Some(slot) = CLOSE_ON_FORK_FDS
                .iter()
                .find(|slot| slot.load(Ordering::Relaxed) == NO_FD)
            else {
                drop(inside);
                std::thread::yield_now();
                continue;
            };
            let fd = open()?.into_raw_fd();
            slot.store(fd, Ordering::Relaxed);
            return Ok(CloseOnForkFd { fd, slot });
        }
    }

    /// Returns the descriptor's number.
    pub fn borrow(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor stays open as long as self: only drop and a forked child's handler close it.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }
}

impl Drop for CloseOnForkFd {
    fn drop(&mut self) {
        let _inside = ForkLock::enter();
        let mine = self
            .slot
            .compare_exchange(self.fd, NO_FD, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok();
        if mine {
            // SAFETY: the slot still named it, so it is ours and open; from here on nobody names it.
            unsafe { libc::close(self.fd) };
        }
    }
}
