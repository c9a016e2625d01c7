//! The figures that a lock reports, each as documented.

use super::common::process::{alone, fork, shared_words, wait_until};
use super::{at, await_sleeper, holder, managed, recover, unnamed, use_once, within};
use shmkit::lock::LockInfo;
use shmkit::raw::WaitOptions;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::Ordering::Relaxed;

fn now() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes only to `time`.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    assert_eq!(status, 0);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[test]
fn an_unused_lock_reports_zeros() {
    let nothing = LockInfo {
        owner: None,
        owner_died: false,
        acquisitions: 0,
        contended: 0,
        recoveries: 0,
        contended_since: 0,
    };
    assert_eq!(unnamed().stat(), (nothing, None));
    assert_eq!(at(&managed(64), 0).stat(), (nothing, None));
}

#[test]
fn acquisitions_are_counted_and_attempts_are_not() {
    let lock = unnamed();
    for round in 1..=5 {
        lock.acquire_with(WaitOptions::NONBLOCKING).unwrap();
        refused!(WouldBlock, lock.acquire_with(WaitOptions::NONBLOCKING));
        refused!(Timeout, lock.acquire_with(within(1)));
        let (stat, _) = lock.stat();
        assert_eq!(
            (stat.acquisitions, stat.contended, stat.recoveries),
            (round, 0, 0)
        );
        lock.release().unwrap();
        refused!(NotOwner, lock.release());
        assert_eq!(lock.stat().0.acquisitions, round);
    }
}

#[test]
fn the_owner_is_reported_with_its_process_info() {
    alone(|| {
        let lock = unnamed();
        let began = now();
        assert_eq!(lock.acquire_with(WaitOptions::NONBLOCKING), Ok(false));
        let (stat, owner) = lock.stat();
        let (id, owner) = (stat.owner.unwrap(), owner.unwrap());
        assert_eq!((owner.ticket, owner.pid), (id.ticket(), std::process::id()));
        assert_eq!(
            owner.namespace,
            std::fs::metadata("/proc/self/ns/pid").unwrap().ino()
        );
        assert_eq!(owner.comm[15], 0);
        let comm = std::fs::read("/proc/self/comm").unwrap();
        assert!(owner.comm.starts_with(comm.strip_suffix(b"\n").unwrap()));
        assert!(owner.start > 0 && owner.since > 0 && began > 0);
        lock.release().unwrap();
        assert_eq!(lock.stat().0.owner, None);
        // The next owner is another participant, and so is a child of this process.
        let child = holder(&lock);
        let (stat, owner) = lock.stat();
        assert_eq!(owner.unwrap().pid, child.pid().as_raw() as u32);
        assert_ne!(stat.owner.unwrap().ticket(), id.ticket());
        // A dead owner is shown until a process acquires: stat does not check liveness.
        child.kill();
        assert_eq!(lock.stat(), (stat, owner));
        assert!(!stat.owner_died);
        recover(&lock);
    });
}

#[test]
fn an_owner_whose_slot_was_reused_is_reported_without_process_info() {
    alone(|| {
        let options = shmkit::segment::Options {
            participants: 1,
            ..super::form(super::Form::Managed)
        };
        let segment = shmkit::segment::Segment::create(None, 4096, &options).unwrap();
        let segment = std::sync::Arc::new(segment);
        fork(|| drop(shmkit::lock::Lock::of(&segment).unwrap())).succeed();
        let held = shmkit::lock::Lock::of(&segment).unwrap();
        holder(&held).kill();
        let dead = held.stat().0.owner.unwrap();
        // Another process claims the only slot.
        use_once(&at(&segment, 0));
        let (stat, owner) = held.stat();
        assert_eq!((stat.owner, owner), (Some(dead), None));
        recover(&held);
    });
}

#[test]
fn contended_counts_acquisitions_that_slept_and_since_when() {
    alone(|| {
        let (lock, words) = (unnamed(), shared_words(1));
        for round in 1..=3 {
            lock.acquire_with(WaitOptions::NONBLOCKING).unwrap();
            let before = now();
            let waiter = fork(|| {
                assert_eq!(lock.acquire_with(WaitOptions::BLOCKING), Ok(false));
                words[0].store(1, Relaxed);
                wait_until(|| words[0].load(Relaxed) == 2);
                lock.release().unwrap();
            });
            await_sleeper(&lock);
            let since = lock.stat().0.contended_since;
            assert!((before..=now()).contains(&since));
            // The first sleep counts, however often the waiter looks again.
            std::thread::sleep(std::time::Duration::from_millis(40));
            let (stat, _) = lock.stat();
            assert_eq!((stat.contended_since, stat.contended), (since, round - 1));
            lock.release().unwrap();
            wait_until(|| words[0].load(Relaxed) == 1);
            let (stat, _) = lock.stat();
            assert_eq!((stat.contended, stat.contended_since), (round, 0));
            assert_eq!(stat.acquisitions, 2 * round);
            words[0].store(2, Relaxed);
            waiter.succeed();
        }
        use_once(&lock);
        assert_eq!((lock.stat().0.contended, lock.stat().0.recoveries), (3, 0));
    });
}

#[test]
fn contended_since_is_zero_right_after_a_takeover() {
    alone(|| {
        let lock = unnamed();
        let words = shared_words(1);
        let owner = holder(&lock);
        let waiter = fork(|| {
            assert_eq!(lock.acquire_with(WaitOptions::BLOCKING), Ok(true));
            words[0].store(1, Relaxed);
            wait_until(|| words[0].load(Relaxed) == 2);
            lock.release().unwrap();
        });
        await_sleeper(&lock);
        owner.kill();
        wait_until(|| words[0].load(Relaxed) == 1);
        let (stat, _) = lock.stat();
        assert_eq!(
            (stat.recoveries, stat.contended, stat.owner_died),
            (1, 1, true)
        );
        assert_eq!(stat.contended_since, 0, "this owner has no waiter yet");
        let before = now();
        let second = fork(|| assert_eq!(lock.acquire_with(WaitOptions::BLOCKING), Ok(true)));
        await_sleeper(&lock);
        assert!(lock.stat().0.contended_since >= before);
        words[0].store(2, Relaxed);
        waiter.succeed();
        second.succeed();
        assert_eq!(lock.acquire_with(WaitOptions::BLOCKING), Ok(true));
        assert_eq!(lock.stat().0.recoveries, 2);
    });
}

#[test]
fn the_first_waiter_to_sleep_for_an_owner_sets_contended_since() {
    let lock = at(&managed(4096), 0);
    lock.acquire_with(WaitOptions::NONBLOCKING).unwrap();
    // The state after a release overtook a waiter: the waiter stamped a lock that was already free.
    const LONG_AGO: u64 = 7;
    let stamp = &lock.segment().bytes().unwrap()[56..64];
    for (byte, value) in stamp.iter().zip(LONG_AGO.to_ne_bytes()) {
        byte.store(value, Relaxed);
    }
    refused!(Timeout, lock.acquire_with(within(2_000_000)));
    assert!(lock.stat().0.contended_since > LONG_AGO);
}
