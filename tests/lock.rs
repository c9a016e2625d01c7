//! Locks in the Rust API.
//!
//! | module    | what is tested                                                                  |
//! |-----------|---------------------------------------------------------------------------------|
//! | `hold`    | ownership, which threads and processes may release, guards, death                |
//! | `wait`    | timeouts, signals and the hook                                                   |
//! | `place`   | the built-in lock of a managed segment                                           |
//! | `name`    | named locks: dead owners, and the number of processes                            |
//! | `fd`      | locks of other processes, opened by their descriptor                             |
//! | `arena`   | thousands of unnamed locks, and when an offset is used again                     |
//! | `stat`    | the figures that a lock reports                                                  |
//! | `thread`  | threads of one process, and plain memory under locks                             |

#[macro_use]
mod common;

#[path = "lock/arena.rs"]
mod arena;
#[path = "lock/fd.rs"]
mod fd;
#[path = "lock/hold.rs"]
mod hold;
#[path = "lock/name.rs"]
mod name;
#[path = "lock/place.rs"]
mod place;
#[path = "lock/stat.rs"]
mod stat;
#[path = "lock/thread.rs"]
mod thread;
#[path = "lock/wait.rs"]
mod wait;

use common::process::{Child, fork, shared_words, wait_until};
use common::{managed, within};
use shmkit::lock::{Create, Lock, Options};
use shmkit::raw::WaitOptions;
use shmkit::segment::{self, Form, Segment};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

fn transferable() -> Options {
    Options {
        transferable: true,
        ..Options::default()
    }
}

fn unnamed() -> Lock {
    Lock::unnamed(&Options::default()).unwrap()
}

fn form(form: Form) -> segment::Options {
    segment::Options {
        form,
        ..segment::Options::default()
    }
}

/// Creates or opens the lock at this offset.
fn at(segment: &Arc<Segment>, offset: u64) -> Lock {
    Lock::at(segment, offset, Create::IfMissing, &Options::default()).unwrap()
}

/// Acquires and releases a lock that is free and whose owner has not died.
#[track_caller]
fn use_once(lock: &Lock) {
    assert_eq!(lock.acquire_with(WaitOptions::NONBLOCKING), Ok(false));
    lock.release().unwrap();
}

/// Takes over a dead owner's lock, marks it consistent and releases it.
#[track_caller]
fn recover(lock: &Lock) {
    assert_eq!(lock.acquire_with(WaitOptions::BLOCKING), Ok(true));
    lock.mark_consistent().unwrap();
    lock.release().unwrap();
}

/// Forks a process that acquires the lock and stays.
fn holder(lock: &Lock) -> Child {
    let words = shared_words(1);
    let child = fork(|| {
        assert_eq!(lock.acquire_with(WaitOptions::BLOCKING), Ok(false));
        words[0].store(1, Relaxed);
        stay();
    });
    wait_until(|| words[0].load(Relaxed) == 1);
    child
}

/// Sleeps until the process is killed.
fn stay() -> ! {
    loop {
        nix::unistd::pause();
    }
}

/// Waits until a waiter sleeps on the lock.
fn await_sleeper(lock: &Lock) {
    wait_until(|| lock.stat().0.contended_since != 0);
}
