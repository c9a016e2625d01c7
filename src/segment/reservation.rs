//! Reserves memory for a file before any process touches it, in steps between which signals and kills can arrive.
//!
//! If the process dies between two steps, the reserved memory belongs to the file. A file without a name is freed with
//! the process. A file with a name keeps the memory beyond its end until the next resize, or until it is removed.

use crate::error::{Error, Result};
use crate::sys::fork::Origin;
use crate::sys::map::{HUGE_PAGE, Map};
use crate::sys::shm::{self, Reserved};
use crate::sys::{interrupt, memory, process};
use std::os::fd::OwnedFd;

/// Maximum size of a step: some 15 ms of work for the kernel, so Ctrl-C never waits for long.
const MAX_STEP_BYTES: u64 = 64 << 20;
/// Minimum size of a step: a signal undoes the step that it interrupts, so a step must fit between two signals (D-004).
const MIN_STEP_BYTES: u64 = 64 << 10;

/// Runs `work` over `[from, to)` in steps; a signal makes the next step smaller.
///
/// `Interrupted`: the hook ended the work. `Forked`: this is a child that was forked meanwhile; the parent goes on.
fn in_steps(
    from: u64,
    to: u64,
    interruptible: bool,
    mut work: impl FnMut(u64, u64) -> Result<Reserved>,
) -> Result<()> {
    let (mut at, mut step) = (from, MAX_STEP_BYTES);
    let origin = Origin::here();
    while at < to {
        let bytes = step.min(to - at);
        let worked = work(at, bytes);
        origin.check()?;
        match worked? {
            Reserved::Done => {
                at += bytes;
                step = (step * 2).min(MAX_STEP_BYTES);
                if at == to {
                    return Ok(());
                }
            }
            Reserved::Signal => step = (step / 2).max(MIN_STEP_BYTES),
        }
        interrupt::ask(interruptible, origin)?;
    }
    Ok(())
}

/// Reserves memory for `[from, to)`; with `keep` the length of the file does not change.
///
/// `place` names the file system in the error if it is full.
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

/// Makes huge pages of the mapped `[from, to)` if the kernel can; other pages stay as they are.
///
/// The file must be at least `to` bytes long. In each huge page only one small page gets memory first (D-009), because
/// collapsing 512 reserved pages costs a copy more.
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

/// Maps the pages of `[from, to)`, which have memory, so that no first touch enters the kernel.
pub fn populate(map: &Map, from: u64, to: u64, interruptible: bool) -> Result<()> {
    in_steps(from, to, interruptible, |at, bytes| {
        Ok(if map.populate(at, at + bytes)? {
            Reserved::Done
        } else {
            Reserved::Signal
        })
    })
}
