//! Sleeping until a shared word changes, and waking, between processes and between threads (futex(2)).
//!
//! The kernel compares 32 bits: the lower half of a 64-bit word. If a process dies between a store and its wake, the
//! wake is lost, so every sleep has a deadline.

use crate::sys::atomic::AtomicU64;

#[cfg(not(target_endian = "little"))]
compile_error!("the lower half of a word is expected at its address");

/// Why a sleep ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(loom, allow(dead_code, reason = "loom has no time"))]
pub enum WakeReason {
    /// A wake, a word that had changed before, or no reason at all: the caller looks again.
    Changed,
    /// The deadline.
    Deadline,
    /// A signal.
    Signal,
}

/// The set that a sleeper joins; a wake selects one set or both. A futex bitset: bits of FUTEX_WAIT_BITSET (futex(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum WaitSet {
    /// Waiters that go first.
    Priority = 1,
    /// All other waiters.
    Normal = 2,
    /// Both.
    All = 3,
}

/// Sleeps in `set` while the lower halves of `word` and `expected` are equal, at most until `deadline` of
/// `clock::monotonic`.
#[cfg(not(loom))]
pub fn wait(word: &AtomicU64, expected: u64, deadline: u64, set: WaitSet) -> WakeReason {
    /// Nanoseconds in a second.
    const SECOND: u64 = 1_000_000_000;
    let until = libc::timespec {
        tv_sec: (deadline / SECOND) as libc::time_t,
        tv_nsec: (deadline % SECOND) as libc::c_long,
    };
    // FUTEX_WAIT_BITSET has an absolute deadline. Without FUTEX_PRIVATE_FLAG other processes can wake us.
    // SAFETY: the kernel reads the four bytes at `word`, which lives as long as the reference, and `until`.
    let result = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT_BITSET,
            expected as u32,
            &raw const until,
            std::ptr::null::<u32>(),
            set as u32,
        )
    };
    match nix::errno::Errno::result(result) {
        Err(nix::errno::Errno::ETIMEDOUT) => WakeReason::Deadline,
        Err(nix::errno::Errno::EINTR) => WakeReason::Signal,
        _ => WakeReason::Changed,
    }
}

/// Wakes up to `count` sleepers in `set`; returns whether there was one. It preserves errno, so that a signal handler
/// may call it.
#[cfg(not(loom))]
pub fn wake(word: &AtomicU64, count: i32, set: WaitSet) -> bool {
    let errno = nix::errno::Errno::last_raw();
    // SAFETY: the kernel does not access the word; the address only identifies the sleepers.
    let woken = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE_BITSET,
            count,
            std::ptr::null::<libc::timespec>(),
            std::ptr::null::<u32>(),
            set as u32,
        )
    };
    if woken < 0 {
        nix::errno::Errno::set_raw(errno);
    }
    woken > 0
}

/// The model of both in loom: it has no deadlines, so a lost wake shows as a deadlock (D-024).
#[cfg(loom)]
mod model {
    use super::{AtomicU64, WaitSet, WakeReason};
    use crate::sys::atomic::Ordering;
    use loom::sync::{Arc, Condvar, Mutex, MutexGuard};

    /// A sleeper: its word, its set, and what wakes it.
    struct Sleeper {
        word: *const AtomicU64,
        set: WaitSet,
        condvar: Arc<Condvar>,
    }

    // SAFETY: the address only identifies the word; it is never dereferenced.
    unsafe impl Send for Sleeper {}

    loom::lazy_static! {
        static ref SLEEPERS: Mutex<Vec<Sleeper>> = Mutex::new(Vec::new());
    }

    fn sleepers() -> MutexGuard<'static, Vec<Sleeper>> {
        SLEEPERS.lock().expect("not poisoned")
    }

    pub fn wait(word: &AtomicU64, expected: u64, _deadline: u64, set: WaitSet) -> WakeReason {
        let mut sleepers = sleepers();
        if word.load(Ordering::Relaxed) as u32 == expected as u32 {
            let condvar = Arc::new(Condvar::new());
            sleepers.push(Sleeper {
                word,
                set,
                condvar: condvar.clone(),
            });
            drop(condvar.wait(sleepers).expect("not poisoned"));
        }
        WakeReason::Changed
    }

    /// Wakes the normal set first: the kernel wakes in the order of arrival, which may be this one.
    pub fn wake(word: &AtomicU64, count: i32, set: WaitSet) -> bool {
        let mut sleepers = sleepers();
        let mut left = count;
        for kind in [WaitSet::Normal, WaitSet::Priority] {
            let meant = |sleeper: &Sleeper| {
                std::ptr::eq(sleeper.word, word)
                    && sleeper.set == kind
                    && (set == WaitSet::All || set == kind)
            };
            while left > 0
                && let Some(index) = sleepers.iter().position(meant)
            {
                left -= 1;
                sleepers.remove(index).condvar.notify_one();
            }
        }
        left < count
    }
}
#[cfg(loom)]
pub use model::{wait, wake};
