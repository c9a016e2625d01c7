//! Shared memory, locks and queues for C, Cython, ctypes, Python and Rust on Linux.
//!
//! Any process may be killed at any instruction, and the others go on.
//!
//! | floor | module | what it knows |
//! |------:|--------|---------------|
//! | 0 | [`error`] | what can go wrong, and its number |
//! | 1 | `sys` | the kernel: the only place that names libc, nix and memmap2 |
//! | 2 | [`layout`] | bytes at rest |
//! | 2 | [`limits`] | how large a segment may be |
//! | 2 | `name` | where a segment of this name stands |
//! | 2 | `options` | how to make, open and grow one |
//! | 3 | `draft`, `reservation` | files without a name yet; memory before anyone can touch it |
//! | 3 | [`participant`] | who is attached, who is alive |
//! | 4 | `directory` | segments found by name, removed, listed, collected |
//! | 4 | [`sync`] | waiting for each other: words, and what changes them; they know no segment |
//! | 5 | `control` | what stands before the data of a full segment |
//! | 6 | [`segment`] | create, open, resize, close, unlink |
//! | 7 | `arena` | where small objects without a name live |
//! | 8 | `object` | the place of an object: in a segment, in a file of its own, in an arena |
//! | 9 | [`lock`] | the locks that callers hold |
//! | 10 | [`rlock`] | those that a thread may take again |
//! | 10 | [`rwlock`] | those that many hold to read, or one to write |
//! | 10 | [`semaphore`] | permits; with undo the dead give theirs back |
//! | 10 | [`event`] | what has happened or has not |
//! | 10 | [`barrier`] | where so many wait for each other |
//! | 10 | [`once`] | what is done once |
//! | 10 | [`queue`] | messages from many to many |
//! | 11 | [`condition`] | waiting, without a lock that one holds, to be notified |
//! | 12 | [`capi`] | the C ABI: one file per noun, no algorithm |
//!
//! A module imports only from floors below its own; `tests/floors.rs` holds it to that.
//!
//! ```
//! use shmkit::segment::{Options, Segment};
//! use std::sync::atomic::Ordering::Relaxed;
//!
//! # fn main() -> shmkit::error::Result<()> {
//! # let name = std::ffi::CString::new(format!("frames-{}", std::process::id())).unwrap();
//! let made = Segment::create(Some(&name), 4096, &Options::default())?;
//! made.bytes()?[0].store(42, Relaxed);
//!
//! let opened = Segment::open(&name, 0, &Options::default())?;
//! assert_eq!(opened.bytes()?[0].load(Relaxed), 42);
//! opened.unlink()?;
//! # Ok(())
//! # }
//! ```

mod arena;
pub mod barrier;
pub mod capi;
pub mod condition;
mod control;
mod directory;
mod draft;
pub mod error;
pub mod event;
pub mod layout;
pub mod limits;
pub mod lock;
mod name;
mod object;
pub mod once;
mod options;
pub mod participant;
pub mod queue;
mod reservation;
pub mod rlock;
pub mod rwlock;
pub mod segment;
pub mod semaphore;
pub mod sync;
mod sys;
