//! Locks: mutual exclusion between processes and threads that survives the death of its owner.

use super::mutex;
use super::object::{self, Object, shmkit_object_options, with};
use super::segment::shmkit_segment;
use super::status::shmkit_status;
use super::structure::{self, Sized32};
use crate::error::Result;
use crate::object::lock::{FileOptions, Lock, Options, Stat};
use crate::participant::ProcessInfo;

/// A lock: one owner at a time, which is a process. Any thread of the owner may release it. It is not recursive: a
/// second acquire waits for the first one's release.
///
/// If the owner dies, however it dies, whoever waits gets the lock within 12 ms after the kernel has torn the dead
/// process down, and is told so: what the lock guards may be half written. A handle may be used by all threads at once
/// and by forked children.
#[allow(non_camel_case_types)]
pub struct shmkit_lock {
    _opaque: (),
}

/// Any process may release it, not its owner alone, as multiprocessing.Lock allows. Whoever releases one of a dead owner
/// has taken the matter into its own hands: the next owner is not told of that death.
pub const SHMKIT_LOCK_TRANSFERABLE: u32 = 0x10000;
/// In shmkit_lock_info: somebody holds it, perhaps a dead process.
pub const SHMKIT_LOCK_HELD: u32 = 0x40000;
/// In shmkit_lock_info: an owner died, and mark_consistent has not been called since.
pub const SHMKIT_LOCK_OWNER_DIED: u32 = 0x80000;

/// What is known of a lock: each figure as it was at some moment during the call.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_lock_info {
    /// sizeof(shmkit_lock_info); on return how much of it was filled.
    pub struct_size: u32,
    /// SHMKIT_LOCK_HELD, SHMKIT_LOCK_OWNER_DIED, SHMKIT_LOCK_TRANSFERABLE, or-ed.
    pub flags: u32,
    /// How often it was acquired.
    pub acquisitions: u64,
    /// How often that took waiting.
    pub contended: u64,
    /// How often it was taken over from the dead.
    pub recoveries: u64,
    /// When the first waiter for the present owner went to sleep, in nanoseconds of CLOCK_MONOTONIC, even if it has
    /// given up since. 0: nobody has waited for this owner.
    pub contended_since: u64,
    /// The owner's number among the participants of the segment, which no other ever has. 0: nobody holds it.
    pub owner_ticket: u64,
    /// The owner's PID namespace, as the inode of /proc/PID/ns/pid. 0: unknown.
    pub owner_namespace: u64,
    /// Where it stands in its segment's data, or in its arena. 0 of the one that is built in, which stands before both.
    pub offset: u64,
    /// The owner's process number in that namespace. 0: nobody holds it, or unknown.
    pub owner_pid: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: repr(C), nothing but integers, each at a multiple of its size: no padding, and any bytes are a value.
unsafe impl Sized32 for shmkit_lock_info {
    const FIRST: usize = size_of::<shmkit_lock_info>();
}
const _: () = assert!(size_of::<shmkit_lock_info>() == 72);

impl Object for Lock {
    type CSpec = shmkit_object_options;
    type Options = Options;
    const FLAGS: u32 = SHMKIT_LOCK_TRANSFERABLE;

    fn options(spec: &shmkit_object_options, file: FileOptions) -> Result<Options> {
        Ok(Options {
            transferable: spec.flags & SHMKIT_LOCK_TRANSFERABLE != 0,
            file,
        })
    }

    fn size(_: &Options) -> Result<u64> {
        Ok(Lock::SIZE)
    }

    object::forward!();
}

/// Fills what `stat` tells of a lock of either kind.
///
/// # Safety
/// `out` must be NULL or a struct whose struct_size is set.
pub(super) unsafe fn fill_info(
    out: *mut shmkit_lock_info,
    stat: Stat,
    owner: Option<ProcessInfo>,
    offset: u64,
    transferable: bool,
) -> Result<()> {
    // SAFETY: the caller's promise.
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
    // SAFETY: `check` has accepted `out`; the caller promises that it is writable.
    unsafe { structure::write(out, info) };
    Ok(())
}

/// Opens the lock that every full segment has. SHMKIT_ERR_WRONG_KIND: a plain one. SHMKIT_ERR_PERMISSION: read-only.
///
/// # Safety
/// `segment` must be NULL or a handle of this library; `out` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_segment_lock(
    segment: *const shmkit_segment,
    out: *mut *mut shmkit_lock,
) -> shmkit_status {
    let make = || {
        // SAFETY: the caller's promise.
        Lock::of(unsafe { object::segment_of(segment) }?)
    };
    // SAFETY: the caller's promise.
    unsafe { object::store(out, make) }
}

/// Takes the lock, waiting up to `timeout_ns` nanoseconds for it: SHMKIT_FOREVER, SHMKIT_NOWAIT, or a time.
///
/// SHMKIT_OK if and only if the caller holds the lock now. `owner_died` (NULL: not wanted) then tells 1 where an owner
/// died and shmkit_lock_mark_consistent has not been called since: look at what the lock guards, and make it whole.
/// `flags`: SHMKIT_INTERRUPTIBLE.
///
/// SHMKIT_ERR_WOULD_BLOCK: a living process holds it, and SHMKIT_NOWAIT. SHMKIT_ERR_TIMEOUT. SHMKIT_ERR_INTERRUPTED.
/// SHMKIT_ERR_INVALID: a negative time, unknown flags. SHMKIT_ERR_TOO_MANY_PROCESSES: as many processes as the segment has
/// room for are alive. SHMKIT_ERR_LIVENESS_UNKNOWN: somebody holds it, and this process has lost all descriptors of the segment
/// (closefrom), so it cannot ask whether that one lives. SHMKIT_ERR_PERMISSION: the file cannot be written.
/// SHMKIT_ERR_CORRUPT.
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
    // SAFETY: the caller's promise.
    unsafe { mutex::acquire::<Lock, _>(lock, timeout_ns, flags, owner_died) }
}

/// Gives the lock back.
///
/// SHMKIT_ERR_NOT_OWNER: this process does not hold it; of a transferable lock: nobody does. What a dead owner left
/// marked stays marked until shmkit_lock_mark_consistent.
///
/// # Safety
/// `lock` must be NULL or a handle of this library that no other thread is closing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_lock_release(lock: *mut shmkit_lock) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { mutex::release::<Lock, _>(lock) }
}

/// Says that what the lock guards is whole again after an owner's death. SHMKIT_ERR_NOT_OWNER.
///
/// # Safety
/// As for shmkit_lock_release.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_lock_mark_consistent(lock: *mut shmkit_lock) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { with(lock, Lock::mark_consistent) }
}

/// Tells what is known of the lock. Nobody is asked whether the owner lives: only an acquire does that.
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
        // SAFETY: the caller's promise.
        unsafe { fill_info(out, stat, owner, lock.offset(), lock.is_transferable()) }
    };
    // SAFETY: the caller's promise.
    unsafe { with(lock, body) }
}

include!(concat!(env!("OUT_DIR"), "/object_lock.rs"));
