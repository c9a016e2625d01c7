//! Once: something that is done exactly once among all processes, and again only where who was doing it died.
//!
//! `sync::once` has the states and what changes them; here a once gets its place and its owner's identity.
//!
//! ```
//! use shmkit::once::Once;
//!
//! # fn main() -> shmkit::error::Result<()> {
//! let once = Once::unnamed()?;
//! let mut table = Vec::new();
//! once.call(|recovered| {
//!     if recovered {
//!         // Somebody died halfway: make whole what it has left, or begin anew.
//!     }
//!     table.push(42);
//! })?;
//! assert!(!once.call(|_| unreachable!())?);
//! assert_eq!(table, [42]);
//! # Ok(())
//! # }
//! ```

use super::lock::nobody;
pub use super::{Create, Named};
use super::{NoCell, Object, Placed, Recipe, Tag, place};
use crate::error::Result;
use crate::layout::Kind;
use crate::participant::Person;
use crate::raw::once::Words;
pub use crate::raw::once::{Begun, Stat};
use crate::raw::wait::Spins;
pub use crate::raw::{Timeout, WaitOptions};
use crate::segment::Segment;
use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

impl Object for Words {
    type Cell = NoCell;

    fn tag(&self) -> &AtomicU64 {
        &self.tag
    }
}

const RECIPE: Recipe<'static, Words> = Recipe::new(
    Tag {
        kind: Kind::Once,
        flags: 0,
        cells: 0,
    },
    &|words, _| words.reset(),
);

/// A once of which this process has a handle.
pub struct Once {
    placed: Placed<Words>,
    spins: Spins,
}

impl Once {
    /// How many bytes one takes in a segment.
    pub const SIZE: u64 = size_of::<Words>() as u64;

    fn new(placed: Placed<Words>) -> Once {
        Once {
            placed,
            spins: Spins::default(),
        }
    }

    /// As `Lock::unnamed`.
    pub fn unnamed() -> Result<Once> {
        Placed::unnamed(&RECIPE).map(Once::new)
    }

    /// As `Lock::named`.
    pub fn named(name: &CStr, create: Create, named: &Named) -> Result<Once> {
        Placed::in_file(name, &RECIPE, create, named).map(Once::new)
    }

    /// As `Lock::at`.
    pub fn at(segment: &Arc<Segment>, offset: u64, create: Create) -> Result<Once> {
        Placed::at(segment, offset, &RECIPE, create).map(Once::new)
    }

    /// As `Lock::open_fd`.
    pub fn open_fd(fd: i32, offset: u64, named: &Named) -> Result<Once> {
        Placed::open_fd(fd, offset, &RECIPE, named).map(Once::new)
    }

    /// Says whether it is done: then what was done is seen.
    #[inline(always)]
    pub fn is_done(&self) -> bool {
        self.placed.words().is_done()
    }

    /// Begins, if it is neither done nor being done by somebody who lives; waits for who does it.
    ///
    /// Of all who call this one has it to do, and must say `done` or `abort`; the process is its owner, whose other
    /// threads wait like everybody. `WouldBlock`, `Timeout`, `Interrupted`; `Participants`, `Detached`, `Permission`,
    /// `Corrupt`: this process cannot be an owner, or nobody can tell whether the owner lives.
    #[inline(always)]
    pub fn begin(&self, options: WaitOptions) -> Result<Begun> {
        match self.is_done() {
            true => Ok(Begun::Done),
            false => self.begin_slowly(options),
        }
    }

    #[cold]
    fn begin_slowly(&self, options: WaitOptions) -> Result<Begun> {
        let me = self.placed.id()?;
        let words = self.placed.words();
        words.begin(me, options, &self.spins, &**self.placed.segment())
    }

    /// Says that it is done, which stays so. `NotOwner`: this process is not doing it.
    pub fn done(&self) -> Result<()> {
        match self.placed.known_id() {
            Some(me) => self.placed.words().done(me),
            None => Err(nobody()),
        }
    }

    /// Gives it back undone: the next one begins. `NotOwner`: this process is not doing it.
    pub fn abort(&self) -> Result<()> {
        match self.placed.known_id() {
            Some(me) => self.placed.words().abort(me),
            None => Err(nobody()),
        }
    }

    /// Has `work` done once among all processes, however long that takes, and returns whether this call has done it.
    ///
    /// `work` is told whether somebody died halfway before. If it panics, it counts as not done. Errors as of `begin`;
    /// `NotOwner`: `work` itself has said `done` or `abort`. Who calls this inside `work` waits for itself.
    pub fn call(&self, work: impl FnOnce(bool)) -> Result<bool> {
        let Begun::Mine { recovered } = self.begin(WaitOptions::BLOCKING)? else {
            return Ok(false);
        };
        let undone = Undone(self);
        work(recovered);
        std::mem::forget(undone);
        self.done().map(|()| true)
    }

    /// Returns what is known of it and of who is doing it; nobody is asked whether that one lives.
    pub fn stat(&self) -> (Stat, Option<Person>) {
        let stat = self.placed.words().stat();
        let owner = stat.owner.and_then(|id| self.segment().person(id));
        (stat, owner)
    }
}

place!(Once);

/// What is being done; dropped, it is given back undone.
struct Undone<'a>(&'a Once);

impl Drop for Undone<'_> {
    fn drop(&mut self) {
        // It fails where somebody has ended it otherwise: then there is nothing to do.
        let _ = self.0.abort();
    }
}
