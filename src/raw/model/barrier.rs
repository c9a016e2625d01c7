//! Models of the barrier.

use super::{SHORT, World, each, id, model};
use crate::error::Error;
use crate::participant::Id;
use crate::raw::WaitOptions;
use crate::raw::barrier::{BarrierHandleState, BarrierRef, Last, PartyCell, RawBarrier};
use crate::sys::futex;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};

type Result = crate::error::Result<usize>;

struct Shared {
    raw: RawBarrier,
    cells: Vec<PartyCell>,
    world: World,
    /// What each party has done before it arrived.
    done: Vec<UnsafeCell<usize>>,
    passed: AtomicUsize,
}

// SAFETY: `done` is written by its party alone before it arrives, and read by others after the barrier; the model tests
// that, and loom checks it.
unsafe impl Sync for Shared {}

impl Shared {
    fn new(parties: usize) -> Arc<Shared> {
        Arc::new(Shared {
            raw: RawBarrier::default(),
            cells: (0..2 * parties).map(|_| PartyCell::default()).collect(),
            world: World::new(),
            done: (0..parties).map(|_| UnsafeCell::new(0)).collect(),
            passed: AtomicUsize::new(0),
        })
    }

    fn view(&self) -> BarrierRef<'_> {
        BarrierRef {
            raw: &self.raw,
            cells: &self.cells,
        }
    }

    fn wait_as(&self, me: Id, options: WaitOptions, last: Last) -> Result {
        self.view().wait(
            me,
            options,
            last,
            &BarrierHandleState::default(),
            &self.world,
        )
    }

    fn wait(&self, me: usize) -> Result {
        self.wait_as(id(me), WaitOptions::BLOCKING, Last::Passes)
    }

    fn killable(&self) -> Id {
        self.world.killable[0].0
    }

    /// Arrives in the name of a process that dies before it wakes up again.
    fn arrive_and_die(&self) {
        let _ = self
            .view()
            .come(self.killable(), &BarrierHandleState::default(), &self.world);
        self.world.kill(0);
    }

    fn reset(&self, me: usize) {
        let reset = self
            .view()
            .reset(id(me), &BarrierHandleState::default(), &self.world);
        reset.expect("no stopped process inside");
    }

    fn write(&self, party: usize, value: usize) {
        // SAFETY: only this party reaches the value until all have arrived; loom checks it.
        self.done[party].with_mut(|done| unsafe { *done = value });
    }

    fn read(&self, party: usize) -> usize {
        // SAFETY: all parties have arrived, so none writes; loom checks it.
        self.done[party].with(|done| unsafe { *done })
    }

    /// The clock: all sleepers check again once.
    fn time_passes(&self) {
        futex::wake(self.view().word(), i32::MAX, futex::WaitSet::All);
    }
}

fn is_broken(result: &Result) -> bool {
    matches!(result, Err(Error::Broken(_)))
}

#[test]
fn two_parties_see_what_the_other_did_turn_after_turn() {
    model(2, || {
        let shared = Shared::new(2);
        each(2, move |me| {
            for turn in 1..=2 {
                shared.write(me, turn);
                shared.wait(me).expect("two live parties");
                assert_eq!(shared.read(1 - me), turn);
                // The values are written again only after both have read.
                shared.wait(me).expect("two live parties");
            }
        });
    });
}

#[test]
fn three_parties_get_three_places_and_see_what_all_did() {
    model(2, || {
        let shared = Shared::new(3);
        let in_thread = shared.clone();
        each(3, move |me| {
            in_thread.write(me, 7);
            let place = in_thread.wait(me).expect("three live parties");
            in_thread
                .passed
                .fetch_add(1 << (8 * place), Ordering::Relaxed);
            assert_eq!((0..3).map(|party| in_thread.read(party)).sum::<usize>(), 21);
        });
        assert_eq!(shared.passed.load(Ordering::Relaxed), 0x01_01_01);
    });
}

#[test]
fn a_party_that_dies_waiting_breaks_the_barrier_for_present_and_later_parties() {
    model(2, || {
        let shared = Shared::new(3);
        shared.arrive_and_die();
        let in_thread = shared.clone();
        each(2, move |me| assert!(is_broken(&in_thread.wait(me))));
        assert!(shared.view().stat().broken);
        shared.reset(0);
        assert!(!shared.view().stat().broken);
        assert!(shared.view().is_empty());
    });
}

#[test]
fn a_party_that_dies_while_others_wait_is_found_after_a_sleep() {
    model(2, || {
        let shared = Shared::new(3);
        let in_thread = shared.clone();
        each(3, move |me| match me {
            0 => {
                in_thread.arrive_and_die();
                // No further party arrives, and the model has no deadlines: so the death is found before that sleep, or
                // never.
                in_thread.time_passes();
            }
            _ => {
                let result = in_thread.wait(me);
                assert!(result.is_ok() || is_broken(&result));
            }
        });
    });
}

#[test]
fn a_party_that_dies_with_the_lock_delays_no_other() {
    model(2, || {
        let shared = Shared::new(2);
        let lock = &shared.raw.lock;
        assert!(lock.try_acquire(shared.killable()));
        shared.world.kill(0);
        let in_thread = shared.clone();
        each(2, move |me| assert!(in_thread.wait(me).is_ok()));
    });
}

#[test]
fn a_party_that_times_out_breaks_the_barrier_for_all_or_for_none() {
    model(2, || {
        let shared = Shared::new(2);
        let in_thread = shared.clone();
        each(3, move |me| {
            let result = match me {
                0 => in_thread.wait_as(id(0), SHORT, Last::Passes),
                1 => in_thread.wait(1),
                _ => return in_thread.time_passes(),
            };
            match result {
                Ok(_) => drop(in_thread.passed.fetch_add(1, Ordering::Relaxed)),
                Err(Error::Timeout(_)) => assert_eq!(me, 0),
                Err(error) => assert!(matches!(error, Error::Broken(_)) && me == 1),
            }
        });
        let stat = shared.view().stat();
        let passed = shared.passed.load(Ordering::Relaxed);
        assert_eq!(passed, if stat.broken { 0 } else { 2 });
    });
}

#[test]
fn a_reset_fails_the_waiting_parties_and_no_later_party() {
    model(2, || {
        let shared = Shared::new(2);
        let in_thread = shared.clone();
        each(3, move |me| match me {
            0 => in_thread.reset(0),
            // The parties pass together, or those that arrived before the reset fail and arrive again.
            _ => while is_broken(&in_thread.wait(me)) {},
        });
        assert!(!shared.view().stat().broken);
        assert!(shared.view().is_empty());
    });
}

#[test]
fn a_party_that_leaves_does_not_change_the_places_of_the_others() {
    model(2, || {
        let shared = Shared::new(3);
        let waiter = shared
            .view()
            .come(id(5), &BarrierHandleState::default(), &shared.world);
        let waiter = waiter.expect("a place");
        let in_thread = shared.clone();
        each(3, move |me| {
            if me == 0 {
                in_thread
                    .view()
                    .go(&waiter, &BarrierHandleState::default(), &in_thread.world);
            }
            if me == 0 && in_thread.view().stat().turns == 1 {
                // All parties had arrived before it left.
                return;
            }
            let place = in_thread.wait(me).expect("three live parties");
            in_thread
                .passed
                .fetch_add(1 << (8 * place), Ordering::Relaxed);
        });
        let passed = shared.passed.load(Ordering::Relaxed);
        assert!(
            [0x01_01_01, 0x01_01_00, 0x01_00_01].contains(&passed),
            "{passed:x}"
        );
    });
}

#[test]
fn a_party_that_is_held_by_the_serial_party_passes_or_fails() {
    model(2, || {
        let shared = Shared::new(2);
        let in_thread = shared.clone();
        each(3, move |me| {
            if me == 2 {
                return in_thread.view().abort();
            }
            let result = in_thread.wait_as(id(me), WaitOptions::BLOCKING, Last::Holds);
            let result = match result {
                Ok(1) => {
                    in_thread.write(0, 7);
                    in_thread.view().pass(id(me), &in_thread.world)
                }
                other => other.map(|_| assert_eq!(in_thread.read(0), 7)),
            };
            match result {
                Ok(()) => drop(in_thread.passed.fetch_add(1, Ordering::Relaxed)),
                Err(error) => assert!(matches!(error, Error::Broken(_))),
            }
        });
        assert_ne!(shared.passed.load(Ordering::Relaxed), 1);
        assert!(shared.view().is_empty());
    });
}

#[test]
fn a_serial_party_that_dies_breaks_the_barrier() {
    model(2, || {
        let shared = Shared::new(2);
        let in_thread = shared.clone();
        each(3, move |me| match me {
            0 => {
                let result =
                    in_thread.wait_as(in_thread.killable(), WaitOptions::NONBLOCKING, Last::Holds);
                assert!(matches!(result, Ok(1) | Err(Error::WouldBlock(_))));
                in_thread.world.kill(0);
                if result.is_err() {
                    // The process died before it arrived, so its death breaks nothing.
                    in_thread.view().abort();
                }
                in_thread.time_passes();
            }
            1 => {
                let result = in_thread.wait_as(id(1), SHORT, Last::Passes);
                assert!(is_broken(&result) || matches!(result, Err(Error::Timeout(_))));
            }
            _ => {}
        });
        shared.reset(2);
        assert!(shared.view().is_empty());
    });
}
