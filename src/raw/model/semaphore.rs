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

// SAFETY: only the holder of all permits reaches `guarded`; the model tests that, and loom checks it.
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

    /// Adds one; loom fails if another thread is inside as well.
    fn touch(&self) {
        // SAFETY: the caller holds all permits; the model tests that, and loom checks it.
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
                undo.release(count).expect("permits of this process");
            }
        });
    }
}

#[test]
fn one_permit_excludes_others_and_no_waiter_sleeps_forever() {
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
fn a_release_of_two_permits_wakes_two_waiters() {
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
fn a_waiter_for_two_permits_keeps_no_wake_from_a_waiter_for_one() {
    model(2, || {
        let shared = Shared::new(0);
        let wait = |count| {
            let shared = shared.clone();
            thread::spawn(move || assert!(shared.acquire(count, WaitOptions::BLOCKING)))
        };
        let (two, one) = (wait(2), wait(1));
        // Either may sleep first, and the permits are too few for one of them.
        shared.release(1);
        one.join().expect("one permit");
        shared.release(1);
        shared.release(1);
        two.join().expect("two permits");
        assert_eq!(shared.raw.value(), 0);
    });
}

#[test]
fn a_mark_that_is_cleared_leaves_no_sleeper_behind() {
    model(4, || {
        let shared = Shared::new(0);
        // An earlier waiter has set the mark and left.
        shared.raw.word.fetch_or(WAITERS, Ordering::Relaxed);
        let in_thread = shared.clone();
        each(2, move |me| match me {
            0 => (0..2).for_each(|_| in_thread.release(1)),
            _ => (0..2).for_each(|_| assert!(in_thread.acquire(1, WaitOptions::BLOCKING))),
        });
    });
}

#[test]
fn a_waiter_that_times_out_passes_its_wake_on() {
    model(2, || {
        let shared = Shared::new(0);
        let in_thread = shared.clone();
        each(4, move |me| {
            let options = match me {
                // The clock: all sleepers check again once, and the timeout of one of them is over.
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
fn with_undo_one_permit_excludes_others_and_no_waiter_sleeps_forever() {
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
fn permits_of_a_dead_holder_are_reclaimed_once() {
    model(2, || {
        let shared = Shared::new(2);
        let in_thread = shared.clone();
        each(2, move |me| match me {
            0 => {
                let dying = in_thread.world.killable[0].0;
                in_thread.acquire_undo(2, dying, 2, WaitOptions::NONBLOCKING);
                in_thread.world.kill(0);
            }
            _ => {
                // A death wakes no waiter, and the model has no deadlines: so these do not wait.
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

/// Dies inside the lock at the point that `step` names: it acquires up to 2, then it has acquired them, and releases.
fn die_inside(shared: &Shared, total: u64, step: usize) {
    let dying = shared.world.killable[0].0;
    let cells = cells(&shared.raw, &shared.cells);
    if step > 2 {
        assert!(shared.acquire_undo(total, dying, 1, WaitOptions::NONBLOCKING));
    }
    let lock = &shared.raw.lock;
    let entered = lock.acquire(
        dying,
        WaitOptions::NONBLOCKING,
        &SpinState::default(),
        &shared.world,
    );
    assert_eq!(entered, Ok(false));
    match step {
        0 | 3 => {}
        1 => drop(cells.hold(dying, 1, &shared.world)),
        2 => {
            cells.hold(dying, 1, &shared.world).expect("a free slot");
            assert!(shared.raw.try_take(1));
        }
        _ => drop(cells.release(dying, 1)),
    }
    shared.world.kill(0);
}

#[test]
fn a_process_that_dies_inside_leaves_the_recount_to_the_next() {
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
fn reclaiming_a_dead_holders_permits_wakes_the_waiters() {
    model(2, || {
        let shared = Shared::new(2);
        let dying = shared.world.killable[0].0;
        assert!(shared.acquire_undo(2, dying, 2, WaitOptions::NONBLOCKING));
        let in_thread = shared.clone();
        each(2, move |me| match me {
            0 => {
                in_thread.world.kill(0);
                // One permit is enough for this process; the other one is left to the sleeper.
                assert!(in_thread.acquire_undo(2, id(me), 1, WaitOptions::NONBLOCKING));
            }
            _ => assert!(in_thread.acquire_undo(2, id(me), 1, WaitOptions::BLOCKING)),
        });
        assert_eq!(shared.raw.value(), 0);
    });
}

#[test]
fn a_waiter_without_a_free_slot_passes_its_wake_on() {
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
            // Both slots stay in use.
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
