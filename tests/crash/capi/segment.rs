//! The functions of segments.

use crate::suite::capi::{Status, Way, check};
use crate::suite::harness::library::{Library, functions, pointer};
use shmkit::capi::lock::shmkit_lock;
use shmkit::capi::segment::{shmkit_segment, shmkit_segment_options};
use std::ffi::{CStr, c_char, c_void};

functions! {
    Segments:
    create(*const c_char, u64, *const shmkit_segment_options, *mut *mut shmkit_segment);
    open(*const c_char, u64, *const shmkit_segment_options, *mut *mut shmkit_segment);
    open_or_create(*const c_char, u64, *const shmkit_segment_options, *mut *mut shmkit_segment);
    resize(*mut shmkit_segment, u64, u32);
    data(*const shmkit_segment, *mut *mut c_void);
    size(*const shmkit_segment, *mut u64);
    unlink(*mut shmkit_segment);
    unlink_name(*const c_char, *const c_char, u64, u64, u32);
    close(*mut shmkit_segment);
    gc(*const c_char, u32, *mut u64);
    lock(*const shmkit_segment, *mut *mut shmkit_lock);
}

/// The options of a segment.
#[derive(Clone, Copy, Default)]
pub struct Options {
    /// SHMKIT_SEGMENT_..., or-ed.
    pub flags: u32,
    /// As in shmkit_segment_options.
    pub capacity: u64,
    /// As in shmkit_segment_options.
    pub mode: u32,
    /// As in shmkit_segment_options.
    pub participants: u32,
}

impl Options {
    fn c(self) -> shmkit_segment_options {
        shmkit_segment_options {
            struct_size: size_of::<shmkit_segment_options>() as u32,
            flags: self.flags,
            capacity: self.capacity,
            mode: self.mode,
            participants: self.participants,
            // From SHMKIT_DIR.
            directory: std::ptr::null(),
        }
    }
}

/// An open segment.
#[derive(Clone, Copy)]
pub struct Segment(pub(crate) *mut shmkit_segment);

impl Library {
    /// Creates a segment.
    pub fn create(&self, name: Option<&CStr>, size: u64, with: Options) -> Result<Segment, Status> {
        self.obtain(Way::Create, name, size, with)
    }

    /// Opens a segment of at least `size` bytes.
    pub fn open(&self, name: &CStr, size: u64, with: Options) -> Result<Segment, Status> {
        self.obtain(Way::Open, Some(name), size, with)
    }

    /// Opens a segment, or creates it.
    pub fn open_or_create(&self, name: &CStr, size: u64, with: Options) -> Result<Segment, Status> {
        self.obtain(Way::OpenOrCreate, Some(name), size, with)
    }

    fn obtain(
        &self,
        way: Way,
        name: Option<&CStr>,
        size: u64,
        with: Options,
    ) -> Result<Segment, Status> {
        let function = match way {
            Way::Create => self.segments.create,
            Way::Open => self.segments.open,
            Way::OpenOrCreate => self.segments.open_or_create,
        };
        let mut out = std::ptr::null_mut();
        // SAFETY: the name is NULL or ends with a NUL byte; options and output live through the call.
        check(unsafe { function(pointer(name), size, &with.c(), &raw mut out) })?;
        Ok(Segment(out))
    }

    /// Grows a segment.
    pub fn resize(&self, segment: Segment, size: u64, flags: u32) -> Status {
        // SAFETY: a Segment is an open handle, and stays open: there is one thread, or all threads only resize.
        unsafe { (self.segments.resize)(segment.0, size, flags) }
    }

    /// Returns the address of byte 0.
    pub fn data(&self, segment: Segment) -> Result<*mut u8, Status> {
        let mut out = std::ptr::null_mut();
        // SAFETY: as in `resize`; the output lives through the call.
        match unsafe { (self.segments.data)(segment.0, &raw mut out) } {
            0 => Ok(out.cast()),
            status => Err(status),
        }
    }

    /// Returns the size.
    pub fn size(&self, segment: Segment) -> Result<u64, Status> {
        let mut out = 0;
        // SAFETY: as in `data`.
        match unsafe { (self.segments.size)(segment.0, &raw mut out) } {
            0 => Ok(out),
            status => Err(status),
        }
    }

    /// Removes the name of an open segment.
    pub fn unlink(&self, segment: Segment) -> Status {
        // SAFETY: as in `resize`.
        unsafe { (self.segments.unlink)(segment.0) }
    }

    /// Removes a name.
    pub fn unlink_name(&self, name: &CStr) -> Status {
        // SAFETY: the name ends with a NUL byte; the directory is NULL.
        unsafe { (self.segments.unlink_name)(name.as_ptr(), std::ptr::null(), 0, 0, 0) }
    }

    /// Removes the ephemeral segments that no process has mapped; returns their number.
    pub fn gc(&self) -> Result<u64, Status> {
        let mut out = 0;
        // SAFETY: the directory is NULL; the output lives through the call.
        match unsafe { (self.segments.gc)(std::ptr::null(), 0, &raw mut out) } {
            0 => Ok(out),
            status => Err(status),
        }
    }

    /// Closes a segment.
    pub fn close(&self, segment: Segment) -> Status {
        // SAFETY: as in `resize`; a handle is closed once.
        unsafe { (self.segments.close)(segment.0) }
    }

    /// Calls each function of plain segments once.
    pub fn warm_up_segments(&self, name: &CStr) -> Result<(), Status> {
        // Above 1 MiB the library compares the size with the memory of the machine.
        const SIZE: u64 = (1 << 20) + 1;
        let growing = Options {
            capacity: 4 * SIZE,
            ..Options::default()
        };
        let _ = self.open(name, 0, growing);
        for by_handle in [true, false] {
            let created = self.open_or_create(name, SIZE, growing)?;
            let opened = self.open_or_create(name, SIZE, growing)?;
            check(self.resize(opened, 3 * SIZE, 0))?;
            check(match by_handle {
                true => self.unlink(opened),
                false => self.unlink_name(name),
            })?;
            check(self.close(opened))?;
            check(self.close(created))?;
        }
        check(self.close(self.create(None, SIZE, Options::default())?))
    }
}
