//! Once, as the Rust API has it: who has it to do, who waits, and what a death does.

#[macro_use]
mod common;

use common::process::{Child, alone, fork, shared_words, wait_until};
use common::{Folder, Name, Watchdog};
use shmkit::capi::interrupt::shmkit_set_interrupt;
use shmkit::error::Result;
use shmkit::once::{Begun, Create, FileOptions, Once};
use shmkit::raw::{Timeout, WaitOptions};
use shmkit::segment::{self, Form, Segment};
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// In a once's word (src/raw/once.rs).
const DONE: u64 = 1 << 29;
const DIED: u64 = 1 << 30;
const WAITERS: u64 = 1 << 31;
/// Where the word stands in a once.
const WORD: u64 = 8;

/// The caller has it to do, and nobody died halfway.
const MINE: Result<Begun> = Ok(Begun::Mine { owner_died: false });
/// The caller has it to do after somebody died.
const RECOVERED: Result<Begun> = Ok(Begun::Mine { owner_died: true });

fn within(ns: u64) -> WaitOptions {
    WaitOptions::after(Duration::from_nanos(ns))
}

fn unnamed() -> Once {
    Once::unnamed().unwrap()
}

fn managed(size: u64) -> Arc<Segment> {
    let options = segment::Options {
        form: Form::Managed,
        ..segment::Options::default()
    };
    Arc::new(Segment::create(None, size, &options).unwrap())
}

fn set_word(segment: &Segment, offset: u64, word: u64) {
    let bytes = &segment.bytes().unwrap()[offset as usize..][..8];
    for (byte, value) in bytes.iter().zip(word.to_ne_bytes()) {
        byte.store(value, Relaxed);
    }
}

/// Forks a process that begins and stays.
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

/// Forks a process that begins, waiting, checks what it is told, and says that it is done where it is its own to do.
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
fn begun_and_done() {
    let once = unnamed();
    refused!(NotOwner, once.done());
    refused!(NotOwner, once.abort());
    assert!(!once.is_done());
    assert_eq!(once.begin_with(WaitOptions::NONBLOCKING), MINE);
    // Whoever begins again, in this process too, waits.
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
fn given_back_undone() {
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
fn of_many_threads_one_calls() {
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
fn of_many_processes_one_calls() {
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
fn who_waits_goes_on_when_it_is_done_or_given_back() {
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
fn a_dead_one_is_followed_by_the_next_who_is_told() {
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
            // It is told until it is done.
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
fn who_sleeps_when_it_dies_takes_over() {
    alone(|| {
        let once = unnamed();
        let child = holder(&once);
        let next = waiter(&once, RECOVERED);
        child.kill();
        next.succeed();
        assert!(once.is_done());
        // A waiter that dies holds up nobody.
        let once = unnamed();
        assert_eq!(once.begin_with(WaitOptions::NONBLOCKING), MINE);
        let (dying, living) = (waiter(&once, MINE), waiter(&once, Ok(Begun::Done)));
        dying.kill();
        once.done().unwrap();
        living.succeed();
    });
}

#[test]
fn a_forked_child_does_nothing_for_its_parent() {
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
fn any_thread_of_the_owner_may_end_it() {
    let once = unnamed();
    assert_eq!(once.begin_with(WaitOptions::NONBLOCKING), MINE);
    std::thread::scope(|scope| scope.spawn(|| once.done().unwrap()).join().unwrap());
    assert!(once.is_done());
}

#[test]
fn a_panic_gives_it_back() {
    let once = unnamed();
    let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = once.call_once(|_| panic!("halfway"));
    }));
    assert!(unwound.is_err() && !once.is_done());
    assert_eq!(once.call_once(|owner_died| assert!(!owner_died)), Ok(true));
    assert_eq!(once.call_once(|_| unreachable!()), Ok(false));
    // Ended inside.
    let once = unnamed();
    refused!(NotOwner, once.call_once(|_| once.abort().unwrap()));
    assert!(!once.is_done());
}

#[test]
fn closing_halfway_is_dying() {
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
        // At once, whatever the wait: nobody has asked about it yet.
        assert_eq!(once.begin_with(WaitOptions::NONBLOCKING), RECOVERED);
        once.done().unwrap();
        once.unlink().unwrap();
        child.kill();
    });
}

#[test]
fn as_long_as_was_asked_for_at_least() {
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

extern "C" fn hook(words: *mut c_void) -> i32 {
    // SAFETY: the test gives it two words that live as long as the process.
    let words = unsafe { std::slice::from_raw_parts(words.cast::<AtomicU64>(), 2) };
    words[0].fetch_add(1, Relaxed);
    words[1].load(Relaxed) as i32
}

#[test]
fn the_hook_ends_a_wait() {
    alone(|| {
        let (once, words) = (unnamed(), shared_words(2));
        let child = holder(&once);
        let waiting = fork(|| {
            let argument = words.as_ptr().cast_mut().cast();
            // SAFETY: the hook may be called from any thread, and its words live as long as the process.
            assert_eq!(unsafe { shmkit_set_interrupt(Some(hook), argument) }, 0);
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
fn more_participants_than_there_is_room_for() {
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
        // What is done is seen by anybody.
        fork(|| assert_eq!(once.begin_with(WaitOptions::NONBLOCKING), Ok(Begun::Done))).succeed();
        once.unlink().unwrap();
    });
}

#[test]
fn whatever_bytes_stand_there() {
    let segment = managed(4096);
    let once = Once::at(&segment, 0, Create::Always).unwrap();
    // Nobody has any of these.
    let strangers = [
        1,
        8191,
        77 << 13,
        1 << 32,
        1 << 63,
        !(DONE | DIED | WAITERS),
    ];
    for word in strangers
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
            let told = word & !(DIED | WAITERS) != 0 || (word | marks) & DIED != 0;
            assert_eq!(
                once.begin_with(within(1_000_000)),
                Ok(Begun::Mine { owner_died: told }),
                "{word:#x}"
            );
            once.abort().unwrap();
            assert_eq!(
                once.begin_with(WaitOptions::NONBLOCKING),
                Ok(Begun::Mine { owner_died: told })
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
