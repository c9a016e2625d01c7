//! Threads of one process: the data under a lock needs no atomics of its own.
//!
//! The guarded data is plain memory, so that ThreadSanitizer (`make test-sanitizers`) checks that each release
//! orders the last owner's writes before the next owner's reads.

use super::within;
use shmkit::error::Error;
use shmkit::lock::{Lock, Options};
use shmkit::raw::WaitOptions;
use shmkit::rlock::RLock;
use std::cell::UnsafeCell;

const THREADS: u64 = 4;
const ROUNDS: u64 = 2000;

/// A number that only the owner of the lock may touch.
struct Guarded(UnsafeCell<u64>);

// SAFETY: the number is reached only under the lock; the tests check that this suffices.
unsafe impl Sync for Guarded {}

impl Guarded {
    const fn new() -> Guarded {
        Guarded(UnsafeCell::new(0))
    }

    /// Adds one, slowly enough for other threads to interleave.
    fn add(&self) {
        // SAFETY: the caller holds the lock.
        let value = unsafe { *self.0.get() };
        std::hint::spin_loop();
        // SAFETY: as above.
        unsafe { *self.0.get() = value + 1 };
    }
}

/// Runs `body` in all threads, `ROUNDS` times in each, and returns the guarded number.
fn together(body: impl Fn(u64, &Guarded) + Sync) -> u64 {
    let _watchdog = super::common::Watchdog::start();
    let guarded = Guarded::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|number| {
                let (body, guarded) = (&body, &guarded);
                scope.spawn(move || (0..ROUNDS).for_each(|round| body(number + round, guarded)))
            })
            .collect();
        // The end of the scope would join them too, but the sanitizer does not see that ordering.
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    });
    guarded.0.into_inner()
}

#[test]
fn a_lock_orders_what_it_guards() {
    let lock = Lock::unnamed(&Options::default()).unwrap();
    let total = together(|_, guarded| {
        let _held = lock.acquire().unwrap();
        guarded.add();
    });
    assert_eq!(total, THREADS * ROUNDS);
    let stat = lock.stat().0;
    assert_eq!((stat.acquisitions, stat.owner), (total, None));
}

#[test]
fn acquire_excludes_under_every_timeout() {
    let lock = Lock::unnamed(&Options::default()).unwrap();
    let held = std::sync::atomic::AtomicU64::new(0);
    let total = together(|round, guarded| {
        let wait = match round % 3 {
            0 => WaitOptions::NONBLOCKING,
            1 => within(100_000),
            _ => WaitOptions::BLOCKING,
        };
        match lock.acquire_with(wait) {
            Ok(recovered) => {
                assert!(!recovered, "no owner died");
                guarded.add();
                held.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                lock.release().unwrap();
            }
            Err(Error::WouldBlock(_) | Error::Timeout(_)) => {}
            Err(other) => panic!("{other}"),
        }
    });
    assert_eq!(total, held.into_inner());
}

#[test]
fn one_thread_acquires_and_another_releases() {
    let options = Options {
        transferable: true,
        ..Options::default()
    };
    for lock in [
        Lock::unnamed(&options).unwrap(),
        Lock::unnamed(&Options::default()).unwrap(),
    ] {
        let total = together(|_, guarded| {
            lock.acquire_with(WaitOptions::BLOCKING).unwrap();
            guarded.add();
            std::thread::scope(|scope| {
                let other = scope.spawn(|| {
                    guarded.add();
                    lock.release().unwrap();
                });
                other.join().unwrap();
            });
        });
        assert_eq!(total, 2 * THREADS * ROUNDS);
    }
}

#[test]
fn a_recursive_lock_orders_what_it_guards() {
    let lock = RLock::unnamed().unwrap();
    let total = together(|_, guarded| {
        let _outer = lock.acquire().unwrap();
        guarded.add();
        {
            let _inner = lock.acquire().unwrap();
            assert_eq!(lock.depth(), 2);
            guarded.add();
        }
        guarded.add();
    });
    assert_eq!(total, 3 * THREADS * ROUNDS);
    assert_eq!((lock.depth(), lock.stat().0.owner), (0, None));
}
