//! The queue, as the Rust API has it: many put and get, wait, fill and read in place, and die.
//!
//! | module     | what is tested                                                                    |
//! |------------|-----------------------------------------------------------------------------------|
//! | `order`    | what one puts comes out, in its order; bounds; in place; several at once          |
//! | `crowd`    | many at once                                                                      |
//! | `property` | random sequences of calls beside a list                                           |
//! | `place`    | in a segment                                                                      |
//! | `name`     | by name                                                                           |
//! | `hand`     | handed over                                                                       |
//! | `wait`     | how long, what ends it, who wakes whom, who is stopped                            |
//! | `death`    | processes that end holding something                                              |
//! | `growth`   | memory that comes and goes, or is not to be had; where the ring and positions end |
//! | `notice`   | descriptors that tell of messages and of room                                     |

#[macro_use]
mod common;

#[path = "queue/crowd.rs"]
mod crowd;
#[path = "queue/death.rs"]
mod death;
#[path = "queue/growth.rs"]
mod growth;
#[path = "queue/hand.rs"]
mod hand;
#[path = "queue/hostile.rs"]
mod hostile;
#[path = "queue/name.rs"]
mod name;
#[path = "queue/notice.rs"]
mod notice;
#[path = "queue/order.rs"]
mod order;
#[path = "queue/place.rs"]
mod place;
#[path = "queue/property.rs"]
mod property;
#[path = "queue/wait.rs"]
mod wait;

use common::process::{Child, fork, shared_words, wait_until};
use common::{managed, within};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use shmkit::queue::{Options, Queue};
use shmkit::raw::WaitOptions;
use std::mem::MaybeUninit;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Whoever waits so long has lost: a watchdog, not a measure.
const ONE_MINUTE: WaitOptions = WaitOptions::after(Duration::from_nanos(60_000_000_000));

const NOW: WaitOptions = WaitOptions::NONBLOCKING;

fn unnamed(options: Options) -> Queue {
    Queue::unnamed(&options).unwrap()
}

/// Takes all that is in it.
fn drain(queue: &Queue) -> Vec<Vec<u8>> {
    let mut had = Vec::new();
    loop {
        match queue.get_with(NOW) {
            Ok(message) => had.push(message),
            Err(shmkit::error::Error::Empty(_)) => return had,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Takes the first ones, up to so many, that have room in so many bytes.
fn get_many(queue: &Queue, room: usize, most: usize) -> Vec<Vec<u8>> {
    let mut buffer = vec![MaybeUninit::uninit(); room];
    let mut lengths = vec![MaybeUninit::uninit(); most];
    let count = queue
        .get_many_into_with(&mut buffer, &mut lengths, NOW)
        .unwrap();
    let mut bytes = buffer.into_iter();
    lengths[..count as usize]
        .iter()
        .map(|length| {
            // SAFETY: so many lengths were written.
            let length = unsafe { length.assume_init() } as usize;
            // SAFETY: so many bytes were written.
            bytes
                .by_ref()
                .take(length)
                .map(|byte| unsafe { byte.assume_init() })
                .collect()
        })
        .collect()
}

/// Forks a process that does this and stays; returns when it has done it.
fn holder(act: impl FnOnce()) -> Child {
    let words = shared_words(1);
    let child = fork(|| {
        act();
        words[0].store(1, Relaxed);
        stay();
    });
    wait_until(|| {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let ended = waitid(Id::Pid(child.pid()), flags).unwrap();
        assert_eq!(ended, WaitStatus::StillAlive);
        words[0].load(Relaxed) == 1
    });
    child
}

/// Forks a process that leases the first message and stays.
fn lessee(queue: &Queue) -> Child {
    holder(|| {
        queue.lease_with(NOW).unwrap();
    })
}

/// Waits until so many consumers, and producers, have begun to sleep.
fn await_sleepers(queue: &Queue, consumers: u64, producers: u64) {
    wait_until(|| {
        let (gets, puts) = queue.stat().unwrap().waits;
        gets >= consumers && puts >= producers
    });
}

/// Stays until it is killed.
fn stay() -> ! {
    loop {
        nix::unistd::pause();
    }
}
