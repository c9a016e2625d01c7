//! Threads of one process: many read or one writes, and readers see what the last writer wrote.

use super::common::Watchdog;
use super::{WaitOptions, unnamed, use_once};
use shmkit::rwlock::RwLock;
use std::cell::UnsafeCell;
use std::sync::Barrier;

/// Two numbers that are equal whenever no thread writes.
struct Guarded {
    lock: RwLock,
    numbers: UnsafeCell<[u64; 2]>,
}

// SAFETY: the numbers are reached only under the lock; the tests check that this suffices.
unsafe impl Sync for Guarded {}

impl Guarded {
    fn read(&self) -> u64 {
        // SAFETY: the caller holds the lock, or the other threads have ended: no other thread writes.
        let numbers = unsafe { *self.numbers.get() };
        assert_eq!(numbers[0], numbers[1]);
        numbers[0]
    }

    fn write(&self) {
        // SAFETY: the caller holds the lock for writing, so no other thread reads or writes.
        let numbers = unsafe { &mut *self.numbers.get() };
        assert_eq!(numbers[0], numbers[1]);
        numbers[0] += 1;
        std::hint::spin_loop();
        numbers[1] += 1;
    }
}

#[test]
fn many_threads_read_or_a_single_one_writes() {
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 3000;
    let _watchdog = Watchdog::start();
    let guarded = &Guarded {
        lock: unnamed(),
        numbers: UnsafeCell::new([0; 2]),
    };
    let barrier = &Barrier::new(THREADS as usize);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                barrier.wait();
                let mut last = 0;
                for round in 0..ROUNDS {
                    if (round + thread) % 3 == 0 {
                        let writer = guarded.lock.write().unwrap();
                        guarded.write();
                        let now = guarded.read();
                        if round % 2 == 0 {
                            let reader = writer.downgrade().ok().unwrap();
                            assert_eq!(guarded.read(), now, "no other thread may write in between");
                            drop(reader);
                        }
                    } else {
                        let reader = guarded.lock.read().unwrap();
                        let now = guarded.read();
                        assert!(now >= last);
                        last = now;
                        drop(reader);
                    }
                }
            });
        }
    });
    assert_eq!(guarded.read(), THREADS * ROUNDS / 3);
    assert_eq!(guarded.lock.stat().0.writes, THREADS * ROUNDS / 3);
    use_once(&guarded.lock);
}

#[test]
fn concurrent_upgrades_succeed_or_fail_with_deadlock() {
    const THREADS: u64 = 3;
    const ROUNDS: u64 = 1000;
    let _watchdog = Watchdog::start();
    let guarded = &Guarded {
        lock: unnamed(),
        numbers: UnsafeCell::new([0; 2]),
    };
    let barrier = &Barrier::new(THREADS as usize);
    let written: u64 = std::thread::scope(|scope| {
        let threads: [_; THREADS as usize] = std::array::from_fn(|_| {
            scope.spawn(move || {
                barrier.wait();
                let mut written = 0;
                for _ in 0..ROUNDS {
                    let reader = guarded.lock.read().unwrap();
                    let before = guarded.read();
                    match reader.upgrade() {
                        Ok(_writer) => {
                            assert_eq!(
                                guarded.read(),
                                before,
                                "no other thread may write in between"
                            );
                            guarded.write();
                            written += 1;
                        }
                        Err((_reader, error)) => {
                            refused!(Deadlock, Err::<(), _>(error));
                            assert_eq!(guarded.read(), before, "the thread must still read");
                        }
                    }
                }
                written
            })
        });
        threads.map(|thread| thread.join().unwrap()).iter().sum()
    });
    assert!(written > 0);
    assert_eq!(guarded.read(), written);
    use_once(&guarded.lock);
}

#[test]
fn any_thread_of_the_holder_may_release_it() {
    let _watchdog = Watchdog::start();
    let lock = &unnamed();
    lock.write_with(WaitOptions::BLOCKING).unwrap();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            lock.downgrade().unwrap();
            lock.upgrade_with(WaitOptions::NONBLOCKING).unwrap();
            lock.release_write().unwrap();
            lock.read_with(WaitOptions::BLOCKING).unwrap();
        });
        other.join().unwrap();
    });
    lock.release_read().unwrap();
    use_once(lock);
}

#[test]
fn of_two_concurrent_releases_exactly_one_succeeds() {
    const ROUNDS: usize = 2000;
    let _watchdog = Watchdog::start();
    let (lock, barrier) = (&unnamed(), &Barrier::new(2));
    for _ in 0..ROUNDS / 100 {
        std::thread::scope(|scope| {
            let threads: [_; 2] = std::array::from_fn(|thread| {
                scope.spawn(move || {
                    let mut released = 0;
                    for _ in 0..100 {
                        if thread == 0 {
                            lock.write_with(WaitOptions::BLOCKING).unwrap();
                        }
                        barrier.wait();
                        released += u32::from(lock.release_write().is_ok());
                        barrier.wait();
                    }
                    released
                })
            });
            let released: u32 = threads.map(|thread| thread.join().unwrap()).iter().sum();
            assert_eq!(released, 100);
        });
    }
    use_once(lock);
}
