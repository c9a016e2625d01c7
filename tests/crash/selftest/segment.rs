//! Victims that are broken on purpose: a harness that does not find them guilty proves nothing.

use crate::suite::harness::library::{Library, Options, Status};
use crate::suite::harness::operation::{Crime, Finding, Look, Operation, Run, Shape};
use crate::suite::harness::verify::{NAME, PAGE, WRITTEN};
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStringExt;

/// What is wrong with a victim.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// It makes a segment under its name, and then gives it size and memory: shm_open, ftruncate, fallocate.
    PublishesFirst,
    /// It makes a file longer before it has memory for that.
    ExtendsFirst,
    /// It makes a segment under another name of its own, which nobody will ever look for.
    LeavesDraft,
    /// It moves a segment out of the way before it removes it.
    LeavesRemains,
}

const SIZE: u64 = 3 * PAGE;
const NEW: u64 = 6 * PAGE;
const SHAPE: Shape = Shape {
    size: SIZE,
    options: Options {
        flags: 0,
        capacity: 0,
        mode: 0,
        participants: 0,
    },
};

impl Broken {
    /// Each of them.
    pub const ALL: [Broken; 4] = [
        Broken::PublishesFirst,
        Broken::ExtendsFirst,
        Broken::LeavesDraft,
        Broken::LeavesRemains,
    ];
}

fn path(name: &CStr) -> CString {
    let directory = std::env::var_os("SHMKIT_DIR").expect("the harness sets it");
    let bytes = [&directory.into_vec(), b"/".as_slice(), name.to_bytes()].concat();
    CString::new(bytes).expect("no NUL byte")
}

/// Says 0, or SHMKIT_ERR_SYSTEM.
fn all_good(results: &[i32]) -> Status {
    match results.iter().all(|&result| result >= 0) {
        true => 0,
        false => -24,
    }
}

fn create(path: &CStr) -> i32 {
    // SAFETY: the path ends with a NUL byte.
    unsafe {
        libc::open(
            path.as_ptr(),
            libc::O_CREAT | libc::O_EXCL | libc::O_RDWR,
            0o600,
        )
    }
}

fn set_size(file: i32, size: u64) -> i32 {
    // SAFETY: any number may be asked of the kernel.
    unsafe { libc::ftruncate(file, size as i64) }
}

fn reserve(file: i32, from: u64, to: u64) -> i32 {
    // SAFETY: as in `set_size`.
    unsafe { libc::fallocate(file, 0, from as i64, (to - from) as i64) }
}

fn rename(from: &CStr, to: &CStr) -> i32 {
    // SAFETY: both paths end with a NUL byte.
    unsafe { libc::rename(from.as_ptr(), to.as_ptr()) }
}

fn unlink(path: &CStr) -> i32 {
    // SAFETY: the path ends with a NUL byte.
    unsafe { libc::unlink(path.as_ptr()) }
}

impl Operation for Broken {
    fn name(&self) -> String {
        let name = match self {
            Broken::PublishesFirst => "a create that publishes first",
            Broken::ExtendsFirst => "a resize that extends first",
            Broken::LeavesDraft => "a create that leaves its draft",
            Broken::LeavesRemains => "an unlink that leaves remains",
        };
        format!("broken: {name}")
    }

    fn every(&self) -> usize {
        1
    }

    fn guilty_of(&self) -> Option<Crime> {
        Some(match self {
            Broken::PublishesFirst => Crime::HalfMade,
            Broken::ExtendsFirst => Crime::Sparse,
            Broken::LeavesDraft | Broken::LeavesRemains => Crime::LeftBehind,
        })
    }

    fn prepare<'a>(&'a self, shmkit: &'a Library) -> Run<'a> {
        let (here, elsewhere) = (path(NAME), path(c"elsewhere"));
        if matches!(self, Broken::ExtendsFirst | Broken::LeavesRemains) {
            let made = shmkit.create(Some(NAME), SIZE, Options::default());
            let base = shmkit.data(made.expect("it can be made"));
            let base = base.expect("it has an address");
            // SAFETY: the segment has SIZE bytes, and nobody else knows of it.
            unsafe { base.write_bytes(WRITTEN, SIZE as usize) };
        }
        match self {
            Broken::PublishesFirst => Box::new(move || {
                let file = create(&here);
                all_good(&[file, set_size(file, SIZE), reserve(file, 0, SIZE)])
            }),
            Broken::ExtendsFirst => {
                // SAFETY: the path ends with a NUL byte.
                let file = unsafe { libc::open(here.as_ptr(), libc::O_RDWR) };
                Box::new(move || all_good(&[set_size(file, NEW), reserve(file, SIZE, NEW)]))
            }
            Broken::LeavesDraft => Box::new(move || {
                let file = create(&elsewhere);
                all_good(&[file, reserve(file, 0, SIZE), rename(&elsewhere, &here)])
            }),
            Broken::LeavesRemains => {
                Box::new(move || all_good(&[rename(&here, &elsewhere), unlink(&elsewhere)]))
            }
        }
    }

    fn verify(&self, look: &Look, done: bool) -> Result<(), Finding> {
        match self {
            Broken::PublishesFirst | Broken::LeavesDraft => look.created(SHAPE, 0, done),
            Broken::ExtendsFirst => look.resized(SHAPE, NEW, done),
            Broken::LeavesRemains => look.unlinked(SHAPE, done),
        }
    }
}
