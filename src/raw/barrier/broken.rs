//! A broken barrier: finding dead parties, breaking a turn, and the reset.

use super::{
    BROKEN, BarrierHandleState, BarrierRef, GENERATIONS, HOLDING, LOCK_TIMEOUT, PartyCell, RESET,
    Turn, WAITING,
};
use crate::error::Result;
use crate::participant::Id;
use crate::raw::Liveness;
use crate::sys::atomic::Ordering;

/// A party that arrived so few nanoseconds ago cannot be seen dead yet: the kernel takes longer to tear a process down.
/// So it is not probed; a probe would take longer than all else between parties that spin (D-045).
const DEATH_VISIBLE_AFTER_NS: u64 = if cfg!(loom) { 0 } else { 50_000 };

impl BarrierRef<'_> {
    /// Breaks the turn of this generation; false: it was broken before, or is over.
    pub(super) fn break_off(self, generation: u64, died: bool) -> bool {
        let mut turn = self.turn();
        loop {
            if turn.generation() != generation || turn.is_broken() {
                return false;
            }
            match self.swap(turn, Turn(turn.0 | BROKEN)) {
                Ok(()) => break,
                Err(now) => turn = now,
            }
        }
        self.raw.breaks.fetch_add(1, Ordering::Relaxed);
        if died {
            self.raw.deaths.fetch_add(1, Ordering::Relaxed);
        }
        self.wake(turn);
        true
    }

    /// Returns whether the cell belongs to a process that has died in a wait.
    pub(super) fn is_dead_party(
        self,
        cell: &PartyCell,
        me: Id,
        liveness: &impl Liveness,
    ) -> Result<bool> {
        let seen = cell.state.load(Ordering::Relaxed);
        let dead = match Id::of(seen) {
            None => seen != 0,
            Some(id) if id == me => false,
            Some(id) => liveness.is_dead(id, liveness.origin(me))?,
        };
        // A party that has left may have ended since.
        Ok(dead && cell.state.load(Ordering::Relaxed) == seen)
    }

    /// Returns whether any process has died in a wait: in an earlier turn, or in that of this generation, if others
    /// wait in it. Their arrival was at most so many nanoseconds ago.
    pub(super) fn find_dead(
        self,
        me: Id,
        others: Option<(u64, u64)>,
        liveness: &impl Liveness,
    ) -> Result<bool> {
        let is_old = others.is_some_and(|(_, age)| age >= DEATH_VISIBLE_AFTER_NS);
        let others = others.map(|(generation, _)| generation);
        for cell in self.cells {
            // Cells are taken only with the lock, which this process holds, so seat and state belong together.
            let generation = cell.seat.load(Ordering::Relaxed) & GENERATIONS;
            let may_be_dead = is_old || Some(generation) != others;
            if may_be_dead && self.is_dead_party(cell, me, liveness)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Checks the cells behind that of this party, up to the next party that does the same: so each dead party is
    /// found. Checks one more cell, a different one in each round, because that next party may be stopped. Breaks the
    /// turn if a party is dead.
    pub(super) fn watch(
        self,
        me: Id,
        from: usize,
        generation: u64,
        round: usize,
        liveness: &impl Liveness,
    ) -> Result<()> {
        let count = self.cells.len();
        let behind = |step: usize| &self.cells[(from + step) % count];
        let mut dead = self.is_dead_party(behind(round), me, liveness)?;
        for step in 1..count {
            let cell = behind(step);
            dead = dead || self.is_dead_party(cell, me, liveness)?;
            // PAIRS barrier.cell
            let state = cell.state.load(Ordering::Acquire);
            let watches = state & !Id::BITS == WAITING
                && cell.seat.load(Ordering::Relaxed) & GENERATIONS == generation;
            if dead || watches {
                break;
            }
        }
        if dead {
            self.break_off(generation, true);
            // The wake is a system call.
            liveness.origin(me).check()?;
        }
        Ok(())
    }

    /// Breaks the barrier: parties that wait or arrive see `Broken`, until a reset.
    pub fn abort(self) {
        // The last party may arrive meanwhile: then the turn that begins is broken.
        while !self.turn().is_broken() {
            self.break_off(self.turn().generation(), false);
        }
    }

    /// Restores the initial state: waiting parties see `Broken`, and the cells of dead processes are freed.
    ///
    /// `Timeout`: a process was stopped while it arrived or withdrew, and has held the lock for a second. Errors of
    /// `liveness`. On an error nothing has changed. `Forked`: this is a child; the parent goes on with the reset.
    pub fn reset(
        self,
        me: Id,
        handle: &BarrierHandleState,
        liveness: &impl Liveness,
    ) -> Result<()> {
        let origin = liveness.origin(me);
        self.take_lock(me, LOCK_TIMEOUT, handle, liveness)?;
        let mut turn = self.turn();
        let needed = turn.is_broken() || turn.arrived() != 0;
        if needed {
            // 1. From here on parties of this turn can only leave.
            self.break_off(turn.generation(), false);
            origin.check()?;
            turn = self.turn();
        }
        for cell in self.cells {
            let state = cell.state.load(Ordering::Relaxed);
            let is_of_turn = cell.seat.load(Ordering::Relaxed) & GENERATIONS == turn.generation();
            // 2. Cells of dead processes are freed. A process whose liveness is unknown counts as alive.
            let dead = self.is_dead_party(cell, me, liveness);
            origin.check()?;
            let new = if dead.unwrap_or(false) {
                0
            } else if !needed || !is_of_turn {
                continue;
            } else {
                // 3. A party that has not looked yet finds RESET in its cell, after the turn is over.
                match state & !Id::BITS {
                    WAITING => state & Id::BITS | RESET,
                    HOLDING => 0,
                    _ => continue,
                }
            };
            // It fails if the owner of the cell leaves at this moment. PAIRS barrier.left
            let _ = cell
                .state
                .compare_exchange(state, new, Ordering::AcqRel, Ordering::Relaxed);
        }
        if needed {
            // 4. The turn ends. Other processes can only go to sleep in it meanwhile.
            while let Err(now) = self.swap(turn, turn.next()) {
                if now.generation() != turn.generation() {
                    break;
                }
                turn = now;
            }
            self.wake(turn);
            origin.check()?;
        }
        self.exit(me);
        Ok(())
    }
}
