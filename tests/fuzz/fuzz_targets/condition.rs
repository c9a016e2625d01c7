//! Sets the words and cells of a condition, and the participants of its segment, to any bytes, and uses what stands there.
//!
//! Whatever they are: a status, with the lock held; never a crash, an access out of bounds or a wait beyond the timeout.
//! libFuzzer's own timeout ends what loops. The lock stands elsewhere: that one hostile bytes may hold for ever.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use shmkit::capi::condition::*;
use shmkit::capi::lock::*;
use shmkit::capi::segment::*;
use shmkit::capi::status::*;
use shmkit::capi::wait::*;
use std::ffi::c_void;
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
    Tickets,
    Slot(u8, u8),
    Words(u8),
    Cell(u8),
    Anywhere(u16),
}

#[derive(Arbitrary, Debug)]
enum Value {
    Any(u64),
    Small(u8),
    /// A cell's word: slot, ticket and marks.
    Owner {
        slot: u16,
        ticket: u8,
        marks: u8,
    },
}

#[derive(Arbitrary, Debug)]
enum Call {
    Wait { timeout: u8 },
    Notify(u32),
    NotifyAll,
    Stat,
    CreateAt(u16, u8),
    OpenAt(u16),
    Change(Change),
}

#[derive(Arbitrary, Debug)]
struct Input {
    participants: u8,
    cells: u8,
    before: Vec<Change>,
    calls: Vec<Call>,
}

const DATA: u64 = 4096;
/// Behind the data lies what has no memory, so that a slip is SIGBUS.
const CAPACITY: u64 = 1 << 20;

fn check(status: shmkit_status) -> bool {
    assert!(
        (SHMKIT_ERR_SHUT_DOWN..=SHMKIT_OK).contains(&status) && status != SHMKIT_ERR_INTERNAL,
        "status {status}"
    );
    status == SHMKIT_OK
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
        Place::Tickets => 128,
        Place::Slot(slot, word) => 256 + 64 * u64::from(slot % 8) + 8 * u64::from(word % 8),
        Place::Words(word) => control + 8 * u64::from(word % 8),
        Place::Cell(word) => control + 64 + 8 * u64::from(word % 32),
        // The header stays as it is.
        Place::Anywhere(at) => 128 + u64::from(at) % (control + DATA - 136),
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

fn options(cells: u32) -> shmkit_condition_options {
    shmkit_condition_options {
        struct_size: size_of::<shmkit_condition_options>() as u32,
        flags: 0,
        mode: 0,
        participants: 0,
        directory: ptr::null(),
        cells,
        reserved: 0,
    }
}

fn use_condition(
    segment: *mut shmkit_segment,
    condition: *mut shmkit_condition,
    lock: *mut shmkit_lock,
    input: &Input,
    control: u64,
) {
    let file = file_of(segment);
    let mutex: *mut c_void = lock.cast();
    for call in input.calls.iter().take(32) {
        let mut recovered = 7;
        // SAFETY: open handles, writable outputs.
        unsafe {
            match call {
                Call::Wait { timeout } => {
                    let timeout = match timeout % 4 {
                        0 => 1_000_000,
                        _ => SHMKIT_NOWAIT,
                    };
                    let status =
                        shmkit_condition_wait(condition, mutex, timeout, 0, &mut recovered);
                    let over = matches!(status, SHMKIT_ERR_TIMEOUT | SHMKIT_ERR_WOULD_BLOCK);
                    assert_eq!(check(status) || over, recovered == 0, "status {status}");
                    // It is ours, and nobody else has it.
                    assert_eq!(shmkit_lock_release(lock), SHMKIT_OK);
                    let again = shmkit_lock_acquire(lock, SHMKIT_NOWAIT, 0, ptr::null_mut());
                    assert_eq!(again, SHMKIT_OK);
                }
                Call::Notify(count) => {
                    check(shmkit_condition_notify(condition, mutex, *count));
                }
                Call::NotifyAll => {
                    check(shmkit_condition_notify_all(condition, mutex));
                }
                Call::Stat => {
                    let mut info: shmkit_condition_info = std::mem::zeroed();
                    info.struct_size = size_of::<shmkit_condition_info>() as u32;
                    assert!(check(shmkit_condition_stat(condition, &mut info)));
                    assert!(info.waiting <= info.cells);
                }
                Call::CreateAt(at, _) | Call::OpenAt(at) => {
                    let (mut another, at) = (ptr::null_mut(), u64::from(*at) * 8);
                    let status = match call {
                        Call::CreateAt(_, cells) => {
                            let given = options((*cells).into());
                            shmkit_condition_create_at(segment, at, &given, &mut another)
                        }
                        _ => shmkit_condition_open_at(segment, at, ptr::null(), &mut another),
                    };
                    // A tag that says that we are making it: a second for each is enough.
                    if status == SHMKIT_ERR_TIMEOUT {
                        return;
                    }
                    if check(status) {
                        assert_eq!(shmkit_condition_close(another), SHMKIT_OK);
                    }
                }
                Call::Change(change) => apply(&file, change, control),
            }
        }
    }
}

fuzz_target!(|input: Input| {
    let how = shmkit_segment_options {
        struct_size: size_of::<shmkit_segment_options>() as u32,
        flags: SHMKIT_SEGMENT_MANAGED,
        capacity: CAPACITY,
        mode: 0,
        participants: u32::from(input.participants % 8) + 1,
        directory: ptr::null(),
    };
    let (mut segment, mut lock, mut condition) =
        (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
    let given = options(u32::from(input.cells % 16) + 1);
    let mut info = shmkit_segment_info {
        struct_size: size_of::<shmkit_segment_info>() as u32,
        // SAFETY: integers alone.
        ..unsafe { std::mem::zeroed() }
    };
    // SAFETY: no name, structs with their size set, writable outputs, handles that are open.
    unsafe {
        assert!(check(shmkit_segment_create(
            ptr::null(),
            DATA,
            &how,
            &mut segment
        )));
        assert!(check(shmkit_segment_stat(segment, &mut info)));
        assert!(check(shmkit_lock_create(
            ptr::null(),
            ptr::null(),
            &mut lock
        )));
        assert!(check(shmkit_condition_create_at(
            segment,
            0,
            &given,
            &mut condition
        )));
        assert!(check(shmkit_condition_close(condition)));
    }
    let (control, file) = (info.control_bytes, file_of(segment));
    for change in input.before.iter().take(16) {
        apply(&file, change, control);
    }
    condition = ptr::null_mut();
    // SAFETY: as above.
    unsafe {
        if check(shmkit_condition_open_at(
            segment,
            0,
            ptr::null(),
            &mut condition,
        )) {
            let taken = shmkit_lock_acquire(lock, SHMKIT_NOWAIT, 0, ptr::null_mut());
            assert_eq!(taken, SHMKIT_OK);
            use_condition(segment, condition, lock, &input, control);
            assert_eq!(shmkit_lock_release(lock), SHMKIT_OK);
            assert_eq!(shmkit_condition_close(condition), SHMKIT_OK);
        }
        assert_eq!(shmkit_lock_close(lock), SHMKIT_OK);
        assert_eq!(shmkit_segment_close(segment), SHMKIT_OK);
    }
});
