//! Readers-writer locks: many processes read at once, or one writes.

use super::handle::Handle;
use super::object::{self, Object, with};
use super::status::{SHMKIT_OK, shmkit_status};
use super::structure::{self, Sized32};
use super::wait;
use crate::error::Result;
use crate::object::rwlock::{FileOptions, Options, RwLock};
use std::ffi::c_char;

/// A readers-writer lock: many processes read at once, or one writes. Its holders are processes; any thread of a holder
/// may give it back. A process may read several times at once; it writes once.
///
/// Who reads changes nothing but a cache line of its own process. As soon as somebody wants to write, new readers wait
/// for it: writers do not starve. So who reads must not acquire it for reading once more before it has given it back,
/// unless nobody else ever writes: a writer that came in between waits for the first time, and the second time for that
/// writer.
///
/// If a holder dies, however it dies, whoever waits gets the lock within 12 ms after the kernel has torn the dead process
/// down. Where it died writing, all who come later are told so: what the lock guards may be half written. A reader that
/// dies leaves nothing to tell. A handle may be used by all threads at once and by forked children.
#[allow(non_camel_case_types)]
pub struct shmkit_rwlock {
    _opaque: (),
}

/// In shmkit_rwlock_info: somebody writes, perhaps a dead process.
pub const SHMKIT_RWLOCK_WRITING: u32 = 0x40000;
/// In shmkit_rwlock_info: a writer died, and mark_consistent has not been called since.
pub const SHMKIT_RWLOCK_OWNER_DIED: u32 = 0x80000;
/// In shmkit_rwlock_info: somebody waits for the readers to leave, to write; perhaps a dead process.
pub const SHMKIT_RWLOCK_WAITING: u32 = 0x200000;

/// How to make or open a readers-writer lock. All zeros but struct_size is what most want; so is a NULL pointer to it.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_rwlock_options {
    /// sizeof(shmkit_rwlock_options).
    pub struct_size: u32,
    /// SHMKIT_TRUST, SHMKIT_EXCLUSIVE, or-ed.
    pub flags: u32,
    /// Permission bits of a new named one. 0: 0600.
    pub mode: u32,
    /// How many processes may use a new named one at a time, 1 to 4096. 0: 128.
    pub participants: u32,
    /// Where a named one stands. NULL: SHMKIT_DIR, else /dev/shm.
    pub directory: *const c_char,
    /// How many processes may read at a time, 1 to 4096: each has a cache line for it. 0: 128.
    pub readers: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: repr(C), integers and one pointer, each at a multiple of its size: no padding; any bytes are a value (the
// pointer is followed only as the caller of the exported function promises).
unsafe impl Sized32 for shmkit_rwlock_options {
    const FIRST: usize = size_of::<shmkit_rwlock_options>();
}
const _: () = assert!(size_of::<shmkit_rwlock_options>() == 32);

/// What is known of a readers-writer lock: each figure as it was at some moment during the call.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_rwlock_info {
    /// sizeof(shmkit_rwlock_info); on return how much of it was filled.
    pub struct_size: u32,
    /// SHMKIT_RWLOCK_WRITING, SHMKIT_RWLOCK_WAITING, SHMKIT_RWLOCK_OWNER_DIED, or-ed.
    pub flags: u32,
    /// How often it was acquired for writing. How often for reading nobody counts.
    pub writes: u64,
    /// How often somebody waited for a writer, or a writer for readers.
    pub contended: u64,
    /// How many writers were found that had died writing.
    pub recoveries: u64,
    /// When the first to wait for who holds it now went to sleep, in nanoseconds of CLOCK_MONOTONIC, even if it has given
    /// up since. 0: nobody has waited for that one.
    pub contended_since: u64,
    /// The number of who writes, or waits to, among the participants of the segment, which no other ever has. 0: nobody.
    pub owner_ticket: u64,
    /// Its PID namespace, as the inode of /proc/PID/ns/pid. 0: unknown.
    pub owner_namespace: u64,
    /// Where it stands in its segment's data, or in its arena.
    pub offset: u64,
    /// How often it is held for reading, by the dead too as long as no writer has waited for them.
    pub readers: u64,
    /// The process number of who writes, or waits to, in that namespace. 0: nobody, or unknown.
    pub owner_pid: u32,
    /// How many processes hold it for reading, the dead too as long as no writer has waited for them.
    pub reading_processes: u32,
    /// How many processes may read at a time.
    pub max_readers: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: repr(C), nothing but integers, each at a multiple of its size: no padding, and any bytes are a value.
unsafe impl Sized32 for shmkit_rwlock_info {
    const FIRST: usize = size_of::<shmkit_rwlock_info>();
}
const _: () = assert!(size_of::<shmkit_rwlock_info>() == 88);

impl Object for RwLock {
    type CSpec = shmkit_rwlock_options;
    type Options = Options;

    fn options(spec: &shmkit_rwlock_options, file: FileOptions) -> Result<Options> {
        object::check_reserved(spec.reserved)?;
        Ok(Options {
            // What is too much for 16 bits is too much in any case.
            readers: spec.readers.try_into().unwrap_or(u16::MAX),
            file,
        })
    }

    fn size(options: &Options) -> Result<u64> {
        options.size()
    }

    object::forward!();
}

/// Takes the lock where `take` does that in one step: as in `mutex::acquire`, what cannot panic goes ahead of what could.
///
/// # Safety
/// As for shmkit_rwlock_acquire_read.
#[inline(always)]
unsafe fn at_once(
    lock: *mut shmkit_rwlock,
    timeout_ns: i64,
    flags: u32,
    owner_died: *mut u32,
    take: impl FnOnce(&RwLock) -> bool,
) -> bool {
    if !wait::is_valid(timeout_ns, flags) || !owner_died.is_aligned() {
        return false;
    }
    // SAFETY: the caller's promise.
    let taken = unsafe { Handle::<RwLock>::peek(lock.cast()) }.is_some_and(take);
    if taken && !owner_died.is_null() {
        // SAFETY: not NULL and aligned; the caller promises that it is writable.
        unsafe { owner_died.write(0) };
    }
    taken
}

/// Takes the lock for reading, waiting as shmkit_lock_acquire does until nobody writes or wants to.
///
/// SHMKIT_OK if and only if the caller reads now. `owner_died` (NULL: not wanted) then tells 1 where a writer died and
/// shmkit_rwlock_mark_consistent has not been called since: what is read may be half written.
///
/// Errors as of shmkit_lock_acquire; SHMKIT_ERR_TOO_MANY_PROCESSES: also where as many processes read as may at a time.
/// SHMKIT_ERR_OVERFLOW: this process reads 65,535 times.
///
/// # Safety
/// `lock` must be NULL or a handle of this library that no other thread is closing; `owner_died` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_rwlock_acquire_read(
    lock: *mut shmkit_rwlock,
    timeout_ns: i64,
    flags: u32,
    owner_died: *mut u32,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    if unsafe { at_once(lock, timeout_ns, flags, owner_died, RwLock::fast_read) } {
        return SHMKIT_OK;
    }
    // SAFETY: the caller's promise.
    unsafe { acquire_read_slow(lock, timeout_ns, flags, owner_died) }
}

/// As the exported function, by its own convention: a jump leads here.
///
/// # Safety
/// As for shmkit_rwlock_acquire_read.
#[cold]
#[inline(never)]
unsafe extern "C" fn acquire_read_slow(
    lock: *mut shmkit_rwlock,
    timeout_ns: i64,
    flags: u32,
    owner_died: *mut u32,
) -> shmkit_status {
    let body = |lock: &RwLock| {
        // SAFETY: the caller's promise.
        let died = unsafe { super::optional(owner_died, "owner_died") }?;
        let mark = lock.read_with(wait::options(timeout_ns, flags)?)?;
        died.map(|died| died.write(mark.into()));
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { with(lock, body) }
}

/// Gives back what was taken for reading, once. SHMKIT_ERR_NOT_OWNER: this process does not read.
///
/// # Safety
/// `lock` must be NULL or a handle of this library that no other thread is closing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_rwlock_release_read(lock: *mut shmkit_rwlock) -> shmkit_status {
    // SAFETY: the caller's promise.
    if let Some(lock) = unsafe { Handle::<RwLock>::peek(lock.cast()) }
        && lock.fast_release_read()
    {
        return SHMKIT_OK;
    }
    // SAFETY: the caller's promise.
    unsafe { release_read_slow(lock) }
}

/// As the exported function, by its own convention: a jump leads here.
///
/// # Safety
/// As for shmkit_rwlock_release_read.
#[cold]
#[inline(never)]
unsafe extern "C" fn release_read_slow(lock: *mut shmkit_rwlock) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { with(lock, RwLock::release_read) }
}

/// Takes the lock for writing, waiting as shmkit_lock_acquire does until nobody writes or reads.
///
/// New readers wait as soon as it is the caller's turn. SHMKIT_OK if and only if the caller writes now. `owner_died` (NULL:
/// not wanted) then tells 1 where a writer died and shmkit_rwlock_mark_consistent has not been called since: look at what
/// the lock guards, and make it whole.
///
/// Errors as of shmkit_lock_acquire.
///
/// # Safety
/// As for shmkit_rwlock_acquire_read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_rwlock_acquire_write(
    lock: *mut shmkit_rwlock,
    timeout_ns: i64,
    flags: u32,
    owner_died: *mut u32,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    if unsafe { at_once(lock, timeout_ns, flags, owner_died, RwLock::fast_write) } {
        return SHMKIT_OK;
    }
    // SAFETY: the caller's promise.
    unsafe { acquire_write_slow(lock, timeout_ns, flags, owner_died) }
}

/// As the exported function, by its own convention: a jump leads here.
///
/// # Safety
/// As for shmkit_rwlock_acquire_read.
#[cold]
#[inline(never)]
unsafe extern "C" fn acquire_write_slow(
    lock: *mut shmkit_rwlock,
    timeout_ns: i64,
    flags: u32,
    owner_died: *mut u32,
) -> shmkit_status {
    let body = |lock: &RwLock| {
        // SAFETY: the caller's promise.
        let died = unsafe { super::optional(owner_died, "owner_died") }?;
        let mark = lock.write_with(wait::options(timeout_ns, flags)?)?;
        died.map(|died| died.write(mark.into()));
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { with(lock, body) }
}

/// Gives back what was taken for writing.
///
/// SHMKIT_ERR_NOT_OWNER: this process does not write. What a dead writer left marked stays marked until
/// shmkit_rwlock_mark_consistent.
///
/// # Safety
/// As for shmkit_rwlock_release_read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_rwlock_release_write(lock: *mut shmkit_rwlock) -> shmkit_status {
    // SAFETY: the caller's promise.
    if let Some(lock) = unsafe { Handle::<RwLock>::peek(lock.cast()) }
        && lock.fast_release_write()
    {
        return SHMKIT_OK;
    }
    // SAFETY: the caller's promise.
    unsafe { release_write_slow(lock) }
}

/// As the exported function, by its own convention: a jump leads here.
///
/// # Safety
/// As for shmkit_rwlock_release_read.
#[cold]
#[inline(never)]
unsafe extern "C" fn release_write_slow(lock: *mut shmkit_rwlock) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { with(lock, RwLock::release_write) }
}

/// Goes from reading to writing, waiting as shmkit_lock_acquire does until nobody else reads; nobody writes in between.
///
/// SHMKIT_OK: the caller writes now, and reads once less. Else it still reads as before. SHMKIT_ERR_DEADLOCK: somebody
/// else waits for the readers, to write or to upgrade, and so for the caller: give it back and acquire it for writing;
/// that one writes in between. SHMKIT_ERR_NOT_OWNER: this process does not read. Other errors as of shmkit_lock_acquire.
///
/// # Safety
/// As for shmkit_rwlock_release_read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_rwlock_upgrade(
    lock: *mut shmkit_rwlock,
    timeout_ns: i64,
    flags: u32,
) -> shmkit_status {
    let body = |lock: &RwLock| lock.upgrade_with(wait::options(timeout_ns, flags)?);
    // SAFETY: the caller's promise.
    unsafe { with(lock, body) }
}

/// Goes from writing to reading, without waiting; nobody writes in between.
///
/// SHMKIT_ERR_NOT_OWNER: this process does not write. SHMKIT_ERR_TOO_MANY_PROCESSES, SHMKIT_ERR_OVERFLOW,
/// SHMKIT_ERR_LIVENESS_UNKNOWN: as of shmkit_rwlock_acquire_read; the caller still writes.
///
/// # Safety
/// As for shmkit_rwlock_release_read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_rwlock_downgrade(lock: *mut shmkit_rwlock) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { with(lock, RwLock::downgrade) }
}

/// Says that what the lock guards is whole again after a writer's death. SHMKIT_ERR_NOT_OWNER: this process does not
/// write.
///
/// # Safety
/// As for shmkit_rwlock_release_read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_rwlock_mark_consistent(lock: *mut shmkit_rwlock) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { with(lock, RwLock::mark_consistent) }
}

/// Tells what is known of the lock. Nobody is asked whether its holders live: only an acquire does that.
///
/// # Safety
/// `lock` must be NULL or a handle of this library; `out` NULL or a struct whose struct_size is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_rwlock_stat(
    lock: *const shmkit_rwlock,
    out: *mut shmkit_rwlock_info,
) -> shmkit_status {
    let body = |lock: &RwLock| {
        // SAFETY: the caller's promise.
        unsafe { structure::check(out, "out") }?;
        let (stat, owner) = lock.stat();
        let flag = |set, flag| if set { flag } else { 0 };
        let info = shmkit_rwlock_info {
            struct_size: 0,
            flags: flag(stat.writer.is_some() && !stat.waits, SHMKIT_RWLOCK_WRITING)
                | flag(stat.writer.is_some() && stat.waits, SHMKIT_RWLOCK_WAITING)
                | flag(stat.writer_died, SHMKIT_RWLOCK_OWNER_DIED),
            writes: stat.writes,
            contended: stat.contended,
            recoveries: stat.recoveries,
            contended_since: stat.contended_since,
            owner_ticket: stat.writer.map_or(0, |writer| writer.ticket()),
            owner_namespace: owner.map_or(0, |owner| owner.namespace),
            offset: lock.offset(),
            readers: stat.readers,
            owner_pid: owner.map_or(0, |owner| owner.pid),
            reading_processes: stat.reading as u32,
            max_readers: lock.readers() as u32,
            reserved: 0,
        };
        // SAFETY: `check` has accepted `out`; the caller promises that it is writable.
        unsafe { structure::write(out, info) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { with(lock, body) }
}

include!(concat!(env!("OUT_DIR"), "/object_rwlock.rs"));
