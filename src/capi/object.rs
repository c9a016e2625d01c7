//! Objects: what can be placed in shared memory, and the life cycle that all objects share.
//!
//! An object has one of three places:
//!
//! ```text
//! named     in a file of its own, which other processes open by its name
//! unnamed   (name NULL) in a memory file of this process. Threads and forked children share it.
//!           Other processes open it by what shmkit_<noun>_fd returns. Thousands of small unnamed
//!           objects share one descriptor; an unnamed queue has a memory file of its own
//! placed    at an offset of a managed segment, beside other objects and the program's own data
//! ```
//!
//! The functions below exist for every noun whose section follows. That section describes only the
//! differences: the size, the options, and what a close does to objects that the process still
//! holds.
//!
//! shmkit_<noun>_size (options, out)
//!
//! ```text
//! Returns the number of bytes that a placed object occupies. Objects begin at multiples of 64.
//! SHMKIT_ERR_INVALID        the options contradict each other or exceed a bound
//! ```
//!
//! shmkit_<noun>_create (name, options, out)
//!
//! ```text
//! Creates a named or an unnamed object. The name appears last, so no process ever opens an
//! incomplete object. If the caller dies before that, the kernel frees the file.
//! SHMKIT_ERR_EXISTS         the name is taken
//! SHMKIT_ERR_INVALID        as for shmkit_<noun>_size, or a bad name
//! and the other errors of shmkit_segment_create
//! ```
//!
//! shmkit_<noun>_open (name, options, out)
//!
//! ```text
//! Opens an existing object. Options that describe a new one must be valid, but are not compared. A
//! failed open changes nothing.
//! SHMKIT_ERR_NOT_FOUND      no such name
//! SHMKIT_ERR_WRONG_KIND     the name belongs to another kind of object
//! SHMKIT_ERR_INVALID        name is NULL or bad, or the options contradict each other
//! and the other errors of shmkit_segment_open
//! ```
//!
//! shmkit_<noun>_open_or_create (name, options, out)
//!
//! ```text
//! Opens the object, or creates it if it does not exist. If several processes race, one creates it.
//! SHMKIT_ERR_INVALID        it was created with other options, or name is NULL
//! and the errors of both functions above
//! ```
//!
//! shmkit_<noun>_create_at (segment, offset, options, out)
//!
//! ```text
//! Opens the object at this offset, or creates it if all of its bytes are zero. If several
//! processes race, one creates it; if that process dies midway, another one begins again. The
//! object keeps the segment mapped after the segment's handle is closed. To remove an object, fill
//! its bytes with zeros while no process uses it.
//! SHMKIT_ERR_INVALID        offset is not a multiple of 64, or the object does not fit into the
//!                           data, or it was created with other options
//! SHMKIT_ERR_WRONG_KIND     the segment is plain, or another object or other data is stored there
//! SHMKIT_ERR_EXISTS         the object exists, and SHMKIT_EXCLUSIVE was given
//! SHMKIT_ERR_PERMISSION     the segment's handle is read-only
//! SHMKIT_ERR_TIMEOUT        the live process that is creating it has been stopped for a second
//! SHMKIT_ERR_TOO_MANY_PROCESSES   the segment has no room for another process
//! SHMKIT_ERR_CORRUPT        the bytes there describe an object that does not fit
//! SHMKIT_ERR_LIVENESS_UNKNOWN, SHMKIT_ERR_NO_MEMORY   as for shmkit_lock_acquire
//! ```
//!
//! shmkit_<noun>_open_at (segment, offset, options, out)
//!
//! ```text
//! Opens the object at this offset as it was created.
//! SHMKIT_ERR_NOT_FOUND      the bytes there are all zero, or their creator died midway
//! and the errors of shmkit_<noun>_create_at, except SHMKIT_ERR_EXISTS and that of other options
//! ```
//!
//! shmkit_<noun>_fd (handle, fd, offset)
//!
//! ```text
//! Exports a named or unnamed object: returns the descriptor to pass on and the offset to send with
//! it. The descriptor belongs to the handle: do not close it. The bytes of an exported unnamed
//! object are never reused for another one.
//! SHMKIT_ERR_INVALID        a placed object: export its segment, and send the offset
//! ```
//!
//! shmkit_<noun>_open_fd (fd, offset, options, out)
//!
//! ```text
//! Opens an exported object. The descriptor remains the caller's.
//! SHMKIT_ERR_NOT_FOUND, SHMKIT_ERR_WRONG_KIND   no such object is stored there
//! SHMKIT_ERR_INVALID        no object can be at this offset
//! and the other errors of shmkit_segment_open_fd
//! ```
//!
//! shmkit_<noun>_segment (handle, out)
//!
//! ```text
//! Opens the segment that contains the object: the one it was placed in, its own file, or the memory
//! file of unnamed objects. shmkit_segment_close frees this handle. The segment has the name, the
//! directory and the descriptor.
//! ```
//!
//! shmkit_<noun>_unlink (handle)
//!
//! ```text
//! Removes the name of a named object. Open handles stay valid, in all processes. An unnamed queue
//! has a file, but no name: the call returns SHMKIT_OK.
//! SHMKIT_ERR_NOT_FOUND      the name is gone, or belongs to a newer object, which keeps it
//! SHMKIT_ERR_PERMISSION     this user may not remove names from the directory
//! SHMKIT_ERR_INVALID        a placed or another unnamed object, or a named one that was opened by
//!                           its descriptor
//! ```
//!
//! shmkit_<noun>_close (handle)
//!
//! ```text
//! Frees the handle. The object and its name stay. If a process closes its last handle of a segment,
//! it counts as dead there: others take over what it holds. NULL is SHMKIT_OK.
//! SHMKIT_ERR_CLOSED         the handle was closed before
//! SHMKIT_ERR_WRONG_KIND     a handle of another noun
//! ```
//!
//! Every function returns SHMKIT_ERR_INVALID for a NULL or misaligned pointer or a wrong
//! struct_size. For a closed handle it returns SHMKIT_ERR_CLOSED, and for one of another noun
//! SHMKIT_ERR_WRONG_KIND.

use super::handle::{Handle, Opaque};
use super::segment::{SHMKIT_TRUST, named, shmkit_segment};
use super::status::shmkit_status;
use super::structure::{self, Sized32};
use super::{output, run, run_verb, text};
use crate::error::{Error, Result};
use crate::object::{self, Create, FileOptions, Noun};
use crate::segment::Segment;
use crate::sys::thread::CancelGuard;
use std::ffi::{CStr, c_char};
use std::sync::Arc;

/// In the options of shmkit_<noun>_create_at: fails with SHMKIT_ERR_EXISTS if the object exists,
/// instead of opening it.
pub const SHMKIT_EXCLUSIVE: u32 = 0x100000;

/// The options of locks, recursive locks, events and once flags. NULL, or zeros after struct_size,
/// mean the defaults. The options of every other noun begin with the same fields.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_object_options {
    /// sizeof(shmkit_object_options).
    pub struct_size: u32,
    /// SHMKIT_TRUST, SHMKIT_EXCLUSIVE and the flags of the noun, or-ed.
    pub flags: u32,
    /// Permission bits of a new named object, at most 0777, whatever the umask. 0: 0600.
    pub mode: u32,
    /// The number of processes that can use a new named object at a time, 1 to 4096. 0: 128. Any
    /// number can use an event.
    pub participants: u32,
    /// The directory of a named object. NULL: SHMKIT_DIR, else /dev/shm.
    pub directory: *const c_char,
}

// SAFETY: repr(C), integers and one pointer, each at a multiple of its size: no padding; any bytes are a value. The
// pointer is followed only as the caller of the exported function guarantees.
unsafe impl Sized32 for shmkit_object_options {
    const FIRST: usize = size_of::<shmkit_object_options>();
}
const _: () = assert!(size_of::<shmkit_object_options>() == 24);

/// An object that C programs can create and open.
///
/// # Safety
/// `CSpec` begins with the fields of `shmkit_object_options`.
pub(super) unsafe trait Object: Opaque + Noun {
    /// The options in C.
    type CSpec: Sized32;
    /// The flags of this noun's options, besides those that all nouns have.
    const FLAGS: u32 = 0;

    /// Converts the options; `file` has the fields that all nouns share.
    fn options(spec: &Self::CSpec, file: FileOptions) -> Result<Self::Options>;
}

/// Converts the fields that the options of all nouns share. `known` are the flags of the noun.
///
/// # Safety
/// The directory must be NULL or a C string.
unsafe fn read_common(spec: &shmkit_object_options, known: u32) -> Result<(FileOptions, Create)> {
    super::check_flags(spec.flags, known | SHMKIT_TRUST | SHMKIT_EXCLUSIVE)?;
    let create = match spec.flags & SHMKIT_EXCLUSIVE {
        0 => Create::IfMissing,
        _ => Create::Always,
    };
    let file = FileOptions {
        mode: super::mode(spec.mode)?,
        // SAFETY: the caller guarantees it (see # Safety).
        directory: unsafe { text(spec.directory) }.map(CStr::to_owned),
        trust: spec.flags & SHMKIT_TRUST != 0,
        participants: spec.participants,
    };
    Ok((file, create))
}

/// Refuses a reserved field that is not 0.
pub(super) fn check_reserved(reserved: u32) -> Result<()> {
    match reserved {
        0 => Ok(()),
        _ => Err(Error::Invalid("options: reserved must be 0".into())),
    }
}

/// Reads the caller's options, and whether create_at may open an existing object.
///
/// # Safety
/// `spec` must be NULL or a struct whose struct_size is set; its directory must be NULL or a C string.
unsafe fn read<T: Object>(spec: *const T::CSpec) -> Result<(T::Options, Create)> {
    // SAFETY: the caller guarantees it (see # Safety).
    let spec = unsafe { structure::read(spec, "options") }?;
    // SAFETY: `Object` guarantees that the options begin with these fields.
    let common = unsafe { &*(&raw const spec).cast::<shmkit_object_options>() };
    // SAFETY: the caller guarantees it (see # Safety).
    let (file, create) = unsafe { read_common(common, T::FLAGS) }?;
    Ok((T::options(&spec, file)?, create))
}

/// Runs `body` with the object behind a handle.
///
/// # Safety
/// `handle` must be NULL or a handle of this library that no other thread is closing.
pub(super) unsafe fn with<T: Opaque, H>(
    handle: *const H,
    body: impl FnOnce(&T) -> Result<()>,
) -> shmkit_status {
    run_verb(|| {
        // SAFETY: the caller guarantees it (see # Safety).
        body(unsafe { Handle::<T>::borrow(handle.cast()) }?)
    })
}

/// Stores a new handle of the value that `make` returns.
///
/// # Safety
/// `out` must be NULL or writable.
pub(super) unsafe fn store<T: Opaque, H>(
    out: *mut *mut H,
    make: impl FnOnce() -> Result<T>,
) -> shmkit_status {
    run(|| {
        // SAFETY: the caller guarantees it (see # Safety).
        let out = unsafe { output(out, "out") }?;
        out.write(Handle::open(make()?).cast());
        Ok(())
    })
}

/// Returns the segment behind a handle.
///
/// # Safety
/// `segment` must be NULL or a handle of this library that no other thread is closing.
pub(super) unsafe fn segment_of<'a>(segment: *const shmkit_segment) -> Result<&'a Arc<Segment>> {
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { Handle::<Arc<Segment>>::borrow(segment.cast()) }
}

/// Stores the size of the object.
///
/// # Safety
/// As for the exported function.
pub(super) unsafe fn size<T: Object>(spec: *const T::CSpec, out: *mut u64) -> shmkit_status {
    run(|| {
        // SAFETY: the caller guarantees it (see # Safety).
        let out = unsafe { output(out, "out") }?;
        // SAFETY: the caller guarantees it (see # Safety).
        let (options, _) = unsafe { read::<T>(spec) }?;
        out.write(T::size(&options)?);
        Ok(())
    })
}

/// Stores a new handle of the value that `make` returns for the caller's options.
///
/// # Safety
/// `spec` as for `read`; `out` must be NULL or writable.
unsafe fn store_by<T: Object, H>(
    spec: *const T::CSpec,
    out: *mut *mut H,
    make: impl FnOnce(&T::Options, Create) -> Result<T>,
) -> shmkit_status {
    let make = || {
        // SAFETY: the caller guarantees it (see # Safety).
        let (options, create) = unsafe { read::<T>(spec) }?;
        make(&options, create)
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { store(out, make) }
}

/// Creates an object, with a name or without.
///
/// # Safety
/// As for the exported function.
pub(super) unsafe fn create<T: Object, H>(
    name: *const c_char,
    spec: *const T::CSpec,
    out: *mut *mut H,
) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    let name = unsafe { text(name) };
    let make = |options: &T::Options, _| match name {
        Some(name) => object::named::<T>(name, Create::Always, options),
        None => object::unnamed::<T>(options),
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { store_by(spec, out, make) }
}

/// Opens the object of this name.
///
/// # Safety
/// As for the exported function.
pub(super) unsafe fn open<T: Object, H>(
    name: *const c_char,
    spec: *const T::CSpec,
    out: *mut *mut H,
) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    let name = unsafe { text(name) };
    let make = |options: &T::Options, _| object::named::<T>(named(name)?, Create::Never, options);
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { store_by(spec, out, make) }
}

/// Opens the object of this name, or creates it.
///
/// # Safety
/// As for the exported function.
pub(super) unsafe fn open_or_create<T: Object, H>(
    name: *const c_char,
    spec: *const T::CSpec,
    out: *mut *mut H,
) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    let name = unsafe { text(name) };
    let make =
        |options: &T::Options, _| object::named::<T>(named(name)?, Create::IfMissing, options);
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { store_by(spec, out, make) }
}

/// Creates an object in a segment, or opens the one at this offset.
///
/// # Safety
/// As for the exported function.
pub(super) unsafe fn create_at<T: Object, H>(
    segment: *const shmkit_segment,
    offset: u64,
    spec: *const T::CSpec,
    out: *mut *mut H,
) -> shmkit_status {
    let make = |options: &T::Options, create| {
        // SAFETY: the caller guarantees it (see # Safety).
        let segment = unsafe { segment_of(segment) }?;
        object::at::<T>(segment, offset, create, options)
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { store_by(spec, out, make) }
}

/// Opens the object at this offset of a segment.
///
/// # Safety
/// As for the exported function.
pub(super) unsafe fn open_at<T: Object, H>(
    segment: *const shmkit_segment,
    offset: u64,
    spec: *const T::CSpec,
    out: *mut *mut H,
) -> shmkit_status {
    let make = |options: &T::Options, _| {
        // SAFETY: the caller guarantees it (see # Safety).
        let segment = unsafe { segment_of(segment) }?;
        object::at::<T>(segment, offset, Create::Never, options)
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { store_by(spec, out, make) }
}

/// Opens an exported object.
///
/// # Safety
/// As for the exported function.
pub(super) unsafe fn open_fd<T: Object, H>(
    fd: i32,
    offset: u64,
    spec: *const T::CSpec,
    out: *mut *mut H,
) -> shmkit_status {
    let make = |options: &T::Options, _| object::open_fd::<T>(fd, offset, options);
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { store_by(spec, out, make) }
}

/// Stores the descriptor and the offset of an object.
///
/// # Safety
/// As for the exported function.
pub(super) unsafe fn fd<T: Object, H>(
    handle: *const H,
    fd: *mut i32,
    offset: *mut u64,
) -> shmkit_status {
    let body = |object: &T| {
        // SAFETY: the caller guarantees it (see # Safety).
        let fd = unsafe { output(fd, "fd") }?;
        // SAFETY: the caller guarantees it (see # Safety).
        let offset = unsafe { output(offset, "offset") }?;
        let (descriptor, place) = object.object().export()?;
        fd.write(descriptor);
        offset.write(place);
        Ok(())
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(handle, body) }
}

/// Stores a new handle of the segment that contains the object.
///
/// # Safety
/// As for the exported function.
pub(super) unsafe fn segment<T: Object, H>(
    handle: *const H,
    out: *mut *mut shmkit_segment,
) -> shmkit_status {
    let body = |object: &T| {
        // SAFETY: the caller guarantees it (see # Safety).
        let out = unsafe { output(out, "out") }?;
        out.write(Handle::open(object.object().segment().clone()).cast());
        Ok(())
    };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(handle, body) }
}

/// Removes the name of an object.
///
/// # Safety
/// As for the exported function.
pub(super) unsafe fn unlink<T: Object, H>(handle: *const H) -> shmkit_status {
    let _cancel = CancelGuard::new();
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { with(handle, |object: &T| object.object().unlink()) }
}

/// Closes the handle of an object.
///
/// # Safety
/// As for the exported function.
pub(super) unsafe fn close<T: Object, H>(handle: *mut H) -> shmkit_status {
    run(|| {
        // SAFETY: the caller guarantees it (see # Safety).
        unsafe { Handle::<T>::close(handle.cast()) }
    })
}
