//! Waiting: how long, and what ends it.

use super::common::process::{alone, fork, shared_words, wait_until};
use super::common::signal::{SIGNALS, catch_signals, install_hook};
use super::{await_sleeper, holder, recover, unnamed, use_once, within};
use nix::sys::signal::{Signal, kill};
use shmkit::raw::{Timeout, WaitOptions};

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Waits forever, unless the hook ends the wait.
const UNTIL_INTERRUPTED: WaitOptions = WaitOptions {
    timeout: Timeout::Never,
    interruptible: true,
};

#[test]
fn acquire_times_out_after_its_timeout() {
    alone(|| {
        let lock = unnamed();
        let owner = holder(&lock);
        for milliseconds in [0, 1, 30] {
            let time = Duration::from_millis(milliseconds);
            let begin = Instant::now();
            refused!(Timeout, lock.acquire_with(within(time.as_nanos() as u64)));
            assert!(begin.elapsed() >= time);
        }
        owner.kill();
        recover(&lock);
    });
}

#[test]
fn very_long_timeouts_are_accepted() {
    alone(|| {
        let lock = unnamed();
        for time in [
            1 << 53,
            (1 << 53) + 1,
            i64::MAX as u64,
            u64::MAX - 1,
            u64::MAX,
        ] {
            assert_eq!(lock.acquire_with(within(time)), Ok(false));
            let waiter = fork(|| assert_eq!(lock.acquire_with(within(time)), Ok(false)));
            await_sleeper(&lock);
            lock.release().unwrap();
            waiter.succeed();
            recover(&lock);
        }
    });
}

#[test]
fn a_dead_owner_is_found_whatever_the_timeout() {
    alone(|| {
        let lock = unnamed();
        for time in [0, 1] {
            let owner = holder(&lock);
            owner.kill();
            // No process has checked this owner yet, so none remembers it alive.
            assert_eq!(lock.acquire_with(within(time)), Ok(true));
            lock.mark_consistent().unwrap();
            lock.release().unwrap();
        }
        holder(&lock).kill();
        assert_eq!(lock.acquire_with(WaitOptions::NONBLOCKING), Ok(true));
        lock.mark_consistent().unwrap();
        lock.release().unwrap();
    });
}

#[test]
fn a_signal_alone_does_not_end_a_wait() {
    alone(|| {
        let (lock, words) = (unnamed(), shared_words(3));
        lock.acquire_with(WaitOptions::NONBLOCKING).unwrap();
        let waiter = fork(|| {
            catch_signals();
            words[1].store(1, Relaxed);
            install_hook(words);
            assert_eq!(lock.acquire_with(WaitOptions::BLOCKING), Ok(false));
            assert_eq!(words[0].load(Relaxed), 0, "the hook must not be called");
            lock.release().unwrap();
        });
        await_sleeper(&lock);
        fork(|| {
            for _ in 0..50 {
                kill(waiter.pid(), Signal::SIGUSR1).unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
        })
        .succeed();
        lock.release().unwrap();
        waiter.succeed();
        use_once(&lock);
    });
}

#[test]
fn the_hook_ends_a_wait_after_a_signal() {
    alone(|| {
        let (lock, words) = (unnamed(), shared_words(3));
        lock.acquire_with(WaitOptions::NONBLOCKING).unwrap();
        let waiter = fork(|| {
            catch_signals();
            install_hook(words);
            refused!(Interrupted, lock.acquire_with(UNTIL_INTERRUPTED));
            assert!(SIGNALS.load(Relaxed) > 0);
            refused!(NotOwner, lock.release());
        });
        wait_until(|| words[0].load(Relaxed) > 3);
        // The wait goes on while the hook returns zero; then the hook ends it.
        assert_ne!(lock.stat().0.contended_since, 0);
        kill(waiter.pid(), Signal::SIGUSR1).unwrap();
        words[1].store(1, Relaxed);
        waiter.succeed();
        lock.release().unwrap();
        use_once(&lock);
    });
}

#[test]
fn the_hook_is_called_after_each_sleep_without_a_signal() {
    alone(|| {
        let (lock, words) = (unnamed(), shared_words(2));
        install_hook(words);
        let owner = holder(&lock);
        words[1].store(5, Relaxed);
        refused!(Interrupted, lock.acquire_with(UNTIL_INTERRUPTED));
        assert_eq!(words[0].load(Relaxed), 5);
        // An acquisition that succeeds at once does not call the hook.
        owner.kill();
        let asked = words[0].load(Relaxed);
        assert_eq!(
            lock.acquire_with(WaitOptions {
                interruptible: true,
                ..WaitOptions::NONBLOCKING
            }),
            Ok(true)
        );
        assert_eq!(words[0].load(Relaxed), asked);
    });
}

#[test]
fn interrupted_waiters_do_not_lose_wakeups_of_others() {
    alone(|| {
        let (lock, words) = (unnamed(), shared_words(2));
        lock.acquire_with(WaitOptions::NONBLOCKING).unwrap();
        let quitters: Vec<_> = (0..3)
            .map(|_| {
                fork(|| {
                    install_hook(words);
                    refused!(Interrupted, lock.acquire_with(UNTIL_INTERRUPTED));
                })
            })
            .collect();
        let waiter = fork(|| {
            assert_eq!(lock.acquire_with(WaitOptions::BLOCKING), Ok(false));
            lock.release().unwrap();
        });
        wait_until(|| words[0].load(Relaxed) >= 3);
        words[1].store(1, Relaxed);
        for quitter in quitters {
            quitter.succeed();
        }
        lock.release().unwrap();
        waiter.succeed();
        use_once(&lock);
    });
}
