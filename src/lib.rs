//! Shared memory, locks and queues for C, Cython, ctypes, Python and Rust on Linux.
//!
//! Any process may be killed at any instruction, and the others go on.
//!
//! | floor | folder or file | what it knows |
//! |------:|----------------|---------------|
//! | 0 | [`error`] | what can go wrong, and its number |
//! | 1 | `sys` | the kernel: the only place that names libc, nix and memmap2 |
//! | 2 | `layout` | bytes at rest |
//! | 3 | `participant` | the processes attached to a segment, and which of them are alive |
//! | 4 | `raw` | the algorithms on shared words: raw locks, the raw queue; they know no segment |
//! | 5 | [`segment`] | shared memory: names, files, growth, and the control area before the data |
//! | 6 | `object` | what has a place in shared memory: locks, queues and the rest, one file per noun |
//! | 7 | `capi` | the C ABI: one file per noun, no algorithm |
//!
//! A floor imports only from floors below its own; `tests/floors.rs` checks that.
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

#[doc(hidden)]
pub mod capi;
pub mod error;
#[doc(hidden)]
pub mod layout;
mod object;
#[doc(hidden)]
pub mod participant;
#[doc(hidden)]
pub mod raw;
pub mod segment;
mod sys;

pub use object::{barrier, condition, event, lock, once, queue, rlock, rwlock, semaphore};
pub use segment::limits;
