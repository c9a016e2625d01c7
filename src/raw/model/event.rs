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

// SAFETY: the message is written before the event is set, and read after a wait for the event; loom checks it.
unsafe impl Sync for Shared {}

impl Shared {
    fn write_and_set(&self) {
        // SAFETY: see Sync.
        self.message.with_mut(|message| unsafe { *message += 1 });
        self.raw.set();
    }

    fn read(&self) -> u64 {
        // SAFETY: see Sync.
        self.message.with(|message| unsafe { *message })
    }

    fn wait(&self, options: WaitOptions) -> crate::error::Result<()> {
        self.raw.wait(options, &SpinState::default())
    }
}

#[test]
fn a_waiter_sees_what_was_written_before_the_set() {
    model(3, || {
        let shared = Arc::new(Shared::default());
        each(3, move |me| match me {
            0 => shared.write_and_set(),
            _ => {
                shared
                    .wait(WaitOptions::BLOCKING)
                    .expect("a wait without a timeout");
                assert_eq!(shared.read(), 1);
            }
        });
    });
}

#[test]
fn set_then_clear_wakes_all_that_had_begun_to_wait() {
    model(3, || {
        let shared = Arc::new(Shared::default());
        // Both waits begin before the event is set.
        let begun = shared.raw.word.load(Ordering::SeqCst);
        let in_thread = shared.clone();
        each(3, move |me| match me {
            0 => {
                in_thread.write_and_set();
                in_thread.raw.clear();
            }
            _ => {
                let spins = SpinState::default();
                let result = in_thread
                    .raw
                    .wait_since(begun, WaitOptions::BLOCKING, &spins);
                assert_eq!(result, Ok(()));
                assert_eq!(in_thread.read(), 1);
            }
        });
        assert!(!shared.raw.is_set());
        assert_eq!(shared.raw.stat().sets, 1);
    });
}

#[test]
fn a_worker_that_clears_before_it_checks_misses_no_work() {
    model(4, || {
        let raw = Arc::new(RawEvent::default());
        raw.set();
        let work = Arc::new(AtomicBool::new(false));
        let (in_thread, word) = (raw.clone(), work.clone());
        let worker = thread::spawn(move || {
            in_thread.clear();
            if !word.load(Ordering::Relaxed) {
                let result = in_thread.wait(WaitOptions::BLOCKING, &SpinState::default());
                assert_eq!(result, Ok(()));
                assert!(
                    word.load(Ordering::Relaxed),
                    "the event was set after the work"
                );
            }
        });
        work.store(true, Ordering::Relaxed);
        raw.set();
        worker.join().expect("no thread panics");
    });
}

#[test]
fn two_concurrent_sets_lose_no_waiter() {
    model(3, || {
        let raw = Arc::new(RawEvent::default());
        let in_thread = raw.clone();
        each(3, move |me| match me {
            // The second wait begins when the first has ended, whether the event is set or not.
            2 => {
                let result = in_thread.wait(WaitOptions::BLOCKING, &SpinState::default());
                assert_eq!(result, Ok(()));
                in_thread.clear();
                let _ = in_thread.wait(WaitOptions::NONBLOCKING, &SpinState::default());
            }
            _ => in_thread.set(),
        });
        assert!((1..=2).contains(&raw.stat().sets));
    });
}

#[test]
fn a_waiter_that_times_out_takes_no_wake_of_the_others() {
    model(3, || {
        let raw = Arc::new(RawEvent::default());
        each(3, move |me| match me {
            0 => raw.set(),
            1 => {
                let result = raw.wait(WaitOptions::BLOCKING, &SpinState::default());
                assert_eq!(result, Ok(()));
            }
            _ => {
                let _ = raw.wait(SHORT, &SpinState::default());
            }
        });
    });
}
