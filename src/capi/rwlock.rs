//! Readers-writer locks: many processes read at a time, or one writes.

use super::handle::Handle;
use super::object::{self, Object, with};
use super::status::{SHMKIT_OK, shmkit_status};
use super::structure::{self, Sized32};
use super::wait;
use crate::error::Result;
use crate::object::rwlock::{FileOptions, Options, RwLock};
use std::ffi::c_char;

/// A readers-writer lock: many processes hold it for reading, or one for writing.
///
///   Owner     Processes. Any thread of a holder may release the lock. A process may hold it for
///             reading up to 65,535 times, for writing once.
///   Readers   A reader writes only to a cache line of its own process.
///   Writers   As soon as a writer waits, new readers wait for it: writers do not starve.
///   Deadlock  A process that reads must not acquire the lock for reading again before it has
///             released it, unless no other process ever writes. Otherwise a writer that comes in
///             between waits for the first read, and the second read waits for that writer.
///   Death     If a holder dies, for any reason, a waiter acquires the lock at most 12 ms after the
///             kernel has torn the process down. If a writer dies while it writes, all later
///             holders see `*owner_died` = 1 until shmkit_rwlock_mark_consistent, because what the
///             lock guards may be half written. The death of a reader is not reported.
///   Threads   All threads of a process may use a handle at once, and so may forked children. A
///             child holds nothing that its parent holds.
///   Size      128 bytes in a segment, and 64 for each process that can read at a time.
///   Options   shmkit_rwlock_options. shmkit_rwlock_open_or_create and shmkit_rwlock_create_at
///             compare `readers` with an existing lock.
///   Close     A close releases nothing. If the process closes its last handle of the segment, it
///             counts as dead for the locks that it holds there.
#[allow(non_camel_case_types)]
pub struct shmkit_rwlock {
    _opaque: (),
}

/// In shmkit_rwlock_info: a process writes. It may be dead.
pub const SHMKIT_RWLOCK_WRITING: u32 = 0x40000;
/// In shmkit_rwlock_info: a writer died, and shmkit_rwlock_mark_consistent has not been called
/// since.
pub const SHMKIT_RWLOCK_OWNER_DIED: u32 = 0x80000;
/// In shmkit_rwlock_info: a writer waits for the readers to release the lock. It may be dead.
pub const SHMKIT_RWLOCK_WAITING: u32 = 0x200000;

/// How to create or open a readers-writer lock. NULL, or zeros after struct_size, mean the
/// defaults.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_rwlock_options {
    /// sizeof(shmkit_rwlock_options).
    pub struct_size: u32,
    /// SHMKIT_TRUST and SHMKIT_EXCLUSIVE, or-ed.
    pub flags: u32,
    /// Permission bits of a new named lock, whatever the umask. 0: 0600.
    pub mode: u32,
    /// The number of processes that can use a new named lock at a time, 1 to 4096. 0: 128.
    pub participants: u32,
    /// The directory of a named lock. NULL: SHMKIT_DIR, else /dev/shm.
    pub directory: *const c_char,
    /// The number of processes that can read at a time, 1 to 4096: each has a cache line. 0: 128.
    pub readers: u32,
    /// Must be 0.
    pub reserved: u32,
}

// SAFETY: repr(C), integers and one pointer, each at a multiple of its size: no padding; any bytes are a value. The
// pointer is followed only as the caller of the exported function guarantees.
unsafe impl Sized32 for shmkit_rwlock_options {
    const FIRST: usize = size_of::<shmkit_rwlock_options>();
}
const _: () = assert!(size_of::<shmkit_rwlock_options>() == 32);

/// The state of a readers-writer lock. Each figure was true at some moment during the call.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_rwlock_info {
    /// sizeof(shmkit_rwlock_info); on return, the number of bytes filled.
    pub struct_size: u32,
    /// SHMKIT_RWLOCK_WRITING, SHMKIT_RWLOCK_WAITING and SHMKIT_RWLOCK_OWNER_DIED, or-ed.
    pub flags: u32,
    /// The number of acquisitions for writing. Acquisitions for reading are not counted.
    pub writes: u64,
    /// The number of times that a process waited for a writer, or a writer for readers.
    pub contended: u64,
    /// The number of times that a waiter took over from a writer that died while it wrote.
    pub recoveries: u64,
    /// The time when the first waiter for the present holder went to sleep, in nanoseconds of
    /// CLOCK_MONOTONIC, even if its wait has ended. 0: no process has waited for this holder.
    pub contended_since: u64,
    /// The ticket of the process that writes or waits to write: its number among the participants of
    /// the segment, never reused. 0: there is none.
    pub owner_ticket: u64,
    /// The PID namespace of that process, as the inode of /proc/PID/ns/pid. 0: unknown.
    pub owner_namespace: u64,
    /// The offset of the lock in the data of its segment, or in the memory file of unnamed
    /// objects.
    pub offset: u64,
    /// The number of holds for reading. Dead readers count until a writer has waited for them.
    pub readers: u64,
    /// The PID of the process that writes or waits to write, in that namespace. 0: there is none, or
    /// unknown.
    pub owner_pid: u32,
    /// The number of processes that read. Dead readers count until a writer has waited for them.
    pub reading_processes: u32,
    /// The number of processes that can read at a time.
    pub max_readers: u32,
    /// Always 0.
    pub reserved: u32,
}

// SAFETY: repr(C), nothing but integers, each at a multiple of its size: no padding, and any bytes are a value.
unsafe impl Sized32 for shmkit_rwlock_info {
    const FIRST: usize = size_of::<shmkit_rwlock_info>();
}
const _: () = assert!(size_of::<shmkit_rwlock_info>() == 88);

// SAFETY: the options begin with the fields of shmkit_object_options.
unsafe impl Object for RwLock {
    type CSpec = shmkit_rwlock_options;

    fn options(spec: &shmkit_rwlock_options, file: FileOptions) -> Result<Options> {
        object::check_reserved(spec.reserved)?;
        Ok(Options {
            // Values above 16 bits are out of range anyway.
            readers: spec.readers.try_into().unwrap_or(u16::MAX),
            file,
        })
    }
}

/// Acquires the lock if `take` does so in one step. As in `mutex::acquire`, the path that cannot
/// panic comes first.
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
    // SAFETY: the caller guarantees it (see # Safety).
    let taken = unsafe { Handle::<RwLock>::peek(lock.cast()) }.is_some_and(take);
    if taken && !owner_died.is_null() {
        // SAFETY: not NULL and aligned; the caller guarantees that it is writable.
        unsafe { owner_died.write(0) };
    }
    taken
}

/// Acquires the lock for reading. It waits while a process writes or waits to write.
///
/// The caller reads if and only if the call returns SHMKIT_OK.
///
///   timeout_ns  nanoseconds to wait, SHMKIT_FOREVER or SHMKIT_NOWAIT
///   flags       SHMKIT_INTERRUPTIBLE or 0
///   owner_died  (may be NULL) 1 if a writer died and shmkit_rwlock_mark_consistent has not been
///               called since: what is read may be half written. Otherwise 0
///
///   SHMKIT_ERR_TOO_MANY_PROCESSES  also: live processes occupy all places for readers
///   SHMKIT_ERR_OVERFLOW            this process holds the lock for reading 65,535 times
///   and the errors of shmkit_lock_acquire
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
    // SAFETY: the caller guarantees it (see # Safety).
    if unsafe { at_once(lock, timeout_ns, flags, owner_died, RwLock::fast_read) } {
        return SHMKIT_OK;
    }
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { acquire_read_slow(lock, timeout_ns, flags, owner_died) }
}

/// The exported function with the C calling convention, so that the call compiles to a jump.
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
        // SAFETY: the caller guarantees it (see # Safety).
        let died = unsafe { super::optional(owner_died, "owner_died") }?;
        let mark = lock.read_with(wait::options(timeout_ns, flags)?)?;
        died.map(|died| died.write(mark.into()));
        Ok(())
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(lock, body) }
}

/// Releases the lock once from reading.
///
///   SHMKIT_ERR_NOT_OWNER  this process does not read
///
/// # Safety
/// `lock` must be NULL or a handle of this library that no other thread is closing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_rwlock_release_read(lock: *mut shmkit_rwlock) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    if let Some(lock) = unsafe { Handle::<RwLock>::peek(lock.cast()) }
        && lock.fast_release_read()
    {
        return SHMKIT_OK;
    }
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { release_read_slow(lock) }
}

/// The exported function with the C calling convention, so that the call compiles to a jump.
///
/// # Safety
/// As for shmkit_rwlock_release_read.
#[cold]
#[inline(never)]
unsafe extern "C" fn release_read_slow(lock: *mut shmkit_rwlock) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(lock, RwLock::release_read) }
}

/// Acquires the lock for writing. It waits until no process reads or writes.
///
/// New readers wait as soon as it is the caller's turn. The caller writes if and only if the call
/// returns SHMKIT_OK.
///
///   timeout_ns  nanoseconds to wait, SHMKIT_FOREVER or SHMKIT_NOWAIT
///   flags       SHMKIT_INTERRUPTIBLE or 0
///   owner_died  (may be NULL) 1 if a writer died and shmkit_rwlock_mark_consistent has not been
///               called since: check and repair what the lock guards. Otherwise 0
///
///   the errors of shmkit_lock_acquire
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
    // SAFETY: the caller guarantees it (see # Safety).
    if unsafe { at_once(lock, timeout_ns, flags, owner_died, RwLock::fast_write) } {
        return SHMKIT_OK;
    }
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { acquire_write_slow(lock, timeout_ns, flags, owner_died) }
}

/// The exported function with the C calling convention, so that the call compiles to a jump.
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
        // SAFETY: the caller guarantees it (see # Safety).
        let died = unsafe { super::optional(owner_died, "owner_died") }?;
        let mark = lock.write_with(wait::options(timeout_ns, flags)?)?;
        died.map(|died| died.write(mark.into()));
        Ok(())
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(lock, body) }
}

/// Releases the lock from writing.
///
/// After the death of a writer the lock stays marked until shmkit_rwlock_mark_consistent is called.
///
///   SHMKIT_ERR_NOT_OWNER  this process does not write
///
/// # Safety
/// As for shmkit_rwlock_release_read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_rwlock_release_write(lock: *mut shmkit_rwlock) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    if let Some(lock) = unsafe { Handle::<RwLock>::peek(lock.cast()) }
        && lock.fast_release_write()
    {
        return SHMKIT_OK;
    }
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { release_write_slow(lock) }
}

/// The exported function with the C calling convention, so that the call compiles to a jump.
///
/// # Safety
/// As for shmkit_rwlock_release_read.
#[cold]
#[inline(never)]
unsafe extern "C" fn release_write_slow(lock: *mut shmkit_rwlock) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(lock, RwLock::release_write) }
}

/// Changes from reading to writing. It waits until this is the only hold for reading; no process
/// writes in between.
///
/// On SHMKIT_OK the caller writes, and holds the lock for reading once less. On any error but
/// SHMKIT_ERR_FORKED it reads as before.
///
///   timeout_ns  nanoseconds to wait, SHMKIT_FOREVER or SHMKIT_NOWAIT
///   flags       SHMKIT_INTERRUPTIBLE or 0
///
///   SHMKIT_ERR_DEADLOCK   another process waits for all readers, and so for the caller, to write
///                         or to upgrade. Release the lock, and acquire it for writing; that
///                         process writes in between
///   SHMKIT_ERR_NOT_OWNER  this process does not read
///   and the errors of shmkit_lock_acquire
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
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(lock, body) }
}

/// Changes from writing to reading, without waiting; no process writes in between. On any error but
/// SHMKIT_ERR_FORKED the caller still writes.
///
///   SHMKIT_ERR_NOT_OWNER           this process does not write
///   SHMKIT_ERR_TOO_MANY_PROCESSES  live processes occupy all places for readers
///   SHMKIT_ERR_OVERFLOW            this process holds the lock for reading 65,535 times
///   SHMKIT_ERR_LIVENESS_UNKNOWN    this process has lost all descriptors of the segment
///                                  (closefrom), so it cannot check whether the readers are alive
///
/// # Safety
/// As for shmkit_rwlock_release_read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_rwlock_downgrade(lock: *mut shmkit_rwlock) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(lock, RwLock::downgrade) }
}

/// Marks what the lock guards as repaired after the death of a writer.
///
///   SHMKIT_ERR_NOT_OWNER  this process does not write
///
/// # Safety
/// As for shmkit_rwlock_release_read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_rwlock_mark_consistent(lock: *mut shmkit_rwlock) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(lock, RwLock::mark_consistent) }
}

/// Returns the state of the lock. It does not check whether the holders are alive: only an acquire
/// does.
///
/// # Safety
/// `lock` must be NULL or a handle of this library; `out` NULL or a struct whose struct_size is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_rwlock_stat(
    lock: *const shmkit_rwlock,
    out: *mut shmkit_rwlock_info,
) -> shmkit_status {
    let body = |lock: &RwLock| {
        // SAFETY: the caller guarantees it (see # Safety).
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
        // SAFETY: `check` has accepted `out`; the caller guarantees that it is writable.
        unsafe { structure::write(out, info) };
        Ok(())
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(lock, body) }
}

include!(concat!(env!("OUT_DIR"), "/object_rwlock.rs"));
