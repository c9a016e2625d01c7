//! Corrupt words and cells: an error or the right result, and no wait beyond the timeout.

use super::common::process::{alone, fork};
use super::{at, managed, use_once, wait, within};
use shmkit::barrier::{Barrier, Create, Last, Options};
use shmkit::lock::Lock;
use shmkit::raw::WaitOptions;
use shmkit::segment::Segment;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Offsets of the words, as the layout fixes them.
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

/// Returns identities that no process has.
fn unused_identities() -> Vec<u64> {
    vec![4095 | 0xffff << 13, !(0b111 << 29), 1 << 62, 5]
}

/// Returns the identity of this process, as the words store it.
fn mine(segment: &Arc<Segment>) -> u64 {
    let lock = Lock::of(segment).unwrap();
    lock.acquire_with(WaitOptions::NONBLOCKING).unwrap();
    let me = lock.stat().0.owner.unwrap().bits();
    lock.release().unwrap();
    me
}

/// Uses the barrier in every way that ends by itself, then checks that it works.
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
fn an_impossible_number_of_parties_is_reported() {
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
fn an_impossible_turn_is_survived() {
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
        // The word counts all parties as waiting, and none is there.
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
fn cells_of_unknown_processes_count_as_dead() {
    alone(|| {
        let segment = managed(4096);
        let barrier = at(&segment, 0, 2);
        use_once(&barrier);
        for state in unused_identities()
            .into_iter()
            .flat_map(|id| (0..8).map(move |bits| id | (bits * WAITING)))
            .chain((1..8).map(|bits| bits * WAITING))
        {
            for cell in 0..4 {
                write(&segment, CELLS + 16 * cell, state);
                write(&segment, CELLS + 16 * cell + 8, u64::MAX);
                // No such process lives: the last party finds that out, and so does a waiter.
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
fn cells_that_name_this_process_are_survived() {
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
            // This process finds no free cell, and never will.
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
fn a_lock_of_an_unknown_owner_is_survived() {
    alone(|| {
        let segment = managed(4096);
        let barrier = at(&segment, 0, 2);
        use_once(&barrier);
        for id in unused_identities() {
            // Its owner counts as dead.
            write(&segment, LOCK, id);
            use_once(&barrier);
            write(&segment, LOCK, id);
            barrier.reset().unwrap();
            use_once(&barrier);
        }
        // This process holds the lock forever: no party enters, and no wait exceeds its timeout.
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
fn an_impossible_place_in_a_cell_is_survived() {
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
fn random_words_under_a_waiter_are_survived() {
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
