//! Creates, finds, names and resizes the files of segments.

use super::{refused, refused_because};
use crate::error::{Cause, Error, Result};
use nix::errno::Errno;
use nix::fcntl::{
    AT_FDCWD, AtFlags, FallocateFlags, FcntlArg, OFlag, RenameFlags, SealFlag, fcntl,
};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat};
use std::ffi::CStr;
use std::io::Write;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// The directory of segments, unless `SHMKIT_DIR` or the caller names another.
pub const DEFAULT_DIRECTORY: &CStr = c"/dev/shm";
/// Maximum length of a file name in bytes.
pub const NAME_MAX: usize = libc::NAME_MAX as usize;

/// What the kernel reports about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The file system that contains it.
    pub device: u64,
    /// Its number there. Device and inode together identify a file as long as it exists.
    pub inode: u64,
    /// Its length in bytes.
    pub size: u64,
    /// Bytes of memory that the file system has allocated for it.
    pub allocated: u64,
    /// Number of its names.
    pub links: u64,
    /// Its owner.
    pub user: u32,
    /// Its permission bits.
    pub mode: u32,
    /// Whether it is a regular file. Only a regular file can be a segment.
    pub regular: bool,
}

impl Facts {
    fn of(stat: FileStat) -> Facts {
        /// The unit of `st_blocks`, whatever the block size of the file system (stat(2)).
        const BLOCK: u64 = 512;
        Facts {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            allocated: u64::try_from(stat.st_blocks).unwrap_or(0) * BLOCK,
            #[allow(clippy::unnecessary_cast, reason = "st_nlink has 32 bits on aarch64")]
            links: stat.st_nlink as u64,
            user: stat.st_uid,
            mode: stat.st_mode & 0o7777,
            regular: stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits(),
        }
    }

    /// Returns whether this is the file `(device, inode)`.
    pub fn is(&self, device: u64, inode: u64) -> bool {
        self.device == device && self.inode == inode
    }
}

fn shown(path: &CStr) -> std::borrow::Cow<'_, str> {
    path.to_string_lossy()
}

/// Returns the access flags for a segment's file.
fn access(readonly: bool) -> OFlag {
    if readonly {
        OFlag::O_RDONLY
    } else {
        OFlag::O_RDWR
    }
}

/// Creates a file without a name in `directory`; `None` if the file system cannot do that.
pub fn make_unnamed(directory: &CStr, mode: u32) -> Result<Option<OwnedFd>> {
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    match nix::fcntl::open(directory, flags, Mode::from_bits_truncate(mode)) {
        Ok(file) => Ok(Some(file)),
        // EISDIR: the kernel does not know the flag; EOPNOTSUPP: the file system cannot do it (open(2)). EINVAL, ENOSYS,
        // EPERM: some file systems and sandboxes. If the directory is the reason, the next step reports it.
        Err(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::EINVAL | Errno::ENOSYS | Errno::EPERM) => {
            Ok(None)
        }
        Err(errno) => Err(refused(
            errno,
            &format!("cannot create a file in {}", shown(directory)),
        )),
    }
}

/// Creates a file at `path`. `Exists`: the name is taken.
pub fn make_named(path: &CStr, mode: u32) -> Result<OwnedFd> {
    let flags =
        OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    nix::fcntl::open(path, flags, Mode::from_bits_truncate(mode))
        .map_err(|errno| refused(errno, &format!("cannot create {}", shown(path))))
}

/// Creates a memory file, which never has a name and can be sealed.
///
/// If the program may not do that, it is a file in /dev/shm without a name, which cannot be sealed.
pub fn make_memfd() -> Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // Linux 6.3 warns unless the file is sealed against execution; older kernels refuse the flag (memfd_create(2)).
    match memfd_create(
        c"shmkit",
        flags | MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL),
    ) {
        Err(Errno::EINVAL) => memfd_create(c"shmkit", flags),
        other => other,
    }
    .or_else(|errno| {
        let instead = match errno {
            Errno::EPERM | Errno::EACCES | Errno::ENOSYS => {
                make_unnamed(DEFAULT_DIRECTORY, 0o600).ok().flatten()
            }
            _ => None,
        };
        instead.ok_or_else(|| refused(errno, "cannot create a memory file (memfd_create)"))
    })
}

/// Seals a memory file against shrinking, and against changes of the seals.
pub fn seal(file: &OwnedFd) -> Result<()> {
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
    match fcntl(file, FcntlArg::F_ADD_SEALS(seals)) {
        Ok(_) => Ok(()),
        // Not a memory file, but one of tmpfs or of another file system: see `make_memfd`.
        Err(Errno::EPERM | Errno::EINVAL) => Ok(()),
        Err(errno) => Err(refused(errno, "cannot seal the memory file")),
    }
}

/// Returns whether this file is sealed against shrinking.
pub fn is_sealed(file: &OwnedFd) -> bool {
    match fcntl(file, FcntlArg::F_GET_SEALS) {
        Ok(bits) => SealFlag::from_bits_truncate(bits).contains(SealFlag::F_SEAL_SHRINK),
        Err(_) => false,
    }
}

fn open_at(path: &CStr, access: OFlag) -> Result<OwnedFd> {
    // O_NONBLOCK: opening a FIFO of this name must not block. O_NOFOLLOW: a symbolic link fails with ELOOP.
    let flags = access | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    nix::fcntl::open(path, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::ELOOP => Error::Untrusted(Cause {
            text: format!(
                "{} is a symbolic link; use the name of the file itself",
                shown(path)
            )
            .into(),
            errno: errno as i32,
        }),
        Errno::ENOENT => refused_because(
            errno,
            format!(
                "{} does not exist; create it, or check the name and the directory",
                shown(path)
            ),
        ),
        _ => refused(errno, &format!("cannot open {}", shown(path))),
    })
}

/// Opens the file at `path`, but never a symbolic link.
pub fn open(path: &CStr, readonly: bool) -> Result<OwnedFd> {
    open_at(path, access(readonly))
}

/// Opens `path` to lock a byte of it, with the access flags that the lock needs.
pub(super) fn open_with(path: &CStr, access: OFlag) -> Result<OwnedFd> {
    open_at(path, access)
}

/// Calls `with` with the path of the file behind `fd` in /proc; allocates nothing.
fn with_proc_path<T>(fd: BorrowedFd<'_>, with: impl FnOnce(&CStr) -> T) -> T {
    /// Room for the prefix, the digits of any descriptor and at least one NUL.
    const ROOM: usize = 32;
    let mut room = [0; ROOM];
    // It cannot fail: the longest number has ten digits.
    let _ = write!(&mut room[..ROOM - 1], "/proc/self/fd/{}", fd.as_raw_fd());
    with(CStr::from_bytes_until_nul(&room).unwrap_or_default())
}

/// Opens the file behind `fd` again: another open file description of the same file.
pub(super) fn reopen(fd: BorrowedFd<'_>, access: OFlag) -> Result<OwnedFd> {
    with_proc_path(fd, |path| {
        nix::fcntl::open(path, access | OFlag::O_CLOEXEC, Mode::empty())
    })
    .map_err(|errno| {
        refused(
            errno,
            "cannot open the segment's file again through /proc/self/fd",
        )
    })
}

/// Opens the file behind `fd` as `reopen` does, for a number that may be closed or belong to another file.
pub(super) fn reopen_number(fd: i32, access: OFlag) -> std::result::Result<OwnedFd, Errno> {
    // SAFETY: the number is only printed, never used as a descriptor.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    with_proc_path(borrowed, |path| {
        nix::fcntl::open(
            path,
            access | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK,
            Mode::empty(),
        )
    })
}

/// Returns another descriptor of the file behind the number `fd`, and whether it is writable.
pub fn duplicate(fd: i32) -> Result<(OwnedFd, bool)> {
    // The number comes from a caller, so the kernel checks it first.
    // SAFETY: F_DUPFD_CLOEXEC accepts any number, and fails with EBADF for one that is not open.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) };
    let copy = Errno::result(copy).map_err(|errno| match errno {
        Errno::EBADF => Error::Invalid(Cause {
            text: format!("{fd} is not an open file descriptor; pass an open one").into(),
            errno: errno as i32,
        }),
        _ => refused(errno, "cannot duplicate the file descriptor"),
    })?;
    // SAFETY: the kernel has just created this descriptor, and no other code knows it.
    let copy = unsafe { OwnedFd::from_raw_fd(copy) };
    let flags = fcntl(&copy, FcntlArg::F_GETFL)
        .map_err(|errno| refused(errno, "cannot read the descriptor's flags"))?;
    let flags = OFlag::from_bits_truncate(flags);
    if flags.contains(OFlag::O_PATH) || flags & OFlag::O_ACCMODE == OFlag::O_WRONLY {
        return Err(Error::Permission(
            format!("file descriptor {fd} must be open for reading").into(),
        ));
    }
    Ok((copy, flags & OFlag::O_ACCMODE == OFlag::O_RDWR))
}

/// Returns what the kernel reports about an open file.
pub fn facts(file: impl AsFd) -> Result<Facts> {
    fstat(file)
        .map(Facts::of)
        .map_err(|errno| refused(errno, "cannot query the segment's file"))
}

/// Returns whether the number `fd` belongs to the file `(device, inode)` now.
pub fn is_file(fd: i32, device: u64, inode: u64) -> bool {
    if fd < 0 {
        return false;
    }
    // SAFETY: fstat accepts any number, and fails with EBADF for one that is not open; the borrow ends with the call.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    fstat(borrowed).is_ok_and(|stat| Facts::of(stat).is(device, inode))
}

/// A descriptor that is closed at its drop only if its number still belongs to the same file (D-020).
///
/// A process may close all descriptors from some number on (`closefrom`), and the number may then be another file's.
pub struct CheckedFd {
    file: ManuallyDrop<OwnedFd>,
    /// The file system of the file.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
}

impl CheckedFd {
    /// Wraps the descriptor of the file that these facts describe.
    pub fn new(file: OwnedFd, facts: &Facts) -> CheckedFd {
        CheckedFd {
            file: ManuallyDrop::new(file),
            device: facts.device,
            inode: facts.inode,
        }
    }

    /// Returns what the kernel reports about the file. `LivenessUnknown`: the number is closed, or belongs to another
    /// file.
    pub fn facts(&self) -> Result<Facts> {
        facts(&*self.file)
            .ok()
            .filter(|facts| facts.is(self.device, self.inode))
            .ok_or_else(|| {
                Error::LivenessUnknown(
                    "the segment's descriptor was closed by other code; reopen the segment".into(),
                )
            })
    }
}

impl std::ops::Deref for CheckedFd {
    type Target = OwnedFd;

    fn deref(&self) -> &OwnedFd {
        &self.file
    }
}

impl Drop for CheckedFd {
    fn drop(&mut self) {
        close_if(self.file.as_raw_fd(), self.device, self.inode);
    }
}

/// Closes a number that this process has opened, if it still belongs to the file `(device, inode)`.
pub fn close_if(fd: i32, device: u64, inode: u64) {
    if is_file(fd, device, inode) {
        // SAFETY: the number is open, and its owner calls this function last. The same number in other hands would
        // belong to another file.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
}

/// Opens the file `(device, inode)` again for reading and writing, through one of these numbers or at `path`.
///
/// `LivenessUnknown`: none of them leads to the file any more.
pub fn find_again(
    numbers: &[i32],
    path: Option<&CStr>,
    device: u64,
    inode: u64,
) -> Result<OwnedFd> {
    let mut why = None;
    let by_number = numbers
        .iter()
        // A number of another file is not opened: its errors would not be those of our file.
        .filter(|number| is_file(**number, device, inode))
        .map(|number| reopen_number(*number, OFlag::O_RDWR));
    let by_path = path.map(|path| {
        let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        nix::fcntl::open(path, flags, Mode::empty())
    });
    for opened in by_number.chain(by_path) {
        match opened {
            Ok(file) if facts(&file).is_ok_and(|facts| facts.is(device, inode)) => return Ok(file),
            Ok(_) => {}
            Err(errno) => why = Some(errno),
        }
    }
    match why {
        Some(Errno::ENOENT | Errno::EBADF | Errno::ENXIO | Errno::ELOOP) | None => {
            Err(Error::LivenessUnknown(
                "no descriptor and no name leads to the segment's file any more; reopen the segment".into(),
            ))
        }
        Some(errno) => Err(refused(errno, "cannot open the segment's file again")),
    }
}

/// Reads a file from `offset` until its end or until `bytes` is full, and returns the number of bytes.
pub fn read(file: impl AsFd, offset: u64, bytes: &mut [u8]) -> Result<usize> {
    nix::sys::uio::pread(file, bytes, offset.try_into().unwrap_or(i64::MAX))
        .map_err(|errno| refused(errno, "cannot read the segment"))
}

/// Writes the first bytes of a file.
pub fn write_start(file: &OwnedFd, bytes: &[u8]) -> Result<()> {
    let written = nix::sys::uio::pwrite(file, bytes, 0);
    match written {
        Ok(count) if count == bytes.len() => Ok(()),
        Ok(_) => Err(Error::NoSpace(
            "cannot write the header of the segment: the write was short; free memory, and retry"
                .into(),
        )),
        Err(errno) => Err(refused(errno, "cannot write the header of the segment")),
    }
}

/// Returns what the kernel reports about the file at `path`; it does not follow a symbolic link.
pub fn facts_at(path: &CStr) -> Result<Facts> {
    fstatat(AT_FDCWD, path, AtFlags::AT_SYMLINK_NOFOLLOW)
        .map(Facts::of)
        .map_err(|errno| match errno {
            Errno::ENOENT => refused_because(
                errno,
                format!(
                    "{} does not exist; check the name and the directory",
                    shown(path)
                ),
            ),
            _ => refused(errno, &format!("cannot query {}", shown(path))),
        })
}

/// Sets the permission bits of the file, whatever the umask.
pub fn set_mode(file: &OwnedFd, mode: u32) -> Result<()> {
    fchmod(file, Mode::from_bits_truncate(mode))
        .map_err(|errno| refused(errno, "cannot set the file's mode"))
}

/// The error of a file that could not be named `path`.
fn unnamable(errno: Errno, path: &CStr) -> Error {
    match errno {
        Errno::EEXIST => refused_because(
            errno,
            format!(
                "{} exists already; open it, or choose another name",
                shown(path)
            ),
        ),
        _ => refused(errno, &format!("cannot name the segment {}", shown(path))),
    }
}

/// Names the unnamed `file`, in one step. `Exists`: the name is taken.
pub fn publish(file: &OwnedFd, path: &CStr) -> Result<()> {
    /// Set once the direct way failed here and the other one succeeded.
    static THROUGH_PROC: AtomicBool = AtomicBool::new(false);
    let direct = || nix::unistd::linkat(file, c"", AT_FDCWD, path, AtFlags::AT_EMPTY_PATH);
    let through_proc = || {
        with_proc_path(file.as_fd(), |from| {
            nix::unistd::linkat(AT_FDCWD, from, AT_FDCWD, path, AtFlags::AT_SYMLINK_FOLLOW)
        })
    };
    let linked = if THROUGH_PROC.load(Ordering::Relaxed) {
        through_proc()
    } else {
        match direct() {
            // Before Linux 6.10 only for privileged users (open(2)). The way through /proc is slower, but open to all.
            Err(Errno::ENOENT) => {
                through_proc().inspect(|()| THROUGH_PROC.store(true, Ordering::Relaxed))
            }
            other => other,
        }
    };
    linked.map_err(|errno| unnamable(errno, path))
}

/// Renames the file `from` to `to`, in one step. `Exists`: the name is taken.
pub fn rename(from: &CStr, to: &CStr) -> Result<()> {
    let renamed =
        match nix::fcntl::renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
            // EINVAL: the file system does not know the flag. A second name and then an unlink have the same effect.
            Err(Errno::EINVAL) => {
                nix::unistd::linkat(AT_FDCWD, from, AT_FDCWD, to, AtFlags::empty()).inspect(|()| {
                    let _ = unlink(from);
                })
            }
            other => other,
        };
    renamed.map_err(|errno| unnamable(errno, to))
}

/// Removes the name `path`, whatever file it has.
pub fn unlink(path: &CStr) -> Result<()> {
    nix::unistd::unlink(path)
        .map_err(|errno| refused(errno, &format!("cannot unlink {}", shown(path))))
}

/// Sets the length of the file; new bytes read as zeros, and memory beyond the new end is freed.
pub fn set_size(file: &OwnedFd, size: u64) -> Result<()> {
    let size = offset(size)?;
    loop {
        match nix::unistd::ftruncate(file, size) {
            Err(Errno::EINTR) => {}
            other => {
                return other.map_err(|errno| refused(errno, "cannot set the size of the segment"));
            }
        }
    }
}

/// The result of a reservation.
pub enum Reserved {
    /// The memory is reserved.
    Done,
    /// A signal came first, and nothing was reserved.
    Signal,
}

/// Reserves memory for `length` bytes of the file from `from` on; with `keep` the length of the file does not change.
pub fn reserve(file: &OwnedFd, from: u64, length: u64, keep: bool) -> Result<Reserved> {
    let flags = if keep {
        FallocateFlags::FALLOC_FL_KEEP_SIZE
    } else {
        FallocateFlags::empty()
    };
    let (start, bytes) = (offset(from)?, offset(length)?);
    let reserved = match nix::fcntl::fallocate(file, flags, start, bytes) {
        // For a file system that cannot do it, the C library writes one byte per block, and sets the length.
        Err(Errno::EOPNOTSUPP) => nix::fcntl::posix_fallocate(file, start, bytes),
        other => other,
    };
    match reserved {
        Ok(()) => Ok(Reserved::Done),
        Err(Errno::EINTR) => Ok(Reserved::Signal),
        Err(errno) => Err(refused(
            errno,
            &format!("cannot reserve {length} bytes of memory"),
        )),
    }
}

/// Frees the memory of `length` bytes of the file from `from` on. They then read as zeros; the length stays the same.
///
/// If the file system cannot do that, they keep their memory.
pub fn free_pages(file: &OwnedFd, from: u64, length: u64) -> Result<()> {
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    match nix::fcntl::fallocate(file, flags, offset(from)?, offset(length)?) {
        // After a signal some memory may be freed. The rest stays allocated until the next call.
        Ok(()) | Err(Errno::EINTR | Errno::EOPNOTSUPP) => Ok(()),
        Err(errno) => Err(refused(errno, "cannot free memory of the segment")),
    }
}

fn offset(bytes: u64) -> Result<i64> {
    i64::try_from(bytes).map_err(|_| {
        Error::TooLarge(
            format!("{bytes} bytes are more than a file can have; reduce the size").into(),
        )
    })
}

/// Calls `visit` with the name of each regular file in `directory` until it returns false.
pub fn list(directory: &CStr, mut visit: impl FnMut(&CStr) -> bool) -> Result<()> {
    let refused_here = |errno| refused(errno, &format!("cannot list {}", shown(directory)));
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let opened = nix::fcntl::open(directory, flags, Mode::empty()).map_err(refused_here)?;
    let at = opened
        .try_clone()
        .map_err(|error| refused_here(Errno::from_raw(error.raw_os_error().unwrap_or(0))))?;
    let mut entries = nix::dir::Dir::from_fd(opened).map_err(refused_here)?;
    for entry in entries.iter() {
        let entry = entry.map_err(refused_here)?;
        let regular = match entry.file_type() {
            Some(kind) => kind == nix::dir::Type::File,
            // Some file systems do not report the type in the listing.
            None => fstatat(&at, entry.file_name(), AtFlags::AT_SYMLINK_NOFOLLOW)
                .is_ok_and(|s| Facts::of(s).regular),
        };
        if regular && !visit(entry.file_name()) {
            break;
        }
    }
    Ok(())
}
