//! Locks: mutual exclusion between processes and threads that survives the death of the owner.

use super::mutex;
use super::object::{self, Object, shmkit_object_options, with};
use super::segment::shmkit_segment;
use super::status::shmkit_status;
use super::structure::{self, Sized32};
use crate::error::Result;
use crate::object::lock::{FileOptions, Lock, LockInfo, Options};
use crate::participant::ProcessInfo;

/// A lock, which has one owner at a time.
///
///   Owner    A process. Any of its threads may release the lock. The lock is not recursive: a
///            second acquire waits for the release of the first.
///   Death    If the owner dies, for any reason, a waiter acquires the lock at most 12 ms after the
///            kernel has torn the process down. It sees `*owner_died` = 1, because what the lock
///            guards may be half written.
///   Threads  All threads of a process may use a handle at once, and so may forked children. A
///            child holds nothing that its parent holds.
///   Size     64 bytes in a segment.
///   Options  shmkit_object_options with SHMKIT_LOCK_TRANSFERABLE, which shmkit_lock_open_or_create
///            and shmkit_lock_create_at compare with an existing lock.
///   Close    A close does not release the lock. If the process closes its last handle of the
///            segment while it holds the lock, the lock has a dead owner.
#[allow(non_camel_case_types)]
pub struct shmkit_lock {
    _opaque: (),
}

/// In the options of a lock: any process may release the lock, not only its owner, as with
/// multiprocessing.Lock. If a process releases the lock of a dead owner, the next owner does not
/// see that death. In shmkit_lock_info: the lock was created with this option.
pub const SHMKIT_LOCK_TRANSFERABLE: u32 = 0x10000;
/// In shmkit_lock_info: a process holds the lock. It may be dead.
pub const SHMKIT_LOCK_HELD: u32 = 0x40000;
/// In shmkit_lock_info: an owner died, and the lock has not been marked consistent since.
pub const SHMKIT_LOCK_OWNER_DIED: u32 = 0x80000;

/// The state of a lock or recursive lock. Each figure was true at some moment during the call.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_lock_info {
    /// sizeof(shmkit_lock_info); on return, the number of bytes filled.
    pub struct_size: u32,
    /// SHMKIT_LOCK_HELD, SHMKIT_LOCK_OWNER_DIED and SHMKIT_LOCK_TRANSFERABLE, or-ed.
    pub flags: u32,
    /// The number of acquisitions.
    pub acquisitions: u64,
    /// The number of acquisitions that had to wait.
    pub contended: u64,
    /// The number of acquisitions from a dead owner.
    pub recoveries: u64,
    /// The time when the first waiter for the present owner went to sleep, in nanoseconds of
    /// CLOCK_MONOTONIC, even if its wait has ended. 0: no process has waited for this owner.
    pub contended_since: u64,
    /// The ticket of the owner: its number among the participants of the segment, never reused. 0:
    /// the lock is free.
    pub owner_ticket: u64,
    /// The PID namespace of the owner, as the inode of /proc/PID/ns/pid. 0: unknown.
    pub owner_namespace: u64,
    /// The offset of the lock in the data of its segment, or in the memory file of unnamed objects. 0
    /// for the lock of shmkit_segment_lock, which is stored before the data.
    pub offset: u64,
    /// The PID of the owner in that namespace. 0: the lock is free, or the PID is unknown.
    pub owner_pid: u32,
    /// Always 0.
    pub reserved: u32,
}

// SAFETY: repr(C), nothing but integers, each at a multiple of its size: no padding, and any bytes are a value.
unsafe impl Sized32 for shmkit_lock_info {
    const FIRST: usize = size_of::<shmkit_lock_info>();
}
const _: () = assert!(size_of::<shmkit_lock_info>() == 72);

// SAFETY: the options are shmkit_object_options.
unsafe impl Object for Lock {
    type CSpec = shmkit_object_options;
    const FLAGS: u32 = SHMKIT_LOCK_TRANSFERABLE;

    fn options(spec: &shmkit_object_options, file: FileOptions) -> Result<Options> {
        Ok(Options {
            transferable: spec.flags & SHMKIT_LOCK_TRANSFERABLE != 0,
            file,
        })
    }
}

/// Fills in the state of a lock or a recursive lock.
///
/// # Safety
/// `out` must be NULL or a struct whose struct_size is set.
pub(super) unsafe fn fill_info(
    out: *mut shmkit_lock_info,
    stat: LockInfo,
    owner: Option<ProcessInfo>,
    offset: u64,
    transferable: bool,
) -> Result<()> {
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { structure::check(out, "out") }?;
    let flag = |set, flag| if set { flag } else { 0 };
    let info = shmkit_lock_info {
        struct_size: 0,
        flags: flag(stat.owner.is_some(), SHMKIT_LOCK_HELD)
            | flag(stat.owner_died, SHMKIT_LOCK_OWNER_DIED)
            | flag(transferable, SHMKIT_LOCK_TRANSFERABLE),
        acquisitions: stat.acquisitions,
        contended: stat.contended,
        recoveries: stat.recoveries,
        contended_since: stat.contended_since,
        owner_ticket: stat.owner.map_or(0, |owner| owner.ticket()),
        owner_namespace: owner.map_or(0, |owner| owner.namespace),
        offset,
        owner_pid: owner.map_or(0, |owner| owner.pid),
        reserved: 0,
    };
    // SAFETY: `check` has accepted `out`; the caller guarantees that it is writable.
    unsafe { structure::write(out, info) };
    Ok(())
}

/// Opens the built-in lock of a managed segment.
///
/// `out` gets a handle, which shmkit_lock_close frees.
///
///   SHMKIT_ERR_WRONG_KIND  a plain segment
///   SHMKIT_ERR_PERMISSION  the segment's handle is read-only
///
/// # Safety
/// `segment` must be NULL or a handle of this library; `out` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_segment_lock(
    segment: *const shmkit_segment,
    out: *mut *mut shmkit_lock,
) -> shmkit_status {
    let make = || {
        // SAFETY: the caller guarantees it (see # Safety).
        Lock::of(unsafe { object::segment_of(segment) }?)
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { object::store(out, make) }
}

/// Acquires the lock, and waits for it if necessary.
///
/// The caller holds the lock if and only if the call returns SHMKIT_OK.
///
///   timeout_ns  nanoseconds to wait, SHMKIT_FOREVER or SHMKIT_NOWAIT
///   flags       SHMKIT_INTERRUPTIBLE or 0
///   owner_died  (may be NULL) 1 if an owner died and shmkit_lock_mark_consistent has not been
///               called since: check and repair what the lock guards. Otherwise 0
///
///   SHMKIT_ERR_WOULD_BLOCK         a live process holds the lock, and SHMKIT_NOWAIT was given
///   SHMKIT_ERR_TIMEOUT             the timeout expired
///   SHMKIT_ERR_INTERRUPTED         the interrupt hook ended the call
///   SHMKIT_ERR_INVALID             a negative timeout other than SHMKIT_FOREVER, or an unknown
///                                  flag
///   SHMKIT_ERR_TOO_MANY_PROCESSES  the segment has no room for another process: live processes own
///                                  all participant slots
///   SHMKIT_ERR_LIVENESS_UNKNOWN    this process has lost all descriptors of the segment
///                                  (closefrom), and the lock is held: its owner cannot be checked.
///                                  Also at the first use of the segment
///   SHMKIT_ERR_PERMISSION          this user may not write to the file of the segment
///   SHMKIT_ERR_NO_MEMORY           no address space is left, at the first use of the segment
///   SHMKIT_ERR_CORRUPT             the shared bytes of the segment are corrupt
///
/// # Safety
/// `lock` must be NULL or a handle of this library that no other thread is closing; `owner_died` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_lock_acquire(
    lock: *mut shmkit_lock,
    timeout_ns: i64,
    flags: u32,
    owner_died: *mut u32,
) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { mutex::acquire::<Lock, _>(lock, timeout_ns, flags, owner_died) }
}

/// Releases the lock.
///
/// After the death of an owner the lock stays marked until shmkit_lock_mark_consistent is called.
///
///   SHMKIT_ERR_NOT_OWNER  this process does not hold the lock; for a transferable lock: no process
///                         holds it
///
/// # Safety
/// `lock` must be NULL or a handle of this library that no other thread is closing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_lock_release(lock: *mut shmkit_lock) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { mutex::release::<Lock, _>(lock) }
}

/// Marks what the lock guards as repaired after the death of an owner.
///
///   SHMKIT_ERR_NOT_OWNER  this process does not hold the lock
///
/// # Safety
/// As for shmkit_lock_release.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_lock_mark_consistent(lock: *mut shmkit_lock) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(lock, Lock::mark_consistent) }
}

/// Returns the state of the lock. It does not check whether the owner is alive: only an acquire
/// does.
///
/// # Safety
/// `lock` must be NULL or a handle of this library; `out` NULL or a struct whose struct_size is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_lock_stat(
    lock: *const shmkit_lock,
    out: *mut shmkit_lock_info,
) -> shmkit_status {
    let body = |lock: &Lock| {
        let (stat, owner) = lock.stat();
        // SAFETY: the caller guarantees it (see # Safety).
        unsafe { fill_info(out, stat, owner, lock.offset(), lock.is_transferable()) }
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(lock, body) }
}

include!(concat!(env!("OUT_DIR"), "/object_lock.rs"));
