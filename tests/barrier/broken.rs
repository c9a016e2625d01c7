//! What breaks a barrier, what repairs it, and which departures do not break it.

use super::common::process::{alone, fork, shared_words, wait_until};
use super::{ONE_MINUTE, await_waiting, broken_waiter, unnamed, use_once, wait, within};
use shmkit::barrier::Last;
use shmkit::capi::interrupt::shmkit_set_interrupt;
use shmkit::raw::{Timeout, WaitOptions};
use std::ffi::c_void;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

#[test]
fn abort_fails_present_and_later_waits_until_a_reset() {
    alone(|| {
        let barrier = unnamed(3);
        let observers = [0, 1].map(|others| broken_waiter(&barrier, others));
        barrier.abort();
        observers.into_iter().for_each(|child| child.succeed());
        for _ in 0..3 {
            refused!(Broken, wait(&barrier));
            refused!(
                Broken,
                barrier.wait_with(WaitOptions::NONBLOCKING, Last::Passes)
            );
        }
        let stat = barrier.stat();
        assert_eq!((stat.broken, stat.waiting), (true, 0));
        assert_eq!((stat.turns, stat.breaks, stat.deaths), (0, 1, 0));
        // Aborting a broken barrier changes nothing.
        barrier.abort();
        assert_eq!(barrier.stat().breaks, 1);
        barrier.reset().unwrap();
        assert!(!barrier.stat().broken);
        use_once(&barrier);
    });
}

#[test]
fn reset_fails_the_present_waits_and_no_later_wait() {
    alone(|| {
        let barrier = unnamed(3);
        for round in 1..=20 {
            let observers = [0, 1].map(|others| broken_waiter(&barrier, others));
            barrier.reset().unwrap();
            // The waiters may not have returned yet.
            use_once(&barrier);
            observers.into_iter().for_each(|child| child.succeed());
            let stat = barrier.stat();
            assert_eq!((stat.turns, stat.breaks, stat.deaths), (round, round, 0));
        }
        // Without waiters, a reset breaks no wait.
        barrier.reset().unwrap();
        assert_eq!(barrier.stat().breaks, 20);
        use_once(&barrier);
    });
}

#[test]
fn a_waiter_that_runs_late_still_fails_with_broken() {
    alone(|| {
        let barrier = unnamed(2);
        let late = broken_waiter(&barrier, 0);
        let stop = |signal| nix::sys::signal::kill(late.pid(), signal).unwrap();
        stop(nix::sys::signal::Signal::SIGSTOP);
        let stat = format!("/proc/{}/stat", late.pid());
        wait_until(|| std::fs::read_to_string(&stat).unwrap().contains(") T "));
        barrier.reset().unwrap();
        for _ in 0..5 {
            use_once(&barrier);
        }
        stop(nix::sys::signal::Signal::SIGCONT);
        late.succeed();
        use_once(&barrier);
    });
}

#[test]
fn a_timeout_breaks_the_barrier() {
    alone(|| {
        let barrier = unnamed(3);
        let waiter = broken_waiter(&barrier, 0);
        refused!(Timeout, barrier.wait_with(within(1), Last::Passes));
        refused!(Broken, wait(&barrier));
        waiter.succeed();
        let stat = barrier.stat();
        assert_eq!((stat.broken, stat.breaks, stat.deaths), (true, 1, 0));
        barrier.reset().unwrap();
        let begin = std::time::Instant::now();
        refused!(Timeout, barrier.wait_with(within(30_000_000), Last::Passes));
        assert!(begin.elapsed().as_millis() >= 30);
        barrier.reset().unwrap();
        use_once(&barrier);
    });
}

#[test]
fn very_long_timeouts_are_accepted() {
    alone(|| {
        let barrier = unnamed(2);
        for time in [1 << 53, i64::MAX as u64, u64::MAX - 1, u64::MAX] {
            let other = fork(|| assert_eq!(barrier.wait_with(within(time), Last::Passes), Ok(0)));
            await_waiting(&barrier, 1);
            assert_eq!(barrier.wait_with(within(time), Last::Passes), Ok(1));
            other.succeed();
        }
    });
}

/// Shared by the hook and the test: the number of calls, and the call from which on the hook ends the wait (0: never).
extern "C" fn hook(answer: *mut c_void) -> i32 {
    // SAFETY: `install` was given two words that live as long as the process.
    let words = unsafe { std::slice::from_raw_parts(answer.cast::<AtomicU64>(), 2) };
    let (call, last) = (words[0].fetch_add(1, Relaxed) + 1, words[1].load(Relaxed));
    i32::from(last != 0 && call >= last)
}

fn install(answer: &'static [AtomicU64]) {
    assert!(answer.len() >= 2);
    // SAFETY: the hook may be called from any thread, and its words live as long as the process.
    let status = unsafe { shmkit_set_interrupt(Some(hook), answer.as_ptr().cast_mut().cast()) };
    assert_eq!(status, 0);
}

const UNTIL_INTERRUPTED: WaitOptions = WaitOptions {
    timeout: Timeout::Never,
    interruptible: true,
};

#[test]
fn an_interrupted_party_leaves_the_barrier_whole() {
    alone(|| {
        let barrier = unnamed(4);
        let (words, places) = (shared_words(2), shared_words(1));
        // Place 0 becomes free. The next party must not get a place that another party has.
        let quitter = fork(|| {
            install(words);
            refused!(
                Interrupted,
                barrier.wait_with(UNTIL_INTERRUPTED, Last::Passes)
            );
        });
        await_waiting(&barrier, 1);
        let come = || {
            let place = barrier.wait_with(ONE_MINUTE, Last::Passes).unwrap();
            places[0].fetch_add(1 << (8 * place), Relaxed);
        };
        let mut others = Vec::new();
        for count in 2..=3 {
            others.push(fork(come));
            await_waiting(&barrier, count);
        }
        words[1].store(1, Relaxed);
        quitter.succeed();
        assert_eq!(barrier.stat().waiting, 2);
        assert!(!barrier.stat().broken);
        others.push(fork(come));
        await_waiting(&barrier, 3);
        come();
        others.into_iter().for_each(|child| child.succeed());
        assert_eq!(places[0].load(Relaxed), 0x01_01_01_01);
        let stat = barrier.stat();
        assert_eq!((stat.turns, stat.breaks), (1, 0));
        use_once(&barrier);
    });
}

#[test]
fn signals_alone_do_not_end_a_wait() {
    alone(|| {
        let barrier = unnamed(2);
        let (words, ready) = (shared_words(2), shared_words(1));
        extern "C" fn nothing(_: i32) {}
        let other = fork(|| {
            let handler = nix::sys::signal::SigHandler::Handler(nothing);
            // SAFETY: a handler that does nothing.
            unsafe { nix::sys::signal::signal(nix::sys::signal::SIGUSR1, handler) }.unwrap();
            install(words);
            ready[0].store(1, Relaxed);
            assert_eq!(wait(&barrier), Ok(0));
            assert_eq!(words[0].load(Relaxed), 0, "the hook must not be called");
        });
        await_waiting(&barrier, 1);
        for _ in 0..30 {
            nix::sys::signal::kill(other.pid(), nix::sys::signal::SIGUSR1).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert_eq!(wait(&barrier), Ok(1));
        other.succeed();
    });
}
