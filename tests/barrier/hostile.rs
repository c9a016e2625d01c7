//! Words and cells that make no sense: an error or the right thing, and no wait beyond the timeout.

use super::common::process::{alone, fork};
use super::{at, managed, use_once, wait, within};
use shmkit::barrier::{Barrier, Create, Last, Options};
use shmkit::lock::Lock;
use shmkit::raw::WaitOptions;
use shmkit::segment::Segment;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Where the words stand, as the layout fixes it.
const LOCK: u64 = 8;
const TURN: u64 = 64;
const CELLS: u64 = 128;

const BARRIER: u64 = 8;
const BROKEN: u64 = 1;
const WAITING: u64 = 1 << 29;

fn write(segment: &Segment, at: u64, value: u64) {
    let bytes = &segment.bytes().unwrap()[at as usize..][..8];
    for (byte, value) in bytes.iter().zip(value.to_ne_bytes()) {
        byte.store(value, Relaxed);
    }
}

fn read(segment: &Segment, at: u64) -> u64 {
    let bytes = &segment.bytes().unwrap()[at as usize..][..8];
    u64::from_ne_bytes(std::array::from_fn(|at| bytes[at].load(Relaxed)))
}

/// Ids that nobody has.
fn nobodies() -> Vec<u64> {
    vec![4095 | 0xffff << 13, !(0b111 << 29), 1 << 62, 5]
}

/// Returns our own id, as words have it.
fn mine(segment: &Arc<Segment>) -> u64 {
    let lock = Lock::of(segment).unwrap();
    lock.acquire_with(WaitOptions::NONBLOCKING).unwrap();
    let me = lock.stat().0.owner.unwrap().bits();
    lock.release().unwrap();
    me
}

/// Uses it in every way that ends by itself, and has it be whole.
fn survive(barrier: &Barrier) {
    for last in [Last::Passes, Last::Holds] {
        let _ = barrier.wait_with(WaitOptions::NONBLOCKING, last);
        let _ = barrier.wait_with(within(100_000), last);
        let _ = barrier.release();
    }
    let _ = barrier.stat();
    barrier.reset().unwrap();
    assert!(!barrier.stat().broken);
}

#[test]
fn numbers_of_parties_that_cannot_be() {
    let segment = managed(1 << 20);
    at(&segment, 0, 2);
    for cells in [0_u64, 1, 3, 5, 4097, 4098, 65535] {
        write(&segment, 0, BARRIER | cells << 48);
        let found = Barrier::at(&segment, 0, Create::Never, &Options::default());
        refused!(Corrupt, found);
    }
    // More than there is room for.
    let small = managed(192);
    at(&small, 0, 2);
    write(&small, 0, BARRIER | 6 << 48);
    refused!(
        Corrupt,
        Barrier::at(&small, 0, Create::Never, &Options::default())
    );
}

#[test]
fn turns_that_cannot_be() {
    alone(|| {
        let segment = managed(4096);
        let barrier = at(&segment, 0, 2);
        for arrived in [3, 4, 1000, 65535_u64] {
            write(&segment, TURN, arrived << 48);
            refused!(Corrupt, wait(&barrier));
            assert_eq!(barrier.stat().waiting, 2);
            barrier.reset().unwrap();
            use_once(&barrier);
        }
        // All there, says the word, and nobody is.
        write(&segment, TURN, 2 << 48);
        refused!(
            WouldBlock,
            barrier.wait_with(WaitOptions::NONBLOCKING, Last::Passes)
        );
        refused!(Timeout, barrier.wait_with(within(3_000_000), Last::Passes));
        refused!(NotOwner, barrier.release());
        barrier.reset().unwrap();
        for turn in (0..64)
            .map(|bit| 1 << bit)
            .chain([u64::MAX, !BROKEN, u64::MAX >> 16])
        {
            write(&segment, TURN, turn);
            survive(&barrier);
        }
        // The last generation is followed by the first.
        write(&segment, TURN, (1 << 48) - 4);
        use_once(&barrier);
        assert_eq!(read(&segment, TURN) & !2, 0);
        use_once(&barrier);
    });
}

#[test]
fn cells_that_nobody_has() {
    alone(|| {
        let segment = managed(4096);
        let barrier = at(&segment, 0, 2);
        use_once(&barrier);
        for state in nobodies()
            .into_iter()
            .flat_map(|id| (0..8).map(move |bits| id | (bits * WAITING)))
            .chain((1..8).map(|bits| bits * WAITING))
        {
            for cell in 0..4 {
                write(&segment, CELLS + 16 * cell, state);
                write(&segment, CELLS + 16 * cell + 8, u64::MAX);
                // Whoever that is does not live: the last to come finds out, and so does who waits.
                refused!(
                    Broken,
                    barrier.wait_with(within(60_000_000_000), Last::Passes)
                );
                barrier.reset().unwrap();
                assert_eq!(read(&segment, CELLS + 16 * cell), 0);
            }
            for cell in 0..4 {
                write(&segment, CELLS + 16 * cell, state);
            }
            survive(&barrier);
        }
        use_once(&barrier);
    });
}

#[test]
fn cells_that_we_have_not_taken() {
    alone(|| {
        let segment = managed(4096);
        let barrier = at(&segment, 0, 2);
        use_once(&barrier);
        let me = mine(&segment);
        for bits in 0..8 {
            for cell in 0..4 {
                write(&segment, CELLS + 16 * cell, me | (bits * WAITING));
                write(&segment, CELLS + 16 * cell + 8, u64::MAX);
            }
            // There is no cell for us, and never will be.
            refused!(
                WouldBlock,
                barrier.wait_with(WaitOptions::NONBLOCKING, Last::Passes)
            );
            refused!(Timeout, barrier.wait_with(within(3_000_000), Last::Passes));
            survive(&barrier);
            for cell in 0..4 {
                write(&segment, CELLS + 16 * cell, 0);
            }
        }
        use_once(&barrier);
    });
}

#[test]
fn a_lock_that_nobody_has() {
    alone(|| {
        let segment = managed(4096);
        let barrier = at(&segment, 0, 2);
        use_once(&barrier);
        for id in nobodies() {
            // Whoever had it has died with it.
            write(&segment, LOCK, id);
            use_once(&barrier);
            write(&segment, LOCK, id);
            barrier.reset().unwrap();
            use_once(&barrier);
        }
        // We have it ourselves, for ever: nobody is let in, and nobody waits longer than he wanted.
        write(&segment, LOCK, mine(&segment));
        refused!(
            WouldBlock,
            barrier.wait_with(WaitOptions::NONBLOCKING, Last::Passes)
        );
        refused!(Timeout, barrier.wait_with(within(3_000_000), Last::Passes));
        refused!(Timeout, barrier.reset());
        assert!(!barrier.stat().broken);
        write(&segment, LOCK, 0);
        use_once(&barrier);
    });
}

#[test]
fn a_place_that_cannot_be() {
    alone(|| {
        let segment = managed(4096);
        let barrier = at(&segment, 0, 2);
        let child = fork(|| drop(refused!(Corrupt, wait(&barrier))));
        super::await_waiting(&barrier, 1);
        for cell in 0..4 {
            let seat = CELLS + 16 * cell + 8;
            write(&segment, seat, read(&segment, seat) | 0xffff << 48);
        }
        assert!(wait(&barrier).is_ok());
        child.succeed();
    });
}

#[test]
fn random_words_under_who_waits() {
    alone(|| {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for _ in 0..30 {
            let segment: Arc<Segment> = managed(4096);
            let barrier = at(&segment, 0, 3);
            let children: Vec<_> = (0..3)
                .map(|_| fork(|| drop(barrier.wait_with(within(20_000_000), Last::Passes))))
                .collect();
            for _ in 0..200 {
                let at = 8 + random() % 26 * 8;
                write(&segment, at, random() & random());
            }
            for child in children {
                child.succeed();
            }
        }
    });
}
