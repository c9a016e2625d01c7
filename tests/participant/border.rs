//! PID namespaces in which two processes have the same PID, and other users.

use super::common::Folder;
use super::common::container::{can_contain, contained, kill_first};
use super::common::kernel::{become_unprivileged, can_change_user};
use super::common::process::{Ended, alone, fork, shared_words, wait_until};
use super::{holder, lock, managed, recover, stay, unnamed};
use shmkit::lock::Create;
use shmkit::raw::WaitOptions;
use shmkit::rlock::RLock;
use shmkit::segment::{Options, Segment};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

#[test]
fn equal_pids_in_two_containers_are_two_owners() {
    alone(|| {
        if !can_contain() {
            return;
        }
        let segment = unnamed(0);
        let lock = lock(&segment, 0);
        let words = shared_words(3);
        let here = std::fs::metadata("/proc/self/ns/pid").unwrap();
        let owner = contained(|| {
            assert_eq!(lock.acquire_with(WaitOptions::NONBLOCKING), Ok(false));
            words[0].store(1, Relaxed);
            wait_until(|| words[0].load(Relaxed) == 2);
            // Process 1 of a namespace cannot kill itself; `_exit` releases nothing either.
            // SAFETY: _exit takes any number.
            unsafe { libc::_exit(0) };
        });
        wait_until(|| words[0].load(Relaxed) == 1);
        let process = lock.stat().1.unwrap();
        assert_eq!(process.pid, 1);
        assert_ne!(
            process.namespace,
            std::os::unix::fs::MetadataExt::ino(&here)
        );
        let waiter = contained(|| {
            refused!(NotOwner, lock.release());
            refused!(WouldBlock, lock.acquire_with(WaitOptions::NONBLOCKING));
            words[1].store(1, Relaxed);
            recover(&lock);
        });
        wait_until(|| words[1].load(Relaxed) == 1);
        words[0].store(2, Relaxed);
        waiter.succeed();
        owner.succeed();
    });
}

#[test]
fn equal_threads_in_two_containers_do_not_share_a_recursive_lock() {
    alone(|| {
        if !can_contain() {
            return;
        }
        let segment = unnamed(0);
        let lock = RLock::at(&segment, 0, Create::IfMissing).unwrap();
        let words = shared_words(2);
        let owner = contained(|| {
            assert_eq!(lock.acquire_with(WaitOptions::NONBLOCKING), Ok(false));
            words[0].store(1, Relaxed);
            wait_until(|| words[0].load(Relaxed) == 2);
            // Only the waiter has died.
            assert_eq!(lock.acquire_with(WaitOptions::NONBLOCKING), Ok(false));
            assert_eq!(lock.depth(), 2);
            lock.release().unwrap();
            lock.release().unwrap();
            assert_eq!(lock.acquire_with(WaitOptions::NONBLOCKING), Ok(false));
        });
        wait_until(|| words[0].load(Relaxed) == 1);
        // Another namespace: the same PID and the same TID.
        let waiter = contained(|| {
            assert_eq!(lock.depth(), 0);
            refused!(NotOwner, lock.release());
            refused!(WouldBlock, lock.acquire_with(WaitOptions::NONBLOCKING));
            words[1].store(1, Relaxed);
            let _ = lock.acquire_with(WaitOptions::BLOCKING);
            unreachable!("the test kills the waiter");
        });
        wait_until(|| words[1].load(Relaxed) == 1 && lock.stat().0.contended_since != 0);
        kill_first(&waiter);
        // Its parent panics because it was killed.
        assert_eq!(waiter.wait(), Ended::Exit(101));
        words[0].store(2, Relaxed);
        owner.succeed();
        // The owner died while it held the lock.
        assert_eq!(lock.acquire_with(WaitOptions::BLOCKING), Ok(true));
        lock.release().unwrap();
    });
}

#[test]
fn the_death_of_another_users_process_is_detected() {
    alone(|| {
        if !can_change_user() {
            return;
        }
        let folder = Folder::new();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let options = Options {
            mode: Some(0o666),
            directory: folder.directory(),
            ..managed(0)
        };
        let segment = Arc::new(Segment::create(Some(c"a"), 4096, &options).unwrap());
        let own = lock(&segment, 0);
        let words = shared_words(1);
        let child = fork(|| {
            become_unprivileged();
            refused!(Untrusted, Segment::open(c"a", 0, &options));
            let trusting = Options {
                trust: true,
                ..options.clone()
            };
            let segment = Arc::new(Segment::open(c"a", 0, &trusting).unwrap());
            let lock = lock(&segment, 0);
            assert_eq!(lock.acquire_with(WaitOptions::NONBLOCKING), Ok(false));
            words[0].store(1, Relaxed);
            stay();
        });
        wait_until(|| words[0].load(Relaxed) == 1);
        refused!(WouldBlock, own.acquire_with(WaitOptions::NONBLOCKING));
        child.kill();
        recover(&own);
        // The other user takes over from this one.
        let owner = holder(&own, || {});
        let child = fork(|| {
            become_unprivileged();
            let trusting = Options {
                trust: true,
                ..options.clone()
            };
            let segment = Arc::new(Segment::open(c"a", 0, &trusting).unwrap());
            let lock = lock(&segment, 0);
            refused!(WouldBlock, lock.acquire_with(WaitOptions::NONBLOCKING));
            words[0].store(2, Relaxed);
            recover(&lock);
        });
        wait_until(|| words[0].load(Relaxed) == 2);
        owner.kill();
        child.succeed();
    });
}
