//! Semaphores: permits that processes and threads acquire and release. With undo, the permits of a dead process are
//! released, as with SEM_UNDO (semop(2)).
//!
//! `raw::semaphore` and `raw::undo` have the states.
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
//!     let _permits = three.acquire(1)?;
//!     assert_eq!((three.value()?, three.held()?), (2, 1));
//!     assert!(three.try_acquire(3)?.is_none());
//! } // released, as by the death of this process
//! assert_eq!(three.value()?, 3);
//! # Ok(())
//! # }
//! ```

pub use super::{Create, FileOptions};
use super::{Layout, Noun, Object, ObjectHandle, Storage, Tag, in_time, life_cycle};
use crate::error::{Error, Result};
use crate::layout::Kind;
use crate::participant::Id;
use crate::raw::WaitOptions;
use crate::raw::count_slot::CountSlot;
pub use crate::raw::semaphore::SemaphoreInfo;
use crate::raw::semaphore::{MAX_PERMITS, RawSemaphore};
use crate::raw::undo::{self, UndoHandleState, UndoRef};
use crate::raw::wait::SpinState;
use crate::segment::Segment;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// In the tag: the permits of a dead process are released.
const UNDO: u16 = 1;

/// Number of processes that can hold permits of a semaphore with undo, if the options give none.
const PROCESSES: u32 = 128;
/// Maximum of that number: as many as can use a segment.
const MAX_PROCESSES: u32 = 4096;

impl Object for RawSemaphore {
    type Cell = CountSlot;

    fn tag(&self) -> &AtomicU64 {
        &self.lock.tag
    }
}

/// How a semaphore is created and opened. `Options::default()` has no permit and no maximum.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Initial number of permits, at most 2^31 - 1.
    pub value: u64,
    /// Maximum number of permits; 0: 2^31 - 1. With undo the maximum is `value`.
    pub maximum: u64,
    /// Release the permits of a process that dies.
    pub undo: bool,
    /// With undo: number of processes that can hold permits at a time, at most 4096; 0: 128.
    pub processes: u32,
    /// The file of a named semaphore.
    pub file: FileOptions,
}

impl Options {
    /// Returns the size of such a semaphore in a segment, in bytes.
    ///
    /// # Errors
    /// * `Invalid`: the options contradict each other
    pub fn size(&self) -> Result<u64> {
        Semaphore::size(self)
    }

    /// Refuses options that contradict each other.
    fn check(&self, create: Create) -> Result<()> {
        let invalid = |text: String| Err(Error::Invalid(text.into()));
        let (value, maximum) = (self.value, self.maximum);
        if value > MAX_PERMITS || maximum > MAX_PERMITS {
            let given = value.max(maximum);
            return invalid(format!(
                "value and maximum must be at most {MAX_PERMITS}, not {given}"
            ));
        }
        if maximum != 0 && value > maximum {
            return invalid(format!(
                "the value must be at most the maximum, {maximum}, not {value}"
            ));
        }
        if self.undo && maximum != 0 && maximum != value {
            return invalid(format!(
                "the maximum of a semaphore with undo must be its value, {value}, not {maximum}"
            ));
        }
        if self.processes > MAX_PROCESSES {
            let given = self.processes;
            return invalid(format!(
                "processes must be at most {MAX_PROCESSES}, not {given}"
            ));
        }
        if !self.undo && self.processes != 0 {
            return invalid("a semaphore must have undo to have the option processes".into());
        }
        if create != Create::Never && self.maximum() == 0 {
            return invalid("the value of a semaphore with undo must be at least 1, not 0".into());
        }
        Ok(())
    }

    fn maximum(&self) -> u64 {
        match (self.undo, self.maximum) {
            (true, _) => self.value,
            (false, 0) => MAX_PERMITS,
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
            flags: if self.undo { UNDO } else { 0 },
            cells: cells as u16, // at most MAX_PROCESSES
            ..Tag::of(Kind::Semaphore)
        }
    }
}

/// A semaphore that this process has open.
pub struct Semaphore {
    object: ObjectHandle<RawSemaphore>,
    spins: SpinState,
    undo: bool,
    maximum: u64,
    handle: UndoHandleState,
}

impl Noun for Semaphore {
    type Raw = RawSemaphore;
    type Options = Options;

    fn file(options: &Options) -> &FileOptions {
        &options.file
    }

    fn layout(options: &Options, create: Create, _: Storage) -> Result<Layout<'_, RawSemaphore>> {
        options.check(create)?;
        Ok(Layout::new(
            options.tag(),
            |raw: &RawSemaphore, cells: &[CountSlot]| {
                raw.prepare(options.value, options.maximum());
                cells.iter().for_each(CountSlot::clear);
            },
        ))
    }

    fn size(options: &Options) -> Result<u64> {
        // The size does not depend on the value, which may be 0 here.
        Ok(Semaphore::layout(options, Create::Never, Storage::Segment)?.size())
    }

    fn new(object: ObjectHandle<RawSemaphore>) -> Result<Semaphore> {
        let semaphore = Semaphore {
            undo: object.flags() & UNDO != 0,
            maximum: object.raw().maximum()?,
            object,
            spins: SpinState::default(),
            handle: UndoHandleState::default(),
        };
        match semaphore.undo && semaphore.object.cells().is_empty() {
            true => Err(Error::Corrupt(
                "the semaphore has undo, but no count slots for its holders; recreate it".into(),
            )),
            false => Ok(semaphore),
        }
    }

    fn object(&self) -> &ObjectHandle<RawSemaphore> {
        &self.object
    }

    fn check(&self, options: &Options, _: Storage) -> Result<()> {
        match self.maximum == options.maximum() {
            true => Ok(()),
            false => Err(Error::Invalid(
                format!(
                    "the Semaphore was created with another maximum, {}, not {}; \
                     pass the same one, or open it without creating it",
                    self.maximum,
                    options.maximum()
                )
                .into(),
            )),
        }
    }
}

life_cycle!(Semaphore, Options);

impl Semaphore {
    /// Acquires `count` permits, all or none, and waits until that many are free.
    ///
    /// # Errors
    /// * `Invalid`: 0 permits, or more than the maximum
    ///
    /// With undo also:
    /// * `TooManyProcesses`: live processes occupy all count slots of the semaphore, or all participant slots of the
    ///   segment
    /// * `Overflow`: this process would hold more than 65,535 permits
    /// * `LivenessUnknown`: this process has lost all descriptors of the segment and cannot check which holders live
    /// * `Permission`: this user cannot write the file
    /// * `Corrupt`: the words of the semaphore contradict each other
    pub fn acquire(&self, count: u64) -> Result<Permits<'_>> {
        self.permits(count, WaitOptions::BLOCKING)
    }

    /// Acquires `count` permits without waiting; returns `None` if fewer are free.
    ///
    /// # Errors
    /// As for [`acquire`](Semaphore::acquire).
    pub fn try_acquire(&self, count: u64) -> Result<Option<Permits<'_>>> {
        in_time(self.permits(count, WaitOptions::NONBLOCKING))
    }

    /// Acquires `count` permits and waits at most this long; returns `None` if the time has passed.
    ///
    /// # Errors
    /// As for [`acquire`](Semaphore::acquire).
    pub fn acquire_timeout(&self, count: u64, time: Duration) -> Result<Option<Permits<'_>>> {
        in_time(self.permits(count, WaitOptions::after(time)))
    }

    fn permits(&self, count: u64, options: WaitOptions) -> Result<Permits<'_>> {
        self.acquire_with(count, options)?;
        Ok(Permits {
            semaphore: self,
            count,
            process: std::process::id(),
        })
    }

    /// Acquires as `acquire` does, without a guard. `WouldBlock`, `Timeout`, `Interrupted`: no permit is acquired.
    #[doc(hidden)]
    #[inline(always)]
    pub fn acquire_with(&self, count: u64, options: WaitOptions) -> Result<()> {
        match self.fast_acquire(count) {
            true => Ok(()),
            false => self.acquire_slow(count, options),
        }
    }

    /// Acquires `count` permits in one step.
    #[inline(always)]
    pub(crate) fn fast_acquire(&self, count: u64) -> bool {
        !self.undo && count != 0 && self.object.raw().try_take(count)
    }

    /// Acquires a permit with undo in a few steps.
    pub(crate) fn try_acquire_recorded(&self, count: u64) -> bool {
        count == 1 && self.fast_undo(|undo| undo.try_acquire())
    }

    /// Releases a permit with undo in a few steps.
    pub(crate) fn try_release_recorded(&self, count: u64) -> bool {
        count == 1 && self.fast_undo(|undo| undo.try_release())
    }

    fn fast_undo(&self, steps: impl Fn(UndoRef<'_, Segment>) -> bool) -> bool {
        let me = self.object.known_id().filter(|_| self.undo);
        me.is_some_and(|me| steps(self.by(me)))
    }

    #[cold]
    fn acquire_slow(&self, count: u64, options: WaitOptions) -> Result<()> {
        if self.try_acquire_recorded(count) {
            return Ok(());
        }
        if !(1..=self.maximum).contains(&count) {
            return Err(Error::Invalid(
                format!(
                    "the number of permits must be from 1 to {}, not {count}",
                    self.maximum
                )
                .into(),
            ));
        }
        match self.undo {
            true => self
                .by(self.object.id()?)
                .acquire(count, options, &self.spins),
            false => self.object.raw().acquire(count, options, &self.spins),
        }
    }

    /// Releases `count` permits. Without undo, any process may release permits that it has not acquired, which adds
    /// permits.
    ///
    /// # Errors
    /// * `Invalid`: 0 permits
    /// * `Overflow`: there would be more permits than the maximum
    ///
    /// With undo also:
    /// * `NotOwner`: this process holds fewer permits
    /// * `Timeout`: another live process has been acquiring or releasing permits for seconds
    /// * `LivenessUnknown`: as for [`acquire`](Semaphore::acquire)
    #[inline(always)]
    pub fn release(&self, count: u64) -> Result<()> {
        match self.fast_release(count) {
            true => Ok(()),
            false => self.release_slow(count),
        }
    }

    /// Releases `count` permits in one step.
    #[inline(always)]
    pub(crate) fn fast_release(&self, count: u64) -> bool {
        let raw = self.object.raw();
        !self.undo && count != 0 && raw.try_release(count, self.maximum)
    }

    #[cold]
    fn release_slow(&self, count: u64) -> Result<()> {
        if self.try_release_recorded(count) {
            return Ok(());
        }
        if count == 0 {
            return Err(Error::Invalid(
                "the number of permits to release must be at least 1, not 0".into(),
            ));
        }
        match self.undo {
            true => self.by(self.object.owner_id()?).release(count),
            false => self.object.raw().release(count, self.maximum),
        }
    }

    /// Returns the semaphore with undo as this process sees it.
    fn by(&self, me: Id) -> UndoRef<'_, Segment> {
        UndoRef {
            raw: self.object.raw(),
            all: self.object.cells(),
            total: self.maximum,
            handle: &self.handle,
            me,
            liveness: self.object.segment(),
        }
    }

    /// Returns the number of free permits. The permits of dead holders do not count.
    ///
    /// # Errors
    /// * `Corrupt`: there are more than the maximum
    pub fn value(&self) -> Result<u64> {
        self.object.raw().checked_value(self.maximum)
    }

    /// Returns the number of permits that this process holds.
    ///
    /// # Errors
    /// * `Invalid`: the semaphore has no undo, so it does not record its holders
    pub fn held(&self) -> Result<u64> {
        if !self.undo {
            return Err(Error::Invalid(
                "a semaphore must have undo to record its holders".into(),
            ));
        }
        let cells = undo::cells(self.object.raw(), self.object.cells());
        Ok(self.object.known_id().map_or(0, |me| cells.held(me)))
    }

    /// Returns the state of the semaphore. It does not check which holders live.
    ///
    /// # Errors
    /// * `Corrupt`: as for [`value`](Semaphore::value)
    pub fn stat(&self) -> Result<SemaphoreInfo> {
        self.object.raw().stat(self.maximum, self.object.cells())
    }

    /// Returns whether the permits of a dead process are released.
    pub fn has_undo(&self) -> bool {
        self.undo
    }

    /// Returns the number of processes that can hold permits at a time; 0 without undo, when any number can.
    pub fn processes(&self) -> u32 {
        self.object.cells().len() as u32
    }
}

/// Acquired permits; dropping the guard releases them.
#[derive(Debug)]
#[must_use = "the permits are released at once if they are not kept"]
pub struct Permits<'a> {
    semaphore: &'a Semaphore,
    count: u64,
    /// The process that acquired them: a forked child's copy releases nothing.
    process: u32,
}

impl Permits<'_> {
    /// Returns the number of permits.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Keeps the permits acquired, or consumes them if another process adds new ones.
    pub fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for Permits<'_> {
    fn drop(&mut self) {
        if self.process == std::process::id() {
            // It fails if they were released through `Semaphore::release`; then there is nothing to release.
            let _ = self.semaphore.release(self.count);
        }
    }
}
