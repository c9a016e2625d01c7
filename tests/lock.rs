//! Locks, as the Rust API has them.

#[macro_use]
mod common;

#[path = "lock/figure.rs"]
mod figure;
#[path = "lock/thread.rs"]
mod thread;

use common::process::{alone, fork, shared_words, wait_until};
use shmkit::lock::{Create, Limit, Lock, Options, Patience};
use shmkit::segment::{self, Form, Segment};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

fn within(ns: u64) -> Patience {
    Patience {
        limit: Limit::Within(ns),
        interruptible: false,
    }
}

fn full(size: u64) -> Arc<Segment> {
    let options = segment::Options {
        form: Form::Full,
        ..segment::Options::default()
    };
    Arc::new(Segment::create(None, size, &options).unwrap())
}

#[test]
fn one_at_a_time() {
    let lock = Lock::unnamed(&Options::default()).unwrap();
    assert_eq!(lock.acquire(Patience::NONE), Ok(false));
    refused!(WouldBlock, lock.acquire(Patience::NONE));
    refused!(Timeout, lock.acquire(within(2_000_000)));
    lock.release().unwrap();
    refused!(NotOwner, lock.release());
    let (stat, owner) = lock.stat();
    assert_eq!((stat.owner, owner), (None, None));
    assert_eq!(stat.acquisitions, 1);
}

#[test]
fn the_dead_are_taken_over() {
    alone(|| {
        let segment = full(4096);
        let lock = Lock::at(&segment, 64, Create::IfMissing, &Options::default()).unwrap();
        let words = shared_words(1);
        for round in 0..20 {
            words[0].store(0, Relaxed);
            let child = fork(|| {
                assert_eq!(lock.acquire(Patience::ENDLESS), Ok(false));
                words[0].store(1, Relaxed);
                loop {
                    nix::unistd::pause();
                }
            });
            wait_until(|| words[0].load(Relaxed) == 1);
            let (stat, owner) = lock.stat();
            assert!(stat.owner.is_some());
            assert_eq!(owner.unwrap().pid, child.pid().as_raw() as u32);
            refused!(WouldBlock, lock.acquire(Patience::NONE));
            child.kill();
            assert_eq!(lock.acquire(Patience::ENDLESS), Ok(true), "round {round}");
            assert_eq!(lock.stat().0.recoveries, round + 1);
            lock.release().unwrap();
            assert_eq!(lock.acquire(Patience::NONE), Ok(true), "the mark stays");
            lock.mark_consistent().unwrap();
            lock.release().unwrap();
            assert_eq!(lock.acquire(Patience::NONE), Ok(false));
            lock.release().unwrap();
        }
    });
}
