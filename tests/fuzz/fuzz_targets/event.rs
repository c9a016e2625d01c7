//! Sets the words of an event to any bytes, and uses what stands there.
//!
//! Whatever they are: a status, never a crash, an access out of bounds or a wait beyond the timeout; and what was set is
//! set, what was cleared is clear. libFuzzer's own timeout ends what loops.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use shmkit::capi::event::*;
use shmkit::capi::segment::*;
use shmkit::capi::status::*;
use shmkit::capi::wait::*;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[derive(Arbitrary, Debug)]
enum Call {
    Set,
    Clear,
    Wait { long: bool },
    Stat,
    Open { create: bool, place: u8 },
    Word { place: u8, value: Value },
}

#[derive(Arbitrary, Debug)]
enum Value {
    Any(u64),
    Small(u8),
    Large(u8),
}

const DATA: u64 = 4096;

fn good(status: shmkit_status) {
    assert_eq!(status, SHMKIT_OK);
}

fn word(data: *mut u64, place: u8) -> &'static AtomicU64 {
    // SAFETY: the data has 512 words, which are mapped as long as anybody looks, and nobody uses them as anything else.
    unsafe { AtomicU64::from_ptr(data.add(place.into())) }
}

fn use_event(
    segment: *mut shmkit_segment,
    event: *mut shmkit_event,
    data: *mut u64,
    calls: &[Call],
) {
    for call in calls.iter().take(64) {
        let mut set = 7;
        // SAFETY: open handles, writable outputs.
        unsafe {
            match call {
                Call::Set => {
                    good(shmkit_event_set(event));
                    good(shmkit_event_is_set(event, &mut set));
                    assert_eq!(set, 1);
                    good(shmkit_event_wait(event, SHMKIT_FOREVER, 0));
                }
                Call::Clear => {
                    good(shmkit_event_clear(event));
                    good(shmkit_event_is_set(event, &mut set));
                    assert_eq!(set, 0);
                    assert_eq!(
                        shmkit_event_wait(event, SHMKIT_NOWAIT, 0),
                        SHMKIT_ERR_WOULD_BLOCK
                    );
                }
                Call::Wait { long } => {
                    good(shmkit_event_is_set(event, &mut set));
                    let (time, refusal) = match long {
                        true => (100_000, SHMKIT_ERR_TIMEOUT),
                        false => (SHMKIT_NOWAIT, SHMKIT_ERR_WOULD_BLOCK),
                    };
                    let expected = if set == 1 { SHMKIT_OK } else { refusal };
                    assert_eq!(shmkit_event_wait(event, time, 0), expected);
                }
                Call::Stat => {
                    let mut info: shmkit_event_info = std::mem::zeroed();
                    info.struct_size = size_of::<shmkit_event_info>() as u32;
                    good(shmkit_event_stat(event, &mut info));
                    assert!(info.sets < 1 << 62 && info.offset == 0);
                }
                Call::Open { create, place } => {
                    let (mut another, at) = (ptr::null_mut(), u64::from(*place) * 8);
                    let status = match create {
                        true => shmkit_event_create_at(segment, at, ptr::null(), &mut another),
                        false => shmkit_event_open_at(segment, at, ptr::null(), &mut another),
                    };
                    match status {
                        SHMKIT_OK => good(shmkit_event_close(another)),
                        // A tag that says that we are making it: a second for each is enough.
                        SHMKIT_ERR_TIMEOUT => return,
                        refused => assert!((SHMKIT_ERR_INTERNAL + 1..SHMKIT_OK).contains(&refused)),
                    }
                }
                Call::Word { place, value } => {
                    let value = match value {
                        Value::Any(value) => *value,
                        Value::Small(value) => (*value).into(),
                        Value::Large(value) => u64::MAX - u64::from(*value),
                    };
                    word(data, *place).store(value, Relaxed);
                }
            }
        }
    }
}

fuzz_target!(|calls: Vec<Call>| {
    let (mut segment, mut event, mut data) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
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
        good(shmkit_event_create_at(segment, 0, ptr::null(), &mut event));
        use_event(segment, event, data.cast(), &calls);
        good(shmkit_event_close(event));
        good(shmkit_segment_close(segment));
    }
});
