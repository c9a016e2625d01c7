//! A signal handler and an interrupt hook that count their calls.

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use shmkit::capi::interrupt::shmkit_set_interrupt;
use std::ffi::c_void;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// The number of signals that this process has handled.
pub static SIGNALS: AtomicU64 = AtomicU64::new(0);

extern "C" fn count(_: i32) {
    SIGNALS.fetch_add(1, Relaxed);
}

/// Makes SIGUSR1 interrupt system calls.
pub fn catch_signals() {
    let action = SigAction::new(
        SigHandler::Handler(count),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler only adds to an atomic word.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
}

extern "C" fn hook(words: *mut c_void) -> i32 {
    // SAFETY: `install_hook` passes two words that live as long as the process.
    let words = unsafe { std::slice::from_raw_parts(words.cast::<AtomicU64>(), 2) };
    let (call, last) = (words[0].fetch_add(1, Relaxed) + 1, words[1].load(Relaxed));
    i32::from(last != 0 && call >= last)
}

/// Installs a hook that counts its calls in the first word. It ends the wait from the call in the second word on; 0 means
/// never.
pub fn install_hook(words: &'static [AtomicU64]) {
    assert!(words.len() >= 2);
    // SAFETY: the hook may be called from any thread, and its words live as long as the process.
    let status = unsafe { shmkit_set_interrupt(Some(hook), words.as_ptr().cast_mut().cast()) };
    assert_eq!(status, 0);
}
