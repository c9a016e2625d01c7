//! Helpers that all tests share: temporary names and folders, separate processes, other users, full file systems.
//!
//! | what a test does                                   | what it calls                                        |
//! |----------------------------------------------------|------------------------------------------------------|
//! | creates segments                                   | [`Name`], [`Folder`]: removed even when it fails     |
//! | could wait forever                                 | [`Watchdog`], or [`process::alone`], which has one   |
//! | forks, or changes what all of a process shares     | [`process::alone`]: a process with this test alone   |
//! | needs another process                              | [`process::fork`], inside `alone`                    |
//! | needs another user, a full file system, a cgroup   | [`kernel`], inside `alone`; reports a skip           |
//! | needs a container                                  | [`container`], inside `alone`; reports a skip        |
//! | passes a descriptor to another process             | [`pass`]                                             |
//! | sends signals, or sets the interrupt hook          | [`signal`]                                           |

#![allow(dead_code, reason = "each test binary uses a part of it")]

/// Returns the cause of a result that must be an error of this kind.
#[allow(unused_macros, reason = "each test binary uses a part of it")]
macro_rules! refused {
    ($reason:ident, $result:expr) => {
        match $result {
            Err(shmkit::error::Error::$reason(cause)) => cause,
            other => panic!("expected {}, got {other:?}", stringify!($reason)),
        }
    };
}

pub mod byte;
pub mod container;
pub mod kernel;
pub mod pass;
pub mod process;
pub mod signal;

use shmkit::raw::WaitOptions;
use shmkit::segment::{Form, Options, Segment};
use std::ffi::{CStr, CString};
use std::io::Write;
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// How long a test may take before it counts as hung.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Waits at most this many nanoseconds.
pub const fn within(ns: u64) -> WaitOptions {
    WaitOptions::after(Duration::from_nanos(ns))
}

/// Creates a managed segment without a name.
pub fn managed(size: u64) -> Arc<Segment> {
    let options = Options {
        form: Form::Managed,
        ..Options::default()
    };
    Arc::new(Segment::create(None, size, &options).unwrap())
}

/// Returns the word at this offset of the data.
pub fn word(segment: &Segment, offset: u64) -> u64 {
    let bytes = &segment.bytes().unwrap()[offset as usize..][..8];
    u64::from_ne_bytes(std::array::from_fn(|at| bytes[at].load(Ordering::Relaxed)))
}

/// Overwrites the word at this offset of the data.
pub fn set_word(segment: &Segment, offset: u64, word: u64) {
    let bytes = &segment.bytes().unwrap()[offset as usize..][..8];
    for (byte, value) in bytes.iter().zip(word.to_ne_bytes()) {
        byte.store(value, Ordering::Relaxed);
    }
}

/// Returns a text that differs at each call, in each test and each process.
pub fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let prefix = process::prefix().unwrap_or("shmkit-test".to_owned());
    format!("{prefix}-{}-{number}", std::process::id())
}

/// Removes the files that were left by a process whose names have this prefix.
fn remove_left(prefix: &str) {
    for folder in [
        standard_directory(),
        "/dev/shm".into(),
        std::env::temp_dir(),
    ] {
        for name in entries(&folder)
            .into_iter()
            .filter(|name| name.starts_with(prefix))
        {
            let path = folder.join(name);
            let _ = std::fs::remove_file(&path);
            let _ = std::fs::remove_dir_all(&path);
        }
    }
}

/// Returns the directory of segments whose options contain no directory.
pub fn standard_directory() -> PathBuf {
    let variable = std::env::var_os("SHMKIT_DIR").filter(|value| !value.is_empty());
    variable.map_or("/dev/shm".into(), PathBuf::from)
}

/// Returns the path as a C string.
pub fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("a path has no NUL byte")
}

/// A unique name for a segment; dropping it removes the file of that name in the standard directory.
pub struct Name {
    name: CString,
    path: PathBuf,
    owner: u32,
}

impl Name {
    /// Creates a unique name.
    pub fn new() -> Name {
        Name::of(&unique())
    }

    /// Uses a text as a name, with or without a leading slash.
    pub fn of(text: &str) -> Name {
        Name {
            name: CString::new(text).expect("a name has no NUL byte"),
            path: standard_directory().join(text.trim_start_matches('/')),
            owner: std::process::id(),
        }
    }

    /// Returns the path of its file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Deref for Name {
    type Target = CStr;
    fn deref(&self) -> &CStr {
        &self.name
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        if self.owner == std::process::id() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A new folder in /dev/shm; dropping it removes it with its contents.
pub struct Folder {
    path: PathBuf,
    owner: u32,
}

impl Folder {
    /// Creates a folder in memory.
    pub fn new() -> Folder {
        Folder::below(Path::new("/dev/shm"))
    }

    /// Creates a folder below another one.
    pub fn below(parent: &Path) -> Folder {
        let path = parent.join(unique());
        std::fs::create_dir(&path).expect("a folder can be made");
        let owner = std::process::id();
        Folder { path, owner }
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns its path for the options of a segment.
    pub fn directory(&self) -> Option<CString> {
        Some(c_path(&self.path))
    }

    /// Returns the names of its entries, with unfinished files.
    pub fn entries(&self) -> Vec<String> {
        entries(&self.path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.owner == std::process::id() {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Returns the sorted names of the entries of a folder.
pub fn entries(path: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(path)
        .expect("the folder can be read")
        .map(|entry| entry.expect("an entry").file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Aborts the process if it is not dropped in time, so that a hung test is reported.
pub struct Watchdog {
    _alive: mpsc::Sender<()>,
}

impl Watchdog {
    /// Starts to watch this test.
    pub fn start() -> Watchdog {
        let (alive, ended) = mpsc::channel::<()>();
        let test = std::thread::current().name().unwrap_or("?").to_owned();
        std::thread::spawn(move || {
            if let Err(mpsc::RecvTimeoutError::Timeout) = ended.recv_timeout(DEADLINE) {
                report(&format!("{test} hangs: the watchdog aborts it"));
                std::process::abort();
            }
        });
        Watchdog { _alive: alive }
    }
}

/// Writes a line to standard error, past the test runner, which would capture it.
pub fn report(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Reports that a test, or a part of it, was skipped, and why.
pub fn skip(why: &str) {
    let test = process::current_test().unwrap_or_else(|| {
        let thread = std::thread::current();
        thread.name().unwrap_or("?").to_owned()
    });
    report(&format!("{}{test}: {why}", process::SKIPPED));
}

/// Returns whether this process runs as root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
