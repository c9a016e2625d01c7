//! The size of a readers-writer lock, and corrupt words. tests/object checks what all placed objects share.

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

/// Stores a word in a segment's data.
fn store(segment: &Segment, offset: u64, word: u64) {
    let bytes = &segment.bytes().unwrap()[offset as usize..][..8];
    for (byte, value) in bytes.iter().zip(word.to_ne_bytes()) {
        byte.store(value, Relaxed);
    }
}

#[test]
fn the_size_depends_on_the_number_of_readers() {
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
fn more_count_slots_than_the_segment_has_room_for_are_corrupt() {
    let segment = managed(4096);
    at(&segment, 0, 4);
    for slots in [63u64, 4096, 65535] {
        store(&segment, 0, slots << 48 | Kind::RwLock as u64);
        refused!(Corrupt, RwLock::at(&segment, 0, Create::Never, &readers(4)));
    }
    // A number smaller than at creation is accepted.
    store(&segment, 0, 1 << 48 | Kind::RwLock as u64);
    let lock = RwLock::at(&segment, 0, Create::Never, &readers(4)).unwrap();
    assert_eq!(lock.readers(), 1);
    use_once(&lock);
    // A lock without count slots can only be held for writing.
    store(&segment, 0, Kind::RwLock as u64);
    let lock = RwLock::at(&segment, 0, Create::Never, &readers(4)).unwrap();
    refused!(TooManyProcesses, lock.read_with(WaitOptions::NONBLOCKING));
    assert_eq!(lock.write_with(WaitOptions::NONBLOCKING), Ok(false));
    refused!(TooManyProcesses, lock.downgrade());
    lock.release_write().unwrap();
}

/// Values that no process could have stored there. None names this process, the first of its segment.
const CORRUPT_WORDS: [u64; 12] = [
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
fn corrupt_words_crash_no_process_and_block_no_caller_forever() {
    alone(|| {
        let segment = managed(4096);
        // The turnstile's words, the writer's word, the number of used slots, the figures; then three of the slots.
        for offset in (8..128).step_by(8).chain([128, 192, 384]) {
            for word in CORRUPT_WORDS {
                for byte in &segment.bytes().unwrap()[..448] {
                    byte.store(0, Relaxed);
                }
                let lock = RwLock::at(&segment, 0, Create::Always, &readers(5)).unwrap();
                use_once(&lock);
                store(&segment, offset, word);
                lock.stat();
                let wait = within(200_000_000);
                // The word names no live process, so both calls succeed. What the first has cleared stays cleared, so
                // both return the same.
                let read = lock.read_with(wait);
                assert!(read.is_ok(), "{offset}: {word:#x}: {read:?}");
                lock.release_read().unwrap();
                let died = lock.write_with(wait);
                assert!(died.is_ok(), "{offset}: {word:#x}: {died:?}");
                assert_eq!(read, died, "{offset}: {word:#x}");
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
fn words_corrupted_while_the_lock_is_held_are_survived() {
    alone(|| {
        let segment = managed(4096);
        for offset in (8..128).step_by(8).chain([128, 192]) {
            for word in CORRUPT_WORDS {
                for byte in &segment.bytes().unwrap()[..448] {
                    byte.store(0, Relaxed);
                }
                let lock = RwLock::at(&segment, 0, Create::Always, &readers(5)).unwrap();
                lock.read_with(WaitOptions::NONBLOCKING).unwrap();
                store(&segment, offset, word);
                // Each call may succeed or fail, but must return.
                let _ = lock.upgrade_with(within(2_000_000));
                let _ = lock.release_write();
                let _ = lock.release_read();
                let _ = lock.write_with(within(2_000_000));
                store(&segment, offset, word);
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
fn a_live_readers_slot_is_not_reused_when_the_number_of_used_slots_is_corrupt() {
    alone(|| {
        let lock = unnamed();
        let child = reader(&lock);
        let segment = lock.segment().clone();
        // The number of used slots is too low: a writer would miss the reader, but the reader keeps its slot.
        store(&segment, lock.offset() + 64 + 8, 0);
        assert_eq!(lock.read_with(WaitOptions::NONBLOCKING), Ok(false));
        assert_eq!(lock.stat().0.reading, 2);
        lock.release_read().unwrap();
        child.kill();
        use_once(&lock);
    });
}
