//! Without undo: any process may release permits.

use super::common::Watchdog;
use super::common::process::{alone, fork, shared_words, wait_until};
use super::common::signal::{SIGNALS, catch_signals, install_hook};
use super::{
    MAX_VALUE, WAITERS, WORD, await_sleeper, debug_of, holder, options, plain, within, word,
};
use nix::sys::signal::{Signal, kill};
use shmkit::raw::{Timeout, WaitOptions};
use shmkit::semaphore::{Options, Semaphore, SemaphoreInfo};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

fn bounded(value: u64, maximum: u64) -> Semaphore {
    Semaphore::unnamed(&Options {
        maximum,
        ..options(value)
    })
    .unwrap()
}

#[test]
fn permits_are_acquired_and_released() {
    let three = plain(3);
    for left in (0..3).rev() {
        assert_eq!(three.acquire_with(1, WaitOptions::NONBLOCKING), Ok(()));
        assert_eq!(three.value(), Ok(left));
    }
    refused!(WouldBlock, three.acquire_with(1, WaitOptions::NONBLOCKING));
    three.release(2).unwrap();
    refused!(WouldBlock, three.acquire_with(3, WaitOptions::NONBLOCKING));
    assert_eq!(three.value(), Ok(2), "all of them or none");
    assert_eq!(three.acquire_with(2, WaitOptions::NONBLOCKING), Ok(()));
    {
        three.release(5).unwrap();
        let _four = three.acquire(4).unwrap();
        assert_eq!(three.value(), Ok(1));
    }
    assert_eq!(three.value(), Ok(5));
    assert!(!three.has_undo());
    refused!(Invalid, three.held());
    let stat = SemaphoreInfo {
        value: 5,
        maximum: MAX_VALUE,
        waits: 0,
        recoveries: 0,
        holders: 0,
    };
    assert_eq!(three.stat(), Ok(stat), "no waiter slept");
}

#[test]
fn a_semaphore_without_initial_permits_is_a_signal() {
    alone(|| {
        let semaphore = plain(0);
        refused!(
            WouldBlock,
            semaphore.acquire_with(1, WaitOptions::NONBLOCKING)
        );
        let waiter = fork(|| assert_eq!(semaphore.acquire_with(1, WaitOptions::BLOCKING), Ok(())));
        await_sleeper(&semaphore);
        fork(|| semaphore.release(1).unwrap()).succeed();
        waiter.succeed();
        assert_eq!(semaphore.value(), Ok(0));
        assert_eq!(semaphore.stat().unwrap().waits, 1);
    });
}

#[test]
fn a_release_beyond_the_maximum_is_refused_and_changes_nothing() {
    let one = bounded(1, 1);
    refused!(Overflow, one.release(1));
    assert_eq!(one.acquire_with(1, WaitOptions::NONBLOCKING), Ok(()));
    refused!(Overflow, one.release(2));
    assert_eq!(one.value(), Ok(0));
    one.release(1).unwrap();
    let few = bounded(2, 5);
    refused!(Overflow, few.release(4));
    few.release(3).unwrap();
    refused!(Overflow, few.release(1));
    let most = plain(MAX_VALUE);
    refused!(Overflow, most.release(1));
    refused!(Overflow, most.release(MAX_VALUE));
    refused!(Overflow, most.release(u64::from(u32::MAX)));
    refused!(Overflow, most.release(u64::MAX));
    assert_eq!(
        most.acquire_with(MAX_VALUE, WaitOptions::NONBLOCKING),
        Ok(())
    );
    most.release(MAX_VALUE).unwrap();
    assert_eq!(most.value(), Ok(MAX_VALUE));
}

#[test]
fn impossible_counts_are_refused() {
    let two = bounded(2, 2);
    for wait in [WaitOptions::NONBLOCKING, WaitOptions::BLOCKING, within(1)] {
        refused!(Invalid, two.acquire_with(0, wait));
        // A blocking acquire would wait forever.
        refused!(Invalid, two.acquire_with(3, wait));
    }
    refused!(
        Invalid,
        plain(1).acquire_with(MAX_VALUE + 1, WaitOptions::BLOCKING)
    );
    refused!(Invalid, two.release(0));
    assert_eq!(two.value(), Ok(2));
}

#[test]
fn contradicting_options_are_refused() {
    let make = |options: Options| debug_of(Semaphore::unnamed(&options));
    refused!(Invalid, make(options(MAX_VALUE + 1)));
    refused!(Invalid, make(options(u64::MAX)));
    let maximum = |value, maximum, undo| Options {
        maximum,
        undo,
        ..options(value)
    };
    refused!(Invalid, make(maximum(3, 2, false)));
    refused!(Invalid, make(maximum(0, MAX_VALUE + 1, false)));
    refused!(Invalid, make(maximum(2, 3, true)));
    refused!(Invalid, make(maximum(0, 0, true)));
    make(maximum(2, 2, true)).unwrap();
    let processes = |processes, undo| Options {
        processes,
        undo,
        ..options(1)
    };
    refused!(Invalid, make(processes(4097, true)));
    refused!(Invalid, make(processes(u32::MAX, true)));
    refused!(Invalid, make(processes(1, false)));
    refused!(Invalid, processes(4097, true).size());
    assert_eq!(Options::default().size(), Ok(128));
    assert_eq!(processes(0, true).size(), Ok(128 + 64 * 128));
    assert_eq!(processes(4096, true).size(), Ok(128 + 64 * 4096));
}

#[test]
fn acquire_times_out_after_its_timeout() {
    let semaphore = plain(0);
    for milliseconds in [0, 1, 30] {
        let time = Duration::from_millis(milliseconds);
        let begin = Instant::now();
        refused!(
            Timeout,
            semaphore.acquire_with(1, within(time.as_nanos() as u64))
        );
        assert!(begin.elapsed() >= time);
    }
}

#[test]
fn one_release_of_several_permits_wakes_several_waiters() {
    let _watchdog = Watchdog::start();
    let semaphore = plain(0);
    std::thread::scope(|scope| {
        let waiters: Vec<_> = (0..5)
            .map(|_| scope.spawn(|| semaphore.acquire_with(1, WaitOptions::BLOCKING)))
            .collect();
        await_sleeper(&semaphore);
        semaphore.release(5).unwrap();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Ok(()));
        }
    });
    assert_eq!(semaphore.value(), Ok(0));
}

#[test]
fn waiters_for_many_permits_and_for_few_are_served() {
    let _watchdog = Watchdog::start();
    let semaphore = plain(0);
    std::thread::scope(|scope| {
        let waiters: Vec<_> = (1..=4)
            .map(|count| {
                let semaphore = &semaphore;
                scope.spawn(move || semaphore.acquire_with(count, WaitOptions::BLOCKING))
            })
            .collect();
        await_sleeper(&semaphore);
        for _ in 0..10 {
            semaphore.release(1).unwrap();
        }
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Ok(()));
        }
    });
    assert_eq!(semaphore.value(), Ok(0));
}

#[test]
fn many_threads_neither_lose_nor_add_permits() {
    const PERMITS: u64 = 3;
    let _watchdog = Watchdog::start();
    let (semaphore, inside) = (bounded(PERMITS, PERMITS), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..6u64 {
            let (semaphore, inside) = (&semaphore, &inside);
            scope.spawn(move || {
                for round in 0..2000 {
                    let count = 1 + (thread + round) % PERMITS;
                    semaphore
                        .acquire_with(count, WaitOptions::BLOCKING)
                        .unwrap();
                    let before = inside.fetch_add(count, Relaxed);
                    assert!(before + count <= PERMITS);
                    inside.fetch_sub(count, Relaxed);
                    semaphore.release(count).unwrap();
                }
            });
        }
    });
    assert_eq!(semaphore.value(), Ok(PERMITS));
}

#[test]
fn the_mark_of_sleepers_is_removed_when_no_waiter_sleeps() {
    let _watchdog = Watchdog::start();
    let semaphore = plain(0);
    std::thread::scope(|scope| {
        scope.spawn(|| semaphore.acquire_with(2, WaitOptions::BLOCKING).unwrap());
        await_sleeper(&semaphore);
        semaphore.release(2).unwrap();
    });
    // This release finds no sleeper.
    semaphore.release(1).unwrap();
    assert_eq!(word(&semaphore, WORD) & WAITERS, 0);
    assert_eq!(semaphore.value(), Ok(1));
}

#[test]
fn permits_of_a_killed_process_are_lost_and_others_continue() {
    alone(|| {
        let semaphore = plain(2);
        holder(&semaphore, 1).kill();
        assert_eq!(semaphore.value(), Ok(1));
        let waiter = fork(|| assert_eq!(semaphore.acquire_with(2, WaitOptions::BLOCKING), Ok(())));
        await_sleeper(&semaphore);
        let killed = fork(|| semaphore.acquire_with(2, WaitOptions::BLOCKING).unwrap());
        killed.kill();
        semaphore.release(1).unwrap();
        waiter.succeed();
        assert_eq!(semaphore.value(), Ok(0));
    });
}

#[test]
fn signals_do_not_end_a_wait_and_the_hook_does() {
    alone(|| {
        let (semaphore, words) = (plain(0), shared_words(3));
        let waiter = fork(|| {
            catch_signals();
            install_hook(words);
            words[2].store(1, Relaxed);
            assert_eq!(semaphore.acquire_with(1, WaitOptions::BLOCKING), Ok(()));
            assert!(SIGNALS.load(Relaxed) > 0);
            assert_eq!(words[0].load(Relaxed), 0, "the hook must not be called");
            let wait = WaitOptions {
                timeout: Timeout::Never,
                interruptible: true,
            };
            refused!(Interrupted, semaphore.acquire_with(1, wait));
        });
        await_sleeper(&semaphore);
        for _ in 0..5 {
            kill(waiter.pid(), Signal::SIGUSR1).unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        semaphore.release(1).unwrap();
        wait_until(|| words[0].load(Relaxed) > 2);
        words[1].store(1, Relaxed);
        waiter.succeed();
        assert_eq!(semaphore.value(), Ok(0));
        semaphore.release(1).unwrap();
        assert_eq!(semaphore.acquire_with(1, WaitOptions::NONBLOCKING), Ok(()));
    });
}
