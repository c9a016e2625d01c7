//! Events, through the Rust API: which waiters return when, what deaths change, and where an event is stored.

#[macro_use]
mod common;

use common::process::{Child, alone, fork, shared_words, wait_until};
use common::signal::{SIGNALS, catch_signals, install_hook};
use common::{Folder, Watchdog, managed, set_word, within, word};
use nix::sys::signal::{Signal, kill};
use shmkit::event::{Create, Event, EventInfo, FileOptions};
use shmkit::raw::{Timeout, WaitOptions};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Marks in the word of an event (src/raw/event.rs).
const SET: u64 = 1;
const WAITERS: u64 = 2;
/// The offset of the word in an event.
const WORD: u64 = 8;

fn unnamed() -> Event {
    Event::unnamed().unwrap()
}

/// Forks a process that waits for the event.
fn waiter(event: &Event) -> Child {
    let before = event.stat().waits;
    let child = fork(|| assert_eq!(event.wait_with(WaitOptions::BLOCKING), Ok(())));
    wait_until(|| event.stat().waits > before);
    child
}

#[test]
fn an_event_is_set_and_cleared() {
    let event = unnamed();
    for round in 0..3 {
        assert!(!event.is_set());
        refused!(WouldBlock, event.wait_with(WaitOptions::NONBLOCKING));
        refused!(Timeout, event.wait_with(within(1)));
        event.clear();
        event.set();
        event.set();
        assert!(event.is_set());
        for wait in [WaitOptions::NONBLOCKING, within(0), WaitOptions::BLOCKING] {
            assert_eq!(event.wait_with(wait), Ok(()));
        }
        let stat = event.stat();
        assert_eq!((stat.set, stat.sets), (true, round + 1));
        event.clear();
        event.clear();
    }
}

#[test]
fn a_set_releases_all_waiting_threads() {
    let _watchdog = Watchdog::start();
    let (event, returned) = (&unnamed(), &AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                assert_eq!(event.wait_with(WaitOptions::BLOCKING), Ok(()));
                returned.fetch_add(1, Relaxed);
            });
        }
        wait_until(|| event.stat().waits == 8);
        assert_eq!(returned.load(Relaxed), 0);
        event.set();
    });
    assert_eq!(
        event.stat(),
        EventInfo {
            set: true,
            sets: 1,
            waits: 8
        }
    );
}

#[test]
fn two_processes_take_turns() {
    /// The number of turns.
    const ROUNDS: u64 = 2000;
    alone(|| {
        let (there, back, words) = (unnamed(), unnamed(), shared_words(1));
        let other = fork(|| {
            for round in 0..ROUNDS {
                there.wait_with(WaitOptions::BLOCKING).unwrap();
                there.clear();
                assert_eq!(words[0].load(Relaxed), 2 * round + 1);
                words[0].store(2 * round + 2, Relaxed);
                back.set();
            }
        });
        for round in 0..ROUNDS {
            words[0].store(2 * round + 1, Relaxed);
            there.set();
            back.wait_with(WaitOptions::BLOCKING).unwrap();
            back.clear();
            assert_eq!(words[0].load(Relaxed), 2 * round + 2);
        }
        other.succeed();
        assert_eq!((there.stat().sets, back.stat().sets), (ROUNDS, ROUNDS));
    });
}

#[test]
fn set_and_clear_releases_all_that_waited_before() {
    alone(|| {
        let event = unnamed();
        for _ in 0..50 {
            let waiters = [(); 3].map(|()| waiter(&event));
            event.set();
            event.clear();
            waiters.into_iter().for_each(Child::succeed);
            refused!(WouldBlock, event.wait_with(WaitOptions::NONBLOCKING));
        }
        assert_eq!(
            event.stat(),
            EventInfo {
                set: false,
                sets: 50,
                waits: 150
            }
        );
    });
}

#[test]
fn a_waiter_that_dies_holds_up_no_other() {
    alone(|| {
        let event = unnamed();
        for _ in 0..10 {
            let (dying, living) = ([(); 3].map(|()| waiter(&event)), waiter(&event));
            dying.into_iter().for_each(Child::kill);
            event.set();
            living.succeed();
            event.clear();
        }
    });
}

#[test]
fn a_waiter_returns_after_a_lost_wake() {
    alone(|| {
        let segment = managed(4096);
        let event = Event::at(&segment, 0, Create::Always).unwrap();
        let waiting = waiter(&event);
        assert_eq!(word(&segment, WORD), WAITERS);
        // As if the process that sets the event dies after its exchange.
        set_word(&segment, WORD, 4 | SET);
        waiting.succeed();
        event.clear();
        // The mark of waiters may be missing as well.
        let waiting = waiter(&event);
        set_word(&segment, WORD, 4);
        event.set();
        waiting.succeed();
    });
}

#[test]
fn an_event_needs_no_participant_slot() {
    alone(|| {
        let (folder, words) = (Folder::new(), shared_words(1));
        let named = FileOptions {
            participants: 1,
            directory: folder.directory(),
            ..FileOptions::default()
        };
        let event = Event::named(c"a", Create::Always, &named).unwrap();
        let others = [(); 5].map(|()| {
            fork(|| {
                let event = Event::named(c"a", Create::Never, &named).unwrap();
                words[0].fetch_add(1, Relaxed);
                event.wait_with(WaitOptions::BLOCKING).unwrap();
                event.set();
                event.clear();
                event.set();
            })
        });
        wait_until(|| words[0].load(Relaxed) == 5);
        event.set();
        others.into_iter().for_each(Child::succeed);
        let header = event.segment().stat().unwrap().header.unwrap();
        assert_eq!(header.participants, 1);
        event.unlink().unwrap();
    });
}

#[test]
fn wait_times_out_after_its_timeout() {
    let event = unnamed();
    for milliseconds in [0, 1, 30] {
        let time = Duration::from_millis(milliseconds);
        let begin = Instant::now();
        refused!(Timeout, event.wait_with(within(time.as_nanos() as u64)));
        assert!(begin.elapsed() >= time);
    }
    assert!(!event.is_set());
}

#[test]
fn very_long_timeouts_are_accepted() {
    alone(|| {
        let event = unnamed();
        for time in [1 << 53, i64::MAX as u64, u64::MAX - 1, u64::MAX] {
            let before = event.stat().waits;
            let waiter = fork(|| assert_eq!(event.wait_with(within(time)), Ok(())));
            wait_until(|| event.stat().waits > before);
            event.set();
            waiter.succeed();
            assert_eq!(event.wait_with(within(time)), Ok(()));
            event.clear();
        }
    });
}

#[test]
fn signals_do_not_end_a_wait_but_the_hook_does() {
    alone(|| {
        let (event, words) = (unnamed(), shared_words(2));
        let uninterruptible = fork(|| {
            catch_signals();
            install_hook(words);
            words[1].store(1, Relaxed);
            assert_eq!(event.wait_with(WaitOptions::BLOCKING), Ok(()));
            assert!(SIGNALS.load(Relaxed) > 0);
            assert_eq!(words[0].load(Relaxed), 0, "the hook must not be called");
        });
        wait_until(|| event.stat().waits == 1);
        fork(|| {
            for _ in 0..50 {
                kill(uninterruptible.pid(), Signal::SIGUSR1).unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
        })
        .succeed();
        event.set();
        uninterruptible.succeed();
        event.clear();

        words[1].store(0, Relaxed);
        let interruptible = fork(|| {
            install_hook(words);
            let wait = WaitOptions {
                timeout: Timeout::Never,
                interruptible: true,
            };
            refused!(Interrupted, event.wait_with(wait));
        });
        // The hook is called after each sleep, and the wait continues until the hook ends it.
        wait_until(|| words[0].load(Relaxed) > 3);
        words[1].store(1, Relaxed);
        interruptible.succeed();
        refused!(WouldBlock, event.wait_with(WaitOptions::NONBLOCKING));
    });
}

#[test]
fn hostile_bytes_cause_no_crash_or_hang() {
    let segment = managed(4096);
    let event = Event::at(&segment, 0, Create::Always).unwrap();
    let any = [
        0,
        SET,
        WAITERS,
        SET | WAITERS,
        u64::MAX,
        u64::MAX - 1,
        u64::MAX - 3,
        1 << 32,
        1 << 63,
    ];
    for bits in any {
        set_word(&segment, WORD, bits);
        set_word(&segment, WORD + 8, u64::MAX);
        assert_eq!(event.is_set(), bits & SET != 0);
        match event.wait_with(within(1_000_000)) {
            Ok(()) => assert_ne!(bits & SET, 0),
            error => drop(refused!(Timeout, error)),
        }
        event.set();
        assert_eq!(event.wait_with(WaitOptions::NONBLOCKING), Ok(()));
        assert!(event.is_set() && event.stat().set);
        event.clear();
        assert!(!event.is_set());
        refused!(WouldBlock, event.wait_with(WaitOptions::NONBLOCKING));
    }
}

#[test]
fn a_count_at_its_maximum_wraps_around() {
    alone(|| {
        let segment = managed(4096);
        let event = Event::at(&segment, 0, Create::Always).unwrap();
        set_word(&segment, WORD, !(SET | WAITERS));
        assert_eq!(event.stat().sets, u64::MAX / 4);
        let waiting = waiter(&event);
        event.set();
        event.clear();
        waiting.succeed();
        assert_eq!(event.stat().sets, 0);
    });
}
