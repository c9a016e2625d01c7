//! Models of the once flag.

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
    /// The result of the initialiser: 1.
    result: UnsafeCell<u64>,
    recoveries: AtomicUsize,
}

// SAFETY: the process that has begun writes the result, and others read it after `begin` reports done; loom checks it.
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
        // SAFETY: the caller has begun, and no other process has; loom checks it.
        self.result.with_mut(|result| unsafe { *result = value });
    }

    fn read(&self) -> u64 {
        // SAFETY: `begin` has reported to the caller that it is done; loom checks it.
        self.result.with(|result| unsafe { *result })
    }

    /// Runs the initialiser unless it is done, and reads the result.
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
                self.raw.done(me).expect("an initialiser of this process");
                Ok(true)
            }
        }
    }

    /// Begins, leaves the work half done and dies.
    fn begin_and_die(&self, number: usize) {
        if let Ok(Begun::Mine { .. }) =
            self.begin(self.world.killable[number].0, WaitOptions::NONBLOCKING)
        {
            self.write(7);
        }
        self.world.kill(number);
    }
}

#[test]
fn one_of_three_runs_the_initialiser_and_all_see_the_result() {
    model(2, || {
        let (shared, did) = (Shared::new(), Arc::new(AtomicUsize::new(0)));
        let (in_thread, count) = (shared.clone(), did.clone());
        each(3, move |me| {
            let mine = in_thread
                .call(id(me), WaitOptions::BLOCKING)
                .expect("a wait without a timeout");
            count.fetch_add(mine.into(), Ordering::Relaxed);
        });
        assert_eq!(did.load(Ordering::Relaxed), 1);
        assert!(shared.raw.is_done());
        assert_eq!(shared.raw.stat().attempts, 1);
    });
}

#[test]
fn the_fast_check_of_a_done_flag_sees_the_result() {
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
fn an_aborted_initialiser_is_run_by_the_next_process() {
    model(3, || {
        let shared = Shared::new();
        let in_thread = shared.clone();
        each(3, move |me| match me {
            // It aborts halfway, if it is the first.
            0 => {
                if let Begun::Mine { owner_died } = in_thread
                    .begin(id(0), WaitOptions::BLOCKING)
                    .expect("a wait without a timeout")
                {
                    assert!(!owner_died);
                    in_thread.write(5);
                    in_thread
                        .raw
                        .abort(id(0))
                        .expect("an initialiser of this process");
                }
            }
            _ => drop(
                in_thread
                    .call(id(me), WaitOptions::BLOCKING)
                    .expect("a wait without a timeout"),
            ),
        });
        assert!(shared.raw.is_done());
        assert_eq!(shared.recoveries.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn one_of_two_processes_takes_over_from_a_dead_initialiser_and_sees_the_death() {
    model(3, || {
        let shared = Shared::new();
        let in_thread = shared.clone();
        each(3, move |me| {
            if me == 0 {
                return in_thread.begin_and_die(0);
            }
            // A death wakes no waiter, and the model has no deadlines: so these do not wait.
            for _ in 0..2 {
                match in_thread.call(id(me), WaitOptions::NONBLOCKING) {
                    Ok(_) => break,
                    Err(error) => assert!(matches!(error, Error::WouldBlock(_))),
                }
                thread::yield_now();
            }
        });
        let last = shared.call(id(5), WaitOptions::NONBLOCKING);
        assert!(last.is_ok(), "the initialiser is dead, or done");
        assert!(shared.recoveries.load(Ordering::Relaxed) <= 1);
        assert_eq!(shared.read(), 1);
    });
}

#[test]
fn a_process_that_takes_over_wakes_the_waiters_of_the_dead_one() {
    model(4, || {
        let shared = Shared::new();
        let dying = shared.world.killable[0].0;
        let begun = shared.begin(dying, WaitOptions::NONBLOCKING);
        assert_eq!(begun, Ok(Begun::Mine { owner_died: false }));
        let in_thread = shared.clone();
        each(2, move |me| match me {
            0 => {
                in_thread.world.kill(0);
                match in_thread.call(id(me), WaitOptions::NONBLOCKING) {
                    Ok(_) => {}
                    // The other process has not slept, and began first.
                    Err(error) => assert!(matches!(error, Error::WouldBlock(_))),
                }
            }
            _ => drop(
                in_thread
                    .call(id(me), WaitOptions::BLOCKING)
                    .expect("a wait without a timeout"),
            ),
        });
        assert_eq!(shared.recoveries.load(Ordering::Relaxed), 1);
        assert_eq!(shared.read(), 1);
    });
}

#[test]
fn a_death_is_reported_until_the_flag_is_done() {
    model(3, || {
        let shared = Shared::new();
        shared.begin_and_die(0);
        let in_thread = shared.clone();
        each(2, move |me| match me {
            0 => in_thread.begin_and_die(1),
            _ => {
                // It may take over from the first or the second process, or find the flag undone with its mark set.
                if let Ok(Begun::Mine { owner_died }) =
                    in_thread.begin(id(me), WaitOptions::NONBLOCKING)
                {
                    assert!(owner_died, "the flag is not done since the death");
                    in_thread
                        .raw
                        .abort(id(me))
                        .expect("an initialiser of this process");
                }
            }
        });
        let begun = shared.begin(id(5), WaitOptions::NONBLOCKING);
        assert_eq!(
            begun,
            Ok(Begun::Mine { owner_died: true }),
            "the death is still reported"
        );
        shared.write(1);
        shared
            .raw
            .done(id(5))
            .expect("an initialiser of this process");
        assert_eq!(
            shared.begin(id(6), WaitOptions::NONBLOCKING),
            Ok(Begun::Done)
        );
        assert!(!shared.raw.stat().owner_died);
    });
}

#[test]
fn a_waiter_that_times_out_takes_no_wake_of_the_others() {
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
