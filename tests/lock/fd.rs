//! Locks of other processes, opened by their descriptor. The rest: tests/object/fd.rs.

use super::common::byte;
use super::common::kernel::{become_unprivileged, can_change_user};
use super::common::process::{alone, fork, shared_words, wait_until};
use super::{holder, recover, stay, unnamed, use_once};
use shmkit::error::Result;
use shmkit::lock::{FileOptions, Lock, Options};
use shmkit::raw::WaitOptions;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering::Relaxed;

fn open_fd(fd: i32, offset: u64) -> Result<Lock> {
    Lock::open_fd(fd, offset, &Options::default())
}

#[test]
fn a_lock_opens_through_proc_of_another_process() {
    alone(|| {
        let words = shared_words(3);
        // Created in the child: the parent has no mapping of that arena.
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
        refused!(Permission, open_fd(reader.as_raw_fd(), offset));
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let lock = open_fd(file.as_raw_fd(), offset).unwrap();
        drop(file);
        refused!(WouldBlock, lock.acquire_with(WaitOptions::NONBLOCKING));
        // A lock that this process creates is in its own arena.
        let own = unnamed();
        assert_ne!(own.segment().data(), lock.segment().data());
        use_once(&own);
        child.kill();
        recover(&lock);
    });
}

#[test]
fn a_foreign_owners_lock_opens_with_trust() {
    alone(|| {
        if !can_change_user() {
            return;
        }
        let lock = unnamed();
        let (fd, offset) = lock.export().unwrap();
        // Only its owner may reopen a memory file by default, and participants must reopen it.
        let file = byte::reopen(fd);
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .unwrap();
        let words = shared_words(1);
        let child = fork(|| {
            become_unprivileged();
            refused!(Untrusted, open_fd(fd, offset));
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
