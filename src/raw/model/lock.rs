//! Models of the lock and the recursive lock.

use super::{SHORT, World, each, id, model};
use crate::error::{Error, Result};
use crate::participant::Id;
use crate::raw::lock::RawLock;
use crate::raw::wait::SpinState;
use crate::raw::{WaitOptions, rlock};
use crate::sys::futex;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

struct Shared {
    raw: RawLock,
    world: World,
    guarded: UnsafeCell<u64>,
    recoveries: AtomicUsize,
}

// SAFETY: only the owner of the lock reaches `guarded`; the model tests that, and loom checks it.
unsafe impl Sync for Shared {}

impl Shared {
    fn new() -> Arc<Shared> {
        Arc::new(Shared {
            raw: RawLock::default(),
            world: World::new(),
            guarded: UnsafeCell::new(0),
            recoveries: AtomicUsize::new(0),
        })
    }

    fn acquire(&self, me: Id, options: WaitOptions) -> Result<bool> {
        self.raw
            .acquire(me, options, &SpinState::default(), &self.world)
    }

    /// Adds one; loom fails if another thread is inside as well.
    fn touch(&self) {
        // SAFETY: the caller holds the lock; the model tests that, and loom checks it.
        self.guarded.with_mut(|guarded| unsafe { *guarded += 1 });
    }

    /// Dies, holding the lock if it was free. The next owner must see what the dead process wrote.
    fn try_and_die(&self, number: usize) {
        match self.acquire(self.world.killable[number].0, WaitOptions::NONBLOCKING) {
            Ok(_) => self.touch(),
            Err(error) => assert!(matches!(error, Error::WouldBlock(_))),
        }
        self.world.kill(number);
    }

    /// Does what a new owner does: writes, marks the state consistent, releases.
    fn recover(&self, me: Id, owner_died: bool) {
        self.touch();
        if owner_died {
            assert!(
                self.raw.owner_died(),
                "no owner has marked the state consistent"
            );
            self.recoveries.fetch_add(1, Ordering::Relaxed);
            self.raw
                .mark_consistent(me)
                .expect("a lock of this process");
        }
        self.raw.release(me).expect("a lock of this process");
    }

    fn guarded(&self) -> u64 {
        // SAFETY: as in `touch`.
        self.guarded.with(|guarded| unsafe { *guarded })
    }
}

#[test]
fn two_threads_exclude_each_other_and_neither_sleeps_forever() {
    model(4, || {
        let shared = Shared::new();
        let in_thread = shared.clone();
        each(2, move |me| {
            assert_eq!(in_thread.acquire(id(me), WaitOptions::BLOCKING), Ok(false));
            in_thread.touch();
            in_thread
                .raw
                .release(id(me))
                .expect("a lock of this process");
        });
        assert_eq!(shared.guarded(), 2);
    });
}

#[test]
fn three_threads_exclude_each_other_and_none_sleeps_forever() {
    model(2, || {
        let shared = Shared::new();
        let in_thread = shared.clone();
        each(3, move |me| {
            assert_eq!(in_thread.acquire(id(me), WaitOptions::BLOCKING), Ok(false));
            in_thread.touch();
            in_thread
                .raw
                .release(id(me))
                .expect("a lock of this process");
        });
        assert_eq!(shared.guarded(), 3);
    });
}

#[test]
fn one_of_two_processes_takes_over_a_dead_owners_lock() {
    model(3, || {
        let shared = Shared::new();
        let in_thread = shared.clone();
        each(3, move |me| {
            if me == 0 {
                return in_thread.try_and_die(0);
            }
            // A death wakes no waiter, and the model has no deadlines: so these do not wait.
            for _ in 0..2 {
                if let Ok(owner_died) = in_thread.acquire(id(me), WaitOptions::NONBLOCKING) {
                    in_thread.recover(id(me), owner_died);
                    break;
                }
                thread::yield_now();
            }
        });
        let last = shared
            .acquire(id(5), WaitOptions::NONBLOCKING)
            .expect("a lock whose owner is dead");
        shared.recover(id(5), last);
        assert!(
            shared.recoveries.load(Ordering::Relaxed) <= 1,
            "the owner's death was reported once"
        );
        assert!(!shared.raw.owner_died());
    });
}

#[test]
fn a_waiter_that_gives_up_passes_its_wake_on() {
    model(2, || {
        let shared = Shared::new();
        let in_thread = shared.clone();
        each(3, move |me| {
            let options = match me {
                2 => SHORT,
                _ => WaitOptions::BLOCKING,
            };
            // The first thread locks twice: it may take the lock before a waiter that was just woken.
            for _ in 0..if me == 0 { 2 } else { 1 } {
                if in_thread.acquire(id(me), options).is_ok() {
                    in_thread.touch();
                    in_thread
                        .raw
                        .release(id(me))
                        .expect("a lock of this process");
                }
            }
        });
    });
}

#[test]
fn a_recursive_lock_belongs_to_a_thread() {
    model(3, || {
        let shared = Shared::new();
        let in_thread = shared.clone();
        // Two threads of one process have the same id.
        each(2, move |_| {
            let (raw, liveness) = (&in_thread.raw, &in_thread.world);
            for _ in 0..2 {
                let spins = SpinState::default();
                rlock::acquire(raw, id(0), WaitOptions::BLOCKING, &spins, liveness)
                    .expect("an acquisition without a timeout");
            }
            in_thread.touch();
            rlock::release(raw, id(0)).expect("a lock held twice");
            in_thread.touch();
            rlock::release(raw, id(0)).expect("a lock held once");
            assert!(rlock::depth(raw, id(0)) == 0);
        });
        assert_eq!(shared.guarded(), 4);
    });
}

#[test]
fn a_process_that_takes_over_wakes_the_waiters_of_the_dead_owner() {
    model(4, || {
        let shared = Shared::new();
        let dying = shared.world.killable[0].0;
        shared
            .acquire(dying, WaitOptions::NONBLOCKING)
            .expect("a free lock");
        let in_thread = shared.clone();
        each(2, move |me| match me {
            0 => {
                in_thread.world.kill(0);
                match in_thread.acquire(id(me), WaitOptions::NONBLOCKING) {
                    Ok(owner_died) => in_thread.recover(id(me), owner_died),
                    // The other process has not slept, and acquired the lock first.
                    Err(error) => assert!(matches!(error, Error::WouldBlock(_))),
                }
            }
            _ => {
                let owner_died = in_thread.acquire(id(me), WaitOptions::BLOCKING);
                in_thread.recover(
                    id(me),
                    owner_died.expect("an acquisition without a timeout"),
                );
            }
        });
        assert_eq!(shared.recoveries.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn an_owner_that_dies_during_recovery_leaves_the_mark() {
    model(3, || {
        let shared = Shared::new();
        shared.try_and_die(0);
        let in_thread = shared.clone();
        each(2, move |me| match me {
            0 => in_thread.try_and_die(1),
            _ => {
                // The lock may be taken over from the first or the second process, or be unowned with the mark set.
                if let Ok(owner_died) = in_thread.acquire(id(me), WaitOptions::NONBLOCKING) {
                    assert!(owner_died, "no owner has marked the state consistent");
                    in_thread.touch();
                    in_thread
                        .raw
                        .release(id(me))
                        .expect("a lock of this process");
                }
            }
        });
        let owner_died = shared.acquire(id(5), WaitOptions::NONBLOCKING);
        assert_eq!(owner_died, Ok(true), "the mark stays");
        shared.recover(id(5), true);
        assert_eq!(shared.acquire(id(5), WaitOptions::NONBLOCKING), Ok(false));
    });
}

#[test]
fn marking_consistent_forgets_no_sleeper() {
    model(4, || {
        let shared = Shared::new();
        shared.try_and_die(0);
        // Taken over and released without marking it consistent: the next owner finds the mark, and no process waits
        // yet.
        assert_eq!(shared.acquire(id(5), WaitOptions::NONBLOCKING), Ok(true));
        shared.raw.release(id(5)).expect("a lock of this process");
        let in_thread = shared.clone();
        each(2, move |me| {
            let owner_died = in_thread.acquire(id(me), WaitOptions::BLOCKING);
            in_thread.recover(
                id(me),
                owner_died.expect("an acquisition without a timeout"),
            );
        });
        assert_eq!(shared.recoveries.load(Ordering::Relaxed), 1);
        assert_eq!(shared.guarded(), 3);
    });
}

#[test]
fn a_transferable_lock_can_be_released_by_another_thread() {
    model(3, || {
        let shared = Shared::new();
        shared
            .acquire(id(0), WaitOptions::NONBLOCKING)
            .expect("a free lock");
        let in_thread = shared.clone();
        each(3, move |me| match me {
            // Releases what the main thread acquired before this thread was started.
            0 => {
                in_thread.touch();
                in_thread.raw.release_any().expect("a held lock");
            }
            _ => {
                assert_eq!(in_thread.acquire(id(me), WaitOptions::BLOCKING), Ok(false));
                in_thread.touch();
                in_thread.raw.release_any().expect("a held lock");
            }
        });
        assert_eq!(shared.guarded(), 3);
        assert!(shared.raw.release_any().is_err(), "the lock is free");
    });
}

#[test]
fn a_waiter_that_times_out_passes_its_wake_on() {
    model(2, || {
        let shared = Shared::new();
        let in_thread = shared.clone();
        each(4, move |me| {
            let options = match me {
                // The clock: all sleepers check again once, and the timeout of one of them is over.
                3 => {
                    futex::wake(&in_thread.raw.word, i32::MAX, futex::WaitSet::All);
                    return;
                }
                2 => SHORT,
                _ => WaitOptions::BLOCKING,
            };
            match in_thread.acquire(id(me), options) {
                Ok(_) => {
                    in_thread.touch();
                    in_thread
                        .raw
                        .release(id(me))
                        .expect("a lock of this process");
                }
                Err(error) => assert!(me == 2 && matches!(error, Error::Timeout(_))),
            }
        });
    });
}

#[test]
fn a_recursive_lock_that_was_taken_over_belongs_to_the_thread_that_took_it() {
    model(3, || {
        let shared = Shared::new();
        let take = |shared: &Shared, me| {
            let (raw, liveness) = (&shared.raw, &shared.world);
            rlock::acquire(
                raw,
                me,
                WaitOptions::NONBLOCKING,
                &SpinState::default(),
                liveness,
            )
        };
        let in_thread = shared.clone();
        // Two threads of one process, whose only id is 0.
        each(2, move |me| {
            if me == 0 {
                if let Ok(owner_died) = take(&in_thread, id(0)) {
                    in_thread.touch();
                    assert_eq!(
                        take(&in_thread, id(0)),
                        Ok(owner_died),
                        "a second acquisition"
                    );
                    assert_eq!(rlock::depth(&in_thread.raw, id(0)), 2);
                    rlock::release(&in_thread.raw, id(0)).expect("a lock held twice");
                    in_thread.touch();
                    rlock::release(&in_thread.raw, id(0)).expect("a lock held once");
                }
            } else {
                // The dead process had a thread with the same number as this one.
                let _ = take(&in_thread, in_thread.world.killable[0].0);
                in_thread.world.kill(0);
                let others = rlock::release(&in_thread.raw, id(0));
                assert!(
                    matches!(others, Err(Error::NotOwner(_))),
                    "the lock of another thread"
                );
                assert_eq!(rlock::depth(&in_thread.raw, id(0)), 0);
            }
        });
        assert!(take(&shared, id(3)).is_ok(), "a free lock, or a dead owner");
    });
}
