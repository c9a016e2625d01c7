//! Semaphores: permits that processes and threads acquire and release; with undo the permits of a
//! dead process are released.

use super::handle::Handle;
use super::object::{self, Object, with};
use super::status::{SHMKIT_OK, shmkit_status};
use super::structure::{self, Sized32};
use super::{output, wait};
use crate::error::Result;
use crate::object::semaphore::{FileOptions, Options, Semaphore};
use std::ffi::c_char;

/// A semaphore: a number of permits, which are acquired and released.
///
///   Plain    For signalling, like sem_t. Any process may release permits, and any number of
///            processes may use it. If a process dies, the permits that it had acquired are lost.
///   Undo     With SHMKIT_SEMAPHORE_UNDO, for resources that processes hold, like SEM_UNDO. The
///            semaphore records how many permits each process holds. If a process ends, for any
///            reason, the next acquire that finds too few permits releases those of the dead
///            process. A waiter does so at most 12 ms after the kernel has torn the process down.
///   Order    Waiters are served in no particular order. A waiter for many permits may wait long
///            while others acquire few.
///   Threads  All threads of a process may use a handle at once, and so may forked children. A
///            child holds none of the permits that its parent holds.
///   Size     128 bytes in a segment; with undo 64 more for each of `processes`.
///   Options  shmkit_semaphore_options. shmkit_semaphore_open_or_create and
///            shmkit_semaphore_create_at compare SHMKIT_SEMAPHORE_UNDO, `maximum` and `processes`
///            with an existing semaphore. `value` describes a new one only.
///   Close    A close releases no permits. If the process closes its last handle of the segment, it
///            counts as dead there: with undo its permits are released.
#[allow(non_camel_case_types)]
pub struct shmkit_semaphore {
    _opaque: (),
}

/// In shmkit_semaphore_options: the permits of a process are released when it ends. Before that
/// only this process may release them. In shmkit_semaphore_info: the semaphore was created with
/// this option.
pub const SHMKIT_SEMAPHORE_UNDO: u32 = 0x10000;

/// How to create or open a semaphore. NULL, or zeros after struct_size, mean a plain one without
/// permits.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_semaphore_options {
    /// sizeof(shmkit_semaphore_options).
    pub struct_size: u32,
    /// SHMKIT_SEMAPHORE_UNDO, SHMKIT_TRUST and SHMKIT_EXCLUSIVE, or-ed.
    pub flags: u32,
    /// Permission bits of a new named semaphore, whatever the umask. 0: 0600.
    pub mode: u32,
    /// The number of processes that can use a new named semaphore with undo at a time, 1 to 4096;
    /// any number can use a plain one. 0: 128.
    pub participants: u32,
    /// The directory of a named semaphore. NULL: SHMKIT_DIR, else /dev/shm.
    pub directory: *const c_char,
    /// The permits of a new semaphore, 0 to 2147483647, at most `maximum`. With undo these are all
    /// permits: at least 1.
    pub value: u64,
    /// The maximum number of permits, 1 to 2147483647. 0: 2147483647. With undo: `value`, or 0 for
    /// the same.
    pub maximum: u64,
    /// With undo: the number of processes that can hold permits at a time, 1 to 4096. 0: 128. Without
    /// undo: 0.
    pub processes: u32,
    /// Must be 0.
    pub reserved: u32,
}

// SAFETY: repr(C), integers and one pointer, each at a multiple of its size: no padding; any bytes are a value. The
// pointer is followed only as the caller of the exported function guarantees.
unsafe impl Sized32 for shmkit_semaphore_options {
    const FIRST: usize = size_of::<shmkit_semaphore_options>();
}
const _: () = assert!(size_of::<shmkit_semaphore_options>() == 48);

/// The state of a semaphore. Each figure was true at some moment during the call.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_semaphore_info {
    /// sizeof(shmkit_semaphore_info); on return, the number of bytes filled.
    pub struct_size: u32,
    /// SHMKIT_SEMAPHORE_UNDO or 0.
    pub flags: u32,
    /// The number of permits that are available.
    pub value: u64,
    /// The maximum number of permits; with undo: all permits.
    pub maximum: u64,
    /// The number of acquires that had to sleep, counted when the sleep begins.
    pub waits: u64,
    /// The number of times that permits of a dead process were released.
    pub recoveries: u64,
    /// With undo: the number of processes that hold permits. Some may be dead.
    pub holders: u64,
    /// The offset of the semaphore in the data of its segment, or in the memory file of unnamed
    /// objects.
    pub offset: u64,
    /// With undo: the number of processes that can hold permits at a time.
    pub processes: u32,
    /// Always 0.
    pub reserved: u32,
}

// SAFETY: repr(C), nothing but integers, each at a multiple of its size: no padding, and any bytes are a value.
unsafe impl Sized32 for shmkit_semaphore_info {
    const FIRST: usize = size_of::<shmkit_semaphore_info>();
}
const _: () = assert!(size_of::<shmkit_semaphore_info>() == 64);

// SAFETY: the options begin with the fields of shmkit_object_options.
unsafe impl Object for Semaphore {
    type CSpec = shmkit_semaphore_options;
    const FLAGS: u32 = SHMKIT_SEMAPHORE_UNDO;

    fn options(spec: &shmkit_semaphore_options, file: FileOptions) -> Result<Options> {
        object::check_reserved(spec.reserved)?;
        Ok(Options {
            value: spec.value,
            maximum: spec.maximum,
            undo: spec.flags & SHMKIT_SEMAPHORE_UNDO != 0,
            processes: spec.processes,
            file,
        })
    }
}

/// Acquires `n` permits, all of them or none, and waits for them if necessary.
///
/// The caller holds the permits if and only if the call returns SHMKIT_OK. The caller then sees all
/// that was written before the release of these permits.
///
///   n           1 to the maximum of the semaphore
///   timeout_ns  nanoseconds to wait, SHMKIT_FOREVER or SHMKIT_NOWAIT
///   flags       SHMKIT_INTERRUPTIBLE or 0
///
///   SHMKIT_ERR_WOULD_BLOCK  fewer than `n` permits are available, and SHMKIT_NOWAIT was given
///   SHMKIT_ERR_TIMEOUT      the timeout expired
///   SHMKIT_ERR_INTERRUPTED  the interrupt hook ended the call
///   SHMKIT_ERR_INVALID      `n` is 0 or above the maximum, a negative timeout other than
///                           SHMKIT_FOREVER, or an unknown flag
///
/// With undo also:
///
///   SHMKIT_ERR_TOO_MANY_PROCESSES  live processes occupy all places for holders of the semaphore,
///                                  or all participant slots of the segment
///   SHMKIT_ERR_OVERFLOW            this process would hold more than 65,535 permits
///   SHMKIT_ERR_LIVENESS_UNKNOWN    this process has lost all descriptors of the segment
///                                  (closefrom), and permits are held: their holders cannot be
///                                  checked. Also at the first use of the segment
///   SHMKIT_ERR_PERMISSION          this user may not write to the file of the segment
///   SHMKIT_ERR_NO_MEMORY           no address space is left, at the first use of the segment
///   SHMKIT_ERR_CORRUPT             the shared bytes of the segment are corrupt
///
/// With undo, an acquire waits for a process that is stopped inside an acquire or a release. That
/// wait may take one second, even with SHMKIT_NOWAIT or a shorter timeout.
///
/// # Safety
/// `semaphore` must be NULL or a handle of this library that no other thread is closing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_semaphore_acquire(
    semaphore: *mut shmkit_semaphore,
    n: u32,
    timeout_ns: i64,
    flags: u32,
) -> shmkit_status {
    // The path that cannot panic comes first: an available permit costs one exchange.
    if wait::is_valid(timeout_ns, flags) {
        // SAFETY: the caller guarantees it (see # Safety).
        if let Some(semaphore) = unsafe { Handle::<Semaphore>::peek(semaphore.cast()) }
            && semaphore.fast_acquire(n.into())
        {
            return SHMKIT_OK;
        }
    }
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { acquire_slow(semaphore, n, timeout_ns, flags) }
}

/// The exported function with the C calling convention, so that the call compiles to a jump.
///
/// # Safety
/// As for shmkit_semaphore_acquire.
#[cold]
#[inline(never)]
unsafe extern "C" fn acquire_slow(
    semaphore: *mut shmkit_semaphore,
    n: u32,
    timeout_ns: i64,
    flags: u32,
) -> shmkit_status {
    // With undo a few steps are enough, if no other process is there.
    if wait::is_valid(timeout_ns, flags) {
        // SAFETY: the caller guarantees it (see # Safety).
        if let Some(semaphore) = unsafe { Handle::<Semaphore>::peek(semaphore.cast()) }
            && semaphore.try_acquire_recorded(n.into())
        {
            return SHMKIT_OK;
        }
    }
    let body = |semaphore: &Semaphore| {
        let options = wait::options(timeout_ns, flags)?;
        semaphore.acquire_with(n.into(), options)
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(semaphore, body) }
}

/// Releases `n` permits. For a plain semaphore any process may do so, whether or not it has acquired
/// them before.
///
/// A signal handler may release a plain semaphore, as with sem_post, if the call does not fail: a
/// successful release neither allocates nor waits. With undo a release waits for a process that is
/// inside an acquire or a release, which takes less than a microsecond.
///
///   SHMKIT_ERR_OVERFLOW  there would be more permits than the maximum; none is released
///   SHMKIT_ERR_INVALID   `n` is 0
///   SHMKIT_ERR_CORRUPT   the semaphore has more permits than its maximum
///
/// With undo also:
///
///   SHMKIT_ERR_NOT_OWNER         this process holds fewer than `n` permits
///   SHMKIT_ERR_TIMEOUT           another process has been stopped for five seconds inside an
///                                acquire or a release; nothing is released
///   SHMKIT_ERR_LIVENESS_UNKNOWN  this process has lost all descriptors of the segment (closefrom)
///                                and cannot check such a process
///
/// # Safety
/// `semaphore` must be NULL or a handle of this library that no other thread is closing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_semaphore_release(
    semaphore: *mut shmkit_semaphore,
    n: u32,
) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    if let Some(semaphore) = unsafe { Handle::<Semaphore>::peek(semaphore.cast()) }
        && semaphore.fast_release(n.into())
    {
        return SHMKIT_OK;
    }
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { release_slow(semaphore, n) }
}

/// The exported function with the C calling convention, so that the call compiles to a jump.
///
/// # Safety
/// As for shmkit_semaphore_release.
#[cold]
#[inline(never)]
unsafe extern "C" fn release_slow(semaphore: *mut shmkit_semaphore, n: u32) -> shmkit_status {
    // As in acquire_slow.
    // SAFETY: the caller guarantees it (see # Safety).
    if let Some(semaphore) = unsafe { Handle::<Semaphore>::peek(semaphore.cast()) }
        && semaphore.try_release_recorded(n.into())
    {
        return SHMKIT_OK;
    }
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe {
        with(semaphore, |semaphore: &Semaphore| {
            semaphore.release(n.into())
        })
    }
}

/// Returns the number of available permits. It does not count the permits of dead processes: only an
/// acquire releases them.
///
///   SHMKIT_ERR_CORRUPT  the semaphore has more permits than its maximum
///
/// # Safety
/// `semaphore` must be NULL or a handle of this library; `out` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_semaphore_value(
    semaphore: *const shmkit_semaphore,
    out: *mut u64,
) -> shmkit_status {
    let body = |semaphore: &Semaphore| {
        // SAFETY: the caller guarantees it (see # Safety).
        let out = unsafe { output(out, "out") }?;
        out.write(semaphore.value()?);
        Ok(())
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(semaphore, body) }
}

/// Returns the number of permits that this process holds.
///
///   SHMKIT_ERR_INVALID  a semaphore without undo does not record its holders
///
/// # Safety
/// As for shmkit_semaphore_value.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_semaphore_held(
    semaphore: *const shmkit_semaphore,
    out: *mut u64,
) -> shmkit_status {
    let body = |semaphore: &Semaphore| {
        // SAFETY: the caller guarantees it (see # Safety).
        let out = unsafe { output(out, "out") }?;
        out.write(semaphore.held()?);
        Ok(())
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(semaphore, body) }
}

/// Returns the state of the semaphore. It does not check whether the holders are alive: only an
/// acquire does.
///
///   SHMKIT_ERR_CORRUPT  the semaphore has more permits than its maximum
///
/// # Safety
/// `semaphore` must be NULL or a handle of this library; `out` NULL or a struct whose struct_size is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_semaphore_stat(
    semaphore: *const shmkit_semaphore,
    out: *mut shmkit_semaphore_info,
) -> shmkit_status {
    let body = |semaphore: &Semaphore| {
        // SAFETY: the caller guarantees it (see # Safety).
        unsafe { structure::check(out, "out") }?;
        let stat = semaphore.stat()?;
        let info = shmkit_semaphore_info {
            struct_size: 0,
            flags: match semaphore.has_undo() {
                true => SHMKIT_SEMAPHORE_UNDO,
                false => 0,
            },
            value: stat.value,
            maximum: stat.maximum,
            waits: stat.waits,
            recoveries: stat.recoveries,
            holders: stat.holders,
            offset: semaphore.offset(),
            processes: semaphore.processes(),
            reserved: 0,
        };
        // SAFETY: `check` has accepted `out`; the caller guarantees that it is writable.
        unsafe { structure::write(out, info) };
        Ok(())
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(semaphore, body) }
}

include!(concat!(env!("OUT_DIR"), "/object_semaphore.rs"));
