//! Barriers: so many processes and threads wait until all of them are there, and then all go on; one that is killed
//! while it waits breaks the barrier, so that nobody waits for it.
//!
//! `sync::barrier` has the states and what changes them; here a barrier gets its place and its parties their identity.
//!
//! ```
//! use shmkit::barrier::{Barrier, Last, Options, WaitOptions};
//!
//! # fn main() -> shmkit::error::Result<()> {
//! let barrier = Barrier::unnamed(&Options::of(2))?;
//! std::thread::scope(|scope| {
//!     let other = scope.spawn(|| barrier.wait(WaitOptions::BLOCKING, Last::Passes));
//!     let place = barrier.wait(WaitOptions::BLOCKING, Last::Passes)?;
//!     let others = other.join().expect("it does not panic")?;
//!     assert_eq!(place + others, 1); // 0 and 1: the last to come has the highest
//!     Ok(())
//! })
//! # }
//! ```

pub use super::{Create, Named};
use super::{Object, Placed, Recipe, Tag, place};
use crate::error::{Error, Result};
use crate::layout::Kind;
use crate::raw::barrier::{Cell, Looks, View, Words};
pub use crate::raw::barrier::{Last, MOST, Stat};
pub use crate::raw::{Timeout, WaitOptions};
use crate::segment::Segment;
use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

impl Object for Words {
    type Cell = Cell;

    fn tag(&self) -> &AtomicU64 {
        &self.lock.tag
    }
}

/// How a barrier is made.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How many must come, 1 to `MOST`. Who only opens one need not know: 0.
    pub parties: u32,
    /// How a named one is made and opened.
    pub named: Named,
}

impl Options {
    /// Returns what makes a barrier of so many parties.
    pub fn of(parties: u32) -> Options {
        Options {
            parties,
            ..Options::default()
        }
    }

    /// Returns how many bytes such a barrier takes in a segment. `Invalid`: 0 parties, or more than `MOST`.
    pub fn size(&self) -> Result<u64> {
        let recipe = self.recipe(Create::Always)?;
        Ok(recipe.tag.size::<Words>())
    }

    fn recipe(&self, create: Create) -> Result<Recipe<'static, Words>> {
        let parties = self.parties;
        // Who opens it takes it as it is.
        let least = u32::from(create != Create::Never);
        if !(least..=MOST).contains(&parties) {
            return Err(Error::Invalid(
                format!("a barrier is made for 1 to {MOST} parties, not for {parties}").into(),
            ));
        }
        Ok(Recipe::new(
            Tag {
                kind: Kind::Barrier,
                flags: 0,
                cells: 2 * parties as u16,
            },
            &Words::clear,
        ))
    }
}

/// A barrier of which this process has a handle.
pub struct Barrier {
    placed: Placed<Words>,
    looks: Looks,
}

impl Barrier {
    fn new(placed: Placed<Words>) -> Result<Barrier> {
        let cells = placed.cells().len();
        if !cells.is_multiple_of(2) || !(2..=2 * MOST as usize).contains(&cells) {
            return Err(Error::Corrupt(
                format!("the barrier says that it has {cells} cells, two for each party").into(),
            ));
        }
        Ok(Barrier {
            placed,
            looks: Looks::default(),
        })
    }

    /// Makes one without a name: threads and children have it, and whoever is handed its descriptor and place.
    pub fn unnamed(options: &Options) -> Result<Barrier> {
        Barrier::new(Placed::unnamed(&options.recipe(Create::Always)?)?)
    }

    /// Makes or finds the barrier of this name: a file that holds it alone.
    pub fn named(name: &CStr, create: Create, options: &Options) -> Result<Barrier> {
        let recipe = options.recipe(create)?;
        Barrier::new(Placed::in_file(name, &recipe, create, &options.named)?)
    }

    /// Makes or finds the barrier at `offset` of the data of a full segment.
    ///
    /// `WrongKind`: something else stands there, or the segment is plain. `Invalid`: not a multiple of 64, not inside,
    /// or it was made for another number of parties.
    pub fn at(
        segment: &Arc<Segment>,
        offset: u64,
        create: Create,
        options: &Options,
    ) -> Result<Barrier> {
        let recipe = options.recipe(create)?;
        Barrier::new(Placed::at(segment, offset, &recipe, create)?)
    }

    /// Finds the barrier that was handed over: a descriptor, and the place that `offset` said where it comes from.
    pub fn open_fd(fd: i32, offset: u64, options: &Options) -> Result<Barrier> {
        let recipe = options.recipe(Create::Never)?;
        Barrier::new(Placed::open_fd(fd, offset, &recipe, &options.named)?)
    }

    fn view(&self) -> View<'_> {
        View {
            words: self.placed.words(),
            cells: self.placed.cells(),
        }
    }

    /// Waits until all parties are there; returns our place among them: from 0 on, no two alike, the last to come has
    /// the highest.
    ///
    /// With `Last::Holds` the last one, and only that one, comes back while all others still wait: it calls `pass` or
    /// `abort`.
    ///
    /// `Broken`: somebody has broken the barrier, or died waiting at it. `Timeout`: the barrier is broken now, if we
    /// had come to it. `WouldBlock`: others are missing. `Interrupted`: the others wait on without us, or have passed
    /// meanwhile. `Participants`, `Detached`, `Permission`: this process cannot be a party, or nobody can tell who
    /// lives. `Corrupt`.
    pub fn wait(&self, options: WaitOptions, last: Last) -> Result<u32> {
        let me = self.placed.id()?;
        let place = self
            .view()
            .wait(me, options, last, &self.looks, &**self.segment())?;
        Ok(place as u32)
    }

    /// Lets those pass that `Last::Holds` has held. `NotOwner`: this process holds nobody, or a reset came between.
    /// `Broken`: somebody has broken the barrier meanwhile.
    pub fn pass(&self) -> Result<()> {
        match self.placed.known_id() {
            Some(me) => self.view().pass(me),
            None => Err(super::lock::nobody()),
        }
    }

    /// Has the barrier be as new: who waits gets `Broken`, and who comes from now on waits for a full number again.
    ///
    /// `Timeout`: somebody was stopped a second ago while it came or went. `Participants`, `Detached`, `Permission`,
    /// `Corrupt`: as for `wait`. Then nothing has been done.
    pub fn reset(&self) -> Result<()> {
        let me = self.placed.id()?;
        self.view().reset(me, &self.looks, &**self.segment())
    }

    /// Breaks the barrier: who waits, or comes before a reset, gets `Broken`.
    pub fn abort(&self) {
        self.view().abort();
    }

    /// Returns how many must come.
    pub fn parties(&self) -> u32 {
        self.view().parties() as u32
    }

    /// Returns what is known of it; nobody is asked who lives.
    pub fn stat(&self) -> Stat {
        self.view().stat()
    }
}

place!(Barrier);
