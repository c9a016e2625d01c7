//! The condition: the owner of a lock releases it and waits until another owner notifies (pthread_cond_wait(3)).
//!
//! Each waiter sleeps on a word of its own, and the oldest waiter is notified first (Birrell, Implementing Condition
//! Variables with Semaphores). So a notification belongs to a waiter, and a waiter's death can be handled.
//!
//! Each waiting thread has a cell. One word of the cell has its process and whether it was notified:
//!
//! | cell                  | means                                       | goes to                                   |
//! |-----------------------|---------------------------------------------|-------------------------------------------|
//! | 0                     | free                                        | me + WAITING: wait                        |
//! | me + WAITING          | a thread of mine waits, and spins           | + ASLEEP: it may sleep; 0: it gives up    |
//! | me + WAITING + ASLEEP | it may sleep on this word                   | without ASLEEP: a leave wakes it; 0       |
//! | both                  |                                             | me + NOTIFIED: notify                     |
//! | me + NOTIFIED         | it was notified, and will acquire the lock  | 0: it has the lock; NOTIFIED: interrupted |
//! | NOTIFIED              | a notification is left for another waiter   | me + NOTIFIED: a waiter with a right      |
//! | dead + NOTIFIED       | likewise: its process died without the lock | likewise; 0: notify, for the next waiter  |
//! | dead + WAITING …      | its process is dead                         | dead + NOTIFIED, or 0: notify             |
//!
//! If no cell is free, a new waiter takes that of a dead process, or one with a notification that is left. The latter
//! only if no thread waits any more that has a right to the notification. Only the owner of the lock takes cells,
//! notifies, and frees cells after a notification. All else happens without the lock: a waiter that gives up frees its
//! cell, and a waiter takes a notification that is left.
//!
//! Beside the word is an age: the number of the wait, in the order of all waits. From just before the notification on
//! it is the age of the youngest thread that waits then. Younger waiters have no right to that notification (D-037). An
//! age never decreases. The threads of earlier notifications may not have returned yet. If the waiter that is notified
//! now had a right to such a notification too, the earlier cell gets the new age as well. So if either thread dies, all
//! waiters of now have a right to what it leaves: the survivor counts as the receiver of the earlier notification.
//!
//! Each arrow is one compare-and-swap, so a death comes before it or after it. If a process dies
//! * while it waits: its cell has dead + WAITING or dead + NOTIFIED, and the lock is taken over as any;
//! * in notify: some waiters were notified, the others were not; a wake may be lost, and sleepers look again within
//!   12 ms; the waiter that was to be notified next, and threads notified before, may count as the youngest;
//! * when it takes a notification that was left: its own cell has WAITING, and the cell that it took has
//!   dead + NOTIFIED, which the next waiter takes.

use super::wait::{SpinState, Wait};
use super::{Liveness, WaitOptions};
use crate::error::{Error, Result};
use crate::participant::Id;
use crate::sys::atomic::{AtomicU64, Ordering, fence};
use crate::sys::fork::Origin;
use crate::sys::futex::{self, WaitSet};

/// In a cell: its thread waits.
const WAITING: u64 = 1 << 31;
/// In a cell: a notification.
const NOTIFIED: u64 = 1 << 30;
/// In a cell with WAITING: its thread may sleep, so a change of the word must wake it.
const ASLEEP: u64 = 1 << 29;

/// A condition in shared memory; its cells follow it. All zeros but `tag` is a new condition.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct RawCondition {
    /// The kind of the object and the options that it was created with: see `object`.
    pub tag: std::sync::atomic::AtomicU64,
    /// The number of the lock that it was first used with (D-035); 0: it has not been used yet.
    mutex: AtomicU64,
    /// The number of cells that were ever used, from the first on.
    used: AtomicU64,
    /// The age of the wait that began last.
    age: AtomicU64,
    waits: AtomicU64,
    notified: AtomicU64,
    timeouts: AtomicU64,
    recoveries: AtomicU64,
}

/// The place where one thread waits. All zeros is a free cell.
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

/// The lock that is used with a condition.
pub trait Mutex {
    /// Returns whether the caller holds the lock.
    fn is_held(&self) -> bool;
    /// Returns a number that is the same for this lock in every process, and differs from that of every other; never 0.
    fn number(&self) -> u64;
    /// Releases the lock completely; returns how often it was held.
    fn release_all(&self) -> Result<u64>;
    /// Acquires the lock `depth` times, without a timeout; returns whether an owner died without a `mark_consistent`
    /// since.
    fn acquire_all(&self, depth: u64) -> Result<bool>;
}

/// The event that ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// A notification, which is consumed.
    Notified,
    /// The time was over.
    Timeout,
    /// The interrupt hook. If there was a notification as well, it goes to another waiter.
    Interrupted,
}

/// The result of a wait. The caller holds the lock again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waited {
    /// The event that ended the wait.
    pub end: End,
    /// Whether an owner of the lock died, and `mark_consistent` has not been called since.
    pub owner_died: bool,
}

/// The state of a condition. Each figure was true at some moment during the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConditionInfo {
    /// The number of threads that can wait at a time.
    pub cells: u64,
    /// The number of waiting threads; some may be dead.
    pub waiting: u64,
    /// The number of waits that were begun.
    pub waits: u64,
    /// The number of notifications that waiters were sent.
    pub notified: u64,
    /// The number of waits that ended by a timeout or an interrupt.
    pub timeouts: u64,
    /// The number of notifications of dead or interrupted waiters that other waiters took.
    pub recoveries: u64,
}

impl RawCondition {
    /// Stores the state of a new condition in all fields but the tag.
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
        // PAIRS condition.left: the taker of a notification sees what its last holder did before.
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

    /// Called by the owner of the lock, after it stored the word of the wait. So a process that reads this age through
    /// another cell finds that word, or a later one, when it swaps.
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

/// Returns whether the cell is a dead process' or has no process. A process whose liveness is unknown counts as alive.
///
/// `Forked`: as of `Liveness::is_dead`.
fn is_gone(state: u64, liveness: &impl Liveness, origin: Origin) -> Result<bool> {
    let Some(owner) = Id::of(state) else {
        return Ok(true);
    };
    match liveness.is_dead(owner, origin) {
        Err(error @ Error::Forked(_)) => Err(error),
        dead => Ok(dead.unwrap_or(false)),
    }
}

/// A condition and its cells.
#[derive(Clone, Copy)]
pub struct ConditionRef<'a> {
    /// The words of the condition.
    pub raw: &'a RawCondition,
    /// All cells.
    pub cells: &'a [WaiterCell],
}

impl<'a> ConditionRef<'a> {
    /// Returns the cells that were ever used.
    fn used(&self) -> &'a [WaiterCell] {
        // Any process may have overwritten the word: a number above the number of cells means all.
        let used = self.raw.used.load(Ordering::Relaxed);
        &self.cells[..used.min(self.cells.len() as u64) as usize]
    }

    /// Fails unless the caller holds `mutex`, and `mutex` is the lock with which the condition was first used.
    pub fn check(&self, mutex: &(impl Mutex + ?Sized)) -> Result<()> {
        if !mutex.is_held() {
            return Err(Error::NotOwner(
                "the caller does not hold the lock of the condition: acquire it first".into(),
            ));
        }
        let number = mutex.number();
        let known = match self.raw.mutex.load(Ordering::Relaxed) {
            // If several callers use the condition first, with different locks, one of them determines the lock.
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
                "the condition was first used with another lock: use that one".into(),
            )),
        }
    }

    /// Releases the lock, waits for a notification, and acquires the lock again.
    ///
    /// The caller holds the lock again, as often as before, whatever this returns except `NotOwner` (D-036) and
    /// `Forked`.
    ///
    /// * `NotOwner`: the caller did not hold the lock, or it cannot be acquired again
    /// * `Invalid`: the condition was first used with another lock
    /// * `TooManyProcesses`: as many threads wait as there are cells
    /// * `Corrupt`: the cell was overwritten
    /// * `Forked`: this is a child that was forked during the call; it neither waits nor holds the lock
    pub fn wait(
        &self,
        me: Id,
        mutex: &(impl Mutex + ?Sized),
        options: WaitOptions,
        spins: &SpinState,
        liveness: &impl Liveness,
    ) -> Result<Waited> {
        self.check(mutex)?;
        // 1. From here on this thread can be notified.
        let (own, age) = self.take(me, liveness)?;
        let depth = match mutex.release_all() {
            Ok(depth) => depth,
            Err(error) => {
                self.withdraw(me, own);
                return Err(error);
            }
        };
        // The release may have woken a waiter of the lock, which is a system call.
        liveness.origin(me).check()?;
        // 2. Without the lock.
        let slept = self.sleep(me, own, age, options, spins, liveness);
        // The parent goes on with the wait.
        liveness.origin(me).check()?;
        // 3. With the lock.
        let owner_died = mutex.acquire_all(depth).map_err(|error| {
            if matches!(error, Error::Forked(_)) {
                return error;
            }
            if let Ok((_, Some(notified))) = slept {
                self.leave(me, notified);
            }
            let text = format!("the lock cannot be acquired again ({error}); reopen it");
            Error::NotOwner(text.into())
        })?;
        let (end, notified) = slept?;
        match notified {
            // A process that dies before this leaves the notification to another waiter.
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
            None => self.reuse_cell(waiting, liveness, liveness.origin(me))?,
        };
        let age = self.raw.age.load(Ordering::Relaxed).wrapping_add(1);
        self.raw.age.store(age, Ordering::Relaxed);
        cell.set_age(age);
        super::count(&self.raw.waits);
        Ok((cell, age))
    }

    /// Takes the cell of a dead process, or one with a notification that no waiter has a right to any more.
    fn reuse_cell(
        &self,
        waiting: u64,
        liveness: &impl Liveness,
        origin: Origin,
    ) -> Result<&'a WaiterCell> {
        let ages = self.cells.iter().filter(|cell| is_waiting(cell.load()));
        let oldest = ages.map(WaiterCell::age).min();
        for cell in self.cells {
            let seen = cell.load();
            // A waiter has a right to this notification, and a new waiter has not.
            if is_notified(seen) && oldest.is_some_and(|oldest| oldest <= cell.age()) {
                continue;
            }
            if is_gone(seen, liveness, origin)? && cell.swap(seen, waiting) {
                return Ok(cell);
            }
        }
        Err(Error::TooManyProcesses(
            format!(
                "{} threads wait, and the condition has no more cells; create it with a larger cells option",
                self.cells.len()
            )
            .into(),
        ))
    }

    /// Waits in the cell `own`; returns the event that ended the wait, and the cell that has the notification.
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
        let mut wait = Wait::new(options, spins, liveness.origin(me));
        loop {
            let seen = own.load();
            wait.check_origin()?;
            if seen == me.bits() | NOTIFIED {
                wait.record_success();
                return Ok((End::Notified, Some(own)));
            }
            if seen & !ASLEEP != waiting {
                return Err(Error::Corrupt(
                    format!(
                        "a waiter of the condition has the state {seen:#x}; recreate the condition"
                    )
                    .into(),
                ));
            }
            if wait.spin() {
                continue;
            }
            // 1. A notification from here on wakes this thread.
            if seen & ASLEEP == 0 && !own.swap(seen, waiting | ASLEEP) {
                continue;
            }
            // 2. A notified process may be dead, or have left its notification. PAIRS condition.look: of a thread that
            //    leaves one and this thread, at least one sees the other.
            fence(Ordering::SeqCst);
            if let Some(left) = self.adopt(me, age, liveness)? {
                if !self.withdraw(me, own) {
                    // This thread was notified meanwhile.
                    self.leave(me, left);
                    return Ok((End::Notified, Some(own)));
                }
                return Ok((End::Notified, Some(left)));
            }
            // 3. Sleep until the word changes, or the time is over.
            let ended =
                wait.wait_slice(&own.state, waiting | ASLEEP, "no notification has arrived");
            let ended = match ended {
                Ok(()) => continue,
                Err(error @ Error::Forked(_)) => return Err(error),
                Err(ended) => ended,
            };
            let interrupted = matches!(ended, Error::Interrupted(_));
            let end = match interrupted {
                true => End::Interrupted,
                false => End::Timeout,
            };
            if self.withdraw(me, own) {
                return Ok((end, None));
            }
            // 4. This thread was notified at the last moment.
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

    /// Takes a notification that a dead or interrupted waiter has left and that this waiter has a right to.
    pub(super) fn adopt(
        &self,
        me: Id,
        age: u64,
        liveness: &impl Liveness,
    ) -> Result<Option<&'a WaiterCell>> {
        let origin = liveness.origin(me);
        let is_left = |seen: u64| {
            let others = is_notified(seen) && Id::of(seen) != Some(me);
            Ok(others && is_gone(seen, liveness, origin)?)
        };
        // Other waiters may want it as well: one swaps, the others look for the next.
        for _ in self.used() {
            // The oldest notification: younger waiters have no right to it, but perhaps to the others.
            let mut oldest: Option<&WaiterCell> = None;
            for cell in self.used().iter().filter(|cell| cell.age() >= age) {
                let first = oldest.is_none_or(|oldest| cell.age() < oldest.age());
                if first && is_left(cell.load())? {
                    oldest = Some(cell);
                }
            }
            let Some(left) = oldest else {
                return Ok(None);
            };
            let seen = left.load();
            if is_left(seen)? && left.swap(seen, me.bits() | NOTIFIED) {
                self.raw.recoveries.fetch_add(1, Ordering::Relaxed);
                return Ok(Some(left));
            }
        }
        Ok(None)
    }

    /// Leaves this process' notification to another waiter.
    pub(super) fn leave(&self, me: Id, cell: &WaiterCell) {
        let sent = cell.age();
        if !cell.swap(me.bits() | NOTIFIED, NOTIFIED) {
            return;
        }
        // PAIRS condition.look: a waiter that stored ASLEEP before this is seen here; a later one sees the
        // notification.
        fence(Ordering::SeqCst);
        // Wakes all that have a right: a single one may just be notified itself, and not look. If there is none, the
        // cell keeps the notification until a waiter needs the cell.
        for waiter in self.used().iter().filter(|cell| cell.age() <= sent) {
            waiter.wake();
        }
    }

    /// Notifies the `count` threads that have waited longest, or all if fewer wait. Errors as for `check`. `Forked`:
    /// this is a child that was forked during the call.
    pub fn notify(
        &self,
        count: u64,
        mutex: &(impl Mutex + ?Sized),
        liveness: &impl Liveness,
    ) -> Result<()> {
        self.check(mutex)?;
        let used = self.used();
        let now = self.raw.age.load(Ordering::Relaxed);
        let origin = Origin::here();
        if count >= used.len() as u64 {
            // All waiters are meant, so liveness need not be checked: dead ones leave their notification.
            for cell in used {
                if self.send(cell, now).is_some() {
                    // The wake is a system call.
                    origin.check()?;
                    super::count(&self.raw.notified);
                }
            }
            return Ok(());
        }
        let mut left = count;
        // Each cell is notified or freed, after its thread may have fallen asleep once. Corrupt cells may change
        // forever.
        for _ in 0..2 * used.len() {
            if left == 0 {
                break;
            }
            let waiting = used.iter().filter(|cell| is_waiting(cell.load()));
            let Some(oldest) = waiting.min_by_key(|cell| cell.age()) else {
                break;
            };
            // 1. A waiter that spins would wait for the lock during a probe of its liveness, so the probe comes first
            //    (D-038).
            let seen = oldest.load();
            let asleep = seen & ASLEEP != 0;
            if !asleep && is_waiting(seen) && is_gone(seen, liveness, origin)? {
                oldest.swap(seen, 0);
                continue;
            }
            // An earlier notification whose thread has not returned yet may have to go to this waiter. If so, the other
            // waiters get a right to what that thread leaves. The ages come first: a notifier that dies between the
            // two steps has given a right too many, and loses no notification.
            let began = oldest.age();
            let earlier = |cell: &&WaiterCell| is_notified(cell.load()) && cell.age() >= began;
            for cell in used.iter().filter(earlier) {
                cell.set_age(now);
            }
            let Some(sent) = self.send(oldest, now) else {
                continue;
            };
            // 2. A sleeper wakes up during the probe. The notification of a dead one goes to the next, unless another
            //    waiter has taken it meanwhile.
            origin.check()?;
            if asleep && is_gone(sent, liveness, origin)? && oldest.swap(sent, 0) {
                continue;
            }
            super::count(&self.raw.notified);
            left -= 1;
        }
        Ok(())
    }

    /// Notifies the thread that waits in `cell`, with a right for all waits that had begun by `age`. Returns the new
    /// word, or `None` if no thread waits there any more. The caller holds the lock.
    fn send(&self, cell: &WaiterCell, age: u64) -> Option<u64> {
        loop {
            let seen = cell.load();
            if !is_waiting(seen) {
                return None;
            }
            cell.set_age(age);
            // The waiter may leave or fall asleep meanwhile.
            let sent = seen & Id::BITS | NOTIFIED;
            if cell.swap(seen, sent) {
                if seen & ASLEEP != 0 {
                    futex::wake(&cell.state, 1, WaitSet::All);
                }
                return Some(sent);
            }
        }
    }

    /// Returns the state of the condition; whether waiters are alive is not checked.
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
    /// Makes a thread that sleeps here look at the other cells.
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
