//! Events: a flag that processes and threads set, clear and wait for.

use super::handle::Handle;
use super::object::{Object, shmkit_object_options, with};
use super::status::{SHMKIT_OK, shmkit_status};
use super::structure::{self, Sized32};
use super::{output, wait};
use crate::error::Result;
use crate::object::FileOptions;
use crate::object::event::Event;

/// An event: set or clear. A new event is clear.
///
///   Owner    None: any number of processes and threads may set, clear and wait. They occupy no
///            participant slots of the segment.
///   Death    If a process dies in any of these calls, all others continue. If a wake is lost with
///            the process, waiters return at most 12 ms later.
///   Signals  A signal handler may call shmkit_event_set, shmkit_event_clear and
///            shmkit_event_is_set on an open event, whatever code it interrupted, even these
///            functions. They allocate nothing, lock nothing and do not change errno.
///   Threads  All threads of a process may use a handle at once, and so may forked children.
///   Size     64 bytes.
///   Close    The event stays set or clear.
#[allow(non_camel_case_types)]
pub struct shmkit_event {
    _opaque: (),
}

/// In shmkit_event_info: the event is set.
pub const SHMKIT_EVENT_SET: u32 = 0x40000;

/// The state of an event. Each figure was true at some moment during the call.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_event_info {
    /// sizeof(shmkit_event_info); on return, the number of bytes filled.
    pub struct_size: u32,
    /// SHMKIT_EVENT_SET or 0.
    pub flags: u32,
    /// The number of times that the event went from clear to set.
    pub sets: u64,
    /// The number of waits that had to sleep.
    pub waits: u64,
    /// The offset of the event in the data of its segment, or in the memory file of unnamed
    /// objects.
    pub offset: u64,
}

// SAFETY: repr(C), nothing but integers, each at a multiple of its size: no padding, and any bytes are a value.
unsafe impl Sized32 for shmkit_event_info {
    const FIRST: usize = size_of::<shmkit_event_info>();
}
const _: () = assert!(size_of::<shmkit_event_info>() == 32);

// SAFETY: the options are shmkit_object_options.
unsafe impl Object for Event {
    type CSpec = shmkit_object_options;

    fn options(_: &shmkit_object_options, file: FileOptions) -> Result<FileOptions> {
        Ok(file)
    }
}

/// Sets the event: wakes all waiters, and no wait blocks until the event is cleared.
///
/// A thread that then returns from a wait sees all that the caller has written before. A signal
/// handler may call this function.
///
/// # Safety
/// `event` must be NULL or a handle of this library that no other thread is closing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_event_set(event: *mut shmkit_event) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    if let Some(event) = unsafe { Handle::<Event>::peek(event.cast()) } {
        event.set();
        return SHMKIT_OK;
    }
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { refuse(event) }
}

/// Clears the event: a wait that begins afterwards blocks until the next shmkit_event_set.
///
/// A thread that began to wait before the event was set returns all the same. A signal handler may
/// call this function.
///
/// # Safety
/// As for shmkit_event_set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_event_clear(event: *mut shmkit_event) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    if let Some(event) = unsafe { Handle::<Event>::peek(event.cast()) } {
        event.clear();
        return SHMKIT_OK;
    }
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { refuse(event) }
}

/// Returns the status for a handle that is not an open event.
///
/// It has the calling convention of the exported functions, so that the call is a jump.
///
/// # Safety
/// As for shmkit_event_set.
#[cold]
#[inline(never)]
unsafe extern "C" fn refuse(event: *mut shmkit_event) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(event, |_: &Event| Ok(())) }
}

/// Returns 1 if the event is set, else 0. A signal handler may call this function.
///
/// # Safety
/// As for shmkit_event_set; `out` must be NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_event_is_set(
    event: *const shmkit_event,
    out: *mut u32,
) -> shmkit_status {
    if !out.is_null() && out.is_aligned() {
        // SAFETY: the caller guarantees it (see # Safety).
        if let Some(event) = unsafe { Handle::<Event>::peek(event.cast()) } {
            // SAFETY: not NULL and aligned; the caller guarantees that it is writable.
            unsafe { out.write(event.is_set().into()) };
            return SHMKIT_OK;
        }
    }
    let body = |event: &Event| {
        // SAFETY: the caller guarantees it (see # Safety).
        unsafe { output(out, "out") }?.write(event.is_set().into());
        Ok(())
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(event, body) }
}

/// Waits until the event is set.
///
/// Returns SHMKIT_OK if the event is set, or was set at any moment since the call began. So
/// shmkit_event_set followed by shmkit_event_clear releases every thread that had begun to wait.
///
///   timeout_ns  nanoseconds to wait, SHMKIT_FOREVER or SHMKIT_NOWAIT
///   flags       SHMKIT_INTERRUPTIBLE or 0
///
///   SHMKIT_ERR_WOULD_BLOCK  the event is clear, and SHMKIT_NOWAIT was given
///   SHMKIT_ERR_TIMEOUT      the timeout expired
///   SHMKIT_ERR_INTERRUPTED  the interrupt hook ended the call
///   SHMKIT_ERR_INVALID      a negative timeout other than SHMKIT_FOREVER, or an unknown flag
///
/// # Safety
/// As for shmkit_event_set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_event_wait(
    event: *mut shmkit_event,
    timeout_ns: i64,
    flags: u32,
) -> shmkit_status {
    // The path that cannot panic comes first: an event that is set needs no wait.
    if wait::is_valid(timeout_ns, flags) {
        // SAFETY: the caller guarantees it (see # Safety).
        if let Some(event) = unsafe { Handle::<Event>::peek(event.cast()) }
            && event.is_set()
        {
            return SHMKIT_OK;
        }
    }
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { wait_slow(event, timeout_ns, flags) }
}

/// The exported function with the C calling convention, so that the call compiles to a jump.
///
/// # Safety
/// As for shmkit_event_set.
#[cold]
#[inline(never)]
unsafe extern "C" fn wait_slow(
    event: *mut shmkit_event,
    timeout_ns: i64,
    flags: u32,
) -> shmkit_status {
    let body = |event: &Event| event.wait_with(wait::options(timeout_ns, flags)?);
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(event, body) }
}

/// Returns the state of the event.
///
/// # Safety
/// `event` must be NULL or a handle of this library; `out` NULL or a struct whose struct_size is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_event_stat(
    event: *const shmkit_event,
    out: *mut shmkit_event_info,
) -> shmkit_status {
    let body = |event: &Event| {
        // SAFETY: the caller guarantees it (see # Safety).
        unsafe { structure::check(out, "out") }?;
        let stat = event.stat();
        let info = shmkit_event_info {
            struct_size: 0,
            flags: if stat.set { SHMKIT_EVENT_SET } else { 0 },
            sets: stat.sets,
            waits: stat.waits,
            offset: event.offset(),
        };
        // SAFETY: `check` has accepted `out`; the caller guarantees that it is writable.
        unsafe { structure::write(out, info) };
        Ok(())
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(event, body) }
}

include!(concat!(env!("OUT_DIR"), "/object_event.rs"));
