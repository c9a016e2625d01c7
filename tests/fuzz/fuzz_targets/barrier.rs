//! Sets the words of a barrier and its cells to any bytes, and uses what stands there.
//!
//! Whatever they are: a status, never a crash, an access out of bounds or a wait beyond the timeout; and after a reset it
//! is whole. libFuzzer's own timeout ends what loops.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use shmkit::capi::barrier::*;
use shmkit::capi::segment::*;
use shmkit::capi::status::*;
use shmkit::capi::wait::*;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

#[derive(Arbitrary, Debug)]
enum Call {
    Wait {
        long: bool,
        hold: bool,
    },
    Pass,
    Reset,
    Abort,
    Stat,
    Open {
        create: bool,
        place: u8,
        parties: u16,
    },
    Word {
        place: u8,
        value: Value,
    },
}

#[derive(Arbitrary, Debug)]
enum Value {
    Any(u64),
    Small(u8),
    Large(u8),
    /// A lock word, or the state of a cell: slot, ticket and marks.
    Owner {
        slot: u8,
        ticket: u8,
        marks: u8,
    },
    /// A turn, or a seat: how many, or which place; generation and marks.
    Turn {
        count: u8,
        generation: u8,
    },
    /// What the tag says of parties.
    Tag {
        cells: u16,
    },
}

const DATA: u64 = 4096;

fn good(status: shmkit_status) {
    assert_eq!(status, SHMKIT_OK);
}

fn check(status: shmkit_status) -> bool {
    assert!(
        (SHMKIT_ERR_INTERNAL + 1..=SHMKIT_OK).contains(&status),
        "status {status}"
    );
    status == SHMKIT_OK
}

fn options(parties: u32) -> shmkit_barrier_options {
    shmkit_barrier_options {
        struct_size: size_of::<shmkit_barrier_options>() as u32,
        flags: 0,
        mode: 0,
        participants: 0,
        directory: ptr::null(),
        parties,
        reserved: 0,
    }
}

fn word(data: *mut u64, place: u8) -> &'static AtomicU64 {
    // SAFETY: the data has 512 words, which are mapped as long as anybody looks, and nobody uses them as anything else.
    unsafe { AtomicU64::from_ptr(data.add(place.into())) }
}

fn use_barrier(
    segment: *mut shmkit_segment,
    barrier: *mut shmkit_barrier,
    parties: u32,
    data: *mut u64,
    calls: &[Call],
) {
    let begin = Instant::now();
    for call in calls.iter().take(64) {
        // Where the lock's word says that we have it, each call waits a second for us.
        if begin.elapsed() > Duration::from_secs(2) {
            return;
        }
        let mut number = 7777;
        // SAFETY: open handles, writable outputs.
        unsafe {
            match call {
                Call::Wait { long, hold } => {
                    let time = if *long { 100_000 } else { SHMKIT_NOWAIT };
                    let flags = if *hold { SHMKIT_BARRIER_SERIAL } else { 0 };
                    let status = shmkit_barrier_wait(barrier, time, flags, &mut number);
                    assert_eq!(check(status), number != 7777);
                    assert!(number == 7777 || number < parties);
                }
                Call::Pass => drop(check(shmkit_barrier_release(barrier))),
                Call::Reset => match shmkit_barrier_reset(barrier) {
                    // The lock's word says that we have it.
                    SHMKIT_ERR_TIMEOUT => return,
                    status => {
                        good(status);
                        good(shmkit_barrier_is_broken(barrier, &mut number));
                        assert_eq!(number, 0);
                        good(shmkit_barrier_waiting(barrier, &mut number));
                        assert_eq!(number, 0);
                    }
                },
                Call::Abort => {
                    good(shmkit_barrier_abort(barrier));
                    good(shmkit_barrier_is_broken(barrier, &mut number));
                    assert_eq!(number, 1);
                    let status = shmkit_barrier_wait(barrier, SHMKIT_NOWAIT, 0, &mut number);
                    // Where somebody seems to have the lock we are not even told.
                    assert!([SHMKIT_ERR_BROKEN, SHMKIT_ERR_WOULD_BLOCK].contains(&status));
                }
                Call::Stat => {
                    let mut info: shmkit_barrier_info = std::mem::zeroed();
                    info.struct_size = size_of::<shmkit_barrier_info>() as u32;
                    good(shmkit_barrier_stat(barrier, &mut info));
                    assert!(info.parties == parties && info.waiting <= parties);
                    assert_eq!(info.offset, 0);
                }
                Call::Open {
                    create,
                    place,
                    parties,
                } => {
                    let (mut another, at) = (ptr::null_mut(), u64::from(*place) * 8);
                    let options = options((*parties).into());
                    let status = match create {
                        true => shmkit_barrier_create_at(segment, at, &options, &mut another),
                        false => shmkit_barrier_open_at(segment, at, &options, &mut another),
                    };
                    // A tag that says that we are making it: a second for each is enough.
                    if status == SHMKIT_ERR_TIMEOUT {
                        return;
                    }
                    if check(status) {
                        good(shmkit_barrier_parties(another, &mut number));
                        assert!((1..=SHMKIT_BARRIER_MAX_PARTIES).contains(&number));
                        check(shmkit_barrier_wait(
                            another,
                            SHMKIT_NOWAIT,
                            0,
                            ptr::null_mut(),
                        ));
                        good(shmkit_barrier_close(another));
                    }
                }
                Call::Word { place, value } => {
                    let value = match value {
                        Value::Any(value) => *value,
                        Value::Small(value) => (*value).into(),
                        Value::Large(value) => u64::MAX - u64::from(*value),
                        Value::Owner {
                            slot,
                            ticket,
                            marks,
                        } => {
                            u64::from(*slot) | u64::from(*ticket) << 13 | u64::from(marks & 7) << 29
                        }
                        Value::Turn { count, generation } => {
                            u64::from(*count) << 48 | u64::from(*generation)
                        }
                        Value::Tag { cells } => 8 | u64::from(*cells) << 48,
                    };
                    // Its own cells and what lies around them, more often than the rest of the page.
                    word(data, place % 64).store(value, Relaxed);
                }
            }
        }
    }
}

fuzz_target!(|input: (u8, Vec<Call>)| {
    let (parties, calls) = input;
    let parties = u32::from(parties % 4) + 1;
    let (mut segment, mut barrier, mut data) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
    let managed = shmkit_segment_options {
        struct_size: size_of::<shmkit_segment_options>() as u32,
        flags: SHMKIT_SEGMENT_MANAGED,
        // Behind the data lies what has no memory, so that a slip is SIGBUS.
        capacity: 1 << 20,
        mode: 0,
        participants: 1,
        directory: ptr::null(),
    };
    // SAFETY: no name, structs with their sizes set, writable outputs, handles that are open.
    unsafe {
        good(shmkit_segment_create(
            ptr::null(),
            DATA,
            &managed,
            &mut segment,
        ));
        good(shmkit_segment_data(segment, &mut data));
        good(shmkit_barrier_create_at(
            segment,
            0,
            &options(parties),
            &mut barrier,
        ));
        use_barrier(segment, barrier, parties, data.cast(), &calls);
        good(shmkit_barrier_close(barrier));
        good(shmkit_segment_close(segment));
    }
});
