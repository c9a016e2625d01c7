//! Models of the event.

use super::{SHORT, each, model};
use crate::raw::WaitOptions;
use crate::raw::event::RawEvent;
use crate::raw::wait::SpinState;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

#[derive(Default)]
struct Shared {
    raw: RawEvent,
    message: UnsafeCell<u64>,
}

// SAFETY: who writes the message sets the event afterwards, and who reads it has waited: loom checks it.
unsafe impl Sync for Shared {}

impl Shared {
    fn write_and_set(&self) {
        // SAFETY: as above.
        self.message.with_mut(|message| unsafe { *message += 1 });
        self.raw.set();
    }

    fn read(&self) -> u64 {
        // SAFETY: as above.
        self.message.with(|message| unsafe { *message })
    }

    fn wait(&self, options: WaitOptions) -> crate::error::Result<()> {
        self.raw.wait(options, &SpinState::default())
    }
}

#[test]
fn whoever_waits_sees_what_was_done_before() {
    model(3, || {
        let shared = Arc::new(Shared::default());
        each(3, move |me| match me {
            0 => shared.write_and_set(),
            _ => {
                shared.wait(WaitOptions::BLOCKING).expect("no end");
                assert_eq!(shared.read(), 1);
            }
        });
    });
}

#[test]
fn set_and_clear_wakes_all_who_had_begun_to_wait() {
    model(3, || {
        let shared = Arc::new(Shared::default());
        // Both have begun before it is set.
        let begun = shared.raw.word.load(Ordering::SeqCst);
        let in_thread = shared.clone();
        each(3, move |me| match me {
            0 => {
                in_thread.write_and_set();
                in_thread.raw.clear();
            }
            _ => {
                let spins = SpinState::default();
                let told = in_thread
                    .raw
                    .wait_since(begun, WaitOptions::BLOCKING, &spins);
                assert_eq!(told, Ok(()));
                assert_eq!(in_thread.read(), 1);
            }
        });
        assert!(!shared.raw.is_set());
        assert_eq!(shared.raw.stat().sets, 1);
    });
}

#[test]
fn who_clears_it_and_then_looks_misses_no_work() {
    model(4, || {
        let raw = Arc::new(RawEvent::default());
        raw.set();
        let work = Arc::new(AtomicBool::new(false));
        let (in_thread, word) = (raw.clone(), work.clone());
        let worker = thread::spawn(move || {
            in_thread.clear();
            if !word.load(Ordering::Relaxed) {
                let told = in_thread.wait(WaitOptions::BLOCKING, &SpinState::default());
                assert_eq!(told, Ok(()));
                assert!(word.load(Ordering::Relaxed), "it was set after the work");
            }
        });
        work.store(true, Ordering::Relaxed);
        raw.set();
        worker.join().expect("no thread panics");
    });
}

#[test]
fn two_set_it_and_nobody_is_forgotten() {
    model(3, || {
        let raw = Arc::new(RawEvent::default());
        let in_thread = raw.clone();
        each(3, move |me| match me {
            // The second wait begins whenever the first has ended: set or not.
            2 => {
                let told = in_thread.wait(WaitOptions::BLOCKING, &SpinState::default());
                assert_eq!(told, Ok(()));
                in_thread.clear();
                let _ = in_thread.wait(WaitOptions::NONBLOCKING, &SpinState::default());
            }
            _ => in_thread.set(),
        });
        assert!((1..=2).contains(&raw.stat().sets));
    });
}

#[test]
fn who_gives_up_takes_nothing_from_the_others() {
    model(3, || {
        let raw = Arc::new(RawEvent::default());
        each(3, move |me| match me {
            0 => raw.set(),
            1 => {
                let told = raw.wait(WaitOptions::BLOCKING, &SpinState::default());
                assert_eq!(told, Ok(()));
            }
            _ => {
                let _ = raw.wait(SHORT, &SpinState::default());
            }
        });
    });
}
