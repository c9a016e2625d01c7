//! Models of the queue: messages of one word, in a ring that holds two of them.

use super::{SHORT, World, each, id, model};
use crate::error::{Error, Result};
use crate::participant::Id;
use crate::raw::WaitOptions;
use crate::raw::queue::record::{RECORD_ALIGN, Record, Ring};
use crate::raw::queue::{
    Batch, Bounds, Laps, Lease, Overflow, QueueHandleState, QueueRef, RING_SLACK, RawQueue,
    Reservation,
};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use loom::thread;
use std::mem::MaybeUninit;

/// What a message has.
const LENGTH: u64 = size_of::<u64>() as u64;
/// Five grains: two messages of two grains each, and a PAD. Less than a queue for everybody may have.
const CAPACITY: u64 = RECORD_ALIGN;
const GRAINS: usize = ((CAPACITY + RING_SLACK) / RECORD_ALIGN) as usize;

/// Each grain is a record and the payload of another one: which of them, those who use it must agree on.
#[derive(Default)]
struct ModelRing {
    records: [Record; GRAINS],
    payloads: [UnsafeCell<u64>; GRAINS],
    /// Whoever writes a payload gives up before it commits.
    fails: AtomicBool,
}

// SAFETY: a payload is reached by whose record it is alone, which is what is on trial: loom checks it.
unsafe impl Sync for ModelRing {}

impl ModelRing {
    fn payload(&self, offset: u64) -> &UnsafeCell<u64> {
        &self.payloads[(offset / RECORD_ALIGN) as usize]
    }

    /// Writes a payload; loom fails where somebody else reads or writes it.
    fn fill(&self, offset: u64, value: u64) {
        // SAFETY: the record is the caller's, which is what is on trial: loom checks it.
        let write = |payload: *mut u64| unsafe { payload.write(value) };
        self.payload(offset).with_mut(write);
    }

    /// Reads a payload; loom fails where somebody else writes it.
    fn look(&self, offset: u64) -> u64 {
        // SAFETY: as in `fill`.
        let read = |payload: *const u64| unsafe { payload.read() };
        self.payload(offset).with(read)
    }
}

impl Ring for ModelRing {
    fn capacity(&self) -> u64 {
        GRAINS as u64 * RECORD_ALIGN
    }

    fn record(&self, offset: u64) -> Result<&Record> {
        let corrupt = || Error::Corrupt("outside".into());
        let record = self.records.get((offset / RECORD_ALIGN) as usize);
        record.ok_or_else(corrupt)
    }

    fn copy(&self, offset: u64) -> Result<[u64; 4]> {
        self.record(offset).map(Record::raw)
    }

    fn reach(&self, end: u64) -> Result<()> {
        assert!(end <= self.capacity());
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.fill(
            offset,
            u64::from_ne_bytes(bytes.try_into().expect("a word")),
        );
        match self.fails.load(Ordering::Relaxed) {
            true => Err(Error::Internal("it dies".into())),
            false => Ok(()),
        }
    }

    fn read(&self, offset: u64, bytes: &mut [MaybeUninit<u8>]) -> Result<()> {
        let value = self.look(offset).to_ne_bytes();
        for (to, byte) in bytes.iter_mut().zip(value) {
            to.write(byte);
        }
        Ok(())
    }

    fn has(&self, end: u64) -> bool {
        end <= self.capacity()
    }

    fn prefetch(&self, _: u64) {}

    fn grow(&self, _: u64, _: u64, _: u64) -> Result<()> {
        unreachable!("all has memory")
    }

    fn give_back(&self, _: u64, _: u64) -> Result<()> {
        unreachable!("it is small")
    }
}

struct Shared {
    raw: RawQueue,
    ring: ModelRing,
    bounds: Bounds,
    world: World,
}

impl Shared {
    fn new() -> Arc<Shared> {
        Shared::bounded(0)
    }

    /// Of so many messages.
    fn bounded(messages: u64) -> Arc<Shared> {
        let bounds = Bounds {
            capacity: CAPACITY,
            messages,
            bytes: 0,
            largest: CAPACITY / 2,
        };
        let raw = RawQueue::default();
        let ring = ModelRing::default();
        raw.prepare(&bounds, ring.capacity(), 0);
        Arc::new(Shared {
            raw,
            ring,
            bounds,
            world: World::new(),
        })
    }

    /// Calls `body` with the queue as the process `me` has it.
    fn queue<T>(&self, me: Id, body: impl FnOnce(&QueueRef<'_, ModelRing, World>) -> T) -> T {
        body(&QueueRef {
            raw: &self.raw,
            ring: &self.ring,
            bounds: &self.bounds,
            laps: Laps::new(self.bounds.ring()),
            overflow: Overflow::Block,
            handle: &QueueHandleState::default(),
            me,
            liveness: &self.world,
        })
    }

    fn try_put(&self, me: Id, value: u64, options: WaitOptions) -> Result<()> {
        let bytes = value.to_ne_bytes();
        self.queue(me, |queue| match queue.try_put(&bytes) {
            true => Ok(()),
            false => queue.put(&bytes, options),
        })
    }

    fn put(&self, me: Id, value: u64) {
        let put = self.try_put(me, value, WaitOptions::BLOCKING);
        put.expect("there will be room");
    }

    fn try_get(&self, me: Id, options: WaitOptions) -> Result<u64> {
        let mut bytes = [MaybeUninit::uninit(); LENGTH as usize];
        let length = self.queue(me, |queue| match queue.try_get(&mut bytes) {
            Some(length) => Ok(length),
            None => queue.get(&mut bytes, options).map(|taken| taken.length),
        })?;
        assert_eq!(length, LENGTH);
        // SAFETY: all of them have been written.
        Ok(u64::from_ne_bytes(
            bytes.map(|byte| unsafe { byte.assume_init() }),
        ))
    }

    fn get(&self, me: Id) -> u64 {
        let got = self.try_get(me, WaitOptions::BLOCKING);
        got.expect("there will be a message")
    }

    fn reserve(&self, me: Id) -> Reservation {
        let place = self.queue(me, |queue| queue.reserve(LENGTH, WaitOptions::BLOCKING));
        place.expect("there will be room")
    }

    fn commit(&self, me: Id, place: Reservation, value: u64) {
        self.ring.fill(place.offset, value);
        let done = self.queue(me, |queue| queue.commit(place.token, LENGTH));
        done.expect("it is ours");
    }

    fn lease(&self, me: Id) -> Lease {
        let lease = self.queue(me, |queue| queue.lease(WaitOptions::BLOCKING));
        lease.expect("there will be a message")
    }

    /// Reads it in place, and says that it is done with.
    fn ack(&self, me: Id, lease: Lease) -> u64 {
        let value = self.ring.look(lease.offset);
        let done = self.queue(me, |queue| queue.ack(lease.token));
        done.expect("it is ours");
        value
    }

    fn mortal(&self, number: usize) -> Id {
        self.world.mortals[number].0
    }
}

/// For the sum of what several got.
fn counter() -> Arc<AtomicU64> {
    Arc::new(AtomicU64::new(0))
}

#[test]
fn what_one_puts_another_gets_in_order_and_both_sleep() {
    model(2, || {
        let shared = Shared::bounded(1);
        each(2, move |me| {
            for value in 1..=2 {
                match me {
                    0 => shared.put(id(me), value),
                    _ => assert_eq!(shared.get(id(me)), value),
                }
            }
        });
    });
}

#[test]
fn a_full_ring_is_slept_for() {
    model(2, || {
        let shared = Shared::new();
        shared.put(id(0), 1);
        shared.put(id(0), 2);
        each(2, move |me| match me {
            0 => shared.put(id(me), 3),
            _ => (1..=3).for_each(|value| assert_eq!(shared.get(id(me)), value)),
        });
    });
}

#[test]
fn two_may_put_at_once() {
    model(2, || {
        let shared = Shared::new();
        let sum = Arc::new(AtomicU64::new(0));
        each(3, move |me| match me {
            0 => {
                let both = shared.get(id(me)) + shared.get(id(me));
                sum.store(both, Ordering::Relaxed);
                assert_eq!(both, 3);
            }
            _ => shared.put(id(me), me as u64),
        });
    });
}

#[test]
fn two_may_get_at_once_and_neither_sleeps_for_ever() {
    model(2, || {
        let shared = Shared::new();
        let sum = counter();
        let (in_thread, got) = (shared.clone(), sum.clone());
        each(3, move |me| match me {
            0 => {
                in_thread.put(id(me), 1);
                in_thread.put(id(me), 2);
            }
            _ => drop(got.fetch_add(in_thread.get(id(me)), Ordering::Relaxed)),
        });
        assert_eq!(sum.load(Ordering::Relaxed), 3);
        assert!(shared.queue(id(0), |queue| queue.is_finished()));
    });
}

#[test]
fn several_put_at_once_wake_as_many() {
    model(2, || {
        let shared = Shared::new();
        let sum = counter();
        let (in_thread, got) = (shared.clone(), sum.clone());
        each(3, move |me| match me {
            0 => {
                let raw = [1u64, 2].map(u64::to_ne_bytes);
                let messages = raw.iter().map(|word| &word[..]);
                let put = |queue: &QueueRef<'_, ModelRing, World>| {
                    queue.put_many(messages, Batch::Some, WaitOptions::BLOCKING)
                };
                assert_eq!(in_thread.queue(id(me), put), Ok(2));
            }
            _ => drop(got.fetch_add(in_thread.get(id(me)), Ordering::Relaxed)),
        });
        assert_eq!(sum.load(Ordering::Relaxed), 3);
    });
}

#[test]
fn what_is_reserved_is_waited_for() {
    model(2, || {
        let shared = Shared::new();
        let place = shared.reserve(id(0));
        each(3, move |me| match me {
            0 => shared.commit(id(me), place, 1),
            1 => shared.put(id(me), 2),
            _ => (1..=2).for_each(|value| assert_eq!(shared.get(id(me)), value)),
        });
    });
}

#[test]
fn of_two_who_wait_for_what_is_reserved_neither_sleeps_for_ever() {
    model(2, || {
        let shared = Shared::new();
        let place = shared.reserve(id(0));
        shared.put(id(0), 2);
        each(3, move |me| match me {
            0 => shared.commit(id(me), place, 1),
            1 => {
                let lease = shared.lease(id(me));
                shared.ack(id(me), lease);
            }
            _ => drop(shared.get(id(me))),
        });
    });
}

#[test]
fn what_is_given_up_makes_room_and_is_skipped() {
    model(2, || {
        let shared = Shared::bounded(1);
        let place = shared.reserve(id(0));
        each(3, move |me| match me {
            0 => {
                let aborted = shared.queue(id(me), |queue| queue.abort(place.token));
                aborted.expect("it is ours");
            }
            1 => shared.put(id(me), 2),
            _ => assert_eq!(shared.get(id(me)), 2),
        });
    });
}

#[test]
fn what_is_leased_is_not_overwritten_and_its_room_is_waited_for() {
    model(2, || {
        let shared = Shared::new();
        shared.put(id(0), 1);
        shared.put(id(0), 2);
        let lease = shared.lease(id(0));
        assert_eq!(shared.get(id(0)), 2);
        each(2, move |me| match me {
            0 => assert_eq!(shared.ack(id(me), lease), 1),
            _ => shared.put(id(me), 3),
        });
    });
}

#[test]
fn what_is_just_being_leased_is_not_overwritten() {
    model(2, || {
        let shared = Shared::new();
        shared.put(id(0), 1);
        shared.put(id(0), 2);
        each(2, move |me| match me {
            0 => {
                let lease = shared.lease(id(me));
                assert_eq!(shared.get(id(me)), 2);
                assert_eq!(shared.ack(id(me), lease), 1);
            }
            _ => shared.put(id(me), 3),
        });
    });
}

#[test]
fn two_who_acknowledge_at_once_let_head_go_on() {
    model(2, || {
        let shared = Shared::new();
        shared.put(id(0), 1);
        shared.put(id(0), 2);
        let leases = [shared.lease(id(0)), shared.lease(id(1))];
        each(3, move |me| match me {
            2 => shared.put(id(me), 3),
            _ => assert_eq!(shared.ack(id(me), leases[me]), me as u64 + 1),
        });
    });
}

#[test]
fn what_is_given_back_is_had_by_who_sleeps() {
    model(2, || {
        let shared = Shared::new();
        shared.put(id(0), 1);
        let lease = shared.lease(id(0));
        let in_thread = shared.clone();
        each(2, move |me| match me {
            0 => {
                let given = in_thread.queue(id(me), |queue| queue.nack(lease.token));
                given.expect("it is ours");
            }
            _ => assert_eq!(in_thread.get(id(me)), 1),
        });
        // A sign that something was given back does not stay for ever.
        let empty = shared.try_get(id(0), WaitOptions::NONBLOCKING);
        assert!(matches!(empty, Err(Error::Empty(_))));
    });
}

#[test]
fn who_waits_for_the_last_lease_is_told_that_nothing_comes() {
    model(2, || {
        let shared = Shared::new();
        shared.put(id(0), 1);
        let lease = shared.lease(id(0));
        shared.queue(id(0), |queue| queue.shut_down());
        each(2, move |me| match me {
            0 => assert_eq!(shared.ack(id(me), lease), 1),
            _ => {
                let nothing = shared.try_get(id(me), WaitOptions::BLOCKING);
                assert!(matches!(nothing, Err(Error::ShutDown(_))));
            }
        });
    });
}

#[test]
fn what_was_put_before_it_was_shut_is_had_before_anybody_is_told_so() {
    model(2, || {
        let shared = Shared::new();
        let put = Arc::new(AtomicBool::new(false));
        let got = Arc::new(AtomicBool::new(false));
        let (in_thread, putting, getting) = (shared.clone(), put.clone(), got.clone());
        each(3, move |me| match me {
            0 => match in_thread.try_put(id(me), 1, WaitOptions::BLOCKING) {
                Ok(()) => putting.store(true, Ordering::Relaxed),
                Err(error) => assert!(matches!(error, Error::ShutDown(_))),
            },
            1 => in_thread.queue(id(me), |queue| queue.shut_down()),
            _ => {
                while let Ok(value) = in_thread.try_get(id(me), WaitOptions::BLOCKING) {
                    assert_eq!(value, 1);
                    getting.store(true, Ordering::Relaxed);
                }
            }
        });
        assert_eq!(put.load(Ordering::Relaxed), got.load(Ordering::Relaxed));
    });
}

#[test]
fn who_waits_for_the_end_is_told() {
    model(2, || {
        let shared = Shared::new();
        shared.put(id(0), 1);
        shared.put(id(0), 2);
        let lease = shared.lease(id(0));
        each(3, move |me| match me {
            0 => assert_eq!(shared.ack(id(me), lease), 1),
            1 => assert_eq!(shared.get(id(me)), 2),
            _ => {
                let end = shared.queue(id(me), |queue| queue.join(WaitOptions::BLOCKING));
                end.expect("it comes");
            }
        });
    });
}

#[test]
fn who_waits_for_the_end_takes_no_wake_from_who_waits_for_room() {
    model(2, || {
        let shared = Shared::bounded(1);
        shared.put(id(0), 1);
        let join = {
            let shared = shared.clone();
            thread::spawn(move || {
                let end = shared.queue(id(1), |queue| queue.join(WaitOptions::BLOCKING));
                end.expect("it comes");
            })
        };
        let put = {
            let shared = shared.clone();
            thread::spawn(move || shared.put(id(2), 2))
        };
        shared.get(id(0));
        put.join().expect("there is room");
        shared.get(id(0));
        join.join().expect("it is empty");
    });
}

#[test]
fn who_is_out_of_time_leaves_the_others_their_wakes() {
    model(2, || {
        let shared = Shared::new();
        each(3, move |me| match me {
            0 => {
                shared.put(id(me), 1);
                shared.put(id(me), 2);
            }
            1 => match shared.try_get(id(me), SHORT) {
                Ok(_) => {}
                Err(error) => {
                    assert!(matches!(error, Error::Timeout(_)));
                }
            },
            _ => drop(shared.get(id(me))),
        });
    });
}

#[test]
fn what_is_told_of_it_was_so_at_some_moment() {
    model(2, || {
        let shared = Shared::new();
        each(2, move |me| match me {
            0 => {
                for value in 1..=2 {
                    shared.put(id(me), value);
                    assert_eq!(shared.get(id(me)), value);
                }
            }
            _ => {
                let stat = shared.queue(id(me), |queue| queue.raw.stat(queue.ring, queue.laps));
                let stat = stat.expect("all belongs together");
                assert_eq!(stat.bytes, stat.messages * LENGTH);
                assert!(stat.messages <= 1, "{stat:?}");
            }
        });
    });
}

#[test]
fn what_the_dead_were_filling_is_skipped() {
    model(2, || {
        let shared = Shared::new();
        let in_thread = shared.clone();
        each(3, move |me| match me {
            0 => {
                let mortal = in_thread.mortal(0);
                let place = in_thread.reserve(mortal);
                in_thread.ring.fill(place.offset, 7);
                in_thread.world.dies(0);
            }
            1 => in_thread.put(id(me), 1),
            // Nobody is woken by a death, and the model has no deadlines: so this only tries.
            _ => {
                let got = in_thread.try_get(id(me), WaitOptions::NONBLOCKING);
                assert!(matches!(got, Ok(1) | Err(Error::Empty(_))));
            }
        });
        while let Ok(value) = shared.try_get(id(4), WaitOptions::NONBLOCKING) {
            assert_eq!(value, 1);
        }
        let empty = shared.try_get(id(4), WaitOptions::NONBLOCKING);
        assert!(matches!(empty, Err(Error::Empty(_))));
        assert!(shared.queue(id(4), |queue| queue.is_finished()));
    });
}

#[test]
fn what_the_dead_were_reading_is_had_once_more() {
    model(2, || {
        let shared = Shared::new();
        shared.put(id(0), 1);
        let in_thread = shared.clone();
        let got = counter();
        let sum = got.clone();
        each(3, move |me| match me {
            0 => {
                let mortal = in_thread.mortal(0);
                let lease = in_thread.queue(mortal, |queue| queue.lease(WaitOptions::NONBLOCKING));
                if let Ok(lease) = lease {
                    assert!((1..=2).contains(&in_thread.ring.look(lease.offset)));
                }
                in_thread.world.dies(0);
            }
            1 => in_thread.put(id(me), 2),
            _ => {
                if let Ok(value) = in_thread.try_get(id(me), WaitOptions::NONBLOCKING) {
                    sum.fetch_add(value, Ordering::Relaxed);
                }
            }
        });
        while let Ok(value) = shared.try_get(id(4), WaitOptions::NONBLOCKING) {
            got.fetch_add(value, Ordering::Relaxed);
        }
        assert_eq!(got.load(Ordering::Relaxed), 3, "each of them once");
        assert!(shared.queue(id(4), |queue| queue.is_finished()));
    });
}

#[test]
fn who_skips_the_dead_wakes_who_waits_for_their_room() {
    model(2, || {
        let shared = Shared::bounded(1);
        shared.reserve(shared.mortal(0));
        each(2, move |me| match me {
            0 => {
                shared.world.dies(0);
                let got = shared.try_get(id(me), WaitOptions::NONBLOCKING);
                assert!(matches!(got, Ok(1) | Err(Error::Empty(_))));
            }
            _ => shared.put(id(me), 1),
        });
    });
}

/// Dies holding the producer lock (0), or the consumer lock (1).
fn die_holding(shared: &Shared, lock: usize) {
    let mortal = shared.mortal(0);
    let lock = [&shared.raw.producer_lock, &shared.raw.consumer_lock][lock];
    let taken = lock.acquire(
        mortal,
        WaitOptions::NONBLOCKING,
        &Default::default(),
        &shared.world,
    );
    assert!(taken.is_ok() || matches!(taken, Err(Error::WouldBlock(_))));
    shared.world.dies(0);
}

#[test]
fn who_dies_before_it_commits_has_put_nothing() {
    model(2, || {
        let shared = Shared::new();
        shared.ring.fails.store(true, Ordering::Relaxed);
        let failed = shared.try_put(shared.mortal(0), 7, WaitOptions::NONBLOCKING);
        assert!(matches!(failed, Err(Error::Internal(_))));
        shared.ring.fails.store(false, Ordering::Relaxed);
        die_holding(&shared, 0);
        each(3, move |me| match me {
            0 => shared.put(id(me), 1),
            1 => shared.put(id(me), 1),
            _ => (0..2).for_each(|_| assert_eq!(shared.get(id(me)), 1)),
        });
    });
}

#[test]
fn who_dies_holding_a_lock_is_followed() {
    for lock in 0..2 {
        model(2, move || {
            let shared = Shared::new();
            if lock == 1 {
                shared.put(id(0), 1);
                shared.put(id(0), 1);
            }
            each(2, move |me| {
                if me == 0 {
                    die_holding(&shared, lock);
                }
                // Who sleeps for the dead is woken by who takes over.
                match lock {
                    0 => shared.put(id(me), 1),
                    _ => assert_eq!(shared.get(id(me)), 1),
                }
            });
        });
    }
}
