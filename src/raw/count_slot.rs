//! Cells: how often each process holds something that several may hold at once.
//!
//! ```text
//! cell: | ticket (48 bits) | count (16 bits) |
//! ```
//!
//! | cell      | means                                              | goes to                                            |
//! |-----------|----------------------------------------------------|----------------------------------------------------|
//! | 0         | nobody's                                           | t + n: the process with ticket t takes it          |
//! | t + n     | the process with ticket t holds it n times         | t + m: that process alone                          |
//! | t + 0     | t's, who holds nothing at present                  | u + n: any process that finds no other             |
//! | dead + n  | its process is dead: the cell counts for nothing   | 0, or u + n: whoever needs it, or is held up by it |
//!
//! Each arrow is one compare-and-swap, so whoever dies is before it or behind it; because the ticket stands beside the
//! count, what the dead held ends with them. A process may have more than one cell, where two of its threads came at the
//! same moment: only the sum counts.
//!
//! Cells are taken from the first on, and `used` says how many ever were, so that nobody looks at all of them.

use super::Liveness;
use crate::error::{Error, Result};
use crate::participant::Id;
use crate::sys::atomic::{AtomicU64, Ordering};

const COUNT_BITS: u32 = 16;
const COUNT: u64 = (1 << COUNT_BITS) - 1;

/// How often one process holds something, in a cache line of its own. All zeros is nobody's.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct CountSlot(AtomicU64);

// SAFETY: one atomic, and padding that nobody looks at. (Those of loom are never found in mapped memory.)
unsafe impl crate::layout::Shared for CountSlot {}

/// What stands in a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldCount(u64);

impl HeldCount {
    fn of(id: Id, count: u64) -> HeldCount {
        HeldCount(id.ticket() << COUNT_BITS | count)
    }

    /// Returns the process: as an id that has a ticket alone. `None`: nobody's.
    pub fn owner(self) -> Option<Id> {
        Id::of_ticket(self.0 >> COUNT_BITS)
    }

    /// Returns how often it is held.
    pub fn count(self) -> u64 {
        self.0 & COUNT
    }

    /// Returns the word.
    pub fn bits(self) -> u64 {
        self.0
    }

    fn is_of(self, id: Id) -> bool {
        self.0 >> COUNT_BITS == id.ticket()
    }
}

impl CountSlot {
    /// Makes it nobody's: before anyone uses it.
    pub fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Returns the word, to sleep on.
    pub fn word(&self) -> &AtomicU64 {
        &self.0
    }

    /// Looks at it.
    pub fn load(&self) -> HeldCount {
        // PAIRS cell.count: who finds nobody here sees what its last holder did.
        HeldCount(self.0.load(Ordering::SeqCst))
    }

    fn swap(&self, old: HeldCount, new: HeldCount) -> bool {
        // PAIRS cell.count; and in the one order of all of these: whoever stores a word before it looks here, and whoever
        // changes this and then looks at that word, cannot both miss each other.
        self.0
            .compare_exchange(old.0, new.0, Ordering::SeqCst, Ordering::Relaxed)
            .is_ok()
    }

    /// Makes what a dead process has left nobody's; false: it is somebody else's by now.
    pub fn reclaim(&self, dead: HeldCount) -> bool {
        self.swap(dead, HeldCount(0))
    }
}

/// The cells of one object.
#[derive(Clone, Copy)]
pub struct CountSlots<'a> {
    /// How many of them have ever been used.
    pub used: &'a AtomicU64,
    /// All of them.
    pub all: &'a [CountSlot],
}

impl<'a> CountSlots<'a> {
    /// Returns those that have ever been used.
    pub fn used(&self) -> &'a [CountSlot] {
        // The word is anybody's to write: more than there are means all.
        let used = self.used.load(Ordering::SeqCst).min(self.all.len() as u64);
        &self.all[..used as usize]
    }

    /// Holds it once more in cell `index`, if that is this process' already.
    #[inline(always)]
    pub fn try_hold(&self, me: Id, index: usize) -> bool {
        self.add(me, index, 1)
    }

    #[inline(always)]
    fn add(&self, me: Id, index: usize, count: u64) -> bool {
        let Some(cell) = self.all.get(index) else {
            return false;
        };
        let seen = HeldCount(cell.0.load(Ordering::Relaxed));
        seen.is_of(me)
            && count <= COUNT - seen.count()
            && cell.swap(seen, HeldCount(seen.0 + count))
    }

    /// Holds it `count` times more; returns in which cell.
    ///
    /// `TooManyProcesses`: as many processes as there are cells hold it. `Overflow`: this one holds it 65,535 times. Errors of
    /// `liveness`.
    pub fn hold(&self, me: Id, count: u64, liveness: &impl Liveness) -> Result<usize> {
        loop {
            // 1. A cell of our own. Other threads of ours may change it as well.
            let own = self
                .used()
                .iter()
                .position(|cell| HeldCount(cell.0.load(Ordering::Relaxed)).is_of(me));
            if let Some(index) = own {
                if self.add(me, index, count) {
                    return Ok(index);
                }
                let seen = self.all[index].load();
                if seen.is_of(me) && count > COUNT - seen.count() {
                    return Err(Error::Overflow(
                        format!("one process holds it at most {COUNT} times").into(),
                    ));
                }
                continue;
            }
            // 2. Any that is to be had. Others may want it too: one swaps, the rest look again.
            let Some((index, seen)) = self.free_slot(liveness)? else {
                continue;
            };
            if count <= COUNT && self.all[index].swap(seen, HeldCount::of(me, count)) {
                return Ok(index);
            }
            if count > COUNT {
                return Err(Error::Overflow(
                    format!("one process holds it at most {COUNT} times").into(),
                ));
            }
        }
    }

    /// Finds a cell that nobody needs: nobody's, or a dead process', or, as long as all others are in use, that of one
    /// which holds nothing. `None`: others were faster.
    fn free_slot(&self, liveness: &impl Liveness) -> Result<Option<(usize, HeldCount)>> {
        let used = self.used();
        let seen = |index: usize| (index, self.all[index].load());
        if let Some(free) = (0..used.len()).map(seen).find(|(_, seen)| seen.0 == 0) {
            return Ok(Some(free));
        }
        if used.len() < self.all.len() {
            // In use before it is taken, so that whoever looks at the used ones does not miss it.
            self.used.fetch_max(used.len() as u64 + 1, Ordering::SeqCst);
            // It may have come into use since we looked how many are, and then it is somebody's.
            return Ok(Some(seen(used.len())).filter(|(_, seen)| seen.0 == 0));
        }
        let mut idle = None;
        for (index, seen) in (0..used.len()).map(seen) {
            let dead = match seen.owner() {
                Some(owner) => liveness.is_dead(owner)?,
                None => true,
            };
            if dead {
                return Ok(Some((index, seen)));
            }
            if seen.count() == 0 && idle.is_none() {
                idle = Some((index, seen));
            }
        }
        idle.map(Some).ok_or_else(|| {
            Error::TooManyProcesses(
                format!(
                    "{} living processes hold it, and there are no more cells",
                    used.len()
                )
                .into(),
            )
        })
    }

    /// Holds it `count` times less in cell `index`, if this process holds it so often there.
    #[inline(always)]
    pub fn try_release(&self, me: Id, index: usize, count: u64) -> bool {
        let Some(cell) = self.all.get(index) else {
            return false;
        };
        let seen = HeldCount(cell.0.load(Ordering::Relaxed));
        seen.is_of(me) && seen.count() >= count && cell.swap(seen, HeldCount(seen.0 - count))
    }

    /// As `try_release`, whatever other threads of this process change in that cell meanwhile.
    ///
    /// A count is taken out of the first cell that has it: one that another thread was just about to take back must not be
    /// taken out of a later cell instead, where it belongs to somebody who stays.
    pub fn release_in(&self, me: Id, index: usize, count: u64) -> bool {
        let holds = |cell: &CountSlot| {
            let seen = cell.load();
            seen.is_of(me) && seen.count() >= count
        };
        while self.all.get(index).is_some_and(holds) {
            if self.try_release(me, index, count) {
                return true;
            }
        }
        false
    }

    /// Holds it `count` times less; returns in which cell. `NotOwner`: this process does not hold it so often.
    pub fn release(&self, me: Id, count: u64) -> Result<usize> {
        while self.held(me) >= count {
            let found = (0..self.used().len()).find(|&index| self.release_in(me, index, count));
            if let Some(index) = found {
                return Ok(index);
            }
            // Another thread of ours came between; or it is held in several cells, which happens one at a time.
            if count > 1 {
                break;
            }
        }
        Err(Error::NotOwner(
            "this process does not hold it, or not so often".into(),
        ))
    }

    /// Returns how often this process holds it.
    pub fn held(&self, me: Id) -> u64 {
        let all = self.used().iter().map(CountSlot::load);
        all.filter(|seen| seen.is_of(me))
            .map(HeldCount::count)
            .sum()
    }
}
