//! Barriers: so many processes and threads wait for each other; one that dies waiting breaks the barrier.

use super::interrupt::SHMKIT_INTERRUPTIBLE;
use super::object::{self, Object, with};
use super::status::shmkit_status;
use super::structure::{self, Sized32};
use super::{output, wait};
use crate::error::Result;
use crate::object::barrier::{Barrier, FileOptions, Last, MAX_PARTIES, Options};
use std::ffi::c_char;

/// A barrier: its parties wait until all of them are there, and then all go on, turn after turn. Each thread that waits
/// is a party, of the same process or of others.
///
/// If one dies while it waits, however it dies, the barrier is broken, and who waits or comes is told so, within 12 ms
/// after the kernel has torn the dead process down. One that dies elsewhere is missed like one that has not come yet: give
/// waits a time. A handle may be used by all threads at once and by forked children.
#[allow(non_camel_case_types)]
pub struct shmkit_barrier {
    _opaque: (),
}

/// For shmkit_barrier_wait: the last to come holds the others, until it calls shmkit_barrier_release.
pub const SHMKIT_BARRIER_SERIAL: u32 = 0x2;
/// In shmkit_barrier_info: it is broken.
pub const SHMKIT_BARRIER_BROKEN: u32 = 0x40000;
/// The most parties a barrier can have.
pub const SHMKIT_BARRIER_MAX_PARTIES: u32 = 2048;
const _: () = assert!(SHMKIT_BARRIER_MAX_PARTIES == MAX_PARTIES);
const _: () = assert!(SHMKIT_BARRIER_SERIAL & SHMKIT_INTERRUPTIBLE == 0);

/// How to make or open a barrier. Who makes one sets struct_size and parties; to open one a NULL pointer does.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_barrier_options {
    /// sizeof(shmkit_barrier_options).
    pub struct_size: u32,
    /// SHMKIT_TRUST, SHMKIT_EXCLUSIVE, or-ed.
    pub flags: u32,
    /// Permission bits of a new named one. 0: 0600.
    pub mode: u32,
    /// How many processes may use a new named one at a time, 1 to 4096. 0: 128.
    pub participants: u32,
    /// Where a named one stands. NULL: SHMKIT_DIR, else /dev/shm.
    pub directory: *const c_char,
    /// How many must come, 1 to SHMKIT_BARRIER_MAX_PARTIES. Who only opens one need not know: 0.
    pub parties: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: repr(C), integers and one pointer, each at a multiple of its size: no padding; any bytes are a value (the
// pointer is followed only as the caller of the exported function promises).
unsafe impl Sized32 for shmkit_barrier_options {
    const FIRST: usize = size_of::<shmkit_barrier_options>();
}
const _: () = assert!(size_of::<shmkit_barrier_options>() == 32);

/// What is known of a barrier: each figure as it was at some moment during the call.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_barrier_info {
    /// sizeof(shmkit_barrier_info); on return how much of it was filled.
    pub struct_size: u32,
    /// SHMKIT_BARRIER_BROKEN, or 0.
    pub flags: u32,
    /// How many must come.
    pub parties: u32,
    /// How many wait; 0 of a broken one.
    pub waiting: u32,
    /// How often all were there and went on.
    pub turns: u64,
    /// How often it was broken: by abort, by a reset while somebody waited, by a wait whose time was over, by a death.
    pub breaks: u64,
    /// How often one that had died was the reason.
    pub deaths: u64,
    /// Where it stands in its segment's data, or in its arena.
    pub offset: u64,
}

// SAFETY: repr(C), nothing but integers, each at a multiple of its size: no padding, and any bytes are a value.
unsafe impl Sized32 for shmkit_barrier_info {
    const FIRST: usize = size_of::<shmkit_barrier_info>();
}
const _: () = assert!(size_of::<shmkit_barrier_info>() == 48);

impl Object for Barrier {
    type CSpec = shmkit_barrier_options;
    type Options = Options;

    fn options(spec: &shmkit_barrier_options, file: FileOptions) -> Result<Options> {
        object::check_reserved(spec.reserved)?;
        Ok(Options {
            parties: spec.parties,
            file,
        })
    }

    fn size(options: &Options) -> Result<u64> {
        options.size()
    }

    object::forward!();
}

/// Waits until all parties are there, up to `timeout_ns` nanoseconds: SHMKIT_FOREVER, SHMKIT_NOWAIT, or a time.
///
/// `place` (NULL: not wanted) gets the caller's place among them, from 0 on: no two are alike, and the last to come has
/// the highest, parties - 1. What each party has done before it came is seen by all behind the barrier.
///
/// `flags`: SHMKIT_INTERRUPTIBLE; SHMKIT_BARRIER_SERIAL: the last to come, which is told so by its place, returns while
/// all others still wait, and has something to itself to do. Then it calls shmkit_barrier_release, or shmkit_barrier_abort
/// if it has failed. If it dies in between, the barrier is broken.
///
/// SHMKIT_ERR_BROKEN: one of those who waited has died, or somebody has called abort or reset, or was out of time; it
/// comes without waiting as long as nobody has called shmkit_barrier_reset. SHMKIT_ERR_TIMEOUT: the barrier is broken
/// now; not so if the caller was not let in in that time, because the last one held the others, or somebody was stopped
/// while it came. SHMKIT_ERR_WOULD_BLOCK: others are missing, or one of those two, and SHMKIT_NOWAIT: the caller has not
/// come. SHMKIT_ERR_INTERRUPTED: the caller has come and gone, and the others wait for as many as before; if they have
/// passed meanwhile, they have passed. SHMKIT_ERR_INVALID: a negative time, unknown flags. SHMKIT_ERR_TOO_MANY_PROCESSES: as
/// many processes as the segment has room for are alive. SHMKIT_ERR_LIVENESS_UNKNOWN: this process has lost all descriptors of
/// the segment (closefrom), so it cannot ask who lives. SHMKIT_ERR_PERMISSION: the file cannot be written.
/// SHMKIT_ERR_CORRUPT.
///
/// # Safety
/// `barrier` must be NULL or a handle of this library that no other thread is closing; `place` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_barrier_wait(
    barrier: *mut shmkit_barrier,
    timeout_ns: i64,
    flags: u32,
    place: *mut u32,
) -> shmkit_status {
    let body = |barrier: &Barrier| {
        // SAFETY: the caller's promise.
        let place = unsafe { super::optional(place, "place") }?;
        let options = wait::options(timeout_ns, flags & !SHMKIT_BARRIER_SERIAL)?;
        let last = match flags & SHMKIT_BARRIER_SERIAL {
            0 => Last::Passes,
            _ => Last::Holds,
        };
        let mine = barrier.wait_with(options, last)?;
        place.map(|place| place.write(mine));
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { with(barrier, body) }
}

/// Lets those go on whom the last to come has held (SHMKIT_BARRIER_SERIAL). Any thread of its process may call it.
///
/// SHMKIT_ERR_BROKEN: somebody has broken the barrier meanwhile. SHMKIT_ERR_NOT_OWNER: this process holds nobody, or
/// somebody has called shmkit_barrier_reset meanwhile.
///
/// # Safety
/// `barrier` must be NULL or a handle of this library that no other thread is closing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_barrier_release(barrier: *mut shmkit_barrier) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { with(barrier, Barrier::release) }
}

/// Has the barrier be as new: whole, and nobody waits. Who waits gets SHMKIT_ERR_BROKEN; what the dead have left goes.
///
/// SHMKIT_ERR_TIMEOUT: somebody was stopped a second ago while it came or went. SHMKIT_ERR_TOO_MANY_PROCESSES,
/// SHMKIT_ERR_LIVENESS_UNKNOWN, SHMKIT_ERR_PERMISSION, SHMKIT_ERR_CORRUPT: as for shmkit_barrier_wait. Then nothing has been
/// done.
///
/// # Safety
/// As for shmkit_barrier_release.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_barrier_reset(barrier: *mut shmkit_barrier) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { with(barrier, Barrier::reset) }
}

/// Breaks the barrier: who waits, or comes before somebody calls shmkit_barrier_reset, gets SHMKIT_ERR_BROKEN.
///
/// # Safety
/// As for shmkit_barrier_release.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_barrier_abort(barrier: *mut shmkit_barrier) -> shmkit_status {
    let body = |barrier: &Barrier| {
        barrier.abort();
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { with(barrier, body) }
}

/// Tells how many must come.
///
/// # Safety
/// `barrier` must be NULL or a handle of this library that no other thread is closing; `out` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_barrier_parties(
    barrier: *const shmkit_barrier,
    out: *mut u32,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { number(barrier, out, Barrier::parties) }
}

/// Tells how many wait; 0 of a broken barrier.
///
/// # Safety
/// As for shmkit_barrier_parties.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_barrier_waiting(
    barrier: *const shmkit_barrier,
    out: *mut u32,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { number(barrier, out, |barrier| barrier.stat().waiting) }
}

/// Tells 1 where the barrier is broken, else 0. Nobody is asked who lives: only a wait does that.
///
/// # Safety
/// As for shmkit_barrier_parties.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_barrier_is_broken(
    barrier: *const shmkit_barrier,
    out: *mut u32,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { number(barrier, out, |barrier| barrier.stat().broken.into()) }
}

/// Stores one number.
///
/// # Safety
/// As for shmkit_barrier_parties.
unsafe fn number(
    barrier: *const shmkit_barrier,
    out: *mut u32,
    tell: impl FnOnce(&Barrier) -> u32,
) -> shmkit_status {
    let body = |barrier: &Barrier| {
        // SAFETY: the caller's promise.
        unsafe { output(out, "out") }?.write(tell(barrier));
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { with(barrier, body) }
}

/// Tells what is known of the barrier. Nobody is asked who lives: only a wait does that.
///
/// # Safety
/// `barrier` must be NULL or a handle of this library; `out` NULL or a struct whose struct_size is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_barrier_stat(
    barrier: *const shmkit_barrier,
    out: *mut shmkit_barrier_info,
) -> shmkit_status {
    let body = |barrier: &Barrier| {
        // SAFETY: the caller's promise.
        unsafe { structure::check(out, "out") }?;
        let stat = barrier.stat();
        let info = shmkit_barrier_info {
            struct_size: 0,
            flags: if stat.broken {
                SHMKIT_BARRIER_BROKEN
            } else {
                0
            },
            parties: barrier.parties(),
            waiting: stat.waiting,
            turns: stat.turns,
            breaks: stat.breaks,
            deaths: stat.deaths,
            offset: barrier.offset(),
        };
        // SAFETY: `check` has accepted `out`; the caller promises that it is writable.
        unsafe { structure::write(out, info) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { with(barrier, body) }
}

include!(concat!(env!("OUT_DIR"), "/object_barrier.rs"));
