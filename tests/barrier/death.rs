//! Who dies waiting breaks the barrier, whoever else is there; nobody is taken for dead who lives.

use super::common::process::{alone, fork, shared_words, wait_until};
use super::{
    await_waiting, managed, one_to_be_told, stay, unnamed, use_once, wait, waiter, within,
};
use nix::sys::signal::{Signal, kill};
use shmkit::barrier::Last;
use shmkit::raw::WaitOptions;
use std::sync::atomic::Ordering::Relaxed;

/// Closes all descriptors but the standard ones, as daemons do.
fn close_all() {
    // SAFETY: whoever owns them is on trial.
    let closed = unsafe { libc::close_range(3, u32::MAX, 0) };
    assert_eq!(closed, 0);
}

#[test]
fn one_that_waits_is_told_of_one_that_dies() {
    alone(|| {
        // Both orders: who dies has come before or after who is told.
        let barrier = unnamed(3);
        for first in [true, false] {
            let (dying, told) = if first {
                let dying = waiter(&barrier, 0);
                (dying, one_to_be_told(&barrier, 1))
            } else {
                let told = one_to_be_told(&barrier, 0);
                (waiter(&barrier, 1), told)
            };
            dying.kill();
            told.succeed();
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
fn the_last_to_come_is_told_of_the_dead() {
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
fn whoever_of_many_dies() {
    alone(|| {
        let barrier = unnamed(6);
        for victims in 1..32_u32 {
            let mut dying = Vec::new();
            let mut told = Vec::new();
            for number in 0..5 {
                match victims & 1 << number {
                    0 => told.push(one_to_be_told(&barrier, number)),
                    _ => dying.push(waiter(&barrier, number)),
                }
            }
            dying.into_iter().for_each(|child| child.kill());
            told.into_iter().for_each(|child| child.succeed());
            refused!(Broken, wait(&barrier));
            barrier.reset().unwrap();
        }
        use_once(&barrier);
    });
}

#[test]
fn who_is_stopped_is_not_dead_and_does_not_hide_the_dead() {
    alone(|| {
        let barrier = unnamed(4);
        let told = one_to_be_told(&barrier, 0);
        let stopped = one_to_be_told(&barrier, 1);
        kill(stopped.pid(), Signal::SIGSTOP).unwrap();
        let dying = waiter(&barrier, 2);
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(!barrier.stat().broken);
        dying.kill();
        told.succeed();
        kill(stopped.pid(), Signal::SIGCONT).unwrap();
        stopped.succeed();
        assert_eq!(barrier.stat().deaths, 1);
        barrier.reset().unwrap();
        use_once(&barrier);
    });
}

#[test]
fn who_dies_elsewhere_is_missed_and_can_be_replaced() {
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
        // Killed on its way out it would break the next turn.
        wait_until(|| passed.load(Relaxed) == 1);
        other.kill();
        assert_eq!(barrier.stat().waiting, 0);
        use_once(&barrier);
        assert!(!barrier.stat().broken);
    });
}

#[test]
fn who_ends_after_its_turn_breaks_nothing() {
    alone(|| {
        let barrier = unnamed(3);
        for _ in 0..100 {
            use_once(&barrier);
        }
        assert_eq!(barrier.stat().breaks, 0);
    });
}

#[test]
fn who_lets_go_of_it_while_a_thread_waits_elsewhere_changes_nothing() {
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
fn a_child_is_a_party_of_its_own() {
    alone(|| {
        let barrier = unnamed(2);
        // Used before: the child must not take its parent for itself.
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
fn who_has_lost_all_descriptors_goes_without_breaking_it() {
    alone(|| {
        let barrier = unnamed(3);
        let other = waiter(&barrier, 0);
        let child = fork(|| {
            // It becomes a participant as long as it can.
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
