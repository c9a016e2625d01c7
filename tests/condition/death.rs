//! Waiters, notifiers and owners of the lock that are killed: the others continue.

use super::common::process::{alone, shared_words};
use super::*;
use nix::sys::signal::{Signal, kill};
use std::sync::atomic::Ordering::Relaxed;

#[test]
fn a_notification_skips_dead_waiters() {
    alone(|| {
        let (condition, lock) = (unnamed(), a_lock());
        let dead = [1, 2, 3].map(|count| {
            let child = waiter(&condition, &lock, NOTIFIED);
            await_waiters(&condition, count);
            child
        });
        let living = waiter(&condition, &lock, NOTIFIED);
        await_waiters(&condition, 4);
        dead.into_iter().for_each(Child::kill);
        // Dead waiters still count as waiting.
        assert_eq!(condition.stat().waiting, 4);
        locked(&lock, || condition.notify_with(&lock, 1).unwrap());
        living.succeed();
        let stat = condition.stat();
        assert_eq!((stat.waiting, stat.notified, stat.recoveries), (0, 1, 0));
    });
}

#[test]
fn a_killed_waiter_does_not_hold_up_notify_all() {
    alone(|| {
        let (condition, lock) = (unnamed(), a_lock());
        for round in 1..=3 {
            let (first, second) = (
                waiter(&condition, &lock, NOTIFIED),
                waiter(&condition, &lock, NOTIFIED),
            );
            await_waiters(&condition, 2);
            first.kill();
            locked(&lock, || condition.notify_with(&lock, u64::MAX).unwrap());
            second.succeed();
            assert_eq!(condition.stat().notified, 2 * round);
        }
    });
}

#[test]
fn a_waiter_killed_between_notification_and_lock_leaves_its_notification_to_another() {
    alone(|| {
        let (condition, lock) = (unnamed(), a_lock());
        let victim = waiter(&condition, &lock, NOTIFIED);
        await_waiters(&condition, 1);
        let (second, third) = (
            waiter(&condition, &lock, NOTIFIED),
            waiter(&condition, &lock, NOTIFIED),
        );
        await_waiters(&condition, 3);
        lock.acquire_with(WaitOptions::BLOCKING).unwrap();
        condition.notify_with(&lock, 1).unwrap();
        assert_eq!(condition.stat().waiting, 2);
        // The victim cannot acquire the lock, and is killed while it waits for it.
        victim.kill();
        lock.release().unwrap();
        wait_until(|| condition.stat().recoveries == 1);
        wait_until(|| condition.stat().waiting == 1);
        locked(&lock, || condition.notify_with(&lock, 1).unwrap());
        second.succeed();
        third.succeed();
        assert_eq!(condition.stat().waiting, 0);
    });
}

#[test]
fn a_later_waiter_does_not_get_the_notification_of_a_dead_one() {
    alone(|| {
        let (condition, lock) = (unnamed(), a_lock());
        let victim = waiter(&condition, &lock, NOTIFIED);
        await_waiters(&condition, 1);
        lock.acquire_with(WaitOptions::BLOCKING).unwrap();
        condition.notify_with(&lock, 1).unwrap();
        victim.kill();
        let waited = condition.wait_with(&lock, within(50_000_000)).unwrap();
        assert_eq!(waited.end, End::Timeout);
        lock.release().unwrap();
        assert_eq!(condition.stat().recoveries, 0);
    });
}

#[test]
fn a_waiter_reports_that_an_owner_of_the_lock_died() {
    alone(|| {
        let (condition, lock) = (unnamed(), a_lock());
        let expected = Waited {
            end: End::Notified,
            owner_died: true,
        };
        let child = waiter(&condition, &lock, expected);
        await_waiters(&condition, 1);
        let word = &shared_words(1)[0];
        let owner = fork(|| {
            lock.acquire_with(WaitOptions::BLOCKING).unwrap();
            condition.notify_with(&lock, 1).unwrap();
            word.store(1, Relaxed);
            loop {
                nix::unistd::pause();
            }
        });
        wait_until(|| word.load(Relaxed) == 1);
        owner.kill();
        child.succeed();
        // A wait that times out reports it as well.
        assert_eq!(lock.acquire_with(WaitOptions::NONBLOCKING), Ok(true));
        let waited = condition.wait_with(&lock, within(1)).unwrap();
        assert_eq!(waited.end, End::Timeout);
        assert!(waited.owner_died);
        lock.mark_consistent().unwrap();
        lock.release().unwrap();
    });
}

#[test]
fn cells_of_dead_waiters_are_used_again() {
    alone(|| {
        let condition = Condition::unnamed(&with_cells(2)).unwrap();
        let lock = a_lock();
        for round in 1..=10 {
            let dead = [1, 2].map(|count| {
                let child = waiter(&condition, &lock, NOTIFIED);
                wait_until(|| condition.stat().waits == 3 * (round - 1) + count);
                child
            });
            if round % 2 == 0 {
                // They die with a notification that no waiter can take.
                lock.acquire_with(WaitOptions::BLOCKING).unwrap();
                condition.notify_with(&lock, u64::MAX).unwrap();
                dead.into_iter().for_each(Child::kill);
                lock.release().unwrap();
            } else {
                dead.into_iter().for_each(Child::kill);
            }
            locked(&lock, || {
                let waited = condition.wait_with(&lock, within(1)).unwrap();
                assert_eq!(waited.end, End::Timeout);
            });
        }
    });
}

#[test]
fn a_stopped_waiter_keeps_its_notification() {
    alone(|| {
        let (condition, lock) = (unnamed(), a_lock());
        let stopped = waiter(&condition, &lock, NOTIFIED);
        await_waiters(&condition, 1);
        let other = waiter(&condition, &lock, NOTIFIED);
        await_waiters(&condition, 2);
        kill(stopped.pid(), Signal::SIGSTOP).unwrap();
        locked(&lock, || condition.notify_with(&lock, 1).unwrap());
        std::thread::sleep(std::time::Duration::from_millis(50));
        // The notification belongs to the stopped waiter, however long it is stopped.
        assert_eq!(
            (condition.stat().waiting, condition.stat().recoveries),
            (1, 0)
        );
        kill(stopped.pid(), Signal::SIGCONT).unwrap();
        stopped.succeed();
        locked(&lock, || condition.notify_with(&lock, 1).unwrap());
        other.succeed();
    });
}

#[test]
fn two_notifications_wake_two_waiters_if_the_first_waiter_dies_between_them() {
    alone(|| {
        let (condition, lock) = (unnamed(), a_lock());
        let victim = waiter(&condition, &lock, NOTIFIED);
        await_waiters(&condition, 1);
        let older = waiter(&condition, &lock, NOTIFIED);
        await_waiters(&condition, 2);
        // The older waiter cannot take what the victim leaves before a younger one waits.
        kill(older.pid(), Signal::SIGSTOP).unwrap();
        locked(&lock, || {
            condition.notify_with(&lock, 1).unwrap();
            victim.kill();
        });
        let younger = waiter(&condition, &lock, NOTIFIED);
        await_waiters(&condition, 2);
        locked(&lock, || condition.notify_with(&lock, 1).unwrap());
        kill(older.pid(), Signal::SIGCONT).unwrap();
        // The older waiter had a right to both notifications, the younger one only to the second.
        older.succeed();
        younger.succeed();
    });
}

/// The second of two notified waiters dies, and the first returns. A third began between the two notifications.
#[test]
fn a_death_after_two_notifications_wakes_a_waiter_that_began_between_them() {
    alone(|| {
        let (condition, lock) = (unnamed(), a_lock());
        let first = waiter(&condition, &lock, NOTIFIED);
        await_waiters(&condition, 1);
        let second = waiter(&condition, &lock, NOTIFIED);
        await_waiters(&condition, 2);
        // A stopped process does not return from its wait.
        kill(first.pid(), Signal::SIGSTOP).unwrap();
        locked(&lock, || condition.notify_with(&lock, 1).unwrap());
        let third = waiter(&condition, &lock, NOTIFIED);
        await_waiters(&condition, 2);
        locked(&lock, || {
            condition.notify_with(&lock, 1).unwrap();
            second.kill();
        });
        third.succeed();
        kill(first.pid(), Signal::SIGCONT).unwrap();
        first.succeed();
        let stat = condition.stat();
        assert_eq!((stat.waiting, stat.notified, stat.recoveries), (0, 2, 1));
    });
}
