//! Signals: calls continue after them, unless they are interruptible and the hook ends them.

use super::common::kernel::interrupt_large_reservations;
use super::common::process::{Child, alone, fork, shared_words, wait_until};
use super::common::{Folder, byte, c_path};
use super::{Relaxed, plain, within};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use shmkit::capi::interrupt::shmkit_set_interrupt;
use shmkit::segment::{self, Growth, Options, Segment};
use std::ffi::c_void;
use std::sync::atomic::AtomicU64;

const STEP: u64 = 64 << 20;

/// The number of the hook's call that ends the operation.
static LAST_CALL: AtomicU64 = AtomicU64::new(u64::MAX);
/// The number of the hook's call that never returns, so that this process can be killed there.
static STALLING_CALL: AtomicU64 = AtomicU64::new(u64::MAX);
/// The number of signals that were handled.
static SIGNALS: AtomicU64 = AtomicU64::new(0);

extern "C" fn hook(calls: *mut c_void) -> i32 {
    // SAFETY: `install_hook` passes a word that lives as long as the process.
    let calls = unsafe { &*calls.cast::<AtomicU64>() };
    let call = calls.fetch_add(1, Relaxed) + 1;
    while call == STALLING_CALL.load(Relaxed) {
        nix::unistd::pause();
    }
    i32::from(call >= LAST_CALL.load(Relaxed))
}

/// Starts a process whose interruptible operation stalls in the `call`-th call of the hook, and waits until it does.
pub fn stalled(call: u64, operation: impl FnOnce()) -> Child {
    let calls = shared_words(1);
    let child = fork(|| {
        STALLING_CALL.store(call, Relaxed);
        install_hook(calls, u64::MAX);
        operation();
    });
    wait_until(|| calls[0].load(Relaxed) == call);
    child
}

/// Installs a hook that counts its calls in the first word, and ends the operation in its `last` call.
pub fn install_hook(calls: &'static [AtomicU64], last: u64) {
    LAST_CALL.store(last, Relaxed);
    calls[0].store(0, Relaxed);
    // SAFETY: the hook may be called from any thread, and its word lives as long as the process.
    let status = unsafe { shmkit_set_interrupt(Some(hook), calls.as_ptr().cast_mut().cast()) };
    assert_eq!(status, 0);
}

extern "C" fn count(_: i32) {
    SIGNALS.fetch_add(1, Relaxed);
}

/// Sends this process a signal every millisecond that interrupts system calls.
fn tick_every_millisecond() {
    let action = SigAction::new(
        SigHandler::Handler(count),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler only adds to an atomic word.
    unsafe { sigaction(Signal::SIGALRM, &action) }.unwrap();
    let millisecond = libc::timeval {
        tv_sec: 0,
        tv_usec: 1000,
    };
    let timer = libc::itimerval {
        it_interval: millisecond,
        it_value: millisecond,
    };
    // SAFETY: both pointers are NULL or to a timer that lives during the call.
    let set = unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
    assert_eq!(set, 0);
}

/// Returns interruptible options for this folder.
fn interruptible_within(folder: &Folder) -> Options {
    Options {
        directory: folder.directory(),
        ..interruptible()
    }
}

fn interruptible() -> Options {
    Options {
        interruptible: true,
        ..plain()
    }
}

#[test]
fn signals_every_millisecond_do_not_stop_a_call() {
    alone(|| {
        let folder = Folder::new();
        tick_every_millisecond();
        let size = 512 << 20;
        let options = Options {
            capacity: 2 * size,
            ..within(&folder)
        };
        let made = Segment::create(Some(c"a"), size, &options).unwrap();
        assert!(made.stat().unwrap().file.allocated >= size);
        let signals = SIGNALS.load(Relaxed);
        assert!(signals > 5, "only {signals} signals came");
        made.resize(size + (128 << 20), &Growth::default()).unwrap();
        let prefault = Options {
            prefault: true,
            huge: true,
            ..plain()
        };
        let made = Segment::create(None, 128 << 20, &prefault).unwrap();
        assert!(made.stat().unwrap().file.allocated >= 128 << 20);
    });
}

#[test]
fn interrupted_reservations_continue_in_smaller_steps() {
    alone(|| {
        interrupt_large_reservations(100 << 10);
        let folder = Folder::new();
        let options = Options {
            capacity: 32 << 20,
            ..within(&folder)
        };
        for name in [Some(c"a"), None] {
            let made = Segment::create(name, 8 << 20, &options).unwrap();
            assert!(made.stat().unwrap().file.allocated >= 8 << 20);
            made.resize(16 << 20, &Growth::default()).unwrap();
            assert!(made.stat().unwrap().file.allocated >= 16 << 20);
        }
        // The hook is called after each attempt, successful or not.
        let calls = shared_words(1);
        install_hook(calls, 2);
        refused!(
            Interrupted,
            Segment::create(None, 8 << 20, &interruptible())
        );
        assert_eq!(calls[0].load(Relaxed), 2);
    });
}

#[test]
fn an_interruptible_call_without_a_hook_continues() {
    alone(|| {
        tick_every_millisecond();
        Segment::create(None, 256 << 20, &interruptible()).unwrap();
        // A hook that returns 0 does not end the call.
        let calls = shared_words(1);
        install_hook(calls, u64::MAX);
        Segment::create(None, 256 << 20, &interruptible()).unwrap();
        assert!(calls[0].load(Relaxed) >= 3, "after each step but the last");
    });
}

#[test]
fn the_hook_is_called_after_each_step_and_ends_the_call() {
    alone(|| {
        let folder = Folder::new();
        let calls = shared_words(1);
        let options = interruptible_within(&folder);
        for last in 1..=3 {
            for name in [Some(c"a"), None] {
                install_hook(calls, last);
                let cause = refused!(Interrupted, Segment::create(name, 8 * STEP, &options));
                assert!(cause.text.contains("hook"), "{cause}");
                assert_eq!(calls[0].load(Relaxed), last);
                assert!(folder.entries().is_empty(), "{:?}", folder.entries());
            }
        }
        // The hook is not called without the option, nor after the last step.
        install_hook(calls, 1);
        Segment::create(None, 3 * STEP, &plain()).unwrap();
        Segment::create(None, STEP, &interruptible()).unwrap();
        assert_eq!(calls[0].load(Relaxed), 0);
        install_hook(calls, 3);
        Segment::create(None, 3 * STEP, &interruptible()).unwrap();
        assert_eq!(calls[0].load(Relaxed), 2);
    });
}

#[test]
fn a_signal_within_a_step_calls_the_hook() {
    alone(|| {
        let folder = Folder::new();
        let calls = shared_words(1);
        let options = interruptible_within(&folder);
        tick_every_millisecond();
        install_hook(calls, 5);
        refused!(Interrupted, Segment::create(Some(c"a"), 1 << 30, &options));
        assert_eq!(calls[0].load(Relaxed), 5);
        assert!(folder.entries().is_empty());
    });
}

#[test]
fn an_interrupted_resize_changes_nothing() {
    alone(|| {
        let folder = Folder::new();
        let calls = shared_words(1);
        let options = Options {
            capacity: 4 << 30,
            ..within(&folder)
        };
        for name in [Some(c"a"), None] {
            let made = Segment::create(name, 5000, &options).unwrap();
            let before = made.stat().unwrap();
            install_hook(calls, 2);
            let growth = Growth {
                interruptible: true,
                ..Growth::default()
            };
            refused!(Interrupted, made.resize(1 << 30, &growth));
            assert_eq!(calls[0].load(Relaxed), 2);
            assert_eq!(
                made.stat().unwrap(),
                before,
                "memory is left beyond the size"
            );
            install_hook(calls, u64::MAX);
            made.resize(2 * STEP, &growth).unwrap();
            assert_eq!(made.size().unwrap(), 2 * STEP);
        }
    });
}

#[test]
fn the_hook_ends_a_wait_for_another_grower() {
    alone(|| {
        let folder = Folder::new();
        let options = Options {
            capacity: 1 << 20,
            ..within(&folder)
        };
        let made = Segment::create(Some(c"a"), 4096, &options).unwrap();
        // Another process holds the bytes RESIZE and UNLINK, as in the layout.
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .open(folder.path().join("a"))
            .unwrap();
        byte::lock(&file, (1 << 61) + 1, 2);
        let calls = shared_words(1);
        tick_every_millisecond();
        let growth = Growth {
            interruptible: true,
            ..Growth::default()
        };
        install_hook(calls, 3);
        refused!(Interrupted, made.resize(8192, &growth));
        assert_eq!(calls[0].load(Relaxed), 3);
        install_hook(calls, 2);
        let opened = Segment::open(c"a", 0, &interruptible_within(&folder)).unwrap();
        refused!(Interrupted, opened.unlink());
        install_hook(calls, 2);
        let directory = c_path(folder.path());
        refused!(
            Interrupted,
            segment::unlink(c"a", Some(&directory), None, true)
        );
        drop(file);
        made.resize(8192, &growth).unwrap();
        opened.unlink().unwrap();
    });
}
