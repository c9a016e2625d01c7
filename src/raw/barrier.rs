//! The barrier: so many wait until all of them are there, and then all go on; one that dies among them breaks it.
//!
//! ```text
//! words:  | lock, which has the tag | turn | began | turns | breaks | deaths |   two cells for each party: | state | seat |
//! turn:   | arrived (16 bits) | generation (46 bits) | SLEEPERS | BROKEN |
//! seat:   | place (16 bits) | generation (46 bits) | 00 |
//! ```
//!
//! | turn          | means                                        | goes to                                         |
//! |---------------|----------------------------------------------|-------------------------------------------------|
//! | k, g          | of the parties of turn g, k wait             | k + 1, g: one comes; k - 1, g: one goes again   |
//! | all - 1, g    | one is missing                               | 0, g + 1: the last comes; all, g: it holds them |
//! | all, g        | all are there; the last one holds the others | 0, g + 1: it lets them pass                     |
//! | k, g + BROKEN | who waits in turn g, or comes, is told so    | 0, g + 1: reset                                 |
//!
//! Any of them gets SLEEPERS by who goes to sleep first, and BROKEN by whoever finds a dead one, is out of time, or
//! wants it so. Each arrow is one compare-and-swap. Who comes, goes again or resets has the lock; who breaks the turn,
//! or lets those pass whom it holds, has not.
//!
//! | state        | means                                      | goes to                                              |
//! |--------------|--------------------------------------------|------------------------------------------------------|
//! | 0            | nobody's                                   | me + WAITING, me + HOLDING: who comes, with the lock |
//! | me + WAITING | I wait in the turn of my seat, or leave it | 0: I leave; me + RESET: a reset, with the lock       |
//! | me + HOLDING | I am the last, and hold the others         | 0: I let them pass; or a reset, with the lock        |
//! | me + RESET   | my turn was broken, and is over            | 0: I leave                                           |
//! | dead …       | its process has died in a wait             | 0: a reset, with the lock                            |
//!
//! The lower half of `turn` is what sleepers sleep on: it does not change when one comes or goes.
//!
//! If a process dies
//!   before its state is there: nobody has heard of it;
//!   from then on until it leaves: whoever waits beside it finds its cell and breaks the turn, as does the last to come;
//!     if its turn had ended by then it is the next one that breaks: the dead one will not come to that either;
//!   with the lock: the next one has it; each who is counted has a cell, until it is counted no more;
//!   in a reset: the turn stays broken until its last step;
//!   behind its last step and before the wake: sleepers look again within 12 ms.

mod broken;

use super::wait::{SpinState, Wait};
use super::{Liveness, Timeout, WaitOptions, lock};
use crate::error::{Error, Result};
use crate::participant::Id;
use crate::sys::atomic::{AtomicU64, Ordering};
use crate::sys::futex::{self, WaitSet};
use crate::sys::{clock, process};
use std::time::Duration;

/// The most parties a barrier can have: two cells for each of them are counted in 16 bits.
pub const MAX_PARTIES: u32 = 2048;

/// In `turn`: who waits is told so, and nobody is let in.
const BROKEN: u64 = 1;
/// In `turn`: somebody may sleep on it. It lies in the half that the futex compares, as a lock's WAITERS does.
const SLEEPERS: u64 = 1 << 1;
/// The next generation, in `turn` and in seats.
const GENERATION: u64 = 1 << 2;
/// One more that has arrived, in `turn`; the next place, in seats.
const ARRIVED: u64 = 1 << 48;
const GENERATIONS: u64 = (ARRIVED - 1) & !(SLEEPERS | BROKEN);

/// How long to wait for the lock: it is held for less than a millisecond, so an owner that has it longer is stopped.
const LOCK_TIMEOUT: WaitOptions = WaitOptions::after(Duration::from_nanos(1_000_000_000));

/// In a state, beside an id.
const WAITING: u64 = 1 << 29;
const HOLDING: u64 = 2 << 29;
const RESET: u64 = 3 << 29;

/// A barrier in shared memory. All zeros but the lock's tag is one for which nobody waits.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct RawBarrier {
    /// Who has it lets parties in, and out before their time.
    pub lock: lock::RawLock,
    turn: AtomicU64,
    /// When the first party of this turn came (CLOCK_MONOTONIC).
    began: AtomicU64,
    turns: AtomicU64,
    breaks: AtomicU64,
    deaths: AtomicU64,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<RawBarrier>() == 128);

// SAFETY: nothing but atomics, and padding that nobody looks at. (Those of loom are never found in mapped memory.)
unsafe impl crate::layout::Shared for RawBarrier {}

/// One that waits. All zeros is nobody's.
#[derive(Debug, Default)]
#[repr(C)]
pub struct PartyCell {
    state: AtomicU64,
    seat: AtomicU64,
}

// SAFETY: nothing but atomics.
unsafe impl crate::layout::Shared for PartyCell {}

impl RawBarrier {
    /// Makes all as it is in a new barrier, but for the tag.
    pub fn clear(&self, cells: &[PartyCell]) {
        self.lock.clear();
        let raw = [
            &self.turn,
            &self.began,
            &self.turns,
            &self.breaks,
            &self.deaths,
        ];
        for word in raw {
            word.store(0, Ordering::Relaxed);
        }
        for cell in cells {
            cell.state.store(0, Ordering::Relaxed);
            cell.seat.store(0, Ordering::Relaxed);
        }
    }
}

/// What is known of a barrier, each figure as it was at some moment during the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BarrierInfo {
    /// How many wait.
    pub waiting: u32,
    /// Whether it is broken.
    pub broken: bool,
    /// How often all were there and were let pass.
    pub turns: u64,
    /// How often it was broken.
    pub breaks: u64,
    /// How often that was because one was found dead.
    pub deaths: u64,
}

/// How long recent waits took: for one handle, not shared.
#[derive(Debug, Default)]
pub struct BarrierHandleState {
    turn: SpinState,
    lock: SpinState,
}

/// What the last to come does with the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// It goes on with them.
    Passes,
    /// It holds them until it calls `pass`.
    Holds,
}

/// What stands in `turn`.
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

    /// The next turn, for which nobody waits yet.
    fn next(self) -> Turn {
        Turn((self.generation() + GENERATION) & GENERATIONS)
    }
}

/// What came of coming.
enum Arrival {
    /// All are there, and we were the last.
    Last,
    /// We wait, in this cell, in the turn of this generation.
    Waits(usize, u64),
    /// There is no room before the present turn is over, or somebody has left.
    NoRoom(Turn),
}

/// One that waits.
#[derive(Clone, Copy)]
pub(super) struct Waiter {
    me: Id,
    /// Its cell.
    index: usize,
    generation: u64,
}

/// A barrier as it stands in shared memory.
#[derive(Clone, Copy)]
pub struct BarrierRef<'a> {
    /// Its words.
    pub raw: &'a RawBarrier,
    /// Its cells: two for each party, because some of the last turn may not have left yet.
    pub cells: &'a [PartyCell],
}

impl BarrierRef<'_> {
    /// Returns how many must come.
    pub fn parties(self) -> usize {
        self.cells.len() / 2
    }

    fn turn(self) -> Turn {
        // PAIRS barrier.turn: what was done before the turn ended is seen by who finds it over; the marks of a reset
        // too.
        Turn(self.raw.turn.load(Ordering::Acquire))
    }

    /// Goes from `old` to `new`; else returns what stands there now.
    fn swap(self, old: Turn, new: Turn) -> std::result::Result<(), Turn> {
        // PAIRS barrier.turn: each who comes passes on what those before it have done; the last one receives it all.
        self.raw
            .turn
            .compare_exchange(old.0, new.0, Ordering::AcqRel, Ordering::Acquire)
            .map(drop)
            .map_err(Turn)
    }

    /// Wakes those that slept in a turn that is over or broken.
    fn wake(self, turn: Turn) {
        if turn.has_sleepers() {
            futex::wake(&self.raw.turn, i32::MAX, WaitSet::All);
        }
    }

    /// Waits until all parties are there; returns our place among them: from 0 on, no two alike, the last to come has
    /// the highest.
    ///
    /// `Broken`: somebody has broken the barrier, or died in it. `Timeout`: the barrier is broken now, if we were
    /// waiting in it. `WouldBlock`: others are missing. `Interrupted`, and what `liveness` says: we wait no longer, and
    /// the barrier is as if we had not come; if the others have passed meanwhile, they have passed. `Corrupt`.
    pub fn wait(
        self,
        me: Id,
        options: WaitOptions,
        last: Last,
        handle: &BarrierHandleState,
        liveness: &impl Liveness,
    ) -> Result<usize> {
        let mut wait = Wait::new(options, &handle.turn);
        let nowait = options.timeout == Timeout::Immediate;
        loop {
            let turn = self.turn();
            if nowait && !turn.is_broken() && turn.arrived() + 1 < self.parties() {
                return Err(missing());
            }
            match self.arrive(me, &mut wait, last, handle, liveness)? {
                Arrival::Last => return Ok(self.parties() - 1),
                Arrival::Waits(..) if nowait => {
                    return Err(Error::Internal("it waits, and must not".into()));
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
                    // Who holds the others may be dead, and nobody but us there to find out.
                    self.watch(me, 0, turn.generation(), 0, liveness)?;
                    self.wait_slice(&mut wait, turn)?;
                }
            }
        }
    }

    /// Takes the lock, as long as the options allow. Who may not wait waits for who is inside, but not if that one is
    /// stopped.
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
                Error::WouldBlock("somebody was stopped while it came or went".into())
            }
            Error::Timeout(_) => Error::Timeout("nobody was let in in that time".into()),
            other => other,
        })
    }

    /// Takes the lock. Who has died with it has left all as it must be, but for its cell, which is found.
    fn take_lock(
        self,
        me: Id,
        options: WaitOptions,
        handle: &BarrierHandleState,
        liveness: &impl Liveness,
    ) -> Result<()> {
        let lock = &self.raw.lock;
        if lock.acquire(me, options, &handle.lock, liveness)? {
            // It fails as `exit` may.
            let _ = lock.mark_consistent(me);
        }
        Ok(())
    }

    fn exit(self, me: Id) {
        // It fails where somebody has overwritten the lock: then there is nothing to give back.
        let _ = self.raw.lock.release(me);
    }

    /// Comes, and waits at most for who is just doing the same.
    fn arrive(
        self,
        me: Id,
        wait: &mut Wait<'_>,
        last: Last,
        handle: &BarrierHandleState,
        liveness: &impl Liveness,
    ) -> Result<Arrival> {
        self.enter(me, wait, handle, liveness)?;
        let arrived = self.arrive_inside(me, wait, last, liveness);
        self.exit(me);
        let (arrival, over) = arrived?;
        self.wake(over);
        Ok(arrival)
    }

    /// Comes, with the lock; returns also the turn that is over, or one in which nobody slept.
    fn arrive_inside(
        self,
        me: Id,
        wait: &mut Wait<'_>,
        last: Last,
        liveness: &impl Liveness,
    ) -> Result<(Arrival, Turn)> {
        const NOBODY: Turn = Turn(0);
        let parties = self.parties();
        let mut turn = self.turn();
        if turn.is_broken() {
            return Err(broken());
        }
        let arrived = turn.arrived();
        if arrived > parties {
            return Err(Error::Corrupt(
                format!("{arrived} wait at a barrier of {parties}").into(),
            ));
        }
        if arrived == parties {
            return Ok((Arrival::NoRoom(turn), NOBODY));
        }
        let is_last = arrived + 1 == parties;
        if !is_last && wait.rest().timeout == Timeout::Immediate {
            return Err(missing());
        }
        // 1. A cell. Nobody else takes one now.
        let Some(index) = self.free_cell(turn) else {
            return Ok((Arrival::NoRoom(turn), NOBODY));
        };
        let cell = &self.cells[index];
        let generation = turn.generation();
        cell.seat
            .store(generation | (arrived as u64 * ARRIVED), Ordering::Relaxed);
        let holds = is_last && last == Last::Holds;
        let state = me.bits() | if holds { HOLDING } else { WAITING };
        // PAIRS barrier.cell: who finds us here finds our seat. From here on we are missed if we die.
        cell.state.store(state, Ordering::Release);
        // 2. All go on together, or nobody does: the dead do not.
        if arrived == 0 && !is_last {
            let now = clock::monotonic();
            self.raw.began.store(now, Ordering::Relaxed);
        }
        if is_last {
            let others = (arrived != 0).then_some(generation);
            match self.find_dead(me, others, liveness) {
                Ok(false) => {}
                Ok(true) => drop(self.break_off(generation, true)),
                Err(error) => {
                    self.leave(index);
                    return Err(error);
                }
            }
        }
        // 3. Arrived. Others may break the turn meanwhile, or go to sleep in it: nothing else.
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
                        "the barrier was changed by somebody without its lock".into(),
                    ));
                }
            }
        }
        if !is_last {
            return Ok((Arrival::Waits(index, generation), NOBODY));
        }
        if holds {
            return Ok((Arrival::Last, NOBODY));
        }
        self.raw.turns.fetch_add(1, Ordering::Relaxed);
        self.leave(index);
        Ok((Arrival::Last, turn))
    }

    /// Finds a cell that is nobody's: each turn begins where the one before has not been.
    fn free_cell(self, turn: Turn) -> Option<usize> {
        let count = self.cells.len();
        let half = (turn.generation() / GENERATION) as usize % 2 * self.parties();
        let begin = half + turn.arrived();
        (0..count).map(|step| (begin + step) % count).find(|&at| {
            // PAIRS barrier.left: who was here does not look at the seat any more.
            self.cells[at].state.load(Ordering::Acquire) == 0
        })
    }

    /// Gives a cell back that is ours; returns its last state.
    fn leave(self, index: usize) -> u64 {
        // PAIRS barrier.left: our last look at the seat comes before whatever the next one stores there.
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
        // Where there are more parties than processors, who looks for the others keeps them from coming.
        let looks_first = self.parties() <= process::processors();
        let mut sleeps = 0;
        loop {
            let turn = self.turn();
            if turn.generation() != generation || turn.is_broken() {
                wait.record_success();
                return self.outcome(waiter, turn);
            }
            if looks_first && wait.spin() {
                continue;
            }
            let mut more = Ok(());
            // Most are woken from their first sleep by the last to come.
            if sleeps > 0 {
                more = self.watch(me, index, generation, sleeps, liveness);
            }
            sleeps += 1;
            if let Err(error) = more.and_then(|()| self.wait_slice(&mut wait, turn)) {
                return match error {
                    Error::Timeout(_) => self.give_up(waiter, error),
                    other => self.withdraw(waiter, handle, liveness, other),
                };
            }
        }
    }

    /// Sleeps while the turn is as it was seen.
    fn wait_slice(self, wait: &mut Wait<'_>, seen: Turn) -> Result<()> {
        wait.check("all parties of the barrier")?;
        let expected = Turn(seen.0 | SLEEPERS);
        if seen != expected && self.swap(seen, expected).is_err() {
            return Ok(());
        }
        wait.sleep(&self.raw.turn, expected.0, WaitSet::Normal)
            .map(drop)
    }

    /// Returns what came of our wait, and leaves; `turn` is over or broken.
    fn outcome(self, waiter: &Waiter, turn: Turn) -> Result<usize> {
        let cell = &self.cells[waiter.index];
        let place = (cell.seat.load(Ordering::Relaxed) / ARRIVED) as usize;
        let state = self.leave(waiter.index);
        if turn.generation() == waiter.generation || state == waiter.me.bits() | RESET {
            return Err(broken());
        }
        if place >= self.parties() {
            return Err(Error::Corrupt(
                format!("a place {place} among the {} of a barrier", self.parties()).into(),
            ));
        }
        Ok(place)
    }

    /// Our time is over: so is everybody's, unless it was over before.
    fn give_up(self, waiter: &Waiter, error: Error) -> Result<usize> {
        let turn = self.turn();
        if turn.generation() != waiter.generation || turn.is_broken() {
            return self.outcome(waiter, turn);
        }
        if !self.break_off(waiter.generation, false) {
            return self.outcome(waiter, self.turn());
        }
        self.leave(waiter.index);
        Err(error)
    }

    /// Waits no longer, and has the barrier be as if we had not come.
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
            // We cannot take ourselves out, and must not be waited for.
            Err(_) => {
                self.break_off(waiter.generation, false);
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
        // Where all are there they pass, and we have been one of them.
        let waits = |turn: Turn| {
            let some = 1..self.parties();
            turn.generation() == generation && !turn.is_broken() && some.contains(&turn.arrived())
        };
        if waits(turn) {
            // 1. Whoever has the highest place gets ours: the next to come gets that one.
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
        // 2. One less, before our cell goes: whoever is counted can be found.
        while waits(turn) {
            match self.swap(turn, Turn(turn.0 - ARRIVED)) {
                Ok(()) => break,
                Err(now) => turn = now,
            }
        }
        self.leave(index);
    }

    /// Lets those pass that `Last::Holds` has held. `NotOwner`: this process holds nobody, or a reset came between.
    /// `Broken`: they have been told so meanwhile.
    pub fn pass(self, me: Id) -> Result<()> {
        let state = me.bits() | HOLDING;
        // PAIRS barrier.cell
        let held = |cell: &&PartyCell| cell.state.load(Ordering::Acquire) == state;
        let of = |cell: &PartyCell| cell.seat.load(Ordering::Relaxed) & GENERATIONS;
        let mut turn = self.turn();
        // Another thread of ours may just be leaving that has held an earlier turn.
        let present = |cell: &&PartyCell| of(cell) == turn.generation();
        let mut all = self.cells.iter().filter(held);
        let cell = all.clone().find(present).or_else(|| all.next());
        let cell = cell.ok_or_else(holds_nobody)?;
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
        }
        // PAIRS barrier.left. Another thread of ours may have been here, or a reset.
        let _ = cell
            .state
            .compare_exchange(state, 0, Ordering::Release, Ordering::Relaxed);
        over.map(drop).ok_or_else(broken)
    }

    /// Returns what is known of it; nobody is asked who lives.
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
    Error::Broken("somebody has broken the barrier, or has died waiting at it".into())
}

#[cold]
fn missing() -> Error {
    Error::WouldBlock("other parties of the barrier are missing".into())
}

#[cold]
fn holds_nobody() -> Error {
    Error::NotOwner("this process holds nobody at the barrier, or it was reset meanwhile".into())
}

#[cfg(all(loom, test))]
impl BarrierRef<'_> {
    /// Comes, and waits, without waiting.
    pub(super) fn come(
        self,
        me: Id,
        handle: &BarrierHandleState,
        liveness: &impl Liveness,
    ) -> Result<Waiter> {
        let mut wait = Wait::new(WaitOptions::BLOCKING, &handle.turn);
        match self.arrive(me, &mut wait, Last::Passes, handle, liveness)? {
            Arrival::Waits(index, generation) => Ok(Waiter {
                me,
                index,
                generation,
            }),
            _ => Err(missing()),
        }
    }

    /// Waits no longer.
    pub(super) fn go(self, waiter: &Waiter, handle: &BarrierHandleState, liveness: &impl Liveness) {
        let _ = self.withdraw(waiter, handle, liveness, missing());
    }

    /// Returns what sleepers sleep on.
    pub(super) fn word(&self) -> &AtomicU64 {
        &self.raw.turn
    }

    /// Says whether no cell is anybody's.
    pub(super) fn is_empty(self) -> bool {
        let mut cells = self.cells.iter();
        cells.all(|cell| cell.state.load(Ordering::Relaxed) == 0)
    }
}
