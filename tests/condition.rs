//! Conditions, through the Rust API.
//!
//! | module    | what is tested                                                                  |
//! |-----------|---------------------------------------------------------------------------------|
//! | `notify`  | which waiters return: as many as were notified, those that have waited longest  |
//! | `end`     | timeouts and interrupts, and what becomes of a notification then                |
//! | `death`   | waiters, notifiers and owners of the lock that are killed                       |
//! | `bad`     | no lock, a wrong lock, too few cells, hostile bytes                             |
//! | `place`   | where a condition is stored: by name, at an offset, by a descriptor             |

#[macro_use]
mod common;

#[path = "condition/bad.rs"]
mod bad;
#[path = "condition/death.rs"]
mod death;
#[path = "condition/end.rs"]
mod end;
#[path = "condition/notify.rs"]
mod notify;
#[path = "condition/place.rs"]
mod place;

use common::process::{Child, fork, wait_until};
use common::{managed, within};
use shmkit::condition::{Condition, Create, End, Mutex, Options, Waited};
use shmkit::lock::{self, Lock};
use shmkit::raw::{Timeout, WaitOptions};
use shmkit::rlock::RLock;
use shmkit::segment::{self, Segment};
use std::sync::Arc;

const NOTIFIED: Waited = Waited {
    end: End::Notified,
    owner_died: false,
};

fn with_cells(cells: u32) -> Options {
    Options {
        cells,
        ..Options::default()
    }
}

fn unnamed() -> Condition {
    Condition::unnamed(&Options::default()).unwrap()
}

fn a_lock() -> Lock {
    Lock::unnamed(&lock::Options::default()).unwrap()
}

/// Waits until at least so many waiters wait.
fn await_waiters(condition: &Condition, count: u64) {
    wait_until(|| condition.stat().waiting >= count);
}

/// Forks a process that waits once, holding the lock before and after, and compares the result.
fn waiter(condition: &Condition, lock: &Lock, expected: Waited) -> Child {
    fork(|| {
        lock.acquire_with(WaitOptions::BLOCKING).unwrap();
        assert_eq!(
            condition.wait_with(lock, WaitOptions::BLOCKING),
            Ok(expected)
        );
        lock.release().unwrap();
    })
}

/// Calls a function while holding the lock, also after an owner's death.
fn locked<T>(lock: &Lock, body: impl FnOnce() -> T) -> T {
    lock.acquire_with(WaitOptions::BLOCKING).unwrap();
    let result = body();
    lock.release().unwrap();
    result
}
