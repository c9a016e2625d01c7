//! Conditions: a thread that holds a lock waits, without it, until another one that holds it notifies.

use super::handle::{Handle, Opaque};
use super::object::{self, Object, with};
use super::segment::shmkit_segment;
use super::status::shmkit_status;
use super::structure::{self, Sized32};
use super::wait::{SHMKIT_NOWAIT, options};
use super::{check_pointer, optional};
use crate::error::{Error, Result};
use crate::layout::Kind;
use crate::object::condition::{Condition, End, FileOptions, Mutex, Options};
use crate::object::lock::Lock;
use crate::object::rlock::RLock;
use std::ffi::{c_char, c_void};

/// A condition: who holds a lock gives it back and waits until somebody who holds it notifies; then has it again. The
/// lock is a shmkit_lock or a shmkit_rlock of the caller's, which is named in each call: always the same one.
///
/// Each waiting thread has a cell, so that a notification reaches those that it is meant for, and nobody else returns. If
/// a waiter dies, however it dies, it is skipped, and a notification that it was sent goes to another one that waited
/// then, within 12 ms after the kernel has torn the dead process down. A handle may be used by all threads at once and by
/// forked children.
#[allow(non_camel_case_types)]
pub struct shmkit_condition {
    _opaque: (),
}

impl Opaque for Condition {
    const KIND: Kind = Kind::Condition;
}

/// Open what belongs to another user.
pub const SHMKIT_CONDITION_TRUST: u32 = 0x20000;
/// For create_at: make it, and do not open one that stands there already.
pub const SHMKIT_CONDITION_EXCLUSIVE: u32 = 0x100000;

/// How to make or open a condition. All zeros but struct_size is what most want; so is a NULL pointer to it.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_condition_options {
    /// sizeof(shmkit_condition_options).
    pub struct_size: u32,
    /// SHMKIT_CONDITION_TRUST, SHMKIT_CONDITION_EXCLUSIVE, or-ed.
    pub flags: u32,
    /// Permission bits of a new named one. 0: 0600.
    pub mode: u32,
    /// How many processes may wait at a new named one at a time, 1 to 4096. 0: 128.
    pub participants: u32,
    /// Where a named one stands. NULL: SHMKIT_DIR, else /dev/shm.
    pub directory: *const c_char,
    /// How many threads may wait at a time, 1 to 4096; of all processes together. 0: 128.
    pub cells: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: repr(C), integers and one pointer, each at a multiple of its size: no padding; any bytes are a value (the
// pointer is followed only as the caller of the exported function promises).
unsafe impl Sized32 for shmkit_condition_options {
    const FIRST: usize = size_of::<shmkit_condition_options>();
}
const _: () = assert!(size_of::<shmkit_condition_options>() == 32);
const _: () = assert!(SHMKIT_CONDITION_TRUST == object::TRUST);
const _: () = assert!(SHMKIT_CONDITION_EXCLUSIVE == object::EXCLUSIVE);

/// What is known of a condition: each figure as it was at some moment during the call.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_condition_info {
    /// sizeof(shmkit_condition_info); on return how much of it was filled.
    pub struct_size: u32,
    /// 0.
    pub flags: u32,
    /// How many threads can wait at a time.
    pub cells: u64,
    /// How many wait; of these some may be dead.
    pub waiting: u64,
    /// How often somebody began to wait.
    pub waits: u64,
    /// How many notifications waiters were sent.
    pub notified: u64,
    /// How many waits ended without a notification.
    pub timeouts: u64,
    /// How many notifications went from the dead and the interrupted to other waiters.
    pub recoveries: u64,
    /// Where it stands in its segment's data, or in its arena.
    pub offset: u64,
}

// SAFETY: repr(C), nothing but integers, each at a multiple of its size: no padding, and any bytes are a value.
unsafe impl Sized32 for shmkit_condition_info {
    const FIRST: usize = size_of::<shmkit_condition_info>();
}
const _: () = assert!(size_of::<shmkit_condition_info>() == 64);

impl Object for Condition {
    type CSpec = shmkit_condition_options;
    type Options = Options;

    fn options(spec: &shmkit_condition_options, file: FileOptions) -> Result<Options> {
        object::check_reserved(spec.reserved)?;
        Ok(Options {
            cells: spec.cells,
            file,
        })
    }

    fn size(options: &Options) -> Result<u64> {
        options.size()
    }

    object::forward!();
}

/// Returns the lock behind a handle of either kind.
///
/// # Safety
/// `mutex` must be NULL or a handle of this library that no other thread is closing.
unsafe fn lock_of<'a>(mutex: *mut c_void) -> Result<&'a dyn Mutex> {
    check_pointer(mutex.cast::<Handle<Lock>>(), "mutex")?;
    // SAFETY: the caller's promise.
    if let Some(lock) = unsafe { Handle::<Lock>::peek(mutex.cast()) } {
        return Ok(lock);
    }
    // SAFETY: the caller's promise.
    match unsafe { Handle::<RLock>::borrow(mutex.cast()) } {
        Ok(lock) => Ok(lock),
        Err(Error::WrongKind(_)) => Err(Error::WrongKind(
            "mutex is neither a handle of a Lock nor of an RLock".into(),
        )),
        Err(error) => Err(error),
    }
}

/// Tells how many bytes a condition takes in a segment: 64, and 16 for each cell, up to a multiple of
/// 64. It stands at a multiple of 64.
///
/// SHMKIT_ERR_INVALID: more than 4096 cells.
///
/// # Safety
/// `options` must be NULL or a struct whose struct_size is set; `out` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_condition_size(
    options: *const shmkit_condition_options,
    out: *mut u64,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { object::size::<Condition>(options, out) }
}

/// Makes a condition; as shmkit_lock_create. SHMKIT_ERR_INVALID: more than 4096 cells.
///
/// # Safety
/// `name` must be NULL or a C string; `options` NULL or a struct whose struct_size is set; `out` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_condition_create(
    name: *const c_char,
    options: *const shmkit_condition_options,
    out: *mut *mut shmkit_condition,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { object::create::<Condition, _>(name, options, out) }
}

/// Opens the condition of this name, with the cells it has; as shmkit_lock_open.
///
/// # Safety
/// As for shmkit_condition_create.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_condition_open(
    name: *const c_char,
    options: *const shmkit_condition_options,
    out: *mut *mut shmkit_condition,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { object::open::<Condition, _>(name, options, out) }
}

/// Opens the condition of this name, or makes it; as shmkit_lock_open_or_create. SHMKIT_ERR_INVALID: it is there, with
/// another number of cells.
///
/// # Safety
/// As for shmkit_condition_create.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_condition_open_or_create(
    name: *const c_char,
    options: *const shmkit_condition_options,
    out: *mut *mut shmkit_condition,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { object::open_or_create::<Condition, _>(name, options, out) }
}

/// Opens the condition at `offset` of the segment's data, or makes it there; as shmkit_lock_create_at.
///
/// SHMKIT_ERR_CORRUPT: it says that it has more cells than there is room for.
///
/// # Safety
/// `segment` must be NULL or a handle of this library; `options` NULL or a struct whose struct_size is set; `out` NULL
/// or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_condition_create_at(
    segment: *const shmkit_segment,
    offset: u64,
    options: *const shmkit_condition_options,
    out: *mut *mut shmkit_condition,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { object::create_at::<Condition, _>(segment, offset, options, out) }
}

/// Opens the condition at `offset` of the segment's data, with the cells it has; as shmkit_lock_open_at.
///
/// SHMKIT_ERR_CORRUPT: it says that it has more cells than there is room for.
///
/// # Safety
/// As for shmkit_condition_create_at.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_condition_open_at(
    segment: *const shmkit_segment,
    offset: u64,
    options: *const shmkit_condition_options,
    out: *mut *mut shmkit_condition,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { object::open_at::<Condition, _>(segment, offset, options, out) }
}

/// Opens the condition that was handed over; as shmkit_lock_open_fd.
///
/// # Safety
/// As for shmkit_condition_create.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_condition_open_fd(
    fd: i32,
    offset: u64,
    options: *const shmkit_condition_options,
    out: *mut *mut shmkit_condition,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { object::open_fd::<Condition, _>(fd, offset, options, out) }
}

/// Tells what another process needs to open it; as shmkit_lock_fd. Its lock must be handed over too.
///
/// # Safety
/// `condition` must be NULL or a handle of this library; `fd` and `offset` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_condition_fd(
    condition: *const shmkit_condition,
    fd: *mut i32,
    offset: *mut u64,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { object::fd::<Condition, _>(condition, fd, offset) }
}

/// Opens the segment that the condition stands in; as shmkit_lock_segment.
///
/// # Safety
/// `condition` must be NULL or a handle of this library; `out` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_condition_segment(
    condition: *const shmkit_condition,
    out: *mut *mut shmkit_segment,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { object::segment::<Condition, _>(condition, out) }
}

/// Gives the lock back, waits up to `timeout_ns` nanoseconds for a notification, and takes the lock again.
///
/// `mutex`: a handle of a shmkit_lock or of a shmkit_rlock, which the caller holds; a recursive one is given back wholly,
/// and held as often as before afterwards. `timeout_ns`: SHMKIT_FOREVER, SHMKIT_NOWAIT (others get a chance at the lock),
/// or a time. `flags`: SHMKIT_INTERRUPTIBLE. Taking the lock again is bounded by no time, and nothing interrupts it.
///
/// SHMKIT_OK: notified. SHMKIT_ERR_TIMEOUT, SHMKIT_ERR_WOULD_BLOCK (after SHMKIT_NOWAIT): not notified in that time.
/// SHMKIT_ERR_INTERRUPTED: the hook has ended it; a notification that came at the same moment goes to another waiter.
/// With these four `recovered` (NULL: not wanted) tells 1 where an owner of the lock died and mark_consistent has not been
/// called since: look at what the lock guards, and make it whole.
///
/// The lock is held again whatever this returns, but for SHMKIT_ERR_NOT_OWNER: the caller did not hold it; or it is not to
/// be had again, because this process has lost all descriptors of its segment while somebody else holds it (closefrom).
/// SHMKIT_ERR_INVALID: NULL, a negative time, unknown flags; or another lock than the one with which the condition was used
/// first, in any process. SHMKIT_ERR_WRONG_KIND: `mutex` is no lock. SHMKIT_ERR_PARTICIPANTS: as many threads as the
/// condition has cells wait already, or as many processes as its segment has room for are alive. SHMKIT_ERR_DETACHED,
/// SHMKIT_ERR_PERMISSION: this process cannot wait in its segment. SHMKIT_ERR_CORRUPT.
///
/// Ask in a loop for what you wait for: between a notification and the lock others may have had it.
///
/// # Safety
/// `condition` and `mutex` must be NULL or handles of this library that no other thread is closing; `recovered` NULL or
/// writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_condition_wait(
    condition: *mut shmkit_condition,
    mutex: *mut c_void,
    timeout_ns: i64,
    flags: u32,
    recovered: *mut u32,
) -> shmkit_status {
    let body = |condition: &Condition| {
        // SAFETY: the caller's promise.
        let mutex = unsafe { lock_of(mutex) }?;
        let options = options(timeout_ns, flags)?;
        // SAFETY: the caller's promise.
        let died = unsafe { optional(recovered, "recovered") }?;
        let waited = condition.wait_with(mutex, options)?;
        died.map(|died| died.write(waited.recovered.into()));
        match waited.end {
            End::Notified => Ok(()),
            End::Interrupted => Err(Error::Interrupted(
                "the interrupt hook ended the wait".into(),
            )),
            End::Timeout if timeout_ns == SHMKIT_NOWAIT => {
                Err(Error::WouldBlock("nobody has notified".into()))
            }
            End::Timeout => Err(Error::Timeout("nobody has notified in that time".into())),
        }
    };
    // SAFETY: the caller's promise.
    unsafe { with(condition, body) }
}

/// Notifies the `count` threads that have waited longest, or as many as wait: those return, and no others, once they have
/// the lock that the caller holds. The dead are skipped. Nobody waits: nothing happens, and nothing is remembered.
///
/// SHMKIT_ERR_NOT_OWNER: the caller does not hold `mutex`. SHMKIT_ERR_INVALID, SHMKIT_ERR_WRONG_KIND: as of
/// shmkit_condition_wait.
///
/// # Safety
/// `condition` and `mutex` must be NULL or handles of this library that no other thread is closing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_condition_notify(
    condition: *mut shmkit_condition,
    mutex: *mut c_void,
    count: u32,
) -> shmkit_status {
    let body = |condition: &Condition| {
        // SAFETY: the caller's promise.
        let mutex = unsafe { lock_of(mutex) }?;
        condition.notify_with(mutex, count.into())
    };
    // SAFETY: the caller's promise.
    unsafe { with(condition, body) }
}

/// Notifies all threads that wait; otherwise as shmkit_condition_notify.
///
/// # Safety
/// As for shmkit_condition_notify.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_condition_notify_all(
    condition: *mut shmkit_condition,
    mutex: *mut c_void,
) -> shmkit_status {
    let body = |condition: &Condition| {
        // SAFETY: the caller's promise.
        let mutex = unsafe { lock_of(mutex) }?;
        condition.notify_with(mutex, u64::MAX)
    };
    // SAFETY: the caller's promise.
    unsafe { with(condition, body) }
}

/// Tells what is known of the condition. Nobody is asked who lives: only a notification does that.
///
/// # Safety
/// `condition` must be NULL or a handle of this library; `out` NULL or a struct whose struct_size is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_condition_stat(
    condition: *const shmkit_condition,
    out: *mut shmkit_condition_info,
) -> shmkit_status {
    let body = |condition: &Condition| {
        // SAFETY: the caller's promise.
        unsafe { structure::check(out, "out") }?;
        let stat = condition.stat();
        let info = shmkit_condition_info {
            struct_size: 0,
            flags: 0,
            cells: stat.cells,
            waiting: stat.waiting,
            waits: stat.waits,
            notified: stat.notified,
            timeouts: stat.timeouts,
            recoveries: stat.recoveries,
            offset: condition.offset(),
        };
        // SAFETY: `check` has accepted `out`; the caller promises that it is writable.
        unsafe { structure::write(out, info) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { with(condition, body) }
}

/// Removes the name of a named one; as shmkit_lock_unlink. Its lock keeps its own.
///
/// # Safety
/// As for shmkit_condition_segment.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_condition_unlink(
    condition: *mut shmkit_condition,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { object::unlink::<Condition, _>(condition) }
}

/// Lets go of the condition; as shmkit_lock_close. Its lock stays open.
///
/// # Safety
/// `condition` must be NULL or a handle of this library that no other thread is using.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_condition_close(condition: *mut shmkit_condition) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { object::close::<Condition, _>(condition) }
}
