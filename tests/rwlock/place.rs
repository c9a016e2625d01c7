//! Where it stands: at an offset, in a file of its own, in an arena; options that cannot be; hostile bytes.

use super::common::Name;
use super::common::process::{alone, fork};
use super::{full, reader, readers, recover, unnamed, use_once, within, writer};
use shmkit::layout::Kind;
use shmkit::lock::Lock;
use shmkit::raw::WaitOptions;
use shmkit::rwlock::{Create, Options, RwLock};
use shmkit::segment::Segment;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

const EACH: [Create; 3] = [Create::Always, Create::Never, Create::IfMissing];

/// `RwLock` has no Debug, which `refused` wants.
fn told<T>(result: shmkit::error::Result<T>) -> shmkit::error::Result<()> {
    result.map(drop)
}

fn at(segment: &Arc<Segment>, offset: u64, count: u16) -> RwLock {
    RwLock::at(segment, offset, Create::IfMissing, &readers(count)).unwrap()
}

/// Stores a word of a segment's data.
fn store(segment: &Segment, offset: u64, word: u64) {
    let bytes = &segment.bytes().unwrap()[offset as usize..][..8];
    for (byte, value) in bytes.iter().zip(word.to_ne_bytes()) {
        byte.store(value, Relaxed);
    }
}

#[test]
fn its_size_goes_by_its_readers() {
    assert_eq!(Options::default().size(), Ok(128 + 128 * 64));
    assert_eq!(readers(1).size(), Ok(128 + 64));
    assert_eq!(readers(4096).size(), Ok(128 + 4096 * 64));
    for count in [4097, u16::MAX] {
        refused!(Invalid, readers(count).size());
        refused!(Invalid, told(RwLock::unnamed(&readers(count))));
        refused!(
            Invalid,
            told(RwLock::at(&full(4096), 0, Create::Always, &readers(count)))
        );
    }
}

#[test]
fn made_and_found() {
    let segment = full(4096);
    let open = |create, count| RwLock::at(&segment, 64, create, &readers(count));
    refused!(NotFound, told(open(Create::Never, 2)));
    let made = open(Create::Always, 2).unwrap();
    refused!(Exists, told(open(Create::Always, 2)));
    refused!(Invalid, told(open(Create::IfMissing, 3)));
    let found = open(Create::Never, 3).unwrap();
    assert_eq!((found.readers(), found.offset()), (2, 64));
    made.write_with(WaitOptions::NONBLOCKING).unwrap();
    refused!(WouldBlock, found.read_with(WaitOptions::NONBLOCKING));
    found.release_write().unwrap();
    use_once(&made);
    refused!(Invalid, made.unlink());
    refused!(Invalid, made.export());
    refused!(
        WrongKind,
        told(Lock::at(&segment, 64, Create::Never, &Default::default()))
    );
    Lock::at(&segment, 0, Create::Always, &Default::default()).unwrap();
    for create in [Create::Never, Create::IfMissing] {
        refused!(
            WrongKind,
            told(RwLock::at(&segment, 0, create, &readers(2)))
        );
    }
    // Just room enough at the end, and not enough.
    let last = 4096 - 128 - 64;
    refused!(
        Invalid,
        told(RwLock::at(&segment, last, Create::IfMissing, &readers(2)))
    );
    use_once(&at(&segment, last, 1));
    for offset in [1, 32, 4096, 1 << 63, u64::MAX - 63] {
        for create in EACH {
            refused!(
                Invalid,
                told(RwLock::at(&segment, offset, create, &readers(1)))
            );
        }
    }
}

#[test]
fn by_name() {
    alone(|| {
        let name = Name::new();
        let options = Options::default();
        refused!(
            NotFound,
            told(RwLock::named(&name, Create::Never, &options))
        );
        let lock = RwLock::named(&name, Create::Always, &options).unwrap();
        refused!(Exists, told(RwLock::named(&name, Create::Always, &options)));
        refused!(
            Invalid,
            told(RwLock::named(&name, Create::IfMissing, &readers(2)))
        );
        refused!(
            WrongKind,
            told(Lock::named(&name, Create::Never, &Default::default()))
        );
        let other = RwLock::named(&name, Create::IfMissing, &options).unwrap();
        lock.read_with(WaitOptions::NONBLOCKING).unwrap();
        fork(|| {
            let own = RwLock::named(&name, Create::Never, &readers(7)).unwrap();
            assert_eq!(own.readers(), 128);
            assert_eq!(own.read_with(WaitOptions::NONBLOCKING), Ok(false));
            own.release_read().unwrap();
            refused!(WouldBlock, own.write_with(WaitOptions::NONBLOCKING));
        })
        .succeed();
        other.release_read().unwrap();
        writer(&lock).kill();
        recover(&other);
        lock.unlink().unwrap();
        refused!(NotFound, other.unlink());
        use_once(&other);
    });
}

#[test]
fn handed_over() {
    alone(|| {
        let name = Name::new();
        let named = RwLock::named(&name, Create::Always, &readers(3)).unwrap();
        for lock in [RwLock::unnamed(&readers(3)).unwrap(), named] {
            let (fd, offset) = lock.export().unwrap();
            lock.read_with(WaitOptions::NONBLOCKING).unwrap();
            fork(|| {
                let found = RwLock::open_fd(fd, offset, &Options::default()).unwrap();
                assert_eq!(found.readers(), 3);
                refused!(WouldBlock, found.write_with(WaitOptions::NONBLOCKING));
                assert_eq!(found.read_with(WaitOptions::NONBLOCKING), Ok(false));
                assert_eq!(found.stat().0.reading, 2);
            })
            .succeed();
            lock.release_read().unwrap();
            use_once(&lock);
            refused!(
                WrongKind,
                told(Lock::open_fd(fd, offset, &Default::default()))
            );
        }
    });
}

#[test]
fn thousands_without_a_name_share_a_file() {
    let locks: Vec<_> = (0..2000)
        .map(|_| RwLock::unnamed(&readers(1)).unwrap())
        .collect();
    locks.iter().for_each(use_once);
    let fd = locks[0].segment().fd();
    assert!(locks.iter().all(|lock| lock.segment().fd() == fd));
}

#[test]
fn a_new_one_forgets_what_was_there_before() {
    let segment = full(4096);
    for byte in &segment.bytes().unwrap()[8..] {
        byte.store(0xff, Relaxed);
    }
    // Too large for the segment, it leaves nothing there.
    refused!(
        Invalid,
        told(RwLock::at(&segment, 0, Create::Always, &readers(4096)))
    );
    let lock = RwLock::at(&segment, 0, Create::Always, &readers(4)).unwrap();
    let (stat, person) = lock.stat();
    assert_eq!((stat.writer, person, stat.writer_died), (None, None, false));
    assert_eq!((stat.readers, stat.writes, stat.contended_since), (0, 0, 0));
    use_once(&lock);
}

#[test]
fn more_cells_than_there_is_room_for_are_a_lie() {
    let segment = full(4096);
    at(&segment, 0, 4);
    for cells in [63u64, 4096, 65535] {
        store(&segment, 0, cells << 48 | Kind::RwLock as u64);
        refused!(
            Corrupt,
            told(RwLock::at(&segment, 0, Create::Never, &readers(4)))
        );
    }
    // Fewer than were made are there all the same.
    store(&segment, 0, 1 << 48 | Kind::RwLock as u64);
    let lock = RwLock::at(&segment, 0, Create::Never, &readers(4)).unwrap();
    assert_eq!(lock.readers(), 1);
    use_once(&lock);
    // None at all can only be written.
    store(&segment, 0, Kind::RwLock as u64);
    let lock = RwLock::at(&segment, 0, Create::Never, &readers(4)).unwrap();
    refused!(Participants, lock.read_with(WaitOptions::NONBLOCKING));
    assert_eq!(lock.write_with(WaitOptions::NONBLOCKING), Ok(false));
    refused!(Participants, lock.downgrade());
    lock.release_write().unwrap();
}

/// What nobody could have stored there; none names this process, which is the first of its segment.
const LIES: [u64; 12] = [
    1,
    5 << 13,
    5 << 16,
    u64::MAX,
    u64::MAX - 1,
    1 << 29,
    1 << 30,
    1 << 31,
    7 << 29,
    0xffff_ffff,
    0x1234_5678_9abc_def0,
    1 << 63,
];

#[test]
fn words_that_lie_end_no_process_and_hold_up_nobody_for_ever() {
    alone(|| {
        let segment = full(4096);
        // The door's word, the writer's, the number of used cells, what is counted; the first cells.
        for offset in (8..128).step_by(8).chain([128, 192, 384]) {
            for lie in LIES {
                for byte in &segment.bytes().unwrap()[..448] {
                    byte.store(0, Relaxed);
                }
                let lock = RwLock::at(&segment, 0, Create::Always, &readers(5)).unwrap();
                use_once(&lock);
                store(&segment, offset, lie);
                lock.stat();
                let wait = within(200_000_000);
                // A lie may name nobody who lives: so all is to be had, and what one has cleared away stays so.
                let read = lock.read_with(wait);
                assert!(read.is_ok(), "{offset}: {lie:#x}: {read:?}");
                lock.release_read().unwrap();
                let died = lock.write_with(wait);
                assert!(died.is_ok(), "{offset}: {lie:#x}: {died:?}");
                assert_eq!(read, died, "{offset}: {lie:#x}");
                lock.mark_consistent().unwrap();
                lock.downgrade().unwrap();
                lock.upgrade_with(wait).unwrap();
                lock.release_write().unwrap();
                use_once(&lock);
            }
        }
    });
}

#[test]
fn a_lie_in_the_middle_of_it_is_survived() {
    alone(|| {
        let segment = full(4096);
        for offset in (8..128).step_by(8).chain([128, 192]) {
            for lie in LIES {
                for byte in &segment.bytes().unwrap()[..448] {
                    byte.store(0, Relaxed);
                }
                let lock = RwLock::at(&segment, 0, Create::Always, &readers(5)).unwrap();
                lock.read_with(WaitOptions::NONBLOCKING).unwrap();
                store(&segment, offset, lie);
                // Whatever they say, they come back.
                let _ = lock.upgrade_with(within(2_000_000));
                let _ = lock.release_write();
                let _ = lock.release_read();
                let _ = lock.write_with(within(2_000_000));
                store(&segment, offset, lie);
                let _ = lock.mark_consistent();
                let _ = lock.downgrade();
                let _ = lock.release_write();
                let _ = lock.release_read();
                lock.stat();
            }
        }
    });
}

#[test]
fn what_lives_is_not_taken_for_dead_because_of_a_lie_beside_it() {
    alone(|| {
        let lock = unnamed();
        let child = reader(&lock);
        let segment = lock.segment().clone();
        // Fewer cells in use than there are: the writer sees nobody, but the reader's cell is the reader's.
        store(&segment, lock.offset() + 64 + 8, 0);
        assert_eq!(lock.read_with(WaitOptions::NONBLOCKING), Ok(false));
        assert_eq!(lock.stat().0.reading, 2);
        lock.release_read().unwrap();
        child.kill();
        use_once(&lock);
    });
}
