//! Barriers: a fixed number of threads, of any processes, wait until all of them have arrived.

use super::interrupt::SHMKIT_INTERRUPTIBLE;
use super::object::{self, Object, with};
use super::status::shmkit_status;
use super::structure::{self, Sized32};
use super::{output, wait};
use crate::error::Result;
use crate::object::barrier::{Barrier, FileOptions, Last, MAX_PARTIES, Options};
use std::ffi::c_char;

/// A barrier (pthread_barrier_t): its parties wait until all have arrived. Then all continue, and
/// the next round begins.
///
///   Parties  Each waiting thread is a party, of the same process or of another one.
///   Death    If a party dies while it waits, the barrier is broken. Every party that waits or
///            arrives sees SHMKIT_ERR_BROKEN, at most 12 ms after the kernel has torn the process
///            down. If a party dies before it arrives, the others wait for it: use timeouts.
///   Serial   With SHMKIT_BARRIER_SERIAL, the last party to arrive is the serial party. It returns
///            while the others still wait, until its process calls shmkit_barrier_release.
///            (pthreads has PTHREAD_BARRIER_SERIAL_THREAD, but does not hold the others.)
///   Threads  All threads of a process may use a handle at once, and so may forked children.
///   Size     128 bytes and 32 for each party, rounded up to a multiple of 64.
///   Options  shmkit_barrier_size and every function that may create a barrier need parties; 0 is
///            SHMKIT_ERR_INVALID. shmkit_barrier_open_or_create and shmkit_barrier_create_at
///            compare parties. The other opens accept 0 or NULL options.
///   Close    If a process closes its last handle of the segment while its serial party holds the
///            others, the process counts as dead: the barrier is broken.
#[allow(non_camel_case_types)]
pub struct shmkit_barrier {
    _opaque: (),
}

/// For shmkit_barrier_wait: make the last party the serial party. It returns while the others still
/// wait, until shmkit_barrier_release.
pub const SHMKIT_BARRIER_SERIAL: u32 = 0x2;
/// In shmkit_barrier_info: the barrier is broken.
pub const SHMKIT_BARRIER_BROKEN: u32 = 0x40000;
/// The largest number of parties of a barrier.
pub const SHMKIT_BARRIER_MAX_PARTIES: u32 = 2048;
const _: () = assert!(SHMKIT_BARRIER_MAX_PARTIES == MAX_PARTIES);
const _: () = assert!(SHMKIT_BARRIER_SERIAL & SHMKIT_INTERRUPTIBLE == 0);

/// How to create or open a barrier. To create one, set struct_size and parties. NULL is enough to
/// open one.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_barrier_options {
    /// sizeof(shmkit_barrier_options).
    pub struct_size: u32,
    /// SHMKIT_TRUST and SHMKIT_EXCLUSIVE, or-ed.
    pub flags: u32,
    /// Permission bits of a new named barrier, 1 to 0777, whatever the umask. 0: 0600.
    pub mode: u32,
    /// The number of processes that can use a new named barrier at a time, 1 to 4096. 0: 128.
    pub participants: u32,
    /// The directory of a named barrier. NULL: SHMKIT_DIR, else /dev/shm.
    pub directory: *const c_char,
    /// The number of parties, 1 to SHMKIT_BARRIER_MAX_PARTIES. 0 is only valid to open a barrier.
    pub parties: u32,
    /// Must be 0.
    pub reserved: u32,
}

// SAFETY: repr(C), integers and one pointer, each at a multiple of its size: no padding; any bytes are a value. The
// pointer is followed only as the caller of the exported function guarantees.
unsafe impl Sized32 for shmkit_barrier_options {
    const FIRST: usize = size_of::<shmkit_barrier_options>();
}
const _: () = assert!(size_of::<shmkit_barrier_options>() == 32);

/// The state of a barrier. Each figure was true at some moment during the call.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_barrier_info {
    /// sizeof(shmkit_barrier_info); on return, the number of bytes filled.
    pub struct_size: u32,
    /// SHMKIT_BARRIER_BROKEN or 0.
    pub flags: u32,
    /// The number of parties that must arrive.
    pub parties: u32,
    /// The number of parties that wait; 0 if the barrier is broken.
    pub waiting: u32,
    /// The number of times that all parties arrived and continued.
    pub turns: u64,
    /// The number of times that the barrier was broken: by an abort, a reset while a party waited, a
    /// timeout or a death.
    pub breaks: u64,
    /// The number of times that a death broke the barrier.
    pub deaths: u64,
    /// The offset of the barrier in the data of its segment, or in the memory file of unnamed
    /// objects.
    pub offset: u64,
}

// SAFETY: repr(C), nothing but integers, each at a multiple of its size: no padding, and any bytes are a value.
unsafe impl Sized32 for shmkit_barrier_info {
    const FIRST: usize = size_of::<shmkit_barrier_info>();
}
const _: () = assert!(size_of::<shmkit_barrier_info>() == 48);

// SAFETY: the options begin with the fields of shmkit_object_options.
unsafe impl Object for Barrier {
    type CSpec = shmkit_barrier_options;

    fn options(spec: &shmkit_barrier_options, file: FileOptions) -> Result<Options> {
        object::check_reserved(spec.reserved)?;
        Ok(Options {
            parties: spec.parties,
            file,
        })
    }
}

/// Waits until all parties have arrived.
///
/// Every party that returns sees all that each party has written before it arrived.
///
///   timeout_ns  nanoseconds to wait, SHMKIT_FOREVER or SHMKIT_NOWAIT
///   flags       SHMKIT_INTERRUPTIBLE and SHMKIT_BARRIER_SERIAL, or-ed, or 0
///   place       (may be NULL) the index of the caller among the parties, 0 to parties - 1. All
///               parties of a round have different ones, and the last party to arrive has
///               parties - 1
///
/// With SHMKIT_BARRIER_SERIAL the last party to arrive returns while all others still wait; its
/// place is parties - 1. After its work it calls shmkit_barrier_release, or shmkit_barrier_abort if
/// the work failed. If it dies before that, the barrier is broken.
///
///   SHMKIT_ERR_BROKEN              a waiting party died or timed out, or the barrier was aborted
///                                  or reset. On a broken barrier every call fails with this at
///                                  once, until shmkit_barrier_reset
///   SHMKIT_ERR_TIMEOUT             the timeout expired, and the barrier is now broken. It is not
///                                  broken if the caller could not arrive, because the serial party
///                                  held the others, or a process was stopped while it arrived
///   SHMKIT_ERR_WOULD_BLOCK         SHMKIT_NOWAIT was given, and parties are missing, or the caller
///                                  could not arrive for a reason named at SHMKIT_ERR_TIMEOUT. The
///                                  caller does not count as arrived. The call may wait one second
///                                  for a process that was stopped while it arrived or left
///   SHMKIT_ERR_INTERRUPTED         the interrupt hook ended the call. The caller no longer counts
///                                  as arrived, and the others still wait for as many parties as
///                                  before. If all parties had arrived meanwhile, the others
///                                  continue. If a process has been stopped for a second while it
///                                  arrived or left, the barrier is broken instead
///   SHMKIT_ERR_INVALID             a negative timeout other than SHMKIT_FOREVER, or an unknown
///                                  flag
///   SHMKIT_ERR_TOO_MANY_PROCESSES  the segment has no room for another process
///   SHMKIT_ERR_LIVENESS_UNKNOWN    this process has lost all descriptors of the segment
///                                  (closefrom), and cannot find out which processes are alive
///   SHMKIT_ERR_PERMISSION          this user may not write to the file of the segment
///   SHMKIT_ERR_NO_MEMORY           no address space is left, at the first use of the segment
///   SHMKIT_ERR_CORRUPT             the shared bytes of the segment are corrupt
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
        // SAFETY: the caller guarantees it (see # Safety).
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
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(barrier, body) }
}

/// Releases the parties that the serial party holds (SHMKIT_BARRIER_SERIAL).
///
/// Any thread of the serial party's process may call this function.
///
///   SHMKIT_ERR_BROKEN     the barrier was broken meanwhile
///   SHMKIT_ERR_NOT_OWNER  no serial party of this process holds the others, or the barrier was
///                         reset meanwhile
///
/// # Safety
/// `barrier` must be NULL or a handle of this library that no other thread is closing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_barrier_release(barrier: *mut shmkit_barrier) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(barrier, Barrier::release) }
}

/// Resets the barrier: it is no longer broken, and no party waits.
///
/// Waiting parties get SHMKIT_ERR_BROKEN. The entries of dead parties are removed. On an error
/// but SHMKIT_ERR_FORKED the call has changed nothing.
///
///   SHMKIT_ERR_TIMEOUT             a process has been stopped for a second while it arrived or
///                                  left
///   SHMKIT_ERR_TOO_MANY_PROCESSES, SHMKIT_ERR_LIVENESS_UNKNOWN, SHMKIT_ERR_PERMISSION,
///   SHMKIT_ERR_NO_MEMORY, SHMKIT_ERR_CORRUPT  as for shmkit_barrier_wait
///
/// # Safety
/// As for shmkit_barrier_release.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_barrier_reset(barrier: *mut shmkit_barrier) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(barrier, Barrier::reset) }
}

/// Breaks the barrier: parties that wait, or arrive before shmkit_barrier_reset, get
/// SHMKIT_ERR_BROKEN.
///
/// # Safety
/// As for shmkit_barrier_release.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_barrier_abort(barrier: *mut shmkit_barrier) -> shmkit_status {
    let body = |barrier: &Barrier| {
        barrier.abort();
        Ok(())
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(barrier, body) }
}

/// Returns the number of parties that must arrive.
///
/// # Safety
/// `barrier` must be NULL or a handle of this library that no other thread is closing; `out` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_barrier_parties(
    barrier: *const shmkit_barrier,
    out: *mut u32,
) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { number(barrier, out, Barrier::parties) }
}

/// Returns the number of parties that wait; 0 if the barrier is broken.
///
/// # Safety
/// As for shmkit_barrier_parties.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_barrier_waiting(
    barrier: *const shmkit_barrier,
    out: *mut u32,
) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { number(barrier, out, |barrier| barrier.stat().waiting) }
}

/// Returns 1 if the barrier is broken, else 0.
///
/// The call does not check which parties are alive: only a wait does.
///
/// # Safety
/// As for shmkit_barrier_parties.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_barrier_is_broken(
    barrier: *const shmkit_barrier,
    out: *mut u32,
) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { number(barrier, out, |barrier| barrier.stat().broken.into()) }
}

/// Stores one figure of the barrier.
///
/// # Safety
/// As for shmkit_barrier_parties.
unsafe fn number(
    barrier: *const shmkit_barrier,
    out: *mut u32,
    figure: impl FnOnce(&Barrier) -> u32,
) -> shmkit_status {
    let body = |barrier: &Barrier| {
        // SAFETY: the caller guarantees it (see # Safety).
        unsafe { output(out, "out") }?.write(figure(barrier));
        Ok(())
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(barrier, body) }
}

/// Returns the state of the barrier.
///
/// The call does not check which parties are alive: only a wait does.
///
/// # Safety
/// `barrier` must be NULL or a handle of this library; `out` NULL or a struct whose struct_size is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_barrier_stat(
    barrier: *const shmkit_barrier,
    out: *mut shmkit_barrier_info,
) -> shmkit_status {
    let body = |barrier: &Barrier| {
        // SAFETY: the caller guarantees it (see # Safety).
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
        // SAFETY: `check` has accepted `out`; the caller guarantees that it is writable.
        unsafe { structure::write(out, info) };
        Ok(())
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(barrier, body) }
}

include!(concat!(env!("OUT_DIR"), "/object_barrier.rs"));
