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

/// The length of a message.
const LENGTH: u64 = size_of::<u64>() as u64;
/// Five grains: two messages of two grains each, and a PAD. Real queues have a larger minimum.
const CAPACITY: u64 = RECORD_ALIGN;
const GRAINS: usize = ((CAPACITY + RING_SLACK) / RECORD_ALIGN) as usize;

/// Each grain is a record and the payload of another one; its users must agree on which.
#[derive(Default)]
struct ModelRing {
    records: [Record; GRAINS],
    payloads: [UnsafeCell<u64>; GRAINS],
    /// Writing a payload fails, as if the producer died before its commit.
    fails: AtomicBool,
}

// SAFETY: only the owner of a record reaches its payload; the model tests that, and loom checks it.
unsafe impl Sync for ModelRing {}

impl ModelRing {
    fn payload(&self, offset: u64) -> &UnsafeCell<u64> {
        &self.payloads[(offset / RECORD_ALIGN) as usize]
    }

    /// Writes a payload; loom fails if another thread reads or writes it.
    fn fill(&self, offset: u64, value: u64) {
        // SAFETY: the record belongs to the caller; the model tests that, and loom checks it.
        let write = |payload: *mut u64| unsafe { payload.write(value) };
        self.payload(offset).with_mut(write);
    }

    /// Reads a payload; loom fails if another thread writes it.
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
            u64::from_ne_bytes(bytes.try_into().expect("a message of one word")),
        );
        match self.fails.load(Ordering::Relaxed) {
            true => Err(Error::Internal("the producer dies".into())),
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
        unreachable!("the whole ring has memory")
    }

    fn release_memory(&self, _: u64, _: u64) -> Result<()> {
        unreachable!("the ring is too small to release memory")
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

    /// Creates a queue for this many messages.
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

    /// Calls `body` with the queue as the process `me` sees it.
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
        put.expect("room in the queue")
    }

    fn try_get(&self, me: Id, options: WaitOptions) -> Result<u64> {
        let mut bytes = [MaybeUninit::uninit(); LENGTH as usize];
        let length = self.queue(me, |queue| match queue.try_get(&mut bytes) {
            Some(length) => Ok(length),
            None => queue.get(&mut bytes, options).map(|taken| taken.length),
        })?;
        assert_eq!(length, LENGTH);
        // SAFETY: `get` has initialized all of them.
        Ok(u64::from_ne_bytes(
            bytes.map(|byte| unsafe { byte.assume_init() }),
        ))
    }

    fn get(&self, me: Id) -> u64 {
        let got = self.try_get(me, WaitOptions::BLOCKING);
        got.expect("a message")
    }

    fn reserve(&self, me: Id) -> Reservation {
        let place = self.queue(me, |queue| queue.reserve(LENGTH, WaitOptions::BLOCKING));
        place.expect("room in the queue")
    }

    fn commit(&self, me: Id, place: Reservation, value: u64) {
        self.ring.fill(place.offset, value);
        let done = self.queue(me, |queue| queue.commit(place.token, LENGTH));
        done.expect("a reservation of this process");
    }

    fn lease(&self, me: Id) -> Lease {
        let lease = self.queue(me, |queue| queue.lease(WaitOptions::BLOCKING));
        lease.expect("a message")
    }

    /// Reads the message in place, and acknowledges it.
    fn ack(&self, me: Id, lease: Lease) -> u64 {
        let value = self.ring.look(lease.offset);
        let done = self.queue(me, |queue| queue.ack(lease.token));
        done.expect("a lease of this process");
        value
    }

    fn killable(&self, number: usize) -> Id {
        self.world.killable[number].0
    }
}

/// Creates a counter for the sum of what several consumers got.
fn counter() -> Arc<AtomicU64> {
    Arc::new(AtomicU64::new(0))
}

#[test]
fn a_consumer_gets_messages_in_order_while_either_side_sleeps() {
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
fn a_producer_sleeps_until_a_full_ring_has_room() {
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
fn two_producers_put_at_once() {
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
fn two_consumers_get_at_once_and_neither_sleeps_forever() {
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
fn a_batch_wakes_as_many_consumers_as_it_has_messages() {
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
fn a_consumer_waits_for_a_reserved_message() {
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
fn two_consumers_that_wait_for_reservations_both_return() {
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
fn an_aborted_reservation_is_skipped_and_makes_room() {
    model(2, || {
        let shared = Shared::bounded(1);
        let place = shared.reserve(id(0));
        each(3, move |me| match me {
            0 => {
                let aborted = shared.queue(id(me), |queue| queue.abort(place.token));
                aborted.expect("a reservation of this process");
            }
            1 => shared.put(id(me), 2),
            _ => assert_eq!(shared.get(id(me)), 2),
        });
    });
}

#[test]
fn a_leased_message_is_not_overwritten_and_its_room_wakes_the_producer() {
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
fn a_message_that_is_being_leased_is_not_overwritten() {
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
fn head_passes_two_leases_that_are_acknowledged_at_once() {
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
fn a_returned_lease_wakes_a_sleeping_consumer() {
    model(2, || {
        let shared = Shared::new();
        shared.put(id(0), 1);
        let lease = shared.lease(id(0));
        let in_thread = shared.clone();
        each(2, move |me| match me {
            0 => {
                let given = in_thread.queue(id(me), |queue| queue.nack(lease.token));
                given.expect("a lease of this process");
            }
            _ => assert_eq!(in_thread.get(id(me)), 1),
        });
        // The mark of a returned lease does not stay set.
        let empty = shared.try_get(id(0), WaitOptions::NONBLOCKING);
        assert!(matches!(empty, Err(Error::Empty(_))));
    });
}

#[test]
fn the_last_acknowledgement_after_shutdown_wakes_the_waiting_consumers() {
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
fn a_put_that_precedes_the_shutdown_is_taken_before_any_consumer_fails() {
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
fn join_returns_after_the_last_get() {
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
                end.expect("an end of the wait");
            }
        });
    });
}

#[test]
fn a_joining_waiter_takes_no_wake_of_a_waiting_producer() {
    model(2, || {
        let shared = Shared::bounded(1);
        shared.put(id(0), 1);
        let join = {
            let shared = shared.clone();
            thread::spawn(move || {
                let end = shared.queue(id(1), |queue| queue.join(WaitOptions::BLOCKING));
                end.expect("an end of the wait");
            })
        };
        let put = {
            let shared = shared.clone();
            thread::spawn(move || shared.put(id(2), 2))
        };
        shared.get(id(0));
        put.join().expect("room in the queue");
        shared.get(id(0));
        join.join().expect("an empty queue");
    });
}

#[test]
fn a_consumer_that_times_out_passes_its_wake_on() {
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
fn stat_reports_a_state_that_the_queue_had() {
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
                let stat = stat.expect("words that match");
                assert_eq!(stat.bytes, stat.messages * LENGTH);
                assert!(stat.messages <= 1, "{stat:?}");
            }
        });
    });
}

#[test]
fn a_reservation_of_a_dead_producer_is_skipped() {
    model(2, || {
        let shared = Shared::new();
        let in_thread = shared.clone();
        each(3, move |me| match me {
            0 => {
                let dying = in_thread.killable(0);
                let place = in_thread.reserve(dying);
                in_thread.ring.fill(place.offset, 7);
                in_thread.world.kill(0);
            }
            1 => in_thread.put(id(me), 1),
            // A death wakes no waiter, and the model has no deadlines: so this consumer does not wait.
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
fn a_lease_of_a_dead_consumer_is_redelivered_once() {
    model(2, || {
        let shared = Shared::new();
        shared.put(id(0), 1);
        let in_thread = shared.clone();
        let got = counter();
        let sum = got.clone();
        each(3, move |me| match me {
            0 => {
                let dying = in_thread.killable(0);
                let lease = in_thread.queue(dying, |queue| queue.lease(WaitOptions::NONBLOCKING));
                if let Ok(lease) = lease {
                    assert!((1..=2).contains(&in_thread.ring.look(lease.offset)));
                }
                in_thread.world.kill(0);
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
        assert_eq!(got.load(Ordering::Relaxed), 3, "each message was got once");
        assert!(shared.queue(id(4), |queue| queue.is_finished()));
    });
}

#[test]
fn a_consumer_that_skips_a_dead_producers_record_wakes_a_waiting_producer() {
    model(2, || {
        let shared = Shared::bounded(1);
        shared.reserve(shared.killable(0));
        each(2, move |me| match me {
            0 => {
                shared.world.kill(0);
                let got = shared.try_get(id(me), WaitOptions::NONBLOCKING);
                assert!(matches!(got, Ok(1) | Err(Error::Empty(_))));
            }
            _ => shared.put(id(me), 1),
        });
    });
}

/// Kills a process that holds the producer lock (0), or the consumer lock (1), if the lock was free.
fn die_holding(shared: &Shared, lock: usize) {
    let dying = shared.killable(0);
    let lock = [&shared.raw.producer_lock, &shared.raw.consumer_lock][lock];
    let taken = lock.acquire(
        dying,
        WaitOptions::NONBLOCKING,
        &Default::default(),
        &shared.world,
    );
    assert!(taken.is_ok() || matches!(taken, Err(Error::WouldBlock(_))));
    shared.world.kill(0);
}

#[test]
fn a_producer_that_dies_before_its_commit_has_put_nothing() {
    model(2, || {
        let shared = Shared::new();
        shared.ring.fails.store(true, Ordering::Relaxed);
        let failed = shared.try_put(shared.killable(0), 7, WaitOptions::NONBLOCKING);
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
fn a_lock_of_a_dead_producer_or_consumer_is_taken_over() {
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
                // The process that takes over wakes the waiters of the dead owner.
                match lock {
                    0 => shared.put(id(me), 1),
                    _ => assert_eq!(shared.get(id(me)), 1),
                }
            });
        });
    }
}
