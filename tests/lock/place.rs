//! At an offset of a segment: what may stand there, what does not, and who is just making it.

use super::common::Watchdog;
use super::common::process::{alone, fork, shared_words, wait_until};
use super::{Form, at, form, full, recover, stay, transferable, use_once};
use shmkit::layout::Kind;
use shmkit::lock::{Create, Lock, Options};
use shmkit::raw::WaitOptions;
use shmkit::rlock::RLock;
use shmkit::segment::{Growth, Segment};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

const EACH: [Create; 3] = [Create::Always, Create::Never, Create::IfMissing];

/// In a tag: somebody is making what will stand there.
const MAKING: u64 = 1 << 29;

/// Sets the first word of what stands at this offset.
fn set_tag(segment: &Segment, offset: u64, tag: u64) {
    let bytes = &segment.bytes().unwrap()[offset as usize..][..8];
    for (byte, value) in bytes.iter().zip(tag.to_ne_bytes()) {
        byte.store(value, Relaxed);
    }
}

fn tag(segment: &Segment, offset: u64) -> u64 {
    let bytes = &segment.bytes().unwrap()[offset as usize..][..8];
    u64::from_ne_bytes(std::array::from_fn(|at| bytes[at].load(Relaxed)))
}

fn lock_at(segment: &Arc<Segment>, offset: u64, create: Create) -> shmkit::error::Result<Lock> {
    Lock::at(segment, offset, create, &Options::default())
}

/// `Lock` has no Debug, which `refused` wants.
fn told<T>(result: shmkit::error::Result<T>) -> shmkit::error::Result<()> {
    result.map(drop)
}

#[test]
fn made_and_found() {
    let segment = full(4096);
    refused!(NotFound, told(lock_at(&segment, 0, Create::Never)));
    let made = lock_at(&segment, 0, Create::Always).unwrap();
    refused!(Exists, told(lock_at(&segment, 0, Create::Always)));
    let found = lock_at(&segment, 0, Create::Never).unwrap();
    let same = lock_at(&segment, 0, Create::IfMissing).unwrap();
    made.acquire_with(WaitOptions::NONBLOCKING).unwrap();
    for other in [&found, &same] {
        refused!(WouldBlock, other.acquire_with(WaitOptions::NONBLOCKING));
    }
    same.release().unwrap();
    // Another one, where only zeros were, in the last place.
    let last = lock_at(&segment, 4096 - Lock::SIZE, Create::IfMissing).unwrap();
    assert_eq!(last.offset(), 4032);
    use_once(&last);
    refused!(Invalid, last.unlink());
    refused!(Invalid, last.export());
}

#[test]
fn zeros_make_room_for_another() {
    let segment = full(4096);
    use_once(&at(&segment, 0));
    for byte in &segment.bytes().unwrap()[..64] {
        byte.store(0, Relaxed);
    }
    refused!(NotFound, told(lock_at(&segment, 0, Create::Never)));
    RLock::at(&segment, 0, Create::Always).unwrap();
}

#[test]
fn a_new_one_forgets_what_was_there_before() {
    let segment = full(4096);
    for byte in &segment.bytes().unwrap()[8..64] {
        byte.store(0xff, Relaxed);
    }
    let lock = lock_at(&segment, 0, Create::Always).unwrap();
    let (stat, owner) = lock.stat();
    assert_eq!((stat.owner, owner, stat.owner_died), (None, None, false));
    assert_eq!(
        (stat.acquisitions, stat.recoveries, stat.contended),
        (0, 0, 0)
    );
    use_once(&lock);
}

#[test]
fn offsets_that_cannot_be() {
    for size in [64, 5000] {
        let segment = full(size);
        let end = size.next_multiple_of(64);
        let wrong = [
            1,
            8,
            32,
            63,
            65,
            end,
            end + 64,
            1 << 63,
            u64::MAX,
            u64::MAX - 63,
        ];
        for (offset, create) in wrong.into_iter().flat_map(|o| EACH.map(|c| (o, c))) {
            refused!(Invalid, told(lock_at(&segment, offset, create)));
            refused!(Invalid, told(RLock::at(&segment, offset, create)));
        }
    }
    // The last place is there once the segment has grown to hold all of it.
    let options = shmkit::segment::Options {
        capacity: 1 << 20,
        ..form(Form::Full)
    };
    let segment = Arc::new(Segment::create(None, 127, &options).unwrap());
    refused!(Invalid, told(lock_at(&segment, 64, Create::IfMissing)));
    segment.resize(128, &Growth::default()).unwrap();
    use_once(&at(&segment, 64));
}

#[test]
fn segments_that_hold_no_locks() {
    let full = full(4096);
    use_once(&at(&full, 0));
    let reading = shmkit::segment::Options {
        readonly: true,
        ..form(Form::Either)
    };
    let reader = Arc::new(Segment::open_fd(full.fd(), 0, &reading).unwrap());
    let bare = Arc::new(Segment::open_fd(full.fd(), 0, &form(Form::Plain)).unwrap());
    let plain = Arc::new(Segment::create(None, 4096, &form(Form::Plain)).unwrap());
    for offset in [0, 64] {
        for create in EACH {
            refused!(Permission, told(lock_at(&reader, offset, create)));
            refused!(Permission, told(RLock::at(&reader, offset, create)));
            for segment in [&plain, &bare] {
                let cause = refused!(WrongKind, told(lock_at(segment, offset, create)));
                assert!(cause.text.contains("plain"), "{cause}");
            }
        }
    }
    refused!(Permission, told(Lock::of(&reader)));
    refused!(WrongKind, told(Lock::of(&plain)));
    // Whatever its bytes say.
    set_tag(&plain, 64, Kind::Lock as u64);
    refused!(WrongKind, told(lock_at(&plain, 64, Create::Never)));
}

#[test]
fn another_kind_stands_there() {
    let segment = full(4096);
    let (lock, rlock) = (Kind::Lock as u64, Kind::RLock as u64);
    let kinds = (1..=16u64).chain([31, 1 << 16, 1 << 28, (1 << 28) + 2, u64::MAX]);
    // What the user has put there: some of it looks as if somebody were making something.
    let bytes = (1..=255u8).map(|byte| u64::from_ne_bytes([byte; 8]));
    for word in kinds
        .chain(bytes)
        .chain([MAKING, MAKING | 1 << 13, MAKING | 5 << 40 | 1])
    {
        set_tag(&segment, 128, word);
        for create in [Create::Never, Create::IfMissing] {
            match word == lock {
                true => drop(lock_at(&segment, 128, create).unwrap()),
                false => drop(refused!(WrongKind, told(lock_at(&segment, 128, create)))),
            }
            match word == rlock {
                true => drop(RLock::at(&segment, 128, create).unwrap()),
                false => drop(refused!(WrongKind, told(RLock::at(&segment, 128, create)))),
            }
        }
        refused!(Exists, told(lock_at(&segment, 128, Create::Always)));
        assert_eq!(tag(&segment, 128), word, "it stays as it was");
    }
}

#[test]
fn made_with_other_options() {
    let segment = full(4096);
    let made = Lock::at(&segment, 0, Create::Always, &transferable()).unwrap();
    refused!(Invalid, told(lock_at(&segment, 0, Create::IfMissing)));
    let found = lock_at(&segment, 0, Create::Never).unwrap();
    assert!(made.is_transferable() && found.is_transferable());
    let plain = at(&segment, 64);
    let other = Lock::at(&segment, 64, Create::IfMissing, &transferable());
    refused!(Invalid, told(other));
    let found = Lock::at(&segment, 64, Create::Never, &transferable()).unwrap();
    assert!(!plain.is_transferable() && !found.is_transferable());
}

#[test]
fn of_many_who_make_it_one_does() {
    const THREADS: usize = 4;
    let _watchdog = Watchdog::start();
    let segment = &full(64 * 1000);
    let barrier = &std::sync::Barrier::new(THREADS);
    let made = &std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for place in 0..1000 {
                    if place % 50 == 0 {
                        barrier.wait();
                    }
                    match lock_at(segment, 64 * place, Create::Always) {
                        Ok(_) => drop(made.fetch_add(1, Relaxed)),
                        error => drop(refused!(Exists, told(error))),
                    }
                    let lock = lock_at(segment, 64 * place, Create::Never).unwrap();
                    drop(lock.acquire().unwrap());
                }
            });
        }
    });
    assert_eq!(made.load(Relaxed), 1000);
    for place in 0..1000 {
        let lock = lock_at(segment, 64 * place, Create::IfMissing).unwrap();
        assert_eq!(lock.stat().0.acquisitions, THREADS as u64);
    }
}

#[test]
fn somebody_who_lives_and_does_not_get_on_is_waited_for_a_second() {
    alone(|| {
        let segment = full(4096);
        let words = shared_words(1);
        let maker = fork(|| {
            let lock = at(&segment, 0);
            lock.acquire_with(WaitOptions::NONBLOCKING).unwrap();
            set_tag(&segment, 64, lock.stat().0.owner.unwrap().bits() | MAKING);
            words[0].store(1, Relaxed);
            stay();
        });
        wait_until(|| words[0].load(Relaxed) == 1);
        for create in EACH {
            let begin = Instant::now();
            refused!(Timeout, told(lock_at(&segment, 64, create)));
            assert!(begin.elapsed() >= Duration::from_secs(1));
        }
        // Gets on after all.
        let waiter = fork(|| use_once(&lock_at(&segment, 64, Create::Never).unwrap()));
        set_tag(&segment, 64, Kind::Lock as u64);
        waiter.succeed();
        maker.kill();
        recover(&at(&segment, 0));
    });
}

#[test]
fn somebody_who_died_making_it_is_followed() {
    alone(|| {
        let segment = full(4096);
        let words = shared_words(1);
        for offset in [64, 128] {
            words[0].store(0, Relaxed);
            let maker = fork(|| {
                let lock = at(&segment, 0);
                lock.acquire_with(WaitOptions::NONBLOCKING).unwrap();
                set_tag(
                    &segment,
                    offset,
                    lock.stat().0.owner.unwrap().bits() | MAKING,
                );
                lock.release().unwrap();
                words[0].store(1, Relaxed);
                stay();
            });
            wait_until(|| words[0].load(Relaxed) == 1);
            maker.kill();
            refused!(NotFound, told(lock_at(&segment, offset, Create::Never)));
            refused!(NotFound, told(RLock::at(&segment, offset, Create::Never)));
            let create = if offset == 64 {
                Create::Always
            } else {
                Create::IfMissing
            };
            use_once(&lock_at(&segment, offset, create).unwrap());
        }
    });
}

#[test]
fn a_lock_keeps_its_segment() {
    let segment = full(4096);
    let lock = at(&segment, 0);
    let data = segment.data();
    drop(segment);
    use_once(&lock);
    assert_eq!(lock.segment().data(), data);
    assert_eq!(lock.segment().size(), Ok(4096));
}

#[test]
fn each_segment_has_a_lock_of_its_own() {
    alone(|| {
        let segment = full(1);
        let (one, same) = (Lock::of(&segment).unwrap(), Lock::of(&segment).unwrap());
        drop(segment);
        one.acquire_with(WaitOptions::NONBLOCKING).unwrap();
        refused!(WouldBlock, same.acquire_with(WaitOptions::NONBLOCKING));
        same.release().unwrap();
        super::holder(&one).kill();
        recover(&same);
        assert!(!one.is_transferable());
        refused!(Invalid, one.unlink());
        refused!(Invalid, one.export());
    });
}
