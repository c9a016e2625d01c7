//! Semaphores: permits that processes and threads take and give back; with undo the dead give back theirs.

use super::handle::Handle;
use super::object::{self, Object, with};
use super::status::{SHMKIT_OK, shmkit_status};
use super::structure::{self, Sized32};
use super::{output, wait};
use crate::error::Result;
use crate::object::semaphore::{FileOptions, Options, Semaphore};
use std::ffi::c_char;

/// A semaphore: a number of permits, which are taken and given back.
///
/// A plain one is for signalling, as sem_t is: anybody may give permits, any number of processes may use it, and what a
/// process had taken when it died is gone. One with SHMKIT_SEMAPHORE_UNDO is for things that processes hold: it records
/// who holds how many, and what a process holds comes back when it ends, however it ends, within 12 ms after the kernel
/// has torn it down. Who waits is served in no order; who wants many may wait for long where others want few. A handle
/// may be used by all threads at once and by forked children, which hold nothing of what their parent holds.
#[allow(non_camel_case_types)]
pub struct shmkit_semaphore {
    _opaque: (),
}

/// What a process holds comes back when it ends. Only it may give it back before.
pub const SHMKIT_SEMAPHORE_UNDO: u32 = 0x10000;

/// How to make or open a semaphore. All zeros but struct_size is a plain one without a permit; so is a NULL pointer to
/// it.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_semaphore_options {
    /// sizeof(shmkit_semaphore_options).
    pub struct_size: u32,
    /// SHMKIT_SEMAPHORE_UNDO, SHMKIT_TRUST, SHMKIT_EXCLUSIVE, or-ed.
    pub flags: u32,
    /// Permission bits of a new named one. 0: 0600.
    pub mode: u32,
    /// How many processes may use a new named one at a time, 1 to 4096; of a plain one any number may. 0: 128.
    pub participants: u32,
    /// Where a named one stands. NULL: SHMKIT_DIR, else /dev/shm.
    pub directory: *const c_char,
    /// How many permits a new one has, 0 to 2147483647. With undo that is how many there are, so at least 1.
    pub value: u64,
    /// How many it may ever have. 0: 2147483647, or with undo `value`, and nothing else is possible then.
    pub maximum: u64,
    /// With undo: how many processes may hold permits at a time, 1 to 4096. 0: 128.
    pub processes: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: repr(C), integers and one pointer, each at a multiple of its size: no padding; any bytes are a value (the
// pointer is followed only as the caller of the exported function promises).
unsafe impl Sized32 for shmkit_semaphore_options {
    const FIRST: usize = size_of::<shmkit_semaphore_options>();
}
const _: () = assert!(size_of::<shmkit_semaphore_options>() == 48);

/// What is known of a semaphore: each figure as it was at some moment during the call.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_semaphore_info {
    /// sizeof(shmkit_semaphore_info); on return how much of it was filled.
    pub struct_size: u32,
    /// SHMKIT_SEMAPHORE_UNDO or 0.
    pub flags: u32,
    /// How many permits are to be had.
    pub value: u64,
    /// How many there may be; with undo: how many there are in all.
    pub maximum: u64,
    /// How often an acquire had to sleep: counted when it begins to.
    pub waits: u64,
    /// How often permits came back from a dead process.
    pub recoveries: u64,
    /// With undo: how many processes hold permits, perhaps dead ones.
    pub holders: u64,
    /// Where it stands in its segment's data, or in its arena.
    pub offset: u64,
    /// With undo: how many processes may hold permits at a time.
    pub processes: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: repr(C), nothing but integers, each at a multiple of its size: no padding, and any bytes are a value.
unsafe impl Sized32 for shmkit_semaphore_info {
    const FIRST: usize = size_of::<shmkit_semaphore_info>();
}
const _: () = assert!(size_of::<shmkit_semaphore_info>() == 64);

impl Object for Semaphore {
    type CSpec = shmkit_semaphore_options;
    type Options = Options;
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

    fn size(options: &Options) -> Result<u64> {
        options.size()
    }

    object::forward!();
}

/// Takes `n` permits, all of them or none, waiting up to `timeout_ns` nanoseconds: SHMKIT_FOREVER, SHMKIT_NOWAIT, or a
/// time.
///
/// SHMKIT_OK if and only if they are taken. `flags`: SHMKIT_INTERRUPTIBLE. Memory written before a release is seen
/// after the acquire that takes what it gave.
///
/// SHMKIT_ERR_WOULD_BLOCK: not as many are there, and SHMKIT_NOWAIT. SHMKIT_ERR_TIMEOUT. SHMKIT_ERR_INTERRUPTED.
/// SHMKIT_ERR_INVALID: `n` is 0, or more than there may ever be; a negative time, unknown flags. With undo also
/// SHMKIT_ERR_TOO_MANY_PROCESSES: as many living processes hold permits as the options said, or use the segment as it has
/// room for. SHMKIT_ERR_OVERFLOW: one process holds at most 65535. SHMKIT_ERR_LIVENESS_UNKNOWN: they are held, and this process
/// has lost all descriptors of the segment (closefrom), so it cannot ask whether the holders live.
/// SHMKIT_ERR_PERMISSION: the file cannot be written. SHMKIT_ERR_CORRUPT. Where a process is stopped just while it takes
/// or gives, one with undo keeps even SHMKIT_NOWAIT waiting, for a second at the most.
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
    // What cannot panic goes ahead of what could: a permit that is there costs one exchange.
    if wait::is_valid(timeout_ns, flags) {
        // SAFETY: the caller's promise.
        if let Some(semaphore) = unsafe { Handle::<Semaphore>::peek(semaphore.cast()) }
            && semaphore.fast_acquire(n.into())
        {
            return SHMKIT_OK;
        }
    }
    // SAFETY: the caller's promise.
    unsafe { acquire_slow(semaphore, n, timeout_ns, flags) }
}

/// As the exported function, by its own convention: a jump leads here.
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
    // With undo a few steps do, if nobody else is there.
    if wait::is_valid(timeout_ns, flags) {
        // SAFETY: the caller's promise.
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
    // SAFETY: the caller's promise.
    unsafe { with(semaphore, body) }
}

/// Gives `n` permits back; of a plain one anybody may, whether or not they were taken before.
///
/// Of a plain one a signal handler may call it, as it may sem_post, as long as it does not fail: then nothing is
/// allocated and nothing is waited for. With undo it waits for whoever is just taking or giving, which takes less than
/// a microsecond.
///
/// SHMKIT_ERR_OVERFLOW: there would be more permits than there may be, so none is given. SHMKIT_ERR_INVALID: `n` is 0.
/// With undo SHMKIT_ERR_NOT_OWNER: this process does not hold as many. SHMKIT_ERR_TIMEOUT: somebody was stopped five
/// seconds ago while just taking or giving; it is not given back. SHMKIT_ERR_LIVENESS_UNKNOWN. SHMKIT_ERR_CORRUPT.
///
/// # Safety
/// `semaphore` must be NULL or a handle of this library that no other thread is closing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_semaphore_release(
    semaphore: *mut shmkit_semaphore,
    n: u32,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    if let Some(semaphore) = unsafe { Handle::<Semaphore>::peek(semaphore.cast()) }
        && semaphore.fast_release(n.into())
    {
        return SHMKIT_OK;
    }
    // SAFETY: the caller's promise.
    unsafe { release_slow(semaphore, n) }
}

/// As the exported function, by its own convention: a jump leads here.
///
/// # Safety
/// As for shmkit_semaphore_release.
#[cold]
#[inline(never)]
unsafe extern "C" fn release_slow(semaphore: *mut shmkit_semaphore, n: u32) -> shmkit_status {
    // As in acquire_slow.
    // SAFETY: the caller's promise.
    if let Some(semaphore) = unsafe { Handle::<Semaphore>::peek(semaphore.cast()) }
        && semaphore.try_release_recorded(n.into())
    {
        return SHMKIT_OK;
    }
    // SAFETY: the caller's promise.
    unsafe {
        with(semaphore, |semaphore: &Semaphore| {
            semaphore.release(n.into())
        })
    }
}

/// Tells how many permits are to be had. What the dead hold is not looked for: only an acquire does that.
///
/// SHMKIT_ERR_CORRUPT: more than there may be.
///
/// # Safety
/// `semaphore` must be NULL or a handle of this library; `out` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_semaphore_value(
    semaphore: *const shmkit_semaphore,
    out: *mut u64,
) -> shmkit_status {
    let body = |semaphore: &Semaphore| {
        // SAFETY: the caller's promise.
        let out = unsafe { output(out, "out") }?;
        out.write(semaphore.value()?);
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { with(semaphore, body) }
}

/// Tells how many permits this process holds. SHMKIT_ERR_INVALID: without undo nobody knows.
///
/// # Safety
/// As for shmkit_semaphore_value.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_semaphore_held(
    semaphore: *const shmkit_semaphore,
    out: *mut u64,
) -> shmkit_status {
    let body = |semaphore: &Semaphore| {
        // SAFETY: the caller's promise.
        let out = unsafe { output(out, "out") }?;
        out.write(semaphore.held()?);
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { with(semaphore, body) }
}

/// Tells what is known of the semaphore. Nobody is asked whether the holders live: only an acquire does that.
///
/// SHMKIT_ERR_CORRUPT: it says that it has more permits than there may be.
///
/// # Safety
/// `semaphore` must be NULL or a handle of this library; `out` NULL or a struct whose struct_size is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_semaphore_stat(
    semaphore: *const shmkit_semaphore,
    out: *mut shmkit_semaphore_info,
) -> shmkit_status {
    let body = |semaphore: &Semaphore| {
        // SAFETY: the caller's promise.
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
        // SAFETY: `check` has accepted `out`; the caller promises that it is writable.
        unsafe { structure::write(out, info) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { with(semaphore, body) }
}

include!(concat!(env!("OUT_DIR"), "/object_semaphore.rs"));
