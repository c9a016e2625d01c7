//! Once flags: work that is done exactly once among all processes.

use super::handle::Handle;
use super::object::{Object, shmkit_object_options, with};
use super::status::{SHMKIT_OK, shmkit_status};
use super::structure::{self, Sized32};
use super::{optional, output, wait};
use crate::error::Result;
use crate::object::FileOptions;
use crate::object::once::{Begun, Once};

/// A once flag (pthread_once_t, std::sync::Once): not done, running in one process, or done
/// forever.
///
/// Of all callers of shmkit_once_begin one becomes the owner and does the work. The others wait
/// until the work is done. A new once flag is not done.
///
///   Owner    A process: any of its threads may call shmkit_once_done or shmkit_once_abort. Its
///            other threads wait in shmkit_once_begin like those of other processes. If a thread
///            begins again inside its own work, it waits for itself.
///   Death    If the owner dies, the next caller becomes the owner, at most 12 ms after the kernel
///            has torn the process down. It sees `*owner_died` = 1: the work may be half done.
///   Threads  All threads of a process may use a handle at once, and so may forked children.
///   Size     64 bytes.
///   Close    A close neither completes nor ends the work. If a process closes its last handle of
///            the segment while it is the owner, it counts as dead.
#[allow(non_camel_case_types)]
pub struct shmkit_once {
    _opaque: (),
}

/// In shmkit_once_info: a process, perhaps a dead one, does the work.
pub const SHMKIT_ONCE_RUNNING: u32 = 0x40000;
/// In shmkit_once_info: an owner died during the work, and the work is not done yet.
pub const SHMKIT_ONCE_OWNER_DIED: u32 = 0x80000;
/// In shmkit_once_info: the work is done.
pub const SHMKIT_ONCE_DONE: u32 = 0x200000;

/// The state of a once flag. Each figure was true at some moment during the call.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_once_info {
    /// sizeof(shmkit_once_info); on return, the number of bytes filled.
    pub struct_size: u32,
    /// SHMKIT_ONCE_RUNNING, SHMKIT_ONCE_OWNER_DIED and SHMKIT_ONCE_DONE, or-ed.
    pub flags: u32,
    /// The number of times that a caller became the owner.
    pub attempts: u64,
    /// The number of times that a caller took over from a dead owner.
    pub recoveries: u64,
    /// The number of waits that had to sleep.
    pub waits: u64,
    /// The ticket of the owner: its number among the participants of the segment, never reused. 0:
    /// no owner.
    pub owner_ticket: u64,
    /// The owner's PID namespace: the inode of /proc/PID/ns/pid. 0: unknown.
    pub owner_namespace: u64,
    /// The offset of the once flag in the data of its segment, or in the memory file of unnamed
    /// objects.
    pub offset: u64,
    /// The PID of the owner in that namespace. 0: no owner, or unknown.
    pub owner_pid: u32,
    /// Always 0.
    pub reserved: u32,
}

// SAFETY: repr(C), nothing but integers, each at a multiple of its size: no padding, and any bytes are a value.
unsafe impl Sized32 for shmkit_once_info {
    const FIRST: usize = size_of::<shmkit_once_info>();
}
const _: () = assert!(size_of::<shmkit_once_info>() == 64);

// SAFETY: the options are shmkit_object_options.
unsafe impl Object for Once {
    type CSpec = shmkit_object_options;

    fn options(_: &shmkit_object_options, file: FileOptions) -> Result<FileOptions> {
        Ok(file)
    }
}

/// Makes the caller the owner of the work, or waits until the work is done.
///
/// If `mine` is 1, the caller does the work, then calls shmkit_once_done, or shmkit_once_abort if
/// it cannot finish. If `mine` is 0, the work is done, and the caller sees all that was written
/// before shmkit_once_done.
///
///   timeout_ns  nanoseconds to wait for the owner, SHMKIT_FOREVER or SHMKIT_NOWAIT
///   flags       SHMKIT_INTERRUPTIBLE or 0
///   mine        gets 1 if the caller is the owner, 0 if the work is done
///   owner_died  (may be NULL) 1 if `mine` is 1 and an earlier owner died during the work, which
///               may be half done, else 0
///
///   SHMKIT_ERR_WOULD_BLOCK         a live owner does the work, and SHMKIT_NOWAIT was given
///   SHMKIT_ERR_TIMEOUT             the timeout expired
///   SHMKIT_ERR_INTERRUPTED         the interrupt hook ended the call
///   SHMKIT_ERR_INVALID             a negative timeout other than SHMKIT_FOREVER, or an unknown
///                                  flag
///   SHMKIT_ERR_TOO_MANY_PROCESSES  the segment has no room for another process
///   SHMKIT_ERR_LIVENESS_UNKNOWN    this process has lost all descriptors of the segment
///                                  (closefrom), and cannot find out whether the owner is alive
///   SHMKIT_ERR_PERMISSION          this user may not write to the file of the segment
///   SHMKIT_ERR_NO_MEMORY           no address space is left, at the first use of the segment
///   SHMKIT_ERR_CORRUPT             the shared bytes of the segment are corrupt
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
    // The path that cannot panic comes first: finished work costs one load.
    let writable = !mine.is_null() && mine.is_aligned() && owner_died.is_aligned();
    if writable && wait::is_valid(timeout_ns, flags) {
        // SAFETY: the caller guarantees it (see # Safety).
        if let Some(once) = unsafe { Handle::<Once>::peek(once.cast()) }
            && once.is_done()
        {
            // SAFETY: not NULL and aligned; the caller guarantees that it is writable.
            unsafe { mine.write(0) };
            if !owner_died.is_null() {
                // SAFETY: as above.
                unsafe { owner_died.write(0) };
            }
            return SHMKIT_OK;
        }
    }
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { begin_slow(once, timeout_ns, flags, mine, owner_died) }
}

/// The exported function with the C calling convention, so that the call compiles to a jump.
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
        // SAFETY: the caller guarantees it (see # Safety).
        let mine = unsafe { output(mine, "mine") }?;
        // SAFETY: the caller guarantees it (see # Safety).
        let died = unsafe { optional(owner_died, "owner_died") }?;
        let (is_mine, mark) = match once.begin_with(wait::options(timeout_ns, flags)?)? {
            Begun::Done => (false, false),
            Begun::Mine { owner_died } => (true, owner_died),
        };
        mine.write(is_mine.into());
        died.map(|died| died.write(mark.into()));
        Ok(())
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(once, body) }
}

/// Marks the work as done forever: waiters return, and every later begin finds it done.
///
///   SHMKIT_ERR_NOT_OWNER  this process is not the owner
///
/// # Safety
/// `once` must be NULL or a handle of this library that no other thread is closing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_once_done(once: *mut shmkit_once) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(once, Once::done) }
}

/// Ends the work undone: the next caller of shmkit_once_begin becomes the owner.
///
/// If an earlier owner died during the work, the next owner sees `*owner_died` = 1 again.
///
///   SHMKIT_ERR_NOT_OWNER  this process is not the owner
///
/// # Safety
/// As for shmkit_once_done.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_once_abort(once: *mut shmkit_once) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(once, Once::abort) }
}

/// Returns 1 if the work is done, else 0. After 1 the caller sees all that was written before
/// shmkit_once_done.
///
/// # Safety
/// As for shmkit_once_done; `out` must be NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_once_is_done(
    once: *const shmkit_once,
    out: *mut u32,
) -> shmkit_status {
    if !out.is_null() && out.is_aligned() {
        // SAFETY: the caller guarantees it (see # Safety).
        if let Some(once) = unsafe { Handle::<Once>::peek(once.cast()) } {
            // SAFETY: not NULL and aligned; the caller guarantees that it is writable.
            unsafe { out.write(once.is_done().into()) };
            return SHMKIT_OK;
        }
    }
    let body = |once: &Once| {
        // SAFETY: the caller guarantees it (see # Safety).
        unsafe { output(out, "out") }?.write(once.is_done().into());
        Ok(())
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(once, body) }
}

/// Returns the state of the once flag.
///
/// The call does not check whether the owner is alive: only shmkit_once_begin does.
///
/// # Safety
/// `once` must be NULL or a handle of this library; `out` NULL or a struct whose struct_size is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_once_stat(
    once: *const shmkit_once,
    out: *mut shmkit_once_info,
) -> shmkit_status {
    let body = |once: &Once| {
        // SAFETY: the caller guarantees it (see # Safety).
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
        // SAFETY: `check` has accepted `out`; the caller guarantees that it is writable.
        unsafe { structure::write(out, info) };
        Ok(())
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(once, body) }
}

include!(concat!(env!("OUT_DIR"), "/object_once.rs"));
