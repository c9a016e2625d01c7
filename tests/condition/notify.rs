//! Which waiters return: as many as were notified, those that have waited longest, and no others.

use super::common::Watchdog;
use super::common::process::{alone, fork, shared_words, wait_until};
use super::*;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Runs `count` threads that begin to wait one after the other, and lets `body` notify them. `done[n]` is the place of
/// the n-th waiter among those that returned.
fn with_waiters(count: usize, body: impl FnOnce(&Condition, &RLock, &[AtomicU64])) {
    let _watchdog = Watchdog::start();
    let (condition, lock) = (&unnamed(), &RLock::unnamed().unwrap());
    let (done, returned) = (
        Vec::from_iter((0..count).map(|_| AtomicU64::new(0))),
        &AtomicU64::new(0),
    );
    std::thread::scope(|scope| {
        for (place, done) in done.iter().enumerate() {
            await_waiters(condition, place as u64);
            scope.spawn(move || {
                lock.acquire_with(WaitOptions::BLOCKING).unwrap();
                assert_eq!(
                    condition.wait_with(lock, WaitOptions::BLOCKING),
                    Ok(NOTIFIED)
                );
                done.store(returned.fetch_add(1, Relaxed) + 1, Relaxed);
                lock.release().unwrap();
            });
        }
        await_waiters(condition, count as u64);
        body(condition, lock, &done);
    });
    assert!(done.iter().all(|place| place.load(Relaxed) != 0));
    assert_eq!(condition.stat().waiting, 0);
}

fn notify(condition: &Condition, lock: &RLock, count: u64) {
    let guard = lock.acquire().unwrap();
    condition.notify_with(lock, count).unwrap();
    drop(guard);
}

fn returned(done: &[AtomicU64]) -> usize {
    done.iter().filter(|place| place.load(Relaxed) != 0).count()
}

#[test]
fn one_notification_wakes_the_thread_that_has_waited_longest() {
    with_waiters(5, |condition, lock, done| {
        for expected in 1..=5 {
            notify(condition, lock, 1);
            wait_until(|| returned(done) == expected);
            // No other waiter was woken: their cells show that they still wait.
            assert_eq!(condition.stat().waiting, 5 - expected as u64);
            assert_eq!(done[expected - 1].load(Relaxed), expected as u64);
        }
    });
}

#[test]
fn several_notifications_wake_the_threads_that_have_waited_longest() {
    with_waiters(7, |condition, lock, done| {
        notify(condition, lock, 0);
        assert_eq!(condition.stat().waiting, 7);
        notify(condition, lock, 3);
        assert_eq!(condition.stat().waiting, 4);
        wait_until(|| returned(done) == 3);
        assert!(done[..3].iter().all(|place| place.load(Relaxed) != 0));
        notify(condition, lock, 2);
        wait_until(|| returned(done) == 5);
        assert!(done[..5].iter().all(|place| place.load(Relaxed) != 0));
        notify(condition, lock, u64::MAX);
    });
}

#[test]
fn notify_all_wakes_as_many_as_there_are_cells() {
    with_waiters(128, |condition, lock, _| {
        {
            let _guard = lock.acquire().unwrap();
            refused!(
                TooManyProcesses,
                condition.wait_with(lock, WaitOptions::NONBLOCKING)
            );
            // The lock is held as before.
            assert_eq!(lock.depth(), 1);
            condition.notify_with(lock, u64::MAX).unwrap();
        }
        let stat = condition.stat();
        assert_eq!((stat.cells, stat.waits, stat.notified), (128, 128, 128));
    });
}

#[test]
fn a_notification_without_a_waiter_is_not_stored() {
    let (condition, lock) = (unnamed(), a_lock());
    let _guard = lock.acquire().unwrap();
    condition.notify_with(&lock, 3).unwrap();
    condition.notify_with(&lock, u64::MAX).unwrap();
    let waited = condition.wait_with(&lock, within(1_000_000)).unwrap();
    assert_eq!(waited.end, End::Timeout);
    let stat = condition.stat();
    assert_eq!((stat.notified, stat.timeouts, stat.waiting), (0, 1, 0));
}

#[test]
fn a_recursive_lock_is_released_completely_and_acquired_as_often() {
    let _watchdog = Watchdog::start();
    let (condition, lock) = (&unnamed(), &RLock::unnamed().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..3 {
                lock.acquire_with(WaitOptions::BLOCKING).unwrap();
            }
            assert_eq!(
                condition.wait_with(lock, WaitOptions::BLOCKING),
                Ok(NOTIFIED)
            );
            assert_eq!(lock.depth(), 3);
            for _ in 0..3 {
                lock.release().unwrap();
            }
            refused!(NotOwner, lock.release());
        });
        await_waiters(condition, 1);
        notify(condition, lock, 1);
    });
    assert_eq!(lock.stat().0.owner, None);
}

/// Each process notifies the next: a lost notification would stop all of them.
#[test]
fn no_notification_is_lost_between_processes() {
    const PROCESSES: u64 = 4;
    const ROUNDS: u64 = 500;
    alone(|| {
        let (condition, lock) = (unnamed(), a_lock());
        let turn = &shared_words(1)[0];
        let children: Vec<_> = (0..PROCESSES)
            .map(|me| {
                fork(|| {
                    for round in 0..ROUNDS {
                        lock.acquire_with(WaitOptions::BLOCKING).unwrap();
                        while turn.load(Relaxed) != round * PROCESSES + me {
                            assert_eq!(
                                condition.wait_with(&lock, WaitOptions::BLOCKING),
                                Ok(NOTIFIED)
                            );
                        }
                        turn.fetch_add(1, Relaxed);
                        condition.notify_with(&lock, u64::MAX).unwrap();
                        lock.release().unwrap();
                    }
                })
            })
            .collect();
        children.into_iter().for_each(Child::succeed);
        assert_eq!(turn.load(Relaxed), PROCESSES * ROUNDS);
        assert_eq!(condition.stat().waiting, 0);
    });
}

/// One notification for each item that is produced, and one item for each waiter that returns.
#[test]
fn as_many_return_as_were_notified() {
    const CONSUMERS: usize = 3;
    const ITEMS: u64 = 2000;
    alone(|| {
        let (condition, lock) = (unnamed(), a_lock());
        let words = shared_words(2);
        let (made, taken) = (&words[0], &words[1]);
        let children: Vec<_> = (0..CONSUMERS)
            .map(|_| {
                fork(|| {
                    lock.acquire_with(WaitOptions::BLOCKING).unwrap();
                    loop {
                        while made.load(Relaxed) == 0 {
                            if taken.load(Relaxed) == ITEMS {
                                lock.release().unwrap();
                                return;
                            }
                            condition.wait_with(&lock, WaitOptions::BLOCKING).unwrap();
                        }
                        made.fetch_sub(1, Relaxed);
                        if taken.fetch_add(1, Relaxed) + 1 == ITEMS {
                            condition.notify_with(&lock, u64::MAX).unwrap();
                        }
                    }
                })
            })
            .collect();
        for _ in 0..ITEMS {
            locked(&lock, || {
                made.fetch_add(1, Relaxed);
                condition.notify_with(&lock, 1).unwrap();
            });
        }
        children.into_iter().for_each(Child::succeed);
        assert_eq!((made.load(Relaxed), taken.load(Relaxed)), (0, ITEMS));
    });
}
