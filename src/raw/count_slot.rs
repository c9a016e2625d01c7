//! Count slots: how often each process holds something that several may hold at once.
//!
//! ```text
//! slot: | ticket (48 bits) | count (16 bits) |
//! ```
//!
//! | slot     | means                                            | goes to                                     |
//! |----------|--------------------------------------------------|---------------------------------------------|
//! | 0        | free                                             | t + n: the process with ticket t takes it   |
//! | t + n    | the process with ticket t holds it n times       | t + m: that process alone                   |
//! | t + 0    | t's, which holds nothing at present              | u + n: any process that finds no other slot |
//! | dead + n | its process is dead: the slot counts for nothing | 0, or u + n: any process that needs it      |
//!
//! Each arrow is one compare-and-swap, so a death comes before it or after it. The ticket is in the same word as the
//! count, so what the dead process held ends with it. A process may have more than one slot, where two of its threads
//! came at the same moment: only the sum counts.
//!
//! Slots are taken from the first on, and `used` says how many ever were, so that a scan stops there.

use super::Liveness;
use crate::error::{Error, Result};
use crate::participant::Id;
use crate::sys::atomic::{AtomicU64, Ordering};

const COUNT_BITS: u32 = 16;
const COUNT: u64 = (1 << COUNT_BITS) - 1;

/// How often one process holds something, in a cache line of its own. All zeros is a free slot.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct CountSlot(AtomicU64);

// SAFETY: one atomic, and padding that nobody looks at. (Those of loom are never found in mapped memory.)
unsafe impl crate::layout::Shared for CountSlot {}

/// The value of a count slot: a ticket and a count.
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
    /// Makes it free: before its first use.
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

    /// Frees what a dead process has left; false: it is another process' by now.
    pub fn reclaim(&self, dead: HeldCount) -> bool {
        self.swap(dead, HeldCount(0))
    }
}

/// The count slots of one object.
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

    /// Holds it once more in slot `index`, if that is this process' already.
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

    /// Holds it `count` times more; returns in which slot.
    ///
    /// `TooManyProcesses`: as many processes as there are slots hold it. `Overflow`: this one holds it 65,535 times.
    /// Errors of `liveness`.
    pub fn hold(&self, me: Id, count: u64, liveness: &impl Liveness) -> Result<usize> {
        loop {
            // 1. A slot of our own. Other threads of ours may change it as well.
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

    /// Finds a slot that is free, or a dead process', or, where all are in use, that of a process which holds nothing.
    /// `None`: others were faster.
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

    /// Holds it `count` times less in slot `index`, if this process holds it so often there.
    #[inline(always)]
    pub fn try_release(&self, me: Id, index: usize, count: u64) -> bool {
        let Some(cell) = self.all.get(index) else {
            return false;
        };
        let seen = HeldCount(cell.0.load(Ordering::Relaxed));
        seen.is_of(me) && seen.count() >= count && cell.swap(seen, HeldCount(seen.0 - count))
    }

    /// As `try_release`, whatever other threads of this process change in that slot meanwhile.
    ///
    /// A count is taken out of the first slot that has it: one that another thread was just about to take back must not
    /// be taken out of a later slot instead, where it belongs to a thread that keeps it.
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

    /// Holds it `count` times less; returns in which slot. `NotOwner`: this process does not hold it so often.
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
