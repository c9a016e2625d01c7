//! Sets the words and cells of a semaphore to any bytes, and uses what stands there.
//!
//! Whatever they are: a status, never a crash, an access out of bounds or a wait beyond the timeout; and what was taken
//! of whole bytes is there to be given back. libFuzzer's own timeout ends what loops.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use shmkit::capi::segment::*;
use shmkit::capi::semaphore::*;
use shmkit::capi::status::*;
use shmkit::capi::wait::*;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[derive(Arbitrary, Debug)]
enum Call {
    Acquire { count: u32, long: bool },
    Release { count: u32 },
    Few { count: u8 },
    Tell,
    Open { create: bool, undo: bool, place: u8 },
    Word { place: u8, value: Value },
}

#[derive(Arbitrary, Debug)]
enum Value {
    Any(u64),
    Small(u8),
    Large(u8),
    /// A word with this value and these marks.
    Permits {
        value: u8,
        marks: u32,
    },
    /// A cell of this ticket.
    Cell {
        ticket: u8,
        count: u16,
    },
}

const DATA: u64 = 4096;
const PROCESSES: u32 = 4;

fn good(status: shmkit_status) {
    assert_eq!(status, SHMKIT_OK);
}

fn may(status: shmkit_status) {
    assert!(
        (SHMKIT_ERR_INTERNAL + 1..=SHMKIT_OK).contains(&status),
        "{status}"
    );
}

fn options(undo: bool) -> shmkit_semaphore_options {
    shmkit_semaphore_options {
        struct_size: size_of::<shmkit_semaphore_options>() as u32,
        flags: if undo { SHMKIT_SEMAPHORE_UNDO } else { 0 },
        mode: 0,
        participants: 0,
        directory: ptr::null(),
        value: 5,
        maximum: 5,
        processes: if undo { PROCESSES } else { 0 },
        reserved: 0,
    }
}

fn word(data: *mut u64, place: u8) -> &'static AtomicU64 {
    // SAFETY: the data has 512 words, which are mapped as long as anybody looks, and nobody uses them as anything else.
    unsafe { AtomicU64::from_ptr(data.add(place.into())) }
}

fn use_semaphore(
    segment: *mut shmkit_segment,
    semaphore: *mut shmkit_semaphore,
    data: *mut u64,
    calls: &[Call],
) {
    let mut whole = true;
    for call in calls.iter().take(64) {
        // SAFETY: open handles, writable outputs.
        unsafe {
            match call {
                Call::Acquire { count, long } => {
                    let time = if *long { 100_000 } else { SHMKIT_NOWAIT };
                    may(shmkit_semaphore_acquire(semaphore, *count, time, 0));
                }
                Call::Release { count } => match shmkit_semaphore_release(semaphore, *count) {
                    // A word that says that we are inside: once is enough.
                    SHMKIT_ERR_TIMEOUT => return,
                    told => may(told),
                },
                Call::Few { count } => {
                    let count = u32::from(*count % 6);
                    let taken = shmkit_semaphore_acquire(semaphore, count, SHMKIT_NOWAIT, 0);
                    may(taken);
                    let given = match taken {
                        SHMKIT_OK => shmkit_semaphore_release(semaphore, count),
                        _ => SHMKIT_OK,
                    };
                    assert!(!whole || given == SHMKIT_OK);
                    if given == SHMKIT_ERR_TIMEOUT {
                        return;
                    }
                }
                Call::Tell => {
                    let (mut value, mut held) = (7, 7);
                    let mut info: shmkit_semaphore_info = std::mem::zeroed();
                    info.struct_size = size_of::<shmkit_semaphore_info>() as u32;
                    let told = shmkit_semaphore_value(semaphore, &mut value);
                    may(told);
                    may(shmkit_semaphore_held(semaphore, &mut held));
                    may(shmkit_semaphore_stat(semaphore, &mut info));
                    assert!(told != SHMKIT_OK || value <= 5);
                    assert!(info.holders <= PROCESSES.into() && info.processes <= PROCESSES);
                }
                Call::Open {
                    create,
                    undo,
                    place,
                } => {
                    let (mut another, at) = (ptr::null_mut(), u64::from(*place) * 8);
                    let given = options(*undo);
                    let status = match create {
                        true => shmkit_semaphore_create_at(segment, at, &given, &mut another),
                        false => shmkit_semaphore_open_at(segment, at, &given, &mut another),
                    };
                    match status {
                        SHMKIT_OK => {
                            // Where it lies over the other one, that one's bytes are any.
                            whole = false;
                            may(shmkit_semaphore_acquire(another, 1, SHMKIT_NOWAIT, 0));
                            let given = shmkit_semaphore_release(another, 1);
                            good(shmkit_semaphore_close(another));
                            match given {
                                SHMKIT_ERR_TIMEOUT => return,
                                told => may(told),
                            }
                        }
                        // A tag that says that we are making it: a second for each is enough.
                        SHMKIT_ERR_TIMEOUT => return,
                        refused => may(refused),
                    }
                }
                Call::Word { place, value } => {
                    let value = match value {
                        Value::Any(value) => *value,
                        Value::Small(value) => (*value).into(),
                        Value::Large(value) => u64::MAX - u64::from(*value),
                        Value::Permits { value, marks } => {
                            u64::from(*value) << 32 | u64::from(*marks)
                        }
                        Value::Cell { ticket, count } => {
                            u64::from(*ticket) << 16 | u64::from(*count)
                        }
                    };
                    whole = false;
                    word(data, *place).store(value, Relaxed);
                }
            }
        }
    }
}

fuzz_target!(|input: (bool, Vec<Call>)| {
    let (undo, calls) = input;
    let (mut segment, mut semaphore) = (ptr::null_mut(), ptr::null_mut());
    let mut data = ptr::null_mut();
    let made = shmkit_segment_options {
        struct_size: size_of::<shmkit_segment_options>() as u32,
        flags: SHMKIT_SEGMENT_MANAGED,
        capacity: 0,
        mode: 0,
        participants: 2,
        directory: ptr::null(),
    };
    // SAFETY: no name, structs with their sizes set, writable outputs, handles that are open.
    unsafe {
        good(shmkit_segment_create(
            ptr::null(),
            DATA,
            &made,
            &mut segment,
        ));
        good(shmkit_segment_data(segment, &mut data));
        let given = options(undo);
        good(shmkit_semaphore_create_at(
            segment,
            0,
            &given,
            &mut semaphore,
        ));
        use_semaphore(segment, semaphore, data.cast(), &calls);
        good(shmkit_semaphore_close(semaphore));
        good(shmkit_segment_close(segment));
    }
});
