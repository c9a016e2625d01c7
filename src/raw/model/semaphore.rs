//! Models of both kinds of semaphores.

use super::{SHORT, World, each, id, model};
use crate::error::Error;
use crate::participant::Id;
use crate::raw::WaitOptions;
use crate::raw::count_slot::CountSlot;
use crate::raw::semaphore::{RawSemaphore, WAITERS};
use crate::raw::undo::{UndoHandleState, UndoRef, cells};
use crate::raw::wait::SpinState;
use crate::sys::futex;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::Ordering;
use loom::thread;

const MAXIMUM: u64 = 3;

struct Shared {
    raw: RawSemaphore,
    cells: [CountSlot; 2],
    world: World,
    guarded: UnsafeCell<u64>,
}

// SAFETY: `guarded` is reached by who has all permits alone, which is what is on trial: loom checks it.
unsafe impl Sync for Shared {}

impl Shared {
    fn new(value: u64) -> Arc<Shared> {
        let raw = RawSemaphore::default();
        raw.prepare(value, MAXIMUM);
        Arc::new(Shared {
            raw,
            cells: Default::default(),
            world: World::new(),
            guarded: UnsafeCell::new(0),
        })
    }

    fn acquire(&self, count: u64, options: WaitOptions) -> bool {
        let result = self.raw.acquire(count, options, &SpinState::default());
        assert!(matches!(result, Ok(()) | Err(Error::Timeout(_))));
        result.is_ok()
    }

    fn release(&self, count: u64) {
        self.raw.release(count, MAXIMUM).expect("no overflow");
    }

    /// Adds one; loom fails where another thread is in here as well.
    fn touch(&self) {
        // SAFETY: the caller has all permits, which is what is on trial: loom checks it.
        self.guarded.with_mut(|guarded| unsafe { *guarded += 1 });
    }

    /// Calls `body` with a semaphore of `total` permits, as the process `me` sees it.
    fn undo<T>(&self, total: u64, me: Id, body: impl FnOnce(UndoRef<'_, World>) -> T) -> T {
        body(UndoRef {
            raw: &self.raw,
            all: &self.cells,
            total,
            handle: &UndoHandleState::default(),
            me,
            liveness: &self.world,
        })
    }

    fn acquire_undo(&self, total: u64, me: Id, count: u64, options: WaitOptions) -> bool {
        self.undo(total, me, |undo| {
            if count == 1 && undo.try_acquire() {
                return true;
            }
            let result = undo.acquire(count, options, &SpinState::default());
            assert!(matches!(result, Ok(()) | Err(Error::WouldBlock(_))));
            result.is_ok()
        })
    }

    fn release_undo(&self, total: u64, me: Id, count: u64) {
        self.undo(total, me, |undo| {
            if count != 1 || !undo.try_release() {
                undo.release(count).expect("we hold it");
            }
        });
    }
}

#[test]
fn one_permit_excludes_and_nobody_sleeps_for_ever() {
    model(2, || {
        let shared = Shared::new(1);
        let in_thread = shared.clone();
        each(3, move |_| {
            assert!(in_thread.acquire(1, WaitOptions::BLOCKING));
            in_thread.touch();
            in_thread.release(1);
        });
        assert_eq!(shared.raw.value(), 1);
    });
}

#[test]
fn who_gives_two_wakes_two() {
    model(3, || {
        let shared = Shared::new(0);
        let in_thread = shared.clone();
        each(3, move |me| match me {
            0 => in_thread.release(2),
            _ => assert!(in_thread.acquire(1, WaitOptions::BLOCKING)),
        });
        assert_eq!(shared.raw.value(), 0);
    });
}

#[test]
fn who_wants_two_keeps_no_wake_from_who_wants_one() {
    model(2, || {
        let shared = Shared::new(0);
        let wait = |count| {
            let shared = shared.clone();
            thread::spawn(move || assert!(shared.acquire(count, WaitOptions::BLOCKING)))
        };
        let (two, one) = (wait(2), wait(1));
        // Either of them may sleep first, and it is too few for one of them.
        shared.release(1);
        one.join().expect("it has got it");
        shared.release(1);
        shared.release(1);
        two.join().expect("it has got them");
        assert_eq!(shared.raw.value(), 0);
    });
}

#[test]
fn a_mark_that_goes_leaves_no_sleeper_behind() {
    model(4, || {
        let shared = Shared::new(0);
        // Somebody has waited, and is not there any more.
        shared.raw.word.fetch_or(WAITERS, Ordering::Relaxed);
        let in_thread = shared.clone();
        each(2, move |me| match me {
            0 => (0..2).for_each(|_| in_thread.release(1)),
            _ => (0..2).for_each(|_| assert!(in_thread.acquire(1, WaitOptions::BLOCKING))),
        });
    });
}

#[test]
fn who_gives_up_passes_its_wake_on() {
    model(2, || {
        let shared = Shared::new(0);
        let in_thread = shared.clone();
        each(4, move |me| {
            let options = match me {
                // The clock: all sleepers look again once, and the one that has a deadline is beyond it.
                3 => {
                    futex::wake(&in_thread.raw.word, i32::MAX, futex::WaitSet::All);
                    return;
                }
                2 => SHORT,
                1 => WaitOptions::BLOCKING,
                _ => return in_thread.release(1),
            };
            if in_thread.acquire(1, options) {
                in_thread.release(1);
            }
        });
        assert_eq!(shared.raw.value(), 1);
    });
}

#[test]
fn with_undo_one_permit_excludes_and_nobody_sleeps_for_ever() {
    model(2, || {
        let shared = Shared::new(1);
        let in_thread = shared.clone();
        each(2, move |me| {
            let me = id(me);
            assert!(in_thread.acquire_undo(1, me, 1, WaitOptions::BLOCKING));
            in_thread.touch();
            in_thread.release_undo(1, me, 1);
        });
        assert_eq!(shared.raw.value(), 1);
    });
}

#[test]
fn what_the_dead_held_comes_back_once() {
    model(2, || {
        let shared = Shared::new(2);
        let in_thread = shared.clone();
        each(2, move |me| match me {
            0 => {
                let mortal = in_thread.world.mortals[0].0;
                in_thread.acquire_undo(2, mortal, 2, WaitOptions::NONBLOCKING);
                in_thread.world.dies(0);
            }
            _ => {
                // Nobody is woken by a death, and the model has no deadlines: so these only try.
                if in_thread.acquire_undo(2, id(me), 2, WaitOptions::NONBLOCKING) {
                    in_thread.touch();
                    in_thread.release_undo(2, id(me), 2);
                }
                thread::yield_now();
            }
        });
        assert!(shared.acquire_undo(2, id(5), 2, WaitOptions::NONBLOCKING));
        assert_eq!(shared.raw.value(), 0);
    });
}

/// Dies inside the lock, so far on its way as `step` says: it acquires up to 2, then it has done that, and releases.
fn die_inside(shared: &Shared, total: u64, step: usize) {
    let mortal = shared.world.mortals[0].0;
    let cells = cells(&shared.raw, &shared.cells);
    if step > 2 {
        assert!(shared.acquire_undo(total, mortal, 1, WaitOptions::NONBLOCKING));
    }
    let lock = &shared.raw.lock;
    let entered = lock.acquire(
        mortal,
        WaitOptions::NONBLOCKING,
        &SpinState::default(),
        &shared.world,
    );
    assert_eq!(entered, Ok(false));
    match step {
        0 | 3 => {}
        1 => drop(cells.hold(mortal, 1, &shared.world)),
        2 => {
            cells.hold(mortal, 1, &shared.world).expect("a cell");
            assert!(shared.raw.try_take(1));
        }
        _ => drop(cells.release(mortal, 1)),
    }
    shared.world.dies(0);
}

#[test]
fn who_dies_inside_leaves_it_to_the_next_to_count() {
    for step in 0..5 {
        model(2, move || {
            let shared = Shared::new(2);
            die_inside(&shared, 2, step);
            let in_thread = shared.clone();
            each(2, move |me| {
                if in_thread.acquire_undo(2, id(me), 1, WaitOptions::NONBLOCKING) {
                    in_thread.release_undo(2, id(me), 1);
                }
            });
            assert!(shared.acquire_undo(2, id(5), 2, WaitOptions::NONBLOCKING));
            shared.release_undo(2, id(5), 2);
            assert_eq!(shared.raw.value(), 2);
        });
    }
}

#[test]
fn who_brings_back_wakes_who_slept_for_the_dead() {
    model(2, || {
        let shared = Shared::new(2);
        let mortal = shared.world.mortals[0].0;
        assert!(shared.acquire_undo(2, mortal, 2, WaitOptions::NONBLOCKING));
        let in_thread = shared.clone();
        each(2, move |me| match me {
            0 => {
                in_thread.world.dies(0);
                // One is enough for it; the other one is left to who sleeps.
                assert!(in_thread.acquire_undo(2, id(me), 1, WaitOptions::NONBLOCKING));
            }
            _ => assert!(in_thread.acquire_undo(2, id(me), 1, WaitOptions::BLOCKING)),
        });
        assert_eq!(shared.raw.value(), 0);
    });
}

#[test]
fn who_finds_no_cell_passes_its_wake_on() {
    model(2, || {
        let shared = Shared::new(3);
        assert!(shared.acquire_undo(3, id(0), 2, WaitOptions::NONBLOCKING));
        assert!(shared.acquire_undo(3, id(1), 1, WaitOptions::NONBLOCKING));
        let in_thread = shared.clone();
        each(3, move |me| match me {
            0 => in_thread.release_undo(3, id(0), 1),
            // Another thread of the same process.
            1 => {
                assert!(in_thread.acquire_undo(3, id(0), 1, WaitOptions::BLOCKING));
                in_thread.release_undo(3, id(0), 1);
            }
            // Both cells are in use for good.
            _ => {
                let acquire = |undo: UndoRef<'_, World>| {
                    undo.acquire(1, WaitOptions::BLOCKING, &SpinState::default())
                };
                let acquired = in_thread.undo(3, id(2), acquire);
                assert!(matches!(acquired, Err(Error::TooManyProcesses(_))));
            }
        });
        assert_eq!(shared.raw.value(), 1);
    });
}
