//! Sets the words of a barrier and its cells to any bytes, and uses what stands there.
//!
//! Whatever they are: a status, never a crash, an access out of bounds or a wait beyond the timeout; and after a reset it
//! is whole. libFuzzer's own timeout ends what loops.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use shmkit::capi::barrier::*;
use shmkit::capi::status::*;
use shmkit::capi::wait::*;
use shmkit_fuzz::*;
use std::ptr;
use std::time::{Duration, Instant};

#[derive(Arbitrary, Debug)]
enum Call {
    Wait {
        long: bool,
        hold: bool,
    },
    Pass,
    Reset,
    Abort,
    BarrierInfo,
    Open {
        create: bool,
        place: u8,
        parties: u16,
    },
    Word {
        place: u8,
        value: Value,
    },
}

#[derive(Arbitrary, Debug)]
enum Value {
    Plain(Word),
    /// A turn, or a seat: how many, or which place; generation and marks.
    Turn {
        count: u8,
        generation: u8,
    },
    /// What the tag says of parties.
    Tag {
        cells: u16,
    },
}

fn options(parties: u32) -> shmkit_barrier_options {
    shmkit_barrier_options {
        struct_size: size_of::<shmkit_barrier_options>() as u32,
        flags: 0,
        mode: 0,
        participants: 0,
        directory: ptr::null(),
        parties,
        reserved: 0,
    }
}

fn use_barrier(page: &Page, barrier: *mut shmkit_barrier, parties: u32, calls: &[Call]) {
    let begin = Instant::now();
    for call in calls.iter().take(64) {
        // Where the lock's word says that we have it, each call waits a second for us.
        if begin.elapsed() > Duration::from_secs(2) {
            return;
        }
        let mut number = 7777;
        // SAFETY: open handles, writable outputs.
        unsafe {
            match call {
                Call::Wait { long, hold } => {
                    let time = if *long { 100_000 } else { SHMKIT_NOWAIT };
                    let flags = if *hold { SHMKIT_BARRIER_SERIAL } else { 0 };
                    let status = shmkit_barrier_wait(barrier, time, flags, &mut number);
                    assert_eq!(check(status), number != 7777);
                    assert!(number == 7777 || number < parties);
                }
                Call::Pass => drop(check(shmkit_barrier_release(barrier))),
                Call::Reset => match shmkit_barrier_reset(barrier) {
                    // The lock's word says that we have it.
                    SHMKIT_ERR_TIMEOUT => return,
                    status => {
                        good(status);
                        good(shmkit_barrier_is_broken(barrier, &mut number));
                        assert_eq!(number, 0);
                        good(shmkit_barrier_waiting(barrier, &mut number));
                        assert_eq!(number, 0);
                    }
                },
                Call::Abort => {
                    good(shmkit_barrier_abort(barrier));
                    good(shmkit_barrier_is_broken(barrier, &mut number));
                    assert_eq!(number, 1);
                    let status = shmkit_barrier_wait(barrier, SHMKIT_NOWAIT, 0, &mut number);
                    // Where somebody seems to have the lock we are not even told.
                    assert!([SHMKIT_ERR_BROKEN, SHMKIT_ERR_WOULD_BLOCK].contains(&status));
                }
                Call::BarrierInfo => {
                    let mut info: shmkit_barrier_info = std::mem::zeroed();
                    info.struct_size = size_of::<shmkit_barrier_info>() as u32;
                    good(shmkit_barrier_stat(barrier, &mut info));
                    assert!(info.parties == parties && info.waiting <= parties);
                    assert_eq!(info.offset, 0);
                }
                Call::Open {
                    create,
                    place,
                    parties,
                } => {
                    let how = match create {
                        true => shmkit_barrier_create_at,
                        false => shmkit_barrier_open_at,
                    };
                    let options = options((*parties).into());
                    match page.object(how, u64::from(*place) * 8, Some(&options)) {
                        Ok(another) => {
                            good(shmkit_barrier_parties(another, &mut number));
                            assert!((1..=SHMKIT_BARRIER_MAX_PARTIES).contains(&number));
                            check(shmkit_barrier_wait(
                                another,
                                SHMKIT_NOWAIT,
                                0,
                                ptr::null_mut(),
                            ));
                            good(shmkit_barrier_close(another));
                        }
                        // A tag that says that we are making it: a second for each is enough.
                        Err(SHMKIT_ERR_TIMEOUT) => return,
                        Err(_) => {}
                    }
                }
                Call::Word { place, value } => {
                    let value = match value {
                        Value::Plain(word) => word.value(),
                        Value::Turn { count, generation } => {
                            u64::from(*count) << 48 | u64::from(*generation)
                        }
                        Value::Tag { cells } => 8 | u64::from(*cells) << 48,
                    };
                    // Its own cells and what lies around them, more often than the rest of the page.
                    page.store(place % 64, value);
                }
            }
        }
    }
}

fuzz_target!(|input: (u8, Vec<Call>)| {
    let (parties, calls) = input;
    let parties = u32::from(parties % 4) + 1;
    let page = Page::new(1);
    let barrier = page.object(shmkit_barrier_create_at, 0, Some(&options(parties)));
    let barrier = barrier.expect("there is room");
    use_barrier(&page, barrier, parties, &calls);
    // SAFETY: an open handle, closed once.
    good(unsafe { shmkit_barrier_close(barrier) });
});
