//! Segments, through the Rust API.
//!
//! | module    | what is tested                                                             |
//! |-----------|----------------------------------------------------------------------------|
//! | `name`    | valid names, where their files are, what `list` reports                     |
//! | `create`  | sizes, reserved memory, modes, and that a failure leaves nothing            |
//! | `open`    | what is refused: other kinds, other owners, short and truncated files       |
//! | `resize`  | growth that others see in place, capacity, several growers                  |
//! | `unlink`  | the name is removed, but only if it belongs to the expected segment         |
//! | `race`    | many processes that create, open and remove one name                        |
//! | `fd`      | memory files, seals, descriptors of every kind, passing them                |
//! | `process` | fork, threads, handles that close before others                             |
//! | `signal`  | signals do not end a call, the interrupt hook does                          |
//! | `managed` | the control area before the data, and which form each open accepts          |
//! | `header`  | other layouts, forged headers, truncated files                              |
//! | `gc`      | names that the last user or the collector removes                           |
//! | `between` | another process acts between two steps of an opener or a collector          |
//! | `draft`   | a file system without O_TMPFILE, and what killed creators leave there       |
//! | `access`  | readers, privileges that were given up, forbidden system calls              |
//! | `page`    | huge pages, prefault, locked memory                                         |

#[macro_use]
mod common;

#[path = "segment/access.rs"]
mod access;
#[path = "segment/between.rs"]
mod between;
#[path = "segment/create.rs"]
mod create;
#[path = "segment/draft.rs"]
mod draft;
#[path = "segment/fd.rs"]
mod fd;
#[path = "segment/gc.rs"]
mod gc;
#[path = "segment/header.rs"]
mod header;
#[path = "segment/managed.rs"]
mod managed;
#[path = "segment/name.rs"]
mod name;
#[path = "segment/open.rs"]
mod open;
#[path = "segment/page.rs"]
mod page;
#[path = "segment/process.rs"]
mod process;
#[path = "segment/race.rs"]
mod race;
#[path = "segment/resize.rs"]
mod resize;
#[path = "segment/signal.rs"]
mod signal;
#[path = "segment/unlink.rs"]
mod unlink;

use shmkit::segment::{Options, Segment};
use std::sync::atomic::Ordering::Relaxed;

/// Returns the default options.
fn plain() -> Options {
    Options::default()
}

/// Returns the options of a segment in this folder.
fn within(folder: &common::Folder) -> Options {
    Options {
        directory: folder.directory(),
        ..plain()
    }
}

/// Reads one byte.
fn byte(segment: &Segment, at: u64) -> u8 {
    segment.bytes().expect("the segment is whole")[at as usize].load(Relaxed)
}

/// Writes one byte.
fn put(segment: &Segment, at: u64, value: u8) {
    segment.bytes().expect("the segment is whole")[at as usize].store(value, Relaxed);
}

/// Fills the segment with a pattern that depends on the place.
fn fill(segment: &Segment) {
    let bytes = segment.bytes().expect("the segment is whole");
    for (at, byte) in bytes.iter().enumerate() {
        byte.store((at % 251) as u8, Relaxed);
    }
}

/// Returns whether the segment contains the pattern of `fill`.
fn is_filled(segment: &Segment) -> bool {
    let bytes = segment.bytes().expect("the segment is whole");
    let fits =
        |(at, byte): (usize, &std::sync::atomic::AtomicU8)| byte.load(Relaxed) == (at % 251) as u8;
    bytes.iter().enumerate().all(fits)
}
