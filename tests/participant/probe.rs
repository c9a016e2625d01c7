//! Whom is asked about life: descriptors that are lost, numbers that stand for other files, strangers' locks.

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

/// The byte that the participant with this ticket holds, as the layout fixes it.
fn byte_of(ticket: u64) -> i64 {
    (1 << 62) + ticket as i64
}

/// Fills the numbers that have become free with files that know no locks.
fn reuse_numbers() -> Vec<File> {
    (0..32).map(|_| File::open("/dev/null").unwrap()).collect()
}

#[test]
fn the_byte_of_the_owner_is_locked() {
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
fn a_strangers_shared_lock_is_not_life() {
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
fn who_may_write_the_file_may_keep_the_dead_alive() {
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
fn a_number_that_stands_for_another_file_never_says_dead() {
    alone(|| {
        let name = Name::new();
        let segment = Arc::new(Segment::create(Some(&name), 4096, &managed(0)).unwrap());
        let (held, other) = (lock(&segment, 0), lock(&segment, 1));
        let words = shared_words(2);
        let asker = fork(|| {
            // It has its own identity before its descriptors go.
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
fn a_number_that_stands_for_another_segment_keeps_nobody_alive() {
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
            // Another file, in which a lock stands on the very byte.
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
fn with_nobody_to_ask_nobody_is_dead() {
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
            // Held by one who lives, and then by one who is dead: there is no telling.
            refused!(LivenessUnknown, held.acquire_with(WaitOptions::NONBLOCKING));
            refused!(LivenessUnknown, held.acquire_with(WaitOptions::BLOCKING));
            words[0].store(3, Relaxed);
            wait_until(|| words[0].load(Relaxed) == 4);
            refused!(LivenessUnknown, held.acquire_with(WaitOptions::BLOCKING));
            // What is free can be taken and given back.
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
fn closing_leaves_numbers_alone_that_are_others_by_now() {
    alone(|| {
        let segment = unnamed(0);
        let lock = lock(&segment, 0);
        fork(|| {
            close_all();
            let files = reuse_numbers();
            drop((lock, segment));
            for file in &files {
                assert!(file.metadata().is_ok(), "closed by somebody else");
            }
        })
        .succeed();
    });
}

#[test]
fn a_claim_after_all_is_closed_goes_by_the_name() {
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
        // It has not claimed anything that would be left.
        let child = holder(&lock, || {});
        child.kill();
        recover(&lock);
    });
}

#[test]
fn a_number_that_stands_for_another_segment_that_knows_us_never_says_dead() {
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
            // The free numbers go to another segment, in which a living process has our ticket and nobody the owner's.
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

/// Makes a segment in which this process has the ticket `mine`, and nobody has `free`.
fn another_with(mine: u64, free: u64) -> (Arc<Segment>, Lock) {
    let segment = unnamed(0);
    // The counter stands behind the header: what is drawn next is one more.
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
fn numbers_that_stand_for_folders_lead_nowhere() {
    alone(|| {
        let segment = unnamed(0);
        let (held, free) = (lock(&segment, 0), lock(&segment, 1));
        let owner = holder(&held, || {});
        fork(|| {
            free.acquire_with(WaitOptions::NONBLOCKING).unwrap();
            close_all();
            // They cannot be opened for writing: the reason is not the segment's.
            let _folders: Vec<_> = (0..32).map(|_| File::open("/").unwrap()).collect();
            refused!(LivenessUnknown, held.acquire_with(WaitOptions::NONBLOCKING));
        })
        .succeed();
        owner.kill();
    });
}
