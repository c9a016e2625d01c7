//! Growth of a segment, and the release of memory inside of it.

use super::Segment;
use super::fill::{place, settle};
use super::limits;
use super::options::{Growth, Options, check_sparse};
use super::reservation;
use crate::error::{Error, Result};
use crate::participant::Id;
use crate::raw::lock::RawLock;
use crate::raw::wait::SpinState;
use crate::raw::{Liveness, Timeout, WaitOptions};
use crate::sys::fork::Origin;
use crate::sys::lockfile::{ByteLock, RESIZE};
use crate::sys::process;
use crate::sys::shm;
use crate::sys::thread::{CancelGuard, SignalGuard};
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a growing queue waits for another process that changes the size: it holds the producer lock meanwhile.
/// After that it releases the producer lock, and waits again if its timeout allows.
const GROWTH_TIMEOUT: Duration = Duration::from_millis(100);

/// The right to change the size of a segment, until it is dropped.
enum ResizeLock<'a> {
    /// Of a plain segment: a byte of the file.
    Byte(ByteLock),
    /// Of a managed segment: the lock word of its control area.
    Word {
        lock: &'a RawLock,
        me: Id,
        origin: Origin,
    },
}

impl ResizeLock<'_> {
    /// Calls `step` without signals in between: a handler may fork, and a child must not change the file of its parent.
    fn unforked<T>(&self, step: impl FnOnce() -> Result<T>) -> Result<T> {
        let _signals = SignalGuard::new();
        self.origin().check()?;
        step()
    }

    /// Returns the process that holds it.
    fn origin(&self) -> Origin {
        match self {
            ResizeLock::Byte(lock) => lock.origin(),
            ResizeLock::Word { origin, .. } => *origin,
        }
    }
}

impl Drop for ResizeLock<'_> {
    fn drop(&mut self) {
        let _signals = SignalGuard::new();
        if let ResizeLock::Word { lock, me, origin } = self
            && origin.is_here()
        {
            // It fails if another process has overwritten the word: then there is nothing to release.
            let _ = lock.release(*me);
        }
    }
}

impl Segment {
    /// Acquires the right to change the size.
    ///
    /// `Interrupted`, `Timeout`, `Forked`; `ReadLocked`, `Permission` of a plain segment; errors of `identify`.
    /// `Corrupt`: the file was truncated. `LivenessUnknown`: the descriptor's number belongs to another file (D-020).
    fn resize_lock(&self, options: WaitOptions) -> Result<ResizeLock<'_>> {
        let facts = self.file.facts()?;
        let Ok(control) = self.control() else {
            let byte = ByteLock::of(self.file.as_fd(), RESIZE, options.interruptible)?;
            return Ok(ResizeLock::Byte(byte));
        };
        if self.have(&facts) == 0 {
            // The control area may be cut off as well: reading it would be SIGBUS.
            return Err(Error::Corrupt(
                "the segment's file was truncated; recreate the segment".into(),
            ));
        }
        let lock = control.resize_lock;
        // A handler that forks between these steps would make the child acquire the lock in its parent's name.
        let signals = SignalGuard::new();
        let me = self.identify()?;
        let origin = self.origin(me);
        let taken = lock.try_acquire(me);
        drop(signals);
        if taken {
            return Ok(ResizeLock::Word { lock, me, origin });
        }
        let spins = SpinState::default();
        let owner_died = lock
            .acquire(me, options, &spins, self)
            .map_err(|error| match error {
                Error::Timeout(_) => Error::Timeout(
                    "timed out: a process was stopped while it changed the size of the segment"
                        .into(),
                ),
                other => other,
            })?;
        let held = ResizeLock::Word { lock, me, origin };
        if owner_died {
            // The size is stored last, so what a dead process has left is ended by the next change (D-003).
            lock.mark_consistent(me)?;
        }
        Ok(held)
    }

    fn check_capacity(&self, size: u64) -> Result<()> {
        let capacity = self.capacity();
        match size <= capacity {
            true => Ok(()),
            false => Err(Error::TooLarge(
                format!(
                    "{size} bytes exceed the capacity of this mapping, {capacity} bytes; \
                     open the segment with a larger capacity"
                )
                .into(),
            )),
        }
    }

    /// Makes the segment `size` bytes long for all processes that have it mapped; no address changes.
    ///
    /// * `TooLarge`: beyond the capacity of this mapping
    /// * `Invalid`: it would shrink
    /// * `NoSpace`: not enough memory; nothing has changed
    /// * `NoMemory`: the new bytes cannot be locked as the options ask; the segment has grown
    /// * `Permission`: this handle is read-only
    /// * `Corrupt`: the file was truncated
    /// * `Forked`: this is a child that was forked during the call; the parent goes on
    pub fn resize(&self, size: u64, options: &Growth) -> Result<()> {
        let Growth {
            no_space_check,
            sparse,
            interruptible,
        } = *options;
        if self.options.readonly {
            return Err(Error::Permission(
                "this handle is read-only; open the segment for writing".into(),
            ));
        }
        self.check_capacity(size)?;
        check_sparse(sparse, &self.options)?;
        let lock = self.resize_lock(WaitOptions {
            timeout: Timeout::Never,
            interruptible,
        })?;
        let origin = lock.origin();
        let file = self.file.facts();
        origin.check()?;
        let file = file?;
        let (before, have, control) = (self.before(), file.size, self.control().ok());
        // If a process died while it grew a managed segment, the file may be longer than the recorded size.
        let old = have.min(before.saturating_add(self.recorded_size(self.have(&file))));
        let new = before + size;
        if new < old {
            let old = old - before;
            return Err(Error::Invalid(
                format!(
                    "a segment of {old} bytes cannot shrink to {size}; pass at least {old} bytes"
                )
                .into(),
            ));
        }
        limits::check_file_size(new)?;
        // Setting the same length releases what a dead grower has reserved beyond it (D-003).
        lock.unforked(|| shm::set_size(&self.file, have))?;
        if !sparse {
            let place = place(self.name.as_ref());
            if !no_space_check {
                limits::check_room(&self.file, new - old, &place)?;
                origin.check()?;
            }
            reservation::reserve(&self.file, old, new, true, interruptible, &place).or_else(
                |error| {
                    lock.unforked(|| shm::set_size(&self.file, have))?;
                    Err(error)
                },
            )?;
        }
        lock.unforked(|| {
            if new > have {
                shm::set_size(&self.file, new)?;
            }
            if let Some(control) = control {
                control.set_size(size);
            }
            Ok(())
        })?;
        self.map.put_into_dumps(old, new);
        self.seen.fetch_max(size, Ordering::Relaxed);
        let options = Options {
            interruptible,
            ..self.options.clone()
        };
        if options.huge {
            reservation::collapse(&self.file, &self.map, old, new, interruptible)?;
        }
        let settled = settle(&self.map, old, new, &options);
        origin.check().and(settled)
    }

    /// Reserves memory for the data bytes `[from, to)`, and makes the segment at least `to` bytes long.
    ///
    /// Bytes before `had` may have memory already and are not compared with the free memory. The caller looks after the
    /// bytes between the old end and `from`. The interrupt hook is not called.
    ///
    /// * `TooLarge`: beyond the capacity
    /// * `NoSpace`: not enough memory; the length has not changed
    /// * `Forked`: as for `resize`
    pub(crate) fn set_aside(&self, from: u64, had: u64, to: u64) -> Result<()> {
        let _cancel = CancelGuard::new();
        self.check_capacity(to)?;
        let control = self.control()?;
        let lock = self.resize_lock(WaitOptions::after(GROWTH_TIMEOUT))?;
        let have = self.file.facts()?.size;
        let before = self.before();
        let (from, end) = (before + from, before + to);
        limits::check_file_size(end)?;
        let place = place(self.name.as_ref());
        limits::check_room(&self.file, to - had, &place)?;
        lock.origin().check()?;
        reservation::reserve(&self.file, from, end, true, false, &place)?;
        lock.unforked(|| {
            if end > have {
                shm::set_size(&self.file, end)?;
            }
            if to > control.size() {
                control.set_size(to);
            }
            Ok(())
        })?;
        self.map.put_into_dumps(from, end);
        self.seen.fetch_max(to, Ordering::Relaxed);
        Ok(())
    }

    /// Frees the memory of the whole pages in the data bytes `[from, to)`, which no process uses.
    ///
    /// Until `set_aside` reserves them again, the pages behave as those of a sparse segment.
    pub(crate) fn free_pages(&self, from: u64, to: u64) -> Result<()> {
        let _cancel = CancelGuard::new();
        let page = process::page_size();
        let from = (self.before() + from).next_multiple_of(page);
        let to = (self.before() + to) / page * page;
        self.file.facts()?;
        match from < to {
            true => shm::free_pages(&self.file, from, to - from),
            false => Ok(()),
        }
    }
}
