//! The size of a readers-writer lock, and corrupt words. The rest: tests/object.

use super::common::process::alone;
use super::{managed, reader, readers, unnamed, use_once, within};
use shmkit::layout::Kind;
use shmkit::raw::WaitOptions;
use shmkit::rwlock::{Create, Options, RwLock};
use shmkit::segment::Segment;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

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
        refused!(Invalid, RwLock::unnamed(&readers(count)));
        refused!(
            Invalid,
            RwLock::at(&managed(4096), 0, Create::Always, &readers(count))
        );
    }
}

#[test]
fn more_cells_than_there_is_room_for_are_a_lie() {
    let segment = managed(4096);
    at(&segment, 0, 4);
    for cells in [63u64, 4096, 65535] {
        store(&segment, 0, cells << 48 | Kind::RwLock as u64);
        refused!(Corrupt, RwLock::at(&segment, 0, Create::Never, &readers(4)));
    }
    // Fewer than were made are there all the same.
    store(&segment, 0, 1 << 48 | Kind::RwLock as u64);
    let lock = RwLock::at(&segment, 0, Create::Never, &readers(4)).unwrap();
    assert_eq!(lock.readers(), 1);
    use_once(&lock);
    // None at all can only be written.
    store(&segment, 0, Kind::RwLock as u64);
    let lock = RwLock::at(&segment, 0, Create::Never, &readers(4)).unwrap();
    refused!(TooManyProcesses, lock.read_with(WaitOptions::NONBLOCKING));
    assert_eq!(lock.write_with(WaitOptions::NONBLOCKING), Ok(false));
    refused!(TooManyProcesses, lock.downgrade());
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
        let segment = managed(4096);
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
        let segment = managed(4096);
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
