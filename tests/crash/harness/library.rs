//! Loads the release build of libshmkit.so, and finds its functions and its instructions.

use crate::suite::capi::barrier::{Barriers, Interrupts};
use crate::suite::capi::condition::Conditions;
use crate::suite::capi::event::Events;
use crate::suite::capi::lock::Locks;
use crate::suite::capi::once::Onces;
use crate::suite::capi::queue::Queues;
use crate::suite::capi::rwlock::RwLocks;
use crate::suite::capi::segment::{Options, Segments};
use crate::suite::capi::semaphore::Semaphores;
use crate::suite::capi::{Status, check};
use shmkit::capi::segment::{SHMKIT_SEGMENT_EPHEMERAL, SHMKIT_SEGMENT_MANAGED};
use std::ffi::{CStr, CString, c_char, c_void};
use std::fs;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Declares a table of functions whose names have a common prefix.
macro_rules! functions {
    ($table:ident: $($name:ident($($argument:ty),*);)*) => {
        /// Functions of the library.
        pub struct $table {
            $(pub(crate) $name: unsafe extern "C" fn($($argument),*) -> Status,)*
        }

        impl $table {
            /// Finds the functions whose names begin with `prefix`.
            pub fn find(handle: *mut c_void, prefix: &str) -> Result<$table, String> {
                Ok($table {
                    $($name: {
                        let name = format!("{prefix}{}", stringify!($name));
                        let address = $crate::suite::harness::library::symbol(handle, &name)?;
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

/// Returns the address of a function.
pub fn symbol(handle: *mut c_void, name: &str) -> Result<*mut c_void, String> {
    let text = CString::new(name).map_err(|error| error.to_string())?;
    // SAFETY: the handle is from dlopen and is never closed; the name ends with a NUL byte.
    let address = unsafe { libc::dlsym(handle, text.as_ptr()) };
    if address.is_null() {
        return Err(format!("the library has no function {name}"));
    }
    Ok(address)
}

/// Returns the name as a C string, or NULL.
pub fn pointer(name: Option<&CStr>) -> *const c_char {
    name.map_or(std::ptr::null(), CStr::as_ptr)
}

/// The library, loaded; it is never unloaded.
pub struct Library {
    pub(crate) segments: Segments,
    /// The functions of locks, and those of recursive locks.
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
    /// Loads it. `lazily`: its imports are resolved at their first call.
    pub fn load(path: &Path, lazily: bool) -> Result<Library, String> {
        let text = CString::new(path.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
        let mode = if lazily {
            libc::RTLD_LAZY
        } else {
            libc::RTLD_NOW
        };
        // SAFETY: the path ends with a NUL byte; loading the library runs no code but its own.
        let handle = unsafe { libc::dlopen(text.as_ptr(), mode) };
        if handle.is_null() {
            return Err(format!("cannot load {}", path.display()));
        }
        Ok(Library {
            segments: Segments::find(handle, "shmkit_segment_")?,
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

    /// Calls each function once, so that nothing is left to be done in a first call.
    pub fn warm_up(&self) -> Result<(), Status> {
        let name = c"warm-up";
        self.warm_up_segments(name)?;
        let ephemeral = Options {
            flags: SHMKIT_SEGMENT_MANAGED | SHMKIT_SEGMENT_EPHEMERAL,
            participants: 1,
            ..Options::default()
        };
        let segment = self.create(Some(name), 8192, ephemeral)?;
        self.warm_up_locks(segment)?;
        self.warm_up_events(segment)?;
        self.warm_up_semaphores(segment)?;
        self.warm_up_rwlocks(segment)?;
        self.warm_up_barriers(segment)?;
        self.warm_up_onces(segment)?;
        self.warm_up_queues(segment)?;
        check(self.close(segment))?;
        self.gc()?;
        self.warm_up_named_locks(name)?;
        self.warm_up_conditions()
    }
}

/// Returns the path of the library, or why it cannot be used.
pub fn path() -> Result<PathBuf, String> {
    let path = match std::env::var_os("SHMKIT_LIBRARY") {
        Some(path) => PathBuf::from(path),
        // CARGO_TARGET_TMPDIR is a folder of the target directory.
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

/// Returns whether a source file is newer than the library.
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

/// The address range of a file's instructions in this process.
#[derive(Clone, Debug)]
pub struct Text {
    /// The file.
    pub path: PathBuf,
    /// The addresses.
    pub range: Range<u64>,
    /// The address at which the file's own address 0 is mapped.
    pub base: u64,
}

impl Text {
    /// Finds a file that this process has loaded.
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
