//! Shared memory, locks and queues for C, Cython, ctypes, Python and Rust on Linux.
//!
//! Any process may be killed at any instruction, and the others continue.
//!
//! A **lock** whose owner dies is acquired by the next process, which learns of the death. The other synchronisation
//! objects are [`rlock`], [`rwlock`], [`semaphore`], [`condition`], [`event`], [`once`] and [`barrier`].
//!
//! ```
//! use shmkit::lock::{Create, Lock, Options};
//!
//! # fn main() -> shmkit::error::Result<()> {
//! # let name = std::ffi::CString::new(format!("lock-{}", std::process::id())).unwrap();
//! let lock = Lock::named(&name, Create::IfMissing, &Options::default())?;
//! let guard = lock.acquire()?;
//! if guard.owner_died() {
//!     // Repair what the lock guards, then:
//!     guard.mark_consistent()?;
//! }
//! drop(guard);
//! lock.unlink()?;
//! # Ok(())
//! # }
//! ```
//!
//! A **queue** transfers messages between any number of producers and consumers.
//!
//! ```
//! use shmkit::queue::{Create, Options, Queue};
//! use std::time::Duration;
//!
//! # fn main() -> shmkit::error::Result<()> {
//! # let name = std::ffi::CString::new(format!("queue-{}", std::process::id())).unwrap();
//! let producer = Queue::named(&name, Create::IfMissing, &Options::default())?;
//! let consumer = Queue::named(&name, Create::Never, &Options::default())?; // usually in another process
//! producer.put(b"tile 17")?;
//! assert_eq!(consumer.get_timeout(Duration::from_secs(1))?.as_deref(), Some(&b"tile 17"[..]));
//! consumer.unlink()?;
//! # Ok(())
//! # }
//! ```
//!
//! A **segment** is shared memory, with a name or anonymous; a managed one also contains locks and queues, each at an
//! offset.
//!
//! ```
//! use shmkit::segment::{Options, Segment};
//! use std::sync::atomic::Ordering::Relaxed;
//!
//! # fn main() -> shmkit::error::Result<()> {
//! # let name = std::ffi::CString::new(format!("frames-{}", std::process::id())).unwrap();
//! let created = Segment::create(Some(&name), 4096, &Options::default())?;
//! created.bytes()?[0].store(42, Relaxed);
//!
//! let opened = Segment::open(&name, 0, &Options::default())?;
//! assert_eq!(opened.bytes()?[0].load(Relaxed), 42);
//! opened.unlink()?;
//! # Ok(())
//! # }
//! ```
//!
//! # Source code
//!
//! | level | module | contents |
//! |------:|--------|----------|
//! | 0 | [`error`] | the errors and their numbers |
//! | 1 | `sys` | the kernel: the only module that uses libc, nix and memmap2 |
//! | 2 | `layout` | the layout of bytes in files |
//! | 3 | `participant` | the processes attached to a segment, and their liveness |
//! | 4 | `raw` | the algorithms on shared words: raw locks and the raw queue, independent of segments |
//! | 5 | [`segment`] | shared memory: names, files, growth, and the control area before the data |
//! | 6 | `object` | what is stored in shared memory: locks, queues and the rest, one file per noun |
//! | 7 | `capi` | the C ABI: one file per noun, no algorithm |
//!
//! A module imports only from lower levels; `tests/floors.rs` checks that.

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
