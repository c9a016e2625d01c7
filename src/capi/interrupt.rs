//! Interrupt hook: how a caller ends a long call.

use super::run;
use super::status::shmkit_status;
use crate::sys::interrupt;
use std::ffi::c_void;

/// A function that long operations ask whether to go on: 0, or anything else to end them.
#[allow(non_camel_case_types)]
pub type shmkit_interrupt_hook = Option<unsafe extern "C" fn(argument: *mut c_void) -> i32>;

/// Lets the hook end this call with SHMKIT_ERR_INTERRUPTED. Without it signals do not end a call.
pub const SHMKIT_INTERRUPTIBLE: u32 = 1;

/// Installs the one interrupt hook of this process; NULL takes it away.
///
/// Calls that were given SHMKIT_INTERRUPTIBLE call it, on their own thread, when a signal has come and after each
/// step: at most 64 MiB of memory set aside, or 12 ms of sleep. If it returns nonzero, they undo what they had begun and return
/// SHMKIT_ERR_INTERRUPTED. It may call any function of this library. Whoever replaces a hook makes sure that calls
/// begun before have ended before its `argument` goes.
///
/// # Safety
/// Any thread may call `hook` with `argument`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_set_interrupt(
    hook: shmkit_interrupt_hook,
    argument: *mut c_void,
) -> shmkit_status {
    run(|| {
        // SAFETY: the caller's promise.
        unsafe { interrupt::set(hook, argument) };
        Ok(())
    })
}
