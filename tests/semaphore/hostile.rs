//! Overwritten words and count slots: contradictions are `Corrupt`, and cause no crash, loop or endless wait.

use super::common::Watchdog;
use super::{MAX_VALUE, WORD, managed, options, set_word, with_undo, within, word};
use shmkit::raw::WaitOptions;
use shmkit::semaphore::{Create, Options, Semaphore};

/// The offsets of the other words, in bytes.
const LOCK: u64 = 8;
const MAXIMUM: u64 = 72;
const USED: u64 = 80;
const SLOTS: u64 = 128;

/// Creates a semaphore in a segment of its own.
fn make(options: &Options) -> Semaphore {
    Semaphore::at(&managed(16384), 0, Create::Always, options).unwrap()
}

fn open(semaphore: &Semaphore) -> shmkit::error::Result<Semaphore> {
    Semaphore::at(semaphore.segment(), 0, Create::Never, &Options::default())
}

#[test]
fn more_permits_than_the_maximum_are_corrupt() {
    let _watchdog = Watchdog::start();
    let bounded = make(&Options {
        maximum: 3,
        ..options(3)
    });
    for value in [4, 1 << 20, u64::from(u32::MAX)] {
        set_word(&bounded, WORD, value << 32);
        refused!(Corrupt, bounded.value());
        refused!(Corrupt, bounded.stat());
        refused!(Corrupt, bounded.release(1));
        assert_eq!(word(&bounded, WORD), value << 32);
    }
    set_word(&bounded, WORD, u64::MAX);
    refused!(Corrupt, bounded.release(1));
    // The marks alone are valid.
    set_word(&bounded, WORD, 2 << 32 | u64::from(u32::MAX));
    assert_eq!(bounded.release(1), Ok(()));
    assert_eq!(bounded.value(), Ok(3));
}

#[test]
fn an_impossible_maximum_is_corrupt() {
    let plain = make(&options(1));
    for maximum in [0, MAX_VALUE + 1, u64::MAX] {
        set_word(&plain, MAXIMUM, maximum);
        refused!(Corrupt, open(&plain));
        // An open handle keeps the maximum that it has read.
        assert_eq!(plain.release(1), Ok(()));
    }
    set_word(&plain, MAXIMUM, 9);
    assert_eq!(open(&plain).unwrap().stat().unwrap().maximum, 9);
}

#[test]
fn an_impossible_tag_is_corrupt() {
    let undo = make(&with_undo(1));
    let tag = word(&undo, 0);
    // With undo and without count slots, or with more count slots than there is room for.
    set_word(&undo, 0, tag & u64::MAX >> 16);
    refused!(Corrupt, open(&undo));
    set_word(&undo, 0, tag | 0xffff << 48);
    refused!(Corrupt, open(&undo));
    set_word(&undo, 0, tag);
    assert_eq!(
        open(&undo)
            .unwrap()
            .acquire_with(1, WaitOptions::NONBLOCKING),
        Ok(())
    );
}

#[test]
fn forged_count_slots_count_as_they_are() {
    let _watchdog = Watchdog::start();
    let tickets = [0, 1, 2, 1 << 40, (1 << 48) - 1];
    for slot in tickets
        .map(|ticket| ticket << 16 | 7)
        .into_iter()
        .chain([7, u64::MAX])
    {
        for used in [0, 1, 2, u64::MAX] {
            let undo = make(&with_undo(3));
            set_word(&undo, SLOTS, slot);
            set_word(&undo, SLOTS + 64, !slot);
            set_word(&undo, USED, used);
            // No process has these numbers, so their owners are dead. One of them may be that of this process.
            let taken = undo.acquire_with(3, within(50_000_000));
            assert!(matches!(
                taken,
                Ok(()) | Err(shmkit::error::Error::Timeout(_) | shmkit::error::Error::Overflow(_))
            ));
            let _ = undo.release(1);
            let _ = undo.held();
            let _ = undo.stat();
        }
    }
}

#[test]
fn a_forged_value_is_counted_anew() {
    let _watchdog = Watchdog::start();
    let undo = make(&with_undo(3));
    undo.acquire_with(1, WaitOptions::NONBLOCKING).unwrap();
    for value in [3, 4, 1000] {
        set_word(&undo, WORD, value << 32);
        // A permit that this process holds is released: there would be more than the total.
        undo.release(1).unwrap();
        assert_eq!(undo.value(), Ok(3));
        undo.acquire_with(1, WaitOptions::NONBLOCKING).unwrap();
        assert_eq!(undo.value(), Ok(2));
    }
}

#[test]
fn an_unknown_owner_of_the_lock_inside_is_taken_over() {
    let _watchdog = Watchdog::start();
    let undo = make(&with_undo(2));
    undo.acquire_with(1, WaitOptions::NONBLOCKING).unwrap();
    for owner in [1u64 << 40 | 5, !(7 << 29)] {
        set_word(&undo, LOCK, owner);
        assert_eq!(undo.acquire_with(1, WaitOptions::NONBLOCKING), Ok(()));
        undo.release(1).unwrap();
        assert_eq!((undo.value(), undo.held()), (Ok(1), Ok(1)));
    }
}

#[test]
fn an_acquire_does_not_wait_forever_for_a_live_owner_of_the_lock_inside() {
    let _watchdog = Watchdog::start();
    let undo = make(&with_undo(2));
    undo.acquire_with(1, WaitOptions::NONBLOCKING).unwrap();
    let lock = shmkit::lock::Lock::of(undo.segment()).unwrap();
    lock.acquire_with(WaitOptions::NONBLOCKING).unwrap();
    // This live process.
    set_word(&undo, LOCK, lock.stat().0.owner.unwrap().bits());
    refused!(WouldBlock, undo.acquire_with(1, WaitOptions::NONBLOCKING));
    refused!(Timeout, undo.acquire_with(1, within(1)));
    refused!(Timeout, undo.release(1));
    assert_eq!((undo.value(), undo.held()), (Ok(1), Ok(1)));
    set_word(&undo, LOCK, 0);
    undo.release(1).unwrap();
    lock.release().unwrap();
}
