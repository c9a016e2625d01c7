//! In a segment: where a queue stands, how it was made, what stands there otherwise.

use super::common::process::{alone, fork};
use super::{NOW, drain, full, told};
use shmkit::error::Result;
use shmkit::lock::Lock;
use shmkit::queue::{Create, Options, Overflow, Queue};
use shmkit::segment::{self, Segment};
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
fn made_and_found_at_an_offset() {
    let segment = full(65536);
    refused!(NotFound, told(at(&segment, 64, Create::Never, &small())));
    let made = at(&segment, 64, Create::Always, &small()).unwrap();
    refused!(Exists, told(at(&segment, 64, Create::Always, &small())));
    // Who opens it as it is need not know how it was made.
    let found = at(&segment, 64, Create::Never, &Options::default()).unwrap();
    let same = at(&segment, 64, Create::IfMissing, &small()).unwrap();
    assert_eq!((found.bounds(), found.largest()), ((4096, 0, 0), 2048));
    assert_eq!(found.offset(), 64);
    made.put_with(b"one", NOW).unwrap();
    found.put_with(b"two", NOW).unwrap();
    assert_eq!(drain(&same), [b"one", b"two"]);
    refused!(Invalid, made.unlink());
    refused!(Invalid, made.export());
    refused!(
        WrongKind,
        told(Lock::at(&segment, 64, Create::Never, &Default::default()))
    );
}

#[test]
fn found_with_other_options() {
    let segment = full(65536);
    let all = [
        small(),
        Options {
            capacity: 4096 + 32,
            ..small()
        },
        Options {
            messages: 7,
            ..small()
        },
        Options {
            bytes: 7,
            ..small()
        },
        Options {
            overflow: Overflow::Fail,
            ..small()
        },
        Options {
            overflow: Overflow::Overwrite,
            ..small()
        },
    ];
    for (place, made) in all.iter().enumerate() {
        let offset = place as u64 * 8192;
        drop(at(&segment, offset, Create::IfMissing, made).unwrap());
        for (other, options) in all.iter().enumerate() {
            let found = told(at(&segment, offset, Create::IfMissing, options));
            match other == place {
                true => assert_eq!(found, Ok(())),
                false => drop(refused!(Invalid, found)),
            }
        }
        let found = at(&segment, offset, Create::Never, &Options::default()).unwrap();
        assert_eq!(
            (found.bounds(), found.overflow()),
            ((made.capacity, made.messages, made.bytes), made.overflow)
        );
    }
}

#[test]
fn capacities_that_cannot_be() {
    let segment = full(65536);
    for capacity in [1, 32, 992, 1025, 4097, (1 << 46) + 32, u64::MAX] {
        let options = Options {
            capacity,
            ..Options::default()
        };
        refused!(Invalid, options.size());
        refused!(Invalid, told(Queue::unnamed(&options)));
        refused!(Invalid, told(at(&segment, 0, Create::Always, &options)));
    }
    assert_eq!(Options::default().size(), Ok(704 + 65536));
    assert_eq!(small().size(), Ok(704 + 4096));
}

#[test]
fn offsets_that_cannot_be() {
    let segment = full(16384);
    let size = small().size().unwrap();
    for offset in [
        1,
        8,
        32,
        (16384 - size + 64) / 64 * 64,
        16384,
        1 << 63,
        u64::MAX - 63,
    ] {
        for create in [Create::Always, Create::IfMissing] {
            refused!(Invalid, told(at(&segment, offset, create, &small())));
        }
    }
    // One that does not fit is not begun.
    let last = (16384 - size) / 64 * 64;
    let queue = at(&segment, last, Create::Always, &small()).unwrap();
    let most = [7; 2048];
    queue.put_with(&most, NOW).unwrap();
    assert_eq!(drain(&queue), [most]);
}

#[test]
fn a_segment_that_is_too_small_or_plain() {
    refused!(
        Invalid,
        told(at(&full(65536), 0, Create::Always, &Options::default()))
    );
    let plain = Segment::create(None, 65536, &segment::Options::default());
    let plain = Arc::new(plain.unwrap());
    for create in [Create::Always, Create::Never, Create::IfMissing] {
        refused!(WrongKind, told(at(&plain, 0, create, &small())));
    }
}

#[test]
fn what_stands_there_and_is_no_queue() {
    let segment = full(65536);
    let lock = Lock::at(&segment, 0, Create::Always, &Default::default()).unwrap();
    let bytes = segment.bytes().unwrap();
    bytes[8192..8256]
        .iter()
        .for_each(|byte| byte.store(0x5a, Relaxed));
    for offset in [0, 8192] {
        for create in [Create::Never, Create::IfMissing] {
            refused!(WrongKind, told(at(&segment, offset, create, &small())));
        }
        refused!(Exists, told(at(&segment, offset, Create::Always, &small())));
    }
    assert!(
        bytes[8192..8256]
            .iter()
            .all(|byte| byte.load(Relaxed) == 0x5a)
    );
    lock.acquire_with(NOW).unwrap();
    lock.release().unwrap();
}

#[test]
fn one_that_says_more_than_there_is_room_for() {
    /// Where its capacity stands.
    const CAPACITY: usize = 8;
    let segment = full(65536);
    let last = 65536 - small().size().unwrap().next_multiple_of(64);
    drop(at(&segment, last, Create::Always, &small()).unwrap());
    let bytes = segment.bytes().unwrap();
    for capacity in [0u64, 1, 1000, 4096 + 64, 1 << 40, u64::MAX] {
        for (at, byte) in capacity.to_ne_bytes().into_iter().enumerate() {
            bytes[last as usize + CAPACITY + at].store(byte, Relaxed);
        }
        refused!(
            Corrupt,
            told(at(&segment, last, Create::Never, &Options::default()))
        );
    }
}

#[test]
fn two_in_one_segment_know_nothing_of_each_other() {
    let segment = full(65536);
    let size = small().size().unwrap().next_multiple_of(64);
    let first = at(&segment, 0, Create::Always, &small()).unwrap();
    let second = at(&segment, size, Create::Always, &small()).unwrap();
    // Both are filled to the brim, and go round several times.
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
fn filled_with_zeros_it_is_gone_and_can_be_made_anew() {
    let segment = full(65536);
    let old = at(&segment, 0, Create::Always, &small()).unwrap();
    old.put_with(b"lost", NOW).unwrap();
    drop(old);
    for byte in &segment.bytes().unwrap()[..small().size().unwrap() as usize] {
        byte.store(0, Relaxed);
    }
    refused!(NotFound, told(at(&segment, 0, Create::Never, &small())));
    let other = Options {
        capacity: 8192,
        messages: 1,
        ..Options::default()
    };
    let new = at(&segment, 0, Create::IfMissing, &other).unwrap();
    assert_eq!(drain(&new), [b""; 0]);
    new.put_with(b"new", NOW).unwrap();
    refused!(Full, new.put_with(b"", NOW));
    assert_eq!(drain(&new), [b"new"]);
}

#[test]
fn a_new_one_forgets_what_was_there_before() {
    let segment = full(65536);
    for byte in &segment.bytes().unwrap()[8..] {
        byte.store(0xff, Relaxed);
    }
    let new = at(&segment, 0, Create::Always, &small()).unwrap();
    assert_eq!(drain(&new), [b""; 0]);
    let stat = new.stat().unwrap();
    assert_eq!((stat.messages, stat.puts, stat.gets), (0, 0, 0));
    assert_eq!(
        (stat.waits, stat.shut, stat.memory),
        ((0, 0), false, 4096 + 128)
    );
    new.put_with(b"new", NOW).unwrap();
    assert_eq!(drain(&new), [b"new"]);
}

#[test]
fn it_keeps_the_segment() {
    let segment = full(65536);
    let queue = at(&segment, 0, Create::Always, &small()).unwrap();
    drop(segment);
    queue.put_with(b"kept", NOW).unwrap();
    assert_eq!(drain(&queue), [b"kept"]);
}

#[test]
fn of_several_that_race_one_makes_it() {
    alone(|| {
        let segment = full(65536);
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
