//! The queue in the Rust API: puts and gets, waits, messages in place, and deaths.
//!
//! | module     | what is tested                                                                    |
//! |------------|-----------------------------------------------------------------------------------|
//! | `order`    | the order of messages; bounds; messages in place; batches                         |
//! | `many`     | many producers and consumers at once                                              |
//! | `property` | random sequences of calls, compared with a list                                   |
//! | `place`    | queues in a segment                                                               |
//! | `name`     | named queues                                                                      |
//! | `hand`     | queues opened by a descriptor                                                     |
//! | `hostile`  | corrupt words and records                                                         |
//! | `wait`     | timeouts, wakes, interrupts, stopped processes                                    |
//! | `death`    | processes that end while they hold something                                      |
//! | `growth`   | memory that grows and shrinks, or is lacking; the ends of the ring and positions  |
//! | `notice`   | descriptors that report messages and room                                         |

#[macro_use]
mod common;

#[path = "queue/death.rs"]
mod death;
#[path = "queue/growth.rs"]
mod growth;
#[path = "queue/hand.rs"]
mod hand;
#[path = "queue/hostile.rs"]
mod hostile;
#[path = "queue/many.rs"]
mod many;
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

/// A watchdog: a wait that takes this long has failed.
const ONE_MINUTE: WaitOptions = WaitOptions::after(Duration::from_nanos(60_000_000_000));

const NOW: WaitOptions = WaitOptions::NONBLOCKING;

fn unnamed(options: Options) -> Queue {
    Queue::unnamed(&options).unwrap()
}

/// Takes all messages of a queue.
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

/// Takes the first messages, at most `most` of them, that fit in `room` bytes.
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
            // SAFETY: `get_many_into_with` has initialized this many lengths.
            let length = unsafe { length.assume_init() } as usize;
            // SAFETY: `get_many_into_with` has initialized this many bytes.
            bytes
                .by_ref()
                .take(length)
                .map(|byte| unsafe { byte.assume_init() })
                .collect()
        })
        .collect()
}

/// Forks a process that calls `act` and stays; returns after `act`.
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

/// Waits until this many consumers and producers have begun to sleep.
fn await_sleepers(queue: &Queue, consumers: u64, producers: u64) {
    wait_until(|| {
        let (gets, puts) = queue.stat().unwrap().waits;
        gets >= consumers && puts >= producers
    });
}

/// Waits until this process is killed.
fn stay() -> ! {
    loop {
        nix::unistd::pause();
    }
}
