//! Interrupt hook: a function of the program that can end a long call.

use super::run;
use super::status::shmkit_status;
use crate::sys::interrupt;
use std::ffi::c_void;

/// A function that long calls run to ask whether to continue. It returns 0 to continue, or another
/// number to end the call.
#[allow(non_camel_case_types)]
pub type shmkit_interrupt_hook = Option<unsafe extern "C" fn(argument: *mut c_void) -> i32>;

/// In the flags of a call or of segment options: the interrupt hook may end the call, which then
/// fails with SHMKIT_ERR_INTERRUPTED. Without this flag signals do not end a call.
pub const SHMKIT_INTERRUPTIBLE: u32 = 1;

/// Installs the interrupt hook of this process; there is only one. NULL removes it.
///
/// Calls with SHMKIT_INTERRUPTIBLE run the hook on their own thread: after a signal, and after each
/// step. A step is at most 64 MiB of reserved memory or 12 ms of sleep. If the hook returns
/// nonzero, the call undoes what it began and fails with SHMKIT_ERR_INTERRUPTED. Several threads may
/// run the hook at the same time.
///
/// The hook may call any function of this library. A replaced hook may still run: keep its
/// `argument` valid until all calls that began before the replacement have ended.
///
/// # Safety
/// Any thread may call `hook` with `argument`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_set_interrupt(
    hook: shmkit_interrupt_hook,
    argument: *mut c_void,
) -> shmkit_status {
    run(|| {
        // SAFETY: the caller guarantees it (see # Safety).
        unsafe { interrupt::set(hook, argument) };
        Ok(())
    })
}
