//! Guards and timeouts of the Rust API: what each noun returns when it succeeds, and when the time has passed.

use super::common::process::{Child, alone, fork, shared_words, wait_until};
use shmkit::barrier::{self, Barrier};
use shmkit::condition::Condition;
use shmkit::event::Event;
use shmkit::lock::{self, Lock};
use shmkit::once::Once;
use shmkit::queue::{self, Batch, Overflow, Queue};
use shmkit::rlock::RLock;
use shmkit::rwlock::RwLock;
use shmkit::semaphore::{self, Semaphore};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

const TIME: Duration = Duration::from_millis(20);

/// Checks that a call lasts at least as long as its timeout.
fn lasts<T>(call: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let result = call();
    assert!(begin.elapsed() >= TIME);
    result
}

/// Forks a process that holds what `hold` returns until it is killed.
fn holder<T>(hold: impl FnOnce() -> T) -> Child {
    let words = shared_words(1);
    let child = fork(|| {
        let _held = hold();
        words[0].store(1, Relaxed);
        loop {
            nix::unistd::pause();
        }
    });
    wait_until(|| words[0].load(Relaxed) == 1);
    child
}

macro_rules! locks {
    ($($test:ident: $lock:expr, $acquire:ident, $try:ident, $timeout:ident;)*) => {$(
        #[test]
        fn $test() {
            alone(|| {
                let lock = $lock.unwrap();
                drop(lock.$acquire().unwrap());
                let holder = holder(|| lock.$acquire().unwrap());
                assert!(lock.$try().unwrap().is_none());
                assert!(lasts(|| lock.$timeout(TIME).unwrap()).is_none());
                holder.kill();
                {
                    let guard = lock.$timeout(Duration::MAX).unwrap().unwrap();
                    assert!(guard.owner_died());
                }
                {
                    let guard = lock.$acquire().unwrap();
                    assert!(guard.owner_died(), "not marked consistent yet");
                    guard.mark_consistent().unwrap();
                }
                assert!(!lock.$try().unwrap().unwrap().owner_died());
            });
        }
    )*};
}

locks! {
    lock_guards_know_of_a_dead_owner: Lock::unnamed(&Default::default()), acquire, try_acquire, acquire_timeout;
    rlock_guards_know_of_a_dead_owner: RLock::unnamed(), acquire, try_acquire, acquire_timeout;
    write_guards_know_of_a_dead_writer: RwLock::unnamed(&Default::default()), write, try_write, write_timeout;
}

#[test]
fn permits_dropped_in_a_forked_child_are_not_released_twice() {
    alone(|| {
        let options = semaphore::Options {
            value: 2,
            ..Default::default()
        };
        let semaphore = Semaphore::unnamed(&options).unwrap();
        let mut permits = Some(semaphore.acquire(1).unwrap());
        fork(|| drop(permits.take())).succeed();
        assert_eq!(semaphore.stat().unwrap().value, 1);
        drop(permits);
        assert_eq!(semaphore.stat().unwrap().value, 2);
    });
}

#[test]
fn a_guard_dropped_in_a_forked_child_leaves_the_lock_of_its_parent_held() {
    alone(|| {
        for transferable in [false, true] {
            let options = lock::Options {
                transferable,
                ..Default::default()
            };
            let lock = Lock::unnamed(&options).unwrap();
            let mut guard = Some(lock.acquire().unwrap());
            fork(|| drop(guard.take())).succeed();
            assert!(lock.try_acquire().unwrap().is_none());
            drop(guard);
            assert!(lock.try_acquire().unwrap().is_some());
        }
    });
}

#[test]
fn readers_wait_for_a_writer_and_a_writer_for_readers() {
    alone(|| {
        let lock = RwLock::unnamed(&Default::default()).unwrap();
        let writer = holder(|| lock.write().unwrap());
        assert!(lock.try_read().unwrap().is_none());
        assert!(lasts(|| lock.read_timeout(TIME).unwrap()).is_none());
        writer.kill();
        assert!(lock.read().unwrap().owner_died());
        lock.write().unwrap().mark_consistent().unwrap();
        let reader = holder(|| lock.read().unwrap());
        assert!(lock.try_write().unwrap().is_none());
        let own = lock.try_read().unwrap().unwrap();
        let (own, _) = lasts(|| own.upgrade_timeout(TIME)).unwrap_err();
        let (own, _) = own.try_upgrade().unwrap_err();
        reader.kill();
        let own = own.upgrade().unwrap().downgrade().unwrap();
        assert!(!own.owner_died());
        drop(own);
        assert!(lock.try_write().unwrap().is_some());
    });
}

#[test]
fn permits_are_released_when_they_are_dropped_unless_forgotten() {
    let options = semaphore::Options {
        value: 3,
        ..Default::default()
    };
    let semaphore = Semaphore::unnamed(&options).unwrap();
    {
        let permits = semaphore.acquire(2).unwrap();
        assert_eq!((permits.count(), semaphore.value()), (2, Ok(1)));
        assert!(semaphore.try_acquire(2).unwrap().is_none());
        assert!(lasts(|| semaphore.acquire_timeout(2, TIME).unwrap()).is_none());
        refused!(Invalid, semaphore.try_acquire(0));
    }
    assert_eq!(semaphore.value(), Ok(3));
    semaphore.try_acquire(1).unwrap().unwrap().forget();
    assert_eq!(semaphore.value(), Ok(2));
}

#[test]
fn a_condition_waits_with_the_guard_of_either_lock() {
    let condition = Condition::unnamed(&Default::default()).unwrap();
    let lock = Lock::unnamed(&Default::default()).unwrap();
    let ready = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let mut guard = lock.acquire().unwrap();
            while !ready.load(Relaxed) {
                condition.wait(&mut guard).unwrap();
            }
            assert!(!guard.owner_died());
        });
        while condition.stat().waiting == 0 {
            std::thread::yield_now();
        }
        let guard = lock.acquire().unwrap();
        ready.store(true, Relaxed);
        condition.notify_one(&guard).unwrap();
        drop(guard);
        waiter.join().unwrap();
    });
    let mut guard = lock.acquire().unwrap();
    assert!(!lasts(|| condition.wait_timeout(&mut guard, TIME).unwrap()));
    condition.notify_all(&guard).unwrap();
    assert!(lock.try_acquire().unwrap().is_none(), "it is held again");
    drop(guard);

    let (condition, rlock) = (
        Condition::unnamed(&Default::default()).unwrap(),
        RLock::unnamed().unwrap(),
    );
    let _outer = rlock.acquire().unwrap();
    let mut inner = rlock.acquire().unwrap();
    assert!(!condition.wait_timeout(&mut inner, TIME).unwrap());
    assert_eq!(rlock.depth(), 2);
    condition.notify(&inner, 3).unwrap();
    let other = lock.acquire().unwrap();
    refused!(Invalid, condition.notify_one(&other));
}

#[test]
fn a_guard_knows_of_an_owner_that_died_while_it_waited() {
    alone(|| {
        let condition = Condition::unnamed(&Default::default()).unwrap();
        let lock = Lock::unnamed(&Default::default()).unwrap();
        let waiter = fork(|| {
            let mut guard = lock.acquire().unwrap();
            condition.wait(&mut guard).unwrap();
            assert!(guard.owner_died());
            guard.mark_consistent().unwrap();
        });
        wait_until(|| condition.stat().waiting == 1);
        holder(|| {
            let guard = lock.acquire().unwrap();
            condition.notify_one(&guard).unwrap();
            guard
        })
        .kill();
        waiter.succeed();
        assert!(!lock.acquire().unwrap().owner_died());
    });
}

#[test]
fn an_event_returns_whether_it_was_set_in_time() {
    let event = Event::unnamed().unwrap();
    assert_eq!(lasts(|| event.wait_timeout(TIME)), Ok(false));
    event.set();
    assert_eq!(event.wait_timeout(TIME), Ok(true));
    assert_eq!(event.wait(), Ok(()));
}

#[test]
fn a_once_is_begun_anew_if_its_guard_is_dropped() {
    alone(|| {
        let once = Once::unnamed().unwrap();
        drop(once.begin().unwrap().unwrap());
        let other = holder(|| once.begin().unwrap());
        refused!(WouldBlock, once.try_begin());
        refused!(Timeout, lasts(|| once.begin_timeout(TIME)));
        other.kill();
        let guard = once.begin().unwrap().unwrap();
        assert!(guard.owner_died());
        guard.complete().unwrap();
        assert!(once.begin().unwrap().is_none());
        assert!(once.try_begin().unwrap().is_none());
    });
}

#[test]
fn a_barrier_breaks_if_a_party_times_out() {
    let barrier = Barrier::unnamed(&barrier::Options::of(2)).unwrap();
    refused!(Timeout, lasts(|| barrier.wait_timeout(TIME)));
    refused!(Broken, barrier.wait());
    barrier.reset().unwrap();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| barrier.wait_timeout(Duration::from_secs(60)).unwrap());
        assert_eq!(barrier.wait().unwrap() + other.join().unwrap(), 1);
    });
}

#[test]
fn the_last_party_runs_the_action_while_the_others_wait() {
    let barrier = Barrier::unnamed(&barrier::Options::of(3)).unwrap();
    let runs = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                barrier
                    .wait_then(|| {
                        std::thread::sleep(TIME);
                        runs.fetch_add(1, Relaxed);
                    })
                    .unwrap();
                assert_eq!(runs.load(Relaxed), 1);
            });
        }
    });
}

#[test]
fn an_action_that_panics_breaks_the_barrier() {
    let barrier = Barrier::unnamed(&barrier::Options::of(1)).unwrap();
    let action = std::panic::AssertUnwindSafe(|| barrier.wait_then(|| panic!("on purpose")));
    std::panic::catch_unwind(action).unwrap_err();
    refused!(Broken, barrier.wait());
}

#[test]
fn a_queue_returns_none_without_a_message_and_fails_without_room() {
    let options = queue::Options {
        messages: 1,
        ..Default::default()
    };
    let queue = Queue::unnamed(&options).unwrap();
    assert_eq!(queue.try_get(), Ok(None));
    assert_eq!(lasts(|| queue.get_timeout(TIME)), Ok(None));
    assert!(queue.try_lease().unwrap().is_none());
    assert!(lasts(|| queue.lease_timeout(TIME).unwrap()).is_none());
    queue.put(b"one").unwrap();
    refused!(Full, queue.try_put(b"two"));
    refused!(Timeout, lasts(|| queue.put_timeout(b"two", TIME)));
    refused!(Full, queue.try_reserve(3));
    refused!(Timeout, lasts(|| queue.reserve_timeout(3, TIME)));
    assert_eq!(lasts(|| queue.join_timeout(TIME)), Ok(false));
    assert_eq!(queue.try_get().unwrap().unwrap(), b"one");
    assert_eq!(queue.join_timeout(TIME), Ok(true));
    queue.join().unwrap();
    let two = [&b"a"[..], b"b"];
    assert_eq!(queue.put_many(two.into_iter(), Batch::Some), Ok(1));
    assert_eq!(queue.get_timeout(TIME).unwrap().unwrap(), b"a");
    let failing = queue::Options {
        overflow: Overflow::Fail,
        ..options
    };
    let queue = Queue::unnamed(&failing).unwrap();
    queue.put(b"one").unwrap();
    refused!(Full, queue.put(b"two"));
}

#[test]
fn reservations_and_leases_end_when_they_are_dropped() {
    let queue = Queue::unnamed(&Default::default()).unwrap();
    drop(queue.reserve(10).unwrap());
    let slot = queue.try_reserve(10).unwrap();
    assert_eq!(slot.bytes().len(), 10);
    assert!(slot.as_ptr().cast::<u64>().is_aligned());
    for (byte, value) in slot.bytes().iter().zip(b"message") {
        byte.store(*value, Relaxed);
    }
    slot.commit(7).unwrap();
    for attempts in 1..4 {
        let lease = queue.lease().unwrap();
        assert_eq!(
            (lease.attempts(), lease.to_vec()),
            (attempts, b"message".to_vec())
        );
        assert_eq!(queue.try_get(), Ok(None), "it is leased");
    }
    let lease = queue.try_lease().unwrap().unwrap();
    let read = std::thread::scope(|scope| scope.spawn(|| lease.to_vec()).join().unwrap());
    assert_eq!(read, b"message");
    assert!(lease.as_ptr().cast::<u64>().is_aligned());
    lease.ack().unwrap();
    assert!(queue.lease_timeout(TIME).unwrap().is_none());
    let slot = queue.reserve_timeout(1, TIME).unwrap();
    refused!(Invalid, slot.commit(2));
    assert_eq!(queue.try_get(), Ok(None), "it was dropped");
}
