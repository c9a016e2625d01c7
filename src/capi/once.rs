//! Once flags: something that is done exactly once among all processes.

use super::handle::Handle;
use super::object::{self, Object, shmkit_object_options, with};
use super::status::{SHMKIT_OK, shmkit_status};
use super::structure::{self, Sized32};
use super::{optional, output, wait};
use crate::object::once::{Begun, Once};

/// A once: not done, being done by one process, or done, which stays so. Of all who begin, one has it to do; the others
/// wait until it is done.
///
/// If that one dies, however it dies, the next one has it to do within 12 ms after the kernel has torn the dead process
/// down, and is told so: it may be half done. The owner is a process; any thread of it may say that it is done. Who
/// begins again before that waits for itself. A handle may be used by all threads at once and by forked children.
#[allow(non_camel_case_types)]
pub struct shmkit_once {
    _opaque: (),
}

/// In shmkit_once_info: somebody is doing it, perhaps a dead process.
pub const SHMKIT_ONCE_RUNNING: u32 = 0x40000;
/// In shmkit_once_info: somebody died halfway, and it is not done yet.
pub const SHMKIT_ONCE_OWNER_DIED: u32 = 0x80000;
/// In shmkit_once_info: it is done.
pub const SHMKIT_ONCE_DONE: u32 = 0x200000;

/// What is known of a once: each figure as it was at some moment during the call.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_once_info {
    /// sizeof(shmkit_once_info); on return how much of it was filled.
    pub struct_size: u32,
    /// SHMKIT_ONCE_RUNNING, SHMKIT_ONCE_OWNER_DIED, SHMKIT_ONCE_DONE, or-ed.
    pub flags: u32,
    /// How often it was begun.
    pub attempts: u64,
    /// How often it was taken over from the dead.
    pub recoveries: u64,
    /// How often somebody had to sleep for it.
    pub waits: u64,
    /// The number of who is doing it among the participants of the segment, which no other ever has. 0: nobody is.
    pub owner_ticket: u64,
    /// Its PID namespace, as the inode of /proc/PID/ns/pid. 0: unknown.
    pub owner_namespace: u64,
    /// Where the once stands in its segment's data, or in its arena.
    pub offset: u64,
    /// The process number of who is doing it, in that namespace. 0: nobody is, or unknown.
    pub owner_pid: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: repr(C), nothing but integers, each at a multiple of its size: no padding, and any bytes are a value.
unsafe impl Sized32 for shmkit_once_info {
    const FIRST: usize = size_of::<shmkit_once_info>();
}
const _: () = assert!(size_of::<shmkit_once_info>() == 64);

impl Object for Once {
    type CSpec = shmkit_object_options;

    object::forward!(plain);
}

/// Begins, unless it is done: waits up to `timeout_ns` nanoseconds for who is doing it: SHMKIT_FOREVER, SHMKIT_NOWAIT, or a
/// time.
///
/// SHMKIT_OK and `mine` 1: the caller has it to do, and then calls shmkit_once_done, or shmkit_once_abort where it cannot.
/// `owner_died` (NULL: not wanted) tells 1 where somebody died halfway before: it may be half done. SHMKIT_OK and `mine` 0:
/// it is done, and what was done before shmkit_once_done is seen. `flags`: SHMKIT_INTERRUPTIBLE.
///
/// SHMKIT_ERR_WOULD_BLOCK: a living process is doing it, and SHMKIT_NOWAIT. SHMKIT_ERR_TIMEOUT. SHMKIT_ERR_INTERRUPTED.
/// SHMKIT_ERR_INVALID: a negative time, unknown flags, `mine` is NULL. SHMKIT_ERR_TOO_MANY_PROCESSES: as many processes as the
/// segment has room for are alive. SHMKIT_ERR_LIVENESS_UNKNOWN, SHMKIT_ERR_PERMISSION, SHMKIT_ERR_CORRUPT: as of
/// shmkit_lock_acquire.
///
/// # Safety
/// `once` must be NULL or a handle of this library that no other thread is closing; `mine` and `owner_died` NULL or
/// writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_once_begin(
    once: *mut shmkit_once,
    timeout_ns: i64,
    flags: u32,
    mine: *mut u32,
    owner_died: *mut u32,
) -> shmkit_status {
    // What cannot panic goes ahead of what could: what is done costs one look.
    let writable = !mine.is_null() && mine.is_aligned() && owner_died.is_aligned();
    if writable && wait::is_valid(timeout_ns, flags) {
        // SAFETY: the caller's promise.
        if let Some(once) = unsafe { Handle::<Once>::peek(once.cast()) }
            && once.is_done()
        {
            // SAFETY: not NULL and aligned; the caller promises that it is writable.
            unsafe { mine.write(0) };
            if !owner_died.is_null() {
                // SAFETY: as above.
                unsafe { owner_died.write(0) };
            }
            return SHMKIT_OK;
        }
    }
    // SAFETY: the caller's promise.
    unsafe { begin_slow(once, timeout_ns, flags, mine, owner_died) }
}

/// As the exported function, by its own convention: a jump leads here.
///
/// # Safety
/// As for shmkit_once_begin.
#[cold]
#[inline(never)]
unsafe extern "C" fn begin_slow(
    once: *mut shmkit_once,
    timeout_ns: i64,
    flags: u32,
    mine: *mut u32,
    owner_died: *mut u32,
) -> shmkit_status {
    let body = |once: &Once| {
        // SAFETY: the caller's promise.
        let mine = unsafe { output(mine, "mine") }?;
        // SAFETY: the caller's promise.
        let died = unsafe { optional(owner_died, "owner_died") }?;
        let (is_mine, mark) = match once.begin_with(wait::options(timeout_ns, flags)?)? {
            Begun::Done => (false, false),
            Begun::Mine { recovered } => (true, recovered),
        };
        mine.write(is_mine.into());
        died.map(|died| died.write(mark.into()));
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { with(once, body) }
}

/// Says that it is done, which stays so: whoever waits goes on, and whoever begins finds it done.
///
/// SHMKIT_ERR_NOT_OWNER: this process is not doing it.
///
/// # Safety
/// `once` must be NULL or a handle of this library that no other thread is closing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_once_done(once: *mut shmkit_once) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { with(once, Once::done) }
}

/// Gives it back undone: the next one has it to do. Where somebody had died halfway, that one is told so again.
///
/// SHMKIT_ERR_NOT_OWNER: this process is not doing it.
///
/// # Safety
/// As for shmkit_once_done.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_once_abort(once: *mut shmkit_once) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { with(once, Once::abort) }
}

/// Tells whether it is done: 1 or 0. If it is, what was done before shmkit_once_done is seen.
///
/// # Safety
/// As for shmkit_once_done; `out` must be NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_once_is_done(
    once: *const shmkit_once,
    out: *mut u32,
) -> shmkit_status {
    if !out.is_null() && out.is_aligned() {
        // SAFETY: the caller's promise.
        if let Some(once) = unsafe { Handle::<Once>::peek(once.cast()) } {
            // SAFETY: not NULL and aligned; the caller promises that it is writable.
            unsafe { out.write(once.is_done().into()) };
            return SHMKIT_OK;
        }
    }
    let body = |once: &Once| {
        // SAFETY: the caller's promise.
        unsafe { output(out, "out") }?.write(once.is_done().into());
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { with(once, body) }
}

/// Tells what is known of it. Nobody is asked whether who is doing it lives: only begin does that.
///
/// # Safety
/// `once` must be NULL or a handle of this library; `out` NULL or a struct whose struct_size is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_once_stat(
    once: *const shmkit_once,
    out: *mut shmkit_once_info,
) -> shmkit_status {
    let body = |once: &Once| {
        // SAFETY: the caller's promise.
        unsafe { structure::check(out, "out") }?;
        let (stat, owner) = once.stat();
        let flag = |set, flag| if set { flag } else { 0 };
        let info = shmkit_once_info {
            struct_size: 0,
            flags: flag(stat.owner.is_some(), SHMKIT_ONCE_RUNNING)
                | flag(stat.owner_died, SHMKIT_ONCE_OWNER_DIED)
                | flag(stat.done, SHMKIT_ONCE_DONE),
            attempts: stat.attempts,
            recoveries: stat.recoveries,
            waits: stat.waits,
            owner_ticket: stat.owner.map_or(0, |owner| owner.ticket()),
            owner_namespace: owner.map_or(0, |owner| owner.namespace),
            offset: once.offset(),
            owner_pid: owner.map_or(0, |owner| owner.pid),
            reserved: 0,
        };
        // SAFETY: `check` has accepted `out`; the caller promises that it is writable.
        unsafe { structure::write(out, info) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { with(once, body) }
}

include!(concat!(env!("OUT_DIR"), "/object_once.rs"));
