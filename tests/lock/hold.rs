//! Ownership: one process at a time; any of its threads may release; a dead owner's lock is taken over.

use super::common::Watchdog;
use super::common::process::{alone, fork, shared_words, wait_until};
use super::{Form, Segment, form};
use super::{
    at, await_sleeper, holder, managed, recover, stay, transferable, unnamed, use_once, within,
};
use shmkit::lock::{Create, Lock};
use shmkit::raw::WaitOptions;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Barrier};

#[test]
fn one_process_at_a_time_holds_a_lock() {
    let lock = unnamed();
    assert_eq!(lock.acquire_with(WaitOptions::NONBLOCKING), Ok(false));
    refused!(WouldBlock, lock.acquire_with(WaitOptions::NONBLOCKING));
    refused!(Timeout, lock.acquire_with(within(2_000_000)));
    lock.release().unwrap();
    refused!(NotOwner, lock.release());
    refused!(NotOwner, lock.mark_consistent());
    use_once(&lock);
}

#[test]
fn a_lock_that_was_never_acquired_has_no_owner() {
    // This process has claimed no slot yet, so it has no identity to compare.
    alone(|| {
        let segment = managed(4096);
        let lock = Lock::of(&segment).unwrap();
        refused!(NotOwner, lock.release());
        refused!(NotOwner, lock.mark_consistent());
        use_once(&lock);
        refused!(NotOwner, lock.release());
    });
}

#[test]
fn any_thread_of_the_owner_may_release_it() {
    let lock = &unnamed();
    lock.acquire_with(WaitOptions::BLOCKING).unwrap();
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                refused!(WouldBlock, lock.acquire_with(WaitOptions::NONBLOCKING));
                lock.mark_consistent().unwrap();
                lock.release().unwrap();
            })
            .join()
            .unwrap();
    });
    use_once(lock);
}

#[test]
fn the_end_of_a_thread_releases_nothing() {
    let lock = &unnamed();
    std::thread::scope(|scope| {
        scope.spawn(|| lock.acquire_with(WaitOptions::BLOCKING).unwrap());
    });
    refused!(WouldBlock, lock.acquire_with(WaitOptions::NONBLOCKING));
    lock.release().unwrap();
}

#[test]
fn a_child_does_not_own_its_parents_locks() {
    alone(|| {
        let lock = unnamed();
        lock.acquire_with(WaitOptions::NONBLOCKING).unwrap();
        fork(|| {
            refused!(NotOwner, lock.release());
            refused!(WouldBlock, lock.acquire_with(WaitOptions::NONBLOCKING));
            // Now the child has an identity, but not that of the owner.
            refused!(NotOwner, lock.release());
            refused!(NotOwner, lock.mark_consistent());
            refused!(Timeout, lock.acquire_with(within(1)));
        })
        .succeed();
        lock.release().unwrap();
        // And the parent does not own what the child holds.
        let child = holder(&lock);
        refused!(NotOwner, lock.release());
        refused!(NotOwner, lock.mark_consistent());
        child.kill();
        refused!(NotOwner, lock.release());
        recover(&lock);
    });
}

#[test]
fn a_transferable_lock_is_released_by_any_process_but_never_twice() {
    alone(|| {
        let segment = managed(4096);
        let lock = Lock::at(&segment, 0, Create::Always, &transferable()).unwrap();
        assert!(lock.is_transferable());
        refused!(NotOwner, lock.release());
        lock.acquire_with(WaitOptions::NONBLOCKING).unwrap();
        fork(|| {
            lock.release().unwrap();
            refused!(NotOwner, lock.release());
        })
        .succeed();
        refused!(NotOwner, lock.release());
        let child = holder(&lock);
        refused!(NotOwner, lock.mark_consistent());
        lock.release().unwrap();
        use_once(&lock);
        drop(child);
        // A release by another process wakes a waiter as the owner's release does.
        lock.acquire_with(WaitOptions::NONBLOCKING).unwrap();
        let waiter = fork(|| assert_eq!(lock.acquire_with(WaitOptions::BLOCKING), Ok(false)));
        await_sleeper(&lock);
        fork(|| lock.release().unwrap()).succeed();
        waiter.succeed();
        recover(&lock);
        // Even a dead owner's lock may be released; the death is then not reported.
        let child = holder(&lock);
        child.kill();
        lock.release().unwrap();
        use_once(&lock);
    });
}

#[test]
fn guards_release_what_they_hold() {
    alone(|| {
        let lock = unnamed();
        {
            let guard = lock.acquire().unwrap();
            assert!(!guard.owner_died());
            refused!(WouldBlock, lock.acquire_with(WaitOptions::NONBLOCKING));
        }
        use_once(&lock);
        holder(&lock).kill();
        {
            let guard = lock.acquire().unwrap();
            assert!(guard.owner_died());
        }
        {
            let guard = lock.acquire().unwrap();
            assert!(guard.owner_died(), "the lock is not yet marked consistent");
            guard.mark_consistent().unwrap();
            assert!(guard.owner_died(), "the guard keeps what acquire reported");
        }
        assert!(!lock.acquire().unwrap().owner_died());
        let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _guard = lock.acquire().unwrap();
            panic!("inside");
        }));
        assert!(unwound.is_err());
        use_once(&lock);
        // Released and acquired by another thread or process meanwhile: dropping the guard must not release the lock.
        let guard = lock.acquire().unwrap();
        lock.release().unwrap();
        let child = holder(&lock);
        drop(guard);
        refused!(WouldBlock, lock.acquire_with(WaitOptions::NONBLOCKING));
        child.kill();
        recover(&lock);
    });
}

#[test]
fn a_dead_owners_lock_is_taken_over() {
    alone(|| {
        let segment = managed(4096);
        let lock = at(&segment, 64);
        for round in 0..20 {
            let child = holder(&lock);
            let (stat, owner) = lock.stat();
            assert!(stat.owner.is_some());
            assert_eq!(owner.unwrap().pid, child.pid().as_raw() as u32);
            refused!(WouldBlock, lock.acquire_with(WaitOptions::NONBLOCKING));
            child.kill();
            assert_eq!(
                lock.acquire_with(WaitOptions::BLOCKING),
                Ok(true),
                "round {round}"
            );
            assert_eq!(lock.stat().0.recoveries, round + 1);
            lock.release().unwrap();
            assert_eq!(
                lock.acquire_with(WaitOptions::NONBLOCKING),
                Ok(true),
                "the lock stays marked"
            );
            lock.mark_consistent().unwrap();
            lock.release().unwrap();
            use_once(&lock);
        }
    });
}

#[test]
fn after_the_owners_death_every_waiter_acquires_in_turn() {
    const WAITERS: usize = 6;
    alone(|| {
        let lock = unnamed();
        let words = shared_words(2);
        let owner = holder(&lock);
        let waiters: Vec<_> = (0..WAITERS)
            .map(|_| {
                fork(|| {
                    words[0].fetch_add(1, Relaxed);
                    assert_eq!(lock.acquire_with(WaitOptions::BLOCKING), Ok(true));
                    words[1].fetch_add(1, Relaxed);
                    // Every second waiter dies holding the lock.
                    if words[1].load(Relaxed).is_multiple_of(2) {
                        lock.release().unwrap();
                    }
                })
            })
            .collect();
        wait_until(|| words[0].load(Relaxed) == WAITERS as u64);
        await_sleeper(&lock);
        owner.kill();
        for waiter in waiters {
            waiter.succeed();
        }
        assert_eq!(words[1].load(Relaxed), WAITERS as u64);
        assert_eq!(lock.stat().0.recoveries, 1 + WAITERS as u64 / 2);
        recover(&lock);
    });
}

#[test]
fn the_death_of_the_process_that_took_over_marks_the_lock_again() {
    alone(|| {
        let lock = unnamed();
        holder(&lock).kill();
        let words = shared_words(1);
        let recoverer = fork(|| {
            assert_eq!(lock.acquire_with(WaitOptions::BLOCKING), Ok(true));
            lock.mark_consistent().unwrap();
            words[0].store(1, Relaxed);
            stay();
        });
        wait_until(|| words[0].load(Relaxed) == 1);
        assert!(!lock.stat().0.owner_died);
        recoverer.kill();
        recover(&lock);
        assert_eq!(lock.stat().0.recoveries, 2);
    });
}

#[test]
fn closing_a_handle_does_not_release_but_closing_the_last_does() {
    alone(|| {
        let segment = managed(4096);
        let held = at(&segment, 0);
        let other = at(&segment, 64);
        held.acquire_with(WaitOptions::NONBLOCKING).unwrap();
        drop(held);
        // Another handle of the segment is open, so this process still owns the lock.
        let held = at(&segment, 0);
        refused!(WouldBlock, held.acquire_with(WaitOptions::NONBLOCKING));
        held.release().unwrap();
        let (words, fd) = (shared_words(1), segment.fd());
        let mut inherited = Some((segment, held, other));
        let child = fork(|| {
            let own = Segment::open_fd(fd, 0, &form(Form::Managed)).unwrap();
            drop(inherited.take());
            let own = Arc::new(own);
            let lock = at(&own, 0);
            lock.acquire_with(WaitOptions::NONBLOCKING).unwrap();
            drop((lock, own));
            words[0].store(1, Relaxed);
            stay();
        });
        wait_until(|| words[0].load(Relaxed) == 1);
        let (_segment, held, _other) = inherited.unwrap();
        recover(&held);
        drop(child);
    });
}

#[test]
fn threads_exclude_each_other() {
    const THREADS: usize = 4;
    const ROUNDS: u64 = 20_000;
    let _watchdog = Watchdog::start();
    let (lock, barrier) = (&unnamed(), &Barrier::new(THREADS));
    let number = &std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                barrier.wait();
                for _ in 0..ROUNDS {
                    let _guard = lock.acquire().unwrap();
                    number.store(number.load(Relaxed) + 1, Relaxed);
                }
            });
        }
    });
    assert_eq!(number.load(Relaxed), THREADS as u64 * ROUNDS);
    assert_eq!(lock.stat().0.acquisitions, THREADS as u64 * ROUNDS);
    use_once(lock);
}
