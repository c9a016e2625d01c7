//! Models of the condition.

use super::{World, each, id, model};
use crate::error::{Error, Result};
use crate::participant::Id;
use crate::raw::condition::{ConditionRef, End, Mutex, RawCondition, Waited, WaiterCell};
use crate::raw::wait::SpinState;
use crate::raw::{WaitOptions, lock};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};

struct Shared {
    lock: lock::RawLock,
    raw: RawCondition,
    cells: [WaiterCell; 3],
    world: World,
    guarded: UnsafeCell<u64>,
    returned: AtomicUsize,
}

// SAFETY: only the owner of the lock reaches `guarded`; loom checks it.
unsafe impl Sync for Shared {}

/// The lock as one process holds it.
struct Held<'a>(&'a Shared, Id);

impl Mutex for Held<'_> {
    fn is_held(&self) -> bool {
        self.0.lock.is_held_by(self.1)
    }

    fn number(&self) -> u64 {
        1
    }

    fn release_all(&self) -> Result<u64> {
        self.0.lock.release(self.1).map(|()| 1)
    }

    fn acquire_all(&self, _depth: u64) -> Result<bool> {
        let Held(shared, me) = self;
        let spins = SpinState::default();
        shared
            .lock
            .acquire(*me, WaitOptions::BLOCKING, &spins, &shared.world)
    }
}

impl Shared {
    fn new() -> Arc<Shared> {
        Arc::new(Shared {
            lock: lock::RawLock::default(),
            raw: RawCondition::default(),
            cells: [(); 3].map(|()| WaiterCell::default()),
            world: World::new(),
            guarded: UnsafeCell::new(0),
            returned: AtomicUsize::new(0),
        })
    }

    fn condition(&self) -> ConditionRef<'_> {
        ConditionRef {
            raw: &self.raw,
            cells: &self.cells,
        }
    }

    /// Calls `body` while holding the lock.
    fn locked<T>(&self, me: Id, body: impl FnOnce(&Held<'_>) -> T) -> T {
        let held = Held(self, me);
        held.acquire_all(1).expect("a wait without a timeout");
        let result = body(&held);
        self.lock.release(me).expect("a lock of this process");
        result
    }

    fn wait(&self, held: &Held<'_>, options: WaitOptions) -> Waited {
        let condition = self.condition();
        let waited = condition.wait(held.1, held, options, &SpinState::default(), &self.world);
        assert!(held.is_held());
        waited.expect("a free slot")
    }

    /// Does what `wait` does after it has released the lock; returns what ended the wait.
    fn finish_wait(&self, me: Id, (index, age): (usize, u64), options: WaitOptions) -> End {
        let (condition, spins) = (self.condition(), SpinState::default());
        let own = &self.cells[index];
        let slept = condition.sleep(me, own, age, options, &spins, &self.world);
        let (end, notified) = slept.expect("a slot of this process");
        assert_eq!(end == End::Notified, notified.is_some());
        if let Some(cell) = notified {
            self.returned.fetch_add(1, Ordering::Relaxed);
            self.locked(me, |_| assert!(cell.is_notified_and_released(me)));
        }
        end
    }

    /// Sends `count` notifications.
    fn notify(&self, count: u64) {
        self.locked(id(0), |held| {
            let sent = self.condition().notify(count, held, &self.world);
            sent.expect("a lock of this process");
        });
    }

    fn guarded(&self) -> u64 {
        // SAFETY: the caller holds the lock; loom checks it.
        self.guarded.with(|guarded| unsafe { *guarded })
    }

    fn set(&self, value: u64) {
        // SAFETY: as in `guarded`.
        self.guarded.with_mut(|guarded| unsafe { *guarded = value });
    }

    fn all_cells_are_free(&self) -> bool {
        self.cells.iter().all(|cell| cell.is_free())
    }
}

#[test]
fn a_waiter_that_checks_before_it_waits_misses_no_notification() {
    model(3, || {
        let shared = Shared::new();
        let in_thread = shared.clone();
        each(2, move |me| {
            in_thread.locked(id(me), |held| match me {
                0 => {
                    in_thread.set(1);
                    let sent = in_thread.condition().notify(1, held, &in_thread.world);
                    sent.expect("a lock of this process");
                }
                _ => {
                    while in_thread.guarded() == 0 {
                        let waited = in_thread.wait(held, WaitOptions::BLOCKING);
                        assert_eq!(waited.end, End::Notified);
                        assert_eq!(
                            in_thread.guarded(),
                            1,
                            "one waiter returns for one notification"
                        );
                    }
                }
            });
        });
        assert!(shared.all_cells_are_free());
    });
}

#[test]
fn two_waiters_return_for_one_notification_each() {
    model(2, || {
        let shared = Shared::new();
        let places = [1, 2].map(|me| begin_wait(&shared, id(me)));
        let in_thread = shared.clone();
        each(3, move |me| match me {
            0 => {
                in_thread.notify(1);
                in_thread.notify(1);
            }
            _ => {
                in_thread.finish_wait(id(me), places[me - 1], WaitOptions::BLOCKING);
            }
        });
        assert!(shared.all_cells_are_free());
    });
}

#[test]
fn one_waiter_returns_for_one_notification() {
    model(3, || {
        let shared = Shared::new();
        let places = [1, 2].map(|me| begin_wait(&shared, id(me)));
        let in_thread = shared.clone();
        each(2, move |me| match me {
            0 => in_thread.notify(1),
            _ => {
                let end = in_thread.finish_wait(id(1), places[0], WaitOptions::BLOCKING);
                assert_eq!(end, End::Notified);
            }
        });
        let end = shared.finish_wait(id(2), places[1], WaitOptions::NONBLOCKING);
        assert_eq!(end, End::Timeout);
        assert!(shared.all_cells_are_free());
    });
}

#[test]
fn all_waiters_return_when_all_are_notified() {
    model(2, || {
        let shared = Shared::new();
        let places = [1, 2].map(|me| begin_wait(&shared, id(me)));
        let in_thread = shared.clone();
        each(3, move |me| match me {
            0 => in_thread.notify(u64::MAX),
            _ => {
                in_thread.finish_wait(id(me), places[me - 1], WaitOptions::BLOCKING);
            }
        });
        assert!(shared.all_cells_are_free());
    });
}

/// Does what `wait` does before it releases the lock; returns the index of its slot, and the age of the wait.
fn begin_wait(shared: &Shared, me: Id) -> (usize, u64) {
    let condition = shared.condition();
    shared.locked(me, |_| {
        let (cell, age) = condition.take(me, &shared.world).expect("a free slot");
        let mut cells = shared.cells.iter();
        let index = cells.position(|other| std::ptr::eq(other, cell));
        (index.expect("a slot of the condition"), age)
    })
}

#[test]
fn a_waiter_that_times_out_passes_its_notification_on() {
    model(4, || {
        let shared = Shared::new();
        let places = [1, 2].map(|me| begin_wait(&shared, id(me)));
        let in_thread = shared.clone();
        each(2, move |me| match me {
            0 => in_thread.notify(1),
            _ => {
                in_thread.finish_wait(id(1), places[0], WaitOptions::NONBLOCKING);
            }
        });
        shared.finish_wait(id(2), places[1], WaitOptions::NONBLOCKING);
        assert_eq!(shared.returned.load(Ordering::Relaxed), 1);
        assert!(shared.all_cells_are_free());
    });
}

#[test]
fn a_passed_on_notification_is_found_by_a_waiter_before_it_sleeps() {
    model(4, || {
        let shared = Shared::new();
        let places = [4, 1].map(|me| begin_wait(&shared, id(me)));
        let in_thread = shared.clone();
        each(2, move |me| match me {
            0 => {
                in_thread.notify(1);
                // This waiter is interrupted.
                let condition = in_thread.condition();
                condition.leave(id(4), &in_thread.cells[places[0].0]);
            }
            _ => {
                let end = in_thread.finish_wait(id(1), places[1], WaitOptions::BLOCKING);
                assert_eq!(end, End::Notified);
            }
        });
        assert!(shared.all_cells_are_free());
    });
}

#[test]
fn one_live_waiter_adopts_the_notification_of_a_dead_one() {
    model(3, || {
        let shared = Shared::new();
        begin_wait(&shared, shared.world.killable[0].0);
        let ages = [1, 2].map(|me| begin_wait(&shared, id(me)).1);
        shared.notify(1);
        let in_thread = shared.clone();
        let adopt = move |shared: &Shared, me: usize| {
            let condition = shared.condition();
            let taken = condition
                .adopt(id(me), ages[me - 1], &shared.world)
                .unwrap();
            if taken.is_some() {
                shared.returned.fetch_add(1, Ordering::Relaxed);
            }
        };
        // A death wakes no waiter, and the model has no deadlines: so these do not wait.
        each(3, move |me| match me {
            0 => in_thread.world.kill(0),
            _ => adopt(&in_thread, me),
        });
        adopt(&shared, 1);
        assert_eq!(shared.returned.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_waiter_that_dies_adopting_a_notification_leaves_it_to_the_next() {
    model(3, || {
        let shared = Shared::new();
        let (first, second) = (shared.world.killable[0].0, shared.world.killable[1].0);
        begin_wait(&shared, first);
        let (_, age) = begin_wait(&shared, second);
        let (_, ours) = begin_wait(&shared, id(1));
        shared.notify(1);
        let in_thread = shared.clone();
        each(2, move |me| match me {
            0 => {
                in_thread.world.kill(0);
                // It dies before its own slot stores that it has stopped waiting.
                let condition = in_thread.condition();
                condition.adopt(second, age, &in_thread.world).unwrap();
                in_thread.world.kill(1);
            }
            _ => {
                let condition = in_thread.condition();
                if let Some(taken) = condition.adopt(id(1), ours, &in_thread.world).unwrap() {
                    condition.leave(id(1), taken);
                }
            }
        });
        let taken = shared
            .condition()
            .adopt(id(1), ours, &shared.world)
            .unwrap();
        assert!(
            taken.is_some(),
            "the notification outlives both dead waiters"
        );
    });
}

/// The waiter has adopted a notification when it is notified itself, so one of the two is left to another waiter.
#[test]
fn a_waiter_with_two_notifications_leaves_one_to_another() {
    model(2, || {
        let shared = Shared::new();
        let places = [4, 1, 2].map(|me| begin_wait(&shared, id(me)));
        shared.notify(1);
        let in_thread = shared.clone();
        each(3, move |me| match me {
            0 => {
                let condition = in_thread.condition();
                condition.leave(id(4), &in_thread.cells[places[0].0]);
                in_thread.notify(1);
            }
            _ => {
                let end = in_thread.finish_wait(id(me), places[me], WaitOptions::BLOCKING);
                assert_eq!(end, End::Notified);
            }
        });
        assert!(shared.all_cells_are_free());
    });
}

#[test]
fn a_waiter_adopts_no_notification_that_was_sent_before_it_waited() {
    model(3, || {
        let shared = Shared::new();
        begin_wait(&shared, shared.world.killable[0].0);
        shared.notify(1);
        let in_thread = shared.clone();
        each(2, move |me| match me {
            0 => in_thread.world.kill(0),
            _ => {
                let place = begin_wait(&in_thread, id(1));
                let end = in_thread.finish_wait(id(1), place, WaitOptions::NONBLOCKING);
                assert_eq!(end, End::Timeout);
            }
        });
    });
}

/// The third waiter began between the notifications of the first two, and the second of these dies.
#[test]
fn a_waiter_between_two_notifications_adopts_that_of_the_second_waiter() {
    model(3, || {
        let shared = Shared::new();
        let first = begin_wait(&shared, id(1));
        begin_wait(&shared, shared.world.killable[0].0);
        shared.notify(1);
        let (_, age) = begin_wait(&shared, id(2));
        shared.notify(1);
        let in_thread = shared.clone();
        each(2, move |me| match me {
            0 => in_thread.world.kill(0),
            _ => {
                let end = in_thread.finish_wait(id(1), first, WaitOptions::BLOCKING);
                assert_eq!(end, End::Notified);
            }
        });
        let taken = shared.condition().adopt(id(2), age, &shared.world).unwrap();
        assert!(taken.is_some(), "the third waiter has a right to it");
    });
}

#[test]
fn a_process_without_the_lock_neither_waits_nor_notifies() {
    model(1, || {
        let shared = Shared::new();
        let held = Held(&shared, id(0));
        let (condition, world) = (shared.condition(), &shared.world);
        let waited = condition.wait(
            id(0),
            &held,
            WaitOptions::NONBLOCKING,
            &SpinState::default(),
            world,
        );
        assert!(matches!(waited, Err(Error::NotOwner(_))));
        let sent = condition.notify(1, &held, world);
        assert!(matches!(sent, Err(Error::NotOwner(_))));
    });
}
