//! Safety across fork: words that are zero in a child, descriptors that a child must not keep, and the fork lock, which
//! delays forks.
//!
//! ```text
//! page:  | lock (4 bytes) | … | process | word | word | …        MADV_WIPEONFORK: zeros in a forked child
//! ```
//!
//! | lock | means                               |
//! |------|-------------------------------------|
//! | 0    | free, as in every new child         |
//! | 1    | a thread holds it                   |
//! | 2    | a thread holds it, and others sleep |

use super::process::page_size;
use super::refused;
use super::thread::{CancelGuard, SignalGuard};
use crate::error::{Error, Result};
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous};
use std::cell::UnsafeCell;
use std::num::NonZeroUsize;
use std::os::fd::{BorrowedFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// Number of words that fit any page; larger pages leave the rest unused.
const WORDS_PER_PAGE: usize = 512;

#[repr(C)]
struct Page {
    lock: AtomicU32,
    /// Aligns the words.
    _unused: AtomicU32,
    /// Of the first page: a number that no ancestor of this process has; 0 before its first use.
    process: AtomicU64,
    words: [AtomicU64; WORDS_PER_PAGE - 2],
}

impl Page {
    const fn zeros() -> Page {
        Page {
            lock: AtomicU32::new(0),
            _unused: AtomicU32::new(0),
            process: AtomicU64::new(0),
            words: [const { AtomicU64::new(0) }; WORDS_PER_PAGE - 2],
        }
    }

    /// Maps a page that is all zeros in a forked child; it is never unmapped.
    fn map() -> std::result::Result<&'static Page, Errno> {
        let length = NonZeroUsize::new(page_size() as usize).ok_or(Errno::EINVAL)?;
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
        let page = unsafe { mmap_anonymous(None, length, access, MapFlags::MAP_PRIVATE) }?;
        // SAFETY: the page was mapped above, and nothing in it has been used yet.
        let wiped = unsafe { madvise(page, length.get(), MmapAdvise::MADV_WIPEONFORK) };
        if let Err(errno) = wiped {
            // SAFETY: the page was mapped above with this length, and no reference to it exists.
            let _ = unsafe { nix::sys::mman::munmap(page, length.get()) };
            return Err(errno);
        }
        // SAFETY: an aligned page of zeros that is never unmapped is a valid Page, because atomics allow any bytes.
        Ok(unsafe { page.cast::<Page>().as_ref() })
    }
}

/// The page with the fork lock; null until the first use.
static FIRST: AtomicPtr<Page> = AtomicPtr::new(std::ptr::null_mut());
/// Has the fork lock if the kernel cannot wipe pages; then there are no fork-local words.
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
    // Of two threads that race here, one wins; the other's page stays unused.
    // PAIRS fork.page: a reader of the address sees the zeros of the page.
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

/// Sleeps while `word` is `expected`. The futex is private, because only threads of this process use the word.
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
    // PAIRS fork.fence: the new owner sees what the last owner did.
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
        // SAFETY: the kernel does not access the word; the address only identifies the sleepers.
        unsafe { libc::syscall(libc::SYS_futex, lock.as_ptr(), operation, 1) };
    }
}

/// The fork lock of the thread that is forking, from `prepare` until `parent` or `child`.
static FORKING: ForkLocked<Option<ForkLock>> = ForkLocked::new(None);

extern "C" fn prepare() {
    let inside = ForkLock::acquire();
    // SAFETY: this thread owns the fork lock, and no other reference to the value exists.
    unsafe { *FORKING.0.get() = Some(inside) };
}

/// Returns the fork lock that `prepare` acquired in this thread, or in the parent of this child.
fn prepared() -> Option<ForkLock> {
    // SAFETY: as in `prepare`: the thread that forks owns the lock, and in the child it is the only thread.
    unsafe { (*FORKING.0.get()).take() }
}

extern "C" fn parent() {
    let inside = prepared();
    FORKS.fetch_add(1, Ordering::Relaxed);
    drop(inside);
}

extern "C" fn child() {
    let inside = prepared();
    FORKS.fetch_add(1, Ordering::Relaxed);
    // The kernel has wiped it already, unless it cannot wipe pages.
    first_page().process.store(0, Ordering::Relaxed);
    if let Some(mut inside) = inside {
        for (_, fd) in CLOSE_ON_FORK.get(&mut inside).fds.drain(..) {
            // SAFETY: the descriptor is open, and no code in this child uses it: the threads of the owners do not exist
            // here. A `CloseOnForkFd` of the forking thread is not in the list any more, and does not close it again.
            unsafe { libc::close(fd) };
        }
        // The kernel has wiped the lock itself already, unless it cannot wipe pages.
    }
}

/// Number of forks in this process and in its ancestors since they loaded the library.
static FORKS: AtomicU64 = AtomicU64::new(0);
/// Set before the handlers are registered: registered twice, they would acquire the lock twice. A child that is forked
/// between the two steps has no handlers.
static REGISTERED: AtomicBool = AtomicBool::new(false);

/// The fork lock, acquired: no fork happens, and no other thread holds it. Dropping it releases the lock.
///
/// Meanwhile the signals of this thread are blocked, because a handler may fork, and the fork would wait for this
/// thread. The thread cannot be cancelled either. A raw `clone` does not wait for the lock and is not covered.
pub struct ForkLock {
    /// Fields are dropped in this order, after the lock is released.
    _signals: SignalGuard,
    _cancel: CancelGuard,
}

impl ForkLock {
    /// Acquires the fork lock; blocks while another thread holds it.
    pub fn enter() -> ForkLock {
        let inside = ForkLock::acquire();
        if !REGISTERED.swap(true, Ordering::Relaxed) {
            // SAFETY: the three handlers are static functions. They acquire and release the lock, and access statics.
            unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
        }
        inside
    }

    fn acquire() -> ForkLock {
        let inside = ForkLock {
            _cancel: CancelGuard::new(),
            _signals: SignalGuard::new(),
        };
        acquire_fork_lock();
        inside
    }
}

impl Drop for ForkLock {
    fn drop(&mut self) {
        release_fork_lock();
    }
}

/// A value that is accessible only with the fork lock, so that a forked child never finds it half changed.
pub struct ForkLocked<T>(UnsafeCell<T>);

// SAFETY: `get` returns one reference at a time, because it borrows mutably the fork lock, of which there is one.
unsafe impl<T: Send> Sync for ForkLocked<T> {}

impl<T> ForkLocked<T> {
    /// Wraps a value.
    pub const fn new(value: T) -> ForkLocked<T> {
        ForkLocked(UnsafeCell::new(value))
    }

    /// Returns the value.
    pub fn get<'a>(&'a self, _inside: &'a mut ForkLock) -> &'a mut T {
        // SAFETY: one thread owns the fork lock, by one `ForkLock`, which is borrowed as long as the reference lives.
        unsafe { &mut *self.0.get() }
    }
}

/// Returns a number that changes with every fork that runs the fork handlers.
pub fn forks() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

/// A word that is zero in a forked child, whatever its value in the parent.
pub type ForkLocal = &'static AtomicU64;

/// The process that began an operation. A signal handler or a hook may fork during the operation, and the child would
/// go on with it in the name of its parent. So the operation checks its origin after each system call and hook.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    word: ForkLocal,
    value: u64,
}

impl Origin {
    /// Returns the process in which `word` has this value, which is not 0, and which no ancestor has had there.
    pub fn of(word: ForkLocal, value: u64) -> Origin {
        Origin { word, value }
    }

    /// Returns this process, for an operation that needs no other identity.
    pub fn here() -> Origin {
        /// The last number given out. Not wiped: a child goes on from its parent's.
        static LAST: AtomicU64 = AtomicU64::new(0);
        let word = &first_page().process;
        let value = match word.load(Ordering::Relaxed) {
            0 => {
                let new = LAST.fetch_add(1, Ordering::Relaxed) + 1;
                // Of two threads that race here, one wins.
                word.compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed)
                    .map_or_else(|known| known, |_| new)
            }
            known => known,
        };
        Origin { word, value }
    }

    /// Returns whether this process began the operation.
    pub fn is_here(&self) -> bool {
        self.word.load(Ordering::Relaxed) == self.value
    }

    /// `Forked`: another process began the operation, an ancestor of this one.
    pub fn check(&self) -> Result<()> {
        match self.is_here() {
            true => Ok(()),
            false => Err(forked()),
        }
    }
}

#[cold]
fn forked() -> Error {
    Error::Forked(
        "the process was forked during the call, which goes on in the parent only: call again in the child".into(),
    )
}

static UNUSED: ForkLocked<Vec<ForkLocal>> = ForkLocked::new(Vec::new());

/// Allocates a fork-local word, which is zero. `Unsupported`: the kernel cannot wipe pages (before Linux 4.14).
pub fn new_fork_local(inside: &mut ForkLock) -> Result<ForkLocal> {
    let unused = UNUSED.get(inside);
    if unused.is_empty() {
        let page = match FIRST.load(Ordering::Acquire) {
            first if first == std::ptr::from_ref(&UNWIPED).cast_mut() => Err(Errno::EINVAL),
            // PAIRS fork.page. The words of the first page are used before another page is mapped.
            first if !FIRST_USED.swap(true, Ordering::Relaxed) => {
                // SAFETY: the owner of the fork lock has set FIRST, to a page that is never unmapped.
                Ok(unsafe { &*first })
            }
            _ => Page::map(),
        };
        let page = page.map_err(|errno| match errno {
            Errno::EINVAL => Error::Unsupported(
                "this kernel cannot wipe a page at fork (MADV_WIPEONFORK); use Linux 4.14 or later"
                    .into(),
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

/// Frees a fork-local word.
pub fn free_fork_local(inside: &mut ForkLock, word: ForkLocal) {
    word.store(0, Ordering::Relaxed);
    UNUSED.get(inside).push(word);
}

/// Descriptors that a forked child must close, because they keep a lock.
struct CloseOnFork {
    /// The last key given out.
    last: u64,
    /// A number may belong to another file in a child, so each has a key.
    fds: Vec<(u64, i32)>,
}

static CLOSE_ON_FORK: ForkLocked<CloseOnFork> = ForkLocked::new(CloseOnFork {
    last: 0,
    fds: Vec::new(),
});

/// A descriptor that forked children do not keep.
///
/// A child made by `fork` closes its copy at once. A child made by a raw `clone` without `exec` keeps it: not covered.
pub struct CloseOnForkFd {
    fd: i32,
    key: u64,
    origin: Origin,
}

impl CloseOnForkFd {
    /// Calls `open` and registers the descriptor that it returns, so that no forked child keeps it.
    pub fn open<E>(
        open: impl FnOnce() -> std::result::Result<OwnedFd, E>,
    ) -> std::result::Result<Self, E> {
        let mut inside = ForkLock::enter();
        let origin = Origin::here();
        let fd = open()?.into_raw_fd();
        let list = CLOSE_ON_FORK.get(&mut inside);
        list.last += 1;
        let key = list.last;
        list.fds.push((key, fd));
        Ok(CloseOnForkFd { fd, key, origin })
    }

    /// Returns the process that opened it. No other one may use the descriptor.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Returns the descriptor.
    pub fn borrow(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor stays open as long as self: only `drop` and the handler of a forked child close it.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }
}

impl Drop for CloseOnForkFd {
    fn drop(&mut self) {
        let mut inside = ForkLock::enter();
        let list = CLOSE_ON_FORK.get(&mut inside);
        if let Some(at) = list.fds.iter().position(|&(key, _)| key == self.key) {
            list.fds.swap_remove(at);
            // SAFETY: the list still contained it, so it is open and ours, and no other code will close it.
            unsafe { libc::close(self.fd) };
        }
    }
}
