//! Corrupt words and records: the result is an error or correct, never a crash, a loop, a wait beyond the timeout, or a
//! write outside the queue.

use super::ONE_MINUTE;
use crate::common::process::{Ended, alone, fork};
use crate::common::{Name, Watchdog};
use nix::sys::signal::Signal;
use shmkit::error::{Error, Result};
use shmkit::lock::Lock;
use shmkit::queue::{Batch, Create, Options, Overflow, Queue};
use shmkit::raw::WaitOptions;
use shmkit::segment::{self, Form, Segment};
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

const NOW: WaitOptions = WaitOptions::NONBLOCKING;
const SHORT: WaitOptions = WaitOptions::after(Duration::from_nanos(50_000));

/// The size of the queue's words, as the layout fixes it.
const WORDS: u64 = 576;
const WORD: u64 = 8;
const TAIL: u64 = 128;
/// The words that name the owner of the producer lock and of the consumer lock.
const LOCKS: [u64; 2] = [64 + WORD, 256 + WORD];

const CAPACITY: u64 = 1024;
const RING: u64 = CAPACITY + 4 * 32;
/// How many bytes of the segment follow the queue.
const BEHIND: u64 = 4096;
const CANARY: u8 = 0xa5;

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

fn options(overflow: Overflow) -> Options {
    Options {
        capacity: CAPACITY,
        messages: 9,
        overflow,
        ..Options::default()
    }
}

/// Creates a queue with a record in every state, and behind it bytes that must not change.
fn make(overflow: Overflow) -> (Arc<Segment>, Queue) {
    let full = segment::Options {
        form: Form::Managed,
        ..segment::Options::default()
    };
    let segment = Arc::new(Segment::create(None, WORDS + RING + BEHIND, &full).unwrap());
    for byte in &segment.bytes().unwrap()[(WORDS + RING) as usize..] {
        byte.store(CANARY, Relaxed);
    }
    let queue = Queue::at(&segment, 0, Create::Always, &options(overflow)).unwrap();
    for number in 0..6u8 {
        queue.put_with(&[number; 40], NOW).unwrap();
    }
    let first = queue.lease_with(NOW).unwrap();
    let second = queue.lease_with(NOW).unwrap();
    queue.get_with(NOW).unwrap();
    queue.nack(first.token).unwrap();
    queue.lease_with(NOW).unwrap();
    queue.ack(second.token).unwrap();
    queue.reserve_with(40, NOW).unwrap();
    queue.put_with(&[6; 40], NOW).unwrap();
    (segment, queue)
}

fn check<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(done) => Some(done),
        Err(
            Error::Corrupt(_)
            | Error::Empty(_)
            | Error::Full(_)
            | Error::TooLarge(_)
            | Error::NotOwner(_)
            | Error::Timeout(_)
            | Error::WouldBlock(_)
            | Error::ShutDown(_)
            | Error::NoSpace(_),
        ) => None,
        Err(error) => panic!("{error:?}"),
    }
}

/// Uses the queue in every way that ends without another process.
fn survive(segment: &Segment, queue: &Queue) {
    for wait in [NOW, SHORT] {
        check(queue.put_with(&[7; 40], wait));
        check(queue.put_many_with([&[8; 10][..], &[9; 300]].into_iter(), Batch::Some, wait));
        if let Some(place) = check(queue.reserve_with(64, wait)) {
            if let Some(to) = check(queue.address(place.offset, place.room)) {
                // SAFETY: this many bytes are mapped there, and any process may write them as bytes.
                unsafe { to.as_ptr().write_bytes(1, place.room as usize) };
            }
            check(queue.commit(place.token, 60));
            check(queue.abort(place.token));
        }
        if let Some(lease) = check(queue.lease_with(wait)) {
            check(queue.address(lease.offset, lease.length));
            check(queue.nack(lease.token));
            check(queue.ack(lease.token));
        }
        let mut bytes = [MaybeUninit::uninit(); 600];
        check(queue.peek_into_with(&mut bytes, wait));
        if let Some(taken) = check(queue.get_into_with(&mut bytes, wait)) {
            assert!(taken.length <= 600);
        }
        let mut lengths = [MaybeUninit::uninit(); 4];
        check(queue.get_many_into_with(&mut bytes, &mut lengths, wait));
        check(queue.join_with(wait));
        check(queue.stat());
        check(queue.is_full());
    }
    check(queue.get_with(NOW));
    let behind = &segment.bytes().unwrap()[(WORDS + RING) as usize..];
    let whole = behind.iter().all(|byte| byte.load(Relaxed) == CANARY);
    assert!(whole, "a byte outside the queue was written");
}

/// Identities that no process has.
const UNUSED_IDS: [u64; 3] = [4095 | 0xffff << 13, 1 << 62, 5 | 99 << 13];

fn wrong_values(truth: u64) -> Vec<u64> {
    const LAP: u64 = RING.next_power_of_two();
    let mut values = vec![0, 1, !0, !0 >> 1, 1 << 63, 31, 32, RING, LAP, 1 << 46, !31];
    for off in [1, 8, 32, 64, RING, LAP, 2 * LAP, 3 * LAP, 1 << 40] {
        values.extend([truth.wrapping_add(off), truth.wrapping_sub(off)]);
    }
    // Other states, with the same identity, an unused one, and none.
    for state in 0..8 {
        values.push(state << 29);
        values.push(UNUSED_IDS[0] | state << 29);
        values.push(truth & !(7 << 29) | state << 29);
    }
    values
}

fn each_word(overflow: Overflow, places: impl Iterator<Item = u64>) {
    for at in places {
        let (segment, _queue) = make(overflow);
        for value in wrong_values(read(&segment, at)) {
            let (segment, queue) = make(overflow);
            write(&segment, at, value);
            survive(&segment, &queue);
        }
    }
}

#[test]
fn corrupt_words_cause_errors_and_no_crash_or_hang() {
    // The words of the tag and of the bounds are read when the queue is opened.
    let words = || (32..WORDS).step_by(8);
    alone(|| {
        each_word(Overflow::Block, words());
        each_word(Overflow::Overwrite, words());
    });
}

#[test]
fn corrupt_records_cause_errors_and_no_crash_or_hang() {
    // A header of four words and 40 bytes.
    const EXTENT: usize = 96;
    alone(|| {
        let heads = (WORDS..WORDS + RING).step_by(EXTENT);
        let words = heads.flat_map(|head| (head..head + 32).step_by(8));
        each_word(Overflow::Block, words);
    });
}

#[test]
fn impossible_bounds_are_corrupt() {
    alone(|| {
        for at in [8, 16, 24] {
            for value in wrong_values(CAPACITY) {
                let (segment, _queue) = make(Overflow::Block);
                write(&segment, at, value);
                match Queue::at(&segment, 0, Create::Never, &Options::default()) {
                    // The capacity is larger than the original one, but not larger than what is mapped.
                    Ok(_) if at == 8 => {}
                    Ok(found) => survive(&segment, &found),
                    Err(error) => assert!(matches!(error, Error::Corrupt(_)), "{error:?}"),
                }
            }
        }
    });
}

#[test]
fn locks_of_owners_that_never_existed_are_taken_over() {
    let _watchdog = Watchdog::start();
    for lock in LOCKS {
        for unused in UNUSED_IDS {
            let (segment, queue) = make(Overflow::Block);
            write(&segment, lock, unused);
            assert_eq!(queue.get_with(ONE_MINUTE).unwrap(), [3; 40]);
            queue.put_with(&[7; 40], ONE_MINUTE).unwrap();
        }
    }
}

#[test]
fn a_live_owner_that_never_releases_is_waited_for_until_the_timeout() {
    let _watchdog = Watchdog::start();
    let (segment, queue) = make(Overflow::Block);
    let lock = Lock::of(&segment).unwrap();
    lock.acquire_with(NOW).unwrap();
    // The identity of this live process.
    let me = lock.stat().0.owner.unwrap().bits();
    write(&segment, LOCKS[0], me);
    refused!(WouldBlock, queue.put_with(&[], NOW));
    refused!(Timeout, queue.put_with(&[], SHORT));
    assert_eq!(queue.get_with(NOW).unwrap(), [3; 40]);
    queue.shut_down().unwrap();
    write(&segment, LOCKS[0], 0);
    write(&segment, LOCKS[1], me);
    refused!(WouldBlock, queue.get_with(NOW));
    refused!(Timeout, queue.get_with(SHORT));
    write(&segment, LOCKS[1], 0);
    assert_eq!(queue.get_with(NOW).unwrap(), [4; 40]);
}

#[test]
fn random_words_written_during_use_cause_no_crash_or_hang() {
    alone(|| {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for _ in 0..20 {
            let (segment, queue) = make(Overflow::Block);
            let children: Vec<_> = (0..2)
                .map(|_| fork(|| (0..20).for_each(|_| survive(&segment, &queue))))
                .collect();
            for _ in 0..2000 {
                // Not the owner words: a live owner is waited for.
                let at = random() % ((WORDS - TAIL + RING) / 8) * 8 + TAIL;
                if !LOCKS.contains(&at) {
                    write(&segment, at, random() & random());
                }
            }
            for child in children {
                child.succeed();
            }
        }
    });
}

#[test]
fn a_named_file_that_is_truncated_ends_its_user_with_sigbus() {
    alone(|| {
        let name = Name::new();
        let child = fork(|| {
            let queue = Queue::named(&name, Create::Always, &Options::default()).unwrap();
            queue.put_with(&[1; 100_000], NOW).unwrap();
            let file = std::fs::File::options().write(true).open(name.path());
            file.unwrap().set_len(0).unwrap();
            let _ = queue.get_with(NOW);
        });
        assert_eq!(child.wait(), Ended::Signal(Signal::SIGBUS));
    });
}

#[test]
fn an_unnamed_file_cannot_be_truncated() {
    let queue = Queue::unnamed(&Options::default()).unwrap();
    queue.put_with(&[1; 100_000], NOW).unwrap();
    let (fd, _) = queue.export().unwrap();
    // SAFETY: the descriptor is open, and the kernel checks it.
    let cut = unsafe { libc::ftruncate(fd, 0) };
    assert_eq!(cut, -1);
    assert_eq!(nix::errno::Errno::last(), nix::errno::Errno::EPERM);
    assert_eq!(queue.get_with(NOW).unwrap(), [1; 100_000]);
}
