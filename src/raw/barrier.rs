//! The barrier: its parties wait until all have arrived, then all continue. A party that dies while it waits breaks it.
//!
//! The interface is that of pthread_barrier_wait(3) and of Python's threading.Barrier. The last party to arrive may be
//! the serial party (PTHREAD_BARRIER_SERIAL_THREAD), which here holds the others until it calls `pass`.
//!
//! ```text
//! words:  | lock, which has the tag | turn | turns | breaks | deaths |
//! cells:  | state | seat |, two cells for each party
//! turn:   | arrived (16 bits) | generation (46 bits) | SLEEPERS | BROKEN |
//! seat:   | place (16 bits) | generation (46 bits) | 00 |
//! ```
//!
//! | turn          | means                                         | goes to                                        |
//! |---------------|-----------------------------------------------|------------------------------------------------|
//! | k, g          | k parties of turn g wait                      | k + 1, g: one arrives; k - 1, g: one withdraws |
//! | all - 1, g    | one party is missing                          | 0, g + 1: it arrives; all, g: as serial party  |
//! | all, g        | all have arrived; the serial party holds them | 0, g + 1: pass                                 |
//! | k, g + BROKEN | a party that waits or arrives sees Broken     | 0, g + 1: reset                                |
//!
//! The first party that goes to sleep adds SLEEPERS. A party that finds a dead one or is out of time adds BROKEN, and
//! so does an abort. Each arrow is one compare-and-swap. A party that arrives, withdraws or resets holds the lock. A
//! party that breaks the turn, or calls `pass`, does not (D-046).
//!
//! | state        | means                                      | goes to                                           |
//! |--------------|--------------------------------------------|---------------------------------------------------|
//! | 0            | free                                       | me + WAITING, me + HOLDING: arrive, with the lock |
//! | me + WAITING | I wait in the turn of my seat, or leave it | 0: I leave; me + RESET: reset, with the lock      |
//! | me + HOLDING | I am the serial party, and hold the others | 0: pass; or a reset, with the lock                |
//! | me + RESET   | my turn was broken, and is over            | 0: I leave                                        |
//! | dead …       | its process has died in a wait             | 0: reset, with the lock                           |
//!
//! Sleepers sleep on the lower half of `turn`, which does not change when a party arrives or withdraws.
//!
//! If a process dies
//! * before it has stored its state: no other party is affected;
//! * from then on until it leaves: a party that waits beside it finds its cell and breaks the turn, and so does the
//!   last party to arrive. If its turn has ended by then, the next turn breaks, because the dead party will not arrive
//!   for that one either (D-045);
//! * with the lock: the next party takes the lock over; each party that is counted has a cell until it is no longer
//!   counted;
//! * in a reset: the turn stays broken until the reset's last step;
//! * after its last step and before the wake: sleepers look again within 12 ms.

mod broken;

use super::wait::{SpinState, Wait};
use super::{Liveness, Timeout, WaitOptions, lock};
use crate::error::{Error, Result};
use crate::participant::Id;
use crate::sys::atomic::{AtomicU64, Ordering};
use crate::sys::futex::{self, WaitSet};
use crate::sys::{clock, process};
use std::time::Duration;

/// The largest number of parties: two cells for each of them are counted in 16 bits.
pub const MAX_PARTIES: u32 = 2048;

/// In `turn`: parties that wait see it, and no party can arrive.
const BROKEN: u64 = 1;
/// In `turn`: a party may sleep on it. The mark is in the half that the futex compares, as a lock's WAITERS is.
const SLEEPERS: u64 = 1 << 1;
/// The next generation, in `turn` and in seats.
const GENERATION: u64 = 1 << 2;
/// One more party that has arrived, in `turn`; the next place, in seats.
const ARRIVED: u64 = 1 << 48;
const GENERATIONS: u64 = (ARRIVED - 1) & !(SLEEPERS | BROKEN);

/// How long to wait for the lock. It is held for less than a millisecond, so an owner that holds it longer is stopped.
const LOCK_TIMEOUT: WaitOptions = WaitOptions::after(Duration::from_nanos(1_000_000_000));

/// The state that a party waits to end.
const MISSING: &str = "parties of the barrier are missing";

/// The states of a cell, beside an id.
const WAITING: u64 = 1 << 29;
const HOLDING: u64 = 2 << 29;
const RESET: u64 = 3 << 29;

/// A barrier in shared memory. All zeros but the lock's tag is a barrier without waiting parties.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct RawBarrier {
    /// Its owner lets parties arrive and withdraw.
    pub lock: lock::RawLock,
    turn: AtomicU64,
    turns: AtomicU64,
    breaks: AtomicU64,
    deaths: AtomicU64,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<RawBarrier>() == 128);

// SAFETY: nothing but atomics, and padding that is never read. (Those of loom are never found in mapped memory.)
unsafe impl crate::layout::Shared for RawBarrier {}

/// The place where one party waits. All zeros is a free cell.
#[derive(Debug, Default)]
#[repr(C)]
pub struct PartyCell {
    state: AtomicU64,
    seat: AtomicU64,
}

// SAFETY: nothing but atomics.
unsafe impl crate::layout::Shared for PartyCell {}

impl RawBarrier {
    /// Stores the state of a new barrier in all fields but the tag.
    pub fn clear(&self, cells: &[PartyCell]) {
        self.lock.clear();
        let raw = [&self.turn, &self.turns, &self.breaks, &self.deaths];
        for word in raw {
            word.store(0, Ordering::Relaxed);
        }
        for cell in cells {
            cell.state.store(0, Ordering::Relaxed);
            cell.seat.store(0, Ordering::Relaxed);
        }
    }
}

/// The state of a barrier. Each figure was true at some moment during the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BarrierInfo {
    /// The number of parties that wait.
    pub waiting: u32,
    /// Whether the barrier is broken.
    pub broken: bool,
    /// The number of times that all parties arrived and continued.
    pub turns: u64,
    /// The number of times that the barrier was broken.
    pub breaks: u64,
    /// The number of times that a death broke it.
    pub deaths: u64,
}

/// How long recent waits took: for one handle, not shared.
#[derive(Debug, Default)]
pub struct BarrierHandleState {
    turn: SpinState,
    lock: SpinState,
    /// When a party of this handle last arrived in a turn with an even number, and in one with an odd number.
    arrivals: [LastArrival; 2],
}

/// The turn in which a party arrived, and when, by the clock of this process.
#[derive(Debug, Default)]
struct LastArrival {
    generation: std::sync::atomic::AtomicU64,
    time: std::sync::atomic::AtomicU64,
}

impl BarrierHandleState {
    fn arrival(&self, generation: u64) -> &LastArrival {
        &self.arrivals[(generation / GENERATION) as usize % 2]
    }

    /// Records that a party arrives in the turn of this generation. The caller holds the lock.
    fn note_arrival(&self, generation: u64, now: u64) {
        let arrival = self.arrival(generation);
        arrival.time.store(now, Ordering::Relaxed);
        arrival.generation.store(generation, Ordering::Relaxed);
    }

    /// Returns how long ago the turn of this generation can have begun at most, in nanoseconds; `u64::MAX`: unknown.
    ///
    /// It began after each arrival in the turn before it. A clock of another process would be no measure: its time
    /// namespace may be another (D-045). The caller holds the lock.
    fn longest_age(&self, generation: u64, now: u64) -> u64 {
        let before = generation.wrapping_sub(GENERATION) & GENERATIONS;
        let arrival = self.arrival(before);
        match arrival.generation.load(Ordering::Relaxed) == before {
            true => now.saturating_sub(arrival.time.load(Ordering::Relaxed)),
            false => u64::MAX,
        }
    }
}

/// What the last party to arrive does with the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// It continues with them.
    Passes,
    /// It is the serial party: it holds the others until it calls `pass`.
    Holds,
}

/// The value of `turn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Turn(u64);

impl Turn {
    fn arrived(self) -> usize {
        (self.0 / ARRIVED) as usize
    }

    fn generation(self) -> u64 {
        self.0 & GENERATIONS
    }

    fn is_broken(self) -> bool {
        self.0 & BROKEN != 0
    }

    fn has_sleepers(self) -> bool {
        self.0 & SLEEPERS != 0
    }

    /// The next turn, in which no party waits yet.
    fn next(self) -> Turn {
        Turn((self.generation() + GENERATION) & GENERATIONS)
    }
}

/// The result of an arrival.
enum Arrival {
    /// All parties have arrived, and the caller is the last.
    Last,
    /// The caller waits in this cell, in the turn of this generation.
    Waits(usize, u64),
    /// There is no room before the present turn is over, or before parties of the last turn have left.
    NoRoom(Turn),
}

/// A party that waits.
#[derive(Clone, Copy)]
pub(super) struct Waiter {
    me: Id,
    /// The index of its cell.
    index: usize,
    generation: u64,
}

/// A barrier in shared memory, as one process sees it.
#[derive(Clone, Copy)]
pub struct BarrierRef<'a> {
    /// Its words.
    pub raw: &'a RawBarrier,
    /// Its cells: two for each party, because parties of the last turn may not have left yet (D-046).
    pub cells: &'a [PartyCell],
}

impl BarrierRef<'_> {
    /// Returns the number of parties that must arrive.
    pub fn parties(self) -> usize {
        self.cells.len() / 2
    }

    fn turn(self) -> Turn {
        // PAIRS barrier.turn: what happened before the turn ended is seen by a party that finds it over, and so are the
        // marks of a reset.
        Turn(self.raw.turn.load(Ordering::Acquire))
    }

    /// Takes `turn` from `old` to `new`; else returns its present value.
    fn swap(self, old: Turn, new: Turn) -> std::result::Result<(), Turn> {
        // PAIRS barrier.turn: each arriving party passes on what earlier ones have done; the last one receives it all.
        self.raw
            .turn
            .compare_exchange(old.0, new.0, Ordering::AcqRel, Ordering::Acquire)
            .map(drop)
            .map_err(Turn)
    }

    /// Wakes the parties that slept in a turn that is over or broken.
    fn wake(self, turn: Turn) {
        if turn.has_sleepers() {
            futex::wake(&self.raw.turn, i32::MAX, WaitSet::All);
        }
    }

    /// Waits until all parties have arrived; returns the caller's place, from 0 on. No two parties of a turn have the
    /// same place, and the last to arrive has the highest.
    ///
    /// * `Broken`: the barrier was broken: by an abort, a reset, a timeout or a death
    /// * `Timeout`: the time is over; the barrier is broken now, if the caller had arrived
    /// * `WouldBlock`: parties are missing
    /// * `Forked`: this is a child that was forked during the call; the parent still waits
    /// * `Interrupted`, other errors of `liveness`: the caller no longer waits, and the barrier is as if it had not arrived;
    ///   if the others have continued meanwhile, they have
    /// * `Corrupt`: the words contradict each other
    pub fn wait(
        self,
        me: Id,
        options: WaitOptions,
        last: Last,
        handle: &BarrierHandleState,
        liveness: &impl Liveness,
    ) -> Result<usize> {
        let mut wait = Wait::new(options, &handle.turn, liveness.origin(me));
        let nowait = options.timeout == Timeout::Immediate;
        loop {
            let turn = self.turn();
            if nowait && !turn.is_broken() && turn.arrived() + 1 < self.parties() {
                return Err(missing());
            }
            match self.arrive(me, &mut wait, last, handle, liveness)? {
                Arrival::Last => return Ok(self.parties() - 1),
                Arrival::Waits(..) if nowait => {
                    return Err(Error::Internal(
                        "a call that must not wait has to wait".into(),
                    ));
                }
                Arrival::Waits(index, generation) => {
                    let waiter = Waiter {
                        me,
                        index,
                        generation,
                    };
                    return self.stay(&waiter, wait, handle, liveness);
                }
                Arrival::NoRoom(turn) => {
                    // The party that holds the others may be dead, and only this caller may be there to find out.
                    self.watch(me, 0, turn.generation(), 0, liveness)?;
                    self.wait_slice(&mut wait, turn, "earlier parties have not left the barrier")?;
                }
            }
        }
    }

    /// Acquires the lock, within the time of the options. A caller that may not wait still waits for the owner of the
    /// lock, unless that owner is stopped (D-042).
    fn enter(
        self,
        me: Id,
        wait: &mut Wait<'_>,
        handle: &BarrierHandleState,
        liveness: &impl Liveness,
    ) -> Result<()> {
        if self.raw.lock.try_acquire(me) {
            return Ok(());
        }
        wait.look();
        let rest = wait.rest();
        let nowait = rest.timeout == Timeout::Immediate;
        let mut entered = self.take_lock(me, rest, handle, liveness);
        if nowait && matches!(entered, Err(Error::WouldBlock(_))) {
            entered = self.take_lock(me, LOCK_TIMEOUT, handle, liveness);
        }
        entered.map_err(|error| match error {
            Error::Timeout(_) if nowait => {
                Error::WouldBlock("a process was stopped while it arrived or withdrew".into())
            }
            Error::Timeout(_) => {
                Error::Timeout("timed out waiting to arrive at the barrier".into())
            }
            other => other,
        })
    }

    /// Acquires the lock. An owner that died has left the words consistent, except for its cell, which is found later.
    fn take_lock(
        self,
        me: Id,
        options: WaitOptions,
        handle: &BarrierHandleState,
        liveness: &impl Liveness,
    ) -> Result<()> {
        let lock = &self.raw.lock;
        if lock.acquire(me, options, &handle.lock, liveness)? {
            // It fails if `exit` may fail.
            let _ = lock.mark_consistent(me);
        }
        Ok(())
    }

    fn exit(self, me: Id) {
        // It fails if another process has overwritten the lock: then there is nothing to release.
        let _ = self.raw.lock.release(me);
    }

    /// Arrives, and waits at most for a process that is arriving or withdrawing.
    fn arrive(
        self,
        me: Id,
        wait: &mut Wait<'_>,
        last: Last,
        handle: &BarrierHandleState,
        liveness: &impl Liveness,
    ) -> Result<Arrival> {
        self.enter(me, wait, handle, liveness)?;
        let arrived = self.arrive_inside(me, wait, last, handle, liveness);
        // A child that was forked in there leaves the lock to its parent.
        liveness.origin(me).check()?;
        self.exit(me);
        let (arrival, over) = arrived?;
        self.wake(over);
        Ok(arrival)
    }

    /// Arrives, with the lock held; returns also the turn that is over, or one without sleepers.
    fn arrive_inside(
        self,
        me: Id,
        wait: &mut Wait<'_>,
        last: Last,
        handle: &BarrierHandleState,
        liveness: &impl Liveness,
    ) -> Result<(Arrival, Turn)> {
        const NO_SLEEPERS: Turn = Turn(0);
        let parties = self.parties();
        let mut turn = self.turn();
        if turn.is_broken() {
            return Err(broken());
        }
        let arrived = turn.arrived();
        if arrived > parties {
            return Err(Error::Corrupt(
                format!("{arrived} parties wait at a barrier of {parties}; recreate the barrier")
                    .into(),
            ));
        }
        if arrived == parties {
            return Ok((Arrival::NoRoom(turn), NO_SLEEPERS));
        }
        let is_last = arrived + 1 == parties;
        if !is_last && wait.rest().timeout == Timeout::Immediate {
            return Err(missing());
        }
        // 1. A cell. Without the lock no other party takes one.
        let Some(index) = self.free_cell(turn) else {
            return Ok((Arrival::NoRoom(turn), NO_SLEEPERS));
        };
        let cell = &self.cells[index];
        let generation = turn.generation();
        cell.seat
            .store(generation | (arrived as u64 * ARRIVED), Ordering::Relaxed);
        let holds = is_last && last == Last::Holds;
        let state = me.bits() | if holds { HOLDING } else { WAITING };
        // PAIRS barrier.cell: a process that finds this state finds the seat. From here on a death is noticed.
        cell.state.store(state, Ordering::Release);
        // 2. All parties continue together, or none does. So the last one checks that the others are alive.
        let mut age = u64::MAX;
        if parties > 1 {
            let now = clock::monotonic();
            age = handle.longest_age(generation, now);
            handle.note_arrival(generation, now);
        }
        if is_last {
            let others = (arrived != 0).then_some((generation, age));
            match self.find_dead(me, others, liveness) {
                Ok(false) => {}
                Ok(true) => {
                    self.break_off(generation, true);
                    // The wake is a system call.
                    liveness.origin(me).check()?;
                }
                Err(error @ Error::Forked(_)) => return Err(error),
                Err(error) => {
                    self.leave(index);
                    return Err(error);
                }
            }
        }
        // 3. The arrival is counted. Other processes can only break the turn meanwhile, or go to sleep in it.
        loop {
            if turn.is_broken() {
                self.leave(index);
                return Err(broken());
            }
            let new = match is_last && !holds {
                true => turn.next(),
                false => Turn(turn.0 + ARRIVED),
            };
            match self.swap(turn, new) {
                Ok(()) => break,
                Err(now) if now.generation() == generation && now.arrived() == arrived => {
                    turn = now;
                }
                Err(_) => {
                    self.leave(index);
                    return Err(Error::Corrupt(
                        "the barrier was changed without its lock; recreate the barrier".into(),
                    ));
                }
            }
        }
        if !is_last {
            return Ok((Arrival::Waits(index, generation), NO_SLEEPERS));
        }
        if holds {
            return Ok((Arrival::Last, NO_SLEEPERS));
        }
        self.raw.turns.fetch_add(1, Ordering::Relaxed);
        self.leave(index);
        Ok((Arrival::Last, turn))
    }

    /// Finds a free cell. Each turn begins in the half that the one before did not begin in.
    fn free_cell(self, turn: Turn) -> Option<usize> {
        let count = self.cells.len();
        let half = (turn.generation() / GENERATION) as usize % 2 * self.parties();
        let begin = half + turn.arrived();
        (0..count).map(|step| (begin + step) % count).find(|&at| {
            // PAIRS barrier.left: the last party in this cell does not look at the seat any more.
            self.cells[at].state.load(Ordering::Acquire) == 0
        })
    }

    /// Frees a cell of this process; returns its last state.
    fn leave(self, index: usize) -> u64 {
        // PAIRS barrier.left: this party's last look at the seat comes before any store of the next party there.
        self.cells[index].state.swap(0, Ordering::Release)
    }

    /// Waits until the turn is over or broken.
    fn stay(
        self,
        waiter: &Waiter,
        mut wait: Wait<'_>,
        handle: &BarrierHandleState,
        liveness: &impl Liveness,
    ) -> Result<usize> {
        let Waiter {
            me,
            index,
            generation,
        } = *waiter;
        // With more parties than processors, a party that spins keeps the others from arriving.
        let looks_first = self.parties() <= process::processors();
        let mut sleeps = 0;
        loop {
            let turn = self.turn();
            if turn.generation() != generation || turn.is_broken() {
                wait.check_origin()?;
                wait.record_success();
                return self.outcome(waiter, turn);
            }
            if looks_first && wait.spin() {
                continue;
            }
            let mut more = Ok(());
            // Most parties are woken from their first sleep by the last to arrive.
            if sleeps > 0 {
                more = self.watch(me, index, generation, sleeps, liveness);
            }
            sleeps += 1;
            let slept = more.and_then(|()| self.wait_slice(&mut wait, turn, MISSING));
            if let Err(error) = slept {
                return match error {
                    // The parent goes on to wait.
                    Error::Forked(_) => Err(error),
                    Error::Timeout(_) => self.give_up(waiter, liveness, error),
                    other => self.withdraw(waiter, handle, liveness, other),
                };
            }
        }
    }

    /// Sleeps while `turn` is as it was seen; `state` is the state that the caller waits to end.
    fn wait_slice(self, wait: &mut Wait<'_>, seen: Turn, state: &str) -> Result<()> {
        wait.check(state)?;
        let expected = Turn(seen.0 | SLEEPERS);
        if seen != expected && self.swap(seen, expected).is_err() {
            return Ok(());
        }
        wait.sleep(&self.raw.turn, expected.0, WaitSet::Normal)
            .map(drop)
    }

    /// Leaves the barrier, and returns the result of the wait; `turn` is over or broken.
    fn outcome(self, waiter: &Waiter, turn: Turn) -> Result<usize> {
        let cell = &self.cells[waiter.index];
        let place = (cell.seat.load(Ordering::Relaxed) / ARRIVED) as usize;
        let state = self.leave(waiter.index);
        if turn.generation() == waiter.generation || state == waiter.me.bits() | RESET {
            return Err(broken());
        }
        if place >= self.parties() {
            return Err(Error::Corrupt(
                format!(
                    "a party has place {place} at a barrier of {}; recreate the barrier",
                    self.parties()
                )
                .into(),
            ));
        }
        Ok(place)
    }

    /// The caller's time is over: breaks the turn for all, unless it was over or broken before.
    fn give_up(self, waiter: &Waiter, liveness: &impl Liveness, error: Error) -> Result<usize> {
        let turn = self.turn();
        if turn.generation() != waiter.generation || turn.is_broken() {
            return self.outcome(waiter, turn);
        }
        if !self.break_off(waiter.generation, false) {
            return self.outcome(waiter, self.turn());
        }
        // The wake is a system call.
        liveness.origin(waiter.me).check()?;
        self.leave(waiter.index);
        Err(error)
    }

    /// Stops waiting, and leaves the barrier as if the caller had not arrived.
    fn withdraw(
        self,
        waiter: &Waiter,
        handle: &BarrierHandleState,
        liveness: &impl Liveness,
        error: Error,
    ) -> Result<usize> {
        let me = waiter.me;
        match self.take_lock(me, LOCK_TIMEOUT, handle, liveness) {
            Ok(()) => {
                self.withdraw_inside(waiter);
                self.exit(me);
            }
            Err(error @ Error::Forked(_)) => return Err(error),
            // The caller cannot withdraw, and the others must not wait for it.
            Err(_) => {
                self.break_off(waiter.generation, false);
                liveness.origin(me).check()?;
                self.leave(waiter.index);
            }
        }
        Err(error)
    }

    fn withdraw_inside(self, waiter: &Waiter) {
        let Waiter {
            index, generation, ..
        } = *waiter;
        let mut turn = self.turn();
        // If all parties have arrived, the caller was one of them, and they continue.
        let waits = |turn: Turn| {
            let some = 1..self.parties();
            turn.generation() == generation && !turn.is_broken() && some.contains(&turn.arrived())
        };
        if waits(turn) {
            // 1. The party with the highest place gets this place; the next to arrive gets the highest.
            let highest = generation | ((turn.arrived() - 1) as u64 * ARRIVED);
            let ours = self.cells[index].seat.load(Ordering::Relaxed);
            let other = self.cells.iter().enumerate().find(|&(at, cell)| {
                at != index
                    && cell.state.load(Ordering::Relaxed) != 0
                    && cell.seat.load(Ordering::Relaxed) == highest
            });
            if let Some((_, other)) = other {
                other.seat.store(ours, Ordering::Relaxed);
            }
        }
        // 2. The count falls before the cell is freed, so each party that is counted has a cell.
        while waits(turn) {
            match self.swap(turn, Turn(turn.0 - ARRIVED)) {
                Ok(()) => break,
                Err(now) => turn = now,
            }
        }
        self.leave(index);
    }

    /// Releases the parties that the serial party holds. `NotOwner`: this process holds none, or a reset has released
    /// them. `Broken`: the turn was broken meanwhile.
    pub fn pass(self, me: Id, liveness: &impl Liveness) -> Result<()> {
        let state = me.bits() | HOLDING;
        // PAIRS barrier.cell
        let held = |cell: &&PartyCell| cell.state.load(Ordering::Acquire) == state;
        let of = |cell: &PartyCell| cell.seat.load(Ordering::Relaxed) & GENERATIONS;
        let mut turn = self.turn();
        // Another thread of this process that held an earlier turn may just be leaving.
        let present = |cell: &&PartyCell| of(cell) == turn.generation();
        let mut all = self.cells.iter().filter(held);
        let cell = all.clone().find(present).or_else(|| all.next());
        let cell = cell.ok_or_else(not_holding)?;
        let generation = of(cell);
        let over = loop {
            if turn.generation() != generation || turn.is_broken() {
                break None;
            }
            match self.swap(turn, turn.next()) {
                Ok(()) => break Some(turn),
                Err(now) => turn = now,
            }
        };
        if let Some(over) = over {
            self.raw.turns.fetch_add(1, Ordering::Relaxed);
            self.wake(over);
            // The wake is a system call.
            liveness.origin(me).check()?;
        }
        // PAIRS barrier.left. It fails if another thread of this process, or a reset, has changed the state.
        let _ = cell
            .state
            .compare_exchange(state, 0, Ordering::Release, Ordering::Relaxed);
        over.map(drop).ok_or_else(broken)
    }

    /// Returns the state of the barrier; whether parties are alive is not checked.
    pub fn stat(self) -> BarrierInfo {
        let turn = self.turn();
        let broken = turn.is_broken();
        let arrived = if broken { 0 } else { turn.arrived() };
        BarrierInfo {
            waiting: arrived.min(self.parties()) as u32,
            broken,
            turns: self.raw.turns.load(Ordering::Relaxed),
            breaks: self.raw.breaks.load(Ordering::Relaxed),
            deaths: self.raw.deaths.load(Ordering::Relaxed),
        }
    }
}

#[cold]
fn broken() -> Error {
    Error::Broken(
        "the barrier was broken by an abort, a reset, a timeout or a death; reset it".into(),
    )
}

#[cold]
fn missing() -> Error {
    Error::WouldBlock(MISSING.into())
}

#[cold]
fn not_holding() -> Error {
    let text =
        "this process holds no parties at the barrier: call release only as the serial party";
    Error::NotOwner(text.into())
}

#[cfg(all(loom, test))]
impl BarrierRef<'_> {
    /// Arrives, without waiting for the others.
    pub(super) fn come(
        self,
        me: Id,
        handle: &BarrierHandleState,
        liveness: &impl Liveness,
    ) -> Result<Waiter> {
        let mut wait = Wait::new(WaitOptions::BLOCKING, &handle.turn, liveness.origin(me));
        match self.arrive(me, &mut wait, Last::Passes, handle, liveness)? {
            Arrival::Waits(index, generation) => Ok(Waiter {
                me,
                index,
                generation,
            }),
            _ => Err(missing()),
        }
    }

    /// Withdraws.
    pub(super) fn go(self, waiter: &Waiter, handle: &BarrierHandleState, liveness: &impl Liveness) {
        let _ = self.withdraw(waiter, handle, liveness, missing());
    }

    /// Returns the word that sleepers sleep on.
    pub(super) fn word(&self) -> &AtomicU64 {
        &self.raw.turn
    }

    /// Returns whether all cells are free.
    pub(super) fn is_empty(self) -> bool {
        let mut cells = self.cells.iter();
        cells.all(|cell| cell.state.load(Ordering::Relaxed) == 0)
    }
}
