//! Events: something that has happened or has not, for which any number of processes and threads can wait.
//!
//! `sync::event` has the states and what changes them; here an event gets its place. Nobody owns it, so whoever uses it
//! need not be a participant.
//!
//! ```
//! use shmkit::event::{Event, WaitOptions};
//!
//! # fn main() -> shmkit::error::Result<()> {
//! let ready = Event::unnamed()?;
//! std::thread::scope(|scope| {
//!     let waiter = scope.spawn(|| ready.wait(WaitOptions::BLOCKING));
//!     ready.set();
//!     waiter.join().expect("it does not panic")
//! })?;
//! assert!(ready.is_set());
//! # Ok(())
//! # }
//! ```

pub use super::{Create, Named};
use super::{NoCell, Object, Placed, Recipe, Tag, place};
use crate::error::Result;
use crate::layout::Kind;
pub use crate::raw::event::Stat;
use crate::raw::event::Words;
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
        kind: Kind::Event,
        flags: 0,
        cells: 0,
    },
    &|words, _| words.reset(),
);

/// An event of which this process has a handle.
pub struct Event {
    placed: Placed<Words>,
    spins: Spins,
}

impl Event {
    /// How many bytes one takes in a segment.
    pub const SIZE: u64 = size_of::<Words>() as u64;

    fn new(placed: Placed<Words>) -> Event {
        Event {
            placed,
            spins: Spins::default(),
        }
    }

    /// As `Lock::unnamed`.
    pub fn unnamed() -> Result<Event> {
        Placed::unnamed(&RECIPE).map(Event::new)
    }

    /// As `Lock::named`.
    pub fn named(name: &CStr, create: Create, named: &Named) -> Result<Event> {
        Placed::in_file(name, &RECIPE, create, named).map(Event::new)
    }

    /// As `Lock::at`.
    pub fn at(segment: &Arc<Segment>, offset: u64, create: Create) -> Result<Event> {
        Placed::at(segment, offset, &RECIPE, create).map(Event::new)
    }

    /// As `Lock::open_fd`.
    pub fn open_fd(fd: i32, offset: u64, named: &Named) -> Result<Event> {
        Placed::open_fd(fd, offset, &RECIPE, named).map(Event::new)
    }

    /// Sets it: all go on that wait for it, and nobody waits until it is cleared.
    #[inline(always)]
    pub fn set(&self) {
        self.placed.words().set();
    }

    /// Clears it: who waits from now on waits for the next `set`. Who had begun to wait before it was set goes on.
    #[inline(always)]
    pub fn clear(&self) {
        self.placed.words().clear();
    }

    /// Says whether it is set.
    #[inline(always)]
    pub fn is_set(&self) -> bool {
        self.placed.words().is_set()
    }

    /// Waits until it is set; it is enough that it was since the call began.
    ///
    /// `WouldBlock`, `Timeout`, `Interrupted`: it was not.
    #[inline(always)]
    pub fn wait(&self, options: WaitOptions) -> Result<()> {
        self.placed.words().wait(options, &self.spins)
    }

    /// Returns what is known of it.
    pub fn stat(&self) -> Stat {
        self.placed.words().stat()
    }
}

place!(Event);
