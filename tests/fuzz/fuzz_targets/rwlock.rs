//! Sets the words of a readers-writer lock to any values, and uses the lock.
//!
//! Each call must return a status, without a crash, an access out of bounds or a wait beyond the timeout. libFuzzer's
//! own timeout ends loops.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use shmkit::capi::rwlock::*;
use shmkit::capi::status::*;
use shmkit::capi::wait::*;
use shmkit_fuzz::*;
use std::ptr;

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
    RwLockInfo,
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
    Plain(Word),
    /// A count slot: ticket and count.
    Holder {
        ticket: u8,
        count: u16,
    },
    /// A tag with this number of count slots.
    Tag {
        cells: u16,
    },
}

impl Value {
    fn value(&self) -> u64 {
        match *self {
            Value::Plain(ref word) => word.value(),
            Value::Holder { ticket, count } => u64::from(ticket) << 16 | u64::from(count),
            Value::Tag { cells } => 4 | u64::from(cells) << 48,
        }
    }
}

const READERS: u32 = 3;

/// Requires success, or a refusal that a readers-writer lock may return.
fn may(status: shmkit_status) {
    if status != SHMKIT_ERR_DEADLOCK {
        check(status);
    }
}

fn time(long: bool) -> i64 {
    if long { 100_000 } else { SHMKIT_NOWAIT }
}

fn use_lock(page: &Page, lock: *mut shmkit_rwlock, calls: &[Call]) {
    for call in calls.iter().take(64) {
        let mut recovered = 7;
        // SAFETY: open handles, writable outputs.
        unsafe {
            match call {
                Call::AcquireRead { long } => {
                    let status = shmkit_rwlock_acquire_read(lock, time(*long), 0, &mut recovered);
                    may(status);
                    assert_eq!(recovered <= 1, status == SHMKIT_OK);
                }
                Call::ReleaseRead => may(shmkit_rwlock_release_read(lock)),
                Call::AcquireWrite { long } => {
                    let status = shmkit_rwlock_acquire_write(lock, time(*long), 0, &mut recovered);
                    may(status);
                    assert_eq!(recovered <= 1, status == SHMKIT_OK);
                    if status == SHMKIT_OK {
                        // A writer can mark the state consistent, and can become a reader if a count slot is free.
                        good(shmkit_rwlock_mark_consistent(lock));
                    }
                }
                Call::ReleaseWrite => may(shmkit_rwlock_release_write(lock)),
                Call::Upgrade { long } => may(shmkit_rwlock_upgrade(lock, time(*long), 0)),
                Call::Downgrade => may(shmkit_rwlock_downgrade(lock)),
                Call::MarkConsistent => may(shmkit_rwlock_mark_consistent(lock)),
                Call::RwLockInfo => {
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
                    let how = match create {
                        true => shmkit_rwlock_create_at,
                        false => shmkit_rwlock_open_at,
                    };
                    let options = options((*readers).into());
                    match page.object(how, u64::from(*place) * 8, Some(&options)) {
                        Ok(another) => {
                            may(shmkit_rwlock_acquire_read(
                                another,
                                SHMKIT_NOWAIT,
                                0,
                                &mut recovered,
                            ));
                            may(shmkit_rwlock_release_read(another));
                            good(shmkit_rwlock_close(another));
                        }
                        // The tag names this process as the creator, and each further call would wait a second.
                        Err(SHMKIT_ERR_TIMEOUT) => return,
                        Err(_) => {}
                    }
                }
                Call::Word { place, value } => page.store(*place, value.value()),
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
    let page = Page::new(1);
    let lock = page.object(shmkit_rwlock_create_at, 0, Some(&options(READERS)));
    let lock = lock.expect("room in the page");
    use_lock(&page, lock, &calls);
    // SAFETY: an open handle, closed once.
    good(unsafe { shmkit_rwlock_close(lock) });
});
