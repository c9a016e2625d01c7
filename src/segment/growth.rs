//! Growth of a segment, and the release of memory inside of it.

use super::Segment;
use super::fill::{place, settle};
use super::limits;
use super::options::{Growth, Options, check_sparse};
use super::reservation;
use crate::error::{Error, Result};
use crate::sys::lockfile::{ByteLock, RESIZE};
use crate::sys::process;
use crate::sys::shm;
use crate::sys::thread::CancelGuard;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

impl Segment {
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
        // Checked before the lock is taken: the descriptor's number may belong to another file by now (D-020).
        self.file.facts()?;
        let lock = ByteLock::of(self.file.as_fd(), RESIZE, interruptible)?;
        let origin = lock.origin();
        let file = self.file.facts()?;
        let (before, have, control) = (self.before(), file.size, self.control().ok());
        if control.is_some() && self.have(&file) == 0 {
            return Err(Error::Corrupt(
                "the segment's file was truncated; recreate the segment".into(),
            ));
        }
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
        shm::set_size(&self.file, have)?;
        origin.check()?;
        if !sparse {
            let place = place(self.name.as_ref());
            if !no_space_check {
                limits::check_room(&self.file, new - old, &place)?;
                origin.check()?;
            }
            reservation::reserve(&self.file, old, new, true, interruptible, &place).or_else(
                |error| {
                    origin.check()?;
                    shm::set_size(&self.file, have)?;
                    Err(error)
                },
            )?;
        }
        if new > have {
            shm::set_size(&self.file, new)?;
        }
        origin.check()?;
        if let Some(control) = control {
            control.set_size(size);
        }
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
        self.file.facts()?;
        let lock = ByteLock::of(self.file.as_fd(), RESIZE, false)?;
        let have = self.file.facts()?.size;
        let before = self.before();
        let (from, end) = (before + from, before + to);
        limits::check_file_size(end)?;
        let place = place(self.name.as_ref());
        limits::check_room(&self.file, to - had, &place)?;
        lock.origin().check()?;
        reservation::reserve(&self.file, from, end, true, false, &place)?;
        if end > have {
            shm::set_size(&self.file, end)?;
        }
        lock.origin().check()?;
        if to > control.size() {
            control.set_size(to);
        }
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
