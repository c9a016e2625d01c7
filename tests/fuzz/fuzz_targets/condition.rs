//! Sets the words and slots of a condition, and the participants of its segment, to any values, and uses the condition.
//!
//! Each call must return a status and leave the lock held, without a crash, an access out of bounds or a wait beyond
//! the timeout. libFuzzer's own timeout ends loops. The lock is in another segment, because corrupt words may hold it
//! forever.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use shmkit::capi::condition::*;
use shmkit::capi::lock::*;
use shmkit::capi::status::*;
use shmkit::capi::wait::*;
use shmkit_fuzz::*;
use std::ffi::c_void;
use std::fs::File;
use std::ptr;

/// A word of the file that is set.
#[derive(Arbitrary, Debug)]
struct Change {
    place: Place,
    value: Word,
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
enum Call {
    Wait { timeout: u8 },
    Notify(u32),
    NotifyAll,
    ConditionInfo,
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

fn apply(file: &File, change: &Change, control: u64) {
    let at = match change.place {
        Place::Tickets => 128,
        Place::Slot(slot, word) => 512 + 64 * u64::from(slot % 8) + 8 * u64::from(word % 8),
        Place::Words(word) => control + 8 * u64::from(word % 8),
        Place::Cell(word) => control + 64 + 8 * u64::from(word % 32),
        // The header is not changed.
        Place::Anywhere(at) => 128 + u64::from(at) % (control + DATA - 136),
    };
    overwrite(file, at, &change.value);
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
    page: &Page,
    condition: *mut shmkit_condition,
    lock: *mut shmkit_lock,
    input: &Input,
    control: u64,
) {
    let file = page.file();
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
                    // This process holds the lock, and no other does.
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
                Call::ConditionInfo => {
                    let mut info: shmkit_condition_info = std::mem::zeroed();
                    info.struct_size = size_of::<shmkit_condition_info>() as u32;
                    assert!(check(shmkit_condition_stat(condition, &mut info)));
                    assert!(info.waiting <= info.cells);
                }
                Call::CreateAt(at, _) | Call::OpenAt(at) => {
                    let at = u64::from(*at) * 8;
                    let opened = match call {
                        Call::CreateAt(_, cells) => {
                            let options = options((*cells).into());
                            page.object(shmkit_condition_create_at, at, Some(&options))
                        }
                        _ => page.object(shmkit_condition_open_at, at, None),
                    };
                    match opened {
                        Ok(another) => good(shmkit_condition_close(another)),
                        // The tag names this process as the creator, and each further call would wait a second.
                        Err(SHMKIT_ERR_TIMEOUT) => return,
                        Err(_) => {}
                    }
                }
                Call::Change(change) => apply(&file, change, control),
            }
        }
    }
}

fuzz_target!(|input: Input| {
    let page = Page::new(u32::from(input.participants % 8) + 1);
    let options = options(u32::from(input.cells % 16) + 1);
    let made = page.object(shmkit_condition_create_at, 0, Some(&options));
    // SAFETY: an open handle, closed once.
    good(unsafe { shmkit_condition_close(made.expect("room in the page")) });
    let (control, file) = (page.control_bytes(), page.file());
    for change in input.before.iter().take(16) {
        apply(&file, change, control);
    }
    let Ok(condition) = page.object(shmkit_condition_open_at, 0, None) else {
        return;
    };
    let mut lock = ptr::null_mut();
    // SAFETY: no name and no options, writable outputs, handles that are open.
    unsafe {
        good(shmkit_lock_create(ptr::null(), ptr::null(), &mut lock));
        good(shmkit_lock_acquire(lock, SHMKIT_NOWAIT, 0, ptr::null_mut()));
        use_condition(&page, condition, lock, &input, control);
        good(shmkit_lock_release(lock));
        good(shmkit_condition_close(condition));
        good(shmkit_lock_close(lock));
    }
});
