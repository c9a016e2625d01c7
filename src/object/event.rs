//! Events: a flag for which any number of processes and threads can wait.
//!
//! An event has no owner, so a process that uses one occupies no participant slot. `raw::event` has the states.
//!
//! ```
//! use shmkit::event::Event;
//! use std::time::Duration;
//!
//! # fn main() -> shmkit::error::Result<()> {
//! let ready = Event::unnamed()?;
//! assert!(!ready.wait_timeout(Duration::from_millis(1))?);
//! std::thread::scope(|scope| {
//!     let waiter = scope.spawn(|| ready.wait());
//!     ready.set();
//!     waiter.join().expect("the thread does not panic")
//! })?;
//! assert!(ready.is_set());
//! # Ok(())
//! # }
//! ```

pub use super::{Create, FileOptions};
use super::{Layout, NoCell, Noun, Object, ObjectHandle, Storage, Tag, in_time, life_cycle};
use crate::error::Result;
use crate::layout::Kind;
use crate::raw::WaitOptions;
pub use crate::raw::event::EventInfo;
use crate::raw::event::RawEvent;
use crate::raw::wait::SpinState;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

impl Object for RawEvent {
    type Cell = NoCell;

    fn tag(&self) -> &AtomicU64 {
        &self.tag
    }
}

/// An event that this process has open.
pub struct Event {
    object: ObjectHandle<RawEvent>,
    spins: SpinState,
}

impl Noun for Event {
    type Raw = RawEvent;
    type Options = FileOptions;

    fn file(options: &FileOptions) -> &FileOptions {
        options
    }

    fn layout(_: &FileOptions, _: Create, _: Storage) -> Result<Layout<'_, RawEvent>> {
        Ok(Layout::new(Tag::of(Kind::Event), |raw: &RawEvent, _| {
            raw.reset()
        }))
    }

    fn new(object: ObjectHandle<RawEvent>) -> Result<Event> {
        Ok(Event {
            object,
            spins: SpinState::default(),
        })
    }

    fn object(&self) -> &ObjectHandle<RawEvent> {
        &self.object
    }
}

life_cycle!(Event);

impl Event {
    /// The size of an event in a segment, in bytes.
    pub const SIZE: u64 = size_of::<RawEvent>() as u64;

    /// Sets the event. All waiters return, and no call waits until the event is cleared.
    #[inline(always)]
    pub fn set(&self) {
        self.object.raw().set();
    }

    /// Clears the event. Calls that begin later wait for the next `set`; calls that began before the last `set` return.
    #[inline(always)]
    pub fn clear(&self) {
        self.object.raw().clear();
    }

    /// Returns whether the event is set.
    #[inline(always)]
    pub fn is_set(&self) -> bool {
        self.object.raw().is_set()
    }

    /// Waits until the event is set. A `set` after the call began suffices, even if `clear` followed it.
    ///
    /// # Errors
    /// None without a fault of the kernel.
    pub fn wait(&self) -> Result<()> {
        self.wait_with(WaitOptions::BLOCKING)
    }

    /// Waits at most this long; returns whether the event was set.
    ///
    /// # Errors
    /// As for [`wait`](Event::wait).
    pub fn wait_timeout(&self, time: Duration) -> Result<bool> {
        in_time(self.wait_with(WaitOptions::after(time))).map(|set| set.is_some())
    }

    /// Waits as `wait` does. `WouldBlock`, `Timeout`, `Interrupted`: the event was not set.
    #[doc(hidden)]
    #[inline(always)]
    pub fn wait_with(&self, options: WaitOptions) -> Result<()> {
        self.object.raw().wait(options, &self.spins)
    }

    /// Returns the state of the event.
    pub fn stat(&self) -> EventInfo {
        self.object.raw().stat()
    }
}
