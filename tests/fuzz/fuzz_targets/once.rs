//! Sets the words of a once flag to any values, and uses the flag.
//!
//! Each call must return a status, without a crash, an access out of bounds or a wait beyond the timeout. A flag that
//! is done must stay done. libFuzzer's own timeout ends loops.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use shmkit::capi::once::*;
use shmkit::capi::status::*;
use shmkit::capi::wait::*;
use shmkit_fuzz::*;

#[derive(Arbitrary, Debug)]
enum Call {
    Begin { long: bool },
    Done,
    Abort,
    OnceInfo,
    Open { create: bool, place: u8 },
    Word { place: u8, value: Word },
}

fn use_once(page: &Page, once: *mut shmkit_once, calls: &[Call]) {
    for call in calls.iter().take(64) {
        let (mut mine, mut recovered, mut finished) = (7, 7, 7);
        // SAFETY: open handles, writable outputs.
        unsafe {
            good(shmkit_once_is_done(once, &mut finished));
            match call {
                Call::Begin { long } => {
                    let time = if *long { 1_000_000 } else { SHMKIT_NOWAIT };
                    match shmkit_once_begin(once, time, 0, &mut mine, &mut recovered) {
                        SHMKIT_OK => {
                            assert_eq!((mine, mine + recovered > 2), (1 - finished, false))
                        }
                        SHMKIT_ERR_TIMEOUT | SHMKIT_ERR_WOULD_BLOCK | SHMKIT_ERR_CORRUPT => {
                            assert_eq!((mine, recovered, finished), (7, 7, 0));
                        }
                        other => panic!("status {other}"),
                    }
                }
                Call::Done => match shmkit_once_done(once) {
                    SHMKIT_OK => {
                        assert_eq!(finished, 0);
                        good(shmkit_once_begin(
                            once,
                            SHMKIT_FOREVER,
                            0,
                            &mut mine,
                            &mut recovered,
                        ));
                        assert_eq!((mine, recovered), (0, 0));
                    }
                    refused => assert_eq!(refused, SHMKIT_ERR_NOT_OWNER),
                },
                Call::Abort => match shmkit_once_abort(once) {
                    SHMKIT_OK => {
                        good(shmkit_once_begin(
                            once,
                            SHMKIT_NOWAIT,
                            0,
                            &mut mine,
                            &mut recovered,
                        ));
                        assert_eq!((mine, finished), (1, 0));
                    }
                    refused => assert_eq!(refused, SHMKIT_ERR_NOT_OWNER),
                },
                Call::OnceInfo => {
                    let mut info: shmkit_once_info = std::mem::zeroed();
                    info.struct_size = size_of::<shmkit_once_info>() as u32;
                    good(shmkit_once_stat(once, &mut info));
                    assert_eq!(info.flags & SHMKIT_ONCE_DONE != 0, finished == 1);
                }
                Call::Open { create, place } => {
                    let how = match create {
                        true => shmkit_once_create_at,
                        false => shmkit_once_open_at,
                    };
                    match page.object(how, u64::from(*place) * 8, None) {
                        Ok(another) => good(shmkit_once_close(another)),
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

fuzz_target!(|calls: Vec<Call>| {
    let page = Page::new(1);
    let once = page.object(shmkit_once_create_at, 0, None);
    let once = once.expect("room in the page");
    use_once(&page, once, &calls);
    // SAFETY: an open handle, closed once.
    good(unsafe { shmkit_once_close(once) });
});
