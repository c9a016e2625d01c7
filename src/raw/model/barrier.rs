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
    /// What each party has done before it came.
    done: Vec<UnsafeCell<usize>>,
    passed: AtomicUsize,
}

// SAFETY: `done` is written by its party alone before it comes, and read by others behind the barrier, which is what is
// on trial: loom checks it.
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

    fn mortal(&self) -> Id {
        self.world.mortals[0].0
    }

    /// Comes in the name of one who dies before it wakes up again.
    fn come_and_die(&self) {
        let _ = self
            .view()
            .come(self.mortal(), &BarrierHandleState::default(), &self.world);
        self.world.dies(0);
    }

    fn reset(&self, me: usize) {
        let reset = self
            .view()
            .reset(id(me), &BarrierHandleState::default(), &self.world);
        reset.expect("nobody is stopped");
    }

    fn write(&self, party: usize, value: usize) {
        // SAFETY: it is ours until all are there; loom checks it.
        self.done[party].with_mut(|done| unsafe { *done = value });
    }

    fn read(&self, party: usize) -> usize {
        // SAFETY: all are there; loom checks it.
        self.done[party].with(|done| unsafe { *done })
    }

    /// The clock: all sleepers look again once.
    fn time_passes(&self) {
        futex::wake(self.view().word(), i32::MAX, futex::WaitSet::All);
    }
}

fn is_broken(result: &Result) -> bool {
    matches!(result, Err(Error::Broken(_)))
}

#[test]
fn two_see_what_the_other_has_done_turn_after_turn() {
    model(2, || {
        let shared = Shared::new(2);
        each(2, move |me| {
            for turn in 1..=2 {
                shared.write(me, turn);
                shared.wait(me).expect("both live");
                assert_eq!(shared.read(1 - me), turn);
                // What was read is written again only when both have read.
                shared.wait(me).expect("both live");
            }
        });
    });
}

#[test]
fn three_have_three_places_and_see_what_all_have_done() {
    model(2, || {
        let shared = Shared::new(3);
        let in_thread = shared.clone();
        each(3, move |me| {
            in_thread.write(me, 7);
            let place = in_thread.wait(me).expect("all live");
            in_thread
                .passed
                .fetch_add(1 << (8 * place), Ordering::Relaxed);
            assert_eq!((0..3).map(|party| in_thread.read(party)).sum::<usize>(), 21);
        });
        assert_eq!(shared.passed.load(Ordering::Relaxed), 0x01_01_01);
    });
}

#[test]
fn one_that_dies_waiting_breaks_it_for_who_waits_and_who_comes() {
    model(2, || {
        let shared = Shared::new(3);
        shared.come_and_die();
        let in_thread = shared.clone();
        each(2, move |me| assert!(is_broken(&in_thread.wait(me))));
        assert!(shared.view().stat().broken);
        shared.reset(0);
        assert!(!shared.view().stat().broken);
        assert!(shared.view().is_empty());
    });
}

#[test]
fn one_that_dies_while_others_wait_is_found_after_a_sleep() {
    model(2, || {
        let shared = Shared::new(3);
        let in_thread = shared.clone();
        each(3, move |me| match me {
            0 => {
                in_thread.come_and_die();
                // Nobody else comes, so it is found in time or not at all: the model has no deadlines.
                in_thread.time_passes();
            }
            _ => {
                let told = in_thread.wait(me);
                assert!(told.is_ok() || is_broken(&told));
            }
        });
    });
}

#[test]
fn one_that_dies_with_the_lock_holds_up_nobody() {
    model(2, || {
        let shared = Shared::new(2);
        let lock = &shared.raw.lock;
        assert!(lock.try_acquire(shared.mortal()));
        shared.world.dies(0);
        let in_thread = shared.clone();
        each(2, move |me| assert!(in_thread.wait(me).is_ok()));
    });
}

#[test]
fn who_is_out_of_time_has_all_told_or_none() {
    model(2, || {
        let shared = Shared::new(2);
        let in_thread = shared.clone();
        each(3, move |me| {
            let told = match me {
                0 => in_thread.wait_as(id(0), SHORT, Last::Passes),
                1 => in_thread.wait(1),
                _ => return in_thread.time_passes(),
            };
            match told {
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
fn a_reset_tells_who_waits_and_nobody_who_comes_later() {
    model(2, || {
        let shared = Shared::new(2);
        let in_thread = shared.clone();
        each(3, move |me| match me {
            0 => in_thread.reset(0),
            // Together they pass, or whoever came before the reset is told and comes again.
            _ => while is_broken(&in_thread.wait(me)) {},
        });
        assert!(!shared.view().stat().broken);
        assert!(shared.view().is_empty());
    });
}

#[test]
fn who_goes_leaves_the_others_their_places() {
    model(2, || {
        let shared = Shared::new(3);
        let waiter = shared
            .view()
            .come(id(5), &BarrierHandleState::default(), &shared.world);
        let waiter = waiter.expect("it waits");
        let in_thread = shared.clone();
        each(3, move |me| {
            if me == 0 {
                in_thread
                    .view()
                    .go(&waiter, &BarrierHandleState::default(), &in_thread.world);
            }
            if me == 0 && in_thread.view().stat().turns == 1 {
                // All were there before it went.
                return;
            }
            let place = in_thread.wait(me).expect("three live");
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
fn who_is_held_passes_or_is_told() {
    model(2, || {
        let shared = Shared::new(2);
        let in_thread = shared.clone();
        each(3, move |me| {
            if me == 2 {
                return in_thread.view().abort();
            }
            let told = in_thread.wait_as(id(me), WaitOptions::BLOCKING, Last::Holds);
            let told = match told {
                Ok(1) => {
                    in_thread.write(0, 7);
                    in_thread.view().pass(id(me))
                }
                other => other.map(|_| assert_eq!(in_thread.read(0), 7)),
            };
            match told {
                Ok(()) => drop(in_thread.passed.fetch_add(1, Ordering::Relaxed)),
                Err(error) => assert!(matches!(error, Error::Broken(_))),
            }
        });
        assert_ne!(shared.passed.load(Ordering::Relaxed), 1);
        assert!(shared.view().is_empty());
    });
}

#[test]
fn who_dies_holding_the_others_breaks_it() {
    model(2, || {
        let shared = Shared::new(2);
        let in_thread = shared.clone();
        each(3, move |me| match me {
            0 => {
                let told =
                    in_thread.wait_as(in_thread.mortal(), WaitOptions::NONBLOCKING, Last::Holds);
                assert!(matches!(told, Ok(1) | Err(Error::WouldBlock(_))));
                in_thread.world.dies(0);
                if told.is_err() {
                    // It died before it came.
                    in_thread.view().abort();
                }
                in_thread.time_passes();
            }
            1 => {
                let told = in_thread.wait_as(id(1), SHORT, Last::Passes);
                assert!(is_broken(&told) || matches!(told, Err(Error::Timeout(_))));
            }
            _ => {}
        });
        shared.reset(2);
        assert!(shared.view().is_empty());
    });
}
