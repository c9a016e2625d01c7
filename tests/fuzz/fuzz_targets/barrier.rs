//! Sets the words of a barrier and its slots to any values, and uses the barrier.
//!
//! Each call must return a status, without a crash, an access out of bounds or a wait beyond the timeout. A reset must
//! restore the barrier. libFuzzer's own timeout ends loops.

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
    /// A turn, or a place: a count or a place, with generation and marks.
    Turn {
        count: u8,
        generation: u8,
    },
    /// A tag with this number of parties.
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
        // If the lock's word names this process as the owner, each call waits a second for it.
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
                    // The lock's word names this process as the owner.
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
                    // If the lock's word names an owner, the call fails before it reads the break.
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
                        // The tag names this process as the creator, and each further call would wait a second.
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
                    // The barrier's own slots and the words around them, more often than the rest of the page.
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
    let barrier = barrier.expect("room in the page");
    use_barrier(&page, barrier, parties, &calls);
    // SAFETY: an open handle, closed once.
    good(unsafe { shmkit_barrier_close(barrier) });
});
