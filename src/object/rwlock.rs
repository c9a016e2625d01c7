//! Readers-writer locks: many processes read at once, or one writes; each may die at any moment.
//!
//! `sync::rwlock` has the states and what changes them; here a lock gets its place and its holders' identity.
//!
//! ```
//! use shmkit::rwlock::{Options, RwLock};
//!
//! # fn main() -> shmkit::error::Result<()> {
//! let lock = RwLock::unnamed(&Options::default())?;
//! {
//!     let _reader = lock.read()?; // others may read as well
//! }
//! let writer = lock.write()?;
//! if writer.recovered() {
//!     // One died writing: make whole what the lock guards.
//!     writer.mark_consistent()?;
//! }
//! # Ok(())
//! # }
//! ```

use super::lock::nobody;
pub use super::lock::{Create, Named, Timeout, WaitOptions};
use super::{Object, Placed, Recipe, Tag, place};
use crate::error::{Error, Result};
use crate::layout::Kind;
use crate::participant::{Id, Person};
use crate::raw::cell::Cell;
pub use crate::raw::rwlock::Stat;
use crate::raw::rwlock::{Local, Whole, Words};
use crate::segment::Segment;
use std::ffi::CStr;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

impl Object for Words {
    type Cell = Cell;

    fn tag(&self) -> &AtomicU64 {
        &self.door.tag
    }
}

/// How many processes may read at a time unless asked otherwise.
pub const READERS: u16 = 128;
/// How many may at the most: as many as a segment can have participants.
pub const MOST_READERS: u16 = 4096;

/// How a readers-writer lock is made. `Options::default()` is what most want.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How many processes may read at a time, 1 to 4096. 0: 128.
    pub readers: u16,
    /// How a named one is made and opened.
    pub named: Named,
}

impl Options {
    fn recipe(&self) -> Result<Recipe<'static, Words>> {
        if self.readers > MOST_READERS {
            return Err(Error::Invalid(
                format!(
                    "{} processes that read at a time: 1 to {MOST_READERS} may",
                    self.readers
                )
                .into(),
            ));
        }
        let cells = match self.readers {
            0 => READERS,
            readers => readers,
        };
        Ok(Recipe::new(
            Tag {
                kind: Kind::RwLock,
                flags: 0,
                cells,
            },
            &|words, cells| {
                words.clear();
                cells.iter().for_each(Cell::clear);
            },
        ))
    }

    /// Returns how many bytes such a lock takes in a segment. `Invalid`: more readers than can be.
    pub fn size(&self) -> Result<u64> {
        Ok(self.recipe()?.tag.size::<Words>())
    }
}

/// A readers-writer lock of which this process has a handle.
pub struct RwLock {
    placed: Placed<Words>,
    local: Local,
}

impl RwLock {
    fn new(placed: Placed<Words>) -> RwLock {
        RwLock {
            placed,
            local: Local::default(),
        }
    }

    /// As `Lock::unnamed`.
    pub fn unnamed(options: &Options) -> Result<RwLock> {
        Placed::unnamed(&options.recipe()?).map(RwLock::new)
    }

    /// As `Lock::named`.
    pub fn named(name: &CStr, create: Create, options: &Options) -> Result<RwLock> {
        Placed::in_file(name, &options.recipe()?, create, &options.named).map(RwLock::new)
    }

    /// As `Lock::at`.
    pub fn at(
        segment: &Arc<Segment>,
        offset: u64,
        create: Create,
        options: &Options,
    ) -> Result<RwLock> {
        Placed::at(segment, offset, &options.recipe()?, create).map(RwLock::new)
    }

    /// As `Lock::open_fd`.
    pub fn open_fd(fd: i32, offset: u64, options: &Options) -> Result<RwLock> {
        Placed::open_fd(fd, offset, &options.recipe()?, &options.named).map(RwLock::new)
    }

    #[inline(always)]
    fn whole(&self) -> Whole<'_> {
        Whole {
            words: self.placed.words(),
            cells: self.placed.cells(),
            local: &self.local,
        }
    }

    fn known_id(&self) -> Result<Id> {
        self.placed.known_id().ok_or_else(nobody)
    }

    /// Takes it for reading, waiting for it; returns whether a writer died and `mark_consistent` has not been called
    /// since: what is read may be half written.
    ///
    /// It is held if and only if this is `Ok`. `WouldBlock`, `Timeout`, `Interrupted`: it is not. `Participants`: as many
    /// processes read as may, or use the segment. `Overflow`: this process holds it 65,535 times. `Detached`,
    /// `Permission`, `Corrupt`: as of `Lock::acquire`.
    ///
    /// Who reads already must not read once more as long as others want to write: a writer that came in between waits
    /// for the first time, and the second time for that writer.
    #[inline(always)]
    pub fn acquire_read(&self, options: WaitOptions) -> Result<bool> {
        match self.acquire_read_fast() {
            true => Ok(false),
            false => self.acquire_read_slowly(options),
        }
    }

    /// Takes it for reading if that is one step: nobody writes, no writer died, and this process has read before.
    #[inline(always)]
    pub(crate) fn acquire_read_fast(&self) -> bool {
        let me = self.placed.known_id();
        me.is_some_and(|me| self.whole().try_acquire_read(me))
    }

    #[cold]
    fn acquire_read_slowly(&self, options: WaitOptions) -> Result<bool> {
        let me = self.placed.id()?;
        self.whole().acquire_read(me, options, &**self.segment())
    }

    /// Gives back what was taken for reading if that is one step.
    #[inline(always)]
    pub(crate) fn release_read_fast(&self) -> bool {
        let me = self.placed.known_id();
        me.is_some_and(|me| self.whole().try_release_read(me))
    }

    /// Gives back what was taken for reading, once. `NotOwner`: this process does not read.
    pub fn release_read(&self) -> Result<()> {
        self.whole().release_read(self.known_id()?)
    }

    /// Takes it for writing, waiting until nobody writes or reads; returns as `acquire_read`.
    ///
    /// As soon as the writer before it has gone, who wants to read waits for it. Errors as of `Lock::acquire`.
    #[inline(always)]
    pub fn acquire_write(&self, options: WaitOptions) -> Result<bool> {
        match self.acquire_write_fast() {
            true => Ok(false),
            false => self.acquire_write_slowly(options),
        }
    }

    /// Takes it for writing if nobody has it or waits for it, no writer died, and this process has used the segment.
    #[inline(always)]
    pub(crate) fn acquire_write_fast(&self) -> bool {
        let me = self.placed.known_id();
        me.is_some_and(|me| self.whole().try_acquire_write(me))
    }

    #[cold]
    fn acquire_write_slowly(&self, options: WaitOptions) -> Result<bool> {
        let me = self.placed.id()?;
        self.whole().acquire_write(me, options, &**self.segment())
    }

    /// Gives back what was taken for writing if no writer died.
    #[inline(always)]
    pub(crate) fn release_write_fast(&self) -> bool {
        let me = self.placed.known_id();
        me.is_some_and(|me| self.whole().try_release_write(me))
    }

    /// Gives back what was taken for writing. `NotOwner`: this process does not write.
    pub fn release_write(&self) -> Result<()> {
        self.whole().release_write(self.known_id()?)
    }

    /// Goes from reading to writing, so that nobody writes in between. Where that fails this process still reads.
    ///
    /// `Deadlock`: another one that wants to write, or to upgrade, waits for the readers, and so for this one: give it
    /// back and acquire it for writing. `NotOwner`: this process does not read. Else as `acquire_write`.
    pub fn upgrade(&self, options: WaitOptions) -> Result<()> {
        let me = self.known_id()?;
        self.whole().upgrade(me, options, &**self.segment())
    }

    /// Goes from writing to reading, so that nobody writes in between. Where that fails this process still writes.
    ///
    /// `NotOwner`: it does not write. `Participants`, `Overflow`, `Detached`: as of `acquire_read`.
    pub fn downgrade(&self) -> Result<()> {
        let me = self.known_id()?;
        self.whole().downgrade(me, &**self.segment())
    }

    /// Says that what the lock guards is whole again. `NotOwner`: this process does not write.
    pub fn mark_consistent(&self) -> Result<()> {
        self.whole().mark_consistent(self.known_id()?)
    }

    /// Takes it for reading, however long that takes, until the guard is dropped.
    pub fn read(&self) -> Result<Reader<'_>> {
        let recovered = self.acquire_read(WaitOptions::BLOCKING)?;
        Ok(Reader {
            lock: self,
            recovered,
        })
    }

    /// Takes it for writing, however long that takes, until the guard is dropped.
    pub fn write(&self) -> Result<Writer<'_>> {
        let recovered = self.acquire_write(WaitOptions::BLOCKING)?;
        Ok(Writer {
            lock: self,
            recovered,
        })
    }

    /// Returns what is known of it and of who writes; nobody is asked whether anybody lives.
    pub fn stat(&self) -> (Stat, Option<Person>) {
        let stat = self.whole().stat();
        let writer = stat.writer.and_then(|id| self.segment().person(id));
        (stat, writer)
    }

    /// Returns how many processes may read at a time.
    pub fn readers(&self) -> usize {
        self.placed.cells().len()
    }
}

place!(RwLock);

/// A readers-writer lock that is held for reading; dropped, it is released.
pub struct Reader<'a> {
    lock: &'a RwLock,
    recovered: bool,
}

/// A readers-writer lock that is held for writing; dropped, it is released.
pub struct Writer<'a> {
    lock: &'a RwLock,
    recovered: bool,
}

impl<'a> Reader<'a> {
    /// Whether a writer died, and nobody had said since, when this was taken, that what the lock guards is whole.
    pub fn recovered(&self) -> bool {
        self.recovered
    }

    /// Goes on to writing as `RwLock::upgrade`; where that fails it comes back with the reason.
    pub fn upgrade(
        self,
        options: WaitOptions,
    ) -> std::result::Result<Writer<'a>, (Reader<'a>, Error)> {
        match self.lock.upgrade(options) {
            Ok(()) => {
                let reader = ManuallyDrop::new(self);
                Ok(Writer {
                    lock: reader.lock,
                    recovered: reader.recovered,
                })
            }
            Err(error) => Err((self, error)),
        }
    }
}

impl<'a> Writer<'a> {
    /// As `Reader::recovered`.
    pub fn recovered(&self) -> bool {
        self.recovered
    }

    /// Says that what the lock guards is whole again.
    pub fn mark_consistent(&self) -> Result<()> {
        self.lock.mark_consistent()
    }

    /// Goes on to reading as `RwLock::downgrade`; where that fails it comes back with the reason.
    pub fn downgrade(self) -> std::result::Result<Reader<'a>, (Writer<'a>, Error)> {
        match self.lock.downgrade() {
            Ok(()) => {
                let writer = ManuallyDrop::new(self);
                Ok(Reader {
                    lock: writer.lock,
                    recovered: writer.lock.stat().0.writer_died,
                })
            }
            Err(error) => Err((self, error)),
        }
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        // It fails where somebody has released it through the lock itself: then there is nothing to do.
        let _ = self.lock.release_read();
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        // As `Reader`.
        let _ = self.lock.release_write();
    }
}
