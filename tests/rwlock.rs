//! Readers-writer locks, as the Rust API has them.
//!
//! | module    | what is tested                                                                  |
//! |-----------|---------------------------------------------------------------------------------|
//! | `hold`    | who reads and who writes; upgrade and downgrade; guards                          |
//! | `wait`    | timeouts, the hook, and that writers do not starve                               |
//! | `death`   | dead readers, dead writers, what is told of them                                 |
//! | `place`   | at an offset, by name, handed over; options; hostile bytes                       |
//! | `thread`  | threads of one process, and plain memory under the lock                          |

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

/// Options for so many readers.
fn readers(readers: u16) -> Options {
    Options {
        readers,
        ..Options::default()
    }
}

/// Reads and writes once; nobody else does, or who did is dead, and no writer has died.
#[track_caller]
fn use_once(lock: &RwLock) {
    // Who has just died may be remembered alive for a millisecond: so this waits.
    assert_eq!(lock.write_with(WaitOptions::BLOCKING), Ok(false));
    lock.release_write().unwrap();
    assert_eq!(lock.read_with(WaitOptions::NONBLOCKING), Ok(false));
    lock.release_read().unwrap();
    assert_eq!(lock.write_with(WaitOptions::NONBLOCKING), Ok(false));
    lock.release_write().unwrap();
}

/// Takes it from a dead writer and gives it back whole.
#[track_caller]
fn recover(lock: &RwLock) {
    assert_eq!(lock.write_with(WaitOptions::BLOCKING), Ok(true));
    lock.mark_consistent().unwrap();
    lock.release_write().unwrap();
    use_once(lock);
}

/// Forks a process that does `what` and stays.
fn staying(what: impl FnOnce()) -> Child {
    let words = shared_words(1);
    let child = fork(|| {
        what();
        words[0].store(1, Relaxed);
        stay();
    });
    wait_until(|| words[0].load(Relaxed) == 1);
    child
}

/// Forks a process that reads and stays.
fn reader(lock: &RwLock) -> Child {
    staying(|| assert_eq!(lock.read_with(WaitOptions::BLOCKING), Ok(false)))
}

/// Forks a process that writes and stays.
fn writer(lock: &RwLock) -> Child {
    staying(|| assert_eq!(lock.write_with(WaitOptions::BLOCKING), Ok(false)))
}

/// Stays until it is killed.
fn stay() -> ! {
    loop {
        nix::unistd::pause();
    }
}

/// Waits until somebody sleeps who wants it.
fn await_sleeper(lock: &RwLock) {
    wait_until(|| lock.stat().0.contended_since != 0);
}

/// Waits until a writer, or who upgrades, sleeps until the readers have left.
fn await_waiting_writer(lock: &RwLock) {
    wait_until(|| lock.stat().0.waits && lock.stat().0.contended_since != 0);
}
