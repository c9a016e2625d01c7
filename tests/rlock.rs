//! Recursive locks in the Rust API: the owner is a thread of a process, and may acquire the lock again.

#[macro_use]
mod common;

use common::process::{Child, alone, fork, shared_words, wait_until};
use common::{Watchdog, managed, within};
use shmkit::raw::WaitOptions;
use shmkit::rlock::{Create, RLock};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Acquires the lock this many times; each acquisition must succeed at once.
#[track_caller]
fn acquire(lock: &RLock, times: u64) {
    for _ in 0..times {
        assert_eq!(lock.acquire_with(WaitOptions::NONBLOCKING), Ok(false));
    }
}

fn release(lock: &RLock, times: u64) {
    for _ in 0..times {
        lock.release().unwrap();
    }
}

/// Checks that this thread does not own the lock, and cannot acquire it.
#[track_caller]
fn assert_refused(lock: &RLock) {
    assert_eq!(lock.depth(), 0);
    refused!(NotOwner, lock.release());
    refused!(NotOwner, lock.mark_consistent());
    refused!(WouldBlock, lock.acquire_with(WaitOptions::NONBLOCKING));
    refused!(Timeout, lock.acquire_with(within(1_000_000)));
    refused!(NotOwner, lock.release());
    assert_eq!(lock.depth(), 0);
}

/// Forks a process that runs `acquire` on the lock and stays.
fn holder(lock: &RLock, acquire: impl FnOnce(&RLock)) -> Child {
    let words = shared_words(1);
    let child = fork(|| {
        acquire(lock);
        words[0].store(1, Relaxed);
        loop {
            nix::unistd::pause();
        }
    });
    wait_until(|| words[0].load(Relaxed) == 1);
    child
}

fn in_thread(body: impl FnOnce() + Send) {
    std::thread::scope(|scope| scope.spawn(body).join().unwrap());
}

#[test]
fn a_lock_is_free_after_as_many_releases_as_acquisitions() {
    let lock = RLock::unnamed().unwrap();
    refused!(NotOwner, lock.release());
    for times in [1, 2, 3, 1000] {
        acquire(&lock, times);
        assert_eq!(lock.depth(), times);
        release(&lock, times - 1);
        assert_eq!(lock.depth(), 1);
        assert!(lock.stat().0.owner.is_some());
        lock.release().unwrap();
        assert_eq!((lock.depth(), lock.stat().0.owner), (0, None));
        refused!(NotOwner, lock.release());
        refused!(NotOwner, lock.mark_consistent());
    }
    // A nested acquisition is not counted.
    assert_eq!(lock.stat().0.acquisitions, 4);
}

#[test]
fn the_owner_is_a_thread() {
    let lock = &RLock::unnamed().unwrap();
    acquire(lock, 2);
    in_thread(|| assert_refused(lock));
    in_thread(|| assert_refused(lock));
    assert_eq!(lock.depth(), 2);
    release(lock, 2);
    in_thread(|| {
        acquire(lock, 3);
        release(lock, 3);
        // The thread ends holding the lock: that releases nothing.
        acquire(lock, 1);
    });
    assert_refused(lock);
    in_thread(|| assert_refused(lock));
}

#[test]
fn a_forked_childs_thread_does_not_own_its_parents_lock() {
    alone(|| {
        let lock = RLock::unnamed().unwrap();
        acquire(&lock, 2);
        fork(|| {
            assert_refused(&lock);
            // Neither does the grandchild's thread.
            fork(|| assert_refused(&lock)).succeed();
        })
        .succeed();
        assert_eq!(lock.depth(), 2);
        release(&lock, 2);
        let child = holder(&lock, |lock| acquire(lock, 2));
        assert_refused(&lock);
        child.kill();
        assert_eq!(lock.acquire_with(WaitOptions::BLOCKING), Ok(true));
        assert_eq!(lock.depth(), 1);
    });
}

#[test]
fn the_depth_is_one_after_a_take_over() {
    alone(|| {
        let lock = RLock::unnamed().unwrap();
        let ends: [fn(&RLock); 2] = [
            |lock| acquire(lock, 5),
            // The owning thread ends before its process dies.
            |lock| in_thread(|| acquire(lock, 5)),
        ];
        for (round, end) in (1..).zip(ends) {
            let child = holder(&lock, end);
            assert_refused(&lock);
            child.kill();
            assert_eq!(lock.depth(), 0);
            assert_eq!(lock.acquire_with(WaitOptions::BLOCKING), Ok(true));
            assert_eq!(lock.depth(), 1);
            assert_eq!(
                lock.acquire_with(WaitOptions::NONBLOCKING),
                Ok(true),
                "each acquisition reports the mark"
            );
            in_thread(|| assert_refused(&lock));
            lock.mark_consistent().unwrap();
            assert_eq!(lock.acquire_with(WaitOptions::NONBLOCKING), Ok(false));
            assert_eq!(lock.depth(), 3);
            release(&lock, 3);
            assert_eq!(lock.stat().0.recoveries, round);
            acquire(&lock, 1);
            release(&lock, 1);
        }
        // Without mark_consistent the mark stays.
        holder(&lock, |lock| acquire(lock, 1)).kill();
        for _ in 0..2 {
            assert_eq!(lock.acquire_with(WaitOptions::BLOCKING), Ok(true));
            lock.release().unwrap();
        }
    });
}

#[test]
fn a_dead_owners_token_makes_no_thread_the_owner() {
    /// Offsets of the word and the token in the lock.
    const WORD: usize = 8;
    const TOKEN: usize = 16;
    alone(|| {
        let segment = managed(4096);
        let lock = RLock::at(&segment, 0, Create::Always).unwrap();
        let other = RLock::at(&segment, 64, Create::Always).unwrap();
        acquire(&other, 1);
        let mine = other.stat().0.owner.unwrap().bits();
        // The child's thread has the number of this thread.
        holder(&lock, |lock| acquire(lock, 1)).kill();
        let bytes = segment.bytes().unwrap();
        assert!(
            bytes[TOKEN..][..8]
                .iter()
                .any(|byte| byte.load(Relaxed) != 0)
        );
        // The state when another thread of this process has just taken it over, and has not yet stored its token.
        for (byte, value) in bytes[WORD..].iter().zip(mine.to_ne_bytes()) {
            byte.store(value, Relaxed);
        }
        assert_refused(&lock);
    });
}

#[test]
fn guards_nest() {
    alone(|| {
        let lock = RLock::unnamed().unwrap();
        {
            let outer = lock.acquire().unwrap();
            let inner = lock.acquire().unwrap();
            assert_eq!(lock.depth(), 2);
            drop(outer);
            assert_eq!(lock.depth(), 1);
            assert!(!inner.owner_died());
        }
        assert_eq!((lock.depth(), lock.stat().0.owner), (0, None));
        holder(&lock, |lock| acquire(lock, 1)).kill();
        {
            let outer = lock.acquire().unwrap();
            assert!(outer.owner_died() && lock.acquire().unwrap().owner_died());
            outer.mark_consistent().unwrap();
            assert!(!lock.acquire().unwrap().owner_died());
        }
        assert!(!lock.acquire().unwrap().owner_died());
        let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _outer = lock.acquire().unwrap();
            let _inner = lock.acquire().unwrap();
            panic!("inside");
        }));
        assert!(unwound.is_err());
        assert_eq!(lock.depth(), 0);
    });
}

#[test]
fn acquire_fails_with_overflow_at_the_greatest_depth() {
    /// Offset of the depth in the lock.
    const DEPTH: usize = 24;
    let segment = managed(4096);
    let lock = RLock::at(&segment, 0, Create::Always).unwrap();
    acquire(&lock, 2);
    let bytes = &segment.bytes().unwrap()[DEPTH..DEPTH + 8];
    assert_eq!(bytes[0].load(Relaxed), 2);
    for byte in bytes {
        byte.store(0xff, Relaxed);
    }
    assert_eq!(lock.depth(), u64::MAX);
    refused!(Overflow, lock.acquire_with(WaitOptions::BLOCKING));
    assert_eq!(lock.depth(), u64::MAX);
    lock.release().unwrap();
    acquire(&lock, 1);
    refused!(Overflow, lock.acquire_with(WaitOptions::NONBLOCKING));
}

#[test]
fn threads_exclude_each_other_at_any_depth() {
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 5000;
    let _watchdog = Watchdog::start();
    let (lock, number) = (&RLock::unnamed().unwrap(), &AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let guards: Vec<_> = (0..=(thread + round) % 3)
                        .map(|_| lock.acquire().unwrap())
                        .collect();
                    number.store(number.load(Relaxed) + 1, Relaxed);
                    assert_eq!(lock.depth(), guards.len() as u64);
                }
                assert_eq!(lock.depth(), 0);
            });
        }
    });
    assert_eq!(number.load(Relaxed), THREADS * ROUNDS);
    assert_eq!(lock.stat().0.acquisitions, THREADS * ROUNDS);
}

#[test]
fn a_waiter_acquires_after_the_owners_last_release() {
    alone(|| {
        let (lock, words) = (RLock::unnamed().unwrap(), shared_words(1));
        acquire(&lock, 3);
        let waiter = fork(|| {
            assert_eq!(lock.acquire_with(WaitOptions::BLOCKING), Ok(false));
            assert_eq!(lock.depth(), 1);
            words[0].store(1, Relaxed);
            acquire(&lock, 1);
            release(&lock, 2);
        });
        wait_until(|| lock.stat().0.contended_since != 0);
        for depth in [2, 1] {
            lock.release().unwrap();
            assert_eq!((lock.depth(), words[0].load(Relaxed)), (depth, 0));
        }
        lock.release().unwrap();
        waiter.succeed();
        assert_eq!(lock.stat().0.contended, 1);
    });
}

#[test]
fn a_thread_owns_the_lock_through_all_handles() {
    alone(|| {
        let (lock, other) = (RLock::unnamed().unwrap(), RLock::unnamed().unwrap());
        let (fd, offset) = lock.export().unwrap();
        let opened = RLock::open_fd(fd, offset, &Default::default()).unwrap();
        acquire(&lock, 1);
        acquire(&opened, 1);
        assert_eq!((lock.depth(), opened.depth(), other.depth()), (2, 2, 0));
        in_thread(|| assert_refused(&opened));
        fork(|| assert_refused(&RLock::open_fd(fd, offset, &Default::default()).unwrap()))
            .succeed();
        drop(lock);
        release(&opened, 2);
    });
}
