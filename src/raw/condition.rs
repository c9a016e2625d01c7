//! The condition: waiting, without a lock that one holds, until somebody who holds it notifies.
//!
//! Each waiting thread has a cell. In one word of it stand its process and whether it was notified:
//!
//! | cell                  | means                                             | goes to                                    |
//! |-----------------------|---------------------------------------------------|--------------------------------------------|
//! | 0                     | nobody's                                          | me + WAITING: wait                         |
//! | me + WAITING          | a thread of mine waits, and looks                 | + ASLEEP: it looks no more; 0: it waits no longer |
//! | me + WAITING + ASLEEP | it may sleep on this word                         | without ASLEEP: it is to look for what was left; 0 |
//! | both                  |                                                   | me + NOTIFIED: notify                      |
//! | me + NOTIFIED         | it was notified, and is about to take the lock    | 0: it has the lock; NOTIFIED: it was interrupted |
//! | NOTIFIED              | a notification is left for another waiter         | me + NOTIFIED: one that waited when it was sent |
//! | dead + NOTIFIED       | likewise: its process died before it had the lock | likewise; 0: notify, which sends it to the next one |
//! | dead + WAITING …      | its process is dead                               | dead + NOTIFIED, or 0: notify              |
//!
//! Cells that are left or the dead's become me + WAITING where there are no others; a notification that is left only
//! when nobody waits any more who waited when it was sent. Cells are taken, notified and given back by who holds the
//! lock. All else is done without it: what waits no longer leaves, and what is left is taken.
//!
//! Beside the word stands an age: when the wait began, in the order of all waits; from just before it is notified on the
//! age of the youngest that waited then. Who is younger has no right to that notification. An age never becomes less.
//! Where an earlier notification has not been come back with, and who is notified now has a right to it too, the two change
//! their ages: whichever of them is left, it is the younger's too.
//!
//! Each arrow is one compare-and-swap, so whoever dies is before it or behind it:
//!   wait: its cell says dead + WAITING or dead + NOTIFIED, and the lock is taken over as any;
//!   notify: who was notified has been, the rest has not; a wake may be lost, and sleepers look again within 12 ms; who
//!     was just to be notified may count as the youngest;
//!   taking what is left: the taker's own cell says WAITING, what it has taken dead + NOTIFIED: the next takes that.

use super::wait::{SpinState, Wait};
use super::{Liveness, WaitOptions};
use crate::error::{Error, Result};
use crate::participant::Id;
use crate::sys::atomic::{AtomicU64, Ordering, fence};
use crate::sys::futex::{self, WaitSet};

/// In a cell: its thread waits.
const WAITING: u64 = 1 << 31;
/// In a cell: a notification.
const NOTIFIED: u64 = 1 << 30;
/// In a cell that says WAITING: its thread may sleep, so that who changes the word must wake it.
const ASLEEP: u64 = 1 << 29;

/// A condition in shared memory; cells stand behind it. All zeros but `tag` is a new one.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct RawCondition {
    /// What it is and how it was made: `object` says how.
    pub tag: std::sync::atomic::AtomicU64,
    /// The number of the lock that it goes with; 0: it has not been used yet.
    mutex: AtomicU64,
    /// How many cells have ever been used, from the first on.
    used: AtomicU64,
    /// The age of the wait that began last.
    age: AtomicU64,
    waits: AtomicU64,
    notified: AtomicU64,
    timeouts: AtomicU64,
    recoveries: AtomicU64,
}

/// Where one thread waits. All zeros is nobody's.
#[derive(Debug, Default)]
#[repr(C, align(16))]
pub struct WaiterCell {
    state: AtomicU64,
    age: AtomicU64,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<RawCondition>() == 64 && size_of::<WaiterCell>() == 16);

// SAFETY: nothing but atomics. (Those of loom are never found in mapped memory.)
unsafe impl crate::layout::Shared for RawCondition {}
// SAFETY: as for RawCondition.
unsafe impl crate::layout::Shared for WaiterCell {}

/// The lock that a condition goes with.
pub trait Mutex {
    /// Says whether the caller holds it.
    fn is_held(&self) -> bool;
    /// Returns a number that is this lock's in every process, and no other one's; never 0.
    fn number(&self) -> u64;
    /// Gives it back wholly; returns how often it was held.
    fn release_all(&self) -> Result<u64>;
    /// Takes it, so often, however long that takes; returns whether an owner died and nobody has said since that all is
    /// whole.
    fn acquire_all(&self, depth: u64) -> Result<bool>;
}

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// A notification, which is consumed.
    Notified,
    /// The time was over.
    Timeout,
    /// The interrupt hook. If there was a notification as well, another waiter has it.
    Interrupted,
}

/// How a wait ended. The lock is held again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waited {
    /// What ended it.
    pub end: End,
    /// Whether an owner of the lock died, and nobody has said since that what it guards is whole.
    pub owner_died: bool,
}

/// What is known of a condition, each figure as it was at some moment during the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConditionInfo {
    /// How many threads can wait at a time.
    pub cells: u64,
    /// How many wait; of these some may be dead.
    pub waiting: u64,
    /// How often somebody began to wait.
    pub waits: u64,
    /// How many notifications waiters were sent.
    pub notified: u64,
    /// How many waits ended because the time was over, or because of an interrupt.
    pub timeouts: u64,
    /// How many notifications of the dead and of the interrupted others have taken.
    pub recoveries: u64,
}

impl RawCondition {
    /// Makes all as it is in a new condition, but for the tag.
    pub fn clear(&self, cells: &[WaiterCell]) {
        for field in [
            &self.mutex,
            &self.used,
            &self.age,
            &self.waits,
            &self.notified,
            &self.timeouts,
            &self.recoveries,
        ] {
            field.store(0, Ordering::Relaxed);
        }
        for cell in cells {
            cell.state.store(0, Ordering::Relaxed);
            cell.age.store(0, Ordering::Relaxed);
        }
    }
}

impl WaiterCell {
    fn load(&self) -> u64 {
        // PAIRS condition.left: who finds a notification sees what its last holder did before.
        self.state.load(Ordering::Acquire)
    }

    fn swap(&self, seen: u64, new: u64) -> bool {
        // PAIRS condition.left
        self.state
            .compare_exchange(seen, new, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    fn age(&self) -> u64 {
        // PAIRS condition.age
        self.age.load(Ordering::Acquire)
    }

    /// Stored by who holds the lock, after the word with which the wait began: who reads this age from another cell finds
    /// that word, or a later one, when it swaps.
    fn set_age(&self, age: u64) {
        // PAIRS condition.age
        self.age.store(age, Ordering::Release);
    }
}

fn is_waiting(state: u64) -> bool {
    state & (WAITING | NOTIFIED) == WAITING
}

fn is_notified(state: u64) -> bool {
    state & (WAITING | NOTIFIED) == NOTIFIED
}

/// Says whether what the cell says is a dead process', or nobody's. Where nobody can be asked, nobody is dead.
fn is_gone(state: u64, liveness: &impl Liveness) -> bool {
    Id::of(state).is_none_or(|owner| liveness.is_dead(owner).unwrap_or(false))
}

/// A condition and its cells.
#[derive(Clone, Copy)]
pub struct ConditionRef<'a> {
    /// The words.
    pub raw: &'a RawCondition,
    /// All cells.
    pub cells: &'a [WaiterCell],
}

impl<'a> ConditionRef<'a> {
    /// Returns the cells that have ever been used.
    fn used(&self) -> &'a [WaiterCell] {
        // The word is anybody's to write: more than there are means all.
        let used = self.raw.used.load(Ordering::Relaxed);
        &self.cells[..used.min(self.cells.len() as u64) as usize]
    }

    /// Refuses who does not hold `mutex`, and any lock but the one with which the condition was used first.
    pub fn check(&self, mutex: &(impl Mutex + ?Sized)) -> Result<()> {
        if !mutex.is_held() {
            return Err(Error::NotOwner(
                "a condition is for who holds its lock".into(),
            ));
        }
        let number = mutex.number();
        let known = match self.raw.mutex.load(Ordering::Relaxed) {
            // Of several who use it first, with whatever locks, one says which it is.
            0 => {
                let first = self.raw.mutex.compare_exchange(
                    0,
                    number,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                );
                first.map_or_else(|known| known, |_| number)
            }
            known => known,
        };
        match known == number {
            true => Ok(()),
            false => Err(Error::Invalid(
                "the condition has been used with another lock, and goes with that one".into(),
            )),
        }
    }

    /// Waits, without the lock that the caller holds, until somebody notifies this thread.
    ///
    /// The lock is held again, as often as before, whatever this returns but `NotOwner`: the caller did not hold it, or
    /// it is not to be had again. `Invalid`: it is another one than the condition's. `TooManyProcesses`: as many as
    /// there are cells wait already. `Corrupt`: somebody has overwritten the cell.
    pub fn wait(
        &self,
        me: Id,
        mutex: &(impl Mutex + ?Sized),
        options: WaitOptions,
        spins: &SpinState,
        liveness: &impl Liveness,
    ) -> Result<Waited> {
        self.check(mutex)?;
        // 1. From here on we are notified.
        let (own, age) = self.take(me, liveness)?;
        let depth = match mutex.release_all() {
            Ok(depth) => depth,
            Err(error) => {
                self.withdraw(me, own);
                return Err(error);
            }
        };
        // 2. Without the lock.
        let slept = self.sleep(me, own, age, options, spins, liveness);
        // 3. With it.
        let owner_died = mutex.acquire_all(depth).map_err(|error| {
            if let Ok((_, Some(notified))) = slept {
                self.leave(me, notified);
            }
            Error::NotOwner(format!("the lock is not to be had again: {error}").into())
        })?;
        let (end, notified) = slept?;
        match notified {
            // Whoever dies before this leaves the notification to another.
            Some(cell) => drop(cell.swap(me.bits() | NOTIFIED, 0)),
            None => super::count(&self.raw.timeouts),
        }
        Ok(Waited { end, owner_died })
    }

    /// Takes a cell; returns it and the age of this wait. The caller holds the lock.
    pub(super) fn take(&self, me: Id, liveness: &impl Liveness) -> Result<(&'a WaiterCell, u64)> {
        let waiting = me.bits() | WAITING;
        let free = |cell: &WaiterCell| cell.load() == 0 && cell.swap(0, waiting);
        let cell = match self.cells.iter().position(free) {
            Some(index) => {
                self.raw.used.fetch_max(index as u64 + 1, Ordering::Relaxed);
                &self.cells[index]
            }
            None => self.inherit(waiting, liveness)?,
        };
        let age = self.raw.age.load(Ordering::Relaxed).wrapping_add(1);
        self.raw.age.store(age, Ordering::Relaxed);
        cell.set_age(age);
        super::count(&self.raw.waits);
        Ok((cell, age))
    }

    /// Takes a cell that a dead process has, or a notification that nobody can take any more.
    fn inherit(&self, waiting: u64, liveness: &impl Liveness) -> Result<&'a WaiterCell> {
        let ages = self.cells.iter().filter(|cell| is_waiting(cell.load()));
        let oldest = ages.map(WaiterCell::age).min();
        for cell in self.cells {
            let seen = cell.load();
            // It can be taken, but not be given to somebody new.
            if is_notified(seen) && oldest.is_some_and(|oldest| oldest <= cell.age()) {
                continue;
            }
            if is_gone(seen, liveness) && cell.swap(seen, waiting) {
                return Ok(cell);
            }
        }
        Err(Error::TooManyProcesses(
            format!(
                "{} threads wait already, and the condition has no more cells",
                self.cells.len()
            )
            .into(),
        ))
    }

    /// Waits in the cell `own`; returns what ended that, and the cell in which the notification stands.
    pub(super) fn sleep(
        &self,
        me: Id,
        own: &'a WaiterCell,
        age: u64,
        options: WaitOptions,
        spins: &SpinState,
        liveness: &impl Liveness,
    ) -> Result<(End, Option<&'a WaiterCell>)> {
        let waiting = me.bits() | WAITING;
        let mut wait = Wait::new(options, spins);
        loop {
            let seen = own.load();
            if seen == me.bits() | NOTIFIED {
                wait.record_success();
                return Ok((End::Notified, Some(own)));
            }
            if seen & !ASLEEP != waiting {
                return Err(Error::Corrupt(
                    format!("somebody has overwritten a waiter of the condition: {seen:#x}").into(),
                ));
            }
            if wait.spin() {
                continue;
            }
            // 1. Who notifies us from here on wakes us.
            if seen & ASLEEP == 0 && !own.swap(seen, waiting | ASLEEP) {
                continue;
            }
            // 2. Somebody who was notified may be dead, or have left it to others. PAIRS condition.look: of who has left
            //    it and us, at least one sees the other.
            fence(Ordering::SeqCst);
            if let Some(left) = self.adopt(me, age, liveness) {
                if !self.withdraw(me, own) {
                    // Meanwhile we were notified ourselves.
                    self.leave(me, left);
                    return Ok((End::Notified, Some(own)));
                }
                return Ok((End::Notified, Some(left)));
            }
            // 3. Until the word changes, or the time is over.
            let Err(ended) = wait.wait_slice(&own.state, waiting | ASLEEP, "a notification") else {
                continue;
            };
            let interrupted = matches!(ended, Error::Interrupted(_));
            let end = match interrupted {
                true => End::Interrupted,
                false => End::Timeout,
            };
            if self.withdraw(me, own) {
                return Ok((end, None));
            }
            // 4. We were notified at the last moment.
            if interrupted {
                self.leave(me, own);
                return Ok((end, None));
            }
            return Ok((End::Notified, Some(own)));
        }
    }

    /// Stops waiting in the cell `own`; false: it was notified before.
    fn withdraw(&self, me: Id, own: &WaiterCell) -> bool {
        loop {
            let seen = own.load();
            if seen & !ASLEEP != me.bits() | WAITING {
                return seen != me.bits() | NOTIFIED;
            }
            if own.swap(seen, 0) {
                return true;
            }
        }
    }

    /// Takes a notification that was sent when this one waited already, and left by the dead or the interrupted.
    pub(super) fn adopt(
        &self,
        me: Id,
        age: u64,
        liveness: &impl Liveness,
    ) -> Option<&'a WaiterCell> {
        let is_left =
            |seen: u64| is_notified(seen) && Id::of(seen) != Some(me) && is_gone(seen, liveness);
        // Others may want it as well: one of us swaps, the rest look for the next.
        for _ in self.used() {
            // The one that was sent first: those who came later have no right to it, but perhaps to the others.
            let ours = |cell: &&WaiterCell| cell.age() >= age && is_left(cell.load());
            let left = self
                .used()
                .iter()
                .filter(ours)
                .min_by_key(|cell| cell.age())?;
            let seen = left.load();
            if is_left(seen) && left.swap(seen, me.bits() | NOTIFIED) {
                self.raw.recoveries.fetch_add(1, Ordering::Relaxed);
                return Some(left);
            }
        }
        None
    }

    /// Leaves our notification to another waiter.
    pub(super) fn leave(&self, me: Id, cell: &WaiterCell) {
        let sent = cell.age();
        if !cell.swap(me.bits() | NOTIFIED, NOTIFIED) {
            return;
        }
        // PAIRS condition.look: who said that it sleeps before this is seen here; who says so later sees what was left.
        fence(Ordering::SeqCst);
        // All of them: one alone may just be notified itself, and not look. Where there is none the cell waits for who
        // needs one.
        for heir in self.used().iter().filter(|cell| cell.age() <= sent) {
            heir.wake();
        }
    }

    /// Notifies the `count` threads that have waited longest, or as many as wait. Errors as of `wait`.
    pub fn notify(
        &self,
        count: u64,
        mutex: &(impl Mutex + ?Sized),
        liveness: &impl Liveness,
    ) -> Result<()> {
        self.check(mutex)?;
        let used = self.used();
        let now = self.raw.age.load(Ordering::Relaxed);
        if count >= used.len() as u64 {
            // All that live are meant, so nobody needs to know who does: what the dead get they leave.
            for cell in used {
                if self.send(cell, now).is_some() {
                    super::count(&self.raw.notified);
                }
            }
            return Ok(());
        }
        let mut left = count;
        // Each cell is sent one or freed, once it may have gone to sleep; hostile bytes may say something new every time.
        for _ in 0..2 * used.len() {
            if left == 0 {
                break;
            }
            let waiting = used.iter().filter(|cell| is_waiting(cell.load()));
            let Some(oldest) = waiting.min_by_key(|cell| cell.age()) else {
                break;
            };
            // 1. Who looks would wait for the lock while we ask whether it lives, so that is asked first.
            let seen = oldest.load();
            let asleep = seen & ASLEEP != 0;
            if !asleep && is_waiting(seen) && is_gone(seen, liveness) {
                oldest.swap(seen, 0);
                continue;
            }
            // An earlier notification with which nobody has come back yet may have to go to this one. If so, others will
            // have a right to it from now on as well, and this one gets the age that the earlier has.
            let began = oldest.age();
            let is_earlier = |cell: &&WaiterCell| {
                !std::ptr::eq(*cell, oldest) && is_notified(cell.load()) && cell.age() >= began
            };
            let earlier = used.iter().filter(is_earlier).min_by_key(|cell| cell.age());
            let Some(sent) = self.send(oldest, earlier.map_or(now, WaiterCell::age)) else {
                continue;
            };
            // 2. Who sleeps wakes up while we ask. What the dead were sent goes to the next, unless another waiter has
            //    taken it meanwhile.
            if asleep && is_gone(sent, liveness) && oldest.swap(sent, 0) {
                continue;
            }
            if let Some(earlier) = earlier {
                earlier.set_age(now);
            }
            super::count(&self.raw.notified);
            left -= 1;
        }
        Ok(())
    }

    /// Notifies who waits in `cell`, for those whose waits had begun by `age`; returns the word that stands there then, or
    /// `None` where nobody waits any more. The caller holds the lock.
    fn send(&self, cell: &WaiterCell, age: u64) -> Option<u64> {
        loop {
            let seen = cell.load();
            if !is_waiting(seen) {
                return None;
            }
            cell.set_age(age);
            // It may leave, or go to sleep, meanwhile.
            let sent = seen & Id::BITS | NOTIFIED;
            if cell.swap(seen, sent) {
                if seen & ASLEEP != 0 {
                    futex::wake(&cell.state, 1, WaitSet::All);
                }
                return Some(sent);
            }
        }
    }

    /// Returns what is known of it; nobody is asked who lives.
    pub fn stat(&self) -> ConditionInfo {
        let get = |field: &AtomicU64| field.load(Ordering::Relaxed);
        let waiting = self.used().iter().filter(|cell| is_waiting(cell.load()));
        ConditionInfo {
            cells: self.cells.len() as u64,
            waiting: waiting.count() as u64,
            waits: get(&self.raw.waits),
            notified: get(&self.raw.notified),
            timeouts: get(&self.raw.timeouts),
            recoveries: get(&self.raw.recoveries),
        }
    }
}

impl WaiterCell {
    /// Has a thread that sleeps here look at the other cells.
    fn wake(&self) {
        let seen = self.load();
        if is_waiting(seen) && seen & ASLEEP != 0 && self.swap(seen, seen & !ASLEEP) {
            futex::wake(&self.state, 1, WaitSet::All);
        }
    }

    #[cfg(all(loom, test))]
    pub(super) fn is_free(&self) -> bool {
        self.load() == 0
    }

    #[cfg(all(loom, test))]
    pub(super) fn is_notified_and_released(&self, me: Id) -> bool {
        self.swap(me.bits() | NOTIFIED, 0)
    }
}
