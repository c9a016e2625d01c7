//! With undo: the permits of each process are recorded, and return when the process ends.

use super::common::process::{alone, fork, shared_words, wait_until};
use super::common::{Name, Watchdog};
use super::{all_are_there, await_sleeper, holder, stay, undo, with_undo, within};
use shmkit::raw::WaitOptions;
use shmkit::semaphore::{Create, Options, Semaphore};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

#[test]
fn permits_of_this_process_are_counted() {
    let three = undo(3);
    assert_eq!((three.held(), three.value()), (Ok(0), Ok(3)));
    refused!(NotOwner, three.release(1));
    three.acquire_with(2, WaitOptions::NONBLOCKING).unwrap();
    assert_eq!((three.held(), three.value()), (Ok(2), Ok(1)));
    refused!(WouldBlock, three.acquire_with(2, WaitOptions::NONBLOCKING));
    refused!(Timeout, three.acquire_with(2, within(1)));
    // Any thread may release what the process holds.
    std::thread::scope(|scope| {
        scope.spawn(|| three.release(1).unwrap());
    });
    refused!(NotOwner, three.release(2));
    three.release(1).unwrap();
    refused!(NotOwner, three.release(1));
    assert_eq!((three.held(), three.value()), (Ok(0), Ok(3)));
    let stat = three.stat().unwrap();
    assert_eq!((stat.maximum, stat.holders, stat.recoveries), (3, 0, 0));
    assert!(three.has_undo());
    assert_eq!(three.processes(), 128);
    refused!(Invalid, three.acquire_with(0, WaitOptions::NONBLOCKING));
    refused!(Invalid, three.acquire_with(4, WaitOptions::BLOCKING));
    refused!(Invalid, three.release(0));
    {
        let _two = three.acquire(2).unwrap();
        assert_eq!(three.held(), Ok(2));
    }
    all_are_there(&three, 3);
}

#[test]
fn another_process_cannot_release_permits_of_this_one() {
    alone(|| {
        let two = undo(2);
        two.acquire_with(2, WaitOptions::NONBLOCKING).unwrap();
        fork(|| {
            // A child holds nothing that its parent holds.
            assert_eq!(two.held(), Ok(0));
            refused!(NotOwner, two.release(1));
            refused!(WouldBlock, two.acquire_with(1, WaitOptions::NONBLOCKING));
        })
        .succeed();
        assert_eq!((two.held(), two.value()), (Ok(2), Ok(0)));
        two.release(2).unwrap();
    });
}

#[test]
fn permits_of_a_dead_process_return() {
    alone(|| {
        let three = undo(3);
        let killed = holder(&three, 2);
        let living = holder(&three, 1);
        assert_eq!(three.stat().unwrap().holders, 2);
        killed.kill();
        // Reading the value checks for no death.
        assert_eq!(three.value(), Ok(0));
        assert_eq!(three.acquire_with(2, WaitOptions::NONBLOCKING), Ok(()));
        refused!(WouldBlock, three.acquire_with(1, WaitOptions::NONBLOCKING));
        living.kill();
        assert_eq!(three.acquire_with(1, WaitOptions::BLOCKING), Ok(()));
        assert_eq!(three.stat().unwrap().recoveries, 2);
        three.release(3).unwrap();
        // A process that exits without a release leaves as much as a killed one.
        fork(|| three.acquire_with(3, WaitOptions::NONBLOCKING).unwrap()).succeed();
        all_are_there(&three, 3);
        assert_eq!(three.stat().unwrap().recoveries, 3);
    });
}

#[test]
fn a_waiter_gets_the_permits_of_a_dead_process_and_no_more() {
    alone(|| {
        let two = undo(2);
        let killed = holder(&two, 2);
        let words = shared_words(1);
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                fork(|| {
                    assert_eq!(two.acquire_with(1, WaitOptions::BLOCKING), Ok(()));
                    words[0].fetch_add(1, Relaxed);
                    wait_until(|| words[0].load(Relaxed) >= 2);
                    two.release(1).unwrap();
                })
            })
            .collect();
        await_sleeper(&two);
        killed.kill();
        for waiter in waiters {
            waiter.succeed();
        }
        all_are_there(&two, 2);
    });
}

#[test]
fn a_dead_holder_is_found_before_any_timeout_expires() {
    alone(|| {
        for wait in [WaitOptions::NONBLOCKING, within(0), within(1)] {
            let one = undo(1);
            holder(&one, 1).kill();
            assert_eq!(one.acquire_with(1, wait), Ok(()));
        }
    });
}

#[test]
fn closing_the_last_handle_counts_as_death() {
    alone(|| {
        let (name, words) = (Name::new(), shared_words(1));
        let reach = |step| wait_until(|| words[0].load(Relaxed) == step);
        let child = fork(|| {
            reach(1);
            let two = Semaphore::named(&name, Create::Never, &Options::default()).unwrap();
            two.acquire_with(2, WaitOptions::NONBLOCKING).unwrap();
            words[0].store(2, Relaxed);
            reach(3);
            drop(two);
            words[0].store(4, Relaxed);
            stay();
        });
        let two = Semaphore::named(&name, Create::Always, &with_undo(2)).unwrap();
        words[0].store(1, Relaxed);
        reach(2);
        refused!(WouldBlock, two.acquire_with(1, WaitOptions::NONBLOCKING));
        words[0].store(3, Relaxed);
        reach(4);
        all_are_there(&two, 2);
        child.kill();
    });
}

#[test]
fn more_processes_than_count_slots_are_refused() {
    alone(|| {
        let pool = Semaphore::unnamed(&Options {
            processes: 2,
            ..with_undo(5)
        })
        .unwrap();
        let (one, other) = (holder(&pool, 1), holder(&pool, 1));
        refused!(
            TooManyProcesses,
            pool.acquire_with(1, WaitOptions::NONBLOCKING)
        );
        refused!(
            TooManyProcesses,
            pool.acquire_with(1, WaitOptions::BLOCKING)
        );
        assert_eq!(pool.value(), Ok(3), "no permit is acquired");
        assert_eq!(pool.held(), Ok(0));
        // The count slot of a dead process can be taken, and its permits return.
        one.kill();
        assert_eq!(pool.acquire_with(2, WaitOptions::NONBLOCKING), Ok(()));
        assert_eq!((pool.held(), pool.value()), (Ok(2), Ok(2)));
        // A process that holds nothing at present leaves its count slot to another.
        pool.release(2).unwrap();
        let third = holder(&pool, 2);
        refused!(
            TooManyProcesses,
            pool.acquire_with(1, WaitOptions::NONBLOCKING)
        );
        third.kill();
        other.kill();
        all_are_there(&pool, 5);
        assert_eq!(pool.processes(), 2);
    });
}

#[test]
fn a_process_holds_at_most_as_many_permits_as_a_count_slot_counts() {
    let many = undo(70_000);
    assert_eq!(many.acquire_with(65_535, WaitOptions::NONBLOCKING), Ok(()));
    refused!(Overflow, many.acquire_with(1, WaitOptions::NONBLOCKING));
    assert_eq!((many.held(), many.value()), (Ok(65_535), Ok(4465)));
    many.release(65_535).unwrap();
    refused!(
        Overflow,
        many.acquire_with(65_536, WaitOptions::NONBLOCKING)
    );
    assert_eq!((many.held(), many.value()), (Ok(0), Ok(70_000)));
}

#[test]
fn many_threads_neither_lose_nor_add_permits() {
    const PERMITS: u64 = 3;
    let _watchdog = Watchdog::start();
    let (semaphore, inside) = (undo(PERMITS), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (semaphore, inside) = (&semaphore, &inside);
            scope.spawn(move || {
                for round in 0..1000 {
                    let count = 1 + (thread + round) % PERMITS;
                    semaphore
                        .acquire_with(count, WaitOptions::BLOCKING)
                        .unwrap();
                    let before = inside.fetch_add(count, Relaxed);
                    assert!(before + count <= PERMITS);
                    inside.fetch_sub(count, Relaxed);
                    semaphore.release(count).unwrap();
                }
            });
        }
    });
    assert_eq!((semaphore.value(), semaphore.held()), (Ok(PERMITS), Ok(0)));
}

#[test]
fn a_nonblocking_acquire_gets_an_available_permit() {
    const THREADS: u64 = 4;
    let _watchdog = Watchdog::start();
    let semaphore = undo(THREADS);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..2000 {
                    // The others change the count slots meanwhile: that is no reason to refuse.
                    assert_eq!(semaphore.acquire_with(1, WaitOptions::NONBLOCKING), Ok(()));
                    semaphore.release(1).unwrap();
                }
            });
        }
    });
    assert_eq!(semaphore.value(), Ok(THREADS));
}

#[test]
fn random_kills_lose_no_permit() {
    const PERMITS: u64 = 3;
    alone(|| {
        let semaphore = undo(PERMITS);
        for round in 0..60 {
            let words = shared_words(1);
            let users: Vec<_> = (0..3)
                .map(|number| {
                    fork(|| {
                        for count in 0u64.. {
                            let count = 1 + (number + count) % PERMITS;
                            semaphore
                                .acquire_with(count, WaitOptions::BLOCKING)
                                .unwrap();
                            words[0].fetch_add(1, Relaxed);
                            semaphore.release(count).unwrap();
                        }
                    })
                })
                .collect();
            wait_until(|| words[0].load(Relaxed) > 20 + round);
            users.into_iter().for_each(|user| user.kill());
            all_are_there(&semaphore, PERMITS);
        }
    });
}

#[test]
fn processes_that_hold_nothing_keep_no_count_slot() {
    alone(|| {
        // More processes than count slots, one after the other.
        let pool = Semaphore::unnamed(&Options {
            processes: 3,
            ..with_undo(2)
        })
        .unwrap();
        for _ in 0..10 {
            fork(|| {
                pool.acquire_with(2, WaitOptions::NONBLOCKING).unwrap();
                pool.release(2).unwrap();
            })
            .succeed();
        }
        all_are_there(&pool, 2);
        assert_eq!(pool.stat().unwrap().recoveries, 0);
        let absent = Options {
            processes: 3,
            ..Options::default()
        };
        refused!(Invalid, Semaphore::unnamed(&absent));
    });
}
