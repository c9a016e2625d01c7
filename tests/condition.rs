//! Conditions, as the Rust API has them.
//!
//! | module    | what is tested                                                                  |
//! |-----------|---------------------------------------------------------------------------------|
//! | `notify`  | who returns: as many as were notified, those that have waited longest           |
//! | `end`     | what else ends a wait: times, interrupts; what becomes of a notification then   |
//! | `death`   | waiters, notifiers and owners of the lock that are killed                       |
//! | `bad`     | no lock, a wrong lock, too few cells, hostile bytes                             |
//! | `place`   | where conditions stand: by name, at an offset, handed over                      |

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
use shmkit::condition::{Condition, Create, End, Mutex, Options, Waited};
use shmkit::lock::{self, Lock};
use shmkit::raw::{Timeout, WaitOptions};
use shmkit::rlock::RLock;
use shmkit::segment::{self, Form, Segment};
use std::sync::Arc;
use std::time::Duration;

const NOTIFIED: Waited = Waited {
    end: End::Notified,
    owner_died: false,
};

fn within(ns: u64) -> WaitOptions {
    WaitOptions::after(Duration::from_nanos(ns))
}

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

/// Makes a managed segment without a name.
fn managed(size: u64) -> Arc<Segment> {
    let options = segment::Options {
        form: Form::Managed,
        ..segment::Options::default()
    };
    Arc::new(Segment::create(None, size, &options).unwrap())
}

/// Waits until so many threads wait.
fn await_waiters(condition: &Condition, count: u64) {
    wait_until(|| condition.stat().waiting >= count);
}

/// Forks a process that waits once, holding the lock before and after, and returns what came of it by its end.
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

/// Does something while holding the lock, whatever a dead owner has left.
fn locked<T>(lock: &Lock, body: impl FnOnce() -> T) -> T {
    lock.acquire_with(WaitOptions::BLOCKING).unwrap();
    let result = body();
    lock.release().unwrap();
    result
}
