//! The options with which a segment is created, opened and grown, and the checks for contradictions.

use crate::error::{Error, Result};
use std::ffi::CString;

/// Permission bits of a new segment if the caller gives none: for its owner alone.
pub const DEFAULT_MODE: u32 = 0o600;

/// Permission bits of a new anonymous segment if the caller gives none. No other user has a path to a memory file. A
/// process that gives up its privileges opens it again through /proc, and needs these bits (D-081).
pub const DEFAULT_ANONYMOUS_MODE: u32 = 0o666;

/// Whether a segment has a control area before its data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Form {
    /// Create a plain segment; open either form, as the first bytes of the file show.
    #[default]
    Either,
    /// Plain: all bytes of the file are the user's, even if they look like a header.
    Plain,
    /// Managed: it can contain locks. Opening a plain segment fails with `WrongKind`.
    Managed,
}

/// How to create or open a segment. `Options::default()` suits most callers.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Address space to map in bytes: the segment can grow to this size without moving. 0: its size in whole pages.
    pub capacity: u64,
    /// Permission bits of a new segment, exactly these whatever the umask (D-007); `None`: 0600, or 0666 if it is
    /// anonymous. An anonymous segment has no execute bits.
    pub mode: Option<u32>,
    /// The directory of the file; `None`: `SHMKIT_DIR`, or `/dev/shm` if that is not set.
    pub directory: Option<CString>,
    /// Map it read-only; a store into it is then SIGSEGV.
    /// Map it for reading only; writing to it is then SIGSEGV.
    pub readonly: bool,
    /// Open a file of another user, or a memory file that is not sealed against shrinking.
    pub trust: bool,
    /// Do not compare the size with the free memory of file system, machine and cgroup: the kernel decides.
    pub no_space_check: bool,
    /// Reserve no memory: each page gets memory at its first touch, which is SIGBUS if there is none.
    pub sparse: bool,
    /// Map all pages now, so that no first touch enters the kernel.
    pub prefault: bool,
    /// Ask for huge pages; `Segment::huge_bytes` returns the result.
    pub huge: bool,
    /// Lock it in physical memory (mlock). `NoMemory`: RLIMIT_MEMLOCK does not allow it.
    pub lock: bool,
    /// Let the interrupt hook end long steps.
    pub interruptible: bool,
    /// Whether the segment has a control area.
    pub form: Form,
    /// How many processes can use the locks of a new managed segment at a time, 1 to 4096; 0: 128.
    pub participants: u32,
    /// Remove the name of a new managed segment when no process is attached: the last one to close removes it, or `gc`.
    pub ephemeral: bool,
}

impl Options {
    /// Returns whether mapping the segment also touches all of its bytes.
    pub(crate) fn touches_all(&self) -> bool {
        self.prefault || self.huge || self.lock
    }
}

/// How to grow a segment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Growth {
    /// As `Options::no_space_check`.
    pub no_space_check: bool,
    /// As `Options::sparse`.
    pub sparse: bool,
    /// As `Options::interruptible`.
    pub interruptible: bool,
}

/// Refuses a size that no segment can have, and options that contradict the size or each other.
pub(crate) fn check_size(size: u64, options: &Options) -> Result<()> {
    if size == 0 {
        return Err(Error::Invalid("the size must be at least one byte".into()));
    }
    if i64::try_from(size).is_err() {
        return Err(Error::TooLarge(
            format!("{size} bytes are more than a file can have; reduce the size").into(),
        ));
    }
    check_options(options)?;
    check_capacity(size, options)
}

/// Refuses options that contradict each other.
pub(crate) fn check_options(options: &Options) -> Result<()> {
    if options.form != Form::Managed && (options.participants != 0 || options.ephemeral) {
        return Err(Error::Invalid(
            "the segment must be managed to have the options participants or ephemeral".into(),
        ));
    }
    check_sparse(options.sparse, options)
}

/// Refuses the sparse option together with options that touch all bytes.
pub(crate) fn check_sparse(sparse: bool, options: &Options) -> Result<()> {
    if sparse && options.touches_all() {
        return Err(Error::Invalid(
            "sparse must not be combined with prefault, huge or lock, which touch all memory"
                .into(),
        ));
    }
    Ok(())
}

/// Refuses a capacity below the size.
pub(crate) fn check_capacity(size: u64, options: &Options) -> Result<()> {
    match options.capacity {
        0 => Ok(()),
        capacity if capacity < size => Err(Error::Invalid(
            format!("the capacity must be at least the size, {size} bytes, not {capacity}").into(),
        )),
        _ => Ok(()),
    }
}

/// How the file of an object is created and opened. `FileOptions::default()` suits most callers.
#[derive(Debug, Clone, Default)]
pub struct FileOptions {
    /// Permission bits of a new file; `None`: 0600.
    pub mode: Option<u32>,
    /// The directory of the file; `None`: `SHMKIT_DIR`, or `/dev/shm` if that is not set.
    pub directory: Option<CString>,
    /// Accept a file that belongs to another user.
    pub trust: bool,
    /// How many processes may use a new object at a time, 1 to 4096; 0: 128.
    pub participants: u32,
}

impl FileOptions {
    /// Returns the options of the segment in this file.
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
