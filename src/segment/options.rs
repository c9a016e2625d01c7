//! How a segment is made, opened and grown: what callers may ask for, and what contradicts itself.

use crate::error::{Error, Result};
use std::ffi::CString;

/// Permission bits of a new segment, unless asked otherwise: its owner's alone.
pub const DEFAULT_MODE: u32 = 0o600;

/// Whether a segment has a control area before its data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Form {
    /// A new one is plain; one that is opened is what its first bytes say.
    #[default]
    Either,
    /// None: byte 0 of the file is the user's, whatever it says.
    Plain,
    /// One: it can hold locks. Opening a plain one is `WrongKind`.
    Managed,
}

/// How to make or open a segment. `Options::default()` is what most want.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Bytes of address space to map: the segment can grow so far without moving. 0: its size in whole pages.
    pub capacity: u64,
    /// Permission bits of a new segment, exactly these whatever the umask; `None`: 0600. An anonymous one has no
    /// execute bits.
    pub mode: Option<u32>,
    /// Where it stands; `None`: `SHMKIT_DIR`, else `/dev/shm`.
    pub directory: Option<CString>,
    /// Map it for reading only; writing to it is then SIGSEGV.
    pub readonly: bool,
    /// Open what belongs to another user, or a memory file that is not sealed against shrinking.
    pub trust: bool,
    /// Do not compare the size with what file system, machine and cgroup have: let the kernel decide.
    pub no_space_check: bool,
    /// Do not set memory aside: each page gets memory when it is touched, and SIGBUS where there is none.
    pub sparse: bool,
    /// Map all pages now, so that no first touch waits for the kernel.
    pub prefault: bool,
    /// Ask for huge pages; `Segment::huge_bytes` tells what was got.
    pub huge: bool,
    /// Keep it in physical memory (mlock): `NoMemory` where RLIMIT_MEMLOCK does not allow it.
    pub lock: bool,
    /// Let the interrupt hook end long steps.
    pub interruptible: bool,
    /// Whether it has, or is to have, a control area.
    pub form: Form,
    /// How many processes may hold something in a new managed segment at a time, 1 to 4096; 0: 128.
    pub participants: u32,
    /// Remove the name of a new managed segment when nobody is attached any more: the last to close does it, or `gc`.
    pub ephemeral: bool,
}

impl Options {
    /// Whether all bytes get their memory, and more, when they are mapped.
    pub(crate) fn touches_all(&self) -> bool {
        self.prefault || self.huge || self.lock
    }
}

/// How to grow.
#[derive(Debug, Clone, Copy, Default)]
pub struct Growth {
    /// As `Options::no_space_check`.
    pub no_space_check: bool,
    /// As `Options::sparse`.
    pub sparse: bool,
    /// As `Options::interruptible`.
    pub interruptible: bool,
}

/// Refuses a size that no segment can have, and options that contradict it or each other.
pub(crate) fn check_size(size: u64, options: &Options) -> Result<()> {
    if size == 0 {
        return Err(Error::Invalid("a segment has at least one byte".into()));
    }
    if i64::try_from(size).is_err() {
        return Err(Error::TooLarge(
            format!("{size} bytes are more than a file can have").into(),
        ));
    }
    check_options(options)?;
    check_capacity(size, options)
}

/// Refuses options that contradict each other.
pub(crate) fn check_options(options: &Options) -> Result<()> {
    if options.form != Form::Managed && (options.participants != 0 || options.ephemeral) {
        return Err(Error::Invalid(
            "participants and ephemeral are for managed segments".into(),
        ));
    }
    check_sparse(options.sparse, options)
}

/// Refuses to leave memory to the first touch where the options touch everything at once.
pub(crate) fn check_sparse(sparse: bool, options: &Options) -> Result<()> {
    if sparse && options.touches_all() {
        return Err(Error::Invalid(
            "sparse leaves memory to the first touch, prefault, huge and lock do not".into(),
        ));
    }
    Ok(())
}

/// Refuses a capacity below the size.
pub(crate) fn check_capacity(size: u64, options: &Options) -> Result<()> {
    match options.capacity {
        0 => Ok(()),
        capacity if capacity < size => Err(Error::Invalid(
            format!("a capacity of {capacity} bytes is less than the size, {size}").into(),
        )),
        _ => Ok(()),
    }
}

/// How the file of an object is created and opened. `FileOptions::default()` suits most.
#[derive(Debug, Clone, Default)]
pub struct FileOptions {
    /// Permission bits of a new file; `None`: 0600.
    pub mode: Option<u32>,
    /// The directory of the file; `None`: `SHMKIT_DIR`, or `/dev/shm` where that is not set.
    pub directory: Option<CString>,
    /// Accept a file that belongs to another user.
    pub trust: bool,
    /// How many processes may use a new object at a time, 1 to 4096; 0: 128.
    pub participants: u32,
}

impl FileOptions {
    /// Returns the options of the segment that is this file.
    pub(crate) fn for_file(&self) -> Options {
        Options {
            mode: self.mode,
            directory: self.directory.clone(),
            trust: self.trust,
            participants: self.participants,
            form: Form::Managed,
            ..Options::default()
        }
    }
}
