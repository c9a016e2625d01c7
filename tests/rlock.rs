//! Recursive locks, as the Rust API has them: the owner is a thread of a process, which may take the lock again.

#[macro_use]
mod common;

use common::process::{Child, alone, fork, shared_words, wait_until};
use common::{Watchdog, managed, within};
use shmkit::raw::WaitOptions;
use shmkit::rlock::{Create, RLock};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Takes it that often, which is at once.
#[track_caller]
fn take(lock: &RLock, times: u64) {
    for _ in 0..times {
        assert_eq!(lock.acquire_with(WaitOptions::NONBLOCKING), Ok(false));
    }
}

fn release(lock: &RLock, times: u64) {
    for _ in 0..times {
        lock.release().unwrap();
    }
}

/// Checks that this thread holds nothing, and may not have it.
#[track_caller]
fn is_refused(lock: &RLock) {
    assert_eq!(lock.depth(), 0);
    refused!(NotOwner, lock.release());
    refused!(NotOwner, lock.mark_consistent());
    refused!(WouldBlock, lock.acquire_with(WaitOptions::NONBLOCKING));
    refused!(Timeout, lock.acquire_with(within(1_000_000)));
    refused!(NotOwner, lock.release());
    assert_eq!(lock.depth(), 0);
}

/// Forks a process that takes the lock and stays.
fn holder(lock: &RLock, take: impl FnOnce(&RLock)) -> Child {
    let words = shared_words(1);
    let child = fork(|| {
        take(lock);
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
fn as_often_given_back_as_taken() {
    let lock = RLock::unnamed().unwrap();
    refused!(NotOwner, lock.release());
    for times in [1, 2, 3, 1000] {
        take(&lock, times);
        assert_eq!(lock.depth(), times);
        release(&lock, times - 1);
        assert_eq!(lock.depth(), 1);
        assert!(lock.stat().0.owner.is_some());
        lock.release().unwrap();
        assert_eq!((lock.depth(), lock.stat().0.owner), (0, None));
        refused!(NotOwner, lock.release());
        refused!(NotOwner, lock.mark_consistent());
    }
    // Taking it again is no acquisition.
    assert_eq!(lock.stat().0.acquisitions, 4);
}

#[test]
fn the_owner_is_a_thread() {
    let lock = &RLock::unnamed().unwrap();
    take(lock, 2);
    in_thread(|| is_refused(lock));
    in_thread(|| is_refused(lock));
    assert_eq!(lock.depth(), 2);
    release(lock, 2);
    in_thread(|| {
        take(lock, 3);
        release(lock, 3);
        // It ends holding it: that frees nothing.
        take(lock, 1);
    });
    is_refused(lock);
    in_thread(|| is_refused(lock));
}

#[test]
fn a_forked_childs_only_thread_is_not_its_parents() {
    alone(|| {
        let lock = RLock::unnamed().unwrap();
        take(&lock, 2);
        fork(|| {
            is_refused(&lock);
            // Nor is its child's.
            fork(|| is_refused(&lock)).succeed();
        })
        .succeed();
        assert_eq!(lock.depth(), 2);
        release(&lock, 2);
        let child = holder(&lock, |lock| take(lock, 2));
        is_refused(&lock);
        child.kill();
        assert_eq!(lock.acquire_with(WaitOptions::BLOCKING), Ok(true));
        assert_eq!(lock.depth(), 1);
    });
}

#[test]
fn taken_over_it_begins_anew() {
    alone(|| {
        let lock = RLock::unnamed().unwrap();
        let ends: [fn(&RLock); 2] = [
            |lock| take(lock, 5),
            // A thread that has ended before its process.
            |lock| in_thread(|| take(lock, 5)),
        ];
        for (round, end) in (1..).zip(ends) {
            let child = holder(&lock, end);
            is_refused(&lock);
            child.kill();
            assert_eq!(lock.depth(), 0);
            assert_eq!(lock.acquire_with(WaitOptions::BLOCKING), Ok(true));
            assert_eq!(lock.depth(), 1);
            assert_eq!(
                lock.acquire_with(WaitOptions::NONBLOCKING),
                Ok(true),
                "the mark is told each time"
            );
            in_thread(|| is_refused(&lock));
            lock.mark_consistent().unwrap();
            assert_eq!(lock.acquire_with(WaitOptions::NONBLOCKING), Ok(false));
            assert_eq!(lock.depth(), 3);
            release(&lock, 3);
            assert_eq!(lock.stat().0.recoveries, round);
            take(&lock, 1);
            release(&lock, 1);
        }
        // Unmarked, the mark stays.
        holder(&lock, |lock| take(lock, 1)).kill();
        for _ in 0..2 {
            assert_eq!(lock.acquire_with(WaitOptions::BLOCKING), Ok(true));
            lock.release().unwrap();
        }
    });
}

#[test]
fn the_token_of_the_dead_is_nobodys() {
    /// Where the word and the token stand in the lock.
    const WORD: usize = 8;
    const TOKEN: usize = 16;
    alone(|| {
        let segment = managed(4096);
        let lock = RLock::at(&segment, 0, Create::Always).unwrap();
        let other = RLock::at(&segment, 64, Create::Always).unwrap();
        take(&other, 1);
        let mine = other.stat().0.owner.unwrap().bits();
        // The child's thread has our thread's number.
        holder(&lock, |lock| take(lock, 1)).kill();
        let bytes = segment.bytes().unwrap();
        assert!(
            bytes[TOKEN..][..8]
                .iter()
                .any(|byte| byte.load(Relaxed) != 0)
        );
        // As it is when another thread of ours has just taken it over, and not yet said which thread it is.
        for (byte, value) in bytes[WORD..].iter().zip(mine.to_ne_bytes()) {
            byte.store(value, Relaxed);
        }
        is_refused(&lock);
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
        holder(&lock, |lock| take(lock, 1)).kill();
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
fn a_counter_at_its_end() {
    /// Where the depth stands in the lock.
    const DEPTH: usize = 24;
    let segment = managed(4096);
    let lock = RLock::at(&segment, 0, Create::Always).unwrap();
    take(&lock, 2);
    let bytes = &segment.bytes().unwrap()[DEPTH..DEPTH + 8];
    assert_eq!(bytes[0].load(Relaxed), 2);
    for byte in bytes {
        byte.store(0xff, Relaxed);
    }
    assert_eq!(lock.depth(), u64::MAX);
    refused!(Overflow, lock.acquire_with(WaitOptions::BLOCKING));
    assert_eq!(lock.depth(), u64::MAX);
    lock.release().unwrap();
    take(&lock, 1);
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
fn who_waits_gets_it_when_all_is_given_back() {
    alone(|| {
        let (lock, words) = (RLock::unnamed().unwrap(), shared_words(1));
        take(&lock, 3);
        let waiter = fork(|| {
            assert_eq!(lock.acquire_with(WaitOptions::BLOCKING), Ok(false));
            assert_eq!(lock.depth(), 1);
            words[0].store(1, Relaxed);
            take(&lock, 1);
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
        take(&lock, 1);
        take(&opened, 1);
        assert_eq!((lock.depth(), opened.depth(), other.depth()), (2, 2, 0));
        in_thread(|| is_refused(&opened));
        fork(|| is_refused(&RLock::open_fd(fd, offset, &Default::default()).unwrap())).succeed();
        drop(lock);
        release(&opened, 2);
    });
}
