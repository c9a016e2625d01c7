//! Barriers: a number of processes and threads wait until all of them have arrived.
//!
//! If a party dies while it waits, the barrier breaks, and all other waiting parties return. `raw::barrier` has the
//! states.
//!
//! ```
//! use shmkit::barrier::{Barrier, Options};
//!
//! # fn main() -> shmkit::error::Result<()> {
//! let barrier = Barrier::unnamed(&Options::of(2))?;
//! std::thread::scope(|scope| {
//!     let other = scope.spawn(|| barrier.wait());
//!     let index = barrier.wait()?;
//!     let others = other.join().expect("the thread does not panic")?;
//!     assert_eq!(index + others, 1); // 0 and 1: the last to arrive has the highest
//!     Ok(())
//! })
//! # }
//! ```

pub use super::{Create, FileOptions};
use super::{Layout, Noun, Object, ObjectHandle, Storage, Tag, life_cycle};
use crate::error::{Error, Result};
use crate::layout::Kind;
use crate::raw::WaitOptions;
#[doc(hidden)]
pub use crate::raw::barrier::Last;
use crate::raw::barrier::{BarrierHandleState, BarrierRef, PartyCell, RawBarrier};
pub use crate::raw::barrier::{BarrierInfo, MAX_PARTIES};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

impl Object for RawBarrier {
    type Cell = PartyCell;

    fn tag(&self) -> &AtomicU64 {
        &self.lock.tag
    }
}

/// How a barrier is created and opened.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Number of parties, 1 to `MAX_PARTIES`. A process that only opens the barrier may leave it 0.
    pub parties: u32,
    /// The file of a named barrier.
    pub file: FileOptions,
}

impl Options {
    /// Returns the options of a barrier for this many parties.
    pub fn of(parties: u32) -> Options {
        Options {
            parties,
            ..Options::default()
        }
    }

    /// Returns the size of such a barrier in a segment, in bytes.
    ///
    /// # Errors
    /// * `Invalid`: 0 parties, or more than `MAX_PARTIES`
    pub fn size(&self) -> Result<u64> {
        Barrier::size(self)
    }
}

/// A barrier that this process has open.
pub struct Barrier {
    object: ObjectHandle<RawBarrier>,
    handle: BarrierHandleState,
}

impl Noun for Barrier {
    type Raw = RawBarrier;
    type Options = Options;

    fn file(options: &Options) -> &FileOptions {
        &options.file
    }

    fn layout(options: &Options, create: Create, _: Storage) -> Result<Layout<'_, RawBarrier>> {
        let parties = options.parties;
        // An opener accepts the parties of the barrier.
        let least = u32::from(create != Create::Never);
        if !(least..=MAX_PARTIES).contains(&parties) {
            return Err(Error::Invalid(
                format!("parties must be from 1 to {MAX_PARTIES}, not {parties}").into(),
            ));
        }
        let tag = Tag {
            cells: 2 * parties as u16,
            ..Tag::of(Kind::Barrier)
        };
        Ok(Layout::new(tag, RawBarrier::clear))
    }

    fn new(object: ObjectHandle<RawBarrier>) -> Result<Barrier> {
        let cells = object.cells().len();
        if !cells.is_multiple_of(2) || !(2..=2 * MAX_PARTIES as usize).contains(&cells) {
            return Err(Error::Corrupt(
                format!(
                    "the barrier has {cells} cells, but must have two for each party; recreate it"
                )
                .into(),
            ));
        }
        Ok(Barrier {
            object,
            handle: BarrierHandleState::default(),
        })
    }

    fn object(&self) -> &ObjectHandle<RawBarrier> {
        &self.object
    }
}

life_cycle!(Barrier, Options);

impl Barrier {
    fn view(&self) -> BarrierRef<'_> {
        BarrierRef {
            raw: self.object.raw(),
            cells: self.object.cells(),
        }
    }

    /// Waits until all parties have arrived; returns the index of this one: 0 of the first, `parties - 1` of the last.
    ///
    /// # Errors
    /// * `Broken`: a waiting party died, timed out or called [`abort`](Barrier::abort) or [`reset`](Barrier::reset)
    /// * `TooManyProcesses`: live processes own all participant slots of the segment
    /// * `LivenessUnknown`: this process has lost all descriptors of the segment and cannot check which parties live
    /// * `Permission`: this user cannot write the file
    /// * `Corrupt`: the words of the barrier contradict each other
    pub fn wait(&self) -> Result<u32> {
        self.wait_with(WaitOptions::BLOCKING, Last::Passes)
    }

    /// Waits as [`wait`](Barrier::wait) does, for at most this long. A party that times out breaks the barrier.
    ///
    /// # Errors
    /// As for [`wait`](Barrier::wait), and
    /// * `Timeout`: the time has passed; if this party had arrived, the barrier is broken
    pub fn wait_timeout(&self, time: Duration) -> Result<u32> {
        self.wait_with(WaitOptions::after(time), Last::Passes)
    }

    /// Waits as [`wait`](Barrier::wait) does; the last party to arrive calls `action` while all others still wait.
    ///
    /// All parties must call this function, because any of them may be the last. If `action` panics, the barrier
    /// breaks.
    ///
    /// ```
    /// use shmkit::barrier::{Barrier, Options};
    ///
    /// # fn main() -> shmkit::error::Result<()> {
    /// let barrier = Barrier::unnamed(&Options::of(1))?;
    /// let mut swapped = false;
    /// barrier.wait_then(|| swapped = true)?;
    /// assert!(swapped);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`wait`](Barrier::wait).
    pub fn wait_then(&self, action: impl FnOnce()) -> Result<u32> {
        /// Breaks the barrier if it is dropped.
        struct Abort<'a>(&'a Barrier);

        impl Drop for Abort<'_> {
            fn drop(&mut self) {
                self.0.abort();
            }
        }

        let index = self.wait_with(WaitOptions::BLOCKING, Last::Holds)?;
        if index == self.parties() - 1 {
            let abort = Abort(self);
            action();
            std::mem::forget(abort);
            self.release()?;
        }
        Ok(index)
    }

    /// Waits as `wait` does. With `Last::Holds` the last party returns while the others still wait, and must then call
    /// `release` or `abort`. `WouldBlock`: parties are missing. `Interrupted`: the other parties wait on, or have passed
    /// meanwhile.
    #[doc(hidden)]
    pub fn wait_with(&self, options: WaitOptions, last: Last) -> Result<u32> {
        let me = self.object.id()?;
        let liveness = &**self.segment();
        let index = self
            .view()
            .wait(me, options, last, &self.handle, liveness)?;
        Ok(index as u32)
    }

    /// Releases the parties that `Last::Holds` holds. `NotOwner`: this process holds none, or a reset intervened.
    /// `Broken`: the barrier was broken meanwhile.
    #[doc(hidden)]
    pub fn release(&self) -> Result<()> {
        self.view().pass(self.object.owner_id()?, &**self.segment())
    }

    /// Restores the barrier. Waiting parties fail with `Broken`; parties that arrive later wait for the full number.
    ///
    /// # Errors
    /// On an error nothing was changed. As for [`wait`](Barrier::wait), and
    /// * `Timeout`: a party has been arriving or leaving for a second
    pub fn reset(&self) -> Result<()> {
        let me = self.object.id()?;
        self.view().reset(me, &self.handle, &**self.segment())
    }

    /// Breaks the barrier. Waiting parties, and those that arrive before a reset, fail with `Broken`.
    pub fn abort(&self) {
        self.view().abort();
    }

    /// Returns the number of parties.
    pub fn parties(&self) -> u32 {
        self.view().parties() as u32
    }

    /// Returns the state of the barrier. It does not check which parties live.
    pub fn stat(&self) -> BarrierInfo {
        self.view().stat()
    }
}
