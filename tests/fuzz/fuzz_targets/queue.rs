//! Sets the words and records of a queue to any values, and uses the queue.
//!
//! Each call must return a result, without a crash, an access out of bounds or a wait beyond the timeout. libFuzzer's
//! own timeout ends loops.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use shmkit::error::{Error, Result};
use shmkit::queue::{Batch, Create, Options, Overflow, Queue};
use shmkit::raw::WaitOptions;
use shmkit::segment::{self, Form, Segment};
use shmkit_fuzz::Word;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

#[derive(Arbitrary, Debug)]
enum Call {
    Put { length: u16, long: bool },
    PutMany { lengths: [u8; 3], all: bool },
    Get { room: u8, long: bool },
    GetMany { room: u16, most: u8 },
    Peek,
    Reserve { room: u16 },
    Commit { length: u16 },
    Abort,
    Lease,
    Ack,
    Nack,
    QueueInfo,
    Join,
    ShutDown,
    Open { create: bool, capacity: u8 },
    Word { place: u8, value: Value },
}

#[derive(Arbitrary, Debug)]
enum Value {
    Plain(Word),
    /// A position, this many laps and grains from the beginning of a new queue.
    Position {
        laps: u8,
        grains: u8,
    },
    /// The present value, plus this.
    More(i8),
}

const CAPACITY: u64 = 1024;
const RING: u64 = CAPACITY + 128;
const WORDS: u64 = 576;
/// How many bytes follow the queue; they must not change.
const BEHIND: u64 = 4096;
const CANARY: u8 = 0xa5;

fn may<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(done) => Some(done),
        Err(Error::Internal(cause)) => panic!("{cause:?}"),
        Err(_) => None,
    }
}

fn wait(long: bool) -> WaitOptions {
    match long {
        true => WaitOptions::after(Duration::from_micros(50)),
        false => WaitOptions::NONBLOCKING,
    }
}

fn word(segment: &Segment, place: u64, value: &Value) {
    let bytes = &segment.bytes().expect("it is open")[place as usize * 8..][..8];
    let old = u64::from_ne_bytes(std::array::from_fn(|at| bytes[at].load(Relaxed)));
    let value = match value {
        Value::Plain(word) => word.value(),
        Value::Position { laps, grains } => {
            let lap = RING.next_power_of_two();
            (3 * lap)
                .wrapping_neg()
                .wrapping_add(u64::from(laps % 8) * lap)
                + u64::from(*grains % 40) * 32
        }
        Value::More(more) => old.wrapping_add_signed((*more).into()),
    };
    for (byte, value) in bytes.iter().zip(value.to_ne_bytes()) {
        byte.store(value, Relaxed);
    }
}

fn use_queue(segment: &Arc<Segment>, queue: &Queue, options: &Options, calls: &[Call]) {
    let begin = Instant::now();
    let (mut reserved, mut leased) = (0, 0);
    let mut bytes = [MaybeUninit::uninit(); 1024];
    for call in calls.iter().take(64) {
        // If a lock's word names this process as the owner, each call waits a quarter of a second for it.
        if begin.elapsed() > Duration::from_secs(2) {
            return;
        }
        match call {
            Call::Put { length, long } => {
                may(queue.put_with(&[1; 1024][..*length as usize % 1024], wait(*long)));
            }
            Call::PutMany { lengths, all } => {
                let batch = if *all { Batch::All } else { Batch::Some };
                let messages = lengths.iter().map(|&length| &[2; 256][..length.into()]);
                may(queue.put_many_with(messages, batch, WaitOptions::NONBLOCKING));
            }
            Call::Get { room, long } => {
                let bytes = &mut bytes[..usize::from(*room) * 4];
                may(queue.get_into_with(bytes, wait(*long)));
            }
            Call::GetMany { room, most } => {
                let mut lengths = [MaybeUninit::uninit(); 8];
                let bytes = &mut bytes[..*room as usize % 1024];
                let count = queue.get_many_into_with(
                    bytes,
                    &mut lengths[..*most as usize % 8],
                    WaitOptions::NONBLOCKING,
                );
                assert!(may(count).is_none_or(|count| count <= 8));
            }
            Call::Peek => drop(may(
                queue.peek_into_with(&mut bytes, WaitOptions::NONBLOCKING)
            )),
            Call::Reserve { room } => {
                let room = u64::from(*room % 1024);
                if let Some(place) = may(queue.reserve_with(room, WaitOptions::NONBLOCKING)) {
                    reserved = place.token;
                    if let Some(to) = may(queue.address(place.offset, place.room)) {
                        // SAFETY: this many bytes are mapped there, and this target uses them as bytes only.
                        unsafe { to.as_ptr().write_bytes(3, room as usize) };
                    }
                }
            }
            Call::Commit { length } => drop(may(queue.commit(reserved, (*length % 1024).into()))),
            Call::Abort => drop(may(queue.abort(reserved))),
            Call::Lease => {
                if let Some(lease) = may(queue.lease_with(WaitOptions::NONBLOCKING)) {
                    leased = lease.token;
                    may(queue.address(lease.offset, lease.length));
                }
            }
            Call::Ack => drop(may(queue.ack(leased))),
            Call::Nack => drop(may(queue.nack(leased))),
            Call::QueueInfo => {
                may(queue.stat());
                may(queue.is_full());
            }
            Call::Join => drop(may(queue.join_with(WaitOptions::NONBLOCKING))),
            Call::ShutDown => drop(may(queue.shut_down())),
            Call::Open { create, capacity } => {
                let create = if *create {
                    Create::IfMissing
                } else {
                    Create::Never
                };
                let options = Options {
                    capacity: 1024 + u64::from(*capacity) * 32,
                    ..options.clone()
                };
                match Queue::at(segment, 0, create, &options) {
                    // The tag names this process as the creator, and each further call would wait a second.
                    Err(Error::Timeout(_)) => return,
                    another => drop(may(another)),
                }
            }
            Call::Word { place, value } => {
                // An opener trusts the capacity word, so the bytes behind the queue would then belong to the queue.
                let place = u64::from(*place) % ((WORDS + RING) / 8);
                if place > 1 {
                    word(segment, place, value);
                }
            }
        }
    }
}

fuzz_target!(|input: (u8, u8, Vec<Call>)| {
    let (bound, overflow, calls) = input;
    let managed = segment::Options {
        form: Form::Managed,
        participants: 1,
        ..segment::Options::default()
    };
    let segment = Segment::create(None, WORDS + RING + BEHIND, &managed);
    let segment = Arc::new(segment.expect("memory for a segment"));
    let behind = || &segment.bytes().expect("it is open")[(WORDS + RING) as usize..];
    behind().iter().for_each(|byte| byte.store(CANARY, Relaxed));
    let options = Options {
        capacity: CAPACITY,
        messages: (bound % 8).into(),
        overflow: [Overflow::Block, Overflow::Fail, Overflow::Overwrite][usize::from(overflow) % 3],
        ..Options::default()
    };
    let queue = Queue::at(&segment, 0, Create::Always, &options).expect("room in the page");
    use_queue(&segment, &queue, &options, &calls);
    assert!(
        behind().iter().all(|byte| byte.load(Relaxed) == CANARY),
        "a byte outside the queue was written"
    );
});
