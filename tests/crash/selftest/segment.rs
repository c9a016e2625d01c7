//! Segments that a victim creates, grows or removes in the wrong way: each violation must be detected.

use crate::suite::capi::segment::Options;
use crate::suite::capi::{SYSTEM, Status};
use crate::suite::harness::fixture::{NAME, PAGE};
use crate::suite::harness::library::Library;
use crate::suite::harness::operation::{Failure, Operation, Run, Verifier, Violation};
use crate::suite::harness::verify::{Shape, WRITTEN};
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStringExt;

/// The flaw of a victim.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum BrokenSegment {
    /// It creates a segment with its name, and then gives it size and memory: shm_open, ftruncate, fallocate.
    PublishesFirst,
    /// It extends a file before it has reserved the memory.
    ExtendsFirst,
    /// It creates a segment with a temporary name, which no other process cleans up.
    LeavesDraft,
    /// It renames a segment before it removes it.
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

impl BrokenSegment {
    /// All flaws.
    pub const ALL: [BrokenSegment; 4] = [
        BrokenSegment::PublishesFirst,
        BrokenSegment::ExtendsFirst,
        BrokenSegment::LeavesDraft,
        BrokenSegment::LeavesRemains,
    ];
}

fn path(name: &CStr) -> CString {
    let directory = std::env::var_os("SHMKIT_DIR").expect("the harness sets SHMKIT_DIR");
    let bytes = [&directory.into_vec(), b"/".as_slice(), name.to_bytes()].concat();
    CString::new(bytes).expect("no NUL byte")
}

/// Returns 0 if all calls have succeeded.
fn all_good(results: &[i32]) -> Status {
    match results.iter().all(|&result| result >= 0) {
        true => 0,
        false => SYSTEM,
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
    // SAFETY: the kernel checks the descriptor.
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

impl Operation for BrokenSegment {
    fn name(&self) -> String {
        let name = match self {
            BrokenSegment::PublishesFirst => "create, name before memory",
            BrokenSegment::ExtendsFirst => "resize, length before memory",
            BrokenSegment::LeavesDraft => "create, temporary name",
            BrokenSegment::LeavesRemains => "unlink, temporary name",
        };
        format!("selftest: segment: {name}")
    }

    fn every(&self) -> usize {
        1
    }

    fn expect_violation(&self) -> Option<Violation> {
        Some(match self {
            BrokenSegment::PublishesFirst => Violation::HalfMade,
            BrokenSegment::ExtendsFirst => Violation::Sparse,
            BrokenSegment::LeavesDraft | BrokenSegment::LeavesRemains => Violation::Leaked,
        })
    }

    fn prepare<'a>(&'a self, shmkit: &'a Library) -> Run<'a> {
        let (here, elsewhere) = (path(NAME), path(c"elsewhere"));
        if matches!(
            self,
            BrokenSegment::ExtendsFirst | BrokenSegment::LeavesRemains
        ) {
            let created = shmkit.create(Some(NAME), SIZE, Options::default());
            let base = shmkit.data(created.expect("the segment is created"));
            let base = base.expect("the segment has data");
            // SAFETY: the segment has SIZE bytes, and no other process uses it.
            unsafe { base.write_bytes(WRITTEN, SIZE as usize) };
        }
        match self {
            BrokenSegment::PublishesFirst => Box::new(move || {
                let file = create(&here);
                all_good(&[file, set_size(file, SIZE), reserve(file, 0, SIZE)])
            }),
            BrokenSegment::ExtendsFirst => {
                // SAFETY: the path ends with a NUL byte.
                let file = unsafe { libc::open(here.as_ptr(), libc::O_RDWR) };
                Box::new(move || all_good(&[set_size(file, NEW), reserve(file, SIZE, NEW)]))
            }
            BrokenSegment::LeavesDraft => Box::new(move || {
                let file = create(&elsewhere);
                all_good(&[file, reserve(file, 0, SIZE), rename(&elsewhere, &here)])
            }),
            BrokenSegment::LeavesRemains => {
                Box::new(move || all_good(&[rename(&here, &elsewhere), unlink(&elsewhere)]))
            }
        }
    }

    fn verify(&self, verifier: &Verifier, done: bool) -> Result<(), Failure> {
        match self {
            BrokenSegment::PublishesFirst | BrokenSegment::LeavesDraft => {
                verifier.created(SHAPE, 0, done)
            }
            BrokenSegment::ExtendsFirst => verifier.resized(SHAPE, NEW, done),
            BrokenSegment::LeavesRemains => verifier.unlinked(SHAPE, done),
        }
    }
}
