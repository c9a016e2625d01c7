//! A party that dies waiting breaks the barrier; a live party is never taken for dead.

use super::common::process::{alone, fork, shared_words, wait_until};
use super::{await_waiting, broken_waiter, managed, stay, unnamed, use_once, wait, waiter, within};
use nix::sys::signal::{Signal, kill};
use shmkit::barrier::Last;
use shmkit::raw::WaitOptions;
use std::sync::atomic::Ordering::Relaxed;

/// Closes all descriptors but the standard ones, as daemons do.
fn close_all() {
    // SAFETY: the test checks what happens when their owners lose them.
    let closed = unsafe { libc::close_range(3, u32::MAX, 0) };
    assert_eq!(closed, 0);
}

#[test]
fn a_waiters_death_breaks_the_wait_of_another() {
    alone(|| {
        // Both orders: the dying party arrives before or after the other waiter.
        let barrier = unnamed(3);
        for first in [true, false] {
            let (dying, other) = if first {
                let dying = waiter(&barrier, 0);
                (dying, broken_waiter(&barrier, 1))
            } else {
                let other = broken_waiter(&barrier, 0);
                (waiter(&barrier, 1), other)
            };
            dying.kill();
            other.succeed();
            refused!(Broken, wait(&barrier));
            assert!(barrier.stat().broken);
            barrier.reset().unwrap();
            use_once(&barrier);
        }
        let stat = barrier.stat();
        assert_eq!((stat.breaks, stat.deaths), (2, 2));
    });
}

#[test]
fn the_last_party_to_arrive_finds_a_dead_one() {
    alone(|| {
        let barrier = unnamed(2);
        for last in [Last::Passes, Last::Holds] {
            for wait in [WaitOptions::NONBLOCKING, within(1), WaitOptions::BLOCKING] {
                waiter(&barrier, 0).kill();
                refused!(Broken, barrier.wait_with(wait, last));
                assert!(barrier.stat().broken);
                barrier.reset().unwrap();
            }
        }
        use_once(&barrier);
        assert_eq!(barrier.stat().deaths, 6);
    });
}

#[test]
fn the_death_of_any_party_breaks_the_barrier() {
    alone(|| {
        let barrier = unnamed(6);
        for victims in 1..32_u32 {
            let mut dying = Vec::new();
            let mut observers = Vec::new();
            for number in 0..5 {
                match victims & 1 << number {
                    0 => observers.push(broken_waiter(&barrier, number)),
                    _ => dying.push(waiter(&barrier, number)),
                }
            }
            dying.into_iter().for_each(|child| child.kill());
            observers.into_iter().for_each(|child| child.succeed());
            refused!(Broken, wait(&barrier));
            barrier.reset().unwrap();
        }
        use_once(&barrier);
    });
}

#[test]
fn a_stopped_party_is_not_dead_and_does_not_hide_a_dead_one() {
    alone(|| {
        let barrier = unnamed(4);
        let other = broken_waiter(&barrier, 0);
        let stopped = broken_waiter(&barrier, 1);
        kill(stopped.pid(), Signal::SIGSTOP).unwrap();
        let dying = waiter(&barrier, 2);
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(!barrier.stat().broken);
        dying.kill();
        other.succeed();
        kill(stopped.pid(), Signal::SIGCONT).unwrap();
        stopped.succeed();
        assert_eq!(barrier.stat().deaths, 1);
        barrier.reset().unwrap();
        use_once(&barrier);
    });
}

#[test]
fn a_party_that_dies_elsewhere_can_be_replaced() {
    alone(|| {
        let barrier = unnamed(2);
        fork(|| {
            drop(refused!(
                Timeout,
                barrier.wait_with(within(1), Last::Passes)
            ))
        })
        .succeed();
        barrier.reset().unwrap();
        let passed = &shared_words(1)[0];
        let other = fork(|| {
            assert!(wait(&barrier).is_ok());
            passed.store(1, Relaxed);
            stay();
        });
        assert!(wait(&barrier).is_ok());
        // If a child were killed on its way out, the next turn would break.
        wait_until(|| passed.load(Relaxed) == 1);
        other.kill();
        assert_eq!(barrier.stat().waiting, 0);
        use_once(&barrier);
        assert!(!barrier.stat().broken);
    });
}

#[test]
fn a_process_that_ends_after_its_turn_breaks_nothing() {
    alone(|| {
        let barrier = unnamed(3);
        for _ in 0..100 {
            use_once(&barrier);
        }
        assert_eq!(barrier.stat().breaks, 0);
    });
}

#[test]
fn closing_a_handle_while_a_thread_waits_through_another_changes_nothing() {
    alone(|| {
        let segment = managed(4096);
        let (one, same) = (super::at(&segment, 0, 2), super::at(&segment, 0, 2));
        let other = fork(|| assert!(wait(&one).is_ok()));
        await_waiting(&same, 1);
        drop(one);
        assert_eq!(wait(&same), Ok(1));
        other.succeed();
    });
}

#[test]
fn a_forked_child_is_a_party_of_its_own() {
    alone(|| {
        let barrier = unnamed(2);
        // Used before the fork: the child must not take its parent's identity for its own.
        use_once(&barrier);
        let words = shared_words(1);
        let child = fork(|| {
            let grandchild = fork(|| drop(barrier.wait_with(WaitOptions::BLOCKING, Last::Passes)));
            await_waiting(&barrier, 1);
            grandchild.kill();
            words[0].store(1, Relaxed);
            refused!(Broken, wait(&barrier));
        });
        wait_until(|| words[0].load(Relaxed) == 1);
        child.succeed();
        refused!(Broken, wait(&barrier));
    });
}

#[test]
fn a_party_without_descriptors_leaves_without_breaking_the_barrier() {
    alone(|| {
        let barrier = unnamed(3);
        let other = waiter(&barrier, 0);
        let child = fork(|| {
            // The process becomes a participant while it still can.
            refused!(
                WouldBlock,
                barrier.wait_with(WaitOptions::NONBLOCKING, Last::Passes)
            );
            close_all();
            refused!(LivenessUnknown, wait(&barrier));
        });
        child.succeed();
        let stat = barrier.stat();
        assert_eq!((stat.waiting, stat.broken), (1, false));
        drop(other);
    });
}
