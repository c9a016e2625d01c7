//! Lets a segment grow, and gives memory inside of it back.

use super::Segment;
use super::fill::{place, settle};
use super::limits;
use super::options::{Growth, Options, check_sparse};
use super::reservation;
use crate::error::{Error, Result};
use crate::sys::lockfile::{ByteLock, RESIZE};
use crate::sys::process;
use crate::sys::shm;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

impl Segment {
    fn check_capacity(&self, size: u64) -> Result<()> {
        let capacity = self.capacity();
        match size <= capacity {
            true => Ok(()),
            false => Err(Error::TooLarge(
                format!("{size} bytes are more than this mapping's capacity, {capacity}").into(),
            )),
        }
    }

    /// Makes the segment `size` bytes long, for everybody who has it mapped; no address moves.
    ///
    /// `TooLarge`: beyond the capacity of this mapping; `Invalid`: it would shrink; `NoSpace`: nothing has changed.
    /// Where the new bytes cannot be locked as the options ask (`NoMemory`), it has grown all the same.
    pub fn resize(&self, size: u64, options: &Growth) -> Result<()> {
        let Growth {
            no_space_check,
            sparse,
            interruptible,
        } = *options;
        if self.options.readonly {
            return Err(Error::Permission("this handle is read-only".into()));
        }
        self.check_capacity(size)?;
        check_sparse(sparse, &self.options)?;
        // Asked before anything is done through a number that may stand for another file by now.
        self.file.facts()?;
        let _lock = ByteLock::of(self.file.as_fd(), RESIZE, interruptible)?;
        let file = self.file.facts()?;
        let (before, have, control) = (self.before(), file.size, self.control().ok());
        if control.is_some() && self.have(&file) == 0 {
            return Err(Error::Corrupt(
                "somebody truncated the segment's file".into(),
            ));
        }
        // A grower who was killed may have left a managed segment's file longer than its size says.
        let old = have.min(before.saturating_add(self.recorded_size(self.have(&file))));
        let new = before + size;
        if new < old {
            let old = old - before;
            return Err(Error::Invalid(
                format!("a segment of {old} bytes cannot shrink to {size}").into(),
            ));
        }
        limits::check_file_size(new)?;
        // The same length again gives back what a grower who was killed had set aside beyond it.
        shm::set_size(&self.file, have)?;
        if !sparse {
            let place = place(self.name.as_ref());
            if !no_space_check {
                limits::check_room(&self.file, new - old, &place)?;
            }
            reservation::reserve(&self.file, old, new, true, interruptible, &place).or_else(
                |error| {
                    shm::set_size(&self.file, have)?;
                    Err(error)
                },
            )?;
        }
        if new > have {
            shm::set_size(&self.file, new)?;
        }
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
        settle(&self.map, old, new, &options)
    }

    /// Has the data bytes `[from, to)` have memory, whether or not they had before, and the segment be that long at the least;
    /// what lies between them and its end is the caller's to look after. Those before `had` may have some already, and are not
    /// compared with what is free. No hook is asked.
    ///
    /// `TooLarge`: beyond the capacity; `NoSpace`: the segment is as long as it was.
    pub(crate) fn set_aside(&self, from: u64, had: u64, to: u64) -> Result<()> {
        self.check_capacity(to)?;
        let control = self.control()?;
        self.file.facts()?;
        let _lock = ByteLock::of(self.file.as_fd(), RESIZE, false)?;
        let have = self.file.facts()?.size;
        let before = self.before();
        let (from, end) = (before + from, before + to);
        limits::check_file_size(end)?;
        let place = place(self.name.as_ref());
        limits::check_room(&self.file, to - had, &place)?;
        reservation::reserve(&self.file, from, end, true, false, &place)?;
        if end > have {
            shm::set_size(&self.file, end)?;
        }
        if to > control.size() {
            control.set_size(to);
        }
        self.map.put_into_dumps(from, end);
        self.seen.fetch_max(to, Ordering::Relaxed);
        Ok(())
    }

    /// Gives the memory of the whole pages in the data bytes `[from, to)` back, which nobody uses: until they are set aside
    /// again, touching them is what it is in a sparse segment.
    pub(crate) fn give_back(&self, from: u64, to: u64) -> Result<()> {
        let page = process::page_size();
        let from = (self.before() + from).next_multiple_of(page);
        let to = (self.before() + to) / page * page;
        self.file.facts()?;
        match from < to {
            true => shm::give_back(&self.file, from, to - from),
            false => Ok(()),
        }
    }
}
