//! Forks in a signal handler during a call: the call continues in the parent, and fails with `Forked` in the child.

use super::common::process::{alone, fork, shared_words, wait_until};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid};
use shmkit::barrier::{self, Barrier};
use shmkit::condition::Condition;
use shmkit::error::{Error, Result};
use shmkit::event::Event;
use shmkit::lock::Lock;
use shmkit::once::Once;
use shmkit::queue::{self, Queue};
use shmkit::raw::WaitOptions;
use shmkit::rlock::RLock;
use shmkit::rwlock::RwLock;
use shmkit::segment::{self, Form, Growth, Segment};
use shmkit::semaphore::{self, Semaphore};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The result of the handler's fork: 0 before it, -1 in the child, the PID of the child in the parent.
static FORKED: AtomicI32 = AtomicI32::new(0);

extern "C" fn fork_in_handler(_: i32) {
    // SAFETY: the process has one thread, which waits in the library.
    match unsafe { nix::unistd::fork() } {
        Ok(ForkResult::Child) => FORKED.store(-1, Relaxed),
        Ok(ForkResult::Parent { child }) => FORKED.store(child.as_raw(), Relaxed),
        Err(_) => {}
    }
}

fn handle(signal: Signal) {
    let handler = SigHandler::Handler(fork_in_handler);
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler forks, and stores to an atomic.
    unsafe { sigaction(signal, &action) }.unwrap();
}

/// Returns whether the process sleeps in a system call that signals interrupt.
fn sleeps(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = stat.rsplit(')').next();
    rest.is_some_and(|rest| rest.starts_with(" S"))
}

/// Checks the result of a call during which this process, or its parent, has forked. The child then calls `after`, and the
/// parent waits for it.
fn check_both(result: Result<()>, after: impl FnOnce()) {
    match FORKED.load(Relaxed) {
        -1 => {
            let forked = matches!(result, Err(Error::Forked(_)));
            assert!(forked, "in the child: {result:?}");
            after();
        }
        child => {
            assert!(child > 0, "nothing has forked");
            assert_eq!(result, Ok(()), "in the parent");
            let ended = waitpid(Pid::from_raw(child), None).unwrap();
            assert!(matches!(ended, WaitStatus::Exited(_, 0)), "{ended:?}");
        }
    }
}

/// Forks a process that calls `call`, which must wait until `wake`. A signal handler forks during the wait.
///
/// The child that it forks checks that its call fails with `Forked`, and then calls `after`.
fn fork_during<T>(call: impl Fn() -> Result<T>, after: impl Fn(), wake: impl FnOnce()) {
    let began: &AtomicU64 = &shared_words(1)[0];
    let caller = fork(|| {
        handle(Signal::SIGUSR1);
        began.store(1, Relaxed);
        check_both(call().map(drop), after);
    });
    wait_until(|| began.load(Relaxed) == 1);
    std::thread::sleep(Duration::from_millis(20));
    wait_until(|| sleeps(caller.pid()));
    kill(caller.pid(), Signal::SIGUSR1).unwrap();
    // Both processes look at the object again.
    std::thread::sleep(Duration::from_millis(50));
    wake();
    caller.succeed();
}

/// Tests a lock that one process holds at a time.
macro_rules! locks {
    ($($test:ident: $lock:expr, $acquire:ident, $try:ident;)*) => {$(
        #[test]
        fn $test() {
            alone(|| {
                let lock = $lock.unwrap();
                let held = lock.$acquire().unwrap();
                let free = || assert!(lock.$try().unwrap().is_none(), "a child holds the lock");
                fork_during(|| lock.$acquire(), free, || drop(held));
                assert!(lock.$try().unwrap().is_some(), "the lock is left held");
            });
        }
    )*};
}

locks! {
    the_child_of_a_waiter_does_not_acquire_the_lock: Lock::unnamed(&Default::default()), acquire, try_acquire;
    the_child_of_a_waiter_does_not_acquire_the_rlock: RLock::unnamed(), acquire, try_acquire;
    the_child_of_a_waiter_does_not_write: RwLock::unnamed(&Default::default()), write, try_write;
}

#[test]
fn the_child_of_a_waiter_does_not_read() {
    alone(|| {
        let lock = RwLock::unnamed(&Default::default()).unwrap();
        let held = lock.write().unwrap();
        fork_during(|| lock.read(), || {}, || drop(held));
        assert!(lock.try_write().unwrap().is_some());
    });
}

#[test]
fn the_child_of_a_waiter_for_readers_does_not_write() {
    alone(|| {
        let lock = RwLock::unnamed(&Default::default()).unwrap();
        let held = lock.read().unwrap();
        fork_during(|| lock.write(), || {}, || drop(held));
        assert!(lock.try_write().unwrap().is_some());
        let held = lock.read().unwrap();
        let upgrade = || {
            let own = lock.read()?;
            own.upgrade().map_err(|(own, error)| {
                // The child of the handler does not read.
                std::mem::forget(own);
                error
            })
        };
        fork_during(upgrade, || {}, || drop(held));
        assert!(lock.try_write().unwrap().is_some());
    });
}

#[test]
fn the_child_of_a_waiter_takes_no_permit() {
    alone(|| {
        for undo in [false, true] {
            let options = semaphore::Options {
                value: 1,
                undo,
                ..Default::default()
            };
            let semaphore = Semaphore::unnamed(&options).unwrap();
            let held = semaphore.acquire(1).unwrap();
            fork_during(|| semaphore.acquire(1), || {}, || drop(held));
            assert_eq!(semaphore.value(), Ok(1));
        }
    });
}

#[test]
fn the_child_of_a_waiter_takes_no_notification() {
    alone(|| {
        let condition = Condition::unnamed(&Default::default()).unwrap();
        let lock = Lock::unnamed(&Default::default()).unwrap();
        let wait = || {
            let mut guard = lock.acquire()?;
            let waited = condition.wait(&mut guard);
            if FORKED.load(Relaxed) == -1 {
                assert!(
                    lock.try_acquire()?.is_some(),
                    "the parent waits without the lock"
                );
            }
            waited
        };
        fork_during(
            wait,
            || {},
            || {
                let guard = lock.acquire().unwrap();
                assert_eq!(condition.stat().waiting, 1);
                condition.notify_one(&guard).unwrap();
            },
        );
        assert_eq!(
            (condition.stat().waiting, condition.stat().notified),
            (0, 1)
        );
        assert!(lock.try_acquire().unwrap().is_some());
    });
}

#[test]
fn the_child_of_a_waiter_waits_for_no_event() {
    alone(|| {
        let event = Event::unnamed().unwrap();
        fork_during(|| event.wait(), || assert!(!event.is_set()), || event.set());
    });
}

#[test]
fn the_child_of_a_party_is_no_party() {
    alone(|| {
        let barrier = Barrier::unnamed(&barrier::Options::of(2)).unwrap();
        fork_during(
            || barrier.wait(),
            || {},
            || {
                assert_eq!(barrier.wait(), Ok(1));
            },
        );
        let stat = barrier.stat();
        assert_eq!((stat.waiting, stat.turns, stat.broken), (0, 1, false));
    });
}

#[test]
fn the_child_of_a_waiter_does_not_begin_the_work() {
    alone(|| {
        let once = Once::unnamed().unwrap();
        let held = once.begin().unwrap();
        fork_during(|| once.begin(), || {}, || drop(held));
        assert!(once.try_begin().unwrap().is_some());
    });
}

#[test]
fn the_child_of_a_consumer_takes_no_message() {
    alone(|| {
        let queue = Queue::unnamed(&Default::default()).unwrap();
        let put = || queue.put(b"message").unwrap();
        fork_during(|| queue.get(), || {}, put);
        let lease = || queue.lease().and_then(|lease| lease.ack());
        fork_during(lease, || {}, put);
        assert_eq!(queue.try_get(), Ok(None));
        put();
        fork_during(|| queue.join(), || {}, || drop(queue.get().unwrap()));
    });
}

#[test]
fn the_child_of_a_producer_puts_no_message() {
    alone(|| {
        let options = queue::Options {
            messages: 1,
            ..Default::default()
        };
        let queue = Queue::unnamed(&options).unwrap();
        let get = || queue.get().unwrap();
        queue.put(b"first").unwrap();
        fork_during(|| queue.put(b"second"), || {}, || drop(get()));
        assert_eq!(get(), b"second");
        queue.put(b"first").unwrap();
        let reserve = || queue.reserve(1).and_then(|slot| slot.commit(1));
        fork_during(reserve, || {}, || drop(get()));
        assert_eq!(get().len(), 1);
        assert_eq!(queue.try_get(), Ok(None));
    });
}

#[test]
fn the_next_call_of_the_child_has_an_identity_of_its_own() {
    alone(|| {
        let (lock, other) = (
            Lock::unnamed(&Default::default()).unwrap(),
            Lock::unnamed(&Default::default()).unwrap(),
        );
        let held = lock.acquire().unwrap();
        let after = || {
            std::mem::forget(other.acquire().unwrap());
        };
        fork_during(|| lock.acquire(), after, || drop(held));
        // The child has died with the other lock, and not the parent.
        assert!(other.acquire().unwrap().owner_died());
        assert!(!lock.acquire().unwrap().owner_died());
    });
}

/// More than two steps of a reservation, so that the hook is called in between.
const LARGE: u64 = 150 << 20;

/// Calls `call`, which calls the interrupt hook, in a forked process. The hook forks, and the call fails in the child.
fn fork_in_hook<T>(call: impl FnOnce() -> Result<T>) {
    extern "C" fn hook(_: *mut std::ffi::c_void) -> i32 {
        if FORKED.load(Relaxed) == 0 {
            fork_in_handler(0);
        }
        0
    }
    fork(|| {
        // SAFETY: the hook needs no argument.
        let set = unsafe {
            shmkit::capi::interrupt::shmkit_set_interrupt(Some(hook), std::ptr::null_mut())
        };
        assert_eq!(set, 0);
        check_both(call().map(drop), || {});
    })
    .succeed();
}

#[test]
fn the_child_of_a_grower_does_not_grow_the_segment() {
    alone(|| {
        for form in [Form::Plain, Form::Managed] {
            let options = segment::Options {
                capacity: 2 * LARGE,
                ..super::form(form)
            };
            let segment = Segment::create(None, 4096, &options).unwrap();
            let growth = Growth {
                interruptible: true,
                ..Default::default()
            };
            fork_in_hook(|| segment.resize(LARGE, &growth));
            assert_eq!(segment.size(), Ok(LARGE));
            segment.resize(LARGE + 4096, &growth).unwrap();
        }
    });
}

#[test]
fn the_child_of_a_creator_creates_no_segment() {
    alone(|| {
        let name = super::common::Name::new();
        for name in [None, Some(&*name)] {
            let options = segment::Options {
                interruptible: true,
                ..Default::default()
            };
            fork_in_hook(|| {
                let segment = Segment::create(name, LARGE, &options)?;
                name.map_or(Ok(()), |_| segment.unlink())
            });
        }
    });
}

#[test]
fn the_child_of_a_producer_that_grows_the_ring_puts_no_message() {
    alone(|| {
        let options = queue::Options {
            capacity: 4 * LARGE,
            ..Default::default()
        };
        let queue = Queue::unnamed(&options).unwrap();
        let message = vec![7; LARGE as usize];
        let interruptible = WaitOptions {
            interruptible: true,
            ..WaitOptions::BLOCKING
        };
        fork_in_hook(|| queue.put_with(&message, interruptible));
        assert_eq!(
            queue.try_get().unwrap().map(|got| got == message),
            Some(true)
        );
        assert_eq!(queue.try_get(), Ok(None));
        queue.put(b"next").unwrap();
    });
}
