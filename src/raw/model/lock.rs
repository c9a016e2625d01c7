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

// SAFETY: `guarded` is reached under the lock alone, which is what is on trial: loom checks it.
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

    /// Adds one; loom fails where another thread is in here as well.
    fn touch(&self) {
        // SAFETY: the caller holds the lock, which is what is on trial: loom checks it.
        self.guarded.with_mut(|guarded| unsafe { *guarded += 1 });
    }

    /// Dies, holding the lock if it is to be had: what the dead one wrote is seen by the next.
    fn try_and_die(&self, number: usize) {
        match self.acquire(self.world.mortals[number].0, WaitOptions::NONBLOCKING) {
            Ok(_) => self.touch(),
            Err(error) => assert!(matches!(error, Error::WouldBlock(_))),
        }
        self.world.dies(number);
    }

    /// What who has taken the lock does: writes, says that all is whole, releases.
    fn recover(&self, me: Id, owner_died: bool) {
        self.touch();
        if owner_died {
            assert!(self.raw.owner_died(), "nobody has said otherwise");
            self.recoveries.fetch_add(1, Ordering::Relaxed);
            self.raw.mark_consistent(me).expect("we hold it");
        }
        self.raw.release(me).expect("we hold it");
    }

    fn guarded(&self) -> u64 {
        // SAFETY: as in `touch`.
        self.guarded.with(|guarded| unsafe { *guarded })
    }
}

#[test]
fn two_exclude_each_other_and_nobody_sleeps_for_ever() {
    model(4, || {
        let shared = Shared::new();
        let in_thread = shared.clone();
        each(2, move |me| {
            assert_eq!(in_thread.acquire(id(me), WaitOptions::BLOCKING), Ok(false));
            in_thread.touch();
            in_thread.raw.release(id(me)).expect("we hold it");
        });
        assert_eq!(shared.guarded(), 2);
    });
}

#[test]
fn three_exclude_each_other_and_nobody_sleeps_for_ever() {
    model(2, || {
        let shared = Shared::new();
        let in_thread = shared.clone();
        each(3, move |me| {
            assert_eq!(in_thread.acquire(id(me), WaitOptions::BLOCKING), Ok(false));
            in_thread.touch();
            in_thread.raw.release(id(me)).expect("we hold it");
        });
        assert_eq!(shared.guarded(), 3);
    });
}

#[test]
fn of_two_who_find_the_dead_one_takes_over() {
    model(3, || {
        let shared = Shared::new();
        let in_thread = shared.clone();
        each(3, move |me| {
            if me == 0 {
                return in_thread.try_and_die(0);
            }
            // Nobody is woken by a death, and the model has no deadlines: so these only try.
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
            .expect("who holds it is dead");
        shared.recover(id(5), last);
        assert!(
            shared.recoveries.load(Ordering::Relaxed) <= 1,
            "the dead one died once"
        );
        assert!(!shared.raw.owner_died());
    });
}

#[test]
fn who_gives_up_passes_its_wake_on() {
    model(2, || {
        let shared = Shared::new();
        let in_thread = shared.clone();
        each(3, move |me| {
            let options = match me {
                2 => SHORT,
                _ => WaitOptions::BLOCKING,
            };
            // The first comes twice: it may take the lock from under the nose of one who has just been woken.
            for _ in 0..if me == 0 { 2 } else { 1 } {
                if in_thread.acquire(id(me), options).is_ok() {
                    in_thread.touch();
                    in_thread.raw.release(id(me)).expect("we hold it");
                }
            }
        });
    });
}

#[test]
fn a_recursive_lock_is_a_threads() {
    model(3, || {
        let shared = Shared::new();
        let in_thread = shared.clone();
        // Two threads of one process: the same id.
        each(2, move |_| {
            let (raw, liveness) = (&in_thread.raw, &in_thread.world);
            for _ in 0..2 {
                let spins = SpinState::default();
                rlock::acquire(raw, id(0), WaitOptions::BLOCKING, &spins, liveness)
                    .expect("no end");
            }
            in_thread.touch();
            rlock::release(raw, id(0)).expect("held twice");
            in_thread.touch();
            rlock::release(raw, id(0)).expect("held once");
            assert!(rlock::depth(raw, id(0)) == 0);
        });
        assert_eq!(shared.guarded(), 4);
    });
}

#[test]
fn who_takes_over_wakes_those_that_slept_for_the_dead() {
    model(4, || {
        let shared = Shared::new();
        let mortal = shared.world.mortals[0].0;
        shared
            .acquire(mortal, WaitOptions::NONBLOCKING)
            .expect("it is free");
        let in_thread = shared.clone();
        each(2, move |me| match me {
            0 => {
                in_thread.world.dies(0);
                match in_thread.acquire(id(me), WaitOptions::NONBLOCKING) {
                    Ok(owner_died) => in_thread.recover(id(me), owner_died),
                    // The other one has not slept, and was faster.
                    Err(error) => assert!(matches!(error, Error::WouldBlock(_))),
                }
            }
            _ => {
                let owner_died = in_thread.acquire(id(me), WaitOptions::BLOCKING);
                in_thread.recover(id(me), owner_died.expect("no end"));
            }
        });
        assert_eq!(shared.recoveries.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn who_recovers_and_dies_leaves_the_mark() {
    model(3, || {
        let shared = Shared::new();
        shared.try_and_die(0);
        let in_thread = shared.clone();
        each(2, move |me| match me {
            0 => in_thread.try_and_die(1),
            _ => {
                // Taken over from the first or from the second, or from nobody yet to be judged.
                if let Ok(owner_died) = in_thread.acquire(id(me), WaitOptions::NONBLOCKING) {
                    assert!(owner_died, "nobody has said that all is whole");
                    in_thread.touch();
                    in_thread.raw.release(id(me)).expect("we hold it");
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
fn saying_that_all_is_whole_forgets_no_sleeper() {
    model(4, || {
        let shared = Shared::new();
        shared.try_and_die(0);
        // Taken over and given back as it is: the next owner finds the mark, and nobody waits yet.
        assert_eq!(shared.acquire(id(5), WaitOptions::NONBLOCKING), Ok(true));
        shared.raw.release(id(5)).expect("we hold it");
        let in_thread = shared.clone();
        each(2, move |me| {
            let owner_died = in_thread.acquire(id(me), WaitOptions::BLOCKING);
            in_thread.recover(id(me), owner_died.expect("no end"));
        });
        assert_eq!(shared.recoveries.load(Ordering::Relaxed), 1);
        assert_eq!(shared.guarded(), 3);
    });
}

#[test]
fn another_than_the_owner_may_release_a_transferable_one() {
    model(3, || {
        let shared = Shared::new();
        shared
            .acquire(id(0), WaitOptions::NONBLOCKING)
            .expect("it is free");
        let in_thread = shared.clone();
        each(3, move |me| match me {
            // Releases what the main thread has taken before it was started.
            0 => {
                in_thread.touch();
                in_thread.raw.release_any().expect("it is held");
            }
            _ => {
                assert_eq!(in_thread.acquire(id(me), WaitOptions::BLOCKING), Ok(false));
                in_thread.touch();
                in_thread.raw.release_any().expect("it is held");
            }
        });
        assert_eq!(shared.guarded(), 3);
        assert!(shared.raw.release_any().is_err(), "nobody holds it");
    });
}

#[test]
fn who_is_out_of_time_leaves_the_others_their_wakes() {
    model(2, || {
        let shared = Shared::new();
        let in_thread = shared.clone();
        each(4, move |me| {
            let options = match me {
                // The clock: all sleepers look again once, and the one that has a deadline is beyond it.
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
                    in_thread.raw.release(id(me)).expect("we hold it");
                }
                Err(error) => assert!(me == 2 && matches!(error, Error::Timeout(_))),
            }
        });
    });
}

#[test]
fn a_recursive_lock_taken_over_is_that_threads_which_took_it() {
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
        // Two threads of one process, which has no other id but 0.
        each(2, move |me| {
            if me == 0 {
                if let Ok(owner_died) = take(&in_thread, id(0)) {
                    in_thread.touch();
                    assert_eq!(take(&in_thread, id(0)), Ok(owner_died), "once more");
                    assert_eq!(rlock::depth(&in_thread.raw, id(0)), 2);
                    rlock::release(&in_thread.raw, id(0)).expect("held twice");
                    in_thread.touch();
                    rlock::release(&in_thread.raw, id(0)).expect("held once");
                }
            } else {
                // The dead process had a thread of the same number as this one.
                let _ = take(&in_thread, in_thread.world.mortals[0].0);
                in_thread.world.dies(0);
                let others = rlock::release(&in_thread.raw, id(0));
                assert!(matches!(others, Err(Error::NotOwner(_))), "not ours");
                assert_eq!(rlock::depth(&in_thread.raw, id(0)), 0);
            }
        });
        assert!(take(&shared, id(3)).is_ok(), "its owner is dead, or nobody");
    });
}
