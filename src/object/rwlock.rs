//! Readers-writer locks: many processes read at a time, or one writes. Each may die at any time.
//!
//! If a writer dies, the next holder learns of the death, because the data that the lock guards may be half written.
//! `raw::rwlock` has the states.
//!
//! ```
//! use shmkit::rwlock::{Options, RwLock};
//!
//! # fn main() -> shmkit::error::Result<()> {
//! let lock = RwLock::unnamed(&Options::default())?;
//! {
//!     let _reader = lock.read()?; // other processes may read as well
//!     assert!(lock.try_write()?.is_none());
//! }
//! let writer = lock.write()?;
//! if writer.owner_died() {
//!     // Repair what the lock guards, then:
//!     writer.mark_consistent()?;
//! }
//! # Ok(())
//! # }
//! ```

pub use super::{Create, FileOptions};
use super::{Layout, Noun, Object, ObjectHandle, Storage, Tag, in_time, life_cycle};
use crate::error::{Error, Result};
use crate::layout::Kind;
use crate::participant::ProcessInfo;
use crate::raw::WaitOptions;
use crate::raw::count_slot::CountSlot;
pub use crate::raw::rwlock::RwLockInfo;
use crate::raw::rwlock::{RawRwLock, RwLockHandleState, RwLockRef};
use std::mem::ManuallyDrop;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

impl Object for RawRwLock {
    type Cell = CountSlot;

    fn tag(&self) -> &AtomicU64 {
        &self.turnstile.tag
    }
}

/// Number of processes that can read at a time, if the options give none.
pub const READERS: u16 = 128;
/// Maximum number of processes that can read at a time: as many as can use a segment.
pub const MAX_READERS: u16 = 4096;

/// How a readers-writer lock is created and opened. `Options::default()` suits most callers.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Number of processes that can read at a time, 1 to 4096; 0: 128.
    pub readers: u16,
    /// The file of a named lock.
    pub file: FileOptions,
}

impl Options {
    /// Returns the size of such a lock in a segment, in bytes.
    ///
    /// # Errors
    /// * `Invalid`: more than 4096 readers
    pub fn size(&self) -> Result<u64> {
        RwLock::size(self)
    }
}

/// A readers-writer lock that this process has open.
pub struct RwLock {
    object: ObjectHandle<RawRwLock>,
    handle: RwLockHandleState,
}

impl Noun for RwLock {
    type Raw = RawRwLock;
    type Options = Options;

    fn file(options: &Options) -> &FileOptions {
        &options.file
    }

    fn layout(options: &Options, _: Create, _: Storage) -> Result<Layout<'_, RawRwLock>> {
        let readers = match options.readers {
            0 => READERS,
            readers @ 1..=MAX_READERS => readers,
            readers => {
                return Err(Error::Invalid(
                    format!("readers must be from 1 to {MAX_READERS}, not {readers}").into(),
                ));
            }
        };
        let tag = Tag {
            cells: readers,
            ..Tag::of(Kind::RwLock)
        };
        Ok(Layout::new(tag, |raw: &RawRwLock, cells: &[CountSlot]| {
            raw.clear();
            cells.iter().for_each(CountSlot::clear);
        }))
    }

    fn new(object: ObjectHandle<RawRwLock>) -> Result<RwLock> {
        Ok(RwLock {
            object,
            handle: RwLockHandleState::default(),
        })
    }

    fn object(&self) -> &ObjectHandle<RawRwLock> {
        &self.object
    }
}

life_cycle!(RwLock, Options);

impl RwLock {
    #[inline(always)]
    fn whole(&self) -> RwLockRef<'_> {
        RwLockRef {
            raw: self.object.raw(),
            cells: self.object.cells(),
            handle: &self.handle,
        }
    }

    /// Acquires the lock for reading, and waits until no live process writes.
    ///
    /// A thread that reads must not acquire the lock for reading again while another thread waits to write. The writer
    /// waits for the first reading to end, and the second reading waits for the writer.
    ///
    /// # Errors
    /// * `TooManyProcesses`: live processes occupy all count slots of the lock, or all participant slots of the
    ///   segment
    /// * `Overflow`: this process has acquired it 65,535 times
    /// * `LivenessUnknown`: this process has lost all descriptors of the segment, and cannot check whether
    ///   a holder lives
    /// * `Permission`: this user cannot write the file
    /// * `Corrupt`: the words of the lock contradict each other
    pub fn read(&self) -> Result<ReadGuard<'_>> {
        self.reader(WaitOptions::BLOCKING)
    }

    /// Acquires the lock for reading without waiting; returns `None` if a live process writes or waits to write.
    ///
    /// # Errors
    /// As for [`read`](RwLock::read).
    pub fn try_read(&self) -> Result<Option<ReadGuard<'_>>> {
        in_time(self.reader(WaitOptions::NONBLOCKING))
    }

    /// Acquires the lock for reading and waits at most this long; returns `None` if the time has passed.
    ///
    /// # Errors
    /// As for [`read`](RwLock::read).
    pub fn read_timeout(&self, time: Duration) -> Result<Option<ReadGuard<'_>>> {
        in_time(self.reader(WaitOptions::after(time)))
    }

    /// Acquires the lock for writing, and waits until no live process reads or writes. New readers wait meanwhile.
    ///
    /// # Errors
    /// As for [`Lock::acquire`](crate::lock::Lock::acquire).
    pub fn write(&self) -> Result<WriteGuard<'_>> {
        self.writer(WaitOptions::BLOCKING)
    }

    /// Acquires the lock for writing without waiting; returns `None` if a live process holds it.
    ///
    /// # Errors
    /// As for [`write`](RwLock::write).
    pub fn try_write(&self) -> Result<Option<WriteGuard<'_>>> {
        in_time(self.writer(WaitOptions::NONBLOCKING))
    }

    /// Acquires the lock for writing and waits at most this long; returns `None` if the time has passed.
    ///
    /// # Errors
    /// As for [`write`](RwLock::write).
    pub fn write_timeout(&self, time: Duration) -> Result<Option<WriteGuard<'_>>> {
        in_time(self.writer(WaitOptions::after(time)))
    }

    fn reader(&self, options: WaitOptions) -> Result<ReadGuard<'_>> {
        let owner_died = self.read_with(options)?;
        Ok(ReadGuard {
            lock: self,
            owner_died,
        })
    }

    fn writer(&self, options: WaitOptions) -> Result<WriteGuard<'_>> {
        let owner_died = self.write_with(options)?;
        Ok(WriteGuard {
            lock: self,
            owner_died,
        })
    }

    /// Acquires as `read` does, without a guard; returns whether a writer died and the lock is not marked consistent
    /// yet. `WouldBlock`, `Timeout`, `Interrupted`: the lock is not acquired.
    #[doc(hidden)]
    #[inline(always)]
    pub fn read_with(&self, options: WaitOptions) -> Result<bool> {
        match self.fast_read() {
            true => Ok(false),
            false => self.read_slow(options),
        }
    }

    /// Acquires the lock for reading in one step if no process writes, no writer died, and this process has read
    /// before.
    #[inline(always)]
    pub(crate) fn fast_read(&self) -> bool {
        let me = self.object.known_id();
        me.is_some_and(|me| self.whole().try_acquire_read(me))
    }

    #[cold]
    fn read_slow(&self, options: WaitOptions) -> Result<bool> {
        let me = self.object.id()?;
        self.whole().acquire_read(me, options, &**self.segment())
    }

    /// Releases a reading in one step.
    #[inline(always)]
    pub(crate) fn fast_release_read(&self) -> bool {
        let me = self.object.known_id();
        me.is_some_and(|me| self.whole().try_release_read(me))
    }

    /// Releases a reading. `NotOwner`: this process does not read.
    #[doc(hidden)]
    pub fn release_read(&self) -> Result<()> {
        self.whole().release_read(self.object.owner_id()?)
    }

    /// Acquires as `write` does, without a guard; returns and fails as `read_with`.
    #[doc(hidden)]
    #[inline(always)]
    pub fn write_with(&self, options: WaitOptions) -> Result<bool> {
        match self.fast_write() {
            true => Ok(false),
            false => self.write_slow(options),
        }
    }

    /// Acquires the lock for writing if no process holds it or waits for it, no writer died, and this process has used
    /// the segment.
    #[inline(always)]
    pub(crate) fn fast_write(&self) -> bool {
        let me = self.object.known_id();
        me.is_some_and(|me| self.whole().try_acquire_write(me))
    }

    #[cold]
    fn write_slow(&self, options: WaitOptions) -> Result<bool> {
        let me = self.object.id()?;
        self.whole().acquire_write(me, options, &**self.segment())
    }

    /// Releases the writing if no writer died.
    #[inline(always)]
    pub(crate) fn fast_release_write(&self) -> bool {
        let me = self.object.known_id();
        me.is_some_and(|me| self.whole().try_release_write(me))
    }

    /// Releases the writing. `NotOwner`: this process does not write.
    #[doc(hidden)]
    pub fn release_write(&self) -> Result<()> {
        self.whole().release_write(self.object.owner_id()?)
    }

    /// Upgrades a reading to the writing. If it fails, this process still reads. Errors as of `ReadGuard::upgrade`.
    #[doc(hidden)]
    pub fn upgrade_with(&self, options: WaitOptions) -> Result<()> {
        let me = self.object.owner_id()?;
        self.whole().upgrade(me, options, &**self.segment())
    }

    /// Downgrades the writing to a reading. If it fails, this process still writes. Errors as of
    /// `WriteGuard::downgrade`.
    #[doc(hidden)]
    pub fn downgrade(&self) -> Result<()> {
        let me = self.object.owner_id()?;
        self.whole().downgrade(me, &**self.segment())
    }

    /// Records that what the lock guards is consistent again. `NotOwner`: this process does not write.
    #[doc(hidden)]
    pub fn mark_consistent(&self) -> Result<()> {
        self.whole().mark_consistent(self.object.owner_id()?)
    }

    /// Returns the state of the lock and its writer. It does not check which holders live.
    pub fn stat(&self) -> (RwLockInfo, Option<ProcessInfo>) {
        let stat = self.whole().stat();
        let writer = stat.writer.and_then(|id| self.segment().process_info(id));
        (stat, writer)
    }

    /// Returns the number of processes that can read at a time.
    pub fn readers(&self) -> usize {
        self.object.cells().len()
    }
}

/// A lock acquired for reading; dropping the guard releases it.
#[derive(Debug)]
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct ReadGuard<'a> {
    lock: &'a RwLock,
    owner_died: bool,
}

/// A lock acquired for writing; dropping the guard releases it.
#[derive(Debug)]
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct WriteGuard<'a> {
    lock: &'a RwLock,
    owner_died: bool,
}

/// The new guard, or the old guard and the error that prevented the change.
pub type Changed<To, From> = std::result::Result<To, (From, Error)>;

impl<'a> ReadGuard<'a> {
    /// Returns whether a writer had died before this acquisition, and the lock had not been marked consistent since.
    pub fn owner_died(&self) -> bool {
        self.owner_died
    }

    /// Upgrades to a writer, and waits until this process is the only reader; no other process writes in between.
    ///
    /// ```
    /// use shmkit::rwlock::{Options, RwLock};
    ///
    /// # fn main() -> shmkit::error::Result<()> {
    /// let lock = RwLock::unnamed(&Options::default())?;
    /// match lock.read()?.upgrade() {
    ///     Ok(_writer) => assert!(lock.try_read()?.is_none()),
    ///     Err((_reader, error)) => return Err(error),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`write`](RwLock::write), with the guard that still reads, and
    /// * `Deadlock`: another reader waits to be the only one; drop this guard, and acquire the lock for writing
    pub fn upgrade(self) -> Changed<WriteGuard<'a>, ReadGuard<'a>> {
        self.change(WaitOptions::BLOCKING)
    }

    /// Upgrades as [`upgrade`](ReadGuard::upgrade) does, without waiting.
    ///
    /// # Errors
    /// As for [`upgrade`](ReadGuard::upgrade), and
    /// * `WouldBlock`: another live process reads
    pub fn try_upgrade(self) -> Changed<WriteGuard<'a>, ReadGuard<'a>> {
        self.change(WaitOptions::NONBLOCKING)
    }

    /// Upgrades as [`upgrade`](ReadGuard::upgrade) does, and waits at most this long.
    ///
    /// # Errors
    /// As for [`upgrade`](ReadGuard::upgrade), and
    /// * `Timeout`: the time has passed
    pub fn upgrade_timeout(self, time: Duration) -> Changed<WriteGuard<'a>, ReadGuard<'a>> {
        self.change(WaitOptions::after(time))
    }

    fn change(self, options: WaitOptions) -> Changed<WriteGuard<'a>, ReadGuard<'a>> {
        match self.lock.upgrade_with(options) {
            Ok(()) => {
                let reader = ManuallyDrop::new(self);
                Ok(WriteGuard {
                    lock: reader.lock,
                    owner_died: reader.owner_died,
                })
            }
            Err(error) => Err((self, error)),
        }
    }
}

impl<'a> WriteGuard<'a> {
    /// Returns the same as [`ReadGuard::owner_died`].
    pub fn owner_died(&self) -> bool {
        self.owner_died
    }

    /// Records that what the lock guards is consistent again, so that later holders do not learn of the death.
    ///
    /// # Errors
    /// * `NotOwner`: this is a forked child, and its parent writes
    pub fn mark_consistent(&self) -> Result<()> {
        self.lock.mark_consistent()
    }

    /// Downgrades to a reader, without waiting; no other process writes in between.
    ///
    /// # Errors
    /// With the guard that still writes:
    /// * `TooManyProcesses`, `Overflow`, `LivenessUnknown`: as for [`read`](RwLock::read)
    pub fn downgrade(self) -> Changed<ReadGuard<'a>, WriteGuard<'a>> {
        match self.lock.downgrade() {
            Ok(()) => {
                let writer = ManuallyDrop::new(self);
                Ok(ReadGuard {
                    lock: writer.lock,
                    owner_died: writer.lock.stat().0.writer_died,
                })
            }
            Err(error) => Err((self, error)),
        }
    }
}

impl Drop for ReadGuard<'_> {
    fn drop(&mut self) {
        // It fails in a forked child, which does not read.
        let _ = self.lock.release_read();
    }
}

impl Drop for WriteGuard<'_> {
    fn drop(&mut self) {
        // It fails in a forked child, which does not write.
        let _ = self.lock.release_write();
    }
}
