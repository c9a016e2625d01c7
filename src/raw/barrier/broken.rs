//! Breaking: who finds the dead, says so, and makes the barrier as new.

use super::{
    BROKEN, BarrierHandleState, BarrierRef, GENERATIONS, HOLDING, LOCK_TIMEOUT, PartyCell, RESET,
    Turn, WAITING,
};
use crate::error::Result;
use crate::participant::Id;
use crate::raw::Liveness;
use crate::sys::atomic::Ordering;
use crate::sys::clock;

/// A party that has come within so many nanoseconds cannot be seen dead yet: the kernel takes longer to tear a process
/// down. So it is not probed, which would take longer than all else between parties that spin.
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

    /// Returns whether this cell belongs to a process that has died in a wait.
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
            Some(id) => liveness.is_dead(id)?,
        };
        // Whoever has left may have ended since.
        Ok(dead && cell.state.load(Ordering::Relaxed) == seen)
    }

    /// Says whether any process has died in a wait: in an earlier turn, or in that of this generation, if others wait in it.
    pub(super) fn find_dead(
        self,
        me: Id,
        others: Option<u64>,
        liveness: &impl Liveness,
    ) -> Result<bool> {
        let is_old = others.is_some_and(|_| {
            let began = self.raw.began.load(Ordering::Relaxed);
            clock::monotonic().saturating_sub(began) >= DEATH_VISIBLE_AFTER_NS
        });
        for cell in self.cells {
            // Nobody takes a cell meanwhile, so the seat is that of the state.
            let generation = cell.seat.load(Ordering::Relaxed) & GENERATIONS;
            let may_be_dead = is_old || Some(generation) != others;
            if may_be_dead && self.is_dead_party(cell, me, liveness)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Looks after those whose cells come behind ours, up to the next one that does the same: so each of the dead is
    /// found by somebody. And after one more, each time another one, because the next one may be stopped. Breaks the
    /// turn if one is dead.
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
        }
        Ok(())
    }

    /// Breaks the barrier: who waits, or comes, is told so, until a reset.
    pub fn abort(self) {
        // The last may come meanwhile: then the turn that begins is broken.
        while !self.turn().is_broken() {
            self.break_off(self.turn().generation(), false);
        }
    }

    /// Has the barrier be as new: who waits is told that it was broken, and cells of the dead are nobody's again.
    ///
    /// `Timeout`: somebody was stopped a second ago while it came or went. Errors of `liveness`. Then nothing has been
    /// done.
    pub fn reset(
        self,
        me: Id,
        handle: &BarrierHandleState,
        liveness: &impl Liveness,
    ) -> Result<()> {
        self.take_lock(me, LOCK_TIMEOUT, handle, liveness)?;
        let mut turn = self.turn();
        let needed = turn.is_broken() || turn.arrived() != 0;
        if needed {
            // 1. Nobody comes, passes or goes any more but to leave.
            self.break_off(turn.generation(), false);
            turn = self.turn();
        }
        for cell in self.cells {
            let state = cell.state.load(Ordering::Relaxed);
            let is_of_turn = cell.seat.load(Ordering::Relaxed) & GENERATIONS == turn.generation();
            // 2. The dead have no cells. Where nobody can be asked, nobody is dead.
            let new = if self.is_dead_party(cell, me, liveness).unwrap_or(false) {
                0
            } else if !needed || !is_of_turn {
                continue;
            } else {
                // 3. Whoever has not looked yet finds it here, after the turn is over.
                match state & !Id::BITS {
                    WAITING => state & Id::BITS | RESET,
                    HOLDING => 0,
                    _ => continue,
                }
            };
            // It fails where the owner leaves just now. PAIRS barrier.left
            let _ = cell
                .state
                .compare_exchange(state, new, Ordering::AcqRel, Ordering::Relaxed);
        }
        if needed {
            // 4. Over. Others may still go to sleep in it: nothing else.
            while let Err(now) = self.swap(turn, turn.next()) {
                if now.generation() != turn.generation() {
                    break;
                }
                turn = now;
            }
            self.wake(turn);
        }
        self.exit(me);
        Ok(())
    }
}
