//! Thousands of unnamed locks, and when an offset is used again: only if no other process can have seen it.

use super::common::kernel::limit;
use super::common::process::{Ended, alone, fork, shared_words, wait_until};
use super::{holder, recover, stay, unnamed, use_once};
use nix::sys::resource::Resource;
use shmkit::lock::{Lock, Options};
use shmkit::raw::WaitOptions;
use shmkit::rlock::RLock;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn five_thousand_locks_cost_one_descriptor() {
    const COUNT: usize = 5000;
    alone(|| {
        fork(|| {
            limit(Resource::RLIMIT_NOFILE, 256);
            let before = descriptors();
            let locks: Vec<_> = (0..COUNT).map(|_| unnamed()).collect();
            let places: BTreeSet<_> = locks.iter().map(Lock::offset).collect();
            assert_eq!(places.len(), COUNT);
            for lock in &locks {
                assert_eq!(lock.acquire_with(WaitOptions::NONBLOCKING), Ok(false));
            }
            assert_eq!(descriptors(), before + 1);
            for (lock, number) in locks.iter().zip(0..) {
                assert_eq!(lock.stat().0.acquisitions, 1, "{number}");
                lock.release().unwrap();
            }
            // A child uses all of them. What it holds when it dies can be taken over.
            let child = fork(|| {
                for lock in &locks {
                    assert_eq!(lock.acquire_with(WaitOptions::NONBLOCKING), Ok(false));
                }
            });
            assert_eq!(child.wait(), Ended::Exit(0));
            for lock in &locks {
                recover(lock);
            }
            // A thousand of them exported and opened again: no descriptor for each.
            let again: Vec<_> = locks[..1000]
                .iter()
                .map(|lock| {
                    let (fd, offset) = lock.export().unwrap();
                    Lock::open_fd(fd, offset, &Options::default()).unwrap()
                })
                .collect();
            assert_eq!(descriptors(), before + 1);
            again.iter().for_each(use_once);
        })
        .succeed();
    });
}

#[test]
fn an_offset_that_no_other_process_saw_is_used_again() {
    alone(|| {
        let kept = unnamed();
        let places: BTreeSet<_> = (0..10_000).map(|_| unnamed().offset()).collect();
        assert_eq!(places.len(), 1, "{places:?}");
        assert!(!places.contains(&kept.offset()));
        // Whatever was stored there: a held lock, another kind of lock, a lock marked after a death.
        let held = unnamed();
        held.acquire_with(WaitOptions::NONBLOCKING).unwrap();
        let place = held.offset();
        drop(held);
        let rlock = RLock::unnamed().unwrap();
        assert_eq!(rlock.offset(), place);
        assert_eq!(rlock.acquire_with(WaitOptions::NONBLOCKING), Ok(false));
        drop(rlock);
        let lock = unnamed();
        assert_eq!(lock.offset(), place);
        assert_eq!(lock.stat().0.acquisitions, 0);
        use_once(&lock);
    });
}

#[test]
fn an_offset_that_a_child_may_see_is_never_used_again() {
    alone(|| {
        let lock = unnamed();
        let place = lock.offset();
        let (words, child_lock) = (shared_words(1), &lock);
        let child = fork(|| {
            wait_until(|| words[0].load(Relaxed) == 1);
            use_once(child_lock);
            assert_eq!(child_lock.stat().0.acquisitions, 1);
        });
        drop(lock);
        let others: Vec<_> = (0..100).map(|_| unnamed()).collect();
        for other in &others {
            assert_ne!(other.offset(), place);
            use_once(other);
        }
        words[0].store(1, Relaxed);
        child.succeed();
        // What was allocated since that fork belongs to this process alone.
        let last = others.last().unwrap().offset();
        drop(others);
        assert!(unnamed().offset() <= last);
        // A fork between creation and close counts too, even if that child ended long ago.
        let lock = unnamed();
        let place = lock.offset();
        fork(|| {}).succeed();
        drop(lock);
        assert!(
            (0..200)
                .map(|_| unnamed())
                .all(|other| other.offset() != place)
        );
    });
}

#[test]
fn a_childs_locks_are_placed_in_its_own_arena() {
    alone(|| {
        let before = unnamed();
        fork(|| {
            let own = unnamed();
            assert_ne!(own.segment().data(), before.segment().data());
            own.acquire_with(WaitOptions::NONBLOCKING).unwrap();
            use_once(&before);
            fork(|| {
                let third = unnamed();
                assert_ne!(third.segment().data(), own.segment().data());
                assert_ne!(third.segment().data(), before.segment().data());
                refused!(WouldBlock, own.acquire_with(WaitOptions::NONBLOCKING));
                use_once(&before);
                use_once(&third);
            })
            .succeed();
            own.release().unwrap();
            // Closing a lock that the parent allocated makes no offset free in the child.
            drop(own);
        })
        .succeed();
        let after = unnamed();
        assert_eq!(before.segment().data(), after.segment().data());
        assert_ne!(before.offset(), after.offset());
        use_once(&before);
    });
}

#[test]
fn the_arena_of_a_dead_parent_stays_usable_in_its_children() {
    alone(|| {
        let words = shared_words(2);
        let parent = fork(|| {
            let locks: Vec<_> = (0..100).map(|_| unnamed()).collect();
            assert_eq!(locks[0].acquire_with(WaitOptions::NONBLOCKING), Ok(false));
            // Not by the helper `fork`: its children end with their parents.
            // SAFETY: this process has one thread.
            let child = unsafe { libc::fork() };
            if child == 0 {
                use_once(&locks[1]);
                words[0].store(1, Relaxed);
                assert_eq!(
                    locks[0].acquire_with(WaitOptions::BLOCKING),
                    Ok(true),
                    "the lock's owner died"
                );
                locks[0].release().unwrap();
                locks.iter().skip(1).for_each(use_once);
                use_once(&unnamed());
                // The children of this process have the lock too.
                fork(|| locks.iter().skip(1).for_each(use_once)).succeed();
                words[1].store(1, Relaxed);
                // SAFETY: _exit takes any number; nothing is flushed or dropped.
                unsafe { libc::_exit(0) };
            }
            stay();
        });
        wait_until(|| words[0].load(Relaxed) == 1);
        parent.kill();
        wait_until(|| words[1].load(Relaxed) == 1);
    });
}

#[test]
fn threads_get_distinct_offsets() {
    let locks: Vec<_> = std::thread::scope(|scope| {
        let make = || {
            (0..500)
                .flat_map(|round| {
                    let brief = unnamed();
                    use_once(&brief);
                    (round % 2 == 0).then(unnamed)
                })
                .collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(make)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    let places: BTreeSet<_> = locks.iter().map(Lock::offset).collect();
    assert_eq!(places.len(), locks.len());
    for lock in &locks {
        assert_eq!(lock.acquire_with(WaitOptions::NONBLOCKING), Ok(false));
    }
}

#[test]
fn a_lock_held_by_another_process_is_taken_over_after_its_death() {
    alone(|| {
        let locks: Vec<_> = (0..3).map(|_| unnamed()).collect();
        holder(&locks[1]).kill();
        use_once(&locks[0]);
        use_once(&locks[2]);
        recover(&locks[1]);
    });
}
