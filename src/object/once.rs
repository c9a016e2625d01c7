//! Once: one-time initialisation among all processes. If the initialising process dies, another one begins again.
//!
//! `raw::once` has the states.
//!
//! ```
//! use shmkit::once::Once;
//!
//! # fn main() -> shmkit::error::Result<()> {
//! let once = Once::unnamed()?;
//! let mut table = Vec::new();
//! once.call_once(|owner_died| {
//!     if owner_died {
//!         // A process died halfway: repair what it has left, or begin anew.
//!     }
//!     table.push(42);
//! })?;
//! assert!(!once.call_once(|_| unreachable!())?);
//! assert_eq!(table, [42]);
//!
//! // The same with a guard, for an initialisation that can fail.
//! let once = Once::unnamed()?;
//! if let Some(guard) = once.begin()? {
//!     guard.complete()?; // dropped without this, the next caller begins
//! }
//! assert!(once.is_done());
//! # Ok(())
//! # }
//! ```

pub use super::{Create, FileOptions};
use super::{Layout, NoCell, Noun, Object, ObjectHandle, Storage, Tag, life_cycle};
use crate::error::Result;
use crate::layout::Kind;
use crate::participant::ProcessInfo;
use crate::raw::WaitOptions;
#[doc(hidden)]
pub use crate::raw::once::Begun;
pub use crate::raw::once::OnceInfo;
use crate::raw::once::RawOnce;
use crate::raw::wait::SpinState;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

impl Object for RawOnce {
    type Cell = NoCell;

    fn tag(&self) -> &AtomicU64 {
        &self.tag
    }
}

/// A once flag that this process has open.
pub struct Once {
    object: ObjectHandle<RawOnce>,
    spins: SpinState,
}

impl Noun for Once {
    type Raw = RawOnce;
    type Options = FileOptions;

    fn file(options: &FileOptions) -> &FileOptions {
        options
    }

    fn layout(_: &FileOptions, _: Create, _: Storage) -> Result<Layout<'_, RawOnce>> {
        Ok(Layout::new(Tag::of(Kind::Once), |raw: &RawOnce, _| {
            raw.reset()
        }))
    }

    fn new(object: ObjectHandle<RawOnce>) -> Result<Once> {
        Ok(Once {
            object,
            spins: SpinState::default(),
        })
    }

    fn object(&self) -> &ObjectHandle<RawOnce> {
        &self.object
    }
}

life_cycle!(Once);

impl Once {
    /// The size of a once flag in a segment, in bytes.
    pub const SIZE: u64 = size_of::<RawOnce>() as u64;

    /// Returns whether the initialisation is complete; then the caller sees what it has written.
    #[inline(always)]
    pub fn is_done(&self) -> bool {
        self.object.raw().is_done()
    }

    /// Calls `work` once among all processes; returns whether this call has called it.
    ///
    /// It waits while another caller initialises. The argument of `work` is whether a process died halfway before. If
    /// `work` panics, the next caller begins. A call from inside `work` would wait for itself forever.
    ///
    /// # Errors
    /// As for [`begin`](Once::begin).
    pub fn call_once(&self, work: impl FnOnce(bool)) -> Result<bool> {
        let Some(guard) = self.begin()? else {
            return Ok(false);
        };
        work(guard.owner_died());
        guard.complete().map(|()| true)
    }

    /// Begins the initialisation, and waits while another caller initialises; returns `None` if it is complete.
    ///
    /// The owner of the initialisation is this process. Its other threads wait like those of other processes.
    ///
    /// # Errors
    /// * `TooManyProcesses`: live processes own all participant slots of the segment
    /// * `LivenessUnknown`: this process has lost all descriptors of the segment, and cannot check whether
    ///   the owner lives
    /// * `Permission`: this user cannot write the file
    /// * `Corrupt`: the words contradict each other
    pub fn begin(&self) -> Result<Option<Guard<'_>>> {
        self.guard(WaitOptions::BLOCKING)
    }

    /// Begins the initialisation without waiting; returns `None` if it is complete.
    ///
    /// # Errors
    /// As for [`begin`](Once::begin), and
    /// * `WouldBlock`: another live caller initialises
    pub fn try_begin(&self) -> Result<Option<Guard<'_>>> {
        self.guard(WaitOptions::NONBLOCKING)
    }

    /// Begins the initialisation, and waits at most this long; returns `None` if it is complete.
    ///
    /// # Errors
    /// As for [`begin`](Once::begin), and
    /// * `Timeout`: another live caller still initialises
    pub fn begin_timeout(&self, time: Duration) -> Result<Option<Guard<'_>>> {
        self.guard(WaitOptions::after(time))
    }

    fn guard(&self, options: WaitOptions) -> Result<Option<Guard<'_>>> {
        Ok(match self.begin_with(options)? {
            Begun::Done => None,
            Begun::Mine { owner_died } => Some(Guard {
                once: self,
                owner_died,
            }),
        })
    }

    /// Begins without a guard: the caller must call `done` or `abort`. `WouldBlock`, `Timeout`, `Interrupted`: the
    /// initialisation has not begun.
    #[doc(hidden)]
    #[inline(always)]
    pub fn begin_with(&self, options: WaitOptions) -> Result<Begun> {
        match self.is_done() {
            true => Ok(Begun::Done),
            false => self.begin_slow(options),
        }
    }

    #[cold]
    fn begin_slow(&self, options: WaitOptions) -> Result<Begun> {
        let me = self.object.id()?;
        let raw = self.object.raw();
        raw.begin(me, options, &self.spins, &**self.object.segment())
    }

    /// Completes the initialisation. `NotOwner`: this process has not begun it.
    #[doc(hidden)]
    pub fn done(&self) -> Result<()> {
        self.object.raw().done(self.object.owner_id()?)
    }

    /// Ends the initialisation incomplete: the next caller begins. `NotOwner`: this process has not begun it.
    #[doc(hidden)]
    pub fn abort(&self) -> Result<()> {
        self.object.raw().abort(self.object.owner_id()?)
    }

    /// Returns the state and the owner of the initialisation. It does not check whether the owner lives.
    pub fn stat(&self) -> (OnceInfo, Option<ProcessInfo>) {
        let stat = self.object.raw().stat();
        let owner = stat.owner.and_then(|id| self.segment().process_info(id));
        (stat, owner)
    }
}

/// An initialisation that this process has begun. If the guard is dropped, the next caller begins.
#[derive(Debug)]
#[must_use = "the initialisation ends at once if the guard is not kept"]
pub struct Guard<'a> {
    once: &'a Once,
    owner_died: bool,
}

impl Guard<'_> {
    /// Returns whether a process died halfway: its part may be half written.
    pub fn owner_died(&self) -> bool {
        self.owner_died
    }

    /// Completes the initialisation forever.
    ///
    /// # Errors
    /// * `NotOwner`: this is a forked child, and its parent has begun the initialisation
    pub fn complete(self) -> Result<()> {
        self.once.done()?;
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // It fails in a forked child, which has not begun it.
        let _ = self.once.abort();
    }
}
