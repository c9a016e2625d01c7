//! What the C functions of every object do: they differ in the type of the handle and of the options.

use super::handle::{Handle, Opaque};
use super::segment::{named, shmkit_segment};
use super::status::shmkit_status;
use super::structure::{self, Sized32};
use super::{output, run, text};
use crate::error::{Error, Result};
use crate::object::{Create, FileOptions};
use crate::segment::Segment;
use std::ffi::{CStr, c_char};
use std::sync::Arc;

/// In the options of every kind: open what belongs to another user. Each kind has a name of its own for it.
pub(super) const TRUST: u32 = 0x20000;
/// In the options of every kind, for create_at: make it, and do not open one that stands there already.
pub(super) const EXCLUSIVE: u32 = 0x100000;

/// An object that has a place in shared memory.
pub(super) trait Object: Opaque + Sized {
    /// The options as C gives them.
    type CSpec: Sized32;
    /// The options as the core takes them.
    type Options;
    /// Flags that mean something in its options, besides those of every kind.
    const FLAGS: u32 = 0;

    /// Returns with what its options begin.
    fn common(spec: &Self::CSpec) -> CommonOptions;
    /// Reads the rest of its options.
    fn options(spec: &Self::CSpec, file: FileOptions) -> Result<Self::Options>;
    /// Returns how many bytes it takes.
    fn size(options: &Self::Options) -> Result<u64>;
    /// Makes one without a name.
    fn unnamed(options: &Self::Options) -> Result<Self>;
    /// Makes or finds the one of this name.
    fn named(name: &CStr, create: Create, options: &Self::Options) -> Result<Self>;
    /// Makes or finds the one at this place.
    fn at(
        segment: &Arc<Segment>,
        offset: u64,
        create: Create,
        options: &Self::Options,
    ) -> Result<Self>;
    /// Finds the one that was handed over.
    fn open_fd(fd: i32, offset: u64, options: &Self::Options) -> Result<Self>;
    /// Returns a descriptor and an offset, by which it is found elsewhere.
    fn export(&self) -> Result<(i32, u64)>;
    /// Returns what it stands in.
    fn segment(&self) -> &Arc<Segment>;
    /// Removes its name.
    fn unlink(&self) -> Result<()>;
}

/// In an `impl Object`: what the type does by its own methods of the same names, `options` given to each that makes one.
macro_rules! forward {
    () => {
        crate::capi::object::forward!(common);

        fn unnamed(options: &Self::Options) -> crate::error::Result<Self> {
            Self::unnamed(options)
        }

        fn at(
            segment: &std::sync::Arc<crate::segment::Segment>,
            offset: u64,
            create: crate::object::Create,
            options: &Self::Options,
        ) -> crate::error::Result<Self> {
            Self::at(segment, offset, create, options)
        }
    };
    // Of a size that is always the same; the options tell of its file alone.
    (plain) => {
        crate::capi::object::forward!(common);

        type Options = crate::object::FileOptions;

        fn options(
            _: &Self::CSpec,
            file: crate::object::FileOptions,
        ) -> crate::error::Result<crate::object::FileOptions> {
            Ok(file)
        }

        fn size(_: &crate::object::FileOptions) -> crate::error::Result<u64> {
            Ok(Self::SIZE)
        }

        fn unnamed(_: &crate::object::FileOptions) -> crate::error::Result<Self> {
            Self::unnamed()
        }

        fn at(
            segment: &std::sync::Arc<crate::segment::Segment>,
            offset: u64,
            create: crate::object::Create,
            _: &crate::object::FileOptions,
        ) -> crate::error::Result<Self> {
            Self::at(segment, offset, create)
        }
    };
    (common) => {
        fn common(spec: &Self::CSpec) -> crate::capi::object::CommonOptions {
            crate::capi::object::CommonOptions {
                flags: spec.flags,
                mode: spec.mode,
                participants: spec.participants,
                directory: spec.directory,
            }
        }

        fn named(
            name: &std::ffi::CStr,
            create: crate::object::Create,
            options: &Self::Options,
        ) -> crate::error::Result<Self> {
            Self::named(name, create, options)
        }

        fn open_fd(fd: i32, offset: u64, options: &Self::Options) -> crate::error::Result<Self> {
            Self::open_fd(fd, offset, options)
        }

        fn export(&self) -> crate::error::Result<(i32, u64)> {
            Self::export(self)
        }

        fn segment(&self) -> &std::sync::Arc<crate::segment::Segment> {
            Self::segment(self)
        }

        fn unlink(&self) -> crate::error::Result<()> {
            Self::unlink(self)
        }
    };
}
pub(super) use forward;

/// With what the options of every kind begin, after their size.
pub(super) struct CommonOptions {
    pub flags: u32,
    pub mode: u32,
    pub participants: u32,
    pub directory: *const c_char,
}

impl CommonOptions {
    /// Reads it; `known`: the flags that mean something.
    ///
    /// # Safety
    /// The directory must be NULL or a C string.
    unsafe fn read(self, known: u32) -> Result<(FileOptions, Create)> {
        super::check_flags(self.flags, known | TRUST | EXCLUSIVE)?;
        let create = match self.flags & EXCLUSIVE {
            0 => Create::IfMissing,
            _ => Create::Always,
        };
        let file = FileOptions {
            mode: super::mode(self.mode)?,
            // SAFETY: the caller's promise.
            directory: unsafe { text(self.directory) }.map(CStr::to_owned),
            trust: self.flags & TRUST != 0,
            participants: self.participants,
        };
        Ok((file, create))
    }
}

/// Refuses options that say something where nothing is to be said yet.
pub(super) fn check_reserved(reserved: u32) -> Result<()> {
    match reserved {
        0 => Ok(()),
        _ => Err(Error::Invalid("options: reserved is not 0".into())),
    }
}

/// Reads the options of a caller, and whether create_at may open what stands there.
///
/// # Safety
/// `spec` must be NULL or a struct whose struct_size is set; its directory must be NULL or a C string.
unsafe fn read<T: Object>(spec: *const T::CSpec) -> Result<(T::Options, Create)> {
    // SAFETY: the caller's promise.
    let spec = unsafe { structure::read(spec, "options") }?;
    // SAFETY: the caller's promise.
    let (file, create) = unsafe { T::common(&spec).read(T::FLAGS) }?;
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
/// As for shmkit_lock_size.
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
/// As for shmkit_lock_create.
pub(super) unsafe fn create<T: Object, H>(
    name: *const c_char,
    spec: *const T::CSpec,
    out: *mut *mut H,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    let name = unsafe { text(name) };
    let make = |options: &T::Options, _| match name {
        Some(name) => T::named(name, Create::Always, options),
        None => T::unnamed(options),
    };
    // SAFETY: the caller's promise.
    unsafe { store_by(spec, out, make) }
}

/// Opens the one of this name.
///
/// # Safety
/// As for shmkit_lock_create.
pub(super) unsafe fn open<T: Object, H>(
    name: *const c_char,
    spec: *const T::CSpec,
    out: *mut *mut H,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    let name = unsafe { text(name) };
    let make = |options: &T::Options, _| T::named(named(name)?, Create::Never, options);
    // SAFETY: the caller's promise.
    unsafe { store_by(spec, out, make) }
}

/// Opens the one of this name, or makes it.
///
/// # Safety
/// As for shmkit_lock_create.
pub(super) unsafe fn open_or_create<T: Object, H>(
    name: *const c_char,
    spec: *const T::CSpec,
    out: *mut *mut H,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    let name = unsafe { text(name) };
    let make = |options: &T::Options, _| T::named(named(name)?, Create::IfMissing, options);
    // SAFETY: the caller's promise.
    unsafe { store_by(spec, out, make) }
}

/// Makes one in a segment, or opens what stands there.
///
/// # Safety
/// As for shmkit_lock_create_at.
pub(super) unsafe fn create_at<T: Object, H>(
    segment: *const shmkit_segment,
    offset: u64,
    spec: *const T::CSpec,
    out: *mut *mut H,
) -> shmkit_status {
    let make = |options: &T::Options, create| {
        // SAFETY: the caller's promise.
        let segment = unsafe { segment_of(segment) }?;
        T::at(segment, offset, create, options)
    };
    // SAFETY: the caller's promise.
    unsafe { store_by(spec, out, make) }
}

/// Opens the one in a segment.
///
/// # Safety
/// As for shmkit_lock_create_at.
pub(super) unsafe fn open_at<T: Object, H>(
    segment: *const shmkit_segment,
    offset: u64,
    spec: *const T::CSpec,
    out: *mut *mut H,
) -> shmkit_status {
    let make = |options: &T::Options, _| {
        // SAFETY: the caller's promise.
        let segment = unsafe { segment_of(segment) }?;
        T::at(segment, offset, Create::Never, options)
    };
    // SAFETY: the caller's promise.
    unsafe { store_by(spec, out, make) }
}

/// Opens the one that was handed over.
///
/// # Safety
/// As for shmkit_lock_create.
pub(super) unsafe fn open_fd<T: Object, H>(
    fd: i32,
    offset: u64,
    spec: *const T::CSpec,
    out: *mut *mut H,
) -> shmkit_status {
    let make = |options: &T::Options, _| T::open_fd(fd, offset, options);
    // SAFETY: the caller's promise.
    unsafe { store_by(spec, out, make) }
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
        let (descriptor, place) = object.export()?;
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
