//! What else ends a wait: a timeout, the interrupt hook; and what becomes of a notification then.

use super::common::process::{alone, shared_words};
use super::*;
use shmkit::capi::interrupt::shmkit_set_interrupt;
use std::ffi::c_void;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

const UNTIL_INTERRUPTED: WaitOptions = WaitOptions {
    timeout: Timeout::Never,
    interruptible: true,
};

/// Ends a wait as soon as the word is not 0.
extern "C" fn hook(word: *mut c_void) -> i32 {
    // SAFETY: `install` was given a word that lives as long as the process.
    let word = unsafe { &*word.cast::<AtomicU64>() };
    i32::from(word.load(Relaxed) != 0)
}

fn install(word: &'static AtomicU64) {
    // SAFETY: the hook may be called from any thread, and its word lives as long as the process.
    let status = unsafe { shmkit_set_interrupt(Some(hook), word.as_ptr().cast()) };
    assert_eq!(status, 0);
}

fn timeout(waited: Waited) -> bool {
    waited.end == End::Timeout && !waited.owner_died
}

#[test]
fn wait_times_out_after_its_timeout_and_holds_the_lock() {
    let (condition, lock) = (unnamed(), a_lock());
    let _guard = lock.acquire().unwrap();
    for milliseconds in [0, 1, 30] {
        let time = Duration::from_millis(milliseconds);
        let begin = Instant::now();
        let wait = within(time.as_nanos() as u64);
        assert!(timeout(condition.wait_with(&lock, wait).unwrap()));
        assert!(begin.elapsed() >= time && lock.is_held());
    }
    assert!(timeout(
        condition
            .wait_with(&lock, WaitOptions::NONBLOCKING)
            .unwrap()
    ));
    assert!(lock.is_held());
    let stat = condition.stat();
    assert_eq!((stat.waits, stat.timeouts, stat.waiting), (4, 4, 0));
}

#[test]
fn a_nonblocking_wait_releases_the_lock_to_others() {
    alone(|| {
        let (condition, lock) = (unnamed(), a_lock());
        let word = &shared_words(1)[0];
        lock.acquire_with(WaitOptions::NONBLOCKING).unwrap();
        let child = fork(|| locked(&lock, || word.store(1, Relaxed)));
        while word.load(Relaxed) == 0 {
            assert!(timeout(
                condition
                    .wait_with(&lock, WaitOptions::NONBLOCKING)
                    .unwrap()
            ));
        }
        lock.release().unwrap();
        child.succeed();
    });
}

#[test]
fn the_hook_ends_a_wait_and_the_lock_is_held() {
    alone(|| {
        let (condition, lock) = (unnamed(), a_lock());
        let word = &shared_words(1)[0];
        let child = fork(|| {
            install(word);
            lock.acquire_with(WaitOptions::BLOCKING).unwrap();
            let waited = condition.wait_with(&lock, UNTIL_INTERRUPTED).unwrap();
            assert_eq!(waited.end, End::Interrupted);
            lock.release().unwrap();
        });
        await_waiters(&condition, 1);
        word.store(1, Relaxed);
        child.succeed();
        assert_eq!(condition.stat().waiting, 0);
    });
}

/// A waiter that is interrupted just after its notification leaves it to another: of two, one returns as notified.
#[test]
fn an_interrupt_loses_no_notification() {
    alone(|| {
        let (condition, lock) = (unnamed(), a_lock());
        let words = shared_words(3);
        for round in 1..=100 {
            words[0].store(0, Relaxed);
            let interruptible = fork(|| {
                install(&words[0]);
                lock.acquire_with(WaitOptions::BLOCKING).unwrap();
                let waited = condition.wait_with(&lock, UNTIL_INTERRUPTED).unwrap();
                words[1].fetch_add(u64::from(waited.end == End::Notified), Relaxed);
                lock.release().unwrap();
            });
            await_waiters(&condition, 1);
            let blocking = fork(|| {
                lock.acquire_with(WaitOptions::BLOCKING).unwrap();
                assert_eq!(
                    condition.wait_with(&lock, WaitOptions::BLOCKING),
                    Ok(NOTIFIED)
                );
                words[1].fetch_add(1, Relaxed);
                lock.release().unwrap();
            });
            await_waiters(&condition, 2);
            // A sleeper calls the hook every 12 ms; the notification comes at any moment in between.
            words[0].store(1, Relaxed);
            std::thread::sleep(Duration::from_micros(round * 130));
            locked(&lock, || condition.notify_with(&lock, 1).unwrap());
            interruptible.succeed();
            if words[1].load(Relaxed) == 1 && condition.stat().waiting == 1 {
                // The interruptible waiter returned as notified before its interrupt, so the other waiter still waits.
                locked(&lock, || condition.notify_with(&lock, 1).unwrap());
            }
            blocking.succeed();
            words[2].fetch_add(words[1].swap(0, Relaxed), Relaxed);
        }
        assert!((100..=200).contains(&words[2].load(Relaxed)));
        assert_eq!(condition.stat().waiting, 0);
    });
}
