//! Segments: shared memory by name or by descriptor.

use super::handle::{Handle, Opaque};
use super::interrupt::SHMKIT_INTERRUPTIBLE;
use super::status::shmkit_status;
use super::structure::{self, Sized32};
use super::{check_flags, output, run, text};
use crate::error::{Error, Result};
use crate::layout::EPHEMERAL;
use crate::layout::Kind;
use crate::segment::{self, Form, Growth, Options, Segment, Stat};
use std::ffi::{CStr, c_char, c_void};
use std::sync::Arc;

/// A segment of shared memory that this process has mapped. Any thread may use it; closing it ends all use.
#[allow(non_camel_case_types)]
pub struct shmkit_segment {
    _opaque: (),
}

impl Opaque for Arc<Segment> {
    const KIND: Kind = Kind::Segment;
}

/// Map it for reading only: writing to it is then SIGSEGV. Not for create.
pub const SHMKIT_SEGMENT_READONLY: u32 = 0x10;
/// In the options of segments and objects: accept a foreign owner. Without it an open refuses what belongs to another
/// user, and a file without a name that is not sealed against shrinking.
pub const SHMKIT_TRUST: u32 = 0x20000;
/// Do not compare the size with what file system, machine and cgroup have: let the kernel decide.
pub const SHMKIT_SEGMENT_NO_SPACE_CHECK: u32 = 0x40;
/// Do not set memory aside: a page gets memory when it is touched, and where there is none, that is SIGBUS. Not with
/// SHMKIT_SEGMENT_PREFAULT, SHMKIT_SEGMENT_HUGE or SHMKIT_SEGMENT_LOCK.
pub const SHMKIT_SEGMENT_SPARSE: u32 = 0x80;
/// Map all pages now, so that no first touch waits for the kernel.
pub const SHMKIT_SEGMENT_PREFAULT: u32 = 0x100;
/// Ask for huge pages; shmkit_segment_huge tells how many bytes got them. Where there are none nothing is lost.
pub const SHMKIT_SEGMENT_HUGE: u32 = 0x200;
/// Keep it in physical memory (mlock); SHMKIT_ERR_NO_MEMORY where RLIMIT_MEMLOCK does not allow it.
pub const SHMKIT_SEGMENT_LOCK: u32 = 0x400;
/// In shmkit_segment_info: this handle made the segment.
pub const SHMKIT_SEGMENT_CREATED: u32 = 0x800;
/// In shmkit_segment_info: nobody can ever shrink it.
pub const SHMKIT_SEGMENT_SEALED: u32 = 0x1000;

/// Make it with a control area before byte 0, so that it can hold locks and other objects; or open only such a one.
/// Without this a new segment is plain, and any kind is opened for what it is.
pub const SHMKIT_SEGMENT_MANAGED: u32 = 0x2000;
/// Open the bare file: byte 0 is the first one, whatever stands there.
pub const SHMKIT_SEGMENT_PLAIN: u32 = 0x4000;
/// Of a full one: its name goes when nobody has it mapped any more. The last to close removes it; if that one is
/// killed, or has opened it by its descriptor and knows no name, shmkit_segment_gc does.
pub const SHMKIT_SEGMENT_EPHEMERAL: u32 = 0x8000;

/// How to make or open a segment. All zeros but struct_size is what most want; so is a NULL pointer to it.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_segment_options {
    /// sizeof(shmkit_segment_options).
    pub struct_size: u32,
    /// SHMKIT_SEGMENT_READONLY to SHMKIT_SEGMENT_LOCK, SHMKIT_SEGMENT_MANAGED to SHMKIT_SEGMENT_EPHEMERAL and
    /// SHMKIT_INTERRUPTIBLE, or-ed.
    pub flags: u32,
    /// Bytes of address space to map, so that the segment can grow without moving. 0: its size in whole pages.
    pub capacity: u64,
    /// Permission bits of a new segment, exactly these whatever the umask. 0: 0600, its owner's alone. An anonymous
    /// one has no execute bits.
    pub mode: u32,
    /// How many processes may hold something in a new full segment at a time, 1 to 4096. 0: 128.
    pub participants: u32,
    /// Where it stands. NULL: SHMKIT_DIR, else /dev/shm.
    pub directory: *const c_char,
}

// SAFETY: repr(C), integers and one pointer, each at a multiple of its size: no padding; any bytes are a value (the
// pointer is followed only as the caller of the exported function promises).
unsafe impl Sized32 for shmkit_segment_options {
    const FIRST: usize = size_of::<shmkit_segment_options>();
}
const _: () = assert!(size_of::<shmkit_segment_options>() == 32);

/// What is known of a segment. Sizes in bytes.
#[derive(Clone, Copy)]
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct shmkit_segment_info {
    /// sizeof(shmkit_segment_info); on return how much of it was filled.
    pub struct_size: u32,
    /// SHMKIT_SEGMENT_READONLY, SHMKIT_SEGMENT_CREATED, SHMKIT_SEGMENT_SEALED, SHMKIT_SEGMENT_MANAGED,
    /// SHMKIT_SEGMENT_EPHEMERAL, or-ed.
    pub flags: u32,
    /// Its length.
    pub size: u64,
    /// How much address space is mapped here.
    pub capacity: u64,
    /// How much memory its file system has set aside for it.
    pub allocated: u64,
    /// The file system it lies in (st_dev).
    pub device: u64,
    /// Its number there (st_ino): with the device it names the segment for as long as it lives.
    pub inode: u64,
    /// How many names it has: 0 once it is unlinked, or where it is anonymous.
    pub links: u64,
    /// Its owner.
    pub user: u32,
    /// Its permission bits.
    pub mode: u32,
    /// Of a full one: a random number, written when it was made. 0: a plain one.
    pub id: u64,
    /// How many bytes of its file lie before byte 0: the control area of a full one.
    pub control_bytes: u64,
    /// How many processes may hold something in it at a time. 0: a plain one.
    pub participants: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: repr(C), nothing but integers, each at a multiple of its size: no padding, and any bytes are a value.
unsafe impl Sized32 for shmkit_segment_info {
    const FIRST: usize = size_of::<shmkit_segment_info>();
}
const _: () = assert!(size_of::<shmkit_segment_info>() == 88);

/// What shmkit_segment_list calls for each name; nonzero ends the list.
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
    // SAFETY: the caller's promise.
    let spec = unsafe { structure::read(options, "options") }?;
    check_flags(spec.flags, OPEN_FLAGS)?;
    let has = |flag| spec.flags & flag != 0;
    let form = match (has(SHMKIT_SEGMENT_MANAGED), has(SHMKIT_SEGMENT_PLAIN)) {
        (false, false) => Form::Either,
        (true, false) => Form::Managed,
        (false, true) => Form::Plain,
        (true, true) => {
            return Err(Error::Invalid(
                "options: a segment is full or plain, not both".into(),
            ));
        }
    };
    Ok(Options {
        capacity: spec.capacity,
        mode: super::mode(spec.mode)?,
        // SAFETY: the caller's promise.
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

/// Makes a handle with `make` and stores it.
///
/// # Safety
/// `spec` as for `options`; `out` must be NULL or writable.
unsafe fn store(
    spec: *const shmkit_segment_options,
    out: *mut *mut shmkit_segment,
    make: impl FnOnce(&Options) -> Result<Segment>,
) -> shmkit_status {
    run(|| {
        // SAFETY: the caller's promise.
        let out = unsafe { output(out, "out") }?;
        // SAFETY: the caller's promise.
        let options = unsafe { options(spec) }?;
        out.write(Handle::open(Arc::new(make(&options)?)).cast());
        Ok(())
    })
}

/// Stores what `get` says of a segment.
///
/// # Safety
/// `segment` must be NULL or a handle of this library, `out` NULL or writable.
unsafe fn ask<T>(
    segment: *const shmkit_segment,
    out: *mut T,
    get: impl FnOnce(&Segment) -> Result<T>,
) -> shmkit_status {
    run(|| {
        // SAFETY: the caller's promise.
        let segment = unsafe { Handle::<Arc<Segment>>::borrow(segment.cast()) }?;
        // SAFETY: the caller's promise.
        unsafe { output(out, "out") }?.write(get(segment)?);
        Ok(())
    })
}

pub(super) fn named(name: Option<&CStr>) -> Result<&CStr> {
    name.ok_or(Error::Invalid("the name is NULL".into()))
}

/// Makes a segment of `size` bytes, all zero, and maps it.
///
/// `name` has at most 255 bytes, with or without a leading slash, no other. NULL: an anonymous segment, a memory file
/// that goes when nobody has it open any more, and that nobody can ever shrink. `options` NULL: none. `out` gets the
/// handle, which shmkit_segment_close frees.
///
/// Its memory is set aside before it has a name, and the name comes last: who finds it finds it whole, and if this
/// process is killed before that, the kernel takes everything back. Bytes at the end of the last page lie beyond
/// `size` and belong to nobody.
///
/// SHMKIT_ERR_EXISTS: the name is taken. SHMKIT_ERR_NO_SPACE: not enough memory in file system, machine or cgroup.
/// SHMKIT_ERR_NO_MEMORY: no address space, or not lockable. SHMKIT_ERR_NOT_FOUND: no such directory.
/// SHMKIT_ERR_PERMISSION. SHMKIT_ERR_INVALID: size 0, capacity below size, a name that cannot be.
/// SHMKIT_ERR_TOO_LARGE: more than a file can have. SHMKIT_ERR_INTERRUPTED.
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
    // SAFETY: the caller's promise.
    let name = unsafe { text(name) };
    // SAFETY: the caller's promise.
    unsafe { store(options, out, |options| Segment::create(name, size, options)) }
}

/// Opens the segment of this name and maps it, whoever made it: this library, shm_open, Python.
///
/// `size` is the least that is expected of it in bytes; 0: any will do. `options` NULL: none. With
/// SHMKIT_SEGMENT_READONLY read permission is enough. Nothing that fails here removes or changes anything.
///
/// SHMKIT_ERR_NOT_FOUND. SHMKIT_ERR_PERMISSION. SHMKIT_ERR_UNTRUSTED: a symbolic link, always; another user's, unless
/// SHMKIT_TRUST. SHMKIT_ERR_WRONG_KIND: a directory, a FIFO, a device. SHMKIT_ERR_CORRUPT: no bytes. SHMKIT_ERR_INVALID: fewer
/// than `size`. SHMKIT_ERR_INVALID: capacity below its size, a name that cannot be. SHMKIT_ERR_NO_MEMORY: no address
/// space, or not lockable.
///
/// Whoever may write to a named file may also truncate it (ftruncate), and the next touch is then SIGBUS. Anonymous
/// segments cannot be truncated.
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
    // SAFETY: the caller's promise.
    let name = unsafe { text(name) };
    // SAFETY: the caller's promise.
    unsafe {
        store(options, out, |options| {
            Segment::open(named(name)?, size, options)
        })
    }
}

/// Opens the segment of this name, or makes it with `size` bytes if there is none.
///
/// Of several processes that race exactly one makes it: SHMKIT_SEGMENT_CREATED in shmkit_segment_stat tells which.
/// `name` NULL: as shmkit_segment_create. Errors as of both; SHMKIT_ERR_INVALID: it exists with fewer than `size`
/// bytes.
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
    // SAFETY: the caller's promise.
    let name = unsafe { text(name) };
    // SAFETY: the caller's promise.
    unsafe {
        store(options, out, |options| {
            Segment::open_or_create(name, size, options)
        })
    }
}

/// Opens the segment behind a file descriptor: inherited, received over a socket, or opened through /proc/PID/fd.
///
/// The descriptor is duplicated and stays the caller's. `size` and errors as for shmkit_segment_open, and:
/// SHMKIT_ERR_INVALID: not an open descriptor. SHMKIT_ERR_PERMISSION: not open for reading, or not for writing and
/// SHMKIT_SEGMENT_READONLY was not asked for. SHMKIT_ERR_UNTRUSTED: a file without a name that is not sealed against
/// shrinking, unless SHMKIT_TRUST: who sent it could make touching it SIGBUS.
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
    // SAFETY: the caller's promise.
    unsafe { store(options, out, |options| Segment::open_fd(fd, size, options)) }
}

/// Makes the segment `size` bytes long, for every process that has it mapped.
///
/// No address moves and no pointer into it dangles; new bytes are zero. Others see the growth in shmkit_segment_size,
/// as far as the capacity of their mapping goes. `flags`: SHMKIT_SEGMENT_NO_SPACE_CHECK, SHMKIT_SEGMENT_SPARSE,
/// SHMKIT_INTERRUPTIBLE. Growers wait for each other; one that is killed leaves the old size or the new one.
///
/// SHMKIT_ERR_TOO_LARGE: beyond the capacity of this mapping. SHMKIT_ERR_INVALID: smaller than it is: segments do not
/// shrink. SHMKIT_ERR_PERMISSION: a read-only handle, or a file whose mode does not let this user write it.
/// SHMKIT_ERR_NO_SPACE, SHMKIT_ERR_INTERRUPTED: nothing has changed.
/// But where its options ask for prefault, huge pages or locking, that is done once it has grown: then
/// SHMKIT_ERR_NO_MEMORY and SHMKIT_ERR_INTERRUPTED leave it grown, as shmkit_segment_size tells.
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
        // SAFETY: the caller's promise.
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

/// Tells the address of byte 0, which stays the same until the handle is closed.
///
/// # Safety
/// `segment` must be NULL or a handle of this library that no other thread is closing; `out` NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_segment_data(
    segment: *const shmkit_segment,
    out: *mut *mut c_void,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { ask(segment, out, |segment| Ok(segment.data().cast())) }
}

/// Tells how many bytes of the mapping have memory now.
///
/// It grows when any process resizes the segment; it asks the kernel (about 0.2 microseconds). SHMKIT_ERR_CORRUPT: it
/// is shorter than it has been, so somebody has truncated its file, and touching what is gone is SIGBUS.
///
/// # Safety
/// As for shmkit_segment_data.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_segment_size(
    segment: *const shmkit_segment,
    out: *mut u64,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { ask(segment, out, |segment| segment.size()) }
}

/// Tells how many bytes of address space are mapped: how far the segment can grow in this process.
///
/// # Safety
/// As for shmkit_segment_data.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_segment_capacity(
    segment: *const shmkit_segment,
    out: *mut u64,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { ask(segment, out, |segment| Ok(segment.capacity())) }
}

/// Tells the descriptor of the segment's file, to be passed on. It is the handle's: do not close it.
///
/// # Safety
/// As for shmkit_segment_data.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_segment_fd(
    segment: *const shmkit_segment,
    out: *mut i32,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { ask(segment, out, |segment| Ok(segment.fd())) }
}

/// Tells the name of the segment, without directory or slash; it lives until the handle is closed.
///
/// NULL where it is anonymous or was opened by its descriptor.
///
/// # Safety
/// As for shmkit_segment_data.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_segment_name(
    segment: *const shmkit_segment,
    out: *mut *const c_char,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe {
        ask(segment, out, |segment| {
            Ok(segment.name().map_or(std::ptr::null(), CStr::as_ptr))
        })
    }
}

/// Tells the directory in which the segment was found or made; it lives until the handle is closed.
///
/// NULL where it is anonymous or was opened by its descriptor.
///
/// # Safety
/// As for shmkit_segment_data.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_segment_directory(
    segment: *const shmkit_segment,
    out: *mut *const c_char,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe {
        ask(segment, out, |segment| {
            Ok(segment.directory().map_or(std::ptr::null(), CStr::as_ptr))
        })
    }
}

/// Tells how many bytes of the segment this process reaches through huge pages just now.
///
/// It reads /proc/self/smaps, which takes the longer the more is mapped: 0.1 ms and up.
///
/// # Safety
/// As for shmkit_segment_data.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_segment_huge(
    segment: *const shmkit_segment,
    out: *mut u64,
) -> shmkit_status {
    // SAFETY: the caller's promise.
    unsafe { ask(segment, out, |segment| Ok(segment.huge_bytes())) }
}

/// Tells what is known of the segment: sizes, owner, device and inode.
///
/// # Safety
/// `segment` must be NULL or a handle of this library; `out` NULL or a struct whose struct_size is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_segment_stat(
    segment: *const shmkit_segment,
    out: *mut shmkit_segment_info,
) -> shmkit_status {
    run(|| {
        // SAFETY: the caller's promise.
        let segment = unsafe { Handle::<Arc<Segment>>::borrow(segment.cast()) }?;
        // SAFETY: the caller's promise.
        unsafe { structure::check(out, "out") }?;
        let Stat {
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
        // SAFETY: `check` has accepted `out`; the caller promises that it is writable.
        unsafe { structure::write(out, info) };
        Ok(())
    })
}

/// Removes the name of the segment. Whoever has it mapped keeps it, and its memory goes with the last of them.
///
/// Only if the name still stands for this segment: a new one that has come under the old name is left alone, and that
/// is SHMKIT_ERR_NOT_FOUND. An anonymous segment has no name: SHMKIT_OK. SHMKIT_ERR_INVALID: a named one that was
/// opened by its descriptor, so that its name is not known here.
///
/// # Safety
/// `segment` must be NULL or a handle of this library that no other thread is closing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_segment_unlink(segment: *mut shmkit_segment) -> shmkit_status {
    run(|| {
        // SAFETY: the caller's promise.
        unsafe { Handle::<Arc<Segment>>::borrow(segment.cast()) }?.unlink()
    })
}

/// Removes a name without opening the segment: what a clean-up needs.
///
/// `directory` NULL: SHMKIT_DIR, else /dev/shm. With `device` and `inode` of shmkit_segment_stat only that segment is
/// meant; 0 and 0: whatever stands there. `flags`: SHMKIT_INTERRUPTIBLE. SHMKIT_ERR_NOT_FOUND: nothing stands there, or
/// another segment. SHMKIT_ERR_WRONG_KIND: not a regular file; it is left alone. SHMKIT_ERR_PERMISSION.
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
        // SAFETY: the caller's promise.
        let name = named(unsafe { text(name) })?;
        // SAFETY: the caller's promise.
        let directory = unsafe { text(directory) };
        let only = (device != 0 || inode != 0).then_some((device, inode));
        segment::unlink(name, directory, only, flags & SHMKIT_INTERRUPTIBLE != 0)
    })
}

/// Calls `visit` with the name of each regular file in `directory`, in no particular order, and with `argument`.
///
/// They are what shmkit_segment_open might open, whoever made them. A nonzero answer of `visit` ends the list, which is
/// SHMKIT_OK too. The name lives until `visit` returns. `directory` NULL: SHMKIT_DIR, else /dev/shm.
/// SHMKIT_ERR_NOT_FOUND: no such directory.
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
        let visit = visit.ok_or(Error::Invalid("visit is NULL".into()))?;
        // SAFETY: the caller's promise.
        let directory = unsafe { text(directory) };
        // SAFETY: the caller promises that `visit` takes its argument; the name is a C string.
        segment::list(
            directory,
            |name| unsafe { visit(name.as_ptr(), argument) } == 0,
        )
    })
}

/// Removes the names of ephemeral segments in `directory` that nobody has mapped, and what killed processes have left
/// there half made; `removed` (NULL: not wanted) tells how many segments that were.
///
/// It never takes one from under somebody: who is opening one meanwhile finds it, or finds that the name is gone. Only
/// this user's own are looked at. `directory` NULL: SHMKIT_DIR, else /dev/shm. `flags`: SHMKIT_INTERRUPTIBLE.
/// SHMKIT_ERR_NOT_FOUND: no such directory. SHMKIT_ERR_INTERRUPTED: the rest is left.
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
        // SAFETY: the caller's promise.
        let removed = unsafe { super::optional(removed, "removed") }?;
        // SAFETY: the caller's promise.
        let directory = unsafe { text(directory) };
        let count = segment::gc(directory, flags & SHMKIT_INTERRUPTIBLE != 0)?;
        removed.map(|removed| removed.write(count));
        Ok(())
    })
}

/// Lets go of the segment: its memory is unmapped, its descriptor closed, its name stays. NULL is SHMKIT_OK.
///
/// All pointers into it end here. A second close is SHMKIT_ERR_CLOSED, as is any other use of the handle, until 1024
/// more handles have been closed; after that it is undefined, as after free.
///
/// # Safety
/// `segment` must be NULL or a handle of this library that no other thread is using.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shmkit_segment_close(segment: *mut shmkit_segment) -> shmkit_status {
    run(|| {
        // SAFETY: the caller's promise.
        unsafe { Handle::<Arc<Segment>>::close(segment.cast()) }
    })
}
