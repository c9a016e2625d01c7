//! The functions of onces.

use crate::suite::capi::segment::Segment;
use crate::suite::capi::{FOREVER, NOWAIT, Status, TIMEOUT, check, object_at};
use crate::suite::harness::library::{Library, functions};
use shmkit::capi::object::shmkit_object_options;
use shmkit::capi::once::shmkit_once_info;
use shmkit::capi::segment::shmkit_segment;
use std::ffi::c_void;

functions! {
    Onces:
    create_at(*const shmkit_segment, u64, *const shmkit_object_options, *mut *mut c_void);
    open_at(*const shmkit_segment, u64, *const shmkit_object_options, *mut *mut c_void);
    begin(*mut c_void, i64, u32, *mut u32, *mut u32);
    done(*mut c_void);
    abort(*mut c_void);
    is_done(*const c_void, *mut u32);
    stat(*const c_void, *mut shmkit_once_info);
    close(*mut c_void);
}

/// The offset of the once used by the first calls, apart from those of other objects.
const WARM_UP: u64 = 512;

/// A value that no output may keep.
const UNSET: u32 = 7;

/// An open once.
#[derive(Clone, Copy)]
pub struct Once<'a> {
    functions: &'a Onces,
    handle: *mut c_void,
}

/// What begin returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// The initialization is done.
    Done,
    /// The caller must do it.
    Mine {
        /// Whether a process has died while doing it.
        owner_died: bool,
    },
}

impl<'a> Once<'a> {
    /// Creates it at `offset` of the data, or opens it.
    pub fn create(shmkit: &'a Library, segment: Segment, offset: u64) -> Result<Once<'a>, Status> {
        let functions = &shmkit.onces;
        let handle = object_at(functions.create_at, segment, offset, None)?;
        Ok(Once { functions, handle })
    }

    /// Opens it.
    pub fn open(shmkit: &'a Library, segment: Segment, offset: u64) -> Result<Once<'a>, Status> {
        let functions = &shmkit.onces;
        let handle = object_at(functions.open_at, segment, offset, None)?;
        Ok(Once { functions, handle })
    }

    /// Begins the initialization, or waits until it is done.
    pub fn begin(&self, timeout: i64) -> Result<Begun, Status> {
        let (mut mine, mut owner_died) = (UNSET, UNSET);
        // SAFETY: a Once is an open handle; both outputs live through the call.
        check(unsafe {
            (self.functions.begin)(self.handle, timeout, 0, &raw mut mine, &raw mut owner_died)
        })?;
        match mine {
            0 => Ok(Begun::Done),
            _ => Ok(Begun::Mine {
                owner_died: owner_died != 0,
            }),
        }
    }

    /// Ends the initialization.
    pub fn done(&self) -> Result<(), Status> {
        // SAFETY: as in `begin`.
        check(unsafe { (self.functions.done)(self.handle) })
    }

    /// Gives the initialization up.
    pub fn abort(&self) -> Result<(), Status> {
        // SAFETY: as in `begin`.
        check(unsafe { (self.functions.abort)(self.handle) })
    }

    /// Returns whether the initialization is done.
    pub fn is_done(&self) -> Result<bool, Status> {
        let mut out = UNSET;
        // SAFETY: as in `begin`.
        check(unsafe { (self.functions.is_done)(self.handle, &raw mut out) })?;
        Ok(out != 0)
    }

    /// Returns its counters.
    pub fn stat(&self) -> Result<shmkit_once_info, Status> {
        let mut out = shmkit_once_info {
            struct_size: size_of::<shmkit_once_info>() as u32,
            flags: 0,
            attempts: 0,
            recoveries: 0,
            waits: 0,
            owner_ticket: 0,
            owner_namespace: 0,
            offset: 0,
            owner_pid: 0,
            reserved: 0,
        };
        // SAFETY: as in `begin`; out has its size set.
        check(unsafe { (self.functions.stat)(self.handle, &raw mut out) })?;
        Ok(out)
    }

    /// Closes the handle.
    pub fn close(&self) -> Result<(), Status> {
        // SAFETY: as in `begin`; a handle is closed once.
        check(unsafe { (self.functions.close)(self.handle) })
    }
}

impl Library {
    /// Calls each function of onces once.
    pub fn warm_up_onces(&self, segment: Segment) -> Result<(), Status> {
        Once::create(self, segment, WARM_UP)?.close()?;
        let once = Once::open(self, segment, WARM_UP)?;
        once.begin(NOWAIT)?;
        // The first wait counts the processors.
        assert_eq!(once.begin(1), Err(TIMEOUT), "it waits for itself");
        once.abort()?;
        once.begin(FOREVER)?;
        once.done()?;
        once.begin(NOWAIT)?;
        once.is_done()?;
        once.stat()?;
        once.close()
    }
}
