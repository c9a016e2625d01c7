//! Events: something that has happened or has not, for which processes and threads can wait.

use super::handle::{Handle, Opaque};
use super::object::{self, Object, with};
use super::segment::shmkit_segment;
use super::status::{SHMKIT_OK, shmkit_status};
use super::structure::{self, Sized32};
use super::{output, wait};
use crate::layout::Kind;
use crate::object::event::Event;
use std::ffi::c_char;

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

impl Opaque for Event {
    const KIND: Kind = Kind::Event;
}

/// Open what belongs to another user.
pub const SHMKIT_EVENT_TRUST: u32 = 0x20000;
/// For create_at: make it, and do not open one that stands there already.
pub const SHMKIT_EVENT_EXCLUSIVE: u32 = 0x100000;
/// In shmkit_event_info: it is set.
pub const SHMKIT_EVENT_SET: u32 = 0x40000;

/// How to make or open an event. All zeros but struct_size is what most want; so is a NULL pointer to it.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_event_options {
    /// sizeof(shmkit_event_options).
    pub struct_size: u32,
    /// SHMKIT_EVENT_TRUST, SHMKIT_EVENT_EXCLUSIVE, or-ed.
    pub flags: u32,
    /// Permission bits of a new named one. 0: 0600.
    pub mode: u32,
    /// How many participants the file of a new named one has room for, 1 to 4096. 0: 128. Whoever only uses the event is
    /// none.
    pub participants: u32,
    /// Where a named one stands. NULL: SHMKIT_DIR, else /dev/shm.
    pub directory: *const c_char,
}

// SAFETY: repr(C), integers and one pointer, each at a multiple of its size: no padding; any bytes are a value (the
// pointer is followed only as the caller of the exported function promises).
unsafe impl Sized32 for shmkit_event_options {
    const FIRST: usize = size_of::<shmkit_event_options>();
}
const _: () = assert!(size_of::<shmkit_event_options>() == 24);
const _: () = assert!(SHMKIT_EVENT_TRUST == object::TRUST);
const _: () = assert!(SHMKIT_EVENT_EXCLUSIVE == object::EXCLUSIVE);

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
    type CSpec = shmkit_event_options;

    object::forward!(plain);
}

/// Tells how many bytes an event takes in a segment: 64. It stands at a multiple of 64.
///
/// # Safety
/// `options` must be NULL or a struct whose struct_size is set; `out` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_event_size(
    options: *const shmkit_event_options,
    out: *mut u64,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { object::size::<Event>(options, out) }
}

/// Makes an event, which is clear.
///
/// `name`: it gets a file of that name, which holds nothing else; SHMKIT_ERR_EXISTS where the name is taken. NULL: it
/// has none; threads and forked children have it, and whoever gets what shmkit_event_fd tells. Thousands of those share
/// one descriptor. Other errors as of shmkit_segment_create; `out` gets the handle, which shmkit_event_close frees.
///
/// # Safety
/// `name` must be NULL or a C string; `options` NULL or a struct whose struct_size is set; `out` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_event_create(
    name: *const c_char,
    options: *const shmkit_event_options,
    out: *mut *mut shmkit_event,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { object::create::<Event, _>(name, options, out) }
}

/// Opens the event of this name; as shmkit_lock_open.
///
/// # Safety
/// As for shmkit_event_create.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_event_open(
    name: *const c_char,
    options: *const shmkit_event_options,
    out: *mut *mut shmkit_event,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { object::open::<Event, _>(name, options, out) }
}

/// Opens the event of this name, or makes it if there is none; as shmkit_lock_open_or_create.
///
/// # Safety
/// As for shmkit_event_create.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_event_open_or_create(
    name: *const c_char,
    options: *const shmkit_event_options,
    out: *mut *mut shmkit_event,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { object::open_or_create::<Event, _>(name, options, out) }
}

/// Opens the event that stands at `offset` of the segment's data, or makes it where there are only zeros.
///
/// As shmkit_lock_create_at.
///
/// # Safety
/// `segment` must be NULL or a handle of this library; `options` NULL or a struct whose struct_size is set; `out` NULL
/// or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_event_create_at(
    segment: *const shmkit_segment,
    offset: u64,
    options: *const shmkit_event_options,
    out: *mut *mut shmkit_event,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { object::create_at::<Event, _>(segment, offset, options, out) }
}

/// Opens the event that stands at `offset` of the segment's data; as shmkit_lock_open_at.
///
/// # Safety
/// As for shmkit_event_create_at.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_event_open_at(
    segment: *const shmkit_segment,
    offset: u64,
    options: *const shmkit_event_options,
    out: *mut *mut shmkit_event,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { object::open_at::<Event, _>(segment, offset, options, out) }
}

/// Opens the event that was handed over: a descriptor, and the offset that shmkit_event_fd told; as shmkit_lock_open_fd.
///
/// # Safety
/// As for shmkit_event_create.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_event_open_fd(
    fd: i32,
    offset: u64,
    options: *const shmkit_event_options,
    out: *mut *mut shmkit_event,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { object::open_fd::<Event, _>(fd, offset, options, out) }
}

/// Tells what another process needs to open an event without a name: a descriptor and an offset; as shmkit_lock_fd.
///
/// # Safety
/// `event` must be NULL or a handle of this library; `fd` and `offset` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_event_fd(
    event: *const shmkit_event,
    fd: *mut i32,
    offset: *mut u64,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { object::fd::<Event, _>(event, fd, offset) }
}

/// Opens the segment that the event stands in; as shmkit_lock_segment.
///
/// # Safety
/// `event` must be NULL or a handle of this library; `out` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_event_segment(
    event: *const shmkit_event,
    out: *mut *mut shmkit_segment,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { object::segment::<Event, _>(event, out) }
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

/// Removes the name of a named event; who has it open keeps it. As shmkit_lock_unlink.
///
/// # Safety
/// `event` must be NULL or a handle of this library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_event_unlink(event: *mut shmkit_event) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { object::unlink::<Event, _>(event) }
}

/// Lets go of the event, which stays as it is. As shmkit_segment_close.
///
/// # Safety
/// `event` must be NULL or a handle of this library that no other thread is using.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_event_close(event: *mut shmkit_event) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { object::close::<Event, _>(event) }
}
