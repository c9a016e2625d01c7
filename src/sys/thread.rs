//! Threads: those of the library itself, and the cancellation of the caller's.

use super::refused;
use crate::error::{Error, Result};
use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use std::ffi::c_int;
use std::thread::{Builder, JoinHandle};

unsafe extern "C" {
    fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
}

/// PTHREAD_CANCEL_DISABLE of glibc and musl.
const CANCEL_DISABLE: c_int = 1;

/// Keeps pthread_cancel(3) from ending this thread until it is dropped: a cancelled thread is unwound, which the frames
/// of this library do not allow.
pub struct CancelGuard {
    before: c_int,
}

impl CancelGuard {
    /// Disables the cancellation of this thread.
    pub fn new() -> CancelGuard {
        let mut before = CANCEL_DISABLE;
        // SAFETY: the state is valid, and `before` is writable.
        unsafe { pthread_setcancelstate(CANCEL_DISABLE, &raw mut before) };
        CancelGuard { before }
    }
}

impl Drop for CancelGuard {
    fn drop(&mut self) {
        // SAFETY: the state is one that the function returned.
        unsafe { pthread_setcancelstate(self.before, std::ptr::null_mut()) };
    }
}

/// Blocks all signals of this thread until it is dropped.
pub struct SignalGuard {
    before: Option<SigSet>,
}

impl SignalGuard {
    /// Blocks all signals of this thread, except those that report a fault of its own.
    pub fn new() -> SignalGuard {
        let mut all = SigSet::all();
        for fault in [
            Signal::SIGSEGV,
            Signal::SIGBUS,
            Signal::SIGFPE,
            Signal::SIGILL,
            Signal::SIGTRAP,
            Signal::SIGSYS,
        ] {
            all.remove(fault);
        }
        SignalGuard {
            before: all.thread_swap_mask(SigmaskHow::SIG_BLOCK).ok(),
        }
    }
}

impl Drop for SignalGuard {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // It cannot fail for a set that the kernel has returned.
            let _ = before.thread_set_mask();
        }
    }
}

/// Starts a thread that blocks all signals, which are the program's. `Unsupported`: the kernel starts no thread.
pub fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let blocked = SignalGuard::new();
    let started = Builder::new().name(name.to_owned()).spawn(body);
    drop(blocked);
    started.map_err(|error| {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
        match refused(errno, "cannot start a thread") {
            Error::System(cause) => Error::Unsupported(cause),
            other => other,
        }
    })
}
