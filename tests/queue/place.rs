//! Queues in a segment: sizes, corrupt words, neighbours. For the rest see tests/object/place.rs.

use super::common::process::{alone, fork};
use super::{NOW, drain, managed};
use shmkit::error::Result;
use shmkit::queue::{Create, Options, Queue};
use shmkit::segment::Segment;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

fn at(segment: &Arc<Segment>, offset: u64, create: Create, options: &Options) -> Result<Queue> {
    Queue::at(segment, offset, create, options)
}

fn small() -> Options {
    Options {
        capacity: 4096,
        ..Options::default()
    }
}

#[test]
fn impossible_capacities_are_refused() {
    let segment = managed(65536);
    for capacity in [1, 32, 992, 1025, 4097, (1 << 46) + 32, u64::MAX] {
        let options = Options {
            capacity,
            ..Options::default()
        };
        refused!(Invalid, options.size());
        refused!(Invalid, Queue::unnamed(&options));
        refused!(Invalid, at(&segment, 0, Create::Always, &options));
    }
    assert_eq!(Options::default().size(), Ok(704 + 65536));
    assert_eq!(small().size(), Ok(704 + 4096));
}

#[test]
fn a_capacity_larger_than_the_segment_is_refused() {
    /// The offset of the capacity in the queue.
    const CAPACITY: usize = 8;
    let segment = managed(65536);
    let last = 65536 - small().size().unwrap().next_multiple_of(64);
    drop(at(&segment, last, Create::Always, &small()).unwrap());
    let bytes = segment.bytes().unwrap();
    for capacity in [0u64, 1, 1000, 4096 + 64, 1 << 40, u64::MAX] {
        for (at, byte) in capacity.to_ne_bytes().into_iter().enumerate() {
            bytes[last as usize + CAPACITY + at].store(byte, Relaxed);
        }
        refused!(
            Corrupt,
            at(&segment, last, Create::Never, &Options::default())
        );
    }
}

#[test]
fn two_queues_in_one_segment_do_not_affect_each_other() {
    let segment = managed(65536);
    let size = small().size().unwrap().next_multiple_of(64);
    let first = at(&segment, 0, Create::Always, &small()).unwrap();
    let second = at(&segment, size, Create::Always, &small()).unwrap();
    // Both queues are filled, and wrap several times.
    for round in 0..200u64 {
        let [mut one, mut other] = [0u64; 2];
        while first
            .put_with(&[1; 100][..(round % 100) as usize], NOW)
            .is_ok()
        {
            one += 1;
        }
        while second.put_with(&[2; 90], NOW).is_ok() {
            other += 1;
        }
        let (one_had, other_had) = (drain(&first), drain(&second));
        assert_eq!(
            (one_had.len(), other_had.len()),
            (one as usize, other as usize)
        );
        assert!(one > 20 && other > 20);
        assert!(one_had.iter().flatten().all(|&byte| byte == 1));
        assert!(other_had.iter().flatten().all(|&byte| byte == 2));
    }
    let end = 2 * size as usize;
    let behind = &segment.bytes().unwrap()[end..];
    assert!(behind.iter().all(|byte| byte.load(Relaxed) == 0));
}

#[test]
fn one_of_several_racing_creators_creates_the_queue() {
    alone(|| {
        let segment = managed(65536);
        let children: Vec<_> = (0..6u8)
            .map(|number| {
                let segment = &segment;
                fork(move || {
                    for round in 0..8 {
                        let create = Create::IfMissing;
                        let queue = at(segment, round * 8192, create, &small()).unwrap();
                        queue.put_with(&[number], NOW).unwrap();
                    }
                })
            })
            .collect();
        for child in children {
            child.succeed();
        }
        for round in 0..7 {
            let queue = at(&segment, round * 8192, Create::Never, &small()).unwrap();
            let mut had = drain(&queue).concat();
            had.sort_unstable();
            assert_eq!(had, [0, 1, 2, 3, 4, 5]);
        }
    });
}
