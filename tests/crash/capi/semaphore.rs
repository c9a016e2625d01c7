//! The functions of semaphores.

use crate::suite::capi::segment::Segment;
use crate::suite::capi::{FOREVER, Status, TIMEOUT, check, object_at};
use crate::suite::harness::library::{Library, functions};
use shmkit::capi::segment::shmkit_segment;
use shmkit::capi::semaphore::{
    SHMKIT_SEMAPHORE_UNDO, shmkit_semaphore_info, shmkit_semaphore_options,
};
use std::ffi::c_void;

/// The offset of the semaphores used by the first calls, apart from those of other objects.
const WARM_UP: u64 = 1024;

functions! {
    Semaphores:
    create_at(*const shmkit_segment, u64, *const shmkit_semaphore_options, *mut *mut c_void);
    open_at(*const shmkit_segment, u64, *const shmkit_semaphore_options, *mut *mut c_void);
    acquire(*mut c_void, u32, i64, u32);
    release(*mut c_void, u32);
    value(*const c_void, *mut u64);
    held(*const c_void, *mut u64);
    stat(*const c_void, *mut shmkit_semaphore_info);
    close(*mut c_void);
}

/// The options of a semaphore.
#[derive(Clone, Copy)]
pub struct Shape {
    /// The number of permits.
    pub value: u64,
    /// The number of processes that may hold permits, with undo; 0: without undo.
    pub processes: u32,
}

impl Shape {
    fn options(self) -> shmkit_semaphore_options {
        shmkit_semaphore_options {
            struct_size: size_of::<shmkit_semaphore_options>() as u32,
            flags: match self.processes {
                0 => 0,
                _ => SHMKIT_SEMAPHORE_UNDO,
            },
            mode: 0,
            participants: 0,
            // From SHMKIT_DIR.
            directory: std::ptr::null(),
            value: self.value,
            maximum: 0,
            processes: self.processes,
            reserved: 0,
        }
    }
}

/// An open semaphore.
#[derive(Clone, Copy)]
pub struct Semaphore<'a> {
    functions: &'a Semaphores,
    handle: *mut c_void,
}

impl<'a> Semaphore<'a> {
    /// Creates it at `offset` of the data, or opens it.
    pub fn create(
        shmkit: &'a Library,
        segment: Segment,
        offset: u64,
        shape: Shape,
    ) -> Result<Semaphore<'a>, Status> {
        let functions = &shmkit.semaphores;
        let handle = object_at(functions.create_at, segment, offset, Some(&shape.options()))?;
        Ok(Semaphore { functions, handle })
    }

    /// Opens it.
    pub fn open(
        shmkit: &'a Library,
        segment: Segment,
        offset: u64,
    ) -> Result<Semaphore<'a>, Status> {
        let functions = &shmkit.semaphores;
        let handle = object_at(functions.open_at, segment, offset, None)?;
        Ok(Semaphore { functions, handle })
    }

    /// Acquires `count` permits.
    pub fn acquire(&self, count: u32, timeout: i64) -> Result<(), Status> {
        // SAFETY: a Semaphore is an open handle.
        check(unsafe { (self.functions.acquire)(self.handle, count, timeout, 0) })
    }

    /// Releases `count` permits.
    pub fn release(&self, count: u32) -> Result<(), Status> {
        // SAFETY: as in `acquire`.
        check(unsafe { (self.functions.release)(self.handle, count) })
    }

    /// Returns the number of free permits.
    pub fn value(&self) -> Result<u64, Status> {
        let mut out = 0;
        // SAFETY: as in `acquire`; the output lives through the call.
        check(unsafe { (self.functions.value)(self.handle, &raw mut out) })?;
        Ok(out)
    }

    /// Returns the number of permits that this process holds.
    pub fn held(&self) -> Result<u64, Status> {
        let mut out = 0;
        // SAFETY: as in `value`.
        check(unsafe { (self.functions.held)(self.handle, &raw mut out) })?;
        Ok(out)
    }

    /// Returns its counters.
    pub fn stat(&self) -> Result<shmkit_semaphore_info, Status> {
        let mut out = shmkit_semaphore_info {
            struct_size: size_of::<shmkit_semaphore_info>() as u32,
            flags: 0,
            value: 0,
            maximum: 0,
            waits: 0,
            recoveries: 0,
            holders: 0,
            offset: 0,
            processes: 0,
            reserved: 0,
        };
        // SAFETY: as in `acquire`; out has its size set.
        check(unsafe { (self.functions.stat)(self.handle, &raw mut out) })?;
        Ok(out)
    }

    /// Closes the handle.
    pub fn close(&self) -> Result<(), Status> {
        // SAFETY: as in `acquire`; a handle is closed once.
        check(unsafe { (self.functions.close)(self.handle) })
    }
}

impl Library {
    /// Calls each function of semaphores once.
    pub fn warm_up_semaphores(&self, segment: Segment) -> Result<(), Status> {
        for processes in [0, 1] {
            let (offset, shape) = (
                WARM_UP + 512 * u64::from(processes),
                Shape {
                    value: 1,
                    processes,
                },
            );
            Semaphore::create(self, segment, offset, shape)?.close()?;
            let semaphore = Semaphore::open(self, segment, offset)?;
            semaphore.acquire(1, FOREVER)?;
            assert_eq!(semaphore.acquire(1, 1), Err(TIMEOUT), "there is one permit");
            semaphore.stat()?;
            semaphore.release(1)?;
            semaphore.value()?;
            if processes > 0 {
                semaphore.held()?;
            }
            semaphore.close()?;
        }
        Ok(())
    }
}
