//! Objects: what can be placed in shared memory, and the life cycle that all of it shares.
//!
//! An object has one of three places:
//!
//! ```text
//! named     in a file of its own, which other processes open by its name
//! unnamed   (name NULL) in a memory file of this process; threads and forked children share it,
//!           and other processes open what shmkit_<noun>_fd returns. Thousands of small unnamed
//!           objects share one descriptor; an unnamed queue has a memory file of its own
//! placed    at an offset of a managed segment, beside other objects and the program's own data
//! ```
//!
//! The functions below exist for every noun whose section follows. That section adds only what
//! differs: the bytes that it occupies, its options, and what a close does to what the process
//! holds.
//!
//! shmkit_<noun>_size (options, out)
//!
//! ```text
//! Returns the bytes that a placed object occupies. Objects begin at multiples of 64.
//! SHMKIT_ERR_INVALID        the options contradict each other or exceed a bound
//! ```
//!
//! shmkit_<noun>_create (name, options, out)
//!
//! ```text
//! Creates a named or an unnamed object. The name appears last, so no process ever opens a half
//! made one. If the caller dies before that, the kernel frees the file.
//! SHMKIT_ERR_EXISTS         the name is taken
//! SHMKIT_ERR_INVALID        as for shmkit_<noun>_size, or a bad name
//! SHMKIT_ERR_NO_SPACE, SHMKIT_ERR_NO_MEMORY, SHMKIT_ERR_NOT_FOUND, SHMKIT_ERR_PERMISSION
//!                           as for shmkit_segment_create
//! ```
//!
//! shmkit_<noun>_open (name, options, out)
//!
//! ```text
//! Opens an existing object as it was created. Options that describe a new object are not compared
//! with it. A failed open removes and changes nothing.
//! SHMKIT_ERR_NOT_FOUND      no such name
//! SHMKIT_ERR_WRONG_KIND     the name belongs to something else
//! SHMKIT_ERR_INVALID        name is NULL, or the options contradict each other
//! SHMKIT_ERR_UNTRUSTED, SHMKIT_ERR_PERMISSION, SHMKIT_ERR_CORRUPT, SHMKIT_ERR_NO_MEMORY
//!                           as for shmkit_segment_open
//! ```
//!
//! shmkit_<noun>_open_or_create (name, options, out)
//!
//! ```text
//! Opens the object, or creates it if there is none. Of several racing processes one creates it.
//! SHMKIT_ERR_INVALID        it was created with other options, or name is NULL
//! and the errors of both functions above
//! ```
//!
//! shmkit_<noun>_create_at (segment, offset, options, out)
//!
//! ```text
//! Opens the object at this offset, or creates it if all of its bytes are zero. Of several racing
//! processes one creates it; if that process dies midway, the next one begins again. The object
//! keeps the segment mapped after the segment's handle is closed. To remove an object, fill its
//! bytes with zeros while no process uses it.
//! SHMKIT_ERR_INVALID        offset is not a multiple of 64, or the object does not fit into the
//!                           data, or it was created with other options
//! SHMKIT_ERR_WRONG_KIND     the segment is plain, or something else is stored there
//! SHMKIT_ERR_EXISTS         it is there, and SHMKIT_EXCLUSIVE was given
//! SHMKIT_ERR_PERMISSION     the segment's handle is read-only
//! SHMKIT_ERR_TIMEOUT        the process that is creating it has been stopped for a second
//! SHMKIT_ERR_TOO_MANY_PROCESSES   the segment has no room for another process
//! SHMKIT_ERR_CORRUPT        the bytes there describe an object that does not fit
//! ```
//!
//! shmkit_<noun>_open_at (segment, offset, options, out)
//!
//! ```text
//! Opens the object at this offset as it was created.
//! SHMKIT_ERR_NOT_FOUND      only zeros are stored there
//! and the errors of shmkit_<noun>_create_at
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
//! Opens an exported object. The descriptor stays the caller's.
//! SHMKIT_ERR_NOT_FOUND, SHMKIT_ERR_WRONG_KIND   no such object is stored there
//! SHMKIT_ERR_INVALID        no object can be at this offset, and as for shmkit_segment_open_fd
//! SHMKIT_ERR_PERMISSION, SHMKIT_ERR_UNTRUSTED   as for shmkit_segment_open_fd
//! ```
//!
//! shmkit_<noun>_segment (handle, out)
//!
//! ```text
//! Opens the segment that holds the object: the one it was placed in, its own file, or the memory
//! file of unnamed objects. shmkit_segment_close frees this handle. The segment has the name, the
//! directory and the descriptor.
//! ```
//!
//! shmkit_<noun>_unlink (handle)
//!
//! ```text
//! Removes the name of a named object. Open handles stay valid, in all processes.
//! SHMKIT_ERR_NOT_FOUND      the name is gone, or belongs to a newer object, which is left alone
//! SHMKIT_ERR_INVALID        the object has no file of its own, or was opened by its descriptor
//! ```
//!
//! shmkit_<noun>_close (handle)
//!
//! ```text
//! Frees the handle. The object and its name stay. When a process closes its last handle of a
//! segment, what it still holds there is treated like the belongings of a dead process. NULL is
//! SHMKIT_OK.
//! SHMKIT_ERR_CLOSED         the handle was closed before
//! SHMKIT_ERR_WRONG_KIND     a handle of another noun
//! ```
//!
//! Every function returns SHMKIT_ERR_INVALID for a NULL or misaligned pointer or a wrong
//! struct_size, and SHMKIT_ERR_CLOSED or SHMKIT_ERR_WRONG_KIND for a handle that is closed or of
//! another noun.

use super::handle::{Handle, Opaque};
use super::segment::{SHMKIT_TRUST, named, shmkit_segment};
use super::status::shmkit_status;
use super::structure::{self, Sized32};
use super::{output, run, text};
use crate::error::{Error, Result};
use crate::object::{self, Create, FileOptions, Noun};
use crate::segment::Segment;
use std::ffi::{CStr, c_char};
use std::sync::Arc;

/// In the options of shmkit_<noun>_create_at: fails with SHMKIT_ERR_EXISTS if the object exists,
/// instead of opening it.
pub const SHMKIT_EXCLUSIVE: u32 = 0x100000;

/// The options of locks, recursive locks, events and once flags. NULL, or zeros behind struct_size,
/// give the defaults. The options of every other noun begin with the same fields.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_object_options {
    /// sizeof(shmkit_object_options).
    pub struct_size: u32,
    /// SHMKIT_TRUST, SHMKIT_EXCLUSIVE and the flags of the noun, or-ed.
    pub flags: u32,
    /// Permission bits of a new named object, whatever the umask. 0: 0600.
    pub mode: u32,
    /// The number of processes that the file of a new named object has room for, 1 to 4096.
    /// 0: 128.
    pub participants: u32,
    /// The directory of a named object. NULL: SHMKIT_DIR, else /dev/shm.
    pub directory: *const c_char,
}

// SAFETY: repr(C), integers and one pointer, each at a multiple of its size: no padding; any bytes are a value (the
// pointer is followed only as the caller of the exported function promises).
unsafe impl Sized32 for shmkit_object_options {
    const FIRST: usize = size_of::<shmkit_object_options>();
}
const _: () = assert!(size_of::<shmkit_object_options>() == 24);

/// An object as C creates and opens it.
///
/// # Safety
/// `CSpec` begins with the fields of `shmkit_object_options`.
pub(super) unsafe trait Object: Opaque + Noun {
    /// The options as C gives them.
    type CSpec: Sized32;
    /// The flags of its options, besides those of every noun.
    const FLAGS: u32 = 0;

    /// Converts the options; `file` has the fields that all nouns share.
    fn options(spec: &Self::CSpec, file: FileOptions) -> Result<Self::Options>;
}

/// Converts the fields that the options of all nouns share. `known`: the flags of the noun.
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
        // SAFETY: the caller's promise.
        directory: unsafe { text(spec.directory) }.map(CStr::to_owned),
        trust: spec.flags & SHMKIT_TRUST != 0,
        participants: spec.participants,
    };
    Ok((file, create))
}

/// Refuses options that say something where nothing is to be said yet.
pub(super) fn check_reserved(reserved: u32) -> Result<()> {
    match reserved {
        0 => Ok(()),
        _ => Err(Error::Invalid("options: reserved must be 0".into())),
    }
}

/// Reads the options of a caller, and whether create_at may open what stands there.
///
/// # Safety
/// `spec` must be NULL or a struct whose struct_size is set; its directory must be NULL or a C string.
unsafe fn read<T: Object>(spec: *const T::CSpec) -> Result<(T::Options, Create)> {
    // SAFETY: the caller's promise.
    let spec = unsafe { structure::read(spec, "options") }?;
    // SAFETY: `Object` promises that the options begin with these fields.
    let common = unsafe { &*(&raw const spec).cast::<shmkit_object_options>() };
    // SAFETY: the caller's promise.
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

/// Stores how many bytes it takes.
///
/// # Safety
/// As for the exported function.
pub(super) unsafe fn size<T: Object>(spec: *const T::CSpec, out: *mut u64) -> shmkit_status {
    run(|| {
        // SAFETY: the caller's promise.
        let out = unsafe { output(out, "out") }?;
        // SAFETY: the caller's promise.
        let (options, _) = unsafe { read::<T>(spec) }?;
        out.write(T::size(&options)?);
        Ok(())
    })
}

/// Stores a new handle of what `make` makes by the options of a caller.
///
/// # Safety
/// `spec` as for `read`; `out` must be NULL or writable.
unsafe fn store_by<T: Object, H>(
    spec: *const T::CSpec,
    out: *mut *mut H,
    make: impl FnOnce(&T::Options, Create) -> Result<T>,
) -> shmkit_status {
    let make = || {
        // SAFETY: the caller's promise.
        let (options, create) = unsafe { read::<T>(spec) }?;
        make(&options, create)
    };
    // SAFETY: the caller's promise.
    unsafe { store(out, make) }
}

/// Makes one, with a name or without.
///
/// # Safety
/// As for the exported function.
pub(super) unsafe fn create<T: Object, H>(
    name: *const c_char,
    spec: *const T::CSpec,
    out: *mut *mut H,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    let name = unsafe { text(name) };
    let make = |options: &T::Options, _| match name {
        Some(name) => object::named::<T>(name, Create::Always, options),
        None => object::unnamed::<T>(options),
    };
    // SAFETY: the caller's promise.
    unsafe { store_by(spec, out, make) }
}

/// Opens the one of this name.
///
/// # Safety
/// As for the exported function.
pub(super) unsafe fn open<T: Object, H>(
    name: *const c_char,
    spec: *const T::CSpec,
    out: *mut *mut H,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    let name = unsafe { text(name) };
    let make = |options: &T::Options, _| object::named::<T>(named(name)?, Create::Never, options);
    // SAFETY: the caller's promise.
    unsafe { store_by(spec, out, make) }
}

/// Opens the one of this name, or makes it.
///
/// # Safety
/// As for the exported function.
pub(super) unsafe fn open_or_create<T: Object, H>(
    name: *const c_char,
    spec: *const T::CSpec,
    out: *mut *mut H,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    let name = unsafe { text(name) };
    let make =
        |options: &T::Options, _| object::named::<T>(named(name)?, Create::IfMissing, options);
    // SAFETY: the caller's promise.
    unsafe { store_by(spec, out, make) }
}

/// Makes one in a segment, or opens what stands there.
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
        // SAFETY: the caller's promise.
        let segment = unsafe { segment_of(segment) }?;
        object::at::<T>(segment, offset, create, options)
    };
    // SAFETY: the caller's promise.
    unsafe { store_by(spec, out, make) }
}

/// Opens the one in a segment.
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
        // SAFETY: the caller's promise.
        let segment = unsafe { segment_of(segment) }?;
        object::at::<T>(segment, offset, Create::Never, options)
    };
    // SAFETY: the caller's promise.
    unsafe { store_by(spec, out, make) }
}

/// Opens the one that was handed over.
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
    // SAFETY: the caller's promise.
    unsafe { store_by(spec, out, make) }
}

/// Stores by what it is found elsewhere.
///
/// # Safety
/// As for the exported function.
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
        let (descriptor, place) = object.object().export()?;
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
/// As for the exported function.
pub(super) unsafe fn segment<T: Object, H>(
    handle: *const H,
    out: *mut *mut shmkit_segment,
) -> shmkit_status {
    let body = |object: &T| {
        // SAFETY: the caller's promise.
        let out = unsafe { output(out, "out") }?;
        out.write(Handle::open(object.object().segment().clone()).cast());
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { with(handle, body) }
}

/// Removes its name.
///
/// # Safety
/// As for the exported function.
pub(super) unsafe fn unlink<T: Object, H>(handle: *const H) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { with(handle, |object: &T| object.object().unlink()) }
}

/// Closes its handle.
///
/// # Safety
/// As for the exported function.
pub(super) unsafe fn close<T: Object, H>(handle: *mut H) -> shmkit_status {
    run(|| {
        // SAFETY: the caller's promise.
        unsafe { Handle::<T>::close(handle.cast()) }
    })
}
