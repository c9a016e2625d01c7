//! The functions of barriers, and of the interrupt hook.

use crate::suite::capi::segment::Segment;
use crate::suite::capi::{
    BROKEN, FOREVER, NOT_OWNER, NOWAIT, Status, TIMEOUT, WOULD_BLOCK, check, object_at,
};
use crate::suite::harness::library::{Library, functions};
use shmkit::capi::barrier::{SHMKIT_BARRIER_SERIAL, shmkit_barrier_info, shmkit_barrier_options};
use shmkit::capi::segment::shmkit_segment;
use std::ffi::c_void;

/// The offset of the barriers used by the first calls, apart from those of other objects.
const WARM_UP: u64 = 3072;

functions! {
    Barriers:
    create_at(*const shmkit_segment, u64, *const shmkit_barrier_options, *mut *mut c_void);
    open_at(*const shmkit_segment, u64, *const shmkit_barrier_options, *mut *mut c_void);
    wait(*mut c_void, i64, u32, *mut u32);
    release(*mut c_void);
    reset(*mut c_void);
    abort(*mut c_void);
    stat(*const c_void, *mut shmkit_barrier_info);
    close(*mut c_void);
}

functions! {
    Interrupts:
    set_interrupt(extern "C" fn(*mut c_void) -> i32, *mut c_void);
}

/// An open barrier.
#[derive(Clone, Copy)]
pub struct Barrier<'a> {
    functions: &'a Barriers,
    handle: *mut c_void,
}

impl<'a> Barrier<'a> {
    /// Creates it at `offset` of the data, or opens it.
    pub fn create(
        shmkit: &'a Library,
        segment: Segment,
        offset: u64,
        parties: u32,
    ) -> Result<Barrier<'a>, Status> {
        let functions = &shmkit.barriers;
        let options = shmkit_barrier_options {
            struct_size: size_of::<shmkit_barrier_options>() as u32,
            flags: 0,
            mode: 0,
            participants: 0,
            directory: std::ptr::null(),
            parties,
            reserved: 0,
        };
        let handle = object_at(functions.create_at, segment, offset, Some(&options))?;
        Ok(Barrier { functions, handle })
    }

    /// Opens it.
    pub fn open(shmkit: &'a Library, segment: Segment, offset: u64) -> Result<Barrier<'a>, Status> {
        let functions = &shmkit.barriers;
        let handle = object_at(functions.open_at, segment, offset, None)?;
        Ok(Barrier { functions, handle })
    }

    /// Waits for the other parties; returns the place in the turn.
    pub fn wait(&self, timeout: i64, flags: u32) -> Result<u32, Status> {
        let mut place = 0;
        // SAFETY: a Barrier is an open handle; place lives through the call.
        check(unsafe { (self.functions.wait)(self.handle, timeout, flags, &raw mut place) })?;
        Ok(place)
    }

    /// Releases the held parties.
    pub fn release(&self) -> Result<(), Status> {
        // SAFETY: as in `wait`.
        check(unsafe { (self.functions.release)(self.handle) })
    }

    /// Resets it.
    pub fn reset(&self) -> Result<(), Status> {
        // SAFETY: as in `wait`.
        check(unsafe { (self.functions.reset)(self.handle) })
    }

    /// Breaks it.
    pub fn abort(&self) -> Result<(), Status> {
        // SAFETY: as in `wait`.
        check(unsafe { (self.functions.abort)(self.handle) })
    }

    /// Returns its counters.
    pub fn stat(&self) -> Result<shmkit_barrier_info, Status> {
        let mut out = shmkit_barrier_info {
            struct_size: size_of::<shmkit_barrier_info>() as u32,
            flags: 0,
            parties: 0,
            waiting: 0,
            turns: 0,
            breaks: 0,
            deaths: 0,
            offset: 0,
        };
        // SAFETY: as in `wait`; out has its size set.
        check(unsafe { (self.functions.stat)(self.handle, &raw mut out) })?;
        Ok(out)
    }

    /// Closes the handle.
    pub fn close(&self) -> Result<(), Status> {
        // SAFETY: as in `wait`; a handle is closed once.
        check(unsafe { (self.functions.close)(self.handle) })
    }
}

impl Library {
    /// Calls each function of barriers once.
    pub fn warm_up_barriers(&self, segment: Segment) -> Result<(), Status> {
        Barrier::create(self, segment, WARM_UP, 1)?.close()?;
        let barrier = Barrier::open(self, segment, WARM_UP)?;
        assert_eq!(barrier.wait(FOREVER, 0), Ok(0), "one party is all");
        assert_eq!(barrier.wait(FOREVER, SHMKIT_BARRIER_SERIAL), Ok(0));
        assert_eq!(barrier.wait(1, 0), Err(TIMEOUT), "all are held");
        barrier.release()?;
        assert_eq!(barrier.release(), Err(NOT_OWNER));
        barrier.abort()?;
        assert_eq!(barrier.wait(FOREVER, 0), Err(BROKEN));
        barrier.reset()?;
        barrier.stat()?;
        barrier.close()?;
        let pair = Barrier::create(self, segment, WARM_UP + 256, 2)?;
        assert_eq!(pair.wait(NOWAIT, 0), Err(WOULD_BLOCK));
        assert_eq!(pair.wait(1_500_000, 0), Err(TIMEOUT), "one of two parties");
        pair.reset()?;
        pair.close()
    }
}
