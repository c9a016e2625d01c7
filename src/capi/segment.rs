//! Segments: shared memory by name or by descriptor.

use super::handle::{Handle, Opaque};
use super::interrupt::SHMKIT_INTERRUPTIBLE;
use super::status::shmkit_status;
use super::structure::{self, Sized32};
use super::{check_flags, output, run, text};
use crate::error::{Error, Result};
use crate::layout::EPHEMERAL;
use crate::layout::Kind;
use crate::segment::{self, Form, Growth, Options, Segment, SegmentInfo};
use std::ffi::{CStr, c_char, c_void};
use std::sync::Arc;

/// A segment: shared memory that this process has mapped, from a file with a name or an anonymous
/// memory file.
///
///   Plain    All bytes of the file belong to the program, so any process that maps files can share
///            it.
///   Managed  The file begins with a control area before the data. The segment can contain locks and
///            other objects.
///   Threads  Any thread may use the handle. Closing it ends all use.
///   Death    If a process dies while it creates a segment, other processes find no name, or a
///            complete segment. If it dies while it resizes one, they see the old size or the new
///            one.
#[allow(non_camel_case_types)]
pub struct shmkit_segment {
    _opaque: (),
}

impl Opaque for Arc<Segment> {
    const KIND: Kind = Kind::Segment;
}

/// In shmkit_segment_options, except for shmkit_segment_create: map the segment read-only. A write
/// to it raises SIGSEGV. In shmkit_segment_info: the handle is read-only.
pub const SHMKIT_SEGMENT_READONLY: u32 = 0x10;
/// In the options of segments and objects: accept a foreign owner. Without it an open refuses a
/// file of another user, and a file without a name that is not sealed against shrinking.
pub const SHMKIT_TRUST: u32 = 0x20000;
/// In shmkit_segment_options and for shmkit_segment_resize: do not compare the size with the free
/// memory of file system, machine and cgroup. The kernel decides.
pub const SHMKIT_SEGMENT_NO_SPACE_CHECK: u32 = 0x40;
/// In shmkit_segment_options and for shmkit_segment_resize: do not reserve memory. Each page gets
/// memory when it is first touched; without free memory that touch raises SIGBUS. Not with
/// SHMKIT_SEGMENT_PREFAULT, SHMKIT_SEGMENT_HUGE or SHMKIT_SEGMENT_LOCK.
pub const SHMKIT_SEGMENT_SPARSE: u32 = 0x80;
/// In shmkit_segment_options: map all pages during the call, so that no first touch enters the
/// kernel.
pub const SHMKIT_SEGMENT_PREFAULT: u32 = 0x100;
/// In shmkit_segment_options: ask for huge pages. shmkit_segment_huge returns how many bytes have
/// them. The rest stays in small pages.
pub const SHMKIT_SEGMENT_HUGE: u32 = 0x200;
/// In shmkit_segment_options: keep the segment in physical memory (mlock). The call fails with
/// SHMKIT_ERR_NO_MEMORY if RLIMIT_MEMLOCK does not allow it.
pub const SHMKIT_SEGMENT_LOCK: u32 = 0x400;
/// In shmkit_segment_info: this handle created the segment.
pub const SHMKIT_SEGMENT_CREATED: u32 = 0x800;
/// In shmkit_segment_info: the file is sealed, so no process can ever shrink it.
pub const SHMKIT_SEGMENT_SEALED: u32 = 0x1000;

/// In shmkit_segment_options: create a managed segment, with a control area before the data, which
/// can contain locks and other objects; or open only such a segment. Without this flag a new segment
/// is plain, and an open accepts both kinds. In shmkit_segment_info: the segment is managed.
pub const SHMKIT_SEGMENT_MANAGED: u32 = 0x2000;
/// In shmkit_segment_options: open the bare file. Byte 0 is the first byte of the file, even if the
/// file looks like a managed segment. Not with SHMKIT_SEGMENT_MANAGED.
pub const SHMKIT_SEGMENT_PLAIN: u32 = 0x4000;
/// In shmkit_segment_options, with SHMKIT_SEGMENT_MANAGED: remove the name when no process has the
/// segment mapped any more. The last process to close the segment removes it. If that process dies,
/// is of another user, or opened the segment by its descriptor and knows no name, the name stays
/// until shmkit_segment_gc. In shmkit_segment_info: the segment is ephemeral.
pub const SHMKIT_SEGMENT_EPHEMERAL: u32 = 0x8000;

/// How to create or open a segment. NULL, or zeros after struct_size, mean the defaults.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_segment_options {
    /// sizeof(shmkit_segment_options).
    pub struct_size: u32,
    /// SHMKIT_SEGMENT_READONLY, SHMKIT_SEGMENT_NO_SPACE_CHECK, SHMKIT_SEGMENT_SPARSE,
    /// SHMKIT_SEGMENT_PREFAULT, SHMKIT_SEGMENT_HUGE, SHMKIT_SEGMENT_LOCK, SHMKIT_SEGMENT_MANAGED,
    /// SHMKIT_SEGMENT_PLAIN, SHMKIT_SEGMENT_EPHEMERAL, SHMKIT_TRUST and SHMKIT_INTERRUPTIBLE, or-ed.
    pub flags: u32,
    /// Bytes of address space to map, so that the segment can grow without moving; at least its size.
    /// 0: its size in whole pages, or the capacity that an existing managed segment was created with.
    pub capacity: u64,
    /// Permission bits of a new segment, at most 0777, exactly these whatever the umask. 0 means 0600,
    /// for its owner alone. For an anonymous segment 0 means 0666. No other process has a path to it,
    /// and a process that gives up its privileges still needs it. It gets no execute bits.
    pub mode: u32,
    /// The number of processes that can use the objects of a new managed segment at a time, 1 to
    /// 4096. 0: 128. For a plain segment: 0.
    pub participants: u32,
    /// The directory of a named segment. NULL: SHMKIT_DIR, else /dev/shm.
    pub directory: *const c_char,
}

// SAFETY: repr(C), integers and one pointer, each at a multiple of its size: no padding; any bytes are a value. The
// pointer is followed only as the caller of the exported function guarantees.
unsafe impl Sized32 for shmkit_segment_options {
    const FIRST: usize = size_of::<shmkit_segment_options>();
}
const _: () = assert!(size_of::<shmkit_segment_options>() == 32);

/// The state of a segment. Sizes are in bytes.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_segment_info {
    /// sizeof(shmkit_segment_info); on return, the number of bytes filled.
    pub struct_size: u32,
    /// SHMKIT_SEGMENT_READONLY, SHMKIT_SEGMENT_CREATED, SHMKIT_SEGMENT_SEALED, SHMKIT_SEGMENT_MANAGED
    /// and SHMKIT_SEGMENT_EPHEMERAL, or-ed.
    pub flags: u32,
    /// The size of the data.
    pub size: u64,
    /// The address space that this handle has mapped for the data.
    pub capacity: u64,
    /// The memory that the file system has reserved for the file.
    pub allocated: u64,
    /// The file system of the file (st_dev).
    pub device: u64,
    /// The number of the file there (st_ino). Device and inode identify the segment as long as it
    /// exists.
    pub inode: u64,
    /// The number of names that the file has. 0: it was unlinked, or is anonymous.
    pub links: u64,
    /// The user id of the owner.
    pub user: u32,
    /// The permission bits of the file.
    pub mode: u32,
    /// A random number that a managed segment got when it was created. 0: a plain segment.
    pub id: u64,
    /// The size of the control area of a managed segment: the bytes of the file before the data.
    pub control_bytes: u64,
    /// The number of processes that can use the objects of the segment at a time. 0: a plain
    /// segment.
    pub participants: u32,
    /// Always 0.
    pub reserved: u32,
}

// SAFETY: repr(C), nothing but integers, each at a multiple of its size: no padding, and any bytes are a value.
unsafe impl Sized32 for shmkit_segment_info {
    const FIRST: usize = size_of::<shmkit_segment_info>();
}
const _: () = assert!(size_of::<shmkit_segment_info>() == 88);

/// The function that shmkit_segment_list calls for each name. It returns 0 to continue, or another
/// number to stop.
#[allow(non_camel_case_types)]
pub type shmkit_segment_visit =
    Option<unsafe extern "C" fn(name: *const c_char, argument: *mut c_void) -> i32>;

const OPEN_FLAGS: u32 = SHMKIT_INTERRUPTIBLE
    | SHMKIT_SEGMENT_READONLY
    | SHMKIT_TRUST
    | SHMKIT_SEGMENT_NO_SPACE_CHECK
    | SHMKIT_SEGMENT_SPARSE
    | SHMKIT_SEGMENT_PREFAULT
    | SHMKIT_SEGMENT_HUGE
    | SHMKIT_SEGMENT_LOCK
    | SHMKIT_SEGMENT_MANAGED
    | SHMKIT_SEGMENT_PLAIN
    | SHMKIT_SEGMENT_EPHEMERAL;
const RESIZE_FLAGS: u32 =
    SHMKIT_INTERRUPTIBLE | SHMKIT_SEGMENT_NO_SPACE_CHECK | SHMKIT_SEGMENT_SPARSE;

/// Reads the options of a caller.
///
/// # Safety
/// `options` must be NULL or a struct whose struct_size is set; its directory must be NULL or a C string.
unsafe fn options(options: *const shmkit_segment_options) -> Result<Options> {
    // SAFETY: the caller guarantees it (see # Safety).
    let spec = unsafe { structure::read(options, "options") }?;
    check_flags(spec.flags, OPEN_FLAGS)?;
    let has = |flag| spec.flags & flag != 0;
    let form = match (has(SHMKIT_SEGMENT_MANAGED), has(SHMKIT_SEGMENT_PLAIN)) {
        (false, false) => Form::Either,
        (true, false) => Form::Managed,
        (false, true) => Form::Plain,
        (true, true) => {
            return Err(Error::Invalid(
                "options: SHMKIT_SEGMENT_MANAGED and SHMKIT_SEGMENT_PLAIN must not be combined"
                    .into(),
            ));
        }
    };
    Ok(Options {
        capacity: spec.capacity,
        mode: super::mode(spec.mode)?,
        // SAFETY: the caller guarantees it (see # Safety).
        directory: unsafe { text(spec.directory) }.map(CStr::to_owned),
        readonly: has(SHMKIT_SEGMENT_READONLY),
        trust: has(SHMKIT_TRUST),
        no_space_check: has(SHMKIT_SEGMENT_NO_SPACE_CHECK),
        sparse: has(SHMKIT_SEGMENT_SPARSE),
        prefault: has(SHMKIT_SEGMENT_PREFAULT),
        huge: has(SHMKIT_SEGMENT_HUGE),
        lock: has(SHMKIT_SEGMENT_LOCK),
        interruptible: has(SHMKIT_INTERRUPTIBLE),
        form,
        participants: spec.participants,
        ephemeral: has(SHMKIT_SEGMENT_EPHEMERAL),
    })
}

/// Stores a new handle of the segment that `make` returns.
///
/// # Safety
/// `spec` as for `options`; `out` must be NULL or writable.
unsafe fn store(
    spec: *const shmkit_segment_options,
    out: *mut *mut shmkit_segment,
    make: impl FnOnce(&Options) -> Result<Segment>,
) -> shmkit_status {
    run(|| {
        // SAFETY: the caller guarantees it (see # Safety).
        let out = unsafe { output(out, "out") }?;
        // SAFETY: the caller guarantees it (see # Safety).
        let options = unsafe { options(spec) }?;
        out.write(Handle::open(Arc::new(make(&options)?)).cast());
        Ok(())
    })
}

/// Stores what `get` returns about a segment.
///
/// # Safety
/// `segment` must be NULL or a handle of this library, `out` NULL or writable.
unsafe fn ask<T>(
    segment: *const shmkit_segment,
    out: *mut T,
    get: impl FnOnce(&Segment) -> Result<T>,
) -> shmkit_status {
    run(|| {
        // SAFETY: the caller guarantees it (see # Safety).
        let segment = unsafe { Handle::<Arc<Segment>>::borrow(segment.cast()) }?;
        // SAFETY: the caller guarantees it (see # Safety).
        unsafe { output(out, "out") }?.write(get(segment)?);
        Ok(())
    })
}

pub(super) fn named(name: Option<&CStr>) -> Result<&CStr> {
    name.ok_or(Error::Invalid("the name must not be NULL".into()))
}

/// Creates a segment of `size` zero bytes and maps it.
///
///   name     at most 255 bytes, with or without a leading slash, without another slash. NULL: an
///            anonymous segment, a memory file that no process can ever shrink, and that the kernel
///            frees when no process has it open
///   size     at least 1
///   options  NULL: the defaults
///   out      gets a handle, which shmkit_segment_close frees
///
/// The memory is reserved before the segment gets its name, and the name comes last: no open ever
/// finds an incomplete segment. If the caller dies before that, the kernel frees everything. Bytes
/// after `size` on the last page do not belong to the segment.
///
///   SHMKIT_ERR_EXISTS       the name is taken
///   SHMKIT_ERR_NO_SPACE     file system, machine or cgroup have not enough memory, or RLIMIT_FSIZE
///                           is too low
///   SHMKIT_ERR_NO_MEMORY    not enough address space, or the memory cannot be locked
///   SHMKIT_ERR_NOT_FOUND    no such directory
///   SHMKIT_ERR_PERMISSION   this user may not create files in the directory
///   SHMKIT_ERR_INVALID      `size` is 0 or more than `capacity`, the name is not valid,
///                           SHMKIT_SEGMENT_READONLY was given, or the options contradict each
///                           other or exceed a bound
///   SHMKIT_ERR_TOO_LARGE    more than a file or an address space can hold
///   SHMKIT_ERR_INTERRUPTED  the interrupt hook ended the call
///   SHMKIT_ERR_UNSUPPORTED  the kernel or the file system cannot hold a managed segment
///                           (F_OFD_SETLK, MADV_WIPEONFORK)
///
/// # Safety
/// `name` must be NULL or a C string; `options` NULL or a struct whose struct_size is set; `out` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_segment_create(
    name: *const c_char,
    size: u64,
    options: *const shmkit_segment_options,
    out: *mut *mut shmkit_segment,
) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    let name = unsafe { text(name) };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { store(options, out, |options| Segment::create(name, size, options)) }
}

/// Opens the segment of this name and maps it. It may come from any program, for example Python.
///
///   size     the minimum size of the segment in bytes; 0: any size
///   options  NULL: the defaults. With SHMKIT_SEGMENT_READONLY, read permission is enough
///
/// A failed open changes nothing. A process that may write to a named file may also truncate it
/// (ftruncate): a later access to the lost bytes raises SIGBUS. Anonymous segments cannot be
/// truncated.
///
///   SHMKIT_ERR_NOT_FOUND         no such name
///   SHMKIT_ERR_PERMISSION        this user may not open the file
///   SHMKIT_ERR_UNTRUSTED         a symbolic link, always; a file of another user, unless
///                                SHMKIT_TRUST was given
///   SHMKIT_ERR_WRONG_KIND        a directory, a FIFO or a device; the file of an object; or a
///                                plain segment, if SHMKIT_SEGMENT_MANAGED was given
///   SHMKIT_ERR_CORRUPT           the file is empty, or has a header that contradicts it
///   SHMKIT_ERR_INVALID           the segment has fewer than `size` bytes or more than `capacity`,
///                                the name is not valid, or the options contradict each other
///   SHMKIT_ERR_NO_MEMORY         not enough address space, or the memory cannot be locked
///   SHMKIT_ERR_TOO_LARGE         capacity is more than an address space can hold
///   SHMKIT_ERR_NO_SPACE          SHMKIT_SEGMENT_PREFAULT, SHMKIT_SEGMENT_HUGE or
///                                SHMKIT_SEGMENT_LOCK need more memory than is free
///   SHMKIT_ERR_INTERRUPTED       the interrupt hook ended the call
///   SHMKIT_ERR_VERSION_MISMATCH  the layout of the segment has another major version
///   SHMKIT_ERR_UNSUPPORTED       the kernel or the file system cannot hold a managed segment
///                                (F_OFD_SETLK, MADV_WIPEONFORK)
///
/// # Safety
/// As for shmkit_segment_create.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_segment_open(
    name: *const c_char,
    size: u64,
    options: *const shmkit_segment_options,
    out: *mut *mut shmkit_segment,
) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    let name = unsafe { text(name) };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe {
        store(options, out, |options| {
            Segment::open(named(name)?, size, options)
        })
    }
}

/// Opens the segment of this name, or creates it with `size` bytes if it does not exist.
///
/// If several processes race, exactly one creates it: SHMKIT_SEGMENT_CREATED in shmkit_segment_stat
/// marks that one. If `name` is NULL, the call creates an anonymous segment.
///
///   SHMKIT_ERR_INVALID  the segment exists with fewer than `size` bytes
///   and the errors of shmkit_segment_create and shmkit_segment_open, except SHMKIT_ERR_EXISTS
///
/// # Safety
/// As for shmkit_segment_create.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_segment_open_or_create(
    name: *const c_char,
    size: u64,
    options: *const shmkit_segment_options,
    out: *mut *mut shmkit_segment,
) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    let name = unsafe { text(name) };
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe {
        store(options, out, |options| {
            Segment::open_or_create(name, size, options)
        })
    }
}

/// Opens the segment behind a descriptor that was inherited, received over a socket, or opened
/// through /proc/PID/fd.
///
/// The call duplicates the descriptor, which remains the caller's. `size` is the minimum size of the
/// segment in bytes; 0: any size.
///
///   SHMKIT_ERR_INVALID     not an open descriptor
///   SHMKIT_ERR_NOT_FOUND   the segment is ephemeral, and its name is being removed
///   SHMKIT_ERR_PERMISSION  the descriptor is not open for reading; or not for writing, and
///                          SHMKIT_SEGMENT_READONLY was not given
///   SHMKIT_ERR_UNTRUSTED   a file without a name that is not sealed against shrinking, unless
///                          SHMKIT_TRUST was given: its sender could make an access raise SIGBUS
///   and the errors of shmkit_segment_open
///
/// # Safety
/// As for shmkit_segment_create.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_segment_open_fd(
    fd: i32,
    size: u64,
    options: *const shmkit_segment_options,
    out: *mut *mut shmkit_segment,
) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { store(options, out, |options| Segment::open_fd(fd, size, options)) }
}

/// Sets the size of the segment to `size` bytes, for every process that has it mapped.
///
/// No address moves, and no pointer into the segment becomes invalid. New bytes are zero. Other
/// processes see the new size in shmkit_segment_size, up to the capacity of their mapping.
/// Concurrent resizes wait for each other.
///
///   flags  SHMKIT_SEGMENT_NO_SPACE_CHECK, SHMKIT_SEGMENT_SPARSE and SHMKIT_INTERRUPTIBLE, or-ed
///
/// On SHMKIT_ERR_NO_SPACE and SHMKIT_ERR_INTERRUPTED nothing has changed, with one exception. If the
/// options of the handle ask for prefault, huge pages or locking, these follow after the growth. If
/// they fail with SHMKIT_ERR_NO_MEMORY or SHMKIT_ERR_INTERRUPTED, the segment stays grown;
/// shmkit_segment_size returns its size.
///
///   SHMKIT_ERR_TOO_LARGE         `size` exceeds the capacity of this mapping
///   SHMKIT_ERR_INVALID           `size` is less than the present size (segments do not shrink), an
///                                unknown flag, or SHMKIT_SEGMENT_SPARSE with a handle that
///                                prefaults, locks or asks for huge pages
///   SHMKIT_ERR_PERMISSION        a read-only handle, or the mode of the file does not let this
///                                user write to it
///   SHMKIT_ERR_NO_SPACE          file system, machine or cgroup have not enough memory, or
///                                RLIMIT_FSIZE is too low
///   SHMKIT_ERR_NO_MEMORY         the new bytes cannot be locked
///   SHMKIT_ERR_INTERRUPTED       the interrupt hook ended the call
///   SHMKIT_ERR_CORRUPT           the file was truncated
///   SHMKIT_ERR_LIVENESS_UNKNOWN  the descriptor of the handle was closed by other code (closefrom)
///
/// # Safety
/// `segment` must be NULL or a handle of this library that no other thread is closing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_segment_resize(
    segment: *mut shmkit_segment,
    size: u64,
    flags: u32,
) -> shmkit_status {
    run(|| {
        // SAFETY: the caller guarantees it (see # Safety).
        let segment = unsafe { Handle::<Arc<Segment>>::borrow(segment.cast()) }?;
        check_flags(flags, RESIZE_FLAGS)?;
        let growth = Growth {
            no_space_check: flags & SHMKIT_SEGMENT_NO_SPACE_CHECK != 0,
            sparse: flags & SHMKIT_SEGMENT_SPARSE != 0,
            interruptible: flags & SHMKIT_INTERRUPTIBLE != 0,
        };
        segment.resize(size, &growth)
    })
}

/// Returns the address of the data, which stays the same until the handle is closed.
///
/// # Safety
/// `segment` must be NULL or a handle of this library that no other thread is closing; `out` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_segment_data(
    segment: *const shmkit_segment,
    out: *mut *mut c_void,
) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { ask(segment, out, |segment| Ok(segment.data().cast())) }
}

/// Returns the size of the data in bytes, at most the capacity of this handle: the bytes that may be
/// accessed.
///
/// The size grows when any process resizes the segment. The call asks the kernel, which takes about
/// 0.2 microseconds.
///
///   SHMKIT_ERR_CORRUPT           the file is shorter than before: it was truncated, and an access
///                                to the lost bytes raises SIGBUS
///   SHMKIT_ERR_LIVENESS_UNKNOWN  the descriptor of the handle was closed by other code (closefrom)
///
/// # Safety
/// As for shmkit_segment_data.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_segment_size(
    segment: *const shmkit_segment,
    out: *mut u64,
) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { ask(segment, out, |segment| segment.size()) }
}

/// Returns the mapped address space in bytes: the maximum size of the segment in this process.
///
/// # Safety
/// As for shmkit_segment_data.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_segment_capacity(
    segment: *const shmkit_segment,
    out: *mut u64,
) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { ask(segment, out, |segment| Ok(segment.capacity())) }
}

/// Returns the descriptor of the segment's file, to pass on. It belongs to the handle: do not close
/// it.
///
/// # Safety
/// As for shmkit_segment_data.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_segment_fd(
    segment: *const shmkit_segment,
    out: *mut i32,
) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { ask(segment, out, |segment| Ok(segment.fd())) }
}

/// Returns the name of the segment, without directory and slash. It stays valid until the handle is
/// closed.
///
/// NULL: the segment is anonymous, or was opened by its descriptor.
///
/// # Safety
/// As for shmkit_segment_data.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_segment_name(
    segment: *const shmkit_segment,
    out: *mut *const c_char,
) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe {
        ask(segment, out, |segment| {
            Ok(segment.name().map_or(std::ptr::null(), CStr::as_ptr))
        })
    }
}

/// Returns the directory of the segment. It stays valid until the handle is closed.
///
/// NULL: the segment is anonymous, or was opened by its descriptor.
///
/// # Safety
/// As for shmkit_segment_data.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_segment_directory(
    segment: *const shmkit_segment,
    out: *mut *const c_char,
) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe {
        ask(segment, out, |segment| {
            Ok(segment.directory().map_or(std::ptr::null(), CStr::as_ptr))
        })
    }
}

/// Returns how many bytes of the segment this process maps by huge pages now.
///
/// The call reads /proc/self/smaps, which takes at least 0.1 ms, depending on how much the process
/// has mapped.
///
/// # Safety
/// As for shmkit_segment_data.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_segment_huge(
    segment: *const shmkit_segment,
    out: *mut u64,
) -> shmkit_status {
    // SAFETY: the caller guarantees it (see # Safety).
    unsafe { ask(segment, out, |segment| Ok(segment.huge_bytes())) }
}

/// Returns the state of the segment: sizes, owner, device and inode.
///
///   SHMKIT_ERR_LIVENESS_UNKNOWN  the descriptor of the handle was closed by other code (closefrom)
///
/// # Safety
/// `segment` must be NULL or a handle of this library; `out` NULL or a struct whose struct_size is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_segment_stat(
    segment: *const shmkit_segment,
    out: *mut shmkit_segment_info,
) -> shmkit_status {
    run(|| {
        // SAFETY: the caller guarantees it (see # Safety).
        let segment = unsafe { Handle::<Arc<Segment>>::borrow(segment.cast()) }?;
        // SAFETY: the caller guarantees it (see # Safety).
        unsafe { structure::check(out, "out") }?;
        let SegmentInfo {
            file,
            size,
            capacity,
            created,
            readonly,
            sealed,
            header,
        } = segment.stat()?;
        let ephemeral = header.is_some_and(|header| header.flags & EPHEMERAL != 0);
        let flag = |set, flag| if set { flag } else { 0 };
        let info = shmkit_segment_info {
            struct_size: 0,
            flags: flag(readonly, SHMKIT_SEGMENT_READONLY)
                | flag(created, SHMKIT_SEGMENT_CREATED)
                | flag(sealed, SHMKIT_SEGMENT_SEALED)
                | flag(header.is_some(), SHMKIT_SEGMENT_MANAGED)
                | flag(ephemeral, SHMKIT_SEGMENT_EPHEMERAL),
            size,
            capacity,
            allocated: file.allocated,
            device: file.device,
            inode: file.inode,
            links: file.links,
            user: file.user,
            mode: file.mode,
            id: header.map_or(0, |header| header.id),
            control_bytes: header.map_or(0, |header| header.control_bytes),
            participants: header.map_or(0, |header| header.participants),
            reserved: 0,
        };
        // SAFETY: `check` has accepted `out`; the caller guarantees that it is writable.
        unsafe { structure::write(out, info) };
        Ok(())
    })
}

/// Removes the name of the segment. Processes that have the segment mapped keep it. The memory is
/// freed when the last of them closes it.
///
/// An anonymous segment has no name: the call returns SHMKIT_OK.
///
///   SHMKIT_ERR_NOT_FOUND         the name is gone, or belongs to a newer segment, which keeps it
///   SHMKIT_ERR_INVALID           a named segment that was opened by its descriptor: this handle
///                                does not know its name
///   SHMKIT_ERR_PERMISSION        this user may not remove names from the directory
///   SHMKIT_ERR_INTERRUPTED       the segment was opened with SHMKIT_INTERRUPTIBLE, and the
///                                interrupt hook ended the call
///   SHMKIT_ERR_LIVENESS_UNKNOWN  a handle without a name, whose descriptor was closed by other
///                                code (closefrom)
///
/// # Safety
/// `segment` must be NULL or a handle of this library that no other thread is closing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_segment_unlink(segment: *mut shmkit_segment) -> shmkit_status {
    run(|| {
        // SAFETY: the caller guarantees it (see # Safety).
        unsafe { Handle::<Arc<Segment>>::borrow(segment.cast()) }?.unlink()
    })
}

/// Removes a name without opening the segment, for clean-up.
///
///   directory      NULL: SHMKIT_DIR, else /dev/shm
///   device, inode  remove the name only if it belongs to this file (see shmkit_segment_info); 0
///                  and 0: any file
///   flags          SHMKIT_INTERRUPTIBLE or 0
///
///   SHMKIT_ERR_NOT_FOUND    no such name, or it belongs to another file than the one given
///   SHMKIT_ERR_WRONG_KIND   not a regular file; it keeps its name
///   SHMKIT_ERR_PERMISSION   this user may not remove names from the directory
///   SHMKIT_ERR_INVALID      the name is not valid, or an unknown flag
///   SHMKIT_ERR_INTERRUPTED  the interrupt hook ended the call
///
/// # Safety
/// `name` and `directory` must be NULL or C strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_segment_unlink_name(
    name: *const c_char,
    directory: *const c_char,
    device: u64,
    inode: u64,
    flags: u32,
) -> shmkit_status {
    run(|| {
        check_flags(flags, SHMKIT_INTERRUPTIBLE)?;
        // SAFETY: the caller guarantees it (see # Safety).
        let name = named(unsafe { text(name) })?;
        // SAFETY: the caller guarantees it (see # Safety).
        let directory = unsafe { text(directory) };
        let only = (device != 0 || inode != 0).then_some((device, inode));
        segment::unlink(name, directory, only, flags & SHMKIT_INTERRUPTIBLE != 0)
    })
}

/// Calls `visit` with the name of each regular file in `directory` and with `argument`, in no
/// particular order.
///
/// These are the files that shmkit_segment_open might open, whatever created them. If `visit`
/// returns nonzero, the list ends, also with SHMKIT_OK. The name is valid until `visit` returns.
///
///   directory  NULL: SHMKIT_DIR, else /dev/shm
///
///   SHMKIT_ERR_NOT_FOUND   no such directory
///   SHMKIT_ERR_PERMISSION  this user may not read the directory
///   SHMKIT_ERR_INVALID     `directory` is not a directory
///
/// # Safety
/// `directory` must be NULL or a C string; `visit` must take the argument.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_segment_list(
    directory: *const c_char,
    visit: shmkit_segment_visit,
    argument: *mut c_void,
) -> shmkit_status {
    run(|| {
        let visit = visit.ok_or(Error::Invalid("visit must not be NULL".into()))?;
        // SAFETY: the caller guarantees it (see # Safety).
        let directory = unsafe { text(directory) };
        // SAFETY: the caller guarantees that `visit` takes its argument; the name is a C string.
        segment::list(
            directory,
            |name| unsafe { visit(name.as_ptr(), argument) } == 0,
        )
    })
}

/// Removes the names of ephemeral segments that no process has mapped, and the unfinished files of
/// dead processes.
///
/// The call never removes a segment that a process has mapped. A process that opens one meanwhile
/// finds it, or finds no such name. Only files of this user are considered.
///
///   directory  NULL: SHMKIT_DIR, else /dev/shm
///   flags      SHMKIT_INTERRUPTIBLE or 0
///   removed    (may be NULL) the number of segments that were removed
///
///   SHMKIT_ERR_NOT_FOUND    no such directory
///   SHMKIT_ERR_PERMISSION   this user may not read the directory, or not remove names from it
///   SHMKIT_ERR_INVALID      `directory` is not a directory, or an unknown flag
///   SHMKIT_ERR_INTERRUPTED  the interrupt hook ended the call; the rest is left
///
/// # Safety
/// `directory` must be NULL or a C string; `removed` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_segment_gc(
    directory: *const c_char,
    flags: u32,
    removed: *mut u64,
) -> shmkit_status {
    run(|| {
        check_flags(flags, SHMKIT_INTERRUPTIBLE)?;
        // SAFETY: the caller guarantees it (see # Safety).
        let removed = unsafe { super::optional(removed, "removed") }?;
        // SAFETY: the caller guarantees it (see # Safety).
        let directory = unsafe { text(directory) };
        let count = segment::gc(directory, flags & SHMKIT_INTERRUPTIBLE != 0)?;
        removed.map(|removed| removed.write(count));
        Ok(())
    })
}

/// Closes a handle: unmaps the memory and closes the descriptor. The name stays. NULL is SHMKIT_OK.
///
/// Pointers into the segment become invalid. If this was the last mapping of an ephemeral segment,
/// its name is removed, as SHMKIT_SEGMENT_EPHEMERAL describes. A second close fails with
/// SHMKIT_ERR_CLOSED, as does any other use of the handle, until 1024 more handles have been closed.
/// After that it is undefined, as after free.
///
/// # Safety
/// `segment` must be NULL or a handle of this library that no other thread is using.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_segment_close(segment: *mut shmkit_segment) -> shmkit_status {
    run(|| {
        // SAFETY: the caller guarantees it (see # Safety).
        unsafe { Handle::<Arc<Segment>>::close(segment.cast()) }
    })
}
