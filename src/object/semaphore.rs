//! Semaphores: permits that processes and threads take and give back; with undo the dead give back theirs.
//!
//! `sync::semaphore` and `sync::undo` have the states and what changes them; here a semaphore gets its place, and its
//! users' identity where what they hold is recorded.
//!
//! ```
//! use shmkit::semaphore::{Options, Semaphore};
//!
//! # fn main() -> shmkit::error::Result<()> {
//! let three = Semaphore::unnamed(&Options {
//!     value: 3,
//!     undo: true,
//!     ..Options::default()
//! })?;
//! {
//!     let _permit = three.permits(1)?;
//!     assert_eq!((three.value()?, three.held()?), (2, 1));
//! } // given back; had this process been killed, too
//! # Ok(())
//! # }
//! ```

use super::lock::nobody;
pub use super::lock::{Create, Named, Timeout, WaitOptions};
use super::{Object, Placed, Recipe, Tag, place};
use crate::error::{Error, Result};
use crate::layout::Kind;
use crate::participant::Id;
use crate::raw::cell::Cell;
pub use crate::raw::semaphore::Stat;
use crate::raw::semaphore::{MOST, Words};
use crate::raw::undo::{self, Memory, Undo};
use crate::raw::wait::Spins;
use crate::segment::Segment;
use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// In the tag: what a process holds comes back when it ends.
const UNDO: u16 = 1;

/// How many processes may hold permits of a semaphore with undo, where nothing is said.
const PROCESSES: u32 = 128;
/// As many as a segment has participants at the most.
const MOST_PROCESSES: u32 = 4096;

impl Object for Words {
    type Cell = Cell;

    fn tag(&self) -> &AtomicU64 {
        &self.lock.tag
    }
}

/// How a semaphore is made. `Options::default()` has no permit yet and no maximum.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How many permits a new one has, at most 2^31 - 1.
    pub value: u64,
    /// How many it may ever have; 0: 2^31 - 1. With undo that is `value`.
    pub maximum: u64,
    /// What a process holds comes back when it ends.
    pub undo: bool,
    /// With undo: how many processes may hold permits at a time, at most 4096; 0: 128.
    pub processes: u32,
    /// How a named one is made and opened.
    pub named: Named,
}

impl Options {
    /// Refuses what contradicts itself.
    fn check(&self) -> Result<()> {
        let invalid = |text: String| Err(Error::Invalid(text.into()));
        let (value, maximum) = (self.value, self.maximum);
        if value > MOST || maximum > MOST {
            return invalid(format!("options: a semaphore has at most {MOST} permits"));
        }
        if maximum != 0 && value > maximum {
            return invalid(format!(
                "options: a value of {value} is more than the maximum, {maximum}"
            ));
        }
        if self.undo && maximum != 0 && maximum != value {
            return invalid("options: with undo the maximum is the value".into());
        }
        if self.processes > MOST_PROCESSES {
            return invalid(format!(
                "options: at most {MOST_PROCESSES} processes hold permits"
            ));
        }
        if !self.undo && self.processes != 0 {
            return invalid("options: processes are counted with undo alone".into());
        }
        Ok(())
    }

    fn maximum(&self) -> u64 {
        match (self.undo, self.maximum) {
            (true, _) => self.value,
            (false, 0) => MOST,
            (false, maximum) => maximum,
        }
    }

    fn tag(&self) -> Tag {
        let cells = match (self.undo, self.processes) {
            (false, _) => 0,
            (true, 0) => PROCESSES,
            (true, processes) => processes,
        };
        Tag {
            kind: Kind::Semaphore,
            flags: if self.undo { UNDO } else { 0 },
            cells: cells as u16, // at most MOST_PROCESSES
        }
    }

    /// Makes or finds one by `place`.
    fn place(
        &self,
        create: Create,
        place: impl FnOnce(&Recipe<'_, Words>) -> Result<Placed<Words>>,
    ) -> Result<Semaphore> {
        self.check()?;
        if create != Create::Never && self.maximum() == 0 {
            return Err(Error::Invalid(
                "options: with undo there are as many permits as at first, so at least one".into(),
            ));
        }
        let prepare = |words: &Words, cells: &[Cell]| {
            words.prepare(self.value, self.maximum());
            cells.iter().for_each(Cell::clear);
        };
        let placed = place(&Recipe::new(self.tag(), &prepare))?;
        let semaphore = Semaphore::new(placed)?;
        if create == Create::IfMissing && semaphore.maximum != self.maximum() {
            return Err(Error::Invalid(
                "the Semaphore is there, but was made with another maximum".into(),
            ));
        }
        Ok(semaphore)
    }
}

/// A semaphore of which this process has a handle.
pub struct Semaphore {
    placed: Placed<Words>,
    spins: Spins,
    undo: bool,
    maximum: u64,
    memory: Memory,
}

impl Semaphore {
    /// Returns how many bytes one takes in a segment that is made so. `Invalid`: the options contradict themselves.
    pub fn size(options: &Options) -> Result<u64> {
        options.check()?;
        Ok(options.tag().size::<Words>())
    }

    fn new(placed: Placed<Words>) -> Result<Semaphore> {
        let semaphore = Semaphore {
            undo: placed.flags() & UNDO != 0,
            maximum: placed.words().maximum()?,
            placed,
            spins: Spins::default(),
            memory: Memory::default(),
        };
        match semaphore.undo && semaphore.placed.cells().is_empty() {
            true => Err(Error::Corrupt(
                "a semaphore with undo that nobody can hold".into(),
            )),
            false => Ok(semaphore),
        }
    }

    /// Makes one without a name: threads and children have it, and whoever is handed its descriptor and place.
    pub fn unnamed(options: &Options) -> Result<Semaphore> {
        options.place(Create::Always, Placed::unnamed)
    }

    /// Makes or finds the semaphore of this name: a file that holds it alone.
    pub fn named(name: &CStr, create: Create, options: &Options) -> Result<Semaphore> {
        options.place(create, |recipe| {
            Placed::in_file(name, recipe, create, &options.named)
        })
    }

    /// Makes or finds the semaphore at `offset` of the data of a full segment; errors as of `Lock::at`.
    pub fn at(
        segment: &Arc<Segment>,
        offset: u64,
        create: Create,
        options: &Options,
    ) -> Result<Semaphore> {
        options.place(create, |recipe| Placed::at(segment, offset, recipe, create))
    }

    /// Finds the semaphore that was handed over: a descriptor, and the place that `offset` said where it comes from.
    pub fn open_fd(fd: i32, offset: u64, options: &Options) -> Result<Semaphore> {
        options.place(Create::Never, |recipe| {
            Placed::open_fd(fd, offset, recipe, &options.named)
        })
    }

    /// Takes `count` permits, waiting for them: all of them or none.
    ///
    /// They are taken if and only if this is `Ok`. `WouldBlock`, `Timeout`, `Interrupted`: they are not. `Invalid`: 0,
    /// or more than there can be. With undo also `Participants`, `Detached`, `Permission`, `Corrupt`: nothing can be
    /// recorded for this process, or nobody can tell whether the holders live; `Overflow`: one process holds 65,535.
    #[inline(always)]
    pub fn acquire(&self, count: u64, options: WaitOptions) -> Result<()> {
        match self.acquire_fast(count) {
            true => Ok(()),
            false => self.acquire_slowly(count, options),
        }
    }

    /// Takes `count` permits if that is one step.
    #[inline(always)]
    pub(crate) fn acquire_fast(&self, count: u64) -> bool {
        !self.undo && count != 0 && self.placed.words().try_take(count)
    }

    /// Takes a permit with undo if that is a few steps.
    pub(crate) fn acquire_recorded(&self, count: u64) -> bool {
        count == 1 && self.undo_fast(|undo| undo.try_acquire())
    }

    /// Gives a permit with undo back if that is a few steps.
    pub(crate) fn release_recorded(&self, count: u64) -> bool {
        count == 1 && self.undo_fast(|undo| undo.try_release())
    }

    fn undo_fast(&self, steps: impl Fn(Undo<'_, Segment>) -> bool) -> bool {
        let me = self.placed.known_id().filter(|_| self.undo);
        me.is_some_and(|me| steps(self.by(me)))
    }

    #[cold]
    fn acquire_slowly(&self, count: u64, options: WaitOptions) -> Result<()> {
        if self.acquire_recorded(count) {
            return Ok(());
        }
        if !(1..=self.maximum).contains(&count) {
            return Err(Error::Invalid(
                format!(
                    "{count} permits are not 1 to {}, as many as there may be",
                    self.maximum
                )
                .into(),
            ));
        }
        match self.undo {
            true => self
                .by(self.placed.id()?)
                .acquire(count, options, &self.spins),
            false => self.placed.words().acquire(count, options, &self.spins),
        }
    }

    /// Takes `count` permits, however long that takes, until the guard is dropped.
    pub fn permits(&self, count: u64) -> Result<Permits<'_>> {
        self.acquire(count, WaitOptions::BLOCKING)?;
        Ok(Permits {
            semaphore: self,
            count,
        })
    }

    /// Gives `count` permits back, or adds them: without undo whoever likes may do so.
    ///
    /// `Invalid`: 0. `Overflow`: there would be more than the maximum. With undo `NotOwner`: this process does not hold
    /// as many; `Timeout`: somebody was stopped seconds ago while just taking or giving; `Detached`.
    #[inline(always)]
    pub fn release(&self, count: u64) -> Result<()> {
        match self.release_fast(count) {
            true => Ok(()),
            false => self.release_slowly(count),
        }
    }

    /// Gives `count` permits back if that is one step.
    #[inline(always)]
    pub(crate) fn release_fast(&self, count: u64) -> bool {
        let words = self.placed.words();
        !self.undo && count != 0 && words.try_release(count, self.maximum)
    }

    #[cold]
    fn release_slowly(&self, count: u64) -> Result<()> {
        if self.release_recorded(count) {
            return Ok(());
        }
        if count == 0 {
            return Err(Error::Invalid("0 permits are nothing to give back".into()));
        }
        if !self.undo {
            return self.placed.words().release(count, self.maximum);
        }
        match self.placed.known_id() {
            Some(me) => self.by(me).release(count),
            None => Err(nobody()),
        }
    }

    /// Returns the semaphore as a process sees it whose permits are recorded.
    fn by(&self, me: Id) -> Undo<'_, Segment> {
        Undo {
            words: self.placed.words(),
            all: self.placed.cells(),
            total: self.maximum,
            memory: &self.memory,
            me,
            life: self.placed.segment(),
        }
    }

    /// Returns how many permits are to be had; what the dead hold is not looked for. `Corrupt`.
    pub fn value(&self) -> Result<u64> {
        self.placed.words().checked_value(self.maximum)
    }

    /// Returns how many permits this process holds. `Invalid`: without undo nobody knows.
    pub fn held(&self) -> Result<u64> {
        if !self.undo {
            return Err(Error::Invalid(
                "who holds permits is recorded with undo alone".into(),
            ));
        }
        let cells = undo::cells(self.placed.words(), self.placed.cells());
        Ok(self.placed.known_id().map_or(0, |me| cells.held(me)))
    }

    /// Returns what is known of it; nobody is asked whether the holders live. `Corrupt`.
    pub fn stat(&self) -> Result<Stat> {
        self.placed.words().stat(self.maximum, self.placed.cells())
    }

    /// Whether what a process holds comes back when it ends.
    pub fn has_undo(&self) -> bool {
        self.undo
    }

    /// Returns how many processes may hold permits at a time; 0 without undo: as many as there are.
    pub fn processes(&self) -> u32 {
        self.placed.cells().len() as u32
    }
}

place!(Semaphore);

/// Permits that are held; dropped, they are given back.
pub struct Permits<'a> {
    semaphore: &'a Semaphore,
    count: u64,
}

impl Drop for Permits<'_> {
    fn drop(&mut self) {
        // It fails where somebody has given them back through the semaphore itself: then there is nothing to do.
        let _ = self.semaphore.release(self.count);
    }
}
