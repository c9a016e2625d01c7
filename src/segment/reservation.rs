//! Gets memory for a file before anybody can touch it, in steps that signals and kills can come between.
//!
//! If the process dies between two steps, what was set aside belongs to the file: a file without a name goes with the
//! process, one with a name keeps it beyond its end until the next resize or until it goes.

use crate::error::{Error, Result};
use crate::sys::map::{HUGE_PAGE, Map};
use crate::sys::shm::{self, Reserved};
use crate::sys::{interrupt, memory, process};
use std::os::fd::OwnedFd;

/// The most memory asked for at once: some 15 ms of work for the kernel, so Ctrl-C and progress are never far.
const MAX_STEP_BYTES: u64 = 64 << 20;
/// The least: a signal may come again before a larger step is done, and each signal undoes the step it comes into.
const MIN_STEP_BYTES: u64 = 64 << 10;

/// Runs `work` over `[from, to)` in steps; after a signal with a smaller one.
fn in_steps(
    from: u64,
    to: u64,
    interruptible: bool,
    mut work: impl FnMut(u64, u64) -> Result<Reserved>,
) -> Result<()> {
    let (mut at, mut step) = (from, MAX_STEP_BYTES);
    while at < to {
        let bytes = step.min(to - at);
        match work(at, bytes)? {
            Reserved::Done => {
                at += bytes;
                step = (step * 2).min(MAX_STEP_BYTES);
                if at == to {
                    return Ok(());
                }
            }
            Reserved::Signal => step = (step / 2).max(MIN_STEP_BYTES),
        }
        interrupt::ask(interruptible)?;
    }
    Ok(())
}

/// Sets memory aside for `[from, to)`; with `keep` the file's length stays what it is.
///
/// `place` names the file system in the error when it is full.
pub fn reserve(
    file: &OwnedFd,
    from: u64,
    to: u64,
    keep: bool,
    interruptible: bool,
    place: &str,
) -> Result<()> {
    in_steps(from, to, interruptible, |at, bytes| {
        shm::reserve(file, at, bytes, keep).map_err(|error| match (error, memory::space_of(file)) {
            (Error::NoSpace(_), Ok(space)) => {
                memory::no_space(to - from, space.free.saturating_add(at - from), place)
            }
            (other, _) => other,
        })
    })
}

/// Makes huge pages of the mapped `[from, to)` where the kernel can: the rest is left as it is.
///
/// The file must be at least `to` bytes long. Only one small page in each huge one gets memory first, because a huge
/// page made of 512 reserved ones costs a copy more.
pub fn collapse(file: &OwnedFd, map: &Map, from: u64, to: u64, interruptible: bool) -> Result<()> {
    let (from, to) = (from / HUGE_PAGE * HUGE_PAGE, to / HUGE_PAGE * HUGE_PAGE);
    in_steps(from, to, interruptible, |at, bytes| {
        for huge in (at..at + bytes).step_by(HUGE_PAGE as usize) {
            if let Reserved::Signal = shm::reserve(file, huge, process::page_size(), true)? {
                return Ok(Reserved::Signal);
            }
        }
        map.collapse(at, at + bytes);
        Ok(Reserved::Done)
    })
}

/// Maps the pages of `[from, to)`, which have memory, so that no first touch waits for the kernel.
pub fn populate(map: &Map, from: u64, to: u64, interruptible: bool) -> Result<()> {
    in_steps(from, to, interruptible, |at, bytes| {
        Ok(if map.populate(at, at + bytes)? {
            Reserved::Done
        } else {
            Reserved::Signal
        })
    })
}
