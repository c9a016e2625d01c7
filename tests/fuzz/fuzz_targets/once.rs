//! Sets the words of a once to any bytes, and uses what stands there.
//!
//! Whatever they are: a status, never a crash, an access out of bounds or a wait beyond the timeout; and what was done is
//! done. libFuzzer's own timeout ends what loops.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use shmkit::capi::once::*;
use shmkit::capi::segment::*;
use shmkit::capi::status::*;
use shmkit::capi::wait::*;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[derive(Arbitrary, Debug)]
enum Call {
    Begin { long: bool },
    Done,
    Abort,
    Stat,
    Open { create: bool, place: u8 },
    Word { place: u8, value: Value },
}

#[derive(Arbitrary, Debug)]
enum Value {
    Any(u64),
    Small(u8),
    /// A word: slot, ticket and marks.
    Owner {
        slot: u16,
        ticket: u8,
        marks: u8,
    },
}

const DATA: u64 = 4096;

fn good(status: shmkit_status) {
    assert_eq!(status, SHMKIT_OK);
}

fn word(data: *mut u64, place: u8) -> &'static AtomicU64 {
    // SAFETY: the data has 512 words, which are mapped as long as anybody looks, and nobody uses them as anything else.
    unsafe { AtomicU64::from_ptr(data.add(place.into())) }
}

fn use_once(segment: *mut shmkit_segment, once: *mut shmkit_once, data: *mut u64, calls: &[Call]) {
    for call in calls.iter().take(64) {
        let (mut mine, mut recovered, mut finished) = (7, 7, 7);
        // SAFETY: open handles, writable outputs.
        unsafe {
            good(shmkit_once_is_done(once, &mut finished));
            match call {
                Call::Begin { long } => {
                    let time = if *long { 1_000_000 } else { SHMKIT_NOWAIT };
                    match shmkit_once_begin(once, time, 0, &mut mine, &mut recovered) {
                        SHMKIT_OK => {
                            assert_eq!((mine, mine + recovered > 2), (1 - finished, false))
                        }
                        SHMKIT_ERR_TIMEOUT | SHMKIT_ERR_WOULD_BLOCK | SHMKIT_ERR_CORRUPT => {
                            assert_eq!((mine, recovered, finished), (7, 7, 0));
                        }
                        other => panic!("status {other}"),
                    }
                }
                Call::Done => match shmkit_once_done(once) {
                    SHMKIT_OK => {
                        assert_eq!(finished, 0);
                        good(shmkit_once_begin(
                            once,
                            SHMKIT_FOREVER,
                            0,
                            &mut mine,
                            &mut recovered,
                        ));
                        assert_eq!((mine, recovered), (0, 0));
                    }
                    refused => assert_eq!(refused, SHMKIT_ERR_NOT_OWNER),
                },
                Call::Abort => match shmkit_once_abort(once) {
                    SHMKIT_OK => {
                        good(shmkit_once_begin(
                            once,
                            SHMKIT_NOWAIT,
                            0,
                            &mut mine,
                            &mut recovered,
                        ));
                        assert_eq!((mine, finished), (1, 0));
                    }
                    refused => assert_eq!(refused, SHMKIT_ERR_NOT_OWNER),
                },
                Call::Stat => {
                    let mut info: shmkit_once_info = std::mem::zeroed();
                    info.struct_size = size_of::<shmkit_once_info>() as u32;
                    good(shmkit_once_stat(once, &mut info));
                    assert_eq!(info.flags & SHMKIT_ONCE_DONE != 0, finished == 1);
                }
                Call::Open { create, place } => {
                    let (mut another, at) = (ptr::null_mut(), u64::from(*place) * 8);
                    let status = match create {
                        true => shmkit_once_create_at(segment, at, ptr::null(), &mut another),
                        false => shmkit_once_open_at(segment, at, ptr::null(), &mut another),
                    };
                    match status {
                        SHMKIT_OK => good(shmkit_once_close(another)),
                        // A tag that says that we are making it: a second for each is enough.
                        SHMKIT_ERR_TIMEOUT => return,
                        refused => assert!((SHMKIT_ERR_INTERNAL + 1..SHMKIT_OK).contains(&refused)),
                    }
                }
                Call::Word { place, value } => {
                    let value = match value {
                        Value::Any(value) => *value,
                        Value::Small(value) => (*value).into(),
                        Value::Owner {
                            slot,
                            ticket,
                            marks,
                        } => {
                            u64::from(slot & 0x1fff)
                                | u64::from(*ticket) << 13
                                | u64::from(marks & 7) << 29
                        }
                    };
                    word(data, *place).store(value, Relaxed);
                }
            }
        }
    }
}

fuzz_target!(|calls: Vec<Call>| {
    let (mut segment, mut once, mut data) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
    let options = shmkit_segment_options {
        struct_size: size_of::<shmkit_segment_options>() as u32,
        flags: SHMKIT_SEGMENT_MANAGED,
        capacity: 0,
        mode: 0,
        participants: 1,
        directory: ptr::null(),
    };
    // SAFETY: no name, a struct with its size set, writable outputs, handles that are open.
    unsafe {
        good(shmkit_segment_create(
            ptr::null(),
            DATA,
            &options,
            &mut segment,
        ));
        good(shmkit_segment_data(segment, &mut data));
        good(shmkit_once_create_at(segment, 0, ptr::null(), &mut once));
        use_once(segment, once, data.cast(), &calls);
        good(shmkit_once_close(once));
        good(shmkit_segment_close(segment));
    }
});
