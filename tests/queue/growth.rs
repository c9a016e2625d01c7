//! Memory that grows, shrinks and is lacking, and the ends of the ring and of the positions.

use super::common::kernel::{SmallFileSystem, limit};
use super::common::process::{alone, fork, wait_until};
use super::{NOW, ONE_MINUTE, await_sleepers, drain, managed, unnamed};
use nix::sys::resource::Resource;
use shmkit::queue::{Batch, Create, FileOptions, Options, Queue};
use shmkit::raw::WaitOptions;
use std::sync::atomic::Ordering::Relaxed;

/// Makes a message of `length` bytes that begins with its number, as far as there is room.
fn fill(number: u64, length: u64) -> Vec<u8> {
    let mut bytes = vec![number as u8; length as usize];
    for (byte, part) in bytes.iter_mut().zip(number.to_ne_bytes()) {
        *byte = part;
    }
    bytes
}

fn allocated(queue: &Queue) -> u64 {
    queue.segment().stat().unwrap().file.allocated
}

#[test]
fn memory_grows_with_a_burst_and_shrinks_after_it() {
    const BURST: u64 = 20_000;
    let queue = unnamed(Options::default());
    let at_first = allocated(&queue);
    assert!(at_first <= 128 << 10, "{at_first}");
    for number in 0..BURST {
        queue.put_with(&fill(number, number % 2000), NOW).unwrap();
    }
    let stat = queue.stat().unwrap();
    assert_eq!(stat.messages, BURST);
    assert!(stat.bytes <= stat.memory && stat.memory <= allocated(&queue));
    assert!(stat.memory <= 2 * (stat.bytes + 64 * BURST), "{stat:?}");
    for number in 0..BURST {
        assert!(
            queue.get_with(NOW).unwrap() == fill(number, number % 2000),
            "{number}"
        );
    }
    // A consumer that finds the queue empty releases memory that was not used recently.
    let most = allocated(&queue);
    refused!(Empty, queue.get_with(NOW));
    assert_eq!(allocated(&queue), most);
    for _ in 0..100 {
        refused!(Empty, queue.get_with(NOW));
    }
    assert!(allocated(&queue) <= 4 << 20, "{}", allocated(&queue));
    // The queue works in the rest of the memory, and beyond.
    for number in 0..5000 {
        queue.put_with(&fill(number, 1000), NOW).unwrap();
    }
    for number in 0..5000 {
        assert!(
            queue.get_with(NOW).unwrap() == fill(number, 1000),
            "{number}"
        );
    }
}

#[test]
fn a_queue_that_is_never_empty_releases_memory() {
    let queue = unnamed(Options::default());
    let mut next = (0, 0);
    let mut put = |count| {
        for number in next.0..next.0 + count {
            queue.put_with(&fill(number, 1000), NOW).unwrap();
        }
        next.0 += count;
    };
    let mut get = |count| {
        for number in next.1..next.1 + count {
            assert!(
                queue.get_with(NOW).unwrap() == fill(number, 1000),
                "{number}"
            );
        }
        next.1 += count;
    };
    put(50_000);
    let most = allocated(&queue);
    assert!(most >= 50_000 * 1000);
    get(49_990);
    // Ten messages stay in the queue all the time.
    for _ in 0..20_000 {
        put(1);
        get(1);
    }
    assert!(
        allocated(&queue) < most / 2,
        "{} of {most}",
        allocated(&queue)
    );
}

#[test]
fn memory_of_large_messages_stays_from_one_message_to_the_next() {
    let queue = unnamed(Options::default());
    let large = vec![1; 8 << 20];
    let mut before = 0;
    for round in 0..200 {
        // Each put finds the queue empty, and its memory present.
        queue.put_with(&large, NOW).unwrap();
        if round > 0 {
            assert_eq!(allocated(&queue), before);
        }
        before = allocated(&queue);
        assert_eq!(queue.get_with(NOW).unwrap().len(), large.len());
        for _ in 0..3 {
            refused!(Empty, queue.get_with(NOW));
        }
        assert_eq!(allocated(&queue), before);
    }
}

#[test]
fn a_sleeping_consumer_releases_memory() {
    alone(|| {
        let queue = unnamed(Options::default());
        queue.put_with(&vec![1; 32 << 20], NOW).unwrap();
        queue.get_with(NOW).unwrap();
        let sleeper = fork(|| drop(queue.get_with(WaitOptions::BLOCKING)));
        wait_until(|| allocated(&queue) <= 4 << 20);
        sleeper.kill();
    });
}

#[test]
fn a_queue_in_a_segment_neither_grows_nor_releases_memory() {
    let segment = managed(8 << 20);
    // More than an idle queue with a file of its own would keep.
    let options = Options {
        capacity: 6 << 20,
        ..Options::default()
    };
    let queue = Queue::at(&segment, 64, Create::Always, &options).unwrap();
    let before = (
        segment.size(),
        allocated(&queue),
        queue.stat().unwrap().memory,
    );
    for round in 0..5 {
        let mut count = 0;
        while queue.put_with(&fill(round, 10_000), NOW).is_ok() {
            count += 1;
        }
        assert!(count >= 500, "{count}");
        assert_eq!(drain(&queue).len(), count);
    }
    let after = (
        segment.size(),
        allocated(&queue),
        queue.stat().unwrap().memory,
    );
    assert_eq!(before, after);
}

/// Returns the word `committed_bytes`: how much of the ring may have memory (src/raw/queue.rs).
fn committed_bytes(queue: &Queue) -> u64 {
    const OFFSET: usize = 208;
    let bytes = &queue.segment().bytes().unwrap()[OFFSET..][..8];
    let word: Vec<u8> = bytes.iter().map(|byte| byte.load(Relaxed)).collect();
    u64::from_ne_bytes(word.try_into().unwrap())
}

#[test]
fn a_file_system_that_fills_up_during_growth_is_an_error_and_loses_nothing() {
    alone(|| {
        let Some(small) = SmallFileSystem::mount(1 << 20) else {
            return;
        };
        let options = Options {
            file: FileOptions {
                directory: small.folder().directory(),
                ..FileOptions::default()
            },
            ..Options::default()
        };
        let queue = Queue::named(c"queue", Create::Always, &options).unwrap();
        for round in 0..3 {
            let mut count = 0;
            let cause = loop {
                match queue.put_with(&fill(count, 3000), ONE_MINUTE) {
                    Ok(()) => count += 1,
                    error => break refused!(NoSpace, error),
                }
            };
            assert!(cause.text.contains("bytes"), "{cause}");
            assert!(count >= 250, "round {round}: {count}");
            // The last page that helps was requested.
            assert!(small.free() < 8192, "{}", small.free());
            // Further producers fail the same way; a smaller message may still fit. Memory that could not be reserved
            // does not count as present, so the next attempt compares it with the free memory again.
            let before = committed_bytes(&queue);
            refused!(NoSpace, queue.reserve_with(3000, NOW));
            assert_eq!(committed_bytes(&queue), before);
            assert!(before <= 1 << 20, "{before}");
            let several = [&[0; 2000][..]; 2];
            refused!(
                NoSpace,
                queue.put_many_with(several.into_iter(), Batch::All, NOW)
            );
            assert_eq!(queue.stat().unwrap().messages, count);
            // After a get there is room again, from the beginning of the ring.
            for number in 0..20 {
                assert!(
                    queue.get_with(NOW).unwrap() == fill(number, 3000),
                    "{number}"
                );
            }
            for number in count..count + 10 {
                queue.put_with(&fill(number, 3000), NOW).unwrap();
            }
            for number in 20..count + 10 {
                assert!(
                    queue.get_with(NOW).unwrap() == fill(number, 3000),
                    "{number}"
                );
            }
            refused!(Empty, queue.get_with(NOW));
        }
        queue.unlink().unwrap();
        drop(queue);
        assert!(small.free() >= (1 << 20) - 8192);
    });
}

#[test]
fn a_producer_that_waits_for_room_fails_with_no_space_if_memory_runs_out() {
    alone(|| {
        let Some(small) = SmallFileSystem::mount(1 << 20) else {
            return;
        };
        let options = Options {
            capacity: 4 << 20,
            messages: 2,
            file: FileOptions {
                directory: small.folder().directory(),
                ..FileOptions::default()
            },
            ..Options::default()
        };
        let queue = Queue::named(c"queue", Create::Always, &options).unwrap();
        queue.put_with(b"a", NOW).unwrap();
        queue.put_with(b"b", NOW).unwrap();
        let producer = fork(|| {
            drop(refused!(
                NoSpace,
                queue.put_with(&[1; 2 << 20], WaitOptions::BLOCKING)
            ))
        });
        await_sleepers(&queue, 0, 1);
        assert_eq!(queue.get_with(NOW).unwrap(), b"a");
        producer.succeed();
        assert_eq!(drain(&queue), [b"b"]);
    });
}

#[test]
fn a_file_size_limit_is_an_error_and_no_signal() {
    alone(|| {
        let queue = unnamed(Options::default());
        queue.put_with(b"before", NOW).unwrap();
        limit(Resource::RLIMIT_FSIZE, 256 << 10);
        refused!(NoSpace, queue.put_with(&[1; 1 << 20], NOW));
        let mut count = 1;
        while queue.put_with(&fill(count, 1000), NOW).is_ok() {
            count += 1;
        }
        assert!(count > 100, "{count}");
        let large = fill(0, 1 << 20);
        // Another process has no such limit.
        limit(Resource::RLIMIT_FSIZE, u64::MAX);
        fork(|| queue.put_with(&large, NOW).unwrap()).succeed();
        limit(Resource::RLIMIT_FSIZE, 256 << 10);
        assert_eq!(queue.get_with(NOW).unwrap(), b"before");
        for number in 1..count {
            assert!(
                queue.get_with(NOW).unwrap() == fill(number, 1000),
                "{number}"
            );
        }
        assert!(queue.get_with(NOW).unwrap() == large);
        queue.put_with(b"after", NOW).unwrap();
        assert_eq!(drain(&queue), [b"after"]);
    });
}

#[test]
fn memory_that_another_process_has_added_can_be_read() {
    alone(|| {
        let queue = unnamed(Options::default());
        queue.put_with(b"small", NOW).unwrap();
        for round in 1..5 {
            fork(|| queue.put_with(&fill(round, round << 20), NOW).unwrap()).succeed();
        }
        assert_eq!(queue.get_with(NOW).unwrap(), b"small");
        for round in 1..5 {
            assert!(queue.get_with(NOW).unwrap() == fill(round, round << 20));
        }
    });
}

#[test]
fn positions_wrap_around() {
    // A new queue begins a few laps before positions wrap around, and each of these queues passes that point.
    for capacity in [1024, 1056, 4096, 5000 / 32 * 32, 64 << 10] {
        let queue = unnamed(Options {
            capacity,
            ..Options::default()
        });
        let (mut put, mut got) = (0, 0);
        let length = |number: u64| number * 31 % (capacity / 3);
        while got < 3000 {
            while queue.put_with(&fill(put, length(put)), NOW).is_ok() {
                put += 1;
            }
            assert_eq!(queue.stat().unwrap().messages, put - got);
            for _ in 0..1 + got % 5 {
                if got < put {
                    assert!(
                        queue.get_with(NOW).unwrap() == fill(got, length(got)),
                        "{got}"
                    );
                    got += 1;
                }
            }
        }
    }
}

#[test]
fn leases_and_reservations_stay_valid_when_positions_wrap_around() {
    let queue = unnamed(Options {
        capacity: 4096,
        ..Options::default()
    });
    for round in 0..200 {
        let slots: Vec<_> = (0..3)
            .map(|_| queue.reserve_with(300, NOW).unwrap())
            .collect();
        queue.commit(slots[1].token, 100).unwrap();
        queue.abort(slots[0].token).unwrap();
        let first = queue.lease_with(NOW).unwrap();
        assert_eq!(first.length, 100, "{round}");
        queue.commit(slots[2].token, 200).unwrap();
        let second = queue.lease_with(NOW).unwrap();
        queue.ack(second.token).unwrap();
        queue.nack(first.token).unwrap();
        assert_eq!(queue.get_with(NOW).unwrap().len(), 100, "{round}");
        for stale in [first.token, second.token, slots[0].token] {
            refused!(NotOwner, queue.ack(stale));
            refused!(NotOwner, queue.commit(stale, 0));
        }
        queue.join_with(NOW).unwrap();
    }
}

#[test]
fn a_message_of_half_the_capacity_fits_at_every_offset() {
    for capacity in [1024, 4096] {
        for before in 0..capacity / 32 {
            let queue = unnamed(Options {
                capacity,
                ..Options::default()
            });
            assert_eq!(queue.largest(), capacity / 2);
            // Moves tail up to the offset at which the next message begins.
            for _ in 0..before {
                queue.put_with(b"", NOW).unwrap();
                queue.get_with(NOW).unwrap();
            }
            let most = fill(before, capacity / 2);
            for _ in 0..3 {
                queue.put_with(&most, NOW).unwrap();
                assert!(queue.get_with(NOW).unwrap() == most, "{before}");
            }
            let place = queue.reserve_with(capacity / 2, NOW).unwrap();
            queue.commit(place.token, capacity / 2).unwrap();
            assert_eq!(queue.get_with(NOW).unwrap().len() as u64, capacity / 2);
            let too_large = vec![0; most.len() + 1];
            refused!(TooLarge, queue.put_with(&too_large, ONE_MINUTE));
            refused!(TooLarge, queue.reserve_with(capacity / 2 + 1, ONE_MINUTE));
            refused!(TooLarge, queue.reserve_with(u64::MAX, ONE_MINUTE));
        }
    }
}

#[test]
fn a_batch_of_half_the_capacity_fits_at_every_offset() {
    let capacity = 1024;
    for before in 0..capacity / 32 {
        let queue = unnamed(Options {
            capacity,
            ..Options::default()
        });
        for _ in 0..before {
            queue.put_with(b"", NOW).unwrap();
            queue.get_with(NOW).unwrap();
        }
        for _ in 0..3 {
            // Each message takes its length and at least 32 bytes; together they take half the capacity.
            let most = [&[7; 32][..]; 8];
            assert_eq!(
                queue.put_many_with(most.into_iter(), Batch::All, NOW),
                Ok(8)
            );
            assert_eq!(drain(&queue), most);
        }
        let more = [&[7; 32][..]; 9];
        refused!(
            TooLarge,
            queue.put_many_with(more.into_iter(), Batch::All, ONE_MINUTE)
        );
    }
}
