//! The managed segment in which most operations find their object.
//!
//! ```text
//! data:  | words of the series | …     64: the object
//! ```

use crate::suite::capi::lock::Kind;
use crate::suite::capi::segment::{Options, Segment};
use crate::suite::capi::{FOREVER, Status};
use crate::suite::harness::library::Library;
use shmkit::capi::segment::SHMKIT_SEGMENT_MANAGED;
use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// The name under which every victim works.
pub const NAME: &CStr = c"victim";
/// The size of a page on x86-64.
pub const PAGE: u64 = 4096;
/// The offset of the object in the data.
pub const PLACE: u64 = 64;

/// The timeout of a victim whose wait must time out, in nanoseconds: long enough for two sleeps and part of a third.
pub const VICTIM_TIMEOUT_NS: i64 = 4_000_000;

/// Returns the name as Rust has it.
pub fn name() -> &'static str {
    NAME.to_str().expect("the name is ASCII")
}

/// Returns the path of the segment under test.
pub fn path() -> PathBuf {
    let directory = std::env::var_os("SHMKIT_DIR").expect("the harness sets SHMKIT_DIR");
    Path::new(&directory).join(name())
}

/// Returns the options of a managed segment.
pub fn managed(participants: u32) -> Options {
    Options {
        flags: SHMKIT_SEGMENT_MANAGED,
        participants,
        ..Options::default()
    }
}

/// Creates the segment for this number of participants, with a lock if a kind is given, and closes both.
pub fn create(shmkit: &Library, participants: u32, kind: Option<Kind>) {
    let created = shmkit.create(Some(NAME), PAGE, managed(participants));
    let segment = created.expect("the segment is created");
    if let Some(kind) = kind {
        let lock = shmkit.create_lock_at(kind, segment, PLACE);
        assert_eq!(shmkit.close_lock(lock.expect("the lock is created")), 0);
    }
    assert_eq!(shmkit.close(segment), 0);
}

/// Opens the segment.
pub fn open(shmkit: &Library) -> Segment {
    let opened = shmkit.open(NAME, PAGE, managed(0));
    opened.expect("the segment is opened")
}

/// Opens the segment and makes this process a participant.
pub fn open_attached(shmkit: &Library) -> Segment {
    let segment = open(shmkit);
    attach(shmkit, segment);
    segment
}

/// Makes this process a participant without touching the object under test.
pub fn attach(shmkit: &Library, segment: Segment) {
    let lock = shmkit
        .built_in_lock(segment)
        .expect("a managed segment has a lock");
    assert_eq!(shmkit.acquire(lock, FOREVER), Ok(false));
    assert_eq!(shmkit.release(lock), 0);
    assert_eq!(shmkit.close_lock(lock), 0);
}

/// Returns words of the segment's data. They are mapped as long as the segment is open.
pub fn words<const N: usize>(
    shmkit: &Library,
    segment: Segment,
    offset: u64,
) -> &'static [AtomicU64; N] {
    let base = shmkit.data(segment).expect("the segment has data");
    let words = base.wrapping_add(offset as usize).cast();
    // SAFETY: the words lie in the data and are aligned. All processes use them as atomics, and not after they have
    // closed the segment.
    unsafe { &*words }
}

/// Returns the identity of this process in the segment, as a lock word holds it.
pub fn participant_id(segment: &Arc<shmkit::segment::Segment>) -> u64 {
    use shmkit::lock::{Lock, Patience};
    let lock = Lock::of(segment).expect("a managed segment has a lock");
    assert_eq!(lock.acquire(Patience::ENDLESS), Ok(false));
    let id = lock.stat().0.owner.expect("this process holds it").bits();
    lock.release().expect("this process holds it");
    id
}

/// As `participant_id`, for the segment under test.
pub fn own_id() -> u64 {
    let segment = shmkit::segment::Segment::open(NAME, 0, &shmkit::segment::Options::default());
    participant_id(&Arc::new(segment.expect("the segment is opened")))
}

/// Turns a failed call of this process into its exit status.
pub fn exit_code(result: Result<(), Status>) -> i32 {
    -result.err().unwrap_or(0)
}
