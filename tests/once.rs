//! Once flags, through the Rust API: which caller does the work, which callers wait, and what a death changes.

#[macro_use]
mod common;

use common::process::{Child, alone, fork, shared_words, wait_until};
use common::signal::install_hook;
use common::{Folder, Name, Watchdog, managed, set_word, within};
use shmkit::error::Result;
use shmkit::once::{Begun, Create, FileOptions, Once};
use shmkit::raw::{Timeout, WaitOptions};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Marks in the word of a once flag (src/raw/once.rs).
const DONE: u64 = 1 << 29;
const DIED: u64 = 1 << 30;
const WAITERS: u64 = 1 << 31;
/// The offset of the word in a once flag.
const WORD: u64 = 8;

/// The caller does the work, and no owner died before.
const MINE: Result<Begun> = Ok(Begun::Mine { owner_died: false });
/// The caller does the work after an owner died.
const RECOVERED: Result<Begun> = Ok(Begun::Mine { owner_died: true });

fn unnamed() -> Once {
    Once::unnamed().unwrap()
}

/// Forks a process that begins the work and waits until it is killed.
fn holder(once: &Once) -> Child {
    let words = shared_words(1);
    let child = fork(|| {
        assert!(matches!(
            once.begin_with(WaitOptions::NONBLOCKING),
            Ok(Begun::Mine { .. })
        ));
        words[0].store(1, Relaxed);
        loop {
            nix::unistd::pause();
        }
    });
    wait_until(|| words[0].load(Relaxed) == 1);
    child
}

/// Forks a process that begins, waiting, compares the result, and completes the work if it is the owner.
fn waiter(once: &Once, expected: Result<Begun>) -> Child {
    let before = once.stat().0.waits;
    let child = fork(|| {
        let begun = once.begin_with(WaitOptions::BLOCKING);
        assert_eq!(begun, expected);
        if begun != Ok(Begun::Done) {
            once.done().unwrap();
        }
    });
    wait_until(|| once.stat().0.waits > before);
    child
}

#[test]
fn work_is_begun_and_done() {
    let once = unnamed();
    refused!(NotOwner, once.done());
    refused!(NotOwner, once.abort());
    assert!(!once.is_done());
    assert_eq!(once.begin_with(WaitOptions::NONBLOCKING), MINE);
    // A second begin waits, also in this process.
    refused!(WouldBlock, once.begin_with(WaitOptions::NONBLOCKING));
    refused!(Timeout, once.begin_with(within(1_000_000)));
    let (stat, owner) = once.stat();
    assert_eq!(
        (stat.done, stat.attempts, stat.owner_died),
        (false, 1, false)
    );
    assert_eq!(owner.unwrap().pid, std::process::id());
    once.done().unwrap();
    for wait in [WaitOptions::NONBLOCKING, within(0), WaitOptions::BLOCKING] {
        assert_eq!(once.begin_with(wait), Ok(Begun::Done));
    }
    assert!(once.is_done());
    refused!(NotOwner, once.done());
    refused!(NotOwner, once.abort());
    let (stat, owner) = once.stat();
    assert_eq!((stat.done, stat.owner, owner), (true, None, None));
    assert_eq!((stat.attempts, stat.recoveries), (1, 0));
}

#[test]
fn aborted_work_is_begun_again() {
    let once = unnamed();
    for attempts in 1..=3 {
        assert_eq!(once.begin_with(WaitOptions::NONBLOCKING), MINE);
        once.abort().unwrap();
        refused!(NotOwner, once.done());
        assert!(!once.is_done());
        assert_eq!(once.stat().0.attempts, attempts);
    }
}

#[test]
fn one_of_many_threads_runs_the_function() {
    let _watchdog = Watchdog::start();
    for _ in 0..50 {
        let (once, work) = (&unnamed(), &AtomicU64::new(0));
        let did: usize = std::thread::scope(|scope| {
            let threads = [(); 8].map(|()| {
                scope.spawn(|| {
                    let mine = once.call_once(|owner_died| {
                        assert!(!owner_died);
                        std::thread::yield_now();
                        work.store(work.load(Relaxed) + 1, Relaxed);
                    });
                    assert_eq!(work.load(Relaxed), 1);
                    usize::from(mine.unwrap())
                })
            });
            threads.map(|thread| thread.join().unwrap()).iter().sum()
        });
        assert_eq!((did, work.load(Relaxed)), (1, 1));
    }
}

#[test]
fn one_of_many_processes_runs_the_function() {
    alone(|| {
        for _ in 0..20 {
            let (once, words) = (unnamed(), shared_words(2));
            let children = [(); 4].map(|()| {
                fork(|| {
                    words[1].fetch_add(1, Relaxed);
                    wait_until(|| words[1].load(Relaxed) == 4);
                    once.call_once(|_| words[0].store(words[0].load(Relaxed) + 1, Relaxed))
                        .unwrap();
                    assert_eq!(words[0].load(Relaxed), 1);
                })
            });
            children.into_iter().for_each(Child::succeed);
            assert!(once.is_done());
        }
    });
}

#[test]
fn a_waiter_returns_when_the_work_is_done_or_aborted() {
    alone(|| {
        let once = unnamed();
        assert_eq!(once.begin_with(WaitOptions::NONBLOCKING), MINE);
        let next = waiter(&once, MINE);
        once.abort().unwrap();
        next.succeed();
        assert!(once.is_done());

        let once = unnamed();
        assert_eq!(once.begin_with(WaitOptions::NONBLOCKING), MINE);
        let others = [(); 3].map(|()| waiter(&once, Ok(Begun::Done)));
        once.done().unwrap();
        others.into_iter().for_each(Child::succeed);
        assert_eq!(once.stat().0.waits, 3);
    });
}

#[test]
fn the_next_owner_after_a_death_gets_owner_died() {
    alone(|| {
        let once = unnamed();
        for deaths in 1..=3 {
            let child = holder(&once);
            refused!(WouldBlock, once.begin_with(WaitOptions::NONBLOCKING));
            refused!(NotOwner, once.done());
            refused!(NotOwner, once.abort());
            assert_eq!(once.stat().1.unwrap().pid, child.pid().as_raw() as u32);
            child.kill();
            assert!(!once.is_done());
            assert_eq!(once.begin_with(WaitOptions::BLOCKING), RECOVERED);
            let stat = once.stat().0;
            assert_eq!((stat.recoveries, stat.owner_died), (deaths, true));
            once.abort().unwrap();
            // Each owner gets it until the work is done.
            assert_eq!(once.begin_with(WaitOptions::NONBLOCKING), RECOVERED);
            once.abort().unwrap();
            assert!(once.stat().0.owner_died);
        }
        assert_eq!(once.begin_with(WaitOptions::NONBLOCKING), RECOVERED);
        once.done().unwrap();
        assert!(once.is_done() && !once.stat().0.owner_died);
    });
}

#[test]
fn a_sleeping_waiter_takes_over_from_a_killed_owner() {
    alone(|| {
        let once = unnamed();
        let child = holder(&once);
        let next = waiter(&once, RECOVERED);
        child.kill();
        next.succeed();
        assert!(once.is_done());
        // A waiter that dies holds up no other.
        let once = unnamed();
        assert_eq!(once.begin_with(WaitOptions::NONBLOCKING), MINE);
        let (dying, living) = (waiter(&once, MINE), waiter(&once, Ok(Begun::Done)));
        dying.kill();
        once.done().unwrap();
        living.succeed();
    });
}

#[test]
fn a_forked_child_cannot_end_the_work_of_its_parent() {
    alone(|| {
        let once = unnamed();
        assert_eq!(once.begin_with(WaitOptions::NONBLOCKING), MINE);
        fork(|| {
            refused!(NotOwner, once.done());
            refused!(NotOwner, once.abort());
            refused!(WouldBlock, once.begin_with(WaitOptions::NONBLOCKING));
            refused!(NotOwner, once.done());
        })
        .succeed();
        once.done().unwrap();
    });
}

#[test]
fn any_thread_of_the_owner_can_end_the_work() {
    let once = unnamed();
    assert_eq!(once.begin_with(WaitOptions::NONBLOCKING), MINE);
    std::thread::scope(|scope| scope.spawn(|| once.done().unwrap()).join().unwrap());
    assert!(once.is_done());
}

#[test]
fn a_panic_aborts_the_work() {
    let once = unnamed();
    let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = once.call_once(|_| panic!("halfway"));
    }));
    assert!(unwound.is_err() && !once.is_done());
    assert_eq!(once.call_once(|owner_died| assert!(!owner_died)), Ok(true));
    assert_eq!(once.call_once(|_| unreachable!()), Ok(false));
    // The function has ended the work itself.
    let once = unnamed();
    refused!(NotOwner, once.call_once(|_| once.abort().unwrap()));
    assert!(!once.is_done());
}

#[test]
fn closing_the_last_handle_during_the_work_counts_as_death() {
    alone(|| {
        let (name, words) = (Name::new(), shared_words(1));
        let named = FileOptions::default();
        let child = fork(|| {
            let once = Once::named(&name, Create::Always, &named).unwrap();
            assert_eq!(once.begin_with(WaitOptions::NONBLOCKING), MINE);
            drop(once);
            words[0].store(1, Relaxed);
            loop {
                nix::unistd::pause();
            }
        });
        wait_until(|| words[0].load(Relaxed) == 1);
        let once = Once::named(&name, Create::Never, &named).unwrap();
        // At once, also without a wait: no earlier answer about this process is cached.
        assert_eq!(once.begin_with(WaitOptions::NONBLOCKING), RECOVERED);
        once.done().unwrap();
        once.unlink().unwrap();
        child.kill();
    });
}

#[test]
fn begin_times_out_after_its_timeout() {
    alone(|| {
        let once = unnamed();
        let child = holder(&once);
        for milliseconds in [0, 1, 30] {
            let time = Duration::from_millis(milliseconds);
            let begin = Instant::now();
            refused!(Timeout, once.begin_with(within(time.as_nanos() as u64)));
            assert!(begin.elapsed() >= time);
        }
        child.kill();
    });
}

#[test]
fn the_hook_ends_a_wait() {
    alone(|| {
        let (once, words) = (unnamed(), shared_words(2));
        let child = holder(&once);
        let waiting = fork(|| {
            install_hook(words);
            let wait = WaitOptions {
                timeout: Timeout::Never,
                interruptible: true,
            };
            refused!(Interrupted, once.begin_with(wait));
            refused!(NotOwner, once.done());
        });
        wait_until(|| words[0].load(Relaxed) > 3);
        words[1].store(1, Relaxed);
        waiting.succeed();
        child.kill();
        assert_eq!(once.begin_with(WaitOptions::NONBLOCKING), RECOVERED);
    });
}

#[test]
fn more_processes_than_participant_slots_are_refused() {
    alone(|| {
        let folder = Folder::new();
        let named = FileOptions {
            participants: 1,
            directory: folder.directory(),
            ..FileOptions::default()
        };
        let once = Once::named(c"a", Create::Always, &named).unwrap();
        assert_eq!(once.begin_with(WaitOptions::NONBLOCKING), MINE);
        fork(|| {
            let _ = refused!(TooManyProcesses, once.begin_with(WaitOptions::NONBLOCKING));
        })
        .succeed();
        once.done().unwrap();
        // Any process sees that the work is done.
        fork(|| assert_eq!(once.begin_with(WaitOptions::NONBLOCKING), Ok(Begun::Done))).succeed();
        once.unlink().unwrap();
    });
}

#[test]
fn hostile_bytes_cause_no_crash_or_hang() {
    let segment = managed(4096);
    let once = Once::at(&segment, 0, Create::Always).unwrap();
    // No process has any of these identities.
    let unknown = [
        1,
        8191,
        77 << 13,
        1 << 32,
        1 << 63,
        !(DONE | DIED | WAITERS),
    ];
    for word in unknown
        .into_iter()
        .chain([0, DIED, WAITERS, DIED | WAITERS])
    {
        for marks in [0, DIED, WAITERS, DIED | WAITERS] {
            set_word(&segment, WORD, word | marks);
            for at in (WORD + 8..64).step_by(8) {
                set_word(&segment, at, u64::MAX);
            }
            refused!(NotOwner, once.done());
            refused!(NotOwner, once.abort());
            let owner_died = word & !(DIED | WAITERS) != 0 || (word | marks) & DIED != 0;
            assert_eq!(
                once.begin_with(within(1_000_000)),
                Ok(Begun::Mine { owner_died }),
                "{word:#x}"
            );
            once.abort().unwrap();
            assert_eq!(
                once.begin_with(WaitOptions::NONBLOCKING),
                Ok(Begun::Mine { owner_died })
            );
            once.done().unwrap();
            let stat = once.stat().0;
            assert_eq!(
                (stat.done, stat.owner, stat.owner_died),
                (true, None, false)
            );
            set_word(&segment, WORD, word | marks | DONE);
            assert!(once.is_done() && once.stat().0.done && once.stat().1.is_none());
            assert_eq!(once.begin_with(WaitOptions::BLOCKING), Ok(Begun::Done));
            refused!(NotOwner, once.abort());
        }
    }
}
