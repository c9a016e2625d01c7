//! Many threads at once: no message is lost or duplicated, and each producer's messages keep their order.

use super::{ONE_MINUTE, unnamed};
use crate::common::Watchdog;
use shmkit::error::Error;
use shmkit::queue::{Options, Queue};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

const PRODUCERS: u64 = 3;
const EACH: u64 = 20_000;

fn message(producer: u64, number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(producer.to_ne_bytes());
    bytes.extend(number.to_ne_bytes());
    bytes.resize(16 + (number * 13 + producer) as usize % 200, number as u8);
    bytes
}

/// Runs three producers and three consumers on the queue, and checks every message.
fn share(queue: &Queue) {
    let _watchdog = Watchdog::start();
    let sum = AtomicU64::new(0);
    thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            scope.spawn(move || {
                for number in 0..EACH {
                    let bytes = message(producer, number);
                    match number % 3 {
                        0 => {
                            let place = queue
                                .reserve_with(bytes.len() as u64 + 5, ONE_MINUTE)
                                .unwrap();
                            let to = queue.address(place.offset, place.room).unwrap();
                            // SAFETY: this process has reserved the bytes and not committed them yet.
                            unsafe { to.as_ptr().copy_from(bytes.as_ptr(), bytes.len()) };
                            queue.commit(place.token, bytes.len() as u64).unwrap();
                        }
                        _ => queue.put_with(&bytes, ONE_MINUTE).unwrap(),
                    }
                }
            });
        }
        for consumer in 0..3 {
            let sum = &sum;
            scope.spawn(move || {
                let mut last = [None; PRODUCERS as usize];
                for turn in 0.. {
                    let bytes = match turn % 3 == consumer {
                        true => match queue.lease() {
                            Ok(lease) => {
                                let bytes = lease.to_vec();
                                lease.ack().unwrap();
                                bytes
                            }
                            Err(Error::ShutDown(_)) => return,
                            Err(error) => panic!("{error}"),
                        },
                        false => match queue.get_with(ONE_MINUTE) {
                            Ok(bytes) => bytes,
                            Err(Error::ShutDown(_)) => return,
                            Err(error) => panic!("{error}"),
                        },
                    };
                    let word =
                        |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
                    let (producer, number) = (word(0), word(8));
                    assert_eq!(bytes, message(producer, number));
                    let before = &mut last[producer as usize];
                    assert!(*before < Some(number), "{before:?} {number}");
                    *before = Some(number);
                    if sum.fetch_add(1, Relaxed) + 1 == PRODUCERS * EACH {
                        queue.shut_down().unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(sum.load(Relaxed), PRODUCERS * EACH);
    assert_eq!(queue.stat().unwrap().messages, 0);
}

#[test]
fn many_threads_share_a_small_ring() {
    share(&unnamed(Options {
        capacity: 2048,
        ..Options::default()
    }));
}

#[test]
fn many_threads_share_a_queue_of_few_messages() {
    share(&unnamed(Options {
        messages: 5,
        ..Options::default()
    }));
}

#[test]
fn many_threads_share_a_queue_without_bounds() {
    share(&unnamed(Options::default()));
}
