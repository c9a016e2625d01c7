//! Sets the words of a readers-writer lock to any bytes, and uses what stands there.
//!
//! Whatever they are: a status, never a crash, an access out of bounds or a wait beyond the timeout. libFuzzer's own
//! timeout ends what loops.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use shmkit::capi::rwlock::*;
use shmkit::capi::segment::*;
use shmkit::capi::status::*;
use shmkit::capi::wait::*;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[derive(Arbitrary, Debug)]
enum Call {
    AcquireRead {
        long: bool,
    },
    ReleaseRead,
    AcquireWrite {
        long: bool,
    },
    ReleaseWrite,
    Upgrade {
        long: bool,
    },
    Downgrade,
    MarkConsistent,
    Stat,
    Open {
        create: bool,
        place: u8,
        readers: u16,
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
    /// The word of the door or of the writer: slot, ticket and marks.
    Owner {
        slot: u16,
        ticket: u8,
        marks: u8,
    },
    /// A cell: ticket and count.
    Holder {
        ticket: u8,
        count: u16,
    },
    /// A tag that says how many cells there are.
    Tag {
        cells: u16,
    },
}

impl Value {
    fn word(&self) -> u64 {
        match *self {
            Value::Any(value) => value,
            Value::Small(value) => value.into(),
            Value::Large(value) => u64::MAX - u64::from(value),
            Value::Owner {
                slot,
                ticket,
                marks,
            } => u64::from(slot) & 0x1fff | u64::from(ticket) << 13 | u64::from(marks) >> 5 << 29,
            Value::Holder { ticket, count } => u64::from(ticket) << 16 | u64::from(count),
            Value::Tag { cells } => 4 | u64::from(cells) << 48,
        }
    }
}

const DATA: u64 = 4096;
const READERS: u32 = 3;

fn good(status: shmkit_status) {
    assert_eq!(status, SHMKIT_OK);
}

/// It is a status, and none that says that something is wrong with the library.
fn told(status: shmkit_status) {
    let any = SHMKIT_ERR_SHUT_DOWN..=SHMKIT_OK;
    assert!(
        any.contains(&status) && status != SHMKIT_ERR_INTERNAL,
        "{status}"
    );
}

fn word(data: *mut u64, place: u8) -> &'static AtomicU64 {
    // SAFETY: the data has 512 words, which are mapped as long as anybody looks, and nobody uses them as anything else.
    unsafe { AtomicU64::from_ptr(data.add(place.into())) }
}

fn time(long: bool) -> i64 {
    if long { 100_000 } else { SHMKIT_NOWAIT }
}

fn use_lock(
    segment: *mut shmkit_segment,
    lock: *mut shmkit_rwlock,
    data: *mut u64,
    calls: &[Call],
) {
    for call in calls.iter().take(64) {
        let mut recovered = 7;
        // SAFETY: open handles, writable outputs.
        unsafe {
            match call {
                Call::AcquireRead { long } => {
                    let status = shmkit_rwlock_acquire_read(lock, time(*long), 0, &mut recovered);
                    told(status);
                    assert_eq!(recovered <= 1, status == SHMKIT_OK);
                }
                Call::ReleaseRead => told(shmkit_rwlock_release_read(lock)),
                Call::AcquireWrite { long } => {
                    let status = shmkit_rwlock_acquire_write(lock, time(*long), 0, &mut recovered);
                    told(status);
                    assert_eq!(recovered <= 1, status == SHMKIT_OK);
                    if status == SHMKIT_OK {
                        // Who writes may say that all is whole, and become a reader if there is a cell.
                        good(shmkit_rwlock_mark_consistent(lock));
                    }
                }
                Call::ReleaseWrite => told(shmkit_rwlock_release_write(lock)),
                Call::Upgrade { long } => told(shmkit_rwlock_upgrade(lock, time(*long), 0)),
                Call::Downgrade => told(shmkit_rwlock_downgrade(lock)),
                Call::MarkConsistent => told(shmkit_rwlock_mark_consistent(lock)),
                Call::Stat => {
                    let mut info: shmkit_rwlock_info = std::mem::zeroed();
                    info.struct_size = size_of::<shmkit_rwlock_info>() as u32;
                    good(shmkit_rwlock_stat(lock, &mut info));
                    assert!(info.max_readers == READERS && info.reading_processes <= READERS);
                }
                Call::Open {
                    create,
                    place,
                    readers,
                } => {
                    let (mut another, at) = (ptr::null_mut(), u64::from(*place) * 8);
                    let options = options((*readers).into());
                    let status = match create {
                        true => shmkit_rwlock_create_at(segment, at, &options, &mut another),
                        false => shmkit_rwlock_open_at(segment, at, &options, &mut another),
                    };
                    match status {
                        SHMKIT_OK => {
                            told(shmkit_rwlock_acquire_read(
                                another,
                                SHMKIT_NOWAIT,
                                0,
                                &mut recovered,
                            ));
                            told(shmkit_rwlock_release_read(another));
                            good(shmkit_rwlock_close(another));
                        }
                        // A tag that says that we are making it: a second for each is enough.
                        SHMKIT_ERR_TIMEOUT => return,
                        refused => told(refused),
                    }
                }
                Call::Word { place, value } => word(data, *place).store(value.word(), Relaxed),
            }
        }
    }
}

fn options(readers: u32) -> shmkit_rwlock_options {
    shmkit_rwlock_options {
        struct_size: size_of::<shmkit_rwlock_options>() as u32,
        flags: 0,
        mode: 0,
        participants: 0,
        directory: ptr::null(),
        readers,
        reserved: 0,
    }
}

fuzz_target!(|calls: Vec<Call>| {
    let (mut segment, mut lock, mut data) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
    let made = shmkit_segment_options {
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
            &made,
            &mut segment,
        ));
        good(shmkit_segment_data(segment, &mut data));
        let options = options(READERS);
        good(shmkit_rwlock_create_at(segment, 0, &options, &mut lock));
        use_lock(segment, lock, data.cast(), &calls);
        good(shmkit_rwlock_close(lock));
        good(shmkit_segment_close(segment));
    }
});
