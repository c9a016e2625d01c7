//! Sets the words and count slots of a semaphore to any values, and uses the semaphore.
//!
//! Each call must return a status, without a crash, an access out of bounds or a wait beyond the timeout. While no word
//! was overwritten, acquired permits can be released. libFuzzer's own timeout ends loops.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use shmkit::capi::semaphore::*;
use shmkit::capi::status::*;
use shmkit::capi::wait::*;
use shmkit_fuzz::*;
use std::ptr;

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
    Plain(Word),
    /// A word with this value and these marks.
    Permits {
        value: u8,
        marks: u32,
    },
    /// A count slot of this ticket.
    Cell {
        ticket: u8,
        count: u16,
    },
}

const PROCESSES: u32 = 4;

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

fn use_semaphore(page: &Page, semaphore: *mut shmkit_semaphore, calls: &[Call]) {
    let mut whole = true;
    for call in calls.iter().take(64) {
        // SAFETY: open handles, writable outputs.
        unsafe {
            match call {
                Call::Acquire { count, long } => {
                    let time = if *long { 100_000 } else { SHMKIT_NOWAIT };
                    check(shmkit_semaphore_acquire(semaphore, *count, time, 0));
                }
                Call::Release { count } => match shmkit_semaphore_release(semaphore, *count) {
                    // The inner lock's word names this process as the owner, and each further call would wait.
                    SHMKIT_ERR_TIMEOUT => return,
                    status => drop(check(status)),
                },
                Call::Few { count } => {
                    let count = u32::from(*count % 6);
                    let taken = shmkit_semaphore_acquire(semaphore, count, SHMKIT_NOWAIT, 0);
                    check(taken);
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
                    let status = shmkit_semaphore_value(semaphore, &mut value);
                    check(status);
                    check(shmkit_semaphore_held(semaphore, &mut held));
                    check(shmkit_semaphore_stat(semaphore, &mut info));
                    assert!(status != SHMKIT_OK || value <= 5);
                    assert!(info.holders <= PROCESSES.into() && info.processes <= PROCESSES);
                }
                Call::Open {
                    create,
                    undo,
                    place,
                } => {
                    let how = match create {
                        true => shmkit_semaphore_create_at,
                        false => shmkit_semaphore_open_at,
                    };
                    match page.object(how, u64::from(*place) * 8, Some(&options(*undo))) {
                        Ok(another) => {
                            // Where the two semaphores overlap, the words of the first may have any value.
                            whole = false;
                            check(shmkit_semaphore_acquire(another, 1, SHMKIT_NOWAIT, 0));
                            let given = shmkit_semaphore_release(another, 1);
                            good(shmkit_semaphore_close(another));
                            match given {
                                SHMKIT_ERR_TIMEOUT => return,
                                status => drop(check(status)),
                            }
                        }
                        // The tag names this process as the creator, and each further call would wait a second.
                        Err(SHMKIT_ERR_TIMEOUT) => return,
                        Err(_) => {}
                    }
                }
                Call::Word { place, value } => {
                    let value = match value {
                        Value::Plain(word) => word.value(),
                        Value::Permits { value, marks } => {
                            u64::from(*value) << 32 | u64::from(*marks)
                        }
                        Value::Cell { ticket, count } => {
                            u64::from(*ticket) << 16 | u64::from(*count)
                        }
                    };
                    whole = false;
                    page.store(*place, value);
                }
            }
        }
    }
}

fuzz_target!(|input: (bool, Vec<Call>)| {
    let (undo, calls) = input;
    let page = Page::new(2);
    let semaphore = page.object(shmkit_semaphore_create_at, 0, Some(&options(undo)));
    let semaphore = semaphore.expect("room in the page");
    use_semaphore(&page, semaphore, &calls);
    // SAFETY: an open handle, closed once.
    good(unsafe { shmkit_semaphore_close(semaphore) });
});
