//! Events: something that has happened or has not, for which processes and threads can wait.

use super::handle::Handle;
use super::object::{self, Object, shmkit_object_options, with};
use super::status::{SHMKIT_OK, shmkit_status};
use super::structure::{self, Sized32};
use super::{output, wait};
use crate::object::event::Event;

/// An event: set, or clear. Nobody owns it, and any number of processes and threads may set it, clear it and wait for it;
/// none of them takes a place among the participants of the segment. A handle may be used by all threads at once and by
/// forked children.
///
/// If one of them dies, however it dies, all others go on: a wake that was lost with it costs 12 ms at the most.
///
/// shmkit_event_set, shmkit_event_clear and shmkit_event_is_set may be called by a signal handler, whatever it has
/// interrupted, these functions too, as long as the handle is one of an event that is open: they allocate nothing, lock
/// nothing and leave errno as it is.
#[allow(non_camel_case_types)]
pub struct shmkit_event {
    _opaque: (),
}

/// In shmkit_event_info: it is set.
pub const SHMKIT_EVENT_SET: u32 = 0x40000;

/// What is known of an event: each figure as it was at some moment during the call.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_event_info {
    /// sizeof(shmkit_event_info); on return how much of it was filled.
    pub struct_size: u32,
    /// SHMKIT_EVENT_SET, or 0.
    pub flags: u32,
    /// How often it was set when it was clear.
    pub sets: u64,
    /// How often somebody had to sleep for it.
    pub waits: u64,
    /// Where it stands in its segment's data, or in its arena.
    pub offset: u64,
}

// SAFETY: repr(C), nothing but integers, each at a multiple of its size: no padding, and any bytes are a value.
unsafe impl Sized32 for shmkit_event_info {
    const FIRST: usize = size_of::<shmkit_event_info>();
}
const _: () = assert!(size_of::<shmkit_event_info>() == 32);

impl Object for Event {
    type CSpec = shmkit_object_options;

    object::forward!(plain);
}

/// Sets the event: all go on that wait for it, and nobody waits until it is cleared. What the caller has done before is
/// seen by whoever goes on. A signal handler may call it.
///
/// # Safety
/// `event` must be NULL or a handle of this library that no other thread is closing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_event_set(event: *mut shmkit_event) -> shmkit_status {
    // SAFETY: the caller's promise.
    if let Some(event) = unsafe { Handle::<Event>::peek(event.cast()) } {
        event.set();
        return SHMKIT_OK;
    }
    // SAFETY: the caller's promise.
    unsafe { refuse(event) }
}

/// Clears the event: who waits from now on waits until it is set again. Who had begun to wait before it was set goes on
/// all the same. A signal handler may call it.
///
/// # Safety
/// As for shmkit_event_set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_event_clear(event: *mut shmkit_event) -> shmkit_status {
    // SAFETY: the caller's promise.
    if let Some(event) = unsafe { Handle::<Event>::peek(event.cast()) } {
        event.clear();
        return SHMKIT_OK;
    }
    // SAFETY: the caller's promise.
    unsafe { refuse(event) }
}

/// Says what is wrong with a handle. By the convention of the exported functions: a jump leads here.
///
/// # Safety
/// As for shmkit_event_set.
#[cold]
#[inline(never)]
unsafe extern "C" fn refuse(event: *mut shmkit_event) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { with(event, |_: &Event| Ok(())) }
}

/// Tells whether the event is set: 1 or 0. A signal handler may call it.
///
/// # Safety
/// As for shmkit_event_set; `out` must be NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_event_is_set(
    event: *const shmkit_event,
    out: *mut u32,
) -> shmkit_status {
    if !out.is_null() && out.is_aligned() {
        // SAFETY: the caller's promise.
        if let Some(event) = unsafe { Handle::<Event>::peek(event.cast()) } {
            // SAFETY: not NULL and aligned; the caller promises that it is writable.
            unsafe { out.write(event.is_set().into()) };
            return SHMKIT_OK;
        }
    }
    let body = |event: &Event| {
        // SAFETY: the caller's promise.
        unsafe { output(out, "out") }?.write(event.is_set().into());
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { with(event, body) }
}

/// Waits up to `timeout_ns` nanoseconds until the event is set: SHMKIT_FOREVER, SHMKIT_NOWAIT, or a time.
///
/// SHMKIT_OK if it is set, or was at some moment since the call began: shmkit_event_set and then shmkit_event_clear lets
/// all go on that had begun to wait. `flags`: SHMKIT_INTERRUPTIBLE.
///
/// SHMKIT_ERR_WOULD_BLOCK: it is not set, and SHMKIT_NOWAIT. SHMKIT_ERR_TIMEOUT. SHMKIT_ERR_INTERRUPTED.
/// SHMKIT_ERR_INVALID: a negative time, unknown flags.
///
/// # Safety
/// As for shmkit_event_set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_event_wait(
    event: *mut shmkit_event,
    timeout_ns: i64,
    flags: u32,
) -> shmkit_status {
    // What cannot panic goes ahead of what could: for what is set nobody waits.
    if wait::is_valid(timeout_ns, flags) {
        // SAFETY: the caller's promise.
        if let Some(event) = unsafe { Handle::<Event>::peek(event.cast()) }
            && event.is_set()
        {
            return SHMKIT_OK;
        }
    }
    // SAFETY: the caller's promise.
    unsafe { wait_slow(event, timeout_ns, flags) }
}

/// As the exported function, by its own convention: a jump leads here.
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
    // SAFETY: the caller's promise.
    unsafe { with(event, body) }
}

/// Tells what is known of the event.
///
/// # Safety
/// `event` must be NULL or a handle of this library; `out` NULL or a struct whose struct_size is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_event_stat(
    event: *const shmkit_event,
    out: *mut shmkit_event_info,
) -> shmkit_status {
    let body = |event: &Event| {
        // SAFETY: the caller's promise.
        unsafe { structure::check(out, "out") }?;
        let stat = event.stat();
        let info = shmkit_event_info {
            struct_size: 0,
            flags: if stat.set { SHMKIT_EVENT_SET } else { 0 },
            sets: stat.sets,
            waits: stat.waits,
            offset: event.offset(),
        };
        // SAFETY: `check` has accepted `out`; the caller promises that it is writable.
        unsafe { structure::write(out, info) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { with(event, body) }
}

include!(concat!(env!("OUT_DIR"), "/object_event.rs"));
