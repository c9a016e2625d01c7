//! Count slots: how often each process holds an object that several processes may hold at once.
//!
//! They are the per-process counts that a kernel keeps for SEM_UNDO (semop(2)), in shared memory.
//!
//! ```text
//! slot: | ticket (48 bits) | count (16 bits) |
//! ```
//!
//! | slot     | means                                            | goes to                                     |
//! |----------|--------------------------------------------------|---------------------------------------------|
//! | 0        | free                                             | t + n: the process with ticket t takes it   |
//! | t + n    | the process with ticket t holds it n times       | t + m: that process alone                   |
//! | t + 0    | that process holds nothing at present            | u + n: any process that finds no other slot |
//! | dead + n | its process is dead: the slot counts for nothing | 0, or u + n: any process that needs it      |
//!
//! Each arrow is one compare-and-swap, so a death comes before it or after it. The ticket is in the same word as the
//! count, so what the dead process held ends with it. A process has more than one slot if two of its threads arrived
//! at the same moment: only the sum counts.
//!
//! Slots are taken from the first on. `used` is the number of slots that were ever taken, so that a scan stops there.

use super::Liveness;
use crate::error::{Error, Result};
use crate::participant::Id;
use crate::sys::atomic::{AtomicU64, Ordering};

const COUNT_BITS: u32 = 16;
const COUNT: u64 = (1 << COUNT_BITS) - 1;

/// The count of one process, in a cache line of its own. All zeros is a free slot.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct CountSlot(AtomicU64);

// SAFETY: one atomic, and padding that is never read. (Those of loom are never found in mapped memory.)
unsafe impl crate::layout::Shared for CountSlot {}

/// The value of a count slot: a ticket and a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldCount(u64);

impl HeldCount {
    fn of(id: Id, count: u64) -> HeldCount {
        HeldCount(id.ticket() << COUNT_BITS | count)
    }

    /// Returns the process, as an id that has a ticket alone; `None` if the slot is free.
    pub fn owner(self) -> Option<Id> {
        Id::of_ticket(self.0 >> COUNT_BITS)
    }

    /// Returns how often the process holds the object.
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
    /// Frees the slot, before its first use.
    pub fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Returns the word, to sleep on.
    pub fn word(&self) -> &AtomicU64 {
        &self.0
    }

    /// Returns the value of the slot.
    pub fn load(&self) -> HeldCount {
        // PAIRS cell.count: a process that finds no holder here sees what the last holder did.
        HeldCount(self.0.load(Ordering::SeqCst))
    }

    fn swap(&self, old: HeldCount, new: HeldCount) -> bool {
        // PAIRS cell.count. And SeqCst: of a process that stores a word and then looks at this slot, and one that
        // changes this slot and then looks at that word, at least one sees the other's store.
        self.0
            .compare_exchange(old.0, new.0, Ordering::SeqCst, Ordering::Relaxed)
            .is_ok()
    }

    /// Frees the slot of a dead process; false: another process has it by now.
    pub fn reclaim(&self, dead: HeldCount) -> bool {
        self.swap(dead, HeldCount(0))
    }
}

/// The count slots of one object.
#[derive(Clone, Copy)]
pub struct CountSlots<'a> {
    /// The number of slots that were ever used.
    pub used: &'a AtomicU64,
    /// All slots.
    pub all: &'a [CountSlot],
}

impl<'a> CountSlots<'a> {
    /// Returns the slots that were ever used.
    pub fn used(&self) -> &'a [CountSlot] {
        // Any process may have overwritten the word: a number above the number of slots means all.
        let used = self.used.load(Ordering::SeqCst).min(self.all.len() as u64);
        &self.all[..used as usize]
    }

    /// Holds the object once more in slot `index`, if that slot belongs to this process.
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

    /// Holds the object `count` times more; returns the index of the slot.
    ///
    /// `TooManyProcesses`: as many live processes as there are slots hold it. `Overflow`: this process would hold it
    /// more than 65,535 times. Errors of `liveness`.
    pub fn hold(&self, me: Id, count: u64, liveness: &impl Liveness) -> Result<usize> {
        loop {
            // 1. A slot of this process. Other threads of this process may change it as well.
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
                    return Err(overflow(seen.count().saturating_add(count)));
                }
                continue;
            }
            // 2. Any slot that can be taken. Other processes may want it too: one swaps, the others look again.
            let Some((index, seen)) = self.free_slot(me, liveness)? else {
                continue;
            };
            if count <= COUNT && self.all[index].swap(seen, HeldCount::of(me, count)) {
                return Ok(index);
            }
            if count > COUNT {
                return Err(overflow(count));
            }
        }
    }

    /// Finds a free slot, or that of a dead process. If all are in use: that of a process that holds nothing. `None`:
    /// other processes took it first.
    fn free_slot(&self, me: Id, liveness: &impl Liveness) -> Result<Option<(usize, HeldCount)>> {
        let used = self.used();
        let seen = |index: usize| (index, self.all[index].load());
        if let Some(free) = (0..used.len()).map(seen).find(|(_, seen)| seen.0 == 0) {
            return Ok(Some(free));
        }
        if used.len() < self.all.len() {
            // `used` is raised before the slot is taken, so that a scan of the used slots does not miss it.
            self.used.fetch_max(used.len() as u64 + 1, Ordering::SeqCst);
            // The slot may have been taken since `used` was read.
            return Ok(Some(seen(used.len())).filter(|(_, seen)| seen.0 == 0));
        }
        let mut idle = None;
        for (index, seen) in (0..used.len()).map(seen) {
            let dead = match seen.owner() {
                Some(owner) => liveness.is_dead(owner, liveness.origin(me))?,
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
                    "{} live processes hold the object, and it has no more count slots; create it with more",
                    used.len()
                )
                .into(),
            )
        })
    }

    /// Holds the object `count` times less in slot `index`, if this process holds it so often there.
    #[inline(always)]
    pub fn try_release(&self, me: Id, index: usize, count: u64) -> bool {
        let Some(cell) = self.all.get(index) else {
            return false;
        };
        let seen = HeldCount(cell.0.load(Ordering::Relaxed));
        seen.is_of(me) && seen.count() >= count && cell.swap(seen, HeldCount(seen.0 - count))
    }

    /// Does what `try_release` does, whatever other threads of this process change in that slot meanwhile.
    ///
    /// A count is taken out of the first slot that has it. If another thread is about to take back a count there, that
    /// count must not be taken out of a later slot instead, where it belongs to a thread that keeps it.
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

    /// Holds the object `count` times less; returns the index of the slot. `NotOwner`: this process holds it less
    /// often.
    pub fn release(&self, me: Id, count: u64) -> Result<usize> {
        while self.held(me) >= count {
            let found = (0..self.used().len()).find(|&index| self.release_in(me, index, count));
            if let Some(index) = found {
                return Ok(index);
            }
            // Another thread of this process changed the slot. Or the count is spread over slots: that works one at a
            // time.
            if count > 1 {
                break;
            }
        }
        let held = self.held(me);
        let text = format!(
            "this process holds {held} reads or permits of the object, not {count}: release only what it acquired"
        );
        Err(Error::NotOwner(text.into()))
    }

    /// Returns how often this process holds the object.
    pub fn held(&self, me: Id) -> u64 {
        let all = self.used().iter().map(CountSlot::load);
        all.filter(|seen| seen.is_of(me))
            .map(HeldCount::count)
            .sum()
    }
}

#[cold]
fn overflow(count: u64) -> Error {
    let text =
        format!("a process must hold at most {COUNT} reads or permits of an object, not {count}");
    Error::Overflow(text.into())
}
