//! Waiting: timeouts, wakes, interrupts, and stopped processes.

use super::common::Watchdog;
use super::common::process::{Child, alone, fork, shared_words, wait_until};
use super::{NOW, ONE_MINUTE, await_sleepers, drain, lessee, unnamed, within};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use shmkit::capi::interrupt::shmkit_set_interrupt;
use shmkit::error::Error;
use shmkit::queue::{Batch, Options, Overflow, Queue};
use shmkit::raw::{Timeout, WaitOptions};
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Waits forever, unless the hook ends the wait.
const UNTIL_INTERRUPTED: WaitOptions = WaitOptions {
    timeout: Timeout::Never,
    interruptible: true,
};

fn of_one() -> Options {
    Options {
        messages: 1,
        ..Options::default()
    }
}

/// Creates a queue that is full with one message.
fn filled() -> Queue {
    let queue = unnamed(of_one());
    queue.put_with(b"first", NOW).unwrap();
    queue
}

#[test]
fn get_and_put_time_out_after_their_timeouts() {
    let _watchdog = Watchdog::start();
    let (empty, full) = (unnamed(of_one()), filled());
    for milliseconds in [0, 1, 30] {
        let time = Duration::from_millis(milliseconds);
        let wait = within(time.as_nanos() as u64);
        let lasts = |call: &dyn Fn()| {
            let begin = Instant::now();
            call();
            assert!(begin.elapsed() >= time);
        };
        lasts(&|| drop(refused!(Timeout, empty.get_with(wait))));
        lasts(&|| drop(refused!(Timeout, empty.lease_with(wait))));
        lasts(&|| drop(refused!(Timeout, empty.peek_into_with(&mut [], wait))));
        lasts(&|| {
            let (mut bytes, mut lengths) = ([], [MaybeUninit::uninit()]);
            refused!(
                Timeout,
                empty.get_many_into_with(&mut bytes, &mut lengths, wait)
            );
        });
        lasts(&|| drop(refused!(Timeout, full.put_with(b"", wait))));
        lasts(&|| drop(refused!(Timeout, full.reserve_with(1, wait))));
        lasts(&|| {
            let two = [&b"a"[..], b"b"].into_iter();
            refused!(Timeout, full.put_many_with(two, Batch::Some, wait));
        });
        lasts(&|| drop(refused!(Timeout, full.join_with(wait))));
    }
    assert_eq!(drain(&full), [b"first"]);
}

#[test]
fn calls_that_may_not_wait_fail_at_once() {
    let _watchdog = Watchdog::start();
    let (empty, full) = (unnamed(of_one()), filled());
    refused!(Empty, empty.get_with(NOW));
    refused!(Empty, empty.lease_with(NOW));
    refused!(Empty, empty.peek_into_with(&mut [], NOW));
    refused!(Full, full.put_with(b"", NOW));
    refused!(Full, full.reserve_with(0, NOW));
    refused!(
        Full,
        full.put_many_with([&b""[..]].into_iter(), Batch::All, NOW)
    );
    refused!(WouldBlock, full.join_with(NOW));
    empty.join_with(NOW).unwrap();
    // A queue with overflow `Fail` waits for no room.
    let fails = unnamed(Options {
        overflow: Overflow::Fail,
        ..of_one()
    });
    fails.put_with(b"first", ONE_MINUTE).unwrap();
    refused!(Full, fails.put_with(b"", WaitOptions::BLOCKING));
    refused!(Full, fails.reserve_with(0, WaitOptions::BLOCKING));
}

#[test]
fn very_long_timeouts_are_accepted() {
    alone(|| {
        let queue = unnamed(of_one());
        for time in [(1 << 53) + 1, i64::MAX as u64, u64::MAX] {
            let sleepers = queue.stat().unwrap().waits.0;
            let consumer = fork(|| drop(queue.get_with(within(time)).unwrap()));
            await_sleepers(&queue, sleepers + 1, 0);
            queue.put_with(b"", within(time)).unwrap();
            consumer.succeed();
        }
    });
}

#[test]
fn each_kind_of_put_and_get_wakes_each_kind_of_sleeper() {
    alone(|| {
        type Act = fn(&Queue);
        let gets: [Act; 4] = [
            |queue| assert_eq!(queue.get_with(WaitOptions::BLOCKING).unwrap(), b"come"),
            |queue| queue.lease().unwrap().ack().unwrap(),
            |queue| {
                let (mut bytes, mut lengths) =
                    ([MaybeUninit::uninit(); 9], [MaybeUninit::uninit()]);
                let count =
                    queue.get_many_into_with(&mut bytes, &mut lengths, WaitOptions::BLOCKING);
                assert_eq!(count, Ok(1));
            },
            |queue| {
                let seen = queue
                    .peek_into_with(&mut [], WaitOptions::BLOCKING)
                    .unwrap();
                assert_eq!((seen.length, queue.get_with(NOW).unwrap().len()), (4, 4));
            },
        ];
        let puts: [Act; 3] = [
            |queue| queue.put_with(b"come", NOW).unwrap(),
            |queue| {
                let slot = queue.reserve_with(4, NOW).unwrap();
                let at = queue.address(slot.offset, 4).unwrap();
                // SAFETY: this process has reserved the four bytes and not committed them yet.
                unsafe { at.cast::<[u8; 4]>().write(*b"come") };
                queue.commit(slot.token, 4).unwrap();
            },
            |queue| {
                let one = [&b"come"[..]].into_iter();
                assert_eq!(queue.put_many_with(one, Batch::All, NOW), Ok(1));
            },
        ];
        for get in gets {
            for put in puts {
                let queue = unnamed(of_one());
                let consumer = fork(|| get(&queue));
                await_sleepers(&queue, 1, 0);
                put(&queue);
                consumer.succeed();
                // The same for a producer that waits for room.
                put(&queue);
                let producer = fork(|| queue.put_with(b"second", WaitOptions::BLOCKING).unwrap());
                await_sleepers(&queue, 1, 1);
                get(&queue);
                producer.succeed();
                assert_eq!(drain(&queue), [b"second"]);
            }
        }
    });
}

#[test]
fn a_returned_lease_and_an_aborted_reservation_wake_the_waiters() {
    alone(|| {
        let queue = filled();
        let lease = queue.lease_with(NOW).unwrap();
        let consumer =
            fork(|| assert_eq!(queue.get_with(WaitOptions::BLOCKING).unwrap(), b"first"));
        await_sleepers(&queue, 1, 0);
        queue.nack(lease.token).unwrap();
        consumer.succeed();
        // A consumer behind a reservation that is aborted.
        let queue = unnamed(Options::default());
        let slot = queue.reserve_with(8, NOW).unwrap();
        queue.put_with(b"behind", NOW).unwrap();
        let consumer =
            fork(|| assert_eq!(queue.get_with(WaitOptions::BLOCKING).unwrap(), b"behind"));
        await_sleepers(&queue, 1, 0);
        queue.abort(slot.token).unwrap();
        consumer.succeed();
        // A producer that the abort makes room for.
        let queue = unnamed(of_one());
        let slot = queue.reserve_with(8, NOW).unwrap();
        let producer = fork(|| queue.put_with(b"instead", WaitOptions::BLOCKING).unwrap());
        await_sleepers(&queue, 0, 1);
        queue.abort(slot.token).unwrap();
        producer.succeed();
        assert_eq!(drain(&queue), [b"instead"]);
        // A producer that gets room because a message is shorter than its reservation.
        let queue = unnamed(Options {
            bytes: 100,
            ..Options::default()
        });
        let slot = queue.reserve_with(100, NOW).unwrap();
        let producer = fork(|| queue.put_with(&[1; 40], WaitOptions::BLOCKING).unwrap());
        await_sleepers(&queue, 0, 1);
        queue.commit(slot.token, 60).unwrap();
        producer.succeed();
        assert_eq!(queue.stat().unwrap().bytes, 100);
    });
}

#[test]
fn the_last_acknowledgement_wakes_a_joining_process() {
    alone(|| {
        for by_get in [true, false] {
            let queue = filled();
            let words = shared_words(1);
            let joiner = fork(|| {
                queue.join_with(WaitOptions::BLOCKING).unwrap();
                assert_eq!(words[0].load(Relaxed), 1);
            });
            await_sleepers(&queue, 0, 1);
            let lease = queue.lease_with(NOW);
            words[0].store(1, Relaxed);
            match by_get {
                true => {
                    queue.nack(lease.unwrap().token).unwrap();
                    queue.get_with(NOW).unwrap();
                }
                false => queue.ack(lease.unwrap().token).unwrap(),
            }
            joiner.succeed();
        }
    });
}

#[test]
fn sleepers_fail_with_shut_down_after_shutdown() {
    alone(|| {
        let (empty, full) = (unnamed(of_one()), filled());
        let children = [
            fork(|| drop(refused!(ShutDown, empty.get_with(WaitOptions::BLOCKING)))),
            fork(|| drop(refused!(ShutDown, empty.lease_with(WaitOptions::BLOCKING)))),
            fork(|| {
                drop(refused!(
                    ShutDown,
                    full.put_with(b"", WaitOptions::BLOCKING)
                ))
            }),
            fork(|| {
                drop(refused!(
                    ShutDown,
                    full.reserve_with(1, WaitOptions::BLOCKING)
                ))
            }),
        ];
        await_sleepers(&empty, 2, 0);
        await_sleepers(&full, 0, 2);
        empty.shut_down().unwrap();
        full.shut_down().unwrap();
        for child in children {
            child.succeed();
        }
        // The message that is left can be taken, once.
        assert_eq!(full.get_with(WaitOptions::BLOCKING).unwrap(), b"first");
        refused!(ShutDown, full.get_with(NOW));
    });
}

#[test]
fn after_shutdown_consumers_wait_for_the_leases_of_others() {
    alone(|| {
        let queue = unnamed(Options::default());
        for message in [b"a", b"b"] {
            queue.put_with(message, NOW).unwrap();
        }
        let slot = queue.reserve_with(1, NOW).unwrap();
        let lease = queue.lease_with(NOW).unwrap();
        queue.shut_down().unwrap();
        let consumer = fork(|| {
            assert_eq!(queue.get_with(WaitOptions::BLOCKING).unwrap(), b"b");
            assert_eq!(queue.get_with(WaitOptions::BLOCKING).unwrap(), b"a");
            assert_eq!(queue.get_with(WaitOptions::BLOCKING).unwrap().len(), 1);
            refused!(ShutDown, queue.get_with(WaitOptions::BLOCKING));
        });
        await_sleepers(&queue, 1, 0);
        queue.nack(lease.token).unwrap();
        wait_until(|| queue.stat().unwrap().messages == 0);
        // An earlier reservation can still be committed.
        queue.commit(slot.token, 1).unwrap();
        consumer.succeed();
        // Only a lease of another process is left: it is returned, or acknowledged.
        for returned in [true, false] {
            let queue = filled();
            let lease = queue.lease_with(NOW).unwrap();
            queue.shut_down().unwrap();
            let consumer = fork(|| {
                if returned {
                    assert_eq!(queue.get_with(WaitOptions::BLOCKING).unwrap(), b"first");
                }
                refused!(ShutDown, queue.get_with(WaitOptions::BLOCKING));
            });
            await_sleepers(&queue, 1, 0);
            match returned {
                true => queue.nack(lease.token).unwrap(),
                false => queue.ack(lease.token).unwrap(),
            }
            consumer.succeed();
        }
    });
}

/// Counts its calls in the first word, and interrupts the wait if the second word is set.
extern "C" fn hook(answer: *mut c_void) -> i32 {
    // SAFETY: `install` has passed two words that live as long as the process.
    let words = unsafe { std::slice::from_raw_parts(answer.cast::<AtomicU64>(), 2) };
    words[0].fetch_add(1, Relaxed);
    (words[1].load(Relaxed) != 0).into()
}

fn install(words: &'static [AtomicU64]) {
    // SAFETY: the hook may be called from any thread, and its words live as long as the process.
    let status = unsafe { shmkit_set_interrupt(Some(hook), words.as_ptr().cast_mut().cast()) };
    assert_eq!(status, 0);
}

#[test]
fn only_the_hook_interrupts_a_wait() {
    alone(|| {
        type Act = fn(&Queue, WaitOptions) -> shmkit::error::Result<()>;
        let acts: [Act; 5] = [
            |queue, wait| queue.get_with(wait).map(drop),
            |queue, wait| queue.lease_with(wait).map(drop),
            |queue, wait| queue.put_with(&[0; 60], wait),
            |queue, wait| queue.reserve_with(60, wait).map(drop),
            |queue, wait| queue.join_with(wait),
        ];
        for act in acts {
            // There is nothing to take and no room, and the queue is not finished.
            let queue = unnamed(Options {
                bytes: 100,
                ..Options::default()
            });
            let slot = queue.reserve_with(100, NOW).unwrap();
            let words = shared_words(2);
            let waiter = fork(|| {
                install(words);
                refused!(Interrupted, act(&queue, UNTIL_INTERRUPTED));
            });
            wait_until(|| words[0].load(Relaxed) > 2);
            let patient = fork(|| {
                install(words);
                refused!(Timeout, act(&queue, within(30_000_000)));
            });
            words[1].store(1, Relaxed);
            waiter.succeed();
            patient.succeed();
            queue.commit(slot.token, 5).unwrap();
            assert_eq!(queue.get_with(NOW).unwrap().len(), 5);
        }
    });
}

#[test]
fn an_interrupted_consumer_takes_no_wake_of_the_others() {
    alone(|| {
        let queue = unnamed(Options::default());
        let words = shared_words(2);
        let quitters: Vec<_> = (0..3)
            .map(|_| {
                fork(|| {
                    install(words);
                    refused!(Interrupted, queue.get_with(UNTIL_INTERRUPTED));
                })
            })
            .collect();
        let consumer = fork(|| drop(queue.get_with(WaitOptions::BLOCKING).unwrap()));
        wait_until(|| words[0].load(Relaxed) >= 3);
        words[1].store(1, Relaxed);
        queue.put_with(b"", NOW).unwrap();
        queue.put_with(b"", NOW).unwrap();
        queue.put_with(b"", NOW).unwrap();
        queue.put_with(b"", NOW).unwrap();
        consumer.succeed();
        // Some may have got a message before the hook was called.
        drop(quitters);
    });
}

/// Stops a process, and returns when it has stopped.
fn stop(child: &Child) {
    kill(child.pid(), Signal::SIGSTOP).unwrap();
    let stopped = waitpid(child.pid(), Some(WaitPidFlag::WUNTRACED)).unwrap();
    assert!(matches!(stopped, WaitStatus::Stopped(..)));
}

/// Forks a process that repeats `act`, and stops it at a moment at which `holds` is true.
fn stopped_while(act: impl Fn(), holds: impl Fn(&Child) -> bool) -> Child {
    let child = fork(|| {
        loop {
            act();
        }
    });
    loop {
        stop(&child);
        if holds(&child) {
            return child;
        }
        kill(child.pid(), Signal::SIGCONT).unwrap();
        std::thread::sleep(Duration::from_micros(200));
    }
}

#[test]
fn a_process_stopped_inside_a_put_delays_no_caller_that_may_not_wait() {
    alone(|| {
        let queue = unnamed(Options::default());
        let words = shared_words(1);
        // The producer takes each message again, so that a put takes long and the queue stays short.
        let large = vec![1; 60_000];
        let producer = stopped_while(
            || {
                queue.put_with(&large, ONE_MINUTE).unwrap();
                queue.get_with(ONE_MINUTE).unwrap();
            },
            |_| queue.stat().unwrap().holders.0.is_some(),
        );
        let cause = refused!(WouldBlock, queue.put_with(b"mine", NOW));
        assert!(cause.text.contains("stopped in the middle"), "{cause}");
        refused!(Timeout, queue.put_with(b"mine", within(1)));
        refused!(WouldBlock, queue.is_full());
        // A stopped process is not dead: its call completes after it continues.
        let waiter = fork(|| {
            queue.put_with(b"mine", WaitOptions::BLOCKING).unwrap();
            words[0].store(1, Relaxed);
        });
        assert_eq!(words[0].load(Relaxed), 0);
        kill(producer.pid(), Signal::SIGCONT).unwrap();
        waiter.succeed();
        // A dead process delays no caller.
        stop(&producer);
        producer.kill();
        queue.put_with(b"mine", NOW).unwrap();
    });
}

#[test]
fn a_process_stopped_inside_a_get_delays_no_caller_that_may_not_wait() {
    alone(|| {
        let queue = unnamed(of_one());
        let large = vec![1; 60_000];
        let consumer = stopped_while(
            || {
                let _ = queue.put_with(&large, NOW);
                let _ = queue.get_with(NOW);
            },
            |_| queue.stat().unwrap().holders.1.is_some(),
        );
        refused!(WouldBlock, queue.get_with(NOW));
        refused!(Timeout, queue.get_with(within(1)));
        // A put needs the consumer lock only if there is no room.
        while queue.put_with(b"mine", NOW).is_ok() {}
        refused!(Full, queue.put_with(b"mine", NOW));
        refused!(Timeout, queue.put_with(b"mine", within(1)));
        kill(consumer.pid(), Signal::SIGCONT).unwrap();
        stop(&consumer);
        consumer.kill();
        drain(&queue);
        queue.put_with(b"mine", NOW).unwrap();
    });
}

#[test]
fn a_stopped_process_keeps_its_lease() {
    alone(|| {
        let queue = filled();
        let lessee = lessee(&queue);
        stop(&lessee);
        refused!(Timeout, queue.get_with(within(50_000_000)));
        assert_eq!(queue.stat().unwrap().leased, 1);
        lessee.kill();
        assert_eq!(queue.get_with(ONE_MINUTE).unwrap(), b"first");
    });
}

#[test]
fn a_put_during_shutdown_is_refused_or_its_message_is_got() {
    alone(|| {
        for _ in 0..20 {
            let queue = unnamed(Options::default());
            let words = shared_words(2);
            let large = vec![1; 60_000];
            let producer = stopped_while(
                || match words[1].load(Relaxed) {
                    0 => match queue.put_with(&large, ONE_MINUTE) {
                        Ok(()) => {
                            words[0].fetch_add(1, Relaxed);
                        }
                        Err(_) => words[1].store(1, Relaxed),
                    },
                    _ => std::thread::yield_now(),
                },
                |_| {
                    let held = queue.stat().unwrap().holders.0.is_some();
                    if !held {
                        drain(&queue).iter().for_each(|_| {
                            words[0].fetch_sub(1, Relaxed);
                        });
                    }
                    held
                },
            );
            queue.shut_down().unwrap();
            let mut had = 0;
            // The stopped producer may still put a message, so no consumer may fail with `ShutDown`.
            while !matches!(queue.get_with(NOW), Err(Error::Empty(_))) {
                had += 1;
                assert!(had < 1000, "the queue reports more than was put");
            }
            kill(producer.pid(), Signal::SIGCONT).unwrap();
            while queue.get_with(ONE_MINUTE).is_ok() {
                had += 1;
            }
            wait_until(|| words[1].load(Relaxed) == 1);
            assert_eq!(words[0].load(Relaxed), had, "acknowledged puts, and gets");
        }
    });
}

/// The queue that a hook puts into. Each test with a hook runs in a process of its own.
static PUT_BY_THE_HOOK: OnceLock<Queue> = OnceLock::new();

extern "C" fn putting_hook(_: *mut c_void) -> i32 {
    let queue = PUT_BY_THE_HOOK.get().expect("a queue before the hook");
    queue.put_with(b"by the hook", ONE_MINUTE).unwrap();
    0
}

#[test]
fn a_hook_may_put_a_message_while_its_queue_grows() {
    alone(|| {
        const MUCH: u64 = 200 << 20;
        let queue = PUT_BY_THE_HOOK.get_or_init(|| unnamed(Options::default()));
        // SAFETY: the hook may be called from any thread, and needs no argument.
        let status = unsafe { shmkit_set_interrupt(Some(putting_hook), std::ptr::null_mut()) };
        assert_eq!(status, 0);
        let slot = queue.reserve_with(MUCH, UNTIL_INTERRUPTED).unwrap();
        queue.abort(slot.token).unwrap();
        let put = drain(queue).len();
        assert!(put >= 2, "asked {put} times");
    });
}
