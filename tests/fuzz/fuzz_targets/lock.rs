//! Sets header, participants and the words of locks to any bytes, and uses what stands there.
//!
//! Whatever they are: a status, never a crash, an access out of bounds or a wait beyond the timeout. libFuzzer's own
//! timeout ends what loops. Behind each change of the header the checksum is mended, as an attacker would.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use shmkit::capi::lock::*;
use shmkit::capi::rlock::*;
use shmkit::capi::segment::*;
use shmkit::capi::status::*;
use shmkit::capi::wait::*;
use shmkit::layout::{Header, SIZE};
use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::os::unix::fs::FileExt;
use std::ptr;

/// A word of the file that is set.
#[derive(Arbitrary, Debug)]
struct Change {
    place: Place,
    value: Value,
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
enum Value {
    Any(u64),
    Small(u8),
    /// A lock word: slot, ticket and marks.
    Owner {
        slot: u16,
        ticket: u8,
        marks: u8,
    },
}

#[derive(Arbitrary, Debug)]
enum Call {
    Acquire { timeout: u8 },
    Release,
    MarkConsistent,
    Stat,
    CreateAt(u16),
    OpenAt(u16),
    Resize(u16),
    Change(Change),
}

#[derive(Arbitrary, Debug)]
struct Input {
    participants: u8,
    /// Fields of the header that are overwritten: which, and with what.
    header: Vec<(u8, u64)>,
    before: Vec<Change>,
    calls: Vec<(bool, Call)>,
}

const DATA: u64 = 4096;
/// More than any slot number reaches: behind the data lies what has no memory, so that a slip is SIGBUS.
const CAPACITY: u64 = 1 << 20;
const RLOCK: u64 = 64;

fn check(status: shmkit_status) -> bool {
    assert!(
        (SHMKIT_ERR_INTERNAL + 1..=SHMKIT_OK).contains(&status),
        "status {status}"
    );
    status == SHMKIT_OK
}

fn options(flags: u32, participants: u32) -> shmkit_segment_options {
    shmkit_segment_options {
        struct_size: size_of::<shmkit_segment_options>() as u32,
        flags,
        capacity: CAPACITY,
        mode: 0,
        participants,
        directory: ptr::null(),
    }
}

fn file_of(segment: *mut shmkit_segment) -> ManuallyDrop<File> {
    let mut fd = -1;
    // SAFETY: an open handle and a writable output.
    assert_eq!(unsafe { shmkit_segment_fd(segment, &mut fd) }, SHMKIT_OK);
    // SAFETY: the handle keeps the descriptor open, and it is never closed here.
    ManuallyDrop::new(unsafe { File::from_raw_fd(fd) })
}

fn apply(file: &File, change: &Change, control: u64) {
    let at = match change.place {
        Place::Size => SIZE,
        Place::Tickets => 128,
        Place::BuiltInLock(word) => 192 + 8 * u64::from(word % 8),
        Place::Slot(slot, word) => 256 + 64 * u64::from(slot % 8) + 8 * u64::from(word % 8),
        Place::Lock(word) => control + 8 * u64::from(word % 8),
        Place::RLock(word) => control + RLOCK + 8 * u64::from(word % 8),
        // The header's checked part is changed elsewhere.
        Place::Anywhere(at) => 64 + u64::from(at) % (control + DATA - 72),
    };
    let value = match change.value {
        Value::Any(value) => value,
        Value::Small(value) => value.into(),
        Value::Owner {
            slot,
            ticket,
            marks,
        } => u64::from(slot) & 0x1fff | u64::from(ticket) << 13 | u64::from(marks & 7) << 29,
    };
    file.write_all_at(&value.to_ne_bytes(), at)
        .expect("the file can be written");
}

fn change_header(file: &File, changes: &[(u8, u64)]) {
    if changes.is_empty() {
        return;
    }
    let mut bytes = [0; 128];
    file.read_exact_at(&mut bytes, 0).expect("a header");
    let mut header = Header::parse(&bytes)
        .expect("a good one")
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
        .expect("the file can be written");
}

fn use_locks(
    segment: *mut shmkit_segment,
    lock: *mut shmkit_lock,
    rlock: *mut shmkit_rlock,
    input: &Input,
    control: u64,
) {
    let file = file_of(segment);
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
                        "written if and only if it is ours"
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
                Call::Stat => {
                    let mut info: shmkit_lock_info = std::mem::zeroed();
                    info.struct_size = size_of::<shmkit_lock_info>() as u32;
                    assert!(check(match recursive {
                        true => shmkit_rlock_stat(rlock, &mut info),
                        false => shmkit_lock_stat(lock, &mut info),
                    }));
                }
                Call::CreateAt(at) | Call::OpenAt(at) => {
                    let (mut another, at) = (ptr::null_mut(), u64::from(*at) * 8);
                    let status = match call {
                        Call::CreateAt(_) => {
                            shmkit_lock_create_at(segment, at, ptr::null(), &mut another)
                        }
                        _ => shmkit_lock_open_at(segment, at, ptr::null(), &mut another),
                    };
                    // A tag that says that we are making it: a second for each is enough.
                    if status == SHMKIT_ERR_TIMEOUT {
                        return;
                    }
                    if check(status) {
                        assert_eq!(shmkit_lock_close(another), SHMKIT_OK);
                    }
                }
                Call::Resize(size) => {
                    check(shmkit_segment_resize(segment, (*size).into(), 0));
                }
                Call::Change(change) => apply(&file, change, control),
            }
        }
    }
}

fuzz_target!(|input: Input| {
    let participants = u32::from(input.participants % 8) + 1;
    let (mut made, mut segment) = (ptr::null_mut(), ptr::null_mut());
    let (mut lock, mut rlock) = (ptr::null_mut(), ptr::null_mut());
    let how = options(SHMKIT_SEGMENT_MANAGED, participants);
    // SAFETY: no name, a struct with its size set, writable outputs, handles that are open.
    unsafe {
        assert_eq!(
            shmkit_segment_create(ptr::null(), DATA, &how, &mut made),
            SHMKIT_OK
        );
        assert_eq!(
            shmkit_lock_create_at(made, 0, ptr::null(), &mut lock),
            SHMKIT_OK
        );
        assert_eq!(
            shmkit_rlock_create_at(made, RLOCK, ptr::null(), &mut rlock),
            SHMKIT_OK
        );
        assert_eq!(shmkit_lock_close(lock), SHMKIT_OK);
        assert_eq!(shmkit_rlock_close(rlock), SHMKIT_OK);
    }
    (lock, rlock) = (ptr::null_mut(), ptr::null_mut());
    let mut info = shmkit_segment_info {
        struct_size: size_of::<shmkit_segment_info>() as u32,
        // SAFETY: integers alone.
        ..unsafe { std::mem::zeroed() }
    };
    // SAFETY: an open handle and a struct with its size set.
    assert_eq!(unsafe { shmkit_segment_stat(made, &mut info) }, SHMKIT_OK);
    let control = info.control_bytes;
    let file = file_of(made);
    for change in input.before.iter().take(16) {
        apply(&file, change, control);
    }
    change_header(&file, &input.header);
    let mut fd = -1;
    // SAFETY: as above; the descriptor is the handle's.
    unsafe {
        assert_eq!(shmkit_segment_fd(made, &mut fd), SHMKIT_OK);
        if check(shmkit_segment_open_fd(fd, 0, ptr::null(), &mut segment)) {
            check(shmkit_lock_open_at(segment, 0, ptr::null(), &mut lock));
            check(shmkit_rlock_open_at(
                segment,
                RLOCK,
                ptr::null(),
                &mut rlock,
            ));
            use_locks(segment, lock, rlock, &input, control);
            if !lock.is_null() {
                assert_eq!(shmkit_lock_close(lock), SHMKIT_OK);
            }
            if !rlock.is_null() {
                assert_eq!(shmkit_rlock_close(rlock), SHMKIT_OK);
            }
            assert_eq!(shmkit_segment_close(segment), SHMKIT_OK);
        }
        assert_eq!(shmkit_segment_close(made), SHMKIT_OK);
    }
});
