//! Messages leave the queue in the order in which they were put.

use super::{ONE_MINUTE, get_many, unnamed};
use crate::common::Watchdog;
use shmkit::error::Error;
use shmkit::queue::{Batch, Options, Overflow};
use shmkit::raw::{Timeout, WaitOptions};
use std::time::Duration;

const NOW: WaitOptions = WaitOptions::NONBLOCKING;

fn fill(seed: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + seed) as u8).collect()
}

#[test]
fn messages_of_any_length_are_got_as_they_were_put() {
    let queue = unnamed(Options::default());
    let lengths = [
        0,
        1,
        31,
        32,
        33,
        64,
        1000,
        65_535,
        65_536,
        200_000,
        3 << 20,
        5,
    ];
    for (seed, length) in lengths.into_iter().enumerate() {
        queue.put_with(&fill(seed, length), ONE_MINUTE).unwrap();
    }
    let stat = queue.stat().unwrap();
    assert_eq!(stat.messages, lengths.len() as u64);
    assert_eq!(stat.bytes, lengths.iter().sum::<usize>() as u64);
    for (seed, length) in lengths.into_iter().enumerate() {
        let got = queue.get_with(ONE_MINUTE).unwrap();
        assert!(got == fill(seed, length), "{seed}: {length} bytes");
    }
    assert!(matches!(queue.get_with(NOW), Err(Error::Empty(_))));
    let stat = queue.stat().unwrap();
    assert_eq!(
        (stat.messages, stat.bytes, stat.reserved, stat.leased),
        (0, 0, 0, 0)
    );
}

#[test]
fn a_small_ring_wraps_many_times() {
    let queue = unnamed(Options {
        capacity: 4096,
        ..Options::default()
    });
    let (mut put, mut got) = (0usize, 0usize);
    while got < 20_000 {
        while put < 20_000 && queue.put_with(&fill(put, put * 37 % 1500), NOW).is_ok() {
            put += 1;
        }
        for _ in 0..1 + got % 3 {
            if got < put {
                assert_eq!(
                    queue.get_with(NOW).unwrap(),
                    fill(got, got * 37 % 1500),
                    "{got}"
                );
                got += 1;
            }
        }
    }
}

#[test]
fn puts_beyond_the_bounds_fail() {
    let three = unnamed(Options {
        messages: 3,
        bytes: 100,
        ..Options::default()
    });
    for _ in 0..3 {
        three.put_with(&[1; 30], NOW).unwrap();
    }
    assert!(three.is_full().unwrap());
    assert!(matches!(three.put_with(&[], NOW), Err(Error::Full(_))));
    three.get_with(NOW).unwrap();
    assert!(matches!(three.put_with(&[1; 41], NOW), Err(Error::Full(_))));
    assert!(matches!(
        three.put_with(&[1; 101], NOW),
        Err(Error::TooLarge(_))
    ));
    three.put_with(&[1; 40], NOW).unwrap();
    // An aborted reservation does not count.
    three.get_with(NOW).unwrap();
    drop(three.reserve(10).unwrap());
    three.put_with(&[1; 30], NOW).unwrap();
    assert_eq!(three.stat().unwrap().messages, 3);
    assert!(matches!(three.put_with(&[], NOW), Err(Error::Full(_))));
}

#[test]
fn the_oldest_messages_are_overwritten() {
    let queue = unnamed(Options {
        messages: 4,
        overflow: Overflow::Overwrite,
        ..Options::default()
    });
    for number in 0..100u8 {
        queue.put_with(&[number], NOW).unwrap();
    }
    for number in 96..100 {
        assert_eq!(queue.get_with(NOW).unwrap(), [number]);
    }
    assert_eq!(queue.stat().unwrap().overwritten, 96);
}

#[test]
fn batches_put_and_get_several_messages() {
    let queue = unnamed(Options {
        capacity: 64 << 10,
        messages: 10,
        ..Options::default()
    });
    let messages: Vec<Vec<u8>> = (0..10).map(|number| fill(number, number * 10)).collect();
    let slices = || messages.iter().map(Vec::as_slice);
    assert_eq!(
        queue.put_many_with(slices().take(7), Batch::All, NOW),
        Ok(7)
    );
    assert!(matches!(
        queue.put_many_with(slices().take(4), Batch::All, NOW),
        Err(Error::Full(_))
    ));
    assert_eq!(
        queue.put_many_with(slices().skip(7).chain(slices()), Batch::Some, NOW),
        Ok(3)
    );
    assert!(matches!(
        queue.put_many_with(slices().chain(slices()), Batch::All, NOW),
        Err(Error::TooLarge(_))
    ));
    assert_eq!(get_many(&queue, 1000, 4), messages[..4]);
    assert_eq!(get_many(&queue, 110, 100), messages[4..6]);
    assert_eq!(get_many(&queue, 1000, 100), messages[6..]);
    assert_eq!(queue.stat().unwrap().messages, 0);
    // A get skips all aborted reservations, but no pending one.
    let mut slots = Vec::new();
    for number in 0..4 {
        queue.put_with(&[number], NOW).unwrap();
        slots.push(queue.reserve_with(10, NOW).unwrap());
    }
    for slot in &slots[..3] {
        queue.abort(slot.token).unwrap();
    }
    queue.put_with(b"behind", NOW).unwrap();
    assert_eq!(get_many(&queue, 1000, 100), [[0], [1], [2], [3]]);
    assert_eq!(queue.stat().unwrap().skipped, 3);
    queue.abort(slots[3].token).unwrap();
    assert_eq!(get_many(&queue, 1000, 100), [b"behind"]);
}

#[test]
fn a_returned_lease_is_redelivered_and_acknowledged_once() {
    let queue = unnamed(Options::default());
    for number in 0..5u8 {
        queue.put_with(&[number], NOW).unwrap();
    }
    let first = queue.lease_with(NOW).unwrap();
    let second = queue.lease_with(NOW).unwrap();
    assert_eq!(queue.get_with(NOW).unwrap(), [2]);
    assert_eq!(queue.stat().unwrap().leased, 2);
    queue.nack(first.token).unwrap();
    assert!(matches!(queue.nack(first.token), Err(Error::NotOwner(_))));
    // A returned lease is redelivered first, and its old token is refused.
    let again = queue.lease().unwrap();
    assert_eq!((again.attempts(), again.bytes().len()), (2, 1));
    assert!(matches!(queue.ack(first.token), Err(Error::NotOwner(_))));
    again.ack().unwrap();
    assert!(matches!(queue.ack(first.token), Err(Error::NotOwner(_))));
    queue.ack(second.token).unwrap();
    assert!(matches!(queue.ack(second.token), Err(Error::NotOwner(_))));
    assert_eq!(queue.get_with(NOW).unwrap(), [3]);
    assert!(matches!(queue.join_with(NOW), Err(Error::WouldBlock(_))));
    assert_eq!(queue.get_with(NOW).unwrap(), [4]);
    queue.join_with(NOW).unwrap();
}

#[test]
fn a_reservation_delays_the_messages_behind_it() {
    let queue = unnamed(Options::default());
    queue.put_with(b"a", NOW).unwrap();
    let slot = queue.reserve_with(10, NOW).unwrap();
    queue.put_with(b"c", NOW).unwrap();
    assert_eq!(queue.get_with(NOW).unwrap(), b"a");
    assert!(matches!(queue.get_with(NOW), Err(Error::Empty(_))));
    let stat = queue.stat().unwrap();
    assert_eq!((stat.messages, stat.bytes, stat.reserved), (1, 1, 1));
    assert!(stat.held_up_by.is_some());
    assert!(matches!(
        queue.commit(slot.token, 11),
        Err(Error::Invalid(_))
    ));
    queue.commit(slot.token, 0).unwrap();
    assert!(matches!(
        queue.commit(slot.token, 0),
        Err(Error::NotOwner(_))
    ));
    assert_eq!(queue.stat().unwrap().bytes, 1);
    assert_eq!(queue.get_with(NOW).unwrap(), b"");
    assert_eq!(queue.get_with(NOW).unwrap(), b"c");
    let slot = queue.reserve(10).unwrap();
    queue.put_with(b"e", NOW).unwrap();
    drop(slot);
    assert_eq!(queue.get_with(NOW).unwrap(), b"e");
    assert_eq!(queue.stat().unwrap().skipped, 1);
}

#[test]
fn memory_follows_the_backlog() {
    let queue = unnamed(Options::default());
    let allocated = || queue.segment().stat().unwrap().file.allocated;
    for _ in 0..100_000 {
        queue.put_with(&[1; 64], NOW).unwrap();
        queue.get_with(NOW).unwrap();
    }
    assert!(allocated() <= 128 << 10, "{}", allocated());
    for _ in 0..300 {
        queue.put_with(&[2; 1 << 20], NOW).unwrap();
    }
    assert!(allocated() >= 300 << 20);
    for _ in 0..300 {
        assert_eq!(queue.get_with(NOW).unwrap().len(), 1 << 20);
    }
    // Memory is released only after it was not used for a while.
    for _ in 0..100 {
        assert!(matches!(queue.get_with(NOW), Err(Error::Empty(_))));
    }
    assert!(allocated() <= 4 << 20, "{}", allocated());
    queue.put_with(&[3; 1 << 20], NOW).unwrap();
    assert_eq!(queue.get_with(NOW).unwrap(), [3; 1 << 20]);
}

#[test]
fn no_message_is_put_after_shutdown() {
    let queue = unnamed(Options::default());
    queue.put_with(b"left", NOW).unwrap();
    queue.shut_down().unwrap();
    assert!(matches!(
        queue.put_with(b"late", ONE_MINUTE),
        Err(Error::ShutDown(_))
    ));
    assert_eq!(queue.get_with(ONE_MINUTE).unwrap(), b"left");
    assert!(matches!(
        queue.get_with(ONE_MINUTE),
        Err(Error::ShutDown(_))
    ));
    queue.join_with(ONE_MINUTE).unwrap();
}

#[test]
fn a_returned_lease_that_was_taken_is_not_searched_for_again() {
    let queue = unnamed(Options::default());
    queue.put_with(b"once more", NOW).unwrap();
    let lease = queue.lease_with(NOW).unwrap();
    queue.nack(lease.token).unwrap();
    assert_eq!(queue.get_with(NOW).unwrap(), b"once more");
    let _watchdog = Watchdog::start();
    assert!(matches!(queue.get_with(NOW), Err(Error::Empty(_))));
    let short = WaitOptions {
        timeout: Timeout::After(Duration::from_nanos(1_000_000)),
        ..ONE_MINUTE
    };
    assert!(matches!(queue.get_with(short), Err(Error::Timeout(_))));
}
