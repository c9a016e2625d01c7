//! Who has waited for long goes before who has not, and nobody waits for long for somebody who is not there.

use super::lock::{RawLock, STARVING};
use super::wait::SpinState;
use super::{Liveness, WaitOptions};
use crate::error::Result;
use crate::participant::Id;
use crate::sys::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

/// Everybody lives.
struct Peace;

impl Liveness for Peace {
    fn is_dead(&self, _id: Id) -> Result<bool> {
        Ok(false)
    }
}

fn id(slot: u64) -> Id {
    Id::of((slot + 1) | ((slot + 1) << 13)).expect("an owner")
}

fn acquire(raw: &RawLock, me: Id, options: WaitOptions) -> Result<bool> {
    raw.acquire(me, options, &SpinState::default(), &Peace)
}

/// Waits until somebody has waited for long.
fn until_starving(raw: &RawLock) {
    let watchdog = Instant::now() + Duration::from_secs(60);
    while raw.word.load(Relaxed) & STARVING == 0 {
        assert!(Instant::now() < watchdog, "nobody has waited for long");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn who_has_waited_for_long_goes_first() {
    let raw = RawLock::default();
    let (first, second) = (id(1), id(2));
    acquire(&raw, first, WaitOptions::BLOCKING).expect("free");
    thread::scope(|scope| {
        scope.spawn(|| {
            acquire(&raw, second, WaitOptions::BLOCKING).expect("it is given back");
            assert_eq!(raw.word.load(Relaxed) & STARVING, 0);
        });
        until_starving(&raw);
        raw.release(first).expect("ours");
        if raw.try_acquire(first) {
            raw.release(first).expect("ours");
            panic!("it was snatched back");
        }
    });
    assert!(raw.is_held_by(second));
}

#[test]
fn a_free_lock_is_not_left_for_ever_to_one_that_is_gone() {
    let raw = RawLock::default();
    raw.word.store(STARVING, Relaxed);
    assert_eq!(acquire(&raw, id(1), WaitOptions::BLOCKING), Ok(false));
    assert_eq!(raw.word.load(Relaxed) & STARVING, 0);
    raw.release(id(1)).expect("ours");
    assert!(raw.try_acquire(id(1)));
}

#[test]
fn who_does_not_wait_takes_what_is_free_and_changes_nothing_for_others() {
    let raw = RawLock::default();
    raw.word.store(STARVING, Relaxed);
    assert_eq!(acquire(&raw, id(1), WaitOptions::NONBLOCKING), Ok(false));
    raw.release(id(1)).expect("ours");
    assert_eq!(raw.word.load(Relaxed), STARVING);
}

#[test]
fn who_gives_up_does_not_go_first() {
    let raw = RawLock::default();
    acquire(&raw, id(1), WaitOptions::BLOCKING).expect("free");
    let options = WaitOptions {
        timeout: super::Timeout::After(Duration::from_nanos(50_000_000)),
        interruptible: false,
    };
    acquire(&raw, id(2), options).expect_err("it is held");
    assert_eq!(raw.word.load(Relaxed) & STARVING, 0);
    raw.release(id(1)).expect("ours");
    assert!(raw.try_acquire(id(1)));
}
