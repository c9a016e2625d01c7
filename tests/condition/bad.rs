//! No lock, a wrong lock, too few cells, hostile bytes.

use super::common::process::alone;
use super::*;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[test]
fn a_caller_without_the_lock_is_refused() {
    alone(|| {
        let (condition, lock) = (unnamed(), a_lock());
        let recursive = RLock::unnamed().unwrap();
        let refuses = |lock: &dyn Mutex| {
            refused!(
                NotOwner,
                condition.wait_with(lock, WaitOptions::NONBLOCKING)
            );
            refused!(NotOwner, condition.notify_with(lock, 1));
            refused!(NotOwner, condition.notify_with(lock, u64::MAX));
        };
        refuses(&lock);
        refuses(&recursive);
        // The lock of another process.
        lock.acquire_with(WaitOptions::NONBLOCKING).unwrap();
        recursive.acquire_with(WaitOptions::NONBLOCKING).unwrap();
        fork(|| {
            refuses(&lock);
            refuses(&recursive);
        })
        .succeed();
        // A lock that was not held is not bound to the condition.
        condition.notify_with(&lock, 1).unwrap();
        refused!(Invalid, condition.notify_with(&recursive, 1));
        assert_eq!(condition.stat().waits, 0);
    });
}

#[test]
fn the_recursive_lock_of_another_thread_is_refused() {
    let (condition, lock) = (&unnamed(), &RLock::unnamed().unwrap());
    let _guard = lock.acquire().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            refused!(
                NotOwner,
                condition.wait_with(lock, WaitOptions::NONBLOCKING)
            );
            refused!(NotOwner, condition.notify_with(lock, 1));
        });
    });
}

#[test]
fn another_lock_than_the_first_is_refused() {
    alone(|| {
        let segment = managed(4096);
        let place = |offset| {
            Lock::at(
                &segment,
                offset,
                Create::IfMissing,
                &lock::Options::default(),
            )
            .unwrap()
        };
        let (first, second) = (place(0), place(64));
        let built_in = Lock::of(&segment).unwrap();
        let elsewhere = a_lock();
        let others: [&Lock; 3] = [&second, &built_in, &elsewhere];
        let condition = unnamed();
        first.acquire_with(WaitOptions::NONBLOCKING).unwrap();
        condition.notify_with(&first, 1).unwrap();
        first.release().unwrap();
        let refuses = || {
            for other in others {
                other.acquire_with(WaitOptions::BLOCKING).unwrap();
                refused!(Invalid, condition.wait_with(other, WaitOptions::BLOCKING));
                refused!(Invalid, condition.notify_with(other, 1));
                refused!(Invalid, condition.notify_with(other, u64::MAX));
                assert!(other.is_held());
                other.release().unwrap();
            }
        };
        refuses();
        fork(refuses).succeed();
        // Through another handle, and in another process, it is the same lock.
        fork(|| {
            let same = place(0);
            let _guard = same.acquire().unwrap();
            condition.notify_with(&same, u64::MAX).unwrap();
        })
        .succeed();
    });
}

#[test]
fn more_waiters_than_cells_are_refused() {
    alone(|| {
        let condition = Condition::unnamed(&with_cells(1)).unwrap();
        let lock = a_lock();
        let child = waiter(&condition, &lock, NOTIFIED);
        await_waiters(&condition, 1);
        lock.acquire_with(WaitOptions::BLOCKING).unwrap();
        for wait in [WaitOptions::NONBLOCKING, WaitOptions::BLOCKING] {
            refused!(TooManyProcesses, condition.wait_with(&lock, wait));
            assert!(lock.is_held());
        }
        condition.notify_with(&lock, 1).unwrap();
        lock.release().unwrap();
        child.succeed();
        locked(&lock, || {
            condition
                .wait_with(&lock, WaitOptions::NONBLOCKING)
                .unwrap()
        });
    });
}

#[test]
fn impossible_numbers_of_cells_are_refused() {
    for cells in [4097, 65_536, u32::MAX] {
        refused!(Invalid, Condition::unnamed(&with_cells(cells)).map(drop));
        refused!(Invalid, with_cells(cells).size());
    }
    for (cells, size) in [
        (0, 64 + 128 * 16),
        (1, 128),
        (4, 128),
        (5, 192),
        (4096, 64 + 65_536),
    ] {
        assert_eq!(with_cells(cells).size(), Ok(size));
    }
}

/// The words of the condition at the beginning of a segment.
fn words(segment: &Segment) -> &[AtomicU64] {
    // SAFETY: the data is mapped, aligned to a page, and accessed as atomics only.
    unsafe {
        std::slice::from_raw_parts(
            segment.data().cast(),
            (segment.size().unwrap() / 8) as usize,
        )
    }
}

#[test]
fn hostile_bytes_cause_no_crash_or_endless_wait() {
    const CELL: usize = 8; // the first cell's word, behind the eight of the condition
    alone(|| {
        let segment = managed(4096);
        let lock = a_lock();
        let condition = Condition::at(&segment, 0, Create::Always, &with_cells(4)).unwrap();
        let words = words(&segment);
        lock.acquire_with(WaitOptions::NONBLOCKING).unwrap();
        for forged in [
            1,
            u64::MAX,
            1 << 31,
            1 << 30,
            1 << 29,
            7 << 29,
            3 << 30,
            0x1234_5678_9abc_def0,
        ] {
            for word in &words[CELL..CELL + 8] {
                word.store(forged, Relaxed);
            }
            // More cells in use than exist.
            words[2].store(forged, Relaxed);
            words[3].store(forged, Relaxed);
            condition.notify_with(&lock, 1).unwrap();
            condition.notify_with(&lock, u64::from(u32::MAX)).unwrap();
            condition.stat();
            for _ in 0..8 {
                // Identities that no process has count as dead, so their cells can be taken.
                let waited = condition.wait_with(&lock, within(1)).unwrap();
                assert!(!waited.owner_died);
            }
            condition.notify_with(&lock, u64::MAX).unwrap();
            assert!(lock.is_held());
        }
        words[1].store(1, Relaxed);
        refused!(Invalid, condition.notify_with(&lock, 1));
        lock.release().unwrap();
    });
}

#[test]
fn a_waiter_whose_cell_is_overwritten_fails() {
    const CELL: usize = 8;
    alone(|| {
        for forged in [0, 1 << 31, u64::MAX, 0xdead_beef] {
            let segment = managed(4096);
            let lock = a_lock();
            let condition =
                Condition::at(&segment, 0, Create::Always, &Options::default()).unwrap();
            let child = fork(|| {
                lock.acquire_with(WaitOptions::BLOCKING).unwrap();
                refused!(Corrupt, condition.wait_with(&lock, WaitOptions::BLOCKING));
                assert!(lock.is_held());
                lock.release().unwrap();
            });
            await_waiters(&condition, 1);
            words(&segment)[CELL].store(forged, Relaxed);
            child.succeed();
        }
    });
}

#[test]
fn more_cells_than_the_segment_has_room_for_are_corrupt() {
    let segment = managed(4096);
    Condition::at(&segment, 0, Create::Always, &with_cells(252)).unwrap();
    refused!(
        Invalid,
        Condition::at(&segment, 64, Create::Always, &with_cells(252)).map(drop)
    );
    let words = words(&segment);
    let tag = words[0].load(Relaxed);
    words[0].store(tag + (1 << 48), Relaxed);
    refused!(
        Corrupt,
        Condition::at(&segment, 0, Create::Never, &Options::default()).map(drop)
    );
    words[0].store(tag, Relaxed);
    refused!(
        Invalid,
        Condition::at(&segment, 0, Create::IfMissing, &Options::default()).map(drop)
    );
    Condition::at(&segment, 0, Create::Never, &Options::default()).unwrap();
}
