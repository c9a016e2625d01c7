//! What is told of a lock: since when its owner has been waited for.

use super::{full, within};
use shmkit::lock::{Create, Lock, Options, Patience};
use std::sync::atomic::Ordering::Relaxed;

#[test]
fn the_first_to_sleep_for_an_owner_says_when() {
    let lock = Lock::at(&full(4096), 0, Create::IfMissing, &Options::default()).unwrap();
    lock.acquire(Patience::NONE).unwrap();
    // As a waiter leaves it that was overtaken by the release: it has stamped what was free by then.
    const LONG_AGO: u64 = 7;
    let stamp = &lock.segment().bytes().unwrap()[56..64];
    for (byte, value) in stamp.iter().zip(LONG_AGO.to_ne_bytes()) {
        byte.store(value, Relaxed);
    }
    refused!(Timeout, lock.acquire(within(2_000_000)));
    assert!(lock.stat().0.contended_since > LONG_AGO);
}
