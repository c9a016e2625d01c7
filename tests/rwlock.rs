//! Readers-writer locks in the Rust API.
//!
//! | module    | what is tested                                                                  |
//! |-----------|---------------------------------------------------------------------------------|
//! | `hold`    | readers and writers, upgrade and downgrade, guards                              |
//! | `wait`    | timeouts, the hook, and that writers do not starve                              |
//! | `death`   | dead readers and writers, and what the next caller sees of them                 |
//! | `place`   | the size, the number of readers, and corrupt words                              |
//! | `thread`  | threads of one process, and plain memory under the lock                         |

#[macro_use]
mod common;

#[path = "rwlock/death.rs"]
mod death;
#[path = "rwlock/hold.rs"]
mod hold;
#[path = "rwlock/place.rs"]
mod place;
#[path = "rwlock/thread.rs"]
mod thread;
#[path = "rwlock/wait.rs"]
mod wait;

use common::process::{Child, fork, shared_words, wait_until};
use common::{managed, within};
use shmkit::raw::WaitOptions;
use shmkit::rwlock::{Options, RwLock};
use std::sync::atomic::Ordering::Relaxed;

fn unnamed() -> RwLock {
    RwLock::unnamed(&Options::default()).unwrap()
}

/// Returns the options for this number of readers.
fn readers(readers: u16) -> Options {
    Options {
        readers,
        ..Options::default()
    }
}

/// Reads and writes once. Any other reader or writer must be dead, and no writer may have died writing.
#[track_caller]
fn use_once(lock: &RwLock) {
    // A process that has just died may be remembered alive for a millisecond, so this call waits.
    assert_eq!(lock.write_with(WaitOptions::BLOCKING), Ok(false));
    lock.release_write().unwrap();
    assert_eq!(lock.read_with(WaitOptions::NONBLOCKING), Ok(false));
    lock.release_read().unwrap();
    assert_eq!(lock.write_with(WaitOptions::NONBLOCKING), Ok(false));
    lock.release_write().unwrap();
}

/// Takes over a dead writer's lock, marks it consistent, and uses it.
#[track_caller]
fn recover(lock: &RwLock) {
    assert_eq!(lock.write_with(WaitOptions::BLOCKING), Ok(true));
    lock.mark_consistent().unwrap();
    lock.release_write().unwrap();
    use_once(lock);
}

/// Forks a process that runs `action` and stays; returns when `action` is done.
fn staying(action: impl FnOnce()) -> Child {
    let words = shared_words(1);
    let child = fork(|| {
        action();
        words[0].store(1, Relaxed);
        stay();
    });
    wait_until(|| words[0].load(Relaxed) == 1);
    child
}

/// Forks a process that holds the lock for reading and stays.
fn reader(lock: &RwLock) -> Child {
    staying(|| assert_eq!(lock.read_with(WaitOptions::BLOCKING), Ok(false)))
}

/// Forks a process that holds the lock for writing and stays.
fn writer(lock: &RwLock) -> Child {
    staying(|| assert_eq!(lock.write_with(WaitOptions::BLOCKING), Ok(false)))
}

/// Sleeps until the process is killed.
fn stay() -> ! {
    loop {
        nix::unistd::pause();
    }
}

/// Waits until a waiter sleeps on the lock.
fn await_sleeper(lock: &RwLock) {
    wait_until(|| lock.stat().0.contended_since != 0);
}

/// Waits until a writer, or a reader that upgrades, sleeps until the other readers have left.
fn await_waiting_writer(lock: &RwLock) {
    wait_until(|| lock.stat().0.waits && lock.stat().0.contended_since != 0);
}
