//! Models of the once.

use super::{SHORT, World, each, id, model};
use crate::error::{Error, Result};
use crate::participant::Id;
use crate::raw::WaitOptions;
use crate::raw::once::{Begun, RawOnce};
use crate::raw::wait::SpinState;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

struct Shared {
    raw: RawOnce,
    world: World,
    /// What is to be done: 1.
    result: UnsafeCell<u64>,
    recoveries: AtomicUsize,
}

// SAFETY: the result is written by who has begun, and read by who was told that it is done: loom checks it.
unsafe impl Sync for Shared {}

impl Shared {
    fn new() -> Arc<Shared> {
        Arc::new(Shared {
            raw: RawOnce::default(),
            world: World::new(),
            result: UnsafeCell::new(0),
            recoveries: AtomicUsize::new(0),
        })
    }

    fn begin(&self, me: Id, options: WaitOptions) -> Result<Begun> {
        self.raw
            .begin(me, options, &SpinState::default(), &self.world)
    }

    fn write(&self, value: u64) {
        // SAFETY: the caller has begun, and nobody else has: loom checks it.
        self.result.with_mut(|result| unsafe { *result = value });
    }

    fn read(&self) -> u64 {
        // SAFETY: the caller was told that it is done: loom checks it.
        self.result.with(|result| unsafe { *result })
    }

    /// Does it, if it is to be done, and sees it done.
    fn call(&self, me: Id, options: WaitOptions) -> Result<bool> {
        match self.begin(me, options)? {
            Begun::Done => {
                assert_eq!(self.read(), 1);
                Ok(false)
            }
            Begun::Mine { owner_died } => {
                self.recoveries
                    .fetch_add(owner_died.into(), Ordering::Relaxed);
                self.write(1);
                self.raw.done(me).expect("we are doing it");
                Ok(true)
            }
        }
    }

    /// Begins, leaves it half done and dies.
    fn begin_and_die(&self, number: usize) {
        if let Ok(Begun::Mine { .. }) =
            self.begin(self.world.mortals[number].0, WaitOptions::NONBLOCKING)
        {
            self.write(7);
        }
        self.world.dies(number);
    }
}

#[test]
fn of_three_one_does_it_and_all_see_it() {
    model(2, || {
        let (shared, did) = (Shared::new(), Arc::new(AtomicUsize::new(0)));
        let (in_thread, count) = (shared.clone(), did.clone());
        each(3, move |me| {
            let mine = in_thread
                .call(id(me), WaitOptions::BLOCKING)
                .expect("no end");
            count.fetch_add(mine.into(), Ordering::Relaxed);
        });
        assert_eq!(did.load(Ordering::Relaxed), 1);
        assert!(shared.raw.is_done());
        assert_eq!(shared.raw.stat().attempts, 1);
    });
}

#[test]
fn who_finds_it_done_at_a_glance_sees_it() {
    model(4, || {
        let shared = Shared::new();
        let in_thread = shared.clone();
        let worker = thread::spawn(move || {
            assert_eq!(in_thread.call(id(1), WaitOptions::BLOCKING), Ok(true));
        });
        if shared.raw.is_done() {
            assert_eq!(shared.read(), 1);
        }
        worker.join().expect("no thread panics");
    });
}

#[test]
fn what_is_given_back_undone_is_done_by_the_next_one() {
    model(3, || {
        let shared = Shared::new();
        let in_thread = shared.clone();
        each(3, move |me| match me {
            // It gives up halfway, if it comes first.
            0 => {
                if let Begun::Mine { owner_died } = in_thread
                    .begin(id(0), WaitOptions::BLOCKING)
                    .expect("no end")
                {
                    assert!(!owner_died);
                    in_thread.write(5);
                    in_thread.raw.abort(id(0)).expect("we are doing it");
                }
            }
            _ => drop(
                in_thread
                    .call(id(me), WaitOptions::BLOCKING)
                    .expect("no end"),
            ),
        });
        assert!(shared.raw.is_done());
        assert_eq!(shared.recoveries.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn of_two_who_find_the_dead_one_takes_over_and_is_told() {
    model(3, || {
        let shared = Shared::new();
        let in_thread = shared.clone();
        each(3, move |me| {
            if me == 0 {
                return in_thread.begin_and_die(0);
            }
            // Nobody is woken by a death, and the model has no deadlines: so these only try.
            for _ in 0..2 {
                match in_thread.call(id(me), WaitOptions::NONBLOCKING) {
                    Ok(_) => break,
                    Err(error) => assert!(matches!(error, Error::WouldBlock(_))),
                }
                thread::yield_now();
            }
        });
        let last = shared.call(id(5), WaitOptions::NONBLOCKING);
        assert!(last.is_ok(), "who was doing it is dead, or it is done");
        assert!(shared.recoveries.load(Ordering::Relaxed) <= 1);
        assert_eq!(shared.read(), 1);
    });
}

#[test]
fn who_takes_over_wakes_those_that_slept_for_the_dead() {
    model(4, || {
        let shared = Shared::new();
        let mortal = shared.world.mortals[0].0;
        let begun = shared.begin(mortal, WaitOptions::NONBLOCKING);
        assert_eq!(begun, Ok(Begun::Mine { owner_died: false }));
        let in_thread = shared.clone();
        each(2, move |me| match me {
            0 => {
                in_thread.world.dies(0);
                match in_thread.call(id(me), WaitOptions::NONBLOCKING) {
                    Ok(_) => {}
                    // The other one has not slept, and was faster.
                    Err(error) => assert!(matches!(error, Error::WouldBlock(_))),
                }
            }
            _ => drop(
                in_thread
                    .call(id(me), WaitOptions::BLOCKING)
                    .expect("no end"),
            ),
        });
        assert_eq!(shared.recoveries.load(Ordering::Relaxed), 1);
        assert_eq!(shared.read(), 1);
    });
}

#[test]
fn a_death_is_told_until_it_is_done() {
    model(3, || {
        let shared = Shared::new();
        shared.begin_and_die(0);
        let in_thread = shared.clone();
        each(2, move |me| match me {
            0 => in_thread.begin_and_die(1),
            _ => {
                // Taken over from the first or from the second, or from nobody yet to be judged.
                if let Ok(Begun::Mine { owner_died }) =
                    in_thread.begin(id(me), WaitOptions::NONBLOCKING)
                {
                    assert!(owner_died, "it is not done since");
                    in_thread.raw.abort(id(me)).expect("we are doing it");
                }
            }
        });
        let begun = shared.begin(id(5), WaitOptions::NONBLOCKING);
        assert_eq!(begun, Ok(Begun::Mine { owner_died: true }), "it stays told");
        shared.write(1);
        shared.raw.done(id(5)).expect("we are doing it");
        assert_eq!(
            shared.begin(id(6), WaitOptions::NONBLOCKING),
            Ok(Begun::Done)
        );
        assert!(!shared.raw.stat().owner_died);
    });
}

#[test]
fn who_gives_up_takes_nothing_from_the_others() {
    model(2, || {
        let shared = Shared::new();
        let in_thread = shared.clone();
        each(3, move |me| {
            let options = match me {
                2 => SHORT,
                _ => WaitOptions::BLOCKING,
            };
            match in_thread.call(id(me), options) {
                Ok(_) => {}
                Err(error) => assert!(me == 2 && matches!(error, Error::Timeout(_))),
            }
        });
        assert!(shared.raw.is_done());
    });
}
