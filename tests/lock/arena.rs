//! Thousands of locks without a name, and when the place of one is used again: only if nobody else can have seen it.

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
fn five_thousand_cost_one_descriptor() {
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
            // A child uses all of them, and what it holds when it dies comes back.
            let child = fork(|| {
                for lock in &locks {
                    assert_eq!(lock.acquire_with(WaitOptions::NONBLOCKING), Ok(false));
                }
            });
            assert_eq!(child.wait(), Ended::Exit(0));
            for lock in &locks {
                recover(lock);
            }
            // A thousand of them handed over again: no descriptor for each.
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
fn a_place_that_nobody_saw_is_used_again() {
    alone(|| {
        let kept = unnamed();
        let places: BTreeSet<_> = (0..10_000).map(|_| unnamed().offset()).collect();
        assert_eq!(places.len(), 1, "{places:?}");
        assert!(!places.contains(&kept.offset()));
        // Whatever stood there: held, of the other kind, marked.
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
fn a_place_that_a_child_may_see_is_never_used_again() {
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
        // What was given out since that fork is ours alone again.
        let last = others.last().unwrap().offset();
        drop(others);
        assert!(unnamed().offset() <= last);
        // A fork between its making and its end, by another child that has ended long ago.
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
fn a_childs_locks_stand_in_its_own_arena() {
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
            // Closing what its parent has given out gives nothing to anybody.
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
fn the_arena_of_a_dead_parent_lives_on_in_its_children() {
    alone(|| {
        let words = shared_words(2);
        let parent = fork(|| {
            let locks: Vec<_> = (0..100).map(|_| unnamed()).collect();
            assert_eq!(locks[0].acquire_with(WaitOptions::NONBLOCKING), Ok(false));
            // Not by `fork`, whose children end with their parents.
            // SAFETY: this process has one thread.
            let child = unsafe { libc::fork() };
            if child == 0 {
                use_once(&locks[1]);
                words[0].store(1, Relaxed);
                assert_eq!(
                    locks[0].acquire_with(WaitOptions::BLOCKING),
                    Ok(true),
                    "its owner died"
                );
                locks[0].release().unwrap();
                locks.iter().skip(1).for_each(use_once);
                use_once(&unnamed());
                // Its own children have it too.
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
fn threads_get_places_of_their_own() {
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
fn a_holder_in_another_process_dies() {
    alone(|| {
        let locks: Vec<_> = (0..3).map(|_| unnamed()).collect();
        holder(&locks[1]).kill();
        use_once(&locks[0]);
        use_once(&locks[2]);
        recover(&locks[1]);
    });
}
