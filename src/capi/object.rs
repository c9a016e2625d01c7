//! What the C functions of every object do: they differ in the type of the handle and of the options.

use super::handle::{Handle, Opaque};
use super::segment::shmkit_segment;
use super::status::shmkit_status;
use super::{output, run, text};
use crate::error::{Error, Result};
use crate::object::{Create, Named};
use crate::segment::Segment;
use std::ffi::{CStr, c_char};
use std::sync::Arc;

/// In the options of every kind: open what belongs to another user. Each kind has a name of its own for it.
pub(super) const TRUST: u32 = 0x20000;
/// In the options of every kind, for create_at: make it, and do not open one that stands there already.
pub(super) const EXCLUSIVE: u32 = 0x100000;

/// An object that has a place in shared memory.
pub(super) trait Object: Opaque {
    /// Returns a descriptor and an offset, by which it is found elsewhere.
    fn hand_over(&self) -> Result<(i32, u64)>;
    /// Returns what it stands in.
    fn segment(&self) -> &Arc<Segment>;
    /// Removes its name.
    fn unlink(&self) -> Result<()>;
}

/// Says of a kind that it is an `Object`, by the methods it has under these names.
macro_rules! object {
    ($type:ident, $kind:ident) => {
        impl super::handle::Opaque for $type {
            const KIND: crate::layout::Kind = crate::layout::Kind::$kind;
        }

        impl super::object::Object for $type {
            fn hand_over(&self) -> crate::error::Result<(i32, u64)> {
                $type::hand_over(self)
            }

            fn segment(&self) -> &std::sync::Arc<crate::segment::Segment> {
                $type::segment(self)
            }

            fn unlink(&self) -> crate::error::Result<()> {
                $type::unlink(self)
            }
        }
    };
}
pub(super) use object;

/// With what the options of every kind begin, after their size.
pub(super) struct Common {
    pub flags: u32,
    pub mode: u32,
    pub participants: u32,
    pub directory: *const c_char,
}

impl Common {
    /// Reads it; `known`: the flags that mean something.
    ///
    /// # Safety
    /// The directory must be NULL or a C string.
    pub unsafe fn read(self, known: u32) -> Result<(Named, Create)> {
        super::check_flags(self.flags, known | TRUST | EXCLUSIVE)?;
        let create = match self.flags & EXCLUSIVE {
            0 => Create::IfMissing,
            _ => Create::Always,
        };
        let named = Named {
            mode: super::mode(self.mode)?,
            // SAFETY: the caller's promise.
            directory: unsafe { text(self.directory) }.map(CStr::to_owned),
            trust: self.flags & TRUST != 0,
            participants: self.participants,
        };
        Ok((named, create))
    }
}

/// Refuses options that say something where nothing is to be said yet.
pub(super) fn check_reserved(reserved: u32) -> Result<()> {
    match reserved {
        0 => Ok(()),
        _ => Err(Error::Invalid("options: reserved is not 0".into())),
    }
}

/// Runs `body` with the object behind a handle.
///
/// # Safety
/// `handle` must be NULL or a handle of this library that no other thread is closing.
pub(super) unsafe fn with<T: Opaque, H>(
    handle: *const H,
    body: impl FnOnce(&T) -> Result<()>,
) -> shmkit_status {
    run(|| {
        // SAFETY: the caller's promise.
        body(unsafe { Handle::<T>::borrow(handle.cast()) }?)
    })
}

/// Stores a new handle of what `make` makes.
///
/// # Safety
/// `out` must be NULL or writable.
pub(super) unsafe fn store<T: Opaque, H>(
    out: *mut *mut H,
    make: impl FnOnce() -> Result<T>,
) -> shmkit_status {
    run(|| {
        // SAFETY: the caller's promise.
        let out = unsafe { output(out, "out") }?;
        out.write(Handle::open(make()?).cast());
        Ok(())
    })
}

/// Returns the segment behind a handle, to place something in it.
///
/// # Safety
/// `segment` must be NULL or a handle of this library that no other thread is closing.
pub(super) unsafe fn segment_of<'a>(segment: *const shmkit_segment) -> Result<&'a Arc<Segment>> {
    // SAFETY: the caller's promise.
    unsafe { Handle::<Arc<Segment>>::borrow(segment.cast()) }
}

/// Stores by what it is found elsewhere.
///
/// # Safety
/// As for shmkit_lock_fd.
pub(super) unsafe fn fd<T: Object, H>(
    handle: *const H,
    fd: *mut i32,
    offset: *mut u64,
) -> shmkit_status {
    let body = |object: &T| {
        // SAFETY: the caller's promise.
        let fd = unsafe { output(fd, "fd") }?;
        // SAFETY: the caller's promise.
        let offset = unsafe { output(offset, "offset") }?;
        let (descriptor, place) = object.hand_over()?;
        fd.write(descriptor);
        offset.write(place);
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { with(handle, body) }
}

/// Stores a new handle of the segment that it stands in.
///
/// # Safety
/// As for shmkit_lock_segment.
pub(super) unsafe fn segment<T: Object, H>(
    handle: *const H,
    out: *mut *mut shmkit_segment,
) -> shmkit_status {
    let body = |object: &T| {
        // SAFETY: the caller's promise.
        let out = unsafe { output(out, "out") }?;
        out.write(Handle::open(object.segment().clone()).cast());
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { with(handle, body) }
}

/// Removes its name.
///
/// # Safety
/// As for shmkit_lock_unlink.
pub(super) unsafe fn unlink<T: Object, H>(handle: *const H) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { with(handle, T::unlink) }
}

/// Closes its handle.
///
/// # Safety
/// As for shmkit_lock_close.
pub(super) unsafe fn close<T: Object, H>(handle: *mut H) -> shmkit_status {
    run(|| {
        // SAFETY: the caller's promise.
        unsafe { Handle::<T>::close(handle.cast()) }
    })
}
