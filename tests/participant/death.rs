//! What ends a participant, and what does not.

use super::common::Name;
use super::common::process::{Ended, alone, fork, shared_words, wait_until};
use super::{close_all, holder, holder_after, lock, managed, recover, stay, unnamed, within};
use nix::sys::signal::{Signal, kill};
use shmkit::raw::WaitOptions;
use shmkit::segment::Segment;
use std::os::unix::process::CommandExt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

#[test]
fn a_killed_owner_is_dead() {
    alone(|| {
        let segment = unnamed(0);
        let lock = lock(&segment, 0);
        holder(&lock, || {}).kill();
        recover(&lock);
    });
}

#[test]
fn an_owner_that_exits_without_a_release_is_dead() {
    alone(|| {
        let segment = unnamed(0);
        let lock = lock(&segment, 0);
        fork(|| assert_eq!(lock.acquire_with(WaitOptions::NONBLOCKING), Ok(false))).succeed();
        recover(&lock);
    });
}

#[test]
fn a_crashed_owner_is_dead() {
    alone(|| {
        let segment = unnamed(0);
        let lock = lock(&segment, 0);
        let child = fork(|| {
            lock.acquire_with(WaitOptions::NONBLOCKING).unwrap();
            std::process::abort();
        });
        assert_eq!(child.wait(), Ended::Signal(Signal::SIGABRT));
        recover(&lock);
    });
}

#[test]
fn a_zombie_is_dead() {
    alone(|| {
        let segment = unnamed(0);
        let lock = lock(&segment, 0);
        let child = holder(&lock, || {});
        kill(child.pid(), Signal::SIGKILL).unwrap();
        recover(&lock);
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.pid())).unwrap();
        assert!(stat.contains(") Z "), "a zombie: {stat}");
    });
}

#[test]
fn a_process_that_executes_another_program_is_dead() {
    alone(|| {
        let segment = unnamed(0);
        let lock = lock(&segment, 0);
        let child = holder(&lock, || {
            let error = std::process::Command::new("sleep").arg("1000").exec();
            panic!("{error}");
        });
        recover(&lock);
        assert_eq!(kill(child.pid(), None), Ok(()), "the process still runs");
        child.kill();
    });
}

#[test]
fn a_process_that_closes_its_last_handle_is_dead() {
    alone(|| {
        let name = Name::new();
        let taken = shared_words(1);
        let child = fork(|| {
            let segment = Arc::new(Segment::create(Some(&name), 4096, &managed(0)).unwrap());
            let again = Arc::new(Segment::open(&name, 0, &managed(0)).unwrap());
            let (first, second) = (lock(&segment, 0), lock(&again, 0));
            first.acquire_with(WaitOptions::NONBLOCKING).unwrap();
            taken[0].store(1, Relaxed);
            wait_until(|| taken[0].load(Relaxed) == 2);
            drop((segment, first));
            // While another handle of the segment is open, the process keeps its identity.
            taken[0].store(3, Relaxed);
            wait_until(|| taken[0].load(Relaxed) == 4);
            drop((again, second));
            stay();
        });
        wait_until(|| taken[0].load(Relaxed) == 1);
        let segment = Arc::new(Segment::open(&name, 0, &managed(0)).unwrap());
        let survivor = lock(&segment, 0);
        taken[0].store(2, Relaxed);
        wait_until(|| taken[0].load(Relaxed) == 3);
        refused!(WouldBlock, survivor.acquire_with(WaitOptions::NONBLOCKING));
        taken[0].store(4, Relaxed);
        recover(&survivor);
        child.kill();
    });
}

#[test]
fn a_stopped_process_is_not_dead() {
    alone(|| {
        let segment = unnamed(0);
        let lock = lock(&segment, 0);
        let resume = shared_words(1);
        let child = holder(&lock, || {
            wait_until(|| resume[0].load(Relaxed) == 1);
            lock.release().unwrap();
        });
        kill(child.pid(), Signal::SIGSTOP).unwrap();
        refused!(WouldBlock, lock.acquire_with(WaitOptions::NONBLOCKING));
        refused!(Timeout, lock.acquire_with(within(100)));
        resume[0].store(1, Relaxed);
        refused!(Timeout, lock.acquire_with(within(50)));
        kill(child.pid(), Signal::SIGCONT).unwrap();
        assert_eq!(lock.acquire_with(WaitOptions::BLOCKING), Ok(false));
        lock.release().unwrap();
        child.kill();
    });
}

#[test]
fn a_process_without_descriptors_is_not_dead() {
    alone(|| {
        let segment = unnamed(0);
        let lock = lock(&segment, 0);
        let child = holder_after(&lock, close_all);
        refused!(WouldBlock, lock.acquire_with(WaitOptions::NONBLOCKING));
        refused!(Timeout, lock.acquire_with(within(50)));
        child.kill();
        recover(&lock);
    });
}

#[test]
fn a_descriptor_in_another_process_keeps_no_dead_process_alive() {
    alone(|| {
        let segment = unnamed(0);
        let lock = lock(&segment, 0);
        let started = shared_words(1);
        // The heir inherits all descriptors and mappings of the owner.
        let owner = holder(&lock, || {
            let heir = fork(|| {
                started[0].store(u64::from(std::process::id()), Relaxed);
                nix::sys::prctl::set_pdeathsig(None).unwrap();
                stay();
            });
            std::mem::forget(heir);
        });
        wait_until(|| started[0].load(Relaxed) != 0);
        let heir = nix::unistd::Pid::from_raw(started[0].load(Relaxed) as i32);
        // The heir has asked not to be killed when its parent dies.
        wait_until(|| lock.stat().0.owner.is_some());
        kill(owner.pid(), Signal::SIGKILL).unwrap();
        recover(&lock);
        let _ = kill(heir, Signal::SIGKILL);
    });
}

#[test]
fn a_dead_process_stores_nothing() {
    alone(|| {
        let segment = unnamed(0);
        let lock = lock(&segment, 0);
        for _ in 0..5 {
            let counter = &segment.bytes().unwrap()[1024..1032];
            let child = holder(&lock, || {
                // The kernel takes long to free this memory; the thread stores constantly.
                let ballast = vec![1u8; 64 << 20];
                std::hint::black_box(&ballast);
                loop {
                    for byte in counter {
                        byte.store(byte.load(Relaxed).wrapping_add(1), Relaxed);
                    }
                }
            });
            let seen = || {
                counter
                    .iter()
                    .map(|byte| byte.load(Relaxed))
                    .collect::<Vec<_>>()
            };
            let before = seen();
            wait_until(|| seen() != before);
            kill(child.pid(), Signal::SIGKILL).unwrap();
            assert_eq!(lock.acquire_with(WaitOptions::BLOCKING), Ok(true));
            let after = seen();
            for _ in 0..1000 {
                assert_eq!(seen(), after, "a dead process does not store");
                std::thread::yield_now();
            }
            lock.mark_consistent().unwrap();
            lock.release().unwrap();
        }
    });
}
