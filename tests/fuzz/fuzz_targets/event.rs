//! Sets the words of an event to any values, and uses the event.
//!
//! Each call must return a status, without a crash, an access out of bounds or a wait beyond the timeout. A set event
//! must be set, and a cleared one clear. libFuzzer's own timeout ends loops.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use shmkit::capi::event::*;
use shmkit::capi::status::*;
use shmkit::capi::wait::*;
use shmkit_fuzz::*;

#[derive(Arbitrary, Debug)]
enum Call {
    Set,
    Clear,
    Wait { long: bool },
    EventInfo,
    Open { create: bool, place: u8 },
    Word { place: u8, value: Word },
}

fn use_event(page: &Page, event: *mut shmkit_event, calls: &[Call]) {
    for call in calls.iter().take(64) {
        let mut set = 7;
        // SAFETY: open handles, writable outputs.
        unsafe {
            match call {
                Call::Set => {
                    good(shmkit_event_set(event));
                    good(shmkit_event_is_set(event, &mut set));
                    assert_eq!(set, 1);
                    good(shmkit_event_wait(event, SHMKIT_FOREVER, 0));
                }
                Call::Clear => {
                    good(shmkit_event_clear(event));
                    good(shmkit_event_is_set(event, &mut set));
                    assert_eq!(set, 0);
                    assert_eq!(
                        shmkit_event_wait(event, SHMKIT_NOWAIT, 0),
                        SHMKIT_ERR_WOULD_BLOCK
                    );
                }
                Call::Wait { long } => {
                    good(shmkit_event_is_set(event, &mut set));
                    let (time, refusal) = match long {
                        true => (100_000, SHMKIT_ERR_TIMEOUT),
                        false => (SHMKIT_NOWAIT, SHMKIT_ERR_WOULD_BLOCK),
                    };
                    let expected = if set == 1 { SHMKIT_OK } else { refusal };
                    assert_eq!(shmkit_event_wait(event, time, 0), expected);
                }
                Call::EventInfo => {
                    let mut info: shmkit_event_info = std::mem::zeroed();
                    info.struct_size = size_of::<shmkit_event_info>() as u32;
                    good(shmkit_event_stat(event, &mut info));
                    assert!(info.sets < 1 << 62 && info.offset == 0);
                }
                Call::Open { create, place } => {
                    let how = match create {
                        true => shmkit_event_create_at,
                        false => shmkit_event_open_at,
                    };
                    match page.object(how, u64::from(*place) * 8, None) {
                        Ok(another) => good(shmkit_event_close(another)),
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
    let event = page.object(shmkit_event_create_at, 0, None);
    let event = event.expect("room in the page");
    use_event(&page, event, &calls);
    // SAFETY: an open handle, closed once.
    good(unsafe { shmkit_event_close(event) });
});
