//! The last party holds the others, acts alone, and then releases them.

use super::common::process::{alone, fork, shared_words, wait_until};
use super::{ONE_MINUTE, await_waiting, broken_waiter, stay, unnamed, use_once, wait, within};
use shmkit::barrier::Last;
use shmkit::raw::WaitOptions;
use std::sync::atomic::Ordering::Relaxed;

#[test]
fn what_the_last_party_does_is_seen_by_all() {
    alone(|| {
        const TURNS: u64 = 500;
        let barrier = unnamed(3);
        let words = shared_words(1);
        let run = || {
            for turn in 0..TURNS {
                let place = barrier.wait_with(ONE_MINUTE, Last::Holds).unwrap();
                if place == 2 {
                    assert_eq!(words[0].load(Relaxed), turn);
                    words[0].store(turn + 1, Relaxed);
                    barrier.release().unwrap();
                }
                assert_eq!(words[0].load(Relaxed), turn + 1);
                // No party is held here, so the value does not change before all have read it.
                wait(&barrier).unwrap();
            }
        };
        let others = [fork(run), fork(run)];
        run();
        others.into_iter().for_each(|other| other.succeed());
        assert_eq!(barrier.stat().turns, 2 * TURNS);
    });
}

#[test]
fn all_parties_wait_until_the_last_releases_them() {
    alone(|| {
        let barrier = unnamed(2);
        let other = fork(|| assert_eq!(wait(&barrier), Ok(0)));
        await_waiting(&barrier, 1);
        assert_eq!(
            barrier.wait_with(WaitOptions::NONBLOCKING, Last::Holds),
            Ok(1)
        );
        assert_eq!(barrier.stat().waiting, 2);
        assert_eq!(barrier.stat().turns, 0);
        // A party that arrives now belongs to the next turn and is not admitted.
        refused!(
            WouldBlock,
            barrier.wait_with(WaitOptions::NONBLOCKING, Last::Passes)
        );
        fork(|| {
            drop(refused!(
                Timeout,
                barrier.wait_with(within(5_000_000), Last::Passes)
            ))
        })
        .succeed();
        assert!(!barrier.stat().broken);
        let next = fork(|| assert_eq!(wait(&barrier), Ok(0)));
        // Another process holds no party.
        fork(|| drop(refused!(NotOwner, barrier.release()))).succeed();
        barrier.release().unwrap();
        other.succeed();
        refused!(NotOwner, barrier.release());
        await_waiting(&barrier, 1);
        assert_eq!(wait(&barrier), Ok(1));
        next.succeed();
    });
}

#[test]
fn a_party_of_one_holds_itself() {
    let barrier = unnamed(1);
    for _ in 0..100 {
        assert_eq!(
            barrier.wait_with(WaitOptions::NONBLOCKING, Last::Holds),
            Ok(0)
        );
        refused!(
            WouldBlock,
            barrier.wait_with(WaitOptions::NONBLOCKING, Last::Holds)
        );
        barrier.release().unwrap();
    }
    refused!(NotOwner, barrier.release());
}

#[test]
fn a_held_party_fails_after_an_abort_a_reset_or_a_timeout() {
    alone(|| {
        let barrier = unnamed(2);
        for way in 0..4 {
            let waiter = broken_waiter(&barrier, 0);
            assert_eq!(
                barrier.wait_with(WaitOptions::NONBLOCKING, Last::Holds),
                Ok(1)
            );
            match way {
                0 => barrier.abort(),
                1 => fork(|| barrier.abort()).succeed(),
                2 => barrier.reset().unwrap(),
                _ => fork(|| barrier.reset().unwrap()).succeed(),
            }
            waiter.succeed();
            if way < 2 {
                refused!(Broken, barrier.release());
                barrier.reset().unwrap();
            } else {
                refused!(NotOwner, barrier.release());
            }
            use_once(&barrier);
        }
        let short = fork(|| {
            refused!(Timeout, barrier.wait_with(within(20_000_000), Last::Passes));
        });
        await_waiting(&barrier, 1);
        assert_eq!(
            barrier.wait_with(WaitOptions::NONBLOCKING, Last::Holds),
            Ok(1)
        );
        short.succeed();
        refused!(Broken, barrier.release());
        barrier.reset().unwrap();
        use_once(&barrier);
    });
}

#[test]
fn the_death_of_the_party_that_holds_breaks_the_barrier() {
    alone(|| {
        for parties in [1, 2, 4] {
            let barrier = unnamed(parties);
            let observers: Vec<_> = (1..parties)
                .map(|number| broken_waiter(&barrier, number - 1))
                .collect();
            let words = shared_words(1);
            let holder = fork(|| {
                let place = barrier.wait_with(ONE_MINUTE, Last::Holds);
                assert_eq!(place, Ok(parties - 1));
                words[0].store(1, Relaxed);
                stay();
            });
            wait_until(|| words[0].load(Relaxed) == 1);
            let late = fork(|| drop(refused!(Broken, wait(&barrier))));
            holder.kill();
            observers.into_iter().for_each(|child| child.succeed());
            late.succeed();
            barrier.reset().unwrap();
            use_once(&barrier);
        }
    });
}
