//! The question whether a process lives: lost descriptors, descriptors of other files, and locks of other processes.

use super::common::process::{alone, fork, shared_words, wait_until};
use super::common::{Folder, Name, byte};
use super::{close_all, holder, lock, managed, recover, unnamed, within};
use shmkit::lock::Lock;
use shmkit::raw::WaitOptions;
use shmkit::segment::Segment;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Returns the byte that the participant with this ticket keeps locked, as in the layout.
fn byte_of(ticket: u64) -> i64 {
    (1 << 62) + ticket as i64
}

/// Reuses the numbers of closed descriptors for files without locks.
fn reuse_numbers() -> Vec<File> {
    (0..32).map(|_| File::open("/dev/null").unwrap()).collect()
}

#[test]
fn the_byte_of_a_live_owner_is_locked() {
    alone(|| {
        let segment = unnamed(0);
        let lock = lock(&segment, 0);
        let child = holder(&lock, || {});
        let ticket = lock.stat().0.owner.unwrap().ticket();
        let file = byte::reopen(segment.fd());
        assert!(byte::is_locked(&file, byte_of(ticket)));
        assert!(!byte::is_locked(&file, byte_of(ticket + 1)));
        child.kill();
        assert!(!byte::is_locked(&file, byte_of(ticket)));
    });
}

#[test]
fn a_read_lock_of_another_process_is_not_liveness() {
    alone(|| {
        let segment = unnamed(0);
        let lock = lock(&segment, 0);
        let child = holder(&lock, || {});
        let ticket = lock.stat().0.owner.unwrap().ticket();
        let file = byte::reopen(segment.fd());
        child.kill();
        byte::share(&file, byte_of(ticket), 1);
        recover(&lock);
    });
}

#[test]
fn a_write_lock_on_its_byte_keeps_a_dead_process_alive() {
    alone(|| {
        let segment = unnamed(0);
        let lock = lock(&segment, 0);
        let child = holder(&lock, || {});
        let ticket = lock.stat().0.owner.unwrap().ticket();
        child.kill();
        let file = byte::reopen(segment.fd());
        byte::lock(&file, byte_of(ticket), 1);
        refused!(Timeout, lock.acquire_with(within(30)));
        drop(file);
        recover(&lock);
    });
}

#[test]
fn a_descriptor_that_became_another_file_never_reports_death() {
    alone(|| {
        let name = Name::new();
        let segment = Arc::new(Segment::create(Some(&name), 4096, &managed(0)).unwrap());
        let (held, other) = (lock(&segment, 0), lock(&segment, 1));
        let words = shared_words(2);
        let asker = fork(|| {
            // This process gets its identity before its descriptors are closed.
            other.acquire_with(WaitOptions::NONBLOCKING).unwrap();
            other.release().unwrap();
            words[0].store(1, Relaxed);
            wait_until(|| words[0].load(Relaxed) == 2);
            close_all();
            let _files = reuse_numbers();
            refused!(WouldBlock, held.acquire_with(WaitOptions::NONBLOCKING));
            refused!(Timeout, held.acquire_with(within(50)));
            words[1].store(1, Relaxed);
            // The name still leads to the file.
            assert_eq!(held.acquire_with(WaitOptions::BLOCKING), Ok(true));
            held.release().unwrap();
        });
        wait_until(|| words[0].load(Relaxed) == 1);
        let owner = holder(&held, || {});
        words[0].store(2, Relaxed);
        wait_until(|| words[1].load(Relaxed) == 1);
        owner.kill();
        asker.succeed();
    });
}

#[test]
fn a_descriptor_that_became_another_segment_keeps_no_dead_process_alive() {
    alone(|| {
        let (name, folder) = (Name::new(), Folder::new());
        let segment = Arc::new(Segment::create(Some(&name), 4096, &managed(0)).unwrap());
        let (held, other) = (lock(&segment, 0), lock(&segment, 1));
        let words = shared_words(1);
        let asker = fork(|| {
            other.acquire_with(WaitOptions::NONBLOCKING).unwrap();
            other.release().unwrap();
            words[0].store(1, Relaxed);
            wait_until(|| words[0].load(Relaxed) == 2);
            let ticket = held.stat().0.owner.unwrap().ticket();
            close_all();
            // Another file has a lock on the same byte.
            let path = folder.path().join("other");
            let make = || {
                File::options()
                    .read(true)
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(&path)
            };
            let files: Vec<File> = (0..32).map(|_| make().unwrap()).collect();
            byte::lock(&files[31], byte_of(ticket), 1);
            words[0].store(3, Relaxed);
            assert_eq!(held.acquire_with(WaitOptions::BLOCKING), Ok(true));
        });
        wait_until(|| words[0].load(Relaxed) == 1);
        let owner = holder(&held, || {});
        words[0].store(2, Relaxed);
        wait_until(|| words[0].load(Relaxed) == 3);
        owner.kill();
        asker.succeed();
    });
}

#[test]
fn no_process_is_dead_if_liveness_is_unknown() {
    alone(|| {
        let segment = unnamed(0);
        let (held, free) = (lock(&segment, 0), lock(&segment, 1));
        let words = shared_words(1);
        let asker = fork(|| {
            free.acquire_with(WaitOptions::NONBLOCKING).unwrap();
            free.release().unwrap();
            words[0].store(1, Relaxed);
            wait_until(|| words[0].load(Relaxed) == 2);
            close_all();
            let _files = reuse_numbers();
            // The owner lives, and dies later: this process cannot distinguish the two.
            refused!(LivenessUnknown, held.acquire_with(WaitOptions::NONBLOCKING));
            refused!(LivenessUnknown, held.acquire_with(WaitOptions::BLOCKING));
            words[0].store(3, Relaxed);
            wait_until(|| words[0].load(Relaxed) == 4);
            refused!(LivenessUnknown, held.acquire_with(WaitOptions::BLOCKING));
            // A free lock can be acquired and released.
            assert_eq!(free.acquire_with(WaitOptions::NONBLOCKING), Ok(false));
            free.release().unwrap();
        });
        wait_until(|| words[0].load(Relaxed) == 1);
        let owner = holder(&held, || {});
        words[0].store(2, Relaxed);
        wait_until(|| words[0].load(Relaxed) == 3);
        owner.kill();
        words[0].store(4, Relaxed);
        asker.succeed();
        recover(&held);
    });
}

#[test]
fn closing_leaves_reused_descriptors_open() {
    alone(|| {
        let segment = unnamed(0);
        let lock = lock(&segment, 0);
        fork(|| {
            close_all();
            let files = reuse_numbers();
            drop((lock, segment));
            for file in &files {
                assert!(file.metadata().is_ok(), "the segment closed it");
            }
        })
        .succeed();
    });
}

#[test]
fn a_claim_without_descriptors_uses_the_name() {
    alone(|| {
        let name = Name::new();
        let segment = Arc::new(Segment::create(Some(&name), 4096, &managed(0)).unwrap());
        let lock = lock(&segment, 0);
        fork(|| {
            close_all();
            assert_eq!(lock.acquire_with(WaitOptions::NONBLOCKING), Ok(false));
            lock.release().unwrap();
        })
        .succeed();
        let unnamed = unnamed(0);
        let lock = super::lock(&unnamed, 0);
        fork(|| {
            close_all();
            refused!(LivenessUnknown, lock.acquire_with(WaitOptions::NONBLOCKING));
        })
        .succeed();
        // The failed claim has left nothing.
        let child = holder(&lock, || {});
        child.kill();
        recover(&lock);
    });
}

#[test]
fn a_descriptor_that_became_another_segment_with_our_ticket_never_reports_death() {
    alone(|| {
        let name = Name::new();
        let segment = Arc::new(Segment::create(Some(&name), 4096, &managed(0)).unwrap());
        let held = lock(&segment, 0);
        let words = shared_words(2);
        let asker = fork(|| {
            let other = lock(&segment, 1);
            other.acquire_with(WaitOptions::NONBLOCKING).unwrap();
            let mine = other.stat().0.owner.unwrap().ticket();
            other.release().unwrap();
            words[0].store(1, Relaxed);
            wait_until(|| words[0].load(Relaxed) == 2);
            let its = held.stat().0.owner.unwrap().ticket();
            close_all();
            // The numbers now belong to another segment, in which a live process has our ticket and none has the owner's.
            let (another, claimed) = another_with(mine, its);
            let numbers: Vec<_> = (0..32).map(|_| byte::reopen(another.fd())).collect();
            refused!(WouldBlock, held.acquire_with(WaitOptions::NONBLOCKING));
            refused!(Timeout, held.acquire_with(within(50)));
            drop((numbers, claimed));
            words[1].store(1, Relaxed);
            assert_eq!(held.acquire_with(WaitOptions::BLOCKING), Ok(true));
        });
        wait_until(|| words[0].load(Relaxed) == 1);
        let owner = holder(&held, || {});
        words[0].store(2, Relaxed);
        wait_until(|| words[1].load(Relaxed) == 1);
        owner.kill();
        asker.succeed();
    });
}

/// Creates a segment in which this process has the ticket `mine`, and no process has `free`.
fn another_with(mine: u64, free: u64) -> (Arc<Segment>, Lock) {
    let segment = unnamed(0);
    // The counter follows the header; the next ticket is one more.
    byte::reopen(segment.fd())
        .write_all_at(&(mine - 1).to_ne_bytes(), 128)
        .unwrap();
    let lock = lock(&segment, 1);
    assert_eq!(lock.acquire_with(WaitOptions::NONBLOCKING), Ok(false));
    assert_eq!(lock.stat().0.owner.unwrap().ticket(), mine);
    assert_ne!(mine, free);
    (segment, lock)
}

#[test]
fn descriptors_that_became_directories_make_liveness_unknown() {
    alone(|| {
        let segment = unnamed(0);
        let (held, free) = (lock(&segment, 0), lock(&segment, 1));
        let owner = holder(&held, || {});
        fork(|| {
            free.acquire_with(WaitOptions::NONBLOCKING).unwrap();
            close_all();
            // A directory cannot be opened for writing, for a reason that is not the segment's.
            let _folders: Vec<_> = (0..32).map(|_| File::open("/").unwrap()).collect();
            refused!(LivenessUnknown, held.acquire_with(WaitOptions::NONBLOCKING));
        })
        .succeed();
        owner.kill();
    });
}
