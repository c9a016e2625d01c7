//! Sets the header, the participants and the words of locks to any values, and uses the locks.
//!
//! Each call must return a status, without a crash, an access out of bounds or a wait beyond the timeout. libFuzzer's
//! own timeout ends loops. After each change of the header its checksum is corrected, as an attacker would do.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use shmkit::capi::lock::*;
use shmkit::capi::rlock::*;
use shmkit::capi::segment::*;
use shmkit::capi::status::*;
use shmkit::capi::wait::*;
use shmkit::layout::{Header, SIZE};
use shmkit_fuzz::*;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::ptr;

/// A word of the file that is overwritten.
#[derive(Arbitrary, Debug)]
struct Change {
    place: Place,
    value: Word,
}

#[derive(Arbitrary, Debug)]
enum Place {
    Size,
    Tickets,
    BuiltInLock(u8),
    Slot(u8, u8),
    Lock(u8),
    RLock(u8),
    Anywhere(u16),
}

#[derive(Arbitrary, Debug)]
enum Call {
    Acquire { timeout: u8 },
    Release,
    MarkConsistent,
    LockInfo,
    CreateAt(u16),
    OpenAt(u16),
    Resize(u16),
    Change(Change),
}

#[derive(Arbitrary, Debug)]
struct Input {
    participants: u8,
    /// Fields of the header that are overwritten: index and value.
    header: Vec<(u8, u64)>,
    before: Vec<Change>,
    calls: Vec<(bool, Call)>,
}

const RLOCK: u64 = 64;

fn apply(file: &File, change: &Change, control: u64) {
    let at = match change.place {
        Place::Size => SIZE,
        Place::Tickets => 128,
        Place::BuiltInLock(word) => 192 + 8 * u64::from(word % 8),
        Place::Slot(slot, word) => 512 + 64 * u64::from(slot % 8) + 8 * u64::from(word % 8),
        Place::Lock(word) => control + 8 * u64::from(word % 8),
        Place::RLock(word) => control + RLOCK + 8 * u64::from(word % 8),
        // `change_header` changes the part of the header that the checksum covers.
        Place::Anywhere(at) => 64 + u64::from(at) % (control + DATA - 72),
    };
    overwrite(file, at, &change.value);
}

fn change_header(file: &File, changes: &[(u8, u64)]) {
    if changes.is_empty() {
        return;
    }
    let mut bytes = [0; 128];
    file.read_exact_at(&mut bytes, 0).expect("a header");
    let mut header = Header::parse(&bytes)
        .expect("a valid header")
        .expect("a managed segment");
    for (field, value) in changes {
        match field % 8 {
            0 => header.kind = *value as u32,
            1 => header.control_bytes = *value,
            2 => header.capacity = *value,
            3 => header.participants = *value as u32,
            4 => header.flags = *value as u32,
            5 => header.size = *value,
            6 => header.minor = *value as u16,
            _ => header.major = *value as u16,
        }
    }
    file.write_all_at(&header.to_bytes(), 0)
        .expect("a writable file")
}

fn use_locks(
    page: &Page,
    lock: *mut shmkit_lock,
    rlock: *mut shmkit_rlock,
    input: &Input,
    control: u64,
) {
    let file = page.file();
    for (recursive, call) in input.calls.iter().take(32) {
        let recursive = *recursive && !rlock.is_null();
        if !recursive && lock.is_null() {
            continue;
        }
        let mut recovered = 7;
        // SAFETY: open handles, writable outputs.
        unsafe {
            match call {
                Call::Acquire { timeout } => {
                    let timeout = match timeout % 4 {
                        0 => 1_000_000,
                        _ => SHMKIT_NOWAIT,
                    };
                    let status = match recursive {
                        true => shmkit_rlock_acquire(rlock, timeout, 0, &mut recovered),
                        false => shmkit_lock_acquire(lock, timeout, 0, &mut recovered),
                    };
                    assert_eq!(
                        check(status),
                        recovered != 7,
                        "the output is written if and only if the lock is held"
                    );
                    assert!(matches!(recovered, 0 | 1 | 7));
                }
                Call::Release => {
                    check(match recursive {
                        true => shmkit_rlock_release(rlock),
                        false => shmkit_lock_release(lock),
                    });
                }
                Call::MarkConsistent => {
                    check(match recursive {
                        true => shmkit_rlock_mark_consistent(rlock),
                        false => shmkit_lock_mark_consistent(lock),
                    });
                }
                Call::LockInfo => {
                    let mut info: shmkit_lock_info = std::mem::zeroed();
                    info.struct_size = size_of::<shmkit_lock_info>() as u32;
                    assert!(check(match recursive {
                        true => shmkit_rlock_stat(rlock, &mut info),
                        false => shmkit_lock_stat(lock, &mut info),
                    }));
                }
                Call::CreateAt(at) | Call::OpenAt(at) => {
                    let how = match call {
                        Call::CreateAt(_) => shmkit_lock_create_at,
                        _ => shmkit_lock_open_at,
                    };
                    match page.object(how, u64::from(*at) * 8, None) {
                        Ok(another) => good(shmkit_lock_close(another)),
                        // The tag names this process as the creator, and each further call would wait a second.
                        Err(SHMKIT_ERR_TIMEOUT) => return,
                        Err(_) => {}
                    }
                }
                Call::Resize(size) => {
                    check(shmkit_segment_resize(page.segment, (*size).into(), 0));
                }
                Call::Change(change) => apply(&file, change, control),
            }
        }
    }
}

fuzz_target!(|input: Input| {
    let made = Page::new(u32::from(input.participants % 8) + 1);
    let lock = made.object(shmkit_lock_create_at, 0, None);
    let rlock = made.object(shmkit_rlock_create_at, RLOCK, None);
    // SAFETY: open handles, closed once.
    unsafe {
        good(shmkit_lock_close(lock.expect("room in the page")));
        good(shmkit_rlock_close(rlock.expect("room in the page")));
    }
    let (control, file) = (made.control_bytes(), made.file());
    for change in input.before.iter().take(16) {
        apply(&file, change, control);
    }
    change_header(&file, &input.header);
    let mut segment = ptr::null_mut();
    // SAFETY: the descriptor of an open file, no options, a writable output.
    let opened = unsafe { shmkit_segment_open_fd(file.as_raw_fd(), 0, ptr::null(), &mut segment) };
    if !check(opened) {
        return;
    }
    let page = Page { segment };
    // NULL if the file was refused.
    let lock = page.object(shmkit_lock_open_at, 0, None);
    let lock = lock.unwrap_or(ptr::null_mut());
    let rlock = page.object(shmkit_rlock_open_at, RLOCK, None);
    let rlock = rlock.unwrap_or(ptr::null_mut());
    use_locks(&page, lock, rlock, &input, control);
    // SAFETY: open handles or NULL, closed once.
    unsafe {
        good(shmkit_lock_close(lock));
        good(shmkit_rlock_close(rlock));
    }
});
