//! Turns: which parties pass, in which place, and what they see then.

use super::common::Watchdog;
use super::common::process::{alone, fork, shared_words};
use super::{managed, unnamed, wait};
use shmkit::barrier::{Barrier, Create, Last, MAX_PARTIES, Options};
use shmkit::raw::WaitOptions;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Waits in each turn, checks that all parties have arrived, and adds its place to the sum of the turn.
fn take_turns(barrier: &Barrier, turns: usize, came: &AtomicU64, places: &[AtomicU64]) {
    let parties = u64::from(barrier.parties());
    for (turn, sum) in places.iter().enumerate().take(turns) {
        came.fetch_add(1, Relaxed);
        let place = wait(barrier).unwrap();
        assert!(u64::from(place) < parties);
        sum.fetch_add(1 << (8 * place), Relaxed);
        let seen = came.load(Relaxed);
        let least = parties * (turn as u64 + 1);
        assert!(seen >= least && seen < least + parties, "{seen} at {turn}");
    }
}

/// Returns the sum of a turn in which each place occurs once.
fn each_once(parties: u32) -> u64 {
    (0..parties).map(|place| 1 << (8 * place)).sum()
}

#[test]
fn processes_pass_thousands_of_turns_together() {
    alone(|| {
        const TURNS: usize = 3000;
        for parties in [1, 2, 3, 5] {
            let barrier = unnamed(parties);
            let words = shared_words(1 + TURNS);
            let (came, places) = (&words[0], &words[1..]);
            let others: Vec<_> = (1..parties)
                .map(|_| fork(|| take_turns(&barrier, TURNS, came, places)))
                .collect();
            take_turns(&barrier, TURNS, came, places);
            for other in others {
                other.succeed();
            }
            for place in places {
                assert_eq!(place.load(Relaxed), each_once(parties));
            }
            let stat = barrier.stat();
            assert_eq!((stat.turns, stat.waiting), (TURNS as u64, 0));
            assert_eq!((stat.breaks, stat.deaths), (0, 0));
        }
    });
}

#[test]
fn threads_are_parties() {
    let _watchdog = Watchdog::start();
    const TURNS: usize = 500;
    let barrier = unnamed(4);
    let (came, places) = (AtomicU64::new(0), [const { AtomicU64::new(0) }; TURNS]);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| take_turns(&barrier, TURNS, &came, &places));
        }
    });
    for place in &places {
        assert_eq!(place.load(Relaxed), each_once(4));
    }
}

#[test]
fn threads_of_two_processes_are_parties() {
    alone(|| {
        const TURNS: usize = 300;
        let barrier = unnamed(4);
        let words = shared_words(1 + TURNS);
        let run = || {
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| take_turns(&barrier, TURNS, &words[0], &words[1..]));
                }
            });
        };
        let other = fork(run);
        run();
        other.succeed();
        for place in &words[1..] {
            assert_eq!(place.load(Relaxed), each_once(4));
        }
    });
}

#[test]
fn more_waiters_than_parties_take_turns() {
    let _watchdog = Watchdog::start();
    // Twelve threads at a barrier for three: more than its cells, and each is admitted in some turn.
    const WAITS: u64 = 2400;
    let barrier = unnamed(3);
    let begun = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                while begun.fetch_add(1, Relaxed) < WAITS {
                    assert!(wait(&barrier).unwrap() < 3);
                }
            });
        }
    });
    assert_eq!(barrier.stat().turns, WAITS / 3);
}

#[test]
fn a_nonblocking_wait_passes_only_as_the_last_party() {
    alone(|| {
        let barrier = unnamed(2);
        refused!(
            WouldBlock,
            barrier.wait_with(WaitOptions::NONBLOCKING, Last::Passes)
        );
        assert_eq!(barrier.stat().waiting, 0);
        let other = fork(|| assert_eq!(wait(&barrier), Ok(0)));
        super::await_waiting(&barrier, 1);
        assert_eq!(
            barrier.wait_with(WaitOptions::NONBLOCKING, Last::Passes),
            Ok(1)
        );
        other.succeed();
        assert_eq!(
            unnamed(1).wait_with(WaitOptions::NONBLOCKING, Last::Passes),
            Ok(0)
        );
    });
}

#[test]
fn a_barrier_takes_the_maximum_of_parties() {
    let _watchdog = Watchdog::start();
    let options = Options::of(MAX_PARTIES);
    let segment = managed(options.size().unwrap());
    let barrier = Barrier::at(&segment, 0, Create::Always, &options).unwrap();
    let places: Vec<_> = (0..MAX_PARTIES).map(|_| AtomicU64::new(0)).collect();
    std::thread::scope(|scope| {
        for _ in 0..MAX_PARTIES {
            std::thread::Builder::new()
                .stack_size(64 << 10)
                .spawn_scoped(scope, || {
                    let place = barrier
                        .wait_with(WaitOptions::BLOCKING, Last::Passes)
                        .unwrap();
                    places[place as usize].fetch_add(1, Relaxed);
                })
                .unwrap();
        }
    });
    assert!(places.iter().all(|place| place.load(Relaxed) == 1));
}

#[test]
fn an_unused_barrier_reports_zeros() {
    let barrier = unnamed(7);
    let stat = barrier.stat();
    assert_eq!(
        (barrier.parties(), stat.waiting, stat.broken),
        (7, 0, false)
    );
    assert_eq!((stat.turns, stat.breaks, stat.deaths), (0, 0, 0));
}
