//! Tests of fairness: a starving waiter goes first, and no caller waits long for a waiter that has died.

use super::lock::{RawLock, STARVING};
use super::wait::SpinState;
use super::{Liveness, WaitOptions};
use crate::error::Result;
use crate::participant::Id;
use crate::sys::atomic::Ordering::Relaxed;
use crate::sys::fork::Origin;
use std::thread;
use std::time::{Duration, Instant};

/// Every participant is alive.
struct AllAlive;

impl Liveness for AllAlive {
    fn is_dead(&self, _: Id, _: Origin) -> Result<bool> {
        Ok(false)
    }

    fn origin(&self, _: Id) -> Origin {
        Origin::here()
    }
}

fn id(slot: u64) -> Id {
    Id::of((slot + 1) | ((slot + 1) << 13)).expect("the id has a ticket")
}

fn acquire(raw: &RawLock, me: Id, options: WaitOptions) -> Result<bool> {
    raw.acquire(me, options, &SpinState::default(), &AllAlive)
}

/// Waits until a waiter starves.
fn until_starving(raw: &RawLock) {
    let watchdog = Instant::now() + Duration::from_secs(60);
    while raw.word.load(Relaxed) & STARVING == 0 {
        assert!(Instant::now() < watchdog, "no waiter starves");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_released_lock_goes_to_the_starving_waiter() {
    let raw = RawLock::default();
    let (first, second) = (id(1), id(2));
    acquire(&raw, first, WaitOptions::BLOCKING).expect("the lock is free");
    thread::scope(|scope| {
        scope.spawn(|| {
            acquire(&raw, second, WaitOptions::BLOCKING).expect("the owner releases the lock");
            assert_eq!(raw.word.load(Relaxed) & STARVING, 0);
        });
        until_starving(&raw);
        raw.release(first).expect("the first process is the owner");
        if raw.try_acquire(first) {
            raw.release(first).expect("the first process is the owner");
            panic!("the first process acquired the lock before the starving waiter");
        }
    });
    assert!(raw.is_held_by(second));
}

#[test]
fn a_lock_reserved_for_a_dead_waiter_is_acquired_by_the_next_waiter() {
    let raw = RawLock::default();
    raw.word.store(STARVING, Relaxed);
    assert_eq!(acquire(&raw, id(1), WaitOptions::BLOCKING), Ok(false));
    assert_eq!(raw.word.load(Relaxed) & STARVING, 0);
    raw.release(id(1)).expect("the process is the owner");
    assert!(raw.try_acquire(id(1)));
}

#[test]
fn a_nonblocking_acquire_takes_a_reserved_lock_and_keeps_the_reservation() {
    let raw = RawLock::default();
    raw.word.store(STARVING, Relaxed);
    assert_eq!(acquire(&raw, id(1), WaitOptions::NONBLOCKING), Ok(false));
    raw.release(id(1)).expect("the process is the owner");
    assert_eq!(raw.word.load(Relaxed), STARVING);
}

#[test]
fn a_starving_waiter_that_times_out_leaves_no_reservation() {
    let raw = RawLock::default();
    acquire(&raw, id(1), WaitOptions::BLOCKING).expect("the lock is free");
    let options = WaitOptions {
        timeout: super::Timeout::After(Duration::from_nanos(50_000_000)),
        interruptible: false,
    };
    acquire(&raw, id(2), options).expect_err("another process holds the lock");
    assert_eq!(raw.word.load(Relaxed) & STARVING, 0);
    raw.release(id(1)).expect("the process is the owner");
    assert!(raw.try_acquire(id(1)));
}
