//! Semaphores, as the Rust API has them.
//!
//! | module    | what is tested                                                                     |
//! |-----------|------------------------------------------------------------------------------------|
//! | `plain`   | permits that anybody gives and takes: many at once, overflow, waiting, threads     |
//! | `undo`    | permits that are recorded: whose they are, death, exit, fork, close, more than fit  |
//! | `place`   | at an offset, by name, handed over: how it was made, and with what                 |
//! | `hostile` | words and cells that somebody has written over                                     |

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

/// No semaphore has more permits.
const MAX_VALUE: u64 = i32::MAX as u64;

/// Where the value and its marks stand, in bytes.
const WORD: u64 = 64;
/// In the word: somebody may sleep.
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

/// `Semaphore` has no Debug, which `refused` wants.
fn told<T>(result: shmkit::error::Result<T>) -> shmkit::error::Result<()> {
    result.map(drop)
}

/// Reads the word of eight bytes at this place of the semaphore.
fn word(semaphore: &Semaphore, place: u64) -> u64 {
    common::word(semaphore.segment(), semaphore.offset() + place)
}

/// Writes it.
fn set_word(semaphore: &Semaphore, place: u64, value: u64) {
    common::set_word(semaphore.segment(), semaphore.offset() + place, value);
}

/// Waits until somebody is about to sleep on it.
fn await_sleeper(semaphore: &Semaphore) {
    wait_until(|| word(semaphore, WORD) & WAITERS != 0);
}

/// Forks a process that takes so many permits and stays.
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

/// Stays until it is killed.
fn stay() -> ! {
    loop {
        nix::unistd::pause();
    }
}

/// Takes all permits, which must be there or come back, and gives them back.
#[track_caller]
fn all_are_there(semaphore: &Semaphore, total: u64) {
    assert_eq!(semaphore.acquire_with(total, WaitOptions::BLOCKING), Ok(()));
    assert_eq!(semaphore.value(), Ok(0));
    semaphore.release(total).unwrap();
    assert_eq!(semaphore.value(), Ok(total));
}
