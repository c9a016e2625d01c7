//! Handed over: a descriptor and an offset, to another process or within one.

use super::common::kernel::{become_nobody, can_change_user};
use super::common::pass::{receive, send};
use super::common::process::{alone, fork, shared_words, wait_until};
use super::common::{Name, byte};
use super::{at, full, holder, recover, stay, transferable, unnamed, use_once};
use shmkit::error::Result;
use shmkit::lock::{Create, FileOptions, Lock, Options};
use shmkit::raw::WaitOptions;
use shmkit::rlock::RLock;
use shmkit::segment::Segment;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering::Relaxed;

fn open_fd(fd: i32, offset: u64) -> Result<Lock> {
    Lock::open_fd(fd, offset, &Options::default())
}

fn told<T>(result: Result<T>) -> Result<()> {
    result.map(drop)
}

#[test]
fn within_one_process_it_is_the_same_lock() {
    let name = Name::new();
    let named = Lock::named(&name, Create::Always, &Options::default()).unwrap();
    for lock in [unnamed(), named] {
        let (fd, offset) = lock.export().unwrap();
        let same = open_fd(fd, offset).unwrap();
        lock.acquire_with(WaitOptions::NONBLOCKING).unwrap();
        refused!(WouldBlock, same.acquire_with(WaitOptions::NONBLOCKING));
        same.release().unwrap();
        // What was handed over can be handed on.
        let (fd, offset) = same.export().unwrap();
        drop(lock);
        use_once(&open_fd(fd, offset).unwrap());
        refused!(Invalid, same.unlink());
    }
}

#[test]
fn one_mapping_serves_all_that_come_from_one_arena() {
    let locks = [unnamed(), unnamed(), unnamed()];
    let found = locks.each_ref().map(|lock| {
        let (fd, offset) = lock.export().unwrap();
        open_fd(fd, offset).unwrap()
    });
    for (lock, found) in locks.iter().zip(&found) {
        assert_eq!(lock.segment().data(), found.segment().data());
        assert_eq!(
            (lock.segment().fd(), lock.offset()),
            (found.segment().fd(), found.offset())
        );
    }
}

#[test]
fn over_a_socket_to_a_process_that_has_nothing() {
    alone(|| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let words = shared_words(2);
        let child = fork(|| {
            for round in 0..3 {
                let file = receive(&theirs);
                wait_until(|| words[0].load(Relaxed) > round);
                let lock = open_fd(file.as_raw_fd(), words[1].load(Relaxed)).unwrap();
                drop(file);
                refused!(NotOwner, lock.release());
                refused!(WouldBlock, lock.acquire_with(WaitOptions::NONBLOCKING));
                words[0].store(0, Relaxed);
                assert_eq!(lock.acquire_with(WaitOptions::BLOCKING), Ok(false));
                std::mem::forget(lock);
                words[1].store(u64::MAX, Relaxed);
            }
            stay();
        });
        let name = Name::new();
        let named = Lock::named(&name, Create::Always, &Options::default()).unwrap();
        let locks = [unnamed(), unnamed(), named];
        for (round, lock) in locks.iter().enumerate() {
            lock.acquire_with(WaitOptions::NONBLOCKING).unwrap();
            let (fd, offset) = lock.export().unwrap();
            send(&ours, fd);
            words[1].store(offset, Relaxed);
            words[0].store(round as u64 + 1, Relaxed);
            wait_until(|| words[0].load(Relaxed) == 0);
            lock.release().unwrap();
            wait_until(|| words[1].load(Relaxed) == u64::MAX);
            refused!(WouldBlock, lock.acquire_with(WaitOptions::NONBLOCKING));
            assert_eq!(lock.stat().1.unwrap().pid, child.pid().as_raw() as u32);
        }
        child.kill();
        for lock in &locks {
            recover(lock);
        }
    });
}

#[test]
fn through_proc_of_another_process() {
    alone(|| {
        let words = shared_words(3);
        // Made in the child: the parent has nothing of that arena.
        let child = fork(|| {
            let lock = unnamed();
            assert_eq!(lock.acquire_with(WaitOptions::NONBLOCKING), Ok(false));
            let (fd, offset) = lock.export().unwrap();
            words[0].store(fd as u64, Relaxed);
            words[1].store(offset, Relaxed);
            words[2].store(1, Relaxed);
            stay();
        });
        wait_until(|| words[2].load(Relaxed) == 1);
        let path = format!("/proc/{}/fd/{}", child.pid(), words[0].load(Relaxed));
        let offset = words[1].load(Relaxed);
        let reader = File::open(&path).unwrap();
        refused!(Permission, told(open_fd(reader.as_raw_fd(), offset)));
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let lock = open_fd(file.as_raw_fd(), offset).unwrap();
        drop(file);
        refused!(WouldBlock, lock.acquire_with(WaitOptions::NONBLOCKING));
        // A lock of our own is in an arena of our own.
        let own = unnamed();
        assert_ne!(own.segment().data(), lock.segment().data());
        use_once(&own);
        child.kill();
        recover(&lock);
    });
}

#[test]
fn its_kind_and_options_come_with_it() {
    let lock = Lock::unnamed(&transferable()).unwrap();
    let (fd, offset) = lock.export().unwrap();
    assert!(open_fd(fd, offset).unwrap().is_transferable());
    refused!(
        WrongKind,
        told(RLock::open_fd(fd, offset, &FileOptions::default()))
    );
    let rlock = RLock::unnamed().unwrap();
    let (fd, offset) = rlock.export().unwrap();
    refused!(WrongKind, told(open_fd(fd, offset)));
    let found = RLock::open_fd(fd, offset, &FileOptions::default()).unwrap();
    rlock.acquire_with(WaitOptions::NONBLOCKING).unwrap();
    assert_eq!(found.depth(), 1);
    rlock.release().unwrap();
}

#[test]
fn places_where_no_lock_is() {
    let lock = unnamed();
    let (fd, offset) = lock.export().unwrap();
    let end = lock.segment().size().unwrap();
    for wrong in [
        offset + 1,
        offset + 8,
        end,
        end + 64,
        1 << 63,
        u64::MAX - 63,
    ] {
        refused!(Invalid, told(open_fd(fd, wrong)));
    }
    // Given to nobody yet; the arena ends with such places.
    refused!(NotFound, told(open_fd(fd, end - 64)));
    // A lock's own file has one place.
    let name = Name::new();
    let named = Lock::named(&name, Create::Always, &Options::default()).unwrap();
    let (fd, _) = named.export().unwrap();
    use_once(&open_fd(fd, 0).unwrap());
}

#[test]
fn descriptors_of_other_things() {
    let segment = full(4096);
    use_once(&at(&segment, 0));
    refused!(WrongKind, told(open_fd(segment.fd(), 0)));
    let plain = Segment::create(None, 4096, &shmkit::segment::Options::default()).unwrap();
    let cause = refused!(WrongKind, told(open_fd(plain.fd(), 0)));
    assert!(cause.text.contains("plain"), "{cause}");
    let null = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .unwrap();
    refused!(WrongKind, told(open_fd(null.as_raw_fd(), 0)));
    for fd in [-1, i32::MIN, i32::MAX] {
        refused!(Invalid, told(open_fd(fd, 0)));
    }
    // An arena is no segment.
    let (fd, _) = unnamed().export().unwrap();
    let options = shmkit::segment::Options::default();
    refused!(WrongKind, Segment::open_fd(fd, 0, &options));
}

#[test]
fn options_for_new_ones_do_no_harm() {
    let options = Options {
        file: FileOptions {
            participants: 5,
            mode: Some(0o640),
            ..FileOptions::default()
        },
        ..transferable()
    };
    let name = Name::new();
    let named = Lock::named(&name, Create::Always, &Options::default()).unwrap();
    for lock in [unnamed(), named] {
        let (fd, offset) = lock.export().unwrap();
        let found = Lock::open_fd(fd, offset, &options).unwrap();
        assert!(!found.is_transferable());
        use_once(&found);
    }
}

#[test]
fn anothers_is_opened_by_who_trusts_him() {
    alone(|| {
        if !can_change_user() {
            return;
        }
        let lock = unnamed();
        let (fd, offset) = lock.export().unwrap();
        // A memory file lets its owner alone open it anew, which takes part in it must.
        let file = byte::reopen(fd);
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .unwrap();
        let words = shared_words(1);
        let child = fork(|| {
            become_nobody();
            refused!(Untrusted, told(open_fd(fd, offset)));
            let trusting = Options {
                file: FileOptions {
                    trust: true,
                    ..FileOptions::default()
                },
                ..Options::default()
            };
            let lock = Lock::open_fd(fd, offset, &trusting).unwrap();
            assert_eq!(lock.acquire_with(WaitOptions::NONBLOCKING), Ok(false));
            words[0].store(1, Relaxed);
            stay();
        });
        wait_until(|| words[0].load(Relaxed) == 1);
        refused!(WouldBlock, lock.acquire_with(WaitOptions::NONBLOCKING));
        child.kill();
        recover(&lock);
        holder(&lock).kill();
        recover(&lock);
    });
}
