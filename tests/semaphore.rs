//! Semaphores, through the Rust API.
//!
//! | module    | what is tested                                                                     |
//! |-----------|------------------------------------------------------------------------------------|
//! | `plain`   | permits without undo: several at once, overflow, waiting, threads                   |
//! | `undo`    | permits with undo: count slots, death, exit, fork, close, too many processes        |
//! | `place`   | options of an existing semaphore, names, descriptors, slots of the arena            |
//! | `hostile` | words and count slots that another process has overwritten                          |

#[macro_use]
mod common;

#[path = "semaphore/hostile.rs"]
mod hostile;
#[path = "semaphore/place.rs"]
mod place;
#[path = "semaphore/plain.rs"]
mod plain;
#[path = "semaphore/undo.rs"]
mod undo;

use common::process::{Child, fork, shared_words, wait_until};
use common::{managed, within};
use shmkit::raw::WaitOptions;
use shmkit::semaphore::{Options, Semaphore};
use std::sync::atomic::Ordering::Relaxed;

/// The largest number of permits.
const MAX_VALUE: u64 = i32::MAX as u64;

/// The offset of the value and its marks, in bytes.
const WORD: u64 = 64;
/// In the word: a waiter may sleep.
const WAITERS: u64 = 1 << 31;

fn options(value: u64) -> Options {
    Options {
        value,
        ..Options::default()
    }
}

fn with_undo(value: u64) -> Options {
    Options {
        undo: true,
        ..options(value)
    }
}

fn plain(value: u64) -> Semaphore {
    Semaphore::unnamed(&options(value)).unwrap()
}

fn undo(value: u64) -> Semaphore {
    Semaphore::unnamed(&with_undo(value)).unwrap()
}

/// Drops a semaphore, which has no Debug, as `refused` needs it.
fn debug_of<T>(result: shmkit::error::Result<T>) -> shmkit::error::Result<()> {
    result.map(drop)
}

/// Reads the word of eight bytes at this offset of the semaphore.
fn word(semaphore: &Semaphore, place: u64) -> u64 {
    common::word(semaphore.segment(), semaphore.offset() + place)
}

/// Writes the word of eight bytes at this offset of the semaphore.
fn set_word(semaphore: &Semaphore, place: u64, value: u64) {
    common::set_word(semaphore.segment(), semaphore.offset() + place, value);
}

/// Waits until a waiter is about to sleep.
fn await_sleeper(semaphore: &Semaphore) {
    wait_until(|| word(semaphore, WORD) & WAITERS != 0);
}

/// Forks a process that acquires so many permits and keeps them.
fn holder(semaphore: &Semaphore, count: u64) -> Child {
    let words = shared_words(1);
    let child = fork(|| {
        assert_eq!(semaphore.acquire_with(count, WaitOptions::BLOCKING), Ok(()));
        words[0].store(1, Relaxed);
        stay();
    });
    wait_until(|| words[0].load(Relaxed) == 1);
    child
}

/// Waits until this process is killed.
fn stay() -> ! {
    loop {
        nix::unistd::pause();
    }
}

/// Acquires all permits, perhaps after dead holders are found, and releases them.
#[track_caller]
fn all_are_there(semaphore: &Semaphore, total: u64) {
    assert_eq!(semaphore.acquire_with(total, WaitOptions::BLOCKING), Ok(()));
    assert_eq!(semaphore.value(), Ok(0));
    semaphore.release(total).unwrap();
    assert_eq!(semaphore.value(), Ok(total));
}
