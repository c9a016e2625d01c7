//! Loads the release-built libshmkit.so as a C program would, and calls it through its C ABI.

use crate::suite::capi::condition::Conditions;
use crate::suite::capi::lock::Locks;
use crate::suite::capi::queue::Queues;
use crate::suite::core::barrier::{Barriers, Interrupts};
use crate::suite::core::event::Events;
use crate::suite::core::once::Onces;
use crate::suite::core::rwlock::RwLocks;
use crate::suite::core::semaphore::Semaphores;
use shmkit::capi::lock::shmkit_lock;
use shmkit::capi::segment::{shmkit_segment, shmkit_segment_options};
use std::ffi::{CStr, CString, c_char, c_void};
use std::fs;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A `shmkit_status`.
pub type Status = i32;

/// What the harness asks for when it makes or opens a segment.
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
            // SHMKIT_DIR says where.
            directory: std::ptr::null(),
        }
    }
}

/// An open segment of the library.
#[derive(Clone, Copy)]
pub struct Segment(pub(crate) *mut shmkit_segment);

/// Declares functions whose names begin alike, and how they are found.
macro_rules! functions {
    ($table:ident: $($name:ident($($argument:ty),*);)*) => {
        /// Functions of the library.
        pub struct $table {
            $(pub(crate) $name: unsafe extern "C" fn($($argument),*) -> Status,)*
        }

        impl $table {
            /// Finds them under names that begin with `prefix`.
            pub fn find(handle: *mut c_void, prefix: &str) -> Result<$table, String> {
                Ok($table {
                    $($name: {
                        let name = format!("{prefix}{}", stringify!($name));
                        let address = crate::suite::harness::library::symbol(handle, &name)?;
                        // SAFETY: the symbol is a C function of these arguments, as include/shmkit.h declares it.
                        unsafe {
                            std::mem::transmute::<
                                *mut c_void,
                                unsafe extern "C" fn($($argument),*) -> Status,
                            >(address)
                        }
                    },)*
                })
            }
        }
    };
}

pub(crate) use functions;

functions! {
    Functions:
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

/// Finds one function.
pub fn symbol(handle: *mut c_void, name: &str) -> Result<*mut c_void, String> {
    let text = CString::new(name).map_err(|error| error.to_string())?;
    // SAFETY: the handle came from dlopen and is never closed; the name ends with a NUL byte.
    let address = unsafe { libc::dlsym(handle, text.as_ptr()) };
    if address.is_null() {
        return Err(format!("the library has no function {name}"));
    }
    Ok(address)
}

/// Returns the name as C has it.
pub fn pointer(name: Option<&CStr>) -> *const c_char {
    name.map_or(std::ptr::null(), CStr::as_ptr)
}

/// The library, loaded; it is never unloaded.
pub struct Library {
    pub(crate) functions: Functions,
    /// Those of locks, and those of recursive locks.
    pub(crate) locks: [Locks; 2],
    pub(crate) events: Events,
    pub(crate) rwlocks: RwLocks,
    pub(crate) barriers: Barriers,
    pub(crate) interrupts: Interrupts,
    pub(crate) onces: Onces,
    pub(crate) conditions: Conditions,
    pub(crate) semaphores: Semaphores,
    pub(crate) queues: Queues,
}

impl Library {
    /// Loads it. `lazily`: the functions that it imports are found when they are first called.
    pub fn load(path: &Path, lazily: bool) -> Result<Library, String> {
        let text = CString::new(path.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
        let mode = if lazily {
            libc::RTLD_LAZY
        } else {
            libc::RTLD_NOW
        };
        // SAFETY: the path ends with a NUL byte; what the library does when it is loaded is ours.
        let handle = unsafe { libc::dlopen(text.as_ptr(), mode) };
        if handle.is_null() {
            return Err(format!("cannot load {}", path.display()));
        }
        Ok(Library {
            functions: Functions::find(handle, "shmkit_segment_")?,
            locks: [
                Locks::find(handle, "shmkit_lock_")?,
                Locks::find(handle, "shmkit_rlock_")?,
            ],
            events: Events::find(handle, "shmkit_event_")?,
            rwlocks: RwLocks::find(handle, "shmkit_rwlock_")?,
            barriers: Barriers::find(handle, "shmkit_barrier_")?,
            interrupts: Interrupts::find(handle, "shmkit_")?,
            onces: Onces::find(handle, "shmkit_once_")?,
            conditions: Conditions::find(handle, "shmkit_condition_")?,
            semaphores: Semaphores::find(handle, "shmkit_semaphore_")?,
            queues: Queues::find(handle, "shmkit_queue_")?,
        })
    }

    /// Makes a segment.
    pub fn create(&self, name: Option<&CStr>, size: u64, with: Options) -> Result<Segment, Status> {
        let mut out = std::ptr::null_mut();
        // SAFETY: the name is NULL or ends with a NUL byte, options and out live through the call.
        let status =
            unsafe { (self.functions.create)(pointer(name), size, &with.c(), &raw mut out) };
        self.made(status, out)
    }

    /// Opens a segment of at least `size` bytes.
    pub fn open(&self, name: &CStr, size: u64, with: Options) -> Result<Segment, Status> {
        let mut out = std::ptr::null_mut();
        // SAFETY: as in `create`.
        let status = unsafe { (self.functions.open)(name.as_ptr(), size, &with.c(), &raw mut out) };
        self.made(status, out)
    }

    /// Opens a segment, or makes it.
    pub fn open_or_create(&self, name: &CStr, size: u64, with: Options) -> Result<Segment, Status> {
        let mut out = std::ptr::null_mut();
        // SAFETY: as in `create`.
        let status = unsafe {
            (self.functions.open_or_create)(name.as_ptr(), size, &with.c(), &raw mut out)
        };
        self.made(status, out)
    }

    fn made(&self, status: Status, out: *mut shmkit_segment) -> Result<Segment, Status> {
        match status {
            0 => Ok(Segment(out)),
            _ => Err(status),
        }
    }

    /// Lets a segment grow.
    pub fn resize(&self, segment: Segment, size: u64, flags: u32) -> Status {
        // SAFETY: a Segment is a handle of the library, and nobody closes it meanwhile: there is one thread, or (where
        // there are more) they only resize.
        unsafe { (self.functions.resize)(segment.0, size, flags) }
    }

    /// Returns the address of byte 0.
    pub fn data(&self, segment: Segment) -> Result<*mut u8, Status> {
        let mut out = std::ptr::null_mut();
        // SAFETY: as in `resize`; out lives through the call.
        match unsafe { (self.functions.data)(segment.0, &raw mut out) } {
            0 => Ok(out.cast()),
            status => Err(status),
        }
    }

    /// Returns how many bytes have memory.
    pub fn size(&self, segment: Segment) -> Result<u64, Status> {
        let mut out = 0;
        // SAFETY: as in `data`.
        match unsafe { (self.functions.size)(segment.0, &raw mut out) } {
            0 => Ok(out),
            status => Err(status),
        }
    }

    /// Removes the name of an open segment.
    pub fn unlink(&self, segment: Segment) -> Status {
        // SAFETY: as in `resize`.
        unsafe { (self.functions.unlink)(segment.0) }
    }

    /// Removes a name.
    pub fn unlink_name(&self, name: &CStr) -> Status {
        // SAFETY: the name ends with a NUL byte; the directory is NULL.
        unsafe { (self.functions.unlink_name)(name.as_ptr(), std::ptr::null(), 0, 0, 0) }
    }

    /// Removes the ephemeral segments that nobody has mapped; returns how many it were.
    pub fn gc(&self) -> Result<u64, Status> {
        let mut out = 0;
        // SAFETY: the directory is NULL; out lives through the call.
        match unsafe { (self.functions.gc)(std::ptr::null(), 0, &raw mut out) } {
            0 => Ok(out),
            status => Err(status),
        }
    }

    /// Lets go of a segment.
    pub fn close(&self, segment: Segment) -> Status {
        // SAFETY: as in `resize`; each handle is closed once.
        unsafe { (self.functions.close)(segment.0) }
    }

    /// Calls everything once, so that what happens only at the first call has happened.
    pub fn warm_up(&self) -> Result<(), Status> {
        // Above 1 MiB the library compares with what the machine has.
        const SIZE: u64 = (1 << 20) + 1;
        let growing = Options {
            capacity: 4 * SIZE,
            ..Options::default()
        };
        let good = |status| if status == 0 { Ok(()) } else { Err(status) };
        let name = c"warm-up";
        let _ = self.open(name, 0, growing);
        for by_handle in [true, false] {
            let made = self.open_or_create(name, SIZE, growing)?;
            let found = self.open_or_create(name, SIZE, growing)?;
            good(self.resize(found, 3 * SIZE, 0))?;
            good(if by_handle {
                self.unlink(found)
            } else {
                self.unlink_name(name)
            })?;
            good(self.close(found))?;
            good(self.close(made))?;
        }
        good(self.close(self.create(None, SIZE, Options::default())?))?;
        self.warm_up_locks()?;
        self.warm_up_conditions()
    }
}

/// Returns where the library is, or why it is not.
pub fn path() -> Result<PathBuf, String> {
    let path = match std::env::var_os("SHMKIT_LIBRARY") {
        Some(path) => PathBuf::from(path),
        // cargo's tmp stands in the target directory, wherever that is.
        None => Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("release/libshmkit.so"),
    };
    fs::canonicalize(&path).map_err(|error| {
        format!(
            "{}: {error}. The kill points are those of the release build: run \"make build\", or name the library in \
             SHMKIT_LIBRARY.",
            path.display()
        )
    })
}

/// Says whether a source of the library is younger than the library.
pub fn is_stale(library: &Path) -> bool {
    fn newest(folder: &Path) -> Option<SystemTime> {
        let entries = fs::read_dir(folder).ok()?;
        let times = entries.flatten().filter_map(|entry| {
            let path = entry.path();
            if path.is_dir() {
                newest(&path)
            } else {
                entry.metadata().ok()?.modified().ok()
            }
        });
        times.max()
    }
    let built = fs::metadata(library)
        .and_then(|metadata| metadata.modified())
        .ok();
    let sources = newest(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    sources > built
}

/// Where the instructions of a file lie in this process, and what is to be taken off to find them in the file.
#[derive(Clone, Debug)]
pub struct Text {
    /// The file.
    pub path: PathBuf,
    /// Addresses of instructions.
    pub range: Range<u64>,
    /// The address at which the file's own address 0 is mapped.
    pub base: u64,
}

impl Text {
    /// Finds a file that is loaded here.
    pub fn of(path: &Path) -> Result<Text, String> {
        let maps = fs::read_to_string("/proc/self/maps").map_err(|error| error.to_string())?;
        let (mut base, mut range) = (None, None);
        for line in maps
            .lines()
            .filter(|line| line.ends_with(&format!(" {}", path.display())))
        {
            let mut words = line.split_whitespace();
            let (span, access) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
            let (from, to) = span.split_once('-').unwrap_or(("", ""));
            let number =
                |digits| u64::from_str_radix(digits, 16).map_err(|error| error.to_string());
            let (from, to) = (number(from)?, number(to)?);
            base = base.or(Some(from));
            if access.contains('x') {
                range = range.or(Some(from..to));
            }
        }
        match (base, range) {
            (Some(base), Some(range)) => Ok(Text {
                path: path.to_owned(),
                range,
                base,
            }),
            _ => Err(format!("{} is not mapped here", path.display())),
        }
    }
}
