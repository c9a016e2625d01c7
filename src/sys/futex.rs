//! Sleeps until a shared word changes, and wakes who sleeps (futex(2)), between processes and between threads.
//!
//! The kernel compares 32 bits: of a 64-bit word the half that has the lower value. A wake can be lost to a kill, so
//! nobody sleeps without a deadline.

use crate::sys::atomic::AtomicU64;

#[cfg(not(target_endian = "little"))]
compile_error!("the lower half of a word is expected at its address");

/// What ended a sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(loom, allow(dead_code, reason = "the model knows no time"))]
pub enum Awake {
    /// A wake, or the word had changed before; or nothing at all: look again.
    Changed,
    /// The deadline.
    Deadline,
    /// A signal.
    Signal,
}

/// Sleeps while the lower half of `word` is that of `expected`, at most until `deadline` of `clock::monotonic`.
#[cfg(not(loom))]
pub fn wait(word: &AtomicU64, expected: u64, deadline: u64) -> Awake {
    /// Nanoseconds in a second.
    const SECOND: u64 = 1_000_000_000;
    let until = libc::timespec {
        tv_sec: (deadline / SECOND) as libc::time_t,
        tv_nsec: (deadline % SECOND) as libc::c_long,
    };
    // FUTEX_WAIT_BITSET takes an absolute time; without FUTEX_PRIVATE_FLAG other processes can wake us.
    // SAFETY: the kernel reads the four bytes at `word`, which lives as long as the reference, and `until`.
    let result = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT_BITSET,
            expected as u32,
            &raw const until,
            std::ptr::null::<u32>(),
            libc::FUTEX_BITSET_MATCH_ANY,
        )
    };
    match nix::errno::Errno::result(result) {
        Err(nix::errno::Errno::ETIMEDOUT) => Awake::Deadline,
        Err(nix::errno::Errno::EINTR) => Awake::Signal,
        _ => Awake::Changed,
    }
}

/// Wakes up to `count` sleepers.
#[cfg(not(loom))]
pub fn wake(word: &AtomicU64, count: i32) {
    // SAFETY: the address is only a name for the sleepers; nothing is read or written there.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count) };
}

/// The model of both: a lost wake shows as a deadlock, because here no deadline ever comes.
#[cfg(loom)]
mod model {
    use super::{AtomicU64, Awake};
    use crate::sys::atomic::Ordering;
    use loom::sync::{Condvar, Mutex};

    loom::lazy_static! {
        static ref BED: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());
    }

    pub fn wait(word: &AtomicU64, expected: u64, _deadline: u64) -> Awake {
        let guard = BED.0.lock().expect("nobody panics");
        if word.load(Ordering::Relaxed) as u32 == expected as u32 {
            drop(BED.1.wait(guard).expect("nobody panics"));
        }
        Awake::Changed
    }

    pub fn wake(_word: &AtomicU64, count: i32) {
        let _guard = BED.0.lock().expect("nobody panics");
        match count {
            1 => BED.1.notify_one(),
            _ => BED.1.notify_all(),
        }
    }
}
#[cfg(loom)]
pub use model::{wait, wake};
