//! The functions of events.

use crate::suite::capi::segment::Segment;
use crate::suite::capi::{FOREVER, Status, TIMEOUT, check, object_at};
use crate::suite::harness::library::{Library, functions};
use shmkit::capi::event::shmkit_event_info;
use shmkit::capi::object::shmkit_object_options;
use shmkit::capi::segment::shmkit_segment;
use std::ffi::c_void;

/// The offset of the event used by the first calls, apart from those of other objects.
const WARM_UP: u64 = 256;

functions! {
    Events:
    create_at(*const shmkit_segment, u64, *const shmkit_object_options, *mut *mut c_void);
    open_at(*const shmkit_segment, u64, *const shmkit_object_options, *mut *mut c_void);
    set(*mut c_void);
    clear(*mut c_void);
    is_set(*const c_void, *mut u32);
    wait(*mut c_void, i64, u32);
    stat(*const c_void, *mut shmkit_event_info);
    close(*mut c_void);
}

/// An open event.
#[derive(Clone, Copy)]
pub struct Event<'a> {
    functions: &'a Events,
    handle: *mut c_void,
}

impl<'a> Event<'a> {
    /// Creates it at `offset` of the data, or opens it.
    pub fn create(shmkit: &'a Library, segment: Segment, offset: u64) -> Result<Event<'a>, Status> {
        let functions = &shmkit.events;
        let handle = object_at(functions.create_at, segment, offset, None)?;
        Ok(Event { functions, handle })
    }

    /// Opens it.
    pub fn open(shmkit: &'a Library, segment: Segment, offset: u64) -> Result<Event<'a>, Status> {
        let functions = &shmkit.events;
        let handle = object_at(functions.open_at, segment, offset, None)?;
        Ok(Event { functions, handle })
    }

    /// Sets it.
    pub fn set(&self) -> Result<(), Status> {
        // SAFETY: an Event is an open handle.
        check(unsafe { (self.functions.set)(self.handle) })
    }

    /// Clears it.
    pub fn clear(&self) -> Result<(), Status> {
        // SAFETY: as in `set`.
        check(unsafe { (self.functions.clear)(self.handle) })
    }

    /// Returns whether it is set.
    pub fn is_set(&self) -> Result<bool, Status> {
        let mut out = 0;
        // SAFETY: as in `set`; the output lives through the call.
        check(unsafe { (self.functions.is_set)(self.handle, &raw mut out) })?;
        Ok(out != 0)
    }

    /// Waits until it is set.
    pub fn wait(&self, timeout: i64) -> Result<(), Status> {
        // SAFETY: as in `set`.
        check(unsafe { (self.functions.wait)(self.handle, timeout, 0) })
    }

    /// Returns its counters.
    pub fn stat(&self) -> Result<shmkit_event_info, Status> {
        let mut out = shmkit_event_info {
            struct_size: size_of::<shmkit_event_info>() as u32,
            flags: 0,
            sets: 0,
            waits: 0,
            offset: 0,
        };
        // SAFETY: as in `set`; out has its size set.
        check(unsafe { (self.functions.stat)(self.handle, &raw mut out) })?;
        Ok(out)
    }

    /// Closes the handle.
    pub fn close(&self) -> Result<(), Status> {
        // SAFETY: as in `set`; a handle is closed once.
        check(unsafe { (self.functions.close)(self.handle) })
    }
}

impl Library {
    /// Calls each function of events once.
    pub fn warm_up_events(&self, segment: Segment) -> Result<(), Status> {
        Event::create(self, segment, WARM_UP)?.close()?;
        let event = Event::open(self, segment, WARM_UP)?;
        assert_eq!(event.wait(1), Err(TIMEOUT), "it is not set");
        event.set()?;
        event.wait(FOREVER)?;
        event.clear()?;
        event.is_set()?;
        event.stat()?;
        event.close()
    }
}
